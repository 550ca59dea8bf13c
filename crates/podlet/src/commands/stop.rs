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
    /// Seconds between the two
    #[arg(short = 't', long = "time", value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    seconds: u64,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all its containers, then pause) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

impl Stop {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let grace = Duration::from_secs(self.seconds);
        target::each(store, self.all, &self.targets, |text| {
            let target = Target::open(store, text)?;
            match target.named() {
                Some(_) => target.one()?.stop(grace).map(drop)?,
                None => stop_pod(&target.pod, grace)?,
            }
            Ok(())
        })
    }
}

/// All containers at once, then pause.
fn stop_pod(pod: &Pod, grace: Duration) -> Result<()> {
    let containers = pod.containers()?;
    // A container that cannot be stopped must not keep the others alive: pause's
    // end is theirs, too.
    let results = thread::scope(|scope| {
        let stop = |container: &Container<'_>| container.stop(grace);
        let begin = |one| thread::Builder::new().spawn_scoped(scope, move || stop(one)).map_err(|_| one);
        let begun: Vec<_> = containers.iter().map(begin).collect();
        let end = |begun: Result<ScopedJoinHandle<'_, _>, _>| match begun {
            Ok(thread) => thread.join().ok(),
            // No thread could be had for it.
            Err(one) => Some(stop(one)),
        };
        begun.into_iter().filter_map(end).collect::<Vec<_>>()
    });
    pod.kill()?;
    for result in results {
        result?;
    }
    Ok(())
}
