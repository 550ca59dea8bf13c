//! Starting containers.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Pod;
use super::attached::Attached;
use super::container::Container;
use super::process::Process;
use crate::cgroup::{self, apply, doubled, oom};
use crate::error::{Context, Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::ProcessId;
use crate::kernel::{files, idmap, netlink, record_file, syscalls};
use crate::launch::run_plan::{LaunchRequest, Launched, run_plan, seal};
use crate::launch::stdio::{self, Io, PipeEnds, Reopening};
use crate::lookup::prepared::Prepared;
use crate::plan::{Given, Plan};
use crate::resources::Resources;
use crate::spec::users::Ids;
use crate::spec::{ContainerSpec, NamespaceMode};
use crate::store::exits::{ExitTable, Phase, Reservation};
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{ContainerRecord, OOM, PROCESS, PreviousRun, ProcessRecord};
use crate::store::restarts::{EndedRun, Restarts};

/// Who starts a container again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StartedBy {
    /// Somebody who asks for it: it is restarted as a new one then.
    Person,
    /// The same, together with others: the pod is not to end before these are started.
    /// What another command has started since is not started once more.
    PersonWithOthers { since: SystemTime },
    /// A supervisor, because its policy says so.
    Policy,
}

impl Container<'_> {
    /// The start of this one alone, without its hook.
    pub(super) fn start_now(&self, io: Io, by: StartedBy) -> Result<Process> {
        let object = self.object();
        // To ourselves, so that of two commands that start it one finds it running.
        let gone = || Error::NotFound(format!("pod {:?}", self.pod.name()));
        let lock = self.pod.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.record()?;
        let prepared = self.pod.prepare(&record.container)?;
        self.pod.check_limits(&record.container)?;
        let io = io.of(&record.container);
        io.check_for(&record.container)?;
        let exit = self.its_exit()?;
        let table = self.pod.live_table()?;
        self.pod.release_unborn();
        let running = || Error::state(&object, "is running");
        let restarts = self.restarts_by(&record, by)?;
        if record.container.needs_supervisor() && exit.is_some() {
            // Its entry says so no more once it is reserved, and what is to be restarted
            // must not be forgotten if we are killed before the next record is written.
            self.write(&ContainerRecord { exit, ..record.clone() })?;
        }
        let phase = record.reservation.map(|old| (old, table.phase(old)));
        if let (StartedBy::PersonWithOthers { since }, Some((_, Phase::Exited(_)))) = (by, phase)
            && record.started.is_some_and(|started| started >= since)
        {
            return Err(Error::state(&object, "has been started by another command, and has ended"));
        }
        let reservation = match phase {
            Some((_, Phase::Running(_) | Phase::Reserved)) => return Err(running()),
            Some((old, Phase::Exited(_))) => {
                // Whatever was left behind by its main process goes first.
                self.kill_all()?;
                table.reserve_again(old).ok_or_else(running)?
            }
            Some((_, Phase::Lost)) | None => self.pod.reserve(table, false)?,
        };
        self.let_go_of_streams()?;
        if record.container.needs_supervisor() {
            self.pod.expect_supervisor()?;
        }
        if !matches!(by, StartedBy::PersonWithOthers { .. }) {
            // A restart that was killed may have left it otherwise.
            table.set_end_with_last(self.pod.ends_with_last());
        }
        let previous = record.started.zip(exit).map(|(started, exit)| PreviousRun { started, exit });
        // After a launch that was killed it is still the run before that.
        let previous = previous.or(record.previous);
        let next = ContainerRecord {
            reservation: Some(reservation),
            exit: None,
            previous,
            restarts,
            failed_hook: None,
            ..record.clone()
        };
        self.start_prepared(&prepared, next, reservation, io, &lock).map_err(|error| {
            let error = self.pod.explain(&object, error);
            // How it ended before is still what is known of it.
            self.write(&ContainerRecord { reservation: None, exit, ..record }).ok();
            self.pod.end_if_it_is_ending();
            error
        })
    }

    /// What is known of restarts once it is started.
    fn restarts_by(&self, record: &ContainerRecord, by: StartedBy) -> Result<Restarts> {
        if by != StartedBy::Policy {
            return Ok(Restarts::default());
        }
        let phase = record.reservation.zip(self.pod.table.as_ref()).map(|(old, table)| table.phase(old));
        let is_due = |run: &EndedRun| {
            let due = record.restarts.due(record.rule(), *run);
            due.is_some_and(|due| due <= SystemTime::now())
        };
        match record.ended(phase).filter(is_due) {
            Some(run) => Ok(record.restarts.after(record.rule(), run)),
            // Another command has started or stopped it.
            None => Err(Error::state(self.object(), "is not to be restarted now")),
        }
    }

    /// The part of a start that makes things.
    pub(crate) fn start_prepared(
        &self,
        prepared: &Prepared,
        record: ContainerRecord,
        reservation: Reservation,
        io: Io,
        lock: &Lock,
    ) -> Result<Process> {
        let pod = self.pod;
        let table = pod.live_table()?;
        let net_devices = record.container.net_devices.clone();
        let keeps_terminal = matches!(io, Io::KeptTerminal(_));
        let dir = self.dir();
        let result = (|| {
            let started = Some(SystemTime::now());
            for file in [PROCESS, OOM] {
                files::remove_file(&dir.join(file))?;
            }
            let pod_ooms = pod.cgroup().map_or(0, |cgroup| oom::ooms(cgroup.path()));
            let doubled = pod.doubles_limits(&record.container);
            let record = ContainerRecord { started, pod_ooms, doubled, ..record };
            self.write(&record)?;
            // Of two that are started at once one at least sees the other.
            pod.check_mates(&record.container)?;
            pod.check_upper(&record.container)?;
            prepared.make_dirs()?;
            let plan = prepared.plan(pod.shape().isolation(), &pod.facts, reservation.entry, io.terminal_options());
            let reopening = Reopening::ByMode(pod.on_machine(prepared.ids()));
            let mut log = self.new_log(&record.container.log, reservation);
            let (streams, pipes) = stdio::open(io, &mut log.end(), reopening)?;
            self.begin_log(&log, &record.container.log)?;
            drop(log);
            let title = stdio::title("launch", pod.name(), &self.name);
            let cgroup = self.cgroup();
            if let Some(cgroup) = &cgroup {
                cgroup::renew(cgroup)?;
                doubled::limit(cgroup, doubled, &pod.limits_of(&record.container))?;
            }
            let birthplace = cgroup.map(|cgroup| doubled::birthplace(&cgroup, doubled));
            let outside = prepared.make_outside(&pod.record.users, pod.store.program_dirs())?;
            let object = self.object();
            let launch =
                || pod.run_plan_inside(&object, &plan, &title, streams, outside, None, birthplace.as_deref(), lock);
            let mut born = pod.with_devices(&net_devices, launch)?;
            let keep = || self.keep_terminal(&mut born, reservation, &record.container.log);
            let attached = keeps_terminal.then(keep).transpose()?.map(|copier| Attached::new(copier, true));
            Ok((born, attached, pipes, self.oom_watch(&record)))
        })();
        match result {
            Ok((born, attached, PipeEnds { stdin, stdout, stderr }, oom)) => {
                // It runs; without this record other commands find it, too.
                self.write_process(&born).ok();
                let (name, table, exec, whole) = (self.name.clone(), Arc::clone(table), false, None);
                let Launched { pidfd, terminal, .. } = born;
                Ok(Process {
                    stdin,
                    stdout,
                    stderr,
                    terminal,
                    attached,
                    name,
                    table,
                    reservation,
                    pidfd,
                    exec,
                    oom,
                    whole,
                })
            }
            Err(error) => {
                // C, if it was born nevertheless, ends with all that it has started.
                if let Some(cgroup) = self.cgroup() {
                    cgroup::remove_tree(&cgroup).ok();
                }
                table.release_failed(reservation);
                Err(error)
            }
        }
    }

    fn write_process(&self, born: &Launched) -> Result<()> {
        let pid = syscalls::pid_of(born.pidfd.as_fd()).doing(|| "looking for its pid".into())?;
        // A process that has ended already has no pid any more; what it left behind
        // still has its mount namespace.
        let gone = ProcessId { pid: 0, start: 0 };
        let process = pid.map(ProcessId::of).transpose()?.flatten().unwrap_or(gone);
        record_file::write_record(&self.dir().join(PROCESS), &ProcessRecord { process, mounts: born.mounts })
    }

    /// Frees the entry of a launch whose podlet was killed: it is reserved for a
    /// process that was never born. While we have the pod to ourselves no launch is
    /// in flight.
    pub(crate) fn forget_unborn(&self) -> Result<()> {
        let unborn = |record: &ContainerRecord| {
            let (reservation, table) = record.reservation.zip(self.pod.table.as_ref())?;
            matches!(table.phase(reservation), Phase::Reserved | Phase::Running(0)).then_some((reservation, table))
        };
        if unborn(&self.record()?).is_none() {
            return Ok(());
        }
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        // Another command may have been faster.
        let record = self.record()?;
        if unborn(&record).is_none() {
            return Ok(());
        }
        self.pod.release_unborn();
        self.write(&ContainerRecord { reservation: None, ..record })
    }
}

