//! `delete`: what was made for a container goes.

use std::time::Duration;

use super::dir::Held;
use super::record::{PROCESS, ProcessRecord, RECORD, Record, RecordedMntns, START_SOCKET, Status, UNFINISHED};
use super::{Instance, LOOK_AGAIN, cgroup_path, hooks};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::kernel::{PATIENCE, record_file};

impl Instance {
    /// Removes all that was made for the container. With `force` it is killed
    /// first if it runs.
    ///
    /// What comes back are the poststop hooks that failed: that changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::State`] if it runs, or what could not be removed; calling it
    /// again goes on.
    pub fn delete(&mut self, force: bool) -> Result<Vec<Error>> {
        if force {
            // The command that has locked it may wait for a hook of it that hangs,
            // and does so no longer than it lives. It may not be born yet.
            loop {
                self.process = self.process.or_else(|| self.unfinished());
                self.end()?;
                if let (None, Some(cgroup)) = (self.process, self.own_cgroup()?) {
                    // Only H or C is there, and may not have begun to run: the
                    // creator waits for that. The next container of this id is not
                    // ours to end.
                    cgroup::kill_if(cgroup, || self.dir.is_there())?;
                }
                if self.dir.is_free()? {
                    break;
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        {
            let held = self.hold()?;
            // No creator makes it any more. As far as it came it ended, or ends.
            self.process = self.process.or_else(|| self.unfinished());
            if !force {
                self.expect(&[Status::Stopped, Status::Created], "cannot be deleted: kill it first")?;
            }
            self.end()?;
            self.adopt()?;
            self.erase(&held)?;
        }
        Ok(self.run_stop_hooks())
    }

    /// A container that has ended in another pid namespace becomes one of here:
    /// once its cgroup is gone nothing would tell that it has.
    pub(super) fn adopt(&mut self) -> Result<()> {
        if self.is_elsewhere() {
            let nobody = ProcessId { pid: 0, start: 0 };
            self.process = Some(ProcessRecord { process: nobody, mounts: None, cgroup: None });
            record_file::write_record(&self.dir.join(PROCESS), &self.process)?;
            self.record = Record { pids: self.facts.pids, ..self.record.clone() };
            record_file::write_record(&self.dir.join(RECORD), &self.record)?;
        }
        Ok(())
    }

    /// Runs the poststop hooks, all of them, and comes back with what failed.
    pub(super) fn run_stop_hooks(&self) -> Vec<Error> {
        let state = self.state_as(Status::Stopped);
        let run = |hook| hooks::run("poststop", hook, &state, &self.record.bundle, self.until(None)).err();
        self.record.hooks.poststop.iter().filter_map(run).collect()
    }

    /// Removes everything; the container's process has been killed, or was
    /// never born.
    pub(super) fn erase(&self, held: &Held) -> Result<()> {
        if let RecordedMntns::Callers(attached) = &self.record.mounts {
            attached.detach(self.rootfs(), &self.object())?;
        }
        if let (Some(scope), Some(cgroup)) = (self.scope()?, self.cgroup()) {
            scope.remove(cgroup)?;
        } else if let Some(cgroup) = self.cgroup() {
            match &self.record.made_cgroups[..] {
                // It stays; what is in there does not. The rule: all of it ended
                // with its first process. A cgroup that is killed serves no
                // other container: see `cgroup::renew`.
                [] if cgroup::wait_empty(cgroup, Duration::from_secs(1))? => {}
                [] => cgroup::kill(cgroup, PATIENCE)?,
                made => cgroup_path::remove(made, self.is_over()?)?,
            }
        }
        // As long as the record is there the next command can go on, and finds the
        // process stopped.
        self.dir.remove(&[START_SOCKET, UNFINISHED, RECORD, PROCESS], held)
    }
}
