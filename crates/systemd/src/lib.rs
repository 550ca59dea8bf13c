//! A small client of [systemd's manager]: transient scopes, made and removed for
//! programs that keep cgroups in them.
//!
//! ```text
//!   Manager   StartTransientUnit, StopUnit, SetUnitProperties, AttachProcessesToUnit
//!     │         and what a job came to
//!   Bus       one socket: messages there and back, each with a deadline
//!     │
//!   zbus      the wire format
//! ```
//!
//! It runs in programs that are not its own, so there is no thread, no signal and
//! no global state: a [`Manager`] is one socket, which is closed with it, and each
//! call waits for its answer, for a while.
//!
//! [systemd's manager]: https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html
#![deny(missing_docs)]

mod bus;
mod error;
mod manager;
mod message;
mod name;
mod property;

pub use error::{Error, Result};
pub use manager::{Manager, Whose};
pub use name::{check_unit, escape, slice_path};
pub use property::{Property, Value};
