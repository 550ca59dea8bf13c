//! Starting the sealed program; and opening a socket where this program is not.
//!
//! The library does not fork. A fork copies page tables, which takes 50 ms in
//! a process of a gigabyte, and in a threaded one the child may do next to
//! nothing. Instead a helper thread of sorts, `clone3(CLONE_VM|CLONE_VFORK)`,
//! runs on a small stack of its own while the caller stands still, moves a few
//! descriptors, and executes the program. `posix_spawn(3)` works like that too
//! but can neither be born in a cgroup nor execute a descriptor.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use pause::arch::syscall;

/// A child that only this library knows of.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    pid: u32,
}

impl Child {
    /// Waits for its end.
    pub(crate) fn reap(&self) {
        super::syscalls::reap(self.pidfd.as_fd());
    }

    /// Its pid, which no other process has before it is reaped.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor of it for others.
    pub(crate) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// Whether its end comes in this time.
    pub(crate) fn ends_within(&self, time: std::time::Duration) -> bool {
        super::syscalls::wait_readable(&self.pidfd, Some(time)).unwrap_or(false)
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        // It may be gone already.
        super::syscalls::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
    }
}

/// What the child needs; it writes `error`.
#[repr(C)]
struct Birth {
    program: i32,
    given: *const i32,
    moved: *mut i32,
    count: usize,
    argv: *const *const c_char,
    envp: *const *const c_char,
    error: isize,
}

const STACK_SIZE: usize = 32 * 1024;

/// Where a process is born.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birthplace<'a> {
    /// The caller's own without one.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `CLONE_NEW*`: which namespaces are made for it.
    pub namespaces: u64,
    /// It waits for a word on its report before it begins.
    pub waits: bool,
}

/// Starts `program` as a child of this process with the name `argv0`, with
/// `given` as descriptors 0, 1, 2, ... and no others, in `birthplace`.
///
/// All signals are blocked in the child.
///
/// # Errors
/// What `clone3(2)` or the child's few system calls fail with.
pub(crate) fn spawn(
    program: BorrowedFd<'_>,
    argv0: &CStr,
    given: &[BorrowedFd<'_>],
    birthplace: Birthplace<'_>,
) -> nix::Result<Child> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let given: Vec<i32> = given.iter().map(|fd| fd.as_raw_fd()).collect();
    let mut moved = vec![-1i32; given.len() + 1];
    let waits = if birthplace.waits { c"waits".as_ptr() } else { std::ptr::null() };
    let argv = [argv0.as_ptr(), waits, std::ptr::null()];
    let envp = [std::ptr::null()];
    let mut birth = Birth {
        program: program.as_raw_fd(),
        given: given.as_ptr(),
        moved: moved.as_mut_ptr(),
        count: given.len(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        error: 0,
    };
    // Not initialised: only what the child touches becomes memory.
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_SIZE / 16);
    let mut pidfd = -1i32;
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    let args = CloneArgs {
        flags: flags | birthplace.namespaces | if birthplace.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK_SIZE as u64,
        cgroup: birthplace.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };

    // SAFETY: the stack and everything in `birth` outlive the child's use of
    // them, because this thread stands still until the child has executed the
    // program or ended.
    let pid = unsafe { clone_undisturbed(&args, child, &raw mut birth) }?;
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    let child = Child { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, pid };
    if birth.error != 0 {
        child.reap();
        return Err(Errno::from_raw(-birth.error as i32));
    }
    Ok(child)
}

/// What a child that opens a socket elsewhere needs; it writes `result`.
#[repr(C)]
struct Opening {
    users: i32,
    net: i32,
    family: i32,
    result: isize,
}

/// A stream socket (socket(2)) of this family that belongs to another network
/// namespace, and never waits; `users` is the user namespace of which that is, if it
/// is not the caller's.
///
/// A child without a thread of this program's enters them, for a program of several
/// threads may enter no user namespace (setns(2)), and ends; the socket is one of this
/// program's descriptors from the beginning (`CLONE_FILES`).
///
/// # Errors
/// What `clone3(2)`, `setns(2)` or `socket(2)` fails with.
pub(crate) fn stream_socket_in(
    users: Option<BorrowedFd<'_>>,
    net: BorrowedFd<'_>,
    family: i32,
) -> nix::Result<OwnedFd> {
    let users = users.map_or(-1, |users| users.as_raw_fd());
    let mut opening = Opening { users, net: net.as_raw_fd(), family, result: 0 };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_SIZE / 16);
    let mut pidfd = -1i32;
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_FILES) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK_SIZE as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the stack and `opening` outlive the child, because this thread stands
    // still until it has ended.
    let pid = unsafe { clone_undisturbed(&args, open_elsewhere, &raw mut opening) }?;
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    let child = Child { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, pid };
    child.reap();
    match opening.result {
        // SAFETY: the child has made this descriptor for us.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        errno => Err(Errno::from_raw(-errno as i32)),
    }
}

