//! What there is: links and routes of the network namespace a socket is in.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{Message, Reply, Result, Socket, attributes, find, number};
use nix::errno::Errno;

use super::link::{IFLA_VXLAN_ID, IFLA_VXLAN_PORT};
use super::{family, octets};

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub mac: Option<[u8; 6]>,
    /// Whose it is, if somebody said so.
    pub alias: Option<String>,
    /// Such as `bridge`; none of a network card.
    pub kind: Option<String>,
    /// The identifier and the UDP port of a tunnel (VXLAN).
    pub vxlan: Option<(u32, u16)>,
    /// The index of the bridge it is in.
    pub master: Option<u32>,
    pub is_up: bool,
}

/// A route that is there, of whatever table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    /// The links it is on: several of one with several ways.
    pub links: Vec<u32>,
    /// Of one with several ways (`nexthop`): each one's link, and the neighbour by which.
    pub ways: Vec<(u32, Option<IpAddr>)>,
    /// Whether it is in the main table, where podlet's are.
    pub is_main: bool,
}

/// struct ifinfomsg.
const IFINFO: usize = 16;
/// struct ifaddrmsg.
const IFADDR: usize = 8;
/// struct rtmsg.
const RTMSG: usize = 12;

/// The link of this name, if there is one.
pub(crate) fn link_named(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let question = Message::new(format!("looking for the link {name}"), libc::RTM_GETLINK, &[0; IFINFO]);
    let question = question.with(|with| {
        with.str(libc::IFLA_IFNAME, name);
    });
    match socket.ask(&question) {
        Err(error) if error.errno == Errno::ENODEV => Ok(None),
        Err(error) => Err(error),
        Ok(replies) => Ok(replies.iter().find_map(link)),
    }
}

/// The link of this index, if there is one.
pub(crate) fn link_at(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    let mut fixed = [0; IFINFO];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let question = Message::new(format!("looking for the link of index {index}"), libc::RTM_GETLINK, &fixed);
    match socket.ask(&question) {
        Err(error) if error.errno == Errno::ENODEV => Ok(None),
        Err(error) => Err(error),
        Ok(replies) => Ok(replies.iter().find_map(link)),
    }
}

/// All links.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>> {
    let question = Message::new("looking at the links", libc::RTM_GETLINK, &[0; IFINFO]).flags(libc::NLM_F_DUMP);
    Ok(socket.ask(&question)?.iter().filter_map(link).collect())
}

/// All routes but those to this machine's own addresses and to many.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let question = Message::new("looking at the routes", libc::RTM_GETROUTE, &[0; RTMSG]).flags(libc::NLM_F_DUMP);
    Ok(socket.ask(&question)?.iter().filter_map(route).collect())
}

/// How packets get to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// `RTN_UNICAST`, or `RTN_LOCAL` if it is the machine's own (rtnetlink(7)).
    pub kind: u8,
    /// The router; `None` if it is on a link of the machine's.
    pub via: Option<IpAddr>,
}

/// How the kernel would send packets to an address; `None` if it would not.
pub(crate) fn way_to(socket: &mut Socket, to: IpAddr) -> Result<Option<Way>> {
    let bytes = octets(to);
    let mut fixed = vec![0; RTMSG];
    (fixed[0], fixed[1]) = (family(to), 8 * bytes.len() as u8);
    let question = Message::new(format!("looking for the way to {to}"), libc::RTM_GETROUTE, &fixed);
    let question = question.with(|with| {
        with.bytes(libc::RTA_DST, &bytes);
    });
    let is_none = |errno| matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL);
    match socket.ask(&question) {
        Err(error) if is_none(error.errno) => Ok(None),
        Err(error) => Err(error),
        Ok(replies) => Ok(replies.iter().find_map(way)),
    }
}

fn way(reply: &Reply) -> Option<Way> {
    let found = attributes(&reply.body, RTMSG);
    let via = find(&found, libc::RTA_GATEWAY).and_then(address);
    (reply.kind == libc::RTM_NEWROUTE).then_some(Way { kind: *reply.body.get(7)?, via })
}

/// The addresses of all links: each with the link's index.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<(u32, IpNet)>> {
    let question = Message::new("looking at the addresses", libc::RTM_GETADDR, &[0; IFADDR]).flags(libc::NLM_F_DUMP);
    Ok(socket.ask(&question)?.iter().filter_map(address_of_link).collect())
}

