//! `podlet inspect`: everything about a pod or container, as JSON.

use anyhow::Result;
use clap::Args;
use net::Networks;
use pod::Store;

use super::net::shown;
use super::template;
use crate::output;
use crate::target::Target;

/// Print all there is to know of a pod or container, as JSON
#[derive(Args)]
pub struct Inspect {
    /// Print this instead, with the values of {{.Field}} and {{json .Field}} in it
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// POD or POD/CONTAINER
    target: String,
}

impl Inspect {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let target = Target::open(store, &self.target)?;
        let networks = Networks::open(store);
        let Some(template) = &self.format else {
            let json = match target.named() {
                Some(name) => serde_json::to_string_pretty(&target.pod.container(name)?.status()?)?,
                None => serde_json::to_string_pretty(&shown(&target.pod.status()?, &networks))?,
            };
            output::line(json)?;
            return Ok(0);
        };
        let of = match target.named() {
            Some(name) => vec![serde_json::to_value(target.pod.container(name)?.status()?)?],
            None => {
                let pod = target.pod.status()?;
                let json = serde_json::to_value(shown(&pod, &networks))?;
                // A pod with one container answers for it; where they have one
                // name the container is meant.
                match &pod.containers[..] {
                    [only] if only.name == pod.name => vec![serde_json::to_value(only)?, json],
                    [only] => vec![json, serde_json::to_value(only)?],
                    _ => vec![json],
                }
            }
        };
        output::line(template::fill(template, &of)?)?;
        Ok(0)
    }
}
