//! `linux.namespaces`, and what goes with them: id maps, clock offsets.

use std::collections::BTreeSet;

use oci_spec::runtime::{Linux, LinuxIdMapping, Spec};

use super::Config;
use super::types::{NamespaceEntry, NamespaceKind};
use crate::error::{Error, Result};
use crate::kernel::idmap::IdMap;
use crate::kernel::namespace::Namespace;
use crate::spec::{ContainerSpec, NamespaceMode, TimeOffsets, check_string, sysctl};

pub(super) fn entries(linux: &Linux) -> Result<Vec<NamespaceEntry>> {
    let mut entries: Vec<NamespaceEntry> = Vec::new();
    for listed in linux.namespaces().iter().flatten() {
        let name = listed.typ().to_string();
        let kind = match name.as_str() {
            "mnt" => NamespaceKind::Mount,
            "net" => NamespaceKind::Network,
            other => other.parse()?,
        };
        if entries.iter().any(|entry| entry.kind == kind) {
            return Err(Error::invalid("linux.namespaces", kind.name(), "listed twice"));
        }
        let path = listed.path().clone().filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = &path {
            let shown = path.to_string_lossy();
            check_string("linux.namespaces[].path", &shown)?;
            if !path.is_absolute() {
                return Err(Error::invalid("linux.namespaces[].path", shown, "give an absolute path"));
            }
        }
        entries.push(NamespaceEntry { kind, path });
    }
    Ok(entries)
}

/// The maps of a new user namespace.
pub(super) fn id_maps(
    field: &str,
    maps: &Option<Vec<LinuxIdMapping>>,
    namespaces: &[NamespaceEntry],
) -> Result<Vec<IdMap>> {
    let read = |map: &LinuxIdMapping| IdMap { inside: map.container_id(), outside: map.host_id(), count: map.size() };
    let maps: Vec<IdMap> = maps.iter().flatten().map(read).collect();
    for (i, map) in maps.iter().enumerate() {
        let shown = format!("{}:{}:{}", map.inside, map.outside, map.count);
        if !map.is_possible() {
            return Err(Error::invalid(field, shown, "the size must be at least 1, and no id above 4294967294"));
        }
        let meet = |a: u32, b: u32, other: &IdMap| {
            u64::from(a) < u64::from(b) + u64::from(other.count) && u64::from(b) < u64::from(a) + u64::from(map.count)
        };
        if maps[..i].iter().any(|o| meet(map.inside, o.inside, o) || meet(map.outside, o.outside, o)) {
            return Err(Error::invalid(field, shown, "overlaps with an earlier one: an id can be mapped only once"));
        }
    }
    let user = namespaces.iter().find(|entry| entry.kind == NamespaceKind::User);
    match user {
        None if !maps.is_empty() => {
            Err(Error::invalid(field, "", "id maps need a user namespace: add `user` to linux.namespaces"))
        }
        Some(NamespaceEntry { path: None, .. }) if maps.is_empty() => {
            Err(Error::invalid(field, "", "a new user namespace needs a map: without one it has no ids"))
        }
        _ => Ok(maps),
    }
}

/// Refuses what would be done to a namespace that is the machine's own.
pub(super) fn check_own(container: &ContainerSpec, namespaces: &[NamespaceEntry]) -> Result<()> {
    let listed = |kind| namespaces.iter().any(|entry| entry.kind == kind);
    for name in container.sysctl.keys() {
        let kind = match sysctl::parse(name)?.namespace {
            Namespace::Net => NamespaceKind::Network,
            Namespace::Ipc => NamespaceKind::Ipc,
            _ => NamespaceKind::Uts,
        };
        if !listed(kind) {
            let reason = format!("it would be the machine's own: add `{}` to linux.namespaces", kind.name());
            return Err(Error::invalid("linux.sysctl", name, reason));
        }
    }
    if let Some(name) = container.net_devices.keys().next()
        && !listed(NamespaceKind::Network)
    {
        let reason = "it would stay where it is: add `network` to linux.namespaces";
        return Err(Error::invalid("linux.netDevices", name, reason));
    }
    Ok(())
}

