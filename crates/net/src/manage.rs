//! Making and removing networks as a user does: what nobody said is chosen, and
//! what is in the way on this machine is found before anything is made.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::Family;
use pod::{Error, Result};

use crate::bridge::peer_routes;
use crate::config::{NetworkConfig, Peer, choose_bridge, choose_subnets, overlap};
use crate::machine::Machine;
use crate::make::{Notes, open};
use crate::networks::{Changing, Networks, StoredNetwork};
use crate::route::Route;

/// The network of pods for which nobody names one.
pub const DEFAULT: &str = "podlet";

/// What a network is to be, as far as somebody says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkOptions {
    /// Its name.
    pub name: String,
    /// The name of its bridge; the first of podlet0, podlet1… that is free if `None`.
    pub bridge: Option<String>,
    /// At most one of IPv4 and one of IPv6; one of each that nothing else has if
    /// there is none, of IPv6 only where the machine has that.
    pub subnets: Vec<IpNet>,
    /// As [`NetworkConfig::gateways`].
    pub gateways: Vec<IpAddr>,
    /// As [`NetworkConfig::mtu`].
    pub mtu: Option<u32>,
    /// As [`NetworkConfig::internal`].
    pub internal: bool,
    /// As [`NetworkConfig::isolated`].
    pub isolated: bool,
    /// As [`NetworkConfig::peers`].
    pub peers: Vec<Peer>,
}

impl NetworkOptions {
    /// A network of that name, and all else chosen.
    pub fn new(name: impl Into<String>) -> NetworkOptions {
        NetworkOptions { name: name.into(), ..NetworkOptions::default() }
    }
}

impl Networks {
    /// Makes a network: records it, and makes what the kernel should have of it.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::Invalid`] for what is wrong with it or in the
    /// way on this machine; [`Error::Os`] as
    /// [`make`](Networks::make). Nothing is left of it then.
    pub fn create_network(&self, options: &NetworkOptions) -> Result<(StoredNetwork, Notes)> {
        let changing = self.changing()?;
        self.create_changing(&changing, options)
    }

    fn create_changing(&self, changing: &Changing, options: &NetworkOptions) -> Result<(StoredNetwork, Notes)> {
        let machine = Machine::look(&mut open(Family::Route)?)?;
        let others = self.list_recorded()?;
        if others.iter().any(|other| other.config().name == options.name) {
            return Err(Error::Exists(format!("network {}", options.name)));
        }
        let config = complete(options, &machine, &others)?;
        // A link in the way is found here, while nothing is recorded.
        self.plan(&self.stored(config.clone()), &machine).steps()?;
        let network = self.create(changing, &config).inspect_err(|_| {
            self.tidy(changing).ok();
        })?;
        match self.make(changing, &network) {
            Ok(notes) => Ok((network, notes)),
            Err(error) => {
                // What went wrong first is what will be told.
                self.unmake(changing, &config.name).ok();
                Err(error)
            }
        }
    }

    /// The network [`DEFAULT`], made if it is missing.
    ///
    /// # Errors
    /// As [`create_network`](Networks::create_network).
    pub fn default_network(&self) -> Result<(StoredNetwork, Notes)> {
        let found = |networks: &Networks| match networks.get(DEFAULT) {
            Err(Error::NotFound(_)) => Ok(None),
            found => found.map(Some),
        };
        if let Some(network) = found(self)? {
            return Ok((network, Notes::default()));
        }
        let changing = self.changing()?;
        // Another program may have been faster.
        match found(self)? {
            Some(network) => Ok((network, Notes::default())),
            None => self.create_changing(&changing, &NetworkOptions::new(DEFAULT)),
        }
    }

    /// The default network as it would be made.
    pub(crate) fn plan_default(&self) -> Result<StoredNetwork> {
        let machine = Machine::look(&mut open(Family::Route)?)?;
        Ok(self.stored(complete(&NetworkOptions::new(DEFAULT), &machine, &self.list_recorded()?)?))
    }

