//! Other machines whose pods belong to the same flat network.

use std::net::IpAddr;

use ipnet::IpNet;
use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{NetworkConfig, check_destination, overlap};

/// As the user spells what is said here.
const FIELD: &str = "peer";

/// The highest identifier of a VXLAN, which has 24 bits (RFC 7348).
const MAX_VNI: u32 = (1 << 24) - 1;

/// Another machine of a flat network, and the subnets of its pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// By which address this machine reaches it.
    pub via: IpAddr,
    /// The subnets of its pods.
    pub subnets: Vec<IpNet>,
    /// How packets get there.
    #[serde(default)]
    pub way: Way,
}

/// How packets get to a peer's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Way {
    /// By a plain route: the machines are neighbours.
    #[default]
    Underlay,
    /// In UDP packets between the machines (RFC 7348), whatever lies in between.
    Vxlan {
        /// Its identifier, 1 to 16777215, the same on all machines.
        vni: u32,
    },
}

/// Checks the peers of a network that is in order otherwise.
pub(super) fn check(network: &NetworkConfig) -> Result<()> {
    if let Some(peer) = network.peers.first() {
        let closed = [
            (network.internal, "internal", "nothing leads out of it"),
            (network.isolated, "isolated", "its pods reach no others"),
        ];
        if let Some((_, option, what)) = closed.into_iter().find(|(is_said, ..)| *is_said) {
            let reason = format!("the network is {option}, so {what}: leave --{option} or --peer away");
            return Err(Error::invalid(FIELD, peer.via.to_string(), reason));
        }
    }
    // One network has one tunnel, which has one identifier and one family.
    let mut tunnel: Option<(&Peer, u32)> = None;
    for (at, peer) in network.peers.iter().enumerate() {
        check_address(peer, network)?;
        if peer.subnets.is_empty() {
            return Err(Error::invalid(FIELD, peer.via.to_string(), "has no subnets: give ADDRESS=SUBNET"));
        }
        for (number, subnet) in peer.subnets.iter().enumerate() {
            let others = network.peers[..at].iter().flat_map(|other| &other.subnets).chain(&peer.subnets[..number]);
            check_subnet(peer, subnet, network, others)?;
        }
        let Way::Vxlan { vni } = peer.way else { continue };
        check_tunnel(peer, vni, tunnel)?;
        tunnel = Some((peer, vni));
    }
    Ok(())
}

fn check_address(peer: &Peer, network: &NetworkConfig) -> Result<()> {
    let invalid = |reason: String| Err(Error::invalid(FIELD, peer.via.to_string(), reason));
    let ip = peer.via;
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return invalid("not the address of another machine: give one by which this machine reaches it".into());
    }
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return invalid("link-local, which means nothing without an interface: give another address of it".into());
    }
    let own = network.subnets.iter().chain(network.peers.iter().flat_map(|peer| &peer.subnets));
    match own.into_iter().find(|subnet| subnet.contains(&ip)) {
        Some(subnet) => invalid(format!("in {subnet}, a subnet of pods: give an address of the machine's own network")),
        None => Ok(()),
    }
}

fn check_subnet<'a>(
    peer: &Peer,
    subnet: &IpNet,
    network: &'a NetworkConfig,
    others: impl Iterator<Item = &'a IpNet>,
) -> Result<()> {
    check_destination(FIELD, subnet)?;
    let value = format!("{}={subnet}", peer.via);
    let is_same = |ip: IpAddr| ip.is_ipv4() == subnet.addr().is_ipv4();
    let family = if subnet.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    if subnet.prefix_len() == 0 {
        return Err(Error::invalid(FIELD, value, "all addresses there are: give the subnet of its pods"));
    }
    if !network.subnets.iter().any(|own| is_same(own.addr())) {
        let reason = format!("network {} has no subnet of {family} itself: give it one", network.name);
        return Err(Error::invalid(FIELD, value, reason));
    }
    if peer.way == Way::Underlay && !is_same(peer.via) {
        let reason = format!("a route to it needs the peer's address of {family}: give that, or take a tunnel");
        return Err(Error::invalid(FIELD, value, reason));
    }
    if let Some(other) = network.subnets.iter().chain(others).find(|other| overlap(other, subnet)) {
        let reason = format!("overlaps {other}: each machine needs a subnet of its own");
        return Err(Error::invalid(FIELD, value, reason));
    }
    Ok(())
}

fn check_tunnel(peer: &Peer, vni: u32, before: Option<(&Peer, u32)>) -> Result<()> {
    let invalid = |reason: String| Err(Error::invalid(FIELD, peer.via.to_string(), reason));
    if !(1..=MAX_VNI).contains(&vni) {
        return invalid(format!("the VXLAN {vni}: identifiers are from 1 to {MAX_VNI}"));
    }
    match before {
        Some((other, theirs)) if theirs != vni => {
            invalid(format!("the VXLAN {vni}, but peer {} has {theirs}: a network has one", other.via))
        }
        Some((other, _)) if other.via.is_ipv4() != peer.via.is_ipv4() => {
            invalid(format!("of another family than peer {}: a tunnel is of one", other.via))
        }
        _ => Ok(()),
    }
}
