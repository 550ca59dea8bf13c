//! A container's root among mounts that are not its own.

use std::path::PathBuf;

use super::namespaces::OpenedMntns;
use crate::error::{Error, Number, Result};
use crate::kernel::procfs;
use crate::lookup::revealed;
use crate::plan::input::MachineMount;
use crate::spec::ContainerSpec;

/// What a container cannot be that is in a mount namespace with others. `ends`
/// says that all of it can be ended with what tells its processes from theirs.
pub(super) fn check_among_others(container: &ContainerSpec, ends: bool) -> Result<()> {
    if !ends {
        let reason = "missing or with a path: in a mount namespace with others and without a cgroup nothing tells which \
                      processes are the container's; add it without a path, or give it a mount namespace of its own";
        return Err(Error::invalid("linux.namespaces", "pid", reason));
    }
    if let Some(mount) = container.mounts.iter().find(|mount| mount.propagation.bits() & libc::MS_UNBINDABLE != 0) {
        let field = format!("options of the mount on {}", mount.target.display());
        let reason = "what stands in a mount namespace with others was copied there, which this forbids: remove it, or \
                      give the container a mount namespace of its own";
        return Err(Error::invalid(field, "unbindable", reason));
    }
    Ok(())
}

/// What of the machine's mounts has to go from below a root that is moved over
/// the machine's; nothing where it is one by `chroot(2)`.
pub(super) fn stays_below(mounts: &OpenedMntns) -> Result<Option<Vec<MachineMount>>> {
    match mounts {
        OpenedMntns::Own => Ok(Some(revealed::in_a_copy(&procfs::mounts()?))),
        OpenedMntns::Joined(namespace) => {
            let refused = |reason: String| Error::invalid("linux.namespaces", "mount", reason);
            let table = procfs::mounts_in(namespace).map_err(|error| {
                match error {
                Error::Os { errno: Number(libc::EPERM), .. } => refused(
                    "without pivot_root (--no-pivot) its proc and sysfs have to be taken away from below the root, and \
                     it belongs to a user namespace where this program may not look for them: leave out --no-pivot"
                        .into(),
                ),
                error => error,
            }
            })?;
            let hidden = |point: PathBuf| {
                let point = point.display();
                refused(format!(
                    "has a proc or sysfs on {point} that something else is mounted over: without pivot_root \
                     (--no-pivot) it would stay below the root and let programs mount one that shows everything; \
                     unmount it, or leave out --no-pivot"
                ))
            };
            revealed::in_a_joined(&table).map(Some).map_err(hidden)
        }
        OpenedMntns::Callers(..) => Ok(None),
    }
}
