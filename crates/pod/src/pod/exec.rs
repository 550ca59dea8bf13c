//! Executing more in a container that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container::Container;
use super::process::Process;
use super::whole::Whole;
use crate::cgroup::{self, doubled};
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::kernel::{files, syscalls};
use crate::launch::run_plan::Launched;
use crate::launch::stdio::{self, Io, PipeEnds, Reopening};
use crate::lookup::passwd;
use crate::plan::exec;
use crate::spec::users::Ids;
use crate::spec::{self, ContainerSpec, User};
use crate::store::exits::Reservation;
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{ContainerRecord, PROCESS};

/// Another program to run in a container that runs.
///
/// What is not set is as the container's own.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExecSpec {
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

impl ExecSpec {
    /// This program and its arguments, as the container's own user.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> ExecSpec {
        ExecSpec { args: args.into_iter().map(Into::into).collect(), ..ExecSpec::default() }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> ExecSpec {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> ExecSpec {
        self.cwd = Some(path.into());
        self
    }

    /// Sets the user: `NAME`, `UID`, either with `:GROUP`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> ExecSpec {
        self.user = Some(user.into());
        self
    }

    /// Gives it a cgroup of its own: see the field.
    #[must_use]
    pub fn own_cgroup(mut self) -> ExecSpec {
        self.own_cgroup = true;
        self
    }
}

impl Container<'_> {
    /// Runs another program in it, while it runs.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, [`Error::Exec`], [`Error::Invalid`].
    pub fn exec(&self, command: &ExecSpec, io: impl Into<Io>) -> Result<Process> {
        self.now(|it| it.exec_now(command, io.into()))
    }

    pub(super) fn exec_now(&self, command: &ExecSpec, io: Io) -> Result<Process> {
        let object = format!("exec in {}/{}", self.pod.name(), self.name);
        let lock = self.lock_for_exec()?;
        let record = self.record()?;
        let container = &record.container;
        let main = self.its_process()?;
        let not_running = || Error::state(self.object(), "is not running");
        if main.try_wait()?.is_some() {
            return Err(not_running());
        }
        let pid = syscalls::pid_of(main.pidfd.as_fd()).doing(|| object.clone())?.ok_or_else(not_running)?;
        let identity = self.exec_identity(container, command, pid);
        let (ids, env) = identity.map_err(|error| self.pod.explain_exec(&object, &main, error))?;
        let cwd = command.cwd.as_deref().unwrap_or(&container.process.cwd);
        spec::check_path("cwd", cwd)?;
        spec::check_args(&command.args)?;
        io.check()?;
        io.check_for(container)?;
        let filter = container.filter(self.pod.options())?;
        let table = self.pod.live_table()?;
        let reservation = self.pod.reserve(table, true)?;
        let plan = exec::plan(&exec::Exec {
            facts: &self.pod.facts,
            isolation: self.pod.shape().isolation(),
            container,
            filter: filter.as_ref(),
            args: &command.args,
            env: &env,
            cwd,
            ids: &ids,
            terminal: io.terminal_options(),
            entry: reservation.entry,
        });
        let reopening = Reopening::ByMode(self.pod.on_machine(&ids));
        let title = stdio::title("exec", self.pod.name(), &self.name);
        let target = Some(&main.pidfd);
        let launched = (|| {
            let mut log = match io.wants_log() {
                true => self.shared_log(&container.log, reservation)?,
                false => self.new_log(&container.log, reservation),
            };
            let (streams, pipes) = stdio::open(io, &mut log.end(), reopening)?;
            self.begin_log(&log, &container.log)?;
            drop(log);
            let cgroup = self.exec_cgroup(&record, command, &main.pidfd, reservation)?;
            let born =
                self.pod.run_plan_inside(&object, &plan, &title, streams, Vec::new(), target, cgroup.as_deref(), &lock);
            let own = cgroup.filter(|_| command.own_cgroup).map(Whole::Cgroup);
            if let (Err(_), Some(own)) = (&born, &own) {
                // H2 or C, as far as they came, may be on the way out.
                own.end(&object).ok();
            }
            Ok((born?, pipes, own))
        })();
        match launched {
            Ok((Launched { pidfd, terminal, .. }, PipeEnds { stdin, stdout, stderr }, own)) => {
                let (name, table, exec, attached) = (self.name.clone(), Arc::clone(table), true, None);
                let oom = self.oom_watch(&record);
                // As long as it lives it can be found.
                let found = || ProcessId::of(syscalls::pid_of(pidfd.as_fd()).ok()??).ok()?.map(Whole::Session);
                let whole = own.or_else(|| command.own_cgroup.then(found).flatten());
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
                table.release_failed(reservation);
                Err(self.pod.explain_exec(&object, &main, error))
            }
        }
    }

    /// The lock for a launch, once no start of this container is in flight: its
    /// main process may be there before its root is, and what is looked up then
    /// would be of another one.
    fn lock_for_exec(&self) -> Result<Lock> {
        let lock = self.pod.lock_for_launch()?;
        // A start removes it first and writes it last.
        if files::is_there(&self.dir().join(PROCESS)) {
            return Ok(lock);
        }
        drop(lock);
        // Without that record the start has ended, too, if its podlet was killed.
        drop(self.pod.lock(LockMode::Exclusive, true)?);
        self.pod.lock_for_launch()
    }

    /// Where an exec is born, if there are cgroups.
    fn exec_cgroup(
        &self,
        record: &ContainerRecord,
        command: &ExecSpec,
        main: &OwnedFd,
        reservation: Reservation,
    ) -> Result<Option<PathBuf>> {
        let Some(container) = self.cgroup() else { return Ok(None) };
        let beside = cgroup::beside(&doubled::birthplace(&container, record.doubled), main);
        if !command.own_cgroup {
            return Ok(Some(beside));
        }
        // No other exec ever has this reservation.
        let own = beside.join(format!("exec-{}-{}", reservation.entry, reservation.generation));
        cgroup::make(&own)?;
        Ok(Some(own))
    }

    fn exec_identity(&self, container: &ContainerSpec, command: &ExecSpec, pid: u32) -> Result<(Ids, Vec<String>)> {
        let root = format!("/proc/{pid}/root");
        let mut own = container.process.clone();
        if let Some(user) = &command.user {
            // The groups that were added are for the container's own.
            (own.user, own.groups) = (User::Lookup(user.clone()), Vec::new());
        }
        let found = passwd::look_up(Path::new(&root), &own, &self.pod.record.users, &self.pod.facts)?;
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
