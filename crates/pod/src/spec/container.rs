//! What a container is to be, with the defaults of podman and docker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::flags::{MountFlags, Propagation, PropagationKind};
use super::health::HealthChecks;
use super::layers::Layers;
use super::log::LogOptions;
use super::mount::{Mount, MountKind};
use super::order::{After, InitContainer, Lifecycle};
use super::pod::{PodOptions, shm_options};
use super::process::ProcessSpec;
use super::restart::{Backoff, RestartPolicy};
use super::scheduling::{MemoryPolicy, Personality};
use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::signal::Signal;
use crate::resources::Resources;
use crate::seccomp::{Filter, Profile, Seccomp, Situation};

/// Where a container's root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Root {
    /// A directory of this machine, used as it is.
    Dir(PathBuf),
    /// This machine's own root file system, copy-on-write.
    Host,
    /// Directories, one over another, copy-on-write.
    Layers(Layers),
}

impl Root {
    /// The directory that it is, if it is one as it stands.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Root::Dir(path) => Some(path),
            Root::Host | Root::Layers(_) => None,
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

/// What a container is to be.
///
/// ```
/// use pod::{ContainerSpec, Root};
/// let container = ContainerSpec::new("web", Root::Host)
///     .args(["/bin/sh", "-c", "echo hello from $POD"])
///     .env("POD", "web");
/// container.check().unwrap();
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// Unique in its pod.
    pub name: String,
    /// Where its files come from.
    pub root: Root,
    /// What it executes first, and as whom.
    #[serde(flatten)]
    pub process: ProcessSpec,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// What is mounted later, outside on what it has from there, or inside. If it
    /// is not said, what comes from outside is a slave, and the rest stays as each
    /// mount says.
    #[serde(default = "private")]
    pub root_propagation: Propagation,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
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
    /// How its output is kept, as far as that goes to [`Stdio::Log`](crate::Stdio::Log).
    #[serde(default)]
    pub log: LogOptions,
    /// It has a terminal of its own (pty(7)) where it would have the log: what it
    /// writes to that goes to the log, and [`Container::attach`](crate::Container::attach)
    /// shows it and types. As `tty` of CRI's ContainerConfig.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// The signal `stop` begins with.
    pub stop_signal: Signal,
    /// How many seconds it is given from that signal to SIGKILL, where the command
    /// that stops it does not say ([`grace`](ContainerSpec::grace)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u32>,
    /// Whether it is started again when it has ended, by whoever
    /// [supervises](crate::Pod::supervise) its pod.
    #[serde(default, skip_serializing_if = "is_no")]
    pub restart: RestartPolicy,
    /// How long it waits for that.
    #[serde(default, skip_serializing_if = "Backoff::is_default")]
    pub restart_backoff: Backoff,
    /// Containers of its pod that it is started after, and what these have to have
    /// come to; they are stopped after it. Its restart policy does not wait for them
    /// again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// Whether it runs before all others of its pod, to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitContainer>,
    /// What is executed in it when it has started, and before it is stopped.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    /// How many seconds each run of it may take, by the clock that also counts while
    /// the machine sleeps (CLOCK_BOOTTIME). Whoever
    /// [supervises](crate::Pod::supervise) its pod ends it then, with all in it
    /// (SIGKILL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u32>,
    /// How it is found out whether it does well, by whoever
    /// [supervises](crate::Pod::supervise) its pod.
    #[serde(default, skip_serializing_if = "HealthChecks::is_empty")]
    pub health: HealthChecks,
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
    /// Execution domain.
    #[serde(default)]
    pub personality: Option<Personality>,
    /// Where its memory comes from.
    #[serde(default)]
    pub memory_policy: Option<MemoryPolicy>,
    /// Network interfaces of this machine that are moved into its network
    /// namespace, with the names they get there.
    #[serde(default)]
    pub net_devices: BTreeMap<String, String>,
    /// No command will ask for its records once it has ended: the next
    /// [sweep](crate::Pod::sweep) removes them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_when_ended: bool,
    /// What tools find and group it by: names to values, for programs and
    /// people; podlet itself gives them no meaning.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What tools note on it, names to values; nothing is found by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_no(policy: &RestartPolicy) -> bool {
    !policy.restarts()
}

