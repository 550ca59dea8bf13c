//! A process in the foreground: signals that podlet gets are passed on to it,
//! and its exit becomes podlet's.
//!
//! The container has no terminal of its own, so a key on ours reaches it only
//! as a signal that podlet passes on. A program may ignore that, and a shell
//! without a prompt looks like one that hangs: so podlet says how to get out,
//! and a third Ctrl-C gets the user out.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use pod::{Exit, Process};

use crate::output;

/// Signals on their way to a process that may not have been born yet.
pub struct Signals(SignalFd);

/// What runs in the foreground.
pub struct Foreground<'a> {
    signals: Signals,
    process: &'a Process,
    /// How it is called to the user.
    name: &'a str,
    /// Ends it and all that belongs to it.
    end: &'a dyn Fn() -> pod::Result<()>,
    /// When the user is told how to get out, unless that has been done or there is
    /// no terminal.
    hint_at: Option<Instant>,
    interrupts: u32,
}

/// A user that is back at the prompt by now needs no advice.
const BEFORE_HINT: Duration = Duration::from_secs(1);
/// So often Ctrl-C is pressed by a user that means it.
const ENOUGH: u32 = 3;

/// What stays podlet's own: the end of children, the job control of the shell that
/// runs podlet, a reader that has gone, and what a fault of podlet raises. All else is
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
}

impl<'a> Foreground<'a> {
    /// Signals go to `process` from now on, and a third Ctrl-C to `end`.
    pub fn new(
        signals: Signals,
        process: &'a Process,
        name: &'a str,
        end: &'a dyn Fn() -> pod::Result<()>,
    ) -> Foreground<'a> {
        let is_somebody_there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let hint_at = is_somebody_there.then(|| Instant::now() + BEFORE_HINT);
        Foreground { signals, process, name, end, hint_at, interrupts: 0 }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<Exit> {
        while !self.has_ended_by(None)? {}
        Ok(self.process.wait()?)
    }

    /// Passes signals on until the process has ended, at most until `deadline`.
    /// Whether it has.
    pub fn has_ended_by(&mut self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let signals = self.signals.0.as_fd();
            let mut fds =
                [PollFd::new(signals, PollFlags::POLLIN), PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
            let next = [deadline, self.hint_at].into_iter().flatten().min();
            match poll(&mut fds, until(next)) {
                Err(nix::errno::Errno::EINTR) => continue,
                result => result?,
            };
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(true);
            }
            while let Some(info) = self.signals.0.read_signal()? {
                self.pass_on(&info)?;
            }
            let now = Instant::now();
            if self.hint_at.take_if(|at| *at <= now).is_some() {
                self.hint();
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
        }
    }

    fn pass_on(&mut self, info: &siginfo) -> Result<()> {
        /// Sent by the kernel, as a terminal does (sigaction(2)).
        const SI_KERNEL: i32 = 0x80;
        // It may have ended in the meantime.
        self.process.signal(info.ssi_signo as i32).ok();
        if (info.ssi_signo, info.ssi_code) != (Signal::SIGINT as u32, SI_KERNEL) {
            return Ok(());
        }
        self.interrupts += 1;
        match ENOUGH.saturating_sub(self.interrupts) {
            0 => {
                output::note(format_args!("killing {}, after {} times Ctrl-C", self.name, self.interrupts));
                (self.end)()?;
            }
            1 => output::note(format_args!("{} has not ended: once more Ctrl-C kills it", self.name)),
            _ => {}
        }
        Ok(())
    }

    fn hint(&self) {
        output::note(format_args!(
            "note: {} has no terminal of its own: Ctrl-D ends its input, Ctrl-C interrupts it, Ctrl-C three times kills it",
            self.name
        ));
    }
}

/// Rounded up: a poll that ends a fraction too early would spin.
fn until(time: Option<Instant>) -> PollTimeout {
    let left = |time: Instant| time.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    time.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(left(time)).unwrap_or(PollTimeout::MAX))
}
