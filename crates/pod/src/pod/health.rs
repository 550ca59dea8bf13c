//! The checks of a pod's containers, as its supervisor performs them.
//!
//! ```text
//!   supervisor's thread   knows when each is due, takes the results, decides, and
//!                         writes both down (health.json) before it acts
//!   a thread a check      performs it, or ends a container that has failed; lives no
//!                         longer than that, and so no check waits for another one
//! ```
//!
//! What is decided is in the record before anything follows from it. So whoever
//! supervises the pod next performs what is due, and ends what was to be ended.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::container::Container;
use super::probe::Probe;
use super::whole::Whole;
use crate::cgroup;
use crate::error::{Context, Error, Result, in_full};
use crate::kernel::{PATIENCE, record_file};
use crate::spec::{CheckKind, Health, HealthCheck, HealthChecks, OnUnhealthy};
use crate::store::exits::Phase;
use crate::store::health::{Begun, CheckResult, HealthRecord, health};
use crate::store::lock::LockMode;
use crate::store::records::{ContainerRecord, HEALTH};
use crate::store::restarts::{Restarts, Unhealthy};

/// What could not be performed, or ended, is tried again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// What a thread has to tell.
enum Word {
    Began(Begun),
    Done(Result<CheckResult>),
    /// It has ended what failed, or why it could not.
    Acted(Result<()>),
}

/// What a thread does: a check, or the end of a container.
type Task = Option<CheckKind>;
/// Of which container, in which run.
type About = (String, SystemTime, Task);

/// A container that is checked.
struct Checked {
    checks: HealthChecks,
    record: HealthRecord,
    /// When each is to be performed next; `None` is its end.
    due: BTreeMap<Option<CheckKind>, Instant>,
    /// What is being performed; `None` is its end.
    busy: BTreeSet<Option<CheckKind>>,
}

/// All checks of a pod.
pub(super) struct Checker<'scope, 'pod> {
    scope: &'scope Scope<'scope, 'pod>,
    checked: BTreeMap<String, Checked>,
    sender: Sender<(About, Word)>,
    words: Receiver<(About, Word)>,
    /// Readable once there is a word.
    wake: Arc<EventFd>,
    /// Readable once nobody waits for words any more.
    cancel: Arc<EventFd>,
}

