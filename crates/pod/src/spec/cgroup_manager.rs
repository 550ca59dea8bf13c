//! Who makes cgroups.

use serde::{Deserialize, Serialize};

/// Who makes a cgroup, by podman's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// We do, as directories of the hierarchy.
    #[default]
    Cgroupfs,
    /// systemd does, as that of a transient scope (systemd.scope(5)): root's
    /// system manager, an ordinary user's own. It is in systemd's view then, and
    /// nothing that systemd does to its cgroups undoes a limit. Takes the feature
    /// `systemd` of this crate, on by default.
    Systemd,
}

impl CgroupManager {
    pub(crate) fn is_cgroupfs(&self) -> bool {
        *self == CgroupManager::Cgroupfs
    }
}
