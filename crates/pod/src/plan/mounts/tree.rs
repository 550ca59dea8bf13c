//! Everything that is outside, opened as detached trees.
//!
//! Many binds would need as many descriptors. Then they are attached to a
//! tmpfs in a copy of the machine's mounts, the *holder*, which is one tree:
//! inside, where it is attached for a moment, each is cloned from it in turn.

use std::path::{Path, PathBuf};

use pause::wire::Slot;

use super::super::input::{ContainerInput, RootSource};
use super::super::step::{self, MountAttr};
use super::super::{Given, Plan};
use super::flags::{all_flags, attributes, from_outside, of_bind};
use super::fresh::configure;
use super::holder::hold;
use super::purpose::purpose_of;
use super::{dev, overlay, paths};
use crate::spec::{Mount, MountKind};

/// Detached trees, opened before the container's mount namespace is entered.
pub(in crate::plan) struct Trees {
    pub root: Slot,
    /// One for each mount that has a source outside, in the mounts' order.
    pub(super) binds: Vec<Option<Tree>>,
    /// Where the held ones are.
    pub(super) holder: Option<Slot>,
    /// Device nodes of the machine: the usual ones, then the container's own.
    pub(super) devices: dev::Outside,
    /// The machine's null device, one for each masked path, where the
    /// container's own cannot be relied on.
    pub(super) nulls: Vec<Slot>,
    /// They were opened in the mount namespace where they are attached.
    pub opened_inside: bool,
}

/// Where the tree of a bind is.
#[derive(Clone, Copy)]
pub(super) enum Tree {
    /// Open.
    Slot(Slot),
    /// In the holder, under this number.
    Held(usize),
}

/// More binds than this are held.
const FEW: usize = 100;

/// Opens everything that is outside.
pub(in crate::plan) fn open(p: &mut Plan, launch: &ContainerInput<'_>) -> Trees {
    // Of a copy of the machine's mounts the binds that are to stay connected with
    // where they come from could not be cloned.
    let is_late = overlay::takes_a_copy(launch);
    let root = (!is_late).then(|| open_root(p, launch));
    let sources: Vec<_> = launch.container.mounts.iter().map(|mount| outside_source(mount, launch)).collect();
    let many = sources.iter().flatten().count() > FEW;
    let mut binds = vec![None; sources.len()];
    let mut numbers = 0u16;
    let mut held = Vec::new();
    for (i, (mount, source)) in launch.container.mounts.iter().zip(&sources).enumerate() {
        let users = mount.ids.as_ref().map(|_| p.slot_of(Given::MountUsers(numbers)));
        numbers += u16::from(users.is_some());
        if let MountKind::Other { fstype, source } = &mount.kind {
            binds[i] = Some(Tree::Slot(open_file_system(p, launch, mount, fstype, source)));
        }
        let Some((path, recursive)) = *source else { continue };
        // One that is to stay connected with where it comes from cannot come
        // from a copy.
        if many && mount.propagation.bits() & libc::MS_SHARED == 0 {
            held.push((i, path, recursive, users));
        } else {
            binds[i] = Some(Tree::Slot(open_bind(p, launch, mount, path, recursive, users)));
        }
    }
    let devices = dev::open(p, launch);
    let nulls = if dev::null_outside(launch.container) { launch.container.masked_paths.len() } else { 0 };
    let nulls = (0..nulls).map(|_| p.keep("null", step::open_tree("/dev/null", false))).collect();
    let holder = many.then(|| {
        hold(p, |p, holder| {
            for (i, path, recursive, users) in held {
                let mount = &launch.container.mounts[i];
                p.begin_part(purpose_of(mount));
                let tree = open_bind(p, launch, mount, path, recursive, users);
                let name = PathBuf::from(i.to_string());
                let is_file = launch.is_file(mount);
                p.push(if is_file {
                    step::mknodat(holder, &name, libc::S_IFREG | 0o600, 0)
                } else {
                    step::mkdirat(holder, &name, 0o700)
                });
                let place = p.keep("place", paths::open_strict(holder, &name, 0));
                p.push(step::move_mount(tree, place));
                p.free(tree);
                p.free(place);
                binds[i] = Some(Tree::Held(i));
            }
        })
    });
    p.end_part();
    let root = root.unwrap_or_else(|| open_root(p, launch));
    Trees { root, binds, holder, devices, nulls, opened_inside: false }
}

