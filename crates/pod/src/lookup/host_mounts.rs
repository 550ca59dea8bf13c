//! What a plan by the legacy mount API has to know, and what it cannot do.
//!
//! A remount by mount(2) sets all of a mount's options at once, and in a user
//! namespace may drop none of those it came with: so they are looked up.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::kernel::procfs::{Seen, mounts};
use crate::plan::input::{Below, LegacyMounts};
use crate::spec::users::Users;
use crate::spec::{ContainerSpec, Mount, MountKind, Root};

/// The facts for `container`, or what of it takes the new calls.
/// `is_overlay` says what its root is.
pub(crate) fn look_up(container: &ContainerSpec, users: &Users, is_overlay: bool) -> Result<LegacyMounts> {
    refuse(container, users, is_overlay)?;
    let all = read_mounts()?;
    let of = |path: &Path| -> Result<Vec<Below>> {
        let path = fs::canonicalize(path).doing(|| format!("looking at {}", path.display()))?;
        Ok(below(&all, &path))
    };
    let source = |mount: &Mount| match &mount.kind {
        MountKind::Bind { source, .. } => of(source),
        MountKind::Sysfs => of(Path::new("/sys")),
        _ => Ok(Vec::new()),
    };
    let sources = container.mounts.iter().map(source).collect::<Result<_>>()?;
    let root = container.root.dir().map(of).transpose()?.unwrap_or_default();
    Ok(LegacyMounts { root, sources })
}

fn refuse(container: &ContainerSpec, users: &Users, is_overlay: bool) -> Result<()> {
    const WHY: &str = "takes open_tree(2), move_mount(2), mount_setattr(2) and openat2(2), which are denied here";
    let no = |field: &str, value: &str| Err(Error::invalid(field, value, WHY));
    if matches!(users, Users::New { .. }) {
        return no("share", "user");
    }
    if container.root == Root::Host && !is_overlay {
        return no("image", "host");
    }
    if container.root.dir() == Some(Path::new("/")) {
        return no("rootfs", "/");
    }
    let shared = |propagation: u64| propagation & libc::MS_SHARED != 0;
    if shared(container.root_propagation.bits()) {
        return no("rootfsPropagation", "shared");
    }
    for mount in &container.mounts {
        let field = format!("options of the mount on {}", mount.target.display());
        match mount {
            Mount { ids: Some(_), .. } => return no(&field, "idmap"),
            Mount { copy_up: true, .. } => return no(&field, "tmpcopyup"),
            mount if shared(mount.propagation.bits()) => return no(&field, "shared"),
            _ => {}
        }
    }
    Ok(())
}

/// Mount points and their flags, in the order they were made.
fn read_mounts() -> Result<Vec<(PathBuf, u64)>> {
    let seen = |seen: Seen| {
        let mut read = Mount::new("/", MountKind::Tmpfs);
        for option in seen.options.split(',') {
            read.option(option);
        }
        // This one is not shown.
        let relaxed = read.flags.bits() & (libc::MS_NOATIME | libc::MS_RELATIME) != 0;
        (seen.point, read.flags.bits() | if relaxed { 0 } else { libc::MS_STRICTATIME })
    };
    Ok(mounts()?.into_iter().map(seen).collect())
}

/// The mount `path` is on, and those below it.
fn below(all: &[(PathBuf, u64)], path: &Path) -> Vec<Below> {
    let on =
        all.iter().filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count());
    let own = on.map(|(_, flags)| Below { path: PathBuf::new(), flags: *flags });
    let mut found: Vec<Below> = own.into_iter().collect();
    for (point, flags) in all {
        let Ok(place) = point.strip_prefix(path) else { continue };
        if place == Path::new("") {
            continue;
        }
        // Of several on one place the last is seen.
        found.retain(|below| below.path != place);
        found.push(Below { path: place.into(), flags: *flags });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::unescape;

    #[test]
    fn mounts_below_a_source() {
        let mounts = [("/", 1), ("/srv", 2), ("/srv/a", 4), ("/srv/a", 8), ("/srvx", 16)];
        let mounts = mounts.map(|(point, flags)| (PathBuf::from(point), flags));
        let found = |path: &str| {
            let found = below(&mounts, Path::new(path));
            found.into_iter().map(|below| (below.path.display().to_string(), below.flags)).collect::<Vec<_>>()
        };
        assert_eq!(found("/srv"), [(String::new(), 2), ("a".into(), 8)]);
        assert_eq!(found("/etc/x"), [(String::new(), 1)]);
        assert_eq!(unescape("/a\\040b"), "/a b");
    }
}
