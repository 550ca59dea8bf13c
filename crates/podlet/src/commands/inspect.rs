//! `podlet inspect`: everything about a pod or container, as JSON.

use anyhow::Result;
use clap::Args;
use pod::Store;

use crate::output;
use crate::target::Target;

/// Print all there is to know of a pod or container, as JSON
#[derive(Args)]
pub struct Inspect {
    /// POD or POD/CONTAINER
    target: String,
}

impl Inspect {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let target = Target::open(store, &self.target)?;
        let json = match target.named() {
            Some(name) => serde_json::to_string_pretty(&target.pod.container_status(name)?)?,
            None => serde_json::to_string_pretty(&target.pod.status()?)?,
        };
        output::line(json)?;
        Ok(0)
    }
}
