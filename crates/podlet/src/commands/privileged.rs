//! `--privileged`: a container that may do what the caller may.
//!
//! It has every capability that can be given, all system calls, nothing of `/proc`
//! and `/sys` hidden, nothing of them read-only but `/sys` in a user namespace, and
//! the machine's device nodes. What it is in
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
use pod::{CapabilitySet, ContainerSpec, Namespace, PodOptions};

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
    for mount in container.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Cgroup) {
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

/// Has its `/sys` written, where it is the machine's root that does.
///
/// The pod's is one that cannot be written, until the file system itself is told
/// otherwise. Its other containers have it by mounts of their own, which stay
/// read-only. In a user namespace the kernel does not let it be told, nor a new one be
/// mounted there; of what it shows there nothing but the network's would belong to
/// root of the pod.
pub fn open_sys(container: &mut ContainerSpec, pod: &PodOptions) -> Result<()> {
    let facts = pod::facts::Facts::read()?;
    if facts.privileged && facts.initial_users && !pod.shares(Namespace::User) {
        let is_machines = pod.host_network || container.net == NamespaceMode::Host;
        write_sys(container, is_machines);
    }
    Ok(())
}

fn write_sys(container: &mut ContainerSpec, is_machines: bool) {
    let Some(place) = container.mounts.iter().position(|mount| mount.kind == MountKind::Sysfs) else { return };
    let sys = &mut container.mounts[place];
    sys.flags.remove(MountFlags::RDONLY);
    let mut again = Mount::new(&sys.target, MountKind::Remount { bind: false });
    again.flags = sys.flags;
    // The machine's own can be written anyway.
    if !is_machines {
        // Before what is mounted below it.
        container.mounts.insert(place + 1, again);
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
        assert_eq!(read_only(&container), [PathBuf::from("/sys")]);
        let before = container.mounts.len();
        write_sys(&mut container, true);
        assert_eq!((read_only(&container).len(), container.mounts.len()), (0, before), "the machine's is as it is");
        write_sys(&mut container, false);
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