fn open_root(p: &mut Plan, launch: &ContainerInput<'_>) -> Slot {
    let propagation = launch.container.root_propagation.bits();
    let mut attr = from_outside(launch, propagation);
    let root = match launch.image {
        RootSource::Dir { path, idmapped } => {
            let root = p.keep("rootfs", step::open_tree(path, true));
            if idmapped {
                attr.set |= libc::MOUNT_ATTR_IDMAP;
                attr.users = p.slot_of(Given::PauseUsers).0.into();
            }
            root
        }
        RootSource::Overlay(overlay) => return overlay::open(p, launch, overlay, attr.set),
        RootSource::ReadOnlyHost => {
            attr.set |= libc::MOUNT_ATTR_RDONLY;
            p.keep("rootfs", step::open_tree("/", true))
        }
    };
    if attr != MountAttr::default() {
        p.push(step::mount_setattr(root, attr, true));
    }
    if attr.propagation == 0 {
        // pivot_root(2) does not take a shared one; it becomes that later.
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        p.push(step::mount_setattr(root, private, false));
    }
    root
}

fn open_bind(
    p: &mut Plan,
    launch: &ContainerInput<'_>,
    mount: &Mount,
    source: &Path,
    recursive: bool,
    users: Option<Slot>,
) -> Slot {
    p.begin_part(purpose_of(mount));
    let tree = p.keep("tree", step::open_tree(source, recursive));
    // A read-only /sys must not have writable mounts below.
    let below = if mount.kind == MountKind::Sysfs { mount.flags.bits() } else { mount.recursive_flags.bits() };
    let (all, top) = of_bind(launch, mount, below);
    if all != MountAttr::default() {
        p.push(step::mount_setattr(tree, all, recursive));
    }
    if top != MountAttr::default() {
        p.push(step::mount_setattr(tree, top, false));
    }
    if let (Some(users), Some(ids)) = (users, &mount.ids) {
        let mapped = MountAttr { set: libc::MOUNT_ATTR_IDMAP, users: users.0.into(), ..MountAttr::default() };
        p.push(step::mount_setattr(tree, mapped, ids.recursive && recursive));
    }
    tree
}

/// A file system of any kind. Made outside, where the paths in its options
/// and the device it is on are.
fn open_file_system(p: &mut Plan, launch: &ContainerInput<'_>, mount: &Mount, fstype: &str, source: &str) -> Slot {
    p.begin_part(purpose_of(mount));
    let fs = p.keep("fs", step::fsopen(fstype));
    p.push(step::fsconfig(fs, "source", source));
    if all_flags(mount) & libc::MS_RDONLY != 0 {
        p.push(step::fsconfig_flag(fs, "ro"));
    }
    configure(p, fs, mount);
    p.push(step::fscreate(fs));
    let attr = attributes(all_flags(mount), 0).set | from_outside(launch, 0).set;
    let tree = p.keep("tree", step::fsmount(fs, attr));
    p.free(fs);
    tree
}

/// The path outside that a mount clones, if it does.
pub(super) fn outside_source<'a>(mount: &'a Mount, launch: &ContainerInput<'_>) -> Option<(&'a Path, bool)> {
    match &mount.kind {
        MountKind::Bind { source, recursive } => Some((source, *recursive)),
        // Where it can be mounted afresh, that is better: nothing below it.
        MountKind::Sysfs if launch.host_net() && !launch.in_initial_users() => Some((Path::new("/sys"), true)),
        MountKind::Mqueue if launch.host_ipc() && launch.has_host_mqueue => Some((Path::new("/dev/mqueue"), false)),
        MountKind::Shm if launch.host_ipc() => Some((Path::new("/dev/shm"), false)),
        _ => None,
    }
}
