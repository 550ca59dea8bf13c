//! `podlet stop`: end containers, gently first.

use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use pod::{Container, Pod, Store};

use crate::target::{self, Target};

/// Stop containers: their stop signal first, SIGKILL for all in them after a while
#[derive(Args)]
pub struct Stop {
    /// Seconds between the two [default: what the container's --stop-timeout says, else 10]
    #[arg(short = 't', long = "time", value_name = "S", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    seconds: Option<u64>,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all its containers, then pause) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

impl Stop {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let grace = self.seconds.map(Duration::from_secs);
        target::each(store, self.all, &self.targets, |text| {
            let target = Target::open(store, text)?;
            match target.named() {
                Some(_) => stop(&target.one()?, grace)?,
                None => stop_pod(&target.pod, grace)?,
            }
            Ok(())
        })
    }
}

/// Stops a container, which has the time that was said, or that it says itself.
fn stop(container: &Container<'_>, grace: Option<Duration>) -> pod::Result<()> {
    let grace = match grace {
        Some(grace) => grace,
        None => container.spec()?.grace(),
    };
    container.stop(grace).map(drop)
}

/// All containers at once, then pause.
fn stop_pod(pod: &Pod, grace: Option<Duration>) -> Result<()> {
    // A container that cannot be stopped must not keep the others alive: pause's
    // end is theirs, too.
    let results = stop_each(&pod.containers()?, grace);
    pod.kill()?;
    for result in results {
        result?;
    }
    Ok(())
}

/// Stops them, all at once.
pub fn stop_each(containers: &[Container<'_>], grace: Option<Duration>) -> Vec<pod::Result<()>> {
    thread::scope(|scope| {
        let begin = |one| thread::Builder::new().spawn_scoped(scope, move || stop(one, grace)).map_err(|_| one);
        let begun: Vec<_> = containers.iter().map(begin).collect();
        let end = |begun: Result<ScopedJoinHandle<'_, _>, _>| match begun {
            Ok(thread) => thread.join().ok(),
            // No thread could be had for it.
            Err(one) => Some(stop(one, grace)),
        };
        begun.into_iter().filter_map(end).collect()
    })
}
