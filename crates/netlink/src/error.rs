use std::fmt::{self, Display, Formatter};
use std::io;

use nix::errno::Errno;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the request was to do.
    pub doing: String,
    /// Why not.
    pub errno: Errno,
    /// The same in the kernel's own words, if it had some (`NLMSGERR_ATTR_MSG`).
    pub words: Option<String>,
}

/// What requests come to.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(doing: impl Into<String>, errno: Errno) -> Error {
        Error { doing: doing.into(), errno, words: None }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.errno.desc())?;
        match &self.words {
            Some(words) => write!(f, " (the kernel: {words})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}
