//! Files into a container, out of it, and from one to another.
//!
//! A container that runs is reached by its root directory, with all that is
//! mounted there, as its main process sees it; one that does not by the directory
//! that is its root, if it is one as it stands. Paths are resolved in it by the
//! kernel (`RESOLVE_IN_ROOT`, openat2(2)), and from there on everything is done by
//! descriptors (`kernel/copy.rs`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::container::Container;
use crate::error::{Context, Error, Result};
use crate::kernel::copy::{Copier, Owner, open_here, readable};
use crate::kernel::idmap::{IdMap, on_machine, parse_map};
use crate::kernel::{files, probe, procfs};
use crate::spec::users::Users;

/// How files are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Owners stay: the same ids inside. Else what comes into a container is its
    /// root's, and what comes out of it the caller's, without set-user-id and
    /// set-group-id bits.
    pub keep_owners: bool,
}

impl CopyOptions {
    /// Owners stay.
    pub fn keep_owners(mut self, keep: bool) -> CopyOptions {
        self.keep_owners = keep;
        self
    }
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Plain files and symbolic links.
    pub files: u64,
    /// Bytes of plain files.
    pub bytes: u64,
    /// Paths that were not, below the one that was asked for, the shortest first: devices, sockets, named pipes,
    /// and files of the kernel's.
    pub left_out: Vec<PathBuf>,
}

impl Container<'_> {
    /// Copies a file or directory of this machine into it, as cp(1) does with `-r`: into
    /// `target` if that is a directory, else to that name. A `source` that ends in `/.`
    /// stands for what is in it. A link that `source` or `target` names is followed;
    /// one in a directory is copied as it is. Modes and times of change stay. A path of a
    /// container begins at its root, with a slash or without.
    ///
    /// Nothing of it is undone where it fails. Where ids are mapped on a mount of the
    /// container (mount_setattr(2)) files are created with ids of this thread's that
    /// exist there, and for that moment this program cannot be traced.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run and its root is not one directory;
    /// [`Error::Os`], naming the path.
    pub fn copy_in(&self, source: &Path, target: &Path, options: &CopyOptions) -> Result<Copied> {
        copy((&Side::machine(), source), (&self.now(|it| it.side(true))?, target), options)
    }

    /// Copies a file or directory of it to this machine, in the way of
    /// [`copy_in`](Container::copy_in).
    ///
    /// # Errors
    /// As [`copy_in`](Container::copy_in).
    pub fn copy_out(&self, source: &Path, target: &Path, options: &CopyOptions) -> Result<Copied> {
        copy((&self.now(|it| it.side(false))?, source), (&Side::machine(), target), options)
    }

    /// Copies a file or directory of it to another container, in the way of
    /// [`copy_in`](Container::copy_in).
    ///
    /// # Errors
    /// As [`copy_in`](Container::copy_in).
    pub fn copy_to(
        &self,
        source: &Path,
        other: &Container<'_>,
        target: &Path,
        options: &CopyOptions,
    ) -> Result<Copied> {
        copy((&self.now(|it| it.side(false))?, source), (&other.now(|it| it.side(true))?, target), options)
    }

    fn side(&self, is_target: bool) -> Result<Side> {
        let record = self.record()?;
        let main = match self.main_of(&record) {
            Err(Error::State { .. }) => None,
            main => Some(main?.process),
        };
        if let Some(main) = main {
            let users = |pid| procfs::namespace_inode(pid, "user");
            let maps = match users(main.pid)? == users(std::process::id())? {
                true => Default::default(),
                false => [procfs::text_of(main.pid, "uid_map")?, procfs::text_of(main.pid, "gid_map")?]
                    .map(|map| parse_map(&map)),
            };
            let root = procfs::root_of(main)?.ok_or_else(|| Error::state(self.object(), "has ended just now"))?;
            return Ok(Side { object: self.object(), root: Some(root), maps });
        }
        let refuse = |why: &str| Error::state(self.object(), format!("does not run, and {why}: start it first"));
        let Some(dir) = record.container.root.dir() else {
            return Err(refuse("its root is an overlay that is only there while it does"));
        };
        if is_target && record.container.read_only {
            return Err(refuse("its root is read-only but for what is mounted then"));
        }
        let users = &self.pod.record.users;
        if is_target && self.pod.facts.uid == 0 && *users != Users::Caller {
            return Err(refuse("its user ids are only known to the kernel while it does"));
        }
        let maps = [users.uids().to_vec(), users.gids().to_vec()];
        let root = open_here(dir).doing(|| format!("opening {}", dir.display()))?;
        Ok(Side { object: self.object(), root: Some(root), maps })
    }
}

