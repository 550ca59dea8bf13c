//! The overlay that a container's root is: its directories, whether the kernel
//! takes them, and making the container's own.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::root_files::{RootFiles, open_dir};
use crate::error::{Context, Error, Result};
use crate::kernel::{files, procfs};
use crate::plan::input;
use crate::spec::Root;

/// See the module.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// The topmost first.
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    /// The last two are the container's own, in its directory.
    is_own: bool,
    /// It is made in another user namespace than the initial one.
    in_users: bool,
}

impl Overlay {
    /// Of a container with its records in `dir`; `None` if its root is none.
    /// `host` says whether the machine's root can be a layer here.
    pub(crate) fn of(root: &Root, dir: &Path, host: bool, in_users: bool) -> Option<Overlay> {
        let (lower, given) = match root {
            Root::Host if host => (vec!["/".into()], None),
            Root::Layers(layers) => (layers.lower.clone(), layers.upper.as_ref()),
            Root::Host | Root::Dir(_) => return None,
        };
        let (upper, work) = match given {
            Some(given) => (given.upper.clone(), given.work.clone()),
            None => (dir.join("upper"), dir.join("work")),
        };
        Some(Overlay { lower, upper, work, is_own: given.is_none(), in_users })
    }

    /// What of it the kernel would refuse, in words that do not say which
    /// directory it is.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_own {
            // It is made later, where its records are.
            let there = self.upper.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
            return check_upper("state directory", there, "choose another one (--root DIR)");
        }
        check_upper("root.layers.upper", &self.upper, "use a directory of a local one")?;
        let mount = |dir: &Path| procfs::mount_number(open_dir(dir)?.as_fd());
        if mount(&self.upper)? != mount(&self.work)? {
            let reason = "it has to be on the mount of the upper directory: put them side by side";
            return Err(Error::invalid("root.layers.work", self.work.to_string_lossy(), reason));
        }
        Ok(())
    }

    /// Whether its directories' ids can be mapped: to that of one mount.
    pub(crate) fn check_idmapped(&self) -> Result<()> {
        let mount = |dir: &Path| procfs::mount_number(open_dir(dir)?.as_fd());
        let parents = self.upper.parent().zip(self.work.parent());
        match parents {
            _ if self.is_own => Ok(()),
            Some((one, other)) if one == other && mount(one)? == mount(&self.upper)? => Ok(()),
            _ => {
                let reason = "in a pod with a user namespace of its own it has to lie beside the upper directory, in a \
                              directory that both have in common";
                Err(Error::invalid("root.layers.work", self.work.to_string_lossy(), reason))
            }
        }
    }

    /// What the container will find, before anything is mounted in it. What it
    /// has changed counts, if it has been there before.
    pub(crate) fn files(&self) -> Result<RootFiles> {
        let upper = Some(&self.upper).filter(|upper| files::is_there(upper));
        RootFiles::of_layers(upper.into_iter().chain(&self.lower).map(PathBuf::as_path), self.in_users)
    }

    /// Makes the container's own directories, the upper one with the mode and
    /// owner that the root has without it. The work directory comes last: while
    /// there is none the upper one is not finished.
    pub(crate) fn make_dirs(&self) -> Result<()> {
        if !self.is_own || files::is_there(&self.work) {
            return Ok(());
        }
        let doing = |dir: &Path| format!("making {}", dir.display());
        let top = self.lower.first().map_or(Path::new("/"), PathBuf::as_path);
        let meta = fs::metadata(top).doing(|| format!("looking at {}", top.display()))?;
        make(&self.upper).doing(|| doing(&self.upper))?;
        match std::os::unix::fs::chown(&self.upper, Some(meta.uid()), Some(meta.gid())) {
            // An ordinary user's containers find it to be their root's.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            changed => changed.doing(|| doing(&self.upper))?,
        }
        // After its owner, a change of which takes bits away; whatever this
        // program's umask is.
        let mode = Permissions::from_mode(meta.mode() & 0o7777);
        fs::set_permissions(&self.upper, mode).doing(|| doing(&self.upper))?;
        make(&self.work).doing(|| doing(&self.work))
    }

    /// As a plan takes it.
    pub(crate) fn source(&self, idmapped: bool) -> input::Overlay<'_> {
        input::Overlay { lower: &self.lower, upper: &self.upper, work: &self.work, idmapped }
    }
}

fn make(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)
}

/// Whether the kernel lets a directory be written by way of an overlay.
fn check_upper(field: &str, dir: &Path, cure: &str) -> Result<()> {
    let doing = || format!("looking at {}", dir.display());
    let refuse = |what: &str| Err(Error::invalid(field, dir.to_string_lossy(), format!("{what}: {cure}")));
    match statfs(dir).doing(doing)?.filesystem_type() {
        OVERLAYFS_SUPER_MAGIC => refuse("it is on an overlay, which cannot be the upper layer of another one"),
        NFS_SUPER_MAGIC => refuse("it is on NFS, which cannot be the upper layer of an overlay"),
        _ if statvfs(dir).map(|at| at.flags().contains(FsFlags::ST_RDONLY)) == Ok::<bool, Errno>(true) => {
            refuse("it is on a file system that is read-only")
        }
        _ => Ok(()),
    }
}
