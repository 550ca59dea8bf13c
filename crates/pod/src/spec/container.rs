//! What a container is to be, with the defaults of podman and docker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::mount::{Mount, MountKind};
use super::pod::PodOptions;
use super::process::{CpuAffinity, Device, IoPriority, MemoryPolicy, Personality, Scheduler};
use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;
use crate::resources::Resources;
use crate::seccomp::{DEFAULT_CAPABILITIES, Filter, Profile, Seccomp, Situation};

/// Where a container's root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// A directory of this machine, used as it is.
    Dir(PathBuf),
    /// This machine's own root file system, copy-on-write.
    Host,
}

impl Root {
    /// The directory it is, or begins with.
    pub fn path(&self) -> &Path {
        match self {
            Root::Dir(path) => path,
            Root::Host => Path::new("/"),
        }
    }
}

/// Which namespace of a kind a container is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    /// The pod's if it shares that kind, else one of its own.
    #[default]
    Pod,
    /// One of its own.
    Own,
    /// The machine's.
    Host,
}

/// The user a process runs as.
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

impl CapabilitySets {
    /// Every capability that is in one of them.
    pub(crate) fn union(&self) -> u64 {
        self.bounding | self.effective | self.permitted | self.inheritable | self.ambient
    }
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
    /// What is mounted later, outside on what it has from there, or inside:
    /// `MS_PRIVATE` (neither is seen on the other side), `MS_SLAVE` (what is
    /// mounted outside is seen inside), `MS_SHARED` (and the other way round)
    /// or `MS_UNBINDABLE`, perhaps with `MS_REC` for the mounts below, too
    /// (mount_namespaces(7)). 0: what comes from outside is a slave, the rest
    /// stays as each mount says.
    #[serde(default = "private")]
    pub root_propagation: u64,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, all of it, in order: `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside; must exist.
    pub cwd: PathBuf,
    /// The user it runs as.
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
    /// It makes containers of its own: the default filter lets it make
    /// namespaces and mounts without CAP_SYS_ADMIN, and nothing below `/proc`
    /// and `/sys` is masked or made read-only, because the kernel lets a user
    /// namespace mount these anew only where they are not covered in parts.
    /// Refused in the machine's user namespace.
    #[serde(default)]
    pub nesting: bool,
    /// Paths that appear empty.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<PathBuf>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// What all of it together may use.
    #[serde(default)]
    pub resources: Resources,
    /// Its processes: the pod's, or a namespace nested under pause's.
    pub pid: NamespaceMode,
    /// Its network.
    pub net: NamespaceMode,
    /// Its ipc.
    pub ipc: NamespaceMode,
    /// Its view of the cgroup tree.
    pub cgroup: NamespaceMode,
    /// Host name, if its uts namespace is its own.
    pub hostname: Option<String>,
    /// The signal `stop` begins with.
    pub stop_signal: i32,
    /// Domain name (setdomainname(2)), if its uts namespace is its own.
    #[serde(default)]
    pub domainname: Option<String>,
    /// Kernel parameters of namespaces that are its own, `net.ipv4.ip_forward`
    /// to `1`; those of namespaces it shares belong to the pod.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Device nodes besides the usual ones.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// How readily the kernel kills it when memory runs out: -1000 to 1000
    /// (proc_pid_oom_score_adj(5)); as podlet's own if not given.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// How it is scheduled.
    #[serde(default)]
    pub scheduler: Option<Scheduler>,
    /// The order of its reads and writes.
    #[serde(default)]
    pub io_priority: Option<IoPriority>,
    /// Execution domain.
    #[serde(default)]
    pub personality: Option<Personality>,
    /// The processors of what is executed in it later.
    #[serde(default)]
    pub exec_cpu_affinity: CpuAffinity,
    /// Where its memory comes from.
    #[serde(default)]
    pub memory_policy: Option<MemoryPolicy>,
    /// The AppArmor profile it is executed under.
    #[serde(default)]
    pub apparmor_profile: Option<String>,
    /// Network interfaces of this machine that are moved into its network
    /// namespace, with the names they get there.
    #[serde(default)]
    pub net_devices: BTreeMap<String, String>,
    /// What tools find and group it by: names to values, for programs and
    /// people; podlet itself gives them no meaning.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What tools note on it, names to values; nothing is found by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn private() -> u64 {
    libc::MS_PRIVATE | libc::MS_REC
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
            root_propagation: private(),
            args: vec!["sh".into()],
            env: vec![format!("PATH={DEFAULT_PATH}"), "container=podlet".into()],
            cwd: "/".into(),
            user: User::Lookup("0".into()),
            umask: 0o022,
            mounts: default_mounts(),
            capabilities: CapabilitySets { bounding: set, effective: set, permitted: set, inheritable: 0, ambient: 0 },
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            nesting: false,
            masked_paths: MASKED.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY.iter().map(PathBuf::from).collect(),
            rlimits: Vec::new(),
            resources: Resources::default(),
            pid: NamespaceMode::Pod,
            net: NamespaceMode::Pod,
            ipc: NamespaceMode::Pod,
            cgroup: NamespaceMode::Pod,
            hostname: None,
            stop_signal: libc::SIGTERM,
            domainname: None,
            sysctl: BTreeMap::new(),
            devices: Vec::new(),
            oom_score_adj: None,
            scheduler: None,
            io_priority: None,
            personality: None,
            exec_cpu_affinity: CpuAffinity::default(),
            memory_policy: None,
            apparmor_profile: None,
            net_devices: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
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
        let mut mount = Mount::new(target, MountKind::Bind { source: source.into(), recursive: true });
        // A mount below would be a hole in what "read-only" promises.
        mount.recursive_flags = if read_only { libc::MS_RDONLY } else { 0 };
        self.mounts.push(mount);
        self
    }

    /// Adds a label, or changes its value.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Container {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds an annotation, or changes its value.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Container {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Mounts an empty file system in memory.
    pub fn tmpfs(mut self, target: impl Into<PathBuf>) -> Container {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        self.mounts.push(Mount::new(target, MountKind::Tmpfs).with(flags, "mode=1777"));
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

    /// The filter of its system calls, as a container of this pod; none if it
    /// may make all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its profile is not one, or needs a listener.
    pub fn filter(&self, pod: &PodOptions) -> Result<Option<Filter>> {
        if let Seccomp::Profile(Profile { listener_path: Some(path), .. }) = &self.seccomp {
            let reason = "a pod's containers have no listener: leave it and SCMP_ACT_NOTIFY out, or use podlet-oci";
            return Err(Error::invalid("seccomp.listenerPath", path, reason));
        }
        let situation = Situation { nesting: self.nesting, shared_pid: self.shares(Namespace::Pid, pod) };
        self.seccomp.filter(self.capabilities.bounding, situation)
    }

    /// The filter of its system calls without a pod, as its profile says; none if
    /// it may make all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its profile is not one.
    pub(crate) fn filter_without_pod(&self) -> Result<Option<Filter>> {
        self.seccomp.filter(self.capabilities.bounding, Situation::default())
    }
}

fn default_mounts() -> Vec<Mount> {
    const STRICT: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mount = |target: &str, kind, flags, data: &str| Mount::new(target, kind).with(flags, data);
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
