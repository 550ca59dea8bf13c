//! `podlet ps`: what there is.

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use pod::{ContainerState, ContainerStatus, Pod, PodState, PodStatus, Store};

use super::filter::Filters;
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
    /// Only what has name=PART, pod=NAME, status=running|exited|created or exited=CODE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Whole commands, however long
    #[arg(long)]
    no_trunc: bool,
}

impl Ps {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let filters = Filters::parse(&self.filter)?;
        let mut statuses = Vec::new();
        for pod in Pod::list(store)? {
            // One that cannot be read must not hide the others.
            match pod.and_then(|pod| pod.status()) {
                Ok(status) => statuses.push(status),
                Err(error) => output::note(error),
            }
        }
        if !self.all && !filters.ask_for_ended() {
            statuses.retain(|pod| pod.state == PodState::Running);
            for pod in &mut statuses {
                pod.containers.retain(|container| container.state == ContainerState::Running);
            }
        }
        filters.apply(&mut statuses);
        match self.format {
            _ if self.quiet => names(&statuses)?,
            Format::Json => output::line(serde_json::to_string_pretty(&statuses)?)?,
            Format::Table => output::table(&rows(&statuses, if self.no_trunc { usize::MAX } else { MOST }))?,
        }
        Ok(0)
    }
}

/// Longer commands would push everything else off the screen.
const MOST: usize = 40;

/// A pod without containers is named itself.
fn names(pods: &[PodStatus]) -> Result<()> {
    for pod in pods {
        let names = pod.containers.iter().map(|container| target::show(&pod.name, &container.name));
        let alone = pod.containers.is_empty().then(|| pod.name.clone());
        names.chain(alone).try_for_each(output::line)?;
    }
    Ok(())
}

fn rows(pods: &[PodStatus], most: usize) -> Vec<Vec<String>> {
    let header = ["POD", "CONTAINER", "PID", "STATE", "STARTED", "COMMAND"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for pod in pods {
        let state = if pod.state == PodState::Running { "running" } else { "exited" };
        let command = if pod.containers.is_empty() { "" } else { "-" };
        let pid = pod.pause.pid.map_or("-".into(), |pid| pid.to_string());
        if pod.containers.is_empty() {
            rows.push(vec![pod.name.clone(), "-".into(), pid, state.into(), ago(pod.created), command.into()]);
        }
        for container in &pod.containers {
            rows.push(vec![
                pod.name.clone(),
                container.name.clone(),
                container.pid.map_or("-".into(), |pid| pid.to_string()),
                show_state(container),
                ago(container.started.unwrap_or(container.created)),
                shorten(&container.command.join(" "), most),
            ]);
        }
    }
    rows
}

fn show_state(container: &ContainerStatus) -> String {
    if container.out_of_memory.is_some() {
        return "exited (out of memory)".into();
    }
    match (container.state, container.exit_code, container.signal) {
        (ContainerState::Running, ..) => "running".into(),
        (ContainerState::Created, ..) => "created".into(),
        (_, _, Some(signal)) => format!("exited (signal {signal})"),
        (_, Some(code), _) => format!("exited ({code})"),
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
