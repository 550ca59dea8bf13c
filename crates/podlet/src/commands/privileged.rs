//! `--privileged`: a container that may do what the caller may.
//!
//! It has every capability that can be given, all system calls, nothing of `/proc`
//! and `/sys` hidden or read-only, and the machine's device nodes. What it is in
//! stays as it is: its own mounts, the pod's other namespaces, its cgroup. Where
//! those are in a user namespace of their own, as every ordinary user's pod is, it
//! has all this over them and nothing over the machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{AccessFlags, access};
use pod::spec::{Mount, MountFlags, MountKind, NamespaceMode};
use pod::{CapabilitySet, ContainerSpec};

/// What of `/dev` every container has of its own.
const OWN: [&str; 12] =
    ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd"];

/// Makes it one; what is said besides comes after that.
pub fn make(container: &mut ContainerSpec) -> Result<()> {
    let all: CapabilitySet = pod::facts::Facts::read()?.grantable().into_iter().collect();
    let sets = &mut container.process.capabilities;
    (sets.bounding, sets.effective, sets.permitted) = (all, all, all);
    container.process.no_new_privileges = false;
    container.seccomp = pod::seccomp::Seccomp::Unconfined;
    container.masked_paths.clear();
    container.readonly_paths.clear();
    let own_dev = container.mounts.iter().any(|mount| mount.target == Path::new("/dev"));
    for mount in container.mounts.iter_mut().filter(|mount| is_kernels(mount)) {
        mount.flags.remove(MountFlags::RDONLY);
    }
    if own_dev {
        for node in nodes(Path::new("/dev")).context("--privileged: looking for devices")? {
            let node = node.as_path();
            container.mounts.push(Mount::new(node, MountKind::Bind { source: node.into(), recursive: false }));
        }
    }
    Ok(())
}

fn is_kernels(mount: &Mount) -> bool {
    matches!(mount.kind, MountKind::Sysfs | MountKind::Cgroup | MountKind::Proc)
}

/// The pod's `/sys` is one that cannot be written, until somebody says otherwise to
/// the file system itself. Its other containers have it by mounts of their own,
/// which stay read-only.
pub fn open_sys(container: &mut ContainerSpec, machines_network: bool) {
    // The machine's own can be written, by who may.
    if machines_network || container.net == NamespaceMode::Host {
        return;
    }
    let sys = container.mounts.iter().find(|mount| mount.kind == MountKind::Sysfs);
    if let Some((target, flags)) = sys.map(|sys| (sys.target.clone(), sys.flags)) {
        let mut again = Mount::new(target, MountKind::Remount { bind: false });
        again.flags = flags;
        // Before what is mounted below it.
        let place = container.mounts.iter().position(|mount| mount.kind == MountKind::Sysfs).map_or(0, |i| i + 1);
        container.mounts.insert(place, again);
    }
}

/// The device nodes below `dev` that podlet itself may open, but for what every
/// container has of its own.
fn nodes(dev: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut left = vec![dev.to_path_buf()];
    while let Some(dir) = left.pop() {
        let entries = match fs::read_dir(&dir) {
            // Not for us, or gone in the meantime.
            Err(_) if dir != dev => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if dir == dev && OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            // Links lead to what is found itself.
            let Ok(kind) = entry.file_type() else { continue };
            let is_device = kind.is_char_device() || kind.is_block_device();
            if kind.is_dir() {
                left.push(path);
            } else if is_device && access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok() {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use pod::Root;

    use super::*;

    #[test]
    fn nothing_is_hidden_and_sys_can_be_written() {
        let mut container = ContainerSpec::new("a", Root::Host);
        make(&mut container).expect("a machine");
        assert!(container.masked_paths.is_empty() && container.readonly_paths.is_empty());
        assert_eq!(container.seccomp, pod::seccomp::Seccomp::Unconfined);
        assert!(container.process.capabilities.bounding.contains(pod::Capability::CAP_CHOWN));
        assert!(!container.process.no_new_privileges);
        let read_only = |container: &ContainerSpec| {
            let mounts = container.mounts.iter().filter(|mount| mount.flags.contains(MountFlags::RDONLY));
            mounts.map(|mount| mount.target.clone()).collect::<Vec<_>>()
        };
        assert_eq!(read_only(&container), [""; 0].map(PathBuf::from));
        let before = container.mounts.len();
        open_sys(&mut container, true);
        assert_eq!(container.mounts.len(), before, "the machine's is as it is");
        open_sys(&mut container, false);
        let sys: Vec<_> = container.mounts.iter().skip_while(|mount| mount.kind != MountKind::Sysfs).take(3).collect();
        assert_eq!(sys[1].kind, MountKind::Remount { bind: false });
        assert_eq!((&sys[1].target, sys[2].target.to_str()), (&sys[0].target, Some("/sys/fs/cgroup")));
        container.check().expect("what can be");
    }

    #[test]
    fn devices_are_found_and_what_each_container_has_is_left_out() {
        let found = nodes(Path::new("/dev")).expect("a /dev");
        for own in ["/dev/null", "/dev/tty", "/dev/ptmx", "/dev/pts/ptmx", "/dev/stdin"] {
            assert!(!found.contains(Path::new(own)), "{own}");
        }
        assert!(found.iter().all(|path| path.starts_with("/dev") && !path.is_symlink()), "{found:?}");
        assert!(nodes(Path::new("/nowhere")).is_err());
    }
}
