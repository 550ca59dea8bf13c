//! `podlet-oci pause` and `resume`.

use anyhow::Result;
use clap::Args;
use pod::oci::Runtime;

/// Stop all processes of a container where they are
#[derive(Args)]
pub struct Pause {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

/// Let the processes of a paused container go on
#[derive(Args)]
pub struct Resume {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Pause {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        runtime.get(&self.id)?.pause()?;
        Ok(0)
    }
}

impl Resume {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        runtime.get(&self.id)?.unpause()?;
        Ok(0)
    }
}
