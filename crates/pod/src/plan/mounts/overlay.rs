//! The overlay that a root is.
//!
//! What the kernel takes in one piece is short: 255 bytes a value by fsconfig(2),
//! a page for all options of mount(2). Layers may be many and their paths long, so
//! there are three ways:
//!
//! ```text
//!   lowerdir=a:b:c             where that is short enough, and for one layer
//!   lowerdir+=a lowerdir+=b    one by one, as Linux 6.5 takes them
//!   lowerdir=0:1:2             names of the layers' mounts in a directory of our own:
//!                              before that, for longer paths, and for layers whose
//!                              ids are mapped, which is done to a mount
//! ```
//!
//! The third is done by mount(2), in the holder or its like, and nobody else sees
//! it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use pause::wire::Slot;

use super::super::input::{ContainerInput, Overlay, RootSource};
use super::super::step::{self, CWD, MountAttr};
use super::super::{Given, Plan, ids};
use super::holder::attached;
use super::paths::open_strict;
use crate::error::Purpose;
use crate::kernel::mount_api::FOLLOWS_NOTHING;

/// The longest value of fsconfig(2), in bytes.
const VALUE: usize = 255;
/// The longest options of mount(2), in bytes.
const PAGE: usize = 4095;

/// Whether it is made in a copy of the machine's mounts.
pub(super) fn takes_a_copy(launch: &ContainerInput<'_>) -> bool {
    match launch.image {
        RootSource::Overlay(overlay) => way(launch, &overlay) == Way::InACopy,
        _ => false,
    }
}

/// Opens it as a detached tree, with `MOUNT_ATTR_*`.
pub(super) fn open(p: &mut Plan, launch: &ContainerInput<'_>, overlay: Overlay<'_>, attributes: u64) -> Slot {
    p.begin_part(Purpose::Overlay);
    let way = way(launch, &overlay);
    let root = match way {
        Way::InACopy => in_a_copy(p, launch, &overlay, attributes),
        Way::AtOnce | Way::OneByOne => {
            let fs = p.keep("fs", step::fsopen("overlay"));
            match way {
                Way::AtOnce => p.push(step::fsconfig(fs, "lowerdir", joined(overlay.lower))),
                _ => overlay.lower.iter().for_each(|dir| p.push(step::fsconfig(fs, "lowerdir+", dir))),
            }
            p.push(step::fsconfig(fs, "upperdir", escaped(overlay.upper)));
            p.push(step::fsconfig(fs, "workdir", escaped(overlay.work)));
            if launch.isolation.overlays_in_users(launch.facts) {
                p.push(step::fsconfig_flag(fs, "userxattr"));
            }
            FOLLOWS_NOTHING.iter().for_each(|(key, value)| p.push(step::fsconfig(fs, key, value)));
            p.push(step::fscreate(fs));
            let root = p.keep("rootfs", step::fsmount(fs, attributes));
            p.free(fs);
            root
        }
    };
    p.end_part();
    root
}

/// Mounts it by the legacy mount API, on its upper directory, where it is.
pub(super) fn mount<'a>(p: &mut Plan, launch: &ContainerInput<'_>, overlay: Overlay<'a>) -> &'a Path {
    p.begin_part(Purpose::Overlay);
    let (upper, work) = (escaped(overlay.upper), escaped(overlay.work));
    let options = options(launch, &joined(overlay.lower), &upper, &work);
    let flags = launch.policy.nodev();
    match (overlay.lower, options.len() <= PAGE) {
        ([.., lowest], false) => {
            // The names' directory lies on the lowest layer, which is reached by
            // its descriptor then.
            let covered = p.keep("covered", step::openat(CWD, lowest, libc::O_PATH | libc::O_DIRECTORY));
            let place = p.slot_of(Given::Plan);
            p.push(step::dup3(covered, place));
            p.free(covered);
            p.push(step::mount("tmpfs", lowest, "tmpfs", 0, "mode=0755"));
            let names = p.keep("holder", step::openat(CWD, lowest, libc::O_PATH | libc::O_DIRECTORY));
            p.push(step::fchdir(names));
            bind_numbered(p, names, overlay.lower, Some((lowest, "/proc/self/fd/3")));
            let options = self::options(launch, &numbered(overlay.lower.len()), &upper, &work);
            p.push(step::mount("overlay", overlay.upper, "overlay", flags, options));
            p.push(step::detach("."));
            p.push(step::chdir("/"));
            p.free(names);
        }
        _ => p.push(step::mount("overlay", overlay.upper, "overlay", flags, options)),
    }
    p.end_part();
    overlay.upper
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    AtOnce,
    OneByOne,
    InACopy,
}

