//! The copier: reads what a container writes, keeps it in a log, and hands it to
//! whoever is attached.
//!
//! It is a program of its own, [`COPIER`](crate::COPIER), so that pause's page does
//! not grow with it. It owns nothing that a container needs: pause holds copies of
//! what it reads from, and the next copier goes on where a killed one was. There is
//! never more than one for a stream.
//!
//! ```text
//!   container ─► pipe ─┐                    ┌─► <dir>/<name>, <name>.1, ...
//!   container ─► pipe ─┴─► one buffer ──────┤
//!   container ◄─ input ◄── typed            └─► attached clients
//! ```
//!
//! The log's lines are those of Kubernetes' logging: time, stream, P for a part or F
//! for the rest of a line, and what was written.

mod clients;
mod file;
mod lines;
pub mod time;

use crate::arch::{self, nr, syscall};
use clients::Clients;
use file::Log;
use lines::Lines;

/// The descriptors that a copier is born with.
pub mod fds {
    /// What the container writes to its stdout; or its terminal.
    pub const STDOUT: usize = 0;
    /// What it writes to its stderr, if that is a stream of its own.
    pub const STDERR: usize = 1;
    /// The log's directory.
    pub const DIR: usize = 2;
    /// Where clients come.
    pub const LISTENER: usize = 3;
    /// The container's main process, if it has a terminal.
    pub const PROCESS: usize = 5;
    /// Where what clients type goes, if that is not the terminal; else the terminal's
    /// other end, if that could be had: while it is open reading waits for whoever
    /// opens it next.
    pub const INPUT: usize = 6;
}

/// Words that stand for what a copier has, in its fourth argument.
pub mod has {
    /// A stream for stderr.
    pub const STDERR: u8 = b'e';
    /// A terminal, [`fds::STDOUT`](super::fds::STDOUT), and with it its process.
    pub const TERMINAL: u8 = b't';
    /// A pipe for input.
    pub const INPUT: u8 = b'i';
    /// No log: for clients alone.
    pub const NO_LOG: u8 = b'n';
}

/// The first byte of a packet between copier and client.
pub mod packet {
    /// To the client: all that was written before it came is in the log.
    pub const HELLO: u8 = b'h';
    /// To the client: the rest was written to stdout.
    pub const STDOUT: u8 = b'1';
    /// To the client: the rest was written to stderr.
    pub const STDERR: u8 = b'2';
    /// From the client: the rest was typed.
    pub const INPUT: u8 = b'i';
    /// From the client: there is no more input.
    pub const END_OF_INPUT: u8 = b'e';
    /// From the client: rows and columns, 16 bits each, little-endian.
    pub const SIZE: u8 = b'w';
    /// From the client: open the log anew, by its name. Answered by [`HELLO`].
    pub const REOPEN: u8 = b'r';
    /// The longest packet from a client, in bytes.
    pub const LONGEST: usize = 1024;
    /// So many bytes of what was written are in one to a client at most.
    pub const MOST: usize = 8192;
}

/// The longest part of a line that stands in the log as one, in bytes: with the
/// line's end it fills two pages.
pub const LONGEST_PART: usize = 8191;
/// So much is read at once at most: half of what a pipe usually holds.
const ROOM: usize = 32 << 10;
/// So often one stream is read before others have their turn.
const TURNS: usize = 4;
/// So many such turns are more than a pipe holds, which is a MiB at most unless root
/// gives it more (pipe(7)).
const WHOLE_PIPE: usize = 9;
/// So often, in nanoseconds, a terminal that nobody had open is looked at again.
const LOOK: isize = 1_000_000_000;
/// After so long without output, in nanoseconds, the memory that it took is given back.
const IDLE: isize = 100_000_000;
/// Output that comes within this time, in nanoseconds, after other output ...
const QUICKLY: u64 = 1_000_000;
/// ... and is less than so many bytes ...
const LITTLE: usize = 4096;
/// ... is left to gather for so long, in nanoseconds, and so is what follows as quickly
/// until there is more than is read at once: who writes line by line is not to wait for a
/// reader that wakes at each.
const GATHER: isize = 100_000;
/// No end of a wait.
const FOREVER: isize = -1;

const EAGAIN: isize = 11;
const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const NO_DESCRIPTOR: PollFd = PollFd { fd: -1, events: 0, revents: 0 };

/// What has become of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// There is nothing more yet.
    Open,
    /// There was more than it has turns.
    Busy,
    /// Nobody will write to it any more.
    Ended,
}

