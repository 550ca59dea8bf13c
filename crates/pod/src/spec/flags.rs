//! Flags of mounts, as mount(2) has them.

use bitflags::bitflags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

bitflags! {
    /// Options of a mount: `MS_*` of mount(2), kept in records as their number.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct MountFlags: u64 {
        /// It cannot be written.
        const RDONLY = libc::MS_RDONLY;
        /// Set-user-ID and the like count for nothing.
        const NOSUID = libc::MS_NOSUID;
        /// No device on it can be opened.
        const NODEV = libc::MS_NODEV;
        /// Nothing on it can be executed.
        const NOEXEC = libc::MS_NOEXEC;
        /// No symbolic link on it is followed.
        const NOSYMFOLLOW = libc::MS_NOSYMFOLLOW;
        /// Times of access are never written.
        const NOATIME = libc::MS_NOATIME;
        /// Those of directories are not.
        const NODIRATIME = libc::MS_NODIRATIME;
        /// They always are.
        const STRICTATIME = libc::MS_STRICTATIME;
        /// They are where they would be older than the change.
        const RELATIME = libc::MS_RELATIME;
        /// Of the file system: writes are made at once.
        const SYNCHRONOUS = libc::MS_SYNCHRONOUS;
        /// Of the file system: changes of directories are made at once.
        const DIRSYNC = libc::MS_DIRSYNC;
        /// Of the file system: each change of a file counts its version up.
        const I_VERSION = libc::MS_I_VERSION;
        /// Of the file system: times are written with other changes.
        const LAZYTIME = libc::MS_LAZYTIME;
        /// Of the file system: the kernel's log says less of it.
        const SILENT = libc::MS_SILENT;
        // Records may have others, which are refused where they are checked.
        const _ = !0;
    }
}

/// Flags of one mount of a file system.
pub const MOUNT_FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODIRATIME)
    .union(MountFlags::STRICTATIME)
    .union(MountFlags::RELATIME)
    .union(MountFlags::NOSYMFOLLOW);

/// Flags of a whole file system, which a bind cannot change.
pub const FILE_SYSTEM_FLAGS: MountFlags = MountFlags::SYNCHRONOUS
    .union(MountFlags::DIRSYNC)
    .union(MountFlags::I_VERSION)
    .union(MountFlags::LAZYTIME)
    .union(MountFlags::SILENT);

impl Serialize for MountFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MountFlags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<MountFlags, D::Error> {
        u64::deserialize(deserializer).map(MountFlags::from_bits_retain)
    }
}

/// Who sees what is mounted on a mount later (mount_namespaces(7)), kept in records
/// as the number that mount(2) takes for it, or 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Propagation {
    kind: Option<PropagationKind>,
    recursive: bool,
}

/// See [`Propagation`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PropagationKind {
    /// Neither is seen on the other side.
    Private,
    /// What is mounted outside is seen inside.
    Slave,
    /// And the other way round.
    Shared,
    /// Neither, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    /// Nothing is said.
    pub const UNSET: Propagation = Propagation { kind: None, recursive: false };

    /// This kind, of the mount alone.
    pub const fn new(kind: PropagationKind) -> Propagation {
        Propagation { kind: Some(kind), recursive: false }
    }

    /// The same of the mounts below, too (`MS_REC`), if anything is said.
    pub const fn recursive(self) -> Propagation {
        Propagation { recursive: self.kind.is_some(), ..self }
    }

    /// Which kind; `None` if nothing is said.
    pub const fn kind(self) -> Option<PropagationKind> {
        self.kind
    }

    /// Whether it is that of the mounts below, too.
    pub const fn is_recursive(self) -> bool {
        self.recursive
    }

    /// As mount(2) takes it; 0 if nothing is said.
    pub const fn bits(self) -> u64 {
        let kind = match self.kind {
            None => return 0,
            Some(PropagationKind::Private) => libc::MS_PRIVATE,
            Some(PropagationKind::Slave) => libc::MS_SLAVE,
            Some(PropagationKind::Shared) => libc::MS_SHARED,
            Some(PropagationKind::Unbindable) => libc::MS_UNBINDABLE,
        };
        kind | if self.recursive { libc::MS_REC } else { 0 }
    }
}

impl From<Propagation> for u64 {
    fn from(propagation: Propagation) -> u64 {
        propagation.bits()
    }
}

impl TryFrom<u64> for Propagation {
    type Error = Error;

    fn try_from(bits: u64) -> Result<Propagation> {
        let kind = match bits & !libc::MS_REC {
            0 if bits == 0 => None,
            libc::MS_PRIVATE => Some(PropagationKind::Private),
            libc::MS_SLAVE => Some(PropagationKind::Slave),
            libc::MS_SHARED => Some(PropagationKind::Shared),
            libc::MS_UNBINDABLE => Some(PropagationKind::Unbindable),
            _ => {
                return Err(Error::invalid(
                    "propagation",
                    format!("{bits:#x}"),
                    "one of MS_PRIVATE, MS_SLAVE, MS_SHARED and MS_UNBINDABLE, perhaps with MS_REC, or 0",
                ));
            }
        };
        Ok(Propagation { kind, recursive: bits & libc::MS_REC != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_numbers_in_records() {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!(serde_json::to_string(&flags).expect("JSON"), "7");
        let odd: MountFlags = serde_json::from_str("1099511627783").expect("flags");
        assert_eq!(odd.difference(flags).bits(), 1 << 40);
    }

    #[test]
    fn propagations_are_numbers_in_records() {
        for (number, expected) in [
            (0, Propagation::UNSET),
            (libc::MS_PRIVATE | libc::MS_REC, Propagation::new(PropagationKind::Private).recursive()),
            (libc::MS_SHARED, Propagation::new(PropagationKind::Shared)),
        ] {
            let read: Propagation = serde_json::from_value(number.into()).expect("a propagation");
            assert_eq!((read, read.bits()), (expected, number));
        }
        for number in [libc::MS_REC, libc::MS_PRIVATE | libc::MS_SHARED, 1] {
            assert!(serde_json::from_value::<Propagation>(number.into()).is_err(), "{number:#x}");
        }
    }
}
