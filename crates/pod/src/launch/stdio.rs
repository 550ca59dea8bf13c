//! The standard streams of a new process, and this program's ends of them.

use std::ffi::CString;
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown};

use crate::error::{Context, Error, Result};
use crate::kernel::terminal::WindowSize;
use crate::kernel::{files, syscalls};
use crate::plan::input::TerminalOptions;
use crate::spec::{ContainerSpec, Mount, MountKind};

/// One of a process's standard streams.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// This program's own.
    Inherit,
    /// One end of a pipe (pipe(7)); the other one is this program's.
    Piped,
    /// The container's log, which `podlet logs` reads: see
    /// [`ContainerSpec::log`]. Not for stdin.
    Log,
    /// This descriptor.
    Fd(OwnedFd),
}

/// What a new process has as standard streams: three of any kind, or a
/// terminal.
///
/// ```
/// use pod::{Io, Stdio, WindowSize};
///
/// let talk = Io::piped().stderr(Stdio::Inherit);
/// let screen = Io::terminal(WindowSize { rows: 24, columns: 80 });
/// ```
#[derive(Debug)]
pub enum Io {
    /// Three streams.
    Streams(Streams),
    /// A terminal from the container's own devpts, which is the controlling
    /// one of the process's session, and `/dev/console` if that is a
    /// container's first.
    Terminal(TerminalOptions),
    /// The same, of a container's main process, and not this program's: it goes on
    /// without it, its output is in the log, and
    /// [`Container::attach`](crate::Container::attach) leads to it.
    KeptTerminal(TerminalOptions),
}

/// Three standard streams.
#[derive(Debug, Default)]
pub struct Streams {
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
}

impl Io {
    /// No input, and no output.
    pub fn null() -> Streams {
        Streams::default()
    }

    /// No input; output to the container's log.
    pub fn log() -> Streams {
        Io::null().stdout(Stdio::Log).stderr(Stdio::Log)
    }

    /// This program's own.
    pub fn inherit() -> Streams {
        Streams { stdin: Stdio::Inherit, stdout: Stdio::Inherit, stderr: Stdio::Inherit }
    }

    /// A pipe for each.
    pub fn piped() -> Streams {
        Streams { stdin: Stdio::Piped, stdout: Stdio::Piped, stderr: Stdio::Piped }
    }

    /// A terminal of this size.
    pub fn terminal(size: WindowSize) -> Io {
        Io::Terminal(TerminalOptions { size, keeps_newlines: false })
    }

    /// A terminal of this size that goes on without this program.
    pub fn kept_terminal(size: WindowSize) -> Io {
        Io::KeptTerminal(TerminalOptions { size, keeps_newlines: false })
    }

    /// What a container's main process has of these: one that
    /// [has a terminal](ContainerSpec::tty) has it in the place of its log.
    pub(crate) fn of(self, container: &ContainerSpec) -> Io {
        match container.tty && self.is_log() {
            true => Io::KeptTerminal(TerminalOptions::default()),
            false => self,
        }
    }

    /// The terminal that its main process has of these, if any.
    pub(crate) fn terminal_of(&self, container: &ContainerSpec) -> Option<TerminalOptions> {
        self.terminal_options().or_else(|| (container.tty && self.is_log()).then(TerminalOptions::default))
    }

