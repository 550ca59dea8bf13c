//! The one path of a pod's network namespace that plugins are told.
//!
//! They keep it until DEL, so it must not be one of `/proc`, which leads nowhere
//! once pause is dead: it is a bind mount in the pod's directory. It also keeps the
//! namespace of a pod that ended by itself, so that DEL finds one in any case but
//! after the machine's restart.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pod::{Error, Result};

use crate::files;

/// Where it is, in this crate's directory of a pod.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("netns")
}

/// Makes it, in place of one that is left of a namespace before.
pub(crate) fn make(dir: &Path, namespace: &OwnedFd) -> Result<()> {
    remove(dir)?;
    let path = path(dir);
    let failed = |error| Error::failed(format!("making {}", path.display()), error);
    File::create_new(&path).map_err(failed)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let bound = mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.map_err(|errno| failed(errno.into()))
}

/// Takes it away; what is gone already is as good.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    let path = path(dir);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // No mount, or no file.
            Err(Errno::EINVAL | Errno::ENOENT) => return files::remove_file(&path),
            Err(errno) => return Err(Error::failed(format!("unmounting {}", path.display()), errno)),
        }
    }
}
