//! A pod's cgroups in the hierarchy of version 2.
//!
//! ```text
//!   podlet/<pod>-<id>/          limits
//!     pause/                    pause alone; never frozen
//!     ctr/<container>/          what is killed and frozen
//!       exec-<entry>-<n>/       an exec that can be killed by itself, if it was asked for
//! ```
//!
//! On a machine that still has v1 hierarchies the unified one beside them
//! serves to track and to kill. Where no cgroup can be made there is none, and
//! a container that shares the pod's pid namespace is ended by looking for the
//! processes in its mount namespace (see `Container::stop`).

pub(crate) mod apply;
mod controllers;
pub(crate) mod doubled;
pub(crate) mod oom;
pub(crate) mod pod_tree;
pub mod stats;
#[cfg_attr(not(feature = "systemd"), path = "no_systemd.rs")]
pub(crate) mod systemd;
mod unit;
pub(crate) mod way;

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs::{all_processes, hierarchy, is_gone, parse_pids, remove_empty};
use crate::kernel::{files, procfs, syscalls};
use crate::resources::Resources;

/// This process's own cgroup, as a path below the hierarchy.
pub(crate) fn own() -> Option<PathBuf> {
    of("self")
}

/// The cgroup of a process, named as in `/proc`, as a path below the hierarchy.
fn of(process: &str) -> Option<PathBuf> {
    let cgroups = procfs::read(format!("/proc/{process}/cgroup")).ok()?;
    cgroups.lines().find_map(|line| line.strip_prefix("0::/")).map(PathBuf::from)
}

/// Where cgroup2 is mounted, for a caller that has a cgroup, so that it must be.
pub(crate) fn hierarchy_root() -> PathBuf {
    hierarchy().unwrap_or_else(|| "/sys/fs/cgroup".into())
}

/// Makes a cgroup, or finds it made.
pub(crate) fn make(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).doing(|| format!("making the cgroup {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// An empty cgroup that has never been killed.
///
/// Since 6.14 Linux kills whatever is cloned into a cgroup that has been killed
/// before: it compares that cgroup's count of kills with the one of the
/// *caller's* cgroup (`kill_seq` in `cgroup_css_set_fork`). So a cgroup that
/// served a stopped container cannot serve the next.
pub(crate) fn renew(dir: &Path) -> Result<()> {
    remove_tree(dir)?;
    make(dir)
}

/// Sets limits of a cgroup that nothing has been born in.
pub(crate) fn limit(dir: &Path, resources: &Resources) -> Result<()> {
    if resources.is_empty() { Ok(()) } else { resources.apply(dir, &hierarchy_root()) }
}

/// A descriptor of an empty cgroup to be born in.
///
/// # Errors
/// [`Error::State`] if it is frozen.
pub(crate) fn open_birthplace(dir: &Path) -> Result<OwnedFd> {
    refuse_frozen(dir)?;
    open_dir(dir)
}

/// A descriptor of a cgroup with processes in it, for another to be born in.
///
/// # Errors
/// [`Error::State`] if it is frozen, or is about to be.
pub(crate) fn open_beside(dir: &Path) -> Result<OwnedFd> {
    // It says `frozen 1` once all in it are; a new process would be at once.
    for above in dir.ancestors() {
        match freezes(above)? {
            Some(true) => return Err(frozen(dir)),
            Some(false) => {}
            None => break,
        }
    }
    open_birthplace(dir)
}

/// Fails for a frozen cgroup: a process born in it would not so much as begin,
/// and its parent waits for that. An empty cgroup below a frozen one says so
/// from its first moment on.
pub(crate) fn refuse_frozen(dir: &Path) -> Result<()> {
    if says(dir, "frozen 1")? { Err(frozen(dir)) } else { Ok(()) }
}

/// Whether all that is in a cgroup stands still, by its own freezing or by that of
/// one above; not of one that is gone.
pub(crate) fn says_frozen(dir: &Path) -> Result<bool> {
    says(dir, "frozen 1")
}

fn frozen(dir: &Path) -> Error {
    Error::state(format!("the cgroup {}", dir.display()), "is frozen: nobody can begin in it")
}

/// A descriptor of a cgroup, whether or not it is frozen.
pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(dir, flags, Mode::empty()).doing(|| format!("opening the cgroup {}", dir.display()))
}

/// Where a process goes that joins a container whose first process is `first`.
///
/// A cgroup that gives controllers on to those below has no processes itself
/// (cgroups(7), "no internal processes" rule), so a container that does that
/// has moved its first process down: there the others go, too.
pub(crate) fn beside(dir: &Path, first: &OwnedFd) -> PathBuf {
    let gives_on = fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|given| !given.trim().is_empty());
    let beside = || Some(hierarchy()?.join(of(&syscalls::pid_of(first.as_fd()).ok()??.to_string())?));
    gives_on.then(beside).flatten().filter(|beside| beside.starts_with(dir)).unwrap_or_else(|| dir.into())
}

