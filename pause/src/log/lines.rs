//! From what was read to the lines of a log.

use super::file::Log;
use super::{LONGEST_PART, packet, time};

/// Before what was written stand time, stream and tag, each with a space behind.
const HEAD: usize = time::LENGTH + 10;
/// Lines that are written at once.
const AT_ONCE: usize = 32;

/// An address and a length, as writev(2) takes them.
pub type Piece = [usize; 2];
/// A line's pieces: what stands before it, what was written, and the end that a
/// part of a line has not.
pub type Line = [Piece; 3];

/// Lines on their way to the log, all of one stream and one moment.
pub struct Batch {
    whole: [u8; HEAD],
    part: [u8; HEAD],
    lines: [Line; AT_ONCE],
    count: usize,
    /// Bytes of the lines.
    size: usize,
    /// What stands behind a part that ends with no line's end.
    end: [u8; 1],
}

impl Batch {
    pub fn new(stream: u8, moment: [u64; 2]) -> Batch {
        let mut head = *b"0000-00-00T00:00:00.000000000Z stdout F ";
        let mut text = [0; time::LENGTH];
        time::show(moment, &mut text);
        head[..time::LENGTH].copy_from_slice(&text);
        if stream == packet::STDERR {
            head[time::LENGTH + 4..time::LENGTH + 7].copy_from_slice(b"err");
        }
        let mut part = head;
        part[HEAD - 2] = b'P';
        Batch { whole: head, part, lines: [[[0; 2]; 3]; AT_ONCE], count: 0, size: 0, end: *b"\n" }
    }

    /// Takes the lines of `buffer`, of which `held` bytes were there before and
    /// `size` are new. What begins a line stays, at the buffer's beginning: its
    /// length is the result.
    pub fn take(&mut self, buffer: &mut [u8; LONGEST_PART + 1], held: usize, size: usize, log: &mut Log) -> usize {
        let filled = held + size;
        let (mut begin, mut from) = (0, held);
        while let Some(length) = find_end(&buffer[from..filled]) {
            let end = from + length + 1;
            self.line(&buffer[begin..end], log);
            (begin, from) = (end, end);
        }
        if filled - begin > LONGEST_PART {
            self.part(&buffer[begin..begin + LONGEST_PART], log);
            begin += LONGEST_PART;
        }
        // The pieces lead into the buffer.
        self.write(log);
        buffer.copy_within(begin..filled, 0);
        filled - begin
    }

    /// A line or the rest of one, with its end.
    fn line(&mut self, text: &[u8], log: &mut Log) {
        self.add(self.whole.as_ptr() as usize, text, 0, log);
    }

    /// A part of a line.
    pub fn part(&mut self, text: &[u8], log: &mut Log) {
        self.add(self.part.as_ptr() as usize, text, self.end.len(), log);
    }

    fn add(&mut self, head: usize, text: &[u8], end: usize, log: &mut Log) {
        let size = HEAD + text.len() + end;
        if self.count == AT_ONCE || log.is_full_with(self.size + size) {
            self.write(log);
        }
        if log.is_full_with(size) {
            log.rotate();
        }
        if let Some(line) = self.lines.get_mut(self.count) {
            *line = [[head, HEAD], [text.as_ptr() as usize, text.len()], [self.end.as_ptr() as usize, end]];
            self.count += 1;
            self.size += size;
        }
    }

    /// Writes what has been taken.
    pub fn write(&mut self, log: &mut Log) {
        if let Some(lines) = self.lines.get(..self.count).filter(|lines| !lines.is_empty()) {
            log.write(lines, self.size);
        }
        (self.count, self.size) = (0, 0);
    }
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
    use super::find_end;

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
