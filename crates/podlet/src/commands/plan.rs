//! `podlet plan`: what `run` would do.

use anyhow::{Context, Result};
use clap::Args;
use net::Networks;
use pod::{Pod, Store};

use super::run::{Foreground, Run};
use crate::output;

/// Print the steps `run` would take, and take none
#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    run: Run,
}

impl Plan {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let request = self.run.request("plan", Foreground::Yes)?;
        let io = self.run.terminal.io();
        if !pod::facts::Facts::read()?.calls.new_mount_api() {
            output::line(format!("# {}", super::create::LEGACY_MOUNT_API))?;
        }
        match self.run.joined()? {
            Some(name) => {
                let pod = Pod::open(store, &name)?;
                let container = self.run.for_pod(request.container, pod.options())?;
                output::line(format!("# container {}/{}", pod.name(), container.name))?;
                note_reach(&container, pod.options())?;
                output::line(pod.plan_container(&container, &io)?)?;
            }
            None => {
                let (options, network) = request.pod.context("a pod of its own has options")?;
                let (hold, launch) = Pod::plan(store, &options, &request.container, &io)?;
                output::line(format!("# pod {}", options.name))?;
                output::line(hold)?;
                network.print_plan(&options, &Networks::open(store))?;
                output::line(format!("# container {}/{}", options.name, request.container.name))?;
                note_reach(&request.container, &options)?;
                output::line(launch)?;
            }
        }
        Ok(0)
    }
}

/// What this container can come to beyond what every container can.
fn note_reach(container: &pod::ContainerSpec, options: &pod::PodOptions) -> Result<()> {
    let note = container.reaches(options)?;
    note.map_or(Ok(()), |note| output::line(format!("# {note}")))
}
