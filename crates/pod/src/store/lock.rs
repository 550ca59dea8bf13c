//! A pod's lock.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::records::LOCK;
use crate::error::{Context, Result};
use crate::kernel::{files, syscalls};

/// The pod's lock, kept as long as the longest-lived duplicate of `file`:
/// H inherits it.
#[derive(Debug)]
pub(crate) struct Lock {
    pub file: File,
}

impl Lock {
    /// Takes the lock of the pod at `dir`, which must be there. `None` if
    /// `wait` is false and another command has it, or if the directory is not
    /// (or no longer) there.
    pub(crate) fn take(dir: &Path, hold: LockMode, wait: bool) -> Result<Option<Lock>> {
        let path = dir.join(LOCK);
        let context = || format!("locking {}", path.display());
        loop {
            files::check_place(&path)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let file = match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file.doing(context)?,
            };
            match syscalls::lock(&file, hold == LockMode::Exclusive, wait) {
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                result => result.doing(context)?,
            }
            // The pod may have been removed, and made anew, while we waited.
            let ours = file.metadata().doing(context)?;
            match fs::symlink_metadata(&path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => return Ok(Some(Lock { file })),
                _ => {}
            }
        }
    }
}

/// How to take a [`Lock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LockMode {
    /// Others may launch, too.
    Shared,
    /// No command launches, and no other one changes the pod.
    Exclusive,
}
