//! Options of mounts, as mount_setattr(2) takes them.

use pause::wire::Slot;

use super::super::Plan;
use super::super::input::{ContainerInput, Policy, Source};
use super::super::step::{self, MountAttr};
use crate::spec::users::Users;
use crate::spec::{Mount, MountKind};

/// What pause's own mounts were made with.
pub(super) const MADE_STRICT: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// When the time of access is written: one of three, changed as a whole.
pub(super) const ATIME: u64 = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;

/// The attributes for flags of mount(2) that are set and cleared.
pub(super) fn attributes(flags: u64, clear: u64) -> MountAttr {
    let table = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (libc::MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    ];
    let attributes =
        |flags: u64| table.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, attr)| all | attr);
    let mut cleared = attributes(clear & !ATIME);
    if (flags | clear) & ATIME != 0 {
        cleared |= libc::MOUNT_ATTR__ATIME;
    }
    MountAttr { set: attributes(flags), clear: cleared, ..MountAttr::default() }
}

/// What every tree from outside begins with. Where there are no rules for
/// devices a container may still have the capability to make nodes, so none
/// on it can be opened.
pub(super) fn from_outside(launch: &ContainerInput<'_>, propagation: u64) -> MountAttr {
    let MountAttr { set, .. } = attributes(launch.policy.nodev(), 0);
    MountAttr { set, propagation: cut(launch, propagation), ..MountAttr::default() }
}

/// How far a tree from outside is cut off from where it comes from.
fn cut(launch: &ContainerInput<'_>, propagation: u64) -> u64 {
    match propagation & !libc::MS_REC {
        // Nobody in a user namespace may mount something out here.
        libc::MS_SHARED if *launch.isolation.users == Users::Caller => 0,
        libc::MS_SHARED | libc::MS_SLAVE | 0 => libc::MS_SLAVE,
        _ => libc::MS_PRIVATE,
    }
}

/// What a mount's tree begins with, and what its top gets besides.
pub(super) fn of_bind(launch: &ContainerInput<'_>, mount: &Mount, below: u64) -> (MountAttr, MountAttr) {
    let asked =
        if mount.propagation.bits() == 0 { launch.container.root_propagation.bits() } else { mount.propagation.bits() };
    let outside = from_outside(launch, asked);
    let mut all = MountAttr { propagation: outside.propagation, ..attributes(below, mount.recursive_clear.bits()) };
    let mut top = attributes(mount.flags.bits(), mount.clear.bits());
    // A device that is asked for by its name is given.
    if launch.source_of(mount) != Some(Source::File) {
        all.set |= outside.set;
        all.clear &= !outside.set;
        top.clear &= !outside.set;
    }
    (all, top)
}

/// A tmpfs that cannot be written once everything else is in place.
pub(super) fn is_late(mount: &Mount) -> bool {
    mount.kind == MountKind::Tmpfs && all_flags(mount) & libc::MS_RDONLY != 0
}

/// Flags of a mount that has none below.
pub(super) fn all_flags(mount: &Mount) -> u64 {
    mount.flags.bits() | mount.recursive_flags.bits()
}

/// [`all_flags`], without the one that comes last where it would be in the way.
pub(super) fn flags_at_first(mount: &Mount) -> u64 {
    all_flags(mount) & if is_late(mount) { !libc::MS_RDONLY } else { !0 }
}

/// What a mount's file system gets besides, when its options are changed: where
/// there are no rules for devices none but terminals can be opened.
pub(super) fn nodev_of(launch: &ContainerInput<'_>, mount: &Mount) -> u64 {
    let terminals = |other: &Mount| other.kind == MountKind::Devpts && other.target == mount.target;
    if launch.container.mounts.iter().any(terminals) { 0 } else { launch.policy.nodev() }
}

/// The attributes of a tmpfs, at first.
pub(crate) fn tmpfs_attributes(mount: &Mount, policy: Policy) -> u64 {
    attributes(flags_at_first(mount) | policy.nodev(), 0).set
}

/// Who sees what is mounted on it later. Private and slave are what a tree
/// from outside has become already.
pub(super) fn propagate(p: &mut Plan, mounted: Slot, mount: &Mount) {
    let kind = mount.propagation.bits() & !libc::MS_REC;
    if kind & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0 {
        let attr = MountAttr { propagation: kind, ..MountAttr::default() };
        p.push(step::mount_setattr(mounted, attr, mount.propagation.bits() & libc::MS_REC != 0));
    }
}
