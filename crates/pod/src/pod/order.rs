//! Starting containers in their order: init containers first, and each of the others
//! once those that it is [after](ContainerSpec::after) have come to what it says.
//!
//! ```text
//!   init containers   by the time they were made, each to its end with 0
//!   the others        as soon as all that they are after is so:
//!                       started     its start has returned
//!                       completed   its main process's pidfd, and then its exit
//! ```
//!
//! It is waited for pidfds, and for records that are renamed into place (inotify),
//! without any lock. Nothing of it is kept: what was done already is seen in the
//! containers' records, so a start that was killed is gone on with by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use super::Pod;
use super::container::Container;
use super::process::Process;
use super::start::StartedBy;
use super::start_options::{StartOptions, StartProgress, Until};
use crate::error::{Context, Error, Result};
use crate::kernel::changes::{Changes, Mask};
use crate::kernel::{PATIENCE, syscalls};
use crate::launch::stdio::Io;
use crate::spec::check_order::{before, sort};
use crate::spec::{After, CheckKind, Condition, ContainerSpec, Health, InitContainer, OnUnhealthy};
use crate::store::exits::{Exit, Phase};
use crate::store::health::HealthRecord;
use crate::store::lock::LockMode;
use crate::store::records::ContainerRecord;

impl Pod {
    /// Starts its containers that do not run, in their order, with their output in their
    /// logs: [init containers](ContainerSpec::init) first, one after another, each to its
    /// end with 0, and then the others, each once those that it is
    /// [after](ContainerSpec::after) have come to what it says. The first one that cannot
    /// be started ends this; what has been started by then goes on. The pod must be
    /// alive: see [`start`](Pod::start).
    ///
    /// An init container that has ended with 0 is not run again as long as no other
    /// container has been started since, so that a start which was killed, or has
    /// failed, is gone on with. None is run where all other containers run already.
    ///
    /// # Errors
    /// [`Error::Invalid`], and nothing is started, if a container is after what is not
    /// there, or some wait for one another; [`Error::NotReached`], [`Error::Deadline`]; and
    /// as [`Container::start`].
    pub fn start_all(&self, options: &StartOptions<'_>) -> Result<()> {
        match self.started_anew()? {
            Some(pod) => pod.start_all_by(options, false),
            None => self.start_all_by(options, false),
        }
    }

    /// [`start_all`](Pod::start_all) after all were stopped: init containers that have
    /// ended with 0 since the pod was started are not run again.
    pub(super) fn start_all_again(&self, options: &StartOptions<'_>) -> Result<()> {
        self.start_all_by(options, true)
    }

    fn start_all_by(&self, options: &StartOptions<'_>, again: bool) -> Result<()> {
        let records = self.records_by_age()?;
        let (inits, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|one| one.container.init.is_some());
        self.check_all(inits.iter().chain(&others))?;
        self.live_table()?;
        let specs: Vec<_> = others.iter().map(|one| &one.container).collect();
        let mut order = Order::new(self, options)?;
        let missing: Vec<_> = sort(self.name(), &specs)?;
        let missing: Vec<_> = missing.into_iter().filter(|spec| !order.is_running(&spec.name)).collect();
        if missing.is_empty() && !others.is_empty() {
            return Ok(());
        }
        self.without_end(|| {
            let last_start = others.iter().filter_map(|one| one.started).max().filter(|_| !again);
            inits.iter().try_for_each(|init| order.run_init(init, last_start))?;
            order.start(missing, None)
        })
    }

    /// Whether its containers have an order.
    pub(super) fn check_order(&self) -> Result<()> {
        self.check_all(self.records_by_age()?.iter())
    }

