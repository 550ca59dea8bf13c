//! What a container's process is besides its ids: how it is scheduled, where
//! its memory comes from, what the kernel makes of it. And the devices it sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a process is scheduled (sched_setattr(2)).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`, `SCHED_FIFO`, `SCHED_RR` or
    /// `SCHED_DEADLINE`.
    pub policy: String,
    /// -20 to 19, for OTHER and BATCH.
    pub nice: i32,
    /// 1 to 99, for FIFO and RR; else 0.
    pub priority: i32,
    /// `SCHED_FLAG_*` by name.
    pub flags: Vec<String>,
    /// For DEADLINE: nanoseconds of work in each period.
    pub runtime: u64,
    /// For DEADLINE: nanoseconds after the period's begin.
    pub deadline: u64,
    /// For DEADLINE: nanoseconds.
    pub period: u64,
}

/// The order of its reads and writes (ioprio_set(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IoPriority {
    /// Which class.
    pub class: IoClass,
    /// 0, the first, to 7; means nothing for [`IoClass::Idle`].
    pub priority: u8,
}

/// A class of [`IoPriority`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoClass {
    /// Real time.
    Rt,
    /// Best effort.
    Be,
    /// When nobody else wants the disk.
    Idle,
}

/// The execution domain (personality(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Personality {
    /// The kernel's own.
    Linux,
    /// uname(2) says it is a 32-bit machine.
    Linux32,
}

/// The processors of a program executed in a running container
/// (sched_setaffinity(2)), as lists such as `0-3,7`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Until it has entered the container's cgroup.
    pub initial: Option<String>,
    /// From then on.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// Which memory nodes its pages come from (set_mempolicy(2)).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` by name.
    pub mode: String,
    /// A list such as `0-3,7`; empty for none.
    pub nodes: String,
    /// `MPOL_F_*` by name.
    pub flags: Vec<String>,
}

/// What a device node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A character device; `u` in a config is the same.
    Char,
    /// A block device.
    Block,
    /// A named pipe; it has no numbers.
    Fifo,
}

/// A device node a container is to have, besides the usual ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path inside.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number; 0 for a pipe.
    pub major: u32,
    /// Minor number; 0 for a pipe.
    pub minor: u32,
    /// Permissions, at most 0o7777; 0o666 if not given.
    pub mode: Option<u32>,
    /// Owner, as the container knows it; 0 if not given.
    pub uid: Option<u32>,
    /// Group, as the container knows it; 0 if not given.
    pub gid: Option<u32>,
}
