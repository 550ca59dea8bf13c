//! The least that the kernel is asked for a pod's network: a namespace, a pair of
//! links of which one is in a bridge, addresses and routes, and an element of a map
//! of ports. No records, and nobody looks what is there already.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use netlink::{Attributes, Batch, Family, Message, Socket};
use nix::sched::{CloneFlags, setns, unshare};

const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const TABLE: &str = "prototype";
const MAP: &str = "ports";
/// Indices are chosen, so that nothing has to be looked up: the bridge's, the first of
/// the machine's ends, and the end in each pod.
const BRIDGE: u32 = 20_000;
const FIRST: u32 = 20_001;
const INSIDE: u32 = 900;
const LOOPBACK: u32 = 1;

/// A bridge, a map, and pods that are nothing but a namespace.
pub struct Prototype {
    home: File,
    route: Socket,
    filter: Socket,
    pods: Vec<OwnedFd>,
}

impl Prototype {
    /// In the calling thread's network namespace.
    pub fn new() -> Result<Prototype> {
        let home = here()?;
        let (mut route, mut filter) = (Socket::open(Family::Route)?, Socket::open(Family::Netfilter)?);
        let mut bridge = Batch::new();
        bridge.push(Message::new("making the bridge", libc::RTM_NEWLINK, &upward(BRIDGE)).flags(NEW).with(|with| {
            with.str(libc::IFLA_IFNAME, "prototype0");
            with.nest(libc::IFLA_LINKINFO, |info| _ = info.str(libc::IFLA_INFO_KIND, "bridge"));
        }));
        gateways().into_iter().for_each(|gateway| _ = bridge.push(address(BRIDGE, gateway)));
        route.send(&bridge)?;
        filter.send(&transaction(vec![new_table(), new_map()]))?;
        Ok(Prototype { home, route, filter, pods: Vec::new() })
    }

    /// One more pod, with a port of its own.
    pub fn add(&mut self) -> Result<()> {
        let number = self.pods.len() as u16;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let pod = here();
        let inside = Socket::open(Family::Route);
        setns(&self.home, CloneFlags::CLONE_NEWNET).context("going back")?;
        let (pod, mut inside) = (OwnedFd::from(pod?), inside?);
        let mut link = Batch::new();
        link.push(pair(number, &pod));
        self.route.send(&link)?;
        let mut batch = Batch::new();
        batch.push(up(LOOPBACK)).push(up(INSIDE));
        addresses(number).into_iter().for_each(|own| _ = batch.push(address(INSIDE, own)));
        gateways().into_iter().for_each(|gateway| _ = batch.push(default_route(gateway)));
        inside.send(&batch)?;
        self.filter.send(&transaction(vec![element(number)]))?;
        self.pods.push(pod);
        Ok(())
    }
}

fn here() -> Result<File> {
    File::open("/proc/thread-self/ns/net").context("the network namespace")
}

/// The bridge's own addresses.
fn gateways() -> [IpAddr; 2] {
    [Ipv4Addr::new(10, 95, 0, 1).into(), Ipv6Addr::new(0xfd95, 0, 0, 0, 0, 0, 0, 1).into()]
}

/// Those of a pod.
fn addresses(number: u16) -> [IpAddr; 2] {
    let nth = number + 2;
    let [high, low] = nth.to_be_bytes();
    [Ipv4Addr::new(10, 95, high, low).into(), Ipv6Addr::new(0xfd95, 0, 0, 0, 0, 0, 0, nth).into()]
}

/// struct ifinfomsg of a link that goes up.
fn upward(index: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), libc::IFF_UP.to_ne_bytes(), libc::IFF_UP.to_ne_bytes()].concat()
}

fn up(index: u32) -> Message {
    Message::new(format!("link {index} up"), libc::RTM_NEWLINK, &upward(index))
}

