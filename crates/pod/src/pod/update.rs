//! Limits of what runs, changed; and everything in a container, frozen.

use std::path::Path;

use super::Pod;
use crate::cgroup::pod_tree::PodCgroup;
use crate::cgroup::{self, apply, doubled};
use crate::error::{Error, Result};
use crate::kernel::{files, record_file};
use crate::resources::Resources;
use crate::spec::Container;
use crate::store::lock::LockMode;
use crate::store::records::{CONTAINER, ContainerRecord, PAUSE, POD, PauseRecord, PodRecord};

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
            record.options.resources.update_all(change, &dirs, &cgroup::hierarchy_root()).map(drop)
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

    /// For containers that run, as for those that will: see
    /// [`limits_of`](Pod::limits_of).
    fn end_containers_as_wholes(&self) -> Result<()> {
        for name in self.containers()? {
            let dir = self.container_cgroup(&name).filter(|dir| files::is_there(dir));
            let record = self.container_record(&name)?;
            let unified =
                record.container.resources.unified.into_iter().filter(|(file, _)| file == "memory.oom.group").collect();
            let group = Resources { unified, ..Resources::default() }.ending_as_a_whole();
            let both = dir.map(|dir| doubled::both(&dir, record.doubled));
            both.into_iter().flatten().try_for_each(|dir| cgroup::limit(&dir, &group))?;
        }
        Ok(())
    }

    /// Changes a container's limits, for this run if it runs, and for later
    /// ones.
    ///
    /// # Errors
    /// As [`update`](Pod::update).
    pub fn update_container(&self, name: &str, change: &Resources) -> Result<()> {
        let gone = || Error::NotFound(format!("container \"{}/{name}\"", self.name()));
        let _lock = self.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.container_record(name)?;
        let old = record.container.resources.clone();
        let container = Container { resources: old.changed_by(change)?, ..record.container.clone() };
        let cgroup = self.container_cgroup(name);
        apply::check_reachable(&container.resources, &self.facts, cgroup.as_deref())?;
        // What follows from a memory limit, were it the first one.
        let whole = self.limits_of(&container).unified.remove("memory.oom.group");
        let path = self.container_dir(name).join(CONTAINER);
        record_file::write_record(&path, &ContainerRecord { container, ..record.clone() })?;
        let limits = self.limits_of(&record.container);
        let mut change = change.clone();
        change.unified.extend(whole.map(|whole| ("memory.oom.group".to_string(), whole)));
        if let Some(cgroup) = cgroup.filter(|dir| files::is_there(dir))
            && let both = doubled::both(&cgroup, record.doubled)
            && let Err(error) = limits.update_all(&change, &both, &cgroup::hierarchy_root())
        {
            record_file::write_record(&path, &record)?;
            return Err(error);
        }
        Ok(())
    }

    /// Freezes everything in a container, until [`thaw`](Pod::thaw): it gets no
    /// processor time, and signals wait. SIGKILL does not.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run or has no cgroup.
    pub fn freeze(&self, name: &str) -> Result<()> {
        cgroup::freeze(&self.running_cgroup(name)?, true)
    }

    /// Lets a frozen container go on.
    ///
    /// # Errors
    /// As [`freeze`](Pod::freeze).
    pub fn thaw(&self, name: &str) -> Result<()> {
        cgroup::freeze(&self.running_cgroup(name)?, false)
    }

    fn running_cgroup(&self, name: &str) -> Result<std::path::PathBuf> {
        let object = || format!("container {}/{name}", self.name());
        if self.process(name)?.try_wait()?.is_some() {
            return Err(Error::state(object(), "is not running"));
        }
        self.container_cgroup(name).ok_or_else(|| Error::state(object(), "has no cgroup, so it cannot be frozen"))
    }
}
