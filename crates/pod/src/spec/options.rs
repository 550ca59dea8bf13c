//! Options of mounts, by their names.

use super::flags::{MOUNT_FLAGS, MountFlags, Propagation, PropagationKind};
use super::mount::Mount;

/// What an option does to flags: its name, the flag, and whether it is set.
/// The table of the specification, and mount(8).
const FLAGS: [(&str, MountFlags, bool); 32] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("iversion", MountFlags::I_VERSION, true),
    ("noiversion", MountFlags::I_VERSION, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("silent", MountFlags::SILENT, true),
    ("loud", MountFlags::SILENT, false),
    // Mandatory locks are gone since Linux 5.15.
    ("nomand", MountFlags::empty(), false),
    ("defaults", MountFlags::empty(), false),
    // What these do is not a matter of flags.
    ("bind", MountFlags::empty(), false),
    ("rbind", MountFlags::empty(), false),
    ("remount", MountFlags::empty(), false),
];

/// How many of [`FLAGS`], from the first on, have a sister with an `r` in
/// front that is for the mounts below, too.
const RECURSIVE: usize = 18;

/// The names of all options of mounts in general.
pub fn mount_options() -> Vec<String> {
    let below = FLAGS[..RECURSIVE].iter().map(|(name, ..)| format!("r{name}"));
    let kinds =
        ["private", "slave", "shared", "unbindable"].into_iter().flat_map(|kind| [kind.into(), format!("r{kind}")]);
    let others = ["tmpcopyup", "idmap", "ridmap"].map(String::from);
    FLAGS.iter().map(|(name, ..)| name.to_string()).chain(below).chain(kinds).chain(others).collect()
}

/// Times of access exclude each other.
const ATIME: MountFlags = MountFlags::NOATIME.union(MountFlags::STRICTATIME).union(MountFlags::RELATIME);

impl Mount {
    /// Does what an option of mounts in general says, as an OCI config and
    /// mount(8) spell it; whether it is one. Of two that contradict each other
    /// the last one counts.
    pub fn option(&mut self, option: &str) -> bool {
        apply(option, self)
    }
}

fn apply(option: &str, mount: &mut Mount) -> bool {
    if let Some(propagation) = propagation(option) {
        mount.propagation = propagation;
        return true;
    }
    match option {
        "tmpcopyup" => mount.copy_up = true,
        "idmap" | "ridmap" => {
            let ids = mount.ids.get_or_insert_default();
            ids.recursive = option == "ridmap";
        }
        _ => {
            let is = |name: &str| FLAGS.iter().position(|(known, ..)| *known == name);
            let below = option.strip_prefix('r').and_then(is).filter(|index| *index < RECURSIVE);
            match (is(option), below) {
                (Some(index), _) => set(mount, FLAGS[index], false),
                (None, Some(index)) => set(mount, FLAGS[index], true),
                (None, None) => return false,
            }
        }
    }
    true
}

/// Sets or clears a flag; what was said of it before is forgotten.
fn set(mount: &mut Mount, (_, flag, is_set): (&str, MountFlags, bool), recursive: bool) {
    let rivals = if is_set && flag.intersects(ATIME) { ATIME } else { flag };
    mount.flags &= !rivals;
    mount.clear &= !rivals;
    if recursive {
        mount.recursive_flags &= !rivals;
        mount.recursive_clear &= !rivals;
    }
    let flags = match (is_set, recursive) {
        (true, false) => &mut mount.flags,
        (true, true) => &mut mount.recursive_flags,
        // A file system's own flags are off unless an option sets them.
        (false, false) => &mut mount.clear,
        (false, true) => &mut mount.recursive_clear,
    };
    *flags |= if is_set { flag } else { flag & MOUNT_FLAGS };
}

/// What a propagation is called, as options and `rootfsPropagation` have it.
pub(crate) fn propagation(name: &str) -> Option<Propagation> {
    let kind = |name: &str| {
        Some(Propagation::new(match name {
            "private" => PropagationKind::Private,
            "slave" => PropagationKind::Slave,
            "shared" => PropagationKind::Shared,
            "unbindable" => PropagationKind::Unbindable,
            _ => return None,
        }))
    };
    kind(name).or_else(|| Some(kind(name.strip_prefix('r')?)?.recursive()))
}
