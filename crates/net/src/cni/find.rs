//! Where configurations are: files `*.conflist`, `*.conf` and `*.json` of some
//! directories, in lexical order, and for each list the folder of its network's
//! name beside it, with one `*.conf` a plugin.
//!
//! A file that cannot be read does not hide the others; it is told of when the
//! network that is looked for was not found.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pod::{Error, Result};
use serde_json::{Map, Value};

use super::attachment::{Name, check_name};
use super::conflist::{Conflist, plugin};

const LISTS: &[&str] = &["conflist", "conf", "json"];
const PLUGINS: &[&str] = &["conf"];

/// A file that should hold a network's configuration.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The configuration, or what is wrong with it.
    pub conflist: Result<Conflist>,
}

impl Conflist {
    /// The network of that name: the first in the order of [`Conflist::list`].
    ///
    /// # Errors
    /// [`Error::NotFound`], with the directories, and files that could not be
    /// read; as `list`.
    pub fn load(name: &str, dirs: &[PathBuf]) -> Result<Conflist> {
        check_name(Name::Network, name)?;
        let mut unreadable = Vec::new();
        for found in Conflist::list(dirs)? {
            match found.conflist {
                Ok(list) if list.name() == name => return Ok(list),
                Ok(_) => {}
                Err(error) => unreadable.push(format!("{}: {error}", found.path.display())),
            }
        }
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let mut object = format!("CNI network {name:?} in {}", dirs.join(", "));
        if !unreadable.is_empty() {
            object += &format!(" (not readable there: {})", unreadable.join("; "));
        }
        Err(Error::NotFound(object))
    }

    /// All configurations of the directories, in their order and each in the
    /// lexical order of its files' names. A directory that is not there has none.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn list(dirs: &[PathBuf]) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for dir in dirs {
            let found = files(dir, LISTS)?.into_iter().map(|path| Found { conflist: read(&path, dir), path });
            all.extend(found);
        }
        Ok(all)
    }
}

fn read(path: &Path, dir: &Path) -> Result<Conflist> {
    Conflist::parse_with(&contents(path)?, |name| plugins_beside(&dir.join(name)))
}

fn plugins_beside(folder: &Path) -> Result<Vec<Map<String, Value>>> {
    files(folder, PLUGINS)?.iter().map(|path| plugin(&contents(path)?).map_err(|error| in_file(path, error))).collect()
}

fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Invalid { field, value, reason, cause } => {
            Error::Invalid { field: format!("{}: {field}", path.display()), value, reason, cause }
        }
        other => other,
    }
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::failed(format!("reading {}", path.display()), error))
}

fn files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::failed(format!("reading the directory {}", dir.display()), error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if endings.contains(&ending) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
