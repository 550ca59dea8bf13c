//! Starting containers.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Pod;
use super::process::Process;
use crate::cgroup::{self, apply, doubled, oom};
use crate::error::{Context, Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::ProcessId;
use crate::kernel::{files, idmap, netlink, record_file, syscalls};
use crate::launch::run_plan::{LaunchRequest, Launched, run_plan, seal};
use crate::launch::stdio::{self, Io};
use crate::lookup::prepared::Prepared;
use crate::plan::{Given, Plan};
use crate::resources::Resources;
use crate::spec::users::Ids;
use crate::spec::{Container, NamespaceMode};
use crate::store;
use crate::store::exits::{ExitTable, Phase, Reservation};
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{CONTAINER, CONTAINERS, ContainerRecord, LOG, OOM, PROCESS, PreviousRun, ProcessRecord};

impl Pod {
    /// Starts a new container with no input and its output in its log.
    ///
    /// # Errors
    /// As [`start_with`](Pod::start_with).
    pub fn start(&self, container: &Container) -> Result<Process> {
        self.start_with(container, Io::log())
    }

    /// Starts a new container.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Exists`], [`Error::Exec`], or why it cannot
    /// be done here. Nothing of the container is left behind then.
    pub fn start_with(&self, container: &Container, io: Io) -> Result<Process> {
        self.start_new(container, io, false)
    }

    /// Starts a new container whose records go when it has ended, with the next
    /// sweep: see [`Pod::sweep`].
    ///
    /// # Errors
    /// As [`start_with`](Pod::start_with).
    pub fn start_removing(&self, container: &Container, io: Io) -> Result<Process> {
        self.start_new(container, io, true)
    }

    fn start_new(&self, container: &Container, io: Io, remove_when_ended: bool) -> Result<Process> {
        let object = format!("container {}/{}", self.name(), container.name);
        let prepared = self.prepare(container)?;
        self.check_limits(container)?;
        self.clear_stray(&container.name)?;
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        let dir = self.container_dir(&container.name);
        files::make_private(&self.dir.join(CONTAINERS))?;
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::Exists(object)),
            made => made.doing(|| format!("making the directory {}", dir.display()))?,
        }
        let result = (|| {
            if remove_when_ended {
                self.store.mark_for_sweep(&self.mark(&container.name), true)?;
            }
            let reservation = self.reserve(table, false)?;
            let record = ContainerRecord {
                id: store::new_id()?,
                container: container.clone(),
                created: SystemTime::now(),
                started: None,
                reservation: Some(reservation),
                remove_when_ended,
                exit: None,
                pod_ooms: 0,
                previous: None,
                doubled: false,
            };
            self.start_prepared(&object, &prepared, record, reservation, io, &lock)
        })()
        .map_err(|error| self.explain(&object, error));
        if result.is_err() {
            // What went wrong first is what counts.
            files::remove_all(&dir).ok();
            if remove_when_ended {
                self.store.mark_for_sweep(&self.mark(&container.name), false).ok();
            }
        }
        result
    }

    /// Starts a container again that has ended, in this pod or in an earlier
    /// life of it.
    ///
    /// # Errors
    /// [`Error::State`] if it runs.
    pub fn start_again(&self, name: &str, io: Io) -> Result<Process> {
        let object = format!("container {}/{name}", self.name());
        // To ourselves, so that of two commands that start it one finds it running.
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        let lock = self.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.container_record(name)?;
        let prepared = self.prepare(&record.container)?;
        self.check_limits(&record.container)?;
        let exit = self.exit_of(name)?;
        let table = self.live_table()?;
        self.release_unborn();
        let running = || Error::state(&object, "is running");
        let reservation = match record.reservation.map(|old| (old, table.phase(old))) {
            Some((_, Phase::Running(_) | Phase::Reserved)) => return Err(running()),
            Some((old, Phase::Exited(_))) => {
                // Whatever was left behind by its main process goes first.
                self.kill_all(name)?;
                table.reserve_again(old).ok_or_else(running)?
            }
            Some((_, Phase::Lost)) | None => self.reserve(table, false)?,
        };
        let previous = record.started.zip(exit).map(|(started, exit)| PreviousRun { started, exit });
        let next = ContainerRecord { reservation: Some(reservation), exit: None, previous, ..record.clone() };
        let result = self.start_prepared(&object, &prepared, next, reservation, io, &lock);
        result.map_err(|error| {
            let error = self.explain(&object, error);
            // How it ended before is still what is known of it.
            let path = self.container_dir(name).join(CONTAINER);
            record_file::write_record(&path, &ContainerRecord { reservation: None, exit, ..record }).ok();
            if self.options().end_with_last && !table.has_containers() {
                // pause only looks when something has ended.
                self.kill().ok();
            }
            error
        })
    }

    /// Clears away what is in a new container's way and wanted no more: a container
    /// that has ended and was to be removed then, and what a podlet left that was
    /// killed before it had written the record. While we have the pod to ourselves
    /// no other command is at it.
    pub(crate) fn clear_stray(&self, name: &str) -> Result<()> {
        let dir = self.container_dir(name);
        let is_stray = || files::is_there(&dir) && !files::is_there(&dir.join(CONTAINER));
        if !files::is_there(&dir) {
            return Ok(());
        }
        if !is_stray() {
            return match self.container_record(name) {
                Ok(record) if record.remove_when_ended && self.exit_of(name)?.is_some() => {
                    unless_not_found(self.remove_container(name))
                }
                record => unless_not_found(record.map(drop)),
            };
        }
        let Some(_lock) = self.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        self.release_unborn();
        if is_stray() { files::remove_all(&dir) } else { Ok(()) }
    }

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

    /// Frees the entry of a launch whose podlet was killed: it is reserved for a
    /// process that was never born. While we have the pod to ourselves no launch is
    /// in flight.
    pub(crate) fn forget_unborn(&self, name: &str) -> Result<()> {
        let unborn = |record: &ContainerRecord| {
            let (reservation, table) = record.reservation.zip(self.table.as_ref())?;
            matches!(table.phase(reservation), Phase::Reserved | Phase::Running(0)).then_some((reservation, table))
        };
        if unborn(&self.container_record(name)?).is_none() {
            return Ok(());
        }
        let Some(_lock) = self.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        // Another command may have been faster.
        let record = self.container_record(name)?;
        if unborn(&record).is_none() {
            return Ok(());
        }
        self.release_unborn();
        let path = self.container_dir(name).join(CONTAINER);
        record_file::write_record(&path, &ContainerRecord { reservation: None, ..record })
    }

    /// The plan by which [`start`](Pod::start) would start this container.
    ///
    /// # Errors
    /// As `start`, for everything that is found before something is made.
    pub fn plan_container(&self, container: &Container) -> Result<Plan> {
        Ok(self.prepare(container)?.plan(self.shape().isolation(), &self.facts, 0))
    }

    fn prepare(&self, container: &Container) -> Result<Prepared> {
        let dir = self.container_dir(&container.name);
        Prepared::in_pod(container, &self.shape(), &self.facts, &self.store.hidden(), &dir)
    }

    /// What a container's cgroup is limited to. Where memory is limited, its
    /// own or the pod's, lack of it ends the container as a whole: half of one
    /// would be neither alive nor restarted.
    pub(crate) fn limits_of(&self, container: &Container) -> Resources {
        let resources = container.resources.clone();
        match resources.limits_memory() || self.options().resources.limits_memory() {
            true => resources.ending_as_a_whole(),
            false => resources,
        }
    }

    /// Whether a container could lift its limits if they stood but once.
    fn doubles_limits(&self, container: &Container) -> bool {
        let own_cgroup =
            container.cgroup != NamespaceMode::Host && !container.shares(Namespace::Cgroup, self.options());
        own_cgroup && self.record.cgroup.is_some() && container.may_mount() && !doubled::is_delegated()
    }

    /// Whether its limits can be set here, before anything is made.
    fn check_limits(&self, container: &Container) -> Result<()> {
        let cgroup = self.container_cgroup(&container.name);
        apply::check_reachable(&self.limits_of(container), &self.facts, cgroup.as_deref())
    }

    /// The part of a start that makes things.
    fn start_prepared(
        &self,
        object: &str,
        prepared: &Prepared,
        record: ContainerRecord,
        reservation: Reservation,
        io: Io,
        lock: &Lock,
    ) -> Result<Process> {
        let table = self.live_table()?;
        let name = record.container.name.clone();
        let net_devices = record.container.net_devices.clone();
        let dir = self.container_dir(&name);
        let result = (|| {
            let started = Some(SystemTime::now());
            for file in [PROCESS, OOM] {
                files::remove_file(&dir.join(file))?;
            }
            let pod_ooms = self.cgroup().map_or(0, |cgroup| oom::ooms(cgroup.path()));
            let doubled = self.doubles_limits(&record.container);
            let record = ContainerRecord { started, pod_ooms, doubled, ..record };
            record_file::write_record(&dir.join(CONTAINER), &record)?;
            prepared.make_dirs()?;
            let plan = prepared.plan(self.shape().isolation(), &self.facts, reservation.entry);
            let log = dir.join(LOG);
            let streams = stdio::open_streams(io, &log, self.on_machine(prepared.ids()));
            let title = stdio::title("launch", self.name(), &name);
            let cgroup = self.container_cgroup(&name);
            if let Some(cgroup) = &cgroup {
                cgroup::renew(cgroup)?;
                doubled::limit(cgroup, doubled, &self.limits_of(&record.container))?;
            }
            let birthplace = cgroup.map(|cgroup| doubled::birthplace(&cgroup, doubled));
            let outside = prepared.make_outside(&self.record.users, self.store.program_dirs())?;
            let launch =
                || self.run_plan_inside(object, &plan, &title, streams, outside, None, birthplace.as_deref(), lock);
            Ok((self.with_devices(&net_devices, launch)?, self.oom_watch(&record)))
        })();
        match result {
            Ok((born, oom)) => {
                // It runs; without this record other commands find it, too.
                self.write_process(&dir, &born).ok();
                let pidfd = born.pidfd;
                Ok(Process { name, table: Arc::clone(table), reservation, pidfd, exec: false, oom, whole: None })
            }
            Err(error) => {
                // C, if it was born nevertheless, ends with all that it has started.
                if let Some(cgroup) = self.container_cgroup(&name) {
                    cgroup::remove_tree(&cgroup).ok();
                }
                table.release_failed(reservation);
                Err(error)
            }
        }
    }

    /// Launches with these interfaces in the pod's network namespace; if that
    /// fails they go back to where they were.
    fn with_devices(
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
        streams: [Result<OwnedFd>; 3],
        outside: Vec<(Given, OwnedFd)>,
        target: Option<&OwnedFd>,
        cgroup: Option<&Path>,
        lock: &Lock,
    ) -> Result<Launched> {
        let [stdin, stdout, stderr] = streams;
        let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
        let table = self.live_table()?;
        let pause = table.pause.as_ref().ok_or_else(|| self.dead())?;
        let open = if target.is_some() { cgroup::open_beside } else { cgroup::open_birthplace };
        let cgroup = cgroup.map(open).transpose()?;
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
        fds.extend(mounts.iter().map(|file| (Given::PauseMounts, file.as_fd())));
        fds.extend(userns.iter().map(|file| (Given::PauseUsers, file.as_fd())));
        let request = LaunchRequest {
            object,
            title,
            sealed: seal(plan)?,
            fds: &fds,
            handed_over: outside,
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            note: None,
            answer: &|_| Ok(()),
            program_dirs: self.store.program_dirs(),
            cancel: None,
        };
        run_plan(plan, request)
    }

    fn write_process(&self, dir: &Path, born: &Launched) -> Result<()> {
        let pid = syscalls::pid_of(born.pidfd.as_fd()).doing(|| "looking for its pid".into())?;
        // A process that has ended already has no pid any more; what it left behind
        // still has its mount namespace.
        let gone = ProcessId { pid: 0, start: 0 };
        let process = pid.map(ProcessId::of).transpose()?.flatten().unwrap_or(gone);
        record_file::write_record(&dir.join(PROCESS), &ProcessRecord { process, mounts: born.mounts })
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

/// Not to find what is to be removed is as good: another command was faster.
fn unless_not_found(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        result => result,
    }
}
