//! Starting processes that stay beside pods, outside of their namespaces: copiers and
//! supervisors.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::run_plan::{LaunchRequest, Note, run_plan, seal};
use crate::cgroup::way::Way;
use crate::error::Result;
use crate::plan::{Given, Plan};

/// Where such a process is started, and how it is called.
pub(crate) struct Aside<'a> {
    /// In errors.
    pub object: &'a str,
    /// What `ps` shows of the launcher.
    pub title: &'static std::ffi::CStr,
    /// Where it is born.
    pub cgroup: Option<&'a Way>,
    /// Writes down its pid, before it does anything.
    pub note: &'a dyn Fn(u32) -> Result<()>,
    /// Directories for the sealed program: see [`super::run_plan::program_dirs`].
    pub program_dirs: &'a [PathBuf],
}

/// Runs a plan that leaves such a process.
///
/// # Errors
/// As [`run_plan`].
pub(crate) fn start_aside(plan: &Plan, fds: &[(Given, BorrowedFd<'_>)], aside: &Aside<'_>) -> Result<()> {
    let launch = LaunchRequest {
        object: aside.object,
        title: aside.title,
        sealed: seal(plan)?,
        fds,
        handed_over: Vec::new(),
        cgroup: aside.cgroup,
        note: Some(Note { with_mounts: false, write: &|pid, _| (aside.note)(pid) }),
        answer: &|_| Ok(()),
        program_dirs: aside.program_dirs,
        cancel: None,
    };
    run_plan(plan, launch).map(drop)
}
