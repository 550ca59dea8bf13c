//! Files and directories from one tree to another, either of which may be a
//! container's that changes it meanwhile.
//!
//! Everything is done by descriptors: a source is opened as a mere path, looked
//! at, and only then read; a target is a name in an open directory, and no link
//! is followed on the way down. So what a container puts in the place of
//! something else is at worst copied in its stead, or makes the copy fail, but
//! never leads out of its tree.
//!
//! ```text
//!   walk (source)      enter ─ files ─ before ─ enter ... after
//!                        │       │       │                  │
//!   Copier (target)   notes   creates  mkdir, down     mode, owner, up
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, setfsgid, setfsuid, symlinkat, unlinkat};

use super::files::{self, Refused};
use super::idmap::{self, IdMap, OVERFLOW};
use super::syscalls;
use super::walk::{self, OpenDir, Visitor};

const SET_IDS: u32 = 0o6000;

/// Whose copies are.
#[derive(Debug)]
pub(crate) enum Owner {
    /// The caller's: those of the process that creates them.
    Caller,
    /// These ids'.
    Ids(u32, u32),
    /// Of the same ids inside, source and target each by its maps: none is no map.
    Same { from: [Vec<IdMap>; 2], to: [Vec<IdMap>; 2] },
}

impl Owner {
    fn of(&self, stat: &FileStat) -> Option<(u32, u32)> {
        match self {
            Owner::Caller => None,
            Owner::Ids(uid, gid) => Some((*uid, *gid)),
            Owner::Same { from, to } => {
                let id = |id, from: &[IdMap], to: &[IdMap]| {
                    let inside = if from.is_empty() { id } else { idmap::inside(id, from).unwrap_or(OVERFLOW) };
                    idmap::on_machine(inside, to)
                };
                Some((id(stat.st_uid, &from[0], &to[0]), id(stat.st_gid, &from[1], &to[1])))
            }
        }
    }
}

/// Copies, and what has become of it.
#[derive(Debug)]
pub(crate) struct Copier {
    pub owner: Owner,
    /// Set-user-id and set-group-id bits are kept.
    pub keep_set_ids: bool,
    /// Where it is in the source, for errors.
    pub way: PathBuf,
    /// What is neither plain file, directory nor link, and what is the kernel's own.
    pub left_out: Vec<PathBuf>,
    /// Plain files and links.
    pub files: u64,
    /// Of plain files.
    pub bytes: u64,
}

impl Copier {
    pub(crate) fn new(owner: Owner, keep_set_ids: bool) -> Copier {
        Copier { owner, keep_set_ids, way: PathBuf::new(), left_out: Vec::new(), files: 0, bytes: 0 }
    }

    /// Copies what is in an open directory into another one, which gets its mode if
    /// it is new.
    pub(crate) fn contents(&mut self, from: OwnedFd, to: OwnedFd, is_new: bool) -> Result<()> {
        let to = OpenDir::at(to)?;
        let top = to.id();
        let mut tree = Tree { copier: self, to, top, above: Vec::new(), is_new: Vec::new() };
        walk::walk(OpenDir::at(from)?, &mut tree)?;
        if is_new && let Some(stat) = tree.above.pop() {
            tree.copier.finish(tree.to.as_fd(), &stat)?;
        }
        Ok(())
    }

    /// Makes a directory of that name, or finds it; whether it is new.
    pub(crate) fn make_dir(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
        // Until all is in it, the caller's alone.
        match as_owner_of(dir, || mkdirat(dir, name, Mode::S_IRWXU)) {
            Err(Errno::EEXIST) => Ok(false),
            made => Ok(made.map(|()| true)?),
        }
    }

    /// Copies a plain file, which is open, to a name.
    pub(crate) fn file(&mut self, from: File, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        self.write(from, create(dir, name)?)
    }

    /// Copies a plain file over one that is there and empty.
    pub(crate) fn write(&mut self, mut from: File, mut to: File) -> Result<()> {
        let stat = fstat(&from)?;
        self.bytes += std::io::copy(&mut from, &mut to)?;
        self.files += 1;
        self.finish(to.as_fd(), &stat)
    }

