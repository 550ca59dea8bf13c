//! A pod's cgroups.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{make, own, processes, remove_tree};
use crate::error::Result;
use crate::kernel::cgroupfs::hierarchy;
use crate::kernel::facts::Facts;

/// The cgroups of one pod. Only paths: nothing is kept open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodCgroup {
    dir: PathBuf,
}

impl PodCgroup {
    /// Where a pod's cgroup would be, if one can be made here: below the root
    /// for the privileged, else below the caller's own, which works where
    /// systemd or another delegated it.
    pub(crate) fn plan(facts: &Facts, name: &str, id: &str) -> Option<PodCgroup> {
        Some(PodCgroup { dir: usable_parent(facts)?.join(format!("{name}-{}", &id[..8])) })
    }

    /// Those of pods of this name whose id no record says any more.
    pub(crate) fn find(facts: &Facts, name: &str) -> Vec<PodCgroup> {
        let entries = parent(facts).and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten();
        let is_its = |dir: &PathBuf| {
            let leaf = dir.file_name().and_then(|leaf| leaf.to_str()).unwrap_or_default();
            leaf.rsplit_once('-').is_some_and(|(before, id)| before == name && id.len() == 8)
        };
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_its).map(PodCgroup::at).collect()
    }

    /// The one that a record names.
    pub(crate) fn at(dir: impl Into<PathBuf>) -> PodCgroup {
        PodCgroup { dir: dir.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn pause(&self) -> PathBuf {
        self.dir.join("pause")
    }

    /// What all containers are in.
    pub(crate) fn containers(&self) -> PathBuf {
        self.dir.join("ctr")
    }

    pub(crate) fn container(&self, name: &str) -> PathBuf {
        self.containers().join(name)
    }

    /// Makes the directories, but for the containers'.
    pub(crate) fn make(&self) -> Result<()> {
        // Another store's last pod may be taking the common parent away.
        let made =
            (0..100).find(|_| self.dir.parent().is_some_and(|parent| make(parent).is_ok()) && make(&self.dir).is_ok());
        if made.is_none() {
            make(&self.dir)?;
        }
        make(&self.pause())?;
        make(&self.containers())
    }

    /// Kills everything and removes all directories.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_tree(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            tidy(parent);
        }
        Ok(())
    }
}

/// The last pod takes the common parent with it: a cgroup with others in it stays.
fn tidy(parent: &Path) {
    fs::remove_dir(parent).ok();
}

/// Removes the common parent of pods where there is no pod, and perhaps never was
/// one.
pub(crate) fn tidy_parent(facts: &Facts) {
    parent(facts).iter().for_each(|parent| tidy(parent));
}

/// Where pods' cgroups are, made or not.
pub(crate) fn parent(facts: &Facts) -> Option<PathBuf> {
    let mount = hierarchy()?;
    if facts.privileged && facts.initial_users {
        return Some(mount.join("podlet"));
    }
    let own = mount.join(own()?);
    // The caller's own cgroup has processes, so it can pass on no controllers.
    // One above that is delegated, too, and has none, can.
    let writable = |dir: &Path| {
        let mut files = ["cgroup.procs", "cgroup.subtree_control"].iter();
        files.all(|file| nix::unistd::access(&dir.join(file), nix::unistd::AccessFlags::W_OK).is_ok())
    };
    let above = own.ancestors().skip(1).take_while(|dir| dir.starts_with(&mount) && writable(dir));
    let empty = above.into_iter().find(|dir| processes(dir).is_empty());
    Some(empty.unwrap_or(&own).join("podlet"))
}

/// Where pods' cgroups are, made; `None` if none can be made there.
pub(crate) fn usable_parent(facts: &Facts) -> Option<PathBuf> {
    let parent = parent(facts)?;
    match fs::create_dir(&parent) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(_) => return None,
    }
    // Ours to fill? And a process that is born there comes from our cgroup.
    if !(facts.privileged && facts.initial_users) {
        let procs = parent.parent()?.join("cgroup.procs");
        if !may_write(&procs) {
            return None;
        }
    }
    may_write(&parent).then_some(parent)
}

/// Whether this program may write something, as far as can be seen: where the
/// kernel does not tell, the write itself says why it fails.
fn may_write(path: &Path) -> bool {
    let access = nix::unistd::access(path, nix::unistd::AccessFlags::W_OK);
    !matches!(access, Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOENT))
}
