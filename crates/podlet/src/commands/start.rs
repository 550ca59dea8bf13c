//! `podlet start`: start what has ended again.

use anyhow::Result;
use clap::Args;
use pod::{ContainerState, Io, Store};

use crate::target::Target;

/// Start containers that have ended again, in the background
#[derive(Args)]
pub struct Start {
    /// POD (pause, if it is gone, and all containers that do not run) or POD/CONTAINER
    #[arg(required = true)]
    targets: Vec<String>,
}

impl Start {
    pub fn run(&self, store: &Store) -> Result<u8> {
        for text in &self.targets {
            let mut target = Target::open(store, text)?;
            let names = target.all()?;
            target.pod.revive()?;
            for name in names {
                let runs = target.pod.container_status(&name)?.state == ContainerState::Running;
                // Of all containers those that do not run are meant.
                if target.named().is_some() || !runs {
                    target.pod.start_again(&name, Io::log())?;
                }
            }
        }
        Ok(0)
    }
}
