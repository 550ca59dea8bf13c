//! Hooks: programs of the bundle's that run at points of a container's life
//! (runtime-spec, POSIX-platform Hooks).
//!
//! Those of the runtime's namespaces are started as any program is; those of
//! the container's by the sealed program, which joins the container's
//! namespaces first. Each gets the state on its standard input.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::record::State;
use crate::config::{Hook, Hooks};
use crate::error::{Context, Error, Result};
use crate::kernel::syscalls::{self, End};
use crate::spec::ContainerSpec;

/// How much of what a failing hook says is passed on, in bytes.
const MOST_SAID: u64 = 4096;

/// How long a hook may go on besides its timeout.
#[derive(Clone, Copy, Default)]
pub(super) struct Until<'a> {
    /// As long as that container lives: it may be deleted while a hook hangs.
    pub container: Option<&'a OwnedFd>,
    /// As long as this cannot be read.
    pub cancel: Option<&'a OwnedFd>,
}

/// Whether there is something to do between a container's birth and the change
/// of its root.
pub(super) fn stops_before_root(hooks: &Hooks, container: &ContainerSpec) -> bool {
    let Hooks { prestart, create_runtime, create_container, .. } = hooks;
    let hooks = [prestart, create_runtime, create_container];
    hooks.iter().any(|hooks| !hooks.is_empty()) || !container.net_devices.is_empty()
}

/// Runs hooks of the runtime's namespaces, one after the other.
pub(super) fn run_all(kind: &str, hooks: &[Hook], state: &State, dir: &Path, until: Until<'_>) -> Result<()> {
    hooks.iter().try_for_each(|hook| run(kind, hook, state, dir, until))
}

/// Runs one.
pub(super) fn run(kind: &str, hook: &Hook, state: &State, dir: &Path, until: Until<'_>) -> Result<()> {
    let streams = Streams::new(kind, hook, state)?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(env) = &hook.env {
        command.env_clear();
        command.envs(env.iter().filter_map(|variable| variable.split_once('=')));
    }
    command.current_dir(dir).stdin(Stdio::from(streams.input.try_clone().doing(|| streams.object())?));
    for output in [Command::stdout, Command::stderr] {
        output(&mut command, Stdio::from(streams.output.try_clone().doing(|| streams.object())?));
    }
    syscalls::pass_on_nothing(&mut command);
    let child =
        command.spawn().map_err(|error| streams.failed(format!("cannot be executed: {error}")).because(error))?;
    let pidfd = syscalls::pidfd_open(child.id()).doing(|| streams.object())?;
    streams.wait(&pidfd, until)
}

/// A hook's standard streams, and what becomes of it.
pub(super) struct Streams<'a> {
    kind: &'a str,
    hook: &'a Hook,
    pub input: OwnedFd,
    pub output: File,
}

impl<'a> Streams<'a> {
    pub(super) fn new(kind: &'a str, hook: &'a Hook, state: &State) -> Result<Streams<'a>> {
        let context = || format!("preparing the {kind} hook {}", hook.path.display());
        let json = serde_json::to_vec(state).doing(context)?;
        let mut input = File::from(syscalls::sealed_file(c"state", &json).doing(context)?);
        input.rewind().doing(context)?;
        let output = File::from(syscalls::memory_file(c"output").doing(context)?);
        Ok(Streams { kind, hook, input: input.into(), output })
    }

    fn object(&self) -> String {
        format!("running the {} hook {}", self.kind, self.hook.path.display())
    }

    pub(super) fn failed(&self, how: String) -> Error {
        let mut said = String::new();
        let mut output = &self.output;
        // What cannot be read cannot be passed on.
        output.rewind().and_then(|()| output.take(MOST_SAID).read_to_string(&mut said)).ok();
        Error::Hook {
            kind: self.kind.into(),
            path: self.hook.path.display().to_string(),
            how,
            said: said.trim().into(),
            cause: None,
        }
    }

    /// Waits for a child of ours, as long as the hook may take.
    pub(super) fn wait(&self, pidfd: &OwnedFd, until: Until<'_>) -> Result<()> {
        let timeout = self.hook.timeout;
        let (mut fds, mut whose) = (vec![pidfd.as_fd()], vec![Ready::Hook]);
        for (fd, ready) in [(until.container, Ready::Container), (until.cancel, Ready::Cancel)] {
            fds.extend(fd.map(AsFd::as_fd));
            whose.extend(fd.map(|_| ready));
        }
        let ready = syscalls::wait_any(&fds, timeout).doing(|| self.object())?.map(|ready| whose[ready]);
        if ready != Some(Ready::Hook) {
            // It may be gone by now.
            syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::reap(pidfd.as_fd());
        }
        match ready {
            Some(Ready::Hook) => {}
            Some(Ready::Container) => return Err(self.failed("was ended: the container was killed".into())),
            Some(Ready::Cancel) => return Err(syscalls::given_up(until.cancel, || self.object())),
            None => {
                let seconds = timeout.unwrap_or(Duration::ZERO).as_secs();
                return Err(self.failed(format!("did not end within {seconds} s")));
            }
        }
        match syscalls::wait_end(pidfd.as_fd()) {
            Ok(End::Exited(0)) => Ok(()),
            Ok(End::Exited(code)) => Err(self.failed(format!("ended with {code}"))),
            Ok(End::Killed { signal, .. }) => Err(self.failed(format!("was killed by {signal}"))),
            // The embedder waited for it: how it ended is lost.
            Err(_) => Err(self.failed("ended unobserved: this program waits for all its children".into())),
        }
    }
}

/// What a wait for a hook comes to first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Hook,
    Container,
    Cancel,
}
