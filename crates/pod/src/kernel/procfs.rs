//! What `/proc` tells of other processes.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use super::{PATIENCE, files, procfs, syscalls};
use crate::error::{Context, Error, Result};

/// What is asked of a process that may have ended: `None` if it has. Any other
/// failure is one to look, and no answer.
fn unless_gone<T>(result: std::io::Result<T>, doing: impl FnOnce() -> String) -> Result<Option<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        result => result.map(Some).doing(doing),
    }
}

/// All processes of this machine, or of as much of it as /proc shows.
pub(crate) fn all_pids() -> Result<Vec<u32>> {
    let pids = fs::read_dir("/proc").and_then(|entries| {
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.filter_map(|entry| entry.map(pid).transpose()).collect()
    });
    pids.doing(|| "reading /proc".into())
}

/// A pidfd of the process that has this pid now.
pub(crate) fn open_process(pid: u32) -> Result<Option<OwnedFd>> {
    match syscalls::pidfd_open(pid) {
        // The second two are said of what is no process: 0, or a thread of one
        // (pidfd_open(2)).
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => Ok(None),
        result => result.map(Some).doing(|| format!("opening the process {pid}")),
    }
}

/// What is needed of `/proc/<pid>/stat` (proc_pid_stat(5)).
pub(crate) struct Stat {
    /// Field 3: `Z` and `X` have ended.
    pub state: u8,
    /// Field 4.
    pub parent: u32,
    /// Field 6: the pid of the session's leader; `None` of a process that is
    /// just leaving.
    pub session: Option<u32>,
    /// Field 22: clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// Whether it has ended and only waits to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Of a process that lives or is a zombie.
pub(crate) fn stat(pid: u32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    let Some(text) = unless_gone(read(&path), || format!("reading {path}"))? else { return Ok(None) };
    let unlike = || io::Error::new(io::ErrorKind::InvalidData, "not the stat of a process");
    parse_stat(&text).map(Some).ok_or_else(unlike).doing(|| format!("reading {path}"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, field 2, may be anything; it ends at the last ")".
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let (parent, session) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok());
    Some(Stat { state, parent, session, start: fields.nth(15)?.parse().ok()? })
}

/// A file of /proc, or one like it, whose size the kernel does not say before:
/// most are read by one call. Names in it are whatever bytes their owners chose, and the
/// kernel cuts a process's in the middle of a letter: what is no UTF-8 is
/// replaced.
pub(crate) fn read(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut bytes = Vec::with_capacity(4096);
    // A `File` by itself is asked for its size first, which is 0 there.
    files::open_once(path.as_ref(), OFlag::O_RDONLY)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|odd| String::from_utf8_lossy(odd.as_bytes()).into_owned()))
}

/// Whether this program is in the machine's first pid namespace (its inode:
/// linux/nsfs.h).
pub(crate) fn sees_all_pids() -> bool {
    const INITIAL_PIDS: u64 = 0xEFFF_FFFC;
    namespace_inode(std::process::id(), "pid").is_ok_and(|inode| inode == Some(INITIAL_PIDS))
}

/// A mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountNamespace {
    /// A number that no other one ever has.
    Id(u64),
    /// Its inode, on kernels without such a number: once it is gone another
    /// one gets it.
    Inode(u64),
}

/// The mount namespace of a process; `None` if it is gone, or another user's.
pub(crate) fn mount_namespace(pid: u32) -> Result<Option<MountNamespace>> {
    let path = format!("/proc/{pid}/ns/mnt");
    let context = || format!("opening {path}");
    let namespace = match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        result => unless_gone(result, context)?,
    };
    namespace.map(|namespace| mount_namespace_of(&namespace)).transpose().doing(context)
}

/// The mount namespace behind an open `/proc/<pid>/ns/mnt`.
pub(crate) fn mount_namespace_of(namespace: &fs::File) -> std::io::Result<MountNamespace> {
    match syscalls::mount_namespace_id(namespace) {
        Ok(id) => Ok(MountNamespace::Id(id)),
        Err(_) => Ok(MountNamespace::Inode(namespace.metadata()?.ino())),
    }
}

