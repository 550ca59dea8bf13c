//! Steps that build a container's root.
//!
//! Two rules keep every mount inside. A target is found with `openat2` from
//! the descriptor of the new root (`RESOLVE_IN_ROOT`, no magic links; where
//! the specification names the target, no symbolic links at all), and mounted
//! on by that descriptor: what somebody renames in between does not matter.
//! And what is mounted from outside was opened outside, as a detached tree.

pub(crate) mod dev;
pub(crate) mod flags;
pub(crate) mod fresh;
mod holder;
pub(super) mod legacy;
mod overlay;
pub(super) mod own_proc;
mod paths;
mod purpose;
mod restrict;
mod root;
mod shared;
mod tree;

use std::path::Path;

use pause::wire::Slot;

use super::input::{ContainerInput, RootSource};
use super::step;
use super::{Given, Plan};
use crate::error::Purpose;
use crate::spec::{Mount, MountKind};
use flags::{MADE_STRICT, all_flags, attributes, is_late, nodev_of, propagate};
use fresh::detached;
use purpose::purpose_of;
use tree::Tree;

pub(super) use paths::open_strict;
pub(super) use root::{change_root, move_root};
pub(super) use shared::{enter_root, take_to_caller, take_to_others};
pub(super) use tree::{Trees, open as open_trees};

/// Descriptors that the mounts need besides what every launch has.
pub(super) fn given(launch: &ContainerInput<'_>) -> Vec<Given> {
    let mounts = &launch.container.mounts;
    let count = |is: fn(&Mount) -> bool| mounts.iter().filter(|mount| is(mount)).count() as u16;
    let users = (0..count(|mount| mount.ids.is_some())).map(Given::MountUsers);
    users.chain((0..count(|mount| mount.copy_up)).map(Given::Copied)).collect()
}

/// Attaches the root and everything in it, but for what [`close`] does.
pub(super) fn build(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees) {
    attach_root(p, launch, trees);
    for i in 0..launch.container.mounts.len() {
        add(p, launch, trees, i);
    }
    p.end_part();
    dev::finish(p, launch, trees.root, &trees.devices);
}

/// The same, without what has to wait for the procfs of the container's own
/// pid namespace.
pub(super) fn build_at_first(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees) {
    attach_root(p, launch, trees);
    let waiting = own_proc::waiting(launch);
    (0..waiting.len()).filter(|&i| !waiting[i]).for_each(|i| add(p, launch, trees, i));
    p.end_part();
}

/// And what had to wait: `tree` is that procfs, unless it is mounted already.
pub(super) fn build_the_rest(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees, tree: Option<Slot>) {
    let mounts = &launch.container.mounts;
    let waiting = own_proc::waiting(launch);
    let mut procfs = None;
    for i in (0..waiting.len()).filter(|&i| waiting[i]) {
        let mount = &mounts[i];
        p.begin_part(purpose_of(mount));
        match (&mount.kind, procfs) {
            (MountKind::Proc, None) => procfs = Some((own_proc::attach(p, trees, mount, tree), mount)),
            (MountKind::Proc, Some(first)) => own_proc::attach_again(p, launch, trees, first, mount),
            _ => add(p, launch, trees, i),
        }
    }
    p.end_part();
    dev::finish(p, launch, trees.root, &trees.devices);
}

/// Attaches the root alone.
fn attach_root(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees) {
    if let Some(holder) = trees.holder {
        p.push(step::move_mount_to(holder, launch.attach));
    }
    p.push(step::move_mount_to(trees.root, launch.attach));
    if matches!(launch.image, RootSource::ReadOnlyHost) && launch.facts.privileged {
        drop_machines_own(p, launch.attach);
    }
    p.push(step::umask(0));
}

/// Adds the mount of this number.
fn add(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees, number: usize) {
    let mounts = &launch.container.mounts;
    let mount = &mounts[number];
    p.begin_part(purpose_of(mount));
    let tree = match trees.binds[number] {
        Some(Tree::Slot(slot)) => {
            if trees.opened_inside {
                number_anew(p, slot);
            }
            Some(slot)
        }
        Some(Tree::Held(number)) => {
            trees.holder.map(|holder| p.keep("tree", step::open_tree_below(holder, number.to_string())))
        }
        None if mount.copy_up => {
            let earlier = mounts[..number].iter().filter(|mount| mount.copy_up).count();
            Some(p.slot_of(Given::Copied(earlier as u16)))
        }
        None => None,
    };
    add_mount(p, launch, trees, mount, tree);
}

/// Takes the machine's proc and sysfs out of a copy of its mounts: the
/// container's own would hide them only until somebody in there, who may mount,
/// takes those away.
fn drop_machines_own(p: &mut Plan, root: &Path) {
    p.begin_part(Purpose::MachinesOwn);
    for name in ["proc", "sys"] {
        // EINVAL: nothing is mounted there, or what came from a mount namespace
        // with more rights, and is held fast.
        p.push(step::detach(root.join(name)).tolerate(&[libc::EINVAL, libc::ENOENT, libc::ENOTDIR]));
    }
    p.end_part();
}

