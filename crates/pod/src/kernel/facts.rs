//! What this process may do on this machine: the facts a plan depends on.
//!
//! Read once a command; plans take them as an argument, so
//! that golden tests can be made for machines that are not there.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::capabilities::CapabilitySet;
use super::idmap::parse_map;
use super::{probe, procfs, syscalls};
use crate::error::{Context, Result};

pub use super::probe::Calls;

/// The caller's privileges and the kernel's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Has CAP_SYS_ADMIN: pods need no user namespace of their own.
    pub privileged: bool,
    /// In the machine's first user namespace: device nodes can be made.
    pub initial_users: bool,
    /// `setgroups(2)` is allowed.
    pub setgroups: bool,
    /// Group 5, which owns terminals, exists here.
    pub tty_group: bool,
    /// Capabilities that can be given on.
    pub capabilities: CapabilitySet,
    /// The kernel's highest capability.
    pub last_capability: u64,
    /// New system calls that work.
    pub calls: Calls,
    /// A procfs can be made for another pid namespace than the caller's (its
    /// option `pidns`, Linux 6.17).
    pub pidns: bool,
    /// The pid namespace, by inode.
    pub pids: u64,
}

/// The inode of the machine's first user namespace (`USER_NS_INIT_INO` of
/// linux/nsfs.h): all ids are in there.
const INITIAL_USERS: u64 = 0xEFFF_FFFD;

#[cfg(test)]
impl Facts {
    /// The machine's root, on a kernel that has everything.
    pub(crate) fn of_root() -> Facts {
        Facts {
            uid: 0,
            gid: 0,
            privileged: true,
            initial_users: true,
            setgroups: true,
            tty_group: true,
            capabilities: CapabilitySet::from_bits((1 << 41) - 1),
            last_capability: 40,
            calls: Calls::ALL,
            pidns: true,
            pids: 1,
        }
    }
}

impl Facts {
    /// The facts of the calling thread.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if `/proc` is not there,
    /// [`Error::Invalid`](crate::Error::Invalid) if it is that of another pid
    /// namespace.
    pub fn read() -> Result<Facts> {
        let read = |path: &str| procfs::read(path).doing(|| format!("reading {path}"));
        let own = procfs::own()?;
        let userns = fs::metadata("/proc/self/ns/user").doing(|| "looking at /proc/self/ns/user".into())?;
        let initial_users = userns.ino() == INITIAL_USERS;
        let tty_group = initial_users || parse_map(&read("/proc/self/gid_map")?).iter().any(|map| map.contains(5));
        let effective = syscalls::effective_capabilities().doing(|| "reading the capabilities".into())?;
        let privileged = effective & 1 << caps::Capability::CAP_SYS_ADMIN.index() != 0;
        Ok(Facts {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            privileged,
            initial_users,
            // Only a user namespace can forbid it.
            setgroups: initial_users || read("/proc/self/setgroups")?.trim() == "allow",
            tty_group,
            capabilities: CapabilitySet::from_bits(effective & own.bounding),
            last_capability: syscalls::last_capability(),
            calls: probe::probe_calls(privileged),
            // Only who may mount could ask for it.
            pidns: probe::release() >= (6, 17),
            pids: own.pids,
        })
    }
}

impl Facts {
    /// The capabilities that a container can be given: in a user namespace of
    /// its own all, else those of the caller.
    pub fn grantable(&self) -> Vec<caps::Capability> {
        let all = caps::all().into_iter().filter(|cap| u64::from(cap.index()) <= self.last_capability);
        let mut all: Vec<_> = all.filter(|cap| !self.privileged || self.capabilities.contains(*cap)).collect();
        all.sort_by_key(|cap| cap.index());
        all
    }
}

/// The names of the capabilities this kernel knows, by number.
pub fn capability_names() -> Vec<String> {
    let last = syscalls::last_capability();
    let mut known: Vec<_> = caps::all().into_iter().filter(|cap| u64::from(cap.index()) <= last).collect();
    known.sort_by_key(|cap| cap.index());
    known.iter().map(ToString::to_string).collect()
}