/// Whether a process is in this cgroup or below.
pub(crate) fn holds(dir: &Path, pid: u32) -> Result<bool> {
    match hierarchy().zip(of(&pid.to_string())) {
        Some((top, own)) => Ok(top.join(own).starts_with(dir)),
        // The kernel does not tell a path that is too long.
        None => Ok(all_processes(dir)?.contains(&pid)),
    }
}

/// Kills everything in a cgroup and below, and waits until it is gone. A
/// cgroup that is not there has nothing in it.
pub(crate) fn kill(dir: &Path, timeout: Duration) -> Result<()> {
    let Some(found) = kill_if(dir, || Ok(true))? else { return Ok(()) };
    // Another one that is made at this path meanwhile is not waited for.
    if wait_empty(&path_of(&found), timeout)? {
        return Ok(());
    }
    Err(Error::Deadline { what: format!("the end of all processes in {}", dir.display()), after: timeout })
}

/// Kills everything that is in a cgroup and below just now, if `is_ours` says so
/// of the cgroup that was found there. Before Linux 6.14 what is cloned into it a
/// moment later lives.
pub(crate) fn kill_if(dir: &Path, is_ours: impl FnOnce() -> Result<bool>) -> Result<Option<OwnedFd>> {
    let context = || format!("killing the cgroup {}", dir.display());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let found = match open(dir, flags, Mode::empty()) {
        Err(errno) if is_gone(&errno.into()) => return Ok(None),
        found => found.doing(context)?,
    };
    if !is_ours()? {
        return Ok(None);
    }
    match fs::write(path_of(&found).join("cgroup.kill"), "1") {
        Err(error) if is_gone(&error) => Ok(None),
        result => result.map(|()| Some(found)).doing(context),
    }
}

fn path_of(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Whether the processes in a cgroup do not run.
///
/// # Errors
/// [`Error::Os`] if the kernel does not tell.
pub(crate) fn is_frozen(dir: &Path) -> Result<bool> {
    Ok(freezes(dir)? == Some(true))
}

/// What `cgroup.freeze` says; `None` of the hierarchy's root, which has none.
fn freezes(dir: &Path) -> Result<Option<bool>> {
    Ok(read(dir, "cgroup.freeze")?.map(|text| text.trim() == "1"))
}

/// A file of a cgroup; `None` if it has none of that name, or is gone.
fn read(dir: &Path, file: &str) -> Result<Option<String>> {
    let path = dir.join(file);
    match procfs::read(&path) {
        Err(error) if is_gone(&error) => Ok(None),
        text => text.map(Some).doing(|| format!("reading {}", path.display())),
    }
}

/// The number of a cgroup, which no other one ever has. Its path may be another
/// one's in another cgroup namespace.
pub(crate) fn number(dir: &Path) -> Option<u64> {
    fs::metadata(dir).ok().map(|meta| meta.ino())
}

/// Whether it is there, the one of that number, and no process in it or below.
pub(crate) fn is_empty(dir: &Path, wanted: u64) -> Result<bool> {
    Ok(says(dir, "populated 0")? && number(dir) == Some(wanted))
}

/// Whether this line is in `cgroup.events` now.
fn says(dir: &Path, wanted: &str) -> Result<bool> {
    let path = dir.join("cgroup.events");
    // Two lines, which one call reads.
    let mut bytes = [0; 256];
    let mut read = || files::open_once(&path, OFlag::O_RDONLY)?.read(&mut bytes);
    let size = match read() {
        Err(error) if is_gone(&error) => 0,
        size => size.doing(|| format!("reading {}", path.display()))?,
    };
    Ok(bytes[..size].split(|byte| *byte == b'\n').any(|line| line == wanted.as_bytes()))
}

/// Waits for `populated 0`.
pub(crate) fn wait_empty(dir: &Path, timeout: Duration) -> Result<bool> {
    wait_event(dir, "populated 0", Some(timeout), None)
}

/// Waits until a frozen cgroup is let go on.
///
/// # Errors
/// [`Error::GivenUp`] if `cancel` can be read before.
pub(crate) fn wait_thawed(dir: &Path, cancel: Option<&OwnedFd>) -> Result<()> {
    wait_event(dir, "frozen 0", None, cancel).map(drop)
}

/// Freezes everything in a cgroup and below, and waits until that is done. A
/// cgroup that is not there has nothing to freeze.
pub(crate) fn freeze(dir: &Path) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    if !set_freeze(dir, true)? || wait_event(dir, "frozen 1", Some(PATIENCE), None)? {
        return Ok(());
    }
    // What cannot be frozen goes on, all of it.
    set_freeze(dir, false)?;
    Err(Error::Deadline { what: format!("freezing {}", dir.display()), after: PATIENCE })
}

