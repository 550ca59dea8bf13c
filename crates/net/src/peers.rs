//! What has to be so on this machine for a network's peers to be reached: each is another
//! machine, a plain route's is a neighbour, and a tunnel's port is free.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use netlink::Socket;
use pod::{Error, Result};

use crate::bridge::vni;
use crate::config::{NetworkConfig, Peer};
use crate::machine::Machine;
use crate::route::{self, VXLAN_PORT};
use crate::step::refused;

/// Refuses what the kernel would refuse without naming a peer, and what it would take and
/// never bring there.
///
/// # Errors
/// [`Error::Invalid`]; [`Error::Os`] if the kernel cannot be asked.
pub(crate) fn check(config: &NetworkConfig, machine: &Machine, socket: &mut Socket) -> Result<()> {
    config.peers.iter().try_for_each(|peer| check_way(peer, socket))?;
    match config.peers.iter().find_map(|peer| Some((peer.via, vni(peer)?))) {
        Some((via, vni)) => check_port(via, vni, machine),
        None => Ok(()),
    }
}

fn check_way(peer: &Peer, socket: &mut Socket) -> Result<()> {
    let invalid = |reason: String| Err(Error::invalid("peer", peer.via.to_string(), reason));
    let is_tunnelled = vni(peer).is_some();
    match route::way_to(socket, peer.via).map_err(refused)? {
        Some(way) if way.kind == libc::RTN_LOCAL => {
            invalid("is this machine's own address: give that of another machine".into())
        }
        Some(way) if way.kind != libc::RTN_UNICAST => {
            invalid("is no single machine's address: give one by which this machine reaches it".into())
        }
        Some(way) if !is_tunnelled => match way.via {
            Some(router) => invalid(format!(
                "is reached by the router {router}, and a plain route leads to a neighbour: give an address on this \
                 machine's wire, or take a tunnel (--vxlan ID)"
            )),
            None => Ok(()),
        },
        // A tunnel finds its way once there is one.
        None if !is_tunnelled => {
            invalid("no route of this machine leads there: give the address of a machine on its wire".into())
        }
        _ => Ok(()),
    }
}

/// The kernel takes the port when the tunnel goes up, once for all tunnels.
fn check_port(via: IpAddr, vni: u32, machine: &Machine) -> Result<()> {
    if machine.links.iter().any(|link| link.is_up && link.vxlan.is_some_and(|(_, port)| port == VXLAN_PORT)) {
        return Ok(());
    }
    let any = if via.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    match UdpSocket::bind((any, VXLAN_PORT)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let reason = format!(
                "a program of this machine has the UDP port {VXLAN_PORT}, by which tunnels go: end it, or leave --vxlan \
                 away where plain routes do"
            );
            Err(Error::invalid("vxlan", vni.to_string(), reason))
        }
        // Whatever else there is, the kernel says when the tunnel goes up.
        _ => Ok(()),
    }
}
