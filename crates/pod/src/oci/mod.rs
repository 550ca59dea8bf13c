//! Containers without a pod, as the OCI runtime specification has them:
//! `create`, `start`, `state`, `kill`, `delete`, and what runc adds to these.
//!
//! ```text
//!   config.json ─► Config ─► Plan ─► sealed program ─► gate ─► execve
//!                  config    plan    create            start
//! ```
//!
//! There is no pause and no exit table: a container's process is a child of
//! the program that called [`Runtime::create`], and once that is gone of its
//! subreaper, which waits for it (conmon, the containerd shim). The runtime keeps
//! a directory a container:
//!
//! ```text
//!   <root>/<id>/
//!     record.json      what was asked for, written before anything is made
//!     unfinished.json  the pid and start time of a process that is to be the
//!                      container's
//!     process.json     the pid and start time of the container's process
//!     gate             the socket at which a created container waits
//! ```
//!
//! A command that changes a container has locked its directory. What runs is asked
//! of the kernel. A process that is not yet the container's is known only to
//! commands that end it: it is not in the container's root yet, and no exec is to
//! join it there. A container is *created* as long as its gate is there; a `start`
//! knocks, takes the gate away, and says that it may go on.

mod birth;
mod cgroup_path;
mod compat;
mod create;
mod damaged;
mod delete;
mod dir;
mod exec;
mod hooks;
mod id_maps;
mod kill;
mod namespaces;
mod process;
mod record;
mod root_mount;
mod scope;
mod seccomp_agent;
mod shared_mntns;
mod start;
mod update;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cgroup::systemd::Scope;
use crate::cgroup::way::Way;
use crate::cgroup::{self, doubled};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::{files, record_file, syscalls};
use crate::store::{self, root};
use dir::{Dir, Held};
use record::{PROCESS, ProcessRecord, RECORD, Record, RecordedMntns, START_SOCKET, UNFINISHED};

pub use create::{CreateOptions, Created};
pub use exec::ExecOptions;
pub use process::Process;
pub use record::{State, Status};

/// The newest version of the OCI runtime specification that this follows.
pub const SPECIFICATION: &str = "1.3.0";

/// How often what is in the way is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A directory with the state of containers without a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    root: PathBuf,
}

impl Runtime {
    /// The runtime whose state is at `root`, an absolute path, made if it is
    /// missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it belongs to another user or others can write
    /// there, or change a link on the way.
    pub fn open(root: impl Into<PathBuf>) -> Result<Runtime> {
        Ok(Runtime { root: root::open(&root.into())? })
    }

    /// The runtime whose state is at `root`, an absolute path, which is not made: if
    /// it is missing it has no containers.
    ///
    /// # Errors
    /// As [`open`](Runtime::open).
    pub fn look(root: impl Into<PathBuf>) -> Result<Runtime> {
        Ok(Runtime { root: root::look(&root.into())? })
    }

    /// Where the state is if the caller names no other: `/run/podlet-oci` for
    /// root that may write to `/run`, `$XDG_RUNTIME_DIR/podlet-oci` for others, and without that
    /// `/tmp/podlet-oci-<uid>`.
    pub fn default_root() -> PathBuf {
        store::default_root("podlet-oci")
    }

    /// The container of that id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`]; [`Error::State`] if it belongs
    /// to another pid namespace and may live; [`Error::Invalid`] if `/proc`
    /// does.
    pub fn get(&self, id: &str) -> Result<Instance> {
        let not_found = || Error::NotFound(format!("container {id:?}"));
        // An id that no container can have might be a path.
        check_id(id).map_err(|_| not_found())?;
        loop {
            let dir = Dir::open(&self.root.join(id))?.ok_or_else(not_found)?;
            let record = record_file::read_record(&dir.join(RECORD))?;
            let process = record_file::read_record(&dir.join(PROCESS))?;
            // Else it may be one container's record and another one's process.
            if dir.is_there()? {
                let record = record.ok_or_else(not_found)?;
                let instance = Instance { dir, record, process, facts: Facts::read()?, cancel: None };
                instance.check_whereabouts()?;
                return Ok(instance);
            }
        }
    }

