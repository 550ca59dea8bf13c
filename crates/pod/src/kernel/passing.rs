//! Descriptors that pass from one process to another, or wait in a socket.

#![allow(unsafe_code)] // The fence: descriptors that the kernel has just made.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A copy of another process's descriptor, `pidfd_getfd(2)`.
///
/// # Errors
/// EPERM unless the caller may trace that process, EBADF, ESRCH.
pub(crate) fn copy_from(process: BorrowedFd<'_>, number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: numbers only.
    super::syscalls::owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Sends a text with descriptors, whole or not at all, and without waiting.
///
/// # Errors
/// EAGAIN if there is no room, ETOOMANYREFS if too many are on their way already.
pub(crate) fn send_with(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], &rights, flags, None) {
            Err(Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// What waits in a stream socket, from a place on: fills `text`, and gives copies of
/// the descriptors that came with it. All stays where it is. `None` where nothing
/// waits.
///
/// # Errors
/// EMFILE, or those of recvmsg(2).
pub(crate) fn peek_with(socket: BorrowedFd<'_>, from: usize, text: &mut [u8]) -> nix::Result<Option<Vec<OwnedFd>>> {
    let from = from as libc::c_int;
    // SAFETY: an int, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const from).cast(),
            size_of_val(&from) as libc::socklen_t,
        )
    };
    Errno::result(set)?;
    receive_with(socket, text, MsgFlags::MSG_PEEK)
}

/// Takes what waits in a stream socket, with its descriptors. `None` where nothing
/// waits.
///
/// # Errors
/// As [`peek_with`].
pub(crate) fn take_with(socket: BorrowedFd<'_>, text: &mut [u8]) -> nix::Result<Option<Vec<OwnedFd>>> {
    receive_with(socket, text, MsgFlags::empty())
}

fn receive_with(socket: BorrowedFd<'_>, text: &mut [u8], flags: MsgFlags) -> nix::Result<Option<Vec<OwnedFd>>> {
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let wanted = text.len();
    let mut parts = [IoSliceMut::new(text)];
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel just installed them for us.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMFILE);
    }
    Ok((message.bytes == wanted).then_some(descriptors))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn descriptors_wait_in_a_socket_and_are_copied_from_there() {
        let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
        let (put, out) = pair.expect("a pair");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let (other, _other_writer) = std::io::pipe().expect("a pipe");
        send_with(put.as_fd(), b"one.", &[reader.as_fd()]).expect("room");
        send_with(put.as_fd(), b"two.", &[other.as_fd(), reader.as_fd()]).expect("room");
        drop(reader);
        let mut text = [0; 4];
        for _ in 0..2 {
            let second = peek_with(out.as_fd(), 4, &mut text).expect("a look").expect("two");
            assert_eq!((&text, second.len()), (b"two.", 2));
            let first = peek_with(out.as_fd(), 0, &mut text).expect("a look").expect("one");
            assert_eq!((&text, first.len()), (b"one.", 1));
            assert!(peek_with(out.as_fd(), 8, &mut text).expect("a look").is_none());
        }
        // The pipe has a reader as long as that waits.
        writer.write_all(b"kept").expect("a reader");
        let taken = take_with(out.as_fd(), &mut text).expect("a look").expect("one");
        assert_eq!((&text, taken.len()), (b"one.", 1));
        let mut taken = take_with(out.as_fd(), &mut text).expect("a look").expect("two");
        assert!(take_with(out.as_fd(), &mut text).expect("a look").is_none());
        std::fs::File::from(taken.pop().expect("the pipe")).read_exact(&mut text).expect("what it holds");
        assert_eq!(&text, b"kept");
    }
}
