//! One step, and a constructor for each system call a plan may hold.
//!
//! The constructors take what the man page takes, in its order, and do
//! nothing but write it down. They are grouped as the kernel's manual is.

mod process;

pub use process::*;

use std::ffi::CString;
use std::path::Path;

use libc::c_long;
use pause::wire::{Op, Slot, TABLE_BASE};

/// A system call, or one of the few things the sealed program does besides.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// As strace shows it.
    pub name: &'static str,
    /// The number in this architecture's table.
    pub number: c_long,
    /// How the sealed program does it.
    pub op: Op,
}

/// An argument in the kernel's form, and how to show it.
#[derive(Clone, Debug)]
pub enum Arg {
    /// The descriptor in this slot.
    Slot(Slot),
    /// The slot's number itself, for the program's own operations.
    SlotNumber(Slot),
    /// A step's number: where a child goes on.
    Label(usize),
    /// A number.
    Num(u64),
    /// An address in the new process.
    Address(u64),
    /// Bits, with their names.
    Flags(u64, &'static [(u64, &'static str)]),
    /// File mode bits.
    Mode(u32),
    /// A device number, shown as major and minor.
    Device(u64),
    /// A constant with a name, such as `AT_FDCWD`.
    Word(i64, &'static str),
    /// A pointer to a string.
    Text(CString),
    /// A pointer to a `struct open_how`.
    OpenHow(OpenHow),
    /// A pointer to a `struct mount_attr`.
    MountAttr(MountAttr),
    /// A pointer to another structure, and how to show that.
    Blob(Vec<u8>, String),
    /// A pointer to a null-ended array of strings.
    Strings(Vec<CString>),
    /// A pointer to a seccomp program.
    Filter(Vec<u8>),
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    pub(super) call: Call,
    pub(super) args: Vec<Arg>,
    pub(super) into: Option<Slot>,
    pub(super) repeat: u16,
    pub(super) tolerate: &'static [i32],
    pub(super) skip_ok: u16,
    pub(super) skip_err: u16,
    pub(super) min: u16,
}

impl Step {
    pub(super) fn new(name: &'static str, number: c_long, args: Vec<Arg>) -> Step {
        Step::of(Call { name, number, op: Op::Call }, args)
    }

    fn own(name: &'static str, op: Op, args: Vec<Arg>) -> Step {
        Step::of(Call { name, number: 0, op }, args)
    }

    fn of(call: Call, args: Vec<Arg>) -> Step {
        debug_assert!(args.len() <= 6);
        Step { call, args, into: None, repeat: 0, tolerate: &[], skip_ok: 0, skip_err: 0, min: 0 }
    }

    /// Keeps the result in `slot`.
    pub(super) fn into_slot(self, slot: Slot) -> Step {
        Step { into: Some(slot), ..self }
    }

    /// These errors (at most three) are no failure.
    pub(super) fn tolerate(self, errors: &'static [i32]) -> Step {
        debug_assert!(errors.len() <= 3);
        Step { tolerate: errors, ..self }
    }

    /// The system call's name.
    pub fn name(&self) -> &'static str {
        self.call.name
    }

    /// Whether this is the final `execve`.
    pub fn is_exec(&self) -> bool {
        self.call.op == Op::Exec
    }

    /// Whether it looks for the program before there is an `execve`.
    pub fn looks_for_program(&self) -> bool {
        self.call.number == libc::SYS_faccessat && self.call.op == Op::Call
    }

    /// The program an `execve` was asked for.
    pub fn program(&self) -> Option<String> {
        match self.args.get(1) {
            Some(Arg::Strings(argv)) if self.is_exec() => Some(argv.first()?.to_string_lossy().into_owned()),
            _ => None,
        }
    }
}

