//! Starts a process that does a [`Plan`], and listens to what it reports.
//!
//! ```text
//!   error    step N failed with errno        the maker, H, H2, C or pause
//!   born     here is the new one's pidfd     H2 (a container), maker (a pod)
//!   maps     write my id maps, I wait        maker, for an ordinary user
//!   mounts   the container's mount namespace H or C, where there is no cgroup
//!   users    the user namespace asked for one for an idmapped mount
//!   ready    I hold                          pause
//!   runtime  run the hooks, I wait           C, of a bundle that has some
//!   console  here is the terminal            H or C
//!   created  I wait to be started            C, of a bundle
//!   exec     next is execve                  C
//!   listener here is the filter's descriptor C, with a filter that asks somebody
//!   (end)    everybody has closed            ─► done, if ready, created or exec came
//! ```
//!
//! The socket closes by itself: when the last of them executes the container's
//! program, becomes pause, or dies.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};
use pause::wire::Record;

use super::terminal::Terminal;
use crate::cgroup::way::Way;
use crate::error::{Context, Error, Number, Result, StepKind};
use crate::kernel::procfs::{MountNamespace, mount_namespace_of};
use crate::kernel::spawn::{self, Child};
use crate::kernel::syscalls;
use crate::plan::{Given, Plan, Step};

/// After this a launch is given up: something holds it that should not.
const DEADLINE: Duration = Duration::from_secs(30);

/// Directories for the file of the sealed program, should memfds be forbidden,
/// the first that will do: the state's own, then what every machine has.
pub(crate) fn program_dirs(state: &Path) -> Vec<PathBuf> {
    vec![state.into(), "/dev/shm".into(), "/var/tmp".into()]
}

/// A process that has come to the end of its plan.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its pidfd; for a plan that makes a user namespace, that.
    pub pidfd: OwnedFd,
    /// Its mount namespace, if the plan tells.
    pub mounts: Option<MountNamespace>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
}

/// What a plan may stop for until it is answered.
#[derive(Debug)]
pub(crate) enum Question<'a> {
    /// Write the id maps of this process.
    Maps(u32),
    /// Run the hooks of this process, whose root is about to change. Its mount
    /// namespace, if the plan tells.
    Runtime(&'a OwnedFd, Option<MountNamespace>),
    /// Give the listener what this descriptor of a seccomp filter asks. Nobody
    /// waits for that to be done.
    Listener {
        /// Of the filter.
        filter: OwnedFd,
        /// The process that has it; none if that is the one that was started.
        process: Option<&'a OwnedFd>,
    },
}

/// After an error the others have this long to notice it.
const AFTERMATH: Duration = Duration::from_secs(2);

/// One that is being killed has ended after so long.
const MOMENT: Duration = Duration::from_millis(500);

/// What a launch needs besides its plan.
pub(crate) struct LaunchRequest<'a> {
    /// Such as `container web/db`.
    pub object: &'a str,
    /// What `ps` shows.
    pub title: &'a CStr,
    /// The plan, [sealed](seal).
    pub sealed: OwnedFd,
    /// The descriptors the plan asks for; itself, the report, the program and
    /// the socket pair of its processes come by themselves.
    pub fds: &'a [(Given, BorrowedFd<'a>)],
    /// The same, but the new process is to be the only one that has them.
    pub handed_over: Vec<(Given, OwnedFd)>,
    /// Where the process is born, or what gets it there.
    pub cgroup: Option<&'a Way>,
    /// Writes down which process was born.
    pub note: Option<Note<'a>>,
    /// Does what a plan asks for.
    pub answer: &'a dyn Fn(Question<'_>) -> Result<()>,
    /// Directories for the program: see [`program_dirs`].
    pub program_dirs: &'a [PathBuf],
    /// Once it can be read the launch is given up.
    pub cancel: Option<&'a OwnedFd>,
}

/// The answer to a plan that asks for nothing but id maps.
pub(crate) fn only_maps<'a>(map: impl Fn(u32) -> Result<()> + 'a) -> impl Fn(Question<'_>) -> Result<()> + 'a {
    move |question| match question {
        Question::Maps(pid) => map(pid),
        Question::Runtime(..) | Question::Listener { .. } => Ok(()),
    }
}

/// What is done as soon as it is known who was born. A plan that waits for it
/// does so late, so the word is there before it asks.
pub(crate) struct Note<'a> {
    /// Its mount namespace is to be known, too: the plan tells.
    pub with_mounts: bool,
    /// Takes pid and mount namespace.
    pub write: &'a dyn Fn(u32, Option<MountNamespace>) -> Result<()>,
}

