//! A pod's interfaces in networks of our own: a pair of links each, whose inner end
//! is born in the pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink::{Family, Socket};
use nix::errno::Errno;
use pod::{Error, Result};

use crate::bridge::{Plan, mac_of_any};
use crate::config::address_at;
use crate::enter;
use crate::machine::Machine;
use crate::make::open;
use crate::manage::DEFAULT;
use crate::networks::{Networks, StoredNetwork};
use crate::record::{AttachedNetwork, Attachment, cni_name};
use crate::request::NetworkRequest;
use crate::route::{self, RouteTo, Veth, VethEnd, show_mac};
use crate::setting::Setting;
use crate::step::{self, Step, refused};

impl Networks {
    /// Makes the interfaces of a record in these networks.
    pub(crate) fn make_interfaces(
        &self,
        networks: &[StoredNetwork],
        attachment: &Attachment,
        namespace: &OwnedFd,
        socket: &mut Socket,
    ) -> Result<()> {
        let mut ends = Vec::new();
        for (network, attached) in networks.iter().zip(attachment.own()) {
            let gone = || Error::state(format!("network {}", attached.name), "has no bridge: `podlet network reload`");
            // Asked for alone: a machine may have hundreds of links.
            let bridge = route::link_named(socket, &network.config().bridge).map_err(refused)?.ok_or_else(gone)?;
            let end = PodEnd { mtu: bridge.mtu, is_first: attached.is_first(), attached };
            let outside = end.outside((bridge.index, &bridge.name), namespace, network.config().isolated)?;
            perform_anew(socket, &outside, &attached.host_interface)?;
            ends.push(end);
        }
        enter::inside(namespace.as_fd(), || {
            let mut socket = open(Family::Route)?;
            ends.iter().try_for_each(|end| {
                let index = end.index(&mut socket)?;
                step::perform(&mut socket, &end.inside(index))
            })
        })
    }

    /// The steps by which [`attach`](Networks::attach) would put a pod into the
    /// network, a line each, with addresses that it did not take: as ip(8),
    /// sysctl(8) and nft(8) have it. A network that is not made yet is, before.
    ///
    /// # Errors
    /// As there, for what is found before something is made.
    pub fn plan_attach(&self, request: &NetworkRequest) -> Result<String> {
        if let Some(name) = cni_name(&request.name) {
            let line = |plugin| format!("{plugin} ADD # CNI network {name}\n");
            return Ok(self.conflist(name)?.plugin_types().map(line).collect::<String>().trim_end().into());
        }
        let mut socket = open(Family::Route)?;
        let (network, mut text) = match self.get(&request.name) {
            Ok(network) => match self.is_made(&mut socket, &network)? {
                Some(_) => (network, String::new()),
                None => (network.clone(), self.plan_make(&network)?),
            },
            Err(Error::NotFound(_)) if request.name == DEFAULT => {
                let network = self.plan_default()?;
                (network.clone(), self.plan_make(&network)?)
            }
            Err(error) => return Err(error),
        };
        let config = network.config();
        let address = |subnet: &IpNet| {
            let said = request.addresses.iter().copied().find(|address| subnet.contains(address));
            IpNet::new(said.unwrap_or_else(|| address_at(subnet, 2)), subnet.prefix_len()).ok()
        };
        let mut attached = AttachedNetwork::new(config, 0, "ID");
        attached.addresses = config.subnets.iter().filter_map(address).collect();
        let first = attached.addresses.first().map(IpNet::addr);
        attached.mac = show_mac(request.mac.unwrap_or_else(|| mac_of_any(first)));
        let machine = Machine::look(&mut socket)?;
        let mtu = Plan { config, machine: &machine, alias: String::new() }.mtu();
        let end = PodEnd { mtu, is_first: true, attached: &attached };
        // Nothing is done by it, so any descriptor serves.
        let namespace =
            OwnedFd::from(std::fs::File::open("/dev/null").map_err(|error| Error::failed("planning", error))?);
        let outside = end.outside((0, &config.bridge), &namespace, config.isolated)?;
        text.extend(outside.iter().chain(&end.inside(0)).map(|step| format!("{step}\n")));
        Ok(text.trim_end().into())
    }
}

/// Of a pod that is about to end: a connection whose other side does not answer keeps
/// the namespace, and with it the link and the address, for a minute and a half after
/// the last process, unless it is given up sooner (tcp(7), `tcp_orphan_retries`).
pub(crate) fn let_connections_go(namespace: &OwnedFd) -> Result<()> {
    enter::inside(namespace.as_fd(), || Setting::new("ipv4/tcp_orphan_retries", "1").set())
}