/// A C string from a path or name. Whatever becomes part of a plan was checked
/// for null bytes when it was read; one that slipped through ends the string.
pub fn text(value: impl AsRef<Path>) -> CString {
    let bytes = value.as_ref().as_os_str().as_encoded_bytes();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

fn arg_text(value: impl AsRef<Path>) -> Arg {
    Arg::Text(text(value))
}

const NULL: Arg = Arg::Word(0, "NULL");
/// `AT_FDCWD`.
pub const CWD: Arg = Arg::Word(libc::AT_FDCWD as i64, "AT_FDCWD");

fn empty() -> Arg {
    Arg::Text(CString::default())
}

macro_rules! flag_table {
    ($name:ident: $($flag:ident),* $(,)?) => {
        pub(super) const $name: &[(u64, &str)] = &[$((libc::$flag as u64, stringify!($flag))),*];
    };
}

flag_table!(OPEN: O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_CLOEXEC);
flag_table!(RESOLVE: RESOLVE_IN_ROOT, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV);
flag_table!(CLONE: CLONE_PARENT, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWNS,
    CLONE_NEWCGROUP, CLONE_NEWTIME);
flag_table!(MOUNT: MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOSYMFOLLOW, MS_BIND, MS_REC,
    MS_MOVE, MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, MS_NOATIME, MS_NODIRATIME, MS_RELATIME, MS_STRICTATIME,
    MS_SYNCHRONOUS, MS_MANDLOCK, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_SILENT);
flag_table!(TREE: OPEN_TREE_CLONE, AT_RECURSIVE, AT_EMPTY_PATH, OPEN_TREE_CLOEXEC);
flag_table!(MOVE: MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH);
flag_table!(AT: AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW);
flag_table!(UMOUNT: MNT_DETACH);
flag_table!(PROT: PROT_READ, PROT_WRITE);
flag_table!(MAP: MAP_SHARED, MAP_FIXED_NOREPLACE);
flag_table!(WAIT: WEXITED);
flag_table!(RECV: MSG_TRUNC);
flag_table!(SFD: SFD_CLOEXEC, SFD_NONBLOCK);
flag_table!(SECCOMP: SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_TSYNC_ESRCH, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
/// Names of [`mount_setattr`]'s attributes.
pub const ATTRS: &[(u64, &str)] = &[
    (libc::MOUNT_ATTR__ATIME, "_ATIME"),
    (libc::MOUNT_ATTR_RDONLY, "RDONLY"),
    (libc::MOUNT_ATTR_NOSUID, "NOSUID"),
    (libc::MOUNT_ATTR_NODEV, "NODEV"),
    (libc::MOUNT_ATTR_NOEXEC, "NOEXEC"),
    (libc::MOUNT_ATTR_NOATIME, "NOATIME"),
    (libc::MOUNT_ATTR_STRICTATIME, "STRICTATIME"),
    (libc::MOUNT_ATTR_NODIRATIME, "NODIRATIME"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"),
    (libc::MOUNT_ATTR_IDMAP, "IDMAP"),
];

// --- Files -----------------------------------------------------------------

/// How [`openat2`] opens.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u64,
    /// Of a file that is made, else 0.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// `openat2(2)` of an absolute path, or one from the current directory.
pub fn openat2_from_cwd(path: impl AsRef<Path>, flags: i32, resolve: u64) -> Step {
    let mut step = openat2(Slot(0), path, flags, 0, resolve);
    step.args[0] = CWD;
    step
}

/// `openat2(2)`.
pub fn openat2(dir: Slot, path: impl AsRef<Path>, flags: i32, mode: u32, resolve: u64) -> Step {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: mode.into(), resolve };
    Step::new("openat2", libc::SYS_openat2, vec![Arg::Slot(dir), arg_text(path), Arg::OpenHow(how), Arg::Num(24)])
}

/// `openat(2)`; always with `O_CLOEXEC`.
pub fn openat(dir: Arg, path: impl AsRef<Path>, flags: i32) -> Step {
    let flags = Arg::Flags((flags | libc::O_CLOEXEC) as u64, OPEN);
    Step::new("openat", libc::SYS_openat, vec![dir, arg_text(path), flags])
}

/// `write(2)` of all of `content`.
pub fn write(file: Slot, content: &[u8]) -> Step {
    let shown = format!("{:?}", String::from_utf8_lossy(content));
    let args = vec![Arg::Slot(file), Arg::Blob(content.to_vec(), shown), Arg::Num(content.len() as u64)];
    Step { min: content.len() as u16, ..Step::new("write", libc::SYS_write, args) }
}

/// `mkdirat(2)`.
pub fn mkdirat(dir: Slot, path: impl AsRef<Path>, mode: u32) -> Step {
    Step::new("mkdirat", libc::SYS_mkdirat, vec![Arg::Slot(dir), arg_text(path), Arg::Mode(mode)])
}

/// `mknodat(2)`.
pub fn mknodat(dir: Slot, path: impl AsRef<Path>, mode: u32, device: u64) -> Step {
    let args = vec![Arg::Slot(dir), arg_text(path), Arg::Mode(mode), Arg::Device(device)];
    Step::new("mknodat", libc::SYS_mknodat, args)
}

/// `fchownat(2)`, of a link itself.
pub fn fchownat(dir: Slot, path: impl AsRef<Path>, uid: u32, gid: u32) -> Step {
    let flags = Arg::Flags(libc::AT_SYMLINK_NOFOLLOW as u64, AT);
    let args = vec![Arg::Slot(dir), arg_text(path), Arg::Num(uid.into()), Arg::Num(gid.into()), flags];
    Step::new("fchownat", libc::SYS_fchownat, args)
}

/// `symlinkat(2)`.
pub fn symlinkat(target: &str, dir: Slot, path: &str) -> Step {
    Step::new("symlinkat", libc::SYS_symlinkat, vec![arg_text(target), Arg::Slot(dir), arg_text(path)])
}

/// `fchdir(2)`.
pub fn fchdir(dir: Slot) -> Step {
    Step::new("fchdir", libc::SYS_fchdir, vec![Arg::Slot(dir)])
}

/// `chdir(2)`.
pub fn chdir(path: &str) -> Step {
    Step::new("chdir", libc::SYS_chdir, vec![arg_text(path)])
}

/// `dup3(2)` onto a descriptor the process was born with, whose slot is its
/// number.
pub fn dup3(file: Slot, onto: Slot) -> Step {
    let args = vec![Arg::Slot(file), Arg::Num(onto.0.into()), Arg::Num(0)];
    Step::new("dup3", libc::SYS_dup3, args)
}

/// `readlinkat(2)` into nowhere: ENOENT of what is no symbolic link, EFAULT of
/// one, which is a failure.
pub fn refuse_link(file: Slot) -> Step {
    let args = vec![Arg::Slot(file), empty(), NULL, Arg::Num(1)];
    Step::new("readlinkat", libc::SYS_readlinkat, args).tolerate(&[libc::ENOENT, libc::EINVAL])
}

/// `umask(2)`.
pub fn umask(mask: u32) -> Step {
    Step::new("umask", libc::SYS_umask, vec![Arg::Mode(mask)])
}

/// `close_range(2)` from `first` on.
pub fn close_from(first: Slot) -> Step {
    let last = Arg::Word(i64::from(u32::MAX), "~0");
    Step::new("close_range", libc::SYS_close_range, vec![Arg::Num(first.0.into()), last, Arg::Num(0)])
}

/// `close_range(2)` from `first` on, at the next `execve`.
pub fn close_from_at_exec(first: Slot) -> Step {
    let last = Arg::Word(i64::from(u32::MAX), "~0");
    let flag = Arg::Word(libc::CLOSE_RANGE_CLOEXEC.into(), "CLOSE_RANGE_CLOEXEC");
    Step::new("close_range", libc::SYS_close_range, vec![Arg::Num(first.0.into()), last, flag])
}

/// `close_range(2)` of descriptors the process was born with, whose slots are
/// their numbers.
pub fn close_range(first: Slot, last: Slot) -> Step {
    let args = vec![Arg::Num(first.0.into()), Arg::Num(last.0.into()), Arg::Num(0)];
    Step::new("close_range", libc::SYS_close_range, args)
}

/// `faccessat(2)`: whether this process may execute a file.
pub fn may_execute(path: CString) -> Step {
    let mode = Arg::Word(libc::X_OK.into(), "X_OK");
    Step::new("faccessat", libc::SYS_faccessat, vec![CWD, Arg::Text(path), mode])
}

/// `close(2)`.
pub fn close(file: Slot) -> Step {
    Step::new("close", libc::SYS_close, vec![Arg::Slot(file)])
}

/// `dup3(2)` onto descriptor `number`, kept at `execve`.
pub fn dup_to(file: Slot, number: u64) -> Step {
    Step::new("dup3", libc::SYS_dup3, vec![Arg::Slot(file), Arg::Num(number), Arg::Num(0)])
}

/// `fcntl(F_DUPFD_CLOEXEC)`: the same at descriptor `least` or above.
pub fn dup_above(file: Slot, least: u64) -> Step {
    let command = Arg::Word(libc::F_DUPFD_CLOEXEC.into(), "F_DUPFD_CLOEXEC");
    Step::new("fcntl", libc::SYS_fcntl, vec![Arg::Slot(file), command, Arg::Num(least)])
}

/// `fchown(2)` to a user; the group stays.
pub fn fchown(file: Slot, uid: u32) -> Step {
    Step::new("fchown", libc::SYS_fchown, vec![Arg::Slot(file), Arg::Num(uid.into()), Arg::Word(-1, "-1")])
}

// --- Mounts ----------------------------------------------------------------

/// `open_tree(2)`: a detached copy of the mounts at `path`.
pub fn open_tree(path: impl AsRef<Path>, recursive: bool) -> Step {
    let recursive = if recursive { libc::AT_RECURSIVE as u64 } else { 0 };
    let flags = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC) | recursive;
    Step::new("open_tree", libc::SYS_open_tree, vec![CWD, arg_text(path), Arg::Flags(flags, TREE)])
}

/// `open_tree(2)` of what is below an open directory.
pub fn open_tree_below(dir: Slot, path: impl AsRef<Path>) -> Step {
    let flags = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC) | libc::AT_RECURSIVE as u64;
    Step::new("open_tree", libc::SYS_open_tree, vec![Arg::Slot(dir), arg_text(path), Arg::Flags(flags, TREE)])
}

