//! What a container's process is to be: the `process` of an OCI config
//! (runtime-spec, config.md, "Process").

use std::path::PathBuf;

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::scheduling::{CpuAffinity, IoPriority, Scheduler};
use crate::kernel::capabilities::CapabilitySet;
use crate::seccomp;

/// The user a process runs as.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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

/// The five sets of capabilities(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// The most it can ever have.
    pub bounding: CapabilitySet,
    /// What counts.
    pub effective: CapabilitySet,
    /// What it may make effective.
    pub permitted: CapabilitySet,
    /// What survives execve of files that ask for it.
    pub inheritable: CapabilitySet,
    /// What survives execve.
    pub ambient: CapabilitySet,
}

impl CapabilitySets {
    /// Every capability that is in one of them.
    pub(crate) fn union(&self) -> CapabilitySet {
        let others = [self.effective, self.permitted, self.inheritable, self.ambient];
        others.into_iter().fold(self.bounding, CapabilitySet::union)
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

/// What a process has if nothing else is said: the 14 of podman and docker.
pub const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet::from_bits(seccomp::default_capabilities());

/// Where programs are looked for if the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process in a container is to be.
///
/// In JSON its fields stand among those of the [`ContainerSpec`](super::ContainerSpec)
/// it belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, all of it, in order: `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside; must exist.
    pub cwd: PathBuf,
    /// The user it runs as.
    pub user: User,
    /// Groups it is in besides those of its user: each a group's name in the
    /// container's `/etc/group`, or a gid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// `no_new_privs` (prctl(2)).
    pub no_new_privileges: bool,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
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
    /// The processors of what is executed in it later.
    #[serde(default)]
    pub exec_cpu_affinity: CpuAffinity,
    /// The AppArmor profile it is executed under.
    #[serde(default)]
    pub apparmor_profile: Option<String>,
}

impl ProcessSpec {
    /// This program, with the defaults of podman and docker: root of the
    /// container with 14 capabilities and no new privileges.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> ProcessSpec {
        let (set, none) = (DEFAULT_CAPABILITIES, CapabilitySet::EMPTY);
        ProcessSpec {
            args: args.into_iter().map(Into::into).collect(),
            env: vec![format!("PATH={DEFAULT_PATH}"), "container=podlet".into()],
            cwd: "/".into(),
            user: User::Lookup("0".into()),
            groups: Vec::new(),
            umask: 0o022,
            capabilities: CapabilitySets {
                bounding: set,
                effective: set,
                permitted: set,
                inheritable: none,
                ambient: none,
            },
            no_new_privileges: true,
            rlimits: Vec::new(),
            oom_score_adj: None,
            scheduler: None,
            io_priority: None,
            exec_cpu_affinity: CpuAffinity::default(),
            apparmor_profile: None,
        }
    }

    /// Sets an environment variable; the last of a name counts.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> ProcessSpec {
        self.set_env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> ProcessSpec {
        self.cwd = path.into();
        self
    }

    /// Sets the user: `NAME`, `UID`, either with `:GROUP` or `:GID`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> ProcessSpec {
        self.user = User::Lookup(user.into());
        self
    }

    /// Adds to the bounding, effective and permitted set.
    #[must_use]
    pub fn add_capability(mut self, capability: Capability) -> ProcessSpec {
        for set in self.plain_sets() {
            set.insert(capability);
        }
        self
    }

    /// Takes from the bounding, effective and permitted set.
    #[must_use]
    pub fn drop_capability(mut self, capability: Capability) -> ProcessSpec {
        for set in self.plain_sets() {
            set.remove(capability);
        }
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

    fn plain_sets(&mut self) -> [&mut CapabilitySet; 3] {
        let sets = &mut self.capabilities;
        [&mut sets.bounding, &mut sets.effective, &mut sets.permitted]
    }
}
