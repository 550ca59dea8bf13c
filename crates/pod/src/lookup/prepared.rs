//! From a [`Container`] to what its plan needs: everything that has to be
//! looked up on this machine before a process is born.

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use caps::Capability;

use super::devices::find_outside;
use super::mount_fds::{self, Owners};
use super::{host_mounts, passwd};
use crate::error::{Context, Error, Result};
use crate::kernel::cgroupfs;
use crate::kernel::facts::Facts;
use crate::kernel::idmap::IdMap;
use crate::kernel::namespace::Namespace;
use crate::plan::input::{IN_PAUSE, Image, Launch, LegacyMounts, Nodes, PodShape, Source, makes_nodes_for};
use crate::plan::{Given, Plan, container};
use crate::seccomp::{Filter, Situation};
use crate::spec::users::{Ids, Users};
use crate::spec::{Container, Device, DeviceKind, Mount, MountKind, NamespaceMode, Root};

/// A container, ready to be planned.
#[derive(Debug)]
pub(crate) struct Prepared {
    container: Container,
    ids: Ids,
    sources: Vec<Option<Source>>,
    nodes_outside: Vec<Option<PathBuf>>,
    upper: PathBuf,
    work: PathBuf,
    has_host_mqueue: bool,
    filter: Option<Filter>,
    idmapped: bool,
    nodes: Nodes,
    old_order: Option<LegacyMounts>,
}