/// `open_tree(2)` of what is already open.
pub fn open_tree_at(at: Slot, recursive: bool) -> Step {
    let recursive = if recursive { libc::AT_RECURSIVE as u64 } else { 0 };
    let fixed = u64::from(libc::OPEN_TREE_CLONE) | u64::from(libc::OPEN_TREE_CLOEXEC);
    let flags = Arg::Flags(fixed | libc::AT_EMPTY_PATH as u64 | recursive, TREE);
    Step::new("open_tree", libc::SYS_open_tree, vec![Arg::Slot(at), empty(), flags])
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
    Step::new("mount_setattr", libc::SYS_mount_setattr, args)
}

/// `move_mount(2)` of a detached tree onto an open target.
pub fn move_mount(tree: Slot, onto: Slot) -> Step {
    let flags = u64::from(libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH);
    let args = vec![Arg::Slot(tree), empty(), Arg::Slot(onto), empty(), Arg::Flags(flags, MOVE)];
    Step::new("move_mount", libc::SYS_move_mount, args)
}

/// `move_mount(2)` of a detached tree onto a path.
pub fn move_mount_to(tree: Slot, path: impl AsRef<Path>) -> Step {
    let flags = u64::from(libc::MOVE_MOUNT_F_EMPTY_PATH);
    let args = vec![Arg::Slot(tree), empty(), CWD, arg_text(path), Arg::Flags(flags, MOVE)];
    Step::new("move_mount", libc::SYS_move_mount, args)
}

