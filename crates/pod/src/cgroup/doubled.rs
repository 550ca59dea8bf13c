//! What a container that may mount can come to, and limits that hold against
//! it.
//!
//! A container finds its limits at the root of its cgroup namespace, where
//! programs size themselves by them and engines read them. If it mounts cgroup2
//! it finds the same files, and may write them if they are its user's,
//! unless the hierarchy was mounted with `nsdelegate` ([cgroups(7)]), as
//! systemd does. Elsewhere the limits of such a container stand twice:
//!
//! ```text
//!   ctr/<container>/            the limits, out of its reach
//!     container/                the limits again: the root of its namespace
//! ```
//!
//! Of version 1, which has no such option, a new cgroup namespace shows each
//! hierarchy from where the container is, mostly its root. To put every
//! container into a cgroup of each would take longer than all the rest of a
//! start, so that is left, and told: see [`ContainerSpec::reaches`].
//!
//! [cgroups(7)]: https://man7.org/linux/man-pages/man7/cgroups.7.html

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use caps::Capability;

use crate::cgroup;
use crate::error::{Context, Result};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs;
use crate::resources::Resources;
use crate::seccomp::Seccomp;
use crate::spec::{ContainerSpec, PodOptions};

/// The inner one; crun's name for what it is to crun, too.
const INNER: &str = "container";

/// Whether the kernel keeps a cgroup namespace's processes from writing the
/// limits of its root.
pub(crate) fn is_delegated() -> bool {
    // Not known is as good as not so.
    procfs::read("/proc/self/mountinfo").is_ok_and(|mounts| names_nsdelegate(&mounts))
}

/// The options of the hierarchy are shown with each of its mounts.
fn names_nsdelegate(mounts: &str) -> bool {
    fn options(line: &str) -> Option<&str> {
        Some(line.split_once(" - ")?.1.strip_prefix("cgroup2 ")?.split_once(' ')?.1)
    }
    mounts.lines().filter_map(options).any(|options| options.split(',').any(|option| option == "nsdelegate"))
}

/// Where a container is born whose own cgroup is `dir`.
pub(crate) fn birthplace(dir: &Path, doubled: bool) -> PathBuf {
    if doubled { dir.join(INNER) } else { dir.into() }
}

/// Sets the limits of a cgroup that nothing has been born in, in both if they
/// are `doubled`.
pub(crate) fn limit(dir: &Path, doubled: bool, resources: &Resources) -> Result<()> {
    if doubled {
        // First: it counts among those that there may be below.
        cgroup::make(&birthplace(dir, true))?;
    }
    cgroup::limit(dir, resources)?;
    if doubled {
        // Rules for devices count for all that is below.
        cgroup::limit(&birthplace(dir, true), &resources.without_devices())?;
    }
    Ok(())
}

/// The cgroups that have the limits of `dir`, the outer one first.
pub(crate) fn both(dir: &Path, doubled: bool) -> Vec<PathBuf> {
    let inner = doubled.then(|| birthplace(dir, true)).filter(|inner| inner.exists());
    std::iter::once(dir.to_path_buf()).chain(inner).collect()
}

impl ContainerSpec {
    /// Whether it can come to mount something: by a capability, or because its
    /// filter may let it make namespaces.
    pub(crate) fn may_mount(&self) -> bool {
        let sets = &self.process.capabilities;
        let capable = sets.bounding.union(sets.permitted).contains(Capability::CAP_SYS_ADMIN);
        capable || self.nesting || self.seccomp != Seccomp::Default
    }

    /// What it can come to on this machine beyond what every container can, in
    /// a pod made with these options: a sentence for people; `None` if there is
    /// nothing of the kind.
    ///
    /// # Errors
    /// As [`Facts::read`].
    pub fn reaches(&self, pod: &PodOptions) -> Result<Option<String>> {
        if !self.may_mount() {
            return Ok(None);
        }
        let cgroups = match procfs::read("/proc/self/cgroup") {
            // A kernel without cgroups.
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            cgroups => cgroups.doing(|| "reading /proc/self/cgroup".into())?,
        };
        let hierarchies = version_1(&cgroups);
        if hierarchies.is_empty() {
            return Ok(None);
        }
        let facts = Facts::read()?;
        let as_root = facts.privileged && facts.initial_users && !pod.shares(Namespace::User);
        let does = if as_root { "which root in it can change, for the whole machine" } else { "which it can read" };
        let why = match self.seccomp {
            Seccomp::Default if self.nesting => "nests others",
            Seccomp::Default => "has CAP_SYS_ADMIN",
            Seccomp::Unconfined => "has no seccomp filter",
            Seccomp::Profile(_) => "has a seccomp profile of its own, which may let it make namespaces",
        };
        Ok(Some(format!(
            "container {} {why}: it can mount this machine's cgroups of version 1 ({}), {does} (docs/security.md)",
            self.name,
            hierarchies.join(", ")
        )))
    }
}

/// The hierarchies of version 1, by their controllers or names, of a process's
/// `/proc/PID/cgroup`.
fn version_1(cgroups: &str) -> Vec<&str> {
    let fields = cgroups.lines().filter_map(|line| line.split_once(':'));
    let listed = fields.filter(|(number, _)| *number != "0");
    let mut found: Vec<_> = listed.filter_map(|(_, rest)| Some(rest.split_once(':')?.0)).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nsdelegate_is_an_option_of_the_hierarchy() {
        let line = |options| format!("41 31 0:38 / /sys/fs/cgroup/unified rw,nsdelegate - cgroup2 cgroup2 {options}\n");
        assert!(names_nsdelegate(&line("rw,nsdelegate,memory_recursiveprot")));
        assert!(!names_nsdelegate(&line("rw,favordynmods")));
        assert!(!names_nsdelegate("31 23 0:28 / /x rw - tmpfs tmpfs rw,nsdelegate\n"));
    }

    #[test]
    fn hierarchies_of_version_1_have_numbers() {
        assert_eq!(version_1("9:name=systemd:/\n4:cpu,cpuacct:/a:b\n0::/\n"), ["cpu,cpuacct", "name=systemd"]);
        assert_eq!(version_1("0::/user.slice\n"), Vec::<&str>::new());
    }
}
