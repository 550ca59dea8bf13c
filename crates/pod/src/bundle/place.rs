//! The cgroup of a container without a pod: made where `linux.cgroupsPath`
//! says, and removed as far as it was made.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::facts::Facts;

/// Where the cgroup is to be: an absolute path counts from the hierarchy's
/// root, a relative one from a place of ours. `None` where none can be.
pub(super) fn find(facts: &Facts, wanted: Option<&Path>, id: &str) -> Result<Option<PathBuf>> {
    let Some(root) = cgroup::hierarchy() else { return Ok(None) };
    let ours = match facts.privileged && facts.initial_users {
        true => root.join("podlet-oci"),
        false => match cgroup::own() {
            Some(own) => root.join(own).join("podlet-oci"),
            None => return Ok(None),
        },
    };
    let Some(path) = wanted else { return Ok(Some(ours.join(id))) };
    let field = "linux.cgroupsPath";
    let shown = path.to_string_lossy();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid(field, shown, "give the path without `..`"));
    }
    if path.is_absolute() {
        let inside = path.strip_prefix("/").unwrap_or(path);
        if inside.as_os_str().is_empty() {
            return Err(Error::invalid(field, shown, "a container cannot be in the root of the hierarchy"));
        }
        return Ok(Some(root.join(inside)));
    }
    Ok(Some(ours.join(path)))
}

/// The cgroup and those above it that are not there yet, outermost first.
pub(super) fn missing(dir: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_path_buf).collect();
    missing.reverse();
    missing
}

/// Makes the cgroup and what is missing above it, if anything is.
pub(super) fn make(dir: &Path, was_there: bool) -> Result<()> {
    fs::create_dir_all(dir).doing(|| format!("making the cgroup {}", dir.display()))?;
    if was_there && !cgroup::processes(dir).is_empty() {
        let reason = "there are processes in it already: give each container a cgroup of its own";
        return Err(Error::invalid("linux.cgroupsPath", dir.to_string_lossy(), reason));
    }
    Ok(())
}

/// Removes the cgroups that were made. One that somebody else uses by now
/// stays.
pub(super) fn remove(made: &[PathBuf]) -> Result<()> {
    let Some((own, above)) = made.split_last() else { return Ok(()) };
    cgroup::remove_tree(own)?;
    for dir in above.iter().rev() {
        // Others have come: it is theirs now.
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(())
}
