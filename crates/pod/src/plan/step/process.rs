//! Steps that change how a process runs, not who it is.

use libc::c_long;

use super::{Arg, NULL, Slot, Step, StepKind, arg_text};

/// `write(2)` of all of `content` to a file whose slot does not say what it
/// is; `what` is shown.
pub fn write_to(what: &str, file: Slot, content: &[u8]) -> Step {
    let mut step = super::write(file, content);
    step.args[1] = Arg::Blob(content.to_vec(), format!("{what}: {:?}", String::from_utf8_lossy(content)));
    step
}

/// `openat2(2)` below an open directory, along nothing but directories of the
/// same file system.
pub fn open_beneath(dir: Slot, path: &str, flags: i32) -> Step {
    let resolve =
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_XDEV;
    super::openat2(dir, path, flags, 0, resolve)
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &str) -> Step {
    Step::new(StepKind::Setdomainname, libc::SYS_setdomainname, vec![arg_text(name), Arg::Num(name.len() as u64)])
}

/// What `sched_setattr(2)` takes.
#[derive(Clone, Copy, Debug)]
pub struct SchedAttr<'a> {
    /// `SCHED_*`.
    pub policy: (u32, &'a str),
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the policies of time-sharing.
    pub nice: i32,
    /// For those of real time.
    pub priority: u32,
    /// Runtime, deadline, period.
    pub times: [u64; 3],
}

/// `sched_setattr(2)` of this process.
pub fn sched_setattr(attr: &SchedAttr<'_>) -> Step {
    const SIZE: u32 = 48;
    let mut bytes = Vec::with_capacity(SIZE as usize);
    bytes.extend_from_slice(&SIZE.to_ne_bytes());
    bytes.extend_from_slice(&attr.policy.0.to_ne_bytes());
    bytes.extend_from_slice(&attr.flags.to_ne_bytes());
    bytes.extend_from_slice(&attr.nice.to_ne_bytes());
    bytes.extend_from_slice(&attr.priority.to_ne_bytes());
    for time in attr.times {
        bytes.extend_from_slice(&time.to_ne_bytes());
    }
    let (name, flags, nice, priority) = (attr.policy.1, attr.flags, attr.nice, attr.priority);
    let mut shown = format!("{{{name} flags={flags:#x} nice={nice} priority={priority}");
    if attr.times != [0; 3] {
        let [runtime, deadline, period] = attr.times;
        shown += &format!(" runtime={runtime} deadline={deadline} period={period}");
    }
    let attr = Arg::Blob(bytes, shown + "}");
    Step::new(StepKind::SchedSetattr, libc::SYS_sched_setattr, vec![Arg::Num(0), attr, Arg::Num(0)])
}

/// `sched_setaffinity(2)` of this process.
pub fn sched_setaffinity(mask: Vec<u8>, shown: &str) -> Step {
    let size = Arg::Num(mask.len() as u64);
    let mask = Arg::Blob(mask, format!("[{shown}]"));
    Step::new(StepKind::SchedSetaffinity, libc::SYS_sched_setaffinity, vec![Arg::Num(0), size, mask])
}

/// `ioprio_set(2)` of this process: class and priority in one number.
pub fn ioprio_set(number: u64) -> Step {
    let who = Arg::Word(1, "IOPRIO_WHO_PROCESS");
    Step::new(StepKind::IoprioSet, libc::SYS_ioprio_set, vec![who, Arg::Num(0), Arg::Num(number)])
}

/// `personality(2)`.
pub fn personality(domain: c_long, name: &'static str) -> Step {
    Step::new(StepKind::Personality, libc::SYS_personality, vec![Arg::Word(domain, name)])
}

/// `set_mempolicy(2)`.
pub fn set_mempolicy(mode: u32, nodes: Vec<u8>, shown: &str) -> Step {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() as u64 * 8 + 1 };
    let nodes = if nodes.is_empty() { NULL } else { Arg::Blob(nodes, format!("[{shown}]")) };
    Step::new(StepKind::SetMempolicy, libc::SYS_set_mempolicy, vec![Arg::Num(mode.into()), nodes, Arg::Num(bits)])
}
