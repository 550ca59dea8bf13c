//! A process's terminal, read and written by tasks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pod::WindowSize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A [`pod::Terminal`] for tasks. Reading comes to its end once no process has
/// the terminal open any more.
#[derive(Debug)]
pub struct Terminal(AsyncFd<Registered>);

/// Only what can be asked for its number is registered.
#[derive(Debug)]
struct Registered(pod::Terminal);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Terminal {
    /// Registers a terminal in the runtime of this task. From then on nothing
    /// waits on its descriptor (`O_NONBLOCK`).
    ///
    /// # Errors
    /// What the kernel says, such as EMFILE.
    #[allow(unsafe_code)] // tokio wants it vouched for that a descriptor stays open.
    pub fn new(terminal: pod::Terminal) -> io::Result<Terminal> {
        let flags = OFlag::from_bits_retain(fcntl(terminal.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(terminal.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the terminal owns its descriptor, and lets it out by reference alone.
        Ok(Terminal(unsafe { AsyncFd::register_with_interest(Registered(terminal), both) }?))
    }

    /// As [`pod::Terminal::resize`].
    ///
    /// # Errors
    /// As there.
    pub fn resize(&self, size: WindowSize) -> pod::Result<()> {
        self.0.get_ref().0.resize(size)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            if let Ok(read) = ready.try_io(|terminal| (&terminal.get_ref().0).read(free)) {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|terminal| (&terminal.get_ref().0).write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
