//! Where state is kept: a directory that no other user can change.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::kernel::files::make_private;

/// The most links on the way, as the kernel has it (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// Makes the directory of a store or runtime, or finds it made; its real path.
///
/// Links are followed that only root or the caller can change, such as
/// `/var/run`.
///
/// # Errors
/// [`Error::Invalid`] if the path is relative, leads over another user's link,
/// or to a directory that belongs to another user or others can write to: they
/// could make podlet believe anything.
pub(crate) fn open(root: &Path) -> Result<PathBuf> {
    let (real, found) = resolve(root)?;
    let found = match found {
        Some(found) => found,
        None => {
            make_private(&real)?;
            fs::symlink_metadata(&real).doing(|| format!("looking at {}", root.display()))?
        }
    };
    check(root, &found)?;
    Ok(real)
}

/// The real path of the directory of a store or runtime, which may be missing and
/// is not made.
///
/// # Errors
/// As [`open`].
pub(crate) fn look(root: &Path) -> Result<PathBuf> {
    let (real, found) = resolve(root)?;
    found.map_or(Ok(()), |found| check(root, &found))?;
    Ok(real)
}

fn check(root: &Path, found: &Metadata) -> Result<()> {
    let wrong = |reason: &str| Error::invalid("root", root.to_string_lossy(), reason);
    if !found.is_dir() {
        return Err(wrong("not a directory"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(wrong("must belong to you, and nobody else may write there (chmod 700)"));
    }
    Ok(())
}

/// The path without links and `..`, and what is there, if anything is.
fn resolve(root: &Path) -> Result<(PathBuf, Option<Metadata>)> {
    let looking = |path: &Path| format!("looking at {}", path.display());
    if !root.is_absolute() {
        return Err(Error::invalid("root", root.to_string_lossy(), "give an absolute path"));
    }
    let mut resolved = PathBuf::from("/");
    let mut above = vec![fs::symlink_metadata("/").doing(|| looking(Path::new("/")))?];
    let machine = above[0].uid();
    let mut left: Vec<OsString> = parts(root);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            resolved.pop();
            above.truncate(above.len().saturating_sub(1).max(1));
            continue;
        }
        let next = resolved.join(&part);
        let found = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                left.push(part);
                break;
            }
            found => found.doing(|| looking(&next))?,
        };
        if !found.is_symlink() {
            resolved = next;
            above.push(found);
            continue;
        }
        links += 1;
        if links > MOST_LINKS || !is_ours(&found, &above[above.len() - 1], machine) {
            let reason = format!("{} is a symbolic link that another user can change", next.display());
            return Err(Error::invalid("root", root.to_string_lossy(), reason));
        }
        let target = fs::read_link(&next).doing(|| looking(&next))?;
        if target.is_absolute() {
            resolved = PathBuf::from("/");
            above.truncate(1);
        }
        left.extend(parts(&target));
    }
    if left.is_empty() {
        return Ok((resolved, above.pop()));
    }
    // What is not there yet has no links, and nothing leads back from it.
    if left.iter().any(|part| part == "..") {
        return Err(Error::invalid("root", root.to_string_lossy(), "leads through a directory that is not there"));
    }
    resolved.extend(left.iter().rev());
    Ok((resolved, None))
}

/// The names of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_os_string()).rev().collect()
}

/// Whether a link in a directory can be changed by root and the caller alone.
///
/// In a user namespace root's files show as nobody's, and so do those of other
/// users: there only a directory in which its owner alone can make a link
/// is believed, if it is the `machine`'s.
fn is_ours(link: &Metadata, dir: &Metadata, machine: u32) -> bool {
    let certain = [0, nix::unistd::geteuid().as_raw()];
    let believed = |meta: &Metadata| certain.contains(&meta.uid()) || meta.uid() == machine;
    let only_owners = dir.mode() & 0o022 == 0;
    let is_sticky = dir.mode() & libc::S_ISVTX != 0;
    believed(link) && believed(dir) && (only_owners || is_sticky && certain.contains(&link.uid()))
}
