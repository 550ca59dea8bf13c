//! Pods in CNI networks: what is asked of plugins for a pod, and what they answer.
//!
//! ```text
//!   lists, capabilities, programs looked at ─► ports claimed ─► namespace bound
//!      ─► for each network: record ─► ADD ─► record, addresses
//!      ─► one way out for all of them
//!   the pod's end, or its removal: DEL in reverse ─► records, bind
//! ```
//!
//! A pod's record says in which networks it is; what a plugin was told stands in
//! one beside, which stays as long as the plugins have not taken it back
//! ([`records`]). [`collect`] does that for pods that are gone.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use pod::{Error, Result};
use serde_json::Value;

use crate::cni::{self, Capabilities, CniResult, Conflist, DnsSettings, Record, Runtime};
use crate::names;
use crate::networks::Networks;
use crate::ports::{PortMapping, PortRequest, Protocol};
use crate::record::{self, Asked, Attached, AttachedNetwork, Attachment, cni_name};
use crate::request::{AttachOptions, NetworkRequest};
use crate::resolv::{Fallback, Resolver};
use crate::route::show_mac;

mod collect;
mod place;
mod records;
mod way_out;

#[cfg(test)]
mod tests;

pub use collect::CniNetwork;
use records::{Kept, Key, Records};

/// How long each plugin may take to take away what it made: somebody waits for a
/// pod to be gone.
const DEL_DEADLINE: Duration = Duration::from_secs(30);

impl Networks {
    pub(crate) fn records(&self) -> Records {
        Records::at(&self.cni_dirs().records)
    }

    /// What executes plugins, first of all those of these directories.
    fn runtime(&self, before: &[PathBuf]) -> Runtime {
        let mut runtime = Runtime::new(self.records().locks());
        runtime.plugin_dirs = before.to_vec();
        let others = self.cni_dirs().plugins.iter().filter(|dir| !before.contains(dir));
        runtime.plugin_dirs.extend(others.cloned());
        runtime.del_deadline = DEL_DEADLINE;
        runtime
    }

    /// The configuration of a CNI network.
    pub(crate) fn conflist(&self, name: &str) -> Result<Conflist> {
        Conflist::load(name, &self.cni_dirs().configs)
    }

    /// Refuses what CNI networks cannot give, before anything is made.
    ///
    /// # Errors
    /// As [`Conflist::load`] and [`Runtime::check_add`].
    pub(crate) fn check_cni_networks(&self, pod: &str, options: &AttachOptions) -> Result<()> {
        for (nth, request) in options.networks.iter().enumerate() {
            let Some(name) = cni_name(&request.name) else { continue };
            let network = noted(nth, request);
            let list = self.conflist(name)?;
            // A port that is not chosen yet is one nevertheless.
            let mapping = |port: &PortRequest| {
                let PortRequest { host_ip, host, pod, protocol } = *port;
                PortMapping { host_ip, host: host.unwrap_or(pod), pod, protocol }
            };
            let ports: Vec<_> = options.ports.iter().filter(|_| nth == 0).map(mapping).collect();
            let asked = asked(&list, &network, &ports, &options.resolver);
            let attachment =
                cni::Attachment { capabilities: asked, ..cni::Attachment::new(pod, "/", &network.interface) };
            self.runtime(&[]).check_add(&list, &attachment)?;
        }
        Ok(())
    }

