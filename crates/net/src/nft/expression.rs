//! What a rule is made of, as a person would say it: each expression prints
//! itself in nft's words (nft(8)), and becomes the few instructions of the
//! kernel's register machine that nft would make of it.
//!
//! ```text
//!   ip saddr 10.87.0.0/16   meta nfproto → R0, cmp R0 = ipv4
//!                           payload network+12 → R0, bitwise R0 & mask, cmp R0 = 10.87.0.0
//! ```
//!
//! Registers are words of four bytes; an instruction that has more takes the
//! following ones, too.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink::Attributes;

use super::message::{ITEM, data, nest};
use super::set::{PortMap, Type, interface};

/// Which way a packet goes through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// Whose address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// What a rule says of a packet, and what it does with one of which all is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// It is of IPv4, or else of IPv6.
    OfIpv4(bool),
    /// It goes through the interface of this name.
    Through(Way, String),
    /// It does not: through another one, or none.
    NotThrough(Way, String),
    /// It goes through one of this set.
    ThroughOneOf(Way, &'static str),
    /// An address of it is of this network.
    Within(End, IpNet),
    /// It is for an address of this machine.
    ForThisMachine,
    /// It is of a connection that was let pass before, or belongs to one.
    Established,
    /// It is of a connection whose destination was changed: a published port's.
    Published,
    /// Its destination is changed to what the map has for it, which ends the
    /// rules; if the map has none they go on.
    SendOn(PortMap),
    /// Its source becomes the address of the interface it goes out through.
    Masquerade,
    /// Nothing more is done with it here.
    Accept,
    /// It is dropped.
    Drop,
    /// Back to the chain that this one was called from.
    Return,
    /// What this chain says, first.
    Jump(&'static str),
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = |way: &Way| if *way == Way::In { "iifname" } else { "oifname" };
        match self {
            Expression::OfIpv4(is_v4) => write!(f, "meta nfproto {}", if *is_v4 { "ipv4" } else { "ipv6" }),
            Expression::Through(way, name) => write!(f, "{} \"{name}\"", side(way)),
            Expression::NotThrough(way, name) => write!(f, "{} != \"{name}\"", side(way)),
            Expression::ThroughOneOf(way, set) => write!(f, "{} @{set}", side(way)),
            Expression::Within(end, net) => {
                let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
                let end = if *end == End::Source { "saddr" } else { "daddr" };
                let net = net.trunc();
                if net.prefix_len() == net.max_prefix_len() {
                    return write!(f, "{family} {end} {}", net.addr());
                }
                write!(f, "{family} {end} {net}")
            }
            Expression::ForThisMachine => f.write_str("fib daddr type local"),
            Expression::Established => f.write_str("ct state established,related"),
            Expression::Published => f.write_str("ct status dnat"),
            Expression::SendOn(map) => {
                let family = if map.value().contains(&Type::Address4) { "ip" } else { "ip6" };
                let is_addressed = matches!(map, PortMap::Addressed4 | PortMap::Addressed6);
                let address = if is_addressed { format!("{family} daddr . ") } else { String::new() };
                write!(f, "dnat {family} to {address}meta l4proto . th dport map @{}", map.name())
            }
            Expression::Masquerade => f.write_str("masquerade"),
            Expression::Accept => f.write_str("accept"),
            Expression::Drop => f.write_str("drop"),
            Expression::Return => f.write_str("return"),
            Expression::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4 = 2,
    V6 = 10,
}

/// The expressions of a rule, into the attribute that is a list of them.
pub(super) fn encode(rule: &[Expression], list: &mut Attributes<'_>) {
    let mut program = Program { list, family: None };
    rule.iter().for_each(|expression| program.expression(expression));
}

/// A rule that is being put together.
struct Program<'a, 'b> {
    list: &'a mut Attributes<'b>,
    /// The family that packets have which got thus far. It is asked for once in
    /// a rule: nft would not take a second question for the one that an address
    /// makes necessary, and print it.
    family: Option<Family>,
}

/// `NFT_META_*`.
const IN_NAME: u32 = 6;
const OUT_NAME: u32 = 7;
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;
/// `NFT_CT_*`.
const STATE: u32 = 0;
const STATUS: u32 = 2;
/// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED` and `IP_CT_RELATED`.
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
/// `IPS_DST_NAT`.
const DESTINATION_CHANGED: u32 = 1 << 5;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;

/// The number of the register that begins with this word (`NFT_REG32_00`).
fn register(word: usize) -> u32 {
    8 + word as u32
}

impl Program<'_, '_> {
    fn expression(&mut self, expression: &Expression) {
        match expression {
            Expression::OfIpv4(is_v4) => self.of_family(if *is_v4 { Family::V4 } else { Family::V6 }),
            Expression::Through(way, name) => self.name(*way).compare(EQUAL, &interface(name)),
            Expression::NotThrough(way, name) => self.name(*way).compare(UNEQUAL, &interface(name)),
            Expression::ThroughOneOf(way, set) => self.name(*way).look_up(set, None),
            Expression::Within(end, net) => self.within(*end, *net),
            Expression::ForThisMachine => self.for_this_machine(),
            Expression::Established => self.connection(STATE, ESTABLISHED | RELATED),
            Expression::Published => self.connection(STATUS, DESTINATION_CHANGED),
            Expression::SendOn(map) => self.send_on(*map),
            Expression::Masquerade => self.instruction("masq", |_| {}),
            Expression::Drop => self.verdict(libc::NF_DROP, None),
            Expression::Accept => self.verdict(libc::NF_ACCEPT, None),
            Expression::Jump(chain) => self.verdict(libc::NFT_JUMP, Some(chain)),
            Expression::Return => self.verdict(libc::NFT_RETURN, None),
        }
    }

    fn instruction(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        nest(self.list, ITEM, |instruction| {
            instruction.str(1, name);
            nest(instruction, 2, fill);
        });
    }

    fn meta(&mut self, key: u32, word: usize) {
        self.instruction("meta", |meta| {
            meta.be32(1, register(word)).be32(2, key);
        });
    }

    fn name(&mut self, way: Way) -> &mut Self {
        self.meta(if way == Way::In { IN_NAME } else { OUT_NAME }, 0);
        self
    }

    fn payload(&mut self, header: u32, at: u32, length: u32, word: usize) {
        self.instruction("payload", |payload| {
            payload.be32(1, register(word)).be32(2, header).be32(3, at).be32(4, length);
        });
    }

    /// The first register with `value`.
    fn compare(&mut self, how: u32, value: &[u8]) {
        self.instruction("cmp", |cmp| {
            cmp.be32(1, register(0)).be32(2, how);
            data(cmp, 3, value);
        });
    }

    /// The first register, and what follows it, `& mask`.
    fn mask(&mut self, mask: &[u8]) {
        self.instruction("bitwise", |bitwise| {
            bitwise.be32(1, register(0)).be32(2, register(0)).be32(3, mask.len() as u32);
            data(bitwise, 4, mask);
            data(bitwise, 5, &vec![0; mask.len()]);
        });
    }

    /// The first register and what follows it in a set; of a map the value gets
    /// to the register that begins with `value`.
    fn look_up(&mut self, set: &str, value: Option<usize>) {
        self.instruction("lookup", |lookup| {
            lookup.str(1, set).be32(2, register(0));
            if let Some(word) = value {
                lookup.be32(3, register(word));
            }
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        const REGISTER_OF_VERDICT: u32 = 0;
        self.instruction("immediate", |immediate| {
            immediate.be32(1, REGISTER_OF_VERDICT);
            nest(immediate, 2, |data| {
                nest(data, 2, |verdict| {
                    verdict.be32(1, code as u32);
                    if let Some(chain) = chain {
                        verdict.str(2, chain);
                    }
                });
            });
        });
    }

    fn of_family(&mut self, family: Family) {
        if self.family != Some(family) {
            self.meta(FAMILY, 0);
            self.compare(EQUAL, &[family as u8]);
            self.family = Some(family);
        }
    }

    /// The packet's source or destination, to the first register.
    fn address(&mut self, end: End, family: Family) {
        self.of_family(family);
        let (source, length) = if family == Family::V4 { (12, 4) } else { (8, 16) };
        let at = if end == End::Source { source } else { source + length };
        self.payload(NETWORK, at, length, 0);
    }

    fn within(&mut self, end: End, net: IpNet) {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.address(end, if net.addr().is_ipv4() { Family::V4 } else { Family::V6 });
        if net.prefix_len() < net.max_prefix_len() {
            self.mask(&octets(net.netmask()));
        }
        self.compare(EQUAL, &octets(net.network()));
    }

    fn for_this_machine(&mut self) {
        const KIND: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        self.instruction("fib", |fib| {
            fib.be32(1, register(0)).be32(2, KIND).be32(3, OF_DESTINATION);
        });
        self.compare(EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    /// What connection tracking knows of it has one of these bits.
    fn connection(&mut self, key: u32, bits: u32) {
        self.instruction("ct", |ct| {
            ct.be32(1, register(0)).be32(2, key);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(UNEQUAL, &0u32.to_ne_bytes());
    }

    fn send_on(&mut self, map: PortMap) {
        const DESTINATION: u32 = 1;
        let family = if map.value().contains(&Type::Address4) { Family::V4 } else { Family::V6 };
        let mut word = 0;
        for part in map.key() {
            match part {
                Type::Protocol => self.meta(PROTOCOL, word),
                Type::Port => self.payload(TRANSPORT, 2, 2, word),
                _ => self.address(End::Destination, family),
            }
            word += part.room() / 4;
        }
        self.look_up(map.name(), Some(0));
        let port = map.value()[0].room() / 4;
        // A packet of the other family goes on to the next rule.
        self.instruction("nat", |nat| {
            nat.be32(1, DESTINATION).be32(2, family as u32).be32(3, register(0)).be32(5, register(port));
        });
    }
}