/// The plan, as the new process is given it.
///
/// # Errors
/// [`Error::Invalid`] if it is too long, [`Error::Os`].
pub(crate) fn seal(plan: &Plan) -> Result<OwnedFd> {
    syscalls::sealed_file(c"plan", &plan.encode()?).doing(|| "writing the plan".into())
}

/// Runs the plan to its end.
///
/// # Errors
/// [`Error::Step`], [`Error::Exec`], [`Error::Died`], [`Error::Deadline`], or
/// [`Error::Os`] if it could not begin.
pub(crate) fn run_plan(plan: &Plan, mut request: LaunchRequest<'_>) -> Result<Launched> {
    let object = request.object;
    let starting = |what: &'static str| move || format!("starting {object}: {what}");
    let program = syscalls::program_file(c"podlet", pause::PROGRAM, request.program_dirs)
        .doing(starting("making the sealed program (see the sysctl vm.memfd_noexec)"))?;
    let pair = || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = pair().doing(starting("making the report socket"))?;
    let mut fds =
        vec![(Given::Plan, request.sealed.as_fd()), (Given::Report, theirs.as_fd()), (Given::Program, program.as_fd())];
    fds.extend(request.fds);
    let mut handed_over = std::mem::take(&mut request.handed_over);
    if plan.wants(Given::Maker) {
        let (maker, made) = pair().doing(starting("making a socket pair"))?;
        handed_over.extend([(Given::Maker, maker), (Given::Made, made)]);
    }
    fds.extend(handed_over.iter().map(|(given, fd)| (*given, fd.as_fd())));
    let find = |wanted: &Given| fds.iter().find(|(given, _)| given == wanted).map(|(_, fd)| *fd);
    let given: Option<Vec<_>> = plan.given().iter().map(find).collect();
    let given = given.ok_or_else(|| Error::failed(starting("a descriptor is missing")(), Errno::EBADF))?;
    let (cgroup, entrance) = request.cgroup.map(Way::parts).unzip();
    let (cgroup, entrance) = (cgroup.flatten(), entrance.flatten());
    let place = spawn::Birthplace { cgroup, namespaces: plan.born_in(), waits: entrance.is_some() };
    let child = spawn::spawn(program.as_fd(), request.title, &given, place);
    let child = child.map_err(|errno| {
        let what = match errno {
            Errno::EAGAIN => "too many processes (see pids.max of its cgroup and the pod's, and `ulimit -u`)",
            Errno::E2BIG | Errno::ENOMEM => "executing the sealed program (is its memory limit below 64k?)",
            // Every kernel that podlet runs on has it.
            Errno::ENOSYS => {
                "a seccomp filter denies clone3(2); in a container of podlet's it takes `--security-opt nesting`"
            }
            Errno::ENOSPC => "too many namespaces (see the sysctls user.max_*_namespaces)",
            _ => "executing the sealed program by clone3(2) and execveat(2)",
        };
        Error::failed(starting(what)(), errno)
    })?;
    // Only the new process's end is left open: its closing ends the report.
    drop((handed_over, theirs));
    let mut heard = Report::default();
    let moved = entrance.map_or(Ok(()), |entrance| entrance.move_in(child.pid()).and_then(|()| acknowledge(&ours)));
    let result = moved.and_then(|()| listen(plan, &request, &child, &ours, &mut heard));
    if result.is_err() {
        child.kill();
        heard.born = heard.born.or_else(|| unheard(&ours));
        if let Some(born) = &heard.born {
            kill(born);
            // Not ours if pause adopted it.
            syscalls::reap(born.as_fd());
        }
    }
    drop(ours);
    // Who was only its launcher has served.
    if result.is_err() || plan.born_in() == 0 {
        child.reap();
    }
    result?;
    match heard {
        Report { born: Some(pidfd), mounts, console, .. } => {
            Ok(Launched { pidfd, mounts, terminal: console.map(Terminal::from) })
        }
        _ => Err(Error::Died { object: object.into() }),
    }
}

