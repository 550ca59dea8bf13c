//! Sets and maps of a table: their types, what is in them, and the requests that
//! change that.
//!
//! A key or a value is a row of parts (`inet_proto . inet_service`), each of
//! which takes whole words of four bytes, in a set as in the registers of a rule.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::{Attributes, Message};

use super::message::{ITEM, Request, data, nest, request};
use crate::ports::{PortMapping, Protocol};

/// How many elements are in one request: an attribute has 64 KiB at most.
const IN_ONE: usize = 256;

/// `NFT_SET_MAP`.
const IS_MAP: u32 = 8;

/// What a part is. The kernel only keeps these numbers for those who list a set;
/// they are `nft`'s (`enum datatypes` of its `datatype.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Address4 = 7,
    Address6 = 8,
    Protocol = 12,
    Port = 13,
    Interface = 41,
}

impl Type {
    /// Bytes that it takes, in whole words.
    pub(super) fn room(self) -> usize {
        match self {
            Type::Address6 | Type::Interface => 16,
            Type::Address4 | Type::Protocol | Type::Port => 4,
        }
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Address4 => "ipv4_addr",
            Type::Address6 => "ipv6_addr",
            Type::Protocol => "inet_proto",
            Type::Port => "inet_service",
            Type::Interface => "ifname",
        })
    }
}

/// One part of a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Address(IpAddr),
    Protocol(Protocol),
    Port(u16),
    Interface(String),
}

impl Part {
    /// As registers and sets have it.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Part::Address(IpAddr::V4(address)) => into.extend(address.octets()),
            Part::Address(IpAddr::V6(address)) => into.extend(address.octets()),
            Part::Protocol(protocol) => into.push(protocol.number()),
            Part::Port(port) => into.extend(port.to_be_bytes()),
            Part::Interface(name) => into.extend(interface(name)),
        }
        into.resize(into.len().next_multiple_of(4), 0);
    }
}

/// An interface's name as registers have it: `IFNAMSIZ` bytes.
pub(super) fn interface(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut bytes = [0; libc::IFNAMSIZ];
    for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    bytes
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Part::Address(address) => write!(f, "{address}"),
            Part::Protocol(protocol) => write!(f, "{protocol}"),
            Part::Port(port) => write!(f, "{port}"),
            Part::Interface(name) => write!(f, "\"{name}\""),
        }
    }
}

/// One element: a key, and of a map the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub key: Vec<Part>,
    pub value: Vec<Part>,
}

impl Element {
    /// Into a list of elements.
    fn encode(&self, list: &mut Attributes<'_>) {
        const KEY: u16 = 1;
        const VALUE: u16 = 2;
        nest(list, ITEM, |element| {
            data(element, KEY, &bytes(&self.key));
            if !self.value.is_empty() {
                data(element, VALUE, &bytes(&self.value));
            }
        });
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", joined(&self.key))?;
        if self.value.is_empty() { Ok(()) } else { write!(f, " : {}", joined(&self.value)) }
    }
}

pub(super) fn bytes(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    parts.iter().for_each(|part| part.encode(&mut bytes));
    bytes
}

/// As nft writes a concatenation.
pub(super) fn joined(parts: &[impl Display]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

/// A set, or a map if it has values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub name: &'static str,
    pub key: &'static [Type],
    pub value: &'static [Type],
    pub elements: Vec<Element>,
}

