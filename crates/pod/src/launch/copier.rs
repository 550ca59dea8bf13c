//! Starting copiers: see [`pause::log`].

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use pause::log::has;

use super::aside::{Aside, start_aside};
use crate::cgroup::way::Way;
use crate::error::{Context, Result};
use crate::kernel::facts::Facts;
use crate::kernel::syscalls;
use crate::plan::{Given, copier};

/// What a copier is to copy, and where to.
pub(crate) struct CopierRequest<'a> {
    /// How the container is called in errors.
    pub object: &'a str,
    /// What `ps` shows.
    pub title: CString,
    /// What the container writes to stdout and stderr; its terminal is the first.
    pub streams: [Option<BorrowedFd<'a>>; 2],
    /// What belongs to that, if it is one.
    pub terminal: Option<CopierTerminal<'a>>,
    /// Whether there is to be a log; else it is for clients alone.
    pub keeps_log: bool,
    /// Where the log is, and its name there.
    pub dir: BorrowedFd<'a>,
    /// See `dir`.
    pub name: CString,
    /// Others may own the directory.
    pub elsewhere: bool,
    /// From so many bytes on a file of the log is full; 0 for never.
    pub max_size: u64,
    /// How many files there may be.
    pub max_files: u32,
    /// Where clients come.
    pub listener: BorrowedFd<'a>,
    /// Where it is born.
    pub cgroup: Option<&'a Way>,
    /// Writes down its pid, before it does anything.
    pub note: &'a dyn Fn(u32) -> Result<()>,
    /// Directories for its program: see [`super::run_plan::program_dirs`].
    pub program_dirs: &'a [PathBuf],
}

/// What a copier has of a terminal besides its controlling end.
pub(crate) struct CopierTerminal<'a> {
    /// The process whose end is the terminal's: a pidfd.
    pub process: BorrowedFd<'a>,
    /// The other end, where we may have it.
    pub peer: Option<BorrowedFd<'a>>,
}

/// Starts it.
///
/// # Errors
/// As [`run_plan`](super::run_plan::run_plan).
pub(crate) fn start(request: &CopierRequest<'_>, facts: &Facts) -> Result<()> {
    let object = format!("the copier of {}", request.object);
    let context = || format!("starting {object}");
    let program = syscalls::program_file(c"podlet:log", pause::COPIER, request.program_dirs).doing(context)?;
    let null = File::options().read(true).write(true).open("/dev/null").doing(context)?;
    let words = [
        (request.streams[1].is_some(), has::STDERR),
        (request.terminal.is_some(), has::TERMINAL),
        (!request.keeps_log, has::NO_LOG),
    ];
    let options: Vec<u8> = words.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect();
    let number = |number: u64| CString::new(number.to_string()).unwrap_or_default();
    let argv = vec![
        request.title.clone(),
        request.name.clone(),
        number(request.max_size),
        number(request.max_files.into()),
        CString::new(options).unwrap_or_default(),
    ];
    let plan = copier::plan(argv, request.elsewhere, facts);
    let [stdout, stderr] = request.streams.map(|stream| stream.unwrap_or(null.as_fd()));
    let process = request.terminal.as_ref().map_or(null.as_fd(), |terminal| terminal.process);
    let peer = request.terminal.as_ref().and_then(|terminal| terminal.peer);
    let fds = [
        (Given::Stdin, stdout),
        (Given::Stdout, stderr),
        (Given::Stderr, request.dir),
        (Given::Container, process),
        (Given::Input, peer.unwrap_or(null.as_fd())),
        (Given::Listener, request.listener),
        (Given::Copier, program.as_fd()),
    ];
    let aside = Aside {
        object: &object,
        title: c"podlet:log",
        cgroup: request.cgroup,
        note: request.note,
        program_dirs: request.program_dirs,
    };
    start_aside(&plan, &fds, &aside)
}
