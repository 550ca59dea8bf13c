//! The mounts that a container asks for: what of them this machine cannot do
//! is done otherwise, or refused.

use std::path::Path;

use super::mount_fds;
use super::root_files::RootFiles;
use crate::error::{Error, Result};
use crate::kernel::cgroupfs;
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::plan::input::{Isolation, Policy};
use crate::spec::{ContainerSpec, Mount, MountFlags, MountIds, MountKind, NamespaceMode};

/// A root that cannot be written still needs places that can.
pub(super) fn add_writable_places(container: &mut ContainerSpec) {
    let places = [("/tmp", "1777"), ("/run", "755"), ("/var/tmp", "1777"), ("/home", "755"), ("/root", "700")];
    // Only what is there: the machine's root cannot get new directories.
    let places = places.into_iter().filter(|(target, _)| Path::new(target).is_dir()).map(|(target, mode)| {
        Mount::new(target, MountKind::Tmpfs).with(MountFlags::NOSUID | MountFlags::NODEV, format!("mode={mode}"))
    });
    container.mounts.splice(0..0, places);
}

/// Where what the machine's namespaces have cannot be mounted afresh, it is
/// bound.
pub(super) fn bind_machines_own(container: &mut ContainerSpec, has_host_mqueue: bool) {
    if container.ipc == NamespaceMode::Host && !has_host_mqueue {
        // The machine's message queues can only be bound, and it does not
        // show them: there is nothing to mount.
        container.mounts.retain(|mount| mount.kind != MountKind::Mqueue);
    }
    if container.cgroup == NamespaceMode::Host
        && let Some(hierarchy) = cgroupfs::hierarchy()
    {
        // Only who owns a cgroup namespace may mount what it shows.
        for mount in container.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Cgroup) {
            mount.kind = MountKind::Bind { source: hierarchy.clone(), recursive: false };
            (mount.data, mount.label) = (String::new(), None);
        }
    }
}

/// Refuses what mounts cannot be here, and resolves what they leave open.
pub(super) fn settle(
    container: &mut ContainerSpec,
    files: &RootFiles,
    policy: Policy,
    isolation: Isolation<'_>,
    facts: &Facts,
) -> Result<()> {
    let shares_pid = isolation.shares(container, Namespace::Pid);
    for mount in &mut container.mounts {
        check_options(mount, policy, shares_pid)?;
        check_copy(mount, files, facts)?;
        settle_ids(mount, isolation, facts)?;
    }
    follow_links(container, files);
    Ok(())
}

fn refuse(mount: &Mount, value: &str, reason: &str) -> Result<()> {
    Err(Error::invalid(format!("options of the mount on {}", mount.target.display()), value, reason))
}

fn check_options(mount: &Mount, policy: Policy, shares_pid: bool) -> Result<()> {
    if mount.kind == MountKind::Proc && shares_pid && !mount.data.is_empty() {
        let reason = "the pod has one /proc for all its containers; with options it takes a pid namespace of the \
                      container's own (--share without pid)";
        return refuse(mount, &mount.data, reason);
    }
    let keeps_nodev = match &mount.kind {
        MountKind::Bind { source, .. } => source.is_dir(),
        MountKind::Remount { .. } => true,
        _ => false,
    };
    if keeps_nodev && (mount.clear.bits() | mount.recursive_clear.bits()) & policy.nodev() != 0 {
        let reason = "without rules for devices none can be opened in a volume: bind the device by its name";
        return refuse(mount, "dev", reason);
    }
    Ok(())
}

/// What is copied is read outside, before the container's root is there.
fn check_copy(mount: &Mount, files: &RootFiles, facts: &Facts) -> Result<()> {
    if mount.copy_up && !facts.privileged {
        let reason = "an ordinary user cannot fill a file system before it is mounted: use a volume";
        return refuse(mount, "tmpcopyup", reason);
    }
    if mount.copy_up && matches!(files, RootFiles::Layers { .. }) && !facts.calls.layers {
        return refuse(mount, "tmpcopyup", "before Linux 6.5 what layers have there cannot be copied: use a volume");
    }
    Ok(())
}

/// Ids that a mount does not give are those of the container's user namespace.
fn settle_ids(mount: &mut Mount, isolation: Isolation<'_>, facts: &Facts) -> Result<()> {
    let Some(ids) = &mount.ids else { return Ok(()) };
    if !facts.privileged {
        return refuse(mount, "idmap", "an ordinary user cannot map the ids of a mount");
    }
    if !ids.uids.is_empty() {
        return Ok(());
    }
    let (uids, gids) = (isolation.users.uids(), isolation.users.gids());
    if uids.is_empty() {
        let reason = "without a user namespace there is nothing to map to: give uidMappings and gidMappings";
        return refuse(mount, "idmap", reason);
    }
    mount.ids = Some(MountIds { uids: uids.to_vec(), gids: gids.to_vec(), ..*ids });
    Ok(())
}

/// Mounts go where symbolic links of the image lead.
fn follow_links(container: &mut ContainerSpec, files: &RootFiles) {
    for i in 0..container.mounts.len() {
        let (earlier, rest) = container.mounts.split_at_mut(i);
        let mount = &mut rest[0];
        if mount.follows_links()
            && let Some(place) = mount_fds::behind_links(files, earlier, &mount.target)
        {
            mount.target = place;
        }
    }
}
