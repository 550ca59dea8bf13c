//! `/dev`: the usual device nodes and links, and the container's own devices.
//!
//! Where the nodes come from is decided by [`DeviceNodes`]; which `/dev` gets
//! them, a fresh one or the image's own, by [`Policy`].

use std::path::{Path, PathBuf};

use pause::wire::Slot;

use super::super::input::{ContainerInput, DeviceNodes, Policy};
use super::super::{Plan, step};
use super::holder;
use super::paths::{STRICT, in_parent, open_strict, relative};
use crate::error::Purpose;
use crate::kernel::idmap;
use crate::spec::{ContainerSpec, Device, DeviceKind, MountKind};

/// Device nodes every container has (OCI runtime-spec, Default Devices).
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Symbolic links in /dev (the same section).
pub(super) const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Device nodes to bind: the machine's, or some made for the container.
pub(super) struct Outside {
    /// Of [`DEVICES`].
    usual: Vec<Option<Slot>>,
    /// Of the container's own.
    own: Vec<Option<Slot>>,
}

/// Whether `/dev` is made anew.
pub(super) fn is_fresh(container: &ContainerSpec) -> bool {
    container.mounts.iter().any(|mount| mount.target == Path::new("/dev") && mount.kind == MountKind::Tmpfs)
}

/// Whether the container's null device may be somebody else's: the image's,
/// or one that is mounted there.
pub(super) fn null_outside(container: &ContainerSpec) -> bool {
    let is = |mount: &&crate::spec::Mount, path: &str| mount.target == Path::new(path);
    let over_dev = container.mounts.iter().filter(|mount| is(mount, "/dev")).count();
    let over_null = container.mounts.iter().any(|mount| is(&mount, "/dev/null"));
    !container.masked_paths.is_empty() && (!is_fresh(container) || over_dev > 1 || over_null)
}

/// The usual devices that the container does not have a word on itself.
fn usual(container: &ContainerSpec) -> impl Iterator<Item = Option<(&'static str, u32, u32)>> {
    let is_own = |name: &str| container.devices.iter().any(|device| device.path == Path::new("/dev").join(name));
    DEVICES.into_iter().map(move |device| (!is_own(device.0)).then_some(device))
}

/// Opens the nodes that are bound.
pub(super) fn open(p: &mut Plan, launch: &ContainerInput<'_>) -> Outside {
    let container = launch.container;
    let made = launch.nodes == DeviceNodes::Made;
    let wanted = !made && fills(launch);
    let usual = usual(container)
        .map(|device| {
            let (name, ..) = device.filter(|_| wanted)?;
            Some(p.keep("device", step::open_tree(Path::new("/dev").join(name), false)))
        })
        .collect();
    let own = match launch.nodes {
        DeviceNodes::MadeOutside => make_outside(p, launch),
        DeviceNodes::Bound | DeviceNodes::Made => {
            let own = container.devices.iter().zip(launch.nodes_outside).map(|(device, source)| {
                p.begin_part(Purpose::Device(device.path.clone()));
                source.as_ref().filter(|_| !made).map(|source| p.keep("device", step::open_tree(source, false)))
            });
            own.collect()
        }
    };
    p.end_part();
    Outside { usual, own }
}

/// The container's own nodes, which nobody in its user namespace could make.
/// A pipe can be made by anybody.
fn make_outside(p: &mut Plan, launch: &ContainerInput<'_>) -> Vec<Option<Slot>> {
    let devices = &launch.container.devices;
    if devices.iter().all(|device| device.kind == DeviceKind::Fifo) {
        return vec![None; devices.len()];
    }
    let users = launch.isolation.users;
    let owner = |id: Option<u32>, maps| idmap::outside(id.unwrap_or(0), maps);
    p.push(step::umask(0));
    let make_one = |p: &mut Plan, holder: Slot, i: usize, device: &Device| {
        p.begin_part(Purpose::Device(device.path.clone()));
        if device.kind == DeviceKind::Fifo {
            return None;
        }
        let (uid, gid) = (owner(device.uid, users.uids()), owner(device.gid, users.gids()));
        let name = PathBuf::from(i.to_string());
        make(p, holder, &name, &Device { uid, gid, ..device.clone() });
        let node = p.keep("node", open_strict(holder, &name, 0));
        let tree = p.keep("device", step::open_tree_at(node, false));
        p.free(node);
        Some(tree)
    };
    holder::attached(p, |p, holder| {
        devices.iter().enumerate().map(|(i, device)| make_one(p, holder, i, device)).collect()
    })
}

