//! More processes in a container: `exec`, and hooks that run inside.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::process::Process;
use super::record::{State, Status};
use super::{Instance, compat, hooks, seccomp_agent};
use crate::cgroup;
use crate::config::{Hook, NamespaceKind};
use crate::error::{Context, Error, Result};
use crate::kernel::idmap;
use crate::launch::run_plan::{self, LaunchRequest, Launched, Question, run_plan, seal};
use crate::launch::stdio::{self, Io, LogEnd, Reopening};
use crate::lookup::passwd::{self, Found};
use crate::lookup::root_files;
use crate::plan::Given;
use crate::plan::oci_exec::{self, Enter};
use crate::spec::users::Ids;
use crate::spec::{ContainerSpec, ProcessSpec};
use crate::store::records::LOG;

/// Another process to run in a container.
#[derive(Debug)]
pub struct ExecOptions {
    /// What it is to be. Begin with that of [`Instance::spec`].
    pub process: ProcessSpec,
    /// Its standard streams, or its terminal.
    pub io: Io,
    /// Descriptors it gets from 3 on.
    pub preserved: Vec<OwnedFd>,
    /// Whether to wait for a paused container to go on, instead of failing.
    pub even_paused: bool,
    /// Once it can be read, whatever is waited for is given up: see
    /// [`CreateOptions::cancel`](super::CreateOptions).
    pub cancel: Option<OwnedFd>,
}

/// How a hook runs in a container.
pub(super) struct Inside<'a> {
    pub cwd: &'a Path,
    /// Unless it says otherwise.
    pub env: Vec<String>,
    /// The ids it runs with; `None` for those of the runtime.
    pub ids: Option<&'a Ids>,
}

impl Instance {
    /// What the container was made from.
    pub fn spec(&self) -> &ContainerSpec {
        &self.record.container
    }

    /// Runs another program in the container, as a child of this program.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, [`Error::Exec`], [`Error::Invalid`].
    pub fn exec(&self, extra: ExecOptions) -> Result<Process> {
        let wanted: &[Status] = match extra.even_paused {
            true => &[Status::Running, Status::Created, Status::Paused],
            false => &[Status::Running, Status::Created],
        };
        self.expect(wanted, "cannot be executed in")?;
        let gone = || Error::state(self.object(), "is stopped: it cannot be executed in");
        let pidfd = self.pidfd()?.ok_or_else(gone)?;
        let mut process = ContainerSpec { process: extra.process, ..self.record.container.clone() };
        process.check()?;
        extra.io.check()?;
        let pid = crate::kernel::syscalls::pid_of(pidfd.as_fd()).doing(|| self.object())?.ok_or_else(gone)?;
        let root = format!("/proc/{pid}/root");
        let found = passwd::look_up(Path::new(&root), &process.process, &self.record.users, &self.facts)?;
        compat::drop_empty_home(&mut process.process.env);
        found.give_home(&mut process.process);
        let terminal = extra.io.terminal_options();
        let owner = idmap::on_machine(found.ids.uid, self.record.users.uids());
        let (streams, pipes) =
            stdio::open(extra.io, &mut LogEnd::File(&self.dir.join(LOG)), Reopening::ByOwner(owner))?;
        let filter = process.filter_without_pod()?;
        let enter = Enter {
            facts: &self.facts,
            users: &self.record.users,
            namespaces: differing(pid).ok_or_else(gone)?,
            own_root: !self.has_own_mounts(),
            program: &process.process.args[0],
            ids: Some(&found.ids),
            filter: filter.as_ref(),
            cwd: &process.process.cwd,
            terminal,
            preserved: extra.preserved.len() as u16,
            process: &process,
        };
        if extra.even_paused
            && let Some(cgroup) = self.birthplace()
        {
            cgroup::wait_thawed(&cgroup::beside(&cgroup, &pidfd), extra.cancel.as_ref())?;
        }
        let object = format!("exec in {}", self.object());
        let theirs = streams.each_ref().map(AsFd::as_fd);
        let Launched { pidfd, terminal, .. } =
            self.enter(&object, &enter, theirs, &extra.preserved, &pidfd, extra.cancel.as_ref())?;
        Ok(Process::new(pidfd, pipes, terminal))
    }