fn address_of_link(reply: &Reply) -> Option<(u32, IpNet)> {
    if reply.kind != libc::RTM_NEWADDR {
        return None;
    }
    let found = attributes(&reply.body, IFADDR);
    let value = find(&found, libc::IFA_LOCAL).or_else(|| find(&found, libc::IFA_ADDRESS)).and_then(address)?;
    Some((number(&reply.body, 4)?, IpNet::new(value, *reply.body.get(1)?).ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

fn link(reply: &Reply) -> Option<Link> {
    if reply.kind != libc::RTM_NEWLINK {
        return None;
    }
    let found = attributes(&reply.body, IFINFO);
    let word = |kind| find(&found, kind).and_then(|value| number(value, 0));
    let info = find(&found, libc::IFLA_LINKINFO).map(|info| attributes(info, 0)).unwrap_or_default();
    Some(Link {
        index: number(&reply.body, 4)?,
        name: text(find(&found, libc::IFLA_IFNAME)?),
        mtu: word(libc::IFLA_MTU)?,
        mac: find(&found, libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        alias: find(&found, libc::IFLA_IFALIAS).map(text),
        kind: find(&info, libc::IFLA_INFO_KIND).map(text),
        vxlan: find(&info, libc::IFLA_INFO_DATA).and_then(|data| vxlan(&attributes(data, 0))),
        master: word(libc::IFLA_MASTER),
        is_up: number(&reply.body, 8)? & libc::IFF_UP as u32 != 0,
    })
}

/// Other kinds of links have something else by these numbers: a port is two bytes of an
/// identifier's four in none of them.
fn vxlan(data: &[(u16, &[u8])]) -> Option<(u32, u16)> {
    let port = find(data, IFLA_VXLAN_PORT)?.try_into().map(u16::from_be_bytes).ok()?;
    Some((number(find(data, IFLA_VXLAN_ID)?, 0)?, port))
}

fn route(reply: &Reply) -> Option<Route> {
    let [family, length, _, _, table, _, _, kind] = *reply.body.get(..8)? else { return None };
    if reply.kind != libc::RTM_NEWROUTE || kind != libc::RTN_UNICAST {
        return None;
    }
    let found = attributes(&reply.body, RTMSG);
    let to = match find(&found, libc::RTA_DST) {
        Some(bytes) => address(bytes)?,
        None if i32::from(family) == libc::AF_INET => IpAddr::from([0; 4]),
        None if i32::from(family) == libc::AF_INET6 => IpAddr::from([0; 16]),
        None => return None,
    };
    let link = find(&found, libc::RTA_OIF).and_then(|value| number(value, 0));
    let ways = find(&found, libc::RTA_MULTIPATH).map(several_ways).unwrap_or_default();
    Some(Route {
        to: IpNet::new(to, length).ok()?,
        via: find(&found, libc::RTA_GATEWAY).and_then(address),
        links: link.into_iter().chain(ways.iter().map(|way| way.0)).collect(),
        ways,
        is_main: table == libc::RT_TABLE_MAIN,
    })
}

/// The links and neighbours of a route's ways: each way is a struct rtnexthop (length,
/// flags, hops, link) and attributes behind it.
fn several_ways(mut ways: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    /// What the struct has itself.
    const RTNEXTHOP: usize = 8;
    let mut found = Vec::new();
    while let [a, b, ..] = *ways {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(way) = ways.get(..length).filter(|way| way.len() >= RTNEXTHOP) else { break };
        let Some(link) = number(way, 4) else { break };
        found.push((link, find(&attributes(way, RTNEXTHOP), libc::RTA_GATEWAY).and_then(address)));
        ways = ways.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_several_ways_is_on_all_their_links() {
        let way = |length: u16, link: u32| [&length.to_ne_bytes()[..], &[0, 0], &link.to_ne_bytes()].concat();
        let gateway = [8, 0, 5, 0, 192, 0, 2, 1];
        let both = [&way(16, 7)[..], &gateway, &way(8, 9)].concat();
        assert_eq!(several_ways(&both), [(7, Some([192, 0, 2, 1].into())), (9, None)]);
        // What is cut off, or too short for a way, is none, and nothing is read for ever.
        assert_eq!(several_ways(&both[..20]), [(7, Some([192, 0, 2, 1].into()))]);
        assert_eq!(several_ways(&way(0, 7)), []);
        assert_eq!(several_ways(&[]), []);
    }
}