impl Pod {
    /// Slots of launches whose podlet was killed; the caller has the pod to
    /// itself.
    pub(crate) fn release_unborn(&self) {
        if let Some(table) = &self.table {
            table.release_unborn();
        }
    }

    /// An entry of the exit table for a new process.
    pub(crate) fn reserve(&self, table: &ExitTable, exec: bool) -> Result<Reservation> {
        table.reserve(exec).ok_or_else(|| Error::TableFull(self.name().into()))
    }

    /// The plan by which [`run`](Pod::run) would start this container with these
    /// standard streams.
    ///
    /// # Errors
    /// As `run`, for everything that is found before something is made.
    pub fn plan_container(&self, container: &ContainerSpec, io: &Io) -> Result<Plan> {
        Ok(self.prepare(container)?.plan(self.shape().isolation(), &self.facts, 0, io.terminal_of(container)))
    }

    pub(crate) fn prepare(&self, container: &ContainerSpec) -> Result<Prepared> {
        let dir = self.named(&container.name).dir();
        Prepared::in_pod(container, &self.shape(), &self.facts, &self.store.hidden(), &dir)
    }

    /// What a container's cgroup is limited to. Where memory is limited, its
    /// own or the pod's, lack of it ends the container as a whole: half of one
    /// would be neither alive nor restarted.
    pub(crate) fn limits_of(&self, container: &ContainerSpec) -> Resources {
        let resources = container.resources.clone();
        match resources.limits_memory() || self.options().resources.limits_memory() {
            true => resources.ending_as_a_whole(),
            false => resources,
        }
    }

