//! Pods whose way out is pasta: an ordinary user's, who may make no link on the
//! machine.
//!
//! ```text
//!   record ─► ports ─► record ─► pasta, by its own file ─► record: what the pod has, names
//!   the pod's end: pasta, ports                   its removal: pasta, ports, record
//! ```
//!
//! Of a pasta that its user, or its own fault, ended nobody is told; whoever looks
//! sees it ([`Networks::pasta_of`]).

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use pod::{Error, ExtendedPod, Namespace, Pod, Result};

use crate::hosts::HostsEntry;
use crate::machine;
use crate::make::Notes;
use crate::names;
use crate::networks::Networks;
use crate::pasta::{self, Line, Userns};
use crate::ports::{PortMapping, PortRequest};
use crate::proc_net;
use crate::record::{self, Asked, Attached, AttachedNetwork, Attachment, OWNER};
use crate::request::AttachOptions;
use crate::resolv::{Fallback, Resolver};
use crate::route::show_mac;

/// Where a pod's namespaces are.
struct Place {
    pause: u32,
    net: OwnedFd,
}

impl Place {
    fn of(pod: &Pod) -> Result<Place> {
        // Looked up first: pause has ended if this is another process by then.
        let pause = pod.pause_pid().ok_or_else(|| Error::state(format!("pod {}", pod.name()), "is not running"))?;
        Ok(Place { pause, net: pod.namespace(Namespace::Net)? })
    }
}

impl Networks {
    /// As [`attach`](Networks::attach), of a pod that is to have pasta.
    pub(crate) fn attach_to_pasta(&self, pod: &Pod, options: &AttachOptions) -> Result<(Attachment, Notes)> {
        pasta::program()?;
        pasta::check_machine()?;
        let dir = pod.extension_dir(OWNER)?;
        let gone = || Error::NotFound(format!("pod {:?}", pod.name()));
        let _using = (!options.ports.is_empty()).then(|| self.using_cni()).transpose()?;
        let _lock = record::lock(&dir)?.ok_or_else(gone)?;
        if Attachment::read(&dir)?.is_some() {
            return Err(Error::state(format!("pod {}", pod.name()), "is in networks already"));
        }
        let place = Place::of(pod)?;
        let hostname = pod.options().hostname.as_deref().unwrap_or(pod.name());
        let attached = Attached { name: pod.name(), id: pod.id(), dir: &dir, hostname };
        let mac = options.networks.first().and_then(|request| request.mac).map(show_mac);
        let asked = Asked { mac, ..Asked::default() };
        let noted = AttachedNetwork::of_others(record::PASTA, 0, asked);
        let mut attachment = Attachment::new(vec![noted], options.add_hosts.clone());
        attachment.resolver = Some(options.resolver.clone());
        attachment.write(&dir)?;
        let made = self
            .take_ports(&attached, &mut attachment, &options.ports)
            .and_then(|_| self.connect(&attached, &mut attachment, &place));
        let fallback = made.inspect_err(|_| {
            // What went wrong first is what will be told; what stays is found by its
            // record when the pod is removed.
            self.leave_pasta(&attached, &attachment).ok();
        })?;
        Ok((attachment, Notes(fallback.iter().map(ToString::to_string).collect())))
    }

    /// How [`attach`](Networks::attach) would start pasta for a pod that is to have it.
    ///
    /// # Errors
    /// As there, for what is found before something is made.
    pub fn plan_pasta(&self, options: &AttachOptions) -> Result<String> {
        let program = pasta::program()?;
        // A port that is not chosen yet is one nevertheless.
        let mapping = |port: &PortRequest| {
            let PortRequest { host_ip, host, pod, protocol } = *port;
            PortMapping { host_ip, host: host.unwrap_or(pod), pod, protocol }
        };
        let ports: Vec<_> = options.ports.iter().map(mapping).collect();
        let mac = options.networks.first().and_then(|request| request.mac).map(show_mac);
        let line = Line {
            netns: "/proc/PAUSE/ns/net",
            userns: Userns::Input,
            mac: mac.as_deref(),
            ports: &ports,
            resolves: asks_pasta(&options.resolver)?,
            pid_file: Path::new("PID_FILE"),
        };
        let words: Vec<_> = line.words().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Ok(format!("{} {}", program.display(), words.join(" ")))
    }

