//! What happens to a container once it is created: `start`, `kill`, `pause`,
//! `resume`, `delete`.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::Mode;
use pause::wire::Record as Report;

use super::dir::Held;
use super::exec::Inside;
use super::hooks::{self, Until};
use super::record::{PROCESS, ProcessRecord, RECORD, Record, RecordedMntns, START_SOCKET, Status, UNFINISHED};
use super::{Instance, cgroup_path, seccomp_agent};
use crate::cgroup::stats::{self, Stats};
use crate::cgroup::{self, apply, doubled};
use crate::error::{Context, Error, Number, Result, StepKind};
use crate::kernel::cgroupfs::all_processes;
use crate::kernel::procfs::{
    MountNamespace, ProcessId, all_pids, innermost_pid, kill_in, mount_namespace, mount_namespace_of, open_process,
    processes_in,
};
use crate::kernel::{PATIENCE, record_file, syscalls};
use crate::launch::run_plan::{acknowledge, hear_start};
use crate::resources::Resources;
use crate::seccomp::Situation;

/// Signals that ask a program to end. One that has not begun cannot refuse.
const ENDING: [i32; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGABRT, libc::SIGTERM];

/// How often somebody who is in the way is looked for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

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

    /// The same by who has held it since.
    pub(super) fn start_held(&self, held: Held) -> Result<()> {
        let result = self.pass_gate();
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

    fn run_start_hooks(&self) -> Result<()> {
        let gone = || Error::Died { object: self.object() };
        let hooks = &self.record.hooks.start_container;
        if hooks.is_empty() {
            return Ok(());
        }
        let mut state = self.state_as(Status::Created);
        let user = self.user(Path::new(&format!("/proc/{}/root", state.pid)))?;
        state.pid = innermost_pid(state.pid)?.ok_or_else(gone)?;
        let container = &self.record.container;
        let mut env = container.env.clone();
        if container.env_value("HOME").is_none() {
            env.push(format!("HOME={}", user.home()));
        }
        for hook in hooks {
            let pidfd = self.pidfd()?.ok_or_else(gone)?;
            let inside = Inside { cwd: &container.cwd, env: env.clone(), ids: Some(&user.ids) };
            self.run_inside("startContainer", hook, &state, &pidfd, inside)?;
        }
        Ok(())
    }

    /// Lets the container go on, and hears how far it comes.
    ///
    /// From the knock on it ends with us, until it is told to go on. Were we
    /// killed at any point, it is either gone, or goes on and has no gate any
    /// more: it never waits where nobody finds it, and nobody who finds its
    /// gate finds its program running.
    fn pass_gate(&self) -> Result<()> {
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

    /// The descriptor of the container's seccomp filter, to who decides.
    pub(super) fn pass_on_listener(&self, fd: &OwnedFd, process: Option<&OwnedFd>) -> Result<()> {
        let container = &self.record.container;
        let filter = container.seccomp.filter(container.capabilities.bounding, Situation::default())?;
        let mut state = self.state_as(Status::Creating);
        let pid = process.map(|process| syscalls::pid_of(process.as_fd())).transpose().doing(|| self.object())?;
        if let Some(pid) = pid.flatten() {
            state.pid = pid;
        }
        seccomp_agent::send(filter.as_ref(), fd, state.pid, &state)
    }

    fn explain(&self, report: &Report) -> Error {
        let errno = Number(report.errno as i32);
        let steps = &self.record.late_steps;
        match steps.iter().position(|(number, _)| *number == report.step) {
            Some(place) if place + 1 == steps.len() => {
                // It was there when the container was created.
                let errno = if errno.0 == libc::ENOENT { Number(libc::ELIBACC) } else { errno };
                Error::Exec { program: self.record.container.args[0].clone(), errno }
            }
            Some(place) => Error::Step {
                object: self.object(),
                purpose: None,
                kind: self.record.late_kinds.get(place).copied().unwrap_or(StepKind::Other),
                step: steps[place].1.clone(),
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

    /// Sends a signal to the container's process.
    ///
    /// One that was not started has no program yet that could handle it: it is
    /// killed by whatever asks a program to end. SIGKILL reaches all processes
    /// of one that has no pid namespace of its own, with which they would end,
    /// also when its first one is gone.
    ///
    /// # Errors
    /// [`Error::State`] if it is gone.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let may_leave_others = self.process.is_some() && !self.record.ends_as_one;
        if signal == libc::SIGKILL && may_leave_others && !self.processes()?.is_empty() {
            return self.kill_all(signal);
        }
        self.expect(&[Status::Created, Status::Running, Status::Paused], "cannot be signalled")?;
        let gone = || Error::state(self.object(), "is stopped: it cannot be signalled");
        let pidfd = self.pidfd()?.ok_or_else(gone)?;
        let (signal, _held) = self.signal_for(signal)?;
        match syscalls::pidfd_signal(pidfd.as_fd(), signal) {
            Err(nix::errno::Errno::ESRCH) => Err(gone()),
            Err(nix::errno::Errno::EINVAL) => Err(Error::invalid("signal", signal.to_string(), "not a signal")),
            result => result.doing(|| format!("signalling {}", self.object())),
        }
    }

    /// Sends a signal to all processes of the container, also when its first
    /// one is gone.
    ///
    /// # Errors
    /// [`Error::Deadline`] if they were to be killed and do not end.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let (signal, _held) = self.signal_for(signal)?;
        if self.is_over()? {
            return Ok(());
        }
        if signal == libc::SIGKILL {
            return match self.cgroup() {
                Some(cgroup) => cgroup::kill(cgroup, PATIENCE),
                None => self.kill_found(),
            };
        }
        let mounts = self.mounts()?;
        let found = self.processes()?;
        let is_here = |pid| match (self.cgroup(), &mounts) {
            (None, Some((mounts, _pin))) => Ok(mount_namespace(pid)? == Some(*mounts)),
            (Some(cgroup), _) => cgroup::holds(cgroup, pid),
            (None, None) => Ok(self.processes()?.contains(&pid)),
        };
        for pid in found {
            // Opened, then looked at again: the pid may be another's now.
            if let Some(pidfd) = open_process(pid)?
                && is_here(pid)?
            {
                syscalls::pidfd_signal(pidfd.as_fd(), signal).ok();
            }
        }
        Ok(())
    }

    /// What a signal means now, as long as this is held: somebody may be about
    /// to start the program.
    fn signal_for(&self, signal: i32) -> Result<(i32, Option<Held>)> {
        if !ENDING.contains(&signal) || !self.waits() {
            return Ok((signal, None));
        }
        let held = self.dir.hold()?;
        Ok((if self.waits() { libc::SIGKILL } else { signal }, held))
    }

    /// Whether nothing of it can live any more. Who is in its cgroup then has
    /// been given that since.
    fn is_over(&self) -> Result<bool> {
        Ok(self.record.ends_as_one && self.process.is_some() && self.pidfd()?.is_none())
    }

    /// Processes of the container, as this machine numbers them.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell.
    pub fn processes(&self) -> Result<Vec<u32>> {
        if self.is_over()? {
            return Ok(Vec::new());
        }
        match (self.cgroup(), self.mounts()?) {
            (Some(cgroup), _) => all_processes(cgroup),
            (None, Some((mounts, _pin))) => {
                let mut found = processes_in(mounts)?;
                found.sort_unstable();
                Ok(found)
            }
            (None, None) => {
                let pid = self.pidfd()?.map(|pidfd| syscalls::pid_of(pidfd.as_fd())).transpose();
                Ok(pid.doing(|| self.object())?.flatten().into_iter().collect())
            }
        }
    }

    /// The mount namespace by which its processes are found, and what keeps
    /// that from becoming another one's as long as we look: a kernel without
    /// numbers that never come again only tells while the first process lives.
    fn mounts(&self) -> Result<Option<(MountNamespace, Option<File>)>> {
        // Others in there are none of its own, whatever is written down.
        let record = self.process.filter(|_| self.has_own_mounts());
        let Some((process, mounts)) = record.and_then(|record| Some((record.process, record.mounts?))) else {
            return Ok(None);
        };
        if let MountNamespace::Id(_) = mounts {
            return Ok(Some((mounts, None)));
        }
        let Some(pidfd) = process.open()? else { return Ok(None) };
        let path = format!("/proc/{}/ns/mnt", process.pid);
        let namespace = match File::open(&path) {
            Err(_) if has_ended(&pidfd) => return Ok(None),
            namespace => namespace.doing(|| format!("opening {path}"))?,
        };
        let found = mount_namespace_of(&namespace).doing(|| format!("looking at {path}"))?;
        Ok((found == mounts && !has_ended(&pidfd)).then_some((mounts, Some(namespace))))
    }

    /// Kills its process, and what does not end with that and has no cgroup.
    fn end(&self) -> Result<()> {
        match self.cgroup().is_some() || self.record.ends_as_one {
            true => self.kill_process(),
            false => self.kill_found(),
        }
    }

    /// Kills all that is found of it: without a cgroup, and perhaps in a pid
    /// namespace with others.
    fn kill_found(&self) -> Result<()> {
        let found = self.mounts()?;
        self.kill_process()?;
        match found {
            Some((mounts, _pin)) => kill_in(mounts, all_pids, || self.object()),
            None => Ok(()),
        }
    }

    /// Stops all its processes where they are, or lets them go on.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, or has no cgroup.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let (from, what): (&[Status], _) = match on {
            true => (&[Status::Running, Status::Created], "cannot be paused"),
            false => (&[Status::Paused], "cannot be resumed"),
        };
        self.expect(from, what)?;
        let none = || Error::state(self.object(), "has no cgroup: its processes cannot be frozen");
        cgroup::freeze(self.cgroup().ok_or_else(none)?, on)
    }

    /// Changes its limits: what `change` sets is set, the rest stays.
    ///
    /// # Errors
    /// [`Error::State`] if it has ended or has no cgroup; [`Error::Invalid`],
    /// naming the limit and the cure. Nothing is changed then.
    pub fn update(&mut self, change: &Resources) -> Result<()> {
        let _held = self.hold()?;
        // Somebody else may have changed it while we waited.
        self.record =
            record_file::read_record(&self.dir.join(RECORD))?.ok_or_else(|| Error::NotFound(self.object()))?;
        self.expect(&[Status::Created, Status::Running, Status::Paused], "cannot be updated")?;
        let none = || Error::state(self.object(), "has no cgroup: it has no limits");
        let cgroup = self.record.cgroup.clone().ok_or_else(none)?;
        let old = &self.record.container.resources;
        apply::check_reachable(&old.changed_by(change)?, &self.facts, Some(&cgroup))?;
        let both = doubled::both(&cgroup, self.record.doubled);
        let new = old.update_all(change, &both, &cgroup::hierarchy_root())?;
        self.record.container.resources = new;
        record_file::write_record(&self.dir.join(RECORD), &self.record)
    }

    /// What it has used, and how often it came up against its limits.
    ///
    /// # Errors
    /// [`Error::State`] if it has ended or has no cgroup.
    pub fn stats(&self) -> Result<Stats> {
        self.expect(&[Status::Created, Status::Running, Status::Paused], "uses nothing")?;
        let none = || Error::state(self.object(), "has no cgroup: nobody counts what it uses");
        Ok(stats::stats(self.cgroup().ok_or_else(none)?))
    }

    /// Removes all that was made for the container. With `force` it is killed
    /// first if it runs.
    ///
    /// What comes back are the poststop hooks that failed: that changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::State`] if it runs, or what could not be removed; calling it
    /// again goes on.
    pub fn delete(&mut self, force: bool) -> Result<Vec<Error>> {
        if force {
            // Whoever holds it may wait for a hook of it that hangs, and does
            // so no longer than it lives. It may not be born yet.
            loop {
                self.process = self.process.or_else(|| self.unfinished());
                self.end()?;
                if let (None, Some(cgroup)) = (self.process, self.cgroup()) {
                    // Nobody but who is born in it is there, and may not have
                    // begun to run: its maker waits for that. The next
                    // container of this id is not ours to end.
                    cgroup::kill_while(cgroup, PATIENCE, || self.dir.is_there())?;
                }
                if self.dir.is_free()? {
                    break;
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        {
            let held = self.hold()?;
            // Nobody makes it any more. As far as it came it ended, or ends.
            self.process = self.process.or_else(|| self.unfinished());
            if !force {
                self.expect(&[Status::Stopped, Status::Created], "cannot be deleted: kill it first")?;
            }
            self.end()?;
            self.adopt()?;
            self.erase(&held)?;
        }
        Ok(self.run_stop_hooks())
    }

    /// One that has ended elsewhere becomes one of here: without its cgroup
    /// nobody could tell that it has.
    fn adopt(&mut self) -> Result<()> {
        if self.is_elsewhere() {
            let nobody = ProcessId { pid: 0, start: 0 };
            self.process = Some(ProcessRecord { process: nobody, mounts: None, cgroup: None });
            record_file::write_record(&self.dir.join(PROCESS), &self.process)?;
            self.record = Record { pids: self.facts.pids, ..self.record.clone() };
            record_file::write_record(&self.dir.join(RECORD), &self.record)?;
        }
        Ok(())
    }

    /// Runs the poststop hooks, all of them, and comes back with what failed.
    pub(super) fn run_stop_hooks(&self) -> Vec<Error> {
        let state = self.state_as(Status::Stopped);
        let run = |hook| hooks::run("poststop", hook, &state, &self.record.bundle, self.until(None)).err();
        self.record.hooks.poststop.iter().filter_map(run).collect()
    }

    /// Removes everything; the container's process has been killed, or was
    /// never born.
    pub(super) fn erase(&self, held: &Held) -> Result<()> {
        if let RecordedMntns::Callers(attached) = &self.record.mounts {
            attached.detach(self.rootfs(), &self.object())?;
        }
        if let Some(cgroup) = self.cgroup() {
            match &self.record.made_cgroups[..] {
                // It stays; what is in there does not. The rule: all of it ended
                // with its first process. A cgroup that is killed serves no
                // other container: see `cgroup::renew`.
                [] if cgroup::wait_empty(cgroup, Duration::from_secs(1))? => {}
                [] => cgroup::kill(cgroup, PATIENCE)?,
                made => cgroup_path::remove(made, self.is_over()?)?,
            }
        }
        // As long as the record is there whoever comes by can go on, and finds
        // the process stopped.
        self.dir.remove(&[START_SOCKET, UNFINISHED, RECORD, PROCESS], held)
    }

    /// SIGKILL, and waits until it has worked.
    fn kill_process(&self) -> Result<()> {
        if let Some(pidfd) = self.pidfd()? {
            // Gone already is as good.
            syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::wait_readable(&pidfd, Some(PATIENCE)).doing(|| format!("waiting for {}", self.object()))?;
        }
        Ok(())
    }

    /// Waits for the end of the container's process, at most for a time.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        match self.pidfd()? {
            Some(pidfd) => syscalls::wait_readable(&pidfd, timeout).doing(|| format!("waiting for {}", self.object())),
            None => Ok(true),
        }
    }

    /// A descriptor of its process, while that lives.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell.
    pub fn open_process(&self) -> Result<Option<OwnedFd>> {
        self.pidfd()
    }

    /// Nobody else changes it any more. What we knew may be old by now: who is
    /// its process is looked up again.
    fn hold(&mut self) -> Result<Held> {
        let held = self.dir.hold()?.ok_or_else(|| Error::NotFound(self.object()))?;
        if self.process.is_none() {
            self.process = record_file::read_record(&self.dir.join(PROCESS))?;
        }
        Ok(held)
    }

    /// A process that was born for the container, by somebody who was killed
    /// before it was made.
    pub(super) fn unfinished(&self) -> Option<ProcessRecord> {
        // It may not be wholly written. Then the process was not told to go on.
        record_file::read_record(&self.dir.join(UNFINISHED)).ok().flatten()
    }

    pub(super) fn expect(&self, wanted: &[Status], what: &str) -> Result<Status> {
        let status = self.status()?;
        match wanted.contains(&status) {
            true => Ok(status),
            false => Err(Error::state(self.object(), format!("is {}: it {what}", status.name()))),
        }
    }
}

/// Whether a process has been reaped.
fn has_ended(pidfd: &OwnedFd) -> bool {
    syscalls::pidfd_signal(pidfd.as_fd(), 0) == Err(Errno::ESRCH)
}
