//! Pods and networks: an address, an interface, ports and names for a pod, and
//! their end.
//!
//! ```text
//!   record ─► leases ─► record ─► ports ─► record ─► link, addresses ─► CNI ─► firewall, names
//!                                                                      (all of it from the record)
//!   the pod's end on purpose: names, CNI, ports    its removal: names, CNI, ports, leases, record
//! ```
//!
//! Whatever is made stands in a record before: so a program that is killed on the
//! way leaves nothing that the next one does not find. The link is never removed:
//! it goes with the pod's namespace, and nobody waits for it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use netlink::{Family, Socket};
use pod::{Error, ExtendedPod, Namespace, Pod, Result};

use crate::bridge::mac_of_any;
use crate::dock;
use crate::interface;
use crate::lease::{Holder, Lease};
use crate::make::{Notes, open};
use crate::names;
use crate::networks::{Networks, StoredNetwork, Using};
use crate::pasta;
use crate::ports::PortRequest;
use crate::record::{self, Attached, AttachedNetwork, Attachment, OWNER};
use crate::request::{AttachOptions, NetworkRequest};
use crate::resolv::{Fallback, Resolver};
use crate::route::show_mac;

impl Networks {
    /// Puts a pod into networks, before its first container starts. A network that
    /// has nothing in the kernel yet is made.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a network; [`Error::Invalid`] for an address or a
    /// port that cannot be had, and a name that is none; [`Error::State`] if the
    /// pod is in networks already, is not alive, or a subnet is full;
    /// [`Error::Os`] with what the kernel refused. Nothing is left of it then.
    pub fn attach(&self, pod: &Pod, options: &AttachOptions) -> Result<(Attachment, Notes)> {
        options.check()?;
        if options.wants_pasta() {
            return self.attach_to_pasta(pod, options);
        }
        self.check_cni_networks(pod.name(), options)?;
        let mut notes = Notes::default();
        let mut socket = open(Family::Route)?;
        let (own, cni): (Vec<_>, Vec<_>) =
            options.networks.iter().partition(|request| record::cni_name(&request.name).is_none());
        let machine = Resolver::of_machine()?.for_pod(&options.resolver)?;
        let own: Vec<_> = own.iter().map(|request| request.name.as_str()).collect();
        let (networks, _using) = self.use_made(&own, !cni.is_empty(), &mut socket, &mut notes)?;
        let dir = pod.extension_dir(OWNER)?;
        // Who removes the pod meanwhile waits for what is made of it here.
        let gone = || Error::NotFound(format!("pod {:?}", pod.name()));
        let _lock = record::lock(&dir)?.ok_or_else(gone)?;
        if Attachment::read(&dir)?.is_some() {
            return Err(Error::state(format!("pod {}", pod.name()), "is in networks already"));
        }
        let namespace = pod.namespace(Namespace::Net)?;
        let attached =
            Attached { name: pod.name(), id: pod.id(), dir: &dir, hostname: pod.options().effective_hostname() };
        let made = self.attach_noted(&attached, options, &networks, &namespace, &mut socket, &machine.resolver);
        let (attachment, published, fallback) = made.inspect_err(|_| {
            // What went wrong first is what will be told; what stays is found by its
            // record when the pod is removed.
            self.take_away(&attached).ok();
        })?;
        notes.0.extend(published.0);
        let fallback = if cni.is_empty() { machine.fallback } else { fallback };
        notes.0.extend(fallback.map(|fallback| fallback.to_string()));
        Ok((attachment, notes))
    }

