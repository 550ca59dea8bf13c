//! What cannot be, said by field, value and cure.

use std::fs::Metadata;
use std::path::Path;

use caps::Capability;

use super::flags::{FILE_SYSTEM_FLAGS, MOUNT_FLAGS, MountFlags};
use super::mount::{Mount, MountKind};
use super::text::{check_path, check_string};
use crate::error::{Error, Result};
use crate::kernel::idmap::IdMap;

/// A host or domain name.
pub(super) fn check_hostname(field: &str, name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(Error::invalid(field, name, "1 to 64 of A-Z a-z 0-9 _ . -"));
    }
    Ok(())
}

/// The name of a network interface, as the kernel allows it.
pub(super) fn check_interface(name: &str) -> Result<()> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.contains(bad) {
        let reason = "1 to 15 bytes, without spaces, `/`, `:` and `%`";
        return Err(Error::invalid("netDevices", name, reason));
    }
    Ok(())
}

/// What the system says of an error, without its number.
fn describe(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().into(),
        None => error.to_string(),
    }
}

/// A directory of this machine that has to be there.
pub(super) fn check_directory(field: &str, dir: &Path) -> Result<Metadata> {
    let shown = dir.to_string_lossy();
    if !dir.is_absolute() {
        return Err(Error::invalid(field, shown, "give an absolute path"));
    }
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(meta),
        Ok(_) => Err(Error::invalid(field, shown, "not a directory")),
        Err(error) => Err(Error::invalid(field, shown, describe(&error)).because(error)),
    }
}

/// The longest text that mount(2) takes: a page, its end included.
const DATA_MAX: usize = 4095;

pub(super) fn check_mount(mount: &Mount) -> Result<()> {
    check_path("mount destination", &mount.target)?;
    check_string("mount options", &mount.data)?;
    let label = mount.label.as_deref().unwrap_or_default();
    check_string("mount source", label)?;
    // A tmpfs that is filled first is named by fsconfig(2), which takes less.
    let most = if mount.copy_up { 255 } else { DATA_MAX };
    if label.len() > most {
        return Err(Error::invalid("mount source", format!("{} bytes", label.len()), format!("at most {most} bytes")));
    }
    if mount.target == Path::new("/") {
        return Err(Error::invalid("mount destination", "/", "that is the rootfs: use --rootfs or root.path"));
    }
    let here = |what: &str| format!("{what} of the mount on {}", mount.target.display());
    if mount.data.len() > DATA_MAX {
        let value = format!("{} bytes", mount.data.len());
        return Err(Error::invalid(here("options"), value, format!("at most {DATA_MAX} bytes")));
    }
    let of_one_mount = mount.recursive_flags | mount.clear | mount.recursive_clear;
    if !(MOUNT_FLAGS | FILE_SYSTEM_FLAGS).contains(mount.flags) || !MOUNT_FLAGS.contains(of_one_mount) {
        let value = format!("{:#x}", (mount.flags | of_one_mount).bits());
        return Err(Error::invalid(here("flags"), value, "has bits that are no options of mounts"));
    }
    if mount.copy_up && mount.kind != MountKind::Tmpfs {
        return Err(Error::invalid(here("options"), "tmpcopyup", "only a tmpfs can begin with a copy"));
    }
    if let Some(ids) = &mount.ids {
        if !matches!(mount.kind, MountKind::Bind { .. }) {
            return Err(Error::invalid(here("options"), "idmap", "only a bind can have ids of its own"));
        }
        if ids.uids.is_empty() != ids.gids.is_empty() {
            let reason = "give both, or none for those of the container's user namespace";
            return Err(Error::invalid(here("uidMappings and gidMappings"), "", reason));
        }
        check_ranges(&here("uidMappings"), &ids.uids)?;
        check_ranges(&here("gidMappings"), &ids.gids)?;
    }
    match &mount.kind {
        MountKind::Bind { source, .. } => check_bind(mount, source),
        MountKind::Other { fstype, source } => {
            // fsconfig(2) takes no more of one.
            if let Some(long) = mount.data.split(',').find(|option| option.len() > 255) {
                return Err(Error::invalid(here("options"), long, "at most 255 bytes an option"));
            }
            check_string("mount type", fstype)?;
            check_string("mount source", source)?;
            if fstype.is_empty() {
                return Err(Error::invalid(here("type"), "", "name a file system of /proc/filesystems"));
            }
            Ok(())
        }
        // These have none, and are clones of the pod's own.
        MountKind::Sysfs | MountKind::Mqueue if !mount.data.is_empty() => {
            Err(Error::invalid(here("options"), &mount.data, "not an option of that file system"))
        }
        _ => Ok(()),
    }
}