/// One of the two ends of a copy.
#[derive(Debug)]
struct Side {
    /// What it is, for errors.
    object: String,
    /// Out of which nothing leads; `None`: this machine, as it is.
    root: Option<OwnedFd>,
    /// User and group ids; none is no map.
    maps: [Vec<IdMap>; 2],
}

impl Side {
    fn machine() -> Side {
        Side { object: "this machine".into(), root: None, maps: Default::default() }
    }

    /// A mere path to what is there, links followed.
    fn open(&self, path: &Path) -> nix::Result<OwnedFd> {
        match &self.root {
            Some(root) => probe::open_in_root(root.as_fd(), path, OFlag::O_PATH),
            None => open_here(path),
        }
    }

    fn doing<'a>(&'a self, what: &'a str, path: &'a Path) -> impl Fn() -> String + 'a {
        move || format!("{what} {} of {}", path.display(), self.object)
    }

    /// The directory in which a target is to be that is not there yet, and its name.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or_else(|| {
            Error::invalid("target", path.to_string_lossy(), "there is no such directory: make it first")
        })?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = self.open(above).doing(self.doing("opening", above))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&dir, name, flags, Mode::empty()) {
            // Followed, it is not there.
            Ok(_) => Err(Error::invalid("target", path.to_string_lossy(), "a symbolic link that leads nowhere")),
            Err(_) => Ok((dir, name.into())),
        }
    }
}

/// Whether a path says that it is a directory, `dir/`, or means what is in it, `dir/.`.
fn ends_with(path: &Path, end: &[u8]) -> bool {
    path.as_os_str().as_bytes().ends_with(end)
}

