//! What connection tracking knows of ports that changed.
//!
//! Rules are asked of the first packet of a flow alone; the others go where that
//! one went. A TCP connection ends and a new one begins a new flow, but a UDP
//! client that goes on sending keeps its flow alive: to the pod that had the port
//! before, or to the host that refused it. So such flows are forgotten when a
//! port is published and when it is taken back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::{Attributes, Batch, Message, Reply, Socket, attributes, find};
use nix::errno::Errno;

use super::message::{general, nest};
use super::rules::PortRule;
use crate::ports::Protocol;

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`, of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_*` of `linux/netfilter/nfnetlink_conntrack.h`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// struct nfgenmsg.
const FIXED: usize = 4;

/// Where packets of one direction of a flow come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Direction {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    protocol: u8,
    /// As its first packet was sent.
    original: Direction,
    /// As the answer comes: with changed addresses, if they are.
    reply: Direction,
}

impl Flow {
    /// Whether the port decides, or decided, where this goes.
    fn is_of(&self, port: &PortRule) -> bool {
        let (address, number) = self.original.destination;
        let is_there = number == port.host_port && port.address().is_none_or(|only| only == address);
        // Its source was changed but not where it goes: it left for another machine.
        let is_sent_on = self.reply.source != self.original.destination;
        let is_on_its_way = !is_sent_on && self.reply.destination != self.original.source;
        port.protocol == Protocol::Udp
            && self.protocol == port.protocol.number()
            && address.is_ipv4() == port.pod_ip.is_ipv4()
            && is_there
            && !is_on_its_way
    }

    fn read(reply: &Reply) -> Option<Flow> {
        let all = attributes(&reply.body, FIXED);
        let (protocol, original) = direction(find(&all, ORIGINAL)?)?;
        let (_, reply) = direction(find(&all, REPLY)?)?;
        Some(Flow { protocol, original, reply })
    }
}

/// `CTA_TUPLE_*`: the protocol's number, and the direction. A protocol without
/// ports has zeroes.
fn direction(tuple: &[u8]) -> Option<(u8, Direction)> {
    let tuple = attributes(tuple, 0);
    let ip = attributes(find(&tuple, 1)?, 0);
    let protocol = attributes(find(&tuple, 2)?, 0);
    let address = |v4, v6| match (find(&ip, v4), find(&ip, v6)) {
        (Some(bytes), _) => <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        (_, Some(bytes)) => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        _ => None,
    };
    let port = |kind| match find(&protocol, kind) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let direction = Direction { source: (address(1, 3)?, port(2)), destination: (address(2, 4)?, port(3)) };
    Some((*find(&protocol, 1)?.first()?, direction))
}

/// Forgets the UDP flows of these ports, published or not; those that begin
/// meanwhile follow the rules that there are by then.
///
/// # Errors
/// The kernel's, if it does not track connections (EINVAL, EOPNOTSUPP) or
/// the caller has no CAP_NET_ADMIN.
pub(crate) fn forget(socket: &mut Socket, ports: &[PortRule]) -> netlink::Result<()> {
    let ports: Vec<&PortRule> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut by_number: HashMap<u16, Vec<&PortRule>> = HashMap::new();
    ports.iter().for_each(|port| by_number.entry(port.host_port).or_default().push(port));
    let only = if by_number.len() == 1 { by_number.keys().next().copied() } else { None };
    let mut flows = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        if ports.iter().any(|port| port.pod_ip.is_ipv4() == (family == libc::AF_INET)) {
            flows.extend(ask(socket, family as u8, only)?);
        }
    }
    let is_theirs = |flow: &Flow| {
        let ports = by_number.get(&flow.original.destination.1);
        ports.is_some_and(|ports| ports.iter().any(|port| flow.is_of(port)))
    };
    for flow in flows.iter().filter(|reply| Flow::read(reply).as_ref().is_some_and(is_theirs)) {
        let mut batch = Batch::new();
        batch.push(deletion(flow));
        match socket.send(&batch) {
            // It ended by itself.
            Err(error) if error.errno == Errno::ENOENT => {}
            result => result?,
        }
    }
    Ok(())
}

/// The UDP flows of a family, and if it is said only those to one port. A machine may
/// have hundreds of thousands: the kernel leaves the others out (Linux 5.8), and where
/// it cannot, gives all.
fn ask(socket: &mut Socket, family: u8, port: Option<u16>) -> netlink::Result<Vec<Reply>> {
    /// `CTA_FILTER_ORIG_FLAGS`, and of `enum ctattr_filter` in the kernel's
    /// nf_conntrack_netlink.c the number of the protocol and the destination's port.
    const OF_ORIGINAL: u16 = 1;
    const PROTOCOL: u32 = 1 << 3;
    const TO_PORT: u32 = 1 << 5;
    let list = || Message::new("listing tracked connections", GET, &general(family, 0)).flags(libc::NLM_F_DUMP);
    let filtered = list().with(|with| {
        nest(with, ORIGINAL, |tuple| {
            nest(tuple, 2, |protocol| {
                protocol.u8(1, Protocol::Udp.number());
                if let Some(port) = port {
                    protocol.bytes(3, &port.to_be_bytes());
                }
            });
        });
        nest(with, FILTER, |filter| {
            filter.u32(OF_ORIGINAL, PROTOCOL | port.map_or(0, |_| TO_PORT));
        });
    });
    match socket.ask(&filtered) {
        Err(error) if matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => socket.ask(&list()),
        flows => flows,
    }
}

