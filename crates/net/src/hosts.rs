//! Hosts files: by which names pods find each other (hosts(5)).
//!
//! A network has one, which is mounted into all its pods, read-only; a pod with
//! entries of its own has one for itself. A mount is of an inode, so the file is
//! never replaced, and nobody who reads it can be made to wait. So that nobody
//! sees half an entry either, a line is in force or not by its first byte:
//!
//! - One is added behind all others with a `#` for its first byte, which is
//!   overwritten when the line is there.
//! - One is removed by overwriting its first byte with `#`. All else stays, for
//!   who is in the middle of reading it.
//! - Its place is used again, if the new line fits, by one who finds it dead for
//!   [`REST`], in the same order. The time of its death is behind the names, where
//!   no reader looks. So the file is hardly longer than what was in it at one time,
//!   and none of its lines ever moves.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::slice;
use std::time::{Duration, SystemTime};

use pod::{Error, Result};

use crate::files::{self, Lock, Sharing};

mod line;
#[cfg(test)]
mod tests;

use line::{Line, STAMP, lines};

/// How long nobody touches the place of a line that is dead: longer than anybody
/// takes to read a line that he has begun to read.
pub const REST: Duration = Duration::from_secs(10);

/// What each file begins with.
const HEAD: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Addresses, and the names that lead to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsEntry {
    /// Whose entry it is, which is how it is removed again: a pod's id. No spaces.
    pub id: String,
    /// The addresses, each of which has a line.
    pub addresses: Vec<IpAddr>,
    /// The names: the first is the one that an address is shown with.
    pub names: Vec<String>,
}

/// A hosts file, to which those who change it add and from which they remove one
/// after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsFile {
    path: PathBuf,
}

impl HostsFile {
    /// The file at that path; beside it is a lock, `.<name>.lock`.
    pub fn at(path: impl Into<PathBuf>) -> HostsFile {
        HostsFile { path: path.into() }
    }

