//! What became of a launch that another command got in the way of.
//!
//! A pod can end, or be removed, at any moment of a launch. The kernel then
//! answers the next step with whatever it says of something that is gone:
//! `setns(2)` with ESRCH, `clone3(2)` into a pid namespace that is being taken
//! down with ENOMEM, a cgroup's file with ENOENT or ENODEV, pause's /proc with
//! EACCES. Here that becomes what happened, to whom, and what to do.

use std::time::Duration;

use super::Pod;
use super::process::Process;
use crate::error::{Error, Number, StepKind};
use crate::kernel::{files, record_file, syscalls};
use crate::store::records::{POD, PodRecord};

/// A process that is being ended may take so long to be gone.
const MOMENT: Duration = Duration::from_millis(500);

/// How long to look whether another command is behind this error: `None` if it
/// is about what was asked for.
///
/// A container that fails on its own ends, too, and perhaps its pod with it. So
/// only what is said before it is born raises suspicion.
fn suspicion(error: &Error) -> Option<Duration> {
    match error {
        // Whether a process may be entered depends on its memory, too, which goes
        // before its namespaces do.
        Error::Step { kind: StepKind::Setns, errno: Number(libc::ESRCH | libc::EPERM), .. } => Some(MOMENT),
        Error::Step { kind: StepKind::Clone3, errno: Number(libc::ENOMEM), .. } => Some(MOMENT),
        Error::Os { errno: Number(libc::ESRCH | libc::ENODEV), .. } | Error::Died { .. } => Some(MOMENT),
        // EACCES is said of the /proc of a process whose memory is gone already.
        Error::Os { errno: Number(libc::ENOENT | libc::EACCES), .. } => Some(Duration::ZERO),
        Error::State { .. } => Some(Duration::ZERO),
        _ => None,
    }
}

impl Pod {
    /// Why `object` could not be started, if that is because the pod ended.
    pub(crate) fn explain(&self, object: &str, error: Error) -> Error {
        let Some(patience) = suspicion(&error) else { return error };
        if matches!(error, Error::Died { .. }) && self.options().end_with_last {
            // Its end may well be the pod's.
            return error;
        }
        let has_ended = match self.pidfd() {
            // What pause still waits for is not known: that it goes is.
            _ if self.is_ending() => true,
            Some(pause) => syscalls::wait_readable(&pause, Some(patience)).unwrap_or(false),
            None => true,
        };
        let pod = format!("pod {}", self.name());
        // A record that cannot be read is there.
        let is_there = match record_file::read_record::<PodRecord>(&self.dir.join(POD)) {
            Ok(record) => record.is_some_and(|record| record.id == self.record.id),
            Err(_) => true,
        };
        match (is_there, has_ended) {
            (false, _) => Error::state(pod, format!("was removed while {object} was being started")),
            (true, true) => {
                let state =
                    format!("ended while {object} was being started; `podlet start {}` revives it", self.name());
                Error::state(pod, state)
            }
            (true, false) => error,
        }
    }

    /// Why this pod could not be revived, if that is because another command
    /// removed it meanwhile.
    pub(crate) fn explain_revival(&self, error: Error) -> Error {
        match (suspicion(&error), self.cgroup()) {
            (Some(_), Some(cgroup)) if !files::is_there(cgroup.path()) => {
                Error::state(format!("pod {}", self.name()), "was ended by somebody else while it was being started")
            }
            _ => error,
        }
    }

    /// Why the exec `object` could not be started, if that is because the container
    /// of `main` ended, or its pod.
    pub(crate) fn explain_exec(&self, object: &str, main: &Process, error: Error) -> Error {
        let Some(patience) = suspicion(&error) else { return error };
        if matches!(main.wait_timeout(patience), Ok(None)) {
            return error;
        }
        match self.explain(object, error) {
            explained @ Error::State { .. } => explained,
            _ => Error::state(
                format!("container {}/{}", self.name(), main.name()),
                format!("ended before the {object} began"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn only_what_an_ending_pod_causes_is_suspicious() {
        let step = |kind, errno| Error::Step {
            object: "container web/db".into(),
            purpose: None,
            kind,
            step: format!("{kind}()"),
            errno: Number(errno),
        };
        for error in [
            step(StepKind::Setns, libc::ESRCH),
            step(StepKind::Setns, libc::EPERM),
            step(StepKind::Clone3, libc::ENOMEM),
            Error::failed("", Errno::ESRCH),
            Error::failed("", Errno::ENODEV),
        ] {
            assert_eq!(suspicion(&error), Some(MOMENT), "{error:?}");
        }
        for error in [Error::failed("", Errno::ENOENT), Error::failed("", std::io::Error::from(Errno::EACCES))] {
            assert_eq!(suspicion(&error), Some(Duration::ZERO), "{error:?}");
        }
        for error in [
            step(StepKind::Setns, libc::EINVAL),
            step(StepKind::Clone3, libc::EPERM),
            step(StepKind::Mkdirat, libc::EPERM),
            Error::failed("", std::io::Error::other("no number")),
        ] {
            assert_eq!(suspicion(&error), None, "{error:?}");
        }
    }
}