    fn check_all<'a>(&self, records: impl Iterator<Item = &'a ContainerRecord>) -> Result<()> {
        let all: Vec<_> = records.map(|one| &one.container).collect();
        sort(self.name(), &all).map(drop)
    }

    /// Whether a new container can be after what it says.
    pub(super) fn check_after(&self, spec: &ContainerSpec) -> Result<()> {
        if spec.after.is_empty() {
            return Ok(());
        }
        let records = self.records_by_age()?;
        let specs: Vec<_> = records.iter().map(|one| &one.container).collect();
        before(self.name(), &specs, spec).map(drop)
    }

    /// Starts what a container is after, as far as it has not come to that, and what
    /// these are after; waits until all of it is so, and does this. The container
    /// itself need not be there.
    pub(super) fn start_behind<T>(
        &self,
        spec: &ContainerSpec,
        options: &StartOptions<'_>,
        start: impl FnOnce(StartedBy) -> Result<T>,
    ) -> Result<T> {
        if spec.after.is_empty() {
            return start(StartedBy::Person);
        }
        self.without_end(|| {
            self.start_before(spec, options)?;
            start(StartedBy::PersonWithOthers { since: SystemTime::now() })
        })
    }

    fn start_before(&self, spec: &ContainerSpec, options: &StartOptions<'_>) -> Result<()> {
        let records = self.records_by_age()?;
        let specs: Vec<_> = records.iter().map(|one| &one.container).collect();
        let sorted = before(self.name(), &specs, spec)?;
        let mut order = Order::new(self, options)?;
        let mut wanted = BTreeSet::new();
        order.want(spec, &sorted, &mut wanted)?;
        let missing = sorted.into_iter().filter(|one| wanted.contains(one.name.as_str())).collect();
        order.start(missing, Some(spec))
    }

    /// Its containers' records, the first made first.
    fn records_by_age(&self) -> Result<Vec<ContainerRecord>> {
        let mut records = Vec::new();
        for container in self.containers()? {
            match container.record() {
                // Removed just now.
                Err(Error::NotFound(_)) => {}
                record => records.push(record?),
            }
        }
        records.sort_by_key(|record| record.created);
        Ok(records)
    }
}

impl Container<'_> {
    /// Starts it: for the first time, or again once it has ended, in this life of
    /// its pod or an earlier one. What it is [after](ContainerSpec::after) is started
    /// before, with its output in its log, as podman does that; init containers are not
    /// run. A start that fails leaves it as it was, but for one whose hook fails, which
    /// has ended; a pod that
    /// [ends with its last container](crate::PodOptions::end_with_last) does so then,
    /// too, if the process was born.
    ///
    /// # Errors
    /// [`Error::State`] if it runs or its pod is not alive, [`Error::Exec`],
    /// [`Error::Hook`] if its [postStart hook](crate::Lifecycle::post_start) failed, or why
    /// it cannot be done here.
    pub fn start(&self, io: impl Into<Io>) -> Result<Process> {
        self.start_with(io, &StartOptions::default())
    }

    /// [`start`](Container::start), which waits so for what it is after.
    ///
    /// # Errors
    /// As that, and [`start_all`](Pod::start_all).
    pub fn start_with(&self, io: impl Into<Io>, options: &StartOptions<'_>) -> Result<Process> {
        self.now(|it| {
            let spec = it.spec()?;
            let process = it.pod.start_behind(&spec, options, |by| it.start_now(io.into(), by))?;
            it.post_start(&spec.lifecycle, &process, options.until()).map(|()| process)
        })
    }

    /// How it ended by itself in this life of the pod, if it has and does not run.
    fn end_in_this_life(&self) -> Result<Option<Exit>> {
        let record = self.record()?;
        Ok(match self.phase(&record) {
            Some(Phase::Exited(exit)) => Some(exit),
            _ => None,
        })
    }
}

/// What a container has come to.
enum Reached {
    /// What was asked for.
    Yes,
    /// Not yet: the end of this process may bring it, or another record.
    NotYet(Option<OwnedFd>),
    /// It will not.
    Never(String),
}

/// A start of several containers.
struct Order<'o> {
    pod: &'o Pod,
    options: StartOptions<'o>,
    until: Until<'o>,
    began: SystemTime,
    changes: Changes,
    /// Runs that are waited for: a container may be removed once it has ended.
    runs: BTreeMap<String, Process>,
    /// Who was said to wait.
    waits: BTreeSet<String>,
}

