//! From what was read to the lines of a log.

use super::file::Log;
use super::{LONGEST_PART, packet, time};

/// Before what was written stand time, stream and tag, each with a space behind.
const HEAD: usize = time::LENGTH + 10;
/// The longest line in a log: the longest part, and an end.
const LONGEST: usize = HEAD + LONGEST_PART + 1;
/// Room for lines that are written at once.
pub const ROOM: usize = 56 << 10;

/// Lines on their way to the log.
pub struct Lines {
    room: &'static mut [u8; ROOM],
    filled: usize,
    /// What stands before each of them: they are of one stream and one moment.
    head: [u8; HEAD],
}

impl Lines {
    pub fn new(room: &'static mut [u8; ROOM]) -> Lines {
        Lines { room, filled: 0, head: *b"0000-00-00T00:00:00.000000000Z stdout F " }
    }

    /// Where the room is.
    pub fn place(&self) -> usize {
        self.room.as_ptr() as usize
    }

    /// What is taken from here on was written to this stream and read now.
    pub fn begin(&mut self, stream: u8, moment: [u64; 2]) {
        let mut text = [0; time::LENGTH];
        time::show(moment, &mut text);
        self.head[..time::LENGTH].copy_from_slice(&text);
        let name = if stream == packet::STDERR { b"err" } else { b"out" };
        self.head[time::LENGTH + 4..time::LENGTH + 7].copy_from_slice(name);
    }

    /// Takes the lines of what was read, and parts of them that are too long to wait
    /// for the rest. What begins a line is left: where that is, is the result.
    pub fn take(&mut self, read: &[u8], log: &mut Log) -> usize {
        let mut begin = 0;
        loop {
            let rest = &read[begin..];
            let first = &rest[..rest.len().min(LONGEST_PART + 1)];
            match find_end(first) {
                Some(length) => begin += self.add(b'F', &first[..=length], log),
                None if first.len() > LONGEST_PART => begin += self.part(&first[..LONGEST_PART], log),
                None => return begin,
            }
        }
    }

    /// Takes a part of a line, which has no end yet; how long it is.
    pub fn part(&mut self, text: &[u8], log: &mut Log) -> usize {
        self.add(b'P', text, log)
    }

    fn add(&mut self, tag: u8, text: &[u8], log: &mut Log) -> usize {
        let is_part = tag == b'P';
        let size = HEAD + text.len() + usize::from(is_part);
        if self.filled + LONGEST > ROOM || log.is_full_with(self.filled, size) {
            self.write(log);
        }
        if log.is_full_with(0, size) {
            log.rotate();
        }
        let Some(line) = self.room.get_mut(self.filled..self.filled + size) else { return text.len() };
        let (head, rest) = line.split_at_mut(HEAD);
        head.copy_from_slice(&self.head);
        head[HEAD - 2] = tag;
        rest[..text.len()].copy_from_slice(text);
        if is_part {
            rest[text.len()] = b'\n';
        }
        self.filled += size;
        text.len()
    }

    /// Writes what has been taken.
    pub fn write(&mut self, log: &mut Log) {
        if let Some(lines) = self.room.get(..self.filled).filter(|lines| !lines.is_empty()) {
            log.write(lines);
        }
        self.filled = 0;
    }
}

/// How much of what a container wrote is in these lines behind their first `from`
/// bytes.
pub fn text_behind(lines: &[u8], from: usize) -> usize {
    let (mut begin, mut size) = (0, 0);
    while let Some(length) = lines.get(begin..).and_then(find_end) {
        let end = begin + length + 1;
        // A part's end is none of the container's.
        let is_part = lines.get(begin + HEAD - 2) == Some(&b'P');
        size += (end - usize::from(is_part)).saturating_sub(from.max(begin + HEAD));
        begin = end;
    }
    size
}

/// How many bytes stand before the first end of a line.
fn find_end(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const ENDS: u64 = ONES * b'\n' as u64;
    let mut at = 0;
    while let Some(word) = text.get(at..at + 8) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        // A byte that is an end becomes zero; one that is zero borrows (Bit
        // Twiddling: exact for the lowest one).
        let zero_where = u64::from_le_bytes(bytes) ^ ENDS;
        let found = zero_where.wrapping_sub(ONES) & !zero_where & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    text.get(at..)?.iter().position(|&byte| byte == b'\n').map(|more| at + more)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::{find_end, text_behind};

    #[test]
    fn what_is_lost_is_counted_without_what_the_copier_adds() {
        let head = "2026-11-30T12:00:00.000000000Z stdout F ";
        let lines = format!("{head}ab\n{}cd\n{head}\n", head.replace(" F ", " P "));
        let all = |from| text_behind(lines.as_bytes(), from);
        // ab and its end, cd, and an end.
        assert_eq!([all(0), all(head.len()), all(head.len() + 1), all(head.len() + 3)], [6, 6, 5, 3]);
        assert_eq!([all(lines.len() - 1), all(lines.len())], [1, 0]);
    }

    #[test]
    fn the_first_end_is_found_wherever_it_is() {
        for length in 0..40 {
            let mut text = [b'x'; 40];
            assert_eq!(find_end(&text[..length]), None);
            for at in 0..length {
                text.fill(b'\x0b');
                text[at] = b'\n';
                text[length - 1] = b'\n';
                assert_eq!(find_end(&text[..length]), Some(at));
            }
        }
    }
}
