//! One step, and a constructor for each system call a plan may hold.
//!
//! The constructors take what the man page takes, in its order, and do
//! nothing but write it down. They are grouped as the kernel's manual is.

mod files;
mod identity;
mod mounts;
mod process;

pub use files::*;
pub use identity::*;
pub use mounts::*;
pub use process::*;

use std::ffi::CString;
use std::path::Path;

use libc::c_long;
use pause::wire::{Op, Slot, TABLE_BASE};

use crate::error::StepKind;

/// A system call, or one of the few things the sealed program does besides.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it is, with its name.
    pub kind: StepKind,
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
    pub(super) fn new(kind: StepKind, number: c_long, args: Vec<Arg>) -> Step {
        Step::of(Call { kind, number, op: Op::Call }, args)
    }

    fn own(kind: StepKind, op: Op, args: Vec<Arg>) -> Step {
        Step::of(Call { kind, number: 0, op }, args)
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

    /// What it is.
    pub fn kind(&self) -> StepKind {
        self.call.kind
    }

    /// Whether this is the final `execve`.
    pub fn is_exec(&self) -> bool {
        self.call.op == Op::Exec
    }

    /// Whether it looks for the program before there is an `execve`.
    pub fn looks_for_program(&self) -> bool {
        self.call.number == libc::SYS_faccessat2 && self.call.op == Op::Call
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

// --- Namespaces and processes -----------------------------------------------

/// `setns(2)` with a pidfd (several namespaces) or a namespace file.
pub fn setns(target: Slot, namespaces: u64) -> Step {
    Step::new(StepKind::Setns, libc::SYS_setns, vec![Arg::Slot(target), Arg::Flags(namespaces, CLONE)])
}

/// `unshare(2)`.
pub fn unshare(namespaces: u64) -> Step {
    Step::new(StepKind::Unshare, libc::SYS_unshare, vec![Arg::Flags(namespaces, CLONE)])
}

/// `clone3(2)` as a fork; see [`Plan::fork`](super::Plan). `parent_tid` is the
/// address the kernel writes the child's pid to, as the parent sees it.
pub(super) fn clone(namespaces: u64, parent_tid: u64) -> Step {
    Step::own(StepKind::Clone3, Op::Clone, vec![Arg::Flags(namespaces, CLONE), Arg::Label(0), Arg::Address(parent_tid)])
}

/// The same, but the new process is a sibling: its parent is the caller's.
pub(super) fn clone_sibling(namespaces: u64) -> Step {
    clone(namespaces | libc::CLONE_PARENT as u64, 0)
}

/// `waitid(2)` for the child behind a pidfd.
pub fn wait_for(pidfd: Slot) -> Step {
    let kind = Arg::Word(libc::P_PIDFD.into(), "P_PIDFD");
    let flags = Arg::Flags(libc::WEXITED as u64, WAIT);
    Step::new(StepKind::Waitid, libc::SYS_waitid, vec![kind, Arg::Slot(pidfd), NULL, flags, NULL])
}

/// `exit_group(2)`.
pub fn exit(code: u64) -> Step {
    Step::new(StepKind::ExitGroup, libc::SYS_exit_group, vec![Arg::Num(code)])
}

/// `setsid(2)`.
pub fn setsid() -> Step {
    Step::new(StepKind::Setsid, libc::SYS_setsid, vec![])
}

/// `sethostname(2)`.
pub fn sethostname(name: &str) -> Step {
    Step::new(StepKind::Sethostname, libc::SYS_sethostname, vec![arg_text(name), Arg::Num(name.len() as u64)])
}

/// `execveat(2)` of an open file.
pub fn execveat(file: Slot, argv: Vec<CString>, envp: Vec<CString>) -> Step {
    let flags = Arg::Flags(libc::AT_EMPTY_PATH as u64, AT);
    let args = vec![Arg::Slot(file), empty(), Arg::Strings(argv), Arg::Strings(envp), flags];
    Step::new(StepKind::Execveat, libc::SYS_execveat, args)
}

/// `execve(2)` of the first candidate that is there.
pub fn execve(candidates: Vec<CString>, argv: Vec<CString>, envp: Vec<CString>) -> Step {
    Step::own(StepKind::Execve, Op::Exec, vec![Arg::Strings(candidates), Arg::Strings(argv), Arg::Strings(envp)])
}

// --- Signals and messages ---------------------------------------------------

/// `rt_sigprocmask(SIG_SETMASK)` to the empty mask.
pub fn unblock_signals() -> Step {
    let how = Arg::Word(libc::SIG_SETMASK.into(), "SIG_SETMASK");
    let mask = Arg::Blob(vec![0; 8], "[]".into());
    Step::new(StepKind::RtSigprocmask, libc::SYS_rt_sigprocmask, vec![how, mask, NULL, Arg::Num(8)])
}

/// `signalfd4(2)` for SIGCHLD and SIGTERM.
pub fn signalfd() -> Step {
    let mask: u64 = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGTERM - 1);
    let mask = Arg::Blob(mask.to_ne_bytes().to_vec(), "[CHLD TERM]".into());
    let flags = Arg::Flags((libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as u64, SFD);
    Step::new(StepKind::Signalfd4, libc::SYS_signalfd4, vec![Arg::Word(-1, "-1"), mask, Arg::Num(8), flags])
}

/// Waits for one message, of whatever content; end-of-file is a failure.
pub fn await_message(socket: Slot) -> Step {
    let flags = Arg::Flags(libc::MSG_TRUNC as u64, RECV);
    let args = vec![Arg::Slot(socket), NULL, Arg::Num(0), flags, NULL, NULL];
    Step { min: 1, ..Step::new(StepKind::Recvfrom, libc::SYS_recvfrom, args) }
}

/// Brings the loopback interface up: `socket(2)`, to be kept in a slot.
pub fn inet_socket() -> Step {
    let family = Arg::Word(libc::AF_INET.into(), "AF_INET");
    let kind = Arg::Word((libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into(), "SOCK_DGRAM|SOCK_CLOEXEC");
    Step::new(StepKind::Socket, libc::SYS_socket, vec![family, kind, Arg::Num(0)])
}

/// `ioctl(SIOCSIFFLAGS)`: the loopback interface, up.
pub fn loopback_up(socket: Slot) -> Step {
    // struct ifreq: name, flags; 40 bytes.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    let command = Arg::Word(libc::SIOCSIFFLAGS as i64, "SIOCSIFFLAGS");
    let request = Arg::Blob(request.to_vec(), "{\"lo\", IFF_UP}".into());
    Step::new(StepKind::Ioctl, libc::SYS_ioctl, vec![Arg::Slot(socket), command, request])
}

// --- What is no system call, or more than one -------------------------------

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
    Step::new(StepKind::Mmap, libc::SYS_mmap, args)
}

/// `munmap(2)` of the exit table.
pub fn unmap_table() -> Step {
    let size = Arg::Num(pause::table::TABLE_SIZE as u64);
    Step::new(StepKind::Munmap, libc::SYS_munmap, vec![Arg::Address(TABLE_BASE as u64), size])
}

/// A 32-bit store into the exit table.
pub fn store(address: u64, value: u32, shown: &'static str) -> Step {
    Step::own(StepKind::Store, Op::Store, vec![Arg::Address(address), Arg::Word(value.into(), shown)])
}

/// Sends a record of the launch report, perhaps with a descriptor.
pub fn report(kind: u32, name: &'static str, with: Option<Slot>) -> Step {
    let with = with.map_or(Arg::Word(Slot::NONE.into(), "-"), Arg::SlotNumber);
    Step::own(StepKind::Report, Op::Report, vec![Arg::Word(kind.into(), name), with])
}

/// Opens `/proc/<pid>/<name>` for writing; `pid` is behind a clone's pidfd.
pub fn open_proc(pid: Slot, name: &str) -> Step {
    Step::own(StepKind::OpenProc, Op::OpenProc, vec![Arg::Slot(pid), arg_text(name)])
}

/// Removes all that is in an open directory.
pub fn empty_directory(dir: Slot) -> Step {
    Step::own(StepKind::Empty, Op::Empty, vec![Arg::Slot(dir)])
}

/// Waits for a connection from a process of this user.
pub fn accept(socket: Slot, uid: u32) -> Step {
    Step::own(StepKind::Accept, Op::Accept, vec![Arg::Slot(socket), Arg::Num(uid.into())])
}

/// Becomes pause.
pub fn hold(signals: Slot, lifeline: Slot, owner: Slot) -> Step {
    let table = Arg::Address(TABLE_BASE as u64);
    Step::own(StepKind::Hold, Op::Hold, vec![table, Arg::Slot(signals), Arg::Slot(lifeline), Arg::Slot(owner)])
}