    /// Whether it is [`Io::log`].
    fn is_log(&self) -> bool {
        matches!(self, Io::Streams(Streams { stdin: Stdio::Null, stdout: Stdio::Log, stderr: Stdio::Log }))
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal_options(&self) -> Option<TerminalOptions> {
        match self {
            Io::Streams(_) => None,
            Io::Terminal(options) | Io::KeptTerminal(options) => Some(*options),
        }
    }

    /// Whether some of it goes to the log.
    pub(crate) fn wants_log(&self) -> bool {
        match self {
            Io::Streams(streams) => [&streams.stdout, &streams.stderr].iter().any(|it| matches!(it, Stdio::Log)),
            Io::Terminal(_) | Io::KeptTerminal(_) => false,
        }
    }

    /// Whether a process can have it that is no container's main process, or none of a
    /// pod's.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Io::KeptTerminal(_) => {
                let reason = "only the main process of a pod's container has one that goes on by itself: give it \
                              Io::terminal, which is this program's";
                Err(Error::invalid("terminal", "kept", reason))
            }
            Io::Streams(Streams { stdin: Stdio::Log, .. }) => {
                Err(Error::invalid("stdin", "log", "the log is for output: give it another stream"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a process of a pod's container can have it.
    pub(crate) fn check_for(&self, container: &ContainerSpec) -> Result<()> {
        if !matches!(self, Io::KeptTerminal(_)) {
            self.check()?;
        }
        let is_it = |mount: &Mount| mount.kind == MountKind::Devpts && mount.target == Path::new("/dev/pts");
        if self.terminal_options().is_none() || container.mounts.iter().any(is_it) {
            return Ok(());
        }
        let reason = "a terminal comes from the container's own devpts, and it has none: add a mount of that kind on \
                      /dev/pts";
        Err(Error::invalid("terminal", &container.name, reason))
    }
}

impl Default for Io {
    fn default() -> Io {
        Io::null().into()
    }
}

impl From<Streams> for Io {
    fn from(streams: Streams) -> Io {
        Io::Streams(streams)
    }
}

impl Streams {
    /// With this as descriptor 0.
    pub fn stdin(self, stdin: Stdio) -> Streams {
        Streams { stdin, ..self }
    }

    /// With this as descriptor 1.
    pub fn stdout(self, stdout: Stdio) -> Streams {
        Streams { stdout, ..self }
    }

    /// With this as descriptor 2.
    pub fn stderr(self, stderr: Stdio) -> Streams {
        Streams { stderr, ..self }
    }
}

/// This program's ends of the pipes among a new process's streams.
#[derive(Debug, Default)]
pub(crate) struct PipeEnds {
    pub stdin: Option<PipeWriter>,
    pub stdout: Option<PipeReader>,
    pub stderr: Option<PipeReader>,
}

/// How the user of a process, who has this number on this machine, comes to
/// open its streams anew.
///
/// Programs open `/dev/stdout`, and the kernel then asks what the user may do
/// with the pipe or file behind it, as if it had not been open already.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reopening {
    /// A pipe may be opened by everybody, and the log be written. That opens
    /// them to nobody else: a pipe can only be reached through the
    /// `/proc/PID/fd` of a process that has it, for which ptrace(2) must be
    /// permitted, and the log lies in a directory of its owner's alone. Nothing
    /// gets another owner: whoever made the pipe goes on using it. What is a
    /// file, a named pipe or a terminal of the caller's stays exactly as it is.
    ByMode(u32),
    /// All but `/dev/null` gets that owner, as runc and crun do it.
    ByOwner(u32),
}

impl Reopening {
    fn permit(self, stream: &OwnedFd, is_log: bool) -> nix::Result<()> {
        match self {
            Reopening::ByMode(user) => let_open(stream, is_log, user),
            Reopening::ByOwner(user) => give(stream, user),
        }
    }
}

/// Where [`Stdio::Log`] goes.
pub(crate) enum LogEnd<'a> {
    /// This file gets it as it is.
    File(&'a Path),
    /// A copier gets it.
    Pipes(&'a mut LogPipes),
    /// Nobody does.
    Nowhere,
}

/// The pipes that a copier reads, for stdout and stderr.
#[derive(Debug, Default)]
pub(crate) struct LogPipes([Option<(PipeReader, PipeWriter)>; 2]);

impl LogPipes {
    /// Those that are there.
    pub(crate) fn of(pipes: [Option<(PipeReader, PipeWriter)>; 2]) -> LogPipes {
        LogPipes(pipes)
    }

    /// What a copier is to read.
    pub(crate) fn readers(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.0.each_ref().map(|pipe| pipe.as_ref().map(|(reader, _)| reader.as_fd()))
    }

    /// The end that a process writes to as this descriptor. There are both pipes or
    /// none, so that a copier knows which is which: of one that nobody gets it reads
    /// the end.
    fn writer(&mut self, number: i32) -> std::io::Result<OwnedFd> {
        for pipe in &mut self.0 {
            if pipe.is_none() {
                let (reader, writer) = std::io::pipe()?;
                // Its reader looks whether there is something.
                fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                *pipe = Some((reader, writer));
            }
        }
        let [stdout, stderr] = &self.0;
        let pipe = if number == 2 { stderr } else { stdout };
        let (_, writer) = pipe.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        writer.try_clone().map(OwnedFd::from)
    }
}

/// From here on writing to it waits for room.
pub(crate) fn make_wait(stream: &impl AsFd) -> nix::Result<()> {
    fcntl(stream, FcntlArg::F_SETFL(OFlag::empty())).map(drop)
}

/// Opens the standard streams of a process; `log` is where [`Stdio::Log`]
/// goes. They are to be closed here once it has them: else those that read
/// what it writes never come to an end. One that gets a terminal has none
/// before that.
pub(crate) fn open(io: Io, log: &mut LogEnd<'_>, reopening: Reopening) -> Result<([OwnedFd; 3], PipeEnds)> {
    let Streams { stdin, stdout, stderr } = match io {
        Io::Streams(streams) => streams,
        Io::Terminal(_) | Io::KeptTerminal(_) => Io::null(),
    };
    let mut ours = PipeEnds::default();
    let mut open = |stdio: Stdio, number| -> Result<OwnedFd> {
        let is_log = matches!((&stdio, &log), (Stdio::Log, LogEnd::File(_)));
        let stream = open_one(stdio, number, log, &mut ours)?;
        // One that is somebody else's can only be left as it is.
        reopening.permit(&stream, is_log).ok();
        Ok(stream)
    };
    let theirs = [open(stdin, 0)?, open(stdout, 1)?, open(stderr, 2)?];
    Ok((theirs, ours))
}

/// The process's end of a pipe, whose other one is kept.
fn pipe(number: i32, ours: &mut PipeEnds) -> Result<OwnedFd> {
    let (reader, writer) =
        std::io::pipe().doing(|| format!("making a pipe for descriptor {number} of the new process"))?;
    Ok(match number {
        0 => {
            ours.stdin = Some(writer);
            reader.into()
        }
        _ => {
            let end = if number == 1 { &mut ours.stdout } else { &mut ours.stderr };
            *end = Some(reader);
            writer.into()
        }
    })
}

fn open_one(stdio: Stdio, number: i32, log: &mut LogEnd<'_>, ours: &mut PipeEnds) -> Result<OwnedFd> {
    let context = || format!("opening descriptor {number} of the new process");
    Ok(match (stdio, log) {
        (Stdio::Fd(fd), _) => fd,
        (Stdio::Piped, _) => pipe(number, ours)?,
        // Where this program has none, the number may be a descriptor of ours.
        (Stdio::Inherit, _) if syscalls::is_stdio(number) => match number {
            0 => std::io::stdin().as_fd().try_clone_to_owned(),
            1 => std::io::stdout().as_fd().try_clone_to_owned(),
            _ => std::io::stderr().as_fd().try_clone_to_owned(),
        }
        .doing(context)?,
        (Stdio::Log, LogEnd::Pipes(pipes)) => pipes.writer(number).doing(context)?,
        (Stdio::Log, LogEnd::File(log)) => {
            files::check_place(log)?;
            let mut options = File::options();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            options.open(*log).doing(|| format!("opening the log {}", log.display()))?.into()
        }
        (Stdio::Null | Stdio::Inherit, _) | (Stdio::Log, LogEnd::Nowhere) => {
            File::options().read(true).write(true).open("/dev/null").doing(context)?.into()
        }
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

fn give(stream: &OwnedFd, user: u32) -> nix::Result<()> {
    let meta = fstat(stream)?;
    let is_null = meta.st_mode & libc::S_IFMT == libc::S_IFCHR && meta.st_rdev == libc::makedev(1, 3);
    if meta.st_uid == user || is_null {
        return Ok(());
    }
    fchown(stream, Some(Uid::from_raw(user)), None)
}

/// A process title, as `ps` shows it.
pub(crate) fn title(role: &str, pod: &str, container: &str) -> CString {
    CString::new(format!("podlet:{role} {pod}/{container}")).unwrap_or_default()
}
