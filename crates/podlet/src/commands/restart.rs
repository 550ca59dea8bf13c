//! `podlet restart`: stop and start, in a pod that stays.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use pod::{Io, Store};

use super::supervise;
use crate::target::{self, Target};

/// Stop containers and start them again; the pod and its network stay
#[derive(Args)]
pub struct Restart {
    /// Seconds between the stop signal and SIGKILL [default: what the container's --stop-timeout says, else 10]
    #[arg(short = 't', long = "time", value_name = "S", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    seconds: Option<u64>,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all its containers) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

impl Restart {
    pub fn run(&self, store: &Store) -> Result<u8> {
        target::each(store, self.all, &self.targets, |text| {
            let mut target = Target::open(store, text)?;
            let names = target.names()?;
            target.pod.start()?;
            super::net::restore(&target.pod, store)?;
            for name in names {
                let container = target.pod.container(&name)?;
                let grace = match self.seconds {
                    Some(seconds) => Duration::from_secs(seconds),
                    None => container.spec()?.grace(),
                };
                container.restart(grace, Io::log())?;
                supervise::begin(&target.pod, store)?;
            }
            Ok(())
        })
    }
}
