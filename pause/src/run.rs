//! The interpreter: walks the plan's steps with one `match` in one loop.
//!
//! There is nothing to decide here. A step fails or does not; which errors are
//! tolerated, and what is skipped then, stands in the step.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::{self, nr, syscall};
use crate::empty;
use crate::hold;
use crate::wire::{Header, MAX_SLOTS, Op, RawStep, Record, Slot};

/// The descriptors (and pids) of the process, by slot.
pub struct Slots([i32; MAX_SLOTS]);

impl Slots {
    /// Slots as a process is born with them: number n is descriptor n.
    pub fn identity() -> Slots {
        let mut slots = Slots([-1; MAX_SLOTS]);
        for (number, slot) in slots.0.iter_mut().enumerate() {
            *slot = number as i32;
        }
        slots
    }

    fn get(&self, slot: u64) -> i32 {
        *self.0.get(slot as usize).unwrap_or(&-1)
    }

    fn set(&mut self, slot: u16, value: i32) {
        if let Some(old) = self.0.get_mut(usize::from(slot)) {
            *old = value;
        }
    }
}

const EPERM: isize = 1;
const EAGAIN: isize = 11;
const ENOSYS: isize = 38;
/// How often an `openat2` is tried again.
const TRIES: u32 = 10_000;
const ENOENT: u16 = 2;
const EACCES: u16 = 13;
const ENOTDIR: u16 = 20;

/// Does the plan from step `first` on, and never comes back.
///
/// # Safety
/// `header` must begin a well-formed plan whose pointers are valid in this
/// process.
pub unsafe fn run(header: &Header, first: usize) -> ! {
    // SAFETY: the steps stand behind the header.
    let steps = unsafe {
        let begin = (&raw const *header).add(1).cast::<RawStep>();
        core::slice::from_raw_parts(begin, header.steps as usize)
    };
    let mut slots = Slots::identity();
    let mut at = first;
    while let Some(step) = steps.get(at) {
        let mut next = at + 1 + usize::from(step.skip_ok);
        // SAFETY: passed on from the caller.
        let result = unsafe { perform(step, at, &mut slots, &mut next) };
        let errno = if result < 0 { -result as u16 } else { 0 };
        if errno != 0 && step.tolerate.contains(&errno) {
            at += 1 + usize::from(step.skip_err);
            continue;
        }
        if errno != 0 || result < step.min as isize {
            report(&slots, Record::ERROR, at, errno, None);
            // What a shell says of a program that is not there, or cannot be
            // executed; the exit table keeps it if the report has no reader.
            arch::exit(match (step.op, errno) {
                (Op::Exec, ENOENT | ENOTDIR) => 127,
                (Op::Exec, _) => 126,
                _ => 125,
            });
        }
        at = next;
    }
    arch::exit(0)
}

