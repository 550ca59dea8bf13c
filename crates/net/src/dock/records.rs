//! What plugins were told for pods, on the disk.
//!
//! The pod's own directory is not enough: it may be in memory, and leases of
//! plugins outlive the machine's restart. Nor must a plugin that is missing keep a
//! pod from being removed: its record stays here then, and the next collection
//! tries again.
//!
//! ```text
//!   <records>/<network>@<pod's id>@<interface>     a record, written before ADD
//!   <records>/.locks/                              who executes plugins
//! ```

use std::path::{Path, PathBuf};

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::cni::{AttachmentName, Record};
use crate::files;

/// What this build writes as the version of a record.
const VERSION: u32 = 1;

/// The records of all stores of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

/// A record, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// The store's directory.
    pub store: PathBuf,
    /// The pod's name there.
    pub pod: String,
    /// Where plugins were found.
    pub plugins: Vec<PathBuf>,
    pub record: Record,
}

/// The same, as it stands in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    store: PathBuf,
    pod: String,
    plugins: Vec<PathBuf>,
    record: serde_json::Value,
}

/// A file's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub network: String,
    pub attachment: AttachmentName,
}

impl Key {
    /// Of a pod, by its id, in a network.
    pub(crate) fn new(network: &str, id: &str, interface: &str) -> Key {
        let attachment = AttachmentName { container_id: id.into(), ifname: interface.into() };
        Key { network: network.into(), attachment }
    }

    fn of(record: &Record) -> Key {
        Key { network: record.network().name().into(), attachment: record.name() }
    }

    /// No network, id or interface of ours has an `@` in its name.
    fn parse(file: &str) -> Option<Key> {
        let mut parts = file.splitn(3, '@');
        Some(Key::new(parts.next()?, parts.next()?, parts.next()?))
    }
}

impl Records {
    pub(crate) fn at(dir: &Path) -> Records {
        Records { dir: dir.into() }
    }

    /// Where the locks are of those who execute plugins.
    pub(crate) fn locks(&self) -> PathBuf {
        self.dir.join(".locks")
    }

    fn path(&self, Key { network, attachment }: &Key) -> PathBuf {
        self.dir.join(format!("{network}@{}@{}", attachment.container_id, attachment.ifname))
    }

    /// Keeps a record, durably, or removes what is [gone](Record::is_gone).
    pub(crate) fn keep(&self, kept: &Kept) -> Result<()> {
        let path = self.path(&Key::of(&kept.record));
        if kept.record.is_gone() {
            return files::remove_file(&path);
        }
        let Kept { store, pod, plugins, record } = kept.clone();
        let failed = |error| Error::failed(format!("writing {}", path.display()), error);
        let record = serde_json::from_slice(&record.to_bytes()?).map_err(failed)?;
        let written = Written { version: VERSION, store, pod, plugins, record };
        let json = serde_json::to_vec(&written).map_err(failed)?;
        files::make_private(&self.dir)?;
        files::write_durably(&path, &json)
    }

    /// Forgets one that cannot be read and has been dealt with.
    pub(crate) fn forget(&self, key: &Key) -> Result<()> {
        files::remove_file(&self.path(key))
    }

    /// A record; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`].
    pub(crate) fn read(&self, key: &Key) -> Result<Option<Kept>> {
        let path = self.path(key);
        let Some(Written { version, store, pod, plugins, record }) = files::read_json(&path)? else { return Ok(None) };
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
        let record = Record::from_bytes(record.to_string().as_bytes(), &path)?;
        if Key::of(&record) != *key {
            return Err(Error::corrupt(&path, "says another network, pod or interface than its name"));
        }
        Ok(Some(Kept { store, pod, plugins, record }))
    }

    /// Removes the directory, and podlet's own that it is in, if there is nothing in
    /// them.
    pub(crate) fn remove_dir(&self) -> Result<()> {
        files::remove_empty_dir(&self.dir)?;
        let above = self.dir.parent().filter(|above| above.ends_with("podlet"));
        above.map_or(Ok(()), files::remove_empty_dir)
    }

    /// Of which attachments there are records, readable or not.
    pub(crate) fn keys(&self) -> Result<Vec<Key>> {
        Ok(files::names_in(&self.dir)?.iter().filter_map(|name| Key::parse(name)).collect())
    }
}
