//! A pod's life: made, opened, detached, removed.

mod attach;
pub mod attached;
pub mod container;
mod copier;
pub mod copy;
mod create;
pub mod events;
pub mod exec;
mod find_pause;
mod health;
mod lifecycle;
mod log;
mod mates;
mod namespaces;
mod order;
mod probe;
pub mod process;
mod races;
pub mod read_log;
mod removal;
mod run;
mod seen;
mod start;
pub mod start_options;
pub mod status;
mod stop;
mod stop_order;
mod streams;
pub mod summary;
pub mod supervise;
mod sweep;
mod time_limit;
pub mod top;
mod update;
mod uppers;
pub mod usage;
pub mod watch;
mod whole;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::cgroup::pod_tree::PodCgroup;
use crate::cgroup::way::Way;
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::procfs::{self, ProcessId};
use crate::kernel::{PATIENCE, files, record_file, syscalls};
use crate::plan::pod::PodShape;
use crate::spec::PodOptions;
use crate::store::Store;
use crate::store::exits::ExitTable;
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{PAUSE, POD, PodRecord, TABLE};
use find_pause::{Here, pause_of};

/// How long dropping an attached pod may take, if it does not end at once.
const AT_ONCE: Duration = Duration::from_millis(300);

/// A pod: namespaces that containers share, and the pause process that holds
/// them.
///
/// A `Pod` from [`create`](Pod::create) is *attached*: it ends, and its
/// records go, when the value is dropped or this program ends. Dropping it takes
/// no longer than a moment: [`remove`](Pod::remove) waits for all of it, and tells
/// what could not be done. One from
/// [`open`](Pod::open), or after [`detach`](Pod::detach), is only a handle.
pub struct Pod {
    pub(crate) store: Store,
    pub(crate) dir: PathBuf,
    pub(crate) record: PodRecord,
    pub(crate) facts: Facts,
    /// `None` if the pod died before there was one.
    pub(crate) table: Option<Arc<ExitTable>>,
    pub(crate) pause: Option<ProcessId>,
    lifeline: Option<OwnedFd>,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod").field("name", &self.name()).field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Pod {
    fn new(store: &Store, dir: &Path, record: PodRecord, facts: Facts) -> Pod {
        Pod { store: store.clone(), dir: dir.into(), record, facts, table: None, pause: None, lifeline: None }
    }

    /// Whether no command will ask for its records once it is dead; the caller has
    /// the lock. An attached pod is its owner's as long as that lives.
    pub(crate) fn is_unwanted(&mut self) -> Result<bool> {
        // In this order: an owner that is gone detaches nothing any more.
        let is_owned = self.record.owner.map_or(Ok(false), procfs::lives)?;
        if let Some(record) = record_file::read_record(&self.dir.join(POD))? {
            self.record = record;
        }
        Ok(if self.record.attached { !is_owned } else { self.record.options.remove_when_dead })
    }

