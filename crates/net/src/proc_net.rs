//! What `/proc/<pid>/net` tells of a network namespace (proc_pid_net(5)): for who may
//! not enter it. An ordinary user may not enter that of his own pod, but by a process
//! that enters its user namespace first.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pod::{Error, Result};

/// The files of the namespace that a process is in.
pub(crate) fn dir_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/net"))
}

/// What an interface has. Addresses that links have of themselves are left out
/// (RFC 4291, 2.5.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub addresses: Vec<IpNet>,
    /// Where its default routes lead.
    pub gateways: Vec<IpAddr>,
}

/// The interface of that name, in the namespace that the process is in.
///
/// # Errors
/// [`Error::Os`].
pub(crate) fn interface(pid: u32, name: &str) -> Result<Interface> {
    let read = |file: &str| match fs::read_to_string(dir_of(pid).join(file)) {
        // Of a family that the kernel does not have.
        Err(error) if crate::files::is_missing(&error) => Ok(String::new()),
        text => text.map_err(|error| Error::failed(format!("reading /proc/{pid}/net/{file}"), error)),
    };
    let routes: Vec<_> = read("route")?.lines().filter_map(|line| route(line, name)).collect();
    let locals = locals(&read("fib_trie")?);
    let on_link = |address: &Ipv4Addr| {
        routes.iter().filter(|(_, via)| via.is_none()).map(|(to, _)| to).find(|to| to.contains(address))
    };
    let v4 = locals.iter().filter_map(|ip| Ipv4Net::new(*ip, on_link(ip)?.prefix_len()).ok());
    let v6 = read("if_inet6")?;
    let v6 = v6.lines().filter_map(|line| address(line, name));
    let gateways_v4 = routes.iter().filter(|(to, _)| to.prefix_len() == 0).filter_map(|(_, via)| *via);
    let v6_routes = read("ipv6_route")?;
    let gateways_v6 = v6_routes.lines().filter_map(|line| gateway(line, name));
    Ok(Interface {
        addresses: v4.map(IpNet::from).chain(v6.map(IpNet::from)).collect(),
        gateways: gateways_v4.map(IpAddr::from).chain(gateways_v6.map(IpAddr::from)).collect(),
    })
}

/// `eth0 00000000 020200C0 0003 …`: interface, destination, gateway, flags; the mask
/// is the eighth. Numbers are of this machine's byte order.
fn route(line: &str, name: &str) -> Option<(Ipv4Net, Option<Ipv4Addr>)> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let address = |at: usize| {
        let number = u32::from_str_radix(words.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    if *words.first()? != name {
        return None;
    }
    let (to, via, mask) = (address(1)?, address(2)?, address(7)?);
    Some((Ipv4Net::with_netmask(to, mask).ok()?, Some(via).filter(|via| !via.is_unspecified())))
}

/// The machine's own addresses, in whatever table: `|-- 192.0.2.1`, and below it
/// `/32 host LOCAL`.
fn locals(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in fib_trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse::<Ipv4Addr>().ok(),
            None if line == "/32 host LOCAL" => found.extend(leaf.filter(|ip| !ip.is_loopback())),
            None => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// `20010db8…01 02 40 00 80 eth0`: address, index, prefix, scope, flags.
fn address(line: &str, name: &str) -> Option<Ipv6Net> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [address, _, prefix, _, _, link] = words[..] else { return None };
    let address = six(address)?;
    let prefix = u8::from_str_radix(prefix, 16).ok()?;
    (link == name && !address.is_unicast_link_local()).then(|| Ipv6Net::new(address, prefix).ok()).flatten()
}

/// Destination, its prefix, source, its prefix, gateway; the interface is the last.
fn gateway(line: &str, name: &str) -> Option<Ipv6Addr> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let is_default = *words.get(1)? == "00" && *words.last()? == name;
    let via = six(words.get(4)?)?;
    (is_default && !via.is_unspecified()).then_some(via)
}

fn six(hex: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_understood() {
        let via = "eth0\t00000000\t020200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        let default = ("0.0.0.0/0".parse().expect("a net"), Some(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(route(via, "eth0"), Some(default));
        let on_link = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(route(on_link, "eth0"), Some(("192.0.2.0/24".parse().expect("a net"), None)));
        assert_eq!(route(on_link, "lo"), None);
        assert_eq!(route("Iface\tDestination\tGateway", "Iface"), None);
    }

    #[test]
    fn own_addresses_are_found_once() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n     \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.1\n        /32 host LOCAL\n     \
                    |-- 192.0.2.255\n        /32 link BROADCAST\n     |-- 192.0.2.1\n        /32 host LOCAL\n";
        assert_eq!(locals(trie), [Ipv4Addr::new(192, 0, 2, 1)]);
    }

    #[test]
    fn lines_of_ipv6_are_understood() {
        let line = "20010db8000000000000000000000001 02 40 00 02     eth0";
        assert_eq!(address(line, "eth0"), Some("2001:db8::1/64".parse().expect("a net")));
        assert_eq!(address(&line.replace("20010db8", "fe800000"), "eth0"), None);
        assert_eq!(address(line, "lo"), None);
        let zero = "0".repeat(32);
        let route = format!(
            "{zero} 00 {zero} 00 20010db8000000000000000000000002 00000400 00000001 00000000 00000003     eth0"
        );
        assert_eq!(gateway(&route, "eth0"), Some("2001:db8::2".parse().expect("an address")));
        assert_eq!(gateway(&route.replacen(" 00 ", " 40 ", 1), "eth0"), None);
    }
}