/// When all is in its place: what cannot be written or seen from there on.
pub(super) fn close(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees) {
    let container = launch.container;
    for mount in container.mounts.iter().filter(|mount| is_late(mount)) {
        p.begin_part(Purpose::MountOptions(mount.target.clone()));
        let mounted = paths::open_mounted(p, trees.root, mount);
        p.push(step::mount_setattr(mounted, attributes(libc::MS_RDONLY, 0), false));
        p.free(mounted);
    }
    restrict::mask(p, container, trees);
    for path in &container.readonly_paths {
        restrict::make_read_only(p, trees.root, path);
    }
    p.end_part();
}

/// Gives a tree the place in the list of mounts that it has in the config:
/// since Linux 6.8 they stand there by their numbers, which they got when they
/// were opened. What is attached nowhere can be cloned since 6.15.
fn number_anew(p: &mut Plan, tree: Slot) {
    let anew = p.slot("anew");
    p.if_ok(step::open_tree_at(tree, true).into_slot(anew).tolerate(&[libc::EINVAL]), |p| {
        p.push(step::dup_above(anew, 0).into_slot(tree));
        p.free(anew);
    });
}

/// Makes a directory that is missing, as runc and crun do it for the working
/// directory.
pub(super) fn make_directory(p: &mut Plan, trees: &Trees, path: &Path) {
    let path = paths::relative(path);
    if path.as_os_str().is_empty() {
        return;
    }
    p.begin_part(Purpose::WorkingDirectory);
    let there = p.slot("cwd");
    let open = step::openat2(trees.root, &path, libc::O_PATH, 0, paths::IN_ROOT).into_slot(there);
    p.if_not(open.tolerate(&[libc::ENOENT]), |p| {
        paths::in_parent(p, trees.root, &path, paths::IN_ROOT, false, |p, parent, name| {
            p.push(step::mkdirat(parent, name, 0o755).tolerate(&[libc::EEXIST, libc::EROFS]));
        });
    });
    p.end_part();
}

fn add_mount(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees, mount: &Mount, tree: Option<Slot>) {
    if let MountKind::Remount { bind } = mount.kind {
        return change_mount(p, launch, trees.root, mount, bind);
    }
    let target = paths::target(p, trees.root, mount, launch.is_file(mount));
    // Something that pause holds, or that was opened outside: attach it.
    let tree = tree.or_else(|| {
        let path = launch.pods_own(&mount.kind)?;
        // With what is mounted on it: pause's own directory, read-only. The
        // kernel lets nobody in there mount a procfs anew who sees it so.
        let tree = p.keep("tree", step::open_tree(path, !launch.container.nesting));
        let attr = attributes(all_flags(mount), 0);
        if attr.set & !MADE_STRICT != 0 {
            p.push(step::mount_setattr(tree, attr, false));
        }
        Some(tree)
    });
    let tree = tree.or_else(|| {
        let blind = matches!(launch.image, RootSource::ReadOnlyHost) && mount.kind == MountKind::Tmpfs;
        blind.then(|| detached(p, mount))
    });
    match tree {
        Some(tree) => {
            propagate(p, tree, mount);
            p.push(step::move_mount(tree, target));
            p.free(tree);
        }
        None => {
            // mount(2) onto "." is onto the open directory itself.
            p.push(step::fchdir(target));
            match is_there(launch, mount) {
                true => p.if_not(fresh::mounted(launch, mount, ".").tolerate(&[libc::EBUSY]), |p| {
                    let tree = detached(p, mount);
                    p.push(step::move_mount(tree, target));
                    p.free(tree);
                }),
                false => p.push(fresh::mounted(launch, mount, ".")),
            }
            if mount.propagation.bits() & !libc::MS_REC & !libc::MS_PRIVATE & !libc::MS_SLAVE != 0 {
                let mounted = paths::open_mounted(p, trees.root, mount);
                propagate(p, mounted, mount);
                p.free(mounted);
            }
        }
    }
    p.free(target);
    if mount.target == Path::new("/dev") && mount.kind == MountKind::Tmpfs {
        dev::fill_fresh(p, launch, trees.root, &trees.devices);
    }
}

/// Whether it may be what is mounted there already, by an earlier mount that
/// brought the machine's own: mount(2) does not put a file system on itself.
fn is_there(launch: &ContainerInput<'_>, mount: &Mount) -> bool {
    let earlier = launch.container.mounts.iter().take_while(|other| !std::ptr::eq(*other, mount));
    let mut above = earlier.filter(|other| mount.target.starts_with(&other.target));
    match mount.kind {
        // The machine's /sys has the machine's below.
        MountKind::Cgroup => above.next().is_some(),
        MountKind::Proc | MountKind::Sysfs | MountKind::Mqueue => {
            above.any(|other| matches!(other.kind, MountKind::Bind { .. }) || other.target == mount.target)
        }
        _ => false,
    }
}

/// Other options for what is mounted there.
fn change_mount(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot, mount: &Mount, bind: bool) {
    let mounted = paths::open_mounted(p, root, mount);
    if bind {
        p.push(step::mount_setattr(mounted, attributes(mount.flags.bits(), mount.clear.bits()), false));
    } else {
        p.push(step::fchdir(mounted));
        p.push(step::reconfigure(".", mount.flags.bits() | nodev_of(launch, mount), &mount.data));
    }
    propagate(p, mounted, mount);
    p.free(mounted);
}
