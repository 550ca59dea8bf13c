//! A network's own things on the machine: its bridge, what the kernel is told of
//! it, and the ways to its peers.
//!
//! ```text
//!    eth0 ──────────────────────┐
//!      ║                     forwarding ────── podlet0  10.89.0.1/24
//!    podlet0-vx (VXLAN, to ─────┘                 ├── pod1f0c…-0 ═ eth0 of a pod
//!      peers' subnets)                            └── pod77ab…-0 ═ eth0 of another
//! ```
//!
//! The bridge goes up last of all: one that is up was made to its end, and one that
//! is not is made on with from the start, which repeats nothing that hurts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use pod::{Error, Result};

use crate::config::{NetworkConfig, Peer, Way};
use crate::forwarding;
use crate::machine::{Machine, OWN_ALIAS, OuterLink};
use crate::route::{self, Link, RouteTo, VXLAN_PORT, Vxlan, mac_of};
use crate::setting::Setting;
use crate::step::Step;

/// From here on indices are looked for that no link has: so nothing has to be
/// asked between the steps.
const FIRST_INDEX: u32 = 1000;
/// The longest alias that a link can have (`IFALIASZ`), in bytes.
const LONGEST_ALIAS: usize = 255;
/// What VXLAN puts around a packet, at most: Ethernet, VLAN-less, over IPv4 or IPv6.
const AROUND_IPV4: u32 = 50;
const AROUND_IPV6: u32 = 70;

/// Whose a link is: which network's of which store.
pub(crate) fn alias(root: &Path, network: &str) -> String {
    let mut alias = format!("{OWN_ALIAS}{network} {}", root.display());
    while alias.len() > LONGEST_ALIAS {
        alias.pop();
    }
    alias
}

/// The network, and the root of the store, that an alias names; `None` for one of
/// somebody else, or that was cut off.
pub(crate) fn read_alias(alias: &str) -> Option<(&str, &str)> {
    let whole = alias.strip_prefix(OWN_ALIAS).filter(|_| alias.len() < LONGEST_ALIAS);
    whole?.split_once(' ')
}

/// The links that a network has on this machine.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub config: &'a NetworkConfig,
    pub machine: &'a Machine,
    pub alias: String,
}

