//! `podlet rm`: remove pods and containers.

use anyhow::Result;
use clap::Args;
use pod::{Error, Pod, Store};

use crate::target::{self, Target};

/// Remove pods or containers and all that was made for them
#[derive(Args)]
pub struct Rm {
    /// Even while they run, or cannot be read; and what is not there is no error
    #[arg(short, long)]
    force: bool,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

fn is_damage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotFound(_) | Error::Corrupt { .. }))
}

impl Rm {
    pub fn run(&self, store: &Store) -> Result<u8> {
        target::each(store, self.all, &self.targets, |text| {
            match self.remove(store, text) {
                // Its records are damaged, or not all there: what they describe
                // is found by name.
                Err(error) if self.force && is_damage(&error) && !text.contains('/') => {
                    Pod::remove_damaged(store, text)?;
                }
                Err(error) if self.force && matches!(error.downcast_ref(), Some(Error::NotFound(_))) => {}
                result => result?,
            }
            Ok(())
        })
    }

    fn remove(&self, store: &Store, text: &str) -> Result<()> {
        let target = Target::open(store, text)?;
        if let Some(name) = target.named() {
            let container = target.pod.container(name)?;
            let removed = if self.force { container.remove_by_force() } else { container.remove() };
            return Ok(removed?);
        }
        if !self.force {
            let status = target.pod.status()?;
            let running = status.containers.iter().find(|container| container.state.is_alive());
            if let Some(container) = running {
                anyhow::bail!("container {}/{} is running: stop it first, or use rm -f", status.name, container.name);
            }
        }
        Ok(target.pod.remove()?)
    }
}
