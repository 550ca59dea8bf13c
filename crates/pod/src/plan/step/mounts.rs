//! Steps on mounts and file systems.

use std::path::Path;

use super::{AT, ATTRS, Arg, CWD, MOUNT, MOVE, NULL, Slot, Step, StepKind, TREE, UMOUNT, arg_text, empty};
use crate::error::MountCall;

/// `open_tree(2)`: a detached copy of the mounts at `path`.
pub fn open_tree(path: impl AsRef<Path>, recursive: bool) -> Step {
    let recursive = if recursive { libc::AT_RECURSIVE as u64 } else { 0 };
    let flags = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC) | recursive;
    Step::new(StepKind::OpenTree, libc::SYS_open_tree, vec![CWD, arg_text(path), Arg::Flags(flags, TREE)])
}

/// `open_tree(2)` of what is below an open directory.
pub fn open_tree_below(dir: Slot, path: impl AsRef<Path>) -> Step {
    let flags = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC) | libc::AT_RECURSIVE as u64;
    Step::new(StepKind::OpenTree, libc::SYS_open_tree, vec![Arg::Slot(dir), arg_text(path), Arg::Flags(flags, TREE)])
}

/// `open_tree(2)` of what is already open.
pub fn open_tree_at(at: Slot, recursive: bool) -> Step {
    let recursive = if recursive { libc::AT_RECURSIVE as u64 } else { 0 };
    let fixed = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC);
    let flags = Arg::Flags(fixed | libc::AT_EMPTY_PATH as u64 | recursive, TREE);
    Step::new(StepKind::OpenTree, libc::SYS_open_tree, vec![Arg::Slot(at), empty(), flags])
}

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE` and the like, or 0.
    pub propagation: u64,
    /// The user namespace for `MOUNT_ATTR_IDMAP`.
    pub users: u64,
}

/// `mount_setattr(2)` of what is open.
pub fn mount_setattr(at: Slot, attr: MountAttr, recursive: bool) -> Step {
    let flags = libc::AT_EMPTY_PATH as u64 | if recursive { libc::AT_RECURSIVE as u64 } else { 0 };
    let args = vec![Arg::Slot(at), empty(), Arg::Flags(flags, AT), Arg::MountAttr(attr), Arg::Num(32)];
    let kind = StepKind::MountSetattr { idmap: attr.set & libc::MOUNT_ATTR_IDMAP != 0 };
    Step::new(kind, libc::SYS_mount_setattr, args)
}

/// `move_mount(2)` of a detached tree onto an open target.
pub fn move_mount(tree: Slot, onto: Slot) -> Step {
    let flags = u64::from(libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH);
    let args = vec![Arg::Slot(tree), empty(), Arg::Slot(onto), empty(), Arg::Flags(flags, MOVE)];
    Step::new(StepKind::MoveMount, libc::SYS_move_mount, args)
}

/// `move_mount(2)` of a detached tree onto a path.
pub fn move_mount_to(tree: Slot, path: impl AsRef<Path>) -> Step {
    let flags = u64::from(libc::MOVE_MOUNT_F_EMPTY_PATH);
    let args = vec![Arg::Slot(tree), empty(), CWD, arg_text(path), Arg::Flags(flags, MOVE)];
    Step::new(StepKind::MoveMount, libc::SYS_move_mount, args)
}

/// `mount(2)` of a new file system.
pub fn mount(source: &str, target: impl AsRef<Path>, kind: &str, flags: u64, data: impl AsRef<Path>) -> Step {
    let call = if matches!(kind, "proc" | "sysfs") { MountCall::ProcOrSysfs } else { MountCall::FileSystem };
    let data = if data.as_ref().as_os_str().is_empty() { NULL } else { arg_text(data) };
    let args = vec![arg_text(source), arg_text(target), arg_text(kind), Arg::Flags(flags, MOUNT), data];
    Step::new(StepKind::Mount(call), libc::SYS_mount, args)
}

/// `mount(2)` as a bind.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, recursive: bool) -> Step {
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    let args = vec![arg_text(source), arg_text(target), NULL, Arg::Flags(flags, MOUNT), NULL];
    Step::new(StepKind::Mount(MountCall::Rearrange), libc::SYS_mount, args)
}

/// `mount(2)` as a change of the file system at `target`.
pub fn reconfigure(target: &str, flags: u64, data: &str) -> Step {
    let data = if data.is_empty() { NULL } else { arg_text(data) };
    let flags = Arg::Flags(flags | libc::MS_REMOUNT, MOUNT);
    let args = vec![NULL, arg_text(target), NULL, flags, data];
    Step::new(StepKind::Mount(MountCall::Remount), libc::SYS_mount, args)
}

/// `mount(2)` as a change of the mount at `target`.
pub fn remount(target: &str, flags: u64) -> Step {
    let call = if flags & libc::MS_REMOUNT != 0 { MountCall::Remount } else { MountCall::Rearrange };
    let args = vec![NULL, arg_text(target), NULL, Arg::Flags(flags, MOUNT), NULL];
    Step::new(StepKind::Mount(call), libc::SYS_mount, args)
}

/// `fsopen(2)`.
pub fn fsopen(kind: &str) -> Step {
    Step::new(StepKind::Fsopen, libc::SYS_fsopen, vec![arg_text(kind), Arg::Word(1, "FSOPEN_CLOEXEC")])
}

/// `fsconfig(2)`, one string option.
pub fn fsconfig(fs: Slot, key: &str, value: impl AsRef<Path>) -> Step {
    let command = Arg::Word(1, "FSCONFIG_SET_STRING");
    let args = vec![Arg::Slot(fs), command, arg_text(key), arg_text(value), Arg::Num(0)];
    Step::new(StepKind::Fsconfig, libc::SYS_fsconfig, args)
}

/// `fsconfig(2)`, one option without a value.
pub fn fsconfig_flag(fs: Slot, key: &str) -> Step {
    let command = Arg::Word(0, "FSCONFIG_SET_FLAG");
    Step::new(StepKind::Fsconfig, libc::SYS_fsconfig, vec![Arg::Slot(fs), command, arg_text(key), NULL, Arg::Num(0)])
}

/// `fsconfig(2)`, the last: make it.
pub fn fscreate(fs: Slot) -> Step {
    let command = Arg::Word(6, "FSCONFIG_CMD_CREATE");
    Step::new(StepKind::Fsconfig, libc::SYS_fsconfig, vec![Arg::Slot(fs), command, NULL, NULL, Arg::Num(0)])
}

/// `fsmount(2)`: a detached mount with `MOUNT_ATTR_*`.
pub fn fsmount(fs: Slot, attributes: u64) -> Step {
    let args = vec![Arg::Slot(fs), Arg::Word(1, "FSMOUNT_CLOEXEC"), Arg::Flags(attributes, ATTRS)];
    Step::new(StepKind::Fsmount, libc::SYS_fsmount, args)
}

/// `pivot_root(".", ".")`: the old root ends on top of the new one.
pub fn pivot_root() -> Step {
    Step::new(StepKind::PivotRoot, libc::SYS_pivot_root, vec![arg_text("."), arg_text(".")])
}

/// `mount(MS_MOVE)` of the current directory over the root.
pub fn move_here_to_root() -> Step {
    let args = vec![arg_text("."), arg_text("/"), NULL, Arg::Flags(libc::MS_MOVE, MOUNT), NULL];
    Step::new(StepKind::Mount(MountCall::Rearrange), libc::SYS_mount, args)
}

/// `chroot(2)`.
pub fn chroot(path: &str) -> Step {
    Step::new(StepKind::Chroot, libc::SYS_chroot, vec![arg_text(path)])
}

/// `umount2(2)`, lazily.
pub fn detach(path: impl AsRef<Path>) -> Step {
    let flags = Arg::Flags(libc::MNT_DETACH as u64, UMOUNT);
    Step::new(StepKind::Umount2, libc::SYS_umount2, vec![arg_text(path), flags])
}
