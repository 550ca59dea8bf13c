//! `podlet wait`: how containers ended.

mod condition;

use anyhow::Result;
use clap::Args;
use pod::{Error, Exit, Pod, Process, Store};

use condition::Condition;

use crate::output;
use crate::target::Target;

/// Wait for containers to end, and print their exit codes
#[derive(Args)]
pub struct Wait {
    /// Until it is created, running, paused, healthy, unhealthy, exited (or stopped), or removed: one of those given. What has not ended has
    /// the exit code -1 [default: exited]
    #[arg(long, value_name = "STATE", value_parser = condition::parse)]
    condition: Vec<Condition>,
    /// POD or POD/CONTAINER
    #[arg(required = true)]
    targets: Vec<String>,
}

/// A container or pod that is waited for.
enum Awaited {
    /// By the exit table that we have mapped.
    Process(Process),
    /// The pod has died since, and lives again without it.
    Ended(Exit),
}

impl Wait {
    pub fn run(&self, store: &Store) -> Result<u8> {
        if self.condition.iter().any(|condition| *condition != Condition::Exited) {
            condition::wait(store, &self.targets, &self.condition, output::line)?;
            return Ok(0);
        }
        // All of them first: once we have their tables no command can take away
        // what they say, not even one that removes them.
        let awaited = self.targets.iter().map(|text| find(store, text)).collect::<Result<Vec<_>>>();
        // Only now: they may be what there is to sweep.
        Pod::sweep(store);
        for awaited in awaited? {
            let exit = match awaited {
                Awaited::Process(process) => process.wait()?,
                Awaited::Ended(exit) => exit,
            };
            output::line(exit.shell_code())?;
        }
        Ok(0)
    }
}

fn find(store: &Store, text: &str) -> Result<Awaited> {
    let target = Target::open(store, text)?;
    let container = target.one()?;
    match container.process() {
        Ok(process) => Ok(Awaited::Process(process)),
        Err(error @ Error::State { .. }) => Ok(Awaited::Ended(container.exit()?.ok_or(error)?)),
        Err(error) => Err(error.into()),
    }
}
