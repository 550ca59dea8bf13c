//! What dead pods leave, and what is left of those that were being made or
//! removed when podlet was killed.
//!
//! There is no daemon that could notice an end, so whoever comes by sweeps. To
//! make that cheap where a thousand pods live, a pod or a container that is to be
//! swept has a mark: an empty file in `<root>/.sweep`.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::cgroup::{self, PodCgroup};
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::plan::hold;
use crate::pod::{PATIENCE, Pod, pause_of};
use crate::procfs::all_pids;
use crate::state::{self, Hold, Lock, POD, Store, TABLE};
use crate::sys;

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

    /// Removes a pod whose records cannot be read. pause is found by the exit
    /// table it has mapped, the cgroup by its name.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_damaged(store: &Store, name: &str) -> Result<()> {
        crate::spec::check_name("pod", name)?;
        let dir = store.pod_dir(name);
        if dir.exists() && !state::is_pod_dir(&dir) {
            return Err(Error::invalid(
                "pod name",
                name,
                "the state directory has something of that name that is no pod",
            ));
        }
        let Some(_lock) = Lock::take(&dir, Hold::Exclusive, true)? else { return Ok(()) };
        let table = dir.join(TABLE).display().to_string();
        // The file may have been replaced since.
        let maps_it = |maps: &str| maps.lines().any(|line| line.trim_end_matches(" (deleted)").ends_with(&table));
        let title = hold::title(name);
        for pid in all_pids() {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            if read("cmdline").starts_with(&title) && maps_it(&read("maps")) {
                sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
                sys::wait_readable(&pidfd, Some(PATIENCE)).doing(|| "waiting for pause".into())?;
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

    /// A directory without a record: its maker died early, or its remover.
    fn sweep_rest(store: &Store, name: &str) {
        let dir = store.pod_dir(name);
        if !dir.exists() {
            store.mark_for_sweep(name, false).ok();
        } else if let Ok(Some(_lock)) = Lock::take(&dir, Hold::Exclusive, false)
            && !dir.join(POD).exists()
        {
            store.mark_for_sweep(name, false).ok();
            state::remove_all(&dir).ok();
        }
    }
}
