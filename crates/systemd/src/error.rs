//! What can go wrong on the way to systemd and back.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

/// The crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why systemd did not do it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no systemd to ask; what would help.
    Missing(String),
    /// A name or value that systemd could not take: what of it, and why.
    Invalid {
        /// What was given.
        value: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// systemd refused.
    Refused {
        /// The method that was called.
        method: String,
        /// The D-Bus name of the error, such as
        /// `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// In systemd's words.
        message: String,
    },
    /// A job was not done.
    Job {
        /// The unit.
        unit: String,
        /// systemd's word for it, such as `failed` or `canceled`.
        result: String,
    },
    /// It did not answer in time.
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The socket failed, or what came out of it was no D-Bus.
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        error: io::Error,
    },
}

impl Error {
    /// Whether systemd says by this that a unit of that name is there already.
    pub fn is_unit_exists(&self) -> bool {
        self.is_named("org.freedesktop.systemd1.UnitExists")
    }

    /// Whether systemd says by this that it has no unit of that name.
    pub fn is_no_such_unit(&self) -> bool {
        self.is_named("org.freedesktop.systemd1.NoSuchUnit")
    }

    fn is_named(&self, wanted: &str) -> bool {
        matches!(self, Error::Refused { name, .. } if name == wanted)
    }

    /// The property that this version of systemd does not know, if that is why it
    /// refused.
    pub fn unknown_property(&self) -> Option<&str> {
        let Error::Refused { name, message, .. } = self else { return None };
        if name != "org.freedesktop.DBus.Error.PropertyReadOnly" {
            return None;
        }
        // systemd, src/core/dbus-unit.c: "Cannot set property %s, or unknown
        // property."
        message.strip_prefix("Cannot set property ")?.split([',', ' ']).next()
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing(cure) => write!(f, "{cure}"),
            Error::Invalid { value, reason } => write!(f, "{value:?}: {reason}"),
            Error::Refused { method, name, message } if message.is_empty() => {
                write!(f, "systemd refused {method}: {name}")
            }
            Error::Refused { method, message, .. } => write!(f, "systemd refused {method}: {message}"),
            Error::Job { unit, result } => write!(f, "systemd's job for {unit} came to {result:?}, not to \"done\""),
            Error::Deadline { what, after } => write!(f, "systemd: no {what} within {} s", after.as_secs()),
            Error::Io { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
