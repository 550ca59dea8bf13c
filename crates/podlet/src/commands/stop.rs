//! `podlet stop`: end containers, gently first.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use pod::{Container, LifecycleHook, Pod, Store};

use crate::output;
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
    /// POD (all its containers, those first that are --after others, then pause) or POD/CONTAINER
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
fn stop(container: &Container<'_>, grace: Option<Duration>) -> Result<()> {
    let began = SystemTime::now();
    let grace = match grace {
        Some(grace) => grace,
        None => container.spec()?.grace(),
    };
    container.stop(grace)?;
    note_failed_hooks(std::slice::from_ref(container), began);
    Ok(())
}

/// All containers, in their order, then pause.
fn stop_pod(pod: &Pod, grace: Option<Duration>) -> Result<()> {
    let began = SystemTime::now();
    // A container that cannot be stopped must not keep the others alive: pause's
    // end is theirs, too.
    let results = pod.stop_all(grace);
    note_failed_hooks(&pod.containers().unwrap_or_default(), began);
    pod.kill()?;
    for (_, result) in results? {
        result?;
    }
    Ok(())
}

/// Says which preStop hooks have failed since then.
pub fn note_failed_hooks(containers: &[Container<'_>], began: SystemTime) {
    for container in containers {
        // What cannot be read is told by who needs it.
        let failed = container.status().ok().and_then(|status| status.failed_hook);
        if let Some(failed) = failed.filter(|failed| failed.hook == LifecycleHook::PreStop && failed.time >= began) {
            output::note(format_args!("note: {}; it was stopped nevertheless", failed.error));
        }
    }
}
