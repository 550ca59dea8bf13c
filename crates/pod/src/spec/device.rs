//! Device nodes that a container is to have.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::text::check_path;
use crate::error::{Error, Result};

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

impl Device {
    /// Whether a node cannot be what it says.
    pub(super) fn check(&self) -> Result<()> {
        check_path("device path", &self.path)?;
        let shown = self.path.to_string_lossy();
        if self.path.file_name().is_none() {
            return Err(Error::invalid("devices", shown, "give the path of a file"));
        }
        if self.mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Error::invalid("devices", shown, "fileMode is at most 07777, and has no file type"));
        }
        if self.major >= 1 << 12 || self.minor >= 1 << 20 {
            let reason = "the kernel has 4096 major and 1048576 minor numbers";
            return Err(Error::invalid("device", format!("{shown} {}:{}", self.major, self.minor), reason));
        }
        Ok(())
    }
}
