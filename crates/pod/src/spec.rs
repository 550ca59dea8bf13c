//! What a user asks for: [`PodOptions`] and [`Container`].
//!
//! Both are plain data, filled by methods or by [`config`](crate::config) from
//! an OCI `config.json`, kept in the state directory as JSON, and checked as a
//! whole before anything is made: see [`PodOptions::check`] and
//! [`Container::check`]. What passed holds only names, paths and strings that
//! a plan can take as they are.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use caps::Capability;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::facts::IdMap;

/// A kind of namespace that a pod's containers may share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Network devices, addresses, ports.
    Net,
    /// Processes.
    Pid,
    /// System V and POSIX message queues and shared memory, `/dev/shm`.
    Ipc,
    /// Host name.
    Uts,
    /// User and group ids.
    User,
    /// The root of the cgroup tree.
    Cgroup,
    /// The monotonic and boot-time clocks.
    Time,
}

impl Namespace {
    /// All that can be shared.
    pub const ALL: [Namespace; 7] = [
        Namespace::Net,
        Namespace::Pid,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::User,
        Namespace::Cgroup,
        Namespace::Time,
    ];

    /// The name in `/proc/<pid>/ns` and in `--share`.
    pub fn name(self) -> &'static str {
        match self {
            Namespace::Net => "net",
            Namespace::Pid => "pid",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::User => "user",
            Namespace::Cgroup => "cgroup",
            Namespace::Time => "time",
        }
    }

    /// `CLONE_NEW*`.
    pub fn flag(self) -> u64 {
        (match self {
            Namespace::Net => libc::CLONE_NEWNET,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Cgroup => libc::CLONE_NEWCGROUP,
            Namespace::Time => libc::CLONE_NEWTIME,
        }) as u64
    }
}

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(name: &str) -> Result<Namespace> {
        Namespace::ALL.into_iter().find(|namespace| namespace.name() == name).ok_or_else(|| {
            Error::invalid("share", name, "not a namespace; choose from net, pid, ipc, uts, user, cgroup, time")
        })
    }
}

/// Offsets of a pod's clocks (time_namespaces(7)), in seconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Added to CLOCK_MONOTONIC.
    pub monotonic: i64,
    /// Added to CLOCK_BOOTTIME.
    pub boottime: i64,
}

/// What a pod is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PodOptions {
    /// Unique in its [`Store`](crate::Store).
    pub name: String,
    /// What its containers share. Default: net, pid, ipc, uts.
    pub share: BTreeSet<Namespace>,
    /// Host name inside; the pod's name if not given.
    pub hostname: Option<String>,
    /// With [`Namespace::User`]: user ids. If empty, an ordinary user's pod
    /// gets what that user may have (`/etc/subuid`).
    pub uid_maps: Vec<IdMap>,
    /// With [`Namespace::User`]: group ids.
    pub gid_maps: Vec<IdMap>,
    /// With [`Namespace::Time`].
    pub time_offsets: TimeOffsets,
    /// pause ends, and with it the pod, when the last container has ended.
    pub end_with_last: bool,
    /// A dead pod's records are removed by whoever comes by.
    pub remove_when_dead: bool,
}

impl PodOptions {
    /// A pod that shares net, pid, ipc and uts.
    pub fn new(name: impl Into<String>) -> PodOptions {
        PodOptions {
            name: name.into(),
            share: [Namespace::Net, Namespace::Pid, Namespace::Ipc, Namespace::Uts].into(),
            hostname: None,
            uid_maps: Vec::new(),
            gid_maps: Vec::new(),
            time_offsets: TimeOffsets::default(),
            end_with_last: false,
            remove_when_dead: false,
        }
    }

    /// Shares exactly these.
    pub fn share(mut self, namespaces: impl IntoIterator<Item = Namespace>) -> PodOptions {
        self.share = namespaces.into_iter().collect();
        self
    }

    /// Sets the host name inside.
    pub fn hostname(mut self, name: impl Into<String>) -> PodOptions {
        self.hostname = Some(name.into());
        self
    }