impl<'o> Order<'o> {
    fn new(pod: &'o Pod, options: &StartOptions<'o>) -> Result<Order<'o>> {
        let began = SystemTime::now();
        // What is being started by another command is running, or has ended, once we look.
        drop(pod.lock(LockMode::Exclusive, true)?);
        Ok(Order {
            pod,
            options: *options,
            until: options.until(),
            began,
            changes: Changes::new()?,
            runs: BTreeMap::new(),
            waits: BTreeSet::new(),
        })
    }

    fn tell(&self, progress: StartProgress<'_>) {
        if let Some(tell) = self.options.progress {
            tell(progress);
        }
    }

    fn is_running(&self, name: &str) -> bool {
        let container = self.pod.named(name);
        let phase = container.record().map(|record| container.phase(&record));
        self.pod.is_alive() && matches!(phase, Ok(Some(Phase::Running(1..))))
    }

    /// Adds what has to be started before this container.
    fn want<'a>(
        &self,
        spec: &'a ContainerSpec,
        all: &[&'a ContainerSpec],
        wanted: &mut BTreeSet<&'a str>,
    ) -> Result<()> {
        for after in &spec.after {
            let container = self.pod.named(&after.container);
            let is_done = self.is_running(&after.container)
                || after.condition == Condition::Completed
                    && container.end_in_this_life()?.is_some_and(|exit| exit.success());
            if !is_done && wanted.insert(&after.container) {
                let other = all.iter().find(|other| other.name == after.container);
                other.map_or(Ok(()), |other| self.want(other, all, wanted))?;
            }
        }
        Ok(())
    }

    /// Runs an init container to its end with 0, unless that has been done for this
    /// start. `last_start` is when another container was started last.
    fn run_init(&mut self, init: &ContainerRecord, last_start: Option<SystemTime>) -> Result<()> {
        let name = &init.container.name;
        let container = self.pod.named(name);
        let is_once = init.container.init == Some(InitContainer::Once);
        let has_done_it = |exit: Exit| {
            let is_since = |began| exit.finished.is_some_and(|finished| finished >= began);
            exit.success() && (is_once || last_start.is_none_or(is_since) || is_since(self.began))
        };
        // First: it may end at any moment.
        let runs = self.is_running(name);
        let done = match container.end_in_this_life() {
            // Another command has run it, and removed it.
            Err(Error::NotFound(_)) if is_once => return Ok(()),
            exit => !runs && exit?.is_some_and(has_done_it),
        };
        if !done {
            self.tell(StartProgress::InitRuns(name));
            match self.run_to_end(&init.container, runs) {
                Err(Error::NotFound(_)) if is_once => return Ok(()),
                ended => ended?,
            }
        }
        if is_once {
            match container.remove() {
                Err(Error::NotFound(_)) => {}
                removed => removed?,
            }
        }
        self.tell(StartProgress::InitDone(name));
        Ok(())
    }

    /// Runs an init container to its end with 0; one that `runs` already is waited for.
    fn run_to_end(&self, spec: &ContainerSpec, runs: bool) -> Result<()> {
        let container = self.pod.named(&spec.name);
        let started = if runs { None } else { self.start_one(spec)? };
        let process = match started {
            Some(process) => process,
            // Another command has started it.
            None => container.its_process()?,
        };
        let what = || format!("the end of init {}", container.object());
        self.wait_for(&[process.as_fd()], what)?;
        let exit = process.wait_timeout(PATIENCE)?;
        let exit = exit.ok_or_else(|| Error::Deadline { what: what(), after: PATIENCE })?;
        match exit.success() {
            true => Ok(()),
            false => Err(self.not_reached(format!("pod {}", self.pod.name()), &container, "init ", &exit.told())),
        }
    }

    /// Starts these, which are in an order, and waits for what another one is after.
    fn start(&mut self, missing: Vec<&ContainerSpec>, last: Option<&ContainerSpec>) -> Result<()> {
        let mut missing = missing;
        loop {
            // Watched first, and looked at then.
            self.changes.take()?;
            let (mut later, mut ends, mut waits_for) = (Vec::new(), Vec::new(), None);
            let mut has_started = false;
            for spec in missing.iter().copied().chain(last) {
                match self.look_before(spec, &later, &mut ends)? {
                    Some(after) => {
                        let what = || format!("{after}, for which {} waits,", self.pod.named(&spec.name).object());
                        waits_for.get_or_insert_with(what);
                        later.push(spec);
                    }
                    None if last.is_some_and(|last| last.name == spec.name) => return Ok(()),
                    None => {
                        if let Some(process) = self.start_one(spec)? {
                            self.runs.insert(spec.name.clone(), process);
                            self.tell(StartProgress::Started(&spec.name));
                        }
                        has_started = true;
                    }
                }
            }
            if later.is_empty() && last.is_none() {
                return Ok(());
            }
            later.retain(|spec| last.is_none_or(|last| last.name != spec.name));
            missing = later;
            if !has_started {
                let mut fds = vec![self.changes.as_fd()];
                fds.extend(ends.iter().map(AsFd::as_fd));
                self.wait_for(&fds, || waits_for.unwrap_or_default())?;
            }
        }
    }

    /// What a container still has to wait for. Those that may bring it are added to
    /// `ends`.
    fn look_before<'a>(
        &mut self,
        spec: &'a ContainerSpec,
        later: &[&ContainerSpec],
        ends: &mut Vec<OwnedFd>,
    ) -> Result<Option<&'a After>> {
        let mut waits_for = None;
        for after in &spec.after {
            let reached = match later.iter().any(|later| later.name == after.container) {
                true => Reached::NotYet(None),
                false => self.look_at(after)?,
            };
            match reached {
                Reached::Yes => continue,
                Reached::NotYet(process) => ends.extend(process),
                Reached::Never(how) => {
                    let other = self.pod.named(&after.container);
                    return Err(self.not_reached(self.pod.named(&spec.name).object(), &other, "", &how));
                }
            }
            if self.waits.insert(format!("{} {after}", spec.name)) {
                self.tell(StartProgress::Waits(&spec.name, after));
            }
            waits_for = Some(after);
        }
        Ok(waits_for)
    }

    /// What a container has come to that this start does not start any more.
    fn look_at(&mut self, after: &After) -> Result<Reached> {
        match after.condition {
            // Its start has returned.
            Condition::Started => Ok(Reached::Yes),
            Condition::Completed => self.has_completed(&after.container),
            Condition::Healthy => self.is_healthy(&after.container),
        }
    }

    /// Has its changes wake the start, before it is looked at. Whether it is there.
    fn watch(&mut self, container: &Container<'_>) -> Result<bool> {
        self.changes.watch(&container.dir(), Mask::IN_MOVED_TO | Mask::IN_DELETE_SELF | Mask::IN_ONLYDIR)?;
        // A launch under way is waited for.
        match container.forget_unborn() {
            Err(Error::NotFound(_)) => Ok(false),
            forgotten => forgotten.map(|_| true),
        }
    }

    /// By what whoever supervises the pod has found out and written down.
    fn is_healthy(&mut self, name: &str) -> Result<Reached> {
        let container = self.pod.named(name);
        if !self.watch(&container)? {
            return Ok(Reached::Never("was removed".into()));
        }
        let record = container.record()?;
        // One that ends it may do well when it has been started again, and one that is
        // not ready may be.
        let liveness = record.container.health.liveness.as_ref();
        let stays = liveness.is_some_and(|check| check.on_unhealthy == OnUnhealthy::Nothing);
        let fails = |known: HealthRecord| {
            known.checks.get(&CheckKind::Liveness).is_some_and(|state| state.verdict == Health::Unhealthy)
        };
        Ok(match container.health()? {
            Some(Health::Healthy) => Reached::Yes,
            Some(Health::Unhealthy) if stays && container.health_record()?.is_some_and(fails) => {
                Reached::Never("is unhealthy: `podlet inspect` shows what its last check has found".into())
            }
            Some(_) => {
                let process = container.its_process()?;
                Reached::NotYet(Some(process.as_fd().try_clone_to_owned().doing(|| "copying a pidfd".into())?))
            }
            None if container.is_restarted(&record) => Reached::NotYet(None),
            None => Reached::Never("does not run any more".into()),
        })
    }

    fn has_completed(&mut self, name: &str) -> Result<Reached> {
        let container = self.pod.named(name);
        if self.runs.get(name).and_then(|run| run.try_wait().ok()).flatten().is_some_and(|exit| exit.success()) {
            return Ok(Reached::Yes);
        }
        if !self.watch(&container)? {
            return Ok(Reached::Never("was removed".into()));
        }
        let record = container.record()?;
        let exit = match self.pod.table.as_ref().zip(record.reservation).map(|(table, of)| table.phase(of)) {
            Some(Phase::Running(_)) => {
                let process = container.its_process()?;
                let pidfd = process.as_fd().try_clone_to_owned().doing(|| "copying a pidfd".into())?;
                let exit = if syscalls::has_ended(&pidfd) { process.wait_timeout(PATIENCE)? } else { None };
                self.runs.insert(name.into(), process);
                match exit {
                    Some(exit) => Some(exit),
                    None => return Ok(Reached::NotYet(Some(pidfd))),
                }
            }
            Some(Phase::Exited(exit)) => Some(exit),
            _ => None,
        };
        Ok(match exit {
            Some(exit) if exit.success() => Reached::Yes,
            Some(_) if container.is_restarted(&record) => Reached::NotYet(None),
            Some(exit) => Reached::Never(exit.told()),
            None => Reached::Never("does not run any more".into()),
        })
    }

    /// Waits until one of these can be read, or the pod has ended.
    fn wait_for(&self, fds: &[BorrowedFd<'_>], what: impl FnOnce() -> String) -> Result<()> {
        let mut all = fds.to_vec();
        all.extend(self.pod.pidfd());
        let count = all.len();
        all.extend(self.until.cancel);
        match syscalls::wait_any(&all, self.until.left()).doing(|| "waiting for containers".into())? {
            None => Err(Error::Deadline { what: what(), after: self.options.timeout.unwrap_or_default() }),
            Some(ready) if ready == count => Err(Error::GivenUp { what: what() }),
            Some(_) => self.pod.live_table().map(drop),
        }
    }

    /// Starts a container, with its hook; `None` if another command has done so.
    fn start_one(&self, spec: &ContainerSpec) -> Result<Option<Process>> {
        let container = self.pod.named(&spec.name);
        if self.is_started_by_another(&container)? {
            return Ok(None);
        }
        let by = StartedBy::PersonWithOthers { since: self.began };
        match container.start_now(Io::log().into(), by) {
            Err(Error::State { .. }) if self.is_started_by_another(&container)? => Ok(None),
            started => {
                let process = started?;
                container.post_start(&spec.lifecycle, &process, self.until)?;
                Ok(Some(process))
            }
        }
    }

    /// Whether it runs, or has run since this start began.
    fn is_started_by_another(&self, container: &Container<'_>) -> Result<bool> {
        let record = container.record()?;
        Ok(match container.phase(&record) {
            Some(Phase::Running(1..)) => self.pod.is_alive(),
            Some(Phase::Exited(_)) => record.started.is_some_and(|started| started >= self.began),
            _ => false,
        })
    }

    fn not_reached(&self, object: String, other: &Container<'_>, kind: &str, how: &str) -> Error {
        let target = format!("{}/{}", self.pod.name(), other.name());
        let reason = format!("{kind}container {target} {how}; `podlet logs {target}` shows what it wrote");
        Error::NotReached { object, reason }
    }
}
