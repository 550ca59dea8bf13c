//! Steps that build a container's root.
//!
//! Two rules keep every mount inside. A target is found with `openat2` from
//! the descriptor of the new root (`RESOLVE_IN_ROOT`, no magic links; where
//! the specification names the target, no symbolic links at all), and mounted
//! on by that descriptor: what somebody renames in between does not matter.
//! And what is mounted from outside was opened outside, as a detached tree.

use std::path::{Component, Path, PathBuf};

use pause::wire::Slot;

use super::step::{self, MountAttr};
use super::{Given, Plan};
use crate::spec::{Container, Mount, MountKind};

use super::launch::{Image, Launch, Source};

/// Device nodes every container has (OCI runtime-spec, Default Devices).
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Symbolic links in /dev (the same section).
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Private, and without devices: a container may have the capability to make
/// nodes, and until there are rules for devices only these six may be opened.
const PRIVATE: MountAttr = MountAttr { set: libc::MOUNT_ATTR_NODEV, clear: 0, propagation: libc::MS_PRIVATE, users: 0 };

/// Detached trees, opened before the container's mount namespace is entered.
pub(super) struct Trees {
    pub root: Slot,
    /// One for each mount that has a source outside, in the mounts' order.
    binds: Vec<Option<Slot>>,
    /// The machine's device nodes.
    devices: Vec<Slot>,
}

/// Opens everything that is outside.
pub(super) fn open_trees(p: &mut Plan, launch: &Launch<'_>) -> Trees {
    let container = launch.container;
    let root = match launch.image {
        Image::Dir { path, idmapped } => {
            let root = p.keep("rootfs", step::open_tree(path, true));
            let mut attr = PRIVATE;
            if idmapped {
                attr.set |= libc::MOUNT_ATTR_IDMAP;
                attr.users = p.slot_of(Given::PauseUsers).0.into();
            }
            p.push(step::mount_setattr(root, attr, true));
            root
        }
        Image::Overlay { upper, work } => {
            let fs = p.keep("fs", step::fsopen("overlay"));
            p.push(step::fsconfig(fs, "lowerdir", "/"));
            p.push(step::fsconfig(fs, "upperdir", upper));
            p.push(step::fsconfig(fs, "workdir", work));
            p.push(step::fscreate(fs));
            p.keep("rootfs", step::fsmount(fs, libc::MOUNT_ATTR_NODEV))
        }
        Image::ReadOnlyHost => {
            let root = p.keep("rootfs", step::open_tree("/", true));
            let attr = MountAttr { set: PRIVATE.set | libc::MOUNT_ATTR_RDONLY, ..PRIVATE };
            p.push(step::mount_setattr(root, attr, true));
            root
        }
    };
    let mut binds = Vec::new();
    for mount in &container.mounts {
        binds.push(outside_source(mount, launch).map(|(source, recursive)| {
            let tree = p.keep("tree", step::open_tree(source, recursive));
            // A read-only /sys must not have writable mounts below.
            let below = if mount.kind == MountKind::Sysfs { mount.flags } else { mount.recursive_flags };
            let mut all = MountAttr { propagation: libc::MS_PRIVATE, ..attributes(below) };
            // A device that is asked for by its name is given.
            if launch.source_of(mount) != Some(Source::File) {
                all.set |= PRIVATE.set;
            }
            p.push(step::mount_setattr(tree, all, recursive));
            let top = attributes(mount.flags);
            if top != MountAttr::default() {
                p.push(step::mount_setattr(tree, top, false));
            }
            tree
        }));
    }
    let mut devices = Vec::new();
    if has_dev(container) {
        for name in DEVICES {
            devices.push(p.keep("device", step::open_tree(Path::new("/dev").join(name), false)));
        }
    }
    Trees { root, binds, devices }
}

/// The path outside that a mount clones, if it does.
fn outside_source<'a>(mount: &'a Mount, launch: &Launch<'_>) -> Option<(&'a Path, bool)> {
    match &mount.kind {
        MountKind::Bind { source, recursive } => Some((source, *recursive)),
        // Where it can be mounted afresh, that is better: nothing below it.
        MountKind::Sysfs if launch.host_net() && !launch.can_mount_afresh() => Some((Path::new("/sys"), true)),
        MountKind::Mqueue if launch.host_ipc() && launch.has_host_mqueue => Some((Path::new("/dev/mqueue"), false)),
        MountKind::Shm if launch.host_ipc() => Some((Path::new("/dev/shm"), false)),
        _ => None,
    }
}

