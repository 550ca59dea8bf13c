//! Cgroups below a cgroup, which a container makes as it likes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, Read, Result};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{self, OpenDir, Visitor};
use crate::error::Context;

/// All processes of a cgroup and of those below, as this process sees them: a
/// container may have cgroups of its own, as deep and with as long names as it
/// likes.
///
/// # Errors
/// [`Error::Os`](crate::Error::Os) if the kernel does not tell, which is not
/// "none".
pub(crate) fn all_processes(dir: &Path) -> crate::Result<Vec<u32>> {
    let mut found = Members(Vec::new());
    visit(dir, &mut found).doing(|| format!("looking for the processes of {}", dir.display()))?;
    Ok(found.0)
}

/// The cgroup of this number, as long as it is there.
///
/// # Errors
/// As [`all_processes`].
pub(crate) fn find(number: u64) -> crate::Result<Option<PathBuf>> {
    let Some(top) = hierarchy() else { return Ok(None) };
    let mut finder = Finder { number, way: vec![top.clone()], found: None };
    visit(&top, &mut finder).doing(|| "looking for a cgroup by its number".into())?;
    Ok(finder.found)
}

fn visit(dir: &Path, visitor: &mut impl Visitor) -> Result<()> {
    match OpenDir::open(dir) {
        Err(error) if is_gone(&error) => Ok(()),
        top => walk::walk(top?, visitor),
    }
}

/// Of a cgroup that goes meanwhile, which has no processes; of a threaded one,
/// whose processes are its parent's; and of one that its owner has closed, which
/// must not hide the others.
fn passes_by(error: &Error) -> bool {
    is_gone(error) || matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EACCES))
}

fn unless_passed_by(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if passes_by(&error) => Ok(()),
        result => result,
    }
}

/// Collects processes.
struct Members(Vec<u32>);

impl Visitor for Members {
    fn enter(&mut self, dir: &OpenDir) -> Result<()> {
        let mut text = String::new();
        let procs = openat(dir, "cgroup.procs", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let read = procs.map_err(Error::from).and_then(|procs| File::from(procs).read_to_string(&mut text));
        self.0.extend(parse_pids(&text));
        unless_passed_by(read.map(drop))
    }

    fn file(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
        Ok(())
    }

    fn cannot_enter(&mut self, _: &OpenDir, _: &OsStr, why: Error) -> Result<()> {
        unless_passed_by(Err(why))
    }
}

/// Looks for a cgroup by its number.
struct Finder {
    number: u64,
    way: Vec<PathBuf>,
    found: Option<PathBuf>,
}

impl Visitor for Finder {
    fn enter(&mut self, dir: &OpenDir) -> Result<()> {
        if dir.inode() == self.number {
            self.found = Some(self.way.iter().collect());
        }
        Ok(())
    }

    fn file(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
        Ok(())
    }

    fn before(&mut self, _: &OpenDir, name: &OsStr) -> Result<bool> {
        if self.found.is_some() {
            return Ok(false);
        }
        self.way.push(name.into());
        Ok(true)
    }

    fn after(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
        self.way.pop();
        Ok(())
    }

    fn cannot_enter(&mut self, _: &OpenDir, _: &OsStr, why: Error) -> Result<()> {
        self.way.pop();
        unless_passed_by(Err(why))
    }
}

/// Removes a cgroup without processes, with all below.
pub(crate) fn remove_empty(dir: &Path) -> Result<()> {
    match OpenDir::open(dir).and_then(|top| walk::walk(top, &mut Remover)) {
        Err(error) if !is_gone(&error) => return Err(error),
        _ => {}
    }
    remove_when_left(AT_FDCWD, dir.as_os_str())
}

/// Removes empty cgroups, the inner ones first.
struct Remover;

impl Visitor for Remover {
    /// The kernel's own files go with it.
    fn file(&mut self, _: &OpenDir, _: &OsStr) -> Result<()> {
        Ok(())
    }

    /// Most have none below.
    fn before(&mut self, dir: &OpenDir, name: &OsStr) -> Result<bool> {
        Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir).is_err())
    }

    fn after(&mut self, dir: &OpenDir, name: &OsStr) -> Result<()> {
        remove_when_left(dir, name)
    }

    fn cannot_enter(&mut self, _: &OpenDir, _: &OsStr, why: Error) -> Result<()> {
        if is_gone(&why) { Ok(()) } else { Err(why) }
    }
}

fn remove_when_left(dir: impl AsFd, name: &OsStr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match unlinkat(&dir, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            // A killed process leaves a moment after `populated` says so.
            Err(Errno::EBUSY) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The mount point of the v2 hierarchy.
pub(crate) fn hierarchy() -> Option<PathBuf> {
    let candidates = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    candidates.into_iter().find(|path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC))
}

pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

pub(crate) fn parse_pids(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failed_look_at_a_cgroup_is_not_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("below");
        fs::create_dir(&below).expect("a directory");
        fs::write(dir.path().join("cgroup.procs"), "7\n0\n").expect("a file");
        assert_eq!(all_processes(dir.path()), Ok(vec![7]));
        assert_eq!(all_processes(&dir.path().join("gone")), Ok(Vec::new()));
        // It can be opened and not be read.
        fs::create_dir(below.join("cgroup.procs")).expect("a directory");
        assert!(all_processes(dir.path()).is_err());
    }
}
