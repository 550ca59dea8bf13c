//! `podlet rm`: remove pods and containers.

use anyhow::Result;
use clap::Args;
use pod::{Container, Error, Pod, Store};

use crate::target::{self, Target};

/// Remove pods or containers and all that was made for them
#[derive(Args)]
pub struct Rm {
    /// Even while they run, or cannot be read; and what is not there is no error. What has a --stop-timeout is stopped
    /// first
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
            if self.force { by_force(store, text) } else { if_ended(store, text) }
        })
    }
}

/// Removes what is not running.
fn if_ended(store: &Store, text: &str) -> Result<()> {
    let target = Target::open(store, text)?;
    if let Some(name) = target.named() {
        return Ok(target.pod.container(name)?.remove()?);
    }
    let status = target.pod.status()?;
    let running = status.containers.iter().find(|container| container.state.is_alive());
    if let Some(container) = running {
        anyhow::bail!("container {}/{} is running: stop it first, or use rm -f", status.name, container.name);
    }
    Ok(target.pod.remove()?)
}

/// Removes a pod or container, whatever state it is in; none is as good.
pub fn by_force(store: &Store, text: &str) -> Result<()> {
    match end_and_remove(store, text) {
        // Its records are damaged, or not all there: what they describe is found by
        // name.
        Err(error) if is_damage(&error) && !text.contains('/') => Ok(Pod::remove_damaged(store, text)?),
        Err(error) if matches!(error.downcast_ref(), Some(Error::NotFound(_))) => Ok(()),
        result => result,
    }
}

fn end_and_remove(store: &Store, text: &str) -> Result<()> {
    let target = Target::open(store, text)?;
    let Some(name) = target.named() else {
        stop_patient(&target.pod, target.pod.containers().unwrap_or_default());
        return Ok(target.pod.remove()?);
    };
    let container = target.pod.container(name)?;
    stop_patient(&target.pod, vec![container.clone()]);
    Ok(container.remove_by_force()?)
}

/// Stops those first that were given a time for it (`--stop-timeout`). What cannot be
/// stopped is killed afterwards like the others.
fn stop_patient(pod: &Pod, mut containers: Vec<Container<'_>>) {
    containers.retain(|container| container.spec().is_ok_and(|spec| spec.stop_timeout.is_some()));
    pod.stop_each(&containers, None);
}