/// `mount(2)` of a new file system.
pub fn mount(source: &str, target: impl AsRef<Path>, kind: &str, flags: u64, data: &str) -> Step {
    let data = if data.is_empty() { NULL } else { arg_text(data) };
    let args = vec![arg_text(source), arg_text(target), arg_text(kind), Arg::Flags(flags, MOUNT), data];
    Step::new("mount", libc::SYS_mount, args)
}

/// `mount(2)` as a bind.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, recursive: bool) -> Step {
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    Step::new("mount", libc::SYS_mount, vec![arg_text(source), arg_text(target), NULL, Arg::Flags(flags, MOUNT), NULL])
}

/// `mount(2)` as a change of the file system at `target`.
pub fn reconfigure(target: &str, flags: u64, data: &str) -> Step {
    let data = if data.is_empty() { NULL } else { arg_text(data) };
    let flags = Arg::Flags(flags | libc::MS_REMOUNT, MOUNT);
    Step::new("mount", libc::SYS_mount, vec![NULL, arg_text(target), NULL, flags, data])
}

/// `mount(2)` as a change of the mount at `target`.
pub fn remount(target: &str, flags: u64) -> Step {
    Step::new("mount", libc::SYS_mount, vec![NULL, arg_text(target), NULL, Arg::Flags(flags, MOUNT), NULL])
}

