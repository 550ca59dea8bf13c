//! Networks of pods: an IP address for each, ports of the machine, and names.
//!
//! [`Networks`] are those of a store of the crate `pod`, which knows nothing of
//! them but that somebody docks on ([`extended`]). They are a value: an embedder
//! makes networks, puts pods into them, asks and removes, without the command.
//!
//! ```no_run
//! use net::{AttachOptions, NetworkOptions, NetworkRequest, Networks};
//! use pod::{Pod, PodOptions, Store};
//!
//! # fn main() -> pod::Result<()> {
//! // By this store ports and addresses are given back when a pod ends.
//! let store = net::extended(Store::open_default()?);
//! let networks = Networks::open(&store);
//!
//! let mut options = NetworkOptions::new("web");
//! options.subnets = vec![net::config::parse_subnet("10.90.1.0/24")?];
//! let (_, notes) = networks.create_network(&options)?;
//! notes.0.iter().for_each(|switched_on| eprintln!("{switched_on}"));
//!
//! let pod = Pod::create(&store, PodOptions::new("shop"))?;
//! let mut attach = AttachOptions::new([NetworkRequest::new("web")]);
//! attach.ports = net::ports::parse("8080:80")?;
//! let (attached, _) = networks.attach(&pod, &attach)?;
//! println!("{:?}", attached.addresses().next());
//! networks.check(&pod)?.iter().for_each(|finding| println!("{finding}"));
//!
//! pod.remove()?;
//! networks.unmake(&networks.changing()?, "web")
//! # }
//! ```
//!
//! What is done is a list of steps from pure code, which prints itself (`step`) and
//! is done by netlink, without other programs. Whatever is made stands in a record
//! before (`attach`), and what the kernel has can be made anew from the records at
//! any time (`make`). [`cni`] executes the plugins of others instead, and an ordinary
//! user's pods have pasta (`rootless`).
#![deny(missing_docs)]

// Layers, lowest first: a module imports from itself and from those above it in
// this list alone.

mod files; // Files that are there whole or not at all.

mod process; // A process, and no other of its number.

mod exec; // Programs, each with a deadline.

pub mod cni; // Networks that other programs make.

mod enter; // Work in a pod's network namespace.

mod proc_net; // What /proc tells of a namespace that cannot be entered.

mod setting; // Kernel parameters.

mod route; // Links, addresses and routes, as messages.

mod step; // What is done, as a list.

mod machine; // What there is on this machine.

pub mod names; // What users say of names.

pub mod hosts; // By which names pods find each other.

pub mod config; // What a network is.

pub mod resolv; // Whom pods ask for names.

pub mod lease; // Whose an address is.

pub mod ports; // Ports of the machine that lead to pods.

mod pasta; // The program that an ordinary user's pod has for a network card.

mod registry; // Whose a port is.

pub mod networks; // What is kept of networks on disk.

mod nft; // The firewall.

mod record; // What a pod has of networks.

mod forwarding; // Which links forward for pods.

mod bridge; // A network's links.

mod peers; // Whether other machines can be reached.

mod make; // What the kernel has of networks.

mod manage; // Networks, as users make them.

mod request; // What is asked for a pod.

mod dock; // Pods in networks that other programs make.

mod publish; // Ports of pods.

mod interface; // A pod's interfaces in networks of our own.

mod neighbours; // Who has to know that a pod is there.

mod rootless; // Pods whose way out is pasta.

mod naming; // By which names pods are found, and until when.

mod attach; // Pods and networks.

mod reload; // Networks as they should be, after others changed them.

pub mod check; // Where a packet would stop.

mod extension; // What happens to networks with pods.

pub use config::NetworkConfig;
pub use dock::CniNetwork;
pub use extension::{docked, extended};
pub use make::Notes;
pub use manage::{DEFAULT, NetworkOptions, may_make};
pub use networks::Networks;
pub use pasta::is_usable as may_use_pasta;
pub use record::{Asked, AttachedNetwork, Attachment, PASTA};
pub use request::{AttachOptions, NetworkRequest, interface_of, parse_ip, parse_ip6};
pub use route::parse_mac;

#[cfg(test)]
mod tests;
