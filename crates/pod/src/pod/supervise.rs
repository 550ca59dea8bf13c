//! Who restarts containers and checks how they do: one process for a pod of which a
//! container has a [restart policy](crate::spec::RestartPolicy) or
//! [checks](crate::spec::HealthChecks), and none for others.
//!
//! ```text
//!   supervisor.lock   a container has either: made by its start, while that has
//!                     the pod's lock; the supervisor keeps it locked while it lives
//!   supervisor.json   which process that is, written before it begins
//! ```
//!
//! It waits for the ends of such containers (pidfds), for changes of the records
//! (inotify), for the time of the next start or check, and for what checks have found
//! out (`super::health`), and keeps no lock of the pod's meanwhile. All that it knows stands in the containers' records, so it may be
//! killed at any moment: who is started in its place decides the same. Once no
//! container can be restarted, and none runs that has checks, it removes the two files, while no command starts
//! one, and ends.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::Pod;
use super::container::Container;
use super::health::Checker;
use super::start::StartedBy;
use crate::cgroup;
use crate::cgroup::pod_tree::PodCgroup;
use crate::error::{Context, Error, Result, in_full};
use crate::kernel::changes::{Change, Changes, Mask};
use crate::kernel::procfs::{self, ProcessId};
use crate::kernel::{PATIENCE, files, record_file, syscalls};
use crate::launch::stdio::Io;
use crate::launch::supervisor::{self, SupervisorRequest};
use crate::store::exits::Phase;
use crate::store::lock::LockMode;
use crate::store::records::{CONTAINERS, ContainerRecord, HEALTH, SUPERVISED, SUPERVISOR, SupervisorRecord};
use crate::store::restarts::{FailedStart, Restarts};

/// What no event tells of is looked at again, first after this time.
const FIRST_NAP: Duration = Duration::from_millis(1);
/// And at last every so often.
const LONGEST_NAP: Duration = Duration::from_millis(500);
/// The clock may be set while it is waited for a time of day.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What became of a pod's need for a supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Tended {
    /// It needs none, or has one.
    AsItWas,
    /// It has its first one now.
    Started,
    /// The one before was killed; it has another one now.
    Replaced,
}

/// What a supervisor waits for because of a container.
enum Need {
    /// Nothing: it is not to be restarted.
    Nothing,
    /// The end of this process.
    End(OwnedFd),
    /// The time of its next start.
    Start(SystemTime),
    /// What nothing tells of.
    Soon,
}

/// What a supervisor waits for.
#[derive(Default)]
struct Needs {
    ends: Vec<OwnedFd>,
    start: Option<SystemTime>,
    soon: bool,
}

impl Needs {
    fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.start.is_none() && !self.soon
    }
}

impl Pod {
    /// Restarts this pod's containers by their [policies](crate::spec::RestartPolicy),
    /// with their output in their logs, performs their
    /// [checks](crate::spec::HealthChecks), and ends those whose
    /// [time](crate::ContainerSpec::time_limit) is over, until none of them needs it any
    /// more or the pod ends. A restart waits for no other container. Returns at once if
    /// nothing is to be done already, or another process does it.
    ///
    /// It waits in this thread, and has others for checks while these are performed;
    /// they have ended when it returns. Nothing of it is lost if it is killed: the next one goes
    /// on. [`start_supervisor`](Pod::start_supervisor) gives it a process of its own.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot begin. What goes wrong later is tried again; a start
    /// that fails is told by [`ContainerStatus::restart_error`](crate::ContainerStatus::restart_error).
    pub fn supervise(&self) -> Result<()> {
        let Some(guard) = self.become_supervisor()? else { return Ok(()) };
        let supervised = std::thread::scope(|scope| self.supervise_with(Checker::new(scope)?));
        drop(guard);
        supervised
    }

