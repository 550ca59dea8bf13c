//! A container's terminal: handed to the program behind `--console-socket`, or
//! shown on ours.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Sends a descriptor to the socket at `path`, with what runc says of it.
pub fn send(path: &Path, said: &str, descriptor: &OwnedFd) -> Result<()> {
    let to = || format!("sending a descriptor to {}", path.display());
    let connection = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).with_context(to)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).with_context(to)?;
    // A path of any length fits.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str()).with_context(to)?;
    connect(connection.as_raw_fd(), &address).with_context(to)?;
    let fds = [descriptor.as_raw_fd()];
    let part = [IoSlice::new(said.as_bytes())];
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(connection.as_raw_fd(), &part, &control, MsgFlags::MSG_NOSIGNAL, None).with_context(to)?;
    Ok(())
}

/// Rows and columns of our own terminal, if standard input is one.
pub fn own_size() -> Option<(u16, u16)> {
    sys::size(std::io::stdin().as_fd())
}

/// Our own terminal, in raw mode as long as this lives, in front of a
/// container's.
pub struct Proxy {
    console: File,
    before: Option<Termios>,
    input_open: bool,
}

impl Proxy {
    pub fn new(console: OwnedFd) -> Proxy {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // The container's puts no carriage return before a newline: where
            // ours did, it still has to.
            raw.output_flags |= before.output_flags & OutputFlags::OPOST;
            // Without it the terminal's echo is double, no more.
            tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok();
        }
        let proxy = Proxy { console: File::from(console), before, input_open: true };
        proxy.resize();
        proxy
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        if let Some(size) = own_size() {
            sys::set_size(self.console.as_fd(), size);
        }
    }

    /// What to poll for input: the container's terminal, then ours unless its input
    /// has ended, which would be ready for ever.
    pub fn descriptors(&self) -> Vec<PollFd<'_>> {
        let ours = self.input_open.then(|| PollFd::new(stdin(), PollFlags::POLLIN));
        std::iter::once(PollFd::new(self.console.as_fd(), PollFlags::POLLIN)).chain(ours).collect()
    }

    /// Copies what is there; false once the container's side is closed.
    pub fn copy(&mut self, from_us: bool, from_container: bool) -> bool {
        let mut buffer = [0u8; 8192];
        if from_us && self.input_open {
            match std::io::stdin().lock().read(&mut buffer) {
                // EOF is a character on a terminal.
                Ok(0) | Err(_) => {
                    self.input_open = false;
                    self.console.write_all(&[4]).ok();
                }
                Ok(count) => drop(self.console.write_all(&buffer[..count])),
            }
        }
        if from_container {
            match self.console.read(&mut buffer) {
                Ok(count @ 1..) => {
                    let mut output = std::io::stdout().lock();
                    // If this fails it has no reader.
                    output.write_all(&buffer[..count]).and_then(|()| output.flush()).ok();
                }
                // EIO: no process has the other side open any more.
                _ => return false,
            }
        }
        true
    }

    /// What the container wrote before its end.
    pub fn drain(&mut self) {
        loop {
            let mut fds = [PollFd::new(self.console.as_fd(), PollFlags::POLLIN)];
            let some = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
            if !some || !self.copy(false, true) {
                return;
            }
        }
    }
}

fn stdin() -> BorrowedFd<'static> {
    // What `std::io::stdin` gives does not live long enough to be polled.
    static STDIN: std::sync::OnceLock<std::io::Stdin> = std::sync::OnceLock::new();
    STDIN.get_or_init(std::io::stdin).as_fd()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            tcsetattr(std::io::stdin(), SetArg::TCSANOW, before).ok();
        }
    }
}

/// The one ioctl that `nix` has no function for.
mod sys {
    #![allow(unsafe_code)] // TIOCGWINSZ and TIOCSWINSZ.

    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::libc::{TIOCGWINSZ, TIOCSWINSZ, ioctl, winsize};

    pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
        let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel writes the structure, which outlives the call.
        let result = unsafe { ioctl(terminal.as_raw_fd(), TIOCGWINSZ, &raw mut size) };
        // A terminal that was not told its size says 0.
        (result == 0 && size.ws_row != 0 && size.ws_col != 0).then_some((size.ws_row, size.ws_col))
    }

    pub fn set_size(terminal: BorrowedFd<'_>, (rows, columns): (u16, u16)) {
        let size = winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads the structure, which outlives the call. A
        // terminal of another size is no failure.
        unsafe { ioctl(terminal.as_raw_fd(), TIOCSWINSZ, &raw const size) };
    }
}