fn is_dir(found: &OwnedFd) -> nix::Result<bool> {
    Ok(fstat(found)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn copy((from, source): (&Side, &Path), (to, target): (&Side, &Path), options: &CopyOptions) -> Result<Copied> {
    let owner = match (options.keep_owners, &to.root) {
        (true, _) => Owner::Same { from: from.maps.clone(), to: to.maps.clone() },
        (false, Some(_)) => Owner::Ids(on_machine(0, &to.maps[0]), on_machine(0, &to.maps[1])),
        (false, None) => Owner::Caller,
    };
    let mut copier = Copier::new(owner, options.keep_owners || to.root.is_some());
    let found = from.open(source).doing(from.doing("opening", source))?;
    let context = from.doing("copying", source);
    match is_dir(&found).doing(&context)? {
        true => copy_dir(&mut copier, found, (from, source), (to, target))?,
        false => copy_file(&mut copier, found, (from, source), (to, target))?,
    }
    // What is mounted at the top before what is deep in it.
    copier.left_out.sort_by_key(|path| (path.components().count(), path.clone()));
    Ok(Copied { files: copier.files, bytes: copier.bytes, left_out: copier.left_out })
}

fn copy_file(
    copier: &mut Copier,
    found: OwnedFd,
    (from, source): (&Side, &Path),
    (to, target): (&Side, &Path),
) -> Result<()> {
    let opened = files::open_found(found);
    let (file, _): (File, _) =
        opened.map_err(|refused| refused.explain("source", source, from.doing("opening", source)))?;
    let context = to.doing("writing", target);
    let (dir, name) = match to.open(target) {
        Ok(there) if is_dir(&there).doing(&context)? => (there, name_of(source)?),
        Ok(_) if ends_with(target, b"/") => return Err(Errno::ENOTDIR).doing(context),
        Ok(there) => {
            let there = files::open_found_for_writing(there);
            let there = there.map_err(|refused| refused.explain("target", target, &context))?;
            return copier.write(file, there).doing(context);
        }
        Err(Errno::ENOENT) if !ends_with(target, b"/") => to.parent(target)?,
        Err(errno) => return Err(errno).doing(context),
    };
    copier.file(file, dir.as_fd(), &name).doing(context)
}

fn copy_dir(
    copier: &mut Copier,
    found: OwnedFd,
    (from, source): (&Side, &Path),
    (to, target): (&Side, &Path),
) -> Result<()> {
    let context = to.doing("writing", target);
    let is_contents = ends_with(source, b"/.") || source == Path::new(".") || source.file_name().is_none();
    let (into, is_new) = match to.open(target) {
        Ok(there) if !is_dir(&there).doing(&context)? => return Err(Errno::ENOTDIR).doing(context),
        Ok(there) if is_contents => (there, false),
        Ok(there) => make(copier, &there, &name_of(source)?).doing(&context)?,
        Err(Errno::ENOENT) => {
            let (dir, name) = to.parent(target)?;
            make(copier, &dir, &name).doing(&context)?
        }
        Err(errno) => return Err(errno).doing(context),
    };
    let readable = |dir: &OwnedFd| readable(dir);
    let (top, into) = (readable(&found).doing(from.doing("reading", source))?, readable(&into).doing(&context)?);
    let copied = copier.contents(top, into, is_new);
    let way = copier.way.clone();
    copied.doing(|| {
        format!("copying {} of {} to {} of {}", source.join(way).display(), from.object, target.display(), to.object)
    })
}

/// A directory in another one, and whether it is new.
fn make(copier: &Copier, dir: &OwnedFd, name: &OsStr) -> std::io::Result<(OwnedFd, bool)> {
    let is_new = copier.make_dir(dir.as_fd(), name)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok((openat(dir, name, flags, Mode::empty())?, is_new))
}

fn name_of(source: &Path) -> Result<OsString> {
    let none = || Error::invalid("source", source.to_string_lossy(), "it has no name: say which one it gets");
    source.file_name().map(OsString::from).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A container's root, whose root is this user.
    fn inside(dir: &Path) -> Side {
        let map = |own| vec![IdMap { inside: 0, outside: own, count: 1 }];
        let own = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
        Side { object: "c".into(), root: Some(open_here(dir).expect("a root")), maps: own.map(map) }
    }

    fn bed() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, here) = (dir.path().join("root"), dir.path().join("here"));
        for path in [&root.join("tmp"), &root.join("full"), &here.join("tree/sub")] {
            fs::create_dir_all(path).expect("a directory");
        }
        fs::write(here.join("tree/file"), "file").expect("a file");
        fs::write(root.join("full/file"), "longer than that").expect("a file");
        (dir, root, here)
    }

    #[test]
    fn a_copy_is_where_cp_would_make_it() {
        for (source, target, made) in [
            ("tree/file", "/tmp", Some("tmp/file")),
            ("tree/file", "tmp/", Some("tmp/file")),
            ("tree/file", "/tmp/name", Some("tmp/name")),
            ("tree/file", "/full/file", Some("full/file")),
            ("tree", "/tmp", Some("tmp/tree/file")),
            ("tree", "/new", Some("new/file")),
            ("tree", "/new/", Some("new/file")),
            ("tree/.", "/full", Some("full/file")),
            ("tree/.", "/new", Some("new/file")),
            ("tree/sub/..", "/full", Some("full/file")),
            ("tree/file", "/none/name", None),
            ("tree/file", "/none/", None),
            ("tree/file", "/full/file/", None),
            ("tree", "/full/file", None),
            ("none", "/tmp", None),
        ] {
            let (_dir, root, here) = bed();
            let copied = copy(
                (&Side::machine(), &here.join(source)),
                (&inside(&root), Path::new(target)),
                &CopyOptions::default(),
            );
            match made {
                Some(made) => {
                    assert_eq!(copied.map(|copied| copied.files), Ok(1), "{source} {target}");
                    assert_eq!(fs::read_to_string(root.join(made)).expect(target), "file", "{source} {target}");
                }
                None => assert!(matches!(copied, Err(Error::Os { .. })), "{source} {target}: {copied:?}"),
            }
        }
    }

    #[test]
    fn links_lead_where_they_do_inside() {
        let (_dir, root, here) = bed();
        fs::write(here.join("secret"), "secret").expect("a file");
        symlink(here.join("secret"), root.join("tmp/link")).expect("a link");
        symlink("/full", root.join("tmp/full")).expect("a link");
        let out = |path: &str| {
            let (from, to) = (inside(&root), here.join("out"));
            copy((&from, Path::new(path)), (&Side::machine(), &to), &CopyOptions::default())?;
            fs::read_to_string(&to).doing(|| path.into())
        };
        assert_eq!(out("/tmp/full/file").as_deref(), Ok("longer than that"));
        assert_eq!(out("/../../tmp/full/file").as_deref(), Ok("longer than that"));
        assert!(out("/tmp/link").is_err() && out(&format!("/../..{}", here.join("secret").display())).is_err());
        let target = (&inside(&root), Path::new("/tmp/link"));
        copy((&Side::machine(), &here.join("tree/file")), target, &CopyOptions::default())
            .expect_err("it is not there");
        assert_eq!(fs::read_to_string(here.join("secret")).expect("a file"), "secret");
    }
}