/// Hears the rest of the report of a process that waited to be started;
/// `explain` knows its plan.
///
/// # Errors
/// As [`run_plan`].
pub(crate) fn hear_start(
    object: &str,
    report: &OwnedFd,
    cancel: Option<&OwnedFd>,
    explain: &dyn Fn(&Record) -> Error,
) -> Result<()> {
    hear(object, report, cancel, &mut Report::default(), explain, &mut |_, _| Ok(()))
}

/// The listener's descriptor, once it is known whose it is.
fn pass_on(heard: &mut Report, answer: &dyn Fn(Question<'_>) -> Result<()>) -> Result<()> {
    match heard.listener.take() {
        Some(filter) => answer(Question::Listener { filter, process: heard.born.as_ref() }),
        None => Ok(()),
    }
}

/// What a report has told so far.
#[derive(Default)]
struct Report {
    born: Option<OwnedFd>,
    mounts: Option<MountNamespace>,
    console: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    done: bool,
    failure: Option<Record>,
    /// The hooks are to run: perhaps of a process we have not been told yet.
    runtime: bool,
}

/// The word for which a plan waits at the other end of its report.
///
/// # Errors
/// [`Error::Os`]; not if nobody listens any more: the report says why.
pub(crate) fn acknowledge(report: &OwnedFd) -> Result<()> {
    match send(report.as_raw_fd(), b"!", MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        result => result.map(drop).doing(|| "answering the report".into()),
    }
}

/// Reads the report until everybody has closed it, and answers.
fn listen(plan: &Plan, request: &LaunchRequest<'_>, child: &Child, report: &OwnedFd, heard: &mut Report) -> Result<()> {
    let died = || Error::Died { object: request.object.into() };
    let mut unwritten = request.note.as_ref();
    let mut note = |heard: &Report| {
        let known = |note: &&Note<'_>| heard.born.is_some() && (heard.mounts.is_some() || !note.with_mounts);
        let (Some(note), Some(born)) = (unwritten.take_if(|note| known(note)), &heard.born) else { return Ok(()) };
        let pid = if plan.born_in() != 0 { Ok(Some(child.pid())) } else { syscalls::pid_of(born.as_fd()) };
        let pid = pid.doing(|| format!("starting {}", request.object))?;
        (note.write)(pid.ok_or_else(died)?, heard.mounts)?;
        acknowledge(report)
    };
    if plan.born_in() != 0 {
        heard.born = Some(child.descriptor().doing(|| format!("starting {}", request.object))?);
        note(heard)?;
    }
    let explain = |record: &Record| failed(plan, request.object, record);
    hear(request.object, report, request.cancel, heard, &explain, &mut |kind, heard| {
        if kind == Record::MAPS {
            let mapped = (request.answer)(Question::Maps(child.pid()));
            return match mapped {
                // Nobody can write the maps of one that is being killed.
                Err(_) if child.ends_within(MOMENT) => Err(died()),
                mapped => mapped.and_then(|()| acknowledge(report)),
            };
        }
        note(heard)?;
        // The one process speaks, the other one tells who that is.
        let Some(born) = &heard.born else { return Ok(()) };
        if std::mem::take(&mut heard.runtime) {
            (request.answer)(Question::Runtime(born, heard.mounts))?;
            acknowledge(report)?;
        }
        pass_on(heard, request.answer)
    })
}

/// The process of which nothing was heard, because the report was not read to its
/// end: it may have told all there was to tell, and execute its program by now.
/// Who has yet to be told of is ended by who tells it, in vain from now on.
fn unheard(report: &OwnedFd) -> Option<OwnedFd> {
    // What was sent before can be read.
    shutdown(report.as_raw_fd(), Shutdown::Read).ok()?;
    let records = std::iter::from_fn(|| receive(report).ok().flatten());
    records.filter(|(record, _)| matches!(record.kind, Record::BORN | Record::USERS)).find_map(|(_, born)| born)
}

/// Reads a report to its end.
fn hear(
    object: &str,
    report: &OwnedFd,
    cancel: Option<&OwnedFd>,
    heard: &mut Report,
    explain: &dyn Fn(&Record) -> Error,
    react: &mut dyn FnMut(u32, &mut Report) -> Result<()>,
) -> Result<()> {
    let mut deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let both: Vec<_> = [Some(report), cancel].into_iter().flatten().map(AsFd::as_fd).collect();
        let readable = syscalls::wait_any(&both, Some(left)).doing(|| format!("waiting for {object}"))?;
        if readable == Some(1) {
            return Err(syscalls::given_up(cancel, || format!("the start of {object}")));
        }
        if readable.is_none() && heard.failure.is_some() {
            break;
        }
        if readable.is_none() {
            return Err(Error::Deadline { what: format!("the start of {object}"), after: DEADLINE });
        }
        let Some((record, descriptor)) = receive(report).doing(|| format!("reading the report of {object}"))? else {
            break;
        };
        match record.kind {
            Record::BORN => heard.born = descriptor,
            Record::MOUNTS => {
                let namespace = descriptor.map(|namespace| mount_namespace_of(&File::from(namespace))).transpose();
                let namespace = namespace.doing(|| format!("looking at the mount namespace of {object}"))?;
                heard.mounts = Some(namespace.ok_or_else(|| Error::Died { object: object.into() })?);
            }
            Record::CONSOLE => heard.console = descriptor,
            Record::LISTENER => heard.listener = descriptor,
            Record::READY | Record::CREATED | Record::EXEC => heard.done = true,
            Record::RUNTIME => heard.runtime = true,
            Record::USERS => (heard.born, heard.done) = (descriptor, true),
            // The first one is the cause; others come of it.
            Record::ERROR => {
                heard.failure = heard.failure.or(Some(record));
                deadline = deadline.min(Instant::now() + AFTERMATH);
                continue;
            }
            _ => {}
        }
        let before = Instant::now();
        react(record.kind, heard)?;
        // What we did ourselves does not count.
        deadline += before.elapsed();
    }
    match heard.failure {
        Some(record) => Err(explain(&record)),
        None if heard.done => Ok(()),
        None => Err(Error::Died { object: object.into() }),
    }
}

