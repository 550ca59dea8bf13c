//! Links, addresses and routes as rtnetlink(7) messages: what a plan of a network
//! is made of, and the questions that are asked before one is made.
//!
//! The messages are pure. Each says what it does in the words of ip(8), which is
//! what a plan prints and an error begins with.

mod ask;
mod link;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{Attributes, Message};
use pod::{Error, Result};

pub(crate) use ask::{Link, Route, addresses, link_at, link_named, links, routes, way_to};
pub(crate) use link::{
    VXLAN_PORT, Veth, VethEnd, Vxlan, bridge, claim, delete_link, forward_to, into_bridge, mac_of,
    no_address_of_its_own, port_options, set_up, veth, vxlan,
};

/// `NLM_F_CREATE | NLM_F_EXCL`.
pub(crate) const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// `NLM_F_CREATE | NLM_F_REPLACE`.
const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// linux/rtnetlink.h.
const RTNH_F_ONLINK: u32 = 4;

/// linux/neighbour.h, `NUD_PERMANENT`: a neighbour that is not asked.
const PERMANENT: u16 = 0x80;

/// Whose the routes are that podlet makes (`RTPROT_STATIC`).
const STATIC: u8 = libc::RTPROT_STATIC;

/// The bytes of an address, as every message has them.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// An address for a link. Nobody is asked whether another machine has it (IPv6's
/// duplicate address detection takes over a second): leases see to that.
pub(crate) fn add_address(index: u32, link: &str, address: IpNet) -> Message {
    let mut fixed = vec![family(address.addr()), address.prefix_len(), 0, libc::RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    let value = octets(address.addr());
    Message::new(format!("address add {address} dev {link}"), libc::RTM_NEWADDR, &fixed).flags(REPLACE).with(|with| {
        with.bytes(libc::IFA_LOCAL, &value).bytes(libc::IFA_ADDRESS, &value);
        with.u32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
        if let IpNet::V4(net) = address {
            with.bytes(libc::IFA_BROADCAST, &net.broadcast().octets());
        }
    })
}

/// Where packets go, and by which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteTo {
    /// `0.0.0.0/0` and `::/0` are the default route.
    pub to: IpNet,
    /// By this neighbour.
    pub via: Option<IpAddr>,
    /// The link it is on, and what that is called.
    pub link: Option<(u32, String)>,
    /// The neighbour is there, whatever the addresses say (`onlink`).
    pub is_onlink: bool,
}

impl RouteTo {
    /// Whether a route of the machine's is this one already, whoever made it.
    pub(crate) fn is_same(&self, route: &Route) -> bool {
        let is_on_link = self.link.as_ref().is_none_or(|(index, _)| route.links == [*index]);
        route.is_main && route.to == self.to && route.via == self.via && is_on_link
    }
}

/// A route, or another way for one that is there.
pub(crate) fn add_route(way: &RouteTo) -> Message {
    change_route(libc::RTM_NEWROUTE, "route replace", way).flags(REPLACE)
}

/// Takes a route away: one by that neighbour, which podlet or whoever calls his
/// routes static has made ([`STATIC`]), and no other to the same addresses.
pub(crate) fn delete_route(way: &RouteTo) -> Message {
    change_route(libc::RTM_DELROUTE, "route del", way)
}

/// Takes a default route away, whoever made it: of one with several ways this one.
pub(crate) fn delete_default(index: u32, link: &str, to: IpNet, via: Option<IpAddr>) -> Message {
    // As in `change_route`; neither a protocol nor a scope is asked for.
    let which = [libc::RT_TABLE_MAIN, libc::RTPROT_UNSPEC, libc::RT_SCOPE_NOWHERE, libc::RTN_UNSPEC];
    let fixed = [[family(to.addr()), 0, 0, 0], which, [0; 4]].concat();
    let by = via.map(|via| format!(" via {via}")).unwrap_or_default();
    Message::new(format!("route del default{by} dev {link}"), libc::RTM_DELROUTE, &fixed).with(|with| {
        if let Some(via) = via {
            with.bytes(libc::RTA_GATEWAY, &octets(via));
        }
        with.u32(libc::RTA_OIF, index);
    })
}

fn change_route(kind: u16, verb: &str, way: &RouteTo) -> Message {
    let RouteTo { to, via, link, is_onlink } = way;
    let flags = if *is_onlink { RTNH_F_ONLINK } else { 0 };
    let scope = if via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    // struct rtmsg: family, lengths of destination and source, TOS, table, protocol,
    // scope, type, flags.
    let mut fixed = vec![family(to.addr()), to.prefix_len(), 0, 0];
    fixed.extend_from_slice(&[libc::RT_TABLE_MAIN, STATIC, scope, libc::RTN_UNICAST]);
    fixed.extend_from_slice(&flags.to_ne_bytes());
    let mut doing = match to.prefix_len() {
        0 => format!("{verb} default"),
        _ => format!("{verb} {to}"),
    };
    if let Some(via) = via {
        doing += &format!(" via {via}");
    }
    if let Some((_, name)) = link {
        doing += &format!(" dev {name}");
    }
    if *is_onlink {
        doing += " onlink";
    }
    Message::new(doing, kind, &fixed).with(|with: &mut Attributes<'_>| {
        if to.prefix_len() > 0 {
            with.bytes(libc::RTA_DST, &octets(to.addr()));
        }
        if let Some(via) = via {
            with.bytes(libc::RTA_GATEWAY, &octets(*via));
        }
        if let Some((index, _)) = link {
            with.u32(libc::RTA_OIF, *index);
        }
    })
}

/// Who has an address on a link, said once and for all: a neighbour that is not
/// asked (`nud permanent`).
pub(crate) fn add_neighbour(index: u32, link: &str, address: IpAddr, mac: [u8; 6]) -> Message {
    let mut fixed = vec![family(address), 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[0, 0]);
    let doing = format!("neighbour replace {address} lladdr {} dev {link}", show_mac(mac));
    Message::new(doing, libc::RTM_NEWNEIGH, &fixed).flags(REPLACE).with(|with| {
        with.bytes(libc::NDA_DST, &octets(address)).bytes(libc::NDA_LLADDR, &mac);
    })
}

/// A hardware address, as everybody writes it: six bytes of two digits, and colons.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2));
    let bytes = bytes.collect::<Option<Vec<u8>>>().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        Error::invalid("mac", text, "give six bytes of two digits with colons between, such as 02:00:00:00:00:07")
    })
}

/// A hardware address, as everybody writes it.
pub(crate) fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