    /// A pod that is made anew.
    pub(crate) fn attach_to_pasta_again(&self, pod: &ExtendedPod<'_>, attachment: &mut Attachment) -> Result<()> {
        let hostname = record::hostname(pod.dir())?;
        let attached =
            Attached { name: pod.name(), id: pod.id().unwrap_or_default(), dir: pod.dir(), hostname: &hostname };
        let _using = (!attachment.ports.is_empty()).then(|| self.using_cni()).transpose()?;
        // They may be another's by now; the pasta of its life before has them, perhaps.
        pasta::end(pod.dir())?;
        let requests: Vec<_> = attachment.ports.drain(..).map(PortRequest::from).collect();
        self.take_ports(&attached, attachment, &requests)?;
        let gone = || Error::state(format!("pod {}", pod.name()), "is not running");
        let place = Place { pause: pod.pause_pid().ok_or_else(gone)?, net: pod.namespace(Namespace::Net)? };
        self.connect(&attached, attachment, &place).map(drop)
    }

    /// Starts pasta for a pod by its record, in place of one that may be there, and
    /// notes what the pod has by it.
    fn connect(&self, pod: &Attached<'_>, attachment: &mut Attachment, place: &Place) -> Result<Option<Fallback>> {
        let (program, pid_file) = (pasta::program()?, pasta::pid_file(pod.dir)?);
        pasta::check_machine()?;
        let said = attachment.resolver.clone().unwrap_or_default();
        let resolves = asks_pasta(&said)?;
        let way_in = machine::way_into(&place.net)
            .map_err(|error| Error::failed("asking whose the pod's network namespace is", error))?;
        let asked = attachment.networks.first().and_then(|network| network.asked.clone()).unwrap_or_default();
        let line = Line {
            netns: &format!("/proc/{}/ns/net", place.pause),
            userns: if way_in.is_some() { Userns::Input } else { Userns::Own },
            mac: asked.mac.as_deref(),
            ports: &attachment.ports,
            resolves,
            pid_file: &pid_file,
        };
        pasta::end(pod.dir)?;
        pasta::start(&program, &line.words(), way_in.as_ref(), pod.dir)?;
        take_what_it_has(attachment, place.pause)?;
        attachment.write(pod.dir)?;
        write_files(pod, attachment)
    }

    /// A pod that is about to be ended or removed has its pasta no longer.
    pub(crate) fn leave_pasta(&self, pod: &Attached<'_>, attachment: &Attachment) -> Result<()> {
        pasta::end(pod.dir)?;
        if !attachment.ports.is_empty() {
            self.registry()?.give_back(&attachment.ports, pod.id)?;
        }
        Attachment::remove(pod.dir)
    }

