//! The controlling end of a process's terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Context, Result};
use crate::kernel::terminal::{WindowSize, open_peer, set_window_size};

/// The controlling end of a process's terminal, which pty(7) calls the master:
/// what is written to it the process reads as typed keys, and what the process
/// writes is read from it.
///
/// Keys mean what they mean on any terminal: `\x03`, Ctrl-C, is SIGINT for the
/// process group in the foreground, `\x04`, Ctrl-D, at the beginning of a line
/// the end of the input (termios(3)).
///
/// Reading comes to an end of file once no process has the terminal open any
/// more; the kernel says EIO then.
///
/// When this, and each duplicate of its descriptor, is closed, the terminal
/// *hangs up*: SIGHUP for the process that leads its session and for those in
/// the foreground; from then on they read the end of file from it, and cannot
/// write (EIO). So it happens when this value is dropped, or the program ends
/// that has it. SIGHUP ends a process that does nothing about it, as SIGINT
/// does, but not the first one of a pid namespace (pid_namespaces(7)).
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Gives the terminal another size: the process gets SIGWINCH if it is in
    /// the foreground.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        set_window_size(self.0.as_fd(), size).doing(|| "resizing a terminal".into())
    }

    /// The process's end, `TIOCGPTPEER` of ioctl_tty(2). As long as somebody has it
    /// open, reading waits for whoever opens it next: some programs close their
    /// terminal and open it again.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os): EACCES if the process is another user.
    pub fn peer(&self) -> Result<OwnedFd> {
        open_peer(self.0.as_fd()).doing(|| "opening the other end of a terminal".into())
    }
}

impl From<OwnedFd> for Terminal {
    fn from(controlling: OwnedFd) -> Terminal {
        Terminal(controlling.into())
    }
}

impl From<Terminal> for OwnedFd {
    fn from(terminal: Terminal) -> OwnedFd {
        terminal.0.into()
    }
}

/// For poll(2) and event loops.
impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For one thread that reads while another one writes.
impl Read for &Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.0).read(buffer) {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            result => result,
        }
    }
}

impl Write for &Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
