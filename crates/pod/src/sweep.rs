//! What dead pods leave, and what is left of those that were being made or
//! removed when podlet was killed.
//!
//! There is no daemon that could notice an end, so whoever comes by sweeps. To
//! make that cheap where a thousand pods live, a pod or a container that is to be
//! swept has a mark: an empty file in `<root>/.sweep`.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::cgroup::{self, PodCgroup};
use crate::containers::ProcessRecord;
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::plan::hold;
use crate::pod::{PATIENCE, Pod, pause_of};
use crate::procfs::{all_pids, inner_pid, kill_in, mount_namespace};
use crate::state::{self, Hold, LOCK, Lock, POD, PROCESS, Store, TABLE};
use crate::sys;
use crate::table::{Phase, Reservation};

impl Pod {
    /// Removes the records of dead pods that nobody will ask for: attached
    /// ones, and those with [`PodOptions::remove_when_dead`](crate::PodOptions::remove_when_dead).
    pub fn sweep(store: &Store) {
        for mark in store.to_sweep() {
            match mark.split_once(':') {
                Some((pod, container)) => Pod::sweep_container(store, &mark, pod, container),
                None if Pod::lives(store, &mark) => {}
                None => Pod::sweep_pod(store, &mark),
            }
        }
    }

    /// Whether a pod's pause lives: all there is to know of most of them.
    fn lives(store: &Store, name: &str) -> bool {
        let pause = pause_of(&store.pod_dir(name), None).ok().flatten();
        pause.is_some_and(|(_, pidfd)| !sys::wait_readable(&pidfd, Some(Duration::ZERO)).unwrap_or(true))
    }

    fn sweep_pod(store: &Store, name: &str) {
        match Pod::open(store, name) {
            Ok(pod) if pod.is_alive() => {}
            // Whoever makes or starts it has the lock.
            Ok(mut pod) => {
                if let Ok(Some(_lock)) = Lock::take(&pod.dir, Hold::Exclusive, false)
                    && pod.look().is_ok()
                    && !pod.is_alive()
                {
                    pod.sweep_dead();
                }
            }
            Err(Error::NotFound(_)) => Pod::sweep_rest(store, name),
            Err(_) => {}
        }
    }

    /// A container that nobody will ask for, if it has ended.
    fn sweep_container(store: &Store, mark: &str, pod: &str, container: &str) {
        let Ok(pod) = Pod::open(store, pod) else {
            store.mark_for_sweep(mark, false).ok();
            return;
        };
        match pod.container_record(container) {
            Ok(record) if record.remove_when_ended => {
                if matches!(pod.exit_of(container), Ok(Some(_))) {
                    // Somebody else may be faster, or start it again.
                    pod.remove_container(container).ok();
                }
            }
            Ok(_) | Err(Error::NotFound(_)) => {
                // Whoever is about to make its record has the lock.
                if let Ok(Some(_lock)) = Lock::take(&pod.dir, Hold::Exclusive, false)
                    && !pod.container_record(container).is_ok_and(|record| record.remove_when_ended)
                {
                    store.mark_for_sweep(mark, false).ok();
                }
            }
            Err(_) => {}
        }
    }

    /// The mark is only a hint: whether somebody wants a dead pod's records
    /// stands in these.
    fn sweep_dead(&mut self) {
        if self.record.attached || self.record.options.remove_when_dead {
            // What stays is swept the next time.
            self.erase().ok();
        } else {
            self.store.mark_for_sweep(self.name(), false).ok();
        }
    }

