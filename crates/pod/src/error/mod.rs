//! The one error type of the library.
//!
//! An error says once what was being done, to which object, why it failed, and
//! for the failures people really meet, what helps. What it was caused by it
//! prints itself, and gives as its [source](std::error::Error::source), too: a
//! program that prints a whole chain does so with [`in_full`].

mod cause;
mod hint;
mod step;
#[cfg(test)]
mod tests;

pub use cause::{Cause, Number};
pub use step::{MountCall, Purpose, StepKind};

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

/// The library's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Input that means nothing, or not here. Nothing was changed.
    Invalid {
        /// Which option or property, as the user spells it.
        field: String,
        /// What was given.
        value: String,
        /// What is wrong with it, and what would be right.
        reason: String,
        /// What found it so; the reason says it, too.
        cause: Option<Cause>,
    },
    /// There is no such pod, container or process.
    NotFound(String),
    /// There is one of that name already.
    Exists(String),
    /// It is not in a state in which this can be done.
    State {
        /// Such as `container web/db`.
        object: String,
        /// Such as `is running`.
        state: String,
    },
    /// The program cannot be executed. Exit code 126 or 127.
    Exec {
        /// The program's name, as it was asked for.
        program: String,
        /// Why not.
        errno: Number,
    },
    /// A step of the plan failed; what had been made is gone again.
    Step {
        /// What was being started.
        object: String,
        /// What of it the step serves, if that is anything in particular.
        purpose: Option<Purpose>,
        /// What the step is.
        kind: StepKind,
        /// The step, as the printed plan shows it.
        step: String,
        /// Why.
        errno: Number,
    },
    /// A new process was killed before it came to the end of its plan.
    Died {
        /// What was being started.
        object: String,
    },
    /// A hook failed, and with it what it belongs to.
    Hook {
        /// Such as `createRuntime`.
        kind: String,
        /// The program.
        path: String,
        /// Such as `ended with 1`.
        how: String,
        /// What it wrote, as far as that is of use.
        said: String,
        /// Why it could not be executed, if that is how it failed.
        cause: Option<Cause>,
    },
    /// It was not started, because what is to be before it has failed.
    NotReached {
        /// Such as `container web/app`.
        object: String,
        /// What has failed, and how.
        reason: String,
    },
    /// It did not happen in time.
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// It was not waited for any longer, as the caller wished
    /// ([`CreateOptions::cancel`](crate::oci::CreateOptions)).
    GivenUp {
        /// What was waited for.
        what: String,
    },
    /// The pod's exit table has no free entry.
    TableFull(String),
    /// A system call of the library failed.
    Os {
        /// What was being done, and to which object.
        doing: String,
        /// What the kernel said.
        errno: Number,
        /// The error that said so.
        cause: Cause,
    },
    /// Something of the library's failed without a word of the kernel: a file
    /// that ends too early, or what cannot be written as JSON.
    Failed {
        /// What was being done, and to which object.
        doing: String,
        /// Why it failed.
        cause: Cause,
    },
    /// A file of the state directory does not hold what it should.
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What found it so; the reason says it, too.
        cause: Option<Cause>,
    },
    /// A file of the state directory was written by a later build. It may name
    /// things that this one knows nothing of.
    Newer {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
        /// The latest version that this build knows.
        known: u32,
    },
}

impl Error {
    /// [`Error::Invalid`]: what was given where, and what is wrong with it.
    pub fn invalid(field: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid { field: field.into(), value: value.into(), reason: reason.into(), cause: None }
    }

    /// [`Error::Invalid`], in the words of what found it so.
    pub(crate) fn malformed(field: impl Into<String>, error: impl Into<Cause>) -> Error {
        let cause = error.into();
        Error::invalid(field, "", cause.to_string()).because(cause)
    }

    /// [`Error::Os`] or [`Error::Failed`], as the cause is: what was being done, and
    /// what was said to it.
    pub fn failed(doing: impl Into<String>, cause: impl Into<Cause>) -> Error {
        let (doing, cause) = (doing.into(), cause.into());
        match cause.number() {
            Some(number) => Error::Os { doing, errno: number, cause },
            None => Error::Failed { doing, cause },
        }
    }

    /// [`Error::Corrupt`]: a file of the state directory, and what is wrong with it.
    pub fn corrupt(path: &Path, reason: impl Into<String>) -> Error {
        Error::Corrupt { path: path.display().to_string(), reason: reason.into(), cause: None }
    }

    /// The same with what it was caused by, of an error that may have a cause
    /// besides its reason.
    #[must_use]
    pub fn because(mut self, by: impl Into<Cause>) -> Error {
        if let Error::Invalid { cause, .. } | Error::Corrupt { cause, .. } | Error::Hook { cause, .. } = &mut self {
            *cause = Some(by.into());
        }
        self
    }

    /// [`Error::State`]: what it is, and in which state.
    pub fn state(object: impl Into<String>, state: impl Into<String>) -> Error {
        Error::State { object: object.into(), state: state.into() }
    }

    /// The exit code podman gives this failure: 127 if the program is not
    /// there, 126 if it cannot be executed, 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Exec { errno: Number(libc::ENOENT | libc::ENOTDIR | libc::ELIBACC), .. } => 127,
            Error::Exec { .. } => 126,
            _ => 125,
        }
    }
}

