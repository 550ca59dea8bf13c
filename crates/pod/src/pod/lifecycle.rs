//! A container's hooks: what is executed in it when it has started, and before it is
//! stopped ([`Lifecycle`]).
//!
//! Each is an `exec` that is waited for, no longer than the main process lives. What it
//! writes is kept in memory, and the beginning is told if it fails.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Instant, SystemTime};

use super::Pod;
use super::container::Container;
use super::exec::ExecSpec;
use super::process::Process;
use super::start_options::Until;
use crate::error::{Context, Error, Result, in_full};
use crate::kernel::{PATIENCE, syscalls};
use crate::launch::stdio::{Io, Stdio};
use crate::spec::{Lifecycle, LifecycleHook};
use crate::store::lock::LockMode;
use crate::store::records::{ContainerRecord, HookFailure};

/// How much of what a failing hook says is passed on, in bytes.
const MOST_SAID: u64 = 4096;

/// What a wait for a hook comes to first.
enum End {
    /// It has ended with 0, or the container has ended by itself.
    Well,
    /// Why not.
    Badly(String),
}

impl Container<'_> {
    /// Executes the hook of a main process that has just been started, and waits for
    /// its end. If it fails the container is ended.
    ///
    /// # Errors
    /// [`Error::Hook`].
    pub(super) fn post_start(&self, hooks: &Lifecycle, main: &Process, until: Until<'_>) -> Result<()> {
        if hooks.post_start.is_empty() {
            return Ok(());
        }
        let run = self.run_hook(LifecycleHook::PostStart, &hooks.post_start, main, until);
        let Err(error) = run else { return Ok(()) };
        self.fail_start(main, &error)?;
        Err(error)
    }

    /// [`post_start`](Container::post_start), in a thread of its own: a supervisor has
    /// others to look after.
    pub(super) fn post_start_beside(&self, hooks: &Lifecycle, main: Process) -> Result<()> {
        if hooks.post_start.is_empty() {
            return Ok(());
        }
        let (store, pod, name, hooks) =
            (self.pod.store.clone(), self.pod.name().to_string(), self.name.clone(), hooks.clone());
        let act = move || {
            let pod = Pod::open(&store, &pod)?;
            pod.named(&name).post_start(&hooks, &main, Until::default())
        };
        // That it failed is written down.
        let begun = thread::Builder::new().name("postStart".into()).spawn(move || drop(act()));
        match begun.doing(|| format!("beginning the postStart hook of {}", self.object())) {
            Err(error) => self.fail_start(&self.its_process()?, &error),
            Ok(_) => Ok(()),
        }
    }

    /// Executes the hook of a container that is about to be stopped, and waits for its
    /// end, at most until `end`. That it failed is written down.
    pub(super) fn pre_stop(&self, hooks: &Lifecycle, main: &Process, end: Instant) {
        let until = Until { end: Some(end), cancel: None };
        if let Err(error) = self.run_hook(LifecycleHook::PreStop, &hooks.pre_stop, main, until) {
            // What was asked for is its end.
            self.note_hook(LifecycleHook::PreStop, main, &error).ok();
        }
    }

    /// Ends a container whose start has failed.
    fn fail_start(&self, main: &Process, error: &Error) -> Result<()> {
        // First: if we are killed in between, it is still known.
        self.note_hook(LifecycleHook::PostStart, main, error)?;
        self.kill_all()?;
        main.wait_timeout(PATIENCE).map(drop)
    }

    fn note_hook(&self, hook: LifecycleHook, main: &Process, error: &Error) -> Result<()> {
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        let record = self.record()?;
        if record.reservation != Some(main.reservation) {
            // It has been started anew.
            return Ok(());
        }
        let failure = HookFailure { hook, time: SystemTime::now(), error: in_full(error) };
        self.write(&ContainerRecord { failed_hook: Some(failure), ..record })
    }

    fn run_hook(&self, hook: LifecycleHook, args: &[String], main: &Process, until: Until<'_>) -> Result<()> {
        let context = || format!("preparing the {} hook of {}", hook.name(), self.object());
        let output = File::from(syscalls::memory_file(c"output").doing(context)?);
        let copy = || output.try_clone().map(|file| Stdio::Fd(file.into())).doing(context);
        let io = Io::null().stdout(copy()?).stderr(copy()?);
        let how = match self.exec_now(&ExecSpec::new(args.iter().map(String::as_str)), io.into()) {
            Ok(process) => match wait_for_hook(&process, main, until)? {
                End::Well => return Ok(()),
                End::Badly(how) => how,
            },
            // It has ended by itself.
            Err(_) if syscalls::has_ended(&main.pidfd) => return Ok(()),
            Err(error) => format!("cannot be executed: {}", in_full(&error)),
        };
        Err(Error::Hook {
            kind: hook.name().into(),
            path: args.first().cloned().unwrap_or_default(),
            how: format!("of {} {how}", self.object()),
            said: beginning(&output),
            cause: None,
        })
    }
}

/// Waits for a hook's end. One that goes on when it is not waited for any more is killed.
fn wait_for_hook(hook: &Process, main: &Process, until: Until<'_>) -> Result<End> {
    let mut fds = vec![hook.as_fd(), main.as_fd()];
    fds.extend(until.cancel);
    let ready = syscalls::wait_any(&fds, until.left()).doing(|| "waiting for a hook".into())?;
    if ready == Some(0) {
        let exit = hook.wait_timeout(PATIENCE)?;
        return Ok(match exit {
            Some(exit) if exit.success() => End::Well,
            // It was killed with the container.
            Some(exit) if exit.signal().is_some() && syscalls::has_ended(&main.pidfd) => End::Well,
            Some(exit) => End::Badly(exit.told()),
            None => End::Badly("has ended, and how is not known".into()),
        });
    }
    hook.kill_all()?;
    hook.wait_timeout(PATIENCE)?;
    Ok(match ready {
        Some(1) => End::Well,
        Some(_) => End::Badly("was given up, and killed".into()),
        None => End::Badly("did not end in its time, and was killed".into()),
    })
}

/// The beginning of what was written to a file.
fn beginning(mut file: &File) -> String {
    let mut said = Vec::new();
    // What cannot be read cannot be passed on.
    file.rewind().and_then(|()| file.take(MOST_SAID).read_to_end(&mut said)).ok();
    String::from_utf8_lossy(&said).trim().to_string()
}
