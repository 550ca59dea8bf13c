//! Networks of other makers: a runtime of the Container Network Interface.
//!
//! A CNI network is a list of programs, *plugins*, that are executed one after
//! the other with JSON on their standard input, and answer on their standard
//! output. This module finds the lists ([`Conflist`]), has the programs executed
//! ([`Runtime`]) and keeps to the rules of the
//! [specification 1.1](https://www.cni.dev/docs/spec/), and to those that only
//! real plugins teach; `docs/cni.md` lists them, each with its test.
//!
//! ```text
//!   /etc/cni/net.d ─► Conflist ─┐
//!                               ├─► Record ─► one request a plugin ─► CniResult
//!   what is asked ─► Attachment ┘   stored      stdin, CNI_*           validated
//! ```
//!
//! It knows nothing of pods: an [`Attachment`] has an id and the path of a network
//! namespace, and whoever calls keeps the [`Record`] of it, which says all that is
//! needed to take it away again, also after a crash or the machine's restart.
//!
//! Everything is synchronous and in the calling thread; nothing goes on after a
//! call but what a plugin itself leaves running. The program must not ignore
//! SIGCHLD (signal(7)), nor wait for children that are not its own: how a plugin
//! ended could not be known.

mod attachment;
mod attachments;
mod capability;
mod conflist;
mod dirs;
mod failure;
mod find;
mod lock;
mod record;
mod request;
mod result;
mod runtime;
mod version;

#[cfg(test)]
mod tests;

pub use attachment::Attachment;
pub(crate) use attachment::{Name, check_name};
pub use capability::{Bandwidth, Capabilities, DnsSettings, IpRange, PortMapping, Protocol};
pub use conflist::Conflist;
pub use dirs::CniDirs;
pub use failure::{Command, Failure};
pub use find::Found;
pub use record::{Record, Stage};
pub use request::AttachmentName;
pub use result::{CniResult, Dns, Interface, Ip, Route};
pub use runtime::{CheckReport, Runtime, StatusReport, Survey};
pub use version::Version;
