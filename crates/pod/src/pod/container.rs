//! Finding a pod's containers: their records, and their processes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::Pod;
use super::process::Process;
use crate::cgroup::oom::OomWatch;
use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs::all_processes;
use crate::kernel::procfs::{ProcessId, all_pids, mount_namespace, pid_in_pod};
use crate::kernel::{files, record_file, syscalls};
use crate::spec::{self, Container};
use crate::store::exits::{Exit, ExitTable, Phase, Reservation};
use crate::store::records::{CONTAINER, CONTAINERS, ContainerRecord, LOG, OOM, PROCESS, ProcessRecord};

impl Pod {
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
        let found = self.find_process(name, reservation, table)?;
        let pidfd = match found.map(|record| record.process.open()).transpose()?.flatten() {
            Some(pidfd) => pidfd,
            None => syscalls::always_readable().doing(|| "making an eventfd".into())?,
        };
        let oom = self.oom_watch(&record);
        Ok(Process { name: name.into(), table: Arc::clone(table), reservation, pidfd, exec: false, oom, whole: None })
    }

    /// The main process on this machine, while it runs.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell, which is not "none".
    pub(crate) fn find_process(
        &self,
        name: &str,
        reservation: Reservation,
        table: &ExitTable,
    ) -> Result<Option<ProcessRecord>> {
        let Phase::Running(inner) = table.phase(reservation) else { return Ok(None) };
        if !table.is_alive() {
            return Ok(None);
        }
        let path = self.container_dir(name).join(PROCESS);
        // A note that cannot be read says no more than none.
        let recorded = record_file::read_record::<ProcessRecord>(&path).ok().flatten();
        if let Some(record) = recorded.filter(|record| record.process.pid != 0) {
            return Ok(Some(record));
        }
        // The command that started it died before it could write that down, or was
        // not told by the kernel.
        Ok(self.find_inner(inner)?.or(recorded))
    }

    /// The process that has this pid in the pod.
    pub(crate) fn find_inner(&self, inner: u32) -> Result<Option<ProcessRecord>> {
        let Some(pause) = self.pause.map(|pause| pause.pid) else { return Ok(None) };
        for pid in self.pod_processes()? {
            if pid_in_pod(pid, pause)? == Some(inner)
                && let Some(process) = ProcessId::of(pid)?
            {
                return Ok(Some(ProcessRecord { process, mounts: mount_namespace(pid)? }));
            }
        }
        Ok(None)
    }

    /// How a container's latest run ended; `None` if it runs or never ran.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exit_of(&self, name: &str) -> Result<Option<Exit>> {
        let record = self.container_record(name)?;
        Ok(match (record.reservation, &self.table) {
            (Some(reservation), Some(table)) => match table.try_wait(reservation) {
                Ok(exit) => exit.map(|exit| exit.explained(self.oom_watch(&record).as_ref())),
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
        let mut names = files::names_in(&self.dir.join(CONTAINERS))?;
        names.retain(|name| files::is_there(&self.container_dir(name).join(CONTAINER)));
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
        record_file::read_record(&self.container_dir(name).join(CONTAINER))?.ok_or_else(not_found)
    }

    /// The file of a container's output, as far as it goes there.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.container_dir(name).join(LOG)
    }

    /// The container's log, open for reading; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if that is no plain file.
    pub fn open_log(&self, name: &str) -> Result<Option<File>> {
        Ok(files::open_own(&self.log_path(name), File::options().read(true))?.map(|(log, _)| log))
    }

    pub(crate) fn container_cgroup(&self, name: &str) -> Option<PathBuf> {
        Some(self.cgroup()?.container(name))
    }

    /// Where to look for what killed a container in its latest run.
    pub(crate) fn oom_watch(&self, record: &ContainerRecord) -> Option<OomWatch> {
        let cgroup = self.cgroup()?;
        let name = &record.container.name;
        let kept = self.container_dir(name).join(OOM);
        Some(OomWatch::new(&cgroup, name, record.pod_ooms, kept, record.reservation?.generation))
    }

    /// Before the cgroups go: writes down which containers lacked memory.
    pub(crate) fn keep_ooms(&self) -> Result<()> {
        for name in self.containers()? {
            let record = self.container_record(&name)?;
            let Some(watch) = self.oom_watch(&record) else { continue };
            let level = watch.keep()?;
            // For waiters that have mapped the table, and get no other answer once
            // the pod is removed.
            if let Some((table, reservation)) = self.table.as_ref().zip(record.reservation) {
                table.keep_level(reservation, level);
            }
        }
        Ok(())
    }

    /// All processes whose pid namespace is pause's or nested in it, by their
    /// pids on this machine; pause itself left out.
    pub(crate) fn pod_processes(&self) -> Result<Vec<u32>> {
        let Some(pause) = self.pause else { return Ok(Vec::new()) };
        if let Some(cgroup) = self.cgroup() {
            return all_processes(&cgroup.containers());
        }
        let is_in = |&pid: &u32| Ok((pid != pause.pid && pid_in_pod(pid, pause.pid)?.is_some()).then_some(pid));
        all_pids()?.iter().filter_map(|pid| is_in(pid).transpose()).collect()
    }

    /// Before the table goes: writes down how everything in it ended.
    pub(crate) fn keep_exits(&self) -> Result<()> {
        for name in self.containers()? {
            let record = self.container_record(&name)?;
            let exit = self.exit_of(&name)?;
            let path = self.container_dir(&name).join(CONTAINER);
            record_file::write_record(&path, &ContainerRecord { exit, reservation: None, ..record })?;
        }
        Ok(())
    }

    /// What its mark for the sweep is called.
    pub(crate) fn mark(&self, container: &str) -> String {
        format!("{}:{container}", self.name())
    }
}