/// Host and domain name, which need a uts namespace.
pub(super) fn names(
    spec: &Spec,
    container: &ContainerSpec,
    namespaces: &[NamespaceEntry],
) -> Result<(Option<String>, Option<String>)> {
    let uts = namespaces.iter().any(|entry| entry.kind == NamespaceKind::Uts);
    let name_of_machine = |field: &str, name: &Option<String>| match name.clone().filter(|name| !name.is_empty()) {
        Some(name) if !uts => {
            let reason = "it would be the machine's own: add `uts` to linux.namespaces";
            Err(Error::invalid(field, name, reason))
        }
        name => Ok(name),
    };
    let hostname = name_of_machine("hostname", spec.hostname())?;
    let domainname = name_of_machine("domainname", spec.domainname())?;
    if let (Some(parameter), Some(name)) = (container.sysctl.get("kernel.domainname"), &domainname)
        && parameter != name
    {
        let reason = format!("domainname says {name:?}: remove one of them");
        return Err(Error::invalid("linux.sysctl.kernel.domainname", parameter, reason));
    }
    Ok((hostname, domainname))
}

/// Offsets of the clocks of a new time namespace.
pub(super) fn time_offsets(linux: &Linux, namespaces: &[NamespaceEntry]) -> Result<TimeOffsets> {
    let mut offsets = TimeOffsets::default();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets.{clock}");
        let (secs, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanos >= 1_000_000_000 {
            return Err(Error::invalid(field, nanos.to_string(), "nanosecs: at most 999999999"));
        }
        match clock.as_str() {
            "monotonic" => (offsets.monotonic, offsets.monotonic_nanos) = (secs, nanos),
            "boottime" => (offsets.boottime, offsets.boottime_nanos) = (secs, nanos),
            _ => return Err(Error::invalid(field, "", "not a clock with an offset: monotonic, boottime")),
        }
        let made = namespaces.iter().any(|entry| entry.kind == NamespaceKind::Time && entry.path.is_none());
        if !made {
            let reason = "an offset needs a new time namespace: add `time` without a path to linux.namespaces";
            return Err(Error::invalid(field, "", reason));
        }
    }
    Ok(offsets)
}

impl Config {
    /// The entry of a kind.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&NamespaceEntry> {
        self.namespaces.iter().find(|entry| entry.kind == kind)
    }

    /// Of the namespaces it lists it wants the pod's; of the others the
    /// machine's, where a container of a pod may have those.
    pub(super) fn place_namespaces(&mut self) -> Result<BTreeSet<Namespace>> {
        let field = "linux.namespaces";
        if let Some(entry) = self.namespaces.iter().find(|entry| entry.path.is_some()) {
            let path = entry.path.iter().map(|path| path.to_string_lossy()).collect::<String>();
            let reason = "a container of a pod joins the pod's: remove the path, or use podlet-oci";
            return Err(Error::invalid(format!("{field}[].path"), path, reason));
        }
        let listed = |kind| self.namespace(kind).is_some();
        for kind in [NamespaceKind::Mount, NamespaceKind::Pid, NamespaceKind::Uts] {
            if !listed(kind) {
                let reason = "missing, which asks for the machine's own; a container of a pod cannot have that: \
                              add it, or use podlet-oci";
                return Err(Error::invalid(field, kind.name(), reason));
            }
        }
        let mode = |kind| if listed(kind) { NamespaceMode::Pod } else { NamespaceMode::Host };
        let (net, ipc, cgroup) = (mode(NamespaceKind::Network), mode(NamespaceKind::Ipc), mode(NamespaceKind::Cgroup));
        let shared = [
            (NamespaceKind::Network, Namespace::Net),
            (NamespaceKind::Ipc, Namespace::Ipc),
            (NamespaceKind::Pid, Namespace::Pid),
            (NamespaceKind::Uts, Namespace::Uts),
            (NamespaceKind::User, Namespace::User),
            (NamespaceKind::Time, Namespace::Time),
        ];
        let share = shared.into_iter().filter(|(kind, _)| listed(*kind)).map(|(_, namespace)| namespace).collect();
        (self.container.net, self.container.ipc, self.container.cgroup) = (net, ipc, cgroup);
        Ok(share)
    }
}
