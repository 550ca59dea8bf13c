//! pause: PID 1 of a pod, parent of everything in it.
//!
//! By the time [`hold`] is called the plan has given pause an empty root and
//! taken everything else: capabilities, descriptors, most system calls. What
//! is left to do is to reap, to write exits into the table, and to end the pod
//! when it is told to from outside.

use core::sync::atomic::Ordering;

use crate::arch::{self, nr, syscall};
use crate::table::{END_WITH_LAST, Table};
use crate::wire::{PLAN_BASE, PLAN_MAX};

/// On the lifeline: the pod outlives its owner from now on.
pub const DETACH: u8 = b'D';

const POLLIN: i16 = 1;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// Is pause from here on. Ends, and with it the pod, when
/// - SIGTERM comes from outside the pod (from inside it means nothing),
/// - the lifeline says anything but [`DETACH`], or closes,
/// - the owner dies, even if a child of it still has the lifeline open,
/// - the last container ended and the table's [`END_WITH_LAST`] is set.
///
/// Reading the lifeline must not block.
///
/// # Safety
/// A [`Table`] must be mapped at `table`, shared and for good.
pub unsafe fn hold(table: usize, signals: i32, lifeline: i32, owner: i32) -> ! {
    // SAFETY: by the contract above; all its fields are atomics.
    let table = unsafe { &*(table as *const Table) };
    // The plan has served: give its pages back. The seccomp filter that the
    // plan loaded allows this and what follows, nothing else.
    // SAFETY: the frames above still borrow from the plan, but this function
    // never returns to them.
    unsafe { syscall(nr::MUNMAP, [PLAN_BASE, PLAN_MAX, 0, 0, 0, 0]) };

    let watch = |fd| PollFd { fd, events: POLLIN, revents: 0 };
    let mut watched = [watch(signals), watch(lifeline), watch(owner)];
    loop {
        let count = watched.len();
        // SAFETY: the array outlives the call.
        unsafe { syscall(nr::PPOLL, [watched.as_mut_ptr() as usize, count, 0, 0, 0, 0]) };
        // An owner that detaches and ends at once makes both readable, in
        // either order: what it said last counts, and it said it first.
        if watched[1].revents != 0 || watched[2].revents != 0 {
            let mut word = 0u8;
            if read(watched[1].fd, &raw mut word, 1) != 1 || word != DETACH {
                arch::exit(0);
            }
            for gone in &mut watched[1..] {
                // SAFETY: closing has no memory arguments.
                unsafe { syscall(nr::CLOSE, [gone.fd as usize, 0, 0, 0, 0, 0]) };
                gone.fd = -1;
            }
        }
        if watched[0].revents != 0 {
            if ordered_to_end(signals) {
                arch::exit(0);
            }
            reap(table);
        }
    }
}

/// Takes one signal off the signalfd. True if it is a SIGTERM that a process
/// outside the pod sent with kill(2).
///
/// PID 1 does not get what its own namespace's processes send, *unless* it
/// blocks the signal, as a signalfd demands. So look at the sender: outside
/// the namespace it has no pid here. `rt_sigqueueinfo` can forge that number,
/// but not together with `SI_USER`.
fn ordered_to_end(signals: i32) -> bool {
    const SIGTERM: u32 = 15;
    const SI_USER: u32 = 0;
    let mut info = [0u32; 32];
    // struct signalfd_siginfo: signo, errno, code, pid, ...
    if read(signals, info.as_mut_ptr().cast(), 128) != 128 {
        return false;
    }
    info[0] == SIGTERM && info[2] == SI_USER && info[3] == 0
}

/// Reaps whatever can be reaped. One SIGCHLD may stand for many exits.
fn reap(table: &Table) {
    const WNOHANG: usize = 1;
    const FUTEX_WAKE: usize = 1;
    let any = usize::MAX;
    loop {
        let mut wstatus = 0u32;
        // SAFETY: wstatus outlives the call.
        let pid = unsafe { syscall(nr::WAIT4, [any, &raw mut wstatus as usize, WNOHANG, 0, 0, 0]) };
        if pid <= 0 {
            return;
        }
        let time = now();
        match table.entries.iter().find(|entry| entry.record(pid as u32, wstatus, time)) {
            None => {
                table.head.orphans.fetch_add(1, Ordering::Relaxed);
            }
            Some(entry) => {
                let word = entry.state.as_ptr() as usize;
                // SAFETY: wakes the waiters that sleep on the word; reads nothing.
                unsafe { syscall(nr::FUTEX, [word, FUTEX_WAKE, i32::MAX as usize, 0, 0, 0]) };
                let flags = table.head.flags.load(Ordering::Acquire);
                if flags & END_WITH_LAST != 0 && !table.has_containers() {
                    arch::exit(0);
                }
            }
        }
    }
}

/// Nanoseconds since the epoch.
fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: a timespec is two 64-bit words; CLOCK_REALTIME is 0.
    unsafe { syscall(nr::CLOCK_GETTIME, [0, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

fn read(fd: i32, buffer: *mut u8, size: usize) -> isize {
    // SAFETY: every caller passes a buffer of `size` bytes.
    unsafe { syscall(nr::READ, [fd as usize, buffer as usize, size, 0, 0, 0]) }
}
