//! Finding places in the new root: targets, and what is masked or read-only.

use std::path::{Component, Path, PathBuf};

use pause::wire::Slot;

use super::super::step::{self, MountAttr};
use super::super::{Arg, Plan};
use super::tree::Trees;
use crate::spec::{Container, Mount};

pub(super) const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
pub(super) const STRICT: u64 = IN_ROOT | libc::RESOLVE_NO_SYMLINKS;

pub(in crate::plan) fn open_strict(root: Slot, path: &Path, flags: i32) -> step::Step {
    step::openat2(root, path, libc::O_PATH | flags, 0, STRICT)
}

/// Opens what is to be covered or made read-only. Links of the image may lead
/// to it, as they do for whoever looks there; not to what the kernel shows.
fn open_to_restrict(root: Slot, path: &Path, flags: i32) -> step::Step {
    let kernels = ["proc", "sys"].iter().any(|dir| path.starts_with(dir));
    step::openat2(root, path, libc::O_PATH | flags, 0, if kernels { STRICT } else { IN_ROOT })
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

/// Covers each path with something empty. What covers is ours: a null device,
/// and a tmpfs of no size.
pub(super) fn mask(p: &mut Plan, container: &Container, trees: &Trees) {
    if container.masked_paths.is_empty() {
        return;
    }
    let root = trees.root;
    let own = trees.nulls.is_empty().then(|| p.keep("null", open_strict(root, Path::new("dev/null"), 0)));
    for (i, path) in container.masked_paths.iter().enumerate() {
        p.begin_part(format!("masking {}", path.display()));
        let path = relative(path);
        let covered = p.slot("covered");
        // A directory; else a file; else there is nothing to cover.
        let at = p.steps.len();
        p.push(open_to_restrict(root, &path, 0).into_slot(covered).tolerate(&[libc::ENOENT, libc::ENOTDIR]));
        let is_directory = p.steps.len();
        p.push(step::fchdir(covered).tolerate(&[libc::ENOTDIR]));
        p.push(step::mount(
            "tmpfs",
            ".",
            "tmpfs",
            libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            "nr_blocks=1,nr_inodes=1",
        ));
        let done = p.steps.len() - 1;
        p.skip_to_here(&[is_directory]);
        let tree = match own {
            Some(null) => p.keep("tree", step::open_tree_at(null, false)),
            None => trees.nulls[i],
        };
        p.push(step::move_mount(tree, covered));
        p.free(tree);
        p.steps[done].skip_ok = (p.steps.len() - done - 1) as u16;
        p.skip_to_here(&[at]);
    }
}

/// Binds a path onto itself, read-only; it keeps the other options of the
/// mount it is on.
pub(super) fn make_read_only(p: &mut Plan, root: Slot, path: &Path) {
    p.begin_part(format!("making {} read-only", path.display()));
    let open = open_to_restrict(root, &relative(path), 0).tolerate(&[libc::ENOENT, libc::ENOTDIR]);
    let at = p.slot("path");
    p.if_ok(open.into_slot(at), |p| {
        let tree = p.keep("tree", step::open_tree_at(at, true));
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        p.push(step::mount_setattr(tree, attr, true));
        p.push(step::move_mount(tree, at));
        p.free(tree);
        p.free(at);
    });
}
