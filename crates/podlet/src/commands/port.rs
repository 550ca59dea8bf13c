//! `podlet port`: the machine's ports that lead to a pod.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use net::Networks;
use net::ports::{PortMapping, PortRequest};
use pod::{Pod, Store};

use super::net::{ports, say};
use crate::output;

/// Change which of this machine's ports lead to a pod that runs
#[derive(Args)]
pub struct Port {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Have more ports lead to it, and print those; connections that are there go on
    Add(Change),
    /// Have ports lead to it no longer; connections that are there go on
    Rm(Change),
    /// List them
    Ls(Ls),
}

#[derive(Args)]
struct Change {
    #[arg(value_name = "POD")]
    pod: String,
    /// As `run -p` takes them
    #[arg(value_name = "[IP:]HOST:POD[/udp]", required = true)]
    ports: Vec<String>,
}

#[derive(Args)]
struct Ls {
    #[arg(value_name = "POD")]
    pod: String,
}

impl Port {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let networks = Networks::open(store);
        let named = match &self.command {
            Command::Add(change) | Command::Rm(change) => &change.pod,
            Command::Ls(ls) => &ls.pod,
        };
        let pod = Pod::open(store, named)?;
        match &self.command {
            Command::Add(change) => {
                let (added, notes) = networks.add_ports(&pod, &ports(&change.ports)?)?;
                say(&notes);
                print(&added)?;
            }
            Command::Rm(change) => networks.remove_ports(&pod, &mappings(pod.name(), &change.ports)?)?,
            Command::Ls(_) => print(&networks.attachment(pod.name())?.map(|found| found.ports).unwrap_or_default())?,
        }
        Ok(0)
    }
}

fn print(ports: &[PortMapping]) -> Result<()> {
    ports.iter().try_for_each(output::line)
}

/// Ports that are to be removed have a number.
fn mappings(pod: &str, texts: &[String]) -> Result<Vec<PortMapping>> {
    let mut all = Vec::new();
    for text in texts {
        for PortRequest { host_ip, host, pod: inside, protocol } in ports(std::slice::from_ref(text))? {
            let Some(host) = host else {
                bail!(
                    "port {text:?}: does not say which port of the machine: give HOST:POD, as `podlet port ls {pod}` shows it"
                );
            };
            all.push(PortMapping { host_ip, host, pod: inside, protocol });
        }
    }
    Ok(all)
}