impl Prepared {
    /// Looks everything up. Changes nothing.
    ///
    /// `hidden` is covered for a container that sees this machine's files;
    /// `dir` is where it keeps what it changes of them.
    pub(crate) fn new(
        container: &Container,
        pod: &PodShape<'_>,
        facts: &Facts,
        nodes: Nodes,
        hidden: &[PathBuf],
        dir: &Path,
    ) -> Result<Prepared> {
        container.check()?;
        if nodes == Nodes::Bound {
            container.check_in(pod.options)?;
        }
        let mut container = container.clone();
        if container.nesting {
            check_nesting(pod, facts)?;
            uncover(&mut container);
        }
        let root = container.root.path().to_path_buf();
        let setgroups = pod.users.setgroups(facts);
        let found = passwd::look_up(passwd::open_root(&root)?.as_fd(), &container.user, pod.users, setgroups)?;
        if container.env_value("HOME").is_none() {
            container.set_env("HOME", found.home());
        }
        let mut ids = found.ids;
        if !setgroups {
            ids.groups.clear();
        }
        if *pod.users == Users::Caller {
            check_capabilities(&container, facts)?;
        }
        if container.root == Root::Host {
            check_cover(&container, facts)?;
            container.masked_paths.extend_from_slice(hidden);
            if !can_mount_afresh(pod, facts) {
                container.mounts.splice(0..0, writable_places());
            }
        }
        let has_host_mqueue = Path::new("/dev/mqueue").is_dir();
        let machines_queues = container.ipc == NamespaceMode::Host && !can_mount_afresh(pod, facts);
        if machines_queues && !has_host_mqueue {
            // The machine's message queues can only be bound, and it does not
            // show them: there is nothing to mount.
            container.mounts.retain(|mount| mount.kind != MountKind::Mqueue);
        }
        if container.cgroup == NamespaceMode::Host
            && !can_mount_afresh(pod, facts)
            && let Some(hierarchy) = cgroupfs::hierarchy()
        {
            // Only who owns a cgroup namespace may mount what it shows.
            for mount in container.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Cgroup) {
                mount.kind = MountKind::Bind { source: hierarchy.clone(), recursive: false };
                (mount.data, mount.label) = (String::new(), None);
            }
        }
        let source = |mount: &Mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(if source.is_dir() { Source::Directory } else { Source::File }),
            _ => None,
        };
        let sources = container.mounts.iter().map(source).collect();
        // Files that belong to the pod's ids already are taken as they are.
        let owner = std::fs::metadata(&root).doing(|| format!("looking at {}", root.display()))?.uid();
        let is_theirs = |map: &IdMap| owner >= map.outside && owner - map.outside < map.count;
        let idmapped = matches!(pod.users, Users::New { uids, .. } if !uids.iter().any(is_theirs));
        let overlays = container.root == Root::Host && can_mount_afresh(pod, facts);
        let new_order = facts.calls.new_order();
        let old_order = (!new_order).then(|| host_mounts::look_up(&container, pod, overlays)).transpose()?;
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        prepare_mounts(&mut container, pod, facts, nodes)?;
        let made = nodes == Nodes::Made && can_mount_afresh(pod, facts);
        let made_for = nodes == Nodes::Made && makes_nodes_for(pod.users, facts);
        let outside = |device: &Device| match made || made_for {
            true => check_owner(device, pod.users).map(|()| None),
            false => node_outside(device),
        };
        let nodes_outside = container.devices.iter().map(outside).collect::<Result<_>>()?;
        // A pod has nobody who listens.
        let filter = match nodes {
            Nodes::Bound => container.filter(pod.options)?,
            Nodes::Made => container.seccomp.filter(container.capabilities.bounding, Situation::default())?,
        };
        Ok(Prepared {
            container,
            ids,
            sources,
            nodes_outside,
            upper,
            work,
            has_host_mqueue,
            filter,
            idmapped,
            nodes,
            old_order,
        })
    }

    fn overlays(&self, pod: &PodShape<'_>, facts: &Facts) -> bool {
        self.container.root == Root::Host && can_mount_afresh(pod, facts)
    }

    /// Makes the directories the container's root needs.
    pub(crate) fn make_dirs(&self, pod: &PodShape<'_>, facts: &Facts) -> Result<()> {
        if !self.overlays(pod, facts) {
            return Ok(());
        }
        for (dir, mode) in [(&self.upper, 0o755), (&self.work, 0o700)] {
            use std::os::unix::fs::DirBuilderExt;
            let made = std::fs::DirBuilder::new().mode(mode).recursive(true).create(dir);
            // Whatever this program's umask is.
            let made = made.and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(mode)));
            made.doing(|| format!("making {}", dir.display()))?;
        }
        Ok(())
    }

    /// Descriptors for the container's mounts that its plan wants.
    pub(crate) fn make_outside(&self, pod: &PodShape<'_>, places: &[PathBuf]) -> Result<Vec<(Given, OwnedFd)>> {
        let mounts = &self.container.mounts;
        let mut made = Vec::new();
        for (ids, number) in mounts.iter().filter_map(|mount| mount.ids.as_ref()).zip(0..) {
            made.push((Given::MountUsers(number), mount_fds::user_namespace(ids, places)?));
        }
        let owners = if self.idmapped && self.nodes == Nodes::Bound {
            Owners::Mapped(pod.users.uids(), pod.users.gids())
        } else {
            Owners::Same
        };
        let image = passwd::open_root(self.container.root.path())?;
        for (mount, number) in mounts.iter().filter(|mount| mount.copy_up).zip(0..) {
            let nodev = self.nodes == Nodes::Bound;
            made.push((Given::Copied(number), mount_fds::copied_up(image.as_fd(), mount, nodev, owners)?));
        }
        Ok(made)
    }

    /// The plan, with the container registered in slot `entry` of the exit
    /// table.
    pub(crate) fn plan(&self, pod: &PodShape<'_>, facts: &Facts, entry: usize) -> Plan {
        container::plan(&self.launch(pod, facts, entry))
    }

    fn launch<'a>(&'a self, pod: &'a PodShape<'a>, facts: &'a Facts, entry: usize) -> Launch<'a> {
        let image = match &self.container.root {
            Root::Dir(path) => Image::Dir { path, idmapped: self.idmapped },
            Root::Host if self.overlays(pod, facts) => Image::Overlay { upper: &self.upper, work: &self.work },
            Root::Host => Image::ReadOnlyHost,
        };
        Launch {
            facts,
            pod,
            container: &self.container,
            image,
            ids: &self.ids,
            sources: &self.sources,
            filter: self.filter.as_ref(),
            has_host_mqueue: self.has_host_mqueue,
            nodes: self.nodes,
            nodes_outside: &self.nodes_outside,
            attach: Path::new(IN_PAUSE),
            old_order: self.old_order.as_ref(),
            entry,
        }
    }

    /// The launch without a pod: everything exactly as a config has it, and
    /// the root attached where it comes from.
    pub(crate) fn alone<'a>(&'a self, pod: &'a PodShape<'a>, facts: &'a Facts) -> Launch<'a> {
        let launch = self.launch(pod, facts, 0);
        let Root::Dir(path) = &self.container.root else { return launch };
        Launch { image: Image::Dir { path, idmapped: false }, attach: path, ..launch }
    }

    /// The container, with what was looked up.
    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// Who it runs as.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }
}

/// Refuses what the mounts of this pod cannot be, and resolves what they leave
/// open.
fn prepare_mounts(container: &mut Container, pod: &PodShape<'_>, facts: &Facts, nodes: Nodes) -> Result<()> {
    let shares_pid = container.pid == NamespaceMode::Pod && pod.options.shares(Namespace::Pid);
    for mount in &mut container.mounts {
        let refuse = |value: &str, reason: &str| {
            Err(Error::invalid(format!("options of the mount on {}", mount.target.display()), value, reason))
        };
        if mount.kind == MountKind::Proc && shares_pid && !mount.data.is_empty() {
            let reason = "the pod has one /proc for all its containers; with options it takes a pid namespace of the \
                          container's own (--share without pid)";
            return refuse(&mount.data, reason);
        }
        let keeps_nodev = match &mount.kind {
            MountKind::Bind { source, .. } => source.is_dir(),
            MountKind::Remount { .. } => true,
            _ => false,
        };
        if nodes == Nodes::Bound && keeps_nodev && (mount.clear | mount.recursive_clear) & libc::MS_NODEV != 0 {
            return refuse(
                "dev",
                "without rules for devices none can be opened in a volume: bind the device by its name",
            );
        }
        if mount.copy_up && !facts.privileged {
            return refuse(
                "tmpcopyup",
                "an ordinary user cannot fill a file system before it is mounted: use a volume",
            );
        }
        let Some(ids) = &mut mount.ids else { continue };
        if !facts.privileged {
            return refuse("idmap", "an ordinary user cannot map the ids of a mount");
        }
        if ids.uids.is_empty() {
            if pod.users.uids().is_empty() {
                return refuse(
                    "idmap",
                    "without a user namespace there is nothing to map to: give uidMappings and gidMappings",
                );
            }
            (ids.uids, ids.gids) = (pod.users.uids().to_vec(), pod.users.gids().to_vec());
        }
    }
    let root = container.root.path().to_path_buf();
    for i in 0..container.mounts.len() {
        let (earlier, rest) = container.mounts.split_at_mut(i);
        let mount = &mut rest[0];
        if mount.follows_links()
            && let Some(place) = mount_fds::behind_links(&root, earlier, &mount.target)
        {
            mount.target = place;
        }
    }
    Ok(())
}

