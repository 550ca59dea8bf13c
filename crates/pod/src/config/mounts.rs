//! The `mounts` of a config.
//!
//! Options are read in their order: of two that contradict each other the
//! last one counts. What is no option of mounts in general belongs to the
//! file system, whose business it is whether it knows it. A bind has none of
//! its own to ask: mount(2) takes such options of one and does nothing with
//! them.

use std::path::Path;

use oci_spec::runtime;

use super::paths::{normal, without_parents};
use super::types::Ignored;
use crate::error::{Error, Result};
use crate::kernel::idmap::IdMap;
use crate::spec::{Mount, MountIds, MountKind};

/// Options that are the file system's, wherever it is mounted.
const OF_THE_FILE_SYSTEM: [&str; 4] = ["sync", "dirsync", "iversion", "lazytime"];

pub(super) fn read(index: usize, mount: &runtime::Mount, bundle: &Path, left_out: &mut Vec<Ignored>) -> Result<Mount> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let no_options = Vec::new();
    let options = mount.options().as_ref().unwrap_or(&no_options);
    // A relative one is relative to the root (config.md, Mounts).
    let target = without_parents(&Path::new("/").join(mount.destination()));
    let mut read = Mount::new(target, MountKind::Tmpfs);
    let has = |name: &str| options.iter().any(|option| option == name);
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = has("bind") || has("rbind") || kind == "bind";
    let mut data = Vec::new();
    for option in options {
        if option == "mand" {
            return Err(Error::invalid(field("options"), option, "mandatory locks are gone since Linux 5.15"));
        }
        let of_it = bind && OF_THE_FILE_SYSTEM.contains(&option.as_str());
        if of_it || !read.option(option) {
            data.push(option.as_str());
        }
    }
    read.data = data.join(",");
    if bind && !read.data.is_empty() {
        let reason = "the kernel takes it for a whole file system, not for a bind of a part";
        left_out.push(Ignored { field: field("options"), value: std::mem::take(&mut read.data), reason });
    }
    read_ids(mount, &mut read);
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
    if !matches!(read.kind, MountKind::Bind { .. } | MountKind::Remount { .. } | MountKind::Other { .. }) {
        read.label = source.map(|source| source.to_string_lossy().into_owned());
    }
    Ok(read)
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
