//! What a network is, as its record says it, and everything that can be said
//! against it without asking the kernel.
//!
//! What nobody said is chosen before the record is written ([`choose_subnets`],
//! [`choose_bridge`]): a record is complete, and the same network is made of it
//! after a restart.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pod::{Error, Result};
use serde::{Deserialize, Serialize};

mod peers;
#[cfg(test)]
mod tests;

pub use peers::{Peer, Way};

/// What this build writes as the version of a network's record. It goes up when a
/// build before would misunderstand one.
pub const VERSION: u32 = 1;

/// Names that mean something else where a network is named.
const RESERVED: [&str; 3] = ["none", "host", "pasta"];

/// A network of pods: a bridge of this machine, its subnets, and what may pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// That of the record: [`VERSION`].
    pub version: u32,
    /// Its name, by the rules of pods' names.
    pub name: String,
    /// The name of its bridge on this machine.
    pub bridge: String,
    /// From which its pods have their addresses: at most one of IPv4 and one of
    /// IPv6, and at least one.
    pub subnets: Vec<IpNet>,
    /// The bridge's own addresses, at most one in each subnet. A subnet without
    /// one has its first ([`NetworkConfig::gateway`]).
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The most bytes of a packet; as the machine's way out has it if `None`.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Nothing leads out of it.
    #[serde(default)]
    pub internal: bool,
    /// Its pods do not reach one another, and no other network's reach them.
    #[serde(default)]
    pub isolated: bool,
    /// Other machines with subnets of the same flat network.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

impl NetworkConfig {
    /// A network with a bridge and subnets, and nothing else said.
    pub fn new(name: impl Into<String>, bridge: impl Into<String>, subnets: impl Into<Vec<IpNet>>) -> NetworkConfig {
        NetworkConfig {
            version: VERSION,
            name: name.into(),
            bridge: bridge.into(),
            subnets: subnets.into(),
            gateways: Vec::new(),
            mtu: None,
            internal: false,
            isolated: false,
            peers: Vec::new(),
        }
    }

    /// The bridge's address in one of its subnets: what was said, or the first
    /// that a host can have.
    pub fn gateway(&self, subnet: &IpNet) -> IpAddr {
        let said = self.gateways.iter().find(|gateway| subnet.contains(*gateway));
        said.copied().unwrap_or_else(|| address_at(subnet, 1))
    }

    /// Its subnet of IPv4, and that of IPv6.
    pub fn families(&self) -> (Option<&IpNet>, Option<&IpNet>) {
        let find = |is_v4| self.subnets.iter().find(|subnet| subnet.addr().is_ipv4() == is_v4);
        (find(true), find(false))
    }

    /// Everything that can be said against it without the kernel.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first field that is wrong, its value, and what
    /// would be right.
    pub fn check(&self) -> Result<()> {
        check_network_name(&self.name)?;
        check_bridge(&self.bridge)?;
        self.check_subnets()?;
        self.check_gateways()?;
        self.check_mtu()?;
        peers::check(self)
    }

    fn check_subnets(&self) -> Result<()> {
        if self.subnets.is_empty() {
            return Err(Error::invalid("subnet", "", "a network needs one: give 10.89.0.0/24 or the like"));
        }
        for (at, subnet) in self.subnets.iter().enumerate() {
            check_subnet(subnet)?;
            let is_v4 = subnet.addr().is_ipv4();
            if let Some(before) = self.subnets[..at].iter().find(|before| before.addr().is_ipv4() == is_v4) {
                let reason = format!("{before} is of the same family: a network has at most one subnet of each");
                return Err(Error::invalid("subnet", subnet.to_string(), reason));
            }
        }
        Ok(())
    }

