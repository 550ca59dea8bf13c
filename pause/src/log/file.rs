//! The log's files.

use super::{lines, time};
use crate::arch::{nr, syscall};

const O_WRONLY: usize = 0o1;
const O_CREAT: usize = 0o100;
const O_NOCTTY: usize = 0o400;
const O_APPEND: usize = 0o2000;
const O_NONBLOCK: usize = 0o4000;
const O_NOFOLLOW: usize = 0o400_000;
const O_CLOEXEC: usize = 0o2_000_000;

const EINVAL: isize = 22;
const ENOSPC: isize = 28;

/// Room for a file's name of at most 255 bytes, the number of an older file, and a
/// null byte.
const NAME: usize = 280;

/// A log that is written.
pub struct Log {
    /// Whether there is to be one.
    pub is_kept: bool,
    name: *const u8,
    /// From this size on it is rotated; 0 for never.
    most: u64,
    files: u64,
    fd: isize,
    size: u64,
    /// Bytes of lines that could not be written since the last that could be, and
    /// why.
    lost: u64,
    error: isize,
    /// The last line in the file has no end.
    torn: bool,
}

impl Log {
    /// The log of this name in [`super::fds::DIR`].
    ///
    /// # Safety
    /// `name` ends with a null byte.
    pub unsafe fn new(name: *const u8, most: u64, files: u64) -> Log {
        Log { is_kept: true, name, most, files, fd: -1, size: 0, lost: 0, error: 0, torn: false }
    }

    /// Opens it by its name, whatever was open before. What is no plain file is not
    /// written to.
    pub fn open(&mut self) {
        self.close();
        if !self.is_kept {
            return;
        }
        let flags = O_WRONLY | O_CREAT | O_NOCTTY | O_APPEND | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
        // SAFETY: the name ends with a null byte.
        let fd = unsafe { syscall(nr::OPENAT, [super::fds::DIR, self.name as usize, flags, 0o600, 0, 0]) };
        if fd < 0 {
            self.error = fd;
            return;
        }
        self.fd = fd;
        const S_IFMT: u32 = 0o170_000;
        const S_IFREG: u32 = 0o100_000;
        let status = self.status();
        if status.mode & S_IFMT == S_IFREG {
            self.size = status.size;
            return;
        }
        self.error = -EINVAL;
        self.close();
    }

    fn close(&mut self) {
        if self.fd >= 0 {
            // SAFETY: a number.
            unsafe { syscall(nr::CLOSE, [self.fd as usize, 0, 0, 0, 0, 0]) };
        }
        self.fd = -1;
    }

    /// Finds out whether it is still there: one that was removed is made anew.
    pub fn look(&mut self) {
        if self.is_kept && (self.fd < 0 || self.status().links == 0) {
            self.open();
        }
    }

    fn status(&self) -> Status {
        // struct stat: size at 48, links at 16, mode at 24.
        let mut words = [0u64; 18];
        // SAFETY: 144 bytes are written.
        unsafe { syscall(nr::FSTAT, [self.fd as usize, words.as_mut_ptr() as usize, 0, 0, 0, 0]) };
        Status { links: words[2], mode: words[3] as u32, size: words[6] }
    }

    /// Whether a line of so many bytes is too many for this file, when what waits for it
    /// is in there. An empty one takes the longest.
    pub fn is_full_with(&self, waiting: usize, line: usize) -> bool {
        let size = self.size + waiting as u64;
        self.most > 0 && size > 0 && size + line as u64 > self.most
    }