    /// The host name inside.
    pub fn effective_hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.name)
    }

    /// Whether containers share this namespace.
    pub fn shares(&self, namespace: Namespace) -> bool {
        self.share.contains(&namespace)
    }

    /// # Errors
    /// [`Error::Invalid`] for what cannot be.
    pub fn check(&self) -> Result<()> {
        check_name("pod", &self.name)?;
        check_hostname(self.effective_hostname())?;
        let no_maps = self.uid_maps.is_empty() && self.gid_maps.is_empty();
        if !self.shares(Namespace::User) && !no_maps {
            return Err(Error::invalid("uidmap", "", "id maps need a user namespace: add `user` to --share"));
        }
        if self.uid_maps.is_empty() != self.gid_maps.is_empty() {
            return Err(Error::invalid("uidmap", "", "give --uidmap and --gidmap together"));
        }
        for (field, maps) in [("uidmap", &self.uid_maps), ("gidmap", &self.gid_maps)] {
            check_maps(field, maps)?;
        }
        if !self.shares(Namespace::Time) && self.time_offsets != TimeOffsets::default() {
            return Err(Error::invalid(
                "monotonic-offset or boottime-offset",
                "",
                "offsets need a time namespace: add `time` to --share",
            ));
        }
        Ok(())
    }
}

fn check_maps(field: &str, maps: &[IdMap]) -> Result<()> {
    for map in maps {
        let shown = format!("{}:{}:{}", map.inside, map.outside, map.count);
        let fits = |first: u32| first.checked_add(map.count).is_some();
        if map.count == 0 || !fits(map.inside) || !fits(map.outside) {
            return Err(Error::invalid(field, shown, "INSIDE:OUTSIDE:COUNT, with COUNT at least 1 and no overflow"));
        }
    }
    if !maps.is_empty() && !maps.iter().any(|map| map.contains(0)) {
        return Err(Error::invalid(field, "", "the pod needs an id 0: map INSIDE 0 to something"));
    }
    Ok(())
}

/// Where a container's root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// A directory of this machine, used as it is.
    Dir(PathBuf),
    /// This machine's own root file system, copy-on-write.
    Host,
}

/// Which namespace of a kind a container is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The pod's if it shares that kind, else one of its own.
    #[default]
    Pod,
    /// One of its own.
    Own,
    /// The machine's.
    Host,
}

/// Who the process is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// `NAME`, `UID`, `NAME:GROUP`, `UID:GID`, looked up in the container's
    /// `/etc/passwd` and `/etc/group` where it is a name.
    Lookup(String),
    /// Exactly these ids, as an OCI config gives them.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A directory or file of this machine.
    Bind {
        /// Which.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// The pod's `/proc`, or the container's own.
    Proc,
    /// `/sys`, for the container's network namespace.
    Sysfs,
    /// POSIX message queues, for the container's ipc namespace.
    Mqueue,
    /// Shared memory: the pod's, if it shares ipc.
    Shm,
    /// An empty file system in memory.
    Tmpfs,
    /// Pseudo-terminals.
    Devpts,
    /// The cgroup v2 hierarchy.
    Cgroup,
}

/// One mount, in the order they are made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// `MS_*` flags of mount(2); of these RDONLY, NOSUID, NODEV, NOEXEC,
    /// NOATIME, NODIRATIME, STRICTATIME, RELATIME.
    pub flags: u64,
    /// Of the same, those that count for the mounts below, too.
    pub recursive_flags: u64,
    /// The file system's own options, comma-separated.
    pub data: String,
}

/// The five sets of capabilities(7), one bit a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// The most it can ever have.
    pub bounding: u64,
    /// What counts.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What survives execve of files that ask for it.
    pub inheritable: u64,
    /// What survives execve.
    pub ambient: u64,
}

/// A resource limit (getrlimit(2)).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and the like.
    pub name: String,
    /// In the resource's unit.
    pub soft: u64,
    /// In the resource's unit.
    pub hard: u64,
}

