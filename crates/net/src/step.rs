//! What is done to make a network or to attach a pod: a flat list, which prints
//! itself and is then done from top to bottom.

use std::fmt::{self, Display, Formatter};

use netlink::{Batch, Message, Socket};
use pod::{Error, Result};

use crate::setting::Setting;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A kernel parameter.
    Set(Setting),
    /// A link, an address, a route.
    Route(Message),
}

impl From<Setting> for Step {
    fn from(setting: Setting) -> Step {
        Step::Set(setting)
    }
}

impl From<Message> for Step {
    fn from(message: Message) -> Step {
        Step::Route(message)
    }
}

/// As sysctl(8) and ip(8) have it.
impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Set(setting) => write!(f, "sysctl {setting}"),
            Step::Route(message) => write!(f, "ip {}", message.doing()),
        }
    }
}

/// Does the steps in order, messages that follow one another in one call.
///
/// # Errors
/// The first that fails, with the words of the kernel; those before it are done.
pub(crate) fn perform(socket: &mut Socket, steps: &[Step]) -> Result<()> {
    let mut batch = Batch::new();
    for step in steps {
        match step {
            Step::Route(message) => drop(batch.push(message.clone())),
            Step::Set(setting) => {
                send(socket, &std::mem::take(&mut batch))?;
                setting.set()?;
            }
        }
    }
    send(socket, &batch)
}

fn send(socket: &mut Socket, batch: &Batch) -> Result<()> {
    socket.send(batch).map_err(refused)
}

/// A request that the kernel refused, as an error of this crate's.
pub(crate) fn refused(error: netlink::Error) -> Error {
    let doing = error.doing.clone();
    match error.words {
        Some(words) => Error::failed(format!("{doing} ({words})"), error.errno),
        None => Error::failed(doing, error.errno),
    }
}
