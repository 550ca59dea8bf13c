//! A process's terminal, shown on ours.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use pod::WindowSize;

use crate::detach::DetachKeys;
use crate::raw::RawMode;
use crate::screen::{Screen, Shown, is_ready};

/// Whether the process gets what is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// Our standard input; if that is a terminal it is in raw mode meanwhile.
    Ours,
    /// Nothing: our terminal stays as it is, and Ctrl-C a signal.
    None,
}

/// Copies between our standard streams and a process's terminal, or shows what we are
/// attached to.
///
/// Neither direction waits for the other: a process that does not read keeps keys
/// waiting, but never its own output.
#[derive(Debug)]
pub struct Relay {
    screen: Screen,
    raw: Option<RawMode>,
    /// Standard input, as long as it has an end.
    input: Option<BorrowedFd<'static>>,
    /// What was typed, and the process's terminal has not taken yet.
    typed: Vec<u8>,
    /// The last that was typed.
    last: u8,
    keys: Option<DetachKeys>,
    has_left: bool,
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
    /// `keeps_newlines` is for a terminal that was made with these
    /// ([`TerminalOptions`](pod::TerminalOptions::keeps_newlines)). What is no terminal
    /// gets no input.
    pub fn new(screen: Screen, input: Input, keeps_newlines: bool) -> Relay {
        let (raw, input) = match input {
            Input::Ours if screen.is_terminal() => (RawMode::enter(keeps_newlines), Some(stdin())),
            _ => (None, None),
        };
        let (typed, keys) = (Vec::new(), None);
        let relay = Relay { screen, raw, input, typed, last: b'\n', keys, has_left: false, open: true };
        // It may have changed since the terminal was made.
        relay.resize();
        relay
    }

    /// With keys by which the user leaves it.
    #[must_use]
    pub fn leaving_by(self, keys: DetachKeys) -> Relay {
        Relay { keys: Some(keys), ..self }
    }

    /// Whether the user has left it.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// Gives the process's terminal the size of ours.
    pub fn resize(&self) {
        if let Some(size) = own_size().filter(|_| self.screen.is_terminal()) {
            self.screen.resize(size);
        }
    }

    /// Has a program that fills the screen fill it anew, which it does for another
    /// size.
    pub fn redraw(&self) {
        if let Some(size) = own_size().filter(|size| size.rows > 1 && self.screen.is_terminal()) {
            self.screen.resize(WindowSize { rows: size.rows - 1, ..size });
        }
        self.resize();
    }

    /// After we were stopped: the shell has used the terminal since.
    pub fn resume(&self) {
        self.raw.iter().for_each(RawMode::renew);
        self.resize();
    }

    /// Whether nothing more comes: the process has closed it, or whoever copied it is
    /// gone.
    pub fn is_over(&self) -> bool {
        !self.open
    }

    /// Goes on with the same, of somebody else.
    pub fn go_on_with(&mut self, screen: Screen) {
        (self.screen, self.open) = (screen, true);
        self.resize();
    }

    /// What to poll. For the size of a list that is polled: at most two.
    pub fn descriptors(&self) -> Vec<PollFd<'_>> {
        let waiting = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        let screen = self.open.then(|| PollFd::new(self.screen.as_fd(), PollFlags::POLLIN | waiting));
        // What the process has not taken yet goes first.
        let input = self.input.filter(|_| self.open && self.typed.is_empty());
        screen.into_iter().chain(input.map(|input| PollFd::new(input, PollFlags::POLLIN))).collect()
    }

    /// Copies what is there, both ways, without waiting; but our own output, if
    /// nobody reads it.
    pub fn copy(&mut self) {
        if self.typed.is_empty() && self.input.is_some_and(|input| is_ready(input, Duration::ZERO)) {
            self.read_input();
        }
        self.pass_typed();
        if self.open && is_ready(self.screen.as_fd(), Duration::ZERO) {
            self.open = self.screen.show() != Shown::End;
        }
    }

    /// What the process wrote before its end.
    pub fn drain(&mut self) {
        if self.open {
            self.screen.drain();
        }
    }

    fn read_input(&mut self) {
        let mut piece = [0; PIECE];
        match std::io::stdin().lock().read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(count @ 1..) => {
                self.last = piece[count - 1];
                let (typed, has_left) = match &mut self.keys {
                    Some(keys) => keys.filter(&piece[..count]),
                    None => (piece[..count].to_vec(), false),
                };
                self.typed.extend(typed);
                self.has_left |= has_left;
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
            match self.screen.type_in(&self.typed) {
                Some(0) => return,
                Some(count) => drop(self.typed.drain(..count)),
                // Nobody is there to read it.
                None => self.typed.clear(),
            }
        }
    }
}

fn stdin() -> BorrowedFd<'static> {
    // What `std::io::stdin` gives does not live long enough to be polled.
    static STDIN: std::sync::OnceLock<std::io::Stdin> = std::sync::OnceLock::new();
    STDIN.get_or_init(std::io::stdin).as_fd()
}