    /// Kills a container if it runs, and removes all that was made for it, also
    /// if that is less than a container, whose creator was killed, or if its
    /// records cannot be read. If there is none that is as good.
    ///
    /// What comes back are warnings: the poststop hooks that failed, or that a
    /// container without readable records may run on.
    ///
    /// # Errors
    /// What could not be removed; calling it again goes on.
    pub fn remove(&self, id: &str) -> Result<Vec<Error>> {
        loop {
            match self.get(id).and_then(|mut instance| instance.delete(true)) {
                Err(Error::NotFound(_)) if self.clear(id)? => return Ok(Vec::new()),
                // It was just being made, or made anew.
                Err(Error::NotFound(_)) => {}
                // Its hooks are not known, either.
                Err(Error::Corrupt { .. }) => return self.remove_damaged(id),
                result => return result,
            }
        }
    }

    /// Removes what a creator left that was killed before a container of that id
    /// was so much as written down. False if there is such a container.
    fn clear(&self, id: &str) -> Result<bool> {
        let Ok(()) = check_id(id) else { return Ok(true) };
        let Some(dir) = Dir::open(&self.root.join(id))? else { return Ok(true) };
        if !dir.is_free()? {
            // A creator is at it, and may be long about it.
            std::thread::sleep(LOOK_AGAIN);
            return Ok(false);
        }
        let Some(held) = dir.hold()? else { return Ok(true) };
        match files::is_there(&dir.join(RECORD)) {
            true => Ok(false),
            false => dir.remove(&[], &held).map(|()| true),
        }
    }

    /// All containers, by id. Ones that cannot be read come as the error that
    /// says why.
    ///
    /// # Errors
    /// [`Error::Os`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Instance>>> {
        let get = |id: String| match self.get(&id) {
            // Deleted just now, or being made.
            Err(Error::NotFound(_)) => None,
            result => Some(result),
        };
        Ok(files::names_in(&self.root)?.into_iter().filter_map(get).collect())
    }
}

/// A container without a pod.
#[derive(Debug)]
pub struct Instance {
    dir: Dir,
    record: Record,
    /// None as long as it is being made.
    process: Option<ProcessRecord>,
    facts: Facts,
    /// What is waited for on its behalf is given up once this can be read.
    cancel: Option<OwnedFd>,
}

impl Instance {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// When it was created.
    pub fn created(&self) -> SystemTime {
        self.record.created
    }

    /// Its root file system.
    pub fn rootfs(&self) -> &Path {
        self.record.container.root.dir().unwrap_or(Path::new("/"))
    }

    /// The user that created it.
    pub fn owner(&self) -> u32 {
        self.record.owner
    }

    /// Its cgroup, if there is one.
    pub fn cgroup(&self) -> Option<&Path> {
        self.record.cgroup.as_deref()
    }

    /// Its cgroup, if what is there is its own: at the path of a scope there may be
    /// another's before systemd has made ours, and after it has removed it.
    fn own_cgroup(&self) -> Result<Option<&Path>> {
        let Some(cgroup) = self.cgroup() else { return Ok(None) };
        Ok(self.scope()?.is_none_or(|scope| scope.is_at(cgroup)).then_some(cgroup))
    }

    /// The scope of its cgroup. Its creator may have written down since that systemd
    /// has made it.
    fn scope(&self) -> Result<Option<Scope>> {
        let scope = self.record.scope.clone();
        if scope.as_ref().is_none_or(Scope::is_made) {
            return Ok(scope);
        }
        let record: Option<Record> = record_file::read_record(&self.dir.join(RECORD))?;
        let is_ours = self.dir.is_there()?;
        Ok(record.filter(|_| is_ours).map_or(scope, |record| record.scope))
    }

    /// Where its processes are born, the root of its cgroup namespace.
    fn birthplace(&self) -> Option<PathBuf> {
        Some(doubled::birthplace(self.cgroup()?, self.record.doubled))
    }

    /// How a process gets into one of its cgroups.
    fn way_to(&self, birthplace: Result<OwnedFd>, dir: &Path) -> Result<Way> {
        Ok(Way::new(birthplace?, dir, self.record.scope.as_ref().zip(self.cgroup())))
    }

