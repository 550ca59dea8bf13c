//! From a [`ContainerSpec`] to what its plan needs: everything that has to be
//! looked up on this machine before a process is born.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caps::Capability;

use super::devices::find_outside;
use super::mount_fds::{self, Owners};
use super::overlay::Overlay;
use super::root_files::RootFiles;
use super::{asked_mounts, host_mounts, passwd};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::idmap;
use crate::plan::input::{
    ContainerInput, DeviceNodes, IN_PAUSE, Isolation, LegacyMounts, Policy, RootSource, Source, TerminalOptions,
};
use crate::plan::pod::PodShape;
use crate::plan::{Given, Plan, container};
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{ContainerSpec, Device, DeviceKind, Mount, MountKind, Root};

/// A container, ready to be planned.
#[derive(Debug)]
pub(crate) struct Prepared {
    policy: Policy,
    container: ContainerSpec,
    ids: Ids,
    sources: Vec<Option<Source>>,
    nodes: DeviceNodes,
    nodes_outside: Vec<Option<PathBuf>>,
    /// If its root is one.
    overlay: Option<Overlay>,
    has_host_mqueue: bool,
    filter: Option<Filter>,
    idmapped: bool,
    legacy_mounts: Option<LegacyMounts>,
}

impl Prepared {
    /// Looks up what a container of a pod needs. Changes nothing.
    ///
    /// `hidden` is covered for a container that sees this machine's files;
    /// `dir` is where it keeps what it changes of them.
    pub(crate) fn in_pod(
        container: &ContainerSpec,
        pod: &PodShape<'_>,
        facts: &Facts,
        hidden: &[PathBuf],
        dir: &Path,
    ) -> Result<Prepared> {
        let container = pod.options.place(container);
        container.check()?;
        container.check_in(pod.options)?;
        let prepared =
            Prepared::look_up(container.clone().into_owned(), Policy::Pod, pod.isolation(), facts, hidden, dir)?;
        Ok(Prepared { filter: container.filter(pod.options)?, ..prepared })
    }

    /// Looks up what the container of an OCI bundle needs. Changes nothing.
    pub(crate) fn of_bundle(container: &ContainerSpec, users: &Users, facts: &Facts) -> Result<Prepared> {
        container.check()?;
        if container.root.dir().is_none() {
            return Err(Error::invalid("root", &container.name, "the root file system of a bundle is a directory"));
        }
        // Whether there is a cgroup changes nothing of what is looked up.
        let isolation = Isolation::of_bundle(users, false);
        // The root of a bundle is a directory: there is nothing to hide in it,
        // and what is changed stays in it.
        let prepared = Prepared::look_up(container.clone(), Policy::Oci, isolation, facts, &[], Path::new(""))?;
        Ok(Prepared { filter: container.filter_without_pod()?, ..prepared })
    }

    /// What either needs, but for the filter.
    fn look_up(
        mut container: ContainerSpec,
        policy: Policy,
        isolation: Isolation<'_>,
        facts: &Facts,
        hidden: &[PathBuf],
        dir: &Path,
    ) -> Result<Prepared> {
        if container.nesting {
            check_nesting(isolation, facts)?;
            uncover(&mut container);
        }
        let afresh = isolation.in_initial_users(facts);
        let overlay = Overlay::of(&container.root, dir, afresh, isolation.overlays_in_users(facts));
        overlay.as_ref().map_or(Ok(()), Overlay::check)?;
        let files = root_files(&container.root, overlay.as_ref())?;
        let found = passwd::look_up_in(&files, &container.process, isolation.users, facts)?;
        found.give_home(&mut container.process);
        if *isolation.users == Users::Caller {
            check_capabilities(&container, facts)?;
        }
        if container.root == Root::Host {
            check_cover(&container, facts)?;
            container.masked_paths.extend_from_slice(hidden);
            if overlay.is_none() {
                asked_mounts::add_writable_places(&mut container);
            }
        }
        let has_host_mqueue = Path::new("/dev/mqueue").is_dir();
        if !afresh {
            asked_mounts::bind_machines_own(&mut container, has_host_mqueue);
        }
        let sources = container.mounts.iter().map(source).collect();
        let idmapped = is_of_machines_ids(&container.root, isolation.users)? && policy == Policy::Pod;
        if let Some(overlay) = overlay.as_ref().filter(|_| idmapped) {
            overlay.check_idmapped()?;
        }
        let new_mount_api = facts.calls.new_mount_api();
        let legacy_mounts = (!new_mount_api)
            .then(|| host_mounts::look_up(&container, isolation.users, overlay.is_some()))
            .transpose()?;
        asked_mounts::settle(&mut container, &files, policy, isolation, facts)?;
        let nodes = DeviceNodes::decide(policy, &isolation, facts);
        let outside = |device: &Device| match nodes {
            DeviceNodes::Made | DeviceNodes::MadeOutside => check_owner(device, isolation.users).map(|()| None),
            DeviceNodes::Bound => node_outside(device),
        };
        let nodes_outside = container.devices.iter().map(outside).collect::<Result<_>>()?;
        let (ids, filter) = (found.ids, None);
        Ok(Prepared {
            policy,
            container,
            ids,
            sources,
            nodes,
            nodes_outside,
            overlay,
            has_host_mqueue,
            filter,
            idmapped,
            legacy_mounts,
        })
    }