    fn link(&mut self, found: &OwnedFd, stat: &FileStat, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let target = readlinkat(found, "")?;
        let make = || as_owner_of(dir, || symlinkat(target.as_os_str(), dir, name));
        match make() {
            Err(Errno::EEXIST) => {
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
                make()?;
            }
            made => made?,
        }
        if let Some((uid, gid)) = self.owner.of(stat) {
            let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(dir, name, ids.0, ids.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        let (accessed, modified) = times(stat);
        utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?;
        self.files += 1;
        Ok(())
    }

    /// Owner, mode and times; in this order, for a change of owner takes bits away.
    fn finish(&self, to: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
        if let Some((uid, gid)) = self.owner.of(stat) {
            fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        let mode = stat.st_mode & 0o7777;
        let mode = if self.keep_set_ids { mode } else { mode & !SET_IDS };
        fchmod(to, Mode::from_bits_truncate(mode))?;
        let (accessed, modified) = times(stat);
        Ok(futimens(to, &accessed, &modified)?)
    }
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

/// A new file of that name, or the plain one that is there, emptied. A link or
/// the like that is there goes.
fn create(dir: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let make = || as_owner_of(dir, || openat(dir, name, new, Mode::S_IRUSR | Mode::S_IWUSR));
    match make() {
        Err(Errno::EEXIST) => {}
        made => return Ok(made?.into()),
    }
    let there = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    match SFlag::from_bits_truncate(fstat(&there)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => files::open_found_for_writing(there).map_err(refused),
        SFlag::S_IFDIR => Err(Errno::EISDIR.into()),
        _ => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            Ok(make()?.into())
        }
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Os(error) => error,
        Refused::Is(what) => Error::new(ErrorKind::InvalidInput, what),
    }
}

/// Creates something in a directory. On a mount whose ids are mapped to those of
/// another user namespace the caller may have no id (EOVERFLOW, mount_setattr(2)):
/// the directory's owner has one, and gives it away afterwards.
fn as_owner_of<T>(dir: BorrowedFd<'_>, create: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
    match create() {
        Err(Errno::EOVERFLOW) => {}
        created => return created,
    }
    let owner = fstat(dir)?;
    let was_dumpable = syscalls::dumpable() == 1;
    // Of this thread alone, but for whether the process is dumpable (proc_pid(5)).
    let (gid, uid) = (setfsgid(Gid::from_raw(owner.st_gid)), setfsuid(Uid::from_raw(owner.st_uid)));
    let _ids = FileIds { uid, gid, was_dumpable };
    create()
}

/// The ids that this thread creates files with, put back when dropped.
struct FileIds {
    uid: Uid,
    gid: Gid,
    was_dumpable: bool,
}

impl Drop for FileIds {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
        if self.was_dumpable {
            // Of these arguments none is refused.
            set_dumpable(true).ok();
        }
    }
}

/// A directory that is being copied.
struct Tree<'a> {
    copier: &'a mut Copier,
    /// Where it is in the target.
    to: OpenDir,
    /// The target's top: it is no part of what is copied.
    top: (u64, u64),
    /// What the directories on the way are, of the source.
    above: Vec<FileStat>,
    /// Whether they are new in the target, the top left out.
    is_new: Vec<bool>,
}

impl Visitor for Tree<'_> {
    fn enter(&mut self, dir: &OpenDir) -> Result<()> {
        if dir.id() == self.top {
            return Err(Error::new(ErrorKind::InvalidInput, "a directory cannot be copied into itself"));
        }
        self.above.push(fstat(dir)?);
        Ok(())
    }

    fn file(&mut self, dir: &OpenDir, name: &OsStr) -> Result<()> {
        self.copier.way.push(name);
        let found = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let found = match found {
            // Removed just now.
            Err(Errno::ENOENT) => return self.leave(),
            found => found?,
        };
        let stat = fstat(&found)?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFLNK => self.copier.link(&found, &stat, self.to.as_fd(), name)?,
            _ => match files::open_found(found) {
                Ok((file, _)) => self.copier.file(file, self.to.as_fd(), name)?,
                Err(Refused::Is(_)) => self.copier.left_out.push(self.copier.way.clone()),
                Err(Refused::Os(error)) => return Err(error),
            },
        }
        self.leave()
    }

    fn before(&mut self, dir: &OpenDir, name: &OsStr) -> Result<bool> {
        self.copier.way.push(name);
        if is_kernels(dir, name) {
            self.copier.left_out.push(self.copier.way.clone());
            self.copier.way.pop();
            return Ok(false);
        }
        self.is_new.push(self.copier.make_dir(self.to.as_fd(), name)?);
        self.to.down(name)?;
        Ok(true)
    }

    fn after(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
        // One that was there stays as it is.
        if let (Some(stat), Some(true)) = (self.above.pop(), self.is_new.pop()) {
            self.copier.finish(self.to.as_fd(), &stat)?;
        }
        self.to.up()?;
        self.leave()
    }

    fn cannot_enter(&mut self, _: &OpenDir, _: &OsStr, why: Error) -> Result<()> {
        match why.raw_os_error() {
            // Removed just now: an empty directory stands for it.
            Some(libc::ENOENT) => {
                self.is_new.pop();
                self.to.up()?;
                self.leave()
            }
            _ => Err(why),
        }
    }
}

