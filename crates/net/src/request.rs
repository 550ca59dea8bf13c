//! What is asked for a pod: networks, ports and names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pod::spec::{check_sysctls, sysctl_path};
use pod::{Error, Result};

use crate::cni::{Name, check_name};
use crate::config::List;
use crate::names::{self, AddHost, HostTarget};
use crate::ports::PortRequest;
use crate::record::{PASTA, cni_name};
use crate::resolv::Resolver;
use crate::route::show_mac;

/// What a pod is to have of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachOptions {
    /// The networks. Its default route and its ports are on the first.
    pub networks: Vec<NetworkRequest>,
    /// The machine's ports that are to lead to it.
    pub ports: Vec<PortRequest>,
    /// What its resolver is told; the machine's as far as nothing is said.
    pub resolver: Resolver,
    /// Names for it alone.
    pub add_hosts: Vec<AddHost>,
    /// Kernel parameters of its interfaces, such as `net.ipv4.conf.eth0.rp_filter`, and
    /// what they are to be: set when all interfaces are there.
    pub sysctls: BTreeMap<String, String>,
}

/// A network that a pod is to be in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkRequest {
    /// The network's name; `cni:NAME` for a CNI network; [`PASTA`].
    pub name: String,
    /// Addresses it is to have there, at most one in each subnet.
    pub addresses: Vec<IpAddr>,
    /// The hardware address; one that follows from its address if `None`, or that
    /// a CNI plugin chooses.
    pub mac: Option<[u8; 6]>,
    /// Names by which the network's pods find it, besides its own.
    pub aliases: Vec<String>,
}

fn check_mac(mac: [u8; 6]) -> Result<()> {
    let reason = match mac {
        [0, 0, 0, 0, 0, 0] => "means no interface: give another, such as 02:00:00:00:00:07",
        [first, ..] if first & 1 != 0 => {
            "means many interfaces: give one with an even first byte, such as 02:00:00:00:00:07"
        }
        _ => return Ok(()),
    };
    Err(Error::invalid("mac", show_mac(mac), reason))
}

impl NetworkRequest {
    /// The network of that name, and any address.
    pub fn new(name: impl Into<String>) -> NetworkRequest {
        NetworkRequest { name: name.into(), ..NetworkRequest::default() }
    }
}

impl AttachOptions {
    /// These networks.
    pub fn new(networks: impl Into<Vec<NetworkRequest>>) -> AttachOptions {
        AttachOptions { networks: networks.into(), ..AttachOptions::default() }
    }

    /// What can be said against it without asking the machine.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self) -> Result<()> {
        for (at, request) in self.networks.iter().enumerate() {
            match cni_name(&request.name) {
                Some(name) => check_name(Name::Network, name)?,
                None if request.name == PASTA => self.check_pasta(request)?,
                None => crate::config::check_network_name(&request.name)?,
            }
            request.aliases.iter().try_for_each(|alias| names::check_alias(alias))?;
            if self.networks[..at].iter().any(|before| before.name == request.name) {
                return Err(Error::invalid("network", &request.name, "is named twice: a pod is in a network once"));
            }
            request.mac.map_or(Ok(()), check_mac)?;
        }
        if self.networks.is_empty() && !self.ports.is_empty() {
            return Err(Error::invalid("publish", "", "a pod without a network has no address to lead to"));
        }
        self.check_sysctls()?;
        self.resolver.check()
    }

    /// Whether the pod's network is pasta.
    pub fn wants_pasta(&self) -> bool {
        self.networks.iter().any(|request| request.name == PASTA)
    }

    /// What pasta cannot give.
    fn check_pasta(&self, request: &NetworkRequest) -> Result<()> {
        if self.networks.len() > 1 {
            return Err(Error::invalid("network", PASTA, "is a pod's only network: name nothing besides"));
        }
        if let Some(address) = request.addresses.first() {
            let field = if address.is_ipv4() { "ip" } else { "ip6" };
            let reason = "a pod on pasta has this machine's own addresses: leave the option away";
            return Err(Error::invalid(field, address.to_string(), reason));
        }
        if let Some(alias) = request.aliases.first() {
            let reason = "a pod on pasta is alone in its network, so nobody finds it by name: leave the option away";
            return Err(Error::invalid("network-alias", alias, reason));
        }
        if let Some(host) = self.add_hosts.iter().find(|host| host.target == HostTarget::HostGateway) {
            let reason = "no address leads from a pod on pasta to this machine: give one of another machine";
            return Err(Error::invalid("add-host", host.to_string(), reason));
        }
        Ok(())
    }

    /// Takes over those of a pod's kernel parameters that cannot be set where it is born:
    /// its interfaces are not there yet ([`interface_of`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no parameter's name, and for an interface that it
    /// does not get.
    pub fn take_sysctls(&mut self, of_pod: &mut BTreeMap<String, String>) -> Result<()> {
        for (name, value) in std::mem::take(of_pod) {
            let home = if interface_of(&name)?.is_some() { &mut self.sysctls } else { &mut *of_pod };
            home.insert(name, value);
        }
        self.check_sysctls()
    }

    fn check_sysctls(&self) -> Result<()> {
        check_sysctls(&self.sysctls)?;
        if let Some(name) = self.sysctls.keys().next().filter(|_| self.wants_pasta()) {
            let reason = "of an interface that pasta makes, by which a pod has this machine's addresses: leave it away";
            return Err(Error::invalid("sysctl", name, reason));
        }
        for name in self.sysctls.keys() {
            let interface = interface_of(name)?;
            let own: Vec<_> = (0..self.networks.len()).map(|nth| format!("eth{nth}")).collect();
            if interface.is_none_or(|interface| !own.contains(&interface)) {
                let reason = format!("none of an interface that the pod has: its own are {}", List(&own));
                return Err(Error::invalid("sysctl", name, reason));
            }
        }
        Ok(())
    }
}

/// The interface that a kernel parameter is of, such as `eth0`; `None` if it is of none,
/// or of loopback, which every pod has from the start.
///
/// # Errors
/// [`Error::Invalid`] for what is no parameter's name.
pub fn interface_of(sysctl: &str) -> Result<Option<String>> {
    let path = sysctl_path(sysctl)?;
    let mut parts = path.split('/');
    let (Some("net"), Some(_), Some("conf" | "neigh")) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    Ok(parts.next().filter(|name| !matches!(*name, "all" | "default" | "lo")).map(String::from))
}

/// An address of IPv4, as users say it by `--ip`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_ip(text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| no_address("ip", text, "of IPv6: give it by --ip6", "10.89.0.7"))
}

/// An address of IPv6, as users say it by `--ip6`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_ip6(text: &str) -> Result<Ipv6Addr> {
    text.parse().map_err(|_| no_address("ip6", text, "of IPv4: give it by --ip", "fd12:3456:789a::7"))
}

fn no_address(field: &str, text: &str, of_other: &str, example: &str) -> Error {
    let reason = match text.split_once('/') {
        _ if text.parse::<IpAddr>().is_ok() => of_other.to_string(),
        Some((address, _)) => format!("give the address alone, {address}: the network has the prefix"),
        None => format!("no address: give one of the network, such as {example}"),
    };
    Error::invalid(field, text, reason)
}
