//! An empty directory of our own: trees can only be cloned from what is
//! attached somewhere.

use pause::wire::Slot;

use super::super::{Plan, step};

/// A tree of what `fill` puts into an empty directory.
pub(super) fn hold(p: &mut Plan, fill: impl FnOnce(&mut Plan, Slot)) -> Slot {
    attached(p, |p, place| {
        fill(p, place);
        p.keep("held", step::open_tree_at(place, true))
    })
}

/// What `clone` clones from an empty directory that it fills: trees can only
/// be cloned from what is attached somewhere.
pub(super) fn attached<T>(p: &mut Plan, clone: impl FnOnce(&mut Plan, Slot) -> T) -> T {
    // Nobody else must see it.
    p.push(step::unshare(libc::CLONE_NEWNS as u64));
    p.push(step::remount("/", libc::MS_SLAVE));
    let fs = p.keep("fs", step::fsopen("tmpfs"));
    // In a user namespace the container's root looks for them, too.
    p.push(step::fsconfig(fs, "mode", "0755"));
    p.push(step::fscreate(fs));
    let attached = p.keep("holder", step::fsmount(fs, 0));
    // Paths still begin below it.
    p.push(step::move_mount_to(attached, "/"));
    let cloned = clone(p, attached);
    // Who lives below another root can make no user namespace.
    p.push(step::fchdir(attached));
    p.push(step::detach("."));
    p.push(step::chdir("/"));
    cloned
}