    /// Networks of our own as they are kept, made where they are not, and that they stay
    /// so.
    fn use_made(
        &self,
        names: &[&str],
        has_cni: bool,
        socket: &mut Socket,
        notes: &mut Notes,
    ) -> Result<(Vec<StoredNetwork>, Using)> {
        loop {
            let using = match if has_cni { self.using_cni() } else { self.using() } {
                // Where there is no network there is no directory of them.
                Err(Error::NotFound(_)) if !names.is_empty() => {
                    return Err(Error::NotFound(format!("network {}", names[0])));
                }
                using => using?,
            };
            let networks = names.iter().map(|name| self.get(name)).collect::<Result<Vec<_>>>()?;
            let mut missing = None;
            for network in &networks {
                if self.is_made(socket, network)?.is_none() {
                    missing = Some(network.config().name.clone());
                }
            }
            let Some(missing) = missing else { return Ok((networks, using)) };
            drop(using);
            let changing = self.changing()?;
            notes.0.extend(self.make(&changing, &self.get(&missing)?)?.0);
        }
    }

    /// The same for a pod that is looked up already, in networks that are made: those of
    /// our own, in their order.
    pub(crate) fn attach_noted(
        &self,
        pod: &Attached<'_>,
        options: &AttachOptions,
        networks: &[StoredNetwork],
        namespace: &OwnedFd,
        socket: &mut Socket,
        resolver: &Resolver,
    ) -> Result<(Attachment, Notes, Option<Fallback>)> {
        let noted = options.networks.iter().enumerate().map(|(nth, request)| {
            let own = networks.iter().find(|network| network.config().name == request.name);
            let Some(own) = own else { return dock::noted(nth, request) };
            let aliases = request.aliases.clone();
            AttachedNetwork { aliases, ..AttachedNetwork::new(own.config(), nth, pod.id) }
        });
        let mut attachment = Attachment::new(noted.collect(), options.add_hosts.clone());
        let is_said = attachment.has_cni() || options.resolver != Resolver::default();
        attachment.resolver = is_said.then(|| options.resolver.clone());
        attachment.sysctls = options.sysctls.clone();
        attachment.write(pod.dir)?;
        let requests = options.networks.iter().zip(&mut attachment.networks).filter(|(_, noted)| noted.cni().is_none());
        for (network, (request, noted)) in networks.iter().zip(requests) {
            let addresses = self.lease(network, request, &pod.holder())?;
            noted.mac = show_mac(request.mac.unwrap_or_else(|| mac_of_any(addresses.first().copied())));
            let net = |(address, subnet): (&IpAddr, &IpNet)| IpNet::new(*address, subnet.prefix_len()).ok();
            noted.addresses = addresses.iter().zip(&network.config().subnets).filter_map(net).collect();
        }
        attachment.write(pod.dir)?;
        // Noted before: of two that want the same one finds the other.
        let mut with_mac =
            options.networks.iter().zip(&attachment.networks).filter(|(request, _)| request.mac.is_some());
        with_mac.try_for_each(|(_, noted)| self.check_mac(pod.id, noted))?;
        self.take_ports(pod, &mut attachment, &options.ports)?;
        record::write_names(pod.dir, resolver, &names::hostname_file(pod.hostname)?)?;
        let (notes, fallback) = self.bring_up(pod, networks, &mut attachment, namespace, socket)?;
        Ok((attachment, notes, fallback))
    }

    /// Refuses a hardware address that another pod of the network has, or may get: frames
    /// would go to either. In a CNI network it is the plugins' affair.
    fn check_mac(&self, pod: &str, wanted: &AttachedNetwork) -> Result<()> {
        let invalid = |reason: String| Err(Error::invalid("mac", &wanted.mac, reason));
        if wanted.cni().is_some() {
            return Ok(());
        }
        let given_by_us = show_mac(mac_of_any(wanted.addresses.first().map(IpNet::addr)));
        if wanted.mac.starts_with("0a:58:") && wanted.mac != given_by_us {
            let reason = "pods have such ones by their IP addresses: give another, such as 02:00:00:00:00:07, or none";
            return invalid(reason.into());
        }
        for Lease { holder, .. } in
            self.leases_of(&wanted.name).holders()?.iter().filter(|lease| lease.holder.id != pod)
        {
            let other = self.attachment(&holder.pod).ok().flatten();
            let mut networks = other.iter().flat_map(Attachment::own);
            if networks.any(|network| network.name == wanted.name && network.mac == wanted.mac) {
                let reason = format!("pod {} of network {} has it: give another, or none", holder.pod, wanted.name);
                return invalid(reason);
            }
        }
        Ok(())
    }

