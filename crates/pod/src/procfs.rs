//! What `/proc` tells of other processes.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Context, Error, Result};
use crate::pod::PATIENCE;
use crate::sys;

/// All processes of this machine, or of as much of it as /proc shows.
pub(crate) fn all_pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A file of /proc, or one like it, whose size nobody knows before: most are
/// read by one call.
pub(crate) fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::with_capacity(4096);
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether this program is in the machine's first pid namespace (its inode:
/// linux/nsfs.h).
pub(crate) fn sees_all_pids() -> bool {
    const INITIAL_PIDS: u64 = 0xEFFF_FFFC;
    namespace_inode(std::process::id(), "pid") == Some(INITIAL_PIDS)
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

/// The mount namespace of a process.
pub(crate) fn mount_namespace(pid: u32) -> Option<MountNamespace> {
    mount_namespace_of(&fs::File::open(format!("/proc/{pid}/ns/mnt")).ok()?)
}

/// The mount namespace behind an open `/proc/<pid>/ns/mnt`.
pub(crate) fn mount_namespace_of(namespace: &fs::File) -> Option<MountNamespace> {
    match sys::mount_namespace_id(namespace) {
        Ok(id) => Some(MountNamespace::Id(id)),
        Err(_) => Some(MountNamespace::Inode(namespace.metadata().ok()?.ino())),
    }
}

/// Kills what is in a mount namespace, of the processes that `candidates` finds.
/// A process that forks faster than it is found can hide; where a cgroup or a
/// pid namespace of its own is killed, nobody can.
///
/// # Errors
/// [`Error::Deadline`], naming what was to end; [`Error::State`] if it is this
/// program's own mount namespace.
pub(crate) fn kill_in<P: IntoIterator<Item = u32>>(
    mounts: MountNamespace,
    candidates: impl Fn() -> P,
    what: impl Fn() -> String,
) -> Result<()> {
    if fs::File::open("/proc/self/ns/mnt").ok().and_then(|ours| mount_namespace_of(&ours)) == Some(mounts) {
        // The caller would be among them.
        return Err(Error::state(what(), "is in this program's own mount namespace: use it from outside"));
    }
    let here = |pid: &u32| mount_namespace(*pid) == Some(mounts);
    let end = Instant::now() + PATIENCE;
    // A process that forks and ends while /proc is read can leave a child that
    // was not seen: only the second look in vain counts.
    let mut in_vain = 0;
    while in_vain < 2 {
        let found: Vec<_> = candidates().into_iter().filter(here).collect();
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        if Instant::now() > end {
            return Err(Error::Deadline { what: format!("the end of all processes of {}", what()), after: PATIENCE });
        }
        for pid in found {
            // Opened, then looked at again: the pid may be another's now.
            if let Ok(pidfd) = sys::pidfd_open(pid)
                && here(&pid)
            {
                sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
                sys::wait_readable(&pidfd, Some(Duration::from_millis(100))).ok();
            }
        }
    }
    Ok(())
}

/// The inode of a process's namespace.
pub(crate) fn namespace_inode(pid: u32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|meta| meta.ino())
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
    let status = read("/proc/thread-self/status").unwrap_or_default();
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
    Ok(Own { pids: meta.ino(), bounding: bounding.doing(|| "reading /proc/thread-self/status".into())? })
}

/// The pid that `pid` has in the pid namespace of `pause`, if it is there.
pub(crate) fn inner_pid(pid: u32, pause: u32) -> Option<u32> {
    let depth = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.to_string();
        Some(line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
    };
    let level = depth(pause)?.len();
    let pids = depth(pid)?;
    let inner = *pids.get(level - 1)?;
    // Deep enough, but is it this pod? Its namespace is pause's, or its
    // ancestor at that depth is a child of pause: then its parents lead there.
    let same = |pid: u32| namespace_inode(pid, "pid") == namespace_inode(pause, "pid");
    let mut ancestor = pid;
    for _ in 0..64 {
        if ancestor == pause || same(ancestor) {
            return Some(inner);
        }
        ancestor = parent(ancestor)?;
    }
    None
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|&pid| pid > 1)
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

/// The same of another mount namespace, as it is seen from its root: by a
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
        thread.join().unwrap_or_else(|_| Err(Error::Os { doing: context(), errno: Errno::EIO }))
    })
}

fn read_mounts(path: &str) -> Result<Vec<Seen>> {
    let bytes = fs::read(path).doing(|| format!("reading {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse_mount).collect())
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
