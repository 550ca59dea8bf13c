//! From the networks of a root and the ports its pods publish to their table.
//!
//! ```text
//!   raw          what comes from a bridge has nothing to do with 127.0.0.0/8
//!   prerouting ┐ of what is for this machine: is the port published?
//!   output     ┘   └► published: to the pod that has it
//!   forward      internal and isolated networks; all else is accepted, but for
//!     └► guarded: what links would send on that forward for pods alone
//!   postrouting  who must not be seen with the address it has
//! ```
//!
//! - A host's connection to its own `127.0.0.1` gets to a pod only with a source
//!   the pod can answer: it is masqueraded towards the bridge. The bridge's
//!   `route_localnet`, which that needs, would let a pod talk to what listens on
//!   the host's loopback, and with a source of it: `raw` forbids both.
//! - `::1` is never routed, so no answer would come back: it is left out, and a
//!   connection to it is refused at once.
//! - A pod that reaches a pod of its network, or itself, through a published port
//!   would be answered directly, from an address it did not ask: it is
//!   masqueraded.
//! - `accept` ends the rules of a chain of ours, not those of foreign ones: what
//!   others forbid stays forbidden.

use std::fmt::{self, Display, Formatter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink::Batch;

use super::expression::{End, Expression, Way};
use super::message::{Request, transaction};
use super::set::{Element, Part, PortMap, Set, Type, change};
use super::table::{self, Base, Chain, Hook, Kind, Table};
use crate::ports::Protocol;

/// The set of the bridges of all networks.
const BRIDGES: &str = "bridges";
/// The set of the machine's links by which others reach it.
const OUTER: &str = "outer";
/// The set of those of them by which pods are reached without a published port.
const WAYS: &str = "ways";
/// The chain of packets that came in by a link that forwards for pods alone.
const GUARDED: &str = "guarded";
/// The chain that looks a port up.
const PUBLISHED: &str = "published";

/// A network, as far as rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    /// The bridge's name.
    pub bridge: String,
    /// The addresses of its pods.
    pub subnets: Vec<IpNet>,
    /// Destinations that see a pod's own address though it is not of a network
    /// here: subnets of peers.
    pub unmasqueraded: Vec<IpNet>,
    /// What goes elsewhere gets this machine's address.
    pub masquerade: bool,
    /// Nothing is forwarded between it and anything else.
    pub internal: bool,
    /// Its pods reach neither each other nor those of other networks, but for a
    /// port published by one of another network.
    pub isolated: bool,
}

/// Links of the machine that forward for pods alone, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    /// All by which others reach the machine.
    pub outer: Vec<String>,
    /// Those of them by which pods are reached at their own addresses, too.
    pub ways: Vec<String>,
    /// Those that forward IPv4 for pods alone.
    pub ipv4: Vec<String>,
    /// The same of IPv6.
    pub ipv6: Vec<String>,
}

impl Guard {
    fn is_needed(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }
}

/// A port of the machine that is a pod's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PortRule {
    /// At this address of the machine; `None` or an unspecified one: at all of
    /// the pod's family. One of another family than the pod's is refused by the
    /// kernel (EINVAL), and `::1` has no effect.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub pod_ip: IpAddr,
    pub pod_port: u16,
}

impl PortRule {
    /// What no two can have the same of: the element's key, of one port of the
    /// machine, at one address or all of a family.
    pub(crate) fn key(&self) -> impl Eq + Hash + use<> {
        (self.address(), self.protocol, self.host_port, self.pod_ip.is_ipv4())
    }

    /// The one address it is at, if it is not at all.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host_ip.filter(|address| !address.is_unspecified())
    }

    pub(super) fn map(&self) -> PortMap {
        match (self.address(), self.pod_ip) {
            (Some(_), IpAddr::V4(_)) => PortMap::Addressed4,
            (Some(_), IpAddr::V6(_)) => PortMap::Addressed6,
            (None, IpAddr::V4(_)) => PortMap::Ports4,
            (None, IpAddr::V6(_)) => PortMap::Ports6,
        }
    }

    /// Key and value, as the kernel has them.
    pub(super) fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let Element { key, value } = self.element();
        (super::set::bytes(&key), super::set::bytes(&value))
    }

    fn element(&self) -> Element {
        let address = self.address().map(Part::Address);
        let port = [Part::Protocol(self.protocol), Part::Port(self.host_port)];
        Element {
            key: address.into_iter().chain(port).collect(),
            value: vec![Part::Address(self.pod_ip), Part::Port(self.pod_port)],
        }
    }
}

