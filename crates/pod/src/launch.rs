//! Starts a process that does a [`Plan`], and listens to what it reports.
//!
//! ```text
//!   error    step N failed with errno        anything, H, H2, C or pause
//!   born     here is the new one's pidfd     H2 (a container), maker (a pod)
//!   maps     write my id maps, I wait        maker, for an ordinary user
//!   mounts   the container's mount namespace H, where there is no cgroup
//!   users    the user namespace asked for  one for an idmapped mount
//!   ready    I hold                          pause
//!   exec     next is execve                  C
//!   (end)    everybody has closed            ─► done, if ready or exec came
//! ```
//!
//! The socket closes by itself: when the last of them executes the container's
//! program, becomes pause, or dies.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use pause::wire::Record;

use crate::error::{Context, Error, Result};
use crate::plan::{Given, Plan};
use crate::sys::{self, Child};

/// After this a launch is given up: something holds it that should not.
const DEADLINE: Duration = Duration::from_secs(30);

/// A process that has come to the end of its plan.
#[derive(Debug)]
pub(crate) struct Born {
    /// Its pidfd; for a plan that makes a user namespace, that.
    pub pidfd: OwnedFd,
    /// Its mount namespace, if the plan tells.
    pub mounts: Option<OwnedFd>,
}

/// After an error the others have this long to notice it.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What a launch needs besides its plan.
pub(crate) struct Ignition<'a> {
    /// Such as `container web/db`.
    pub object: &'a str,
    /// What `ps` shows.
    pub title: &'a CStr,
    /// The descriptors the plan asks for; the plan itself, the report and the
    /// program come by themselves.
    pub fds: &'a [(Given, BorrowedFd<'a>)],
    /// The same, but the new process is to be the only one that has them.
    pub handed_over: Vec<(Given, OwnedFd)>,
    /// Where the process is born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Writes the id maps of process `pid`, for a plan that asks.
    pub write_maps: &'a dyn Fn(u32) -> Result<()>,
    /// Directories for the program, should memfds be forbidden.
    pub places: &'a [PathBuf],
}

/// Runs the plan to its end.
///
/// # Errors
/// [`Error::Step`], [`Error::Exec`], [`Error::Died`], [`Error::Deadline`], or
/// [`Error::Os`] if it could not begin.
pub(crate) fn ignite(plan: &Plan, mut ignition: Ignition<'_>) -> Result<Born> {
    let object = ignition.object;
    let starting = |what: &'static str| move || format!("starting {object}: {what}");
    let program = sys::program_file(c"podlet", pause::PROGRAM, ignition.places)
        .doing(starting("making the sealed program (see the sysctl vm.memfd_noexec)"))?;
    let plan_file = sys::sealed_file(c"plan", &plan.encode()?).doing(starting("writing the plan"))?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .doing(starting("making the report socket"))?;
    let mut fds =
        vec![(Given::Plan, plan_file.as_fd()), (Given::Report, theirs.as_fd()), (Given::Program, program.as_fd())];
    fds.extend(ignition.fds);
    let handed_over = std::mem::take(&mut ignition.handed_over);
    fds.extend(handed_over.iter().map(|(given, fd)| (*given, fd.as_fd())));
    let find = |wanted: &Given| fds.iter().find(|(given, _)| given == wanted).map(|(_, fd)| *fd);
    let given: Option<Vec<_>> = plan.given().iter().map(find).collect();
    let given = given.ok_or_else(|| Error::Os { doing: starting("a descriptor is missing")(), errno: Errno::EBADF })?;
    let child = sys::spawn(program.as_fd(), ignition.title, &given, ignition.cgroup)
        .doing(starting("executing the sealed program by clone3(2) and execveat(2)"))?;
    // Only the new process's end is left open: its closing ends the report.
    drop((handed_over, theirs));
    let result = listen(plan, &ignition, &child, &ours);
    if result.is_err() {
        child.kill();
    }
    child.reap();
    result
}

/// Reads the report until everybody has closed it.
fn listen(plan: &Plan, ignition: &Ignition<'_>, child: &Child, report: &OwnedFd) -> Result<Born> {
    let object = ignition.object;
    let mut mounts = None;
    let mut deadline = Instant::now() + DEADLINE;
    let mut born = None;
    let mut done = false;
    let mut failure = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let readable = sys::wait_readable(report, Some(left)).doing(|| format!("waiting for {object}"))?;
        if !readable && failure.is_some() {
            break;
        }
        if !readable {
            if let Some(pidfd) = &born {
                kill(pidfd);
            }
            return Err(Error::Deadline { what: format!("the start of {object}"), after: DEADLINE });
        }
        let Some((record, descriptor)) = receive(report).doing(|| format!("reading the report of {object}"))? else {
            break;
        };
        match record.kind {
            Record::BORN => born = descriptor,
            Record::USERS => (born, done) = (descriptor, true),
            Record::MOUNTS => mounts = descriptor,
            Record::READY | Record::EXEC => done = true,
            Record::MAPS => answer_maps(ignition, child, report)?,
            // The first one is the cause; others come of it.
            Record::ERROR => {
                failure = failure.or(Some(record));
                deadline = deadline.min(Instant::now() + AFTERMATH);
            }
            _ => {}
        }
    }
    if let Some(record) = failure {
        return Err(failed(plan, object, &record));
    }
    match born {
        Some(pidfd) if done => Ok(Born { pidfd, mounts }),
        _ => Err(Error::Died { object: object.into() }),
    }
}

fn answer_maps(ignition: &Ignition<'_>, child: &Child, report: &OwnedFd) -> Result<()> {
    let waiting = child.pid().ok_or_else(|| Error::Died { object: ignition.object.into() })?;
    (ignition.write_maps)(waiting)?;
    send(report.as_raw_fd(), b"!", MsgFlags::MSG_NOSIGNAL).doing(|| "answering the report".into()).map(drop)
}

fn failed(plan: &Plan, object: &str, record: &Record) -> Error {
    let errno = Errno::from_raw(record.errno as i32);
    let number = record.step as usize;
    match plan.steps().get(number) {
        Some(step) if step.is_exec() => Error::Exec { program: step.program().unwrap_or_default(), errno },
        _ if record.errno == 0 => Error::Died { object: object.into() },
        _ => {
            let part = plan.part(number).unwrap_or_default().into();
            Error::Step { object: object.into(), part, step: plan.call(number), errno }
        }
    }
}

/// One record, and the descriptor that came with it; `None` at the end.
fn receive(socket: &OwnedFd) -> nix::Result<Option<(Record, Option<OwnedFd>)>> {
    let mut bytes = [0u8; size_of::<Record>()];
    let (size, descriptor) = sys::receive(socket.as_fd(), &mut bytes)?;
    if size == 0 {
        return Ok(None);
    }
    let word = |i: usize| u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    Ok(Some((Record { kind: word(0), step: word(1), errno: word(2), reserved: 0 }, descriptor)))
}

fn kill(pidfd: &OwnedFd) {
    // It may be gone already.
    sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
}
