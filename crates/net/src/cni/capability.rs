//! What plugins are told that declare a capability, by the
//! [conventions](https://www.cni.dev/docs/conventions/) beside the specification.
//!
//! Each field is one capability, by its name there. What is asked for and no
//! plugin of a network declares is refused before any is executed: a port would
//! otherwise be silently unreachable.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use pod::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything that may be asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Ports of the host that lead to ports of the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Limits of what goes over the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Addresses for the interface, instead of any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpNet>,
    /// The interface's hardware address, as `c2:11:22:33:44:55`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Settings for resolving names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSettings>,
    /// Names by which others on the network find the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Sets of ranges, one address of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<Vec<IpRange>>,
    /// A device of the host's, by its bus address.
    #[serde(rename = "deviceID", skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The container's cgroup, for firewalls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_path: Option<String>,
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The host's.
    pub host_port: u16,
    /// The container's.
    pub container_port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// Only on this address of the host's.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// tcp(7).
    Tcp,
    /// udp(7).
    Udp,
    /// sctp(7).
    Sctp,
}

/// Limits, as the container sees the directions. Each rate needs its burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// Bits a second into it; 0 for no limit.
    pub ingress_rate: u64,
    /// Bits at once into it.
    pub ingress_burst: u64,
    /// Bits a second out of it; 0 for no limit.
    pub egress_rate: u64,
    /// Bits at once out of it.
    pub egress_burst: u64,
}

/// Settings for resolving names, resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSettings {
    /// Domains in which short names are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Options, as `ndots:1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A range from which an address is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The network.
    pub subnet: IpNet,
    /// The first that may be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// The last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// The router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl Capabilities {
    /// What is asked for, by the capabilities' names.
    pub(crate) fn wanted(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(wanted)) => wanted,
            // Numbers, strings and addresses can always be written.
            _ => Map::new(),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        check_ports(&self.port_mappings)?;
        if let Some(bandwidth) = &self.bandwidth {
            check_rate("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst)?;
            check_rate("egress", bandwidth.egress_rate, bandwidth.egress_burst)?;
        }
        if let Some(mac) = &self.mac {
            check_mac(mac)?;
        }
        let mut seen = HashSet::new();
        match self.ips.iter().find(|ip| !seen.insert(ip.addr())) {
            Some(twice) => Err(Error::invalid("ips", twice.to_string(), "is asked for twice")),
            None => Ok(()),
        }
    }
}

/// Plugins of some versions take any number and word here, and make rules of them
/// that match nothing.
fn check_ports(mappings: &[PortMapping]) -> Result<()> {
    for (index, mapping) in mappings.iter().enumerate() {
        let shown = format!("{}:{}", mapping.host_port, mapping.container_port);
        if mapping.host_port == 0 || mapping.container_port == 0 {
            return Err(Error::invalid("port", shown, "ports are 1 to 65535"));
        }
        let same = |other: &PortMapping| {
            other.host_port == mapping.host_port
                && other.protocol == mapping.protocol
                && overlap(other.host_ip, mapping.host_ip)
        };
        if mappings[..index].iter().any(same) {
            return Err(Error::invalid("port", shown, "this port of the host is given twice"));
        }
    }
    Ok(())
}

/// Whether two addresses to listen on have one in common; without one it is all.
fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if one.is_ipv4() == other.is_ipv4() => {
            one == other || one.is_unspecified() || other.is_unspecified()
        }
        (Some(_), Some(_)) => false,
        _ => true,
    }
}

fn check_rate(direction: &str, rate: u64, burst: u64) -> Result<()> {
    if (rate == 0) != (burst == 0) {
        let reason = "a rate needs a burst, and a burst a rate, both in bits";
        return Err(Error::invalid(format!("bandwidth {direction}"), format!("{rate}, {burst}"), reason));
    }
    Ok(())
}

fn check_mac(mac: &str) -> Result<()> {
    let hex = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parse = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| hex(part));
    let bytes: Option<Vec<u8>> = mac.split(':').map(parse).collect();
    match bytes.as_deref() {
        Some(bytes @ [first, ..]) if bytes.len() == 6 && first & 1 == 0 && bytes.iter().any(|byte| *byte != 0) => {
            Ok(())
        }
        _ => Err(Error::invalid("mac", mac, "must be six bytes as c2:11:22:33:44:55, not of a group and not zero")),
    }
}