fn private() -> Propagation {
    Propagation::new(PropagationKind::Private).recursive()
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

impl ContainerSpec {
    /// A container with the defaults of podman and docker, running `sh`.
    pub fn new(name: impl Into<String>, root: Root) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            root,
            process: ProcessSpec::new(["sh"]),
            read_only: false,
            root_propagation: private(),
            mounts: default_mounts(),
            seccomp: Seccomp::Default,
            nesting: false,
            masked_paths: MASKED.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY.iter().map(PathBuf::from).collect(),
            resources: Resources::default(),
            pid: NamespaceMode::Pod,
            net: NamespaceMode::Pod,
            ipc: NamespaceMode::Pod,
            cgroup: NamespaceMode::Pod,
            hostname: None,
            tty: false,
            stop_signal: Signal::TERM,
            stop_timeout: None,
            restart: RestartPolicy::No,
            restart_backoff: Backoff::default(),
            after: Vec::new(),
            init: None,
            lifecycle: Lifecycle::default(),
            time_limit: None,
            health: HealthChecks::default(),
            domainname: None,
            sysctl: BTreeMap::new(),
            devices: Vec::new(),
            personality: None,
            memory_policy: None,
            net_devices: BTreeMap::new(),
            remove_when_ended: false,
            log: LogOptions::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// The program and its arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> ContainerSpec {
        self.process.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets an environment variable; the last of a name counts.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> ContainerSpec {
        self.process.set_env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> ContainerSpec {
        self.process = self.process.cwd(path);
        self
    }

    /// Sets the user: `NAME`, `UID`, either with `:GROUP` or `:GID`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> ContainerSpec {
        self.process = self.process.user(user);
        self
    }

    /// Binds a directory or file of this machine, recursively.
    #[must_use]
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> ContainerSpec {
        let mut mount = Mount::new(target, MountKind::Bind { source: source.into(), recursive: true });
        // A mount below would be a hole in what "read-only" promises.
        mount.recursive_flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        self.mounts.push(mount);
        self
    }

    /// Adds a label, or changes its value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds an annotation, or changes its value.
    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Mounts an empty file system in memory.
    #[must_use]
    pub fn tmpfs(mut self, target: impl Into<PathBuf>) -> ContainerSpec {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        self.mounts.push(Mount::new(target, MountKind::Tmpfs).with(flags, "mode=1777"));
        self
    }

    /// How long it is given to end once it has been sent its
    /// [stop signal](ContainerSpec::stop_signal): what
    /// [`stop_timeout`](ContainerSpec::stop_timeout) says, else 10 seconds, as
    /// podman and docker have it.
    pub fn grace(&self) -> Duration {
        const USUAL: u32 = 10;
        Duration::from_secs(self.stop_timeout.unwrap_or(USUAL).into())
    }

    /// Whether its pod needs a [supervisor](crate::Pod::start_supervisor): it has a
    /// restart policy, checks, or a time limit.
    pub fn needs_supervisor(&self) -> bool {
        self.restart.restarts() || !self.health.is_empty() || self.time_limit.is_some()
    }

    /// Adds to the bounding, effective and permitted set.
    #[must_use]
    pub fn add_capability(mut self, capability: Capability) -> ContainerSpec {
        self.process = self.process.add_capability(capability);
        self
    }

    /// Takes from the bounding, effective and permitted set.
    #[must_use]
    pub fn drop_capability(mut self, capability: Capability) -> ContainerSpec {
        self.process = self.process.drop_capability(capability);
        self
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
        self.seccomp.filter(self.process.capabilities.bounding, situation)
    }

    /// The filter of its system calls without a pod, as its profile says; none if
    /// it may make all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its profile is not one.
    pub(crate) fn filter_without_pod(&self) -> Result<Option<Filter>> {
        self.seccomp.filter(self.process.capabilities.bounding, Situation::default())
    }
}

fn default_mounts() -> Vec<Mount> {
    const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    let mount = |target: &str, kind, flags, data: &str| Mount::new(target, kind).with(flags, data);
    vec![
        mount("/proc", MountKind::Proc, STRICT, ""),
        mount("/dev", MountKind::Tmpfs, MountFlags::NOSUID | MountFlags::STRICTATIME, "mode=755,size=65536k"),
        mount(
            "/dev/pts",
            MountKind::Devpts,
            MountFlags::NOSUID | MountFlags::NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount("/dev/shm", MountKind::Shm, STRICT, &shm_options(None)),
        mount("/dev/mqueue", MountKind::Mqueue, STRICT, ""),
        mount("/sys", MountKind::Sysfs, STRICT | MountFlags::RDONLY, ""),
        mount("/sys/fs/cgroup", MountKind::Cgroup, STRICT | MountFlags::RDONLY, ""),
    ]
}