    /// Addresses, if need be those of pods that are gone.
    fn lease(&self, network: &StoredNetwork, request: &NetworkRequest, holder: &Holder) -> Result<Vec<IpAddr>> {
        let leases = network.leases();
        leases.take(&request.addresses, holder).or_else(|error| {
            self.reclaim(network)?;
            leases.take(&request.addresses, holder).map_err(|_| error)
        })
    }

    /// Makes in the kernel what a record says, and has plugins do their part.
    fn bring_up(
        &self,
        pod: &Attached<'_>,
        networks: &[StoredNetwork],
        attachment: &mut Attachment,
        namespace: &OwnedFd,
        socket: &mut Socket,
    ) -> Result<(Notes, Option<Fallback>)> {
        if !networks.is_empty() {
            self.make_interfaces(networks, attachment, namespace, socket)?;
        }
        let fallback = self.join(pod, attachment, namespace)?;
        interface::set(namespace, &attachment.sysctls)?;
        let notes = match attachment.published {
            true => self.publish(attachment, &attachment.ports)?,
            false => Notes::default(),
        };
        self.name(pod, attachment)?;
        Ok((notes, fallback))
    }

    /// Takes away what a pod has of networks; what is gone already is as good. What
    /// plugins could not take away is told.
    fn take_away(&self, pod: &Attached<'_>) -> Result<Vec<Error>> {
        let mut attachment = match Attachment::read(pod.dir) {
            Err(Error::Corrupt { .. }) => return self.take_away_by_id(pod),
            Ok(None) => return Ok(Vec::new()),
            attachment => attachment?.unwrap_or_else(|| Attachment::new(Vec::new(), Vec::new())),
        };
        if attachment.has_pasta() {
            return self.leave_pasta(pod, &attachment).map(|()| Vec::new());
        }
        let left = if attachment.has_cni() { self.leave_for_good(pod, &mut attachment)? } else { Vec::new() };
        if attachment.published {
            self.close(&mut attachment, pod.dir)?;
        }
        if !attachment.ports.is_empty() {
            self.registry()?.give_back(&attachment.ports, pod.id)?;
        }
        if !attachment.shares_hosts() {
            attachment.networks.iter().try_for_each(|attached| self.forget_own(&attached.name, pod.name))?;
        }
        self.unname(pod.id, &attachment)?;
        for attached in attachment.own() {
            let network = match self.get(&attached.name) {
                Err(Error::NotFound(_)) => continue,
                // Its leases can be given back nevertheless.
                Err(Error::Corrupt { .. }) => {
                    self.leases_of(&attached.name).give_back(pod.id)?;
                    continue;
                }
                network => network?,
            };
            match attached.addresses.is_empty() {
                // Killed as they were taken, before they were noted.
                true => drop(network.leases().give_back(pod.id)?),
                false => {
                    let addresses: Vec<_> = attached.addresses.iter().map(IpNet::addr).collect();
                    network.leases().give_back_these(&addresses, pod.id)?;
                }
            }
        }
        Attachment::remove(pod.dir)?;
        Ok(left)
    }

    /// The same where the record cannot be read: whatever is this pod's in any network.
    fn take_away_by_id(&self, pod: &Attached<'_>) -> Result<Vec<Error>> {
        let left = self.leave_by_name(pod.name, pod.dir)?;
        pasta::end(pod.dir)?;
        for network in self.list_recorded()? {
            self.hosts_of(&network.config().name).remove(pod.id)?;
            self.forget_at_neighbours(&network.config().name, pod.id)?;
            self.forget_own(&network.config().name, pod.name)?;
            network.leases().give_back(pod.id)?;
        }
        let registry = self.registry()?;
        registry.give_back_all(pod.id)?;
        Attachment::remove(pod.dir)?;
        // Nothing says which ports lead to it.
        self.rebuild_table(&registry.taking()?)?;
        Ok(left)
    }

