//! The `mounts` of a config.
//!
//! Options are read in their order: of two that contradict each other the
//! last one counts. What is no option of mounts in general belongs to the
//! file system, whose business it is whether it knows it.

use std::path::Path;

use oci_spec::runtime;

use super::normal;
use crate::error::{Error, Result};
use crate::facts::IdMap;
use crate::spec::{Mount, MountIds, MountKind};

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

/// Times of access exclude each other.
const ATIME: u64 = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;

pub(super) fn read(index: usize, mount: &runtime::Mount, bundle: &Path) -> Result<Mount> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let no_options = Vec::new();
    let options = mount.options().as_ref().unwrap_or(&no_options);
    // A relative one is relative to the root (config.md, Mounts).
    let target = Path::new("/").join(mount.destination());
    let mut read = Mount::new(target, MountKind::Tmpfs);
    let mut data = Vec::new();
    for option in options {
        if option == "mand" {
            return Err(Error::invalid(field("options"), option, "mandatory locks are gone since Linux 5.15"));
        }
        if !apply(option, &mut read) {
            data.push(option.as_str());
        }
    }
    read.data = data.join(",");
    read_ids(mount, &mut read);
    let has = |name: &str| options.iter().any(|option| option == name);
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = has("bind") || has("rbind") || kind == "bind";
    let source = mount.source().as_deref();
    read.kind = match kind {
        _ if has("remount") => MountKind::Remount { bind },
        _ if bind => {
            let source = source.ok_or_else(|| Error::invalid(field("source"), "", "a bind needs it"))?;
            MountKind::Bind { source: normal(&bundle.join(source)), recursive: has("rbind") }
        }
        "proc" => MountKind::Proc,
        "sysfs" => MountKind::Sysfs,
        "mqueue" => MountKind::Mqueue,
        "tmpfs" => MountKind::Tmpfs,
        "devpts" => MountKind::Devpts,
        "cgroup" | "cgroup2" => MountKind::Cgroup,
        "" | "none" => {
            let reason = "name a file system of /proc/filesystems, or give the option bind or rbind";
            return Err(Error::invalid(field("type"), kind, reason));
        }
        other => {
            let source = source.map_or_else(|| other.into(), |source| source.to_string_lossy().into_owned());
            MountKind::Other { fstype: other.into(), source }
        }
    };
    Ok(read)
}

/// Does what an option of mounts in general says; whether it is one.
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
            let below = option.strip_prefix('r').and_then(is).filter(|place| *place < RECURSIVE);
            match (is(option), below) {
                (Some(place), _) => set(mount, FLAGS[place], false),
                (None, Some(place)) => set(mount, FLAGS[place], true),
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
        // A file system's own flags are off unless somebody sets them.
        (false, false) => &mut mount.clear,
        (false, true) => &mut mount.recursive_clear,
    };
    *flags |= if is_set { flag } else { flag & crate::spec::MOUNT_FLAGS };
}

/// `MS_*` for the name of a propagation, as options and `rootfsPropagation`
/// have it.
pub(super) fn propagation(name: &str) -> Option<u64> {
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

/// Mappings mean an idmapped mount, with or without the option.
fn read_ids(mount: &runtime::Mount, read: &mut Mount) {
    let maps = |maps: &Option<Vec<runtime::LinuxIdMapping>>| -> Vec<IdMap> {
        let map = |map: &runtime::LinuxIdMapping| IdMap {
            inside: map.container_id(),
            outside: map.host_id(),
            count: map.size(),
        };
        maps.iter().flatten().map(map).collect()
    };
    let (uids, gids) = (maps(mount.uid_mappings()), maps(mount.gid_mappings()));
    if read.ids.is_some() || !uids.is_empty() || !gids.is_empty() {
        let recursive = read.ids.as_ref().is_some_and(|ids| ids.recursive);
        read.ids = Some(MountIds { uids, gids, recursive });
    }
}
