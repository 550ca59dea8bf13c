//! Ending containers: gently, for good, and without touching their neighbours.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Pod;
use super::container::Container;
use super::process::Process;
use super::start_options::StartOptions;
use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::procfs::{MountNamespace, ProcessId, all_pids, kill_in, mount_namespace};
use crate::kernel::signal::Signal;
use crate::kernel::{PATIENCE, files, procfs, record_file, syscalls};
use crate::launch::stdio::Io;
use crate::store::exits::{Exit, Phase};
use crate::store::lock::LockMode;
use crate::store::records::{PROCESS, ProcessRecord};
use crate::store::restarts::Restarts;

impl Container<'_> {
    /// Stops it: its [preStop hook](crate::Lifecycle::pre_stop), its stop signal, on
    /// which a paused one goes on, and after `grace`, all in all, SIGKILL to
    /// everything in it. Other containers are not touched. A stopped one stays
    /// as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deadline`].
    pub fn stop(&self, grace: Duration) -> Result<Option<Exit>> {
        self.now(|it| it.stop_now(grace))
    }

    fn stop_now(&self, grace: Duration) -> Result<Option<Exit>> {
        // Before it ends: it is to stay down.
        self.change_restarts(|restarts| Restarts { stopped: true, ..restarts })?;
        self.end_gently(grace)
    }

    /// Its stop signal, and after `grace` SIGKILL to all of it: of the run that goes on now.
    pub(super) fn end_gently(&self, grace: Duration) -> Result<Option<Exit>> {
        self.forget_unborn()?;
        let record = self.record()?;
        let process = match self.its_process() {
            Ok(process) => process,
            Err(Error::State { .. }) => return Ok(record.exit),
            Err(error) => return Err(error),
        };
        let end = Instant::now() + grace;
        if process.try_wait().ok() == Some(None) {
            if !grace.is_zero() && !record.container.lifecycle.pre_stop.is_empty() {
                self.go_on()?;
                self.pre_stop(&record.container.lifecycle, &process, end);
            }
            // It may end by itself in the meantime.
            process.signal(record.container.stop_signal).ok();
            if !grace.is_zero() {
                // Else it could not act on it.
                self.go_on()?;
            }
            process.wait_timeout(end.saturating_duration_since(Instant::now()))?;
        }
        // Started again meanwhile, it is not this one any more.
        if !self.record().is_ok_and(|now| now.started != record.started) {
            self.kill_all()?;
        }
        match process.wait_timeout(PATIENCE)? {
            Some(exit) => Ok(Some(exit)),
            None => Err(Error::Deadline { what: format!("the end of {}", self.object()), after: PATIENCE }),
        }
    }

    /// If it is frozen.
    fn go_on(&self) -> Result<()> {
        match self.cgroup() {
            Some(cgroup) if cgroup::is_frozen(&cgroup)? => cgroup::let_go_on(&cgroup),
            _ => Ok(()),
        }
    }

    /// Stops it, as [`stop`](Container::stop) does, and starts it again. The
    /// pod stays, even one that ends with its last container.
    ///
    /// # Errors
    /// As `stop` and [`start`](Container::start).
    pub fn restart(&self, grace: Duration, io: impl Into<Io>) -> Result<Process> {
        self.restart_with(grace, io, &StartOptions::default())
    }

    /// [`restart`](Container::restart), which waits so for what it is
    /// [after](crate::ContainerSpec::after), once it has been stopped.
    ///
    /// # Errors
    /// As that, and [`Pod::start_all`].
    pub fn restart_with(&self, grace: Duration, io: impl Into<Io>, options: &StartOptions<'_>) -> Result<Process> {
        self.now(|it| it.restart_now(grace, io, options))
    }

    fn restart_now(&self, grace: Duration, io: impl Into<Io>, options: &StartOptions<'_>) -> Result<Process> {
        let stop_and_start = || {
            self.end_gently(grace)?;
            self.start_with(io, options)
        };
        let held_by = ProcessId::of(std::process::id())?;
        self.change_restarts(|restarts| Restarts { held_by, ..restarts })?;
        let stop_and_start = || {
            stop_and_start().inspect_err(|_| {
                // Its policy says what becomes of it.
                self.change_restarts(|restarts| Restarts { held_by: None, ..restarts }).ok();
            })
        };
        self.pod.without_end(stop_and_start)
    }

    /// Ends all that is in it, and removes it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deadline`].
    pub fn remove_by_force(&self) -> Result<()> {
        self.now(|it| it.remove_now_by_force())
    }

    fn remove_now_by_force(&self) -> Result<()> {
        if let Err(Error::Corrupt { .. }) = self.record() {
            return self.remove_damaged();
        }
        self.clear_stray()?;
        if !files::is_there(&self.dir()) {
            return Ok(());
        }
        self.change_restarts(|restarts| Restarts { stopped: true, ..restarts })?;
        // Its launch may have been killed: what was never born never ends.
        self.forget_unborn()?;
        self.kill_all()?;
        match self.its_process() {
            Ok(process) => drop(process.wait_timeout(PATIENCE)?),
            // It never ran in this life of the pod.
            Err(Error::State { .. }) => {}
            Err(error) => return Err(error),
        }
        self.remove()
    }

    /// Removes it, if it does not run.
    ///
    /// # Errors
    /// [`Error::State`] if it runs: stop it first.
    pub fn remove(&self) -> Result<()> {
        let _lock = self.pod.lock(LockMode::Exclusive, true)?.ok_or_else(|| self.not_found())?;
        // Under the lock: whoever had it before may have started the pod again.
        self.now(|it| it.remove_locked())
    }

    /// The caller has the lock.
    fn remove_locked(&self) -> Result<()> {
        let record = self.record()?;
        if let Some((reservation, table)) = record.reservation.zip(self.pod.table.as_ref()) {
            let phase = table.phase(reservation);
            // No command launches while we have the lock: what is not born by now
            // never will be.
            let unborn = matches!(phase, Phase::Reserved | Phase::Running(0));
            // An entry that has moved on is not this container's any more.
            let ended = if unborn { None } else { table.try_wait(reservation).ok().flatten() };
            if !unborn && ended.is_none() && phase != Phase::Lost {
                return Err(Error::state(self.object(), "is running"));
            }
            let level = ended.and_then(|exit| exit.explained(self.oom_watch(&record).as_ref()).out_of_memory);
            self.end_for_good()?;
            self.let_go_of_streams()?;
            table.retire(reservation, level);
            self.pod.release_unborn();
        } else if let Some(cgroup) = self.cgroup() {
            cgroup::remove_tree(&cgroup)?;
        }
        self.remove_dir()?;
        if record.remove_when_ended {
            self.pod.store.mark_for_sweep(&self.mark(), false)?;
        }
        Ok(())
    }

    /// Sends a signal (signal(7)) to its main process alone, as
    /// [`Process::signal`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::State`] if it does not run.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        self.process()?.signal(signal)
    }

    /// SIGKILL to everything in it, children of its main process
    /// included, and waits until they are gone.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn kill_all(&self) -> Result<()> {
        match self.cgroup() {
            Some(cgroup) => cgroup::kill(&cgroup, PATIENCE),
            None => self.end_by_mounts(),
        }
    }

    /// [`kill_all`](Container::kill_all), and the cgroup goes, too.
    fn end_for_good(&self) -> Result<()> {
        match self.cgroup() {
            Some(cgroup) => cgroup::remove_tree(&cgroup),
            None => self.end_by_mounts(),
        }
    }

    /// Without a cgroup: kills what is in the container's mount namespace.
    pub(crate) fn end_by_mounts(&self) -> Result<()> {
        let path = self.dir().join(PROCESS);
        let recorded = match record_file::read_record::<ProcessRecord>(&path) {
            Err(Error::Corrupt { .. }) => None,
            recorded => recorded?,
        };
        // The command that started it may have died before it could write that
        // down.
        let running = match recorded.filter(|record| record.process.pid != 0) {
            Some(known) => Some(known),
            None => match self.record()?.reservation.zip(self.pod.table.as_ref()) {
                Some((reservation, table)) => self.find_process(reservation, table)?,
                None => None,
            },
        };
        let Some(record) = running.or(recorded) else { return Ok(()) };
        let Some(mounts) = end_main(&record)? else { return Ok(()) };
        let may_be_anothers = matches!(mounts, MountNamespace::Inode(_));
        if may_be_anothers && self.serves_another(&record)? {
            return Ok(());
        }
        let candidates = || match may_be_anothers {
            true => self.pod.processes(),
            false => all_pids(),
        };
        kill_in(mounts, candidates, || self.object())
    }

    /// Whether a mount namespace's number belongs to another container by now:
    /// to one that started later, so that this one's must have been gone.
    fn serves_another(&self, record: &ProcessRecord) -> Result<bool> {
        for other in self.pod.containers()?.iter().filter(|other| other.name != self.name) {
            let other: Option<ProcessRecord> = record_file::read_record(&other.dir().join(PROCESS))?;
            if other.is_some_and(|other| other.mounts == record.mounts && other.process.start > record.process.start) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// SIGKILL to a main process. The mount namespace in which the rest is.
pub(super) fn end_main(record: &ProcessRecord) -> Result<Option<MountNamespace>> {
    let (mut mounts, mut still) = (record.mounts, Ok(()));
    if let Some(main) = record.process.open()? {
        if mounts.is_none() {
            // Until it executes its program an ordinary user cannot look at it, and
            // then it may have children at any moment.
            still = procfs::stand_still(&main, record.process.pid);
            mounts = mount_namespace(record.process.pid)?;
        }
        // Gone already is as good.
        syscalls::pidfd_signal(main.as_fd(), libc::SIGKILL).ok();
    }
    still.map(|()| mounts)
}

impl Pod {
    /// Does this while pause does not follow the last container.
    pub(super) fn without_end<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(table) = self.table.as_ref().filter(|_| self.ends_with_last()) else { return act() };
        let had_containers = table.has_containers();
        table.set_end_with_last(false);
        let result = act();
        // A start may have done so.
        table.set_end_with_last(self.ends_with_last());
        // One that could not become its program was one, too: of that the table says no more.
        let had_containers = had_containers || matches!(result, Err(Error::Exec { .. }));
        if self.is_ending() || had_containers && !table.has_containers() {
            // The last one ended while pause was not to look.
            self.kill()?;
        }
        result
    }

    /// Whether containers of this pod can only be ended by looking for their
    /// processes: see [`Container::kill_all`].
    pub fn ends_by_search(&self) -> bool {
        self.record.cgroup.is_none()
    }

    /// Whether its containers are built from inside the pod, because the new
    /// mount calls or `openat2` are denied here.
    pub fn builds_inside(&self) -> bool {
        !self.facts.calls.new_mount_api()
    }
}