    /// Runs a hook in the container's namespaces.
    pub(super) fn run_inside(
        &self,
        kind: &str,
        hook: &Hook,
        state: &State,
        container: &OwnedFd,
        inside: Inside<'_>,
    ) -> Result<()> {
        let Inside { cwd, env, ids } = inside;
        let streams = hooks::Streams::new(kind, hook, state)?;
        let program = hook.path.to_string_lossy().into_owned();
        let gone = || Error::Died { object: self.object() };
        let pid = crate::kernel::syscalls::pid_of(container.as_fd()).doing(|| self.object())?.ok_or_else(gone)?;
        let mut process = self.record.container.clone();
        process.process.args = if hook.args.is_empty() { vec![program.clone()] } else { hook.args.clone() };
        process.process.env = hook.env.clone().unwrap_or(env);
        // The container's own programs run as it does.
        let filter = match ids {
            Some(_) => process.filter_without_pod()?,
            None => None,
        };
        let enter = Enter {
            facts: &self.facts,
            users: &self.record.users,
            process: &process,
            namespaces: differing(pid).ok_or_else(gone)?,
            own_root: !self.has_own_mounts(),
            program: &program,
            ids,
            filter: filter.as_ref(),
            cwd,
            terminal: None,
            preserved: 0,
        };
        let object = format!("{kind} hook {program:?}");
        let output = streams.output.as_fd();
        match self.enter(&object, &enter, [streams.input.as_fd(), output, output], &[], container, self.cancel.as_ref())
        {
            Ok(born) => streams.wait(&born.pidfd, self.until(Some(container))),
            Err(Error::Exec { errno, .. }) => {
                Err(streams.failed(format!("cannot be executed: {errno}")).because(errno))
            }
            Err(error) => Err(error),
        }
    }

    fn enter(
        &self,
        object: &str,
        enter: &Enter<'_>,
        streams: [BorrowedFd<'_>; 3],
        preserved: &[OwnedFd],
        container: &OwnedFd,
        cancel: Option<&OwnedFd>,
    ) -> Result<Launched> {
        let plan = oci_exec::plan(enter);
        let mut fds: Vec<_> = [Given::Stdin, Given::Stdout, Given::Stderr].into_iter().zip(streams).collect();
        fds.extend((0..).zip(preserved).map(|(i, fd)| (Given::Preserved(i), fd.as_fd())));
        fds.push((Given::Container, container.as_fd()));
        let root = enter.own_root.then(|| self.open_root_of(container)).transpose()?;
        fds.extend(root.iter().map(|root| (Given::Root, root.as_fd())));
        let cgroup = self.birthplace().map(|dir| cgroup::beside(&dir, container));
        let cgroup = cgroup.map(|dir| self.way_to(cgroup::open_beside(&dir), &dir)).transpose()?;
        let title = CString::new(format!("podlet-oci:exec {}", self.record.id)).unwrap_or_default();
        let request = LaunchRequest {
            object,
            title: &title,
            sealed: seal(&plan)?,
            fds: &fds,
            handed_over: Vec::new(),
            cgroup: cgroup.as_ref(),
            note: None,
            answer: &|question| match question {
                Question::Listener { filter, process } => {
                    let pid = process.map(|process| crate::kernel::syscalls::pid_of(process.as_fd())).transpose();
                    let pid = pid.doing(|| self.object())?.flatten();
                    seccomp_agent::send(enter.filter, &filter, pid.unwrap_or(0), &self.state()?)
                }
                Question::Maps(_) | Question::Runtime(..) => Ok(()),
            },
            program_dirs: &run_plan::program_dirs(self.dir.path()),
            cancel,
        };
        run_plan(&plan, request)
    }

    /// The root that the container's process has now.
    fn open_root_of(&self, container: &OwnedFd) -> Result<OwnedFd> {
        let gone = || Error::Died { object: self.object() };
        let pid = crate::kernel::syscalls::pid_of(container.as_fd()).doing(|| self.object())?.ok_or_else(gone)?;
        let root = root_files::open_dir(Path::new(&format!("/proc/{pid}/root")))?;
        // Else the pid may be another's by now, and its root the machine's.
        crate::kernel::syscalls::pidfd_signal(container.as_fd(), 0).map_err(|_| gone())?;
        Ok(root)
    }

    /// The user the container runs as: its config has numbers, which mean the same
    /// in any image.
    pub(super) fn user(&self, root: &Path) -> Result<Found> {
        passwd::look_up(root, &self.record.container.process, &self.record.users, &self.facts)
    }
}

/// `CLONE_NEW*` of the namespaces that process `pid` has and we have not.
fn differing(pid: u32) -> Option<u64> {
    let inode =
        |who: &str, kind: NamespaceKind| Some(fs::metadata(format!("/proc/{who}/ns/{}", kind.file())).ok()?.ino());
    let mut flags = 0;
    for kind in NamespaceKind::ALL {
        // A kernel without time namespaces has no such file.
        let ours = inode("self", kind);
        if ours.is_some() && inode(&pid.to_string(), kind)? != ours? {
            flags |= kind.flag();
        }
    }
    Some(flags)
}
