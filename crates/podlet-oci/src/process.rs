//! A process in the foreground: signals that podlet-oci gets are passed on to
//! it, its terminal is shown on ours, and its exit becomes podlet-oci's.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use foreground::{Input, Relay, Screen};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod::{Io, TerminalOptions, WindowSize, oci};

use crate::console;

/// Where a new process's terminal goes, if it has one.
pub struct Terminal<'a> {
    pub wanted: bool,
    pub socket: Option<&'a Path>,
    pub detach: bool,
}

impl Terminal<'_> {
    /// runc's rules.
    pub fn check(&self) -> Result<()> {
        match (self.wanted, self.socket, self.detach) {
            (true, None, true) => {
                bail!("process.terminal is true: a container that is detached needs --console-socket for it")
            }
            (false, Some(_), _) => bail!("--console-socket: process.terminal is false, there is nothing to send"),
            (_, Some(_), false) => bail!("--console-socket: is for a container that is detached"),
            _ => Ok(()),
        }
    }

    /// The standard streams of a process with one, of this size, or without.
    pub fn io(&self, size: Option<WindowSize>) -> Io {
        match self.wanted {
            true => Io::Terminal(TerminalOptions { size: size.unwrap_or_default(), keeps_newlines: self.is_shown() }),
            false => Io::inherit().into(),
        }
    }

    /// It is shown on our own terminal, or on whatever our output is.
    pub fn is_shown(&self) -> bool {
        self.wanted && self.socket.is_none()
    }

    /// Sends it away, or comes back with it to be shown.
    pub fn hand_over(&self, console: Option<pod::Terminal>) -> Result<Option<Relay>> {
        match (console, self.socket) {
            (Some(console), Some(socket)) => console::send(socket, "/dev/ptmx", console).map(|()| None),
            (Some(console), None) => Ok(Some(Relay::new(Screen::own(console)?, Input::Ours, self.is_shown()))),
            (None, _) => Ok(None),
        }
    }
}

/// Where the pid is written to.
#[derive(Args)]
pub struct Told {
    /// Write the process's pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
}

impl Told {
    /// Tells them; `kind` is what runc says of such a process.
    pub fn tell(&self, process: &oci::Process, kind: &str) -> Result<()> {
        write_pid(self.pid_file.as_deref(), process)?;
        self.pidfd_socket.as_ref().map_or(Ok(()), |socket| console::send(socket, kind, process))
    }
}

/// Writes a pid under another name, and renames it to `file`.
fn write_pid(file: Option<&Path>, process: &oci::Process) -> Result<()> {
    let Some(path) = file else { return Ok(()) };
    let pid = process.pid()?.context("the process is gone already")?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // A killed command may have left one; what a link there leads to is not ours.
    fs::remove_file(&new).ok();
    let written = File::create_new(&new).and_then(|mut file| file.write_all(pid.to_string().as_bytes()));
    written.and_then(|()| fs::rename(&new, path)).with_context(|| format!("--pid-file {}", path.display()))
}

/// Signals on their way to a process that may not have been born yet.
pub struct Signals {
    arrived: foreground::Signals,
    /// Those that end a program, before it is there to be ended.
    ending: SignalFd,
}

/// What ends a program that does nothing about it.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// The caller may ignore SIGCHLD, and so would we: then how a child ended could not
/// be told.
#[allow(unsafe_code)] // One call without memory arguments.
pub fn remember_children() {
    // SAFETY: no handler is installed.
    unsafe { nix::libc::signal(nix::libc::SIGCHLD, nix::libc::SIG_DFL) };
}

impl Signals {
    /// From now on signals wait. Before anything is started, so that none is
    /// lost.
    pub fn hold() -> Result<Signals> {
        let arrived = foreground::Signals::hold()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals { arrived, ending: SignalFd::with_flags(&ENDING.into_iter().collect(), flags)? })
    }

    /// Can be read once a signal asks us to end, and nothing runs to which that
    /// could be passed on: what we wait for is given up then.
    pub fn ending(&self) -> Result<OwnedFd> {
        Ok(self.ending.as_fd().try_clone_to_owned()?)
    }

    /// Waits for the end of our child, and comes back with its exit code.
    pub fn wait_for(&mut self, process: &oci::Process, mut relay: Option<Relay>) -> Result<u8> {
        loop {
            let mut fds = vec![
                PollFd::new(self.arrived.as_fd(), PollFlags::POLLIN),
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(relay.iter().flat_map(Relay::descriptors));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                break;
            }
            while let Some(info) = self.arrived.next()? {
                match &relay {
                    Some(relay) if info.ssi_signo == Signal::SIGWINCH as u32 => relay.resize(),
                    // It may have ended in the meantime.
                    _ => {
                        if let Ok(signal) = pod::Signal::new(info.ssi_signo as i32) {
                            process.signal(signal).ok();
                        }
                    }
                }
                if let Some(relay) = relay.as_ref().filter(|_| info.ssi_signo == Signal::SIGCONT as u32) {
                    relay.resume();
                }
            }
            relay.iter_mut().for_each(Relay::copy);
        }
        if let Some(mut relay) = relay {
            relay.drain();
        }
        let code = process.wait()?.shell_code();
        // What has come for a process that is gone is dropped; what comes now is
        // for us, while we clear up after it.
        while self.arrived.next()?.is_some() {}
        Ok(code)
    }
}