/// Does one step, the `index`th. A cloned child goes on elsewhere: `next`.
///
/// # Safety
/// The step's pointers must be valid in this process.
unsafe fn perform(step: &RawStep, index: usize, slots: &mut Slots, next: &mut usize) -> isize {
    let mut args = [0usize; 6];
    for (i, arg) in args.iter_mut().enumerate() {
        let value = step.args[i];
        let is_slot = step.slot_args & 1 << i != 0;
        *arg = if is_slot { slots.get(value) as isize as usize } else { value as usize };
    }
    match step.op {
        Op::Call => {
            let mut left = step.repeat;
            let mut tries = TRIES;
            loop {
                // SAFETY: the plan vouches for its arguments.
                let result = unsafe { syscall(step.nr as usize, args) };
                // Another process renamed or mounted something while a link's `..`
                // was followed: openat2(2) says to try again.
                if result == -EAGAIN && step.nr as usize == nr::OPENAT2 && tries > 0 {
                    tries -= 1;
                    continue;
                }
                if (result == -ENOSYS || result == -EPERM) && step.nr as usize == nr::CLOSE_RANGE {
                    return close_each(args);
                }
                if result < 0 || left == 0 {
                    slots.set(step.into, result as i32);
                    return result;
                }
                left -= 1;
                args[1] += 1;
            }
        }
        Op::Store => {
            // SAFETY: the plan mapped the exit table there.
            let word = unsafe { &*(args[0] as *const AtomicU32) };
            word.store(args[1] as u32, Ordering::SeqCst);
            0
        }
        Op::Clone => {
            let (result, pidfd) = clone(args[0], args[2]);
            if result == 0 {
                *next = args[1];
            } else if result > 0 {
                slots.set(step.into, pidfd);
                slots.set(step.into.saturating_add(1), result as i32);
            }
            result
        }
        Op::Report => {
            let descriptor = (args[1] != usize::from(Slot::NONE)).then(|| slots.get(args[1] as u64));
            let sent = report(slots, args[0] as u32, index, 0, descriptor);
            if sent < 0 && args[0] as u32 == Record::BORN {
                // The library does not know of the new one, so it could not end it.
                const SIGKILL: usize = 9;
                let pidfd = descriptor.unwrap_or(-1) as isize as usize;
                // SAFETY: numbers only, and no siginfo.
                unsafe { syscall(nr::PIDFD_SEND_SIGNAL, [pidfd, SIGKILL, 0, 0, 0, 0]) };
            }
            sent
        }
        Op::Accept => {
            let result = accept(args[0], args[1] as u32);
            slots.set(step.into, result as i32);
            result
        }
        Op::OpenProc => {
            let result = open_proc(args[0] as u32, args[1] as *const u8);
            slots.set(step.into, result as i32);
            result
        }
        Op::Empty => empty::empty(args[0]),
        Op::Exec => {
            // SAFETY: the plan vouches for its arrays.
            unsafe { exec(args[0] as *const *const u8, args[1], args[2]) }
        }
        Op::Hold => {
            // SAFETY: the plan mapped the exit table at args[0].
            unsafe { hold::hold(args[0], args[1] as i32, args[2] as i32, args[3] as i32) }
        }
    }
}

/// `close_range(2)` where a sandbox denies it. No plan has descriptors beyond
/// twice its slots.
fn close_each(args: [usize; 6]) -> isize {
    const F_SETFD: usize = 2;
    for fd in args[0]..=args[1].min(2 * MAX_SLOTS) {
        // SAFETY: numbers only.
        unsafe {
            match args[2] {
                0 => syscall(nr::CLOSE, [fd, 0, 0, 0, 0, 0]),
                _ => syscall(nr::FCNTL, [fd, F_SETFD, 1, 0, 0, 0]),
            }
        };
    }
    0
}

/// `clone3(2)` as a fork with `flags`; the pid and, in the parent, the pidfd.
fn clone(flags: usize, parent_tid: usize) -> (isize, i32) {
    const CLONE_PIDFD: usize = 0x1000;
    const CLONE_PARENT: usize = 0x8000;
    const CLONE_PARENT_SETTID: usize = 0x10_0000;
    const SIGCHLD: usize = 17;
    let mut pidfd = -1i32;
    let mut flags = flags | CLONE_PIDFD;
    if parent_tid != 0 {
        flags |= CLONE_PARENT_SETTID;
    }
    // A sibling of ours tells the parent as we do, and may not say how.
    let exit_signal = if flags & CLONE_PARENT != 0 { 0 } else { SIGCHLD };
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    // tls, set_tid, set_tid_size, cgroup.
    let clone_args = [flags, &raw mut pidfd as usize, 0, parent_tid, exit_signal, 0, 0, 0, 0, 0, 0];
    // SAFETY: without CLONE_VM the child has a copy of this memory, so both
    // sides return here, each on its own stack.
    let result = unsafe {
        let size = size_of_val(&clone_args);
        syscall(nr::CLONE3, [clone_args.as_ptr() as usize, size, 0, 0, 0, 0])
    };
    (result, pidfd)
}

