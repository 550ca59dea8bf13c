//! `pause`, `resume`, `update` and `events`: what a container may use, and has used.

use std::path::Path;

use super::Instance;
use super::record::{RECORD, Status};
use crate::cgroup::stats::{self, Stats};
use crate::cgroup::{self, apply, doubled, systemd};
use crate::error::{Error, Result};
use crate::kernel::record_file;
use crate::resources::Resources;

impl Instance {
    /// Freezes everything in it, until [`unpause`](Instance::unpause). A signal
    /// that ends a process does so nevertheless; one that it handles waits.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, or has no cgroup.
    pub fn pause(&self) -> Result<()> {
        self.expect(&[Status::Running, Status::Created], "cannot be paused")?;
        cgroup::freeze(self.frozen()?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`Error::State`] if it is not paused.
    pub fn unpause(&self) -> Result<()> {
        self.expect(&[Status::Paused], "cannot be resumed")?;
        cgroup::let_go_on(self.frozen()?)
    }

    /// The cgroup that is frozen, or goes on.
    fn frozen(&self) -> Result<&Path> {
        self.cgroup().ok_or_else(|| Error::state(self.object(), "has no cgroup: its processes cannot be frozen"))
    }

    /// Changes its limits: what `change` sets is set, the rest stays.
    ///
    /// # Errors
    /// [`Error::State`] if it has ended or has no cgroup; [`Error::Invalid`],
    /// naming the limit and the cure. Nothing is changed then.
    pub fn update(&mut self, change: &Resources) -> Result<()> {
        let _held = self.hold()?;
        // Another command may have changed it while we waited.
        self.record =
            record_file::read_record(&self.dir.join(RECORD))?.ok_or_else(|| Error::NotFound(self.object()))?;
        self.expect(&[Status::Created, Status::Running, Status::Paused], "cannot be updated")?;
        let none = || Error::state(self.object(), "has no cgroup: it has no limits");
        let cgroup = self.record.cgroup.clone().ok_or_else(none)?;
        let old = &self.record.container.resources;
        apply::check_reachable(&old.changed_by(change)?, &self.facts, Some(&cgroup))?;
        let both = doubled::both(&cgroup, self.record.doubled);
        let new = systemd::update_all(self.record.scope.as_ref(), old, change, &both)?;
        self.record.container.resources = new;
        record_file::write_record(&self.dir.join(RECORD), &self.record)
    }

    /// What it has used, and how often it came up against its limits.
    ///
    /// # Errors
    /// [`Error::State`] if it has ended or has no cgroup.
    pub fn stats(&self) -> Result<Stats> {
        self.expect(&[Status::Created, Status::Running, Status::Paused], "uses nothing")?;
        let none = || Error::state(self.object(), "has no cgroup: nobody counts what it uses");
        Ok(stats::stats(self.cgroup().ok_or_else(none)?))
    }
}
