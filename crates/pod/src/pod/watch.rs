//! One descriptor for all that happens in a store, whichever process does it.
//!
//! ```text
//!   store's directory      inotify: pods made and removed
//!   a pod's, containers/   inotify: records renamed into place, containers
//!   a pod's lock           inotify: that it is let go, which ends every launch
//!   pause, main processes  pidfds: an end is a store into a mapped page, of which
//!                          inotify tells nothing
//!   a container's cgroup   inotify: cgroup.events, memory.events
//! ```
//!
//! These only say where to look. What has happened is found by comparing what is
//! there with what was there at the look before, so nothing is lost where they
//! come together or were too many for the kernel to keep.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

use super::Pod;
use super::events::{Event, Story};
use super::find_pause::Here;
use super::seen::{self, SeenPod};
use crate::error::{Context, Error, Number, Result};
use crate::kernel::changes::{Change, Changes, Mask, WatchId};
use crate::kernel::procfs::ProcessId;
use crate::kernel::{changes, files, record_file, syscalls};
use crate::store::Store;
use crate::store::records::{CONTAINERS, LOCK, PROCESS, ProcessRecord, TABLE};
use crate::store::snapshot::KeptTable;

/// What is asked for anew until it is known, first after this time.
const FIRST_NAP: Duration = Duration::from_millis(1);
/// And at last every so often.
const LONGEST_NAP: Duration = Duration::from_millis(500);

/// Tells what happens to the pods of a store and their containers, whichever
/// process does it: see [`Store::watch`].
///
/// It takes 3 descriptors, 1 for each pod that lives and 1 for each container that
/// runs; and 1 inotify watch, 3 for each pod and 1 for each container, 1 more for a
/// container that runs in a cgroup, and 1 more where memory is accounted there. So
/// 300 pods with a container each take 603 descriptors, of the 1024 that a program
/// usually may have (`ulimit -n`), and up to 1801 watches
/// (`fs.inotify.max_user_watches`).
pub struct Watch {
    store: Store,
    here: Here,
    changes: Changes,
    /// The store's own directory; `None` once that is gone.
    root: Option<WatchId>,
    /// The pod that each other watch is for.
    watches: HashMap<WatchId, String>,
    /// The pod that each descriptor is for.
    descriptors: HashMap<u64, String>,
    pods: BTreeMap<String, Known>,
    /// The kernel has dropped notices: the store is to be listed anew.
    has_lost: bool,
    /// Pods to look at.
    dirty: BTreeSet<String>,
    /// Pods to look at again, because something of them is not written down yet that
    /// is about to be.
    late: BTreeSet<String>,
    nap: Duration,
    is_armed: bool,
    /// What has not been given to the caller.
    pending: Vec<Event>,
}

/// What is known of a name in the store.
#[derive(Default)]
struct Known {
    seen: Option<SeenPod>,
    table: Option<KeptTable>,
    watches: BTreeMap<PathBuf, WatchId>,
    /// pause's, and those of containers by name.
    processes: BTreeMap<Option<String>, Held>,
}

/// A process whose end is waited for.
struct Held {
    run: Run,
    /// `None` if it was gone, or not to be found yet.
    pidfd: Option<(OwnedFd, u64)>,
    has_ended: bool,
}

/// Which run of a pod or container a process is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Pause(ProcessId),
    Container(SystemTime),
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("store", &self.store.root()).finish_non_exhaustive()
    }
}

impl Store {
    /// Watches all pods of this store. What is there already is told by
    /// [`Pod::summaries`]; called after this it leaves no gap, and what happens
    /// between the two calls is told by both.
    ///
    /// # Errors
    /// [`Error::Os`], naming the limit, if there are more pods than this program may
    /// have descriptors or inotify watches for.
    pub fn watch(&self) -> Result<Watch> {
        let changes = Changes::new()?;
        let mask = Mask::IN_CREATE | Mask::IN_DELETE | Mask::IN_MOVED_FROM | Mask::IN_MOVED_TO;
        let root = changes.watch(self.root(), mask | Mask::IN_DELETE_SELF | Mask::IN_MOVE_SELF | Mask::IN_ONLYDIR)?;
        let mut watch = Watch {
            store: self.clone(),
            here: Here::read()?,
            changes,
            root,
            watches: HashMap::new(),
            descriptors: HashMap::new(),
            pods: BTreeMap::new(),
            has_lost: false,
            dirty: BTreeSet::new(),
            late: BTreeSet::new(),
            nap: FIRST_NAP,
            is_armed: false,
            pending: Vec::new(),
        };
        watch.dirty.extend(self.entries()?);
        watch.look_at_dirty()?;
        watch.pending.clear();
        Ok(watch)
    }
}

