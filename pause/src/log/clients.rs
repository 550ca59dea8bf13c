//! Who is attached.

use super::{EAGAIN, NO_DESCRIPTOR, POLLIN, POLLOUT, PollFd, fds, packet, poll};
use crate::arch::{nr, syscall};

/// So many clients at once; more have to wait.
pub const MOST: usize = 16;
/// Somebody who takes nothing for so long, in nanoseconds, is left behind: the
/// container waits for them meanwhile.
const PATIENCE: isize = 60_000_000_000;

const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;

/// The attached clients, and what they type.
pub struct Clients {
    sockets: [i32; MOST],
    /// One bit for each that has not been greeted yet.
    new: u32,
    /// Where that goes; none is `usize::MAX`.
    input: usize,
    /// What has been typed and there was no room for yet.
    typed: [u8; packet::LONGEST],
    begin: usize,
    end: usize,
}

impl Clients {
    pub fn new(input: usize) -> Clients {
        Clients { sockets: [-1; MOST], new: 0, input, typed: [0; packet::LONGEST], begin: 0, end: 0 }
    }

    /// Lets in who waits.
    pub fn accept(&mut self) {
        const SOCK_NONBLOCK_CLOEXEC: usize = 0o2_004_000;
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            if *socket >= 0 {
                continue;
            }
            // SAFETY: the other's address is not asked for.
            let fd = unsafe { syscall(nr::ACCEPT4, [fds::LISTENER, 0, 0, SOCK_NONBLOCK_CLOEXEC, 0, 0]) };
            if fd < 0 {
                return;
            }
            *socket = fd as i32;
            self.new |= 1 << at;
        }
    }

    /// Whether one more can be let in; until then it waits.
    pub fn has_room(&self) -> bool {
        self.sockets.iter().any(|&socket| socket < 0)
    }

    /// Greets who has come.
    pub fn greet_newcomers(&mut self) {
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            if self.new & 1 << at != 0 {
                send(socket, packet::HELLO, &[]);
            }
        }
        self.new = 0;
    }

    /// Says once more that all is in the log.
    pub fn greet(&mut self) {
        for socket in &mut self.sockets {
            send(socket, packet::HELLO, &[]);
        }
    }

    /// Tells all what was written.
    pub fn tell(&mut self, stream: u8, text: &[u8]) {
        for socket in &mut self.sockets {
            for piece in text.chunks(packet::MOST) {
                send(socket, stream, piece);
            }
        }
    }

    /// Watches those who can be listened to, and what they type into.
    pub fn watch(&self, watched: &mut [PollFd]) {
        for (watched, &fd) in watched.iter_mut().zip(&self.sockets) {
            // Nothing is heard of one while there is no room for what it may say.
            let events = if self.begin < self.end { 0 } else { POLLIN };
            *watched = PollFd { fd, events, revents: 0 };
        }
    }

    /// Hears who has something to say. True if somebody wants the log opened anew.
    pub fn hear(&mut self, watched: &[PollFd]) -> bool {
        let mut reopen = false;
        for at in 0..MOST {
            let heard = watched.get(at).is_some_and(|watched| watched.revents != 0);
            if heard && self.sockets[at] >= 0 && self.begin == self.end {
                reopen |= self.hear_one(at);
            }
        }
        self.pass_on();
        reopen
    }

    fn hear_one(&mut self, at: usize) -> bool {
        let mut text = [0u8; packet::LONGEST];
        let fd = self.sockets[at] as usize;
        // SAFETY: as much as there is room for.
        let size = unsafe { syscall(nr::RECVFROM, [fd, text.as_mut_ptr() as usize, text.len(), MSG_DONTWAIT, 0, 0]) };
        if size <= 0 {
            if size != -EAGAIN {
                close(&mut self.sockets[at]);
            }
            return false;
        }
        let rest = text.get(1..size as usize).unwrap_or_default();
        match (text[0], rest) {
            (packet::INPUT, typed) if self.input != usize::MAX => {
                self.typed[..typed.len()].copy_from_slice(typed);
                (self.begin, self.end) = (0, typed.len());
                self.pass_on();
            }
            (packet::END_OF_INPUT, _) if self.input == fds::INPUT => {
                let mut input = self.input as i32;
                close(&mut input);
                self.input = usize::MAX;
            }
            (packet::SIZE, &[rows, more_rows, columns, more_columns]) if self.input == fds::STDOUT => {
                const TIOCSWINSZ: usize = 0x5414;
                let size = [rows, more_rows, columns, more_columns, 0, 0, 0, 0];
                // SAFETY: a winsize is four 16-bit words.
                unsafe { syscall(nr::IOCTL, [self.input, TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0]) };
            }
            (packet::REOPEN, _) => return true,
            _ => {}
        }
        false
    }

    /// Types what was typed.
    fn pass_on(&mut self) {
        while let Some(rest) = self.typed.get(self.begin..self.end).filter(|rest| !rest.is_empty()) {
            // SAFETY: readable memory.
            let size = unsafe { syscall(nr::WRITE, [self.input, rest.as_ptr() as usize, rest.len(), 0, 0, 0]) };
            if size == -EAGAIN {
                return;
            }
            // Nobody reads it any more.
            self.begin = if size <= 0 { self.end } else { self.begin + size as usize };
        }
    }

    /// What has to have room before anything is heard, if that is so.
    pub fn waits_for(&self) -> PollFd {
        match self.begin < self.end {
            true => PollFd { fd: self.input as i32, events: POLLOUT, revents: 0 },
            false => NO_DESCRIPTOR,
        }
    }
}

/// Sends a packet; who does not take it is left behind.
fn send(socket: &mut i32, kind: u8, text: &[u8]) {
    if *socket < 0 {
        return;
    }
    let pieces = [[&raw const kind as usize, 1], [text.as_ptr() as usize, text.len()]];
    // struct msghdr: name, its length, pieces, their number, control data, its
    // length, flags.
    let message = [0, 0, pieces.as_ptr() as usize, pieces.len(), 0, 0, 0];
    loop {
        // SAFETY: the message and what it leads to outlive the call.
        let sent = unsafe {
            syscall(nr::SENDMSG, [*socket as usize, message.as_ptr() as usize, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0, 0])
        };
        let mut room = [PollFd { fd: *socket, events: POLLOUT, revents: 0 }];
        if sent >= 0 {
            return;
        }
        if sent != -EAGAIN || poll(&mut room, PATIENCE) <= 0 {
            return close(socket);
        }
    }
}

fn close(fd: &mut i32) {
    // SAFETY: a number.
    unsafe { syscall(nr::CLOSE, [*fd as usize, 0, 0, 0, 0, 0]) };
    *fd = -1;
}