impl From<::seccomp::Error> for Error {
    fn from(error: ::seccomp::Error) -> Error {
        let ::seccomp::Error { field, value, reason } = error;
        Error::invalid(field, value, reason)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { field, value, reason, .. } => {
                let (field, reason) = (readable(field, 200), readable(reason, 600));
                match value.is_empty() {
                    true => write!(f, "{field}: {reason}"),
                    false => write!(f, "{field} \"{}\": {reason}", readable(value, 200)),
                }
            }
            Error::NotFound(object) => write!(f, "no such {object}"),
            Error::Exists(object) => write!(f, "{object} exists already"),
            Error::State { object, state } => write!(f, "{object} {state}"),
            Error::Exec { program, errno } => {
                write!(f, "cannot execute \"{}\": {errno}", readable(program, 200))?;
                write_hint(f, hint::of_exec(errno.errno()))
            }
            Error::Step { object, purpose, kind, step, errno } => {
                let part = purpose.as_ref().map(ToString::to_string).unwrap_or_default();
                let between = if part.is_empty() { "" } else { ": " };
                let (part, shown) = (readable(&part, 200), readable(step, 600));
                write!(f, "cannot start {object}: {part}{between}{shown}: {errno}")?;
                write_hint(f, hint::of_step(purpose.as_ref(), *kind, errno.errno()))
            }
            Error::Died { object } => write!(f, "{object} was killed while it started"),
            Error::Hook { kind, path, how, said, .. } if said.is_empty() => write!(f, "{kind} hook {path:?} {how}"),
            Error::Hook { kind, path, how, said, .. } => write!(f, "{kind} hook {path:?} {how}: {said}"),
            Error::NotReached { object, reason } => write!(f, "{object} was not started: {reason}"),
            Error::Deadline { what, after } => write!(f, "{what} did not happen within {} s", after.as_secs()),
            Error::GivenUp { what } => write!(f, "{what} was given up, as was asked for"),
            Error::TableFull(pod) => write!(
                f,
                "pod {pod} is full: its exit table has {} entries; remove containers or wait for execs to end",
                pause::table::ENTRIES
            ),
            Error::Os { doing, errno, .. } => {
                write!(f, "{}: ", readable(doing, 600))?;
                match errno.errno() {
                    // The number of one that has no name must stand somewhere.
                    unknown @ Errno::UnknownErrno => write!(f, "error number {}: {}", errno.0, unknown.desc()),
                    errno => f.write_str(errno.desc()),
                }
            }
            Error::Failed { doing, cause } => {
                write!(f, "{}: {}", readable(doing, 600), readable(&cause.to_string(), 600))
            }
            Error::Corrupt { path, reason, .. } => {
                write!(f, "{path}: {reason}; `podlet rm -f` or `podlet-oci delete -f` removes what it belongs to")
            }
            Error::Newer { path, version, known } => write!(
                f,
                "{path}: has version {version}, and this build of podlet knows no later one than {known}: \
                 use the build that made it, or a later one"
            ),
        }
    }
}

/// What somebody else wrote, short enough to be read and without anything a
/// terminal would obey.
fn readable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(most) {
        match c {
            ' '..='~' => shown.push(c),
            c if c.is_control() || !c.is_alphanumeric() => shown.extend(c.escape_debug()),
            c => shown.push(c),
        }
    }
    if text.chars().nth(most).is_some() {
        shown.push_str("...");
    }
    shown
}

fn write_hint(f: &mut Formatter<'_>, hint: Option<&str>) -> fmt::Result {
    hint.map_or(Ok(()), |hint| write!(f, " ({hint})"))
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Exec { errno, .. } | Error::Step { errno, .. } => Some(errno),
            Error::Os { cause, .. } | Error::Failed { cause, .. } => Some(cause.error()),
            Error::Invalid { cause, .. } | Error::Corrupt { cause, .. } | Error::Hook { cause, .. } => {
                cause.as_ref().map(Cause::error)
            }
            _ => None,
        }
    }
}

/// An error and its causes, each once: `reading the file: no such pod web`.
///
/// An [`Error`] prints its own cause, with what helps behind it. So there the
/// chain ends, where a printer of whole chains (such as that of `anyhow`, by
/// `{:#}`) would say the cause a second time.
pub fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut last = error;
    while let Some(cause) = last.source().filter(|_| !prints_causes(last)) {
        said += &format!(": {cause}");
        last = cause;
    }
    said
}

/// An [`Error`], also in the shape of an [`io::Error`], which prints as it does.
fn prints_causes(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<Error>() || inner.is_some_and(|inner| inner.is::<Error>())
}

/// Says what was being done when a system call or file operation failed.
pub(crate) trait Context<T> {
    /// `doing` is only called in case of failure.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

/// The same in the standard library's form. Of an errno without a name the call
/// that just failed in this thread left the number.
pub(crate) fn io_error(errno: Errno) -> io::Error {
    if errno == Errno::UnknownErrno { io::Error::last_os_error() } else { errno.into() }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| {
            // Of an errno without a name this one is no more than that.
            let number = if errno == Errno::UnknownErrno { Number(Errno::last_raw()) } else { errno.into() };
            Error::failed(doing(), number)
        })
    }
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::failed(doing(), error))
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::failed(doing(), error))
    }
}