impl Tree<'_> {
    fn leave(&mut self) -> Result<()> {
        self.copier.way.pop();
        Ok(())
    }
}

/// Whether a file system of the kernel's is mounted there, as `/proc` is.
fn is_kernels(dir: &OpenDir, name: &OsStr) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let is_other = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_dev != dir.id().0);
    is_other && openat(dir, name, flags, Mode::empty()).is_ok_and(|found| files::is_kernels(&found))
}

/// A directory to be walked through, from a mere path.
pub(crate) fn readable(dir: &impl AsFd) -> nix::Result<OwnedFd> {
    openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// A path of this machine as a mere path.
pub(crate) fn open_here(path: &std::path::Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn copy(from: &Path, to: &Path) -> Result<Copier> {
        let mut copier = Copier::new(Owner::Caller, false);
        let dir = |path: &Path| readable(&open_here(path)?);
        copier.contents(dir(from)?, dir(to)?, false).map(|()| copier)
    }

    #[test]
    fn a_tree_is_copied_as_it_is_and_no_link_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to, outside) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
        for made in [&from.join("a/b"), &from.join("a/new"), &to, &outside] {
            fs::create_dir_all(made).expect("a directory");
        }
        fs::write(outside.join("kept"), "kept").expect("a file");
        fs::write(from.join("a/b/file"), "text").expect("a file");
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o4751)).expect("its mode");
        for made in ["a/b", "a/new"] {
            fs::set_permissions(from.join(made), fs::Permissions::from_mode(0o711)).expect("its mode");
        }
        symlink("/nowhere", from.join("a/link")).expect("a link");
        nix::unistd::mkfifo(&from.join("a/pipe"), Mode::S_IRWXU).expect("a pipe");
        // What is there already: a link where a file comes, a file where a file comes.
        fs::create_dir(to.join("a")).expect("a directory");
        fs::create_dir(to.join("a/b")).expect("a directory");
        symlink(outside.join("kept"), to.join("a/b/file")).expect("a link");
        let copier = copy(&from, &to).expect("a copy");
        assert_eq!((copier.files, copier.bytes, copier.left_out), (2, 4, vec![PathBuf::from("a/pipe")]));
        assert_eq!(fs::read_to_string(to.join("a/b/file")).expect("a file"), "text");
        assert_eq!(fs::read_to_string(outside.join("kept")).expect("a file"), "kept");
        let mode = |path: &str| fs::symlink_metadata(to.join(path)).expect(path).permissions().mode() & 0o7777;
        assert_eq!((mode("a/b/file"), mode("a/new")), (0o751, 0o711));
        assert_ne!(mode("a/b"), 0o711, "what was there stays");
        assert_eq!(fs::read_link(to.join("a/link")).expect("a link"), Path::new("/nowhere"));
        // Once more, over what is there now.
        assert_eq!(copy(&from, &to).expect("a copy").files, 2);
        // A link where a directory comes leads nowhere.
        fs::remove_dir_all(to.join("a/b")).expect("removed");
        symlink(&outside, to.join("a/b")).expect("a link");
        let error = copy(&from, &to).expect_err("a link").raw_os_error();
        assert!(matches!(error, Some(libc::ENOTDIR | libc::ELOOP)), "{error:?}");
        assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 1);
    }

    #[test]
    fn a_directory_is_not_copied_into_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("into")).expect("a directory");
        let error = copy(dir.path(), &dir.path().join("into")).expect_err("for ever");
        assert!(error.to_string().contains("into itself"), "{error}");
    }

    #[test]
    fn owners_are_those_inside() {
        let map =
            |outside| [vec![IdMap { inside: 0, outside, count: 10 }], vec![IdMap { inside: 0, outside, count: 10 }]];
        let mut stat = fstat(File::open("/").expect("the root")).expect("its state");
        (stat.st_uid, stat.st_gid) = (1003, 1004);
        let none = || [Vec::new(), Vec::new()];
        assert_eq!(Owner::Same { from: map(1000), to: none() }.of(&stat), Some((3, 4)));
        assert_eq!(Owner::Same { from: map(1000), to: map(2000) }.of(&stat), Some((2003, 2004)));
        (stat.st_uid, stat.st_gid) = (3, 77);
        // Ids that are not inside are nobody's.
        assert_eq!(Owner::Same { from: map(1000), to: none() }.of(&stat), Some((OVERFLOW, OVERFLOW)));
        assert_eq!(Owner::Caller.of(&stat), None);
    }
}
