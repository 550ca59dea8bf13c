//! The `mounts` of a config.

use std::path::Path;

use oci_spec::runtime;

use super::normal;
use crate::error::{Error, Result};
use crate::spec::{Mount, MountKind};

pub(super) fn read(index: usize, mount: &runtime::Mount, bundle: &Path) -> Result<Mount> {
    let field = format!("mounts[{index}].options");
    let no_options = Vec::new();
    let options = mount.options().as_ref().unwrap_or(&no_options);
    let has = |name: &str| options.iter().any(|option| option == name);
    let (mut flags, mut data) = (0, Vec::new());
    for option in options {
        match option.as_str() {
            "bind" | "rbind" | "private" | "rprivate" | "defaults" => {}
            "rw" => flags &= !libc::MS_RDONLY,
            "suid" => flags &= !libc::MS_NOSUID,
            "dev" => flags &= !libc::MS_NODEV,
            "exec" => flags &= !libc::MS_NOEXEC,
            "ro" => flags |= libc::MS_RDONLY,
            "nosuid" => flags |= libc::MS_NOSUID,
            "nodev" => flags |= libc::MS_NODEV,
            "noexec" => flags |= libc::MS_NOEXEC,
            "noatime" => flags |= libc::MS_NOATIME,
            "nodiratime" => flags |= libc::MS_NODIRATIME,
            "relatime" => flags |= libc::MS_RELATIME,
            "strictatime" => flags |= libc::MS_STRICTATIME,
            other => data.push(other),
        }
    }
    let bind = has("bind") || has("rbind") || mount.typ().as_deref() == Some("bind");
    let kind = match mount.typ().as_deref() {
        _ if bind => {
            let source = mount.source().as_ref();
            let source =
                source.ok_or_else(|| Error::invalid(format!("mounts[{index}].source"), "", "a bind needs it"))?;
            MountKind::Bind { source: normal(&bundle.join(source)), recursive: has("rbind") }
        }
        Some("proc") => MountKind::Proc,
        Some("sysfs") => MountKind::Sysfs,
        Some("mqueue") => MountKind::Mqueue,
        Some("tmpfs") => MountKind::Tmpfs,
        Some("devpts") => MountKind::Devpts,
        Some("cgroup" | "cgroup2") => MountKind::Cgroup,
        other => {
            let reason = "not honoured: bind, proc, sysfs, mqueue, tmpfs, devpts and cgroup are";
            return Err(Error::invalid(format!("mounts[{index}].type"), other.unwrap_or_default(), reason));
        }
    };
    let takes_data = matches!(kind, MountKind::Tmpfs | MountKind::Devpts);
    let known = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        takes_data
            && ["mode", "size", "uid", "gid", "nr_inodes", "nr_blocks", "newinstance", "ptmxmode"].contains(&name)
    };
    if let Some(other) = data.iter().find(|option| !known(option)) {
        return Err(Error::invalid(field, *other, "this option is not honoured for this kind of mount"));
    }
    Ok(Mount::new(mount.destination(), kind).with(flags, data.join(",")))
}
