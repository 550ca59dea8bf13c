//! What there is of a pod's networks: on the machine, in its firewall, in the pod.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ipnet::IpNet;
use netlink::{Family, Socket};
use pod::{Error, Result};

use super::listen::{Listener, listeners};
use crate::bridge;
use crate::config::NetworkConfig;
use crate::enter;
use crate::machine::Machine;
use crate::make::open;
use crate::networks::Networks;
use crate::nft::{self, ForwardChain, SeenRule};
use crate::pasta;
use crate::proc_net::{self, Interface};
use crate::record::{AttachedNetwork, Attachment};
use crate::route::{self, Link, Route};
use crate::setting::Setting;
use crate::step::refused;

/// Everything that is looked at.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// In the order of the pod's networks; `None` for one without a record, or of
    /// CNI.
    pub networks: Vec<Option<SeenNetwork>>,
    pub firewall: Firewall,
    /// `None` if it is not alive.
    pub pod: Option<SeenPod>,
}

/// A network on the machine.
#[derive(Debug, Clone)]
pub(super) struct SeenNetwork {
    pub config: NetworkConfig,
    pub bridge: Option<Link>,
    pub is_ours: bool,
    /// Addresses that the bridge should have, and has not.
    pub missing: Vec<IpNet>,
    /// Kernel parameters that should be so and are not, as sysctl(8) writes them.
    pub unset: Vec<String>,
    /// The links by which packets leave the machine.
    pub ways: Vec<String>,
    /// Those of them that let in only what would be answered through them.
    pub strict: Vec<String>,
    /// The machine's end of the pod's link.
    pub end: Option<Link>,
}

/// The machine's firewall.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    /// Which of the pod's ports, as their rules are listed, lead to it; `None` if
    /// our table is not there.
    pub published: Option<Vec<bool>>,
    /// Chains of our table that have lost rules.
    pub emptied: Vec<&'static str>,
    /// Chains of others that may stop what is forwarded, and the bridges of the
    /// pod's networks that no rule beside them names.
    pub foreign: Vec<(ForwardChain, Vec<String>)>,
    /// Chains of others that accept what is forwarded, but for what a rule drops that
    /// is not about some links alone.
    pub dropping: Vec<ForwardChain>,
    /// Rules of others that change where packets to ports of this machine go.
    pub sent_on: Vec<SeenRule>,
    /// iptables-legacy has rules for what is forwarded, which cannot be seen here.
    pub has_legacy: bool,
}

/// The pod's side.
#[derive(Debug, Clone)]
pub(super) struct SeenPod {
    pub links: Vec<Link>,
    pub addresses: Vec<(u32, IpNet)>,
    pub routes: Vec<Route>,
    pub listeners: Vec<Listener>,
}

/// The side of a pod that the caller may not enter.
#[derive(Debug, Clone)]
pub(super) struct SeenRootless {
    pub interface: Interface,
    pub listeners: Vec<Listener>,
}

impl SeenRootless {
    /// Of the pod with that pause.
    pub(super) fn of(pause: u32) -> Result<SeenRootless> {
        let interface = proc_net::interface(pause, pasta::INTERFACE)?;
        Ok(SeenRootless { interface, listeners: listeners(&proc_net::dir_of(pause)) })
    }
}

impl Networks {
    /// Looks at everything a pod's packets meet.
    pub(super) fn look(&self, attachment: &Attachment, namespace: Option<&OwnedFd>) -> Result<Seen> {
        let mut socket = open(Family::Route)?;
        let machine = Machine::look(&mut socket)?;
        let addresses = route::addresses(&mut socket).map_err(refused)?;
        let networks = attachment.networks.iter().map(|attached| self.look_at_network(attached, &machine, &addresses));
        let networks = networks.collect::<Result<Vec<_>>>()?;
        let firewall = self.look_at_firewall(attachment, &networks)?;
        let pod = namespace.map(|namespace| enter::inside(namespace.as_fd(), look_at_pod)).transpose()?;
        Ok(Seen { networks, firewall, pod })
    }

    fn look_at_network(
        &self,
        attached: &AttachedNetwork,
        machine: &Machine,
        addresses: &[(u32, IpNet)],
    ) -> Result<Option<SeenNetwork>> {
        if is_cni(&attached.name) {
            return Ok(None);
        }
        let network = match self.get(&attached.name) {
            Err(Error::NotFound(_)) => return Ok(None),
            network => network?,
        };
        let config = network.config().clone();
        let plan = self.plan(&network, machine);
        let bridge = machine.link(&config.bridge).cloned();
        let is_there = |address: &IpNet| {
            let index = bridge.as_ref().map(|bridge| bridge.index);
            addresses.iter().any(|(link, found)| Some(*link) == index && found == address)
        };
        let wanted = config.subnets.iter().filter_map(|net| IpNet::new(config.gateway(net), net.prefix_len()).ok());
        let missing = wanted.filter(|address| !is_there(address)).collect();
        let unset = plan.settings().filter(|setting| !setting.is_so()).chain(plan.forwarding());
        let unset = unset.map(|setting| setting.to_string()).collect();
        let is_strict = |way: &&str| {
            let filter = |link: &str| Setting::of_link("ipv4", link, "rp_filter", "1").now();
            // The higher of the two counts (ip-sysctl); 2 is the loose one.
            filter("all").max(filter(way)).as_deref() == Some("1")
        };
        let ways = plan.ways();
        Ok(Some(SeenNetwork {
            is_ours: bridge.as_ref().is_some_and(|link| bridge::check_own(link, &plan.alias).is_ok()),
            missing,
            unset,
            strict: ways.iter().filter(|way| is_strict(way)).map(|way| way.to_string()).collect(),
            ways: ways.iter().map(|way| way.to_string()).collect(),
            end: machine.link(&attached.host_interface).cloned(),
            bridge,
            config,
        }))
    }