    /// Makes the directories the container's root needs.
    pub(crate) fn make_dirs(&self) -> Result<()> {
        self.overlay.as_ref().map_or(Ok(()), Overlay::make_dirs)
    }

    /// Descriptors for the container's mounts that its plan wants.
    pub(crate) fn make_outside(&self, users: &Users, program_dirs: &[PathBuf]) -> Result<Vec<(Given, OwnedFd)>> {
        let mounts = &self.container.mounts;
        let mut made = Vec::new();
        for (ids, number) in mounts.iter().filter_map(|mount| mount.ids.as_ref()).zip(0..) {
            made.push((Given::MountUsers(number), mount_fds::user_namespace(ids, program_dirs)?));
        }
        let owners = match self.idmapped {
            true => Owners::Mapped(users.uids(), users.gids()),
            false => Owners::Same,
        };
        if !mounts.iter().any(|mount| mount.copy_up) {
            return Ok(made);
        }
        let image = root_files(&self.container.root, self.overlay.as_ref())?.into_tree()?;
        for (mount, number) in mounts.iter().filter(|mount| mount.copy_up).zip(0..) {
            made.push((Given::Copied(number), mount_fds::copied_up(image.as_fd(), mount, self.policy, owners)?));
        }
        Ok(made)
    }

    /// The plan, with the container registered in slot `entry` of the exit
    /// table.
    pub(crate) fn plan(
        &self,
        isolation: Isolation<'_>,
        facts: &Facts,
        entry: usize,
        terminal: Option<TerminalOptions>,
    ) -> Plan {
        container::plan(&ContainerInput { entry, terminal, ..self.launch(isolation, facts) })
    }

    /// All that a plan depends on. A bundle's root is attached where it comes
    /// from.
    pub(crate) fn launch<'a>(&'a self, isolation: Isolation<'a>, facts: &'a Facts) -> ContainerInput<'a> {
        let image = match &self.container.root {
            Root::Dir(path) => RootSource::Dir { path, idmapped: self.idmapped },
            Root::Host | Root::Layers(_) => match &self.overlay {
                Some(overlay) => RootSource::Overlay(overlay.source(self.idmapped)),
                None => RootSource::ReadOnlyHost,
            },
        };
        ContainerInput {
            facts,
            isolation,
            policy: self.policy,
            container: &self.container,
            image,
            ids: &self.ids,
            sources: &self.sources,
            filter: self.filter.as_ref(),
            has_host_mqueue: self.has_host_mqueue,
            nodes: self.nodes,
            nodes_outside: &self.nodes_outside,
            attach: match (self.policy, self.container.root.dir()) {
                (Policy::Oci, Some(dir)) => dir,
                _ => Path::new(IN_PAUSE),
            },
            terminal: None,
            legacy_mounts: self.legacy_mounts.as_ref(),
            entry: 0,
        }
    }

    /// The container, with what was looked up.
    pub(crate) fn container(&self) -> &ContainerSpec {
        &self.container
    }

    /// The directory that a bundle has for its root file system.
    pub(crate) fn root(&self) -> &Path {
        self.container.root.dir().unwrap_or(Path::new("/"))
    }

    /// Who it runs as.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }
}

/// What a mount's source is, if it has one.
fn source(mount: &Mount) -> Option<Source> {
    match &mount.kind {
        MountKind::Bind { source, .. } => Some(if source.is_dir() { Source::Directory } else { Source::File }),
        _ => None,
    }
}