impl Display for PortRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the port {}/{}", self.host_port, self.protocol)?;
        if let Some(address) = self.host_ip {
            write!(f, " at {address}")?;
        }
        write!(f, " for port {} of {}", self.pod_port, self.pod_ip)
    }
}

/// The table `name` of these networks, links and ports.
pub(crate) fn table(name: &str, networks: &[NetworkRules], guard: &Guard, ports: &[PortRule]) -> Table {
    let mut sets = vec![links(BRIDGES, networks.iter().map(|network| &network.bridge))];
    if guard.is_needed() {
        sets.extend([links(OUTER, &guard.outer), links(WAYS, &guard.ways)]);
    }
    sets.extend(PortMap::ALL.map(|map| {
        let of_map = ports.iter().filter(|port| port.map() == map);
        let mut elements: Vec<Element> = of_map.map(PortRule::element).collect();
        elements.sort();
        Set { name: map.name(), key: map.key(), value: map.value(), elements }
    }));
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let look_up = || vec![vec![Expression::ForThisMachine, Expression::Jump(PUBLISHED)]];
    let (before, after) = (libc::NF_IP_PRI_NAT_DST, libc::NF_IP_PRI_NAT_SRC);
    let chain = |name, base, rules| Chain { name, base, rules };
    let mut chains = vec![
        chain("raw", base(Kind::Filter, Hook::Prerouting, libc::NF_IP_PRI_RAW), raw(networks)),
        chain(PUBLISHED, None, published()),
        chain("prerouting", base(Kind::Nat, Hook::Prerouting, before), look_up()),
        chain("output", base(Kind::Nat, Hook::Output, before), look_up()),
        chain("forward", base(Kind::Filter, Hook::Forward, libc::NF_IP_PRI_FILTER), forward(networks, guard)),
        chain("postrouting", base(Kind::Nat, Hook::Postrouting, after), postrouting(networks)),
    ];
    if guard.is_needed() {
        chains.push(chain(GUARDED, None, guarded()));
    }
    Table { name: name.to_string(), sets, chains }
}

fn links<'a>(name: &'static str, links: impl IntoIterator<Item = &'a String>) -> Set {
    let element = |link: &String| Element { key: vec![Part::Interface(link.clone())], value: vec![] };
    let mut elements: Vec<Element> = links.into_iter().map(element).collect();
    elements.sort();
    Set { name, key: &[Type::Interface], value: &[], elements }
}

fn loopback() -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into()
}

fn multicast() -> [IpNet; 2] {
    let v6 = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
    [Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into(), Ipv6Net::new_assert(v6, 8).into()]
}

fn is_v4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}

fn raw(networks: &[NetworkRules]) -> Vec<Vec<Expression>> {
    let of_v4 = networks.iter().filter(|network| network.subnets.iter().any(is_v4));
    let rule = |network: &NetworkRules, end| {
        vec![
            Expression::Through(Way::In, network.bridge.clone()),
            Expression::Within(end, loopback()),
            Expression::Drop,
        ]
    };
    of_v4.flat_map(|network| [rule(network, End::Source), rule(network, End::Destination)]).collect()
}

fn published() -> Vec<Vec<Expression>> {
    let itself = IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let mut rules = vec![vec![Expression::Within(End::Destination, itself), Expression::Return]];
    rules.extend(PortMap::ALL.map(|map| vec![Expression::SendOn(map)]));
    rules
}

/// What came in by a link that would forward nothing without pods: what has to do
/// with them goes on, and what leads to links that came later, such as another
/// program's bridge.
fn guarded() -> Vec<Vec<Expression>> {
    use Expression::{Drop, Established, Published, Return, ThroughOneOf};
    vec![
        vec![Established, Return],
        vec![Published, Return],
        vec![ThroughOneOf(Way::Out, OUTER), Drop],
        vec![ThroughOneOf(Way::In, WAYS), Return],
        vec![ThroughOneOf(Way::Out, BRIDGES), Drop],
    ]
}

