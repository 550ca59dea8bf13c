//! What dead pods leave, and what is left of those that were being made or
//! removed when podlet was killed.
//!
//! There is no daemon that could notice an end, so every podlet command sweeps. To
//! make that cheap where a thousand pods live, a pod or a container that is to be
//! swept has a mark: an empty file in `<root>/.sweep`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::Pod;
use super::container::Container;
use super::find_pause::{Here, pause_of, recorded_pause};
use super::removal::Removal;
use super::stop::end_main;
use crate::cgroup::pod_tree::{self, PodCgroup};
use crate::cgroup::{self, systemd};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::procfs::{all_pids, kill_in, lives, open_process, text_of};
use crate::kernel::{PATIENCE, files, record_file, syscalls};
use crate::lookup::subids::decide_users;
use crate::spec::PodOptions;
use crate::store::exits::{Phase, Reservation};
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{LOCK, POD, PROCESS, ProcessRecord, TABLE};
use crate::store::{self, Store};

impl Pod {
    /// Removes the records of dead pods that no command will ask for: attached
    /// ones, and those with [`PodOptions::remove_when_dead`](crate::PodOptions::remove_when_dead).
    pub fn sweep(store: &Store) {
        let marks = store.to_sweep();
        if marks.is_empty() {
            return;
        }
        // Without it a pid says nothing.
        let Ok(here) = Here::read() else { return };
        for mark in marks {
            // What cannot be done now is done the next time.
            match mark.split_once(':') {
                _ if Store::is_removed(&mark) => store.remove_rest(&mark),
                Some((pod, container)) => Pod::sweep_container(store, &mark, pod, container),
                None => match has_ended(&store.pod_dir(&mark), &here) {
                    Ok(true) => Pod::sweep_pod(store, &mark),
                    lives => lives.map(drop),
                },
            }
            .ok();
        }
    }

    fn sweep_pod(store: &Store, name: &str) -> Result<()> {
        let mut pod = match Pod::open(store, name) {
            Err(Error::NotFound(_)) => return Pod::sweep_rest(store, name),
            pod => pod?,
        };
        // A command that makes or starts it has the lock.
        let Some(_lock) = pod.lock(LockMode::Exclusive, false)? else { return Ok(()) };
        pod.look()?;
        match () {
            () if pod.is_alive() => Ok(()),
            () if pod.is_unwanted()? => pod.erase(),
            // Its owner has not said yet what is to become of it.
            () if pod.record.attached => Ok(()),
            // The mark is only a hint: whether a dead pod's records are wanted
            // stands in these.
            () => store.mark_for_sweep(name, false),
        }
    }

    /// Removes a container that no command will ask for, if it has ended.
    fn sweep_container(store: &Store, mark: &str, pod: &str, container: &str) -> Result<()> {
        let pod = match Pod::open(store, pod) {
            Err(Error::NotFound(_)) => return store.unmark_gone(mark),
            pod => pod?,
        };
        let container = pod.named(container);
        if container.goes_at_its_end()? {
            return match container.its_exit()? {
                // Another command may be faster, or start it again.
                Some(_) => container.remove(),
                None => Ok(()),
            };
        }
        // A command that is about to make its record has the lock.
        let Some(_lock) = pod.lock(LockMode::Exclusive, false)? else { return Ok(()) };
        if container.goes_at_its_end()? { Ok(()) } else { store.mark_for_sweep(mark, false) }
    }

