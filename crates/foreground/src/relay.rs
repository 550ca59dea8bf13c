//! A process's terminal, shown on ours.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod::{Terminal, WindowSize};

use crate::raw::RawMode;

/// Whether the process gets what is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// Our standard input; if that is a terminal it is in raw mode meanwhile.
    Ours,
    /// Nothing: our terminal stays as it is, and Ctrl-C a signal.
    None,
}

/// Copies between our standard streams and a process's terminal.
///
/// Neither direction waits for the other: a process that does not read keeps keys
/// waiting, but never its own output.
#[derive(Debug)]
pub struct Relay {
    console: Terminal,
    /// Where we may have it: then a process that closes its terminal can open it
    /// again, and is shown.
    _peer: Option<OwnedFd>,
    raw: Option<RawMode>,
    /// Standard input, as long as it has an end.
    input: Option<BorrowedFd<'static>>,
    /// What was typed, and the process's terminal has not taken yet.
    typed: Vec<u8>,
    /// The last that was typed.
    last: u8,
    /// It can be read: some process has it open.
    open: bool,
}

/// How much is copied at a time.
const PIECE: usize = 8192;
/// The key that ends the input (VEOF of termios(3)).
const END_OF_INPUT: u8 = 4;

/// The size of our own terminal: of the first of standard input, output and error
/// that is one.
pub fn own_size() -> Option<WindowSize> {
    WindowSize::of(std::io::stdin())
        .or_else(|| WindowSize::of(std::io::stdout()))
        .or_else(|| WindowSize::of(std::io::stderr()))
}

impl Relay {
    /// For a terminal that was made with these
    /// [`keeps_newlines`](pod::TerminalOptions::keeps_newlines).
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(console: Terminal, input: Input, keeps_newlines: bool) -> nix::Result<Relay> {
        // This end is ours alone.
        let flags = OFlag::from_bits_retain(fcntl(&console, FcntlArg::F_GETFL)?);
        fcntl(&console, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let (raw, input) = match input {
            Input::Ours => (RawMode::enter(keeps_newlines), Some(stdin())),
            Input::None => (None, None),
        };
        let peer = console.peer().ok();
        let relay = Relay { console, _peer: peer, raw, input, typed: Vec::new(), last: b'\n', open: true };
        // It may have changed since the terminal was made.
        relay.resize();
        Ok(relay)
    }

    /// Gives the process's terminal the size of ours.
    pub fn resize(&self) {
        if let Some(size) = own_size() {
            // A terminal of another size is no failure.
            self.console.resize(size).ok();
        }
    }

    /// After we were stopped: the shell has used the terminal since.
    pub fn resume(&self) {
        self.raw.iter().for_each(RawMode::renew);
        self.resize();
    }

    /// What to poll. For the size of a list that is polled: at most two.
    pub fn descriptors(&self) -> Vec<PollFd<'_>> {
        let waiting = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        let console = self.open.then(|| PollFd::new(self.console.as_fd(), PollFlags::POLLIN | waiting));
        // What the process has not taken yet goes first.
        let input = self.input.filter(|_| self.open && self.typed.is_empty());
        console.into_iter().chain(input.map(|input| PollFd::new(input, PollFlags::POLLIN))).collect()
    }

    /// Copies what is there, both ways, without waiting; but our own output, if
    /// nobody reads it.
    pub fn copy(&mut self) {
        if self.typed.is_empty() && self.input.is_some_and(|input| is_ready(input, PollFlags::POLLIN)) {
            self.read_input();
        }
        self.pass_typed();
        if self.open && is_ready(self.console.as_fd(), PollFlags::POLLIN) {
            self.open = self.show();
        }
    }

    /// What the process wrote before its end.
    pub fn drain(&mut self) {
        // Asking makes the kernel hand over what it still has in its own hands.
        while self.open && is_ready(self.console.as_fd(), PollFlags::POLLIN) {
            self.open = self.show();
        }
    }

    fn read_input(&mut self) {
        let mut piece = [0; PIECE];
        match std::io::stdin().lock().read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(count @ 1..) => {
                self.typed.extend_from_slice(&piece[..count]);
                self.last = piece[count - 1];
            }
            // A terminal has no end of file, but a key for it. In the middle of a line
            // it only sends what there is of that.
            Ok(0) | Err(_) => {
                self.input = None;
                let keys = if self.last == b'\n' { 1 } else { 2 };
                self.typed.extend(std::iter::repeat_n(END_OF_INPUT, keys));
            }
        }
    }

    fn pass_typed(&mut self) {
        while !self.typed.is_empty() {
            match self.console.write(&self.typed) {
                Ok(count) if count > 0 => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody is there to read it.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// A piece of what the process has written; whether there can be more.
    fn show(&mut self) -> bool {
        let mut piece = [0; PIECE];
        match self.console.read(&mut piece) {
            Ok(count @ 1..) => {
                let mut output = std::io::stdout().lock();
                // If this fails it has no reader.
                output.write_all(&piece[..count]).and_then(|()| output.flush()).ok();
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            // No process has the other side open any more.
            Ok(0) => false,
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, events)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn stdin() -> BorrowedFd<'static> {
    // What `std::io::stdin` gives does not live long enough to be polled.
    static STDIN: std::sync::OnceLock<std::io::Stdin> = std::sync::OnceLock::new();
    STDIN.get_or_init(std::io::stdin).as_fd()
}
