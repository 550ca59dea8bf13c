//! Lines of hosts files, as podlet writes them; pure.
//!
//! ```text
//! 10.89.0.2<TAB>web api        <TAB># <id> 0000000000
//! ```

use std::net::IpAddr;
use std::str::FromStr;

use pod::{Error, Result};

use super::{HostsEntry, REST};

/// How many digits say when a line died, in seconds of the epoch; all zero of a line
/// that lives.
pub(super) const STAMP: usize = 10;

/// A line's length is a multiple of this, with its end: so others fit in its place.
const UNIT: usize = 32;

/// The longest line: what the readers there are (glibc, musl, Go) take in whole.
const MOST: usize = 1023;

/// A complete line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Where it begins in the file.
    pub(super) at: u64,
    /// With its end.
    pub(super) bytes: &'a [u8],
}

/// The lines of a file, without one that has no end.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0;
    bytes.split_inclusive(|byte| *byte == b'\n').filter(|bytes| bytes.ends_with(b"\n")).map(move |bytes| {
        let line = Line { at, bytes };
        at += bytes.len() as u64;
        line
    })
}

/// Where a line begins that has no end.
pub(super) fn unended(bytes: &[u8]) -> Option<u64> {
    let begin = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (begin < bytes.len()).then_some(begin as u64)
}

impl<'a> Line<'a> {
    /// What is behind the names: the id and the stamp. `None` of a line that is not
    /// ours.
    fn note(&self) -> Option<(&'a str, u64)> {
        let text = str::from_utf8(self.bytes).ok()?.strip_suffix('\n')?;
        let (_, note) = text.rsplit_once("\t# ")?;
        let (id, stamp) = note.split_once(' ')?;
        let is_stamp = stamp.len() == STAMP && stamp.bytes().all(|byte| byte.is_ascii_digit());
        Some((id, stamp.parse().ok().filter(|_| is_stamp)?))
    }

    fn is_dead(&self) -> bool {
        self.bytes.starts_with(b"#")
    }

    /// Whose it is, if it is in force.
    pub(super) fn id(&self) -> Option<&'a str> {
        self.note().filter(|_| !self.is_dead()).map(|(id, _)| id)
    }

    /// Whether it is in force and of this id: the same, by a look where that would stand.
    /// Whoever comes or goes asks this of every line of hundreds of files.
    pub(super) fn is_of(&self, id: &str) -> bool {
        let end = self.bytes.len().checked_sub(STAMP + 2);
        let note = end.and_then(|end| self.bytes.get(..end)).and_then(|bytes| bytes.strip_suffix(id.as_bytes()));
        note.is_some_and(|before| before.ends_with(b"\t# ")) && self.id() == Some(id)
    }

    /// Whether it is dead, and nothing says since when.
    pub(super) fn is_unstamped(&self) -> bool {
        self.is_dead() && self.note().is_some_and(|(_, stamp)| stamp == 0)
    }

    /// Whether another line may have its place.
    pub(super) fn may_be_used(&self, now: u64) -> bool {
        let has_rested = |stamp: u64| stamp > 0 && stamp.saturating_add(REST.as_secs()) <= now;
        self.is_dead() && self.note().is_some_and(|(_, stamp)| has_rested(stamp))
    }

    /// Where its stamp begins in the file.
    pub(super) fn stamp_at(&self) -> u64 {
        self.at + (self.bytes.len() - 1 - STAMP) as u64
    }

    /// What it says, if it is in force and ours.
    pub(super) fn entry(&self) -> Option<HostsEntry> {
        let (id, _) = self.note().filter(|_| !self.is_dead())?;
        let text = str::from_utf8(self.bytes).ok()?;
        let mut words = text.split_once('#')?.0.split_ascii_whitespace();
        let address = IpAddr::from_str(words.next()?).ok()?;
        Some(HostsEntry { id: id.into(), addresses: vec![address], names: words.map(Into::into).collect() })
    }
}

/// The lines of an entry: one for each address.
///
/// # Errors
/// [`Error::Invalid`] for what would be another line, or none.
pub(super) fn format(entry: &HostsEntry) -> Result<Vec<String>> {
    let bad = |text: &str| text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic() || c == '#');
    if bad(&entry.id) {
        return Err(Error::invalid("id", &entry.id, "give an id without spaces and `#`"));
    }
    if let Some(name) = entry.names.iter().find(|name| bad(name)) {
        return Err(Error::invalid("network-alias", name, "give a name without spaces and `#`"));
    }
    if entry.names.is_empty() {
        return Err(Error::invalid("network-alias", "", "an entry needs a name"));
    }
    let names = entry.names.join(" ");
    let line = |ip: &IpAddr| {
        let line = format!("{ip}\t{names}\t# {} {:0STAMP$}\n", entry.id, 0);
        let length = line.len().next_multiple_of(UNIT);
        if length > MOST {
            let reason = format!("too many names: with their address they have to fit in {MOST} bytes");
            return Err(Error::invalid("network-alias", names.clone(), reason));
        }
        Ok(lengthen(&line, length))
    };
    entry.addresses.iter().map(line).collect()
}

/// The line with spaces behind its names, so that it has that length.
pub(super) fn lengthen(line: &str, length: usize) -> String {
    let at = line.rfind("\t# ").unwrap_or(line.len());
    let (names, note) = line.split_at(at);
    format!("{names}{:1$}{note}", "", length.saturating_sub(line.len()))
}
