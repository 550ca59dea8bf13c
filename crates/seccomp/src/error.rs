//! The one error of the compiler.

use std::fmt::{self, Display, Formatter};

/// The compiler's results.
pub type Result<T> = std::result::Result<T, Error>;

/// A profile that means nothing, or not here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Which property, such as `seccomp.syscalls[0].action`.
    pub field: String,
    /// What was given; empty where the reason says it.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl Error {
    pub(crate) fn new(field: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Error {
        Error { field: field.into(), value: value.into(), reason: reason.into() }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Error { field, value, reason } = self;
        match value.is_empty() {
            true => write!(f, "{field}: {reason}"),
            false => write!(f, "{field} {value:?}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
