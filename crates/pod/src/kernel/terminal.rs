//! Pseudoterminals: the size of their window, and their other end.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The size of a terminal's window in characters, `struct winsize` of
/// ioctl_tty(2). A terminal that was not told its size has 0 of both.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl WindowSize {
    /// That of a terminal which is open; `None` if it is no terminal, or was
    /// not told its size.
    pub fn of(terminal: impl AsFd) -> Option<WindowSize> {
        let mut size = WindowSize::default().to_kernel();
        // SAFETY: the kernel writes the structure, which outlives the call.
        let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        (result == 0 && size.ws_row != 0 && size.ws_col != 0)
            .then_some(WindowSize { rows: size.ws_row, columns: size.ws_col })
    }

    /// The two in pixels are used by nobody.
    fn to_kernel(self) -> libc::winsize {
        libc::winsize { ws_row: self.rows, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

/// `ioctl(TIOCSWINSZ)`: SIGWINCH for whoever is in the foreground there, if it
/// is another size than before.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> nix::Result<()> {
    let size = size.to_kernel();
    // SAFETY: the kernel reads the structure, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map(drop)
}

/// `ioctl(TIOCGPTPEER)`: the other end of a controlling one.
pub(crate) fn open_peer(controlling: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes a number, and gives a descriptor that is nobody's yet.
    unsafe {
        let fd = libc::ioctl(controlling.as_raw_fd(), libc::TIOCGPTPEER, flags);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}