    /// Whether its last container has ended and pause is about to.
    pub(crate) fn is_ending(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.is_ending())
    }

    /// Once an entry is given up: the last container may have ended while it was
    /// there, and pause only looks when something has ended.
    pub(crate) fn end_if_it_is_ending(&self) {
        if self.is_ending() {
            self.kill().ok();
        }
    }

    /// The pod of that name, alive or dead.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Corrupt`].
    pub fn open(store: &Store, name: &str) -> Result<Pod> {
        let not_found = || Error::NotFound(format!("pod {name:?}"));
        // A name that no pod can have might be a path.
        crate::spec::check_name("pod", name).map_err(|_| not_found())?;
        let dir = store.pod_dir(name);
        let record = record_file::read_record(&dir.join(POD))?.ok_or_else(not_found)?;
        let mut pod = Pod::new(store, &dir, record, Facts::read()?);
        pod.look()?;
        Ok(pod)
    }

    /// Opens the pod where the facts are known, and what a pid means; `None` if it
    /// has no record.
    fn open_here(store: &Store, name: &str, facts: &Facts, here: &Here) -> Result<Option<Pod>> {
        let dir = store.pod_dir(name);
        let Some(record) = record_file::read_record(&dir.join(POD))? else { return Ok(None) };
        let mut pod = Pod::new(store, &dir, record, facts.clone());
        pod.look_from(here)?;
        Ok(Some(pod))
    }

    /// All pods of a store, alive or dead, by name. Ones that cannot be read
    /// come as the error that says why.
    ///
    /// # Errors
    /// [`Error::Os`] if the store cannot be read.
    pub fn list(store: &Store) -> Result<Vec<Result<Pod>>> {
        let names = store.entries()?;
        let facts = Facts::read()?;
        let here = Here { pids: facts.pids, boot: procfs::boot_id()? };
        // No pod: something else, or removed just now.
        Ok(names.iter().filter_map(|name| Pod::open_here(store, name, &facts, &here).transpose()).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.options.name
    }

    /// What it was made from.
    pub fn options(&self) -> &PodOptions {
        &self.record.options
    }

    /// 64 hexadecimal digits that no other pod has.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Whether pause lives.
    pub fn is_alive(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.is_alive())
    }

    /// Whether pause lives and will: not if it is about to follow the last
    /// container.
    pub fn lives_on(&self) -> bool {
        self.is_alive() && !self.is_ending()
    }

    /// Whether any container of it runs or is about to.
    pub fn has_containers(&self) -> bool {
        self.is_alive() && self.table.as_ref().is_some_and(|table| table.has_containers())
    }

    /// pause's pid on this machine, while it lives.
    pub fn pause_pid(&self) -> Option<u32> {
        self.pause.filter(|_| self.is_alive()).map(|process| process.pid)
    }

    /// A descriptor that becomes readable when the pod has ended: pause's
    /// pidfd. `None` if it had ended when this handle was made.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.table.as_ref()?.pause.as_ref()?.as_fd())
    }

    /// Lets the pod live on after this value and this program.
    ///
    /// # Errors
    /// [`Error::Os`] if its record cannot be written or pause not be told; it is
    /// still attached.
    pub fn detach(&mut self) -> Result<()> {
        if self.lifeline.is_none() {
            return Ok(());
        }
        // Once it has ended another command may have swept it, and made another pod
        // of its name: that has a record of its own.
        match self.lock(LockMode::Shared, true)? {
            Some(_lock) => self.let_go(),
            None => {
                self.lifeline = None;
                Ok(())
            }
        }
    }

    /// [`detach`](Pod::detach) where the caller has the lock.
    fn let_go(&mut self) -> Result<()> {
        let Some(lifeline) = &self.lifeline else { return Ok(()) };
        let record = PodRecord { attached: false, ..self.record.clone() };
        record_file::write_record(&self.dir.join(POD), &record)?;
        self.record = record;
        if !self.record.options.remove_when_dead {
            self.store.mark_for_sweep(self.name(), false)?;
        }
        send(lifeline, pause::DETACH).doing(|| format!("detaching from pod {}", self.name()))?;
        self.lifeline = None;
        Ok(())
    }

    /// Ends the pod and everything in it: SIGKILL to pause, and the kernel
    /// ends the rest. Its records stay, and [`start`](Pod::start) can start it
    /// again.
    ///
    /// # Errors
    /// [`Error::Deadline`] if the kernel does not get it done in 10 seconds.
    pub fn kill(&self) -> Result<()> {
        self.tell_ending();
        self.kill_within(PATIENCE)
    }

    fn kill_within(&self, patience: Duration) -> Result<()> {
        let Some(pause) = self.pidfd() else { return self.remove_cgroup() };
        // Gone already is as good.
        syscalls::pidfd_signal(pause, libc::SIGKILL).ok();
        if !syscalls::wait_readable(&pause, Some(patience)).doing(|| "waiting for pause".into())? {
            return Err(Error::Deadline { what: format!("the end of pod {}", self.name()), after: patience });
        }
        if self.options().pause_is_child {
            syscalls::reap(pause);
        }
        self.remove_cgroup()
    }

    /// Ends the pod and removes everything that was made for it.
    ///
    /// # Errors
    /// What could not be removed; calling it again goes on.
    pub fn remove(mut self) -> Result<()> {
        // First of all: a process in the pod may be what keeps the lock. But
        // where no pause has been written down yet that is the pod's creator, which
        // would find it taken away piece by piece.
        if self.pause.is_some() || files::is_there(&self.dir.join(PAUSE)) {
            self.kill()?;
        }
        let lock = self.lock(LockMode::Exclusive, true)?;
        if lock.is_some() {
            // The command that had the lock before may have started it again. An
            // attached pod's pause is known for sure.
            if self.lifeline.is_none() {
                self.look()?;
            }
            self.erase()?;
        }
        self.lifeline = None;
        Ok(())
    }

    /// Removes everything that was made for it, if it has ended.
    ///
    /// # Errors
    /// [`Error::State`] if it runs, also where another program has started it again, or
    /// is attached to a program that lives; what could not be removed: calling it again goes on.
    pub fn remove_dead(mut self) -> Result<()> {
        let Some(_lock) = self.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        // Under the lock: whoever had it before may have started the pod again.
        self.look()?;
        if self.is_alive() {
            return Err(Error::state(format!("pod {}", self.name()), "is running"));
        }
        if self.record.attached && self.record.owner.map_or(Ok(false), procfs::lives)? {
            return Err(Error::state(format!("pod {}", self.name()), "is another program's, which removes it"));
        }
        self.erase()
    }

    /// Takes the lock of this very pod: `None` if it is gone, though another of
    /// its name may be there, or if another command has the lock and `wait` is
    /// false.
    pub(crate) fn lock(&self, hold: LockMode, wait: bool) -> Result<Option<Lock>> {
        let lock = Lock::take(&self.dir, hold, wait)?;
        let record: Option<PodRecord> = record_file::read_record(&self.dir.join(POD))?;
        Ok(lock.filter(|_| record.is_some_and(|record| record.id == self.record.id)))
    }

    /// Finds pause and the table, if they are there, and the scope that they are in:
    /// another command may have started the pod again.
    pub(crate) fn look(&mut self) -> Result<()> {
        if self.record.scope.is_some() {
            let record: Option<PodRecord> = record_file::read_record(&self.dir.join(POD))?;
            if let Some(record) = record.filter(|record| record.id == self.record.id) {
                (self.record.scope, self.record.cgroup) = (record.scope, record.cgroup);
            }
        }
        self.look_from(&Here { pids: self.facts.pids, boot: procfs::boot_id()? })
    }

    fn look_from(&mut self, here: &Here) -> Result<()> {
        let (process, pause) = pause_of(&self.dir, self.record.cgroup.as_deref(), here)?.unzip();
        self.pause = process;
        self.table = ExitTable::open(&self.dir.join(TABLE), pause)?.map(Arc::new);
        Ok(())
    }

    pub(crate) fn cgroup(&self) -> Option<PodCgroup> {
        self.record.cgroup.as_ref().map(PodCgroup::at)
    }

    /// How a process gets into one of its cgroups.
    pub(crate) fn way_to(&self, birthplace: Result<OwnedFd>, dir: &Path) -> Result<Way> {
        Ok(Way::new(birthplace?, dir, self.record.scope.as_ref().zip(self.record.cgroup.as_deref())))
    }

    /// Of a pod that has ended.
    fn remove_cgroup(&self) -> Result<()> {
        // What ended with the pod has written its last. Whom that cannot be waited for,
        // the end of the cgroup ends.
        self.end_copiers().ok();
        self.end_supervisor().ok();
        let Some(cgroup) = self.cgroup() else { return Ok(()) };
        if self.pause.is_none() {
            // It may have ended where we cannot see its pids: without the cgroup no
            // command could tell.
            files::remove_file(&self.dir.join(PAUSE))?;
        }
        if files::is_there(cgroup.path()) {
            // What cannot be kept must not keep the pod from being removed.
            self.keep_ooms().ok();
        }
        match &self.record.scope {
            Some(scope) => scope.remove(cgroup.path()),
            None => cgroup.remove(),
        }
    }

    /// Ends the pod, and removes all of it; the caller has the lock.
    pub(crate) fn erase(&mut self) -> Result<()> {
        self.kill()?;
        self.store.clean_up(self.name(), Some(self.id()))?;
        self.remove_container_dirs()?;
        let prefix = format!("{}:", self.name());
        for mark in self.store.to_sweep().iter().filter(|mark| mark.starts_with(&prefix)) {
            self.store.mark_for_sweep(mark, false)?;
        }
        // The record goes last: as long as it is there, the next command can go on.
        self.store.remove_pod_dir(self.name())?;
        self.store.unmark_gone(self.name())
    }

    /// The pod as plans see it.
    pub(crate) fn shape(&self) -> PodShape<'_> {
        PodShape { options: &self.record.options, users: &self.record.users, cgroup: self.record.cgroup.is_some() }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.lifeline.is_none() {
            return;
        }
        // An error has no caller to go to, and nobody expects to wait here: what
        // remains is swept later.
        let end = Instant::now() + AT_ONCE;
        if self.kill_within(AT_ONCE).is_err() {
            return;
        }
        loop {
            match self.lock(LockMode::Exclusive, false) {
                Ok(Some(_lock)) => return drop(self.erase()),
                // A launch that its pod's end has ended is about to let go of it.
                Ok(None) if files::is_there(&self.dir) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

/// One byte to pause, without the SIGPIPE that a write to a closed pipe would
/// bring: signals belong to the embedder.
fn send(lifeline: &OwnedFd, word: u8) -> nix::Result<()> {
    loop {
        match nix::sys::socket::send(lifeline.as_raw_fd(), &[word], MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EINTR) => {}
            // pause is gone: there is no process to tell.
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
            sent => return sent.map(drop),
        }
    }
}
