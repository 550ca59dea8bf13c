//! Files that say what is so: written whole, under another name, and renamed to
//! their own. Each says its version first.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{self, remove_all};
use crate::error::{Context, Error, Result};

/// What this build writes into every record as its version. It goes up when a
/// build before would misunderstand a record; what is older is read as it was
/// meant then. Records of version 0 have none.
pub(crate) const VERSION: u32 = 1;

/// How a record of that version begins.
const OURS: &str = "{\"version\":1,";

/// The most bytes a record can have: far above what any config comes to.
const MOST: usize = 64 << 20;

/// A record as it is written.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

/// What is read of a record first. Those of version 0 do not say so.
#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: u32,
}

/// Writes a record under another name and renames it to `path`.
pub(crate) fn write_record(path: &Path, record: &impl Serialize) -> Result<()> {
    write_renamed(path, &record_bytes(path, record)?)
}

/// A record as it stands in its file.
pub(crate) fn record_bytes(path: &Path, record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(&Versioned { version: VERSION, record }).doing(|| format!("writing {}", path.display()))
}

/// Writes a file under another name and renames it to `path`.
pub(crate) fn write_renamed(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    write_new(&new, bytes)?;
    fs::rename(&new, path).doing(|| format!("writing {}", path.display()))
}

/// Writes a file that is made for it: what is there already, whatever that is,
/// was left by a podlet that was killed.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove_all(path)?;
            File::create_new(path)
        }
        file => file,
    }
    .doing(context)?;
    file.write_all(bytes).doing(context)
}

/// Reads a record; `None` if there is none.
///
/// # Errors
/// [`Error::Newer`]; [`Error::Corrupt`], also for what is no plain file.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some((mut file, meta)) = files::open_own(path, OFlag::O_RDONLY)? else { return Ok(None) };
    let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    if size > MOST {
        return Err(Error::corrupt(path, format!("larger than {MOST} bytes")));
    }
    // It was renamed to its name and does not change any more.
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).doing(|| format!("reading {}", path.display()))?;
    let corrupt = |error: serde_json::Error| Error::corrupt(path, error.to_string()).because(error);
    // This build's own say it first, and are read once.
    if !bytes.starts_with(OURS.as_bytes()) {
        let Version { version } = serde_json::from_slice(&bytes).map_err(corrupt)?;
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
    }
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::ProcessId;

    #[test]
    fn a_records_version_comes_first() {
        let record = ProcessId { pid: 1, start: 2 };
        let bytes = record_bytes(Path::new("process.json"), &record).expect("a record");
        assert!(bytes.starts_with(OURS.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(OURS, format!("{{\"version\":{VERSION},"));
    }
}