/// Sets kernel parameters of a pod's interfaces.
///
/// # Errors
/// [`Error::Invalid`] for one that the kernel does not know or take.
pub(crate) fn set(namespace: &OwnedFd, sysctls: &BTreeMap<String, String>) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    enter::inside(namespace.as_fd(), || {
        sysctls.iter().try_for_each(|(name, value)| match Setting::named(name, value)?.set() {
            Err(Error::Os { errno, .. }) if errno == Errno::ENOENT.into() => {
                Err(Error::invalid("sysctl", name, "this kernel has no such parameter of an interface"))
            }
            Err(Error::Os { errno, .. }) if errno == Errno::EINVAL.into() => {
                Err(Error::invalid("sysctl", name, format!("the kernel does not take {value:?}: give another value")))
            }
            set => set,
        })
    })
}

/// Does the steps that make a link, in place of one of that name, which is of the
/// pod's life before: its namespace goes some milliseconds after the pod, and where
/// the pod is in a CNI network, too, only when its path does.
fn perform_anew(socket: &mut Socket, steps: &[Step], link: &str) -> Result<()> {
    match step::perform(socket, steps) {
        Err(Error::Os { errno, .. }) if errno == Errno::EEXIST.into() => {}
        done => return done,
    }
    match step::perform(socket, &[route::delete_link(link).into()]) {
        Err(Error::Os { errno, .. }) if errno == Errno::ENODEV.into() => {}
        deleted => deleted?,
    }
    step::perform(socket, steps)
}

/// An interface of a pod, from which its steps follow.
struct PodEnd<'a> {
    mtu: u32,
    is_first: bool,
    attached: &'a AttachedNetwork,
}

impl PodEnd<'_> {
    /// The steps on the machine's side.
    fn outside(&self, bridge: (u32, &str), namespace: &OwnedFd, isolated: bool) -> Result<Vec<Step>> {
        let AttachedNetwork { interface, host_interface, mac, .. } = self.attached;
        let mac = route::parse_mac(mac)?;
        let pair = Veth {
            host: VethEnd { name: host_interface.clone(), mac: None },
            bridge,
            pod: VethEnd { name: interface.clone(), mac: Some(mac) },
            pod_namespace: namespace.as_fd(),
            mtu: self.mtu,
        };
        let mut steps = vec![route::veth(&pair).into(), route::port_options(host_interface, isolated).into()];
        if self.has_ipv6() {
            steps.push(route::no_address_of_its_own(host_interface).into());
        }
        Ok(steps)
    }

    /// Whether the kernel has IPv6 for links of this size.
    fn has_ipv6(&self) -> bool {
        self.mtu >= 1280 && Setting::of_link("ipv6", "all", "accept_ra", "0").is_known()
    }

    /// Its number in the pod, whose namespace the socket is in.
    fn index(&self, socket: &mut Socket) -> Result<u32> {
        let interface = &self.attached.interface;
        let gone = || Error::state(format!("link {interface}"), "was taken out of the pod as it was made");
        route::link_named(socket, interface).map_err(refused)?.map(|link| link.index).ok_or_else(gone)
    }

    /// The steps in the pod.
    fn inside(&self, index: u32) -> Vec<Step> {
        let AttachedNetwork { interface, addresses, gateways, .. } = self.attached;
        let mut steps = Vec::new();
        let of_ipv6 = |name, value| Setting::of_link("ipv6", interface, name, value).into();
        // The same of all links, and of this one only where it is: IPv6 takes this room
        // (RFC 8200, section 5).
        if self.has_ipv6() {
            // A pod-mate on the bridge could say that it is the router, and of a network
            // without IPv6, too.
            steps.push(of_ipv6("accept_ra", "0"));
            if !addresses.iter().any(|address| address.addr().is_ipv6()) {
                steps.push(of_ipv6("disable_ipv6", "1"));
            }
        }
        steps.push(route::set_up(index, interface).into());
        // The pod's own sysctls may have switched IPv6 off, as new links are told.
        let is_off = Setting::of_link("ipv6", "default", "disable_ipv6", "1").is_so();
        let is_usable = |address: &IpAddr| address.is_ipv4() || !is_off;
        let addresses = addresses.iter().filter(|address| is_usable(&address.addr()));
        steps.extend(addresses.map(|address| route::add_address(index, interface, *address).into()));
        if self.is_first {
            let link = Some((index, interface.clone()));
            let default = |via: &IpAddr| {
                // An address alone would be a net of its own, /32.
                let any = if via.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
                RouteTo { to: any, via: Some(*via), link: link.clone(), is_onlink: false }
            };
            let gateways = gateways.iter().filter(|via| is_usable(via));
            steps.extend(gateways.map(|via| route::add_route(&default(via)).into()));
        }
        steps
    }
}
