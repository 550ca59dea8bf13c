//! A process in the foreground: signals that podlet gets are passed on to it,
//! and its exit becomes podlet's.
//!
//! With `-t` it has a terminal of its own, shown on ours. A container's is kept by its
//! copier: the user may leave it, and it outlives podlet. Without, a key on ours
//! reaches it only as a signal that podlet passes on. A program may ignore that, and
//! a shell without a prompt looks like one that hangs: so podlet says how to get
//! out, and a third Ctrl-C gets the user out.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use foreground::{DetachKeys, Input, Relay, Screen, Signals, own_size};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::siginfo;
use pod::{Attached, Container, Error, Exit, Io, Process, TerminalOptions};

use crate::output;

/// What a process in the foreground has of a terminal.
#[derive(Args, Clone, Copy)]
pub struct TerminalArgs {
    /// Pass on what is typed; without -t podlet's own input is the process's anyway
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal of its own, shown on this one: with -i for a shell
    #[arg(short, long)]
    pub tty: bool,
}

impl TerminalArgs {
    /// For a container, whose terminal is kept.
    pub fn check(self, detach: bool) -> Result<()> {
        if self.interactive && detach && !self.tty {
            bail!(
                "--interactive: with --detach nobody passes on what is typed: give it a terminal, too (-dit), and \
                 type there by `podlet attach`"
            );
        }
        Ok(())
    }

    /// For an exec: nobody would keep the terminal of what runs on without podlet.
    pub fn check_exec(self, detach: bool) -> Result<()> {
        if self.tty && detach {
            bail!("--tty: an exec's ends with podlet, so there is none with --detach; leave one of them out");
        }
        if self.interactive && detach {
            bail!("--interactive: with --detach nobody passes on what is typed; leave one of them out");
        }
        Ok(())
    }

    /// The streams of an exec in the foreground.
    pub fn io(self) -> Io {
        match self.tty {
            true => Io::Terminal(self.options()),
            false => Io::inherit().into(),
        }
    }

    /// Those of a container in the foreground.
    pub fn container_io(self) -> Io {
        match self.tty {
            true => Io::KeptTerminal(self.options()),
            false => Io::inherit().into(),
        }
    }

    fn options(self) -> TerminalOptions {
        TerminalOptions { size: own_size().unwrap_or_default(), keeps_newlines: self.keeps_newlines() }
    }

    /// Ours goes to the beginning of the next line itself, where it is not in raw mode.
    fn keeps_newlines(self) -> bool {
        !self.interactive && std::io::stdout().is_terminal()
    }

    /// Says in an environment what the terminal can do (environ(7)), as engines say
    /// it, unless that is said there.
    pub fn name_in(self, env: &mut Vec<String>) {
        if self.tty && !env.iter().any(|variable| variable.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
    }

    /// Its terminal on ours, if it has one.
    pub fn show(self, process: &mut Process) -> Result<Option<Relay>> {
        let input = if self.interactive { Input::Ours } else { Input::None };
        let screen = match (process.terminal.take(), process.attached.take()) {
            (Some(terminal), _) => Some(Screen::own(terminal)?),
            (None, attached) => attached.map(Screen::Attached),
        };
        Ok(screen.map(|screen| Relay::new(screen, input, self.keeps_newlines())))
    }
}

/// The option that says by which keys a user leaves.
#[derive(Args, Clone)]
pub struct DetachArgs {
    /// The keys that leave it running, with commas between, such as ctrl-a,d; none if empty
    /// [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = DetachKeys::parse)]
    detach_keys: Option<DetachKeys>,
}

impl DetachArgs {
    /// Nobody types these elsewhere.
    pub fn check(&self, has_terminal: bool) -> Result<()> {
        if self.detach_keys.is_some() && !has_terminal {
            bail!("--detach-keys: are typed at a terminal in the foreground: give -it, and no -d");
        }
        Ok(())
    }