/// Whether `/dev` gets the usual things: a fresh one always, the image's own
/// as the OCI specification wants it; one that is bound never.
fn fills(launch: &ContainerInput<'_>) -> bool {
    let container = launch.container;
    let is_bound =
        |mount: &crate::spec::Mount| mount.target == Path::new("/dev") && matches!(mount.kind, MountKind::Bind { .. });
    is_fresh(container) || launch.policy == Policy::Oci && !container.mounts.iter().any(is_bound)
}

/// The usual devices and links of a `/dev` just mounted.
pub(super) fn fill_fresh(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot, outside: &Outside) {
    let dev = p.keep("dev", open_strict(root, Path::new("dev"), libc::O_DIRECTORY));
    fill(p, launch, dev, outside, &[]);
    if launch.policy == Policy::Pod {
        // What the default mounts need below.
        for name in ["pts", "shm", "mqueue"] {
            p.push(step::mkdirat(dev, name, 0o755));
        }
        return;
    }
    // What later mounts need there: nobody has to look for it first.
    let later = launch.container.mounts.iter().skip_while(|mount| mount.target != Path::new("/dev")).skip(1);
    for mount in later.filter(|mount| mount.target.parent() == Some(Path::new("/dev")) && !launch.is_file(mount)) {
        let name = mount.target.file_name().unwrap_or_default();
        p.push(step::mkdirat(dev, name, 0o755).tolerate(&[libc::EEXIST]));
    }
}

/// What remains when everything is mounted: the image's own `/dev`, and the
/// container's devices.
pub(super) fn finish(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot, outside: &Outside) {
    if fills(launch) && !is_fresh(launch.container) {
        p.begin_part(Purpose::Dev);
        p.push(step::mkdirat(root, "dev", 0o755).tolerate(&[libc::EEXIST]));
        let dev = p.keep("dev", open_strict(root, Path::new("dev"), libc::O_DIRECTORY));
        fill(p, launch, dev, outside, &[libc::EEXIST]);
    }
    for (device, bound) in launch.container.devices.iter().zip(&outside.own) {
        p.begin_part(Purpose::Device(device.path.clone()));
        in_parent(p, root, &relative(&device.path), STRICT, false, |p, dir, name| match bound {
            Some(node) => bind(p, dir, name, *node, &[libc::EEXIST]),
            None => make(p, dir, name, device),
        });
    }
    p.end_part();
}

fn fill(p: &mut Plan, launch: &ContainerInput<'_>, dev: Slot, outside: &Outside, tolerate: &'static [i32]) {
    for (device, bound) in usual(launch.container).zip(&outside.usual) {
        let Some((name, major, minor)) = device else { continue };
        match bound {
            Some(node) => bind(p, dev, Path::new(name), *node, tolerate),
            None => {
                let node = step::mknodat(dev, name, libc::S_IFCHR | 0o666, libc::makedev(major, minor));
                p.push(node.tolerate(tolerate));
            }
        }
    }
    for (target, name) in LINKS {
        p.push(step::symlinkat(target, dev, name).tolerate(tolerate));
    }
}

/// A node from outside, on a file made for it.
fn bind(p: &mut Plan, dir: Slot, name: &Path, node: Slot, tolerate: &'static [i32]) {
    p.push(step::mknodat(dir, name, libc::S_IFREG | 0o666, 0).tolerate(tolerate));
    let place = p.keep("node", open_strict(dir, name, 0));
    p.push(step::move_mount(node, place));
    p.free(place);
    p.free(node);
}

/// A node of our own; one that is there already stays as it is.
pub(super) fn make(p: &mut Plan, dir: Slot, name: &Path, device: &Device) {
    let (kind, number) = match device.kind {
        DeviceKind::Char => (libc::S_IFCHR, libc::makedev(device.major, device.minor)),
        DeviceKind::Block => (libc::S_IFBLK, libc::makedev(device.major, device.minor)),
        DeviceKind::Fifo => (libc::S_IFIFO, 0),
    };
    let node = step::mknodat(dir, name, kind | device.mode.unwrap_or(0o666), number);
    p.if_ok(node.tolerate(&[libc::EEXIST]), |p| {
        let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
        if (uid, gid) != (0, 0) {
            p.push(step::fchownat(dir, name, uid, gid));
        }
    });
}
