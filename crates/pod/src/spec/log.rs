//! Where a container's output goes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What becomes of output to [`Stdio::Log`](crate::Stdio::Log).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogDriver {
    /// A file whose lines are Kubernetes': time, stream, P or F, and what was
    /// written.
    #[default]
    K8sFile,
    /// It is kept nowhere.
    None,
}

/// One of the streams that a container writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogStream {
    /// Its standard output; also its terminal.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// How a container's output is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogOptions {
    /// In what form.
    pub driver: LogDriver,
    /// From how many bytes on a file is full, and the next one begins; `None` for no
    /// limit. As kubelet's `containerLogMaxSize` 10 MiB, unless it is said.
    pub max_size: Option<u64>,
    /// How many files there may be: what is older is removed. As kubelet's
    /// `containerLogMaxFiles` 5, unless it is said.
    pub max_files: u32,
    /// The file, instead of one in the container's directory in the state
    /// directory. It stays when the container is removed.
    pub path: Option<PathBuf>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { driver: LogDriver::K8sFile, max_size: Some(10 << 20), max_files: 5, path: None }
    }
}

/// A line of the log has so much before what was written, and some of that.
const LEAST: u64 = 16 * 1024;
/// More files nobody would look through.
const MOST_FILES: u32 = 1000;

impl LogOptions {
    /// Whether a container can have them.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self) -> Result<()> {
        if let Some(size) = self.max_size.filter(|size| *size < LEAST) {
            let reason =
                format!("a file that small holds hardly a line: give at least {LEAST}, or nothing for no limit");
            return Err(Error::invalid("log.max_size", size.to_string(), reason));
        }
        if !(1..=MOST_FILES).contains(&self.max_files) {
            let reason = format!("give a number of files from 1 to {MOST_FILES}");
            return Err(Error::invalid("log.max_files", self.max_files.to_string(), reason));
        }
        if let Some(path) = &self.path {
            super::check_path("log.path", path)?;
            let name = path.file_name().map_or(0, |name| name.len());
            // With a point and the number of an older one.
            if name == 0 || name > 240 || path.parent().is_none_or(|dir| dir == Path::new("")) {
                let reason = "give the path of a file, whose name has at most 240 bytes";
                return Err(Error::invalid("log.path", path.to_string_lossy(), reason));
            }
        }
        Ok(())
    }
}
