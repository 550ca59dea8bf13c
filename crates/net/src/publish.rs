//! Ports of the machine that lead to pods: those that a pod begins with, and those
//! that come and go while it runs, without its noticing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use netlink::Family;
use nix::errno::Errno;
use pod::{Error, Pod, Result};

use crate::bridge;
use crate::files::Lock;
use crate::lease::Holder;
use crate::machine;
use crate::make::{Notes, open, table_name};
use crate::networks::{Networks, Using};
use crate::nft;
use crate::pasta;
use crate::ports::{self, PortIndex, PortMapping, PortRequest};
use crate::record::{self, Attached, Attachment, OWNER};
use crate::registry::Taking;
use crate::route;
use crate::step::refused;

impl Networks {
    /// Has more of the machine's ports lead to a pod, and tells which: those that
    /// were named and those that were chosen.
    ///
    /// # Errors
    /// [`Error::State`] if the pod is in no network or not alive;
    /// [`Error::Invalid`] for a port that cannot be had, and if the pod's first
    /// network is a CNI network. Nothing is changed then.
    pub fn add_ports(&self, pod: &Pod, requests: &[PortRequest]) -> Result<(Vec<PortMapping>, Notes)> {
        let (_using, _lock, dir, mut attachment) = self.changing_ports_of(pod)?;
        if !pod.is_alive() {
            return Err(Error::state(format!("pod {}", pod.name()), "is not running: its ports lead nowhere"));
        }
        let before = attachment.clone();
        let attached = Attached { name: pod.name(), id: pod.id(), dir: &dir, hostname: pod.name() };
        let added = self.take_ports(&attached, &mut attachment, requests)?;
        // What went wrong first is what will be told.
        let undo = || {
            let registry = self.registry()?;
            before.write(&dir)?;
            registry.give_back(&added, pod.id())?;
            self.rebuild_table(&registry.taking()?)
        };
        let notes = self.publish(&attachment, &added).inspect_err(|_| drop(undo()))?;
        Ok((added, notes))
    }

    /// Has ports lead to a pod no longer. Connections that are there go on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that it does not have, and if the pod's first
    /// network is a CNI network; [`Error::State`] if the pod
    /// is in no network. Nothing is changed then.
    pub fn remove_ports(&self, pod: &Pod, ports: &[PortMapping]) -> Result<()> {
        let (_using, _lock, dir, mut attachment) = self.changing_ports_of(pod)?;
        let own: HashSet<_> = attachment.ports.iter().collect();
        if let Some(unknown) = ports.iter().find(|port| !own.contains(port)) {
            let reason = format!("pod {} has no such port: `podlet port ls {0}` shows its own", pod.name());
            return Err(Error::invalid("publish", unknown.to_string(), reason));
        }
        let registry = self.registry()?;
        let taking = registry.taking()?;
        if attachment.published {
            self.unpublish(&taking, &attachment, ports)?;
        }
        let removed: HashSet<_> = ports.iter().collect();
        attachment.ports.retain(|port| !removed.contains(port));
        attachment.write(&dir)?;
        registry.give_back(ports, pod.id()).map(drop)
    }

    /// What a pod has of networks, which nobody else changes meanwhile.
    fn changing_ports_of(&self, pod: &Pod) -> Result<(Using, Lock, PathBuf, Attachment)> {
        // Without a network there is nothing to be kept as it is.
        self.attachment_of(pod)?;
        let using = self.using()?;
        let dir = pod.extension_dir(OWNER)?;
        let gone = || Error::NotFound(format!("pod {:?}", pod.name()));
        let lock = record::lock(&dir)?.ok_or_else(gone)?;
        Ok((using, lock, dir, self.attachment_of(pod)?))
    }

    fn attachment_of(&self, pod: &Pod) -> Result<Attachment> {
        let none = || record::in_none(pod, "its ports lead nowhere");
        let found = self.attachment(pod.name())?.filter(|attachment| !attachment.networks.is_empty());
        let attachment = found.ok_or_else(none)?;
        refuse_others_ports(&attachment)?;
        Ok(attachment)
    }