impl Plan<'_> {
    /// The bridge if it is there and ours.
    ///
    /// # Errors
    /// [`Error::State`] if a link of its name is somebody else's.
    pub(crate) fn bridge(&self) -> Result<Option<&Link>> {
        self.own(&self.config.bridge, self.mac())
    }

    fn own(&self, name: &str, mac: [u8; 6]) -> Result<Option<&Link>> {
        let Some(link) = self.machine.link(name) else { return Ok(None) };
        if !is_begun(link, mac) {
            check_own(link, &self.alias)?;
        }
        Ok(Some(link))
    }

    /// Those of its links that are there, without any that only has the name of one.
    pub(crate) fn own_links(&self) -> Vec<&Link> {
        let tunnel = self.config.peers.iter().any(|peer| vni(peer).is_some());
        let tunnel = tunnel.then(|| (tunnel_name(&self.config.bridge), tunnel_mac(&self.config.subnets)));
        let names = tunnel.into_iter().chain([(self.config.bridge.clone(), self.mac())]);
        names.filter_map(|(name, mac)| self.own(&name, mac).ok().flatten()).collect()
    }

    /// What is left to do before pods can be attached, but for the rules of the
    /// firewall and [`forwarding`](Plan::forwarding), which come before the last step,
    /// in this order.
    ///
    /// # Errors
    /// [`Error::State`] if one of its links, or a route to a peer's subnet, is
    /// somebody else's.
    pub(crate) fn steps(&self) -> Result<Vec<Step>> {
        let config = self.config;
        let name = &config.bridge;
        let there = self.bridge()?;
        let index = there.map_or_else(|| self.free_index(0), |link| link.index);
        let mut steps = Vec::new();
        if there.is_none() {
            steps.push(route::bridge(index, name, self.mac()).into());
        }
        steps.push(route::claim(index, name, &self.alias, self.mtu()).into());
        steps.extend(self.settings().map(Step::from));
        let addresses =
            config.subnets.iter().filter_map(|subnet| IpNet::new(config.gateway(subnet), subnet.prefix_len()).ok());
        steps.extend(addresses.map(|address| route::add_address(index, name, address).into()));
        self.add_peers(&mut steps)?;
        steps.push(route::set_up(index, name).into());
        Ok(steps)
    }

    /// So that it does not change with the pods that come and go.
    fn mac(&self) -> [u8; 6] {
        let gateways = self.config.subnets.iter().map(|subnet| self.config.gateway(subnet));
        mac_of_any(gateways.into_iter().next())
    }

    fn free_index(&self, nth: usize) -> u32 {
        let taken = |index: &u32| self.machine.links.iter().any(|link| link.index == *index);
        (FIRST_INDEX..).filter(|index| !taken(index)).nth(nth).unwrap_or(FIRST_INDEX)
    }

    /// Of the bridge itself.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Setting> {
        let name = &self.config.bridge;
        let (v4, v6) = self.config.families();
        let v4 = v4.map(|_| {
            // Packets to 127.0.0.1 that are sent on to a pod leave by it.
            [Setting::of_link("ipv4", name, "route_localnet", "1"), Setting::of_link("ipv4", name, "forwarding", "1")]
        });
        let v6 = match v6 {
            // Nobody else has its addresses, and nobody on it knows a router.
            Some(_) => vec![
                Setting::of_link("ipv6", name, "accept_dad", "0"),
                Setting::of_link("ipv6", name, "accept_ra", "0"),
            ],
            None => vec![Setting::of_link("ipv6", name, "disable_ipv6", "1")],
        };
        // IPv6 is not there on a link that has no room for it (RFC 8200, section 5).
        let v6 = v6.into_iter().filter(|_| self.machine.has_ipv6 && self.mtu() >= 1280);
        v4.into_iter().flatten().chain(v6)
    }

    /// What lets packets pass between the bridge and the machine's other links, and is
    /// not so yet.
    pub(crate) fn forwarding(&self) -> Vec<Setting> {
        let (v4, v6) = self.config.families();
        let outer = self.outer();
        let mut settings = Vec::new();
        if v4.is_some() {
            settings.extend(forwarding::of_ipv4(&outer));
        }
        if v6.is_some() && self.machine.has_ipv6 && !self.config.internal {
            settings.extend(forwarding::of_ipv6(&self.config.bridge, &outer));
        }
        settings.retain(|setting| !setting.is_so());
        settings
    }

    /// The machine's links that packets to pods may come in by, and answers to them.
    pub(crate) fn outer(&self) -> Vec<OuterLink> {
        if self.config.internal {
            return Vec::new();
        }
        let mut outer = self.machine.outer.clone();
        for Link { index, name, .. } in self.way_links() {
            outer.retain(|link| link.index != *index);
            // It may have no address itself.
            outer.push(OuterLink { index: *index, name: name.clone(), is_way: true, ipv4: true, ipv6: true });
        }
        outer.sort_unstable_by_key(|link| link.index);
        outer
    }

    /// The names of the links that pods' packets leave by for the rest of the world:
    /// the machine's ways out, and those to peers that are its neighbours.
    pub(crate) fn ways(&self) -> Vec<&str> {
        self.way_links().into_iter().map(|link| link.name.as_str()).collect()
    }

    fn way_links(&self) -> Vec<&Link> {
        if self.config.internal {
            return Vec::new();
        }
        let neighbours = self.config.peers.iter().filter(|peer| vni(peer).is_none());
        let to_peers = neighbours.filter_map(|peer| self.machine.way_to(peer.via));
        let mut ways: Vec<_> = self.machine.ways_out().into_iter().chain(to_peers).collect();
        ways.sort_unstable_by_key(|link| link.index);
        ways.dedup_by_key(|link| link.index);
        ways
    }

    fn add_peers(&self, steps: &mut Vec<Step>) -> Result<()> {
        let tunnels: Vec<_> = self.config.peers.iter().filter_map(|peer| vni(peer).map(|vni| (peer, vni))).collect();
        for way in peer_routes(self.config) {
            self.add_route(&way, steps)?;
        }
        let Some((first, vni)) = tunnels.first() else { return Ok(()) };
        let name = tunnel_name(&self.config.bridge);
        let there = self.own(&name, tunnel_mac(&self.config.subnets))?;
        let index = there.map_or_else(|| self.free_index(1), |link| link.index);
        if there.is_none() {
            self.check_vni(*vni)?;
            let mac = tunnel_mac(&self.config.subnets);
            let tunnel = Vxlan { name: name.clone(), mac, vni: *vni, is_ipv6: first.via.is_ipv6() };
            steps.push(route::vxlan(index, &tunnel).into());
        }
        steps.push(route::claim(index, &name, &self.alias, self.mtu()).into());
        if self.machine.has_ipv6 {
            steps.push(Setting::of_link("ipv6", &name, "accept_dad", "0").into());
            steps.extend(forwarding::of_tunnel(&name).map(Step::from));
        }
        steps.push(Setting::of_link("ipv4", &name, "forwarding", "1").into());
        steps.push(route::set_up(index, &name).into());
        for (peer, _) in tunnels {
            let of_machine = self.config.peers.iter().filter(|other| other.via == peer.via);
            let mac = tunnel_mac(of_machine.flat_map(|peer| &peer.subnets));
            steps.push(route::forward_to(index, &name, mac, peer.via).into());
            for to in &peer.subnets {
                let via = to.network();
                steps.push(route::add_neighbour(index, &name, via, mac).into());
                let link = Some((index, name.clone()));
                self.add_route(&RouteTo { to: *to, via: Some(via), link, is_onlink: true }, steps)?;
            }
        }
        Ok(())
    }

    /// The kernel has one tunnel of an identifier at a port.
    fn check_vni(&self, vni: u32) -> Result<()> {
        let has_it = |link: &&Link| link.vxlan == Some((vni, VXLAN_PORT));
        let Some(other) = self.machine.links.iter().find(has_it) else { return Ok(()) };
        let reason = format!("the link {} has it: give another, the same on all machines", other.name);
        Err(Error::invalid("vxlan", vni.to_string(), reason))
    }

    /// A route to a peer, unless it is there. One that somebody else made to the same
    /// addresses is not replaced.
    fn add_route(&self, way: &RouteTo, steps: &mut Vec<Step>) -> Result<()> {
        let mut there = self.machine.routes.iter().filter(|route| route.is_main && route.to == way.to).peekable();
        if let Some(other) = there.clone().find(|route| !way.is_same(route)) {
            let cure = format!("leads to a peer of network {} by another way: remove it", self.config.name);
            return Err(Error::state(format!("route {}", self.machine.show_route(other)), cure));
        }
        if there.peek().is_none() {
            steps.push(route::add_route(way).into());
        }
        Ok(())
    }

    /// What a packet of this network can have at most.
    pub(crate) fn mtu(&self) -> u32 {
        let tunnelled = self.config.peers.iter().find(|peer| vni(peer).is_some());
        let around = tunnelled.map_or(0, |peer| if peer.via.is_ipv4() { AROUND_IPV4 } else { AROUND_IPV6 });
        self.config.mtu.unwrap_or_else(|| self.machine.mtu().saturating_sub(around).max(1280))
    }
}

