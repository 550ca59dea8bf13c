//! Links: bridges, veth pairs, tunnels.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink::{Attributes, Message};

use super::{NEW, PERMANENT, octets, show_mac};

/// linux/if_link.h, linux/veth.h: what libc does not name.
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
pub(super) const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LEARNING: u16 = 7;
pub(super) const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
/// The UDP port that IANA gave VXLAN (RFC 7348).
pub(crate) const VXLAN_PORT: u16 = 4789;

/// struct ifinfomsg: family, type, index, flags, which of them change.
fn ifinfo(index: u32, flags: libc::c_int, change: libc::c_int) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

/// A bridge, which is down: what its IPv6 does at once is set before.
pub(crate) fn bridge(index: u32, name: &str, mac: [u8; 6]) -> Message {
    let doing = format!("link add {name} index {index} address {} type bridge", show_mac(mac));
    Message::new(doing, libc::RTM_NEWLINK, &ifinfo(index, 0, 0)).flags(NEW).with(|with| {
        with.str(libc::IFLA_IFNAME, name).bytes(libc::IFLA_ADDRESS, &mac);
        with.nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "bridge");
        });
    })
}

/// One end of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VethEnd {
    pub name: String,
    pub mac: Option<[u8; 6]>,
}

/// A pair of links between the machine and a pod.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    /// The machine's end, which is up and in the bridge at once.
    pub host: VethEnd,
    /// Index and name of the bridge.
    pub bridge: (u32, &'a str),
    /// The pod's end; it cannot be up from the start.
    pub pod: VethEnd,
    pub pod_namespace: BorrowedFd<'a>,
    pub mtu: u32,
}

/// The pair, each end where it belongs from its first moment.
pub(crate) fn veth(pair: &Veth<'_>) -> Message {
    let Veth { host, bridge: (master, bridge), pod, pod_namespace, mtu } = pair;
    let doing = format!(
        "link add {} master {bridge} mtu {mtu} up type veth peer {} netns POD{}",
        host.name,
        pod.name,
        pod.mac.map(|mac| format!(" address {}", show_mac(mac))).unwrap_or_default()
    );
    let end = |with: &mut Attributes<'_>, end: &VethEnd| {
        with.str(libc::IFLA_IFNAME, &end.name).u32(libc::IFLA_MTU, *mtu);
        if let Some(mac) = end.mac {
            with.bytes(libc::IFLA_ADDRESS, &mac);
        }
    };
    Message::new(doing, libc::RTM_NEWLINK, &ifinfo(0, libc::IFF_UP, libc::IFF_UP)).flags(NEW).with(|with| {
        end(with, host);
        with.u32(libc::IFLA_MASTER, *master);
        with.nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    // Its number is the kernel's to choose, unless both ends' are chosen.
                    peer.fixed(&ifinfo(0, 0, 0));
                    end(peer, pod);
                    peer.u32(libc::IFLA_NET_NS_FD, pod_namespace.as_raw_fd() as u32);
                });
            });
        });
    })
}

/// A link goes into a bridge, by its index and name.
pub(crate) fn into_bridge(name: &str, (index, bridge): (u32, &str)) -> Message {
    Message::new(format!("link set {name} master {bridge}"), libc::RTM_NEWLINK, &ifinfo(0, 0, 0)).with(|with| {
        with.str(libc::IFLA_IFNAME, name).u32(libc::IFLA_MASTER, index);
    })
}

/// How a bridge treats a port: what comes from it may go back to it (a pod that
/// reaches itself by a published port), and whether other isolated ports are
/// reached.
pub(crate) fn port_options(name: &str, isolated: bool) -> Message {
    let doing =
        format!("link set {name} type bridge_slave hairpin on isolated {}", if isolated { "on" } else { "off" });
    Message::new(doing, libc::RTM_NEWLINK, &ifinfo(0, 0, 0)).with(|with| {
        with.str(libc::IFLA_IFNAME, name);
        with.nest(libc::IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.u8(IFLA_BRPORT_MODE, 1).u8(IFLA_BRPORT_ISOLATED, isolated.into());
            });
        });
    })
}

