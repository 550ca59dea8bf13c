//! Where a process's terminal is, or what it writes.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod::{Attached, LogStream, Terminal, Told, WindowSize};

/// How much is copied at a time.
const PIECE: usize = 8192;
/// For the last that a process wrote: whoever copies it has it by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a [`Relay`](crate::Relay) shows.
#[derive(Debug)]
pub enum Screen {
    /// A terminal that is ours.
    Own(Own),
    /// What we are attached to.
    Attached(Attached),
}

/// A terminal's controlling end.
#[derive(Debug)]
pub struct Own {
    console: Terminal,
    /// Where we may have it: then a process that closes its terminal can open it
    /// again, and is shown.
    _peer: Option<OwnedFd>,
}

/// What has become of a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A piece of output.
    Piece,
    /// Nothing is there just now.
    Nothing,
    /// Nothing more comes.
    End,
}

impl Screen {
    /// A terminal whose controlling end nobody else has.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn own(console: Terminal) -> nix::Result<Screen> {
        let flags = OFlag::from_bits_retain(fcntl(&console, FcntlArg::F_GETFL)?);
        fcntl(&console, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let peer = console.peer().ok();
        Ok(Screen::Own(Own { console, _peer: peer }))
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        match self {
            Screen::Own(_) => true,
            Screen::Attached(attached) => attached.is_terminal(),
        }
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, size: WindowSize) {
        // A terminal of another size is no failure.
        match self {
            Screen::Own(own) => own.console.resize(size).ok(),
            Screen::Attached(attached) => attached.resize(size).ok(),
        };
    }

    /// Types, without waiting. How much was taken; `None` if nobody takes it.
    pub(crate) fn type_in(&mut self, keys: &[u8]) -> Option<usize> {
        match self {
            Screen::Own(own) => loop {
                match own.console.write(keys) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(0),
                    written => return written.ok(),
                }
            },
            Screen::Attached(attached) => attached.type_in(keys).ok(),
        }
    }

    /// Shows a piece of what was written, without waiting for it.
    pub(crate) fn show(&mut self) -> Shown {
        match self {
            Screen::Own(own) => own.show(),
            Screen::Attached(attached) => match attached.read() {
                Ok(Some(Told::Output(LogStream::Stderr, text))) => print(io::stderr().lock(), text),
                Ok(Some(Told::Output(_, text))) => print(io::stdout().lock(), text),
                Ok(Some(Told::End)) | Err(_) => Shown::End,
                Ok(Some(_)) => Shown::Piece,
                Ok(None) => Shown::Nothing,
            },
        }
    }

    /// What the process wrote before its end.
    pub(crate) fn drain(&mut self) {
        // Whoever copies it ends then, and closes this; the kernel hands over what it
        // has in its own hands when it is asked.
        let patience = match self {
            Screen::Own(_) => Duration::ZERO,
            Screen::Attached(_) => PATIENCE,
        };
        while is_ready(self.as_fd(), patience) && self.show() != Shown::End {}
    }
}

impl Own {
    fn show(&mut self) -> Shown {
        let mut piece = [0; PIECE];
        match self.console.read(&mut piece) {
            Ok(count @ 1..) => print(io::stdout().lock(), &piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Shown::Nothing,
            // No process has the other side open any more.
            Ok(0) | Err(_) => Shown::End,
        }
    }
}

impl AsFd for Screen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Screen::Own(own) => own.console.as_fd(),
            Screen::Attached(attached) => attached.as_fd(),
        }
    }
}

fn print(mut output: impl Write, text: &[u8]) -> Shown {
    // If this fails it has no reader.
    output.write_all(text).and_then(|()| output.flush()).ok();
    Shown::Piece
}

pub(crate) fn is_ready(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(patience.as_millis()).unwrap_or(PollTimeout::MAX);
    poll(&mut fds, limit).is_ok_and(|count| count > 0)
}
