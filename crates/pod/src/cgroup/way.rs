//! How a process of ours gets into a cgroup: it is born there, or where the kernel
//! does not let us do that, systemd moves it there before it begins.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::systemd::Scope;
use crate::error::Result;
use crate::kernel::cgroupfs::hierarchy;

/// A way into a cgroup.
#[derive(Debug)]
pub(crate) enum Way {
    /// The cgroup to be born in.
    Birth(OwnedFd),
    /// What moves a process there.
    Move(Entrance),
}

/// systemd moves a process into a cgroup of a scope.
#[derive(Debug)]
pub(crate) struct Entrance {
    scope: Scope,
    /// The cgroup, as a path below the scope's that begins with a slash.
    below: PathBuf,
}

impl Entrance {
    /// # Errors
    /// What systemd says.
    pub fn move_in(&self, pid: u32) -> Result<()> {
        self.scope.attach(&self.below, pid)
    }
}

impl Way {
    /// Into the cgroup `dir`, which `birthplace` stands for. `scope` is the one that
    /// it is in, if there is one, with that one's cgroup.
    pub fn new(birthplace: OwnedFd, dir: &Path, scope: Option<(&Scope, &Path)>) -> Way {
        match scope {
            Some((scope, top)) if !is_in_reach(dir) => {
                let below = Path::new("/").join(dir.strip_prefix(top).unwrap_or(Path::new("")));
                Way::Move(Entrance { scope: scope.clone(), below })
            }
            _ => Way::Birth(birthplace),
        }
    }

    /// One or the other.
    pub fn parts(&self) -> (Option<BorrowedFd<'_>>, Option<&Entrance>) {
        match self {
            Way::Birth(cgroup) => (Some(cgroup.as_fd()), None),
            Way::Move(entrance) => (None, Some(entrance)),
        }
    }
}

/// Whether a process of ours may be born in a cgroup: who is born there comes from
/// ours, so the kernel wants us to be allowed to write the `cgroup.procs` of the one
/// that is above both (cgroups(7), "Cgroups delegation: containment").
fn is_in_reach(dir: &Path) -> bool {
    let (Some(root), Some(own)) = (hierarchy(), super::own()) else { return true };
    let own = root.join(own);
    let common = dir.ancestors().find(|above| own.starts_with(above));
    common.is_none_or(|common| access(&common.join("cgroup.procs"), AccessFlags::W_OK).is_ok())
}
