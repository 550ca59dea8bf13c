//! Ending containers: gently, for good, and without touching their neighbours.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Pod;
use super::process::Process;
use crate::error::{Error, Result};
use crate::kernel::procfs::{MountNamespace, all_pids, kill_in};
use crate::kernel::{PATIENCE, files, record_file, syscalls};
use crate::launch::stdio::Io;
use crate::store::exits::{Exit, Phase};
use crate::store::lock::LockMode;
use crate::store::records::{PROCESS, ProcessRecord};
use crate::{cgroup, spec};

impl Pod {
    /// Stops a container: its stop signal, and after `grace` SIGKILL to
    /// everything in it. Other containers are not touched. A stopped one stays
    /// as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deadline`].
    pub fn stop(&self, name: &str, grace: Duration) -> Result<Option<Exit>> {
        self.forget_unborn(name)?;
        let record = self.container_record(name)?;
        let process = match self.process(name) {
            Ok(process) => process,
            Err(Error::State { .. }) => return Ok(record.exit),
            Err(error) => return Err(error),
        };
        if process.try_wait().ok() == Some(None) {
            // It may end by itself in the meantime.
            process.signal(record.container.stop_signal).ok();
            process.wait_timeout(grace)?;
        }
        self.kill_all(name)?;
        match process.wait_timeout(PATIENCE)? {
            Some(exit) => Ok(Some(exit)),
            None => {
                Err(Error::Deadline { what: format!("the end of container {}/{name}", self.name()), after: PATIENCE })
            }
        }
    }

    /// Stops a container, as [`stop`](Pod::stop) does, and starts it again. The
    /// pod stays, even one that ends with its last container.
    ///
    /// # Errors
    /// As `stop` and [`start_again`](Pod::start_again).
    pub fn restart(&self, name: &str, grace: Duration, io: Io) -> Result<Process> {
        let stop_and_start = || {
            self.stop(name, grace)?;
            self.start_again(name, io)
        };
        let Some(table) = self.table.as_ref().filter(|_| self.options().end_with_last) else {
            return stop_and_start();
        };
        table.set_end_with_last(false);
        let result = stop_and_start();
        table.set_end_with_last(true);
        if !table.has_containers() {
            // The last one ended while pause was not to look.
            self.kill()?;
        }
        result
    }

    /// Ends all that is in a container, and removes it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deadline`].
    pub fn remove_container_by_force(&self, name: &str) -> Result<()> {
        spec::check_name("container", name)?;
        if let Err(Error::Corrupt { .. }) = self.container_record(name) {
            return self.remove_damaged_container(name);
        }
        self.clear_stray(name)?;
        // Its launch may have been killed: what was never born never ends.
        self.forget_unborn(name)?;
        self.kill_all(name)?;
        match self.process(name) {
            Ok(process) => drop(process.wait_timeout(PATIENCE)?),
            // It never ran in this life of the pod.
            Err(Error::State { .. }) => {}
            Err(error) => return Err(error),
        }
        self.remove_container(name)
    }

    /// Removes a container that has ended.
    ///
    /// # Errors
    /// [`Error::State`] if it runs: stop it first.
    pub fn remove_container(&self, name: &str) -> Result<()> {
        let gone = || Error::NotFound(format!("container \"{}/{name}\"", self.name()));
        let _lock = self.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.container_record(name)?;
        if let Some((reservation, table)) = record.reservation.zip(self.table.as_ref()) {
            let phase = table.phase(reservation);
            // No command launches while we have the lock: what is not born by now
            // never will be.
            let unborn = matches!(phase, Phase::Reserved | Phase::Running(0));
            // An entry that has moved on is not this container's any more.
            let ended = if unborn { None } else { table.try_wait(reservation).ok().flatten() };
            if !unborn && ended.is_none() && phase != Phase::Lost {
                return Err(Error::state(format!("container {}/{name}", self.name()), "is running"));
            }
            let level = ended.and_then(|exit| exit.explained(self.oom_watch(&record).as_ref()).out_of_memory);
            self.end_for_good(name)?;
            table.retire(reservation, level);
            self.release_unborn();
        } else if let Some(cgroup) = self.container_cgroup(name) {
            cgroup::remove_tree(&cgroup)?;
        }
        files::remove_all(&self.container_dir(name))?;
        if record.remove_when_ended {
            self.store.mark_for_sweep(&self.mark(name), false)?;
        }
        Ok(())
    }

    /// SIGKILL to everything in a container, children of its main process
    /// included, and waits until they are gone.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn kill_all(&self, name: &str) -> Result<()> {
        match self.container_cgroup(name) {
            Some(cgroup) => cgroup::kill(&cgroup, PATIENCE),
            None => self.end_by_mounts(name),
        }
    }

    /// [`kill_all`](Pod::kill_all), and the cgroup goes, too.
    fn end_for_good(&self, name: &str) -> Result<()> {
        match self.container_cgroup(name) {
            Some(cgroup) => cgroup::remove_tree(&cgroup),
            None => self.end_by_mounts(name),
        }
    }

    /// Without a cgroup: kills what is in the container's mount namespace.
    pub(crate) fn end_by_mounts(&self, name: &str) -> Result<()> {
        let path = self.container_dir(name).join(PROCESS);
        let recorded = match record_file::read_record::<ProcessRecord>(&path) {
            Err(Error::Corrupt { .. }) => None,
            recorded => recorded?,
        };
        // The command that started it may have died before it could write that
        // down.
        let running = match recorded.filter(|record| record.process.pid != 0) {
            Some(known) => Some(known),
            None => match self.container_record(name)?.reservation.zip(self.table.as_ref()) {
                Some((reservation, table)) => self.find_process(name, reservation, table)?,
                None => None,
            },
        };
        let Some(record) = running.or(recorded) else { return Ok(()) };
        if let Some(main) = record.process.open()? {
            // Gone already is as good.
            syscalls::pidfd_signal(main.as_fd(), libc::SIGKILL).ok();
        }
        let Some(mounts) = record.mounts else { return Ok(()) };
        let may_be_anothers = matches!(mounts, MountNamespace::Inode(_));
        if may_be_anothers && self.serves_another(name, &record)? {
            return Ok(());
        }
        let candidates = || match may_be_anothers {
            true => self.pod_processes(),
            false => all_pids(),
        };
        kill_in(mounts, candidates, || format!("container {}/{name}", self.name()))
    }

    /// Whether a mount namespace's number belongs to another container by now:
    /// to one that started later, so that this one's must have been gone.
    fn serves_another(&self, name: &str, record: &ProcessRecord) -> Result<bool> {
        for other in self.containers()?.iter().filter(|other| *other != name) {
            let other: Option<ProcessRecord> = record_file::read_record(&self.container_dir(other).join(PROCESS))?;
            if other.is_some_and(|other| other.mounts == record.mounts && other.process.start > record.process.start) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether containers of this pod can only be ended by looking for their
    /// processes: see [`kill_all`](Pod::kill_all).
    pub fn ends_by_search(&self) -> bool {
        self.record.cgroup.is_none()
    }

    /// Whether its containers are built from inside the pod, because the new
    /// mount calls or `openat2` are denied here.
    pub fn builds_inside(&self) -> bool {
        !self.facts.calls.new_mount_api()
    }
}
