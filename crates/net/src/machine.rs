//! What a network needs to know of the machine it is on: its links, its routes,
//! and which of them lead out.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;
use netlink::Socket;
use pod::Result;

use crate::route::{self, Link, Route};
use crate::step::refused;

/// Of a link when nobody says otherwise: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// The machine's side of all networks, as it was when it was looked at: that of
/// the network namespace the caller is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub links: Vec<Link>,
    pub routes: Vec<Route>,
    /// Its links with addresses, but podlet's.
    pub outer: Vec<OuterLink>,
    /// Whether its kernel has IPv6, and it is not switched off.
    pub has_ipv6: bool,
}

impl Machine {
    pub(crate) fn look(socket: &mut Socket) -> Result<Machine> {
        let (links, routes) = (route::links(socket).map_err(refused)?, route::routes(socket).map_err(refused)?);
        Ok(Machine { links, routes, outer: outer_links(socket)?, has_ipv6: has_ipv6() })
    }

    /// The links that default routes are on.
    pub(crate) fn ways_out(&self) -> Vec<&Link> {
        let leads_out = |link: &&Link| {
            self.routes.iter().any(|route| route.to.prefix_len() == 0 && route.links.contains(&link.index))
        };
        self.links.iter().filter(leads_out).collect()
    }

    /// The link that leads to an address: that of the most exact route.
    pub(crate) fn way_to(&self, address: IpAddr) -> Option<&Link> {
        let leading = self.routes.iter().filter(|route| !route.links.is_empty() && route.to.contains(&address));
        let route = leading.max_by_key(|route| route.to.prefix_len())?;
        self.links.iter().find(|link| route.links.contains(&link.index))
    }

    /// What fits through each way out.
    pub(crate) fn mtu(&self) -> u32 {
        self.ways_out().iter().map(|link| link.mtu).min().unwrap_or(USUAL_MTU)
    }

    /// What a new network must not overlap. Default routes take nothing.
    pub(crate) fn taken(&self) -> Vec<IpNet> {
        self.routes.iter().map(|route| route.to).filter(|to| to.prefix_len() > 0).collect()
    }

    /// A route as an error names it: `10.90.0.0/16 via 192.0.2.1 dev eth0`.
    pub(crate) fn show_route(&self, route: &Route) -> String {
        let links = self.links.iter().filter(|link| route.links.contains(&link.index));
        let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
        links.fold(format!("{}{via}", route.to), |text, link| format!("{text} dev {}", link.name))
    }

    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// What the alias of each link begins with that podlet makes, of whatever store.
pub(crate) const OWN_ALIAS: &str = "podlet ";

/// A link of the machine by which others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OuterLink {
    pub index: u32,
    pub name: String,
    /// Whether pods' packets leave by it for the rest of the world, or for peers.
    pub is_way: bool,
    /// Whether it has addresses of IPv4.
    pub ipv4: bool,
    /// Whether it has some of IPv6 that are not for this link alone.
    pub ipv6: bool,
}

/// The links with addresses, without the loopback and those that podlet made. Each is
/// asked for alone: a machine may have hundreds without any.
pub(crate) fn outer_links(socket: &mut Socket) -> Result<Vec<OuterLink>> {
    let mut addresses = route::addresses(socket).map_err(refused)?;
    addresses.retain(|(_, address)| match address.addr() {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    });
    let mut indices: Vec<u32> = addresses.iter().map(|(index, _)| *index).collect();
    indices.sort_unstable();
    indices.dedup();
    let mut outer = Vec::new();
    for index in indices {
        // It may just have gone.
        let Some(link) = route::link_at(socket, index).map_err(refused)? else { continue };
        if link.name == "lo" || link.alias.is_some_and(|alias| alias.starts_with(OWN_ALIAS)) {
            continue;
        }
        let has = |is_v4| addresses.iter().any(|(of, address)| *of == index && address.addr().is_ipv4() == is_v4);
        outer.push(OuterLink { index, name: link.name, is_way: false, ipv4: has(true), ipv6: has(false) });
    }
    Ok(outer)
}

fn has_ipv6() -> bool {
    let switch = Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    std::fs::read_to_string(switch).is_ok_and(|off| off.trim() == "0")
}

/// Whether the caller may change the network namespace that it is in: whether it
/// has CAP_NET_ADMIN in the user namespace that owns it (ioctl_ns(2)).
pub(crate) fn may_change() -> bool {
    let has = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap_or(false);
    let is_own = || is_owned_by_caller(&File::open("/proc/thread-self/ns/net")?);
    has && is_own().unwrap_or(false)
}

/// Whether the network namespace belongs to the user namespace of the caller.
fn is_owned_by_caller(network: &impl AsRawFd) -> io::Result<bool> {
    Ok(identity(&asked(network, NS_GET_USERNS)?)? == identity(&own_user_namespace()?)?)
}

/// The user namespace to be entered by who is to have a network namespace of a pod's:
/// of those that it is in, the first one below the caller's. `None` if it belongs to
/// the caller's. pause can be traced from no other (`pod::plan::pod`), and its
/// namespaces be opened by nobody in them.
pub(crate) fn way_into(network: &impl AsRawFd) -> io::Result<Option<File>> {
    let own = identity(&own_user_namespace()?)?;
    let (mut below, mut next) = (None, asked(network, NS_GET_USERNS)?);
    while identity(&next)? != own {
        // EPERM where the caller's is none of those around it.
        let around = asked(&next, NS_GET_PARENT)?;
        below = Some(next);
        next = around;
    }
    Ok(below)
}

fn own_user_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/user")
}

fn identity(namespace: &File) -> io::Result<(u64, u64)> {
    namespace.metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// linux/nsfs.h: `_IO(0xb7, 0x1)`.
const NS_GET_USERNS: libc::Ioctl = 0xb701 as libc::Ioctl;
/// `_IO(0xb7, 0x2)`.
const NS_GET_PARENT: libc::Ioctl = 0xb702 as libc::Ioctl;

/// The namespace that owns one, or that is around it (ioctl_ns(2)).
#[allow(unsafe_code)] // nix has no ioctl of namespaces.
fn asked(namespace: &impl AsRawFd, what: libc::Ioctl) -> io::Result<File> {
    // SAFETY: no memory arguments.
    let found = unsafe { libc::ioctl(namespace.as_raw_fd(), what) };
    // It is close-on-exec from its first moment.
    match found {
        // SAFETY: the kernel just made it for us.
        0.. => Ok(unsafe { File::from_raw_fd(found) }),
        _ => Err(io::Error::last_os_error()),
    }
}