    /// Whether a container could lift its limits if they stood but once.
    pub(crate) fn doubles_limits(&self, container: &ContainerSpec) -> bool {
        let own_cgroup =
            container.cgroup != NamespaceMode::Host && !container.shares(Namespace::Cgroup, self.options());
        own_cgroup && self.record.cgroup.is_some() && container.may_mount() && !doubled::is_delegated()
    }

    /// Whether its limits can be set here, before anything is made.
    pub(crate) fn check_limits(&self, container: &ContainerSpec) -> Result<()> {
        let cgroup = self.named(&container.name).cgroup();
        apply::check_reachable(&self.limits_of(container), &self.facts, cgroup.as_deref())
    }

    /// Launches with these interfaces in the pod's network namespace; if that
    /// fails they go back to where they were.
    pub(crate) fn with_devices(
        &self,
        devices: &BTreeMap<String, String>,
        launch: impl FnOnce() -> Result<Launched>,
    ) -> Result<Launched> {
        if devices.is_empty() {
            return launch();
        }
        let open = |path: String| fs::File::open(&path).doing(|| format!("opening {path}"));
        let here = open("/proc/thread-self/ns/net".into())?;
        let there = open(format!("/proc/{}/ns/net", self.pause.map_or(0, |pause| pause.pid)))?;
        let moved = netlink::transfer(devices, here.as_fd(), there.as_fd())?;
        launch().inspect_err(|_| netlink::give_back(&moved, here.as_fd(), there.as_fd()))
    }