/// Copies until the streams have ended.
///
/// # Safety
/// `argv` is a null-ended array of null-ended strings: the title, the log's name,
/// the size in bytes from which it is rotated (0: never), how many files there may
/// be, and what of [`has`] there is.
pub unsafe fn run(argv: *const *const u8) -> ! {
    // SAFETY: by the contract above.
    let (mut log, mut options) =
        unsafe { (Log::new(*argv.add(1), number(*argv.add(2)), number(*argv.add(3))), *argv.add(4)) };
    let (mut stderr, mut terminal, mut input) = (Stream::Ended, false, usize::MAX);
    // SAFETY: the string ends with a null byte.
    while let word @ 1.. = unsafe { *options } {
        match word {
            has::STDERR => stderr = Stream::Open,
            has::TERMINAL => (terminal, input) = (true, fds::STDOUT),
            has::INPUT => input = fds::INPUT,
            _ => log.is_kept = false,
        }
        // SAFETY: not beyond its null byte.
        options = unsafe { options.add(1) };
    }
    prepare();
    log.open();
    let mut room = Room::new();
    let mut clients = Clients::new(input);
    // Who was there before us gets everything, and is greeted when all that was
    // written before has been copied.
    clients.accept();
    let mut stdout = Stream::Open;
    let mut is_new = true;
    loop {
        let mut watched = [NO_DESCRIPTOR; 5 + clients::MOST];
        let mut watch = |at: usize, fd: usize, wanted: bool| {
            if wanted {
                watched[at] = PollFd { fd: fd as i32, events: POLLIN, revents: 0 };
            }
        };
        watch(0, fds::LISTENER, clients.has_room());
        watch(1, fds::STDOUT, stdout != Stream::Ended);
        watch(2, fds::STDERR, stderr != Stream::Ended);
        watch(3, fds::PROCESS, terminal);
        watched[4] = clients.waits_for();
        clients.watch(&mut watched[5..]);
        // No process had it open when it was last read.
        let is_shut = terminal && stdout == Stream::Ended;
        let limit = match () {
            () if is_new => 0,
            () if room.is_used => IDLE,
            () if is_shut => LOOK,
            () => FOREVER,
        };
        let ready = poll(&mut watched, limit);
        if ready == 0 && room.is_used {
            room.give_back();
        }
        let [newcomers, out, err, process] = [0, 1, 2, 3].map(|at| watched[at].revents != 0);
        if out || is_shut && ready == 0 {
            stdout = copy(fds::STDOUT, packet::STDOUT, &mut room, &mut log, &mut clients);
        }
        if err {
            stderr = copy(fds::STDERR, packet::STDERR, &mut room, &mut log, &mut clients);
        }
        let mut all = || {
            for (fd, name, stream) in
                [(fds::STDOUT, packet::STDOUT, &mut stdout), (fds::STDERR, packet::STDERR, &mut stderr)]
            {
                // What is written meanwhile by one that never stops is not waited for.
                for _ in 0..WHOLE_PIPE {
                    if *stream != Stream::Ended {
                        *stream = copy(fd, name, &mut room, &mut log, &mut clients);
                    }
                    if *stream != Stream::Busy {
                        break;
                    }
                }
            }
        };
        if newcomers || process || is_new {
            all();
        }
        if process {
            arch::exit(0);
        }
        if newcomers {
            clients.accept();
        }
        if newcomers || is_new {
            clients.greet_newcomers();
        }
        is_new = false;
        if clients.hear(&watched[5..]) {
            log.open();
            clients.greet();
        }
        if !terminal && (stdout, stderr) == (Stream::Ended, Stream::Ended) {
            arch::exit(0);
        }
        if room.is_to_gather() {
            poll(&mut [], GATHER);
        }
    }
}

/// Gives the process its name, and lets go of what it was born with besides.
fn prepare() {
    const PR_SET_NAME: usize = 15;
    // The report: that it ends says that the copier is there.
    const REPORT: usize = 4;
    // SAFETY: a name with a null byte, and a number.
    unsafe {
        syscall(nr::PRCTL, [PR_SET_NAME, c"podlet:log".as_ptr() as usize, 0, 0, 0, 0]);
        syscall(nr::CLOSE, [REPORT, 0, 0, 0, 0, 0]);
    }
}

