//! The root of a container that is in its creator's mount namespace: it stands in
//! the mount table there, and comes out of it at the container's end.
//!
//! ```text
//!   what is at root.path
//!     └─ an empty tmpfs, whose source is the mark
//!          └─ the container's root, with all that is mounted in it
//! ```
//!
//! The mark is written down before there is anything, so what a killed creator
//! has left there is found, too. Copies of it, by a bind of what is above or in
//! other mount namespaces, are not ours.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::SystemTime;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::record::Attached;
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::{
    MountNamespace, Seen, mount_namespace_of, mount_number, mounts, processes_in, sees_all_pids,
};
use crate::kernel::syscalls;
use crate::lookup::root_files;

const MARK: &str = "podlet-oci:";

impl Attached {
    /// For a container that is to be in this mount namespace, its creator's own,
    /// with its root at `root`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the root cannot be there.
    pub(super) fn new(namespace: MountNamespace, id: &str, created: SystemTime, root: &Path) -> Result<Attached> {
        if root == Path::new("/") {
            let reason = "in this program's own mount namespace the container's root would cover everybody's: give \
                          another directory, or add `mount` to linux.namespaces";
            return Err(Error::invalid("root.path", "/", reason));
        }
        let meets = |point: &Path| root.starts_with(point) || point.starts_with(root);
        let other = mounts()?.into_iter().find(|seen| seen.source.starts_with(MARK) && meets(&seen.point));
        if let Some(other) = other {
            let reason = format!(
                "a container in this mount namespace has its root there or below ({}), and one would take the other's \
                 away with it: give each a directory of its own, or add `mount` to linux.namespaces",
                other.source
            );
            return Err(Error::invalid("root.path", root.to_string_lossy(), reason));
        }
        let time = created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Attached { namespace, mark: format!("{MARK}{id}:{:x}", time.as_nanos()) })
    }

    /// Takes the root out of the mount table, as far as it got there.
    ///
    /// # Errors
    /// [`Error::State`] if it is in another mount namespace than this program,
    /// has been moved, or something else is mounted over it.
    pub(super) fn detach(&self, root: &Path, object: &str) -> Result<()> {
        let path = "/proc/self/ns/mnt";
        let ours = File::open(path).and_then(|file| mount_namespace_of(&file)).doing(|| format!("opening {path}"))?;
        if ours != self.namespace {
            // It was taken down with its last user, and all that is in it.
            return match has_gone(self.namespace)? {
                true => Ok(()),
                false => {
                    let state = "has its root in another mount namespace: delete it from there (nsenter --mount), or \
                                 if that has gone, remove its directory below --root";
                    Err(Error::state(object, state))
                }
            };
        }
        let mut found = false;
        // The container's root, then the mark.
        while let Some(number) = self.uppermost(&mounts()?, root) {
            let mounted = root_files::open_dir(root)?;
            if mount_number(mounted.as_fd())? != Some(number) {
                let state = format!("has a root that is covered: unmount what is over it at {}", root.display());
                return Err(Error::state(object, state));
            }
            // By a descriptor: this mount, and nothing that has come over it.
            let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
            let context = || format!("unmounting the root of {object} at {}", root.display());
            // What it shares with the machine stays there.
            let none: Option<&str> = None;
            mount(none, path.as_str(), none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).doing(context)?;
            umount2(path.as_str(), MntFlags::MNT_DETACH).doing(context)?;
            found = true;
        }
        match mounts()?.into_iter().find(|seen| !found && seen.source == self.mark) {
            None => Ok(()),
            Some(elsewhere) => {
                let point = elsewhere.point.display();
                Err(Error::state(object, format!("has its root at {point}: it was moved; move it back, or unmount it")))
            }
        }
    }

    /// Of our two mounts at `root` the upper one, by its number.
    fn uppermost(&self, table: &[Seen], root: &Path) -> Option<u64> {
        let here = |seen: &&Seen| seen.point == root;
        let mark = table.iter().filter(here).find(|seen| seen.source == self.mark)?;
        let above = table.iter().filter(here).find(|seen| seen.parent == mark.number);
        Some(above.unwrap_or(mark).number)
    }
}

/// Whether a mount namespace is there no more, as far as that can be told.
fn has_gone(namespace: MountNamespace) -> Result<bool> {
    match namespace {
        MountNamespace::Id(id) => Ok(!syscalls::is_mount_namespace(id)),
        // A program that sees all processes sees those that are in it.
        MountNamespace::Inode(_) => Ok(sees_all_pids() && processes_in(namespace)?.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::parse_mount;

    /// The mark without a root, with one, and with another's mount over it; and a
    /// copy of it elsewhere.
    #[test]
    fn only_what_stands_on_the_mark_is_ours() {
        let attached = Attached { namespace: MountNamespace::Id(1), mark: "podlet-oci:a:1".into() };
        let lines = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
                     21 20 8:1 /a\\040b /a\\040b rw - ext4 /dev/sda rw\n\
                     30 21 0:30 / /a\\040b ro - tmpfs podlet-oci:a:1 ro\n\
                     31 30 8:1 /a\\040b /a\\040b rw master:1 - ext4 /dev/sda rw\n\
                     32 31 0:31 / /a\\040b/proc rw - proc proc rw\n\
                     33 31 0:32 / /a\\040b rw - tmpfs tmpfs rw\n\
                     34 20 0:30 / /copy ro - tmpfs podlet-oci:a:1 ro";
        let table = |count: usize| lines.lines().take(count).filter_map(parse_mount).collect::<Vec<_>>();
        let found = |count, root: &str| attached.uppermost(&table(count), Path::new(root));
        assert_eq!(found(2, "/a b"), None);
        assert_eq!(found(3, "/a b"), Some(30));
        assert_eq!(found(5, "/a b"), Some(31));
        assert_eq!(found(6, "/a b"), Some(31));
        assert_eq!(found(6, "/a"), None);
        assert_eq!(table(7).len(), 7);
    }
}