    fn check_gateways(&self) -> Result<()> {
        for (at, gateway) in self.gateways.iter().enumerate() {
            let invalid = |reason: String| Err(Error::invalid("gateway", gateway.to_string(), reason));
            let Some(subnet) = self.subnets.iter().find(|subnet| subnet.contains(gateway)) else {
                return invalid(format!("in none of the subnets ({}): give an address of one", List(&self.subnets)));
            };
            if is_edge(subnet, *gateway) {
                return invalid(format!(
                    "no host of {subnet} can have it: give another, such as {}",
                    address_at(subnet, 1)
                ));
            }
            if let Some(before) = self.gateways[..at].iter().find(|before| subnet.contains(*before)) {
                return invalid(format!("{before} is in {subnet}, too: a subnet has one gateway"));
            }
        }
        Ok(())
    }

    fn check_mtu(&self) -> Result<()> {
        let Some(mtu) = self.mtu else { return Ok(()) };
        // RFC 791 and RFC 8200, section 5.
        let (least, family) = if self.families().1.is_some() { (1280, "IPv6") } else { (68, "IPv4") };
        if (least..=65535).contains(&mtu) {
            return Ok(());
        }
        Err(Error::invalid("mtu", mtu.to_string(), format!("{family} needs {least} to 65535 bytes")))
    }
}

/// Things with commas between.
pub(crate) struct List<'a, T>(pub(crate) &'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Checks what a network is called: as a pod, but not what means something else
/// where a network is named.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_network_name(name: &str) -> Result<()> {
    pod::spec::check_name("network", name)?;
    if RESERVED.contains(&name) {
        let reason = format!("`--network {name}` means something else: choose another name");
        return Err(Error::invalid("network name", name, reason));
    }
    Ok(())
}

/// Checks the name of an interface: of what the kernel takes (`dev_valid_name`) what no
/// shell, firewall or sysctl(8) reads otherwise.
fn check_bridge(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_taken = matches!(name, "all" | "default" | "lo");
    if !(1..=15).contains(&name.len()) || !name.chars().all(good) || name.starts_with(['.', '-']) || is_taken {
        let reason = "1 to 15 bytes of A-Z a-z 0-9 _ . -, the first a letter, digit or _, and none of `all`, `default` \
                      and `lo`";
        return Err(Error::invalid("bridge", name, reason));
    }
    Ok(())
}

/// A subnet, as users say it.
///
/// # Errors
/// [`Error::Invalid`] if it is none, or none that a network can have.
pub fn parse_subnet(text: &str) -> Result<IpNet> {
    let subnet: IpNet = text.parse().map_err(|_| {
        let reason = "no subnet: give an address and a prefix, such as 10.89.0.0/24 or fd12:3456:789a::/64";
        Error::invalid("subnet", text, reason)
    })?;
    check_subnet(&subnet)?;
    Ok(subnet)
}

/// Checks that pods can have their addresses from a subnet.
fn check_subnet(subnet: &IpNet) -> Result<()> {
    let prefixes = if subnet.addr().is_ipv4() { 8..=30 } else { 48..=126 };
    let invalid = |reason: String| Err(Error::invalid("subnet", subnet.to_string(), reason));
    if !prefixes.contains(&subnet.prefix_len()) {
        return invalid(format!("its prefix has to be from /{} to /{}", prefixes.start(), prefixes.end()));
    }
    check_destination("subnet", subnet)
}

/// Checks what packets can be sent to: whole, and no addresses with a meaning of
/// their own.
fn check_destination(field: &str, subnet: &IpNet) -> Result<()> {
    let invalid = |reason: String| Err(Error::invalid(field, subnet.to_string(), reason));
    if subnet.trunc() != *subnet {
        return invalid(format!("has bits set beyond its prefix: give {}", subnet.trunc()));
    }
    match special().into_iter().find(|(special, _)| overlap(special, subnet)) {
        Some((special, what)) => invalid(format!("{special} is {what}: give another, such as 10.89.0.0/24")),
        None => Ok(()),
    }
}