/// `fsopen(2)`.
pub fn fsopen(kind: &str) -> Step {
    Step::new("fsopen", libc::SYS_fsopen, vec![arg_text(kind), Arg::Word(1, "FSOPEN_CLOEXEC")])
}

/// `fsconfig(2)`, one string option.
pub fn fsconfig(fs: Slot, key: &str, value: impl AsRef<Path>) -> Step {
    let command = Arg::Word(1, "FSCONFIG_SET_STRING");
    let args = vec![Arg::Slot(fs), command, arg_text(key), arg_text(value), Arg::Num(0)];
    Step::new("fsconfig", libc::SYS_fsconfig, args)
}

/// `fsconfig(2)`, one option without a value.
pub fn fsconfig_flag(fs: Slot, key: &str) -> Step {
    let command = Arg::Word(0, "FSCONFIG_SET_FLAG");
    Step::new("fsconfig", libc::SYS_fsconfig, vec![Arg::Slot(fs), command, arg_text(key), NULL, Arg::Num(0)])
}

/// `fsconfig(2)`, the last: make it.
pub fn fscreate(fs: Slot) -> Step {
    let command = Arg::Word(6, "FSCONFIG_CMD_CREATE");
    Step::new("fsconfig", libc::SYS_fsconfig, vec![Arg::Slot(fs), command, NULL, NULL, Arg::Num(0)])
}

/// `fsmount(2)`: a detached mount with `MOUNT_ATTR_*`.
pub fn fsmount(fs: Slot, attributes: u64) -> Step {
    let args = vec![Arg::Slot(fs), Arg::Word(1, "FSMOUNT_CLOEXEC"), Arg::Flags(attributes, ATTRS)];
    Step::new("fsmount", libc::SYS_fsmount, args)
}

/// `pivot_root(".", ".")`: the old root ends on top of the new one.
pub fn pivot_root() -> Step {
    Step::new("pivot_root", libc::SYS_pivot_root, vec![arg_text("."), arg_text(".")])
}

/// `mount(MS_MOVE)` of the current directory over the root.
pub fn move_here_to_root() -> Step {
    let args = vec![arg_text("."), arg_text("/"), NULL, Arg::Flags(libc::MS_MOVE, MOUNT), NULL];
    Step::new("mount", libc::SYS_mount, args)
}

/// `chroot(2)`.
pub fn chroot(path: &str) -> Step {
    Step::new("chroot", libc::SYS_chroot, vec![arg_text(path)])
}

/// `umount2(2)`, lazily.
pub fn detach(path: &str) -> Step {
    let flags = Arg::Flags(libc::MNT_DETACH as u64, UMOUNT);
    Step::new("umount2", libc::SYS_umount2, vec![arg_text(path), flags])
}

// --- Namespaces and processes ----------------------------------------------

/// `setns(2)` with a pidfd (several namespaces) or a namespace file.
pub fn setns(target: Slot, namespaces: u64) -> Step {
    Step::new("setns", libc::SYS_setns, vec![Arg::Slot(target), Arg::Flags(namespaces, CLONE)])
}

/// `unshare(2)`.
pub fn unshare(namespaces: u64) -> Step {
    Step::new("unshare", libc::SYS_unshare, vec![Arg::Flags(namespaces, CLONE)])
}

