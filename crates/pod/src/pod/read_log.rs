//! What a container has written, as its log tells.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pause::log::time;

use super::container::Container;
use super::copier::ask_copier;
use crate::error::{Context, Result};
use crate::kernel::files;
use crate::spec::LogStream;
use crate::store::records::LOG;

/// A line of a log, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LogLine {
    /// When it was read from the container, as RFC 3339 has it, in UTC with
    /// nanoseconds: earlier ones are less. `None` where the log does not tell, as
    /// those of builds before there were times.
    pub time: Option<String>,
    /// Where it was written to.
    pub stream: LogStream,
    /// What was written, with the line's end if it was written, too.
    pub text: Vec<u8>,
}

/// How [`LogLine::time`] shows a point in time.
pub fn log_time(point: SystemTime) -> String {
    let since = point.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = [0; time::LENGTH];
    time::show([since.as_secs(), since.subsec_nanos().into()], &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A container's log, read from its beginning: the files that were rotated away
/// first. Reading comes to an end where nothing more is there yet, and goes on later.
///
/// For poll(2): readable when there may be more.
#[derive(Debug)]
pub struct Logs {
    path: PathBuf,
    /// A log of a build before there were copiers: what was written, as it is.
    is_raw: bool,
    current: Option<(BufReader<File>, FileId)>,
    next: VecDeque<(File, FileId)>,
    /// The beginning of a line that is not complete yet.
    begun: Vec<u8>,
    changes: Inotify,
    /// Where the container's records are, and the socket of its copier.
    container: PathBuf,
}

/// Which file it is, whatever it is called by now.
type FileId = (u64, u64);

fn id(meta: &Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

impl Container<'_> {
    /// Its log; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound), or
    /// [`Error::Corrupt`](crate::Error::Corrupt) if it is no plain file.
    pub fn logs(&self) -> Result<Option<Logs>> {
        let options = self.record()?.container.log;
        let (new, old) = (options.path.unwrap_or_else(|| self.log_path()), self.dir().join(LOG));
        let (path, is_raw) = if files::is_there(&new) || !files::is_there(&old) { (new, false) } else { (old, true) };
        let context = || format!("watching the log {}", path.display());
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).doing(context)?;
        let Some(dir) = path.parent().filter(|dir| files::is_there(dir)) else { return Ok(None) };
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        changes.add_watch(dir, flags).doing(context)?;
        let container = self.dir();
        // Its files are opened when they are read: what is caught up with may rotate some
        // away.
        let (next, begun) = (VecDeque::new(), Vec::new());
        let is_there = files::is_there(&path);
        Ok(is_there.then_some(Logs { path, is_raw, current: None, next, begun, changes, container }))
    }
}

impl Logs {
    /// Waits until all is in the log that the container had written before this was
    /// called, unless its copier does not go on.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn catch_up(&self) -> Result<()> {
        ask_copier(&self.container, None).map(drop)
    }

    /// The next line, or what there is of it; `None` where nothing more is there
    /// yet.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn read(&mut self) -> Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.read_current().doing(|| format!("reading {}", self.path.display()))? {
                return Ok(Some(line));
            }
            if self.next.is_empty() {
                self.find_more()?;
                if self.next.is_empty() {
                    return Ok(None);
                }
                // Whatever was written to the old one came before the new one was
                // made, and that we have seen.
                if let Some(line) = self.read_current().doing(|| format!("reading {}", self.path.display()))? {
                    return Ok(Some(line));
                }
            }
            self.current = self.next.pop_front().map(|(file, id)| (BufReader::new(file), id));
        }
    }

    /// Whether it tells when and where to something was written: logs of builds before
    /// there were copiers do not.
    pub fn has_times(&self) -> bool {
        !self.is_raw
    }

    /// Takes note of what has changed: the descriptor is readable again with the next
    /// change.
    pub fn seen(&self) {
        self.changes.read_events().ok();
    }

    fn read_current(&mut self) -> io::Result<Option<LogLine>> {
        let Some((file, _)) = &mut self.current else { return Ok(None) };
        if self.is_raw {
            let mut text = Vec::new();
            if file.read_until(b'\n', &mut text)? == 0 {
                // It was emptied.
                if file.stream_position()? > file.get_ref().metadata()?.len() {
                    file.rewind()?;
                }
                return Ok(None);
            }
            return Ok(Some(LogLine { time: None, stream: LogStream::Stdout, text }));
        }
        file.read_until(b'\n', &mut self.begun)?;
        if self.begun.last() != Some(&b'\n') {
            return Ok(None);
        }
        Ok(Some(parse(std::mem::take(&mut self.begun))))
    }

    /// Opens the files that are newer than the current one.
    fn find_more(&mut self) -> Result<()> {
        let known = self.current.as_ref().map(|(_, id)| *id);
        let mut found: Vec<(File, FileId)> = Vec::new();
        let mut missing = 0;
        for number in 0.. {
            let Some((file, meta)) = files::open_own(&numbered(&self.path, number), OFlag::O_RDONLY)? else {
                // One may be on the way from one name to the next.
                missing += 1;
                if missing > 1 {
                    break;
                }
                continue;
            };
            let id = id(&meta);
            if Some(id) == known {
                break;
            }
            // It was renamed while we looked.
            if found.iter().all(|(_, other)| *other != id) {
                found.push((file, id));
            }
            if self.is_raw {
                break;
            }
        }
        self.next.extend(found.into_iter().rev());
        Ok(())
    }
}

impl AsFd for Logs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}

/// A file that was rotated away so many times.
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.into();
    }
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// `TIME stdout|stderr F|P TEXT`. What is not of that form is what it is.
fn parse(mut line: Vec<u8>) -> LogLine {
    let mut words = line.splitn(4, |&byte| byte == b' ');
    let head = (words.next(), words.next(), words.next());
    let (Some(time), Some(stream @ (b"stdout" | b"stderr")), Some(tag @ (b"F" | b"P"))) = head else {
        return LogLine { time: None, stream: LogStream::Stdout, text: line };
    };
    let length = time.len() + stream.len() + tag.len() + 3;
    let stream = if stream == b"stdout" { LogStream::Stdout } else { LogStream::Stderr };
    let (time, is_part) = (Some(String::from_utf8_lossy(time).into_owned()), tag == b"P");
    if is_part {
        line.pop();
    }
    let text = line.split_off(length.min(line.len()));
    LogLine { time, stream, text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_parsed_as_they_were_written() {
        let line = parse(b"2026-01-02T03:04:05.000000006Z stderr F a b  c\n".to_vec());
        assert_eq!(line.time.as_deref(), Some("2026-01-02T03:04:05.000000006Z"));
        assert_eq!((line.stream, line.text.as_slice()), (LogStream::Stderr, b"a b  c\n".as_slice()));
        let part = parse(b"2026-01-02T03:04:05.000000006Z stdout P x\n".to_vec());
        assert_eq!((part.stream, part.text.as_slice()), (LogStream::Stdout, b"x".as_slice()));
        let empty = parse(b"2026-01-02T03:04:05.000000006Z stdout F \n".to_vec());
        assert_eq!(empty.text, b"\n");
        let other = parse(b"whatever it is\n".to_vec());
        assert_eq!((other.time, other.text.as_slice()), (None, b"whatever it is\n".as_slice()));
    }

    #[test]
    fn points_in_time_are_in_order_as_text() {
        let point = UNIX_EPOCH + Duration::new(1_709_251_199, 7);
        assert_eq!(log_time(point), "2024-02-29T23:59:59.000000007Z");
        assert!(log_time(point) < log_time(point + Duration::from_nanos(1)));
    }
}