/// Sends one [`Record`], with `descriptor` riding along.
fn report(slots: &Slots, kind: u32, step: usize, errno: u16, descriptor: Option<i32>) -> isize {
    const SOL_SOCKET: u64 = 1;
    const SCM_RIGHTS: u64 = 1;
    const MSG_NOSIGNAL: usize = 0x4000;
    const CMSG_LEN: u64 = 20;
    let record = Record { kind, step: step as u32, errno: errno.into(), reserved: 0 };
    let part = [&raw const record as usize, size_of::<Record>()];
    // struct cmsghdr: length, level and type, then the descriptor.
    let control = [CMSG_LEN, SOL_SOCKET | SCM_RIGHTS << 32, descriptor.unwrap_or(0) as u32 as u64];
    let control_len = if descriptor.is_some() { size_of_val(&control) } else { 0 };
    // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
    let message = [0, 0, part.as_ptr() as usize, 1, control.as_ptr() as usize, control_len, 0];
    let socket = slots.get(Slot::REPORT.into()) as isize as usize;
    // SAFETY: all of it outlives the call.
    unsafe {
        let sent = syscall(nr::SENDMSG, [socket, message.as_ptr() as usize, MSG_NOSIGNAL, 0, 0, 0]);
        if sent >= 0 || descriptor.is_some() {
            return sent;
        }
        // The container's own filter may refuse that, and hardly ever this.
        syscall(nr::WRITE, [socket, part[0], part[1], 0, 0, 0])
    }
}

/// Accepts a connection on `socket` from a process of user `uid`; others are
/// turned away.
fn accept(socket: usize, uid: u32) -> isize {
    const SOCK_CLOEXEC: usize = 0o2000000;
    const SOL_SOCKET: usize = 1;
    const SO_PEERCRED: usize = 17;
    loop {
        // struct ucred: pid, uid, gid.
        let mut peer = [u32::MAX; 3];
        let mut size = size_of_val(&peer) as u32;
        // SAFETY: no address is asked for; `peer` and `size` outlive the call.
        unsafe {
            let connection = syscall(nr::ACCEPT4, [socket, 0, 0, SOCK_CLOEXEC, 0, 0]);
            if connection < 0 {
                return connection;
            }
            let (at, size) = (&raw mut peer as usize, &raw mut size as usize);
            syscall(nr::GETSOCKOPT, [connection as usize, SOL_SOCKET, SO_PEERCRED, at, size, 0]);
            if peer[1] == uid {
                return connection;
            }
            syscall(nr::CLOSE, [connection as usize, 0, 0, 0, 0, 0]);
        }
    }
}

/// Opens `/proc/<pid>/<name>` for writing.
fn open_proc(pid: u32, name: *const u8) -> isize {
    const O_WRONLY_CLOEXEC: usize = 0o2000001;
    let mut path = [0u8; 64];
    let mut end = 6;
    path[..6].copy_from_slice(b"/proc/");
    let mut digit = 1_000_000_000;
    while digit > 0 {
        if pid >= digit {
            path[end] = b'0' + (pid / digit % 10) as u8;
            end += 1;
        }
        digit /= 10;
    }
    path[end] = b'/';
    // SAFETY: `name` is a null-ended string of the plan; the copy stops one
    // before the end of `path`, which stays null.
    unsafe {
        let mut from = name;
        while *from != 0 && end < path.len() - 2 {
            end += 1;
            path[end] = *from;
            from = from.add(1);
        }
        syscall(nr::OPEN, [path.as_ptr() as usize, O_WRONLY_CLOEXEC, 0, 0, 0, 0])
    }
}

/// Tries each candidate. "Not there" goes on to the next, as does "may not",
/// which is remembered: it says more than a later "not there".
///
/// # Safety
/// The three arrays must be null-ended.
unsafe fn exec(mut candidates: *const *const u8, argv: usize, envp: usize) -> isize {
    let mut worst = -(ENOENT as isize);
    // SAFETY: the caller vouches for the arrays.
    unsafe {
        while !(*candidates).is_null() {
            let result = syscall(nr::EXECVE, [*candidates as usize, argv, envp, 0, 0, 0]);
            match -result as u16 {
                ENOENT | ENOTDIR => {}
                EACCES => worst = result,
                _ => return result,
            }
            candidates = candidates.add(1);
        }
    }
    worst
}
