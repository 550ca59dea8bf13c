//! A container of a pod: its handle, its records, and its processes.

use std::path::PathBuf;
use std::sync::Arc;

use super::Pod;
use super::process::Process;
use crate::cgroup::oom::OomWatch;
use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs::all_processes;
use crate::kernel::procfs::{ProcessId, all_pids, mount_namespace, pid_in_pod};
use crate::kernel::{files, record_file, syscalls};
#[cfg(doc)]
use crate::spec::LogOptions;
use crate::spec::{self, ContainerSpec};
use crate::store::exits::{Exit, ExitTable, Phase, Reservation};
use crate::store::records::{CONTAINER, CONTAINERS, ContainerRecord, K8S_LOG, OOM, PROCESS, ProcessRecord};

/// A container of a pod, by its name.
///
/// This is only a handle: it keeps nothing open, and what it tells is read anew
/// each time. Whatever other handles, in this program or another one, do to the
/// container or its pod, it sees. Once the container is removed, what needs it
/// fails with [`Error::NotFound`].
///
/// ```no_run
/// # fn main() -> pod::Result<()> {
/// use std::time::Duration;
///
/// use pod::{ContainerSpec, Io, Pod, Root, Store};
///
/// let pod = Pod::open(&Store::open_default()?, "web")?;
/// let database = pod.create_container(&ContainerSpec::new("db", Root::Host).args(["sleep", "60"]))?;
/// database.start(Io::log())?;
/// let exit = database.stop(Duration::from_secs(10))?;
/// println!("it was told to end: {exit:?}");
/// pod.container("db")?.remove()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Container<'pod> {
    pub(crate) pod: &'pod Pod,
    pub(crate) name: String,
}

impl Pod {
    /// The container of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`]. One whose record is damaged is there, for
    /// [`remove_by_force`](Container::remove_by_force).
    pub fn container(&self, name: &str) -> Result<Container<'_>> {
        let container = self.named(name);
        // A name that no container can have might be a path.
        match spec::check_name("container", name).is_ok() && files::is_there(&container.dir()) {
            true => Ok(container),
            false => Err(container.not_found()),
        }
    }

    /// Its containers, by name.
    ///
    /// # Errors
    /// [`Error::Os`] if their directory cannot be read.
    pub fn containers(&self) -> Result<Vec<Container<'_>>> {
        let names = files::names_in(&self.dir.join(CONTAINERS))?;
        let mut containers: Vec<_> = names.iter().map(|name| self.named(name)).collect();
        containers.retain(|container| files::is_there(&container.dir().join(CONTAINER)));
        Ok(containers)
    }

    /// This pod as another handle has started it again, if that is so: this one
    /// knows only the pause and the table before.
    pub(crate) fn started_anew(&self) -> Result<Option<Pod>> {
        if self.is_alive() {
            return Ok(None);
        }
        match Pod::open(&self.store, self.name()) {
            Err(Error::NotFound(_)) => Ok(None),
            Ok(pod) if pod.id() != self.id() || !pod.is_alive() => Ok(None),
            pod => pod.map(Some),
        }
    }

    /// The container of that name, whether or not there is one.
    pub(crate) fn named(&self, name: &str) -> Container<'_> {
        Container { pod: self, name: name.into() }
    }

    /// Before the cgroups go: writes down which containers lacked memory.
    pub(crate) fn keep_ooms(&self) -> Result<()> {
        for container in self.containers()? {
            let record = container.record()?;
            let Some(watch) = container.oom_watch(&record) else { continue };
            let level = watch.keep()?;
            // For waiters that have mapped the table, and get no other answer once
            // the pod is removed.
            if let Some((table, reservation)) = self.table.as_ref().zip(record.reservation) {
                table.keep_level(reservation, level);
            }
        }
        Ok(())
    }

    /// Before the table goes: writes down how everything in it ended.
    pub(crate) fn keep_exits(&self) -> Result<()> {
        for container in self.containers()? {
            let record = container.record()?;
            let exit = container.its_exit()?;
            let restarts = record.restarts.in_new_pod(record.container.restart);
            let rule = record.rule();
            let next = ContainerRecord { exit, reservation: None, restarts, ..record };
            if next.ended(None).is_some_and(|run| next.restarts.due(rule, run).is_some()) {
                self.expect_supervisor()?;
            }
            container.write(&next)?;
        }
        Ok(())
    }
}

