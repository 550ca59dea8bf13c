//! Rules on a kernel, each test in a process of its own in new namespaces, which
//! go with it.

mod ruleset;
pub(crate) mod space;
mod traffic;

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NetworkRules, PortRule};
use crate::ports::Protocol;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The first network is `podlet0` with 10.87.0.0/16, the second `podlet1` with
/// 10.88.0.0/16.
fn network(number: u8) -> NetworkRules {
    NetworkRules {
        bridge: format!("podlet{number}"),
        subnets: vec![net(&format!("10.{}.0.0/16", 87 + number)), net(&format!("fd{}::/64", 87 + number))],
        unmasqueraded: vec![],
        masquerade: true,
        internal: false,
        isolated: false,
    }
}

/// `port` of all addresses, or of the one before the last colon, to port 80 of a
/// pod.
fn port(protocol: Protocol, host: &str, pod: &str) -> PortRule {
    let (host_ip, port) = match host.rsplit_once(':') {
        Some((ip, port)) => (Some(address(ip)), port),
        None => (None, host),
    };
    let host_port = port.parse().expect("a port");
    PortRule { host_ip, protocol, host_port, pod_ip: address(pod), pod_port: 80 }
}
