//! `podlet wait`: how containers ended.

use anyhow::Result;
use clap::Args;
use pod::{Error, Store};

use crate::output;
use crate::target::Target;

/// Wait for containers to end, and print their exit codes
#[derive(Args)]
pub struct Wait {
    /// POD or POD/CONTAINER
    #[arg(required = true)]
    targets: Vec<String>,
}

impl Wait {
    pub fn run(&self, store: &Store) -> Result<u8> {
        for text in &self.targets {
            let target = Target::open(store, text)?;
            let name = target.one()?;
            let exit = match target.pod.process(&name) {
                Ok(process) => process.wait()?,
                // The pod has died since, and lives again without it.
                Err(error @ Error::State { .. }) => target.pod.exit_of(&name)?.ok_or(error)?,
                Err(error) => return Err(error.into()),
            };
            output::line(exit.code())?;
        }
        Ok(0)
    }
}
