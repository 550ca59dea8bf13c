//! `podlet network`: networks of pods.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use net::check::Verdict;
use net::config::{Peer, Way, parse_subnet};
use net::{CniNetwork, NetworkOptions, Networks};
use pod::{Error, Pod, Store};
use serde_json::json;

use super::net::{NOT_ALLOWED, check_given, missing, say};
use crate::output::{self, Format};

/// Make, show and remove networks of pods
#[derive(Args)]
pub struct Network {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a network: a bridge of this machine, and addresses for its pods
    Create(Box<Create>),
    /// List the networks, and CNI networks of this machine
    Ls(Ls),
    /// Print all there is to know of networks, and who is in them, as JSON
    Inspect(Inspect),
    /// Remove networks that no pod is in
    Rm(Rm),
    /// Remove all networks that no pod is in, bridges whose record was lost, and what CNI plugins keep for pods that are gone
    Prune,
    /// Make bridges, routes and firewall rules anew, from what is recorded: after somebody flushed them, or the
    /// machine got another link or way out; start pasta again where it has ended; and have CNI plugins take back what
    /// they keep for pods that are gone
    Reload,
    /// Show how packets get to a pod's ports and out of it, where they would stop, and the cure; exit code 1 if they
    /// do
    Check(Check),
}

#[derive(Args)]
struct Create {
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
    /// From which its pods have their addresses: one of IPv4, one of IPv6, or one of each [default: free ones]
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// The bridge's address in a subnet [default: its first]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// The name of its bridge [default: podlet0, podlet1...]
    #[arg(long, value_name = "NAME")]
    bridge: Option<String>,
    /// The most bytes of a packet [default: as the machine's way out has it]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(68..=65535))]
    mtu: Option<u32>,
    /// Nothing leads out of it
    #[arg(long)]
    internal: bool,
    /// Its pods do not reach one another, nor those of other networks
    #[arg(long)]
    isolated: bool,
    /// Another machine of the same flat network and its pods' subnets, by commas
    #[arg(long, value_name = "ADDRESS=SUBNET,...")]
    peer: Vec<String>,
    /// Reach peers by a tunnel of this identifier (VXLAN), not by plain routes
    #[arg(long, value_name = "ID", requires = "peer", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=16_777_215))]
    vxlan: Option<u32>,
}

#[derive(Args)]
struct Ls {
    /// How
    #[arg(long, default_value = "table", conflicts_with = "quiet")]
    format: Format,
    /// Print names only, of networks that podlet made
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
struct Inspect {
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

#[derive(Args)]
struct Rm {
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

#[derive(Args)]
struct Check {
    #[arg(value_name = "POD")]
    pod: String,
}

impl Network {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let networks = Networks::open(store);
        match &self.command {
            Command::Create(create) => create.run(&networks),
            Command::Ls(ls) => ls.run(&networks),
            Command::Inspect(inspect) => inspect.run(&networks),
            Command::Rm(rm) => each(&rm.names, |name| {
                // Where there are no networks nothing is made for them. A damaged record is
                // removed, too.
                check_own(name, &networks)?;
                match networks.get(name) {
                    Err(Error::Corrupt { .. }) => {}
                    found => drop(found.map_err(missing)?),
                }
                Ok(networks.unmake(&networks.changing()?, name)?)
            }),
            Command::Prune => {
                networks.prune()?.iter().try_for_each(output::line)?;
                say(&networks.collect_cni()?);
                Ok(0)
            }
            Command::Reload => {
                if !networks.names()?.is_empty() {
                    say(&networks.reload(&networks.changing()?)?);
                }
                for pod in networks.restore_all_pasta()? {
                    output::note(format_args!("note: pod {pod} has pasta again"));
                }
                say(&networks.collect_cni()?);
                Ok(0)
            }
            Command::Check(check) => {
                let findings = networks.check(&Pod::open(store, &check.pod)?)?;
                findings.iter().try_for_each(output::line)?;
                Ok(findings.iter().any(|finding| finding.verdict == Verdict::Stops).into())
            }
        }
    }
}

/// Refuses to make or remove what others do.
fn check_own(name: &str, networks: &Networks) -> Result<()> {
    if name.starts_with("cni:") {
        bail!("network {name:?}: a CNI network is a file in {}: write or remove that", cni_place(networks));
    }
    Ok(())
}

/// Where CNI networks are.
fn cni_place(networks: &Networks) -> String {
    let dirs: Vec<_> = networks.cni_dirs().configs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(" or ")
}

/// All of them, also after one that cannot be.
fn each(names: &[String], act: impl Fn(&str) -> Result<()>) -> Result<u8> {
    let failed = names.iter().filter(|name| act(name).inspect_err(|error| output::note(error)).is_err()).count();
    Ok(if failed == 0 { 0 } else { crate::FAILED })
}

impl Create {
    fn check_values(&self) -> Result<()> {
        check_given("network", &self.name)?;
        let lists = [("--subnet", &self.subnet), ("--gateway", &self.gateway), ("--peer", &self.peer)];
        let values = lists.into_iter().flat_map(|(option, values)| values.iter().map(move |value| (option, value)));
        values
            .chain(self.bridge.iter().map(|bridge| ("--bridge", bridge)))
            .try_for_each(|(option, value)| check_given(option, value))
    }

