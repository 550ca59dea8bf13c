//! Files of networks: written whole under another name before they have their
//! own, and read with an error that names file and field.
//!
//! Nothing is forced to the disk but the records of CNI attachments: a store is in
//! memory unless the caller chose otherwise, and what the kernel has of a network
//! does not outlive a restart either.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pod::{Error, Result};
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// How files begin that have no name of their own yet.
const NEW: &str = ".new";

/// The most bytes that a file can have: far above what any comes to.
const MOST: u64 = 16 << 20;

/// Makes a directory no other user can look into, with its parents.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Error::failed(format!("making the directory {}", dir.display()), error))
}

/// A complete file without a name of its own in `dir`, readable by its owner
/// alone. It is gone with the value.
pub(crate) fn nameless(dir: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let write = || {
        let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(dir)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    write().map_err(|error: io::Error| Error::failed(format!("writing a file in {}", dir.display()), error))
}

/// Writes a file with that mode, in place of one that may be there.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = nameless(path.parent().unwrap_or(path), bytes)?;
    let doing = || format!("writing {}", path.display());
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(|error| Error::failed(doing(), error))?;
    file.persist(path).map_err(|error| Error::failed(doing(), error.error))?;
    Ok(())
}

/// Writes a file of these bytes under each of these names, which its owner alone
/// reads: one for all of them, where they are not there yet.
pub(crate) fn write_as_each(paths: &[PathBuf], bytes: &[u8]) -> Result<()> {
    let Some(first) = paths.first() else { return Ok(()) };
    let file = nameless(first.parent().unwrap_or(first), bytes)?;
    // There may be one, or too many links to this one (EMLINK).
    paths.iter().try_for_each(|path| fs::hard_link(file.path(), path).or_else(|_| write(path, bytes, 0o600)))
}

/// As [`write`], and on the disk when it returns: for what has to be known after a
/// restart of the machine. Nobody but the owner reads it.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    let file = nameless(dir, bytes)?;
    let failed = |error| Error::failed(format!("writing {}", path.display()), error);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    // The name, too (fsync(2)).
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Reads a file that is ours and small; `None` if there is none. No link is
/// followed.
///
/// # Errors
/// [`Error::Corrupt`] if it is larger than any of ours, or no plain file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let doing = || format!("reading {}", path.display());
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Error::corrupt(path, "a symbolic link, and not a plain file"));
        }
        file => file.map_err(|error| Error::failed(doing(), error))?,
    };
    let is_file = file.metadata().map_err(|error| Error::failed(doing(), error))?.is_file();
    if !is_file {
        return Err(Error::corrupt(path, "not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| Error::failed(doing(), error))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::corrupt(path, format!("larger than {MOST} bytes")));
    }
    Ok(Some(bytes))
}

/// Reads JSON; `None` if there is no such file.
///
/// # Errors
/// [`Error::Corrupt`] with the field that is wrong, and as [`read`].
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read(path)?.map(|bytes| from_json(path, &bytes)).transpose()
}

/// What stands in a file as JSON.
///
/// # Errors
/// [`Error::Corrupt`] with the field that is wrong.
pub(crate) fn from_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, error) = (error.path().to_string(), error.into_inner());
        let reason = if field == "." { error.to_string() } else { format!("{field}: {error}") };
        Error::corrupt(path, reason).because(error)
    })?;
    json.end().map_err(|error| Error::corrupt(path, error.to_string()).because(error))?;
    Ok(value)
}

/// Names of directory entries that are not hidden, sorted; none of a directory
/// that is missing.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let mut names = all_names_in(dir)?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// Names in a directory, hidden ones, too; none if it is not there.
pub(crate) fn all_names_in(dir: &Path) -> Result<Vec<String>> {
    let doing = || format!("reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::failed(doing(), error))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = names.map_err(|error| Error::failed(doing(), error))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Removes a file; missing is as good.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if is_missing(&error) => Ok(()),
        removed => removed.map_err(|error| Error::failed(format!("removing {}", path.display()), error)),
    }
}

/// Removes a directory unless something is left in it; missing is as good.
pub(crate) fn remove_empty_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if is_missing(&error) || error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(|error| Error::failed(format!("removing {}", dir.display()), error)),
    }
}

/// Removes what a program left in `dir` that was killed before its files had
/// names. The caller holds what keeps others from writing there.
pub(crate) fn sweep_nameless(dir: &Path) -> Result<()> {
    let names = all_names_in(dir)?;
    names.iter().filter(|name| name.starts_with(NEW)).try_for_each(|name| remove_file(&dir.join(name)))
}

/// Whether there was nothing under that name.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A locked file, until the value is dropped or the program ends. It is
/// close-on-exec, so no program that is started meanwhile keeps it (flock(2)).
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// With whom a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// With others that share it.
    Shared,
    /// With nobody.
    Exclusive,
}

