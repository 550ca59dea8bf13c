//! The formats that cross from the library to the sealed program and back:
//! the plan's steps and the launch report's records.
//!
//! A plan is one contiguous, read-only file: a [`Header`], `steps` times
//! [`RawStep`], then the bytes their pointers point at. It is mapped at
//! [`PLAN_BASE`], so every pointer in it is already the number the kernel
//! wants. The library checks a plan when it encodes it; the program trusts it,
//! because it is sealed.

/// Where the program maps the plan.
pub const PLAN_BASE: usize = 0x1000_0000;
/// The largest plan, in bytes: the kernel's limit for arguments and
/// environment is well below.
pub const PLAN_MAX: usize = 8 << 20;
/// Where steps map the exit table.
pub const TABLE_BASE: usize = 0x2000_0000;
/// How many slots a plan may use.
pub const MAX_SLOTS: usize = 512;
/// First word of a plan.
pub const MAGIC: u32 = u32::from_le_bytes(*b"pod1");

/// A descriptor's number in a plan. Slots below [`Header::given`] are the
/// descriptors of that number, put there by the library; the others are filled
/// by steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Slot(pub u16);

impl Slot {
    /// The plan itself; closed once it is mapped.
    pub const PLAN: u16 = 3;
    /// The report socket, on which [`Record`]s travel to the library. Steps may
    /// put another one there.
    pub const REPORT: u16 = 4;
    /// "Nowhere": the result is not kept.
    pub const NONE: u16 = u16::MAX;
}

/// The head of a plan.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// Number of steps behind the header.
    pub steps: u32,
    /// Number of slots in use, at most [`MAX_SLOTS`].
    pub slots: u32,
    /// Slots below this are descriptors the process was born with.
    pub given: u32,
    /// Where to begin after the program executed itself anew.
    pub resume: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a step does.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// System call `nr` with `args`.
    Call,
    /// Atomically store the 32-bit `args[1]` at address `args[0]`, all earlier
    /// stores before it.
    Store,
    /// `clone3` with flags `args[0]`; the child goes on at step `args[1]`, the
    /// parent at the next; the child's pid is written at address `args[2]`
    /// unless 0; `into` gets the pidfd and the slot behind it the pid.
    Clone,
    /// Send record kind `args[0]`, with the descriptor in slot `args[1]` unless
    /// that is [`Slot::NONE`].
    Report,
    /// Open `/proc/<pid in slot args[0]>/<string args[1]>` for writing.
    OpenProc,
    /// Remove everything in the directory in slot `args[0]`, which stays.
    Empty,
    /// Accept a connection on the socket in slot `args[0]` from a process of
    /// user `args[1]`, as this one sees it; `into` gets the connection.
    Accept,
    /// `execve` each path of the null-ended array `args[0]` with argv `args[1]`
    /// and envp `args[2]`, until one is there.
    Exec,
    /// Become pause: exit table at `args[0]`, signalfd slot `args[1]`, lifeline
    /// slot `args[2]`, owner's pidfd slot `args[3]` (see `hold`).
    Hold,
}

/// One step. `#[repr(C)]`, no implicit padding.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawStep {
    /// The arguments; those whose bit is set in `slot_args` are slot numbers.
    pub args: [u64; 6],
    /// The system call's number, for [`Op::Call`].
    pub nr: u32,
    /// How many more times to do it, `args[1]` counting up each time.
    pub repeat: u16,
    /// Where the result goes, or [`Slot::NONE`].
    pub into: u16,
    /// Errors that are no failure: the step then skips `skip_err` steps.
    pub tolerate: [u16; 3],
    /// How many steps to skip after a tolerated error.
    pub skip_err: u16,
    /// How many steps to skip after success.
    pub skip_ok: u16,
    /// A smaller result than this is a failure.
    pub min: u16,
    /// What to do.
    pub op: Op,
    /// Which arguments are slots, bit by bit.
    pub slot_args: u8,
    /// Zero.
    pub reserved: u16,
}

/// One message of the launch report: 16 bytes on a `SOCK_SEQPACKET` socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// One of the constants below.
    pub kind: u32,
    /// The step that speaks.
    pub step: u32,
    /// For [`Record::ERROR`], the errno; 0 if the other side went away.
    pub errno: u32,
    /// Zero.
    pub reserved: u32,
}

impl Record {
    /// Step `step` failed with `errno`; the launch is over.
    pub const ERROR: u32 = 1;
    /// A process was born; its pidfd comes with the record.
    pub const BORN: u32 = 2;
    /// pause is ready: the pod can be joined.
    pub const READY: u32 = 3;
    /// The sender waits for its user namespace's id maps.
    pub const MAPS: u32 = 4;
    /// The next thing is `execve`. End-of-file after this is success;
    /// end-of-file without it means that the process died on the way.
    pub const EXEC: u32 = 5;
    /// The container's mount namespace comes with the record.
    pub const MOUNTS: u32 = 6;
    /// The container's namespaces and mounts are there, its root is not yet
    /// changed; the sender waits.
    pub const RUNTIME: u32 = 7;
    /// All is done but for starting the program.
    pub const CREATED: u32 = 8;
    /// The controlling end of the container's terminal comes with the record.
    pub const CONSOLE: u32 = 9;
    /// The user namespace that was asked for comes with the record.
    pub const USERS: u32 = 10;
    /// The descriptor of the seccomp filter just loaded comes with the record,
    /// for the agent that decides what it asks.
    pub const LISTENER: u32 = 11;
}