/// `clone3(2)` as a fork; see [`Plan::fork`](super::Plan). `parent_tid` is the
/// address the kernel writes the child's pid to, as the parent sees it.
pub(super) fn clone(namespaces: u64, parent_tid: u64) -> Step {
    Step::own("clone3", Op::Clone, vec![Arg::Flags(namespaces, CLONE), Arg::Label(0), Arg::Address(parent_tid)])
}

/// The same, but the new process is a sibling: its parent is the caller's.
pub(super) fn clone_sibling(namespaces: u64) -> Step {
    clone(namespaces | libc::CLONE_PARENT as u64, 0)
}

/// `waitid(2)` for the child behind a pidfd.
pub fn wait_for(pidfd: Slot) -> Step {
    let kind = Arg::Word(libc::P_PIDFD.into(), "P_PIDFD");
    let flags = Arg::Flags(libc::WEXITED as u64, WAIT);
    Step::new("waitid", libc::SYS_waitid, vec![kind, Arg::Slot(pidfd), NULL, flags, NULL])
}

/// `exit_group(2)`.
pub fn exit(code: u64) -> Step {
    Step::new("exit_group", libc::SYS_exit_group, vec![Arg::Num(code)])
}

/// `setsid(2)`.
pub fn setsid() -> Step {
    Step::new("setsid", libc::SYS_setsid, vec![])
}

/// `sethostname(2)`.
pub fn sethostname(name: &str) -> Step {
    Step::new("sethostname", libc::SYS_sethostname, vec![arg_text(name), Arg::Num(name.len() as u64)])
}

/// `execveat(2)` of an open file.
pub fn execveat(file: Slot, argv: Vec<CString>, envp: Vec<CString>) -> Step {
    let flags = Arg::Flags(libc::AT_EMPTY_PATH as u64, AT);
    let args = vec![Arg::Slot(file), empty(), Arg::Strings(argv), Arg::Strings(envp), flags];
    Step::new("execveat", libc::SYS_execveat, args)
}

/// `execve(2)` of the first candidate that is there.
pub fn execve(candidates: Vec<CString>, argv: Vec<CString>, envp: Vec<CString>) -> Step {
    Step::own("execve", Op::Exec, vec![Arg::Strings(candidates), Arg::Strings(argv), Arg::Strings(envp)])
}

// --- Identity --------------------------------------------------------------

/// `prctl(2)` with one argument.
pub fn prctl(option: i32, name: &'static str, value: u64) -> Step {
    let mut args = vec![Arg::Word(option.into(), name), Arg::Num(value)];
    args.extend([Arg::Num(0), Arg::Num(0), Arg::Num(0)]);
    Step::new("prctl", libc::SYS_prctl, args)
}

/// `prctl(PR_SET_DUMPABLE, 0)`: no other process may read this one's memory
/// or follow its links in /proc, unless it has CAP_SYS_PTRACE over it.
pub fn undumpable() -> Step {
    Step::new("prctl", libc::SYS_prctl, vec![Arg::Word(libc::PR_SET_DUMPABLE.into(), "PR_SET_DUMPABLE"), Arg::Num(0)])
}

/// `prctl(PR_SET_DUMPABLE, 1)`: whoever may trace this process may.
pub fn dumpable() -> Step {
    Step::new("prctl", libc::SYS_prctl, vec![Arg::Word(libc::PR_SET_DUMPABLE.into(), "PR_SET_DUMPABLE"), Arg::Num(1)])
}

/// `prctl(PR_SET_PDEATHSIG, SIGKILL)`; forgotten at a change of ids.
pub fn die_with_parent() -> Step {
    let option = Arg::Word(libc::PR_SET_PDEATHSIG.into(), "PR_SET_PDEATHSIG");
    Step::new("prctl", libc::SYS_prctl, vec![option, Arg::Word(libc::SIGKILL.into(), "SIGKILL")])
}

/// `prctl(PR_SET_PDEATHSIG, 0)`: from now on whatever happens to the parent.
pub fn survive_parent() -> Step {
    let option = Arg::Word(libc::PR_SET_PDEATHSIG.into(), "PR_SET_PDEATHSIG");
    Step::new("prctl", libc::SYS_prctl, vec![option, Arg::Num(0)])
}

