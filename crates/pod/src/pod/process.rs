//! A handle on one process of a pod: a container's, or one of an `exec`.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::attached::Attached;
use super::whole::Whole;
use crate::cgroup::oom::OomWatch;
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::kernel::signal::Signal;
use crate::kernel::syscalls;
use crate::launch::terminal::Terminal;
use crate::store::exits::{Exit, ExitTable, Reservation};

/// A process of a pod.
///
/// It is pause's child, not this program's: it is waited for through the
/// pod's exit table, by any number of programs, however often.
pub struct Process {
    /// What is written here it reads, if its stdin is
    /// [`Stdio::Piped`](crate::Stdio::Piped): `take` it, and drop it for an end
    /// of file. A process that was not started by this handle has none of these.
    pub stdin: Option<PipeWriter>,
    /// What it writes to its stdout, if that is piped.
    pub stdout: Option<PipeReader>,
    /// What it writes to its stderr, if that is piped.
    pub stderr: Option<PipeReader>,
    /// Its terminal, if it was started with one
    /// ([`Io::terminal`](crate::Io::terminal)).
    pub terminal: Option<Terminal>,
    /// Where everything that it writes is seen, and typed, if it was started with a
    /// terminal that is [kept](crate::Io::kept_terminal).
    pub attached: Option<Attached>,
    pub(crate) name: String,
    pub(crate) table: Arc<ExitTable>,
    pub(crate) reservation: Reservation,
    /// If it was gone when this handle was made: something readable.
    pub(crate) pidfd: OwnedFd,
    /// An exec's entry in the exit table is free once its end has been read.
    pub(crate) exec: bool,
    /// Where there is a cgroup.
    pub(crate) oom: Option<OomWatch>,
    /// Of an exec: where all that it starts is, if that was asked for.
    pub(crate) whole: Option<Whole>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl Process {
    /// The name of its container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid on this machine, until it has been reaped. `None` also where /proc
    /// cannot be read just now.
    pub fn pid(&self) -> Option<u32> {
        syscalls::pid_of(self.pidfd.as_fd()).ok().flatten()
    }

    /// Waits until it has ended. If pause follows it, as the last one of a pod
    /// that [ends with it](crate::PodOptions::end_with_last), waits for that,
    /// too: what was returned from has happened. Holds no lock and needs no
    /// thread of its own.
    ///
    /// Touches no stream: one that waits for the end of its input, or for room
    /// in a pipe, does not end before that is dropped or read.
    ///
    /// # Errors
    /// [`Error::State`] if the container was started anew before its exit was
    /// read.
    pub fn wait(&self) -> Result<Exit> {
        loop {
            if let Some(exit) = self.wait_for(None)? {
                return Ok(exit);
            }
        }
    }

    /// Waits until it has ended, at most for `timeout`.
    ///
    /// # Errors
    /// As [`wait`](Process::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>> {
        self.wait_for(Some(timeout))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As [`wait`](Process::wait).
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        Ok(self.table.try_wait(self.reservation)?.map(|exit| exit.explained(self.oom.as_ref())))
    }

    fn wait_for(&self, timeout: Option<Duration>) -> Result<Option<Exit>> {
        let exit = self.table.wait(self.reservation, &self.pidfd, timeout)?;
        Ok(exit.map(|exit| exit.explained(self.oom.as_ref())))
    }

    /// SIGKILL, to this process alone: see [`Container::kill_all`](crate::Container::kill_all)
    /// for all of a container's.
    ///
    /// # Errors
    /// As [`signal`](Process::signal).
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// SIGKILL, to this process and everything that it has started, and waits
    /// until they are gone: all that is in its cgroup, if it is an exec with
    /// one of its own ([`ExecSpec::own_cgroup`](crate::ExecSpec::own_cgroup)).
    /// Else what is found of it: the session it leads and all its descendants,
    /// but no daemon, which has left both. A container as a whole is ended by
    /// [`Container::kill_all`](crate::Container::kill_all).
    ///
    /// # Errors
    /// [`Error::Deadline`], [`Error::Os`].
    pub fn kill_all(&self) -> Result<()> {
        let what = || format!("{} in {}", if self.exec { "an exec" } else { "the main process" }, self.name);
        match &self.whole {
            Some(whole) => whole.end(&what()),
            None => {
                // Else it could not be told that it lives.
                let pid = syscalls::pid_of(self.pidfd.as_fd()).doing(|| format!("looking for {}", what()))?;
                match pid.map(ProcessId::of).transpose()?.flatten() {
                    Some(leader) => Whole::Session(leader).end(&what()),
                    // Gone by now, and with it the way to what it has started.
                    None => Ok(()),
                }
            }
        }
    }

    /// The cgroup of an exec, if it has one of its own.
    pub(crate) fn own_cgroup(&self) -> Option<std::path::PathBuf> {
        match &self.whole {
            Some(Whole::Cgroup(dir)) => Some(dir.clone()),
            _ => None,
        }
    }

    /// Sends it a signal (signal(7)).
    ///
    /// # Errors
    /// [`Error::State`] if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let ended = || Error::state(format!("container {}", self.name), "has ended");
        match syscalls::pidfd_signal(self.pidfd.as_fd(), signal.number()) {
            // Reaped, or gone before we looked.
            Err(Errno::ESRCH | Errno::EBADF) => Err(ended()),
            result => result.doing(|| format!("sending {signal} to {}", self.name)),
        }
    }
}

/// For poll(2) and event loops: readable once the process has ended. Its exit
/// is in the table at once or a moment later, so [`Process::wait`] then returns
/// within milliseconds.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // No other value can tell how this exec ended. The entry of one that still
        // runs is left to the launch that needs it later.
        if self.exec && !matches!(self.try_wait(), Ok(None)) {
            self.table.release(self.reservation);
            self.whole.iter().for_each(Whole::tidy);
        }
    }
}
