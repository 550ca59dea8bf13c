//! `kill`: signals to a container, and the end of all its processes.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::Instance;
use super::dir::Held;
use super::record::Status;
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs::all_processes;
use crate::kernel::procfs::{
    MountNamespace, all_pids, kill_in, mount_namespace, mount_namespace_of, open_process, processes_in,
};
use crate::kernel::signal::Signal;
use crate::kernel::{PATIENCE, syscalls};

/// Signals that ask a program to end, which it cannot refuse before it has begun.
const ENDING: [Signal; 5] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::ABRT, Signal::TERM];

impl Instance {
    /// Sends a signal to the container's process.
    ///
    /// A container that was not started has no program yet that could handle it:
    /// it is killed by whatever asks a program to end. SIGKILL reaches all
    /// processes of a container without a pid namespace of its own, with which
    /// they would end, also when its first one is gone.
    ///
    /// # Errors
    /// [`Error::State`] if it is gone.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let may_leave_others = self.process.is_some() && !self.record.ends_as_one;
        if signal == Signal::KILL && may_leave_others && !self.processes()?.is_empty() {
            return self.kill_all(signal);
        }
        self.expect(&[Status::Created, Status::Running, Status::Paused], "cannot be signalled")?;
        let gone = || Error::state(self.object(), "is stopped: it cannot be signalled");
        let pidfd = self.pidfd()?.ok_or_else(gone)?;
        let (signal, _held) = self.signal_for(signal)?;
        match syscalls::pidfd_signal(pidfd.as_fd(), signal.number()) {
            Err(nix::errno::Errno::ESRCH) => Err(gone()),
            result => result.doing(|| format!("signalling {}", self.object())),
        }
    }

    /// Sends a signal to all processes of the container, also when its first
    /// one is gone.
    ///
    /// # Errors
    /// [`Error::Deadline`] if they were to be killed and do not end.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        let (signal, _held) = self.signal_for(signal)?;
        if self.is_over()? {
            return Ok(());
        }
        if signal == Signal::KILL {
            return match self.own_cgroup()? {
                Some(cgroup) => cgroup::kill(cgroup, PATIENCE),
                None => self.kill_found(),
            };
        }
        let mounts = self.mounts()?;
        let found = self.processes()?;
        let cgroup = self.own_cgroup()?;
        let is_here = |pid| match (cgroup, &mounts) {
            (None, Some((mounts, _pin))) => Ok(mount_namespace(pid)? == Some(*mounts)),
            (Some(cgroup), _) => cgroup::holds(cgroup, pid),
            (None, None) => Ok(self.processes()?.contains(&pid)),
        };
        for pid in found {
            // Opened, then looked at again: the pid may be another's now.
            if let Some(pidfd) = open_process(pid)?
                && is_here(pid)?
            {
                syscalls::pidfd_signal(pidfd.as_fd(), signal.number()).ok();
            }
        }
        Ok(())
    }

    /// What a signal means now, and as long as the lock is kept: a `start` may be
    /// about to let the program begin.
    pub(super) fn signal_for(&self, signal: Signal) -> Result<(Signal, Option<Held>)> {
        if !ENDING.contains(&signal) || !self.waits() {
            return Ok((signal, None));
        }
        let held = self.dir.hold()?;
        Ok((if self.waits() { Signal::KILL } else { signal }, held))
    }

    /// Whether nothing of it can live any more. Processes in its cgroup are then
    /// another container's, which was given it since.
    pub(super) fn is_over(&self) -> Result<bool> {
        Ok(self.record.ends_as_one && self.process.is_some() && self.pidfd()?.is_none())
    }

    /// Processes of the container, as this machine numbers them.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell.
    pub fn processes(&self) -> Result<Vec<u32>> {
        if self.is_over()? {
            return Ok(Vec::new());
        }
        match (self.own_cgroup()?, self.mounts()?) {
            (Some(cgroup), _) => all_processes(cgroup),
            (None, Some((mounts, _pin))) => {
                let mut found = processes_in(mounts)?;
                found.sort_unstable();
                Ok(found)
            }
            (None, None) => {
                let pid = self.pidfd()?.map(|pidfd| syscalls::pid_of(pidfd.as_fd())).transpose();
                Ok(pid.doing(|| self.object())?.flatten().into_iter().collect())
            }
        }
    }

    /// The mount namespace by which its processes are found, and what keeps
    /// that from becoming another one's as long as we look: a kernel without
    /// numbers that never come again only tells while the first process lives.
    pub(super) fn mounts(&self) -> Result<Option<(MountNamespace, Option<File>)>> {
        // Others in there are none of its own, whatever is written down.
        let record = self.process.filter(|_| self.has_own_mounts());
        let Some((process, mounts)) = record.and_then(|record| Some((record.process, record.mounts?))) else {
            return Ok(None);
        };
        if let MountNamespace::Id(_) = mounts {
            return Ok(Some((mounts, None)));
        }
        let Some(pidfd) = process.open()? else { return Ok(None) };
        let path = format!("/proc/{}/ns/mnt", process.pid);
        let namespace = match File::open(&path) {
            Err(_) if has_ended(&pidfd) => return Ok(None),
            namespace => namespace.doing(|| format!("opening {path}"))?,
        };
        let found = mount_namespace_of(&namespace).doing(|| format!("looking at {path}"))?;
        Ok((found == mounts && !has_ended(&pidfd)).then_some((mounts, Some(namespace))))
    }

    /// Kills its process, and what does not end with that and has no cgroup.
    pub(super) fn end(&self) -> Result<()> {
        match self.cgroup().is_some() || self.record.ends_as_one {
            true => self.kill_process(),
            false => self.kill_found(),
        }
    }

    /// Kills all that is found of it: without a cgroup, and perhaps in a pid
    /// namespace with others.
    pub(super) fn kill_found(&self) -> Result<()> {
        let found = self.mounts()?;
        self.kill_process()?;
        match found {
            Some((mounts, _pin)) => kill_in(mounts, all_pids, || self.object()),
            None => Ok(()),
        }
    }

    /// SIGKILL, and waits until it has worked.
    pub(super) fn kill_process(&self) -> Result<()> {
        if let Some(pidfd) = self.pidfd()? {
            // Gone already is as good.
            syscalls::pidfd_signal(pidfd.as_fd(), Signal::KILL.number()).ok();
            syscalls::wait_readable(&pidfd, Some(PATIENCE)).doing(|| format!("waiting for {}", self.object()))?;
        }
        Ok(())
    }
}

/// Whether a process has been reaped.
fn has_ended(pidfd: &OwnedFd) -> bool {
    syscalls::pidfd_signal(pidfd.as_fd(), 0) == Err(Errno::ESRCH)
}