    fn look_at_firewall(&self, attachment: &Attachment, networks: &[Option<SeenNetwork>]) -> Result<Firewall> {
        let mut socket = open(Family::Netfilter)?;
        let ours = self.table_name();
        let rules = attachment.port_rules(&attachment.ports);
        let published = nft::published(&mut socket, &ours, &rules).map_err(refused)?;
        let seen = nft::rules(&mut socket).map_err(refused)?;
        let is_whole = |name: &str, rules: usize| {
            seen.iter().filter(|rule| rule.table == ours && rule.chain == name).count() >= rules
        };
        let wanted = self.table()?;
        let emptied = wanted.chains.iter().filter(|chain| !is_whole(chain.name, chain.rules.len()));
        let emptied = emptied.map(|chain| chain.name).collect();
        let bridges: Vec<_> = networks.iter().flatten().map(|network| network.config.bridge.as_str()).collect();
        let (stopping, others): (Vec<_>, Vec<_>) = foreign_chains(&mut socket)?.into_iter().partition(stops_the_rest);
        let drops = |chain: &ForwardChain| seen.iter().any(|rule| rule.is_in(chain) && rule.drops && !rule.is_of_links);
        Ok(Firewall {
            published,
            emptied,
            foreign: stopping.into_iter().map(|chain| with_unnamed(chain, &seen, &bridges)).collect(),
            dropping: others.into_iter().filter(drops).collect(),
            has_legacy: has_legacy_filter(),
            sent_on: seen
                .into_iter()
                .filter(|rule| rule.sends_on.is_some() && !nft::is_of_podlet(&rule.table))
                .collect(),
        })
    }

    /// [`Firewall::foreign`], for the bridges of a pod's own networks.
    pub(super) fn look_at_foreign(&self, attachment: &Attachment) -> Result<Vec<(ForwardChain, Vec<String>)>> {
        let networks = attachment.own().map(|attached| self.get(&attached.name)).collect::<Result<Vec<_>>>()?;
        let bridges: Vec<_> = networks.iter().map(|network| network.config().bridge.as_str()).collect();
        self.netfilter(|socket| {
            let mut stopping = foreign_chains(socket)?;
            stopping.retain(stops_the_rest);
            // Most machines have none, and no rules to be looked at.
            let seen = if stopping.is_empty() { Vec::new() } else { nft::rules(socket).map_err(refused)? };
            Ok(stopping.into_iter().map(|chain| with_unnamed(chain, &seen, &bridges)).collect())
        })
    }
}

/// Chains of others that are asked about packets of pods.
fn foreign_chains(socket: &mut Socket) -> Result<Vec<ForwardChain>> {
    let mut chains = nft::forward_chains(socket).map_err(refused)?;
    chains.retain(|chain| chain.family().is_some() && !nft::is_of_podlet(&chain.table));
    Ok(chains)
}

/// Whether a chain stops what none of its rules accepts.
fn stops_the_rest(chain: &ForwardChain) -> bool {
    // firewalld's accepts by its policy, and rejects by its last rule.
    chain.drops || chain.table == "firewalld"
}

/// A chain, and those of the bridges that no rule beside it names.
fn with_unnamed(chain: ForwardChain, seen: &[SeenRule], bridges: &[&str]) -> (ForwardChain, Vec<String>) {
    let is_named = |bridge: &&&str| seen.iter().any(|rule| rule.names_link(&chain, bridge));
    let unnamed = bridges.iter().filter(|bridge| !is_named(bridge)).map(ToString::to_string).collect();
    (chain, unnamed)
}

/// Whether plugins of others made it.
pub(super) fn is_cni(network: &str) -> bool {
    network.starts_with("cni:")
}

/// iptables-legacy's tables of this network namespace are listed in files.
fn has_legacy_filter() -> bool {
    let names = |file: &str| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
    ["ip_tables_names", "ip6_tables_names"].iter().any(|file| names(file).lines().any(|table| table == "filter"))
}

/// By a thread that is in the pod's namespace.
fn look_at_pod() -> Result<SeenPod> {
    let mut socket = open(Family::Route)?;
    Ok(SeenPod {
        links: route::links(&mut socket).map_err(refused)?,
        addresses: route::addresses(&mut socket).map_err(refused)?,
        routes: route::routes(&mut socket).map_err(refused)?,
        listeners: listeners(Path::new("/proc/thread-self/net")),
    })
}
