//! A root among the mounts of others: in a mount namespace that is joined, or
//! in the caller's.
//!
//! It was built where nobody else sees it. What others get is a copy, with
//! everything that is mounted in it, by a single call: half-made it is nowhere
//! to be seen, and nothing has to be undone.

use std::path::Path;

use pause::wire::Slot;

use super::super::input::ContainerInput;
use super::super::step::{self, MountAttr};
use super::super::{Given, Plan};
use super::root::finish;
use crate::error::Purpose;

const PRIVATE: MountAttr = MountAttr { set: 0, clear: 0, propagation: libc::MS_PRIVATE, users: 0 };

/// Joins the mount namespace, and attaches the root at the path that it has
/// outside; to be changed to.
pub(in crate::plan) fn take_to_others(p: &mut Plan, path: &Path, built: Slot) -> Slot {
    let root = copy(p, built);
    join(p);
    p.begin_part(Purpose::JoinedRoot);
    let place = p.keep("place", step::openat(step::CWD, path, libc::O_PATH | libc::O_DIRECTORY));
    // Nothing that is attached here comes out, or is in the way of the pivot;
    // and when the old root goes, it goes from here alone.
    p.push(step::remount("/", libc::MS_REC | libc::MS_PRIVATE));
    p.push(step::move_mount(root, place));
    p.end_part();
    root
}

/// Goes back to the caller's mount namespace, and attaches the root there, on
/// an empty file system with the source `mark`.
///
/// That is also what keeps the rest to ourselves: where the machine's mounts
/// are shared, what is attached to them appears in every namespace that has a
/// copy, and only what has nothing on it goes from there with ours.
pub(in crate::plan) fn take_to_caller(p: &mut Plan, mark: &str, built: Slot) -> Slot {
    let root = copy(p, built);
    // As a slave of the file system it is on it would get the mark, too.
    p.push(step::mount_setattr(root, PRIVATE, false));
    let fs = p.keep("fs", step::fsopen("tmpfs"));
    p.push(step::fsconfig(fs, "source", mark));
    p.push(step::fsconfig(fs, "mode", "0700"));
    p.push(step::fscreate(fs));
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let marked = p.keep("mark", step::fsmount(fs, attributes));
    join(p);
    // By a descriptor: joining has put us at the namespace's root, which need
    // not be the caller's.
    p.push(step::move_mount(marked, p.slot_of(Given::Place)));
    p.push(step::mount_setattr(marked, PRIVATE, false));
    p.push(step::move_mount(root, marked));
    root
}

/// Makes what stands in the caller's mount table the root of this process.
pub(in crate::plan) fn enter_root(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot) {
    finish(p, launch, root);
    let asked = launch.container.root_propagation.bits();
    let propagation = asked & !libc::MS_REC;
    // Private it is. Shared it is so with nobody who was there before.
    if propagation & !libc::MS_PRIVATE != 0 {
        let attr = MountAttr { propagation, ..MountAttr::default() };
        p.push(step::mount_setattr(root, attr, asked & libc::MS_REC != 0));
    }
    p.push(step::fchdir(root));
    p.push(step::chroot("."));
    p.push(step::chdir("/"));
    p.push(step::umask(launch.container.process.umask));
}

fn copy(p: &mut Plan, built: Slot) -> Slot {
    p.keep("root", step::open_tree_at(built, true))
}

fn join(p: &mut Plan) {
    p.push(step::setns(p.slot_of(Given::Mounts), libc::CLONE_NEWNS as u64));
}