    /// Removes all networks that no pod is in, with those whose record was lost, and
    /// tells their names.
    ///
    /// # Errors
    /// As [`unmake`](Networks::unmake), of the first that cannot be removed.
    pub fn prune(&self) -> Result<Vec<String>> {
        let changing = self.changing()?;
        let mut lost = self.remove_unrecorded(&changing)?;
        let mut removed = Vec::new();
        for network in self.list_recorded()? {
            self.reclaim(&network)?;
            if network.leases().holders()?.is_empty() {
                self.unmake(&changing, &network.config().name)?;
                removed.push(network.config().name.clone());
            }
        }
        // With the last network went its directory, and the lock in it.
        if removed.is_empty() || !self.names()?.is_empty() {
            self.tidy_with_ports(&changing)?;
        }
        lost.extend(removed);
        Ok(lost)
    }
}

/// What was said, what was chosen for the rest, and that nothing of this machine is
/// in the way.
fn complete(options: &NetworkOptions, machine: &Machine, others: &[StoredNetwork]) -> Result<NetworkConfig> {
    let mut taken = machine.taken();
    taken.extend(others.iter().flat_map(|other| other.config().subnets.clone()));
    let mut links: Vec<String> = machine.links.iter().map(|link| link.name.clone()).collect();
    links.extend(others.iter().map(|other| other.config().bridge.clone()));
    let subnets = match options.subnets.is_empty() {
        false => options.subnets.clone(),
        true => {
            let (v4, v6) = choose_subnets(&taken)?;
            let v6 = machine.has_ipv6.then_some(v6.into());
            [v4.into()].into_iter().chain(v6).collect()
        }
    };
    let bridge = options.bridge.clone().unwrap_or_else(|| choose_bridge(&links));
    let mut config = NetworkConfig::new(&options.name, bridge, subnets);
    config.gateways = options.gateways.clone();
    (config.mtu, config.internal, config.isolated) = (options.mtu, options.internal, options.isolated);
    config.peers = options.peers.clone();
    config.check()?;
    if config.families().1.is_some() && !machine.has_ipv6 {
        let reason = "this machine has no IPv6, or it is switched off (net.ipv6.conf.all.disable_ipv6)";
        return Err(Error::invalid("subnet", config.families().1.map(ToString::to_string).unwrap_or_default(), reason));
    }
    check_routes(&config, machine)?;
    Ok(config)
}

/// Checks that no route of this machine leads to addresses of the network's, or of
/// its peers'. One to a peer that is as podlet would make it is as good.
fn check_routes(config: &NetworkConfig, machine: &Machine) -> Result<()> {
    let in_the_way = |subnet: IpNet| {
        machine.routes.iter().filter(move |route| route.to.prefix_len() > 0 && overlap(&route.to, &subnet))
    };
    let has = |route| format!("this machine has the route {} already", machine.show_route(route));
    for subnet in &config.subnets {
        if let Some(route) = in_the_way(*subnet).next() {
            let reason = format!("{}: give another subnet, or none", has(route));
            return Err(Error::invalid("subnet", subnet.to_string(), reason));
        }
    }
    let ways = peer_routes(config);
    for peer in &config.peers {
        let is_ours = |route: &&Route| ways.iter().any(|way| way.is_same(route));
        for subnet in &peer.subnets {
            if let Some(route) = in_the_way(*subnet).find(|route| !is_ours(route)) {
                let reason = format!("{}: remove that, or give the peer other subnets", has(route));
                return Err(Error::invalid("peer", format!("{}={subnet}", peer.via), reason));
            }
        }
    }
    Ok(())
}

/// Whether the caller may make networks here: CAP_NET_ADMIN over the network
/// namespace that it is in.
pub fn may_make() -> bool {
    crate::machine::may_change()
}
