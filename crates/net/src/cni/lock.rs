//! Never two operations for one container, and none while a network is collected.
//!
//! The lock of a container is a file in the runtime's directory, and the same
//! open file is the standard input of its plugins. So a plugin that goes on after
//! the program which started it was killed keeps the lock until it has ended, and
//! a DEL does not overtake the ADD that it should undo. While this program lives,
//! it ends the lock itself, whoever else has the file open by then.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pod::{Error, Result};

/// How others may hold it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Alone,
    WithOthers,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Of one container.
    pub(crate) fn of_container(dir: &Path, id: &str, patience: Duration) -> Result<Lock> {
        acquire(dir.join(format!("{id}.lock")), Share::Alone, patience, || {
            format!("the end of another CNI operation for {id}")
        })
    }

    /// Of all containers against the collection, which takes it alone. No id begins
    /// with a dot.
    pub(crate) fn of_all(dir: &Path, share: Share, patience: Duration) -> Result<Lock> {
        acquire(dir.join(".gc.lock"), share, patience, || match share {
            Share::Alone => "the end of all CNI ADD and DEL, for GC".to_owned(),
            Share::WithOthers => "the end of a CNI GC".to_owned(),
        })
    }

    /// The file with these contents, from their beginning, as a plugin's standard
    /// input.
    pub(crate) fn as_input(&self, contents: &[u8]) -> std::io::Result<File> {
        self.file.set_len(0)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(contents)?;
        file.seek(SeekFrom::Start(0))?;
        self.file.try_clone()
    }

    /// Forgets what a plugin was told: there may be secrets in it.
    pub(crate) fn empty(&self) {
        // If it is not possible, it is still nobody's but the owner's.
        let _ = self.file.set_len(0);
    }

    /// Ends it and removes its file.
    pub(crate) fn remove(self) {
        // One that stays is found by the next who locks it.
        let _ = fs::remove_file(&self.path);
    }

    /// Removes the directory of locks, unless somebody else has one now. Only for who
    /// knows that there are no attachments any more.
    pub(crate) fn remove_all(dir: &Path) -> std::io::Result<()> {
        let Ok(all) = Lock::of_all(dir, Share::Alone, Duration::ZERO) else { return Ok(()) };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path != all.path {
                fs::remove_file(path)?;
            }
        }
        all.remove();
        fs::remove_dir(dir)
    }

    /// Closes it as the kernel does when this program is killed.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.file = File::open("/dev/null").expect("a file");
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it does the same, where no plugin left it to a daemon.
        let _ = self.file.unlock();
    }
}

fn acquire(path: PathBuf, share: Share, patience: Duration, what: impl Fn() -> String) -> Result<Lock> {
    let failed = |error| Error::failed(format!("locking {}", path.display()), error);
    let until = Instant::now() + patience;
    loop {
        let file = match open(&path) {
            // Whoever removed the last lock may have removed the directory, too.
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => continue,
            file => file.map_err(failed)?,
        };
        let tried = match share {
            Share::Alone => file.try_lock(),
            Share::WithOthers => file.try_lock_shared(),
        };
        match tried {
            // Whoever had it before may have removed it.
            Ok(()) if is_still_at(&file, &path) => return Ok(Lock { file, path }),
            Ok(()) => continue,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(Error::Deadline { what: what(), after: patience });
            }
            // flock(2) cannot be awaited together with a deadline.
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}