    /// Removes a pod whose records cannot be read. pause is found by its record,
    /// if that can be, else by the exit table it has mapped, the cgroup by its
    /// name.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_damaged(store: &Store, name: &str) -> Result<()> {
        crate::spec::check_name("pod", name)?;
        let dir = store.pod_dir(name);
        if state::is_there(&dir) && !state::is_pod_dir(&dir) {
            return Err(Error::invalid(
                "pod name",
                name,
                "the state directory has something of that name that is no pod",
            ));
        }
        let lock = match Lock::take(&dir, Hold::Exclusive, true) {
            // Nobody can have that.
            Err(Error::Corrupt { .. }) => {
                state::remove_all(&dir.join(LOCK))?;
                Lock::take(&dir, Hold::Exclusive, true)
            }
            lock => lock,
        };
        let Some(_lock) = lock? else { return Ok(()) };
        let end = |pidfd: &OwnedFd| {
            // Gone already is as good.
            sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            sys::wait_readable(pidfd, Some(PATIENCE)).doing(|| "waiting for pause".into())
        };
        if let Ok(Some((_, pause))) = pause_of(&dir, None) {
            end(&pause)?;
        }
        let table = dir.join(TABLE).display().to_string();
        // The file may have been replaced since.
        let maps_it = |maps: &str| maps.lines().any(|line| line.trim_end_matches(" (deleted)").ends_with(&table));
        let title = hold::title(name);
        for pid in all_pids() {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            if read("cmdline").starts_with(&title) && maps_it(&read("maps")) {
                end(&pidfd)?;
            }
        }
        for cgroup in PodCgroup::find(&Facts::read()?, name) {
            // One with processes in it is another store's.
            if cgroup::wait_empty(cgroup.path(), Duration::from_secs(1))? {
                cgroup.remove()?;
            }
        }
        state::remove_all(&dir)?;
        store.mark_for_sweep(name, false)
    }

    /// Ends all that is in a container whose record cannot be read, and removes
    /// it. Others are not touched.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it cannot be told from the others: there is neither
    /// a cgroup nor a note of its process, and more than one such container.
    pub(crate) fn remove_damaged_container(&self, name: &str) -> Result<()> {
        let Some(_lock) = self.lock(Hold::Exclusive, true)? else { return Ok(()) };
        // Nobody is being launched now, so whatever slot no other container has
        // is this one's.
        let others: Vec<_> = self.containers()?.into_iter().filter(|other| other != name).collect();
        let claimed: Result<Vec<_>> =
            others.iter().map(|other| Ok(self.container_record(other)?.reservation)).collect();
        let unclaimed = match (&self.table, &claimed) {
            (Some(table), Ok(claimed)) => {
                table.release_unborn();
                table.unclaimed(&claimed.iter().copied().flatten().collect::<Vec<_>>())
            }
            _ => Vec::new(),
        };
        match self.container_cgroup(name) {
            Some(cgroup) => cgroup::remove_tree(&cgroup)?,
            None if self.is_alive() => self.end_unclaimed(name, &unclaimed, claimed.err())?,
            None => {}
        }
        if let Some(table) = &self.table {
            unclaimed.iter().for_each(|reservation| table.release_failed(*reservation));
        }
        state::remove_all(&self.container_dir(name))?;
        self.store.mark_for_sweep(&self.mark(name), false)
    }

    /// Without a cgroup: by the note of its process, or by what the exit table
    /// says of slots that no other container has.
    fn end_unclaimed(&self, name: &str, unclaimed: &[Reservation], doubt: Option<Error>) -> Result<()> {
        let noted = state::read_record::<ProcessRecord>(&self.container_dir(name).join(PROCESS));
        if matches!(noted, Ok(Some(_))) {
            return self.end_by_mounts(name);
        }
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        let Some((pause, table)) = self.pause.zip(self.table.as_ref()) else { return Ok(()) };
        for reservation in unclaimed {
            let Phase::Running(inner) = table.phase(*reservation) else { continue };
            let found = self.pod_processes().into_iter().find(|&pid| inner_pid(pid, pause.pid) == Some(inner));
            if let Some(mounts) = found.and_then(mount_namespace) {
                kill_in(mounts, || self.pod_processes(), || format!("container {}/{name}", self.name()))?;
            }
        }
        Ok(())
    }

    /// A directory without a record: its maker died early, or its remover.
    fn sweep_rest(store: &Store, name: &str) {
        let dir = store.pod_dir(name);
        if !state::is_there(&dir) {
            store.mark_for_sweep(name, false).ok();
        } else if let Ok(Some(_lock)) = Lock::take(&dir, Hold::Exclusive, false)
            && !state::is_there(&dir.join(POD))
        {
            store.mark_for_sweep(name, false).ok();
            state::remove_all(&dir).ok();
        }
    }
}
