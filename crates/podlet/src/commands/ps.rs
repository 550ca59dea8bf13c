//! `podlet ps`: what there is.

mod tree;

use std::time::SystemTime;

use anyhow::{Result, bail};
use clap::Args;
use net::{Attachment, Networks};
use pod::{ContainerState, ContainerSummary, Error, ExitStatus, Pod, PodState, PodStatus, PodSummary, Store};

use super::filter::Filters;
use super::net::{attachment, pasta_of, shown};
use super::supervise;
use crate::output::{self, Format};
use crate::target;

/// List pods and their containers
#[derive(Args)]
pub struct Ps {
    /// Also pods and containers that have ended
    #[arg(short, long)]
    all: bool,
    /// How
    #[arg(long, default_value = "table", conflicts_with = "quiet")]
    format: Format,
    /// Print names only, as every command takes them
    #[arg(short, long)]
    quiet: bool,
    /// Only what has name=PART, pod=NAME, label=K[=V], status=created|running|paused|exited or exited=CODE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Pods with their containers below them, and why these ended
    #[arg(long, conflicts_with = "quiet")]
    tree: bool,
    /// Whole commands, however long
    #[arg(long)]
    no_trunc: bool,
}

impl Ps {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let filters = Filters::parse(&self.filter)?;
        let all = self.all || filters.ask_for_ended();
        if self.format == Format::Json {
            if self.tree {
                bail!("--tree: JSON is a tree already: leave one of --tree and --format json away");
            }
            let pods = Pod::list(store)?.into_iter();
            let statuses = pods.map(|pod| {
                let pod = pod?;
                supervise::tend(&pod, store);
                pod.status()
            });
            let mut statuses: Vec<PodStatus> = readable(statuses);
            if !all {
                statuses.retain(|pod| pod.state != PodState::Exited);
                for pod in &mut statuses {
                    pod.containers.retain(|container| container.state.is_alive());
                }
            }
            filters.apply(&mut statuses, |pod| (&pod.name, &pod.labels, &mut pod.containers));
            let networks = Networks::open(store);
            let shown: Vec<_> = statuses.iter().map(|pod| shown(pod, &networks)).collect();
            output::line(serde_json::to_string_pretty(&shown)?)?;
            return Ok(0);
        }
        let mut pods = readable(Pod::summaries(store, all)?);
        for pod in pods.iter().filter(|pod| pod.containers.iter().any(|container| container.lacks_copier)) {
            // It may have ended meanwhile.
            Pod::open(store, &pod.name).iter().for_each(target::tend);
        }
        for pod in pods.iter().filter(|pod| pod.lacks_supervisor) {
            Pod::open(store, &pod.name).iter().for_each(|pod| supervise::tend(pod, store));
        }
        filters.apply(&mut pods, |pod| (&pod.name, &pod.labels, &mut pod.containers));
        match self.quiet {
            true => names(&pods)?,
            false => {
                let networks = Networks::open(store);
                let attached: Vec<_> = pods.iter().map(|pod| show_network(pod, &networks)).collect();
                let most = if self.no_trunc { usize::MAX } else { MOST };
                output::table(&if self.tree { tree::rows } else { rows }(&pods, &attached, most))?;
            }
        }
        Ok(0)
    }
}

/// A pod that cannot be read must not hide the others.
fn readable<T>(pods: impl IntoIterator<Item = Result<T, Error>>) -> Vec<T> {
    let said = |pod: Result<T, Error>| pod.inspect_err(|error| output::note(error)).ok();
    pods.into_iter().filter_map(said).collect()
}

/// Longer commands would push everything else off the screen.
const MOST: usize = 40;

/// A pod without containers is named itself.
fn names(pods: &[PodSummary]) -> Result<()> {
    for pod in pods {
        let names = pod.containers.iter().map(|container| target::show(&pod.name, &container.name));
        let alone = pod.containers.is_empty().then(|| pod.name.clone());
        names.chain(alone).try_for_each(output::line)?;
    }
    Ok(())
}

/// Where no pod is in a network, nobody is shown empty columns of addresses.
fn rows(pods: &[PodSummary], networks: &[Option<[String; 2]>], most: usize) -> Vec<Vec<String>> {
    let is_wide = networks.iter().any(Option::is_some);
    let row = |first: [String; 5], network: &[String; 2], command: String| {
        let network = network.iter().filter(|_| is_wide).cloned();
        first.into_iter().chain(network).chain([command]).collect::<Vec<_>>()
    };
    let header = ["POD", "CONTAINER", "PID", "STATE", "STARTED"].map(String::from);
    let mut rows = vec![row(header, &["ADDRESSES", "PORTS"].map(String::from), "COMMAND".into())];
    for (pod, network) in pods.iter().zip(networks) {
        let network = network.clone().unwrap_or(["-", "-"].map(String::from));
        let state = match pod.state {
            PodState::Running => "running",
            PodState::Paused => "paused",
            _ => "exited",
        };
        let pid = pod.pause.map_or("-".into(), |pid| pid.to_string());
        if pod.containers.is_empty() {
            rows.push(row([pod.name.clone(), "-".into(), pid, state.into(), ago(pod.created)], &network, "".into()));
        }
        for container in &pod.containers {
            let first = [
                pod.name.clone(),
                container.name.clone(),
                container.pid.map_or("-".into(), |pid| pid.to_string()),
                show_state(container),
                ago(container.started.unwrap_or(container.created)),
            ];
            rows.push(row(first, &network, shorten(&container.command.join(" "), most)));
        }
    }
    rows
}