fn check_bind(mount: &Mount, source: &Path) -> Result<()> {
    let shown = source.to_string_lossy();
    check_string("mount source", &shown)?;
    if !source.is_absolute() {
        return Err(Error::invalid("mount source", shown, "give an absolute path"));
    }
    if let Err(error) = std::fs::metadata(source) {
        return Err(Error::invalid("mount source", shown, describe(&error)).because(error));
    }
    let field = || format!("options of the mount on {}", mount.target.display());
    if !mount.data.is_empty() {
        return Err(Error::invalid(field(), &mount.data, "not an option of a bind, which takes no others"));
    }
    if mount.flags.intersects(FILE_SYSTEM_FLAGS.difference(MountFlags::SILENT)) {
        let reason = "sync, dirsync, iversion and lazytime belong to the whole file system: a bind cannot change them";
        return Err(Error::invalid(field(), "", reason));
    }
    Ok(())
}

/// A profile the kernel can be asked for. Whether it is loaded is for the
/// kernel to say.
pub(super) fn check_apparmor(profile: &str) -> Result<()> {
    const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
    let field = "apparmorProfile";
    if profile.len() > 4096 || profile.contains(|c: char| c.is_control()) {
        return Err(Error::invalid(field, profile.chars().take(100).collect::<String>(), "not the name of a profile"));
    }
    if std::fs::read(ENABLED).is_ok_and(|enabled| enabled.starts_with(b"Y")) {
        return Ok(());
    }
    let reason = format!("this kernel runs without AppArmor ({ENABLED}): remove it");
    Err(Error::invalid(field, profile, reason))
}

/// The kernel's number of a resource limit, by its name.
pub(crate) fn rlimit_number(name: &str) -> Result<(u32, &'static str)> {
    macro_rules! table {
        ($($limit:ident),*) => { [$((stringify!($limit), libc::$limit as u32)),*] };
    }
    let table = table![
        RLIMIT_CPU,
        RLIMIT_FSIZE,
        RLIMIT_DATA,
        RLIMIT_STACK,
        RLIMIT_CORE,
        RLIMIT_RSS,
        RLIMIT_NPROC,
        RLIMIT_NOFILE,
        RLIMIT_MEMLOCK,
        RLIMIT_AS,
        RLIMIT_LOCKS,
        RLIMIT_SIGPENDING,
        RLIMIT_MSGQUEUE,
        RLIMIT_NICE,
        RLIMIT_RTPRIO,
        RLIMIT_RTTIME
    ];
    let found = table.into_iter().find(|(known, _)| *known == name);
    found.map(|(name, number)| (number, name)).ok_or_else(|| {
        Error::invalid("rlimits", name, "not a resource limit: RLIMIT_NOFILE, RLIMIT_NPROC, ... of getrlimit(2)")
    })
}

/// A capability by its name, with or without `CAP_`, in any case.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name.
pub fn parse_capability(name: &str) -> Result<Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    full.parse().map_err(|_| Error::invalid("capability", name, "not a capability of capabilities(7)"))
}

pub(super) fn check_maps(field: &str, maps: &[IdMap]) -> Result<()> {
    check_ranges(field, maps)?;
    if !maps.is_empty() && !maps.iter().any(|map| map.contains(0)) {
        return Err(Error::invalid(field, "", "the pod needs an id 0: map INSIDE 0 to something"));
    }
    Ok(())
}

fn check_ranges(field: &str, maps: &[IdMap]) -> Result<()> {
    for map in maps {
        let shown = format!("{}:{}:{}", map.inside, map.outside, map.count);
        if !map.is_possible() {
            return Err(Error::invalid(field, shown, "INSIDE:OUTSIDE:COUNT, with COUNT at least 1 and no overflow"));
        }
    }
    Ok(())
}