    /// Whether its mount namespace is its own: only then the processes in there
    /// are the container's.
    fn has_own_mounts(&self) -> bool {
        self.record.mounts == RecordedMntns::Own
    }

    /// Whether its pids are numbers of another pid namespace.
    fn is_elsewhere(&self) -> bool {
        self.record.pids != self.facts.pids
    }

    /// Refuses a container that may live in another pid namespace. That it has
    /// ended can be told from anywhere: its first process was born into its cgroup,
    /// which stays empty then.
    fn check_whereabouts(&self) -> Result<()> {
        let number = self.process.or_else(|| self.unfinished()).and_then(|process| process.cgroup);
        if !self.is_elsewhere() {
            return Ok(());
        }
        match self.cgroup().zip(number) {
            Some((cgroup, number)) if cgroup::is_empty(cgroup, number)? => Ok(()),
            _ => Err(Error::state(self.object(), "belongs to another pid namespace: use it from there")),
        }
    }

    /// Its process, while that lives.
    fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let Some(record) = self.process.filter(|_| !self.is_elsewhere()) else { return Ok(None) };
        let Some(pidfd) = record.process.open()? else { return Ok(None) };
        let ended =
            syscalls::wait_readable(&pidfd, Some(Duration::ZERO)).doing(|| format!("looking at {}", self.object()))?;
        Ok((!ended).then_some(pidfd))
    }

    /// What can be said of it now.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell whether its process lives.
    pub fn status(&self) -> Result<Status> {
        Ok(match (self.process, self.pidfd()?) {
            (None, _) => Status::Creating,
            (_, None) => Status::Stopped,
            _ if self.cgroup().map_or(Ok(false), cgroup::is_frozen)? => Status::Paused,
            _ if self.waits() => Status::Created,
            _ => Status::Running,
        })
    }

    /// Whether it waits at its gate, be it frozen there.
    fn waits(&self) -> bool {
        files::is_there(&self.dir.join(START_SOCKET))
    }

    /// The state, as the specification has it.
    ///
    /// # Errors
    /// As [`status`](Instance::status).
    pub fn state(&self) -> Result<State> {
        Ok(self.state_as(self.status()?))
    }

    fn state_as(&self, status: Status) -> State {
        let pid = self.process.map(|record| record.process.pid).filter(|_| status != Status::Stopped);
        State {
            version: SPECIFICATION,
            id: self.record.id.clone(),
            status,
            pid: pid.unwrap_or(0),
            bundle: self.record.bundle.clone(),
            annotations: self.record.annotations.clone(),
        }
    }

    fn object(&self) -> String {
        format!("container {:?}", self.record.id)
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

    /// Locks it: no other command changes it any more. What was known may be old by
    /// now, so its process is looked up again.
    fn hold(&mut self) -> Result<Held> {
        let held = self.dir.hold()?.ok_or_else(|| Error::NotFound(self.object()))?;
        if self.process.is_none() {
            self.process = record_file::read_record(&self.dir.join(PROCESS))?;
        }
        Ok(held)
    }

    /// A process that was born for the container, of a creator that was killed
    /// before the container was made.
    fn unfinished(&self) -> Option<ProcessRecord> {
        // It may not be wholly written. Then the process was not told to go on.
        record_file::read_record(&self.dir.join(UNFINISHED)).ok().flatten()
    }

    fn expect(&self, wanted: &[Status], what: &str) -> Result<Status> {
        let status = self.status()?;
        match wanted.contains(&status) {
            true => Ok(status),
            false => Err(Error::state(self.object(), format!("is {}: it {what}", status.name()))),
        }
    }
}

/// Ids become file names.
fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 255 || id.starts_with('.') || !id.chars().all(good) {
        return Err(Error::invalid("container id", id, "1 to 255 of A-Z a-z 0-9 _ + - . and no dot at the start"));
    }
    Ok(())
}

/// A descriptor that this program was started with to pass it on: open, and
/// not one of the library's, which close at `execve`.
pub fn inherited(number: i32) -> Option<OwnedFd> {
    syscalls::is_stdio(number).then(|| syscalls::duplicate(number).ok()).flatten()
}