impl Watch {
    /// What has happened since the last call, or since the watch began; waits for
    /// the first event at most for `timeout`, and for ever without one. With a
    /// timeout of zero it never waits. None if nothing has happened by then.
    ///
    /// A pod's events are in the order in which they happened, as far as that is
    /// written down; so are those of different pods that one call gives. What came
    /// and went between two calls is told nevertheless if it has left a record: a
    /// run of a container that has ended since is, a pod or container that has
    /// been removed since is not. Of several runs of one container the last two are
    /// told.
    ///
    /// A pod whose records cannot be read is left as it was until they can.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell, or a limit is reached that it names;
    /// the next call goes on, and no event is lost by that. [`Error::State`] once the
    /// store's directory is gone.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>> {
        // Longer than the clock goes is for ever.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let looked = self.look_at_changes();
            self.arm()?;
            if !self.pending.is_empty() {
                return Ok(std::mem::take(&mut self.pending));
            }
            looked?;
            if self.root.is_none() {
                let store = format!("the state directory {}", self.store.root().display());
                return Err(Error::state(store, "has been removed: open it anew to watch it"));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Vec::new());
            }
            syscalls::wait_readable(&self.changes, left).doing(|| "waiting for events".into())?;
        }
    }

    /// Looks where something has changed, until nothing does. What changes all the
    /// time must not keep the caller for ever.
    fn look_at_changes(&mut self) -> Result<()> {
        const ENOUGH: u32 = 4;
        let mut looked = Ok(());
        for _ in 0..ENOUGH {
            self.take_changes()?;
            if self.dirty.is_empty() {
                break;
            }
            looked = looked.and(self.look_at_dirty());
        }
        looked
    }

    /// Finds out where to look.
    fn take_changes(&mut self) -> Result<()> {
        for change in self.changes.take()? {
            match change {
                Change::At(watch, mask, name) if Some(watch) == self.root => {
                    if mask.intersects(Mask::IN_DELETE_SELF | Mask::IN_MOVE_SELF | Mask::IN_IGNORED) {
                        self.root = None;
                        self.dirty.extend(self.pods.keys().cloned());
                    }
                    let name = name.and_then(|name| name.into_string().ok());
                    self.dirty.extend(name.filter(|name| !name.starts_with('.')));
                }
                Change::At(watch, mask, name) => {
                    let pod = self.watches.get(&watch).cloned();
                    if mask.contains(Mask::IN_IGNORED) {
                        self.forget(watch);
                    }
                    let is_of_interest = name.is_none_or(|name| {
                        // A draft of a record is none yet.
                        !name.as_encoded_bytes().ends_with(b".new")
                    });
                    self.dirty.extend(pod.filter(|_| is_of_interest));
                }
                Change::Overflow => {
                    self.dirty.extend(self.pods.keys().cloned());
                    self.has_lost = true;
                }
                Change::Readable(number) => {
                    let Some(pod) = self.descriptors.remove(&number) else { continue };
                    let known = self.pods.get_mut(&pod);
                    let held = known.into_iter().flat_map(|known| known.processes.values_mut());
                    let is_it = |held: &Held| held.pidfd.as_ref().is_some_and(|(_, of)| *of == number);
                    held.filter(|held| is_it(held)).for_each(|held| held.has_ended = true);
                    self.dirty.insert(pod);
                }
                Change::Tick => {
                    self.is_armed = false;
                    self.dirty.extend(self.late.iter().cloned());
                }
            }
        }
        if self.has_lost {
            self.dirty.extend(self.store.entries().map_err(explained)?);
            self.has_lost = false;
        }
        Ok(())
    }

    /// The kernel has ended this watch.
    fn forget(&mut self, watch: WatchId) {
        if let Some(known) = self.watches.remove(&watch).and_then(|pod| self.pods.get_mut(&pod)) {
            known.watches.retain(|_, of| *of != watch);
        }
    }

    /// Looks at each pod of which something has changed. One that cannot be looked at
    /// is looked at again.
    fn look_at_dirty(&mut self) -> Result<()> {
        let mut told = Vec::new();
        let mut failed = None;
        for name in std::mem::take(&mut self.dirty) {
            match self.look_at(&name) {
                Ok(events) => told.extend(events),
                // Of this pod alone, until its records are others.
                Err(Error::Corrupt { .. } | Error::Newer { .. } | Error::State { .. }) => {
                    self.late.remove(&name);
                }
                Err(error) => {
                    self.late.insert(name);
                    failed = Some(explained(error));
                }
            }
        }
        told.sort_by_key(|(key, _)| *key);
        self.pending.extend(told.into_iter().map(|(_, event)| event));
        failed.map_or(Ok(()), Err)
    }

    /// Wakes the caller for what is late, and for what is left to be looked at.
    fn arm(&mut self) -> Result<()> {
        if self.late.is_empty() && self.dirty.is_empty() && !self.has_lost {
            self.nap = FIRST_NAP;
        } else if !self.is_armed {
            self.changes.wake_after(self.nap)?;
            self.is_armed = true;
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        }
        Ok(())
    }

    fn look_at(&mut self, name: &str) -> Result<Vec<(SystemTime, Event)>> {
        let mut known = self.pods.remove(name).unwrap_or_default();
        let result = self.look_into(name, &mut known);
        let is_there = known.watches.contains_key(&self.store.pod_dir(name));
        if is_there || known.seen.is_some() {
            self.pods.insert(name.into(), known);
        } else {
            self.let_go(known);
            self.late.remove(name);
        }
        result
    }

    fn look_into(&mut self, name: &str, known: &mut Known) -> Result<Vec<(SystemTime, Event)>> {
        let dir = self.store.pod_dir(name);
        loop {
            // Watched first, and looked at then.
            self.watch_dirs(name, &dir, known)?;
            let (mut seen, table) = seen::look(&dir, &self.here, || KeptTable::open(&dir.join(TABLE)))?;
            if let Some((seen, before)) = seen.as_mut().zip(known.seen.as_ref()) {
                seen.keep_runs(before);
            }
            // A cgroup has no look without a watch either.
            if self.watch_cgroups(name, seen.as_ref(), known)? {
                continue;
            }
            let late = self.hold_processes(name, seen.as_ref(), known)?;
            let mut story = Story { pod: name, now: SystemTime::now(), events: Vec::new() };
            story.tell(known.seen.as_ref(), seen.as_ref(), known.table.as_ref());
            if late {
                if self.late.insert(name.into()) {
                    // Due in a moment, however long others are waited for.
                    (self.nap, self.is_armed) = (FIRST_NAP, false);
                }
            } else {
                self.late.remove(name);
            }
            let events = story.events;
            (known.seen, known.table) = (seen, table);
            return Ok(events);
        }
    }

    /// Watches a pod's directory and those in it, as they are now.
    fn watch_dirs(&mut self, name: &str, dir: &Path, known: &mut Known) -> Result<()> {
        let of_pod = Mask::IN_CREATE | Mask::IN_DELETE | Mask::IN_MOVED_TO | Mask::IN_ONLYDIR;
        let of_list = Mask::IN_CREATE | Mask::IN_DELETE | Mask::IN_MOVED_FROM | Mask::IN_MOVED_TO;
        let of_container = Mask::IN_DELETE | Mask::IN_MOVED_TO;
        let list = dir.join(CONTAINERS);
        let mut there = BTreeSet::new();
        let lock = dir.join(LOCK);
        let parts = [(dir, of_pod), (&list, of_list | Mask::IN_ONLYDIR), (&lock, Mask::IN_CLOSE_WRITE)];
        for (path, mask) in parts {
            self.watch_path(name, path, mask, known)?;
            there.insert(path.to_path_buf());
        }
        // What is watched is a directory; a file among the pods has none.
        let names = if known.watches.contains_key(&list) { files::names_in(&list)? } else { Vec::new() };
        for container in names {
            let path = list.join(container);
            self.watch_path(name, &path, of_container | Mask::IN_ONLYDIR, known)?;
            there.insert(path);
        }
        let gone = |path: &PathBuf| path.starts_with(&list) && !there.contains(path);
        self.unwatch(known, gone);
        Ok(())
    }

    /// Watches the cgroups of containers that run. Whether one was not before.
    fn watch_cgroups(&mut self, name: &str, seen: Option<&SeenPod>, known: &mut Known) -> Result<bool> {
        let running = seen.into_iter().flat_map(|pod| pod.containers.values()).filter(|of| of.running().is_some());
        let files: BTreeSet<_> = running
            .filter_map(|container| container.cgroup.as_ref())
            .flat_map(|cgroup| ["cgroup.events", "memory.events"].map(|file| cgroup.join(file)))
            .collect();
        let mut is_new = false;
        for file in &files {
            is_new |= self.watch_path(name, file, Mask::IN_MODIFY, known)?;
        }
        let store = self.store.root().to_path_buf();
        self.unwatch(known, |path| !path.starts_with(&store) && !files.contains(path));
        Ok(is_new)
    }

    /// Whether what is there now was not watched before.
    fn watch_path(&mut self, name: &str, path: &Path, mask: Mask, known: &mut Known) -> Result<bool> {
        let now = self.changes.watch(path, mask)?;
        let before = match now {
            Some(watch) => known.watches.insert(path.into(), watch),
            None => known.watches.remove(path),
        };
        if let Some(before) = before.filter(|before| Some(*before) != now) {
            self.watches.remove(&before);
            self.changes.unwatch(before);
        }
        if let Some(watch) = now {
            self.watches.insert(watch, name.into());
        }
        Ok(now.is_some() && now != before)
    }

    fn unwatch(&mut self, known: &mut Known, is_gone: impl Fn(&PathBuf) -> bool) {
        let gone: Vec<_> = known.watches.keys().filter(|path| is_gone(path)).cloned().collect();
        for watch in gone.iter().filter_map(|path| known.watches.remove(path)) {
            self.watches.remove(&watch);
            self.changes.unwatch(watch);
        }
    }

    /// Waits for the ends of what lives. Whether one of them is not to be had yet, or
    /// has ended and pause has not written that down: the pod must be looked at
    /// again, though nothing tells when.
    fn hold_processes(&mut self, name: &str, seen: Option<&SeenPod>, known: &mut Known) -> Result<bool> {
        let pause = seen.and_then(|pod| pod.pause).filter(|pause| pause.lives);
        let mut wanted: BTreeMap<Option<String>, Run> =
            pause.map(|pause| (None, Run::Pause(pause.process))).into_iter().collect();
        for (container, seen) in seen.iter().flat_map(|pod| &pod.containers) {
            wanted.extend(seen.running().map(|run| (Some(container.clone()), Run::Container(run.started))));
        }
        let all = std::mem::take(&mut known.processes);
        let is_wanted = |key: &Option<String>, held: &Held| wanted.get(key) == Some(&held.run);
        let (keep, drop): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(key, held)| is_wanted(key, held) && held.pidfd.is_some());
        known.processes = keep;
        drop.into_values().for_each(|held| self.release(held));
        for (key, run) in wanted {
            if known.processes.contains_key(&key) {
                continue;
            }
            let pidfd = match (run, &key) {
                (Run::Pause(process), _) => process.open()?,
                (Run::Container(_), Some(container)) => self.open_container(name, container)?,
                (Run::Container(_), None) => None,
            };
            let pidfd = match pidfd {
                Some(pidfd) => {
                    let number = self.changes.add(&pidfd)?;
                    self.descriptors.insert(number, name.into());
                    Some((pidfd, number))
                }
                None => None,
            };
            known.processes.insert(key, Held { run, pidfd, has_ended: false });
        }
        Ok(known.processes.values().any(|held| held.pidfd.is_none() || held.has_ended))
    }

    /// The main process of a container; `None` if it is gone.
    fn open_container(&self, pod: &str, container: &str) -> Result<Option<OwnedFd>> {
        let path = self.store.pod_dir(pod).join(CONTAINERS).join(container).join(PROCESS);
        let recorded = record_file::read_record::<ProcessRecord>(&path)?;
        let process = match recorded.filter(|record| record.process.pid != 0) {
            Some(record) => Some(record.process),
            // Not written down yet, or its starter was killed before.
            None => match find_main_process(&self.store, pod, container) {
                Err(Error::NotFound(_)) => None,
                found => found?,
            },
        };
        process.map_or(Ok(None), |process| process.open())
    }

    fn release(&mut self, held: Held) {
        if let Some((pidfd, number)) = held.pidfd {
            self.changes.remove(&pidfd);
            self.descriptors.remove(&number);
        }
    }

    /// Of what is no pod any more.
    fn let_go(&mut self, mut known: Known) {
        self.unwatch(&mut known, |_| true);
        std::mem::take(&mut known.processes).into_values().for_each(|held| self.release(held));
    }
}

/// With the limit that a read may come to as well.
fn explained(error: Error) -> Error {
    match error {
        Error::Os { doing, errno: Number(errno @ (libc::EMFILE | libc::ENFILE)), .. } if !doing.ends_with(')') => {
            changes::refused(doing, Errno::from_raw(errno), "fs.file-max")
        }
        error => error,
    }
}

/// Without its record.
fn find_main_process(store: &Store, pod: &str, container: &str) -> Result<Option<ProcessId>> {
    let pod = Pod::open(store, pod)?;
    let container = pod.named(container);
    let record = container.record()?;
    let Some((reservation, table)) = record.reservation.zip(pod.table.as_ref()) else { return Ok(None) };
    let found = container.find_process(reservation, table)?;
    Ok(found.map(|record| record.process).filter(|process| process.pid != 0))
}

/// For poll(2) and event loops: readable when something may have changed, and no
/// more once [`Watch::next`] was called. That may find that nothing has happened.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}
