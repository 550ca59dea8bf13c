//! What a config says of what is not the container's own: its namespaces and
//! ids, its hooks. Plain data, which `podlet-oci` keeps in its state.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A value that a container is started without.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ignored {
    /// Where it stands, such as `mounts[2].options`.
    pub field: String,
    /// As given.
    pub value: String,
    /// Why.
    pub reason: &'static str,
}

/// A kind of namespace (namespaces(7)), all eight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// User and group ids.
    User,
    /// Mounts.
    Mount,
    /// Processes.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// System V and POSIX message queues and shared memory.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The root of the cgroup tree.
    Cgroup,
    /// The monotonic and boot-time clocks.
    Time,
}

impl NamespaceKind {
    /// All.
    pub const ALL: [NamespaceKind; 8] = [
        NamespaceKind::User,
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
    ];

    /// The name in a config.
    pub fn name(self) -> &'static str {
        match self {
            NamespaceKind::User => "user",
            NamespaceKind::Mount => "mount",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "network",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        }
    }

    /// The name in `/proc/<pid>/ns`.
    pub fn file(self) -> &'static str {
        match self {
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Network => "net",
            other => other.name(),
        }
    }

    /// `CLONE_NEW*`.
    pub fn flag(self) -> u64 {
        (match self {
            NamespaceKind::User => libc::CLONE_NEWUSER,
            NamespaceKind::Mount => libc::CLONE_NEWNS,
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
            NamespaceKind::Time => libc::CLONE_NEWTIME,
        }) as u64
    }
}

impl FromStr for NamespaceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<NamespaceKind> {
        NamespaceKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let reason = "not a namespace: mount, pid, network, ipc, uts, user, cgroup, time";
            Error::invalid("linux.namespaces[].type", name, reason)
        })
    }
}

/// One of `linux.namespaces`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamespaceEntry {
    /// Which.
    pub kind: NamespaceKind,
    /// The namespace to join, as an absolute path of this machine; a new one
    /// if not given.
    pub path: Option<PathBuf>,
}

/// A program to be run at a point of the container's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hook {
    /// The program, as an absolute path.
    pub path: PathBuf,
    /// `argv`, the name first; empty: the path alone.
    #[serde(default)]
    pub args: Vec<String>,
    /// The environment, all of it: `NAME=value`. If none is given it is the
    /// runtime's, and of a hook that runs inside the container's.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// After this it is killed, which is a failure; whole seconds.
    #[serde(default)]
    pub timeout: Option<Duration>,
}

/// The hooks of a container, each list in the order they are run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// As `create_runtime`, before those; deprecated by the specification.
    pub prestart: Vec<Hook>,
    /// On the machine, once the namespaces are there and before the root is
    /// changed.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, once these are there and before the root is
    /// changed; the program is found on the machine.
    pub create_container: Vec<Hook>,
    /// In the container, before its program is executed.
    pub start_container: Vec<Hook>,
    /// On the machine, after the program was started.
    pub poststart: Vec<Hook>,
    /// On the machine, after the container was deleted.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The lists by their names in a config.
    pub fn lists(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, hooks)| hooks.is_empty())
    }
}
