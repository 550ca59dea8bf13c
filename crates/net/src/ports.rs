//! Ports of the machine that lead to ports of a pod: what users say of them, and
//! whether they can be had.
//!
//! What was said becomes [`PortRequest`]s, which may leave the machine's port
//! open; [`settle`] chooses those and makes [`PortMapping`]s. That none is taken
//! twice the kernel's table decides in the end, by refusing an element that is
//! there: what is found here is found before anything is made, and told by name.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

mod parse;
mod probe;

pub use parse::parse;
pub use probe::{probe, settle};

/// As the user spells what is said here.
const FIELD: &str = "publish";

/// What carries what comes to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// tcp(7).
    Tcp,
    /// udp(7).
    Udp,
}

impl Protocol {
    /// Its number (`IPPROTO_TCP`).
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    /// `tcp` or `udp`, also in capitals.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any other.
    fn from_str(name: &str) -> Result<Protocol> {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Err(Error::invalid("protocol", name, "sctp is not forwarded: give tcp or udp")),
            _ => Err(Error::invalid("protocol", name, "give tcp or udp")),
        }
    }
}

/// A port of the machine that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    /// The machine's address; every one it has if `None`, every one of the family
    /// if `0.0.0.0` or `::`.
    pub host_ip: Option<IpAddr>,
    /// The machine's port, never 0.
    pub host: u16,
    /// The pod's port, never 0.
    pub pod: u16,
    /// Of both.
    pub protocol: Protocol,
}

impl Display for PortMapping {
    /// As it is said to `-p`: `[::2]:8080:80/tcp`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}/{}", at(self.host_ip), self.host, self.pod, self.protocol)
    }
}

/// What stands before the port.
fn at(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        Some(ip) => format!("{ip}:"),
        None => String::new(),
    }
}

/// A mapping whose port of the machine may be left to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRequest {
    /// As [`PortMapping::host_ip`].
    pub host_ip: Option<IpAddr>,
    /// The machine's port; any that is free if `None`.
    pub host: Option<u16>,
    /// The pod's port, never 0.
    pub pod: u16,
    /// Of both.
    pub protocol: Protocol,
}

/// The same ports once more.
impl From<PortMapping> for PortRequest {
    fn from(mapping: PortMapping) -> PortRequest {
        let PortMapping { host_ip, host, pod, protocol } = mapping;
        PortRequest { host_ip, host: Some(host), pod, protocol }
    }
}

impl PortMapping {
    /// What can be said of a mapping without the kernel.
    ///
    /// # Errors
    /// [`Error::Invalid`] for port 0 and for an address that cannot be forwarded.
    pub fn check(&self) -> Result<()> {
        if self.host == 0 || self.pod == 0 {
            return Err(Error::invalid(FIELD, self.to_string(), "ports are from 1 to 65535"));
        }
        self.host_ip.map_or(Ok(()), |ip| check_address(ip, &self.to_string()))
    }
}

/// An address of the machine from which can be forwarded.
fn check_address(ip: IpAddr, value: &str) -> Result<()> {
    let reason = match ip {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => {
            "::1 cannot be forwarded: the kernel drops what a pod answers to it; give 127.0.0.1, or no address".into()
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            format!("an IPv4 address in IPv6 spelling: give {}", ip.to_canonical())
        }
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            "a link-local address, which is the machine's on each interface anew: give another one, or none".into()
        }
        ip if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            "not the address of one machine: give one of this machine's, or none".into()
        }
        _ => return Ok(()),
    };
    Err(Error::invalid(FIELD, value, reason))
}

/// Whether two mappings want the same of the machine: one port by one protocol, at
/// addresses that are the same or of which one stands for all.
pub fn conflict(one: &PortMapping, other: &PortMapping) -> bool {
    let meet = match (one.host_ip, other.host_ip) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()),
    };
    meet && one.protocol == other.protocol && one.host == other.host
}

/// Checks the mappings of one pod: each, and that no two are in conflict.
///
/// # Errors
/// [`Error::Invalid`] with the first that cannot be.
pub fn check_list(mappings: &[PortMapping]) -> Result<()> {
    let mut before = PortIndex::default();
    for mapping in mappings {
        mapping.check()?;
        if let Some(before) = before.in_conflict(mapping) {
            let reason = format!("{before} has the same port of the machine: leave one away, or choose another port");
            return Err(Error::invalid(FIELD, mapping.to_string(), reason));
        }
        before.extend([*mapping]);
    }
    Ok(())
}

/// Mappings by their ports of the machine, so that one in conflict is found among
/// thousands.
#[derive(Debug, Default)]
pub(crate) struct PortIndex(HashMap<(Protocol, u16), Vec<PortMapping>>);

impl PortIndex {
    pub(crate) fn in_conflict(&self, mapping: &PortMapping) -> Option<PortMapping> {
        let same = self.0.get(&(mapping.protocol, mapping.host))?;
        same.iter().find(|other| conflict(other, mapping)).copied()
    }
}