impl Container<'_> {
    /// Its name, which no other container of its pod has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pod it belongs to.
    pub fn pod(&self) -> &Pod {
        self.pod
    }

    /// What it was made from, with what [`update`](Container::update) has
    /// changed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn spec(&self) -> Result<ContainerSpec> {
        Ok(self.record()?.container)
    }

    /// The main process of its latest run, running or ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::State`] if it never ran in this life
    /// of the pod.
    pub fn process(&self) -> Result<Process> {
        self.now(|it| it.its_process())
    }

    /// [`process`](Container::process) where the pod is as it is now.
    pub(super) fn its_process(&self) -> Result<Process> {
        let record = self.record()?;
        let never = || Error::state(self.object(), "has not been started since the pod was");
        let (reservation, table) = record.reservation.zip(self.pod.table.as_ref()).ok_or_else(never)?;
        let found = self.find_process(reservation, table)?;
        let pidfd = match found.map(|record| record.process.open()).transpose()?.flatten() {
            Some(pidfd) => pidfd,
            None => syscalls::always_readable().doing(|| "making an eventfd".into())?,
        };
        let oom = self.oom_watch(&record);
        let (name, table) = (self.name.clone(), Arc::clone(table));
        let (exec, whole) = (false, None);
        let (stdin, stdout, stderr, terminal, attached) = (None, None, None, None, None);
        Ok(Process { stdin, stdout, stderr, terminal, attached, name, table, reservation, pidfd, exec, oom, whole })
    }

    /// How its latest run ended; `None` if it runs or never ran.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exit(&self) -> Result<Option<Exit>> {
        self.now(|it| it.its_exit())
    }

    /// [`exit`](Container::exit) where the pod is as it is now.
    pub(super) fn its_exit(&self) -> Result<Option<Exit>> {
        let record = self.record()?;
        Ok(match (record.reservation, &self.pod.table) {
            (Some(reservation), Some(table)) => match table.try_wait(reservation) {
                Ok(exit) => exit.map(|exit| exit.explained(self.oom_watch(&record).as_ref())),
                Err(_) => record.last_exit(),
            },
            _ => record.last_exit(),
        })
    }

    /// Waits until its latest run has ended: one that has ended already is not
    /// waited for.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] if it never ran, or is started anew
    /// before its exit was read.
    pub fn wait(&self) -> Result<Exit> {
        self.now(|it| it.its_end())
    }

    fn its_end(&self) -> Result<Exit> {
        match self.its_process() {
            // It ended in an earlier life of its pod.
            Err(Error::State { object, state }) => self.its_exit()?.ok_or(Error::State { object, state }),
            process => process?.wait(),
        }
    }

    /// Where its output goes, as far as that is asked for with
    /// [`Stdio::Log`](crate::Stdio::Log) and its [options](LogOptions::path) do not
    /// say another place. [`logs`](Container::logs) reads it.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join(K8S_LOG)
    }

    /// Does this with the container in the pod as it is now.
    pub(crate) fn now<T>(&self, act: impl FnOnce(&Container<'_>) -> Result<T>) -> Result<T> {
        match self.pod.started_anew()? {
            Some(pod) => act(&pod.named(&self.name)),
            None => act(self),
        }
    }

    /// How it is called in errors.
    pub(crate) fn object(&self) -> String {
        format!("container {}/{}", self.pod.name(), self.name)
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::NotFound(format!("container \"{}/{}\"", self.pod.name(), self.name))
    }

    /// Where its records are.
    pub(crate) fn dir(&self) -> PathBuf {
        self.pod.dir.join(CONTAINERS).join(&self.name)
    }

    pub(crate) fn record(&self) -> Result<ContainerRecord> {
        record_file::read_record(&self.dir().join(CONTAINER))?.ok_or_else(|| self.not_found())
    }

    pub(crate) fn write(&self, record: &ContainerRecord) -> Result<()> {
        record_file::write_record(&self.dir().join(CONTAINER), record)
    }

    pub(crate) fn cgroup(&self) -> Option<PathBuf> {
        Some(self.pod.cgroup()?.container(&self.name))
    }

    /// What its mark for the sweep is called.
    pub(crate) fn mark(&self) -> String {
        format!("{}:{}", self.pod.name(), self.name)
    }

    /// Where to look for what killed it in its latest run.
    pub(crate) fn oom_watch(&self, record: &ContainerRecord) -> Option<OomWatch> {
        let cgroup = self.pod.cgroup()?;
        let kept = self.dir().join(OOM);
        Some(OomWatch::new(&cgroup, &self.name, record.pod_ooms, kept, record.reservation?.generation))
    }

    /// The main process on this machine, while it runs.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell, which is not "none".
    pub(crate) fn find_process(&self, reservation: Reservation, table: &ExitTable) -> Result<Option<ProcessRecord>> {
        let Phase::Running(inner) = table.phase(reservation) else { return Ok(None) };
        if !table.is_alive() {
            return Ok(None);
        }
        // A note that cannot be read says no more than none.
        let recorded = record_file::read_record::<ProcessRecord>(&self.dir().join(PROCESS)).ok().flatten();
        if let Some(record) = recorded.filter(|record| record.process.pid != 0) {
            return Ok(Some(record));
        }
        // The command that started it died before it could write that down, or was
        // not told by the kernel.
        Ok(self.pod.find_inner(inner)?.or(recorded))
    }
}

impl Container<'_> {
    /// The main process on this machine.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run; [`Error::Os`] if the kernel does not tell.
    pub(crate) fn main_of(&self, record: &ContainerRecord) -> Result<ProcessRecord> {
        let not_running = || Error::state(self.object(), "is not running");
        let (reservation, table) = record.reservation.zip(self.pod.table.as_ref()).ok_or_else(not_running)?;
        let main = self.find_process(reservation, table)?.filter(|main| main.process.pid != 0);
        main.ok_or_else(not_running)
    }
}

impl Pod {
    /// All processes whose pid namespace is pause's or nested in it, by their
    /// pids on this machine; pause itself left out.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let Some(pause) = self.pause else { return Ok(Vec::new()) };
        if let Some(cgroup) = self.cgroup() {
            return all_processes(&cgroup.containers());
        }
        let is_in = |&pid: &u32| Ok((pid != pause.pid && pid_in_pod(pid, pause.pid)?.is_some()).then_some(pid));
        all_pids()?.iter().filter_map(|pid| is_in(pid).transpose()).collect()
    }

    /// The process that has this pid in the pod.
    pub(crate) fn find_inner(&self, inner: u32) -> Result<Option<ProcessRecord>> {
        let Some(pause) = self.pause.map(|pause| pause.pid) else { return Ok(None) };
        for pid in self.processes()? {
            if pid_in_pod(pid, pause)? == Some(inner)
                && let Some(process) = ProcessId::of(pid)?
            {
                return Ok(Some(ProcessRecord { process, mounts: mount_namespace(pid)? }));
            }
        }
        Ok(None)
    }
}
