//! `podlet start`: start what is created, or has ended.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use pod::{Error, Io, StartOptions, Store};

use super::order::progress;
use super::supervise;
use crate::target::Target;

/// Start containers that are created, or have ended, in the background
#[derive(Args)]
pub struct Start {
    /// Wait no longer for what is to be before a container: each pod's init containers, and what its containers are
    /// --after
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    timeout: Option<u64>,
    /// POD (pause, if it is gone, and all containers that do not run, in their order) or POD/CONTAINER (and what that
    /// is --after)
    #[arg(required = true)]
    targets: Vec<String>,
}

impl Start {
    pub fn run(&self, store: &Store) -> Result<u8> {
        for text in &self.targets {
            let mut target = Target::open(store, text)?;
            target.all()?;
            let started = self.start(&mut target, store);
            // Not before: it starts what its policy says, too.
            let begun = supervise::begin(&target.pod, store);
            started?;
            begun?;
        }
        Ok(0)
    }

    /// Starts a container, or all; and the pod if that is dead: it ends with its last
    /// container, which may be between our look and our start.
    fn start(&self, target: &mut Target, store: &Store) -> Result<()> {
        const TRIES: u32 = 10;
        for left in (0..TRIES).rev() {
            target.pod.start()?;
            super::net::restore(&target.pod, store)?;
            let (pod, has_begun) = (&target.pod, Cell::new(false));
            let tell = |told: pod::StartProgress<'_>| {
                has_begun.set(true);
                progress(pod, store, told);
            };
            let mut options = StartOptions::default().progress(&tell);
            options.timeout = self.timeout.map(Duration::from_secs);
            let started = match target.named() {
                Some(name) => pod.container(name)?.start_with(Io::log(), &options).map(drop),
                None => pod.start_all(&options),
            };
            match started {
                Err(Error::State { .. }) if left > 0 && !has_begun.get() && !pod.lives_on() => {}
                started => return Ok(started?),
            }
        }
        Ok(())
    }
}
