//! `pause`, `resume`, `update` and `events`: what a container may use, and has used.

use super::Instance;
use super::record::{RECORD, Status};
use crate::cgroup::stats::{self, Stats};
use crate::cgroup::{self, apply, doubled};
use crate::error::{Error, Result};
use crate::kernel::record_file;
use crate::resources::Resources;

impl Instance {
    /// Stops all its processes where they are, or lets them go on.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, or has no cgroup.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let (from, what): (&[Status], _) = match on {
            true => (&[Status::Running, Status::Created], "cannot be paused"),
            false => (&[Status::Paused], "cannot be resumed"),
        };
        self.expect(from, what)?;
        let none = || Error::state(self.object(), "has no cgroup: its processes cannot be frozen");
        cgroup::freeze(self.cgroup().ok_or_else(none)?, on)
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
        let new = old.update_all(change, &both, &cgroup::hierarchy_root())?;
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
