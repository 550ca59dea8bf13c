//! What is masked or read-only.

use std::path::Path;

use pause::wire::Slot;

use super::super::Plan;
use super::super::step::{self, MountAttr};
use super::fresh::nothing;
use super::paths::{IN_ROOT, STRICT, open_strict, relative};
use super::tree::Trees;
use crate::error::Purpose;
use crate::spec::ContainerSpec;

/// Covers each path with something empty. What covers is ours: a null device,
/// and a tmpfs of no size.
pub(super) fn mask(p: &mut Plan, container: &ContainerSpec, trees: &Trees) {
    if container.masked_paths.is_empty() {
        return;
    }
    let root = trees.root;
    let own = trees.nulls.is_empty().then(|| p.keep("null", open_strict(root, Path::new("dev/null"), 0)));
    for (i, path) in container.masked_paths.iter().enumerate() {
        p.begin_part(Purpose::Mask(path.clone()));
        let path = relative(path);
        let covered = p.slot("covered");
        // A directory; else a file; else there is nothing to cover.
        let at = p.steps.len();
        p.push(open_to_restrict(root, &path, 0).into_slot(covered).tolerate(&[libc::ENOENT, libc::ENOTDIR]));
        let is_directory = p.steps.len();
        p.push(step::fchdir(covered).tolerate(&[libc::ENOTDIR]));
        p.push(nothing("."));
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
    p.begin_part(Purpose::ReadOnly(path.into()));
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

/// Opens what is to be covered or made read-only. Links of the image may lead
/// to it, as they do for whoever looks there; not to what the kernel shows.
fn open_to_restrict(root: Slot, path: &Path, flags: i32) -> step::Step {
    let kernels = ["proc", "sys"].iter().any(|dir| path.starts_with(dir));
    step::openat2(root, path, libc::O_PATH | flags, 0, if kernels { STRICT } else { IN_ROOT })
}
