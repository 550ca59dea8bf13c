//! `podlet-oci start`.

use anyhow::Result;
use clap::Args;
use pod::oci::Runtime;

/// Start the program of a created container
#[derive(Args)]
pub struct Start {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Start {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        runtime.get(&self.id)?.start()?;
        Ok(0)
    }
}
