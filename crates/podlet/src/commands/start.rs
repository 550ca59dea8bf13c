//! `podlet start`: start what has ended again.

use anyhow::Result;
use clap::Args;
use pod::{ContainerState, Error, Io, Pod, Store};

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
            let is_named = target.named().is_some();
            target.pod.revive()?;
            for name in names {
                start(&mut target.pod, &name, is_named)?;
            }
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
        if !is_named && pod.container_status(name)?.state == ContainerState::Running {
            return Ok(());
        }
        match pod.start_again(name, Io::log()) {
            Err(Error::State { .. }) if left > 0 && !pod.lives_on() => pod.revive()?,
            started => return Ok(started.map(drop)?),
        }
    }
    Ok(())
}
