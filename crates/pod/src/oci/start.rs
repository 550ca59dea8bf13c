//! `start`: a created container runs its program.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::Mode;
use pause::wire::Record as Report;

use super::dir::Held;
use super::exec::Inside;
use super::hooks::{self, Until};
use super::record::{START_SOCKET, Status};
use super::{Instance, seccomp_agent};
use crate::error::{Context, Error, Number, Result, StepKind};
use crate::kernel::procfs::innermost_pid;
use crate::kernel::syscalls;
use crate::launch::run_plan::{acknowledge, hear_start};

impl Instance {
    /// Starts the program of a created container.
    ///
    /// # Errors
    /// [`Error::State`] if it is not waiting for that; [`Error::Exec`] and the
    /// like, and the container is stopped then; [`Error::Hook`], and it is
    /// deleted (runtime-spec, Lifecycle).
    pub fn start(&mut self) -> Result<()> {
        let held = self.hold()?;
        self.expect(&[Status::Created], "cannot be started")?;
        if !self.record.has_process {
            return Err(Error::state(self.object(), "has a config without `process`: there is nothing to start"));
        }
        let result = self.start_held(held);
        if let Err(Error::Hook { .. }) = result {
            // What went wrong first is what counts.
            self.delete(true).ok();
        }
        result
    }

    /// [`start`](Instance::start) by the creator, which has had the lock since it
    /// made the container.
    pub(super) fn start_held(&self, held: Held) -> Result<()> {
        let result = self.connect();
        if result.is_err() {
            self.kill_process()?;
        }
        drop(held);
        result?;
        self.after_start()
    }

    /// How long a hook of it may go on.
    pub(super) fn until<'a>(&'a self, container: Option<&'a OwnedFd>) -> Until<'a> {
        Until { container, cancel: self.cancel.as_ref() }
    }

    pub(super) fn run_start_hooks(&self) -> Result<()> {
        let gone = || Error::Died { object: self.object() };
        let hooks = &self.record.hooks.start_container;
        if hooks.is_empty() {
            return Ok(());
        }
        let mut state = self.state_as(Status::Created);
        let user = self.user(Path::new(&format!("/proc/{}/root", state.pid)))?;
        state.pid = innermost_pid(state.pid)?.ok_or_else(gone)?;
        let mut container = self.record.container.clone();
        user.give_home(&mut container.process);
        for hook in hooks {
            let pidfd = self.pidfd()?.ok_or_else(gone)?;
            let inside =
                Inside { cwd: &container.process.cwd, env: container.process.env.clone(), ids: Some(&user.ids) };
            self.run_inside("startContainer", hook, &state, &pidfd, inside)?;
        }
        Ok(())
    }

    /// Lets the container go on, and hears how far it comes.
    ///
    /// From the knock on it ends with us, until it is told to go on. Were we killed
    /// at any point, it is either gone, or goes on and has no gate any more: it
    /// never waits where no command finds it, and a command that finds its gate
    /// never finds its program running.
    pub(super) fn connect(&self) -> Result<()> {
        let context = || format!("starting {}", self.object());
        let path = self.dir.join(START_SOCKET);
        // (With musl the standard library takes O_PATH for a kind of access,
        // and leaves it out.)
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let gate = open(&path, flags, Mode::empty()).doing(context)?;
        let report = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).doing(context)?;
        let address = UnixAddr::new(format!("/proc/self/fd/{}", gate.as_raw_fd()).as_str()).doing(context)?;
        match connect(report.as_raw_fd(), &address) {
            // It died just now.
            Err(nix::errno::Errno::ECONNREFUSED) => return Err(Error::Died { object: self.object() }),
            knocked => knocked.doing(context)?,
        }
        self.run_start_hooks()?;
        fs::remove_file(&path).doing(context)?;
        acknowledge(&report)?;
        let object = self.object();
        hear_start(&object, &report, self.cancel.as_ref(), &|report| self.explain(report))
    }

    /// Hands the descriptor of the container's seccomp filter to its agent.
    pub(super) fn pass_on_listener(&self, fd: &OwnedFd, process: Option<&OwnedFd>) -> Result<()> {
        let container = &self.record.container;
        let filter = container.filter_without_pod()?;
        let mut state = self.state_as(Status::Creating);
        let pid = process.map(|process| syscalls::pid_of(process.as_fd())).transpose().doing(|| self.object())?;
        if let Some(pid) = pid.flatten() {
            state.pid = pid;
        }
        seccomp_agent::send(filter.as_ref(), fd, state.pid, &state)
    }

    pub(super) fn explain(&self, report: &Report) -> Error {
        let errno = Number(report.errno as i32);
        let steps = &self.record.late_steps;
        match steps.iter().position(|(number, _)| *number == report.step) {
            Some(at) if at + 1 == steps.len() => {
                // It was there when the container was created.
                let errno = if errno.0 == libc::ENOENT { Number(libc::ELIBACC) } else { errno };
                Error::Exec { program: self.record.container.process.args[0].clone(), errno }
            }
            Some(at) => Error::Step {
                object: self.object(),
                purpose: None,
                kind: self.record.late_kinds.get(at).copied().unwrap_or(StepKind::Other),
                step: steps[at].1.clone(),
                errno,
            },
            None => Error::Died { object: self.object() },
        }
    }

    /// What follows when the program runs.
    pub(super) fn after_start(&self) -> Result<()> {
        let state = self.state_as(Status::Running);
        let result =
            hooks::run_all("poststart", &self.record.hooks.poststart, &state, &self.record.bundle, self.until(None));
        if result.is_err() {
            self.kill_process()?;
        }
        result
    }
}
