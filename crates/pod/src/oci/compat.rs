//! What the specification leaves open, and runc and crun do: images and
//! engines have come to rely on it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::kernel::files;
use crate::spec::{ContainerSpec, Mount, MountKind};

/// Changes the container accordingly.
pub(super) fn follow(container: &mut ContainerSpec) {
    let root = container.root.dir().unwrap_or(Path::new("/")).to_path_buf();
    let tmpfs = container.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Tmpfs);
    for mount in tmpfs.filter(|mount| !mount.data.split(',').any(|option| option.starts_with("mode="))) {
        if let Some(mode) = mode_in_image(&root, mount) {
            let data = std::mem::take(&mut mount.data);
            mount.data = if data.is_empty() { format!("mode={mode:o}") } else { format!("{data},mode={mode:o}") };
        }
    }
    last_wins(&mut container.process.env);
    drop_empty_home(&mut container.process.env);
}

/// A tmpfs is as open as the directory that it covers.
fn mode_in_image(root: &Path, mount: &Mount) -> Option<u32> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let covered = openat2(files::look(root).ok()?, &mount.target, how).ok()?;
    Some(File::from(covered).metadata().ok()?.mode() & 0o7777)
}

/// An empty one counts for none: it is looked up.
pub(super) fn drop_empty_home(env: &mut Vec<String>) {
    env.retain(|variable| variable != "HOME=");
}

/// Of variables with the same name the last one counts. C libraries would
/// find the first.
fn last_wins(env: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for variable in env.drain(..).rev() {
        if seen.insert(variable.split('=').next().unwrap_or_default().to_string()) {
            kept.push(variable);
        }
    }
    kept.reverse();
    *env = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name() {
        let mut env = ["A=1", "B=", "A=2=3", "AB=4"].map(String::from).to_vec();
        last_wins(&mut env);
        assert_eq!(env, ["B=", "A=2=3", "AB=4"]);
    }
}
