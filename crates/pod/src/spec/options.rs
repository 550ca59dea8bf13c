//! Options of mounts, by their names.

use super::mount::{MOUNT_FLAGS, Mount};

/// What an option does to flags: its name, the flag, and whether it is set.
/// The table of the specification, and mount(8).
const FLAGS: [(&str, u64, bool); 32] = [
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("nosymfollow", libc::MS_NOSYMFOLLOW, true),
    ("symfollow", libc::MS_NOSYMFOLLOW, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, false),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("relatime", libc::MS_RELATIME, true),
    ("norelatime", libc::MS_RELATIME, false),
    ("strictatime", libc::MS_STRICTATIME, true),
    ("nostrictatime", libc::MS_STRICTATIME, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
    ("iversion", libc::MS_I_VERSION, true),
    ("noiversion", libc::MS_I_VERSION, false),
    ("lazytime", libc::MS_LAZYTIME, true),
    ("nolazytime", libc::MS_LAZYTIME, false),
    ("silent", libc::MS_SILENT, true),
    ("loud", libc::MS_SILENT, false),
    // Mandatory locks are gone since Linux 5.15.
    ("nomand", 0, false),
    ("defaults", 0, false),
    // What these do is not a matter of flags.
    ("bind", 0, false),
    ("rbind", 0, false),
    ("remount", 0, false),
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
const ATIME: u64 = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;

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
fn set(mount: &mut Mount, (_, flag, is_set): (&str, u64, bool), recursive: bool) {
    let rivals = if is_set && flag & ATIME != 0 { ATIME } else { flag };
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

/// `MS_*` for the name of a propagation, as options and `rootfsPropagation`
/// have it.
pub(crate) fn propagation(name: &str) -> Option<u64> {
    let kind = |name: &str| {
        Some(match name {
            "private" => libc::MS_PRIVATE,
            "slave" => libc::MS_SLAVE,
            "shared" => libc::MS_SHARED,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return None,
        })
    };
    kind(name).or_else(|| Some(kind(name.strip_prefix('r')?)? | libc::MS_REC))
}
