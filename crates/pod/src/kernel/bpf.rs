//! `bpf(2)`, as much as device rules need: load a program, attach it to a
//! cgroup. The program lives as long as the cgroup.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const PROGRAM_TYPE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_TYPE: u32 = 6;
/// What is attached above counts, too, and all have to allow.
const ALLOW_MULTI: u32 = 2;

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The first fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
}

/// Has `program` asked about every device that is used from `cgroup` and
/// below.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the machine's
/// user namespace; what the kernel's verifier says.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> nix::Result<()> {
    let load = Load {
        kind: PROGRAM_TYPE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: instructions and licence outlive the call, the size is that of
    // the structure; what is behind it counts as zero.
    let loaded: OwnedFd =
        super::syscalls::owned(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    let attach =
        Attach { target: cgroup.as_raw_fd(), program: loaded.as_raw_fd(), kind: ATTACH_TYPE, flags: ALLOW_MULTI };
    // SAFETY: the structure outlives the call, its size is the one said, and both
    // descriptors are open.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

/// An eBPF instruction (`struct bpf_insn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Instruction {
    pub code: u8,
    /// Destination in the low half, source in the high one.
    pub registers: u8,
    pub offset: i16,
    pub value: i32,
}
