//! What the mounts of a container need and a plan cannot make: user
//! namespaces whose maps somebody else has to write, and a tmpfs filled with
//! files, which is more than a list of system calls.
//!
//! Both are made by the library before anything of the container is born, and
//! handed over as descriptors.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use super::root_files::RootFiles;
use crate::error::{Context, Result};
use crate::kernel::idmap::{self, IdMap, show_maps};
use crate::kernel::walk::{self, OpenDir, Visitor};
use crate::kernel::{files, mount_api, probe};
use crate::launch::run_plan::{LaunchRequest, only_maps, run_plan, seal};
use crate::plan::input::Policy;
use crate::plan::mounts::flags::tmpfs_attributes;
use crate::plan::mounts::fresh::file_system_options;
use crate::plan::{Given, userns};
use crate::spec::{Mount, MountIds, MountKind};

/// A user namespace with these maps, which lives as long as its descriptor.
pub(crate) fn user_namespace(ids: &MountIds, program_dirs: &[PathBuf]) -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "opening /dev/null".into())?;
    let write_maps = |pid: u32| {
        for (name, maps) in [("uid_map", &ids.uids), ("gid_map", &ids.gids)] {
            let path = format!("/proc/{pid}/{name}");
            fs::write(&path, show_maps(maps)).doing(|| format!("mapping the ids of a mount: writing {path}"))?;
        }
        Ok(())
    };
    let streams = [Given::Stdin, Given::Stdout, Given::Stderr].map(|given| (given, null.as_fd()));
    let plan = userns::plan();
    let request = LaunchRequest {
        object: "the user namespace of a mount",
        title: c"podlet:ids",
        sealed: seal(&plan)?,
        fds: &streams,
        handed_over: Vec::new(),
        cgroup: None,
        note: None,
        answer: &only_maps(write_maps),
        program_dirs,
        cancel: None,
    };
    Ok(run_plan(&plan, request)?.pidfd)
}

/// Where a mount on `target` goes, if symbolic links of the image at `root`
/// lead to what is not there yet: the place they mean, which can be made. An
/// image may have `/etc/resolv.conf` as a link to what only runs later.
///
/// Whatever comes out is found again below the root, with links that lead out
/// of it refused, when the mount is made.
pub(crate) fn behind_links(root: &RootFiles, earlier: &[Mount], target: &Path) -> Option<PathBuf> {
    const MOST: usize = 40;
    let mut left: Vec<PathBuf> = parts(target).collect();
    left.reverse();
    let mut place = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            place.pop();
            continue;
        }
        let Some(link) = seen(earlier, &place.join(&part)).and_then(|seen| seen.read_link(root)) else {
            place.push(part);
            continue;
        };
        links += 1;
        if links > MOST {
            return None;
        }
        if link.is_absolute() {
            place = PathBuf::new();
        }
        left.extend(parts(&link).collect::<Vec<_>>().into_iter().rev());
    }
    let is_there = seen(earlier, &place).is_some_and(|seen| seen.is_there(root));
    (links > 0 && !is_there).then(|| Path::new("/").join(place))
}

/// What the container sees at a place once what comes earlier is mounted.
enum Seen {
    /// What its root has there.
    InRoot(PathBuf),
    /// What the machine has there.
    Outside(PathBuf),
}

impl Seen {
    fn read_link(&self, root: &RootFiles) -> Option<PathBuf> {
        match self {
            Seen::InRoot(place) => root.read_link(place),
            Seen::Outside(path) => fs::read_link(path).ok(),
        }
    }

    fn is_there(&self, root: &RootFiles) -> bool {
        match self {
            Seen::InRoot(place) => root.has(place),
            Seen::Outside(path) => fs::symlink_metadata(path).is_ok(),
        }
    }
}

/// `None` if that is a file system that is still empty.
fn seen(earlier: &[Mount], place: &Path) -> Option<Seen> {
    let absolute = Path::new("/").join(place);
    let covering = earlier.iter().rev().find_map(|mount| {
        let below = absolute.strip_prefix(&mount.target).ok()?;
        (below != Path::new("") && !matches!(mount.kind, MountKind::Remount { .. })).then_some((mount, below))
    });
    match covering {
        None => Some(Seen::InRoot(place.into())),
        Some((mount, below)) => match &mount.kind {
            MountKind::Bind { source, .. } => Some(Seen::Outside(source.join(below))),
            _ => None,
        },
    }
}

