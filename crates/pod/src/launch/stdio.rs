//! The standard streams of a new process.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::error::{Context, Result};
use crate::kernel::{files, syscalls};

/// One of a process's standard streams.
#[derive(Debug, Default)]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// This program's own.
    Inherit,
    /// The container's log file, which `podlet logs` reads. Not for stdin.
    Log,
    /// This descriptor.
    Fd(OwnedFd),
}

/// The standard streams.
#[derive(Debug, Default)]
pub struct Io {
    /// Descriptor 0.
    pub stdin: Stdio,
    /// Descriptor 1.
    pub stdout: Stdio,
    /// Descriptor 2.
    pub stderr: Stdio,
}

impl Io {
    /// No input; output to the container's log.
    pub fn log() -> Io {
        Io { stdin: Stdio::Null, stdout: Stdio::Log, stderr: Stdio::Log }
    }

    /// This program's own.
    pub fn inherit() -> Io {
        Io { stdin: Stdio::Inherit, stdout: Stdio::Inherit, stderr: Stdio::Inherit }
    }
}

/// The three standard streams of a pod's process, which its user, `user` on
/// this machine, may open anew; `log` is where [`Stdio::Log`] goes.
///
/// Programs open `/dev/stdout`, and the kernel then asks what the user may do
/// with the pipe or file behind it, as if it had not been open already. So a
/// pipe may be opened by everybody, and the log be written. That opens them to
/// nobody else: a pipe can only be reached through the `/proc/PID/fd` of a
/// process that has it, for which ptrace(2) must be permitted, and the log lies
/// in a directory of its owner's alone. Nothing gets another owner (as runc and
/// crun do it): whoever made the pipe goes on using it. What is a file, a named
/// pipe or a terminal of the caller's stays exactly as it is.
pub(crate) fn open_streams(io: Io, log: &Path, user: u32) -> [Result<OwnedFd>; 3] {
    [(io.stdin, 0), (io.stdout, 1), (io.stderr, 2)].map(|(stdio, number)| {
        let is_log = matches!(stdio, Stdio::Log);
        let stream = open_stdio(stdio, number, log)?;
        // One that is somebody else's can only be left as it is.
        let_open(&stream, is_log, user).ok();
        Ok(stream)
    })
}

fn let_open(stream: &OwnedFd, is_log: bool, user: u32) -> nix::Result<()> {
    let meta = fstat(stream)?;
    // By its group, too: of a user who is in that, only the group's bits count.
    let wanted = match meta.st_mode & libc::S_IFMT {
        libc::S_IFREG if is_log => 0o022,
        libc::S_IFIFO => 0o066,
        _ => return Ok(()),
    };
    let is_pipe = || fstatfs(stream).is_ok_and(|fs| fs.filesystem_type() == PIPEFS_MAGIC);
    if meta.st_uid == user || meta.st_mode & wanted == wanted || !(is_log || is_pipe()) {
        return Ok(());
    }
    fchmod(stream, Mode::from_bits_truncate(meta.st_mode | wanted))
}

/// Where pipes are that have no name (statfs(2)).
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// Opens one of the standard streams; `log` is where [`Stdio::Log`] goes.
pub(crate) fn open_stdio(stdio: Stdio, number: i32, log: &Path) -> Result<OwnedFd> {
    let context = || format!("opening descriptor {number} of the new process");
    Ok(match stdio {
        Stdio::Null => File::options().read(true).write(true).open("/dev/null").doing(context)?.into(),
        Stdio::Fd(fd) => fd,
        // Where this program has none, the number may be a descriptor of ours.
        Stdio::Inherit if !syscalls::is_stdio(number) => return open_stdio(Stdio::Null, number, log),
        Stdio::Inherit => match number {
            0 => std::io::stdin().as_fd().try_clone_to_owned(),
            1 => std::io::stdout().as_fd().try_clone_to_owned(),
            _ => std::io::stderr().as_fd().try_clone_to_owned(),
        }
        .doing(context)?,
        Stdio::Log => {
            files::check_place(log)?;
            let mut options = File::options();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            options.open(log).doing(|| format!("opening the log {}", log.display()))?.into()
        }
    })
}

/// A process title, as `ps` shows it.
pub(crate) fn title(role: &str, pod: &str, container: &str) -> CString {
    CString::new(format!("podlet:{role} {pod}/{container}")).unwrap_or_default()
}
