//! `podlet restart`: stop and start, in a pod that stays.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use pod::{Io, StartOptions, Store};

use super::order::progress;
use super::stop::note_failed_hooks;
use super::supervise;
use crate::target::{self, Target};

/// Stop containers and start them again; the pod and its network stay
#[derive(Args)]
pub struct Restart {
    /// Seconds between the stop signal and SIGKILL [default: what the container's --stop-timeout says, else 10]
    #[arg(short = 't', long = "time", value_name = "S", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    seconds: Option<u64>,
    /// Wait no longer for what is to be before a container
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    timeout: Option<u64>,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all its containers, in their order) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

impl Restart {
    pub fn run(&self, store: &Store) -> Result<u8> {
        target::each(store, self.all, &self.targets, |text| {
            let mut target = Target::open(store, text)?;
            target.all()?;
            target.pod.start()?;
            super::net::restore(&target.pod, store)?;
            let restarted = self.restart(&target, store);
            let begun = supervise::begin(&target.pod, store);
            restarted?;
            begun?;
            Ok(())
        })
    }

    fn restart(&self, target: &Target, store: &Store) -> Result<()> {
        let (pod, grace) = (&target.pod, self.seconds.map(Duration::from_secs));
        let tell = |told: pod::StartProgress<'_>| progress(pod, store, told);
        let mut options = StartOptions::default().progress(&tell);
        options.timeout = self.timeout.map(Duration::from_secs);
        let began = SystemTime::now();
        match target.named() {
            Some(name) => {
                let container = pod.container(name)?;
                let grace = match grace {
                    Some(grace) => grace,
                    None => container.spec()?.grace(),
                };
                container.restart_with(grace, Io::log(), &options)?;
            }
            None => pod.restart_all(grace, &options)?,
        }
        note_failed_hooks(&target.all()?, began);
        Ok(())
    }
}