/// Where namespaces and mounts of its own are more than a container should
/// have.
fn check_nesting(pod: &PodShape<'_>, facts: &Facts) -> Result<()> {
    if !facts.initial_users || *pod.users != Users::Caller {
        return Ok(());
    }
    let reason = "in the machine's user namespace a container that makes namespaces and mounts reaches what is the \
                  machine's, such as whole cgroup v1 hierarchies: give its pod one of its own (--share \
                  net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536), or run it as an ordinary user";
    Err(Error::invalid("nesting", "true", reason))
}

/// Takes away what covers `/proc` and `/sys` in parts.
fn uncover(container: &mut Container) {
    let is_kept = |path: &PathBuf| !["/proc", "/sys"].iter().any(|top| path.starts_with(top));
    container.masked_paths.retain(is_kept);
    container.readonly_paths.retain(is_kept);
}

/// Whose a device is to be must be somebody in the container.
fn check_owner(device: &Device, users: &Users) -> Result<()> {
    for (field, id, maps) in [("uid", device.uid, users.uids()), ("gid", device.gid, users.gids())] {
        if let Some(id) = id.filter(|&id| !maps.is_empty() && crate::kernel::idmap::outside(id, maps).is_none()) {
            let reason = format!("{field} {id} is not mapped in the container's user namespace");
            return Err(Error::invalid("devices", device.path.to_string_lossy(), reason));
        }
    }
    Ok(())
}

/// Where the machine has a device, to bind it from; a pipe is made.
fn node_outside(device: &Device) -> Result<Option<PathBuf>> {
    if device.kind == DeviceKind::Fifo {
        return Ok(None);
    }
    let found = find_outside(device).ok_or_else(|| {
        let reason = format!("this machine has no node {}:{} of that kind to bind", device.major, device.minor);
        Error::invalid("devices", device.path.to_string_lossy(), reason)
    });
    found.map(Some)
}

/// Whether the machine's own file systems can be mounted, not only bound: its
/// root cannot be the lower layer of an overlay in a user namespace, whose
/// mounts are locked together, nor its queues be shown there.
fn can_mount_afresh(pod: &PodShape<'_>, facts: &Facts) -> bool {
    facts.initial_users && *pod.users == Users::Caller
}

/// A root that cannot be written still needs places that can.
fn writable_places() -> impl Iterator<Item = Mount> {
    let places = [("/tmp", "1777"), ("/run", "755"), ("/var/tmp", "1777"), ("/home", "755"), ("/root", "700")];
    // Only what is there: the machine's root cannot get new directories.
    places.into_iter().filter(|(target, _)| Path::new(target).is_dir()).map(|(target, mode)| {
        Mount::new(target, MountKind::Tmpfs).with(libc::MS_NOSUID | libc::MS_NODEV, format!("mode={mode}"))
    })
}

/// Without a user namespace of its own, a container can have no capability
/// that its maker lacks.
fn check_capabilities(container: &Container, facts: &Facts) -> Result<()> {
    let sets = &container.capabilities;
    let wanted = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    let missing = caps::all().into_iter().find(|cap| wanted & !facts.capabilities & cap.bitmask() != 0);
    match missing {
        None => Ok(()),
        Some(capability) => {
            let reason = "podlet itself runs without this capability, so it cannot give it: drop it (--cap-drop)";
            Err(Error::invalid("capability", capability.to_string(), reason))
        }
    }
}

/// A copy of the machine's mounts that another user namespace makes has the machine's
/// own `/proc` and `/sys` in it, locked: only what is mounted over them hides them.
fn check_cover(container: &Container, facts: &Facts) -> Result<()> {
    let sets = &container.capabilities;
    let may_have = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    let capability = Capability::CAP_SYS_ADMIN;
    if (facts.privileged && facts.initial_users) || may_have & capability.bitmask() == 0 {
        return Ok(());
    }
    let reason = "it could unmount what hides this machine's /proc and /sys, which an ordinary user cannot take out of \
                  the host image: give it a root filesystem of its own (--rootfs DIR)";
    Err(Error::invalid("capability", capability.to_string(), reason))
}
