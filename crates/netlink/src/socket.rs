use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};

use crate::error::{Error, Result};
use crate::message::{Batch, HEADER, Message};
use crate::reply::{Reply, attributes, find, number};

/// How often a dump is asked for that something changes while it is answered.
const PATIENCE: usize = 10;
/// linux/netlink.h `NLM_F_DUMP_INTR`: something did, and what is answered may lack
/// what was there all the time, or have it twice.
const INTERRUPTED: u16 = 0x10;
/// Acknowledgements beyond this in one send may not find room (ENOBUFS).
const AT_ONCE: usize = 40;
/// Answers to a dump are not longer.
const ROOM: usize = 64 << 10;
/// What can be sent at once without asking for more, at least (socket(7),
/// `wmem_default`).
const USUAL_ROOM: usize = 64 << 10;

/// Which part of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// A conversation with the kernel, about the network namespace in which it was
/// begun.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Socket {
    /// Opens one in the calling thread's network namespace; close-on-exec.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(family: Family) -> Result<Socket> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let open = || {
            let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            ask_for_words(&socket);
            Ok(socket)
        };
        let socket = open().map_err(|errno| Error::new("opening a netlink socket", errno))?;
        Ok(Socket { socket, sequence: 0 })
    }

    /// Sends the requests and hears how each went. Those before the first that is
    /// refused are done, and so may be some after it; of one transaction none is.
    ///
    /// # Errors
    /// The first that was refused.
    pub fn send(&mut self, batch: &Batch) -> Result<()> {
        // A transaction must not come apart, and is acknowledged less.
        let is_transaction = batch.messages.iter().any(|message| message.flags & libc::NLM_F_ACK as u16 == 0);
        let size = if is_transaction { usize::MAX } else { AT_ONCE };
        batch.messages.chunks(size.min(batch.len().max(1))).try_for_each(|messages| self.send_at_once(messages))
    }

    fn send_at_once(&mut self, messages: &[Message]) -> Result<()> {
        let first = self.sequence + 1;
        self.write(messages)?;
        let asked = messages.iter().filter(|message| message.flags & libc::NLM_F_ACK as u16 != 0);
        let mut left = asked.count();
        let asked_less = left < messages.len();
        let mut refused: Option<Error> = None;
        let mut buffer = vec![0; ROOM];
        while left > 0 {
            let size = match self.read(&mut buffer, &messages[0].doing) {
                // A transaction was refused for more reasons than find room: the first
                // ones did.
                Err(error) if error.errno == Errno::ENOBUFS && asked_less => continue,
                size => size?,
            };
            for answer in Answers(&buffer[..size]) {
                let Some(error) = answer.error() else { continue };
                // Of a message that nobody asked about: a transaction that cannot begin
                // or end, and then its others are not acknowledged.
                let message = answer.sequence.checked_sub(first).and_then(|at| messages.get(at as usize));
                let Some(message) = message else { continue };
                let is_acknowledged = message.flags & libc::NLM_F_ACK as u16 != 0;
                left -= usize::from(is_acknowledged);
                if error != 0 {
                    let refusal =
                        || Error { doing: message.doing.clone(), errno: Errno::from_raw(error), words: answer.words() };
                    refused = refused.or_else(|| Some(refusal()));
                    left = if is_acknowledged { left } else { 0 };
                }
            }
        }
        if refused.is_some() && asked_less {
            self.drain();
        }
        refused.map_or(Ok(()), Err)
    }

    /// Takes what is left of the answers to a refused transaction, all of which
    /// are there by now: the kernel drops answers to later requests as long as it
    /// remembers that some had no room.
    fn drain(&self) {
        let mut byte = [0];
        let mut take = || recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC);
        while !matches!(take(), Err(Errno::EAGAIN | Errno::EBADF | Errno::ENOTSOCK)) {}
    }

    /// Sends one request and gives what is answered before its acknowledgement;
    /// of a dump (`NLM_F_DUMP`), all, as it was at one time.
    ///
    /// # Errors
    /// As [`send`](Socket::send); EINTR of a dump of what never stops changing: half
    /// of what there is would be taken for all.
    pub fn ask(&mut self, message: &Message) -> Result<Vec<Reply>> {
        let mut buffer = vec![0; ROOM];
        for _ in 0..PATIENCE {
            self.write(std::slice::from_ref(message))?;
            let mut dump = Dump::default();
            while !dump.is_whole {
                let size = self.read(&mut buffer, &message.doing)?;
                dump.take(&buffer[..size], self.sequence, message)?;
            }
            if !dump.is_interrupted {
                return Ok(dump.replies);
            }
        }
        let doing = format!("{}, which changed each of {PATIENCE} times", message.doing);
        Err(Error::new(doing, Errno::EINTR))
    }

    fn write(&mut self, messages: &[Message]) -> Result<()> {
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence += 1;
            message.encode(self.sequence, &mut bytes);
        }
        let doing = messages.first().map(|message| message.doing.as_str()).unwrap_or_default();
        self.make_room(bytes.len());
        loop {
            match sendto(self.socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => return result.map(drop).map_err(|errno| Error::new(doing, errno)),
            }
        }
    }

    /// Much is sent at once by a large transaction only. Where no more room is to
    /// be had, sending says so (EMSGSIZE).
    fn make_room(&self, size: usize) {
        if size > USUAL_ROOM && setsockopt(&self.socket, SndBufForce, &size).is_err() {
            setsockopt(&self.socket, SndBuf, &size).ok();
        }
    }

    fn read(&self, buffer: &mut [u8], doing: &str) -> Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(|errno| Error::new(doing, errno)),
            }
        }
    }
}