/// What a container is to be.
///
/// ```
/// use pod::{Container, Root};
/// let container = Container::new("web", Root::Host)
///     .args(["/bin/sh", "-c", "echo hello from $POD"])
///     .env("POD", "web");
/// container.check().unwrap();
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Unique in its pod.
    pub name: String,
    /// Where its files come from.
    pub root: Root,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, all of it, in order: `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside; must exist.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// File mode creation mask.
    pub umask: u32,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// `no_new_privs` (prctl(2)).
    pub no_new_privileges: bool,
    /// Paths that appear empty.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<PathBuf>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Its processes: the pod's, or a namespace nested under pause's.
    pub pid: Place,
    /// Its network.
    pub net: Place,
    /// Its ipc.
    pub ipc: Place,
    /// Its view of the cgroup tree.
    pub cgroup: Place,
    /// Host name, if its uts namespace is its own.
    pub hostname: Option<String>,
    /// The signal `stop` begins with.
    pub stop_signal: i32,
}

/// What `podman` and `docker` leave a container: capabilities that root in it
/// needs for ordinary work, and none that reaches out of it.
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Paths of `/proc` and `/sys` that tell or do what concerns the whole machine.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where programs are looked for if the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Container {
    /// A container with the defaults of podman and docker, running `sh`.
    pub fn new(name: impl Into<String>, root: Root) -> Container {
        let set = DEFAULT_CAPABILITIES.iter().fold(0, |set, capability| set | capability.bitmask());
        Container {
            name: name.into(),
            root,
            read_only: false,
            args: vec!["sh".into()],
            env: vec![format!("PATH={DEFAULT_PATH}"), "container=podlet".into()],
            cwd: "/".into(),
            user: User::Lookup("0".into()),
            umask: 0o022,
            mounts: default_mounts(),
            capabilities: CapabilitySets { bounding: set, effective: set, permitted: set, inheritable: 0, ambient: 0 },
            no_new_privileges: true,
            masked_paths: MASKED.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY.iter().map(PathBuf::from).collect(),
            rlimits: Vec::new(),
            pid: Place::Pod,
            net: Place::Pod,
            ipc: Place::Pod,
            cgroup: Place::Pod,
            hostname: None,
            stop_signal: libc::SIGTERM,
        }
    }

    /// The program and its arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Container {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets an environment variable; the last of a name counts.
    pub fn env(mut self, name: &str, value: &str) -> Container {
        self.set_env(name, value);
        self
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let variable = format!("{name}={value}");
        match self.env.iter_mut().find(|old| old.split_once('=').is_some_and(|(old, _)| old == name)) {
            Some(old) => *old = variable,
            None => self.env.push(variable),
        }
    }

    /// The value of an environment variable.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().filter_map(|variable| variable.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Sets the working directory.
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Container {
        self.cwd = path.into();
        self
    }

    /// Sets the user: `NAME`, `UID`, either with `:GROUP` or `:GID`.
    pub fn user(mut self, user: impl Into<String>) -> Container {
        self.user = User::Lookup(user.into());
        self
    }

    /// Binds a directory or file of this machine, recursively.
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Container {
        self.mounts.push(Mount {
            target: target.into(),
            kind: MountKind::Bind { source: source.into(), recursive: true },
            flags: 0,
            // A mount below would be a hole in what "read-only" promises.
            recursive_flags: if read_only { libc::MS_RDONLY } else { 0 },
            data: String::new(),
        });
        self
    }

    /// Mounts an empty file system in memory.
    pub fn tmpfs(mut self, target: impl Into<PathBuf>) -> Container {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let (target, data) = (target.into(), "mode=1777".into());
        self.mounts.push(Mount { target, kind: MountKind::Tmpfs, flags, recursive_flags: 0, data });
        self
    }

    /// Adds to the bounding, effective and permitted set.
    pub fn add_capability(mut self, capability: Capability) -> Container {
        for set in self.plain_sets() {
            *set |= capability.bitmask();
        }
        self
    }

    /// Takes from the bounding, effective and permitted set.
    pub fn drop_capability(mut self, capability: Capability) -> Container {
        for set in self.plain_sets() {
            *set &= !capability.bitmask();
        }
        self
    }

    fn plain_sets(&mut self) -> [&mut u64; 3] {
        let sets = &mut self.capabilities;
        [&mut sets.bounding, &mut sets.effective, &mut sets.permitted]
    }

    /// Whether the container cannot be what it says.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field, the value and the cure.
    pub fn check(&self) -> Result<()> {
        check_name("container", &self.name)?;
        if let Some(hostname) = &self.hostname {
            check_hostname(hostname)?;
        }
        match &self.root {
            Root::Host => {}
            Root::Dir(dir) => check_rootfs(dir)?,
        }
        if self.args.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("args", "", "the command is empty: say what to run"));
        }
        for arg in &self.args {
            check_string("args", arg)?;
        }
        for variable in &self.env {
            check_string("env", variable)?;
            if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(Error::invalid("env", variable, "give NAME=value"));
            }
        }
        check_path("cwd", &self.cwd)?;
        for mount in &self.mounts {
            check_mount(mount)?;
        }
        for path in self.masked_paths.iter().chain(&self.readonly_paths) {
            check_path("maskedPaths or readonlyPaths", path)?;
        }
        for limit in &self.rlimits {
            if limit.soft > limit.hard {
                return Err(Error::invalid("rlimits", &limit.name, "the soft limit is above the hard one"));
            }
            rlimit_number(&limit.name)?;
        }
        if self.umask > 0o777 {
            return Err(Error::invalid("umask", format!("{:o}", self.umask), "at most 0777"));
        }
        if self.pid == Place::Host {
            let cure = "a pod's containers are children of its pause process, which the machine's pid namespace does \
                        not allow; share the pod's, or take one of its own";
            return Err(Error::invalid("pid", "host", cure));
        }
        Ok(())
    }
}

fn default_mounts() -> Vec<Mount> {
    const STRICT: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mount = |target: &str, kind, flags, data: &str| Mount {
        target: target.into(),
        kind,
        flags,
        recursive_flags: 0,
        data: data.into(),
    };
    vec![
        mount("/proc", MountKind::Proc, STRICT, ""),
        mount("/dev", MountKind::Tmpfs, libc::MS_NOSUID | libc::MS_STRICTATIME, "mode=755,size=65536k"),
        mount(
            "/dev/pts",
            MountKind::Devpts,
            libc::MS_NOSUID | libc::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount("/dev/shm", MountKind::Shm, STRICT, "mode=1777,size=65536k"),
        mount("/dev/mqueue", MountKind::Mqueue, STRICT, ""),
        mount("/sys", MountKind::Sysfs, STRICT | libc::MS_RDONLY, ""),
        mount("/sys/fs/cgroup", MountKind::Cgroup, STRICT | libc::MS_RDONLY, ""),
    ]
}

/// Names become file names, cgroup names and part of process titles.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty()
        || name.len() > 63
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(good)
    {
        let reason = "1 to 63 of A-Z a-z 0-9 _ . -, the first a letter or digit";
        return Err(Error::invalid(format!("{what} name"), name, reason));
    }
    Ok(())
}

fn check_hostname(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(Error::invalid("hostname", name, "1 to 64 of A-Z a-z 0-9 _ . -"));
    }
    Ok(())
}

pub(crate) fn check_string(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::invalid(field, value, "contains a null byte, which no system call can take"));
    }
    Ok(())
}

/// What the system says of an error, without its number.
fn describe(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().into(),
        None => error.to_string(),
    }
}

fn check_rootfs(dir: &Path) -> Result<()> {
    let shown = dir.to_string_lossy();
    if !dir.is_absolute() {
        return Err(Error::invalid("rootfs", shown, "give an absolute path"));
    }
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid("rootfs", shown, "not a directory")),
        Err(error) => Err(Error::invalid("rootfs", shown, describe(&error))),
    }
}

/// An absolute path without `..`: what it means must not depend on the image.
pub(crate) fn check_path(field: &str, path: &Path) -> Result<()> {
    let shown = path.to_string_lossy();
    check_string(field, &shown)?;
    if path.to_str().is_none() {
        return Err(Error::invalid(field, shown, "not UTF-8"));
    }
    if !path.is_absolute() {
        return Err(Error::invalid(field, shown, "give an absolute path, as the container sees it"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid(field, shown, "give the path without `..`"));
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Result<()> {
    check_path("mount destination", &mount.target)?;
    check_string("mount options", &mount.data)?;
    if mount.target == Path::new("/") {
        return Err(Error::invalid("mount destination", "/", "that is the rootfs: use --rootfs or root.path"));
    }
    if let MountKind::Bind { source, .. } = &mount.kind {
        let shown = source.to_string_lossy();
        check_string("mount source", &shown)?;
        if !source.is_absolute() {
            return Err(Error::invalid("mount source", shown, "give an absolute path"));
        }
        if let Err(error) = std::fs::metadata(source) {
            return Err(Error::invalid("mount source", shown, describe(&error)));
        }
    }
    Ok(())
}

/// The kernel's number of a resource limit, by its name.
pub(crate) fn rlimit_number(name: &str) -> Result<(u32, &'static str)> {
    macro_rules! table {
        ($($limit:ident),*) => { [$((stringify!($limit), libc::$limit as u32)),*] };
    }
    let table = table![
        RLIMIT_CPU,
        RLIMIT_FSIZE,
        RLIMIT_DATA,
        RLIMIT_STACK,
        RLIMIT_CORE,
        RLIMIT_RSS,
        RLIMIT_NPROC,
        RLIMIT_NOFILE,
        RLIMIT_MEMLOCK,
        RLIMIT_AS,
        RLIMIT_LOCKS,
        RLIMIT_SIGPENDING,
        RLIMIT_MSGQUEUE,
        RLIMIT_NICE,
        RLIMIT_RTPRIO,
        RLIMIT_RTTIME
    ];
    let found = table.into_iter().find(|(known, _)| *known == name);
    found.map(|(name, number)| (number, name)).ok_or_else(|| {
        Error::invalid("rlimits", name, "not a resource limit: RLIMIT_NOFILE, RLIMIT_NPROC, ... of getrlimit(2)")
    })
}

/// A capability by its name, with or without `CAP_`, in any case.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name.
pub fn parse_capability(name: &str) -> Result<Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    full.parse().map_err(|_| Error::invalid("capability", name, "not a capability of capabilities(7)"))
}
