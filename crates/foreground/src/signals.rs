//! Signals that wait to be passed on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// Signals on their way to a process that may not have been born yet.
#[derive(Debug)]
pub struct Signals(SignalFd);

/// What stays the command's own: the end of children, the job control of the shell
/// that runs it, a reader that has gone, and what a fault of it raises. All else is
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
    /// From now on signals to this thread wait: before anything is started, so that
    /// none is lost, and before there are other threads.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn hold() -> nix::Result<Signals> {
        let mut set = SigSet::all();
        for signal in ITS_OWN {
            set.remove(signal);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Readable when one of these has come by which people end a command; it stays to
    /// be passed on.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn ends(&self) -> nix::Result<OwnedFd> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
        Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?.into())
    }

    /// The next one that has come.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn next(&self) -> nix::Result<Option<siginfo>> {
        self.0.read_signal()
    }
}

/// For poll(2): readable when one has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
