//! Limits of what runs, changed; and everything in a container, frozen.

use crate::cgroup;
use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::resources::{self, Resources};
use crate::spec::Container;
use crate::state::{self, CONTAINER, ContainerRecord, Hold, POD, PodRecord};

impl Pod {
    /// Changes the pod's limits: what `change` sets is set, the rest stays. A
    /// dead pod has them when it is held anew.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the limit and the cure. Nothing is changed
    /// then.
    pub fn update(&mut self, change: &Resources) -> Result<()> {
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        let _lock = self.lock(Hold::Exclusive, true)?.ok_or_else(gone)?;
        let path = self.dir.join(POD);
        let record: PodRecord = state::read_record(&path)?.ok_or_else(gone)?;
        let mut new = record.clone();
        new.options.resources = record.options.resources.changed_by(change)?;
        let cgroup = self.record.cgroup.clone();
        resources::check_reachable(&new.options.resources, &self.facts, cgroup.as_deref())?;
        state::write_record(&path, &new)?;
        if let Some(cgroup) = cgroup.filter(|dir| dir.exists()) {
            let result = record.options.resources.update(change, &cgroup, &cgroup::hierarchy_root());
            if let Err(error) = result {
                state::write_record(&path, &record)?;
                return Err(error);
            }
        }
        self.record = new;
        Ok(())
    }

    /// Changes a container's limits, for this run if it runs, and for later
    /// ones.
    ///
    /// # Errors
    /// As [`update`](Pod::update).
    pub fn update_container(&self, name: &str, change: &Resources) -> Result<()> {
        let gone = || Error::NotFound(format!("container \"{}/{name}\"", self.name()));
        let _lock = self.lock(Hold::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.container_record(name)?;
        let old = record.container.resources.clone();
        let container = Container { resources: old.changed_by(change)?, ..record.container.clone() };
        let cgroup = self.container_cgroup(name);
        resources::check_reachable(&container.resources, &self.facts, cgroup.as_deref())?;
        let path = self.container_dir(name).join(CONTAINER);
        state::write_record(&path, &ContainerRecord { container, ..record.clone() })?;
        if let Some(cgroup) = cgroup.filter(|dir| dir.exists())
            && let Err(error) = old.update(change, &cgroup, &cgroup::hierarchy_root())
        {
            state::write_record(&path, &record)?;
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
