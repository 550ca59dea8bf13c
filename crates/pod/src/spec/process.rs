//! Device nodes of a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