/// A bridge's port gets no IPv6 address of its own, which nobody would use: they would
/// be one for each pod to everybody who asks which addresses this machine has. Before
/// the port's other end is up.
pub(crate) fn no_address_of_its_own(name: &str) -> Message {
    Message::new(format!("link set {name} addrgenmode none"), libc::RTM_NEWLINK, &ifinfo(0, 0, 0)).with(|with| {
        with.str(libc::IFLA_IFNAME, name);
        with.nest(libc::IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET6 as u16, |ipv6| {
                ipv6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    })
}

/// Whose a link is, and the most bytes of its packets. The kernel takes no alias as
/// it makes a link, and a bridge has the smallest of its ports until it is told.
pub(crate) fn claim(index: u32, name: &str, alias: &str, mtu: u32) -> Message {
    let doing = format!("link set {name} mtu {mtu} alias {alias:?}");
    Message::new(doing, libc::RTM_NEWLINK, &ifinfo(index, 0, 0)).with(|with| {
        with.u32(libc::IFLA_MTU, mtu).str(libc::IFLA_IFALIAS, alias);
    })
}

/// A link goes up.
pub(crate) fn set_up(index: u32, name: &str) -> Message {
    Message::new(format!("link set {name} up"), libc::RTM_NEWLINK, &ifinfo(index, libc::IFF_UP, libc::IFF_UP))
}

/// A link goes away. This waits for the kernel, some 20 ms.
pub(crate) fn delete_link(name: &str) -> Message {
    Message::new(format!("link del {name}"), libc::RTM_DELLINK, &ifinfo(0, 0, 0)).with(|with| {
        with.str(libc::IFLA_IFNAME, name);
    })
}

/// A tunnel to other machines' pods (RFC 7348).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub name: String,
    pub mac: [u8; 6],
    pub vni: u32,
    /// Whether it goes over IPv6, else over IPv4: one does not do both.
    pub is_ipv6: bool,
}

/// A tunnel, which is down and knows nobody yet.
pub(crate) fn vxlan(index: u32, tunnel: &Vxlan) -> Message {
    let Vxlan { name, mac, vni, is_ipv6 } = tunnel;
    let address = show_mac(*mac);
    let local = if *is_ipv6 { " local ::" } else { "" };
    let doing = format!(
        "link add {name} index {index} address {address} type vxlan id {vni} dstport {VXLAN_PORT}{local} nolearning"
    );
    Message::new(doing, libc::RTM_NEWLINK, &ifinfo(index, 0, 0)).flags(NEW).with(|with| {
        with.str(libc::IFLA_IFNAME, name).bytes(libc::IFLA_ADDRESS, mac);
        with.nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "vxlan");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.u32(IFLA_VXLAN_ID, *vni).u8(IFLA_VXLAN_LEARNING, 0);
                data.bytes(IFLA_VXLAN_PORT, &VXLAN_PORT.to_be_bytes());
                if *is_ipv6 {
                    data.bytes(IFLA_VXLAN_LOCAL6, &[0; 16]);
                }
            });
        });
    })
}

/// At which machine a hardware address is, for a tunnel: an entry of its
/// forwarding database.
pub(crate) fn forward_to(index: u32, link: &str, mac: [u8; 6], machine: IpAddr) -> Message {
    const NTF_SELF: u8 = 2;
    let mut fixed = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[NTF_SELF, 0]);
    let doing = format!("fdb replace {} dst {machine} dev {link}", show_mac(mac));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Message::new(doing, libc::RTM_NEWNEIGH, &fixed).flags(flags).with(|with| {
        with.bytes(libc::NDA_LLADDR, &mac).bytes(libc::NDA_DST, &octets(machine));
    })
}

/// The hardware address that belongs to an IPv4 address: of the bit pattern that
/// whoever owns a machine may choose (IEEE 802, locally administered), and as
/// unique in a network as the address.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}