/// `prctl(PR_SET_NAME)`: at most 15 bytes.
pub fn set_name(name: &str) -> Step {
    Step::new("prctl", libc::SYS_prctl, vec![Arg::Word(libc::PR_SET_NAME.into(), "PR_SET_NAME"), arg_text(name)])
}

/// `prctl(PR_CAPBSET_DROP)` of capabilities `first` to `last`.
pub fn drop_bounding(first: u64, last: u64) -> Step {
    let step = prctl(libc::PR_CAPBSET_DROP, "PR_CAPBSET_DROP", first);
    Step { repeat: (last - first) as u16, ..step }
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)`.
pub fn raise_ambient(capability: u64) -> Step {
    let option = Arg::Word(libc::PR_CAP_AMBIENT.into(), "PR_CAP_AMBIENT");
    let raise = Arg::Word(libc::PR_CAP_AMBIENT_RAISE.into(), "PR_CAP_AMBIENT_RAISE");
    Step::new("prctl", libc::SYS_prctl, vec![option, raise, Arg::Num(capability), Arg::Num(0), Arg::Num(0)])
}

/// `capset(2)`.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Step {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    let mut data = Vec::with_capacity(24);
    for half in [0, 32] {
        for set in [effective, permitted, inheritable] {
            data.extend_from_slice(&((set >> half) as u32).to_ne_bytes());
        }
    }
    let shown = format!("{{effective={effective:#x} permitted={permitted:#x} inheritable={inheritable:#x}}}");
    let header = Arg::Blob(header, "{VERSION_3, self}".into());
    Step::new("capset", libc::SYS_capset, vec![header, Arg::Blob(data, shown)])
}

/// `setgroups(2)`.
pub fn setgroups(groups: &[u32]) -> Step {
    let bytes = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
    let list = Arg::Blob(bytes, format!("{groups:?}"));
    Step::new("setgroups", libc::SYS_setgroups, vec![Arg::Num(groups.len() as u64), list])
}

/// `setresgid(2)`, all three the same.
pub fn setresgid(gid: u32) -> Step {
    Step::new("setresgid", libc::SYS_setresgid, vec![Arg::Num(gid.into()); 3])
}

/// `setresuid(2)`, all three the same.
pub fn setresuid(uid: u32) -> Step {
    Step::new("setresuid", libc::SYS_setresuid, vec![Arg::Num(uid.into()); 3])
}

/// `setrlimit(2)` by `prlimit64`.
pub fn setrlimit(resource: u32, name: &'static str, soft: u64, hard: u64) -> Step {
    let bytes = [soft.to_ne_bytes(), hard.to_ne_bytes()].concat();
    let shown = format!("{{soft={soft} hard={hard}}}");
    let args = vec![Arg::Num(0), Arg::Word(resource.into(), name), Arg::Blob(bytes, shown), NULL];
    Step::new("prlimit64", libc::SYS_prlimit64, args)
}

/// `seccomp(2)` with a filter of 8-byte instructions.
pub fn seccomp(filter: Vec<u8>, flags: u32) -> Step {
    let mode = Arg::Word(1, "SECCOMP_SET_MODE_FILTER");
    let flags = Arg::Flags(flags.into(), SECCOMP);
    Step::new("seccomp", libc::SYS_seccomp, vec![mode, flags, Arg::Filter(filter)])
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: a session keyring of its own.
pub fn join_session_keyring() -> Step {
    Step::new("keyctl", libc::SYS_keyctl, vec![Arg::Word(1, "KEYCTL_JOIN_SESSION_KEYRING"), NULL])
}

// --- Signals and messages --------------------------------------------------

/// `rt_sigprocmask(SIG_SETMASK)` to the empty mask.
pub fn unblock_signals() -> Step {
    let how = Arg::Word(libc::SIG_SETMASK.into(), "SIG_SETMASK");
    let mask = Arg::Blob(vec![0; 8], "[]".into());
    Step::new("rt_sigprocmask", libc::SYS_rt_sigprocmask, vec![how, mask, NULL, Arg::Num(8)])
}

/// `signalfd4(2)` for SIGCHLD and SIGTERM.
pub fn signalfd() -> Step {
    let mask: u64 = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGTERM - 1);
    let mask = Arg::Blob(mask.to_ne_bytes().to_vec(), "[CHLD TERM]".into());
    let flags = Arg::Flags((libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as u64, SFD);
    Step::new("signalfd4", libc::SYS_signalfd4, vec![Arg::Word(-1, "-1"), mask, Arg::Num(8), flags])
}

/// Waits for one message, of whatever content; end-of-file is a failure.
pub fn await_message(socket: Slot) -> Step {
    let flags = Arg::Flags(libc::MSG_TRUNC as u64, RECV);
    let args = vec![Arg::Slot(socket), NULL, Arg::Num(0), flags, NULL, NULL];
    Step { min: 1, ..Step::new("recvfrom", libc::SYS_recvfrom, args) }
}

/// Brings the loopback interface up: `socket(2)`, to be kept in a slot.
pub fn inet_socket() -> Step {
    let family = Arg::Word(libc::AF_INET.into(), "AF_INET");
    let kind = Arg::Word((libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into(), "SOCK_DGRAM|SOCK_CLOEXEC");
    Step::new("socket", libc::SYS_socket, vec![family, kind, Arg::Num(0)])
}

/// `ioctl(SIOCSIFFLAGS)`: the loopback interface, up.
pub fn loopback_up(socket: Slot) -> Step {
    // struct ifreq: name, flags; 40 bytes.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    let command = Arg::Word(libc::SIOCSIFFLAGS as i64, "SIOCSIFFLAGS");
    let request = Arg::Blob(request.to_vec(), "{\"lo\", IFF_UP}".into());
    Step::new("ioctl", libc::SYS_ioctl, vec![Arg::Slot(socket), command, request])
}

// --- What is no system call, or more than one ------------------------------

/// `mmap(2)` of the exit table at its fixed address.
pub fn map_table(table: Slot) -> Step {
    let args = vec![
        Arg::Address(TABLE_BASE as u64),
        Arg::Num(pause::table::TABLE_SIZE as u64),
        Arg::Flags((libc::PROT_READ | libc::PROT_WRITE) as u64, PROT),
        Arg::Flags((libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64, MAP),
        Arg::Slot(table),
        Arg::Num(0),
    ];
    Step::new("mmap", libc::SYS_mmap, args)
}

/// `munmap(2)` of the exit table.
pub fn unmap_table() -> Step {
    let size = Arg::Num(pause::table::TABLE_SIZE as u64);
    Step::new("munmap", libc::SYS_munmap, vec![Arg::Address(TABLE_BASE as u64), size])
}

/// A 32-bit store into the exit table.
pub fn store(address: u64, value: u32, shown: &'static str) -> Step {
    Step::own("store", Op::Store, vec![Arg::Address(address), Arg::Word(value.into(), shown)])
}

/// Sends a record of the launch report, perhaps with a descriptor.
pub fn report(kind: u32, name: &'static str, with: Option<Slot>) -> Step {
    let with = with.map_or(Arg::Word(Slot::NONE.into(), "-"), Arg::SlotNumber);
    Step::own("report", Op::Report, vec![Arg::Word(kind.into(), name), with])
}

/// Opens `/proc/<pid>/<name>` for writing; `pid` is behind a clone's pidfd.
pub fn open_proc(pid: Slot, name: &str) -> Step {
    Step::own("open_proc", Op::OpenProc, vec![Arg::Slot(pid), arg_text(name)])
}

/// Waits for a connection from a process of this user.
pub fn accept(socket: Slot, uid: u32) -> Step {
    Step::own("accept", Op::Accept, vec![Arg::Slot(socket), Arg::Num(uid.into())])
}

/// Becomes pause.
pub fn hold(signals: Slot, lifeline: Slot, owner: Slot) -> Step {
    let table = Arg::Address(TABLE_BASE as u64);
    Step::own("hold", Op::Hold, vec![table, Arg::Slot(signals), Arg::Slot(lifeline), Arg::Slot(owner)])
}