/// The request that deletes this flow, and no later one like it: that has
/// another id.
fn deletion(flow: &Reply) -> Message {
    let family = flow.body.first().copied().unwrap_or_default();
    let all = attributes(&flow.body, FIXED);
    Message::new("forgetting a tracked connection", DELETE, &general(family, 0)).with(|message: &mut Attributes<'_>| {
        let nested = ORIGINAL | libc::NLA_F_NESTED as u16;
        for (kind, name) in [(ORIGINAL, nested), (ID, ID), (ZONE, ZONE)] {
            if let Some(value) = find(&all, kind) {
                message.bytes(name, value);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::nft::tests::space::{alone, has, netfilter, run};
    use crate::nft::{Guard, table};

    fn end(text: &str) -> (IpAddr, u16) {
        let address: std::net::SocketAddr = text.parse().expect("an address");
        (address.ip(), address.port())
    }

    fn flow(original: [&str; 2], reply: [&str; 2]) -> Flow {
        let direction =
            |[source, destination]: [&str; 2]| Direction { source: end(source), destination: end(destination) };
        Flow { protocol: libc::IPPROTO_UDP as u8, original: direction(original), reply: direction(reply) }
    }

    fn dns(host_ip: Option<&str>) -> PortRule {
        let host_ip = host_ip.map(|text| text.parse().expect("an address"));
        let pod_ip = IpAddr::from([10, 87, 0, 2]);
        PortRule { host_ip, protocol: Protocol::Udp, host_port: 53, pod_ip, pod_port: 5353 }
    }

    #[test]
    fn flows_that_the_port_decided_are_its_own() {
        let client = "192.0.2.2:4000";
        // To the host, which had nothing there; to the pod; to the one before it.
        for answers_from in ["192.0.2.1:53", "10.87.0.2:5353", "10.87.0.9:1053"] {
            let flow = flow([client, "192.0.2.1:53"], [answers_from, client]);
            assert!(flow.is_of(&dns(None)), "{flow:?}");
            assert!(flow.is_of(&dns(Some("192.0.2.1"))), "{flow:?}");
            assert!(flow.is_of(&dns(Some("0.0.0.0"))), "{flow:?}");
            assert!(!flow.is_of(&dns(Some("127.0.0.1"))), "{flow:?}");
            assert!(!flow.is_of(&PortRule { host_port: 54, ..dns(None) }), "{flow:?}");
            assert!(!flow.is_of(&PortRule { protocol: Protocol::Tcp, ..dns(None) }), "{flow:?}");
            assert!(!Flow { protocol: libc::IPPROTO_TCP as u8, ..flow }.is_of(&dns(None)));
        }
        // The host's own, with both ends changed.
        let own = flow(["127.0.0.1:4000", "127.0.0.1:53"], ["10.87.0.2:5353", "10.87.0.1:4000"]);
        assert!(own.is_of(&dns(None)), "{own:?}");
    }

    #[test]
    fn a_pods_questions_to_a_server_elsewhere_are_left_alone() {
        let flow = flow(["10.87.0.3:4000", "198.51.100.1:53"], ["198.51.100.1:53", "192.0.2.1:4000"]);
        assert!(!flow.is_of(&dns(None)), "{flow:?}");
    }

    #[test]
    fn the_kernel_leaves_out_what_is_not_asked_for() {
        alone(concat!(module_path!(), "::the_kernel_leaves_out_what_is_not_asked_for"), || {
            if !has("ip") {
                return;
            }
            run("ip link set lo up");
            let mut socket = netfilter();
            // Connections are tracked as soon as a rule may ask about them.
            socket.send(&table("podlet", &[], &Guard::default(), &[]).replace()).expect("a table");
            let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
            for port in [1053, 1054] {
                sender.send_to(b"?", ("127.0.0.1", port)).expect("sent");
            }
            let server = TcpListener::bind("127.0.0.1:1053").expect("a port");
            let _stream = TcpStream::connect(server.local_addr().expect("an address")).expect("a connection");
            let mut ports = |port| {
                let flows = ask(&mut socket, libc::AF_INET as u8, port).expect("flows");
                let number = |reply| Flow::read(reply).map(|flow| (flow.protocol, flow.original.destination.1));
                let mut ports: Vec<_> = flows.iter().filter_map(number).collect();
                ports.sort_unstable();
                ports
            };
            let udp = Protocol::Udp.number();
            assert_eq!(ports(Some(1053)), [(udp, 1053)]);
            assert_eq!(ports(None), [(udp, 1053), (udp, 1054)]);
        });
    }
}