    /// Puts a pod into the CNI networks of its record, in their order, and writes
    /// what it got there into it. What was left of an end of the pod is taken away
    /// before.
    ///
    /// # Errors
    /// As [`Runtime::add`] and [`Runtime::del`]. The caller lets it
    /// [leave](Networks::leave) what it has joined by then.
    pub(crate) fn join(
        &self,
        pod: &Attached<'_>,
        attachment: &mut Attachment,
        namespace: &OwnedFd,
    ) -> Result<Option<Fallback>> {
        if !attachment.has_cni() {
            return Ok(None);
        }
        if let Some(error) = self.leave(pod, attachment)?.into_iter().next() {
            return Err(error);
        }
        place::make(pod.dir, namespace)?;
        let runtime = self.runtime(&[]);
        let said = attachment.resolver.clone().unwrap_or_default();
        let mut machine = Resolver::of_machine()?;
        let mut has_told = false;
        for nth in 0..attachment.networks.len() {
            let network = &attachment.networks[nth];
            let Some(list) = network.cni().map(|name| self.conflist(name)).transpose()? else { continue };
            // The first network has the pod's ports.
            let ports = if nth == 0 { attachment.ports.as_slice() } else { &[] };
            let mut asking = cni::Attachment::new(pod.id, place::path(pod.dir), &network.interface);
            asking.capabilities = asked(&list, network, ports, &said);
            let mut store = |record: &Record| self.records().keep(&self.kept(pod.name, &runtime, record));
            let (_, result) = runtime.add(&list, &asking, &mut store)?;
            if !has_told {
                has_told = take_dns(&mut machine, &result);
            }
            take_result(&mut attachment.networks[nth], &result);
            attachment.write(pod.dir)?;
        }
        if attachment.networks.len() > 1 {
            let interfaces: Vec<_> = attachment.networks.iter().map(|network| network.interface.as_str()).collect();
            way_out::keep_first(namespace, &interfaces)?;
        }
        let resolver = machine.for_pod(&said)?;
        record::write_resolver(pod.dir, &resolver.resolver)?;
        Ok(resolver.fallback)
    }

    fn kept(&self, pod: &str, runtime: &Runtime, record: &Record) -> Kept {
        let plugins = runtime.plugin_dirs.clone();
        Kept { store: self.root().into(), pod: pod.into(), plugins, record: record.clone() }
    }

    /// Takes a pod out of its CNI networks, the last first, and then its
    /// namespace's path away if that was possible. What plugins cannot take away is
    /// told, and its record stays.
    ///
    /// # Errors
    /// What has nothing to do with a plugin.
    pub(crate) fn leave(&self, pod: &Attached<'_>, attachment: &mut Attachment) -> Result<Vec<Error>> {
        let mut errors = Vec::new();
        for network in attachment.networks.iter_mut().rev() {
            let Some(name) = network.cni() else { continue };
            self.cni_hosts(name).remove(pod.id)?;
            match self.leave_one(pod, name, &network.interface) {
                Ok(()) => (network.addresses, network.gateways) = (Vec::new(), Vec::new()),
                Err(error) => errors.push(error),
            }
        }
        if attachment.has_cni() && errors.is_empty() {
            place::remove(pod.dir)?;
        }
        Ok(errors)
    }

    fn leave_one(&self, pod: &Attached<'_>, name: &str, interface: &str) -> Result<()> {
        let key = Key::new(name, pod.id, interface);
        match self.records().read(&key) {
            Ok(None) => Ok(()),
            Ok(Some(kept)) => self.del(&kept),
            // By what the network is now, and without a result.
            Err(Error::Corrupt { .. }) => {
                let attachment = cni::Attachment::new(pod.id, place::path(pod.dir), interface);
                let record = Record::begun(&self.conflist(name)?, &attachment);
                self.runtime(&[]).del(&record, &mut |_| self.records().forget(&key))
            }
            Err(error) => Err(error),
        }
    }

    /// DEL by a record.
    fn del(&self, kept: &Kept) -> Result<()> {
        let mut store = |record: &Record| self.records().keep(&Kept { record: record.clone(), ..kept.clone() });
        self.runtime(&kept.plugins).del(&kept.record, &mut store)
    }

    /// The end of it all: the path goes, whatever plugins said.
    pub(crate) fn leave_for_good(&self, pod: &Attached<'_>, attachment: &mut Attachment) -> Result<Vec<Error>> {
        let errors = self.leave(pod, attachment)?;
        place::remove(pod.dir)?;
        Ok(errors)
    }