fn way(launch: &ContainerInput<'_>, overlay: &Overlay<'_>) -> Way {
    let one_by_one = launch.facts.calls.layers;
    // Before, a value with a comma was refused.
    let fits = |value: &OsStr| value.len() <= VALUE && (one_by_one || !value.as_bytes().contains(&b','));
    let takes_upper = fits(&escaped(overlay.upper)) && fits(&escaped(overlay.work));
    if overlay.idmapped || !takes_upper {
        Way::InACopy
    } else if fits(&joined(overlay.lower)) {
        Way::AtOnce
    } else if one_by_one && overlay.lower.iter().all(|dir| dir.as_os_str().len() <= VALUE) {
        Way::OneByOne
    } else {
        Way::InACopy
    }
}

/// A detached tree of an overlay that was mounted where nobody else sees it.
fn in_a_copy(p: &mut Plan, launch: &ContainerInput<'_>, overlay: &Overlay<'_>, attributes: u64) -> Slot {
    let users = overlay.idmapped.then(|| p.slot_of(Given::PauseUsers));
    let root = attached(p, |p, holder| {
        p.push(step::fchdir(holder));
        let (mut upper, mut work) = (overlay.upper.to_path_buf(), overlay.work.to_path_buf());
        match users {
            None => bind_numbered(p, holder, overlay.lower, None),
            Some(users) => {
                for (number, dir) in overlay.lower.iter().enumerate() {
                    attach_mapped(p, holder, dir, &number.to_string(), users);
                }
                if let (Some(parent), Some(one), Some(other)) = (upper.parent(), upper.file_name(), work.file_name()) {
                    // The kernel wants both on one mount.
                    attach_mapped(p, holder, parent, "changes", users);
                    (upper, work) = (Path::new("changes").join(one), Path::new("changes").join(other));
                }
            }
        }
        p.push(step::mkdirat(holder, "root", 0o755));
        let options = options(launch, &numbered(overlay.lower.len()), &escaped(&upper), &escaped(&work));
        let mount = step::mount("overlay", "root", "overlay", 0, options);
        match users {
            // It writes to what is mapped as who mounts it, who has to be in the maps.
            Some(_) => ids::as_their_root(p, launch.isolation.users, |p| p.push(mount)),
            None => p.push(mount),
        }
        p.keep("rootfs", step::open_tree_below(holder, "root"))
    });
    let attributes = MountAttr { set: attributes, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    p.push(step::mount_setattr(root, attributes, false));
    root
}

/// Binds each directory to its number in `names`, the working directory; the one
/// that is `covered` by what its descriptor leads to.
fn bind_numbered(p: &mut Plan, names: Slot, dirs: &[PathBuf], covered: Option<(&Path, &str)>) {
    for (number, dir) in dirs.iter().enumerate() {
        let name = number.to_string();
        p.push(step::mkdirat(names, &name, 0o755));
        let source = covered.filter(|(covered, _)| dir == covered).map_or(dir.as_path(), |(_, open)| Path::new(open));
        p.push(step::bind(source, name, false));
    }
}

/// Attaches a directory to an entry of `holder`, with the pod's ids.
fn attach_mapped(p: &mut Plan, holder: Slot, dir: &Path, name: &str, users: Slot) {
    let tree = p.keep("tree", step::open_tree(dir, false));
    let mapped = MountAttr { set: libc::MOUNT_ATTR_IDMAP, users: users.0.into(), ..MountAttr::default() };
    p.push(step::mount_setattr(tree, mapped, false));
    p.push(step::mkdirat(holder, name, 0o700));
    let place = p.keep("place", open_strict(holder, Path::new(name), 0));
    p.push(step::move_mount(tree, place));
    p.free(tree);
    p.free(place);
}

/// Options of mount(2).
fn options(launch: &ContainerInput<'_>, lower: &OsStr, upper: &OsStr, work: &OsStr) -> OsString {
    let users = if launch.isolation.overlays_in_users(launch.facts) { ",userxattr" } else { "" };
    let fixed = FOLLOWS_NOTHING.map(|(key, value)| format!(",{key}={value}")).concat();
    let parts = ["lowerdir=".as_ref(), lower, ",upperdir=".as_ref(), upper, ",workdir=".as_ref(), work];
    parts.into_iter().chain([users.as_ref(), fixed.as_ref()]).collect()
}

fn numbered(layers: usize) -> OsString {
    (0..layers).map(|number| number.to_string()).collect::<Vec<_>>().join(":").into()
}

fn joined(layers: &[PathBuf]) -> OsString {
    let layers: Vec<_> = layers.iter().map(|dir| escaped(dir)).collect();
    layers.join(OsStr::new(":"))
}

/// As overlayfs takes a path: what separates has a backslash before it.
fn escaped(path: &Path) -> OsString {
    let special = |byte: &u8| b"\\,:".contains(byte);
    let bytes = path.as_os_str().as_bytes().iter();
    OsString::from_vec(bytes.flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte])).collect())
}
