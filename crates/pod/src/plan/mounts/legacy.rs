//! The legacy mount API, where a sandbox denies the new calls: the container's
//! process builds its root itself, by paths, in a copy of the machine's mounts.
//!
//! Descriptors still say where a mount goes: `/proc/self/fd/3` is followed to
//! the place that is open there, whatever has been renamed meanwhile. What is
//! lost: while it works this process has a pid in the pod and rights in the
//! machine (docs/security.md), and sources are found by their paths.

use std::path::Path;

use pause::wire::Slot;

use super::super::input::{Below, ContainerInput, LegacyMounts, RootSource};
use super::super::step::{self, CWD};
use super::super::{Arg, Given, Plan, terminal};
use super::flags::{ATIME, all_flags, is_late};
use super::paths::{STRICT, in_parent, relative, resolve};
use super::purpose::purpose_of;
use super::{dev, fresh, overlay};
use crate::error::Purpose;
use crate::spec::{MOUNT_FLAGS, Mount, MountKind};

/// The descriptor that [`PLACE`] leads to; the plan's, which is mapped.
const AT: Given = Given::Plan;
const PLACE: &str = "/proc/self/fd/3";

/// A copy of the machine's mounts, none of which comes out.
pub(in crate::plan) fn cut_off(p: &mut Plan, launch: &ContainerInput<'_>) {
    let container = launch.container;
    let receives = |propagation: u64| propagation & !libc::MS_REC == libc::MS_SLAVE;
    let any = container.root_propagation.bits() == 0
        || receives(container.root_propagation.bits())
        || container.mounts.iter().any(|mount| receives(mount.propagation.bits()));
    p.push(step::remount("/", libc::MS_REC | if any { libc::MS_SLAVE } else { libc::MS_PRIVATE }));
}

/// Builds the root and makes it that.
pub(in crate::plan) fn build(p: &mut Plan, launch: &ContainerInput<'_>, old: &LegacyMounts) {
    let container = launch.container;
    let root = attach_root(p, launch);
    let mut build = Build { p, launch, old, root };
    build.settle_root();
    build.p.push(step::umask(0));
    for (i, mount) in container.mounts.iter().enumerate() {
        build.p.begin_part(purpose_of(mount));
        build.add(i, mount);
    }
    build.devices();
    build.terminal();
    for mount in container.mounts.iter().filter(|mount| is_late(mount)) {
        build.p.begin_part(Purpose::MountOptions(mount.target.clone()));
        build.change(&mount.target, resolve(mount), all_flags(mount) | build.nodev());
    }
    build.mask();
    for path in &container.readonly_paths {
        build.read_only(path);
    }
    // As pause has it in the procfs that the new order copies.
    let procfs = container.mounts.iter().filter(|mount| mount.kind == MountKind::Proc);
    for mount in procfs.filter(|_| launch.sees_pause() && !container.nesting) {
        build.read_only(&mount.target.join("1"));
    }
    build.p.end_part();
    if container.read_only {
        let flags = own_flags(&old.root) | build.nodev() | libc::MS_RDONLY;
        build.change_open(root, flags);
    }
    super::root::become_root(p, launch, root);
    p.push(step::umask(container.process.umask));
}

/// The root, as a mount.
fn attach_root(p: &mut Plan, launch: &ContainerInput<'_>) -> Slot {
    let path = match launch.image {
        RootSource::Dir { path, .. } => {
            p.push(step::bind(path, path, true));
            path
        }
        RootSource::Overlay(overlay) => overlay::mount(p, launch, overlay),
        // Refused before: what is below cannot be made read-only.
        RootSource::ReadOnlyHost => Path::new("/"),
    };
    p.keep("rootfs", step::openat(CWD, path, libc::O_PATH | libc::O_DIRECTORY))
}

struct Build<'a, 'b> {
    p: &'a mut Plan,
    launch: &'a ContainerInput<'b>,
    old: &'a LegacyMounts,
    root: Slot,
}

fn own_flags(mounts: &[Below]) -> u64 {
    mounts.iter().find(|below| below.path == Path::new("")).map_or(0, |below| below.flags)
}

/// Flags with others set and cleared. Of the times of access there is one.
fn combine(flags: u64, set: u64, clear: u64) -> u64 {
    let rivals = if set & ATIME != 0 { ATIME } else { 0 };
    let flags = (flags & !clear & !rivals | set) & MOUNT_FLAGS.bits();
    if flags & ATIME == 0 { flags | libc::MS_RELATIME } else { flags }
}

impl Build<'_, '_> {
    fn nodev(&self) -> u64 {
        self.launch.policy.nodev()
    }

    /// Options of the root and of what is mounted below it.
    fn settle_root(&mut self) {
        let nodev = self.nodev();
        for below in &self.old.root {
            let flags = combine(below.flags, 0, 0) | nodev;
            if flags == below.flags {
                continue;
            }
            if below.path == Path::new("") {
                self.change_open(self.root, flags);
            } else {
                self.change(&below.path, STRICT, flags);
            }
        }
    }

