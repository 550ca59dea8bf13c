//! What was built becomes the root.

use pause::wire::Slot;

use super::super::input::{ContainerInput, MachineMount};
use super::super::{Plan, step};
use super::flags::attributes;
use super::fresh::nothing;
use crate::error::Purpose;

/// Makes what was built the root, by `pivot_root(2)`.
pub(in crate::plan) fn change_root(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot) {
    finish(p, launch, root);
    become_root(p, launch, root);
    p.push(step::umask(launch.container.process.umask));
}

/// The same where the machine's root is a ramdisk, which cannot be pivoted: it
/// stays below, without what is in `below`.
pub(in crate::plan) fn move_root(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot, below: &[MachineMount]) {
    finish(p, launch, root);
    p.push(step::fchdir(root));
    p.push(step::move_here_to_root());
    // As long as this process has the machine's root, paths lead there.
    for mount in below {
        p.begin_part(Purpose::MachineMount(mount.point.clone()));
        // Its parent may have gone already, with all below. What came from a
        // mount namespace with more rights cannot be taken away.
        let detach = step::detach(&mount.point).tolerate(&[libc::EINVAL, libc::ENOENT, libc::ENOTDIR]);
        match mount.reveals {
            true => p.if_not(detach, |p| {
                p.push(nothing(&mount.point).tolerate(&[libc::ENOENT, libc::ENOTDIR]));
            }),
            false => p.push(detach),
        }
    }
    p.end_part();
    p.push(step::chroot("."));
    p.push(step::chdir("/"));
    p.push(step::umask(launch.container.process.umask));
}

pub(super) fn finish(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot) {
    if launch.container.read_only {
        p.push(step::mount_setattr(root, attributes(libc::MS_RDONLY, 0), false));
    }
}

pub(super) fn become_root(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot) {
    let propagation = launch.container.root_propagation.bits();
    let shared = propagation & libc::MS_SHARED != 0;
    // Unmounting the old root must not reach where it came from.
    let old = shared.then(|| p.keep("old_root", step::openat(step::CWD, "/", libc::O_PATH | libc::O_DIRECTORY)));
    p.push(step::fchdir(root));
    p.push(step::pivot_root());
    if let Some(old) = old {
        p.push(step::fchdir(old));
        p.push(step::remount(".", libc::MS_SLAVE | libc::MS_REC));
    }
    p.push(step::detach("."));
    p.push(step::chdir("/"));
    if propagation & !libc::MS_REC & !libc::MS_PRIVATE != 0 {
        p.push(step::remount("/", propagation));
    }
}