    /// What to mount.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, with the names of localhost. One that is there stays as it is. It
    /// is everybody's to read: a pod's users are others than the caller.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn create(&self) -> Result<()> {
        let _lock = self.lock()?;
        match self.path.exists() {
            true => Ok(()),
            false => files::write(&self.path, HEAD.as_bytes(), 0o644),
        }
    }

    /// Adds an entry, and then removes what was there of the same id: who reads it
    /// meanwhile finds the names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot stand in it, [`Error::NotFound`] if the
    /// file was removed, [`Error::Os`].
    pub fn add(&self, entry: &HostsEntry) -> Result<()> {
        self.add_at(slice::from_ref(entry), now())
    }

    /// Adds several as [`add`](HostsFile::add) does one. The file is read once for all.
    ///
    /// # Errors
    /// As there.
    pub fn add_all(&self, entries: &[HostsEntry]) -> Result<()> {
        self.add_at(entries, now())
    }

    fn add_at(&self, entries: &[HostsEntry], now: u64) -> Result<()> {
        let new: Vec<_> = entries.iter().map(line::format).collect::<Result<_>>()?;
        let ids: HashSet<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let is_replaced = |line: &&Line<'_>| match entries {
            [one] => line.is_of(&one.id),
            _ => line.id().is_some_and(|id| ids.contains(id)),
        };
        let _lock = self.lock()?;
        let (file, bytes) = self.open()?;
        let found: Vec<Line<'_>> = lines(&bytes).collect();
        let mut resting: Vec<_> = found.iter().filter(|line| line.may_be_used(now)).collect();
        let mut behind = Vec::new();
        for new in new.into_iter().flatten() {
            match resting.iter().position(|old| old.bytes.len() >= new.len()) {
                Some(at) => self.put(&file, resting.swap_remove(at), &new)?,
                None => behind.push(new),
            }
        }
        self.append(&file, &bytes, &behind)?;
        self.kill(&file, found.iter().filter(is_replaced), now)?;
        // One who was killed between a line's death and its stamp left it so.
        found.iter().filter(|line| line.is_unstamped()).try_for_each(|line| self.stamp(&file, line, now))
    }

    /// Removes what is there of an id, and tells whether anything was.
    ///
    /// # Errors
    /// [`Error::Os`]; none for a file that is not there.
    pub fn remove(&self, id: &str) -> Result<bool> {
        self.remove_at(id, now())
    }

    fn remove_at(&self, id: &str, now: u64) -> Result<bool> {
        if !self.path.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let (file, bytes) = self.open()?;
        let found: Vec<_> = lines(&bytes).filter(|line| line.is_of(id)).collect();
        self.kill(&file, found.iter(), now)?;
        Ok(!found.is_empty())
    }

    /// What is in it, in the order of the lines. Addresses of the same id and names
    /// are one entry. Lines that somebody else wrote are left out.
    ///
    /// # Errors
    /// [`Error::Os`]; none for a file that is not there.
    pub fn entries(&self) -> Result<Vec<HostsEntry>> {
        let bytes = files::read(&self.path)?.unwrap_or_default();
        let mut entries: Vec<HostsEntry> = Vec::new();
        let mut places: HashMap<_, usize> = HashMap::new();
        for entry in lines(&bytes).filter_map(|line| line.entry()) {
            match places.entry((entry.id.clone(), entry.names.clone())) {
                Entry::Occupied(place) => entries[*place.get()].addresses.extend(entry.addresses),
                Entry::Vacant(place) => {
                    place.insert(entries.len());
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    /// Removes the file and its lock.
    ///
    /// # Errors
    /// [`Error::Os`]; none if they are not there.
    pub fn remove_files(&self) -> Result<()> {
        files::remove_file(&self.path)?;
        files::remove_file(&self.lock_path())
    }

    /// Not the file itself: who can read that could lock it, too.
    fn lock_path(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.lock"))
    }

    fn lock(&self) -> Result<Lock> {
        let lock = Lock::take(&self.lock_path(), Sharing::Exclusive)?;
        lock.ok_or_else(|| Error::NotFound(format!("hosts file {}", self.path.display())))
    }

    fn open(&self) -> Result<(File, Vec<u8>)> {
        let missing = || Error::NotFound(format!("hosts file {}", self.path.display()));
        let bytes = files::read(&self.path)?.ok_or_else(missing)?;
        let file = File::options().write(true).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        Ok((file.map_err(|error| self.failed(error))?, bytes))
    }

    /// Puts a line in the place of a dead one: its first byte is what makes it one.
    fn put(&self, file: &File, old: &Line<'_>, new: &str) -> Result<()> {
        let new = line::lengthen(new, old.bytes.len());
        let put = file.write_all_at(&new.as_bytes()[1..], old.at + 1);
        put.and_then(|()| file.write_all_at(&new.as_bytes()[..1], old.at)).map_err(|error| self.failed(error))
    }

    /// Adds lines behind what is there, first as dead ones: the kernel may show a
    /// reader one page of what is written before the next.
    fn append(&self, file: &File, bytes: &[u8], lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let append = || {
            let mut text = String::new();
            let mut begins = Vec::new();
            // Only who was killed, or had no room, left part of a line.
            if let Some(part) = line::unended(bytes) {
                file.write_all_at(b"#", part)?;
                text.push('\n');
            }
            for line in lines {
                begins.push((bytes.len() + text.len(), &line.as_bytes()[..1]));
                text = text + "#" + &line[1..];
            }
            file.write_all_at(text.as_bytes(), bytes.len() as u64)?;
            begins.into_iter().try_for_each(|(at, first)| file.write_all_at(first, at as u64))
        };
        append().map_err(|error: std::io::Error| self.failed(error))
    }

    fn kill<'a>(&self, file: &File, lines: impl Iterator<Item = &'a Line<'a>>, now: u64) -> Result<()> {
        for line in lines {
            file.write_all_at(b"#", line.at).map_err(|error| self.failed(error))?;
            self.stamp(file, line, now)?;
        }
        Ok(())
    }

    /// Says when a line died.
    fn stamp(&self, file: &File, line: &Line<'_>, now: u64) -> Result<()> {
        let stamp = format!("{now:0STAMP$}");
        file.write_all_at(stamp.as_bytes(), line.stamp_at()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::failed(format!("writing {}", self.path.display()), error)
    }
}

/// Seconds, as lines are stamped.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
