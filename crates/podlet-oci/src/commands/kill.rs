//! `podlet-oci kill`.

use anyhow::Result;
use clap::Args;
use pod::oci::Runtime;
use pod::{Error, Signal};

/// Send a signal to a container's process
#[derive(Args)]
pub struct Kill {
    /// To all processes of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// A name such as TERM or SIGTERM, or a number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    signal: String,
}

impl Kill {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        let signal = parse(&self.signal)?;
        let instance = runtime.get(&self.id)?;
        match self.all {
            true => instance.kill_all(signal)?,
            false => instance.kill(signal)?,
        }
        Ok(0)
    }
}

/// As runc takes it: 0 asks whether the process is there.
fn parse(text: &str) -> Result<Signal, Error> {
    if text == "0" { Ok(Signal::NONE) } else { text.parse() }
}