/// What is refused is to be explained in words (`NETLINK_EXT_ACK`); a kernel that
/// cannot does without.
#[allow(unsafe_code)] // nix knows no option of netlink's.
fn ask_for_words(socket: &OwnedFd) {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    // SAFETY: `on` outlives the call, which reads `size` bytes of it.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, (&raw const on).cast(), size)
    };
}

/// What has been answered to one question.
#[derive(Default)]
struct Dump {
    replies: Vec<Reply>,
    is_whole: bool,
    is_interrupted: bool,
}

impl Dump {
    /// Adds what was read at once.
    fn take(&mut self, bytes: &[u8], sequence: u32, question: &Message) -> Result<()> {
        for answer in Answers(bytes).filter(|answer| answer.sequence == sequence) {
            // Any may say it, the end as well.
            self.is_interrupted |= answer.flags & INTERRUPTED != 0 && answer.error().is_none();
            match (answer.error(), i32::from(answer.kind)) {
                (Some(0), _) | (None, libc::NLMSG_DONE) => self.is_whole = true,
                (Some(error), _) => {
                    let errno = Errno::from_raw(error);
                    return Err(Error { doing: question.doing.clone(), errno, words: answer.words() });
                }
                _ => self.replies.push(Reply { kind: answer.kind, body: answer.body.to_vec() }),
            }
        }
        Ok(())
    }
}

/// The messages in what was read at once.
struct Answers<'a>(&'a [u8]);

struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let (length, kind) = (number(self.0, 0)? as usize, number(self.0, 4)?);
        let sequence = number(self.0, 8)?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let [a, b, c, d] = kind.to_ne_bytes();
        Some(Answer { kind: u16::from_ne_bytes([a, b]), flags: u16::from_ne_bytes([c, d]), sequence, body })
    }
}

impl Answer<'_> {
    /// Of an acknowledgement: why the request was refused, 0 if it was not.
    fn error(&self) -> Option<i32> {
        let is_end = i32::from(self.kind) == libc::NLMSG_ERROR;
        is_end.then(|| number(self.body, 0)).flatten().map(|error| -(error as i32))
    }

    /// The kernel's own words.
    fn words(&self) -> Option<String> {
        /// `NLMSGERR_ATTR_MSG`, and the flags that say how the answer is built.
        const WORDS: u16 = 1;
        const CAPPED: u16 = 0x100;
        const HAS_ATTRIBUTES: u16 = 0x200;
        if self.flags & HAS_ATTRIBUTES == 0 {
            return None;
        }
        // Behind the error number stands the request, or its header alone.
        let request = if self.flags & CAPPED != 0 { HEADER } else { number(self.body, 4)? as usize };
        let attributes = attributes(self.body, 4 + request);
        let words = find(&attributes, WORDS)?;
        Some(String::from_utf8_lossy(words).trim_end_matches('\0').to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of this kind to question 7, without a body.
    fn answer(kind: i32, flags: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        Message { doing: String::new(), kind: kind as u16, flags, body: Vec::new() }.encode(7, &mut bytes);
        bytes
    }

    #[test]
    fn a_dump_says_in_any_answer_that_something_changed() {
        let question = Message::new("looking", libc::RTM_GETLINK, &[]);
        for (first, end, expected) in [(0, 0, false), (INTERRUPTED, 0, true), (0, INTERRUPTED, true)] {
            let mut dump = Dump::default();
            let new = i32::from(libc::RTM_NEWLINK);
            dump.take(&[answer(new, first), answer(new, 0)].concat(), 7, &question).expect("answers");
            assert!(!dump.is_whole);
            dump.take(&answer(libc::NLMSG_DONE, end), 7, &question).expect("the end");
            assert_eq!((dump.replies.len(), dump.is_whole, dump.is_interrupted), (2, true, expected));
        }
        let mut dump = Dump::default();
        dump.take(&answer(libc::NLMSG_DONE, INTERRUPTED), 6, &question).expect("another question's");
        assert!(!dump.is_whole && !dump.is_interrupted);
    }
}
