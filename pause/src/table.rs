//! The exit table: one page, shared by pause and by every waiter.
//!
//! ```text
//!   byte 0    version  flags  orphans  -  generation                 (32 bytes)
//!   byte 32   entry 0:  pid  state  code  status  time  generation   (32 bytes)
//!   ...       entry 126
//!
//!   FREE ──reserve──► RESERVED ────H2────► RUNNING ──pause──► EXITED
//!     ▲      (CAS)        │                                     │
//!     └───────────────────┴───────────── release ◄──────────────┘
//! ```
//!
//! An entry's pid is zeroed before its state becomes RUNNING, and then written
//! by the kernel itself (`CLONE_PARENT_SETTID`) before the container's first
//! instruction: pause can never reap a container it does not know. `state` is
//! also the futex word that waiters sleep on. A waiter watches pause's pidfd
//! besides: once pause is gone the table is final, and an entry that still says
//! RUNNING was killed with the pod.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Size of the table's file, in bytes.
pub const TABLE_SIZE: usize = 4096;
/// Number of entries.
pub const ENTRIES: usize = 127;
/// What this crate writes into [`Head::version`].
pub const VERSION: u32 = 1;

/// The entry is no process's.
pub const FREE: u32 = 0;
/// A launch is under way.
pub const RESERVED: u32 = 1;
/// The process lives, or is about to.
pub const RUNNING: u32 = 2;
/// `code` and `status` say how it ended.
pub const EXITED: u32 = 3;
/// The bits of `state` that are [`FREE`], [`RESERVED`], [`RUNNING`] or [`EXITED`].
pub const STATE_MASK: u32 = 0xff;
/// Set in `state` while the entry belongs to an `exec`, not to a container.
pub const EXEC_KIND: u32 = 0x100;

/// [`Head::flags`]: pause ends when the last container has ended.
pub const END_WITH_LAST: u32 = 1;

/// `code`: it called exit; `status` is the exit code.
pub const CLD_EXITED: u32 = 1;
/// `code`: `status` is the signal that killed it.
pub const CLD_KILLED: u32 = 2;
/// `code`: as [`CLD_KILLED`], and it dumped core.
pub const CLD_DUMPED: u32 = 3;

/// The first 32 bytes.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Head {
    /// [`VERSION`].
    pub version: AtomicU32,
    /// [`END_WITH_LAST`].
    pub flags: AtomicU32,
    /// Processes reaped that stood in no entry: orphans of containers.
    pub orphans: AtomicU64,
    /// Zero.
    pub reserved: u64,
    /// Counts reservations.
    pub generation: AtomicU64,
}

/// One process that can be waited for.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Entry {
    /// Its pid as pause sees it.
    pub pid: AtomicU32,
    /// [`FREE`] … [`EXITED`], perhaps with [`EXEC_KIND`].
    pub state: AtomicU32,
    /// [`CLD_EXITED`] and the like, as `waitid(2)` has them.
    pub code: AtomicU32,
    /// Exit code or signal.
    pub status: AtomicU32,
    /// When it ended: nanoseconds since the epoch.
    pub time: AtomicU64,
    /// Which reservation this is; 0 never occurs.
    pub generation: AtomicU64,
}

/// The page.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// Header.
    pub head: Head,
    /// One for each process.
    pub entries: [Entry; ENTRIES],
}

const _: () = assert!(size_of::<Table>() == TABLE_SIZE);

impl Entry {
    /// The state without its kind.
    pub fn phase(&self) -> u32 {
        self.state.load(Acquire) & STATE_MASK
    }

    /// pause writes how process `pid` ended, if it is the one in this entry.
    /// `wstatus` is `wait4`'s. A waiter that reads EXITED also reads the rest.
    pub fn record(&self, pid: u32, wstatus: u32, time: u64) -> bool {
        let state = self.state.load(Acquire);
        if state & STATE_MASK != RUNNING || self.pid.load(Relaxed) != pid {
            return false;
        }
        let signal = wstatus & 0x7f;
        let (code, status) = match signal {
            0 => (CLD_EXITED, wstatus >> 8 & 0xff),
            _ if wstatus & 0x80 != 0 => (CLD_DUMPED, signal),
            _ => (CLD_KILLED, signal),
        };
        self.code.store(code, Relaxed);
        self.status.store(status, Relaxed);
        self.time.store(time, Relaxed);
        self.state.store(state & !STATE_MASK | EXITED, Release);
        true
    }
}

impl Table {
    /// Whether a container (not an exec) runs or is about to.
    pub fn has_containers(&self) -> bool {
        self.entries.iter().any(|entry| {
            let state = entry.state.load(Acquire);
            state == RUNNING || state == RESERVED
        })
    }
}