    /// Has more ports of the machine lead to the pod, by its record first, and tells
    /// which. What it has already it is not given again. The caller has the pod's
    /// record to itself.
    pub(crate) fn take_ports(
        &self,
        pod: &Attached<'_>,
        attachment: &mut Attachment,
        requests: &[PortRequest],
    ) -> Result<Vec<PortMapping>> {
        let had: HashSet<_> = attachment.ports.iter().copied().map(PortRequest::from).collect();
        let requests: Vec<_> = requests.iter().filter(|request| !had.contains(request)).copied().collect();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let registry = self.registry()?;
        loop {
            let taking = registry.taking()?;
            let settled = ports::settle(&requests, &taking.taken()?)?;
            check_families(&settled, attachment)?;
            let all: Vec<_> = attachment.ports.iter().chain(&settled).copied().collect();
            ports::check_list(&all)?;
            if let Err((port, other)) = taking.take(&settled, &pod.holder())? {
                // What plugins have to take back first may take its time.
                drop(taking);
                self.let_go_of_ports(&port, &other)?;
                continue;
            }
            let mut noted = attachment.clone();
            (noted.ports, noted.published) = (all, true);
            let probed = settled.iter().try_for_each(ports::probe).and_then(|()| self.refuse_other_stores(&settled));
            let done = probed.and_then(|()| noted.write(pod.dir));
            done.inspect_err(|_| drop(registry.give_back(&settled, pod.id)))?;
            *attachment = noted;
            return Ok(settled);
        }
    }

    /// Two stores have a table each, in both of which the kernel would take a port.
    fn refuse_other_stores(&self, ports: &[PortMapping]) -> Result<()> {
        // Whoever may not look has no table, but pasta.
        if !machine::may_change() {
            return Ok(());
        }
        let own = self.table_name();
        let others = self.netfilter(|socket| nft::published_by_others(socket, &own).map_err(refused))?;
        let taken: PortIndex = others.iter().map(|(_, port)| *port).collect();
        let Some((port, theirs)) = ports.iter().find_map(|port| Some((port, taken.in_conflict(port)?))) else {
            return Ok(());
        };
        let table =
            others.iter().find(|(_, port)| *port == theirs).map(|(table, _)| table.as_str()).unwrap_or_default();
        let links = route::links(&mut open(Family::Route)?).map_err(refused)?;
        let mut roots = links.iter().filter_map(|link| bridge::read_alias(link.alias.as_deref()?));
        let reason = match roots.find(|(_, root)| table_name(Path::new(root)) == table) {
            Some((_, root)) => format!(
                "a pod of the store {root} has that port: choose another, or take it from there (`podlet --root {root} port rm`)"
            ),
            None => format!(
                "a pod of another store has that port: choose another, or, if that store is gone, `nft delete table inet {table}`"
            ),
        };
        Err(Error::invalid("publish", port.to_string(), reason))
    }

    /// The ports of a pod that is not running any more, or that it only seems to have.
    fn let_go_of_ports(&self, port: &PortMapping, other: &Holder) -> Result<()> {
        let taken = || {
            let reason =
                format!("pod {} has that port: choose another, or take it from there (`podlet port rm`)", other.pod);
            Error::invalid("publish", port.to_string(), reason)
        };
        let found = match Pod::open(self.store(), &other.pod) {
            Err(Error::NotFound(_)) => None,
            found => Some(found?).filter(|found| found.id() == other.id),
        };
        let registry = self.registry()?;
        let dir = record::dir_of(self.root(), &other.pod);
        // Whoever has its record to himself changes its ports just now.
        let lock = record::try_lock(&dir);
        let given = match found {
            None => {
                let _taking = registry.taking()?;
                registry.give_back_all(&other.id)?
            }
            Some(_) if lock.is_none() => false,
            Some(found) if found.is_alive() => {
                let noted = Attachment::read(&dir)?.map(|attachment| attachment.ports).unwrap_or_default();
                let _taking = registry.taking()?;
                registry.give_back_unnoted(&noted, &other.id)?
            }
            Some(_) => self.let_go_of_the_dead(other, &dir)?,
        };
        if given { Ok(()) } else { Err(taken()) }
    }

    /// A pod that has ended keeps no port; the caller has its record to itself.
    fn let_go_of_the_dead(&self, other: &Holder, dir: &Path) -> Result<bool> {
        let registry = self.registry()?;
        let Some(mut attachment) = Attachment::read(dir)? else { return registry.give_back_all(&other.id) };
        let pod = Attached { name: &other.pod, id: &other.id, dir, hostname: &other.pod };
        if !self.leave(&pod, &mut attachment)?.is_empty() {
            return Ok(false);
        }
        if attachment.has_pasta() {
            pasta::end(dir)?;
        }
        self.close(&mut attachment, dir)?;
        registry.give_back_all(&other.id)
    }