/// The processes of a mount namespace.
pub(crate) fn processes_in(mounts: MountNamespace) -> Result<Vec<u32>> {
    select(all_pids()?, mounts)
}

fn select(pids: Vec<u32>, mounts: MountNamespace) -> Result<Vec<u32>> {
    let is_in = |pid| Ok((mount_namespace(pid)? == Some(mounts)).then_some(pid));
    pids.into_iter().filter_map(|pid| is_in(pid).transpose()).collect()
}

/// Stops a process (SIGSTOP), and waits until it stands still or has ended.
///
/// # Errors
/// [`Error::Deadline`], [`Error::Os`].
pub(crate) fn stand_still(pidfd: &OwnedFd, pid: u32) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    // Gone already is as good.
    syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGSTOP).ok();
    loop {
        match stat(pid)? {
            Some(stat) if !matches!(stat.state, b'T' | b't' | b'Z' | b'X') => {}
            _ => return Ok(()),
        }
        if Instant::now() > end {
            return Err(Error::Deadline { what: format!("process {pid} to stop"), after: PATIENCE });
        }
        // Nothing tells of it but to the parent.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills what is in a mount namespace, of the processes that `candidates` finds.
/// A process that forks faster than it is found can hide; where a cgroup or a
/// pid namespace of its own is killed, none can.
///
/// # Errors
/// [`Error::Deadline`], naming what was to end; [`Error::State`] if it is this
/// program's own mount namespace.
pub(crate) fn kill_in(
    mounts: MountNamespace,
    candidates: impl Fn() -> Result<Vec<u32>>,
    what: impl Fn() -> String,
) -> Result<()> {
    let ours = fs::File::open("/proc/self/ns/mnt").and_then(|ours| mount_namespace_of(&ours));
    if ours.doing(|| "looking at /proc/self/ns/mnt".into())? == mounts {
        // The caller would be among them.
        return Err(Error::state(what(), "is in this program's own mount namespace: use it from outside"));
    }
    let end = Instant::now() + PATIENCE;
    // A process that forks and ends while /proc is read can leave a child that
    // was not seen: only the second look in vain counts.
    let mut in_vain = 0;
    while in_vain < 2 {
        let found = select(candidates()?, mounts)?;
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        if Instant::now() > end {
            return Err(Error::Deadline { what: format!("the end of all processes of {}", what()), after: PATIENCE });
        }
        for pid in found {
            // Opened, then looked at again: the pid may be another's now.
            if let Some(pidfd) = open_process(pid)?
                && mount_namespace(pid)? == Some(mounts)
            {
                syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
                syscalls::wait_readable(&pidfd, Some(Duration::from_millis(100))).ok();
            }
        }
    }
    Ok(())
}

/// The root directory of a process, with all that is mounted there, as a mere
/// path; `None` if the process is gone.
///
/// # Errors
/// [`Error::Os`]: EACCES if it is another user's.
pub(crate) fn root_of(process: ProcessId) -> Result<Option<OwnedFd>> {
    let path = format!("/proc/{}/root", process.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let Some(root) = unless_gone(files::open_once(Path::new(&path), flags), || format!("opening {path}"))? else {
        return Ok(None);
    };
    // Looked at again: the pid may be another process's now.
    Ok((ProcessId::of(process.pid)? == Some(process)).then_some(root.into()))
}

/// The inode of a process's namespace; `None` if it is gone, or another user's,
/// or the kernel has no such kind.
pub(crate) fn namespace_inode(pid: u32, kind: &str) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/ns/{kind}");
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        meta => Ok(unless_gone(meta, || format!("looking at {path}"))?.map(|meta| meta.ino())),
    }
}

