//! A process of a container without a pod: a child of this program.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use crate::error::{Context, Result};
use crate::kernel::signal::Signal;
use crate::kernel::syscalls::{self, End};
use crate::launch::stdio::PipeEnds;
use crate::launch::terminal::Terminal;
use crate::store::exits::{Exit, ExitStatus};

/// A process that was just started in a container, or waits to be: a child of this
/// program, which alone can wait for it. As [`pod::Process`](crate::Process) has
/// them for pods.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    /// What it reads, if its stdin is [`Stdio::Piped`](crate::Stdio::Piped).
    pub stdin: Option<PipeWriter>,
    /// What it writes to its stdout, if that is piped.
    pub stdout: Option<PipeReader>,
    /// What it writes to its stderr, if that is piped.
    pub stderr: Option<PipeReader>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
}

impl Process {
    pub(super) fn new(pidfd: OwnedFd, pipes: PipeEnds, terminal: Option<Terminal>) -> Process {
        let PipeEnds { stdin, stdout, stderr } = pipes;
        Process { pidfd, stdin, stdout, stderr, terminal }
    }

    /// Its pid, until it is reaped.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if /proc does not tell.
    pub fn pid(&self) -> Result<Option<u32>> {
        syscalls::pid_of(self.as_fd()).doing(|| "looking at the pid behind a descriptor".into())
    }

    /// Waits for its end. What is known of that is told once.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if it was waited for already, here or by a
    /// program that waits for all its children.
    pub fn wait(&self) -> Result<Exit> {
        let end = syscalls::wait_end(self.as_fd()).doing(|| "waiting for a process".into())?;
        let status = match end {
            End::Exited(code) => ExitStatus::Code(code as u8),
            End::Killed { signal, core_dumped } => ExitStatus::Signal { signal: signal.number() as u8, core_dumped },
        };
        Ok(Exit { status, finished: Some(SystemTime::now()), out_of_memory: None })
    }

    /// Sends it a signal (signal(7)).
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os), also if it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        syscalls::pidfd_signal(self.as_fd(), signal.number()).doing(|| format!("sending {signal}"))
    }
}

/// Its pidfd, readable once it has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
