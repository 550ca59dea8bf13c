//! Starting supervisors: see [`crate::Pod::start_supervisor`].

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::aside::{Aside, start_aside};
use crate::cgroup::way::Way;
use crate::error::{Context, Error, Result};
use crate::plan::{Given, supervisor};

/// What is to be started, and where.
pub(crate) struct SupervisorRequest<'a> {
    /// How it is called in errors.
    pub object: &'a str,
    pub program: BorrowedFd<'a>,
    /// The first of them is what `ps` shows.
    pub argv: &'a [String],
    /// Where it is born.
    pub cgroup: Option<&'a Way>,
    /// Writes down its pid, before it does anything.
    pub note: &'a dyn Fn(u32) -> Result<()>,
    /// Directories for the sealed program: see [`super::run_plan::program_dirs`].
    pub program_dirs: &'a [PathBuf],
}

/// Starts it, with this process's environment.
///
/// # Errors
/// [`Error::Invalid`], and as [`run_plan`].
pub(crate) fn start(request: &SupervisorRequest<'_>) -> Result<()> {
    let context = || format!("starting {}", request.object);
    let null = File::options().read(true).write(true).open("/dev/null").doing(context)?;
    let text = |word: &String| {
        CString::new(word.as_str()).map_err(|_| Error::invalid("supervisor's argument", word, "has a null byte in it"))
    };
    let argv = request.argv.iter().map(text).collect::<Result<_>>()?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        CString::new([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
    };
    let plan = supervisor::plan(argv, std::env::vars_os().filter_map(variable).collect());
    let fds = [
        (Given::Stdin, null.as_fd()),
        (Given::Stdout, null.as_fd()),
        (Given::Stderr, null.as_fd()),
        (Given::Supervisor, request.program),
    ];
    let aside = Aside {
        object: request.object,
        title: c"podlet:super",
        cgroup: request.cgroup,
        note: request.note,
        program_dirs: request.program_dirs,
    };
    start_aside(&plan, &fds, &aside)
}