fn parts(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| PathBuf::from(part.as_os_str()))
}

/// Who files belong to in the copy.
#[derive(Clone, Copy)]
pub(crate) enum Owners<'a> {
    /// As in the image.
    Same,
    /// Ids of the image are those inside; the copy has them as outside.
    Mapped(&'a [IdMap], &'a [IdMap]),
}

impl Owners<'_> {
    fn of(self, file: &Metadata) -> (u32, u32) {
        let outside = |maps: &[IdMap], id: u32| idmap::outside(id, maps).unwrap_or(idmap::OVERFLOW);
        match self {
            Owners::Same => (file.uid(), file.gid()),
            Owners::Mapped(uids, gids) => (outside(uids, file.uid()), outside(gids, file.gid())),
        }
    }
}

/// A detached tmpfs with a copy of what the image at `root` has in the place
/// where it will be mounted.
pub(crate) fn copied_up(root: BorrowedFd<'_>, mount: &Mount, policy: Policy, owners: Owners<'_>) -> Result<OwnedFd> {
    let doing = || format!("filling the tmpfs on {}", mount.target.display());
    let tree = mount_api::tmpfs(&file_system_options(mount), tmpfs_attributes(mount, policy)).doing(doing)?;
    match probe::open_in_root(root, &mount.target, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(image) => {
            let (from, to) =
                (mount_api::below(image.as_fd(), OsStr::new(".")), mount_api::below(tree.as_fd(), OsStr::new(".")));
            let walk = |from| walk::walk(from, &mut Copier { to: OpenDir::open(&to)?, owners });
            OpenDir::open(&from).and_then(walk).doing(doing)?;
            let meta = fs::symlink_metadata(&from).doing(doing)?;
            dress(&from, &to, &meta, owners).doing(doing)?;
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => {}
        Err(errno) => return Err(errno).doing(doing),
    }
    Ok(tree)
}

/// Copies everything in one directory to another. Each entry is named from an
/// open directory, so that nothing leads out of either.
struct Copier<'a> {
    to: OpenDir,
    owners: Owners<'a>,
}

impl Visitor for Copier<'_> {
    fn file(&mut self, from: &OpenDir, name: &OsStr) -> std::io::Result<()> {
        let (old, new) = (mount_api::below(from.as_fd(), name), mount_api::below(self.to.as_fd(), name));
        let found = openat(from, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = File::from(found);
        let meta = found.metadata()?;
        let kind = meta.file_type();
        if kind.is_file() {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            std::io::copy(&mut files::reopen(&found)?, &mut file)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&old)?, &new)?;
        } else {
            let node = [
                (kind.is_fifo(), SFlag::S_IFIFO),
                (kind.is_char_device(), SFlag::S_IFCHR),
                (kind.is_block_device(), SFlag::S_IFBLK),
            ];
            let node = node.into_iter().find(|(is, _)| *is).map_or(SFlag::S_IFSOCK, |(_, node)| node);
            mknod(&new, node, Mode::from_bits_truncate(0o600), meta.rdev())?;
        }
        dress(&old, &new, &meta, self.owners)
    }

    fn before(&mut self, _: &OpenDir, name: &OsStr) -> std::io::Result<bool> {
        fs::create_dir(mount_api::below(self.to.as_fd(), name))?;
        self.to.down(name).map(|()| true)
    }

    fn after(&mut self, from: &OpenDir, name: &OsStr) -> std::io::Result<()> {
        self.to.up()?;
        let (old, new) = (mount_api::below(from.as_fd(), name), mount_api::below(self.to.as_fd(), name));
        dress(&old, &new, &fs::symlink_metadata(&old)?, self.owners)
    }
}

/// Owner, attributes, permissions and times: in this order, as each of them
/// may change the next.
fn dress(old: &Path, new: &Path, meta: &Metadata, owners: Owners<'_>) -> std::io::Result<()> {
    let (uid, gid) = owners.of(meta);
    std::os::unix::fs::lchown(new, Some(uid), Some(gid))?;
    mount_api::copy_attributes(old, new)?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(new, Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let times = [(meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec())];
    let [access, change] = times.map(|(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds));
    Ok(utimensat(nix::fcntl::AT_FDCWD, new, &access, &change, UtimensatFlags::NoFollowSymlink)?)
}
