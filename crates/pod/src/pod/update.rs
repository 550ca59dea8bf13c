//! Limits of what runs, changed; and everything in a container, frozen.

use std::path::{Path, PathBuf};

use super::Pod;
use super::container::Container;
use crate::cgroup::pod_tree::PodCgroup;
use crate::cgroup::{self, apply, doubled, systemd};
use crate::error::{Error, Result};
use crate::kernel::{files, record_file};
use crate::resources::Resources;
use crate::spec::ContainerSpec;
use crate::store::lock::LockMode;
use crate::store::records::{ContainerRecord, PAUSE, POD, PauseRecord, PodRecord};

impl Pod {
    /// Changes the pod's limits: what `change` sets is set, the rest stays. A
    /// dead pod has them when it is started again.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the limit and the cure. Nothing is changed
    /// then.
    pub fn update(&mut self, change: &Resources) -> Result<()> {
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        let _lock = self.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        let path = self.dir.join(POD);
        let record: PodRecord = record_file::read_record(&path)?.ok_or_else(gone)?;
        let mut new = record.clone();
        new.options.resources = record.options.resources.changed_by(change)?;
        if record.scope.is_some() {
            systemd::check_annotations(new.options.annotations.iter(), &new.options.resources)?;
        }
        let cgroup = self.record.cgroup.clone();
        apply::check_reachable(&new.options.resources, &self.facts, cgroup.as_deref())?;
        record_file::write_record(&path, &new)?;
        let whole = new.options.resources.limits_memory();
        let set = |dir: &Path| {
            if whole {
                self.end_containers_as_wholes()?;
            }
            let doubled =
                record_file::read_record(&self.dir.join(PAUSE))?.is_some_and(|pause: PauseRecord| pause.doubled);
            let mut dirs = vec![dir.to_path_buf()];
            dirs.extend(doubled.then(|| PodCgroup::at(dir).containers()));
            systemd::update_all(record.scope.as_ref(), &record.options.resources, change, &dirs).map(drop)
        };
        if let Some(cgroup) = cgroup.filter(|dir| files::is_there(dir))
            && let Err(error) = set(&cgroup)
        {
            record_file::write_record(&path, &record)?;
            return Err(error);
        }
        self.record = new;
        Ok(())
    }

    /// Freezes all of its containers as one, until [`unpause`](Pod::unpause):
    /// they get no processor time. A signal that ends a process does so
    /// nevertheless; one that it handles waits. pause goes on, and nothing can be started in the pod.
    ///
    /// # Errors
    /// [`Error::State`] if it is not alive or has no cgroup.
    pub fn pause(&self) -> Result<()> {
        // No launch is in flight then, which would stand still halfway.
        let _lock = self.lock(LockMode::Exclusive, true)?;
        cgroup::freeze(&self.live_cgroup()?.containers())
    }

    /// Lets its containers go on, but for those that were paused by themselves.
    ///
    /// # Errors
    /// As [`pause`](Pod::pause).
    pub fn unpause(&self) -> Result<()> {
        cgroup::let_go_on(&self.live_cgroup()?.containers())
    }

    fn live_cgroup(&self) -> Result<PodCgroup> {
        self.live_table()?;
        self.cgroup().ok_or_else(|| no_cgroup(format!("pod {}", self.name())))
    }

    /// For containers that run, as for those that will: see
    /// [`limits_of`](Pod::limits_of).
    fn end_containers_as_wholes(&self) -> Result<()> {
        for container in self.containers()? {
            let dir = container.cgroup().filter(|dir| files::is_there(dir));
            let record = container.record()?;
            let unified =
                record.container.resources.unified.into_iter().filter(|(file, _)| file == "memory.oom.group").collect();
            let group = Resources { unified, ..Resources::default() }.ending_as_a_whole();
            let both = dir.map(|dir| doubled::both(&dir, record.doubled));
            both.into_iter().flatten().try_for_each(|dir| cgroup::limit(&dir, &group))?;
        }
        Ok(())
    }
}

impl Container<'_> {
    /// Changes its limits, for this run if it runs, and for later
    /// ones.
    ///
    /// # Errors
    /// As [`Pod::update`].
    pub fn update(&self, change: &Resources) -> Result<()> {
        let _lock = self.pod.lock(LockMode::Exclusive, true)?.ok_or_else(|| self.not_found())?;
        let record = self.record()?;
        let old = record.container.resources.clone();
        let container = ContainerSpec { resources: old.changed_by(change)?, ..record.container.clone() };
        let cgroup = self.cgroup();
        apply::check_reachable(&container.resources, &self.pod.facts, cgroup.as_deref())?;
        // What follows from a memory limit, were it the first one.
        let whole = self.pod.limits_of(&container).unified.remove("memory.oom.group");
        self.write(&ContainerRecord { container, ..record.clone() })?;
        let limits = self.pod.limits_of(&record.container);
        let mut change = change.clone();
        change.unified.extend(whole.map(|whole| ("memory.oom.group".to_string(), whole)));
        if let Some(cgroup) = cgroup.filter(|dir| files::is_there(dir))
            && let both = doubled::both(&cgroup, record.doubled)
            && let Err(error) = limits.update_all(&change, &both, &cgroup::hierarchy_root())
        {
            self.write(&record)?;
            return Err(error);
        }
        Ok(())
    }

    /// Freezes everything in it, until [`unpause`](Container::unpause): it gets no
    /// processor time. A signal that ends a process does so nevertheless; one that
    /// it handles waits.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run or has no cgroup.
    pub fn pause(&self) -> Result<()> {
        // As for the pod.
        let _lock = self.pod.lock(LockMode::Exclusive, true)?;
        cgroup::freeze(&self.running_cgroup()?)
    }

    /// Lets it go on. In a pod that is paused as a whole it stands still until
    /// that goes on, too.
    ///
    /// # Errors
    /// As [`pause`](Container::pause).
    pub fn unpause(&self) -> Result<()> {
        cgroup::let_go_on(&self.running_cgroup()?)
    }

    fn running_cgroup(&self) -> Result<PathBuf> {
        if self.process()?.try_wait()?.is_some() {
            return Err(Error::state(self.object(), "is not running"));
        }
        self.cgroup().ok_or_else(|| no_cgroup(self.object()))
    }
}

/// Why it cannot be paused.
fn no_cgroup(object: String) -> Error {
    Error::state(object, "has no cgroup, so it cannot be paused")
}
