//! Removing what containers leave, whoever it belongs to.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::Pod;
use super::container::Container;
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::files;
use crate::launch::run_plan::{LaunchRequest, only_maps, run_plan, seal};
use crate::lookup::subids::map_by_helper;
use crate::plan::{Given, removal};
use crate::spec::users::Users;
use crate::store::Store;
use crate::store::records::CONTAINERS;

/// What a removed container wrote at last is copied within this time, where the log
/// stays.
const MOMENT: Duration = Duration::from_secs(1);

/// So often what takes longer than a launch may is begun again.
const TRIES: usize = 100;

impl Container<'_> {
    /// Removes its directory and all that is in it, missing or not.
    pub(crate) fn remove_dir(&self) -> Result<()> {
        // It would write into it. Of one that cannot be found the pod's end is the end.
        self.end_copier(MOMENT).ok();
        let dir = self.dir();
        self.pod.removal().remove(&dir, || Ok(vec![dir.clone()]))
    }
}

impl Pod {
    /// Removes the directories of all its containers.
    pub(super) fn remove_container_dirs(&self) -> Result<()> {
        self.removal().remove_all(&self.dir)
    }

    fn removal(&self) -> Removal<'_> {
        Removal { store: &self.store, users: &self.record.users, facts: &self.facts }
    }
}

/// What it takes to remove what others than the caller own.
pub(super) struct Removal<'a> {
    pub(super) store: &'a Store,
    /// Whose files these are: the pod's ids.
    pub(super) users: &'a Users,
    pub(super) facts: &'a Facts,
}

impl Removal<'_> {
    /// Removes the directories of all containers of the pod at `pod`.
    pub(super) fn remove_all(&self, pod: &Path) -> Result<()> {
        let all = pod.join(CONTAINERS);
        self.remove(&all, || Ok(files::names_in(&all)?.iter().map(|name| all.join(name)).collect()))
    }

    /// Removes `dir`, in which are these directories of containers.
    fn remove(&self, dir: &Path, containers: impl Fn() -> Result<Vec<PathBuf>>) -> Result<()> {
        let removed = files::remove_all(dir);
        let denied = |error: &Error| match error {
            Error::Os { cause, .. } => {
                matches!(cause.number().map(|number| number.errno()), Some(Errno::EACCES | Errno::EPERM))
            }
            _ => false,
        };
        match removed {
            Err(error) if denied(&error) && matches!(self.users, Users::Nested { .. }) => {
                for container in containers()? {
                    self.empty_overlay(&container)?;
                }
                files::remove_all(dir)
            }
            removed => removed,
        }
    }

    /// Empties the directories of a container's overlay, and no others: what lies
    /// in them deep down is moved to their top meanwhile, and must not be taken for
    /// a record.
    fn empty_overlay(&self, container: &Path) -> Result<()> {
        let object = format!("removing what is in {}", container.display());
        let null = File::options().read(true).write(true).open("/dev/null").doing(|| object.clone())?;
        let streams = [Given::Stdin, Given::Stdout, Given::Stderr].map(|given| (given, null.as_fd()));
        let plan = removal::plan(&["upper", "work"].map(|name| container.join(name)), self.users, self.facts);
        let empty = || {
            let request = LaunchRequest {
                object: &object,
                title: c"podlet:remove",
                sealed: seal(&plan)?,
                fds: &streams,
                handed_over: Vec::new(),
                cgroup: None,
                note: None,
                answer: &only_maps(|pid| map_by_helper(pid, self.users)),
                program_dirs: self.store.program_dirs(),
                cancel: None,
            };
            run_plan(&plan, request).map(drop)
        };
        for _ in 1..TRIES {
            match empty() {
                // There was much to do, and is less now.
                Err(Error::Deadline { .. }) => {}
                done => return done,
            }
        }
        empty()
    }
}
