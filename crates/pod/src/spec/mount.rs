//! Mounts of a container.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::flags::{MountFlags, Propagation};
use crate::kernel::idmap::IdMap;

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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
    /// Any other file system of `/proc/filesystems`.
    Other {
        /// Its name there.
        fstype: String,
        /// What it is made of: a block device, or whatever that file system
        /// takes (mount(2)).
        source: String,
    },
    /// Nothing new: other options for the mount that is there already.
    Remount {
        /// The mount's own options alone (`MS_REMOUNT|MS_BIND`), not the file
        /// system's.
        bind: bool,
    },
}

/// One mount, in the order they are made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// Absolute path inside.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// [`MOUNT_FLAGS`](super::MOUNT_FLAGS), and of the file system [`FILE_SYSTEM_FLAGS`](super::FILE_SYSTEM_FLAGS).
    pub flags: MountFlags,
    /// Of [`MOUNT_FLAGS`](super::MOUNT_FLAGS), those that count for the mounts below, too.
    pub recursive_flags: MountFlags,
    /// The file system's own options, comma-separated.
    pub data: String,
    /// What tables of mounts say that it comes from, where nothing is looked
    /// up by that; `None`: the name of its type.
    #[serde(default)]
    pub label: Option<String>,
    /// Of [`MOUNT_FLAGS`](super::MOUNT_FLAGS), those that a bind does not take over from its
    /// source.
    #[serde(default)]
    pub clear: MountFlags,
    /// Of [`MOUNT_FLAGS`](super::MOUNT_FLAGS), those that a bind and the mounts below it do not take
    /// over from their sources.
    #[serde(default)]
    pub recursive_clear: MountFlags,
    /// Who sees what is mounted on it later; if it is not said, as
    /// [`ContainerSpec::root_propagation`] says.
    ///
    /// [`ContainerSpec::root_propagation`]: super::ContainerSpec::root_propagation
    #[serde(default)]
    pub propagation: Propagation,
    /// A bind whose files appear to belong to others.
    #[serde(default)]
    pub ids: Option<MountIds>,
    /// A tmpfs that begins with a copy of what the image has there.
    #[serde(default)]
    pub copy_up: bool,
}

/// To which ids the files of an idmapped mount appear to belong (mount_setattr(2),
/// `MOUNT_ATTR_IDMAP`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MountIds {
    /// From the user ids on disk to those of this machine; none: as the
    /// container's user namespace maps them.
    pub uids: Vec<IdMap>,
    /// From the group ids on disk to those of this machine; none: as the
    /// container's user namespace maps them.
    pub gids: Vec<IdMap>,
    /// The mounts below, too.
    pub recursive: bool,
}

impl Mount {
    /// A mount without options.
    pub fn new(target: impl Into<PathBuf>, kind: MountKind) -> Mount {
        Mount {
            target: target.into(),
            kind,
            flags: MountFlags::empty(),
            recursive_flags: MountFlags::empty(),
            data: String::new(),
            label: None,
            clear: MountFlags::empty(),
            recursive_clear: MountFlags::empty(),
            propagation: Propagation::UNSET,
            ids: None,
            copy_up: false,
        }
    }

    /// Whether symbolic links of the image may say where it goes. Not where
    /// others rely on finding the kernel's own files.
    pub(crate) fn follows_links(&self) -> bool {
        let anywhere = matches!(
            self.kind,
            MountKind::Bind { .. } | MountKind::Tmpfs | MountKind::Other { .. } | MountKind::Remount { .. }
        );
        anywhere && self.target != Path::new("/dev")
    }

    /// With these [`flags`](Mount::flags) and [`data`](Mount::data).
    pub(crate) fn with(self, flags: MountFlags, data: impl Into<String>) -> Mount {
        Mount { flags, data: data.into(), ..self }
    }
}