fn has_dev(container: &Container) -> bool {
    container.mounts.iter().any(|mount| mount.target == Path::new("/dev") && mount.kind == MountKind::Tmpfs)
}

/// Attaches the root in the pod's own, and everything in it.
pub(super) fn build(p: &mut Plan, launch: &Launch<'_>, trees: &Trees) {
    let container = launch.container;
    p.push(step::move_mount_to(trees.root, "/root"));
    p.push(step::umask(0));
    for (mount, bind) in container.mounts.iter().zip(&trees.binds) {
        add_mount(p, launch, trees, mount, *bind);
    }
    mask(p, container, trees.root);
    for path in &container.readonly_paths {
        make_read_only(p, trees.root, path);
    }
}

/// Makes what was built the root, by `pivot_root(2)`.
pub(super) fn change_root(p: &mut Plan, container: &Container, trees: &Trees) {
    finish(p, container, trees);
    p.push(step::fchdir(trees.root));
    p.push(step::pivot_root());
    p.push(step::detach("."));
    p.push(step::chdir("/"));
    p.push(step::umask(container.umask));
}

/// The same where the machine's root is a ramdisk, which cannot be pivoted:
/// it stays below.
pub(super) fn move_root(p: &mut Plan, container: &Container, trees: &Trees) {
    finish(p, container, trees);
    p.push(step::fchdir(trees.root));
    p.push(step::move_here_to_root());
    p.push(step::chroot("."));
    p.push(step::chdir("/"));
    p.push(step::umask(container.umask));
}

fn finish(p: &mut Plan, container: &Container, trees: &Trees) {
    if container.read_only {
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        p.push(step::mount_setattr(trees.root, attr, false));
    }
}

fn add_mount(p: &mut Plan, launch: &Launch<'_>, trees: &Trees, mount: &Mount, bind: Option<Slot>) {
    let is_file = matches!(launch.source_of(mount), Some(Source::File));
    let target = target(p, trees.root, mount, is_file);
    // Something that pause holds, or that was opened outside: attach it.
    let tree = bind.or_else(|| {
        let path = launch.pods_own(&mount.kind)?;
        let tree = p.keep("tree", step::open_tree(path, true));
        let attr = attributes(mount.flags);
        if attr.set & !MADE_STRICT != 0 {
            p.push(step::mount_setattr(tree, attr, false));
        }
        Some(tree)
    });
    let tree = tree.or_else(|| {
        let blind = matches!(launch.image, Image::ReadOnlyHost) && mount.kind == MountKind::Tmpfs;
        blind.then(|| detached_tmpfs(p, mount))
    });
    match tree {
        Some(tree) => p.push(step::move_mount(tree, target)),
        None => {
            // mount(2) onto "." is onto the open directory itself.
            let kind = match mount.kind {
                MountKind::Proc => "proc",
                MountKind::Sysfs => "sysfs",
                MountKind::Mqueue => "mqueue",
                MountKind::Devpts => "devpts",
                MountKind::Cgroup => "cgroup2",
                _ => "tmpfs",
            };
            p.push(step::fchdir(target));
            let nodev = if mount.kind == MountKind::Devpts { 0 } else { libc::MS_NODEV };
            p.push(step::mount(kind, ".", kind, mount.flags | nodev, &launch.data_of(mount)));
        }
    }
    if mount.target == Path::new("/dev") && mount.kind == MountKind::Tmpfs {
        fill_dev(p, trees);
    }
}

/// A tmpfs to be moved into place. Where the machine's root is seen by an
/// ordinary user, a place like /root cannot be entered to mount on ".".
fn detached_tmpfs(p: &mut Plan, mount: &Mount) -> Slot {
    let fs = p.keep("fs", step::fsopen("tmpfs"));
    for option in mount.data.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        p.push(step::fsconfig(fs, key, value));
    }
    p.push(step::fscreate(fs));
    p.keep("tree", step::fsmount(fs, attributes(mount.flags).set))
}

/// What pause's own mounts were made with.
const MADE_STRICT: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// The attributes mount_setattr(2) knows for flags of mount(2).
fn attributes(flags: u64) -> MountAttr {
    let table = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    ];
    let set = table.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |set, (_, attr)| set | attr);
    let atime = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;
    let clear = if set & atime != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
    MountAttr { set, clear, ..MountAttr::default() }
}