    /// What a pod has of networks; `None` if it is in none.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`].
    pub fn attachment(&self, pod: &str) -> Result<Option<Attachment>> {
        Attachment::read(&record::dir_of(self.root(), pod))
    }

    /// A pod that is made anew: all that its record says but addresses, which it
    /// still has, except of CNI networks.
    pub(crate) fn attach_again(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        let _lock = record::lock(pod.dir())?;
        let Some(mut attachment) = Attachment::read(pod.dir())? else { return Ok(()) };
        if attachment.has_pasta() {
            return self.attach_to_pasta_again(pod, &mut attachment);
        }
        let mut socket = open(Family::Route)?;
        let own: Vec<_> = attachment.own().map(|attached| attached.name.as_str()).collect();
        let (networks, _using) = self.use_made(&own, attachment.has_cni(), &mut socket, &mut Notes::default())?;
        let hostname = record::hostname(pod.dir())?;
        let id = pod.id().unwrap_or_default();
        let attached = Attached { name: pod.name(), id, dir: pod.dir(), hostname: &hostname };
        // They may be another's by now.
        let requests: Vec<_> = attachment.ports.drain(..).map(PortRequest::from).collect();
        self.take_ports(&attached, &mut attachment, &requests)?;
        let namespace = pod.namespace(Namespace::Net)?;
        self.bring_up(&attached, &networks, &mut attachment, &namespace, &mut socket).map(drop)
    }

    /// A pod that is about to be ended: neither names nor ports lead to it any more, and plugins
    /// take back what they made while there is a namespace.
    pub(crate) fn let_go(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        let _lock = record::lock(pod.dir())?;
        let Some(mut attachment) = Attachment::read(pod.dir())? else { return Ok(()) };
        if let Ok(namespace) = pod.namespace(Namespace::Net) {
            interface::let_connections_go(&namespace).ok();
        }
        if attachment.has_pasta() {
            pasta::end(pod.dir())?;
        }
        let id = pod.id().unwrap_or_default();
        self.unname(id, &attachment)?;
        if attachment.has_cni() {
            let attached = Attached { name: pod.name(), id, dir: pod.dir(), hostname: pod.name() };
            let left = self.leave(&attached, &mut attachment)?;
            attachment.write(pod.dir())?;
            if !left.is_empty() && attachment.leaves_ports_to_plugins() {
                // Perhaps they still lead there, so nobody else gets them.
                return Ok(());
            }
        }
        if !attachment.published {
            return Ok(());
        }
        self.close(&mut attachment, pod.dir())?;
        self.registry()?.give_back(&attachment.ports, id).map(drop)
    }

    /// A pod that is about to be removed. It tells what plugins could not take away.
    pub(crate) fn detach(&self, pod: &ExtendedPod<'_>) -> Result<Vec<Error>> {
        let _lock = record::lock(pod.dir())?;
        let Some(id) = pod.id() else { return self.detach_damaged(pod) };
        self.take_away(&Attached { name: pod.name(), id, dir: pod.dir(), hostname: pod.name() })
    }

    /// One whose own record cannot be read: what is its is found by its name.
    fn detach_damaged(&self, pod: &ExtendedPod<'_>) -> Result<Vec<Error>> {
        let mut left = self.leave_by_name(pod.name(), pod.dir())?;
        pasta::end(pod.dir())?;
        for network in self.list()? {
            for lease in network.leases().holders()?.iter().filter(|lease| lease.holder.pod == pod.name()) {
                let id = &lease.holder.id;
                let attached = Attached { name: pod.name(), id, dir: pod.dir(), hostname: pod.name() };
                left.extend(self.take_away(&attached)?);
            }
        }
        Ok(left)
    }
}
