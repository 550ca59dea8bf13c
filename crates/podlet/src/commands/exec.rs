//! `podlet exec`: another program in a container that runs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pod::{Command, Io, Store};

use crate::foreground::Signals;
use crate::target::Target;

/// Run another program in a container that runs
#[derive(Args)]
pub struct Exec {
    /// Leave it running; its output goes to the container's log
    #[arg(short, long)]
    detach: bool,
    /// Set an environment variable
    #[arg(short, long = "env", value_name = "K=V")]
    env: Vec<String>,
    /// Working directory inside [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// UID, NAME, UID:GID or NAME:GROUP [default: the container's]
    #[arg(short, long)]
    user: Option<String>,
    /// POD or POD/CONTAINER
    target: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    args: Vec<String>,
}

impl Exec {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let target = Target::open(store, &self.target)?;
        let name = target.one()?;
        let command = Command {
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.workdir.clone(),
            user: self.user.clone(),
        };
        let mut signals = Signals::hold()?;
        let io = if self.detach { Io::log() } else { Io::inherit() };
        let process = target.pod.exec(&name, &command, io)?;
        if self.detach {
            return Ok(0);
        }
        Ok(signals.pass_on_to(&process)?.code())
    }
}
