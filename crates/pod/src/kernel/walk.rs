//! Trees of directories that a container made.
//!
//! A container decides how deep its directories are and how long their names:
//! deeper than any number of descriptors, longer than any path, more levels
//! than a stack has room for. So a walk takes none of these: it goes down by a
//! name from the directory it is in, and up again by `..`, with one descriptor
//! for where it is and a few words of memory a level.
//!
//! The tree may be changed meanwhile. Links are never followed, and what `..`
//! leads to must be the directory that the walk came from: a directory that was
//! moved away does not take the walk along.

use std::ffi::{OsStr, OsString};
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Device and inode.
type Id = (u64, u64);

/// A directory of a tree.
#[derive(Debug)]
pub(crate) struct OpenDir {
    here: OwnedFd,
    id: Id,
    /// The directories above, up to the one where it began.
    above: Vec<Id>,
    /// What is mounted in the tree is no part of it.
    one_mount: bool,
}

impl OpenDir {
    /// The directory at `path`, which is no link.
    pub(crate) fn open(path: &Path) -> Result<OpenDir> {
        OpenDir::at(openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?)
    }

    /// An open directory.
    pub(crate) fn at(here: OwnedFd) -> Result<OpenDir> {
        let id = id(&here)?;
        Ok(OpenDir { here, id, above: Vec::new(), one_mount: false })
    }

    /// Its inode.
    pub(crate) fn inode(&self) -> u64 {
        self.id.1
    }

    /// Its device and inode.
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Goes to a directory in this one.
    pub(crate) fn down(&mut self, name: &OsStr) -> Result<()> {
        let below = self.open_directory(name)?;
        let id = id(&below)?;
        self.here = below;
        self.above.push(std::mem::replace(&mut self.id, id));
        Ok(())
    }

    /// Goes back to where it came from.
    ///
    /// # Errors
    /// ESTALE if this directory has been moved elsewhere.
    pub(crate) fn up(&mut self) -> Result<()> {
        let above = self.open_directory(OsStr::new(".."))?;
        if self.above.last() != Some(&id(&above)?) {
            return Err(Errno::ESTALE.into());
        }
        self.here = above;
        self.id = self.above.pop().unwrap_or(self.id);
        Ok(())
    }

    fn open_directory(&self, name: &OsStr) -> nix::Result<OwnedFd> {
        if self.one_mount {
            let how = OpenHow::new().flags(DIRECTORY).resolve(ResolveFlag::RESOLVE_NO_XDEV);
            match openat2(&self.here, name, how) {
                Err(Errno::ENOSYS | Errno::EPERM) => {}
                opened => return opened,
            }
        }
        openat(&self.here, name, DIRECTORY, Mode::empty())
    }
}

impl AsFd for OpenDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }
}

