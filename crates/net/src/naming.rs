//! By which names the pods of a network find each other: who writes them, who takes
//! them away, and what becomes of files that somebody removed.
//!
//! A pod is named as long as it runs: when it is attached or made anew, until it is
//! ended on purpose or removed. Of one that ended by itself nobody tells, so its names
//! stay until somebody looks ([`Networks::reload`]).

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnet::IpNet;
use pod::{Error, Pod, Result};

use crate::hosts::HostsEntry;
use crate::make::Notes;
use crate::names;
use crate::networks::Networks;
use crate::record::{self, Attached, AttachedNetwork, Attachment};
use crate::resolv::Resolver;
use crate::rootless;

impl Networks {
    /// By which names the pods of its networks find it, and it them.
    pub(crate) fn name(&self, pod: &Attached<'_>, attachment: &Attachment) -> Result<()> {
        let named = attachment.networks.iter().filter_map(|attached| Some((&attached.name, entry(pod, attached)?)));
        let named: Vec<_> = named.collect();
        named.iter().try_for_each(|(network, entry)| self.add_name(network, entry))?;
        if !attachment.shares_hosts() {
            self.write_own(pod, attachment)?;
        }
        named.iter().try_for_each(|(network, entry)| self.tell_neighbours(network, entry))
    }

    fn add_name(&self, network: &str, entry: &HostsEntry) -> Result<()> {
        match self.hosts_of(network).add(entry) {
            // It is a CNI network's first pod, or somebody removed the file.
            Err(Error::NotFound(_)) => {
                self.write_hosts(network)?;
                self.hosts_of(network).add(entry)
            }
            added => added,
        }
    }

    /// The file of a pod that has one for itself.
    fn write_own(&self, pod: &Attached<'_>, attachment: &Attachment) -> Result<()> {
        let own = record::own_hosts(pod.dir);
        let networks = || attachment.networks.iter().map(|attached| &attached.name);
        networks().try_for_each(|network| self.note_own(network, pod.name))?;
        own.create()?;
        networks().try_for_each(|network| self.copy_names(network, &own))?;
        let gateways: Vec<_> = attachment.networks.iter().flat_map(|network| network.gateways.clone()).collect();
        let of_host = |(nth, host): (usize, &names::AddHost)| {
            let (id, names) = (format!("add-host-{nth}"), vec![host.name.clone()]);
            HostsEntry { id, addresses: host.addresses(&gateways), names }
        };
        own.add_all(&attachment.add_hosts.iter().enumerate().map(of_host).collect::<Vec<_>>())
    }

    /// Nobody finds it any more. What is gone already is as good.
    pub(crate) fn unname(&self, pod: &str, attachment: &Attachment) -> Result<()> {
        attachment.networks.iter().try_for_each(|attached| {
            self.hosts_of(&attached.name).remove(pod)?;
            self.forget_at_neighbours(&attached.name, pod)
        })
    }

    /// A network's file where there is none, with the names of the pods that run.
    fn write_hosts(&self, network: &str) -> Result<()> {
        let hosts = self.hosts_of(network);
        hosts.create()?;
        let found = self.running(network)?;
        hosts.add_all(&found)?;
        // Who ended meanwhile may have looked for its names before they were there.
        let left = ids(&self.running(network)?);
        let gone = found.iter().filter(|entry| !left.contains(&entry.id));
        gone.map(|entry| hosts.remove(&entry.id)).try_for_each(|removed| removed.map(drop))
    }

    /// The names of a network's pods that run. Of one whose records cannot be read
    /// nothing is known.
    fn running(&self, network: &str) -> Result<Vec<HostsEntry>> {
        let mut found = Vec::new();
        for name in self.store().names()? {
            let Some(attachment) = self.attachment(&name).ok().flatten() else { continue };
            let Some(attached) = attachment.networks.iter().find(|attached| attached.name == network) else { continue };
            let Ok(pod) = Pod::open(self.store(), &name) else { continue };
            let dir = record::dir_of(self.root(), &name);
            let hostname = pod.options().effective_hostname();
            if pod.lives_on() {
                found.extend(entry(&Attached { name: &name, id: pod.id(), dir: &dir, hostname }, attached));
            }
        }
        Ok(found)
    }

