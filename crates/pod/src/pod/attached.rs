//! Being attached to a container: to what it writes, and to its terminal.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use pause::log::packet;

use crate::error::{Context, Result};
use crate::kernel::terminal::WindowSize;
use crate::spec::LogStream;

/// Somebody who is attached to a container, one of several perhaps: gets what it
/// writes from now on, as its log does, and types at its terminal if it has one.
///
/// It stays until this is dropped, or the container ends. One that takes nothing for a
/// minute is left behind, since the container waits for it meanwhile.
///
/// For poll(2): readable when there is something.
#[derive(Debug)]
pub struct Attached {
    copier: OwnedFd,
    is_terminal: bool,
    buffer: Vec<u8>,
}

/// What somebody attached is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Told<'a> {
    /// It has written this.
    Output(LogStream, &'a [u8]),
    /// What it had written before this one was attached is in its log.
    Greeting,
    /// Nothing more comes: it has ended, or this one was left behind, or what copies
    /// its output was killed.
    End,
}

impl Attached {
    pub(super) fn new(copier: OwnedFd, is_terminal: bool) -> Attached {
        // A packet's first byte says what it is.
        Attached { copier, is_terminal, buffer: vec![0; 1 + packet::MOST] }
    }

    /// Whether it is a terminal, at which can be typed.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// What there is to be told, without waiting; `None` where there is nothing yet.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn read(&mut self) -> Result<Option<Told<'_>>> {
        let size = loop {
            match recv(self.copier.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                // It ended with something that we sent still unread there. The kernel
                // says so once, before it hands over what was written until then.
                Err(Errno::ECONNRESET) => {}
                size => break size.doing(|| "reading what a container writes".into())?,
            }
        };
        let (kind, text) = match self.buffer[..size].split_first() {
            Some((kind, text)) => (*kind, text),
            None => return Ok(Some(Told::End)),
        };
        Ok(match kind {
            packet::HELLO => Some(Told::Greeting),
            packet::STDOUT => Some(Told::Output(LogStream::Stdout, text)),
            packet::STDERR => Some(Told::Output(LogStream::Stderr, text)),
            // Of a later build.
            _ => None,
        })
    }

    /// Types, without waiting: how many bytes were taken. Keys mean what they mean on any
    /// terminal: see [`Terminal`](crate::Terminal).
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os): EPIPE when nothing more comes from there, either.
    pub fn type_in(&self, keys: &[u8]) -> Result<usize> {
        let keys = &keys[..keys.len().min(packet::LONGEST - 1)];
        match self.send(packet::INPUT, keys) {
            Err(Errno::EAGAIN) => Ok(0),
            sent => sent.doing(|| "typing at a container's terminal".into()).map(|()| keys.len()),
        }
    }

    /// Gives the terminal another size: the process gets SIGWINCH if it is in the
    /// foreground there.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os): EAGAIN if nothing can be sent just now.
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        let ([a, b], [c, d]) = (size.rows.to_le_bytes(), size.columns.to_le_bytes());
        self.send(packet::SIZE, &[a, b, c, d]).doing(|| "resizing a container's terminal".into())
    }

    fn send(&self, kind: u8, text: &[u8]) -> nix::Result<()> {
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(text)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.copier.as_raw_fd(), &parts, &[], flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop),
            }
        }
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.copier.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, send, socketpair};

    use super::*;

    #[test]
    fn what_was_written_before_an_end_that_left_keys_unread_is_read() {
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, copiers) = pair.expect("a pair of sockets");
        let mut attached = Attached::new(ours, true);
        assert_eq!(attached.type_in(b"keys").expect("sent"), 4);
        for text in ["1first", "1second"] {
            send(copiers.as_raw_fd(), text.as_bytes(), MsgFlags::empty()).expect("sent");
        }
        drop(copiers);
        for text in ["first", "second"] {
            let told = attached.read().expect("readable");
            assert!(matches!(told, Some(Told::Output(LogStream::Stdout, told)) if told == text.as_bytes()), "{told:?}");
        }
        assert!(matches!(attached.read().expect("readable"), Some(Told::End)));
    }
}
