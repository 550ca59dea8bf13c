//! Removing a container whose records cannot be read.
//!
//! What is left to go by: its first process, if that is written down where it
//! can be read, with its cgroup's number; else the cgroup that its record names,
//! or that a container of its id has by default. Where there is none of these
//! its processes cannot be told from others, and that is said.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::dir::Dir;
use super::record::{PROCESS, ProcessRecord, RECORD, Record, UNFINISHED};
use super::{LOOK_AGAIN, Runtime, cgroup_path};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::procfs::{MountNamespace, all_pids, kill_in};
use crate::kernel::{PATIENCE, cgroupfs, record_file, syscalls};

impl Runtime {
    /// Ends what can be found of a container, and removes its directory. A
    /// warning comes back if nothing was found that may be there.
    ///
    /// # Errors
    /// What could not be ended or removed; calling it again goes on.
    pub(super) fn remove_damaged(&self, id: &str) -> Result<Vec<Error>> {
        let Some(dir) = Dir::open(&self.root.join(id))? else { return Ok(Vec::new()) };
        // The command that has locked it may wait for something that only ends
        // with the container.
        while !dir.is_free()? {
            end(&dir, id)?;
            std::thread::sleep(LOOK_AGAIN);
        }
        let Some(held) = dir.hold()? else { return Ok(Vec::new()) };
        let found = end(&dir, id)?;
        dir.remove(&[], &held)?;
        let lost =
            || Error::state(format!("container {id:?}"), "has left no note of its process: if that runs it goes on");
        Ok(if found { Vec::new() } else { vec![lost()] })
    }
}

/// Whether there was anything to find it by.
fn end(dir: &Dir, id: &str) -> Result<bool> {
    let asked: Option<Record> = record_file::read_record(&dir.join(RECORD)).ok().flatten();
    let noted = |name: &str| record_file::read_record::<ProcessRecord>(&dir.join(name)).ok().flatten();
    let noted = noted(PROCESS).or_else(|| noted(UNFINISHED));
    let cgroup = match (&asked, noted) {
        (Some(asked), _) => asked.cgroup.clone(),
        (None, Some(noted)) => noted.cgroup.map(cgroupfs::find).transpose()?.flatten(),
        (None, None) => default_cgroup(id)?,
    };
    if let Some(pidfd) = noted.map(|noted| noted.process.open()).transpose()?.flatten() {
        // Gone already is as good.
        syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
        syscalls::wait_readable(&pidfd, Some(PATIENCE)).ok();
    }
    if let Some((scope, cgroup)) = asked.as_ref().and_then(|asked| asked.scope.as_ref()).zip(cgroup.as_ref()) {
        scope.remove(cgroup)?;
        return Ok(true);
    }
    match (&cgroup, asked) {
        (Some(cgroup), Some(asked)) if asked.made_cgroups.is_empty() => cgroup::kill(cgroup, PATIENCE)?,
        (Some(_), Some(asked)) => cgroup_path::remove(&asked.made_cgroups, false)?,
        (Some(cgroup), None) => cgroup::remove_tree(cgroup)?,
        (None, _) => {}
    }
    // An inode's number may be another mount namespace's by now.
    if let Some(mounts @ MountNamespace::Id(_)) = noted.and_then(|noted| noted.mounts) {
        kill_in(mounts, all_pids, || format!("container {id:?}"))?;
    }
    Ok(noted.is_some() || cgroup.is_some())
}

fn default_cgroup(id: &str) -> Result<Option<PathBuf>> {
    let dir = match cgroup_path::find(&Facts::read()?, None, id) {
        // Here none can have been made.
        Err(Error::Invalid { .. }) => None,
        found => found?,
    };
    Ok(dir.filter(|dir| dir.is_dir()))
}
