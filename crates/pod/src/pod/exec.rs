//! Executing more in a container that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Pod;
use super::process::Process;
use super::whole::Whole;
use crate::cgroup::{self, doubled};
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::kernel::syscalls;
use crate::launch::run_plan::Launched;
use crate::launch::stdio::{self, Io};
use crate::lookup::passwd;
use crate::plan::exec;
use crate::spec::users::Ids;
use crate::spec::{self, Container, User};
use crate::store::exits::Reservation;
use crate::store::records::{ContainerRecord, LOG};

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
    /// It gets a cgroup of its own below the container's, where there is one,
    /// so that [`Process::kill_all`] ends everything that it has started. The
    /// container sees a directory of its name in its cgroup file system; it
    /// goes with the handle, or with the container if something is left in it.
    pub own_cgroup: bool,
}

impl Pod {
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
        let pid = syscalls::pid_of(main.pidfd.as_fd()).doing(|| object.clone())?.ok_or_else(not_running)?;
        let identity = self.exec_identity(container, command, pid);
        let (ids, env) = identity.map_err(|error| self.explain_exec(&object, &main, error))?;
        let cwd = command.cwd.as_deref().unwrap_or(&container.cwd);
        spec::check_path("cwd", cwd)?;
        spec::check_args(&command.args)?;
        let filter = container.filter(self.options())?;
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        let reservation = self.reserve(table, true)?;
        let plan = exec::plan(&exec::Exec {
            facts: &self.facts,
            isolation: self.shape().isolation(),
            container,
            filter: filter.as_ref(),
            args: &command.args,
            env: &env,
            cwd,
            ids: &ids,
            entry: reservation.entry,
        });
        let log = self.container_dir(name).join(LOG);
        let streams = stdio::open_streams(io, &log, self.on_machine(&ids));
        let title = stdio::title("exec", self.name(), name);
        let target = Some(&main.pidfd);
        let launched = (|| {
            let cgroup = self.exec_cgroup(&record, command, &main.pidfd, reservation)?;
            let born =
                self.run_plan_inside(&object, &plan, &title, streams, Vec::new(), target, cgroup.as_deref(), &lock);
            let own = cgroup.filter(|_| command.own_cgroup).map(Whole::Cgroup);
            if let (Err(_), Some(own)) = (&born, &own) {
                // H2 or C, as far as they came, may be on the way out.
                own.end(&object).ok();
            }
            Ok((born?, own))
        })();
        match launched {
            Ok((Launched { pidfd, .. }, own)) => {
                let table = Arc::clone(table);
                let oom = self.oom_watch(&record);
                // As long as it lives it can be found.
                let found = || ProcessId::of(syscalls::pid_of(pidfd.as_fd()).ok()??).ok()?.map(Whole::Session);
                let whole = own.or_else(|| command.own_cgroup.then(found).flatten());
                Ok(Process { name: name.into(), table, reservation, pidfd, exec: true, oom, whole })
            }
            Err(error) => {
                table.release_failed(reservation);
                Err(self.explain_exec(&object, &main, error))
            }
        }
    }

    /// Where an exec is born, if there are cgroups.
    fn exec_cgroup(
        &self,
        record: &ContainerRecord,
        command: &Command,
        main: &OwnedFd,
        reservation: Reservation,
    ) -> Result<Option<PathBuf>> {
        let Some(container) = self.container_cgroup(&record.container.name) else { return Ok(None) };
        let beside = cgroup::beside(&doubled::birthplace(&container, record.doubled), main);
        if !command.own_cgroup {
            return Ok(Some(beside));
        }
        // No other exec ever has this reservation.
        let own = beside.join(format!("exec-{}-{}", reservation.entry, reservation.generation));
        cgroup::make(&own)?;
        Ok(Some(own))
    }

    fn exec_identity(&self, container: &Container, command: &Command, pid: u32) -> Result<(Ids, Vec<String>)> {
        let user = command.user.clone().map_or(container.user.clone(), User::Lookup);
        let root = format!("/proc/{pid}/root");
        let found = passwd::look_up(Path::new(&root), &user, &self.record.users, &self.facts)?;
        let mut own = container.clone();
        match command.user {
            // What the container's environment says is for its own user.
            Some(_) => found.replace_home(&mut own),
            None => found.give_home(&mut own),
        }
        for variable in &command.env {
            let (name, value) = spec::check_variable(variable)?;
            own.set_env(name, value);
        }
        Ok((found.ids, own.env))
    }
}
