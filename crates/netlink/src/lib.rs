//! Netlink (netlink(7)): messages in batches, each acknowledged, and what the
//! kernel says of the one that it refuses.
//!
//! ```text
//!   Batch    ── one sendto ──►  kernel        any number of Messages
//!     ▲                           │
//!   Message  ◄── ack, ack, error ─┘           the first error, with the
//!   (Attributes, nested)                      message it is of and its words
//! ```
//!
//! There is no thread and no runtime: a [`Socket`] is a descriptor in the network
//! namespace in which it was opened, and each call waits for its answers, which
//! the kernel gives before `sendto` returns. What the messages mean is for those
//! who use it: `linux/rtnetlink.h`, `linux/netfilter/nfnetlink.h`.
#![deny(missing_docs)]

mod error;
mod message;
mod reply;
mod socket;

pub use error::{Error, Result};
pub use message::{Attributes, Batch, Message};
pub use reply::{Reply, attributes, find, number};
pub use socket::{Family, Socket};