    /// The same of a pod of which nothing is known but its name.
    pub(crate) fn leave_by_name(&self, pod: &str, dir: &Path) -> Result<Vec<Error>> {
        let mut errors = Vec::new();
        for key in self.records().keys()? {
            match self.records().read(&key) {
                Ok(Some(kept)) if kept.store == self.root() && kept.pod == pod => {
                    self.cni_hosts(&key.network).remove(&key.attachment.container_id)?;
                    errors.extend(self.del(&kept).err());
                }
                // Whose it is only its pod could say.
                Ok(_) | Err(Error::Corrupt { .. } | Error::Newer { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        place::remove(dir)?;
        Ok(errors)
    }
}

/// The record of a network that is asked for.
pub(crate) fn noted(nth: usize, request: &NetworkRequest) -> AttachedNetwork {
    let asked = Asked { addresses: request.addresses.clone(), mac: request.mac.map(show_mac) };
    AttachedNetwork { aliases: request.aliases.clone(), ..AttachedNetwork::of_others(&request.name, nth, asked) }
}

/// What plugins are told. Names and resolvers are ours to write as well, so they
/// are no more than told to who declares them; of all else the runtime refuses what
/// nobody does.
fn asked(list: &Conflist, network: &AttachedNetwork, ports: &[PortMapping], said: &Resolver) -> Capabilities {
    let Asked { addresses, mac } = network.asked.clone().unwrap_or_default();
    let mapping = |port: &PortMapping| cni::PortMapping {
        host_port: port.host,
        container_port: port.pod,
        protocol: match port.protocol {
            Protocol::Tcp => cni::Protocol::Tcp,
            Protocol::Udp => cni::Protocol::Udp,
        },
        host_ip: port.host_ip,
    };
    let dns = (*said != Resolver::default() && list.has_capability("dns")).then(|| DnsSettings {
        searches: said.search.clone(),
        servers: said.servers.clone(),
        options: said.options.clone(),
    });
    Capabilities {
        port_mappings: ports.iter().map(mapping).collect(),
        ips: addresses.iter().map(|address| with_prefix(list, *address)).collect(),
        mac,
        dns,
        aliases: if list.has_capability("aliases") { network.aliases.clone() } else { Vec::new() },
        ..Capabilities::default()
    }
}

/// An address with the length of the subnet in the configuration that it is of;
/// some plugins give the interface what they are told.
fn with_prefix(list: &Conflist, address: IpAddr) -> IpNet {
    fn subnet_of(value: &Value, address: IpAddr) -> Option<IpNet> {
        match value {
            Value::String(text) => {
                text.parse().ok().filter(|net: &IpNet| net.prefix_len() > 0 && net.contains(&address))
            }
            Value::Array(values) => values.iter().find_map(|value| subnet_of(value, address)),
            Value::Object(values) => ["subnet", "ipam", "ranges"]
                .iter()
                .find_map(|key| values.get(*key).and_then(|value| subnet_of(value, address))),
            _ => None,
        }
    }
    let subnet = list.plugins().iter().find_map(|plugin| {
        ["ipam", "subnet"].iter().find_map(|key| plugin.get(*key).and_then(|value| subnet_of(value, address)))
    });
    subnet.and_then(|subnet| IpNet::new(address, subnet.prefix_len()).ok()).unwrap_or_else(|| address.into())
}

/// Notes what a pod got.
fn take_result(network: &mut AttachedNetwork, result: &CniResult) {
    let inside = result.interface(&network.interface);
    network.mac = inside.map(|interface| interface.mac.clone()).unwrap_or_default();
    // A bridge comes before the link that is put into it.
    let outside = result.interfaces.iter().rev().find(|interface| interface.sandbox.is_empty());
    network.host_interface = outside.map(|interface| interface.name.clone()).unwrap_or_default();
    network.addresses = result.addresses().copied().collect();
    network.gateways = result.ips.iter().filter_map(|ip| ip.gateway).collect();
    network.gateways.dedup();
}

/// Puts what a network says of resolving names in the place of what the machine
/// does; false if it says nothing.
fn take_dns(machine: &mut Resolver, result: &CniResult) -> bool {
    let dns = &result.dns;
    let servers: Vec<IpAddr> = dns.nameservers.iter().filter_map(|server| server.parse().ok()).collect();
    let domain = Some(&dns.domain).filter(|domain| !domain.is_empty() && !dns.search.contains(domain));
    let search = domain.into_iter().chain(&dns.search).filter(|domain| names::check_search(domain).is_ok());
    let search: Vec<String> = search.cloned().collect();
    let options: Vec<String> =
        dns.options.iter().filter(|option| names::check_option(option).is_ok()).cloned().collect();
    let has_told = !(servers.is_empty() && search.is_empty() && options.is_empty());
    for (mine, theirs) in [(&mut machine.search, search), (&mut machine.options, options)] {
        if !theirs.is_empty() {
            *mine = theirs;
        }
    }
    if !servers.is_empty() {
        machine.servers = servers;
    }
    has_told
}