impl Extend<PortMapping> for PortIndex {
    fn extend<T: IntoIterator<Item = PortMapping>>(&mut self, mappings: T) {
        for mapping in mappings {
            self.0.entry((mapping.protocol, mapping.host)).or_default().push(mapping);
        }
    }
}

impl FromIterator<PortMapping> for PortIndex {
    fn from_iter<T: IntoIterator<Item = PortMapping>>(mappings: T) -> PortIndex {
        let mut index = PortIndex::default();
        index.extend(mappings);
        index
    }
}

/// Mappings for people: those that follow one another as one range, such as
/// `8000-8009->80-89/tcp`.
pub fn ranges(mappings: &[PortMapping]) -> Vec<String> {
    let mut mappings = mappings.to_vec();
    mappings.sort_unstable_by_key(|port| (port.host_ip, port.protocol, port.host));
    let follows = |one: &PortMapping, next: &PortMapping| {
        (one.host_ip, one.protocol) == (next.host_ip, next.protocol)
            && one.host.checked_add(1) == Some(next.host)
            && one.pod.checked_add(1) == Some(next.pod)
    };
    let show = |range: &[PortMapping]| {
        let (first, last) = (range.first()?, range.last()?);
        let span = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let (host, pod) = (span(first.host, last.host), span(first.pod, last.pod));
        Some(format!("{}{host}->{pod}/{}", at(first.host_ip), first.protocol))
    };
    mappings.chunk_by(follows).filter_map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        let request = parse(text).expect("a mapping")[0];
        let PortRequest { host_ip, host, pod, protocol } = request;
        PortMapping { host_ip, host: host.expect("a port of the machine"), pod, protocol }
    }

    #[test]
    fn conflicts_are_of_one_port_protocol_and_address() {
        for (one, other, expected) in [
            ("80:80", "80:81", true),
            ("80:80", "80:80/udp", false),
            ("80:80", "81:80", false),
            ("80:80", "127.0.0.1:80:80", true),
            ("0.0.0.0:80:80", "127.0.0.1:80:80", true),
            ("0.0.0.0:80:80", "[::]:80:80", false),
            ("[::]:80:80", "[fd00::1]:80:80", true),
            ("10.0.0.1:80:80", "10.0.0.2:80:80", false),
        ] {
            let (one, other) = (mapping(one), mapping(other));
            assert_eq!(conflict(&one, &other), expected, "{one} {other}");
            assert_eq!(conflict(&other, &one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_conflict_names_both() {
        let error = check_list(&[mapping("80:80"), mapping("127.0.0.1:80:81")]).expect_err("twice").to_string();
        assert!(error.starts_with("publish \"127.0.0.1:80:81/tcp\": 80:80/tcp has the same port"), "{error}");
        check_list(&[mapping("80:80"), mapping("80:80/udp"), mapping("81:80")]).expect("no conflict");
    }

    #[test]
    fn ports_in_a_row_are_shown_as_one_range() {
        let ports: Vec<_> = [
            "8001:81",
            "8000:80",
            "8002:82",
            "8003:90",
            "9000:1",
            "127.0.0.1:8004:91",
            "[::1]:8005:92",
            "8000:80/udp",
            "65535:65535",
        ]
        .map(|text| match text {
            "[::1]:8005:92" => PortMapping { host_ip: Some(Ipv6Addr::LOCALHOST.into()), ..mapping("8005:92") },
            text => mapping(text),
        })
        .into();
        let expected = [
            "8000-8002->80-82/tcp",
            "8003->90/tcp",
            "9000->1/tcp",
            "65535->65535/tcp",
            "8000->80/udp",
            "127.0.0.1:8004->91/tcp",
            "[::1]:8005->92/tcp",
        ];
        assert_eq!(ranges(&ports), expected);
        assert_eq!(ranges(&[]), [""; 0]);
    }

    #[test]
    fn what_was_not_parsed_is_checked_too() {
        let zero = PortMapping { host: 0, ..mapping("80:80") };
        assert!(zero.check().is_err());
        let loopback = PortMapping { host_ip: Some(Ipv6Addr::LOCALHOST.into()), ..mapping("80:80") };
        assert!(loopback.check().expect_err("not to be had").to_string().contains("::1 cannot be forwarded"));
    }

    #[test]
    fn mappings_are_kept_as_json() {
        let text = r#"{"host_ip":"fd00::1","host":80,"pod":8080,"protocol":"udp"}"#;
        let mapping: PortMapping = serde_json::from_str(text).expect("read");
        assert_eq!(mapping.to_string(), "[fd00::1]:80:8080/udp");
        assert_eq!(serde_json::to_string(&mapping).expect("written"), text);
        assert!(serde_json::from_str::<PortMapping>(&text.replace("udp", "sctp")).is_err());
    }
}
