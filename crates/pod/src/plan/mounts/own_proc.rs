//! The procfs of a container's own pid namespace, which is there only after
//! the first process in it.
//!
//! So it is mounted when everything else is, and with it what goes onto it.
//! A context of it is made outside (`fsopen(2)`), told which namespace it is
//! for from inside (`pidns`), and mounted outside. Before Linux 6.17 it is
//! always for the namespace of the process that makes it: that one mounts it.

use pause::wire::Slot;

use super::super::input::ContainerInput;
use super::super::{Plan, step};
use super::flags::{all_flags, attributes, propagate};
use super::purpose::purpose_of;
use super::tree::Trees;
use super::{fresh, paths};
use crate::spec::{Mount, MountKind};

/// Where whoever makes the pid namespace finds it, when its first process is
/// there.
const MADE_HERE: &str = "/proc/self/ns/pid_for_children";

/// The container's first procfs, if it has one.
pub(in crate::plan) fn first<'a>(launch: &ContainerInput<'a>) -> Option<&'a Mount> {
    launch.container.mounts.iter().find(|mount| mount.kind == MountKind::Proc)
}

/// Which mounts have to wait for it: it, what goes onto it, and all from the
/// first one on that may cover it or lead onto it. A link of the image may lead
/// anywhere, and who is in the pod may change it until the mount is made.
pub(super) fn waiting(launch: &ContainerInput<'_>) -> Vec<bool> {
    let mounts = &launch.container.mounts;
    let procs = |before: usize| mounts[..before].iter().filter(|mount| mount.kind == MountKind::Proc);
    let may_touch = |i: usize| {
        let mount = &mounts[i];
        procs(i).any(|procfs| mount.follows_links() || procfs.target.starts_with(&mount.target))
    };
    let goes_onto = |i: usize| procs(i + 1).any(|procfs| mounts[i].target.starts_with(&procfs.target));
    let from = (0..mounts.len()).find(|&i| may_touch(i)).unwrap_or(mounts.len());
    (0..mounts.len()).map(|i| i >= from || goes_onto(i)).collect()
}

/// Its context, which is not for any pid namespace yet that is of use.
pub(in crate::plan) fn open(p: &mut Plan, mount: &Mount) -> Slot {
    p.begin_part(purpose_of(mount));
    let fs = p.keep("procfs", step::fsopen("proc"));
    if mount.label.is_none() {
        p.push(step::fsconfig(fs, "source", "proc"));
    }
    fresh::configure(p, fs, mount);
    p.end_part();
    fs
}

/// Says of a context that it is for the pid namespace that this process has
/// made.
pub(in crate::plan) fn settle(p: &mut Plan, fs: Slot, mount: &Mount) {
    p.begin_part(purpose_of(mount));
    p.push(step::fsconfig(fs, "pidns", MADE_HERE));
    p.end_part();
}

/// A tree of it, with the options of `mount`.
pub(in crate::plan) fn tree(p: &mut Plan, launch: &ContainerInput<'_>, fs: Slot, mount: &Mount) -> Slot {
    p.begin_part(purpose_of(mount));
    p.push(step::fscreate(fs));
    let tree = p.keep("tree", step::fsmount(fs, flags(launch, mount).set));
    p.end_part();
    tree
}

/// Mounts it for the pid namespace this process is in.
pub(in crate::plan) fn mount_here(p: &mut Plan, launch: &ContainerInput<'_>, mount: &Mount, target: Slot) {
    let fs = open(p, mount);
    let tree = tree(p, launch, fs, mount);
    p.begin_part(purpose_of(mount));
    p.push(step::move_mount(tree, target));
    p.end_part();
}

/// Opens its target; makes it if it is missing.
pub(in crate::plan) fn target(p: &mut Plan, trees: &Trees, mount: &Mount) -> Slot {
    p.begin_part(purpose_of(mount));
    let target = paths::target(p, trees.root, mount, false);
    p.end_part();
    target
}

/// Attaches its tree, or takes the one that is mounted.
pub(super) fn attach(p: &mut Plan, trees: &Trees, mount: &Mount, tree: Option<Slot>) -> Slot {
    let attached = match tree {
        Some(tree) => {
            let target = paths::target(p, trees.root, mount, false);
            p.push(step::move_mount(tree, target));
            p.free(target);
            tree
        }
        None => paths::open_mounted(p, trees.root, mount),
    };
    propagate(p, attached, mount);
    attached
}

/// Attaches it once more, with the options of another mount.
pub(super) fn attach_again(
    p: &mut Plan,
    launch: &ContainerInput<'_>,
    trees: &Trees,
    (attached, of): (Slot, &Mount),
    mount: &Mount,
) {
    let target = paths::target(p, trees.root, mount, false);
    let tree = p.keep("tree", step::open_tree_at(attached, false));
    let (mut attr, before) = (flags(launch, mount), flags(launch, of));
    attr.clear |= before.set & !attr.set;
    p.push(step::mount_setattr(tree, attr, false));
    propagate(p, tree, mount);
    p.push(step::move_mount(tree, target));
    p.free(tree);
    p.free(target);
}

fn flags(launch: &ContainerInput<'_>, mount: &Mount) -> step::MountAttr {
    attributes(all_flags(mount) | launch.policy.nodev(), 0)
}