fn failed(plan: &Plan, object: &str, record: &Record) -> Error {
    let errno = Number(record.errno as i32);
    let number = record.step as usize;
    match plan.steps().get(number) {
        Some(step) if step.is_exec() || step.looks_for_program() => {
            // What `execve` would say.
            let refused = step.looks_for_program() && errno == Errno::EINVAL.into();
            let errno = if refused { Errno::EACCES.into() } else { errno };
            let program = plan.steps().iter().rev().find_map(|step| step.program());
            Error::Exec { program: program.unwrap_or_default(), errno }
        }
        _ if record.errno == 0 => Error::Died { object: object.into() },
        _ => {
            let kind = plan.steps().get(number).map_or(StepKind::Other, Step::kind);
            let purpose = plan.purpose(number).cloned();
            Error::Step { object: object.into(), purpose, kind, step: plan.call(number), errno }
        }
    }
}

/// One record, and the descriptor that came with it; `None` at the end.
fn receive(socket: &OwnedFd) -> nix::Result<Option<(Record, Option<OwnedFd>)>> {
    let mut bytes = [0u8; size_of::<Record>()];
    let (size, descriptor) = syscalls::receive(socket.as_fd(), &mut bytes)?;
    if size == 0 {
        return Ok(None);
    }
    let word = |i: usize| u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    Ok(Some((Record { kind: word(0), step: word(1), errno: word(2), reserved: 0 }, descriptor)))
}

fn kill(pidfd: &OwnedFd) {
    // It may be gone already.
    syscalls::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::process::Command;

    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    fn tell(report: &OwnedFd, kind: u32, descriptor: &OwnedFd) -> nix::Result<usize> {
        let bytes: Vec<u8> = [kind, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let fds = [descriptor.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(report.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)
    }

    #[test]
    fn a_process_of_which_nothing_was_heard_is_found_in_the_report() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
        let mut born = Command::new("sleep").arg("60").spawn().expect("a process");
        let pidfd = syscalls::pidfd_open(born.id()).expect("its pidfd");
        let null = OwnedFd::from(File::open("/dev/null").expect("/dev/null"));
        for (kind, descriptor) in [(Record::CONSOLE, &null), (Record::BORN, &pidfd), (Record::EXEC, &null)] {
            tell(&theirs, kind, descriptor).expect("a record");
        }
        let found = unheard(&ours).expect("the one that was told of");
        assert_eq!(syscalls::pid_of(found.as_fd()).expect("its pid"), Some(born.id()));
        // From now on whoever makes a process learns that nobody hears of it.
        assert_eq!(tell(&theirs, Record::BORN, &pidfd), Err(Errno::EPIPE));
        assert!(unheard(&ours).is_none());
        born.kill().and_then(|()| born.wait()).expect("its end");
    }
}
