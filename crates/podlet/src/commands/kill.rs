//! `podlet kill`: a signal for a container's main process.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use pod::{Error, Signal, Store};

use crate::target::{self, Target};

/// Send a signal to containers' main processes
#[derive(Args)]
pub struct Kill {
    /// Name or number; -9 and -KILL are short for it
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,
    /// All pods
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// POD (all its containers that run) or POD/CONTAINER
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
}

/// `-9` and `-KILL`, as kill(1) has them: `--signal 9`.
pub fn signals_by_themselves(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.collect();
    let has_value = |word: &OsString| ["--root", "--signal", "-s"].iter().any(|option| word == option);
    let mut positional = (1..words.len()).filter(|&i| {
        let is_option = words[i].as_encoded_bytes().starts_with(b"-");
        !is_option && !has_value(&words[i - 1])
    });
    let Some(command) = positional.next().filter(|&i| words[i] == "kill") else { return words };
    for i in command + 1..words.len() {
        let signal =
            words[i].to_str().and_then(|word| word.strip_prefix('-')).filter(|text| text.parse::<Signal>().is_ok());
        if let Some(signal) = signal.filter(|_| !has_value(&words[i - 1])) {
            words[i] = format!("--signal={signal}").into();
        }
    }
    words
}

impl Kill {
    pub fn run(&self, store: &Store) -> Result<u8> {
        target::each(store, self.all, &self.targets, |text| {
            let target = Target::open(store, text)?;
            let mut sent = 0;
            for container in target.all()? {
                match container.kill(self.signal) {
                    Ok(()) => sent += 1,
                    // Of all containers those that run are meant.
                    Err(Error::State { .. }) if target.named().is_none() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Of all pods those in which something runs are meant.
            if sent == 0 && !self.all {
                anyhow::bail!("no container of {text} is running");
            }
            Ok(())
        })
    }
}