fn pair(number: u16, pod: &OwnedFd) -> Message {
    const PEER: u16 = 1;
    Message::new("adding a pair", libc::RTM_NEWLINK, &upward(FIRST + u32::from(number))).flags(NEW).with(|with| {
        with.str(libc::IFLA_IFNAME, &format!("proto{number}")).u32(libc::IFLA_MASTER, BRIDGE);
        with.nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(PEER, |peer| {
                    peer.fixed(&[[0; 4], INSIDE.to_ne_bytes(), [0; 4], [0; 4]].concat());
                    peer.str(libc::IFLA_IFNAME, "eth0").u32(libc::IFLA_NET_NS_FD, pod.as_raw_fd() as u32);
                });
            });
        });
    })
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().into()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().into()),
    }
}

fn address(index: u32, address: IpAddr) -> Message {
    let (family, bytes) = octets(address);
    let prefix = if address.is_ipv4() { 16 } else { 64 };
    let fixed = [[family, prefix, 0, 0], index.to_ne_bytes()].concat();
    Message::new(format!("adding {address}"), libc::RTM_NEWADDR, &fixed).flags(NEW).with(|with| {
        with.bytes(libc::IFA_LOCAL, &bytes).bytes(libc::IFA_ADDRESS, &bytes);
        with.u32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
    })
}

fn default_route(gateway: IpAddr) -> Message {
    let (family, bytes) = octets(gateway);
    let how = [libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
    let fixed = [[family, 0, 0, 0], how, [0; 4]].concat();
    let message = Message::new("adding the default route", libc::RTM_NEWROUTE, &fixed).flags(NEW);
    message.with(|with| _ = with.bytes(libc::RTA_GATEWAY, &bytes).u32(libc::RTA_OIF, INSIDE))
}

/// `NFT_MSG_*`, of a table for IPv4 and IPv6.
fn nftables(doing: &str, request: i32) -> Message {
    const INET: u8 = 1;
    let message = Message::new(doing, (libc::NFNL_SUBSYS_NFTABLES << 8 | request) as u16, &[INET, 0, 0, 0]);
    message.flags(libc::NLM_F_CREATE)
}

fn transaction(messages: Vec<Message>) -> Batch {
    let limit = |kind: i32| {
        let fixed = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
        Message::new("a transaction", kind as u16, &fixed).unacknowledged()
    };
    let mut batch = Batch::new();
    batch.push(limit(libc::NFNL_MSG_BATCH_BEGIN));
    messages.into_iter().for_each(|message| _ = batch.push(message));
    batch.push(limit(libc::NFNL_MSG_BATCH_END));
    batch
}

fn new_table() -> Message {
    nftables("adding the table", libc::NFT_MSG_NEWTABLE).with(|with| _ = with.str(1, TABLE))
}

/// `inet_proto . inet_service : ipv4_addr . inet_service`, each part in four bytes.
fn new_map() -> Message {
    const IS_MAP: u32 = 8;
    const KEY: u32 = 12 << 6 | 13;
    const VALUE: u32 = 7 << 6 | 13;
    nftables("adding the map", libc::NFT_MSG_NEWSET).with(|with| {
        with.str(1, TABLE).str(2, MAP).be32(3, IS_MAP);
        with.be32(4, KEY).be32(5, 8).be32(6, VALUE).be32(7, 8).be32(10, 1);
    })
}

fn element(number: u16) -> Message {
    let data = |with: &mut Attributes<'_>, kind: u16, bytes: &[u8]| {
        with.nest(kind | NESTED, |data| _ = data.bytes(1, bytes));
    };
    let port = (20_000 + number).to_be_bytes();
    let key = [libc::IPPROTO_TCP as u8, 0, 0, 0, port[0], port[1], 0, 0];
    let (_, address) = octets(addresses(number)[0]);
    let value = [&address[..], &80u16.to_be_bytes(), &[0, 0]].concat();
    nftables("adding an element", libc::NFT_MSG_NEWSETELEM).flags(libc::NLM_F_EXCL).with(|with| {
        with.str(1, TABLE).str(2, MAP).nest(3 | NESTED, |list| {
            list.nest(1 | NESTED, |element| {
                data(element, 1, &key);
                data(element, 2, &value);
            });
        });
    })
}