    /// The files that belong over those of an image in each container of a pod that
    /// is in networks: where they are, and their places inside. They are to be
    /// read only, and stay right as long as the pod is there.
    ///
    /// # Errors
    /// As [`attachment`](Networks::attachment).
    pub fn files(&self, pod: &str) -> Result<Vec<(PathBuf, &'static str)>> {
        let dir = record::dir_of(self.root(), pod);
        let Some(attachment) = Attachment::read(&dir)? else { return Ok(Vec::new()) };
        let shared = match (attachment.shares_hosts(), attachment.networks.first()) {
            (true, Some(first)) => Some(self.hosts_of(&first.name).path().to_path_buf()),
            _ => None,
        };
        Ok(attachment.files(&dir, shared))
    }

    /// Makes the files of a pod that runs anew, as far as somebody removed them:
    /// `/etc/hosts` and the like of its containers ([`Networks::files`]). It tells if
    /// it did so: a container that runs keeps what it has until it is started again.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`]; [`Error::NotFound`] if its network was
    /// removed with its names; [`Error::Os`].
    pub fn restore_files(&self, pod: &Pod) -> Result<Notes> {
        if !pod.is_alive() || self.files(pod.name())?.iter().all(|(path, _)| path.exists()) {
            return Ok(Notes::default());
        }
        let dir = record::dir_of(self.root(), pod.name());
        let _lock = record::lock(&dir)?;
        let Some(attachment) = Attachment::read(&dir)? else { return Ok(Notes::default()) };
        let attached =
            Attached { name: pod.name(), id: pod.id(), dir: &dir, hostname: pod.options().effective_hostname() };
        let said = attachment.resolver.clone().unwrap_or_default();
        if attachment.has_pasta() {
            rootless::write_files(&attached, &attachment)?;
        } else {
            if !record::has_names(&dir) {
                let resolver = Resolver::of_machine()?.for_pod(&said)?.resolver;
                record::write_names(&dir, &resolver, &names::hostname_file(attached.hostname)?)?;
            }
            self.name(&attached, &attachment)?;
        }
        let note = "somebody had removed its hosts file or the like, which is made anew: containers that run keep what \
                    they have until they are started again";
        Ok(Notes(vec![format!("pod {}: {note}", pod.name())]))
    }

    /// Takes away the names of a network's pods that ended by themselves. Nobody puts
    /// pods into networks meanwhile.
    pub(crate) fn unname_ended(&self, network: &str) -> Result<()> {
        let named = self.hosts_of(network).entries()?;
        let running = ids(&self.running(network)?);
        named.iter().filter(|entry| !running.contains(&entry.id)).try_for_each(|entry| {
            self.hosts_of(network).remove(&entry.id)?;
            self.forget_at_neighbours(network, &entry.id)
        })
    }
}

fn ids(entries: &[HostsEntry]) -> BTreeSet<String> {
    entries.iter().map(|entry| entry.id.clone()).collect()
}

/// What others are told of a pod in a network; `None` if it has no name there.
fn entry(pod: &Attached<'_>, attached: &AttachedNetwork) -> Option<HostsEntry> {
    let names = [pod.name].into_iter().chain([pod.hostname].into_iter().filter(|name| *name != pod.name));
    let names = names.map(String::from).chain(attached.aliases.iter().cloned());
    let names: Vec<_> = names.filter(|name| !names::is_own_name(name)).collect();
    let addresses = attached.addresses.iter().map(IpNet::addr).collect();
    (!names.is_empty()).then(|| HostsEntry { id: pod.id.into(), addresses, names })
}
