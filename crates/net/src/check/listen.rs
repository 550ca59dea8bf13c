//! Who listens in a network namespace: `/proc/net/tcp` and its like (proc(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::ports::Protocol;

/// Something that waits for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub protocol: Protocol,
    /// Unspecified: at all addresses; `::` also at those of IPv4, unless it was
    /// told otherwise, which cannot be seen.
    pub address: IpAddr,
    pub port: u16,
}

/// The files, and what they are about.
const FILES: [(&str, Protocol); 4] =
    [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];

/// All of the namespace whose files are in that directory. Files that are not there,
/// for a kernel without IPv6, have none.
pub(super) fn listeners(dir: &Path) -> Vec<Listener> {
    let of_file = |(file, protocol): (&str, Protocol)| {
        let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.lines().skip(1).filter_map(|line| listener(line, protocol)).collect::<Vec<_>>()
    };
    FILES.into_iter().flat_map(of_file).collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`: number, own address, peer's, state.
fn listener(line: &str, protocol: Protocol) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (own, state) = (words.next()?, words.nth(1)?);
    // TCP_LISTEN; and TCP_CLOSE, which is what a UDP socket without a peer is in.
    let waits = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let (address, port) = own.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == waits).then_some(Listener { protocol, address: address_of(address)?, port })
}

/// Words of four bytes, each a number of this machine's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

impl Listener {
    /// Whether it gets what comes to that port at that address.
    pub(super) fn hears(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let everywhere = match self.address {
            IpAddr::V4(own) => own.is_unspecified() && address.is_ipv4(),
            IpAddr::V6(own) => own.is_unspecified(),
        };
        self.protocol == protocol && self.port == port && (everywhere || self.address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_read() {
        let at = |line: &str, protocol| listener(line, protocol).map(|found| (found.address.to_string(), found.port));
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1";
        assert_eq!(at(tcp, Protocol::Tcp), Some(("127.0.0.1".into(), 8080)));
        assert_eq!(at(tcp, Protocol::Udp), None, "another state");
        let six = "   1: 000080FE00000000FF005450B6AD1DFE:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0";
        assert_eq!(at(six, Protocol::Udp), Some(("fe80::5054:ff:fe1d:adb6".into(), 53)));
        let connected = "   0: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 1";
        assert_eq!(at(connected, Protocol::Tcp), None);
        assert_eq!(at("  sl  local_address rem_address   st", Protocol::Tcp), None);
    }

    #[test]
    fn who_hears_what() {
        let hears = |at: &str, to: &str| {
            let listener = Listener { protocol: Protocol::Tcp, address: at.parse().expect("one"), port: 80 };
            listener.hears(Protocol::Tcp, to.parse().expect("one"), 80)
        };
        for (at, to, expected) in [
            ("0.0.0.0", "10.0.0.2", true),
            ("::", "10.0.0.2", true),
            ("0.0.0.0", "fd00::2", false),
            ("10.0.0.2", "10.0.0.2", true),
            ("127.0.0.1", "10.0.0.2", false),
        ] {
            assert_eq!(hears(at, to), expected, "{at} {to}");
        }
    }
}