/// What a pod has of networks, in two columns; `None` if it is in none.
fn show_network(pod: &PodSummary, networks: &Networks) -> Option<[String; 2]> {
    if pod.host_network {
        return Some(["host", "-"].map(String::from));
    }
    let attached = attachment(&pod.name, networks)?;
    let has_lost_pasta = || pod.pause.is_some() && pasta_of(&pod.name, networks).is_none();
    Some(match attached.has_pasta() && has_lost_pasta() {
        true => ["pasta (ended)", "-"].map(String::from),
        false => show_attached(&attached),
    })
}

/// A pod's addresses, those of its first network first, and the ports that lead to it now.
/// Those of a pod on pasta are the machine's as well.
fn show_attached(attached: &Attachment) -> [String; 2] {
    let addresses: Vec<_> = attached.addresses().map(|ip| ip.to_string()).collect();
    let ports = if attached.published { &attached.ports[..] } else { &[] };
    let ports = net::ports::ranges(ports);
    let [addresses, ports] = [addresses, ports].map(|all| if all.is_empty() { "-".into() } else { all.join(",") });
    [if attached.has_pasta() { format!("{addresses} (pasta)") } else { addresses }, ports]
}

fn show_state(container: &ContainerSummary) -> String {
    let state = with_health(container, show_state_alone(container));
    match container.next_start {
        Some(time) => {
            let left = time.duration_since(SystemTime::now()).unwrap_or_default();
            format!("{state}, starts in {} s", left.as_secs_f64().ceil())
        }
        None if container.restarts > 0 => format!("{state}, restarted {} x", container.restarts),
        None => state,
    }
}

/// How it does, as podman has it behind the state; or that a check has ended it.
fn with_health(container: &ContainerSummary, state: String) -> String {
    match (container.health, container.failed_check) {
        (Some(health), None) => format!("{state} ({health})"),
        (Some(health), Some(check)) => format!("{state} ({health}: {check})"),
        (None, Some(check)) => format!("{state}, {check} failed"),
        (None, None) => state,
    }
}

fn show_state_alone(container: &ContainerSummary) -> String {
    if container.exit.is_some_and(|exit| exit.out_of_memory.is_some()) {
        return "exited (out of memory)".into();
    }
    match (container.state, container.exit.map(|exit| exit.status)) {
        (ContainerState::Running, _) => "running".into(),
        (ContainerState::Paused, _) => "paused".into(),
        (ContainerState::Created, _) => "created".into(),
        (ContainerState::Exited, Some(ExitStatus::Signal { signal, .. })) => format!("exited (signal {signal})"),
        (ContainerState::Exited, Some(ExitStatus::Code(code))) => format!("exited ({code})"),
        _ => "exited".into(),
    }
}

fn ago(time: SystemTime) -> String {
    let age = time.elapsed().unwrap_or_default();
    let seconds = std::time::Duration::from_secs(age.as_secs());
    format!("{} ago", humantime::format_duration(seconds))
}

fn shorten(command: &str, most: usize) -> String {
    let line: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= most { line } else { line.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_and_the_ports_that_lead_there_are_shown() {
        let record = serde_json::json!({
            "version": 1, "published": true,
            "networks": [{ "name": "web", "interface": "eth0", "host_interface": "pod0-0", "mac": "",
                "addresses": ["10.89.0.2/24", "fd00::2/64"], "gateways": [] },
                { "name": "db", "interface": "eth1", "host_interface": "pod0-1", "mac": "",
                "addresses": ["10.90.0.2/24"], "gateways": [] }],
            "ports": [{ "host_ip": null, "host": 8080, "pod": 80, "protocol": "tcp" },
                { "host_ip": "127.0.0.1", "host": 53, "pod": 53, "protocol": "udp" }],
        });
        let mut attached: Attachment = serde_json::from_value(record).expect("a record");
        assert_eq!(show_attached(&attached), ["10.89.0.2,fd00::2,10.90.0.2", "8080->80/tcp,127.0.0.1:53->53/udp"]);
        attached.published = false;
        assert_eq!(show_attached(&attached), ["10.89.0.2,fd00::2,10.90.0.2", "-"]);
        attached.networks[0].name = "pasta".into();
        assert_eq!(show_attached(&attached), ["10.89.0.2,fd00::2,10.90.0.2 (pasta)", "-"]);
        let header = |networks: &[Option<[String; 2]>]| rows(&[], networks, MOST)[0].len();
        assert_eq!((header(&[None]), header(&[None, Some(show_attached(&attached))])), (6, 8));
    }
}