/// Addresses no pod can have (RFC 6890 and its registry).
fn special() -> [(IpNet, &'static str); 10] {
    let v4 = |a, b, prefix| IpNet::new_assert(Ipv4Addr::new(a, b, 0, 0).into(), prefix);
    let v6 =
        |first, sixth, last, prefix| IpNet::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, sixth, 0, last).into(), prefix);
    [
        (v4(0, 0, 8), "\"this network\""),
        (v4(127, 0, 8), "loopback"),
        (v4(169, 254, 16), "link-local"),
        (v4(224, 0, 4), "multicast"),
        (v4(240, 0, 4), "reserved"),
        (v6(0, 0, 0, 128), "no address"),
        (v6(0, 0, 1, 128), "loopback"),
        (v6(0, 0xffff, 0, 96), "IPv4 in IPv6 spelling"),
        (v6(0xfe80, 0, 0, 10), "link-local"),
        (v6(0xff00, 0, 0, 8), "multicast"),
    ]
}

/// Whether two subnets have an address in common.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The address with that number in a subnet, counted from its first, which is 0.
pub(crate) fn address_at(subnet: &IpNet, number: u128) -> IpAddr {
    match subnet.network() {
        // A subnet's numbers are those of its addresses.
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(number as u32)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(number)).into(),
    }
}

/// The reverse of [`address_at`], of an address that is in the subnet.
pub(crate) fn number_of(subnet: &IpNet, ip: IpAddr) -> Option<u128> {
    match (subnet.network(), ip) {
        _ if !subnet.contains(&ip) => None,
        (IpAddr::V4(first), IpAddr::V4(ip)) => Some((ip.to_bits() - first.to_bits()).into()),
        (IpAddr::V6(first), IpAddr::V6(ip)) => Some(ip.to_bits() - first.to_bits()),
        _ => None,
    }
}

/// Whether no host can have an address of the subnet: its first means the subnet
/// itself, or any of its routers (RFC 4291, 2.6.1), IPv4's last all of its hosts.
pub(crate) fn is_edge(subnet: &IpNet, ip: IpAddr) -> bool {
    ip == subnet.network() || ip.is_ipv4() && ip == subnet.broadcast()
}

/// Subnets for a network of which nobody said any: the first /24 from
/// 10.89.0.0 upwards, and a new unique local /64 (RFC 4193), which overlap nothing
/// of `taken`: subnets of other networks and routes of this machine. Default
/// routes among these take nothing.
///
/// # Errors
/// [`Error::Invalid`] if everything is taken; [`Error::Os`] without random bits.
pub fn choose_subnets(taken: &[IpNet]) -> Result<(Ipv4Net, Ipv6Net)> {
    let is_free = |subnet: IpNet| !taken.iter().any(|taken| taken.prefix_len() > 0 && overlap(taken, &subnet));
    let all = || (89..=255).flat_map(|b| (0..=255).map(move |c| Ipv4Net::new_assert(Ipv4Addr::new(10, b, c, 0), 24)));
    let full = |which: &str| {
        let reason = format!("{which} is taken by other networks or routes: give a subnet");
        Error::invalid("subnet", "", reason)
    };
    let v4 = all().find(|subnet| is_free((*subnet).into())).ok_or_else(|| full("all from 10.89.0.0/24 on"))?;
    // Twice the same is not to be expected: more often it is a route to all of them.
    for _ in 0..16 {
        let v6 = unique_local(random()?);
        if is_free(v6.into()) {
            return Ok((v4, v6));
        }
    }
    Err(full("fd00::/8"))
}

/// The first subnet of a site with that global id (RFC 4193, 3.1).
fn unique_local(id: [u8; 5]) -> Ipv6Net {
    let [a, b, c, d, e] = id.map(u16::from);
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, 0, 0, 0, 0, 0), 64)
}

fn random() -> Result<[u8; 5]> {
    let mut bytes = [0; 5];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::failed("reading /dev/urandom", error))?;
    Ok(bytes)
}

/// A name for a bridge: the first of podlet0, podlet1… that is not taken.
pub fn choose_bridge(taken: &[String]) -> String {
    let names = (0u32..).map(|number| format!("podlet{number}"));
    let mut free = names.filter(|name| !taken.contains(name));
    free.next().unwrap_or_default()
}