    /// What a container's user is on this machine.
    pub(crate) fn on_machine(&self, ids: &Ids) -> u32 {
        idmap::on_machine(ids.uid, self.record.users.uids())
    }

    /// Executes a plan that ends in this pod, in this cgroup.
    #[allow(clippy::too_many_arguments)] // Each is one thing, used once.
    pub(crate) fn run_plan_inside(
        &self,
        object: &str,
        plan: &Plan,
        title: &CString,
        streams: [OwnedFd; 3],
        outside: Vec<(Given, OwnedFd)>,
        target: Option<&OwnedFd>,
        cgroup: Option<&Path>,
        lock: &Lock,
    ) -> Result<Launched> {
        let [stdin, stdout, stderr] = streams;
        let table = self.live_table()?;
        let pause = table.pause.as_ref().ok_or_else(|| self.dead())?;
        let open = if target.is_some() { cgroup::open_beside } else { cgroup::open_birthplace };
        let cgroup = cgroup.map(|dir| self.way_to(open(dir), dir)).transpose()?;
        let mut fds = vec![
            (Given::Stdin, stdin.as_fd()),
            (Given::Stdout, stdout.as_fd()),
            (Given::Stderr, stderr.as_fd()),
            (Given::Lock, lock.file.as_fd()),
            (Given::Table, table.file.as_fd()),
            (Given::Pause, pause.as_fd()),
        ];
        if let Some(target) = target {
            fds.push((Given::Container, target.as_fd()));
        }
        let namespace = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", self.pause.map_or(0, |pause| pause.pid));
            fs::File::open(&path).doing(|| format!("opening {path}"))
        };
        let mounts = plan.wants(Given::PauseMounts).then(|| namespace("mnt")).transpose()?;
        let userns = plan.wants(Given::PauseUsers).then(|| namespace("user")).transpose()?;
        let pids = Given::Namespace(Namespace::Pid);
        let pidns = plan.wants(pids).then(|| self.pid_namespace(target)).transpose()?;
        fds.extend(mounts.iter().map(|file| (Given::PauseMounts, file.as_fd())));
        fds.extend(userns.iter().map(|file| (Given::PauseUsers, file.as_fd())));
        fds.extend(pidns.iter().map(|file| (pids, file.as_fd())));
        let request = LaunchRequest {
            object,
            title,
            sealed: seal(plan)?,
            fds: &fds,
            handed_over: outside,
            cgroup: cgroup.as_ref(),
            note: None,
            answer: &|_| Ok(()),
            program_dirs: self.store.program_dirs(),
            cancel: None,
        };
        run_plan(plan, request)
    }

    pub(crate) fn lock_for_launch(&self) -> Result<Lock> {
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        self.lock(LockMode::Shared, true)?.ok_or_else(gone)
    }

    pub(crate) fn live_table(&self) -> Result<&Arc<ExitTable>> {
        self.table.as_ref().filter(|table| table.is_alive()).ok_or_else(|| self.dead())
    }

    pub(crate) fn dead(&self) -> Error {
        Error::state(format!("pod {}", self.name()), "is not running")
    }
}
