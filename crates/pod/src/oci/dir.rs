//! The directory of a container, which is also its lock.
//!
//! It is kept open: an id is free again once its container is deleted, and a
//! command that has waited must not take the next one of that name for its own.
//! The lock is on the directory itself, so that nothing has to be removed from it
//! after the lock and before the directory: a command that comes in between would
//! find, or make, what belongs to no container.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, Result};
use crate::kernel::{files, syscalls};

/// A directory that was there when it was opened.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    file: Arc<File>,
}

/// The lock: no other command changes the container until this is dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<File>);

impl Drop for Held {
    fn drop(&mut self) {
        // The file stays open as long as its `Dir`.
        syscalls::unlock(&self.0);
    }
}

impl Dir {
    /// Makes it, locked from its beginning; `None` if there is one that another
    /// command has begun to fill, with `first`.
    pub fn make(path: &Path, first: &str) -> Result<Option<(Dir, Held)>> {
        loop {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
                made => made.doing(|| format!("making the directory {}", path.display()))?,
            }
            if let Some(dir) = Dir::open(path)?
                && let Some(held) = dir.hold()?
            {
                // Ours may have been cleared away, empty as it was, and this be the
                // one of a command that was faster.
                return Ok((!files::is_there(&dir.join(first))).then_some((dir, held)));
            }
        }
    }

    /// Opens it; `None` if it is not there.
    pub fn open(path: &Path) -> Result<Option<Dir>> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        match options.open(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            file => {
                let file = Arc::new(file.doing(|| format!("opening {}", path.display()))?);
                Ok(Some(Dir { path: path.into(), file }))
            }
        }
    }

    /// Where it is, or was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of a file in it, for `bind(2)` and its like, which take short paths
    /// only.
    pub fn short(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd())
    }

    /// Locks it, and waits for that; `None` if it has been removed meanwhile, even
    /// if there is another one of that name.
    pub fn hold(&self) -> Result<Option<Held>> {
        syscalls::lock(&self.file, true, true).doing(|| format!("locking {}", self.path.display()))?;
        let held = Held(self.file.clone());
        Ok(self.is_there()?.then_some(held))
    }

    /// Whether no command has it locked just now.
    pub fn is_free(&self) -> Result<bool> {
        match syscalls::lock(&self.file, true, false) {
            Err(nix::errno::Errno::EAGAIN) => Ok(false),
            locked => {
                locked.doing(|| format!("locking {}", self.path.display()))?;
                syscalls::unlock(&self.file);
                Ok(true)
            }
        }
    }

    /// Whether it is still what is found at its path.
    pub fn is_there(&self) -> Result<bool> {
        let context = || format!("looking at {}", self.path.display());
        let ours = self.file.metadata().doing(context)?;
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            there => there.doing(context).map(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        }
    }

    /// Removes it and all that is in it, first of all files what is named.
    pub fn remove(&self, names: &[&str], _held: &Held) -> Result<()> {
        for name in names {
            files::remove_file(&self.join(name))?;
        }
        // Usually that was all.
        fs::remove_dir(&self.path).or_else(|_| files::remove_all(&self.path))
    }
}