fn id(dir: &OwnedFd) -> Result<Id> {
    let stat = fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What is done on a walk. Everything is named from the directory it is in.
pub(crate) trait Visitor {
    /// A directory, the top included, before anything in it.
    fn enter(&mut self, _dir: &OpenDir) -> Result<()> {
        Ok(())
    }

    /// What is no directory.
    fn file(&mut self, dir: &OpenDir, name: &OsStr) -> Result<()>;

    /// A directory that is about to be entered; false if it need not be.
    fn before(&mut self, _dir: &OpenDir, _name: &OsStr) -> Result<bool> {
        Ok(true)
    }

    /// A directory that was entered, once all in it has been visited.
    fn after(&mut self, _dir: &OpenDir, _name: &OsStr) -> Result<()> {
        Ok(())
    }

    /// What is a directory no more, or cannot be opened.
    fn cannot_enter(&mut self, _dir: &OpenDir, _name: &OsStr, why: Error) -> Result<()> {
        Err(why)
    }
}

/// Visits everything below a directory: in each of them the files first.
pub(crate) fn walk(top: OpenDir, visitor: &mut impl Visitor) -> Result<()> {
    let mut here = top;
    // Of each directory on the way: its name, and what is left to be visited.
    let mut way = vec![(OsString::new(), look(&here, visitor)?)];
    while let Some((_, left)) = way.last_mut() {
        if let Some(name) = left.pop() {
            if !visitor.before(&here, &name)? {
                continue;
            }
            match here.down(&name) {
                Ok(()) => way.push((name, look(&here, visitor)?)),
                Err(error) => visitor.cannot_enter(&here, &name, error)?,
            }
            continue;
        }
        match way.pop() {
            Some((name, _)) if !way.is_empty() => {
                here.up()?;
                visitor.after(&here, &name)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Visits a directory's files, and comes back with the directories in it.
fn look(dir: &OpenDir, visitor: &mut impl Visitor) -> Result<Vec<OsString>> {
    visitor.enter(dir)?;
    let mut below = Vec::new();
    let mut entries = match Dir::openat(dir, ".", DIRECTORY, Mode::empty()) {
        // Removed just now.
        Err(Errno::ENOENT) => return Ok(below),
        entries => entries?,
    };
    for entry in entries.iter() {
        let entry = match entry {
            Err(Errno::ENOENT) => break,
            entry => entry?,
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match entry.file_type().map_or_else(|| is_directory(dir, name), |kind| kind == Type::Directory) {
            true => below.push(name.to_os_string()),
            false => visitor.file(dir, name)?,
        }
    }
    Ok(below)
}

/// For file systems whose directories do not tell.
fn is_directory(dir: &OpenDir, name: &OsStr) -> bool {
    let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Removes whatever is at `path`, with all that is in it; nothing is as good.
///
/// # Errors
/// EXDEV if something is mounted in there: that is not ours to remove.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let remove = |how| unless_gone(unlinkat(AT_FDCWD, path, how));
    match remove(UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTDIR) => return Ok(remove(UnlinkatFlags::NoRemoveDir)?),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        removed => return Ok(removed?),
    }
    let top = match OpenDir::open(path) {
        // Another podlet command was faster.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        top => OpenDir { one_mount: true, ..top? },
    };
    let device = top.id.0;
    walk(top, &mut Remover { device })?;
    Ok(remove(UnlinkatFlags::RemoveDir)?)
}

struct Remover {
    device: u64,
}

impl Visitor for Remover {
    /// Many are empty.
    fn before(&mut self, dir: &OpenDir, name: &OsStr) -> Result<bool> {
        // What keeps it from going is found inside.
        Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir).is_err())
    }

    fn enter(&mut self, dir: &OpenDir) -> Result<()> {
        // For kernels and sandboxes without openat2(2).
        if dir.id.0 == self.device { Ok(()) } else { Err(Errno::EXDEV.into()) }
    }

    fn file(&mut self, dir: &OpenDir, name: &OsStr) -> Result<()> {
        Ok(unless_gone(unlinkat(dir, name, UnlinkatFlags::NoRemoveDir))?)
    }

    fn after(&mut self, dir: &OpenDir, name: &OsStr) -> Result<()> {
        Ok(unless_gone(unlinkat(dir, name, UnlinkatFlags::RemoveDir))?)
    }

    fn cannot_enter(&mut self, dir: &OpenDir, name: &OsStr, why: Error) -> Result<()> {
        match why.raw_os_error() {
            Some(libc::ENOENT) => Ok(()),
            Some(libc::ENOTDIR | libc::ELOOP) => self.file(dir, name),
            _ => Err(why),
        }
    }
}

fn unless_gone(result: nix::Result<()>) -> nix::Result<()> {
    if result == Err(Errno::ENOENT) { Ok(()) } else { result }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).expect("a directory");
        fs::write(kept.join("file"), "").expect("a file");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("directories");
        symlink(&kept, tree.join("a/b/link")).expect("a link");
        symlink(&kept, tree.join("link")).expect("a link");
        remove(&tree).expect("removed");
        assert!(!tree.exists() && kept.join("file").exists());
        symlink(&kept, &tree).expect("a link");
        remove(&tree).expect("removed");
        assert!(tree.symlink_metadata().is_err() && kept.join("file").exists());
        remove(&tree).expect("nothing is as good");
    }

    #[test]
    fn a_directory_that_moves_does_not_take_the_walk_along() {
        struct Mover<'a>(&'a Path);
        impl Visitor for Mover<'_> {
            fn file(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
                fs::rename(self.0.join("tree/a/b"), self.0.join("elsewhere"))
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("tree/a/b")).expect("directories");
        fs::write(dir.path().join("tree/a/b/file"), "").expect("a file");
        let tree = OpenDir::open(&dir.path().join("tree")).expect("a directory");
        let error = walk(tree, &mut Mover(dir.path())).expect_err("it moved");
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    }
}