    /// Options of what is mounted at a path.
    fn change(&mut self, path: &Path, resolve: u64, flags: u64) {
        let mounted = self.p.slot("mounted");
        self.open(&relative(path), 0, resolve, &[], mounted);
        self.change_open(mounted, flags);
        self.p.free(mounted);
    }

    fn change_open(&mut self, mounted: Slot, flags: u64) {
        self.at(mounted);
        self.p.push(step::remount(PLACE, libc::MS_REMOUNT | libc::MS_BIND | flags & MOUNT_FLAGS.bits()));
    }

    /// From here on [`PLACE`] is what is open in `slot`.
    fn at(&mut self, slot: Slot) {
        let place = self.p.slot_of(AT);
        self.p.push(step::dup3(slot, place));
    }

    fn open(&mut self, path: &Path, kind: i32, resolve: u64, tolerate: &'static [i32], slot: Slot) -> Vec<usize> {
        open(self.p, self.launch.facts.calls.openat2, self.root, path, kind, resolve, tolerate, slot)
    }

    /// Opens a target; makes it if it is missing.
    fn target(&mut self, path: &Path, resolve: u64, is_file: bool) -> Slot {
        let path = relative(path);
        let slot = self.p.slot("target");
        let kind = if is_file { 0 } else { libc::O_DIRECTORY };
        // Makes what is missing first: finding out takes as many steps.
        let root = self.root;
        let walks = !self.launch.facts.calls.openat2;
        in_parent(self.p, root, &path, resolve, walks, |p, parent, name| {
            let make = if is_file {
                step::mknodat(parent, name, libc::S_IFREG | 0o644, 0)
            } else {
                step::mkdirat(parent, name, 0o755)
            };
            p.push(make.tolerate(&[libc::EEXIST, libc::EROFS, libc::EACCES]));
        });
        self.open(&path, kind, resolve, &[], slot);
        slot
    }

    fn add(&mut self, i: usize, mount: &Mount) {
        if let MountKind::Remount { bind } = mount.kind {
            let mounted = self.p.slot("mounted");
            self.open(&relative(&mount.target), 0, resolve(mount), &[], mounted);
            self.at(mounted);
            self.p.push(match bind {
                true => step::remount(PLACE, libc::MS_REMOUNT | libc::MS_BIND | mount.flags.bits() | self.nodev()),
                false => {
                    step::reconfigure(PLACE, mount.flags.bits() | super::nodev_of(self.launch, mount), &mount.data)
                }
            });
            return self.p.free(mounted);
        }
        let is_file = self.launch.is_file(mount);
        let target = self.target(&mount.target, resolve(mount), is_file);
        self.at(target);
        self.p.free(target);
        match super::tree::outside_source(mount, self.launch) {
            Some((source, recursive)) => {
                self.p.push(step::bind(source, PLACE, recursive));
                self.settle_bind(i, mount, is_file, recursive);
            }
            None => self.p.push(fresh::mounted(self.launch, mount, PLACE)),
        }
        if mount.propagation.bits() & libc::MS_UNBINDABLE != 0 {
            let mounted = self.p.slot("mounted");
            self.open(&relative(&mount.target), 0, resolve(mount), &[], mounted);
            self.at(mounted);
            self.p.push(step::remount(PLACE, mount.propagation.bits()));
            self.p.free(mounted);
        }
        if mount.target == Path::new("/dev") && mount.kind == MountKind::Tmpfs {
            self.fill_dev();
        }
    }

    fn settle_bind(&mut self, i: usize, mount: &Mount, is_file: bool, recursive: bool) {
        let Some(sources) = self.old.sources.get(i) else { return };
        let nodev = if is_file { 0 } else { self.nodev() };
        let of_all = if mount.kind == MountKind::Sysfs { mount.flags.bits() } else { mount.recursive_flags.bits() };
        let propagation = if mount.propagation.bits() == 0 {
            self.launch.container.root_propagation.bits()
        } else {
            mount.propagation.bits()
        };
        if propagation & libc::MS_PRIVATE != 0 {
            let mounted = self.p.slot("mounted");
            self.open(&relative(&mount.target), 0, resolve(mount), &[], mounted);
            self.at(mounted);
            self.p.push(step::remount(PLACE, libc::MS_PRIVATE | libc::MS_REC));
            self.p.free(mounted);
        }
        for below in sources {
            let is_top = below.path == Path::new("");
            let (mut set, mut clear) = (of_all, mount.recursive_clear.bits());
            if is_top {
                set = set & !mount.clear.bits() | mount.flags.bits();
                clear = clear & !mount.flags.bits() | mount.clear.bits();
            } else if !recursive {
                continue;
            }
            let flags = combine(below.flags, set, clear) | nodev;
            if flags != below.flags {
                self.change(&mount.target.join(&below.path), resolve(mount), flags);
            }
        }
    }