/// The files of a root before anything is mounted in it.
fn root_files(root: &Root, overlay: Option<&Overlay>) -> Result<RootFiles> {
    match (root, overlay) {
        (Root::Layers(_), Some(overlay)) => overlay.files(),
        // The machine's own, with what is mounted below it.
        _ => RootFiles::of_dir(root.dir().unwrap_or(Path::new("/"))),
    }
}

/// Whether the files of an image belong to this machine's ids, and not to those
/// of the user namespace that `users` says. What is theirs already is taken as
/// it is.
fn is_of_machines_ids(root: &Root, users: &Users) -> Result<bool> {
    let Users::New { uids, .. } = users else { return Ok(false) };
    let is_machines = |path: &Path| {
        let owner = std::fs::metadata(path).doing(|| format!("looking at {}", path.display()))?.uid();
        Ok(idmap::inside(owner, uids).is_none())
    };
    let Root::Layers(layers) = root else { return is_machines(root.dir().unwrap_or(Path::new("/"))) };
    let upper = layers.upper.iter().map(|given| ("root.layers.upper".to_string(), &given.upper));
    let lower = layers.lower.iter().enumerate().map(|(i, path)| (format!("root.layers.lower[{i}]"), path));
    let (mut all, mut first) = (lower.chain(upper), None);
    all.try_for_each(|(field, path)| match (is_machines(path)?, *first.get_or_insert(is_machines(path)?)) {
        (own, first) if own == first => Ok(()),
        (own, _) => {
            let who = |own| if own { "the machine's ids" } else { "those of the pod's user namespace" };
            let reason = format!("it belongs to {}, and root.layers.lower[0] to {}: chown one", who(own), who(!own));
            Err(Error::invalid(field, path.to_string_lossy(), reason))
        }
    })?;
    Ok(first.unwrap_or(false))
}

/// Where namespaces and mounts of its own are more than a container should
/// have.
fn check_nesting(isolation: Isolation<'_>, facts: &Facts) -> Result<()> {
    if !isolation.in_initial_users(facts) {
        return Ok(());
    }
    let reason = "in the machine's user namespace a container that makes namespaces and mounts reaches what is the \
                  machine's, such as whole cgroup v1 hierarchies: give its pod one of its own (--share \
                  net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536), or run it as an ordinary user";
    Err(Error::invalid("nesting", "true", reason))
}

/// Takes away what covers `/proc` and `/sys` in parts.
fn uncover(container: &mut ContainerSpec) {
    let is_kept = |path: &PathBuf| !["/proc", "/sys"].iter().any(|top| path.starts_with(top));
    container.masked_paths.retain(is_kept);
    container.readonly_paths.retain(is_kept);
}

/// Whose a device is to be must be somebody in the container.
fn check_owner(device: &Device, users: &Users) -> Result<()> {
    for (field, id, maps) in [("uid", device.uid, users.uids()), ("gid", device.gid, users.gids())] {
        if let Some(id) = id.filter(|&id| !maps.is_empty() && idmap::outside(id, maps).is_none()) {
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

/// Without a user namespace of its own, a container can have no capability
/// that its maker lacks.
fn check_capabilities(container: &ContainerSpec, facts: &Facts) -> Result<()> {
    let wanted = container.process.capabilities.union();
    match wanted.difference(facts.capabilities).iter().next() {
        None => Ok(()),
        Some(capability) => {
            let reason = "podlet itself runs without this capability, so it cannot give it: drop it (--cap-drop)";
            Err(Error::invalid("capability", capability.to_string(), reason))
        }
    }
}

/// A copy of the machine's mounts that another user namespace makes has the machine's
/// own `/proc` and `/sys` in it, locked: only what is mounted over them hides them.
fn check_cover(container: &ContainerSpec, facts: &Facts) -> Result<()> {
    let capability = Capability::CAP_SYS_ADMIN;
    let may_have_it = container.process.capabilities.union().contains(capability);
    if (facts.privileged && facts.initial_users) || !may_have_it {
        return Ok(());
    }
    let reason = "it could unmount what hides this machine's /proc and /sys, which an ordinary user cannot take out of \
                  the host image: give it a root filesystem of its own (--rootfs DIR)";
    Err(Error::invalid("capability", capability.to_string(), reason))
}