    /// Has the ports of a pod lead nowhere, which its record says from then on.
    pub(crate) fn close(&self, attachment: &mut Attachment, dir: &Path) -> Result<()> {
        let registry = self.registry()?;
        // Nobody makes the table anew between the two.
        let taking = registry.taking()?;
        self.unpublish(&taking, attachment, &attachment.ports)?;
        attachment.published = false;
        attachment.write(dir)
    }

    /// Has the ports lead to the pod. A table that somebody flushed, or in which an
    /// element was left, is made anew: it has the ports then.
    pub(crate) fn publish(&self, attachment: &Attachment, ports: &[PortMapping]) -> Result<Notes> {
        let rules = attachment.port_rules(ports);
        let Some(first) = attachment.networks.first().filter(|_| !rules.is_empty()) else {
            return self.forget_flows_of_plugins(attachment, ports).map(|()| Notes::default());
        };
        let registry = self.registry()?;
        let taking = registry.taking()?;
        let add = nft::add_ports(&self.table_name(), &rules);
        let is_missing = self.netfilter(|socket| match socket.send(&add) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EEXIST) => Ok(true),
            added => added.map(|()| false).map_err(refused),
        })?;
        if is_missing {
            self.rebuild_table(&taking)?;
        }
        self.netfilter(|socket| nft::forget(socket, &rules).map_err(refused))?;
        let network = self.get(&first.name)?;
        if !network.config().internal {
            return self.forward_to_ports(&taking, network.config());
        }
        let mut hidden = ports.to_vec();
        hidden.retain(|port| port.host_ip.is_none_or(|ip| !ip.is_loopback()));
        let names = ports::ranges(&hidden).join(", ");
        let note = format!("ports {names}: reached from this machine alone, network {} is internal", first.name);
        Ok(Notes(if hidden.is_empty() { Vec::new() } else { vec![note] }))
    }

    /// Takes the ports from the pod.
    fn unpublish(&self, _: &Taking<'_>, attachment: &Attachment, ports: &[PortMapping]) -> Result<()> {
        let rules = attachment.port_rules(ports);
        if rules.is_empty() {
            return self.forget_flows_of_plugins(attachment, ports);
        }
        let delete = nft::delete_ports(&self.table_name(), &rules);
        self.netfilter(|socket| {
            match socket.send(&delete) {
                // No table, or another pod's by now.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EEXIST) => {}
                deleted => deleted.map_err(refused)?,
            }
            nft::forget(socket, &rules).map_err(refused)
        })
    }

    /// Plugins take their rules away, but leave flows that began by them: a client over
    /// UDP that goes on sending would not find the next one at the port.
    fn forget_flows_of_plugins(&self, attachment: &Attachment, ports: &[PortMapping]) -> Result<()> {
        let rules = attachment.port_rules_of_plugins(ports);
        if rules.is_empty() {
            return Ok(());
        }
        self.netfilter(|socket| match nft::forget(socket, &rules) {
            // No connections are tracked here.
            Err(error) if matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
            forgotten => forgotten.map_err(refused),
        })
    }
}

/// Ports of a CNI network are what it was told at ADD, and pasta's what it was
/// started with.
fn refuse_others_ports(attachment: &Attachment) -> Result<()> {
    let Some(first) = attachment.networks.first().filter(|first| !first.is_own()) else { return Ok(()) };
    let reason = match first.cni() {
        Some(_) => "its plugins take ports only when a pod is put into it: say them where the pod is made",
        None => "pasta does not change ports while it runs: say them by -p where the pod is made",
    };
    Err(Error::invalid("network", &first.name, reason))
}

/// Each port leads to an address of its family. What addresses a pod will have of a
/// network that others make nobody knows.
fn check_families(ports: &[PortMapping], attachment: &Attachment) -> Result<()> {
    if attachment.networks.first().is_some_and(|first| !first.is_own()) {
        return Ok(());
    }
    match ports.iter().find(|port| attachment.port_rules(&[**port]).is_empty()) {
        Some(port) => {
            let reason = "the pod's first network has no address of that family: leave the address away";
            Err(Error::invalid("publish", port.to_string(), reason))
        }
        None => Ok(()),
    }
}