    /// Removes a pod whose records cannot be read. pause is found by its record,
    /// if that can be, else by the exit table it has mapped, the cgroup by its
    /// name. Files of other ids than the caller's are removed with the ids that
    /// the caller's pods have today.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_damaged(store: &Store, name: &str) -> Result<()> {
        crate::spec::check_name("pod", name)?;
        let dir = store.pod_dir(name);
        if files::is_there(&dir) && !store::is_pod_dir(&dir)? {
            return Err(Error::invalid(
                "pod name",
                name,
                "the state directory has something of that name that is no pod",
            ));
        }
        let lock = match Lock::take(&dir, LockMode::Exclusive, true) {
            // No command can have that lock.
            Err(Error::Corrupt { .. }) => {
                files::remove_all(&dir.join(LOCK))?;
                Lock::take(&dir, LockMode::Exclusive, true)
            }
            lock => lock,
        };
        let facts = Facts::read()?;
        let Some(_lock) = lock? else {
            pod_tree::tidy_parent(&facts);
            return Ok(());
        };
        let end = |pidfd: &OwnedFd| {
            // Gone already is as good.
            syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::wait_readable(pidfd, Some(PATIENCE)).doing(|| "waiting for pause".into())
        };
        if let Ok(Some((_, pause))) = Here::read().and_then(|here| pause_of(&dir, None, &here)) {
            end(&pause)?;
        }
        let table = dir.join(TABLE).display().to_string();
        // The file may have been replaced since.
        let maps_it = |maps: &str| maps.lines().any(|line| line.trim_end_matches(" (deleted)").ends_with(&table));
        let title = crate::plan::pod::title(name);
        for pid in all_pids()? {
            let Some(pidfd) = open_process(pid)? else { continue };
            if text_of(pid, "cmdline")?.starts_with(&title) && maps_it(&text_of(pid, "maps")?) {
                end(&pidfd)?;
            }
        }
        for cgroup in PodCgroup::find(&facts, name) {
            // One with processes in it is another store's.
            if cgroup::wait_empty(cgroup.path(), Duration::from_secs(1))? {
                cgroup.remove()?;
            }
        }
        systemd::remove_lost(&facts, name)?;
        pod_tree::tidy_parent(&facts);
        store.clean_up(name, None)?;
        // Which ids it had is not known: those that it would get today.
        let users = decide_users(&facts, &PodOptions::new(name))?;
        Removal { store, users: &users, facts: &facts }.remove_all(&dir)?;
        store.remove_pod_dir(name)?;
        store.unmark_gone(name)
    }

    /// A directory without a record: its creator died early, or its remover. Or
    /// none at all.
    fn sweep_rest(store: &Store, name: &str) -> Result<()> {
        let dir = store.pod_dir(name);
        if files::is_there(&dir) {
            let Some(_lock) = Lock::take(&dir, LockMode::Exclusive, false)? else { return Ok(()) };
            if files::is_there(&dir.join(POD)) {
                return Ok(());
            }
            store.clean_up(name, None)?;
            store.remove_pod_dir(name)?;
            pod_tree::tidy_parent(&Facts::read()?);
        }
        store.unmark_gone(name)
    }
}

impl Container<'_> {
    /// Whether there is such a container, and no command will ask for it once it
    /// has ended.
    fn goes_at_its_end(&self) -> Result<bool> {
        match self.record() {
            Err(Error::NotFound(_)) => Ok(false),
            record => Ok(record?.remove_when_ended),
        }
    }

    /// Ends all that is in it although its record cannot be read, and removes it.
    /// Others are not touched.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it cannot be told from the others: there is neither
    /// a cgroup nor a note of its process, and more than one such container.
    pub(crate) fn remove_damaged(&self) -> Result<()> {
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        // No launch is under way now, so an entry that no other container has is
        // this one's.
        let others = self.pod.containers()?;
        let others = others.iter().filter(|other| other.name != self.name);
        let claimed: Result<Vec<_>> = others.map(|other| Ok(other.record()?.reservation)).collect();
        let unclaimed = match (&self.pod.table, &claimed) {
            (Some(table), Ok(claimed)) => {
                table.release_unborn();
                table.unclaimed(&claimed.iter().copied().flatten().collect::<Vec<_>>())
            }
            _ => Vec::new(),
        };
        match self.cgroup() {
            Some(cgroup) => cgroup::remove_tree(&cgroup)?,
            None if self.pod.is_alive() => self.end_unclaimed(&unclaimed, claimed.err())?,
            None => {}
        }
        if let Some(table) = &self.pod.table {
            unclaimed.iter().for_each(|reservation| table.release_failed(*reservation));
        }
        self.remove_dir()?;
        self.pod.store.mark_for_sweep(&self.mark(), false)
    }

    /// Without a cgroup: by the note of its process, or by what the exit table
    /// says of entries that no other container has.
    fn end_unclaimed(&self, unclaimed: &[Reservation], doubt: Option<Error>) -> Result<()> {
        let noted = record_file::read_record::<ProcessRecord>(&self.dir().join(PROCESS));
        if matches!(noted, Ok(Some(_))) {
            return self.end_by_mounts();
        }
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        let Some(table) = &self.pod.table else { return Ok(()) };
        for reservation in unclaimed {
            let Phase::Running(inner) = table.phase(*reservation) else { continue };
            if let Some(mounts) = self.pod.find_inner(inner)?.map_or(Ok(None), |found| end_main(&found))? {
                kill_in(mounts, || self.pod.processes(), || self.object())?;
            }
        }
        Ok(())
    }
}

/// Whether the pause of the pod in `dir` has ended: all there is to know of
/// most pods, which live.
fn has_ended(dir: &Path, here: &Here) -> Result<bool> {
    match recorded_pause(dir, None, here)? {
        Some(pause) => Ok(!lives(pause)?),
        None => Ok(true),
    }
}
