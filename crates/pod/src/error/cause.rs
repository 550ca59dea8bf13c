//! What an error was caused by, in the words of what refused.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

/// An error number of the kernel's. A seccomp filter may answer any up to 4095,
/// also one that has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub i32);

impl Number {
    /// The same by its name, if it has one.
    pub(crate) fn errno(self) -> Errno {
        Errno::from_raw(self.0)
    }
}

impl From<Errno> for Number {
    fn from(errno: Errno) -> Number {
        Number(errno as i32)
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Errno::UnknownErrno => write!(f, "error number {}, which no system call of Linux has", self.0),
            errno => f.write_str(errno.desc()),
        }
    }
}

/// So that it can be the source of an [`Error`](super::Error) like every other
/// cause.
impl std::error::Error for Number {}

/// What an [`Error`](super::Error) was caused by.
///
/// An error is cloned (one failure is told to several who wait) and compared
/// (by tests, and by a caller who asks whether it is still the same failure).
/// [`io::Error`] and [`serde_json::Error`] can do neither, so they are shared,
/// and compared by what can be seen of them. Their own words and whatever they
/// carry stay whole, as an error number or a string would not keep them. An
/// error of `serde_path_to_error` comes apart into the path, which is the field
/// of an [`Error::Invalid`](super::Error::Invalid), and the JSON error, which is
/// here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel refused a system call.
    Errno(Number),
    /// An operation of the standard library failed. It has a number
    /// ([`io::Error::raw_os_error`]) if that was because the kernel refused.
    Io(Arc<io::Error>),
    /// JSON that cannot be read, or not written.
    Json(Arc<serde_json::Error>),
}

impl Cause {
    /// What the kernel said, if it was asked.
    pub fn number(&self) -> Option<Number> {
        match self {
            Cause::Errno(number) => Some(*number),
            Cause::Io(error) => error.raw_os_error().map(Number),
            Cause::Json(_) => None,
        }
    }

    /// The error itself.
    pub fn error(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Cause::Errno(number) => number,
            Cause::Io(error) => error.as_ref(),
            Cause::Json(error) => error.as_ref(),
        }
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self.error(), f)
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        match (self, other) {
            (Cause::Errno(one), Cause::Errno(other)) => one == other,
            (Cause::Io(one), Cause::Io(other)) => one.kind() == other.kind() && one.to_string() == other.to_string(),
            (Cause::Json(one), Cause::Json(other)) => one.to_string() == other.to_string(),
            _ => false,
        }
    }
}

impl Eq for Cause {}

impl From<Number> for Cause {
    fn from(number: Number) -> Cause {
        Cause::Errno(number)
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Cause {
        Cause::Errno(errno.into())
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::Io(Arc::new(error))
    }
}

impl From<serde_json::Error> for Cause {
    fn from(error: serde_json::Error) -> Cause {
        Cause::Json(Arc::new(error))
    }
}
