//! An exec as a whole: its process, and everything that this has started.
//!
//! With a cgroup of its own (see [`ExecSpec::own_cgroup`](crate::ExecSpec)) that
//! is whatever is in there, and nothing can hide. Without one it is looked for:
//! the session of which an exec's process is always the leader, and all that
//! descend from it. A process that has made a session of its own *and* whose
//! parents have ended (a daemon) belongs to neither, and is not found.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::procfs::{self, ProcessId};
use crate::kernel::{PATIENCE, syscalls};

/// Where the processes of an exec are.
#[derive(Debug)]
pub(crate) enum Whole {
    /// In this cgroup and below.
    Cgroup(PathBuf),
    /// Around this process.
    Session(ProcessId),
}

impl Whole {
    /// SIGKILL for all of it, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Deadline`], [`Error::Os`].
    pub(crate) fn end(&self, what: &str) -> Result<()> {
        match self {
            Whole::Cgroup(dir) => cgroup::remove_tree(dir),
            Whole::Session(leader) => end_session(*leader, what),
        }
    }

    /// Takes away what is empty: what an exec left behind goes on in it.
    pub(crate) fn tidy(&self) {
        if let Whole::Cgroup(dir) = self {
            cgroup::remove_if_empty(dir);
        }
    }
}

/// The processes that belong to the session of `leader` or descend from it.
fn members(leader: ProcessId) -> Result<Vec<ProcessId>> {
    let mut seen = BTreeMap::new();
    for pid in procfs::all_pids()? {
        if let Some(stat) = procfs::stat(pid)?.filter(|stat| !stat.has_ended()) {
            seen.insert(pid, stat);
        }
    }
    // As long as a process is in the session, no other one gets its number.
    let is_anothers = seen.get(&leader.pid).is_some_and(|process| process.start != leader.start);
    let mut found: Vec<u32> = match is_anothers {
        true => Vec::new(),
        false => seen.iter().filter(|(_, process)| process.session == Some(leader.pid)).map(|(pid, _)| *pid).collect(),
    };
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = seen.iter().filter(|(_, process)| process.parent == parent).map(|(pid, _)| *pid);
        let new: Vec<_> = children.filter(|child| !found.contains(child)).collect();
        found.extend(new);
        next += 1;
    }
    Ok(found.into_iter().filter_map(|pid| Some(ProcessId { pid, start: seen.get(&pid)?.start })).collect())
}

fn end_session(leader: ProcessId, what: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    // A process that forks and ends while /proc is read can leave a child that
    // was not seen: only the second look in vain counts.
    let mut in_vain = 0;
    while in_vain < 2 {
        let found = members(leader)?;
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        if Instant::now() > end {
            return Err(Error::Deadline { what: format!("the end of all processes of {what}"), after: PATIENCE });
        }
        // All of them first: a process that is waited for while its kin live could
        // be started again by these.
        let killed: Result<Vec<_>> = found.iter().filter_map(|process| process.open().transpose()).collect();
        let killed = killed?;
        for pidfd in &killed {
            syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
        }
        for pidfd in &killed {
            syscalls::wait_readable(pidfd, Some(Duration::from_millis(100))).ok();
        }
    }
    Ok(())
}
