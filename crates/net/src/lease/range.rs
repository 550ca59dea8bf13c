//! The addresses of a subnet that pods can have, in a row; pure.

use std::net::IpAddr;

use ipnet::IpNet;
use pod::{Error, Result};

use crate::config::{address_at, is_edge, number_of};

use super::field;

/// A subnet without its edges and its gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) subnet: IpNet,
    gateway: IpAddr,
}

impl Range {
    /// Of a subnet and a gateway that passed [`NetworkConfig::check`](crate::config::NetworkConfig::check).
    pub(super) fn new(subnet: IpNet, gateway: IpAddr) -> Range {
        Range { subnet, gateway }
    }

    /// How many there are, at least one.
    pub(super) fn count(&self) -> u128 {
        let bits = self.subnet.max_prefix_len() - self.subnet.prefix_len();
        let edges = if self.subnet.addr().is_ipv4() { 2 } else { 1 };
        (1u128 << bits) - edges - 1
    }

    /// That at this place in the row, which begins anew after its end.
    pub(super) fn at(&self, place: u128) -> IpAddr {
        let number = place % self.count() + 1;
        let gateway = number_of(&self.subnet, self.gateway).unwrap_or(0);
        address_at(&self.subnet, if number < gateway || gateway == 0 { number } else { number + 1 })
    }

    /// All, once, beginning at a place in the row.
    pub(super) fn from(self, place: u128) -> impl Iterator<Item = IpAddr> {
        let count = self.count();
        (0..count).map(move |step| self.at(place % count + step))
    }

    /// The number of an address in the subnet.
    pub(super) fn number(&self, ip: IpAddr) -> Option<u128> {
        number_of(&self.subnet, ip)
    }

    /// The address with that number in the subnet, if a pod can have it.
    pub(super) fn with_number(&self, number: u128) -> Option<IpAddr> {
        let bits = self.subnet.max_prefix_len() - self.subnet.prefix_len();
        let ip = (number >> bits == 0).then(|| address_at(&self.subnet, number));
        ip.filter(|ip| self.check(*ip).is_ok())
    }

    /// Whether a pod can have an address of the subnet.
    pub(super) fn check(&self, ip: IpAddr) -> Result<()> {
        let what = match ip {
            ip if ip == self.gateway => "the gateway",
            ip if is_edge(&self.subnet, ip) && ip == self.subnet.network() => "the subnet's own address",
            ip if is_edge(&self.subnet, ip) => "the subnet's broadcast address",
            _ => return Ok(()),
        };
        let reason = format!("{what} of {}: give another, such as {}", self.subnet, self.at(0));
        Err(Error::invalid(field(ip), ip.to_string(), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, gateway: &str) -> Range {
        Range::new(subnet.parse().expect("a subnet"), gateway.parse().expect("an address"))
    }

    #[test]
    fn the_row_leaves_out_edges_and_gateway() {
        for (subnet, gateway, count, first, last) in [
            ("10.0.0.0/24", "10.0.0.1", 253, "10.0.0.2", "10.0.0.254"),
            ("10.0.0.0/24", "10.0.0.254", 253, "10.0.0.1", "10.0.0.253"),
            ("10.0.0.0/30", "10.0.0.1", 1, "10.0.0.2", "10.0.0.2"),
            ("10.0.0.0/30", "10.0.0.2", 1, "10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", (1 << 24) - 3, "10.0.0.2", "10.255.255.254"),
            ("fd00::/126", "fd00::1", 2, "fd00::2", "fd00::3"),
            ("fd00::/64", "fd00::1", (1 << 64) - 2, "fd00::2", "fd00::ffff:ffff:ffff:ffff"),
        ] {
            let range = range(subnet, gateway);
            assert_eq!(range.count(), count, "{subnet}");
            assert_eq!(range.at(0).to_string(), first);
            assert_eq!(range.at(count - 1).to_string(), last);
            assert_eq!(range.at(count).to_string(), first);
        }
        let middle: Vec<_> = range("10.0.0.0/29", "10.0.0.3").from(2).map(|ip| ip.to_string()).collect();
        assert_eq!(middle, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_number_is_an_address_if_a_pod_can_have_it() {
        let range = range("fd00::/120", "fd00::1");
        assert_eq!(range.with_number(17).expect("free").to_string(), "fd00::11");
        assert_eq!(range.with_number(255).expect("free").to_string(), "fd00::ff");
        for number in [0, 1, 256, 1 << 100] {
            assert_eq!(range.with_number(number), None, "{number}");
        }
    }
}
