//! `podlet container`: what is made apart from what is started.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use pod::Store;

use super::run::Run;
use super::start::Start;
use crate::{output, target};

/// Make a container without starting it, and start it later
#[derive(Args)]
pub struct Container {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a container, with the options of `run`, and start nothing in it
    #[command(disable_help_flag = true)]
    Create(Box<Create>),
    /// Start containers that are created, or have ended, in the background
    Start(Start),
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    run: Run,
}

impl Container {
    pub fn run(&self, store: &Store) -> Result<u8> {
        match &self.command {
            Command::Create(create) => create.run(store),
            Command::Start(start) => start.run(store),
        }
    }
}

impl Create {
    fn run(&self, store: &Store) -> Result<u8> {
        if self.run.detach {
            bail!("--detach: nothing is started yet; `podlet start` does that in the background");
        }
        if self.run.terminal.interactive && !self.run.terminal.tty {
            bail!(
                "--interactive: nobody passes on what is typed: give it a terminal, too (-it), and type there by \
                 `podlet attach`"
            );
        }
        self.run.keys.check(false)?;
        if self.run.files.pidfile.is_some() {
            bail!(
                "--pidfile: nothing is started yet; `podlet inspect -f '{{{{.Pid}}}}' NAME` prints a pid once it runs"
            );
        }
        let request = self.run.request("container create", super::run::Foreground::No)?;
        let files = self.run.make_way(store, &request)?;
        let (mut pod, container) = self.run.open_pod(store, request)?;
        super::run::note_reach(&pod, &container)?;
        let name = pod.create_container(&container)?.name().to_string();
        pod.detach()?;
        files.keep(None)?;
        let name = target::show(pod.name(), &name);
        output::line(&name).with_context(|| format!("container {name} is made; only its name could not be printed"))?;
        Ok(0)
    }
}