/// What the kernel tells of the calling thread.
pub(crate) struct Own {
    /// Its pid namespace, by inode.
    pub pids: u64,
    /// Its bounding set of capabilities, one bit each.
    pub bounding: u64,
}

/// Asks the kernel for it.
///
/// # Errors
/// [`Error::Invalid`] if /proc is not that of this pid namespace: what it says
/// of a pid is said of another process then.
pub(crate) fn own() -> Result<Own> {
    const STATUS: &str = "/proc/thread-self/status";
    // Missing in the /proc of another pid namespace.
    let status = unless_gone(read(STATUS), || format!("reading {STATUS}"))?.unwrap_or_default();
    let find = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let pids = find("NSpid:");
    // One for each namespace from that of /proc to ours.
    if pids.split_whitespace().count() != 1 {
        let reason =
            "must be that of the pid namespace this program is in: mount -t proc proc /proc, or unshare --mount-proc";
        return Err(Error::invalid("/proc", pids, reason));
    }
    let meta = fs::metadata("/proc/self/ns/pid").doing(|| "looking at /proc/self/ns/pid".into())?;
    let bounding = u64::from_str_radix(find("CapBnd:"), 16).map_err(std::io::Error::other);
    Ok(Own { pids: meta.ino(), bounding: bounding.doing(|| format!("reading {STATUS}"))? })
}

/// The pid that `pid` has in the pid namespace of `pause`, if it is there.
pub(crate) fn pid_in_pod(pid: u32, pause: u32) -> Result<Option<u32>> {
    let Some(level) = status_line(pause, "NSpid:")?.map(|pids| pids.split_whitespace().count()) else {
        return Ok(None);
    };
    let pids = status_line(pid, "NSpid:")?;
    let inner = pids.and_then(|pids| pids.split_whitespace().nth(level - 1)?.parse().ok());
    let Some(inner) = inner else { return Ok(None) };
    // Deep enough, but is it this pod? Its namespace is pause's, or its
    // ancestor at that depth is a child of pause: then its parents lead there.
    let of_pod = namespace_inode(pause, "pid")?;
    let mut ancestor = pid;
    for _ in 0..64 {
        if ancestor == pause || namespace_inode(ancestor, "pid")? == of_pod {
            return Ok(Some(inner));
        }
        let parent = status_line(ancestor, "PPid:")?.and_then(|pid| pid.parse().ok());
        match parent.filter(|&pid| pid > 1) {
            Some(parent) => ancestor = parent,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// The pid that a process has in its own pid namespace.
pub(crate) fn innermost_pid(pid: u32) -> Result<Option<u32>> {
    let pids = status_line(pid, "NSpid:")?;
    Ok(pids.and_then(|pids| pids.split_whitespace().last()?.parse().ok()))
}

/// Whether a process lives; a zombie does not.
pub(crate) fn lives(process: ProcessId) -> Result<bool> {
    let stat = stat(process.pid)?.filter(|stat| stat.start == process.start);
    Ok(stat.is_some_and(|stat| !stat.has_ended()))
}

/// A file of `/proc/<pid>`; empty if the process is gone, or another user's.
pub(crate) fn text_of(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    match read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(String::new()),
        text => Ok(unless_gone(text, || format!("reading {path}"))?.unwrap_or_default()),
    }
}

/// What stands behind `name` in `/proc/<pid>/status` (proc_pid_status(5)).
fn status_line(pid: u32, name: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/status");
    let status = unless_gone(read(&path), || format!("reading {path}"))?.unwrap_or_default();
    Ok(status.lines().find_map(|line| line.strip_prefix(name)).map(|line| line.trim().to_string()))
}

/// A mount, as `/proc/self/mountinfo` shows it (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(crate) struct Seen {
    pub number: u64,
    /// The number of the mount that it is on.
    pub parent: u64,
    /// What of its file system it shows: `/` is all of it.
    pub root: String,
    pub point: PathBuf,
    /// Of the mount alone, separated by commas.
    pub options: String,
    /// The file system's type.
    pub kind: String,
    pub source: String,
}

/// All mounts of this program's mount namespace, in the kernel's order.
pub(crate) fn mounts() -> Result<Vec<Seen>> {
    read_mounts("/proc/self/mountinfo")
}

/// The mounts of another mount namespace, as they are seen from its root: by a
/// thread that enters it and ends.
///
/// # Errors
/// EPERM if it belongs to a user namespace in which this program has no rights.
pub(crate) fn mounts_in(namespace: &fs::File) -> Result<Vec<Seen>> {
    let context = || "looking into the mount namespace that is joined".to_string();
    let entered = || {
        // Root and working directory are the process's until then.
        unshare(CloneFlags::CLONE_FS).and_then(|()| setns(namespace, CloneFlags::CLONE_NEWNS)).doing(context)?;
        read_mounts("/proc/thread-self/mountinfo")
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, entered).doing(context)?;
        thread.join().unwrap_or_else(|_| Err(Error::failed(context(), io::Error::other("the thread for it panicked"))))
    })
}