impl<'scope, 'pod> Checker<'scope, 'pod> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'pod>) -> Result<Checker<'scope, 'pod>> {
        let (sender, words) = channel();
        let event = || {
            let fd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
            fd.map(Arc::new).doing(|| "making an eventfd".into())
        };
        Ok(Checker { scope, checked: BTreeMap::new(), sender, words, wake: event()?, cancel: event()? })
    }

    /// Checks a container from now on if it runs and has checks, and else no more.
    ///
    /// # Errors
    /// What cannot be read or written of its records.
    pub(super) fn watch(&mut self, container: &Container<'_>) -> Result<()> {
        let record = container.record()?;
        let checks = &record.container.health;
        let Some(run) = record.started.filter(|_| !checks.is_empty() && container.runs_now(&record)) else {
            self.checked.remove(&container.name);
            return Ok(());
        };
        match self.checked.get_mut(&container.name).filter(|checked| checked.record.run == run) {
            Some(checked) => checked.checks.clone_from(checks),
            None => {
                let checked = Checked::adopt(container, checks, run)?;
                self.checked.insert(container.name.clone(), checked);
            }
        }
        Ok(())
    }

    /// Forgets containers that are not among these.
    pub(super) fn keep_only(&mut self, names: &[String]) {
        self.checked.retain(|name, _| names.contains(name));
    }

    /// Takes what the threads have found out, and has them perform what is due.
    ///
    /// # Errors
    /// What cannot be written down; it is with the next result.
    pub(super) fn perform(&mut self, named: impl Fn(&str) -> Container<'pod>) -> Result<()> {
        // First: what comes meanwhile is told again.
        self.wake.read().ok();
        let mut taken = Ok(());
        while let Ok(((name, run, task), word)) = self.words.try_recv() {
            if let Some(checked) = self.checked.get_mut(&name).filter(|checked| checked.record.run == run) {
                taken = taken.and(checked.take(&named(&name), task, word));
            }
        }
        let now = Instant::now();
        for (name, run, task, check) in self.due_now(now) {
            let later = check.as_ref().map_or(AGAIN, |check| check.interval);
            let is_begun = self.begin((name.clone(), run, task), named(&name), check);
            let Some(checked) = self.checked.get_mut(&name) else { continue };
            // No thread may be to be had now.
            checked.due.insert(task, now + if is_begun { later } else { AGAIN });
            if is_begun {
                checked.busy.insert(task);
            }
        }
        taken
    }

    fn due_now(&mut self, now: Instant) -> Vec<(String, SystemTime, Task, Option<HealthCheck>)> {
        let mut found = Vec::new();
        for (name, checked) in &mut self.checked {
            for task in checked.wanted() {
                if checked.due_of(task, now) <= now {
                    let check = task.and_then(|kind| checked.checks.get(kind)).cloned();
                    found.push((name.clone(), checked.record.run, task, check));
                }
            }
        }
        found
    }

    /// How long it is until something is due, if that is for the time to say.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let wanted = |checked: &Checked| {
            let due = checked.wanted().into_iter().filter_map(|task| checked.due.get(&task).copied());
            due.min()
        };
        let next = self.checked.values().filter_map(wanted).min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Has a thread do it. Whether there is one.
    fn begin(&self, about: About, container: Container<'pod>, check: Option<HealthCheck>) -> bool {
        const STACK: usize = 256 << 10;
        let (sender, wake, cancel) = (self.sender.clone(), Arc::clone(&self.wake), Arc::clone(&self.cancel));
        let work = move || {
            let tell = |word| {
                sender.send((about.clone(), word)).ok();
                wake.write(1).ok();
            };
            match &check {
                Some(check) => {
                    let began = |begun| tell(Word::Began(begun));
                    let probe = Probe { check, cancel: Some(cancel.as_fd()), began: &began };
                    tell(Word::Done(container.perform(&probe)));
                }
                None => tell(Word::Acted(container.end_unhealthy(about.1))),
            }
        };
        Builder::new().name("check".into()).stack_size(STACK).spawn_scoped(self.scope, work).is_ok()
    }
}

/// For poll(2): readable once [`perform`](Checker::perform) has something to do.
impl AsFd for Checker<'_, '_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Checker<'_, '_> {
    fn drop(&mut self) {
        // Whoever waits for the threads does not for the rest of their times.
        self.cancel.write(1).ok();
    }
}

impl Checked {
    /// Goes on with the checks of a run, or begins them.
    fn adopt(container: &Container<'_>, checks: &HealthChecks, run: SystemTime) -> Result<Checked> {
        let mut record = match container.health_record() {
            Ok(Some(record)) if record.run == run => record,
            // What cannot be read is made anew.
            before => HealthRecord::new(run, before.ok().flatten()),
        };
        for begun in record.checks.values_mut().filter_map(|state| state.begun.take()) {
            // Whoever was to kill it in time was killed. What has ended is as good.
            begun.end(&container.object()).ok();
        }
        container.write_health(&record)?;
        Ok(Checked { checks: checks.clone(), record, due: BTreeMap::new(), busy: BTreeSet::new() })
    }

    /// What is to be done, and is not being done.
    fn wanted(&self) -> Vec<Task> {
        let end = self.record.ends_run().then_some(None);
        let checks = self.record.wanted(&self.checks).into_iter().map(Some);
        checks.chain(end).filter(|task| !self.busy.contains(task)).collect()
    }

    fn due_of(&mut self, task: Task, now: Instant) -> Instant {
        let first = || {
            let (kind, check) = task.and_then(|kind| Some((kind, self.checks.get(kind)?)))?;
            Some(now + self.record.first_due(kind, check, SystemTime::now()))
        };
        *self.due.entry(task).or_insert_with(|| first().unwrap_or(now))
    }

