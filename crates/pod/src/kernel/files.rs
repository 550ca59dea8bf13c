//! Files that are known for what they are before they are opened.
//!
//! To open is to do something: a pipe keeps its reader waiting, a device may
//! rewind, ring or reset, a file of the kernel's may do anything. So whatever is
//! found under a name that another user chose, or in a directory where another
//! user may have put it, is looked at first.

use std::fs::{self, DirBuilder, File, FileType, Metadata};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, FsType, NSFS_MAGIC, PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};

use super::syscalls;
use crate::error::{Context, Error, Result};

/// File systems whose plain files are the kernel's own.
const KERNELS: [FsType; 9] = [
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    TRACEFS_MAGIC,
    SECURITYFS_MAGIC,
    BPF_FS_MAGIC,
    NSFS_MAGIC,
];

/// What it is, for an error that asks for a plain file.
fn name(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_file() => "a plain file",
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Opens a file of the state directory, which is the caller's alone; `None` if
/// there is none. No link is followed.
///
/// # Errors
/// [`Error::Corrupt`] if it is anything but a plain file.
pub(crate) fn open_own(path: &Path, flags: OFlag) -> Result<Option<(File, Metadata)>> {
    let context = || format!("opening {}", path.display());
    if !check_place(path)? {
        return Ok(None);
    }
    let file = match open_once(path, flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK) {
        Err(error) if is_missing(&error) => return Ok(None),
        file => file.doing(context)?,
    };
    let meta = file.metadata().doing(context)?;
    check_own(path, &meta)?;
    Ok(Some((file, meta)))
}

/// Opens what is there, close-on-exec. `open` of musl's says so twice, in a call
/// of its own.
pub(crate) fn open_once(path: &Path, flags: OFlag) -> std::io::Result<File> {
    Ok(openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether there is a file of the state directory.
///
/// # Errors
/// As [`open_own`].
pub(crate) fn check_place(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if is_missing(&error) => Ok(false),
        found => check_own(path, &found.doing(|| format!("looking at {}", path.display()))?).map(|()| true),
    }
}

/// Refuses what is no plain file where one of the state directory should be.
fn check_own(path: &Path, found: &Metadata) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let reason = format!("{}, and not a plain file", name(found.file_type()));
    Err(Error::corrupt(path, reason))
}

/// Why something cannot be read.
pub(crate) enum Refused {
    /// It is no plain file but this.
    Is(&'static str),
    /// A system call failed.
    Os(std::io::Error),
}

impl<T: Into<std::io::Error>> From<T> for Refused {
    fn from(error: T) -> Refused {
        Refused::Os(error.into())
    }
}

impl Refused {
    /// As an error about `field`, met while `doing`.
    pub(crate) fn explain(self, field: &str, value: &Path, doing: impl FnOnce() -> String) -> Error {
        match self {
            Refused::Is(what) => {
                Error::invalid(field, value.to_string_lossy(), format!("{what}, and not a plain file"))
            }
            Refused::Os(error) => Error::failed(doing(), error),
        }
    }
}

/// A mere path, which nothing happens to.
pub(crate) fn look(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens for reading what has been found as a mere path, and what a bundle or an
/// image has: a plain file, and none of the kernel's.
pub(crate) fn open_found(found: OwnedFd) -> std::result::Result<(File, Metadata), Refused> {
    let (found, meta) = check_found(found)?;
    Ok((reopen(&found)?, meta))
}

/// Opens for writing what has been found as a mere path, and empties it: a plain
/// file, and none of the kernel's.
pub(crate) fn open_found_for_writing(found: OwnedFd) -> std::result::Result<File, Refused> {
    let (found, _) = check_found(found)?;
    Ok(File::options().write(true).truncate(true).open(format!("/proc/self/fd/{}", found.as_raw_fd()))?)
}

fn check_found(found: OwnedFd) -> std::result::Result<(File, Metadata), Refused> {
    let found = File::from(found);
    let meta = found.metadata()?;
    if !meta.is_file() {
        return Err(Refused::Is(name(meta.file_type())));
    }
    if KERNELS.contains(&fstatfs(&found)?.filesystem_type()) {
        return Err(Refused::Is("a file of the kernel's"));
    }
    Ok((found, meta))
}

/// Whether something is of a file system whose files are the kernel's own.
pub(crate) fn is_kernels(found: &OwnedFd) -> bool {
    fstatfs(found).is_ok_and(|fs| KERNELS.contains(&fs.filesystem_type()))
}

/// The file behind a mere path.
pub(crate) fn reopen(found: &File) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Reads what the caller names: a plain file or a pipe, and at most `most` bytes
/// of it.
///
/// # Errors
/// [`Error::Invalid`] for anything else, and for more than that.
pub(crate) fn read_given(field: &str, path: &Path, most: u64) -> Result<Vec<u8>> {
    let context = || format!("reading {}", path.display());
    let found = File::from(look(path).doing(context)?);
    let kind = found.metadata().doing(context)?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        let reason = format!("{}: give a plain file or a pipe", name(kind));
        return Err(Error::invalid(field, path.to_string_lossy(), reason));
    }
    read_most(reopen(&found).doing(context)?, 0, field, path, most)
}

/// Reads what is open and has about `size` bytes.
///
/// # Errors
/// [`Error::Invalid`] for more than `most` bytes.
pub(crate) fn read_most(file: File, size: u64, field: &str, path: &Path, most: u64) -> Result<Vec<u8>> {
    // One more, so that one call reads it and the next one its end.
    let mut bytes = Vec::with_capacity(size.min(most) as usize + 1);
    file.take(most + 1).read_to_end(&mut bytes).doing(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(Error::invalid(field, path.to_string_lossy(), format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Makes a directory no other user can look into, with its parents.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.doing(|| format!("making the directory {}", dir.display()))
}

/// Whether there is anything, be it a link that leads nowhere, as far as can be
/// seen: where the kernel does not tell it counts as there, and the caller's
/// next call says why it fails.
pub(crate) fn is_there(path: &Path) -> bool {
    let absent = |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    !fs::symlink_metadata(path).is_err_and(absent)
}

/// Names of directory entries that are not hidden, sorted.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let context = || format!("reading {}", dir.display());
    let opened = match open_once(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.doing(context)?,
    };
    let mut names = Vec::new();
    // On the stack: what the C library allocates for it costs more than the reading.
    let mut entries = [0; 4096];
    loop {
        let size = match syscalls::read_entries(opened.as_fd(), &mut entries) {
            // Removed just now, and all that was in it before.
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            size => size.doing(context)?,
        };
        if size == 0 {
            break;
        }
        names.extend(names_of(&entries[..size]).filter(|name| !name.starts_with('.')).map(String::from));
    }
    names.sort();
    Ok(names)
}

/// The names in what getdents64(2) gives, those that are UTF-8. struct
/// linux_dirent64: inode, offset, 16 bits of length, a byte of kind, the name.
fn names_of(mut entries: &[u8]) -> impl Iterator<Item = &str> {
    let next = move || {
        let (length, name) = (entries.get(16..18)?, entries.get(19..)?);
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        entries = entries.get(length..)?;
        name.split(|byte| *byte == 0).next()
    };
    std::iter::from_fn(next).filter_map(|name| std::str::from_utf8(name).ok())
}

pub(crate) fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes what is at `path`, a file or not; missing is as good.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match ignore_missing(fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => remove_all(path),
        removed => removed.doing(|| format!("removing {}", path.display())),
    }
}

/// Removes a directory and all in it, missing or not.
pub(crate) fn remove_all(dir: &Path) -> Result<()> {
    super::walk::remove(dir).doing(|| format!("removing {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_all_of_a_directory_but_hidden_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        // More than are read at once, and of all lengths.
        let mut expected: Vec<_> = (1..=250).map(|length| "x".repeat(length)).collect();
        expected.sort();
        for name in expected.iter().map(String::as_str).chain([".hidden", ".new"]) {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        assert_eq!(names_in(dir.path()), Ok(expected));
        assert_eq!(names_in(&dir.path().join("none")), Ok(Vec::new()));
        assert!(names_in(&dir.path().join("x")).is_err(), "a file is no directory");
    }
}
