//! What a container is to be, with the defaults of podman and docker.

use std::path::PathBuf;

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::check::{check_hostname, check_mount, check_name, check_path, check_rootfs, check_string, rlimit_number};
use crate::error::{Error, Result};
use crate::seccomp::{DEFAULT_CAPABILITIES, Filter, Profile, Seccomp};

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
    /// System calls it may make.
    #[serde(default)]
    pub seccomp: Seccomp,
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
            seccomp: Seccomp::Default,
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

    /// The filter of its system calls, as a pod's container; none if it may
    /// make all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its profile is not one, or needs a listener.
    pub fn filter(&self) -> Result<Option<Filter>> {
        if let Seccomp::Profile(Profile { listener_path: Some(path), .. }) = &self.seccomp {
            let reason = "a pod's containers have no listener: leave it and SCMP_ACT_NOTIFY out, or use podlet-oci";
            return Err(Error::invalid("seccomp.listenerPath", path, reason));
        }
        self.seccomp.filter(self.capabilities.bounding)
    }

    /// Whether the container cannot be what it says. A seccomp profile is
    /// checked where it is compiled: [`filter`](Container::filter).
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field, the value and the cure.
    pub fn check(&self) -> Result<()> {
        check_name("container", &self.name)?;
        // Its cgroup has that name, among the files of the one above.
        let files = ["cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb.", "rdma.", "misc.", "irq."];
        if let Some(prefix) = files.iter().find(|prefix| self.name.starts_with(**prefix)) {
            return Err(Error::invalid("container name", &self.name, format!("{prefix}* are files of every cgroup")));
        }
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