    /// Has the user leave by them.
    pub fn give(&self, relay: Relay) -> Relay {
        let usual = || DetachKeys::parse(DetachKeys::USUAL).ok();
        match self.detach_keys.clone().or_else(usual) {
            Some(keys) => relay.leaving_by(keys),
            None => relay,
        }
    }
}

/// Attaches anew, after what copied the container's output was killed; `None` if it
/// has ended.
pub fn attach_again(container: &Container<'_>) -> Result<Option<Attached>> {
    match container.attach() {
        Err(Error::State { .. } | Error::NotFound(_)) => Ok(None),
        attached => Ok(attached.map(Some)?),
    }
}

/// Said to a user who has left it, wherever its output stands.
pub fn note_left(name: &str) {
    writeln!(std::io::stderr()).ok();
    output::note(format_args!("{name} runs on: `podlet attach {name}` comes back to it"));
}

/// What runs in the foreground.
pub struct Foreground<'a> {
    signals: Signals,
    process: &'a Process,
    /// Its terminal, if it has one.
    relay: Option<Relay>,
    /// How it is called to the user.
    name: &'a str,
    /// Ends it and all that belongs to it.
    end: &'a dyn Fn() -> pod::Result<()>,
    /// When the user is told how to get out, unless that has been done or there is
    /// no terminal.
    hint_at: Option<Instant>,
    interrupts: u32,
    /// Where its terminal is kept: finds that again.
    again: Option<&'a dyn Fn() -> Result<Option<Attached>>>,
}

/// A user that is back at the prompt by now needs no advice.
const BEFORE_HINT: Duration = Duration::from_secs(1);
/// So often Ctrl-C is pressed by a user that means it.
const ENOUGH: u32 = 3;

impl<'a> Foreground<'a> {
    /// Signals go to `process` from now on, and a third Ctrl-C to `end`; `relay` is
    /// for its terminal.
    pub fn new(
        signals: Signals,
        process: &'a Process,
        relay: Option<Relay>,
        name: &'a str,
        end: &'a dyn Fn() -> pod::Result<()>,
    ) -> Foreground<'a> {
        let is_somebody_there = relay.is_none() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let hint_at = is_somebody_there.then(|| Instant::now() + BEFORE_HINT);
        Foreground { signals, process, relay, name, end, hint_at, interrupts: 0, again: None }
    }

    /// Its terminal is kept by somebody, and `again` finds that one.
    #[must_use]
    pub fn kept(self, again: &'a dyn Fn() -> Result<Option<Attached>>) -> Foreground<'a> {
        Foreground { again: Some(again), ..self }
    }

    /// Waits for its end; `None` if the user has left before.
    pub fn wait(&mut self) -> Result<Option<Exit>> {
        while !self.has_ended_by(None)? {}
        match self.relay.take() {
            Some(relay) if relay.has_left() => Ok(None),
            _ => Ok(Some(self.process.wait()?)),
        }
    }

    /// Passes signals on until the process has ended, or the user has left, at most
    /// until `deadline`. Whether it has.
    pub fn has_ended_by(&mut self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.process.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(self.relay.iter().flat_map(Relay::descriptors));
            let next = [deadline, self.hint_at].into_iter().flatten().min();
            match poll(&mut fds, until(next)) {
                Err(nix::errno::Errno::EINTR) => continue,
                result => result?,
            };
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                // Our terminal is as it was from here on.
                if let Some(mut relay) = self.relay.take() {
                    relay.drain();
                }
                return Ok(true);
            }
            while let Some(info) = self.signals.next()? {
                self.pass_on(&info)?;
            }
            if let Some(relay) = &mut self.relay {
                relay.copy();
                if relay.has_left() {
                    return Ok(true);
                }
                if relay.is_over() {
                    match self.again.map(|again| again()).transpose()?.flatten() {
                        Some(attached) => relay.go_on_with(Screen::Attached(attached)),
                        // It is ending.
                        None => self.again = None,
                    }
                }
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
        if let Some(relay) = &self.relay {
            match Signal::try_from(info.ssi_signo as i32) {
                // The kernel tells who is in the foreground there.
                Ok(Signal::SIGWINCH) => {
                    relay.resize();
                    return Ok(());
                }
                Ok(Signal::SIGCONT) => relay.resume(),
                _ => {}
            }
        }
        // It may have ended in the meantime.
        if let Ok(signal) = pod::Signal::new(info.ssi_signo as i32) {
            self.process.signal(signal).ok();
        }
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
            "note: {} has no terminal of its own (-it gives it one): Ctrl-D ends its input, Ctrl-C interrupts it, \
             Ctrl-C three times kills it",
            self.name
        ));
    }
}

/// Rounded up: a poll that ends a fraction too early would spin.
fn until(time: Option<Instant>) -> PollTimeout {
    let left = |time: Instant| time.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    time.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(left(time)).unwrap_or(PollTimeout::MAX))
}
