//! `podlet-oci checkpoint` and `restore`: refused.

use anyhow::{Result, bail};
use clap::Args;

/// Not here: needs CRIU, which podlet-oci does not drive
#[derive(Args)]
pub struct Checkpoint {
    /// Whatever runc takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run() -> Result<u8> {
    bail!("checkpoint and restore need CRIU, which podlet-oci does not drive; stop the container and start it anew")
}