/// The number of the mount that an open file is on.
pub(crate) fn mount_number(file: BorrowedFd<'_>) -> Result<Option<u64>> {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = read(&path).doing(|| format!("reading {path}"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}

fn read_mounts(path: &str) -> Result<Vec<Seen>> {
    let text = read(path).doing(|| format!("reading {path}"))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

pub(crate) fn parse_mount(line: &str) -> Option<Seen> {
    let (mount, system) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    let (number, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    // The device comes between.
    let (root, point, options) = (words.nth(1)?.into(), unescape(words.next()?).into(), words.next()?.into());
    let mut system = system.split(' ');
    let (kind, source) = (system.next()?.into(), system.next()?.into());
    Some(Seen { number, parent, root, point, options, kind, source })
}

/// Spaces and the like are octal there.
pub(crate) fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_string(), |text, (escape, meant)| text.replace(escape, meant))
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
}

impl ProcessId {
    /// Of a process that lives or is a zombie; `None` if there is none of that
    /// pid.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell, which is not "none".
    pub(crate) fn of(pid: u32) -> Result<Option<ProcessId>> {
        Ok(procfs::stat(pid)?.map(|stat| ProcessId { pid, start: stat.start }))
    }

    /// A pidfd, if the process is still this one.
    ///
    /// Opened first and compared then: were it another one's, the start time
    /// would be a later one.
    ///
    /// # Errors
    /// As [`of`](ProcessId::of).
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pidfd) = procfs::open_process(self.pid)? else { return Ok(None) };
        Ok((ProcessId::of(self.pid)? == Some(*self)).then_some(pidfd))
    }

    /// How long ago it was born, by CLOCK_BOOTTIME, which nobody sets; to some
    /// hundredths of a second.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub(crate) fn age(&self) -> Result<Duration> {
        let context = || format!("asking how old process {} is", self.pid);
        let now: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME).doing(context)?.into();
        let ticks = sysconf(SysconfVar::CLK_TCK).doing(context)?.filter(|ticks| *ticks > 0).unwrap_or(100) as u64;
        let born = self.start.saturating_mul(1000) / ticks;
        Ok(now.saturating_sub(Duration::from_millis(born)))
    }
}

/// The number of this boot (random(4)).
pub(crate) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let id = procfs::read(PATH).doing(|| format!("reading {PATH}"))?;
    Ok(id.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_just_leaving_has_no_session() {
        let stat = |session| format!("7 (a) b) Z 1 {session} {session} 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4321 0 0\n");
        let stat = |session| parse_stat(&stat(session)).expect("a stat");
        let (lives, leaves) = (stat(7), stat(-1));
        assert_eq!((lives.state, lives.parent, lives.session, lives.start), (b'Z', 1, Some(7), 4321));
        assert_eq!((leaves.session, leaves.start), (None, 4321));
        assert!(parse_stat("7 (a) Z 1").is_none());
    }
}