    /// Begins a new file: the one of the highest number goes, the others get the
    /// next number. One that is killed on the way leaves no file without a name.
    pub fn rotate(&mut self) {
        let mut number = 0;
        while number + 1 < self.files && self.is_there(number) {
            number += 1;
        }
        while number > 0 {
            let (newer, older) = (self.name_of(number - 1), self.name_of(number));
            let [from, to] = [&newer, &older].map(|name| name.bytes.as_ptr() as usize);
            let dir = super::fds::DIR;
            // SAFETY: both names end with a null byte.
            unsafe { syscall(nr::RENAMEAT, [dir, from, dir, to, 0, 0]) };
            number -= 1;
        }
        if self.files <= 1 {
            // SAFETY: the name ends with a null byte.
            unsafe { syscall(nr::UNLINKAT, [super::fds::DIR, self.name as usize, 0, 0, 0, 0]) };
        }
        self.open();
        // Where it cannot be renamed it goes on growing, and is not tried at each
        // line.
        self.size = 0;
    }

    fn is_there(&self, number: u64) -> bool {
        let name = self.name_of(number);
        // SAFETY: the name ends with a null byte.
        unsafe { syscall(nr::FACCESSAT, [super::fds::DIR, name.bytes.as_ptr() as usize, 0, 0, 0, 0]) == 0 }
    }

    /// `<name>.<number>`, or the name itself for 0, with a null byte.
    fn name_of(&self, number: u64) -> Text<NAME> {
        let mut text = Text { bytes: [0; NAME], length: 0 };
        let mut at = self.name;
        // SAFETY: not beyond the null byte.
        while let byte @ 1.. = unsafe { *at } {
            text.add(&[byte]);
            // SAFETY: as above.
            at = unsafe { at.add(1) };
        }
        if number > 0 {
            text.add(b".");
            text.add_number(number);
        }
        text.add(b"\0");
        text
    }

    /// Writes lines. What cannot be written is counted, and the next that can be says
    /// how much that was.
    pub fn write(&mut self, lines: &[u8]) {
        if !self.is_kept {
            return;
        }
        if self.lost > 0 {
            self.tell_loss();
        }
        let written = self.append(lines);
        if let Some(last) = lines[..written].last() {
            self.torn = *last != b'\n';
        }
        if written < lines.len() {
            self.lost += lines::text_behind(lines, written) as u64;
        }
    }

    /// Appends to the file; how many bytes of it.
    fn append(&mut self, text: &[u8]) -> usize {
        if self.fd < 0 {
            return 0;
        }
        // SAFETY: readable memory.
        let written = unsafe { syscall(nr::WRITE, [self.fd as usize, text.as_ptr() as usize, text.len(), 0, 0, 0]) };
        // A call that writes less than all would say why the next time.
        self.error = if written < 0 { written } else { -ENOSPC };
        self.size += written.max(0) as u64;
        written.max(0) as usize
    }

    /// A line of its own that says what is missing.
    fn tell_loss(&mut self) {
        let mut text = Text { bytes: [0; 128], length: 0 };
        if self.torn {
            text.add(b"\n");
        }
        let mut moment = [0; time::LENGTH];
        time::show(time::now(), &mut moment);
        text.add(&moment);
        text.add(b" stderr F podlet: ");
        text.add_number(self.lost);
        text.add(b" bytes of output are not in this log, errno ");
        text.add_number(self.error.unsigned_abs() as u64);
        text.add(b"\n");
        let written = self.append(&text.bytes[..text.length]);
        if written == text.length {
            (self.lost, self.torn) = (0, false);
        } else {
            self.torn |= written > 0;
        }
    }
}

struct Status {
    links: u64,
    mode: u32,
    size: u64,
}

/// A short text in the making; what is too long for it is cut.
struct Text<const SIZE: usize> {
    bytes: [u8; SIZE],
    length: usize,
}

impl<const SIZE: usize> Text<SIZE> {
    fn add(&mut self, more: &[u8]) {
        for &byte in more {
            if let Some(free) = self.bytes.get_mut(self.length) {
                *free = byte;
                self.length += 1;
            }
        }
    }

    fn add_number(&mut self, number: u64) {
        let (mut digits, mut rest, mut begin) = ([b'0'; 20], number, 20);
        while begin == 20 || rest > 0 {
            begin -= 1;
            digits[begin] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.add(&digits[begin..]);
    }
}
