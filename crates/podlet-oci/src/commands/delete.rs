//! `podlet-oci delete`.

use anyhow::Result;
use clap::Args;
use pod::Error;
use pod::bundle::Runtime;

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
        match runtime.get(&self.id).and_then(|instance| instance.delete(self.force)) {
            Err(Error::NotFound(_)) if self.force => runtime.clear(&self.id)?,
            result => {
                for warning in result? {
                    log.warning(&warning.to_string());
                }
            }
        }
        Ok(0)
    }
}