/// Devices and links of a fresh /dev.
fn fill_dev(p: &mut Plan, trees: &Trees) {
    let dev = p.keep("dev", open_strict(trees.root, Path::new("dev"), libc::O_DIRECTORY));
    for (name, &device) in DEVICES.iter().zip(&trees.devices) {
        p.push(step::mknodat(dev, name, libc::S_IFREG | 0o666, 0));
        let node = p.keep("node", open_strict(dev, Path::new(name), 0));
        p.push(step::move_mount(device, node));
    }
    for (target, name) in LINKS {
        p.push(step::symlinkat(target, dev, name));
    }
    // What the default mounts need below.
    for name in ["pts", "shm", "mqueue"] {
        p.push(step::mkdirat(dev, name, 0o755));
    }
}

const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
const STRICT: u64 = IN_ROOT | libc::RESOLVE_NO_SYMLINKS;

pub(super) fn open_strict(root: Slot, path: &Path, flags: i32) -> step::Step {
    step::openat2(root, path, libc::O_PATH | flags, 0, STRICT)
}

fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Opens a mount's target below `root`; makes it if it is missing.
fn target(p: &mut Plan, root: Slot, mount: &Mount, is_file: bool) -> Slot {
    // These the image must not redirect, not even to somewhere inside: others
    // rely on finding the kernel's own files there.
    let kernels = !matches!(mount.kind, MountKind::Bind { .. } | MountKind::Tmpfs) || mount.target == Path::new("/dev");
    let resolve = if kernels { STRICT } else { IN_ROOT };
    let path = relative(&mount.target);
    let slot = p.slot("target");
    let kind = if is_file { 0 } else { libc::O_DIRECTORY };
    let open = || step::openat2(root, &path, libc::O_PATH | kind, 0, resolve).into_slot(slot);
    p.if_not(open().tolerate(&[libc::ENOENT]), |p| {
        let mut parent = root;
        let mut so_far = PathBuf::new();
        let parts: Vec<_> = path.iter().collect();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let make = if last && is_file {
                step::mknodat(parent, &part.to_string_lossy(), libc::S_IFREG | 0o644, 0)
            } else {
                step::mkdirat(parent, part, 0o755)
            };
            p.push(make.tolerate(&[libc::EEXIST]));
            so_far.push(part);
            if !last {
                parent = p.keep("parent", step::openat2(root, &so_far, libc::O_PATH | libc::O_DIRECTORY, 0, resolve));
            }
        }
        p.push(open());
    });
    slot
}

/// Covers each path with something empty. What covers is ours: the null
/// device of the /dev just made, and a tmpfs of no size.
fn mask(p: &mut Plan, container: &Container, root: Slot) {
    if container.masked_paths.is_empty() {
        return;
    }
    let null = p.slot("null");
    p.push(open_strict(root, Path::new("dev/null"), 0).into_slot(null));
    for path in &container.masked_paths {
        let path = relative(path);
        let covered = p.slot("covered");
        let open = |flags| open_strict(root, &path, flags).into_slot(covered);
        // A directory; else a file; else there is nothing to cover.
        let at = p.steps.len();
        p.push(open(libc::O_DIRECTORY).tolerate(&[libc::ENOTDIR, libc::ENOENT]));
        p.push(step::fchdir(covered));
        p.push(step::mount(
            "tmpfs",
            ".",
            "tmpfs",
            libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            "nr_blocks=1,nr_inodes=1",
        ));
        // Covered now: the next one finds the tmpfs, which is fine but needless.
        p.steps[at].skip_err = 2;
        let done = p.steps.len() - 1;
        p.if_ok(open(0).tolerate(&[libc::ENOENT, libc::ENOTDIR]), |p| {
            let tree = p.keep("tree", step::open_tree_at(null, false));
            p.push(step::move_mount(tree, covered));
        });
        p.steps[done].skip_ok = (p.steps.len() - done - 1) as u16;
    }
}

/// Binds a path onto itself, read-only.
fn make_read_only(p: &mut Plan, root: Slot, path: &Path) {
    let open = open_strict(root, &relative(path), 0).tolerate(&[libc::ENOENT, libc::ENOTDIR]);
    let at = p.slot("path");
    p.if_ok(open.into_slot(at), |p| {
        let tree = p.keep("tree", step::open_tree_at(at, true));
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        p.push(step::mount_setattr(tree, attr, true));
        p.push(step::move_mount(tree, at));
    });
}