    fn take(&mut self, container: &Container<'_>, task: Task, word: Word) -> Result<()> {
        if !matches!(word, Word::Began(_)) {
            self.busy.remove(&task);
        }
        let failed = self.record.failed.as_ref().map(|failed| failed.check);
        let Some(kind) = task.or(failed) else { return Ok(()) };
        let state = self.record.checks.entry(kind).or_default();
        match word {
            Word::Began(begun) => state.begun = Some(begun),
            Word::Done(Ok(result)) => {
                state.begun = None;
                self.record.take(&self.checks, kind, result, SystemTime::now());
            }
            Word::Done(Err(error)) => (state.begun, state.error) = (None, Some(in_full(&error).to_string())),
            Word::Acted(acted) => state.error = acted.err().map(|error| in_full(&error).to_string()),
        }
        container.write_health(&self.record)
    }
}

impl Begun {
    fn end(self, what: &str) -> Result<()> {
        match self.cgroup {
            Some(dir) if dir.exists() => Whole::Cgroup(dir).end(what),
            Some(_) => Ok(()),
            None => Whole::Session(self.process).end(what),
        }
    }
}

impl Container<'_> {
    /// How it does; `None` if it does not run, or has no checks.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what cannot be read.
    pub fn health(&self) -> Result<Option<Health>> {
        self.now(|it| {
            let record = it.record()?;
            let known = it.health_record()?;
            Ok(health(&record.container.health, known.as_ref(), record.started, it.runs_now(&record)))
        })
    }

    /// What its checks have found out last.
    pub(super) fn health_record(&self) -> Result<Option<HealthRecord>> {
        record_file::read_record(&self.dir().join(HEALTH))
    }

    fn write_health(&self, record: &HealthRecord) -> Result<()> {
        // Whoever removes it has the lock, and must not find one more file in the end.
        let Some(_lock) = self.pod.lock(LockMode::Shared, true)? else { return Ok(()) };
        match self.record() {
            Ok(now) if now.started == Some(record.run) => record_file::write_record(&self.dir().join(HEALTH), record),
            // Another run, or gone.
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether its main process lives, as far as the exit table says.
    pub(super) fn runs_now(&self, record: &ContainerRecord) -> bool {
        let phase = record.reservation.zip(self.pod.table.as_ref()).map(|(old, table)| table.phase(old));
        matches!(phase, Some(Phase::Running(1..))) && self.pod.is_alive()
    }

    /// Ends the run that a check has decided to end, if it still goes on.
    fn end_unhealthy(&self, run: SystemTime) -> Result<()> {
        let Some(on_unhealthy) = self.note_unhealthy(run)? else { return Ok(()) };
        if on_unhealthy != OnUnhealthy::Kill {
            let grace = self.record()?.container.grace();
            return self.end_gently(grace).map(drop);
        }
        let process = self.its_process()?;
        match self.cgroup() {
            Some(cgroup) => cgroup::kill(&cgroup, PATIENCE)?,
            None => self.kill_all()?,
        }
        process.wait_timeout(PATIENCE).map(drop)
    }

    /// Writes down what its end will mean. What is to be done; `None` if that run is over.
    fn note_unhealthy(&self, run: SystemTime) -> Result<Option<OnUnhealthy>> {
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(None) };
        let record = self.record()?;
        let failed = self.health_record()?.and_then(|health| health.failed).filter(|failed| failed.started == run);
        let check = failed.and_then(|failed| record.container.health.get(failed.check)).map(|check| check.on_unhealthy);
        let Some(on_unhealthy) = check.filter(|_| record.started == Some(run) && self.runs_now(&record)) else {
            return Ok(None);
        };
        let restarts = record.restarts.clone();
        let restarts = match on_unhealthy {
            OnUnhealthy::Nothing => return Ok(None),
            OnUnhealthy::Stop => Restarts { stopped: true, ..restarts },
            OnUnhealthy::Restart => Restarts { unhealthy: Some(Unhealthy::Restarts), ..restarts },
            OnUnhealthy::Terminate | OnUnhealthy::Kill => Restarts { unhealthy: Some(Unhealthy::Failed), ..restarts },
        };
        self.write(&ContainerRecord { restarts, ..record })?;
        Ok(Some(on_unhealthy))
    }
}
