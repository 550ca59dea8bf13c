//! `podlet healthcheck`: a container's checks, once, now.

use anyhow::Result;
use clap::{Args, Subcommand};
use pod::Store;

use crate::output;
use crate::target::{self, Target};

/// What podman says of what is unhealthy.
const UNHEALTHY: u8 = 1;

/// Perform a container's health checks
#[derive(Args)]
pub struct Healthcheck {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Perform a container's checks once, now: exit code 0 if they succeed, else 1
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// POD or POD/CONTAINER
    target: String,
}

impl Healthcheck {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let Command::Run(run) = &self.command;
        let target = Target::open(store, &run.target)?;
        let container = target.one()?;
        let mut code = 0;
        for (kind, result) in container.check_health()?.iter().filter(|(_, result)| !result.success) {
            let name = target::show(target.pod.name(), container.name());
            let why = match (result.output.trim(), result.code) {
                ("", Some(code)) => format!("exit code {code}"),
                (output, _) => output.to_string(),
            };
            output::note(format_args!("container {name} is unhealthy: {kind}: {why}"));
            code = UNHEALTHY;
        }
        Ok(code)
    }
}