fn forward(networks: &[NetworkRules], guard: &Guard) -> Vec<Vec<Expression>> {
    use Expression::{Accept, Drop, Jump, NotThrough, OfIpv4, Published, Through, ThroughOneOf};
    use Way::{In, Out};
    let by = |is_v4, links: &[String]| {
        let rule = |link: &String| vec![OfIpv4(is_v4), Through(In, link.clone()), Jump(GUARDED)];
        links.iter().map(rule).collect::<Vec<_>>()
    };
    let mut rules = [by(true, &guard.ipv4), by(false, &guard.ipv6)].concat();
    for network in networks.iter().filter(|network| network.internal) {
        let name = || network.bridge.clone();
        rules.push(vec![Through(In, name()), NotThrough(Out, name()), Drop]);
        rules.push(vec![NotThrough(In, name()), Through(Out, name()), Drop]);
    }
    let isolated: Vec<&NetworkRules> = networks.iter().filter(|network| network.isolated).collect();
    // Its own pods, through published ports too: whether that would get past the
    // isolation of the bridge's ports depends on br_netfilter.
    for network in &isolated {
        rules.push(vec![Through(In, network.bridge.clone()), Through(Out, network.bridge.clone()), Drop]);
    }
    if !isolated.is_empty() {
        rules.push(vec![Published, Accept]);
    }
    for network in &isolated {
        rules.push(vec![Through(In, network.bridge.clone()), ThroughOneOf(Out, BRIDGES), Drop]);
        rules.push(vec![ThroughOneOf(In, BRIDGES), Through(Out, network.bridge.clone()), Drop]);
    }
    rules
}

fn postrouting(networks: &[NetworkRules]) -> Vec<Vec<Expression>> {
    use Expression::{Accept, Masquerade, NotThrough, Published, Through, Within};
    use {End::Destination, End::Source};
    let mut rules = Vec::new();
    for network in networks {
        let towards = || Through(Way::Out, network.bridge.clone());
        if network.subnets.iter().any(is_v4) {
            rules.push(vec![towards(), Within(Source, loopback()), Masquerade]);
        }
        // Known by its address: br_netfilter does not say which interface it came
        // in through.
        let to_itself = |subnet: &IpNet| vec![towards(), Within(Source, *subnet), Published, Masquerade];
        rules.extend(network.subnets.iter().map(to_itself));
    }
    if !networks.iter().any(NetworkRules::hides_pods) {
        return rules;
    }
    // What pods of all networks are known by.
    let subnets = networks.iter().flat_map(|network| network.subnets.iter().copied());
    rules.extend(subnets.chain(multicast()).map(|net| vec![Within(Destination, net), Accept]));
    for network in networks.iter().filter(|network| network.hides_pods()) {
        for subnet in &network.subnets {
            let peers = network.unmasqueraded.iter().filter(|peer| is_v4(peer) == is_v4(subnet));
            rules.extend(peers.map(|peer| vec![Within(Source, *subnet), Within(Destination, *peer), Accept]));
            // With br_netfilter also what stays on the bridge gets here: broadcasts.
            let elsewhere = NotThrough(Way::Out, network.bridge.clone());
            rules.push(vec![elsewhere, Within(Source, *subnet), Masquerade]);
        }
    }
    rules
}

impl NetworkRules {
    fn hides_pods(&self) -> bool {
        self.masquerade && !self.internal
    }
}

/// One transaction after which there is no table of this name.
pub(crate) fn remove(name: &str) -> Batch {
    table::remove(name)
}

/// Publishes the ports, all or none: EEXIST if one is another's already, ENOENT
/// if there is no table.
pub(crate) fn add_ports(table: &str, ports: &[PortRule]) -> Batch {
    let add = |port: &PortRule| {
        let doing = format!("publishing {port}");
        change(doing, Request::NewElement, table, port.map().name(), &[port.element()]).flags(libc::NLM_F_EXCL)
    };
    transaction(ports.iter().map(add).collect())
}

/// Takes the ports back, all or none: EEXIST if one is another pod's now, ENOENT
/// if there is no table. One that is not published is as good.
pub(crate) fn delete_ports(table: &str, ports: &[PortRule]) -> Batch {
    // A deletion looks at the key only. Adding the element before, without
    // NLM_F_EXCL, changes nothing if it is there, and is refused if another value
    // is.
    let delete = |port: &PortRule| {
        let (map, element) = (port.map().name(), [port.element()]);
        let claim = change(format!("looking for {port}"), Request::NewElement, table, map, &element);
        [claim, change(format!("taking back {port}"), Request::DeleteElement, table, map, &element)]
    };
    transaction(ports.iter().flat_map(delete).collect())
}
