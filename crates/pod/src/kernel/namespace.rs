//! The kinds of namespaces (namespaces(7)).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A kind of namespace that a pod's containers may share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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

    fn from_str(name: &str) -> Result<Namespace, Error> {
        Namespace::ALL.into_iter().find(|namespace| namespace.name() == name).ok_or_else(|| {
            Error::invalid("share", name, "not a namespace; choose from net, pid, ipc, uts, user, cgroup, time")
        })
    }
}
