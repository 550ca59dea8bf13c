//! `podlet pause` and `unpause`: everything in a container or a pod, frozen.

use anyhow::Result;
use clap::Args;
use pod::Store;

use crate::target::{self, Target};

/// Stop the time of containers: they get no processor until `unpause`
#[derive(Args)]
pub struct Pause {
    #[command(flatten)]
    targets: Targets,
}

/// Let what is paused go on
#[derive(Args)]
pub struct Unpause {
    #[command(flatten)]
    targets: Targets,
}

#[derive(Args)]
struct Targets {
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all of it as one, but pause) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

impl Pause {
    pub fn run(&self, store: &Store) -> Result<u8> {
        self.targets.each(store, |target| match target.named() {
            Some(name) => Ok(target.pod.container(name)?.pause()?),
            None => Ok(target.pod.pause()?),
        })
    }
}

impl Unpause {
    pub fn run(&self, store: &Store) -> Result<u8> {
        self.targets.each(store, |target| match target.named() {
            Some(name) => Ok(target.pod.container(name)?.unpause()?),
            None => Ok(target.pod.unpause()?),
        })
    }
}

impl Targets {
    /// With `--all` only pods that live are meant.
    fn each(&self, store: &Store, act: impl Fn(&Target) -> Result<()>) -> Result<u8> {
        target::each(store, self.all, &self.targets, |text| {
            let target = Target::open(store, text)?;
            if self.all && !target.pod.is_alive() { Ok(()) } else { act(&target) }
        })
    }
}