/// The plain routes to peers' subnets. Those by a tunnel go with it.
pub(crate) fn peer_routes(config: &NetworkConfig) -> Vec<RouteTo> {
    let plain = config.peers.iter().filter(|peer| vni(peer).is_none());
    let of = |peer: &Peer| {
        let to = |to: &IpNet| RouteTo { to: *to, via: Some(peer.via), link: None, is_onlink: false };
        peer.subnets.iter().map(to).collect::<Vec<_>>()
    };
    plain.flat_map(of).collect()
}

/// Whoever made it was killed before it could say whose it is.
fn is_begun(link: &Link, mac: [u8; 6]) -> bool {
    link.alias.is_none() && !link.is_up && link.mac == Some(mac)
}

/// A link of ours that has another's name is left alone.
pub(crate) fn check_own(link: &Link, alias: &str) -> Result<()> {
    let whose = match &link.alias {
        Some(found) if found == alias => return Ok(()),
        Some(found) => format!("is there already, and belongs to {found:?}"),
        None => "is there already, and nobody says that it is podlet's".into(),
    };
    let cure = "make the network with another one (`podlet network create --bridge NAME`)";
    Err(Error::state(format!("link {}", link.name), format!("{whose}: {cure}")))
}

/// The tunnel of the network with that bridge.
pub(crate) fn tunnel_name(bridge: &str) -> String {
    // A link's name has 15 bytes.
    let end = (0..=12.min(bridge.len())).rev().find(|end| bridge.is_char_boundary(*end));
    format!("{}-vx", &bridge[..end.unwrap_or(0)])
}

/// The hardware address of the tunnel's end on the machine with these subnets of
/// pods, which both sides know: it follows from the one of IPv4 if there is one,
/// in whatever order they were said.
fn tunnel_mac<'a>(subnets: impl IntoIterator<Item = &'a IpNet>) -> [u8; 6] {
    mac_of_any(subnets.into_iter().min_by_key(|subnet| subnet.addr().is_ipv6()).map(IpNet::network))
}

/// The identifier of the tunnel that leads to a peer, if one does.
pub(crate) fn vni(peer: &Peer) -> Option<u32> {
    match peer.way {
        Way::Vxlan { vni } => Some(vni),
        Way::Underlay => None,
    }
}

/// [`mac_of`], for IPv6 of the address's last four bytes.
pub(crate) fn mac_of_any(address: Option<IpAddr>) -> [u8; 6] {
    match address {
        Some(IpAddr::V4(address)) => mac_of(address),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            mac_of(Ipv4Addr::new(a, b, c, d))
        }
        None => mac_of(Ipv4Addr::UNSPECIFIED),
    }
}
