//! What the kernel is asked: one safe function a question. Nothing is decided
//! here.

use std::time::Duration;

pub(crate) mod bpf;
pub mod capabilities;
pub(crate) mod cgroupfs;
pub(crate) mod changes;
pub(crate) mod copy;
pub mod facts;
pub(crate) mod files;
pub mod idmap;
pub(crate) mod mount_api;
pub mod namespace;
pub mod net_dev;
pub(crate) mod netlink;
pub(crate) mod passing;
pub(crate) mod probe;
pub(crate) mod process_facts;
pub(crate) mod procfs;
pub(crate) mod record_file;
pub mod signal;
pub(crate) mod spawn;
pub(crate) mod syscalls;
pub mod terminal;
pub(crate) mod walk;

/// After SIGKILL the kernel has this long to end processes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
