//! The cgroup of a container without a pod: made where `linux.cgroupsPath`
//! says, and removed as far as it was made.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs;
use crate::kernel::facts::Facts;

/// Where the cgroup is to be: for root below the hierarchy's root, for others
/// an absolute path counts from there and a relative one from their own. `None`
/// where none can be.
pub(super) fn find(facts: &Facts, wanted: Option<&Path>, id: &str) -> Result<Option<PathBuf>> {
    let Some(root) = cgroupfs::hierarchy() else { return Ok(None) };
    if facts.privileged && facts.initial_users {
        return resolve(&root, &root, wanted, id).map(Some);
    }
    let Some(own) = cgroup::own().map(|own| root.join(own)) else { return Ok(None) };
    let dir = resolve(&root, &own, wanted, id)?;
    // Ours to fill? And a process that is born there comes from our cgroup.
    let may_write = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    let there = dir.ancestors().find(|dir| dir.exists());
    Ok((may_write(&own.join("cgroup.procs")) && there.is_some_and(may_write)).then_some(dir))
}

fn resolve(root: &Path, top: &Path, wanted: Option<&Path>, id: &str) -> Result<PathBuf> {
    // One level: whatever is above would have to be made and removed, too.
    let Some(path) = wanted else { return Ok(top.join(format!("podlet-oci-{id}"))) };
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
        return Ok(root.join(inside));
    }
    Ok(top.join(path))
}

/// The cgroup and those above it that will have been made for the container,
/// outermost first: what is not there yet.
///
/// # Errors
/// [`Error::Invalid`] if there are processes in the cgroup: it will be killed; or
/// if it is frozen, be it by one above.
pub(super) fn missing(dir: &Path) -> Result<Vec<PathBuf>> {
    // Also further below: the end of this container would end them, too.
    if !cgroup::wait_empty(dir, Duration::ZERO)? {
        let reason = "there are processes in it already: give each container a cgroup of its own";
        return Err(Error::invalid("linux.cgroupsPath", dir.to_string_lossy(), reason));
    }
    let mut missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_path_buf).collect();
    if let Some(there) = dir.ancestors().nth(missing.len()) {
        cgroup::refuse_frozen(there).map_err(|error| {
            let reason = format!("{error}; let it go on first");
            Error::invalid("linux.cgroupsPath", dir.to_string_lossy(), reason)
        })?;
    }
    missing.reverse();
    Ok(missing)
}

/// Makes the cgroup and what is missing above it.
pub(super) fn make(dir: &Path) -> Result<()> {
    // Another container's end may be taking away what is above.
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let mut made = fs::create_dir_all(dir);
    for _ in 0..100 {
        if !made.as_ref().is_err_and(gone) {
            break;
        }
        made = fs::create_dir_all(dir);
    }
    made.doing(|| format!("making the cgroup {}", dir.display()))
}

/// Removes the cgroups that were made. One with another container's processes in
/// it stays.
pub(super) fn remove(made: &[PathBuf], is_over: bool) -> Result<()> {
    let Some((own, above)) = made.split_last() else { return Ok(()) };
    match is_over {
        true => cgroup::remove_unless_taken(own)?,
        false => cgroup::remove_tree(own)?,
    }
    for dir in above.iter().rev() {
        // Others have come: it is theirs now.
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(())
}