impl Lock {
    /// Waits for the lock of a file, which is made if its directory is there;
    /// `None` if it is not, or was removed while the caller waited.
    pub(crate) fn take(path: &Path, sharing: Sharing) -> Result<Option<Lock>> {
        let file = match open_lock(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            file => file,
        };
        let lock = |file: File| {
            match sharing {
                Sharing::Shared => file.lock_shared()?,
                Sharing::Exclusive => file.lock()?,
            }
            Lock::of_locked(file)
        };
        file.and_then(lock).map_err(|error| Error::failed(format!("locking {}", path.display()), error))
    }

    /// The exclusive lock if nobody has it now.
    pub(crate) fn try_take(path: &Path) -> Option<Lock> {
        let file = open_lock(path).ok()?;
        file.try_lock().ok()?;
        Lock::of_locked(file).ok()?
    }

    /// Who removes a file has it locked: one that opened it before that, and has the
    /// lock now, has nothing.
    fn of_locked(file: File) -> io::Result<Option<Lock>> {
        let is_there = file.metadata()?.nlink() > 0;
        Ok(is_there.then_some(Lock(file)))
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn a_private_directory_is_its_owners_alone() {
        let dir = dir();
        let made = dir.path().join("a/b");
        make_private(&made).expect("made");
        make_private(&made).expect("again is as good");
        for path in [&made, &dir.path().join("a")] {
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = dir();
        let path = dir.path().join("file");
        write(&path, b"one and more", 0o600).expect("written");
        write(&path, b"two", 0o644).expect("written again");
        assert_eq!(read(&path).expect("read"), Some(b"two".to_vec()));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
        assert_eq!(all_names_in(dir.path()).expect("names"), ["file"]);
    }

    #[test]
    fn the_lock_of_a_removed_file_is_none() {
        let dir = dir();
        let path = dir.path().join(".lock");
        let early = open_lock(&path).expect("open");
        let lock = Lock::try_take(&path).expect("nobody has it");
        assert!(Lock::try_take(&path).is_none(), "somebody has it");
        remove_file(&path).expect("removed");
        drop(lock);
        early.try_lock().expect("nobody has it any more");
        assert!(Lock::of_locked(early).expect("looked at").is_none());
        assert!(Lock::try_take(&path).is_some(), "a new file");
    }

    #[test]
    fn json_that_is_wrong_names_file_and_field() {
        let dir = dir();
        let path = dir.path().join("x.json");
        assert_eq!(read_json::<u8>(&path).expect("nothing there"), None);
        write(&path, br#"{"a": {"b": "c"}}"#, 0o600).expect("written");
        let error = read_json::<BTreeMap<String, BTreeMap<String, u8>>>(&path).expect_err("not a number").to_string();
        assert!(error.contains("x.json: a.b: invalid type"), "{error}");
        write(&path, b"1 2", 0o600).expect("written");
        let error = read_json::<u8>(&path).expect_err("more than one").to_string();
        assert!(error.contains("trailing characters"), "{error}");
    }

    #[test]
    fn what_is_no_plain_file_is_not_read() {
        let dir = dir();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
        assert!(matches!(read(&link), Err(Error::Corrupt { .. })));
        assert!(matches!(read(dir.path()), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_lock_excludes_others_and_is_nothing_once_its_file_is_removed() {
        let dir = dir();
        let path = dir.path().join("lock");
        let shared = Lock::take(&path, Sharing::Shared).expect("locked").expect("there");
        let other = Lock::take(&path, Sharing::Shared).expect("locked").expect("shared with others");
        assert!(Lock::try_take(&path).is_none());
        drop((shared, other));
        // Waited for: a program that another test is starting has it until execve.
        let held = Lock::take(&path, Sharing::Exclusive).expect("locked").expect("free again");
        let meta = fs::metadata(&path).expect("there");
        let inode = format!(" {:02x}:{:02x}:{} ", libc::major(meta.dev()), libc::minor(meta.dev()), meta.ino());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::take(&path, Sharing::Shared));
            let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
            while !fs::read_to_string("/proc/locks").expect("read").lines().any(waits) {
                assert!(!waiter.is_finished(), "it has to wait");
                std::thread::yield_now();
            }
            remove_file(&path).expect("removed");
            drop(held);
            assert!(waiter.join().expect("joined").expect("locked").is_none());
        });
        assert!(Lock::take(&dir.path().join("none/lock"), Sharing::Shared).expect("asked").is_none());
    }

    #[test]
    fn only_files_without_a_name_are_swept() {
        let dir = dir();
        std::mem::forget(nameless(dir.path(), b"half").expect("written"));
        fs::write(dir.path().join(".keep"), "").expect("written");
        sweep_nameless(dir.path()).expect("swept");
        assert_eq!(all_names_in(dir.path()).expect("names"), [".keep"]);
    }
}