/// Room for what is read and for the lines that become of it: no memory before it is
/// used.
struct Room {
    read: &'static mut [u8; ROOM],
    lines: Lines,
    /// Whether it takes memory.
    is_used: bool,
    /// How much was read when it was last copied, and when that was.
    last: (usize, [u64; 2]),
    /// How long before that was the time before, in nanoseconds.
    pause: u64,
    /// Whether little was read, but often.
    gathers: bool,
}

impl Room {
    fn new() -> Room {
        const READ_WRITE: usize = 3;
        const PRIVATE_ANONYMOUS: usize = 0x22;
        let size = ROOM + lines::ROOM;
        // SAFETY: memory of our own.
        let at = unsafe { syscall(nr::MMAP, [0, size, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) };
        if at < 0 {
            arch::exit(125);
        }
        // SAFETY: zeroes, mapped for good, and nobody else has them.
        let (read, lines) = unsafe { (&mut *(at as *mut [u8; ROOM]), &mut *((at as usize + ROOM) as *mut _)) };
        Room { read, lines: Lines::new(lines), is_used: false, last: (0, [0, 0]), pause: u64::MAX, gathers: false }
    }

    /// Gives it all back; nothing is in it.
    fn give_back(&mut self) {
        const MADV_DONTNEED: usize = 4;
        for (at, size) in [(self.read.as_ptr() as usize, ROOM), (self.lines.place(), lines::ROOM)] {
            // SAFETY: whole pages of ours, which are zeroes from then on.
            unsafe { syscall(nr::MADVISE, [at, size, MADV_DONTNEED, 0, 0, 0]) };
        }
        self.is_used = false;
    }

    /// Notes that so much was read.
    fn note(&mut self, size: usize, moment: [u64; 2]) {
        let nanoseconds = |[seconds, rest]: [u64; 2]| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        self.pause = nanoseconds(moment).wrapping_sub(nanoseconds(self.last.1));
        self.last = (size, moment);
    }

    /// Whether more is to gather before the next is read.
    fn is_to_gather(&mut self) -> bool {
        // Not once more for the same.
        let size = core::mem::take(&mut self.last.0);
        if size > 0 {
            self.gathers = self.pause < QUICKLY && (size < LITTLE || self.gathers && size < ROOM);
        }
        size > 0 && self.gathers
    }
}

/// Copies what there is of a stream, or some of it.
fn copy(fd: usize, name: u8, room: &mut Room, log: &mut Log, clients: &mut Clients) -> Stream {
    log.look();
    let (mut held, mut all) = (0, 0);
    let mut stream = Stream::Busy;
    for _ in 0..TURNS {
        let rest = &mut room.read[held..];
        // SAFETY: as much as there is room for.
        let size = unsafe { syscall(nr::READ, [fd, rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0]) };
        if size <= 0 {
            // EIO is how a terminal says that nobody has it open.
            stream = if size == -EAGAIN { Stream::Open } else { Stream::Ended };
            break;
        }
        let size = size as usize;
        clients.tell(name, &rest[..size]);
        let filled = held + size;
        room.is_used = true;
        all += size;
        let moment = time::now();
        if all == size {
            room.note(0, moment);
        }
        room.last.0 = all;
        if !log.is_kept {
            continue;
        }
        room.lines.begin(name, moment);
        let begin = room.lines.take(&room.read[..filled], log);
        room.lines.write(log);
        room.read.copy_within(begin..filled, 0);
        held = filled - begin;
    }
    if held > 0 {
        room.lines.part(&room.read[..held], log);
        room.lines.write(log);
    }
    stream
}

/// Waits for so many nanoseconds at most.
fn poll(watched: &mut [PollFd], nanoseconds: isize) -> isize {
    const SECOND: usize = 1_000_000_000;
    let limit = [nanoseconds as usize / SECOND, nanoseconds as usize % SECOND];
    let limit = if nanoseconds < 0 { 0 } else { limit.as_ptr() as usize };
    // SAFETY: the array and the time outlive the call.
    unsafe { syscall(nr::PPOLL, [watched.as_mut_ptr() as usize, watched.len(), limit, 0, 0, 0]) }
}

/// A decimal number.
///
/// # Safety
/// `text` ends with a null byte.
unsafe fn number(mut text: *const u8) -> u64 {
    let mut number = 0u64;
    // SAFETY: not beyond the null byte.
    while let digit @ b'0'..=b'9' = unsafe { *text } {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        // SAFETY: as above.
        text = unsafe { text.add(1) };
    }
    number
}
