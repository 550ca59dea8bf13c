//! New file systems.

use std::path::Path;

use pause::wire::Slot;

use super::super::input::ContainerInput;
use super::super::{Plan, step};
use super::flags::{attributes, flags_at_first};
use crate::spec::{Mount, MountKind};

/// A new file system.
pub(super) fn mounted(launch: &ContainerInput<'_>, mount: &Mount, target: &str) -> step::Step {
    let (kind, source) = file_system(mount);
    let mut flags = flags_at_first(mount);
    if mount.kind != MountKind::Devpts {
        flags |= launch.policy.nodev();
    }
    step::mount(mount.label.as_deref().unwrap_or(source), target, kind, flags, launch.data_of(mount))
}

/// An empty directory, of no size, to cover what is in `target`.
pub(super) fn nothing(target: impl AsRef<Path>) -> step::Step {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    step::mount("tmpfs", target.as_ref(), "tmpfs", flags, "nr_blocks=1,nr_inodes=1")
}

/// A file system's type, and what is shown as its source.
pub(super) fn file_system(mount: &Mount) -> (&str, &str) {
    match &mount.kind {
        MountKind::Proc => ("proc", "proc"),
        MountKind::Sysfs => ("sysfs", "sysfs"),
        MountKind::Mqueue => ("mqueue", "mqueue"),
        MountKind::Devpts => ("devpts", "devpts"),
        MountKind::Cgroup => ("cgroup2", "cgroup2"),
        MountKind::Other { fstype, source } => (fstype, source),
        _ => ("tmpfs", "tmpfs"),
    }
}

/// A file system to be moved into place. Where the machine's root is seen by
/// an ordinary user, a place like /root cannot be entered to mount a tmpfs on
/// ".". (In a user namespace no device on it can be opened anyway.)
pub(super) fn detached(p: &mut Plan, mount: &Mount) -> Slot {
    let fs = p.keep("fs", step::fsopen(file_system(mount).0));
    configure(p, fs, mount);
    p.push(step::fscreate(fs));
    let tree = p.keep("tree", step::fsmount(fs, attributes(flags_at_first(mount), 0).set));
    p.free(fs);
    tree
}

pub(super) fn configure(p: &mut Plan, fs: Slot, mount: &Mount) {
    for (key, value) in file_system_options(mount) {
        p.push(match value {
            Some(value) => step::fsconfig(fs, &key, value),
            None => step::fsconfig_flag(fs, &key),
        });
    }
}

/// What fsconfig(2) is told of a detached file system.
pub(crate) fn file_system_options(mount: &Mount) -> Vec<(String, Option<String>)> {
    let flags = [
        (libc::MS_SYNCHRONOUS, "sync"),
        (libc::MS_DIRSYNC, "dirsync"),
        (libc::MS_LAZYTIME, "lazytime"),
        (libc::MS_I_VERSION, "iversion"),
        (libc::MS_SILENT, "silent"),
    ];
    let flags =
        flags.into_iter().filter(|(flag, _)| mount.flags.bits() & flag != 0).map(|(_, name)| (name.into(), None));
    let usual = (mount.kind == MountKind::Tmpfs).then_some("tmpfs");
    let label = mount.label.as_deref().or(usual).map(|label| ("source".to_string(), Some(label.to_string())));
    let data = mount.data.split(',').filter(|option| !option.is_empty());
    let data = data.map(|option| match option.split_once('=') {
        Some((key, value)) => (key.into(), Some(value.into())),
        None => (option.into(), None),
    });
    label.into_iter().chain(flags).chain(data).collect()
}
