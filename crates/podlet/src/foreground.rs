//! A process in the foreground: signals that podlet gets are passed on to it,
//! and its exit becomes podlet's.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod::{Exit, Process};

/// Signals on their way to a process that may not have been born yet.
pub struct Signals(SignalFd);

/// What stays podlet's own: the end of children, the job control of the shell that
/// runs podlet, a reader who has gone, and what a fault of podlet raises. All else is
/// passed on, the real-time signals too (systemd shuts down at SIGRTMIN+3).
const ITS_OWN: [Signal; 12] = [
    Signal::SIGCHLD,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

impl Signals {
    /// From now on signals wait. Before anything is started, so that none is
    /// lost.
    pub fn hold() -> Result<Signals> {
        let mut set = SigSet::all();
        for signal in ITS_OWN {
            set.remove(signal);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Passes signals on until `process` has ended.
    pub fn pass_on_to(&mut self, process: &Process) -> Result<Exit> {
        loop {
            let mut fds =
                [PollFd::new(self.0.as_fd(), PollFlags::POLLIN), PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                result => result?,
            };
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                break;
            }
            while let Some(info) = self.0.read_signal()? {
                // It may have ended in the meantime.
                process.signal(info.ssi_signo as i32).ok();
            }
        }
        Ok(process.wait()?)
    }
}