/// Lets a frozen cgroup go on. Below a frozen one it stands still until that goes
/// on, too.
pub(crate) fn let_go_on(dir: &Path) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    if !set_freeze(dir, false)? {
        return Ok(());
    }
    for above in dir.ancestors().skip(1) {
        match freezes(above)? {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => break,
        }
    }
    match wait_event(dir, "frozen 0", Some(PATIENCE), None)? {
        true => Ok(()),
        false => {
            Err(Error::Deadline { what: format!("the end of the freezing of {}", dir.display()), after: PATIENCE })
        }
    }
}

/// Whether the cgroup is there.
fn set_freeze(dir: &Path, on: bool) -> Result<bool> {
    match fs::write(dir.join("cgroup.freeze"), if on { "1" } else { "0" }) {
        Err(error) if is_gone(&error) => Ok(false),
        result => result.map(|()| true).doing(|| format!("freezing the cgroup {}", dir.display())),
    }
}

/// What an event would tell is asked for this often, too: where several
/// programs kill a cgroup and one removes it, Linux 6.18 lets a poll that began
/// before sleep to its end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits for a line of `cgroup.events`, or the end of the cgroup.
fn wait_event(dir: &Path, wanted: &str, timeout: Option<Duration>, cancel: Option<&OwnedFd>) -> Result<bool> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let context = || format!("watching the cgroup {}", dir.display());
    let mut events = match File::open(dir.join("cgroup.events")) {
        Err(error) if is_gone(&error) => return Ok(true),
        result => result.doing(context)?,
    };
    loop {
        let mut text = String::new();
        match events.rewind().and_then(|()| events.read_to_string(&mut text)) {
            Err(error) if is_gone(&error) => return Ok(true),
            result => result.doing(context)?,
        };
        if text.lines().any(|line| line == wanted) {
            return Ok(true);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        // kernfs wakes a poll for "exceptional" input.
        let mut fds = vec![PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        fds.extend(cancel.map(|cancel| PollFd::new(cancel.as_fd(), PollFlags::POLLIN)));
        let wait = left.map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN));
        match poll(&mut fds, PollTimeout::try_from(wait.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX)) {
            Ok(_) if fds.get(1).is_some_and(|cancel| cancel.any() == Some(true)) => {
                return Err(syscalls::given_up(cancel, || {
                    format!("waiting for {wanted:?} of the cgroup {}", dir.display())
                }));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).doing(context),
        }
    }
}

/// All processes of a cgroup, as this process sees them.
fn processes(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    parse_pids(&text).collect()
}

/// Kills what is in a cgroup and removes it with all below.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    // The rule: no process is in it any more, and no cgroup below.
    if try_to_remove(dir) {
        return Ok(());
    }
    kill(dir, PATIENCE)?;
    remove_empty(dir).doing(|| format!("removing the cgroup {}", dir.display()))
}

/// Removes a cgroup whose own processes have ended, with all below, unless
/// another command's have come: then it is theirs.
pub(crate) fn remove_unless_taken(dir: &Path) -> Result<()> {
    // A killed process leaves a moment after its end.
    const MOMENT: Duration = Duration::from_secs(1);
    if try_to_remove(dir) || !wait_empty(dir, MOMENT)? {
        return Ok(());
    }
    remove_empty(dir).doing(|| format!("removing the cgroup {}", dir.display()))
}

/// Removes a cgroup unless a process goes on in it, which is left alone.
pub(crate) fn remove_if_empty(dir: &Path) {
    // A process leaves its cgroup a moment after its end.
    for _ in 0..50 {
        if try_to_remove(dir) || says(dir, "populated 1").unwrap_or(false) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes a cgroup without processes and cgroups below. Whether it is gone.
fn try_to_remove(dir: &Path) -> bool {
    fs::remove_dir(dir).map_or_else(|error| is_gone(&error), |()| true)
}
