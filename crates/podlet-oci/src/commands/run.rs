//! `podlet-oci run`: create, start, and in the foreground wait and delete.

use anyhow::Result;
use clap::Args;
use pod::oci::{CreateOptions, Runtime};
use pod::{CgroupManager, Error};

use super::create::{Bundle, warn};
use crate::log::Log;
use crate::process::Signals;

/// Create and start a container
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    bundle: Bundle,
    /// Leave it running
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Accepted: podlet-oci never is one
    #[arg(long)]
    no_subreaper: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Run {
    pub fn run(&self, runtime: &Runtime, manager: CgroupManager, log: &Log) -> Result<u8> {
        let config = self.bundle.read(log)?;
        let terminal = self.bundle.terminal(&config, self.detach);
        terminal.check()?;
        let mut signals = Signals::hold()?;
        let setup = CreateOptions { cancel: Some(signals.ending()?), ..self.bundle.setup(&terminal, manager)? };
        let mut created = runtime.run(&self.id, &config, setup)?;
        warn(&created.left_out, log);
        let mut delete = || -> Result<()> {
            match created.instance.delete(true) {
                // Another command was faster.
                Err(Error::NotFound(_)) => {}
                warnings => warnings?.iter().for_each(|warning| log.warning(&warning.to_string())),
            }
            Ok(())
        };
        let handed_over = terminal.hand_over(created.process.terminal.take());
        let handed_over = handed_over.and_then(|proxy| {
            self.bundle.told.tell(&created.process, "standard")?;
            Ok(proxy)
        });
        let proxy = match handed_over {
            Ok(proxy) => proxy,
            Err(error) => {
                // What went wrong first is what counts.
                if let Err(error) = delete() {
                    log.warning(&error.to_string());
                }
                return Err(error);
            }
        };
        if self.detach {
            return Ok(0);
        }
        let code = signals.wait_for(&created.process, proxy)?;
        if !self.keep {
            delete()?;
        }
        Ok(code)
    }
}