impl Set {
    /// The request that makes it, empty. `id` is any that no other set of the
    /// transaction has.
    pub(super) fn create(&self, table: &str, id: u32) -> Message {
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY: u16 = 4;
        const VALUE: u16 = 6;
        const ID: u16 = 10;
        const FOR_NFT: u16 = 13;
        // `NFTNL_UDATA_SET_KEYBYTEORDER`, four bytes: the machine's own, 1. nft
        // shows empty names without it.
        const NAME_ORDER: [u8; 2] = [0, 4];
        let types = |attributes: &mut Attributes<'_>, kind: u16, types: &[Type]| {
            // nft gives each part of a concatenation six bits.
            let number = types.iter().fold(0, |number, part| number << 6 | *part as u32);
            let room: usize = types.iter().map(|part| part.room()).sum();
            attributes.be32(kind, number).be32(kind + 1, room as u32);
        };
        request(format!("adding the set {} of the table {table}", self.name), Request::NewSet).with(|set| {
            set.str(TABLE, table).str(NAME, self.name);
            set.be32(FLAGS, if self.value.is_empty() { 0 } else { IS_MAP });
            types(set, KEY, self.key);
            if !self.value.is_empty() {
                types(set, VALUE, self.value);
            }
            set.be32(ID, id);
            if self.key == [Type::Interface] {
                set.bytes(FOR_NFT, &[&NAME_ORDER[..], &1u32.to_ne_bytes()].concat());
            }
        })
    }

    /// The requests that fill it.
    pub(super) fn fill(&self, table: &str) -> impl Iterator<Item = Message> {
        self.elements.chunks(IN_ONE).map(move |some| {
            let doing = format!("filling the set {} of the table {table}", self.name);
            change(doing, Request::NewElement, table, self.name, some)
        })
    }
}

/// A request that adds these elements or takes them away.
pub(super) fn change(doing: String, kind: Request, table: &str, set: &str, elements: &[Element]) -> Message {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    request(doing, kind).with(|attributes| {
        attributes.str(TABLE, table).str(SET, set);
        nest(attributes, ELEMENTS, |list| elements.iter().for_each(|element| element.encode(list)));
    })
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.value.is_empty() { "set" } else { "map" };
        write!(f, "\t{kind} {} {{\n\t\ttype {}", self.name, joined(self.key))?;
        if !self.value.is_empty() {
            write!(f, " : {}", joined(self.value))?;
        }
        for (at, element) in self.elements.iter().enumerate() {
            write!(f, "{}{element}", if at == 0 { "\n\t\telements = { " } else { ",\n\t\t\t     " })?;
        }
        f.write_str(if self.elements.is_empty() { "\n\t}\n" } else { " }\n\t}\n" })
    }
}

/// A map from ports of this machine to pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PortMap {
    /// Ports at one address of the machine, of IPv4.
    Addressed4,
    /// The same of IPv6.
    Addressed6,
    /// Ports at any of its addresses, of IPv4.
    Ports4,
    /// The same of IPv6.
    Ports6,
}

impl PortMap {
    /// All, the more exact first.
    pub(crate) const ALL: [PortMap; 4] = [Self::Addressed4, Self::Addressed6, Self::Ports4, Self::Ports6];

    /// What it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Addressed4 => "addressed4",
            Self::Addressed6 => "addressed6",
            Self::Ports4 => "ports4",
            Self::Ports6 => "ports6",
        }
    }

    /// What is looked up.
    pub(crate) fn key(self) -> &'static [Type] {
        match self {
            Self::Addressed4 => &[Type::Address4, Type::Protocol, Type::Port],
            Self::Addressed6 => &[Type::Address6, Type::Protocol, Type::Port],
            Self::Ports4 | Self::Ports6 => &[Type::Protocol, Type::Port],
        }
    }

    /// The port that an element of it, as registers have it, leads to a pod; at all
    /// addresses of its family that is at the unspecified one.
    pub(super) fn read(self, key: &[u8], value: &[u8]) -> Option<PortMapping> {
        let address = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        let (host_ip, key) = match self {
            Self::Ports4 => (Ipv4Addr::UNSPECIFIED.into(), key),
            Self::Ports6 => (Ipv6Addr::UNSPECIFIED.into(), key),
            Self::Addressed4 => (address(key.get(..4)?)?, &key[4..]),
            Self::Addressed6 => (address(key.get(..16)?)?, &key[16..]),
        };
        let &[protocol, _, _, _, high, low, ..] = key else { return None };
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.number() == protocol)?;
        let &[.., pod_high, pod_low, _, _] = value else { return None };
        let (host, pod) = (u16::from_be_bytes([high, low]), u16::from_be_bytes([pod_high, pod_low]));
        Some(PortMapping { host_ip: Some(host_ip), host, pod, protocol })
    }

    /// What is found: the pod's address and port.
    pub(crate) fn value(self) -> &'static [Type] {
        match self {
            Self::Addressed4 | Self::Ports4 => &[Type::Address4, Type::Port],
            Self::Addressed6 | Self::Ports6 => &[Type::Address6, Type::Port],
        }
    }
}
