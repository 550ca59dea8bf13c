//! `podlet-oci delete`.

use anyhow::Result;
use clap::Args;
use pod::oci::Runtime;

use crate::log::Log;

/// Remove what was made for a container
#[derive(Args)]
pub struct Delete {
    /// Kill it if it runs; be content if it is not there
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Delete {
    pub fn run(&self, runtime: &Runtime, log: &Log) -> Result<u8> {
        let warnings = match self.force {
            true => runtime.remove(&self.id)?,
            false => runtime.get(&self.id)?.delete(false)?,
        };
        for warning in warnings {
            log.warning(&warning.to_string());
        }
        Ok(0)
    }
}