    fn supervise_with<'pod>(&'pod self, mut checker: Checker<'_, 'pod>) -> Result<()> {
        let changes = Changes::new()?;
        let (mut nap, mut needs, mut has_changed) = (FIRST_NAP, Needs::default(), true);
        while self.is_alive() {
            let soon = || Needs { soon: true, ..Needs::default() };
            if has_changed {
                needs = match self.look_after_containers(&changes, &mut checker) {
                    Ok(needs) if needs.is_empty() => match self.end_supervision() {
                        Ok(true) => break,
                        // A command has started one meanwhile.
                        Ok(false) => continue,
                        Err(_) => soon(),
                    },
                    Ok(needs) => needs,
                    // It lacks descriptors, or memory.
                    Err(_) => soon(),
                };
            }
            // What cannot be written now can be later.
            needs.soon |= checker.perform(|name| self.named(name)).is_err();
            nap = if needs.soon { (nap * 2).min(LONGEST_NAP) } else { FIRST_NAP };
            has_changed = self.wait_for(&needs, &changes, &checker, nap).unwrap_or_else(|_| {
                std::thread::sleep(nap);
                true
            });
        }
        Ok(())
    }

    /// Starts a program that is to [supervise](Pod::supervise) this pod, if that has
    /// a container with a policy or checks and no supervisor that lives; `args` begin with the
    /// program's name. It is a process of its own session, with this one's environment
    /// and nothing but `/dev/null` open, in the cgroup of the pod's pause, and ends with
    /// the pod at the latest.
    ///
    /// # Errors
    /// [`Error::Os`], and what else a start may fail with.
    pub fn start_supervisor(&self, program: &File, args: &[String]) -> Result<Tended> {
        self.supervise_by(program, args, true)
    }

    /// [`start_supervisor`](Pod::start_supervisor), but it does not wait for another
    /// command that is at this pod: it does so itself, or the next one does.
    ///
    /// # Errors
    /// As that.
    pub fn tend_supervisor(&self, program: &File, args: &[String]) -> Result<Tended> {
        self.supervise_by(program, args, false)
    }

    /// Whether a container of this pod, which lives, is to be restarted or checked by
    /// a supervisor, and none lives.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Os`].
    pub fn lacks_supervisor(&self) -> Result<bool> {
        Ok(self.is_supervised() && self.is_alive() && self.live_supervisor()?.is_none())
    }

    fn supervise_by(&self, program: &File, args: &[String], wait: bool) -> Result<Tended> {
        if !self.lacks_supervisor()? {
            return Ok(Tended::AsItWas);
        }
        let Some(_lock) = self.lock(LockMode::Exclusive, wait)? else { return Ok(Tended::AsItWas) };
        // Another one may have been faster.
        if !self.lacks_supervisor()? {
            return Ok(Tended::AsItWas);
        }
        let was_there = files::is_there(&self.dir.join(SUPERVISOR));
        let object = format!("the supervisor of pod {}", self.name());
        let cgroup = self.cgroup().map(|cgroup| cgroup.pause());
        let cgroup = cgroup.map(|dir| self.way_to(cgroup::open_birthplace(&dir), &dir)).transpose()?;
        supervisor::start(&SupervisorRequest {
            object: &object,
            program: program.as_fd(),
            argv: args,
            cgroup: cgroup.as_ref(),
            note: &|pid| {
                let process = ProcessId::of(pid)?.ok_or_else(|| Error::Died { object: object.clone() })?;
                record_file::write_record(&self.dir.join(SUPERVISOR), &SupervisorRecord { process })
            },
            program_dirs: self.store.program_dirs(),
        })?;
        Ok(if was_there { Tended::Replaced } else { Tended::Started })
    }

    /// Whether a container of it may be restarted, or is checked.
    pub(super) fn is_supervised(&self) -> bool {
        files::is_there(&self.dir.join(SUPERVISED))
    }

    /// Whether pause is to end with the last container, as far as is known now. Where
    /// there is a supervisor that says when.
    pub(super) fn ends_with_last(&self) -> bool {
        self.options().end_with_last && !self.is_supervised()
    }

    /// Before a container is started that needs one; the caller has the lock. pause must
    /// not follow it while it may be restarted.
    pub(super) fn expect_supervisor(&self) -> Result<()> {
        let path = self.dir.join(SUPERVISED);
        match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => drop(made.doing(|| format!("making {}", path.display()))?),
        }
        if let Some(table) = &self.table {
            table.set_end_with_last(false);
        }
        Ok(())
    }

    fn live_supervisor(&self) -> Result<Option<ProcessId>> {
        let record: Option<SupervisorRecord> = match record_file::read_record(&self.dir.join(SUPERVISOR)) {
            // What cannot be read leads to nobody.
            Err(Error::Corrupt { .. }) => None,
            record => record?,
        };
        let Some(SupervisorRecord { process }) = record else { return Ok(None) };
        Ok(procfs::lives(process)?.then_some(process))
    }

    /// What is locked as long as it lives; `None` if there is nothing to be done, or
    /// another process does it.
    fn become_supervisor(&self) -> Result<Option<File>> {
        let Some(_lock) = self.lock(LockMode::Exclusive, true)? else { return Ok(None) };
        let own = std::process::id();
        if !self.is_alive() || self.live_supervisor()?.is_some_and(|other| other.pid != own) {
            return Ok(None);
        }
        let path = self.dir.join(SUPERVISED);
        let context = || format!("locking {}", path.display());
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let guard = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            guard => guard.doing(context)?,
        };
        match syscalls::lock(&guard, true, false) {
            Err(Errno::EAGAIN) => return Ok(None),
            locked => locked.doing(context)?,
        }
        let process = ProcessId::of(own)?.ok_or_else(|| Error::Died { object: "this process".into() })?;
        record_file::write_record(&self.dir.join(SUPERVISOR), &SupervisorRecord { process })?;
        self.live_table()?.set_end_with_last(false);
        Ok(Some(guard))
    }

    /// Starts what is due, and has what runs be checked. What is to be waited for then.
    fn look_after_containers(&self, changes: &Changes, checker: &mut Checker<'_, '_>) -> Result<Needs> {
        // Watched first, and looked at then.
        changes.take()?;
        let list = self.dir.join(CONTAINERS);
        changes.watch(&list, Mask::IN_CREATE | Mask::IN_DELETE | Mask::IN_MOVED_FROM | Mask::IN_ONLYDIR)?;
        let mut needs = Needs::default();
        let names = files::names_in(&list)?;
        checker.keep_only(&names);
        for name in names {
            let container = self.named(&name);
            changes.watch(&container.dir(), Mask::IN_MOVED_TO | Mask::IN_ONLYDIR)?;
            let need = container.look_after();
            match checker.watch(&container) {
                Ok(()) | Err(Error::NotFound(_) | Error::Corrupt { .. } | Error::Newer { .. }) => {}
                Err(_) => needs.soon = true,
            }
            match need {
                Ok(Need::Nothing) => {}
                Ok(Need::End(process)) => needs.ends.push(process),
                Ok(Need::Start(time)) => needs.start = Some(needs.start.map_or(time, |other| other.min(time))),
                Ok(Need::Soon) => needs.soon = true,
                // Removed just now; or damaged, and then nobody can start it.
                Err(Error::NotFound(_) | Error::Corrupt { .. } | Error::Newer { .. }) => {}
                Err(error) => return Err(error),
            }
            if let Some((process, end)) = container.keep_time()? {
                needs.ends.push(process);
                needs.start = Some(needs.start.map_or(end, |other| other.min(end)));
            }
        }
        Ok(needs)
    }

    /// Whether containers are to be looked at then, and not their checks alone.
    fn wait_for(&self, needs: &Needs, changes: &Changes, checker: &Checker<'_, '_>, nap: Duration) -> Result<bool> {
        let mut fds = vec![checker.as_fd(), changes.as_fd()];
        fds.extend(self.pidfd());
        fds.extend(needs.ends.iter().map(AsFd::as_fd));
        let until_start = |time: SystemTime| {
            // Not before: a timeout is of whole milliseconds.
            let left = time.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(1);
            left.min(LONGEST_WAIT)
        };
        let times = [needs.start.map(until_start), checker.next_due(), needs.soon.then_some(nap)];
        let ready = syscalls::wait_any(&fds, times.into_iter().flatten().min());
        Ok(match ready.doing(|| "waiting for containers".into())? {
            Some(0) => false,
            Some(1) => changes.take()?.iter().any(|change| !is_checkers(change)),
            Some(_) => true,
            None => needs.soon || needs.start.is_some_and(|start| start <= SystemTime::now()),
        })
    }

    /// Once nothing is to be waited for. False if something is after all.
    fn end_supervision(&self) -> Result<bool> {
        // Gone, and another of its name is nothing to us.
        let Some(_lock) = self.lock(LockMode::Exclusive, true)? else { return Ok(true) };
        for container in self.containers()? {
            match container.need() {
                Ok(Need::Nothing) if container.keep_time()?.is_some() => return Ok(false),
                Ok(Need::Nothing) | Err(Error::NotFound(_) | Error::Corrupt { .. } | Error::Newer { .. }) => {}
                Ok(_) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        for file in [SUPERVISOR, SUPERVISED] {
            files::remove_file(&self.dir.join(file))?;
        }
        let table = self.live_table()?;
        table.set_end_with_last(self.options().end_with_last);
        if self.options().end_with_last
            && !table.has_containers()
            && let Some(pause) = self.pidfd()
        {
            // The last one ended while pause was not to look. The next command removes
            // the cgroup, which we may be in.
            syscalls::pidfd_signal(pause, libc::SIGKILL).ok();
        }
        Ok(true)
    }

    /// Of a pod that has ended: its supervisor has nothing to do any more, and would in
    /// a new life of the pod look after the one before.
    pub(super) fn end_supervisor(&self) -> Result<()> {
        if !self.is_supervised() {
            return Ok(());
        }
        let other = self.live_supervisor()?.filter(|process| process.pid != std::process::id());
        if let Some(pidfd) = other.map(|process| process.open()).transpose()?.flatten() {
            // Gone already is as good.
            syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            let context = || format!("waiting for the supervisor of pod {}", self.name());
            syscalls::wait_readable(&pidfd, Some(PATIENCE)).doing(context)?;
        }
        files::remove_file(&self.dir.join(SUPERVISOR))
    }
}

impl Container<'_> {
    /// Changes what is written down of restarts, if it has a supervisor.
    pub(super) fn change_restarts(&self, change: impl FnOnce(Restarts) -> Restarts) -> Result<()> {
        if !self.record()?.container.needs_supervisor() {
            return Ok(());
        }
        // While a supervisor starts it that has the lock.
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        let record = self.record()?;
        let restarts = change(record.restarts);
        self.write(&ContainerRecord { restarts, ..record })
    }

    /// Starts it if it is due, and says what to wait for.
    fn look_after(&self) -> Result<Need> {
        let record = self.record()?;
        if record.needs_supervisor() && matches!(self.phase(&record), Some(Phase::Reserved | Phase::Running(0))) {
            // It is being started, or who did was killed: the lock is free then.
            drop(self.pod.lock(LockMode::Exclusive, true)?);
        }
        let need = self.need()?;
        let Need::Start(time) = need else { return Ok(need) };
        if time > SystemTime::now() {
            return Ok(need);
        }
        let is_frozen = |cgroup: PodCgroup| cgroup::is_frozen(&cgroup.containers());
        if self.pod.cgroup().map(is_frozen).transpose()?.unwrap_or(false) {
            // Nothing can be started in a pod that is paused.
            return Ok(Need::Soon);
        }
        match self.start_now(Io::log().into(), StartedBy::Policy) {
            Ok(process) => self.post_start_beside(&record.container.lifecycle, process)?,
            Err(error) => self.note_failure(&error)?,
        }
        self.need()
    }

    /// Writes down that a start by the policy has failed, if it is to be tried again.
    fn note_failure(&self, error: &Error) -> Result<()> {
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        let record = self.record()?;
        // None if another command has started it.
        let Some(run) = record.ended(self.phase(&record)) else { return Ok(()) };
        let (rule, now) = (record.rule(), SystemTime::now());
        if record.restarts.due(rule, run).is_none_or(|due| due > now) {
            return Ok(());
        }
        let failed = FailedStart { time: now, error: in_full(error).to_string() };
        let restarts = record.restarts.after_failure(rule, run, failed);
        self.write(&ContainerRecord { restarts, ..record })
    }

    /// What is to be waited for, while it is not being started.
    fn need(&self) -> Result<Need> {
        let record = self.record()?;
        if !record.needs_supervisor() {
            return Ok(Need::Nothing);
        }
        let phase = self.phase(&record);
        if let Some((reservation, table)) = record.reservation.zip(self.pod.table.as_ref())
            && matches!(phase, Some(Phase::Running(1..)))
        {
            let process = self.find_process(reservation, table)?.filter(|found| found.process.pid != 0);
            let process = process.map(|found| found.process.open()).transpose()?.flatten();
            return Ok(match process {
                Some(process) if !syscalls::has_ended(&process) => Need::End(process),
                // pause is about to write down how.
                _ => Need::Soon,
            });
        }
        if let Some(process) = record.restarts.held_by.map(|holder| holder.open()).transpose()?.flatten()
            && !syscalls::has_ended(&process)
        {
            // It starts it itself.
            return Ok(Need::End(process));
        }
        let due = record.ended(phase).and_then(|run| record.restarts.due(record.rule(), run));
        Ok(due.map_or(Need::Nothing, Need::Start))
    }

    /// Whether its policy has it started again, now that it has ended.
    pub(super) fn is_restarted(&self, record: &ContainerRecord) -> bool {
        record.ended(self.phase(record)).is_some_and(|run| record.restarts.due(record.rule(), run).is_some())
    }

    pub(super) fn phase(&self, record: &ContainerRecord) -> Option<Phase> {
        record.reservation.zip(self.pod.table.as_ref()).map(|(reservation, table)| table.phase(reservation))
    }
}

/// Whether it is only that a checker has written down what it found.
fn is_checkers(change: &Change) -> bool {
    matches!(change, Change::At(_, mask, Some(name)) if mask.contains(Mask::IN_MOVED_TO) && name == HEALTH)
}
