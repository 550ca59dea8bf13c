//! `podlet kill`: a signal for a container's main process.

use anyhow::Result;
use clap::Args;
use nix::sys::signal::Signal;
use pod::{Error, Store};

use crate::target::Target;

/// Send a signal to containers' main processes
#[derive(Args)]
pub struct Kill {
    /// Name or number
    #[arg(short, long, default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
    /// POD (all its containers that run) or POD/CONTAINER
    #[arg(required = true)]
    targets: Vec<String>,
}

/// A signal by its number or name, with or without SIG, in any case.
fn parse_signal(text: &str) -> Result<i32, String> {
    let wrong = || "not a signal: a name of signal(7), such as TERM or SIGTERM, or 1 to 64".to_string();
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

impl Kill {
    pub fn run(&self, store: &Store) -> Result<u8> {
        for text in &self.targets {
            let target = Target::open(store, text)?;
            let mut sent = 0;
            for name in target.all()? {
                match target.pod.process(&name).and_then(|process| process.signal(self.signal)) {
                    Ok(()) => sent += 1,
                    // Of all containers those that run are meant.
                    Err(Error::State { .. }) if target.named().is_none() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if sent == 0 {
                anyhow::bail!("no container of {text} is running");
            }
        }
        Ok(0)
    }
}
