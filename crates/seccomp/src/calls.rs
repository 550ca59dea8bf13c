//! Call numbers by name, for the three architectures of an x86_64 kernel.
//!
//! The tables of x86_64 and i386 are the crate `syscalls`', with what came
//! later. x32 uses the
//! numbers of x86_64 with [`X32_BIT`] set, but for those calls that were given
//! own ones because their structures differ; the kernel takes no new ones of
//! these since 2018.

use std::str::FromStr;

use syscalls::{x86, x86_64};

/// Set in the number of every call of x32.
pub const X32_BIT: u32 = 0x4000_0000;

/// An architecture whose calls an x86_64 kernel takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Arch {
    /// 64 bit.
    X86_64,
    /// 32 bit: `int 0x80` and its relatives.
    X86,
    /// 32-bit pointers in 64-bit mode.
    X32,
}

impl Arch {
    /// Whether arguments are compared as 64-bit numbers. Of x32 libseccomp
    /// compares the lower half, which is what most of its calls look at.
    pub fn is_wide(self) -> bool {
        self == Arch::X86_64
    }

    /// The lowest number a call has.
    pub fn first(self) -> u32 {
        if self == Arch::X32 { X32_BIT } else { 0 }
    }

    /// The call's number, if it is one here.
    pub fn number(self, name: &str) -> Option<u32> {
        match self {
            Arch::X86_64 => x86_64::Sysno::from_str(name).ok().map(|call| call.id() as u32).or_else(|| newest(name)),
            Arch::X86 => x86::Sysno::from_str(name).ok().map(|call| call.id() as u32).or_else(|| newest(name)),
            Arch::X32 => x32_number(name, Arch::X86_64.number(name)),
        }
    }
}

/// Calls that the crate does not have, which goes up to Linux 6.18: all of
/// them up to 7.2. From 424 on a call has the same number everywhere
/// (include/uapi/asm-generic/unistd.h).
const NEWEST: [(&str, u32); 2] = [("listns", 470), ("rseq_slice_yield", 471)];

fn newest(name: &str) -> Option<u32> {
    NEWEST.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// The number that a call has on x32, by the one that it has on x86_64.
pub fn x32_number(name: &str, native: Option<u32>) -> Option<u32> {
    match X32_OWN.iter().position(|own| *own == name) {
        Some(place) => Some(X32_BIT + 512 + place as u32),
        None if ONLY_64.contains(&name) => None,
        None => native.map(|number| X32_BIT + number),
    }
}

/// The first argument by which `socketcall` or `ipc` of i386 does what another
/// call of that name does.
pub fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    let number = |names: &[&str]| names.iter().position(|known| *known == name).map(|place| place as u64 + 1);
    let ipc = || IPC.iter().find(|(known, _)| *known == name).map(|&(_, number)| ("ipc", number));
    number(&SOCKETCALL).map(|number| ("socketcall", number)).or_else(ipc)
}

/// From 1 on.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// From 512 on.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of x86_64 that x32 does not have.
const ONLY_64: [&str; 13] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
];
