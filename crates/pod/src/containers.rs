//! What a pod does with its containers: start, execute in, stop, remove.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::launch::{Ignition, ignite};
use crate::plan::launch::Ids;
use crate::plan::{Given, Plan, exec};
use crate::pod::Pod;
use crate::prepare::{self, Prepared};
use crate::process::{Io, Process};
use crate::spec::{self, Container, User};
use crate::state::{self, CONTAINER, CONTAINERS, ContainerRecord, Hold, LOG, Lock, PROCESS, ProcessId};
use crate::sys;
use crate::table::{Exit, ExitTable, Phase, Reservation};
use crate::users;

/// After SIGKILL the kernel has this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Another program to run in a container that runs.
///
/// What is not set is as the container's own.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Added to the container's environment: `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside.
    pub cwd: Option<PathBuf>,
    /// `NAME`, `UID`, either with `:GROUP`.
    pub user: Option<String>,
}

/// `process.json`: the container's main process.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessRecord {
    pub process: ProcessId,
    /// Inode of its mount namespace, by which its children are found where
    /// there is no cgroup.
    pub mounts: u64,
}

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

    /// Starts a new container whose records go when it has ended and somebody
    /// comes by: see [`Pod::sweep`].
    ///
    /// # Errors
    /// As [`start_with`](Pod::start_with).
    pub fn start_removing(&self, container: &Container, io: Io) -> Result<Process> {
        self.start_new(container, io, true)
    }

    fn start_new(&self, container: &Container, io: Io, remove_when_ended: bool) -> Result<Process> {
        let object = format!("container {}/{}", self.name(), container.name);
        let prepared = self.prepare(container)?;
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        let dir = self.container_dir(&container.name);
        state::make_private(&self.dir.join(CONTAINERS))?;
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::Exists(object)),
            made => made.doing(|| format!("making the directory {}", dir.display()))?,
        }
        let result = (|| {
            if remove_when_ended {
                self.store.mark_for_sweep(&self.mark(&container.name), true)?;
            }
            let reservation = table.reserve(false).ok_or_else(|| Error::TableFull(self.name().into()))?;
            let record = ContainerRecord {
                id: state::new_id()?,
                container: container.clone(),
                created: SystemTime::now(),
                started: None,
                reservation: Some(reservation),
                remove_when_ended,
                exit: None,
            };
            self.run(&object, &prepared, record, reservation, io, &lock)
        })();
        if result.is_err() {
            // What went wrong first is what counts.
            if let Some(cgroup) = self.container_cgroup(&container.name) {
                cgroup::remove_tree(&cgroup).ok();
            }
            state::remove_all(&dir).ok();
            if remove_when_ended {
                self.store.mark_for_sweep(&self.mark(&container.name), false).ok();
            }
        }
        result
    }

    /// What its mark for the sweep is called.
    fn mark(&self, container: &str) -> String {
        format!("{}:{container}", self.name())
    }

    /// Starts a container again that has ended, in this pod or in an earlier
    /// life of it.
    ///
    /// # Errors
    /// [`Error::State`] if it runs.
    pub fn start_again(&self, name: &str, io: Io) -> Result<Process> {
        let object = format!("container {}/{name}", self.name());
        self.forget_unborn(name)?;
        let record = self.container_record(name)?;
        let prepared = self.prepare(&record.container)?;
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        let running = || Error::state(&object, "is running");
        let reservation = match record.reservation {
            Some(old) => match table.phase(old) {
                // Whatever was left behind by its main process goes first.
                Phase::Exited(_) => {
                    self.end_all(name)?;
                    table.reserve_again(old).ok_or_else(running)?
                }
                Phase::Lost => table.reserve(false).ok_or_else(|| Error::TableFull(self.name().into()))?,
                Phase::Running(_) | Phase::Reserved => return Err(running()),
            },
            None => table.reserve(false).ok_or_else(|| Error::TableFull(self.name().into()))?,
        };
        let record = ContainerRecord { reservation: Some(reservation), exit: None, ..record };
        self.run(&object, &prepared, record, reservation, io, &lock)
    }

    /// Gives back the slot of a launch whose podlet was killed: it is not free
    /// and nobody runs in it. While we have the pod to ourselves no launch is
    /// in flight.
    fn forget_unborn(&self, name: &str) -> Result<()> {
        let unborn = |record: &ContainerRecord| {
            let (reservation, table) = record.reservation.zip(self.table.as_ref())?;
            matches!(table.phase(reservation), Phase::Reserved | Phase::Running(0)).then_some((reservation, table))
        };
        if unborn(&self.container_record(name)?).is_none() {
            return Ok(());
        }
        let Some(_lock) = Lock::take(&self.dir, Hold::Exclusive, false)? else { return Ok(()) };
        // Somebody may have been faster.
        let record = self.container_record(name)?;
        let Some((reservation, table)) = unborn(&record) else { return Ok(()) };
        table.release(reservation);
        let path = self.container_dir(name).join(CONTAINER);
        state::write_record(&path, &ContainerRecord { reservation: None, ..record })
    }

    /// The plan by which [`start`](Pod::start) would start this container.
    ///
    /// # Errors
    /// As `start`, for everything that is found before something is made.
    pub fn plan_container(&self, container: &Container) -> Result<Plan> {
        Ok(self.prepare(container)?.plan(&self.shape(), &self.facts, 0))
    }

    fn prepare(&self, container: &Container) -> Result<Prepared> {
        let dir = self.container_dir(&container.name);
        Prepared::new(container, &self.shape(), &self.facts, self.store.root(), &dir)
    }

    /// The part of a start that makes things.
    fn run(
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
        let dir = self.container_dir(&name);
        let result = (|| {
            let started = Some(SystemTime::now());
            state::ignore_missing(fs::remove_file(dir.join(PROCESS))).doing(|| format!("preparing {object}"))?;
            state::write_record(&dir.join(CONTAINER), &ContainerRecord { started, ..record })?;
            prepared.make_dirs(&self.shape(), &self.facts)?;
            let plan = prepared.plan(&self.shape(), &self.facts, reservation.entry);
            let log = dir.join(LOG);
            let streams = [(io.stdin, 0), (io.stdout, 1), (io.stderr, 2)];
            let streams = streams.map(|(stdio, number)| prepare::open_stdio(stdio, number, &log));
            let title = prepare::title("launch", self.name(), &name);
            if let Some(cgroup) = self.container_cgroup(&name) {
                cgroup::renew(&cgroup)?;
            }
            self.launch(object, &plan, &title, streams, None, &name, lock)
        })();
        match result {
            Ok(pidfd) => {
                self.write_process(&dir, &pidfd)?;
                Ok(Process { name, table: Arc::clone(table), reservation, pidfd, exec: false })
            }
            Err(error) => {
                table.release_failed(reservation);
                Err(error)
            }
        }
    }

    /// Runs another program in a container that runs.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, [`Error::Exec`], [`Error::Invalid`].
    pub fn exec(&self, name: &str, command: &Command, io: Io) -> Result<Process> {
        let object = format!("exec in {}/{name}", self.name());
        let record = self.container_record(name)?;
        let container = &record.container;
        let main = self.process(name)?;
        let not_running = || Error::state(format!("container {}/{name}", self.name()), "is not running");
        if main.try_wait()?.is_some() {
            return Err(not_running());
        }
        let pid = main.pid().ok_or_else(not_running)?;
        let (ids, env) = self.exec_identity(container, command, pid)?;
        let cwd = command.cwd.as_deref().unwrap_or(&container.cwd);
        spec::check_path("cwd", cwd)?;
        if command.args.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("args", "", "the command is empty: say what to run"));
        }
        for arg in &command.args {
            spec::check_string("args", arg)?;
        }
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        let reservation = table.reserve(true).ok_or_else(|| Error::TableFull(self.name().into()))?;
        let plan = exec::plan(&exec::Exec {
            facts: &self.facts,
            pod: &self.shape(),
            container,
            args: &command.args,
            env: &env,
            cwd,
            ids: &ids,
            entry: reservation.entry,
        });
        let log = self.container_dir(name).join(LOG);
        let streams = [(io.stdin, 0), (io.stdout, 1), (io.stderr, 2)];
        let streams = streams.map(|(stdio, number)| prepare::open_stdio(stdio, number, &log));
        let title = prepare::title("exec", self.name(), name);
        let target = Some(&main.pidfd);
        match self.launch(&object, &plan, &title, streams, target, name, &lock) {
            Ok(pidfd) => {
                let table = Arc::clone(table);
                Ok(Process { name: name.into(), table, reservation, pidfd, exec: true })
            }
            Err(error) => {
                table.release_failed(reservation);
                Err(error)
            }
        }
    }

    fn exec_identity(&self, container: &Container, command: &Command, pid: u32) -> Result<(Ids, Vec<String>)> {
        let setgroups = self.record.users.setgroups(&self.facts);
        let user = command.user.clone().map_or(container.user.clone(), User::Lookup);
        let root = users::open_root(Path::new(&format!("/proc/{pid}/root")))?;
        let found = users::look_up(root.as_fd(), &user, &self.record.users, setgroups)?;
        let mut own = container.clone();
        if command.user.is_some() || own.env_value("HOME").is_none() {
            own.set_env("HOME", found.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/"));
        }
        for variable in &command.env {
            spec::check_string("env", variable)?;
            match variable.split_once('=') {
                Some((name, value)) if !name.is_empty() => own.set_env(name, value),
                _ => return Err(Error::invalid("env", variable, "give NAME=value")),
            }
        }
        let mut ids = found.ids;
        if !setgroups {
            ids.groups.clear();
        }
        Ok((ids, own.env))
    }

    /// Executes a plan that ends in this pod, in the container's cgroup.
    #[allow(clippy::too_many_arguments)] // Each is one thing, used once.
    fn launch(
        &self,
        object: &str,
        plan: &Plan,
        title: &CString,
        streams: [Result<OwnedFd>; 3],
        target: Option<&OwnedFd>,
        name: &str,
        lock: &Lock,
    ) -> Result<OwnedFd> {
        let [stdin, stdout, stderr] = streams;
        let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
        let table = self.live_table()?;
        let pause = table.pause.as_ref().ok_or_else(|| self.dead())?;
        let cgroup = self.container_cgroup(name).map(|dir| cgroup::open_dir(&dir)).transpose()?;
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
        let users = plan.wants(Given::PauseUsers).then(|| namespace("user")).transpose()?;
        fds.extend(mounts.iter().map(|file| (Given::PauseMounts, file.as_fd())));
        fds.extend(users.iter().map(|file| (Given::PauseUsers, file.as_fd())));
        let ignition = Ignition {
            object,
            title,
            fds: &fds,
            handed_over: Vec::new(),
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            write_maps: &|_| Ok(()),
            places: self.store.places(),
        };
        ignite(plan, ignition)
    }

    fn write_process(&self, dir: &Path, pidfd: &OwnedFd) -> Result<()> {
        // A container that has ended already needs no record of its pid.
        let Some(process) = sys::pid_of(pidfd.as_fd()).and_then(ProcessId::of) else { return Ok(()) };
        let mounts = namespace_inode(process.pid, "mnt").unwrap_or(0);
        state::write_record(&dir.join(PROCESS), &ProcessRecord { process, mounts })
    }

    /// A container's main process, running or ended, of its latest run.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::State`] if it never ran in this life
    /// of the pod.
    pub fn process(&self, name: &str) -> Result<Process> {
        let record = self.container_record(name)?;
        let never =
            || Error::state(format!("container {}/{name}", self.name()), "has not been started since the pod was");
        let (reservation, table) = record.reservation.zip(self.table.as_ref()).ok_or_else(never)?;
        let pidfd = match self.find_process(name, reservation, table).and_then(|record| record.process.open()) {
            Some(pidfd) => pidfd,
            None => sys::always_readable().doing(|| "making an eventfd".into())?,
        };
        Ok(Process { name: name.into(), table: Arc::clone(table), reservation, pidfd, exec: false })
    }

    /// The main process on this machine, while it runs.
    pub(crate) fn find_process(
        &self,
        name: &str,
        reservation: Reservation,
        table: &ExitTable,
    ) -> Option<ProcessRecord> {
        let Phase::Running(inner) = table.phase(reservation) else { return None };
        if !table.is_alive() {
            return None;
        }
        let path = self.container_dir(name).join(PROCESS);
        let recorded = state::read_record::<ProcessRecord>(&path).ok().flatten();
        // Who started it died before it could write that down: look for the
        // one with this pid in the pod.
        recorded.or_else(|| {
            let pause = self.pause?.pid;
            let pid = self.pod_processes().into_iter().find(|&pid| inner_pid(pid, pause) == Some(inner))?;
            let process = ProcessId::of(pid)?;
            Some(ProcessRecord { process, mounts: namespace_inode(pid, "mnt").unwrap_or(0) })
        })
    }

    /// How a container's latest run ended; `None` if it runs or never ran.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exit_of(&self, name: &str) -> Result<Option<Exit>> {
        let record = self.container_record(name)?;
        Ok(match (record.reservation, &self.table) {
            (Some(reservation), Some(table)) => match table.try_wait(reservation) {
                Ok(exit) => exit,
                Err(_) => record.exit,
            },
            _ => record.exit,
        })
    }

    /// Names of its containers, sorted.
    ///
    /// # Errors
    /// [`Error::Os`] if the directory cannot be read.
    pub fn containers(&self) -> Result<Vec<String>> {
        let mut names = state::names_in(&self.dir.join(CONTAINERS))?;
        names.retain(|name| self.container_dir(name).join(CONTAINER).exists());
        Ok(names)
    }

    /// What a container was made from.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn container(&self, name: &str) -> Result<Container> {
        Ok(self.container_record(name)?.container)
    }

    pub(crate) fn container_record(&self, name: &str) -> Result<ContainerRecord> {
        let not_found = || Error::NotFound(format!("container \"{}/{name}\"", self.name()));
        spec::check_name("container", name).map_err(|_| not_found())?;
        state::read_record(&self.container_dir(name).join(CONTAINER))?.ok_or_else(not_found)
    }

    /// The file of a container's output, as far as it goes there.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.container_dir(name).join(LOG)
    }

    /// Stops a container: its stop signal, and after `grace` SIGKILL to
    /// everything in it. Other containers are not touched. A stopped one stays
    /// as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deadline`].
    pub fn stop(&self, name: &str, grace: Duration) -> Result<Option<Exit>> {
        let record = self.container_record(name)?;
        let process = match self.process(name) {
            Ok(process) => process,
            Err(Error::State { .. }) => return Ok(record.exit),
            Err(error) => return Err(error),
        };
        if process.try_wait().ok() == Some(None) {
            // It may end by itself in the meantime.
            process.signal(record.container.stop_signal).ok();
            process.wait_timeout(grace)?;
        }
        self.end_all(name)?;
        match process.wait_timeout(PATIENCE)? {
            Some(exit) => Ok(Some(exit)),
            None => {
                Err(Error::Deadline { what: format!("the end of container {}/{name}", self.name()), after: PATIENCE })
            }
        }
    }

    /// Removes a container that has ended.
    ///
    /// # Errors
    /// [`Error::State`] if it runs: stop it first.
    pub fn remove_container(&self, name: &str) -> Result<()> {
        let gone = || Error::NotFound(format!("container \"{}/{name}\"", self.name()));
        let _lock = Lock::take(&self.dir, Hold::Exclusive, true)?.ok_or_else(gone)?;
        let record = self.container_record(name)?;
        if let Some((reservation, table)) = record.reservation.zip(self.table.as_ref()) {
            let phase = table.phase(reservation);
            // Nobody launches while we have the lock: what is not born by now
            // never will be.
            let unborn = matches!(phase, Phase::Reserved | Phase::Running(0));
            if !unborn && table.try_wait(reservation).ok() == Some(None) {
                return Err(Error::state(format!("container {}/{name}", self.name()), "is running"));
            }
            self.end_for_good(name)?;
            table.release(reservation);
        } else if let Some(cgroup) = self.container_cgroup(name) {
            cgroup::remove_tree(&cgroup)?;
        }
        state::remove_all(&self.container_dir(name))?;
        if record.remove_when_ended {
            self.store.mark_for_sweep(&self.mark(name), false)?;
        }
        Ok(())
    }

    /// SIGKILL to everything in a container, children of its main process
    /// included, and waits until they are gone.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn end_all(&self, name: &str) -> Result<()> {
        match self.container_cgroup(name) {
            Some(cgroup) => cgroup::kill(&cgroup, PATIENCE),
            None => self.end_by_mounts(name),
        }
    }

    /// The same, and the cgroup goes, too.
    fn end_for_good(&self, name: &str) -> Result<()> {
        match self.container_cgroup(name) {
            Some(cgroup) => cgroup::remove_tree(&cgroup),
            None => self.end_by_mounts(name),
        }
    }

    /// Without a cgroup: kills what is in the container's mount namespace. A
    /// process that forks faster than it is found can hide; a pid namespace of
    /// its own, whose end the kernel sees to, does not have that limit.
    fn end_by_mounts(&self, name: &str) -> Result<()> {
        let path = self.container_dir(name).join(PROCESS);
        let Some(record) = state::read_record::<ProcessRecord>(&path)? else { return Ok(()) };
        if let Some(main) = record.process.open() {
            // Gone already is as good.
            sys::pidfd_signal(main.as_fd(), libc::SIGKILL).ok();
        }
        // The number of a namespace that is gone may serve another one now.
        let others: BTreeSet<u64> = self.other_mounts(name)?;
        if record.mounts == 0 || others.contains(&record.mounts) {
            return Ok(());
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let here = |pid: &u32| namespace_inode(*pid, "mnt") == Some(record.mounts);
            let found: Vec<_> = self.pod_processes().into_iter().filter(here).collect();
            if found.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("the end of all processes of container {}/{name}", self.name());
                return Err(Error::Deadline { what, after: PATIENCE });
            }
            for pid in found {
                // Opened, then looked at again: the pid may be another's now.
                if let Ok(pidfd) = sys::pidfd_open(pid)
                    && here(&pid)
                {
                    sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
                    sys::wait_readable(&pidfd, Some(Duration::from_millis(100))).ok();
                }
            }
        }
    }

    fn other_mounts(&self, name: &str) -> Result<BTreeSet<u64>> {
        let mut inodes = BTreeSet::new();
        for other in self.containers()?.iter().filter(|other| *other != name) {
            let record: Option<ProcessRecord> = state::read_record(&self.container_dir(other).join(PROCESS))?;
            inodes.extend(record.map(|record| record.mounts));
        }
        Ok(inodes)
    }

    /// All processes whose pid namespace is pause's or nested in it, by their
    /// pids on this machine; pause itself left out.
    pub(crate) fn pod_processes(&self) -> Vec<u32> {
        let Some(pause) = self.pause else { return Vec::new() };
        if let Some(cgroup) = self.cgroup() {
            let containers = state::names_in(&cgroup.path().join("ctr")).unwrap_or_default();
            return containers.iter().flat_map(|name| cgroup::processes(&cgroup.container(name))).collect();
        }
        let pids = fs::read_dir("/proc").into_iter().flatten();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| pid != pause.pid && inner_pid(pid, pause.pid).is_some()).collect()
    }

    pub(crate) fn container_cgroup(&self, name: &str) -> Option<PathBuf> {
        Some(self.cgroup()?.container(name))
    }

    /// Before the table goes: writes down how everything in it ended.
    pub(crate) fn keep_exits(&self) -> Result<()> {
        for name in self.containers()? {
            let record = self.container_record(&name)?;
            let exit = self.exit_of(&name)?;
            let path = self.container_dir(&name).join(CONTAINER);
            state::write_record(&path, &ContainerRecord { exit, reservation: None, ..record })?;
        }
        Ok(())
    }

    fn lock_for_launch(&self) -> Result<Lock> {
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        Lock::take(&self.dir, Hold::Shared, true)?.ok_or_else(gone)
    }

    fn live_table(&self) -> Result<&Arc<ExitTable>> {
        self.table.as_ref().filter(|table| table.is_alive()).ok_or_else(|| self.dead())
    }

    fn dead(&self) -> Error {
        Error::state(format!("pod {}", self.name()), "is not running")
    }

    /// Whether containers of this pod can only be ended by looking for their
    /// processes: see [`end_all`](Pod::end_all).
    pub fn ends_by_search(&self) -> bool {
        self.record.cgroup.is_none()
    }

    /// Stops a container, as [`stop`](Pod::stop) does, and starts it again. The
    /// pod stays, even one that ends with its last container.
    ///
    /// # Errors
    /// As `stop` and [`start_again`](Pod::start_again).
    pub fn restart(&self, name: &str, grace: Duration, io: Io) -> Result<Process> {
        let stop_and_start = || {
            self.stop(name, grace)?;
            self.start_again(name, io)
        };
        let Some(table) = self.table.as_ref().filter(|_| self.options().end_with_last) else {
            return stop_and_start();
        };
        table.set_end_with_last(false);
        let result = stop_and_start();
        table.set_end_with_last(true);
        if !table.has_containers() {
            // The last one ended while pause was not to look.
            self.kill()?;
        }
        result
    }
}

/// The inode of a process's namespace.
pub(crate) fn namespace_inode(pid: u32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|meta| meta.ino())
}

/// The pid that `pid` has in the pid namespace of `pause`, if it is there.
fn inner_pid(pid: u32, pause: u32) -> Option<u32> {
    let depth = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.to_string();
        Some(line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
    };
    let level = depth(pause)?.len();
    let pids = depth(pid)?;
    let inner = *pids.get(level - 1)?;
    // Deep enough, but is it this pod? Its namespace is pause's, or its
    // ancestor at that depth is a child of pause: then its parents lead there.
    let same = |pid: u32| namespace_inode(pid, "pid") == namespace_inode(pause, "pid");
    let mut ancestor = pid;
    for _ in 0..64 {
        if ancestor == pause || same(ancestor) {
            return Some(inner);
        }
        ancestor = parent(ancestor)?;
    }
    None
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|&pid| pid > 1)
}