    /// The process that is a pod's pasta; `None` if it has ended, and for a pod that
    /// has none.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pasta_of(&self, pod: &str) -> Result<Option<u32>> {
        pasta::running(&record::dir_of(self.root(), pod))
    }

    /// Starts the pasta of a pod again that runs and has lost it, with the ports that
    /// it had; whether it had.
    ///
    /// # Errors
    /// As [`attach`](Networks::attach).
    pub fn restore_pasta(&self, pod: &Pod) -> Result<bool> {
        let dir = record::dir_of(self.root(), pod.name());
        let is_lost = || -> Result<bool> {
            let attachment = Attachment::read(&dir)?;
            Ok(attachment.is_some_and(|found| found.has_pasta()) && pod.is_alive() && pasta::running(&dir)?.is_none())
        };
        // Most pods have nothing of it to be waited for.
        if !is_lost()? {
            return Ok(false);
        }
        let Some(_lock) = record::lock(&dir)? else { return Ok(false) };
        let Some(mut attachment) = Attachment::read(&dir)? else { return Ok(false) };
        // Another program may have been faster.
        if !is_lost()? {
            return Ok(false);
        }
        let hostname = record::hostname(&dir)?;
        let attached = Attached { name: pod.name(), id: pod.id(), dir: &dir, hostname: &hostname };
        self.connect(&attached, &mut attachment, &Place::of(pod)?)?;
        Ok(true)
    }

    /// The same for all pods of the store, and tells their names.
    ///
    /// # Errors
    /// As [`restore_pasta`](Networks::restore_pasta), of the first that has one.
    pub fn restore_all_pasta(&self) -> Result<Vec<String>> {
        let mut restored = Vec::new();
        for name in self.store().names()? {
            match Pod::open(self.store(), &name) {
                // A pod that cannot be read has no process that could be found.
                Err(Error::NotFound(_) | Error::Corrupt { .. }) => {}
                pod => restored.extend(self.restore_pasta(&pod?)?.then_some(name)),
            }
        }
        Ok(restored)
    }
}

/// Addresses and routers, as pasta copied them into the pod.
fn take_what_it_has(attachment: &mut Attachment, pause: u32) -> Result<()> {
    let Some(network) = attachment.networks.first_mut() else { return Ok(()) };
    let found = proc_net::interface(pause, pasta::INTERFACE)?;
    network.mac = network.asked.as_ref().and_then(|asked| asked.mac.clone()).unwrap_or_default();
    (network.addresses, network.gateways) = (found.addresses, found.gateways);
    Ok(())
}

/// Whether the pod asks pasta for names: where nobody says whom it asks, and pasta has
/// an IPv4 server of the machine's to hand that on to.
fn asks_pasta(said: &Resolver) -> Result<bool> {
    Ok(said.servers.is_empty() && Resolver::of_machines_programs()?.servers.iter().any(IpAddr::is_ipv4))
}

/// Whom the pod asks: pasta, and then whom it can reach without that.
fn resolver(said: &Resolver, by_pasta: bool) -> Result<(Resolver, Option<Fallback>)> {
    let machine = Resolver::of_machine()?.for_pod(said)?;
    let mut resolver = machine.resolver;
    if !by_pasta {
        return Ok((resolver, machine.fallback));
    }
    if machine.fallback.is_some() {
        resolver.servers.clear();
    }
    resolver.servers.insert(0, pasta::RESOLVER);
    resolver.servers.truncate(names::MAX_SERVERS);
    Ok((resolver, None))
}

/// What a pod's programs are told of names: `resolv.conf`, `hostname` and `hosts`.
pub(crate) fn write_files(pod: &Attached<'_>, attachment: &Attachment) -> Result<Option<Fallback>> {
    let said = attachment.resolver.clone().unwrap_or_default();
    let has_ipv4 = attachment.addresses().any(|address| address.is_ipv4());
    let (resolver, fallback) = resolver(&said, asks_pasta(&said)? && has_ipv4)?;
    record::write_names(pod.dir, &resolver, &names::hostname_file(pod.hostname)?)?;
    name(pod, attachment)?;
    Ok(fallback)
}

/// A hosts file with the pod's own names.
fn name(pod: &Attached<'_>, attachment: &Attachment) -> Result<()> {
    let own = record::own_hosts(pod.dir);
    own.create()?;
    let names = [pod.name].into_iter().chain([pod.hostname].into_iter().filter(|name| *name != pod.name));
    let names: Vec<_> = names.filter(|name| !names::is_own_name(name)).map(String::from).collect();
    if !names.is_empty() {
        own.add(&HostsEntry { id: pod.id.into(), addresses: attachment.addresses().collect(), names })?;
    }
    for (nth, host) in attachment.add_hosts.iter().enumerate() {
        let (id, names) = (format!("add-host-{nth}"), vec![host.name.clone()]);
        own.add(&HostsEntry { id, addresses: host.addresses(&[]), names })?;
    }
    Ok(())
}