    fn run(&self, networks: &Networks) -> Result<u8> {
        check_own(&self.name, networks)?;
        self.check_values()?;
        let mut options = NetworkOptions::new(&self.name);
        options.bridge = self.bridge.clone();
        options.subnets = self.subnet.iter().map(|subnet| parse_subnet(subnet)).collect::<Result<_, _>>()?;
        options.gateways = self.gateway.iter().map(|gateway| parse_gateway(gateway)).collect::<Result<_>>()?;
        (options.mtu, options.internal, options.isolated) = (self.mtu, self.internal, self.isolated);
        let way = self.vxlan.map_or(Way::Underlay, |vni| Way::Vxlan { vni });
        options.peers = self.peer.iter().map(|peer| parse_peer(peer, way)).collect::<Result<_>>()?;
        if !net::may_make() {
            bail!("network {}: {NOT_ALLOWED}", self.name);
        }
        let (network, notes) = networks.create_network(&options)?;
        say(&notes);
        let name = &network.config().name;
        output::line(name).with_context(|| format!("network {name} is made; only its name could not be printed"))?;
        Ok(0)
    }
}

fn parse_gateway(text: &str) -> Result<IpAddr> {
    let reason = "no address: give one of the subnet alone, such as 10.89.0.1";
    Ok(text.parse().map_err(|_| Error::invalid("gateway", text, reason))?)
}

fn parse_peer(text: &str, way: Way) -> Result<Peer> {
    let syntax = "give ADDRESS=SUBNET, such as 192.0.2.7=10.90.0.0/24";
    let Some((via, subnets)) = text.split_once('=') else { bail!("--peer {text:?}: {syntax}") };
    let Ok(via) = via.parse() else { bail!("--peer {text:?}: {via:?} is no address: {syntax}") };
    let subnets = subnets.split(',').map(parse_subnet).collect::<Result<Vec<IpNet>, _>>();
    let subnets = subnets.with_context(|| format!("--peer {text:?}"))?;
    Ok(Peer { via, subnets, way })
}

impl Ls {
    fn run(&self, networks: &Networks) -> Result<u8> {
        let found = networks.list()?;
        for name in networks.names()? {
            if let Err(error @ Error::Corrupt { .. }) = networks.get(&name) {
                output::note(format_args!("{error}; `podlet network rm {name}` removes the network"));
            }
        }
        if self.quiet {
            found.iter().try_for_each(|network| output::line(&network.config().name))?;
            return Ok(0);
        }
        let (cni, notes) = networks.cni_networks()?;
        say(&notes);
        if self.format == Format::Json {
            let own = found.iter().map(|network| serde_json::to_value(network.config()));
            let all: Vec<_> = own.chain(cni.iter().map(serde_json::to_value)).collect::<Result<_, _>>()?;
            output::line(serde_json::to_string_pretty(&all)?)?;
            return Ok(0);
        }
        let mut rows = vec![["NETWORK", "BRIDGE", "SUBNETS", "PODS"].map(String::from).to_vec()];
        for network in &found {
            let config = network.config();
            let subnets: Vec<_> = config.subnets.iter().map(ToString::to_string).collect();
            let pods = pods(&network.leases().holders()?).len();
            rows.push(vec![config.name.clone(), config.bridge.clone(), subnets.join(" "), pods.to_string()]);
        }
        for network in &cni {
            let pods = network.pods.len().to_string();
            rows.push(vec![network.name.clone(), network.plugins.join("+"), String::new(), pods]);
        }
        output::table(&rows)?;
        Ok(0)
    }
}

impl Inspect {
    fn run(&self, networks: &Networks) -> Result<u8> {
        let mut all = Vec::new();
        for name in &self.names {
            if name.starts_with("cni:") {
                all.push(serde_json::to_value(cni_network(name, networks)?)?);
                continue;
            }
            let network = networks.get(name).map_err(missing)?;
            let mut json = serde_json::to_value(network.config())?;
            let leases = network.leases().holders()?;
            let pods = pods(&leases).into_iter().map(|(pod, id)| {
                let own = leases.iter().filter(|lease| lease.holder.id == id);
                json!({ "pod": pod, "id": id, "addresses": own.map(|lease| lease.address).collect::<Vec<_>>() })
            });
            json["pods"] = pods.collect();
            json["table"] = networks.table_name().into();
            all.push(json);
        }
        output::line(serde_json::to_string_pretty(&all)?)?;
        Ok(0)
    }
}

fn cni_network(name: &str, networks: &Networks) -> Result<CniNetwork> {
    let (found, _) = networks.cni_networks()?;
    let network = found.into_iter().find(|network| network.name == *name);
    network
        .with_context(|| format!("no such network {name} in {}: `podlet network ls` lists them", cni_place(networks)))
}

/// Names and ids of the pods that have addresses, each once.
fn pods(leases: &[net::lease::Lease]) -> Vec<(&str, &str)> {
    let mut pods: Vec<_> = leases.iter().map(|lease| (lease.holder.pod.as_str(), lease.holder.id.as_str())).collect();
    pods.sort_unstable();
    pods.dedup();
    pods
}
