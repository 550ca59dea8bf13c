//! What is printed.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Prints a line. A reader that has gone away (`| head`) is no failure.
pub fn line(text: Arguments<'_>) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

/// Whether what is printed may still have a reader, once `other` can be read or
/// this time is over.
pub fn is_read_until(other: &impl AsFd, timeout: Duration) -> Result<bool> {
    let stdout = std::io::stdout();
    let timeout = PollTimeout::try_from(timeout.as_millis()).unwrap_or(PollTimeout::MAX);
    // Of the second only errors are told: that no process has its other end open.
    let mut fds = [PollFd::new(other.as_fd(), PollFlags::POLLIN), PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno).context("waiting"),
    }
    Ok(fds[1].revents().is_none_or(|events| events.is_empty()))
}
