//! `podlet start`: start what is created, or has ended.

use anyhow::Result;
use clap::Args;
use pod::{Error, Io, Pod, Store};

use super::supervise;
use crate::target::Target;

/// Start containers that are created, or have ended, in the background
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
            let names = target.names()?;
            let is_named = target.named().is_some();
            target.pod.start()?;
            super::net::restore(&target.pod, store)?;
            let started = names.iter().try_for_each(|name| start(&mut target.pod, name, is_named));
            // Not before: it starts what its policy says, too.
            supervise::begin(&target.pod, store)?;
            started?;
        }
        Ok(0)
    }
}

/// Starts a container, and its pod if that is dead: it ends with its last
/// container, which may be between our look and our start.
fn start(pod: &mut Pod, name: &str, is_named: bool) -> Result<()> {
    const TRIES: u32 = 10;
    for left in (0..TRIES).rev() {
        // Of all containers those that do not run are meant.
        if !is_named && pod.container(name)?.status()?.state.is_alive() {
            return Ok(());
        }
        let started = pod.container(name)?.start(Io::log()).map(drop);
        match started {
            Err(Error::State { .. }) if left > 0 && !pod.lives_on() => pod.start()?,
            started => return Ok(started?),
        }
    }
    Ok(())
}