    fn fill_dev(&mut self) {
        for (name, ..) in dev::DEVICES {
            let path = Path::new("dev").join(name);
            let node = self.target(&path, STRICT, true);
            self.at(node);
            self.p.push(step::bind(Path::new("/dev").join(name), PLACE, false));
            self.p.free(node);
        }
        let dev = self.p.slot("dev");
        self.open(Path::new("dev"), libc::O_DIRECTORY, STRICT, &[], dev);
        for (target, name) in dev::LINKS {
            self.p.push(step::symlinkat(target, dev, name));
        }
        for name in ["pts", "shm", "mqueue"] {
            self.p.push(step::mkdirat(dev, name, 0o755));
        }
    }

    /// The container's own devices.
    fn devices(&mut self) {
        for (device, source) in self.launch.container.devices.iter().zip(self.launch.nodes_outside) {
            self.p.begin_part(Purpose::Device(device.path.clone()));
            let (root, walks) = (self.root, !self.launch.facts.calls.openat2);
            match source {
                Some(source) => {
                    let node = self.target(&device.path, STRICT, true);
                    self.at(node);
                    self.p.push(step::bind(source, PLACE, false));
                    self.p.free(node);
                }
                None => in_parent(self.p, root, &relative(&device.path), STRICT, walks, |p, dir, name| {
                    dev::make(p, dir, name, device);
                }),
            }
        }
    }

    /// The terminal, also as /dev/console.
    fn terminal(&mut self) {
        let Some(options) = self.launch.terminal else { return };
        terminal::make(self.p, self.launch.facts, self.root, options, self.launch.ids.uid);
        self.p.begin_part(Purpose::Terminal);
        let console = self.target(Path::new("/dev/console"), STRICT, true);
        self.at(console);
        self.p.push(step::bind("/proc/self/fd/0", PLACE, false));
        self.p.free(console);
        self.p.end_part();
    }

    fn mask(&mut self) {
        for path in &self.launch.container.masked_paths {
            self.p.begin_part(Purpose::Mask(path.clone()));
            let covered = self.p.slot("covered");
            let path = relative(path);
            let missing: &'static [i32] = &[libc::ENOENT, libc::ENOTDIR];
            // A directory; else a file; else there is nothing to cover.
            let first = self.open(&path, libc::O_DIRECTORY, STRICT, missing, covered);
            self.at(covered);
            self.p.push(fresh::nothing(PLACE));
            let done = self.p.steps.len() - 1;
            self.p.skip_to_here(&first);
            let second = self.open(&path, 0, STRICT, missing, covered);
            self.at(covered);
            self.p.push(step::bind("/dev/null", PLACE, false));
            self.p.skip_to_here(&second);
            self.p.steps[done].skip_ok = (self.p.steps.len() - done - 1) as u16;
        }
    }

    /// Binds a path onto itself, read-only, with the other options of the
    /// mount it is on.
    fn read_only(&mut self, path: &Path) {
        self.p.begin_part(Purpose::ReadOnly(path.into()));
        let container = self.launch.container;
        let on = container.mounts.iter().enumerate().rfind(|(_, mount)| path.starts_with(&mount.target));
        let flags = match on {
            Some((i, mount)) => match self.old.sources.get(i).filter(|sources| !sources.is_empty()) {
                Some(sources) => own_flags(sources) | mount.flags.bits() | mount.recursive_flags.bits(),
                None => all_flags(mount),
            },
            None => own_flags(&self.old.root),
        };
        let at = self.p.slot("path");
        let relative = relative(path);
        let skips = self.open(&relative, 0, STRICT, &[libc::ENOENT, libc::ENOTDIR], at);
        self.at(at);
        self.p.push(step::bind(PLACE, PLACE, true));
        self.change(path, STRICT, flags & MOUNT_FLAGS.bits() | self.nodev() | libc::MS_RDONLY);
        self.p.free(at);
        self.p.skip_to_here(&skips);
    }
}

/// Opens a path below `root`. Without `openat2` part by part, where symbolic
/// links are refused. The steps whose tolerated errors are the caller's.
#[allow(clippy::too_many_arguments)] // What openat2(2) takes, and where to.
fn open(
    p: &mut Plan,
    openat2: bool,
    root: Slot,
    path: &Path,
    kind: i32,
    resolve: u64,
    tolerate: &'static [i32],
    slot: Slot,
) -> Vec<usize> {
    if openat2 {
        p.push(step::openat2(root, path, libc::O_PATH | kind, 0, resolve).into_slot(slot).tolerate(tolerate));
        return vec![p.steps.len() - 1];
    }
    let mut at = Vec::new();
    let parts: Vec<_> = path.iter().collect();
    let mut dir = root;
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        let kind = if last { kind } else { libc::O_DIRECTORY };
        let into = if last { slot } else { p.slot("part") };
        let step = step::openat(Arg::Slot(dir), part, libc::O_PATH | libc::O_NOFOLLOW | kind);
        p.push(step.into_slot(into).tolerate(tolerate));
        at.push(p.steps.len() - 1);
        if dir != root {
            p.push(step::close(dir));
            p.free.push(dir);
        }
        if last && kind & libc::O_DIRECTORY == 0 {
            p.push(step::refuse_link(into));
        }
        dir = into;
    }
    at
}
