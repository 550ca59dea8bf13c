//! The one error type of the library.
//!
//! An error says once what was being done, to which object, why it failed, and
//! for the failures people really meet, what helps.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use nix::errno::Errno;

/// The library's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error number of the kernel's. A seccomp filter may answer any up to 4095,
/// also one that has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub i32);

impl Number {
    /// The same by its name, if it has one.
    pub fn errno(self) -> Errno {
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
        /// What of it the step serves, such as `the mount on /data`; may be
        /// empty.
        part: String,
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
    /// The pod's exit table has no free slot.
    TableFull(String),
    /// A system call of the library failed.
    Os {
        /// What was being done, and to which object.
        doing: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A file of the state directory does not hold what it should.
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
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
    pub(crate) fn invalid(field: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid { field: field.into(), value: value.into(), reason: reason.into() }
    }

    pub(crate) fn state(object: impl Into<String>, state: impl Into<String>) -> Error {
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
        Error::Invalid { field, value, reason }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { field, value, reason } => {
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
                let hint = match errno.errno() {
                    Errno::ENOENT => {
                        "not in the container's root file system, not along its PATH, or a script or program whose \
                         interpreter is not there"
                    }
                    Errno::ELIBACC => {
                        "it was there when the container was created; its interpreter is not: see its first line"
                    }
                    Errno::EACCES => "it is a directory, or lacks the execute permission for this user",
                    Errno::ENOEXEC => "empty, a script without `#!`, or built for another processor",
                    _ => return Ok(()),
                };
                write!(f, " ({hint})")
            }
            Error::Step { object, part, step, errno } => {
                let between = if part.is_empty() { "" } else { ": " };
                let (part, shown) = (readable(part, 200), readable(step, 600));
                write!(f, "cannot start {object}: {part}{between}{shown}: {errno}")?;
                match hint(step, errno.errno()) {
                    Some(hint) => write!(f, " ({hint})"),
                    None => Ok(()),
                }
            }
            Error::Died { object } => write!(f, "{object} was killed while it started"),
            Error::Hook { kind, path, how, said } if said.is_empty() => write!(f, "{kind} hook {path:?} {how}"),
            Error::Hook { kind, path, how, said } => write!(f, "{kind} hook {path:?} {how}: {said}"),
            Error::Deadline { what, after } => write!(f, "{what} did not happen within {} s", after.as_secs()),
            Error::GivenUp { what } => write!(f, "{what} was given up, as was asked for"),
            Error::TableFull(pod) => write!(
                f,
                "pod {pod} is full: its exit table has {} slots; remove containers or wait for execs to end",
                pause::table::SLOTS
            ),
            Error::Os { doing, errno } => write!(f, "{}: {}", readable(doing, 600), errno.desc()),
            Error::Corrupt { path, reason } => {
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

/// What helps with the failures of a plan that people really meet.
fn hint(step: &str, errno: Errno) -> Option<&'static str> {
    let call = step.split('(').next().unwrap_or_default();
    Some(match (call, errno) {
        ("openat2" | "openat", Errno::ENOENT | Errno::EACCES) if step.ends_with(" = sysctl") => {
            "this kernel has no such parameter, or lets nobody but the machine's root set it"
        }
        ("openat", Errno::ENOENT | Errno::ENOTDIR) if step.ends_with(" = place") => {
            "root.path has to be a directory there, too"
        }
        ("write", Errno::EINVAL | Errno::ERANGE) if step.contains("(sysctl,") => "the kernel does not take this value",
        ("write", Errno::EACCES | Errno::EPERM) if step.contains("(oom_score_adj,") => {
            "lowering it below podlet's own takes CAP_SYS_RESOURCE"
        }
        ("write", Errno::EPERM) if step.contains("(file, \"0 0 1") => {
            "root of a user namespace that makes itself root of another one needs CAP_SETFCAP"
        }
        ("write", Errno::ENOENT) if step.contains("(attr_exec,") => "no profile of that name is loaded",
        ("sched_setattr" | "ioprio_set", Errno::EPERM) => {
            "a place before others takes CAP_SYS_NICE on the machine, which podlet does not have here"
        }
        ("sched_setattr", Errno::EBUSY) => "the processors are promised to others already",
        ("sched_setaffinity", Errno::EINVAL) => "none of these processors is there, or in the container's cpuset",
        ("set_mempolicy", Errno::EINVAL) => {
            "none of these memory nodes is there, or the kernel is too old for the mode"
        }
        ("openat2", Errno::ELOOP) => {
            "the image has a symbolic link there: a mount over it could leave the container, so it is refused"
        }
        ("mkdirat" | "mknodat", Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
            "the mount point is missing and the file system does not let podlet make it: make it yourself"
        }
        ("unshare" | "clone3", Errno::EPERM) => {
            "creating namespaces is forbidden here: see the sysctls user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; in a container of \
             podlet's it takes `--security-opt nesting`"
        }
        ("unshare" | "clone3", Errno::ENOSPC) => "too many namespaces: see the sysctls user.max_*_namespaces",
        ("clone3", Errno::EAGAIN) => "too many processes: see pids.max of the cgroup and `ulimit -u`",
        ("keyctl", Errno::EDQUOT) => "too many keyrings: see the sysctl kernel.keys.maxkeys",
        ("openat2", Errno::ENOTDIR) if step.contains("O_DIRECTORY") => "it is not a directory in the container",
        ("openat2", Errno::ENOENT) => "it does not exist in the container",
        ("mount_setattr", Errno::EINVAL) if step.contains("IDMAP") => {
            "this kernel cannot map the ids of that file system: chown the root file system to the pod's ids instead"
        }
        ("move_mount", Errno::EINVAL | Errno::ENOTDIR) | ("mount", Errno::ENOTDIR) => {
            "a directory can only be mounted on a directory, and a file on a file"
        }
        ("mount" | "fsconfig" | "fsopen", Errno::ENODEV) => {
            "this kernel does not have that file system: see /proc/filesystems"
        }
        ("readlinkat", Errno::EFAULT) | ("openat", Errno::ELOOP) => {
            "the image has a symbolic link there, which is refused where openat2(2) is denied"
        }
        ("openat", Errno::ENOTDIR) => "it is not a directory, or a symbolic link where openat2(2) is denied",
        ("mount" | "fsconfig", Errno::EINVAL) => {
            "an option that this file system does not know, or a value it does not take; the kernel's log may say which"
        }
        ("mount_setattr", Errno::EPERM) if step.contains("IDMAP") => {
            "the file system belongs to another user namespace, or its ids are mapped already"
        }
        ("mount_setattr", Errno::EPERM) | ("mount", Errno::EPERM)
            if step.contains("_setattr") || step.contains("MS_REMOUNT") =>
        {
            "in a user namespace what a mount came with cannot be loosened, nor its time of access changed"
        }
        ("mount_setattr", Errno::EINVAL) if step.contains("(mounted,") => "nothing is mounted there",
        ("mount", Errno::ENOTBLK) => "the source is not a block device",
        ("mount", Errno::EPERM) if step.contains("\"proc\"") || step.contains("\"sysfs\"") => {
            "the kernel lets a user namespace mount this only where the caller's own is not covered in parts"
        }
        ("setresuid" | "setresgid" | "setgroups", Errno::EINVAL) => "the id has no mapping in the pod's user namespace",
        ("prlimit64", Errno::EPERM) => {
            "raising a limit above podlet's own hard one takes CAP_SYS_RESOURCE: ask for less (`ulimit -H -a`)"
        }
        ("capset" | "prctl", Errno::EPERM) => "podlet itself does not have that capability",
        ("seccomp", Errno::EINVAL) => "this kernel does not know one of the profile's actions or flags",
        _ => return None,
    })
}

impl std::error::Error for Error {}

/// The number of an errno that has no name must stand somewhere.
fn with_number(doing: String, errno: Errno, number: i32) -> String {
    if errno == Errno::UnknownErrno { format!("{doing}: error number {number}") } else { doing }
}

/// Says what was being done when a system call or file operation failed.
pub(crate) trait Context<T> {
    /// `doing` is only called in case of failure.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| {
            // Of an errno without a name this one is no more than that.
            let number = Errno::last_raw();
            Error::Os { doing: with_number(doing(), errno, number), errno }
        })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            let errno = Errno::from_raw(number);
            Error::Os { doing: with_number(doing(), errno, number), errno }
        })
    }
}
