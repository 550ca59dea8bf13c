//! Finding places in the new root: targets, and what is masked or read-only.

use std::path::{Component, Path, PathBuf};

use pause::wire::Slot;

use super::super::{Arg, Plan, step};
use crate::spec::Mount;

pub(super) const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
pub(super) const STRICT: u64 = IN_ROOT | libc::RESOLVE_NO_SYMLINKS;

pub(in crate::plan) fn open_strict(root: Slot, path: &Path, flags: i32) -> step::Step {
    step::openat2(root, path, libc::O_PATH | flags, 0, STRICT)
}

pub(super) fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

pub(super) fn resolve(mount: &Mount) -> u64 {
    if mount.follows_links() { IN_ROOT } else { STRICT }
}

/// Opens what is mounted on a mount's target: its root.
pub(super) fn open_mounted(p: &mut Plan, root: Slot, mount: &Mount) -> Slot {
    p.keep("mounted", step::openat2(root, relative(&mount.target), libc::O_PATH, 0, resolve(mount)))
}

/// Opens a mount's target below `root`; makes it if it is missing.
pub(super) fn target(p: &mut Plan, root: Slot, mount: &Mount, is_file: bool) -> Slot {
    let resolve = resolve(mount);
    let path = relative(&mount.target);
    let slot = p.slot("target");
    let kind = if is_file { 0 } else { libc::O_DIRECTORY };
    let open = || step::openat2(root, &path, libc::O_PATH | kind, 0, resolve).into_slot(slot);
    p.if_not(open().tolerate(&[libc::ENOENT]), |p| {
        in_parent(p, root, &path, resolve, false, |p, parent, name| {
            let make = if is_file {
                step::mknodat(parent, name, libc::S_IFREG | 0o644, 0)
            } else {
                step::mkdirat(parent, name, 0o755)
            };
            p.push(make.tolerate(&[libc::EEXIST]));
        });
        p.push(open());
    });
    slot
}

/// Opens the directory that `path` is in, and makes what is missing of it;
/// without `openat2`, if it `walks`.
pub(super) fn in_parent(
    p: &mut Plan,
    root: Slot,
    path: &Path,
    resolve: u64,
    walks: bool,
    then: impl FnOnce(&mut Plan, Slot, &Path),
) {
    let mut parent = root;
    let mut opened = Vec::new();
    let mut so_far = PathBuf::new();
    let parts: Vec<_> = path.iter().map(Path::new).collect();
    let Some((name, above)) = parts.split_last() else { return };
    for part in above {
        p.push(step::mkdirat(parent, part, 0o755).tolerate(&[libc::EEXIST]));
        so_far.push(part);
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        parent = p.keep(
            "parent",
            match walks {
                true => step::openat(Arg::Slot(parent), part, flags | libc::O_NOFOLLOW),
                false => step::openat2(root, &so_far, flags, 0, resolve),
            },
        );
        opened.push(parent);
    }
    then(p, parent, name);
    opened.into_iter().for_each(|slot| p.free(slot));
}
