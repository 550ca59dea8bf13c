//! `podlet ps`: what there is.

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use pod::{ContainerState, ContainerSummary, Error, ExitStatus, Pod, PodState, PodStatus, PodSummary, Store};

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
    /// Only what has name=PART, pod=NAME, label=K[=V], status=running|exited|created or exited=CODE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Whole commands, however long
    #[arg(long)]
    no_trunc: bool,
}

impl Ps {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let filters = Filters::parse(&self.filter)?;
        let all = self.all || filters.ask_for_ended();
        if self.format == Format::Json {
            let statuses = Pod::list(store)?.into_iter().map(|pod| pod.and_then(|pod| pod.status()));
            let mut statuses: Vec<PodStatus> = readable(statuses);
            if !all {
                statuses.retain(|pod| pod.state == PodState::Running);
                for pod in &mut statuses {
                    pod.containers.retain(|container| container.state == ContainerState::Running);
                }
            }
            filters.apply(&mut statuses, |pod| (&pod.name, &pod.labels, &mut pod.containers));
            output::line(serde_json::to_string_pretty(&statuses)?)?;
            return Ok(0);
        }
        let mut pods = readable(Pod::summaries(store, all)?);
        filters.apply(&mut pods, |pod| (&pod.name, &pod.labels, &mut pod.containers));
        match self.quiet {
            true => names(&pods)?,
            false => output::table(&rows(&pods, if self.no_trunc { usize::MAX } else { MOST }))?,
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

fn rows(pods: &[PodSummary], most: usize) -> Vec<Vec<String>> {
    let header = ["POD", "CONTAINER", "PID", "STATE", "STARTED", "COMMAND"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for pod in pods {
        let state = if pod.state == PodState::Running { "running" } else { "exited" };
        let command = if pod.containers.is_empty() { "" } else { "-" };
        let pid = pod.pause.map_or("-".into(), |pid| pid.to_string());
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

fn show_state(container: &ContainerSummary) -> String {
    if container.exit.is_some_and(|exit| exit.out_of_memory.is_some()) {
        return "exited (out of memory)".into();
    }
    match (container.state, container.exit.map(|exit| exit.status)) {
        (ContainerState::Running, _) => "running".into(),
        (ContainerState::Created, _) => "created".into(),
        (ContainerState::Exited, Some(ExitStatus::Signal { signal, .. })) => format!("exited (signal {signal})"),
        (ContainerState::Exited, Some(ExitStatus::Code(code))) => format!("exited ({code})"),
        (ContainerState::Exited, None) => "exited".into(),
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