/// In the child, on shared memory: system calls only.
extern "C" fn open_elsewhere(opening: *mut Opening) -> ! {
    // SAFETY: the parent keeps `opening` alive and does not look until we are gone.
    let opening = unsafe { &mut *opening };
    let call = |number: libc::c_long, a: i32, b: i32| {
        // SAFETY: setns and socket take numbers only.
        unsafe { syscall(number as usize, [a as usize, b as usize, 0, 0, 0, 0]) }
    };
    let mut result = 0;
    if opening.users >= 0 {
        result = call(libc::SYS_setns, opening.users, libc::CLONE_NEWUSER);
    }
    if result == 0 {
        result = call(libc::SYS_setns, opening.net, libc::CLONE_NEWNET);
    }
    if result == 0 {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        result = call(libc::SYS_socket, opening.family, kind);
    }
    opening.result = result;
    pause::arch::exit(0)
}

/// [`clone_and_call`] with all signals blocked meanwhile: a handler of this program
/// must not run in the child, on shared memory, as posix_spawn has it. The child's pid.
///
/// # Safety
/// As that.
unsafe fn clone_undisturbed<T>(
    args: &CloneArgs,
    child: extern "C" fn(*mut T) -> !,
    argument: *mut T,
) -> nix::Result<u32> {
    let all = u64::MAX;
    let mut before = 0u64;
    let set_mask = |new: &u64, old: *mut u64| {
        let args = [libc::SIG_SETMASK as usize, &raw const *new as usize, old as usize, 8, 0, 0];
        // SAFETY: two masks of 8 bytes, or null.
        unsafe { syscall(libc::SYS_rt_sigprocmask as usize, args) }
    };
    set_mask(&all, &raw mut before);
    // SAFETY: the caller's promise.
    let result = unsafe { clone_and_call(args, child, argument) };
    set_mask(&before, std::ptr::null_mut());
    if result < 0 { Err(Errno::from_raw(-result as i32)) } else { Ok(result as u32) }
}

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3`, with `child(argument)` on the new stack.
///
/// # Safety
/// `args` must name a stack that is free; `child` must be sound on it.
unsafe fn clone_and_call<T>(args: &CloneArgs, child: extern "C" fn(*mut T) -> !, argument: *mut T) -> isize {
    let result: isize;
    // SAFETY: in the parent a plain system call. The child comes back with an
    // empty stack, to which `and` gives the alignment of the ABI, and never
    // leaves `child`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "and rsp, -16",
            "mov rdi, {argument}",
            "call {child}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            child = in(reg) child,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            // Not `lateout`: the inputs are read after the call destroyed them.
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// In the child, on shared memory: system calls only.
extern "C" fn child(birth: *mut Birth) -> ! {
    // SAFETY: the parent keeps `birth` alive and does not look until we are
    // gone.
    let birth = unsafe { &mut *birth };
    birth.error = execute(birth);
    pause::arch::exit(125)
}

/// Moves the descriptors and executes the program. Comes back with `-errno`.
fn execute(birth: &mut Birth) -> isize {
    let call = |number: libc::c_long, a: usize, b: usize, c: usize| {
        // SAFETY: fcntl, dup3, close and close_range take numbers only.
        unsafe { syscall(number as usize, [a, b, c, 0, 0, 0]) }
    };
    let count = birth.count;
    // First out of the way, all of them: above the numbers they get.
    for i in 0..=count {
        // SAFETY: `given` has `count` elements, `moved` one more.
        let from = if i == count { birth.program } else { unsafe { *birth.given.add(i) } };
        let to = call(libc::SYS_fcntl, from as usize, libc::F_DUPFD as usize, count + 1);
        if to < 0 {
            return to;
        }
        // SAFETY: `moved` has `count + 1` elements.
        unsafe { *birth.moved.add(i) = to as i32 };
    }
    for i in 0..=count {
        // The program's own descriptor, the last, closes when it is executed.
        let flags = if i == count { libc::O_CLOEXEC as usize } else { 0 };
        // SAFETY: `moved` has `count + 1` elements.
        let from = unsafe { *birth.moved.add(i) };
        let result = call(libc::SYS_dup3, from as usize, i, flags);
        if result < 0 {
            return result;
        }
    }
    let result = call(libc::SYS_close_range, count + 1, u32::MAX as usize, 0);
    if result == -(libc::ENOSYS as isize) || result == -(libc::EPERM as isize) {
        // A sandbox denies it. Beyond the limit there is hardly ever one.
        let mut limit = [0u64; 2];
        let args = [0, libc::RLIMIT_NOFILE as usize, 0, limit.as_mut_ptr() as usize, 0, 0];
        // SAFETY: the kernel writes two words.
        unsafe { syscall(libc::SYS_prlimit64 as usize, args) };
        for fd in count + 1..limit[0].min(1 << 20) as usize {
            call(libc::SYS_close, fd, 0, 0);
        }
    } else if result < 0 {
        return result;
    }
    let path = c"".as_ptr() as usize;
    let (argv, envp) = (birth.argv as usize, birth.envp as usize);
    // SAFETY: null-ended arrays of C strings, kept alive by the parent.
    unsafe { syscall(libc::SYS_execveat as usize, [count, path, argv, envp, libc::AT_EMPTY_PATH as usize, 0]) }
}
