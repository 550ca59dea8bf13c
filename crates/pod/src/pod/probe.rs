//! Performing one check of a container, once.
//!
//! A program is run as `exec` does it, in a cgroup of its own where there is one, so
//! that nothing that it has started is left when it has ended or its time is over. What
//! is asked over the network goes through a socket of the pod's network namespace; who
//! asks stays where it is.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockType, SockaddrStorage, sockopt};

use super::container::Container;
use super::exec::ExecSpec;
use super::process::Process;
use crate::cgroup;
use crate::error::{Context, Error, Result, io_error};
use crate::kernel::procfs::ProcessId;
use crate::kernel::{PATIENCE, spawn, syscalls};
use crate::launch::stdio::{Io, Stdio};
use crate::spec::users::Users;
use crate::spec::{CheckAction, CheckKind, HealthCheck, NamespaceMode};
use crate::store::health::{Begun, CheckResult};

/// So much of what a check prints, or is answered, is kept.
const KEPT: usize = 4096;

/// One check, under way.
pub(super) struct Probe<'a> {
    pub check: &'a HealthCheck,
    /// Gives up once this is readable.
    pub cancel: Option<BorrowedFd<'a>>,
    /// Told of the program that is run for it.
    pub began: &'a dyn Fn(Begun),
}

impl Container<'_> {
    /// Performs its checks once, now, whoever supervises its pod, who does not count it:
    /// those of liveness and readiness, or that of its start if there are no others.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, is paused, or has no checks; what else a
    /// check cannot be performed for.
    pub fn check_health(&self) -> Result<Vec<(CheckKind, CheckResult)>> {
        self.now(|it| {
            let checks = it.record()?.container.health;
            let is_asked = |kind: CheckKind| kind != CheckKind::Startup || checks.all().count() == 1;
            let asked: Vec<_> = checks.all().filter(|(kind, _)| is_asked(*kind)).collect();
            if asked.is_empty() {
                return Err(Error::state(it.object(), "has no health check"));
            }
            let perform = |(kind, check): (CheckKind, &HealthCheck)| {
                Ok((kind, it.perform(&Probe { check, cancel: None, began: &|_| {} })?))
            };
            asked.into_iter().map(perform).collect()
        })
    }

    /// # Errors
    /// Why it could not be performed, which says nothing of the container.
    pub(super) fn perform(&self, probe: &Probe<'_>) -> Result<CheckResult> {
        self.refuse_paused()?;
        let started = SystemTime::now();
        // Longer than the clock goes is for ever.
        let end = Instant::now().checked_add(probe.check.timeout);
        let found = match &probe.check.action {
            CheckAction::Exec { args } => self.run_check(probe, args, end)?,
            action => match action.address() {
                Some(address) => self.ask(probe, address, end)?,
                None => return Err(Error::state(self.object(), "has a check of a kind that is not known here")),
            },
        };
        if !found.success {
            // Its time may have been taken from it.
            self.refuse_paused()?;
        }
        Ok(CheckResult { started, success: found.success, code: found.code, output: found.output })
    }

    fn refuse_paused(&self) -> Result<()> {
        match self.cgroup().map(|cgroup| cgroup::says_frozen(&cgroup)).transpose()? {
            Some(true) => Err(Error::state(self.object(), "is paused")),
            _ => Ok(()),
        }
    }

    /// Runs a program in it.
    fn run_check(&self, probe: &Probe<'_>, args: &[String], end: Option<Instant>) -> Result<Found> {
        let context = || format!("checking {}", self.object());
        let (reader, writer) = std::io::pipe().doing(context)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing(context)?;
        let other = writer.try_clone().doing(context)?;
        let io = Io::null().stdout(Stdio::Fd(writer.into())).stderr(Stdio::Fd(other.into()));
        let process = match self.exec(&ExecSpec::new(args).own_cgroup(), io) {
            // There is no such program in it.
            Err(error @ Error::Exec { .. }) => return Ok(Found::failed(error.to_string())),
            process => process?,
        };
        if let Some(leader) = process.pid().and_then(|pid| ProcessId::of(pid).ok()?) {
            (probe.began)(Begun { process: leader, cgroup: process.own_cgroup() });
        }
        let mut output = Output { reader: Some(reader), kept: Vec::new() };
        let in_time = output.follow(&process, probe.cancel, end).doing(context);
        output.take();
        // Whatever it has left behind goes with it.
        process.kill_all()?;
        let exit = process.wait_timeout(PATIENCE)?;
        output.take();
        let output = text(&output.kept);
        Ok(match (in_time?, exit) {
            (Followed::Ended, Some(exit)) => {
                Found { success: exit.success(), code: Some(exit.shell_code().into()), output }
            }
            (Followed::Cancelled, _) => return Err(given_up(self)),
            _ => Found::failed(format!("it has not ended after {:?}\n{output}", probe.check.timeout)),
        })
    }

    /// Connects, and asks what there is to be asked.
    fn ask(&self, probe: &Probe<'_>, address: SocketAddr, end: Option<Instant>) -> Result<Found> {
        let socket = self.socket(address)?;
        let ready = |events| await_socket(&socket, events, probe.cancel, end);
        let failed = |what: &str, error: std::io::Error| match error.kind() {
            ErrorKind::Interrupted => Err(given_up(self)),
            ErrorKind::TimedOut => {
                Ok(Found::failed(format!("{what} {address}: no answer after {:?}", probe.check.timeout)))
            }
            _ => Ok(Found::failed(format!("{what} {address}: {error}"))),
        };
        if let Err(error) = connect(&socket, address, &ready) {
            return failed("connecting to", error);
        }
        let CheckAction::Http { path, .. } = &probe.check.action else {
            return Ok(Found { success: true, code: None, output: String::new() });
        };
        let stream = TcpStream::from(socket.try_clone().doing(|| "duplicating a socket".into())?);
        match get(&stream, address, path, &ready) {
            Ok(answer) => Ok(judge(&answer)),
            Err(error) => failed("asking", error),
        }
    }

    /// A socket of the network that its container is in.
    fn socket(&self, address: SocketAddr) -> Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let record = self.record()?;
        let context = || format!("making a socket in the network of {}", self.object());
        if record.container.net != NamespaceMode::Pod || self.pod.options().host_network {
            let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK;
            return nix::sys::socket::socket(family, SockType::Stream, flags, None).doing(context);
        }
        let pause = self.pod.pause_pid().ok_or_else(|| self.pod.dead())?;
        let open = |kind: &str| std::fs::File::open(format!("/proc/{pause}/ns/{kind}")).doing(context);
        let users = (self.pod.record.users != Users::Caller).then(|| open("user")).transpose()?;
        let net = open("net")?;
        // Another process may have that number by now.
        if !self.pod.is_alive() {
            return Err(self.pod.dead());
        }
        spawn::stream_socket_in(users.as_ref().map(AsFd::as_fd), net.as_fd(), family as i32).doing(context)
    }
}

/// What a check has come to.
struct Found {
    success: bool,
    code: Option<u16>,
    output: String,
}

impl Found {
    fn failed(output: String) -> Found {
        Found { success: false, code: None, output: text(output.as_bytes()) }
    }
}

fn given_up(container: &Container<'_>) -> Error {
    Error::GivenUp { what: format!("a check of {}", container.object()) }
}

/// As much as is kept of it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT)]).into_owned()
}

/// What became of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Followed {
    Ended,
    TimedOut,
    Cancelled,
}

/// What a program prints.
struct Output {
    /// `None` once nobody can write any more.
    reader: Option<PipeReader>,
    kept: Vec<u8>,
}

impl Output {
    /// Reads on until the program has ended, or its time is over.
    fn follow(
        &mut self,
        process: &Process,
        cancel: Option<BorrowedFd<'_>>,
        end: Option<Instant>,
    ) -> nix::Result<Followed> {
        loop {
            let cancel = cancel.unwrap_or(process.as_fd());
            let mut fds = vec![process.as_fd(), cancel];
            fds.extend(self.reader.as_ref().map(AsFd::as_fd));
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match syscalls::wait_any(&fds, left)? {
                Some(0) => return Ok(Followed::Ended),
                Some(1) => return Ok(Followed::Cancelled),
                // Also one that prints all the time has no more of it.
                Some(_) if left.is_none_or(|left| !left.is_zero()) => self.take(),
                _ => return Ok(Followed::TimedOut),
            }
        }
    }

    /// What there is to be read, up to what a pipe holds.
    fn take(&mut self) {
        let mut buffer = [0; KEPT];
        for _ in 0..16 {
            let Some(reader) = &mut self.reader else { return };
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(count) => {
                    let room = KEPT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.reader = None;
                    }
                    return;
                }
            }
        }
    }
}

/// Waits until a socket is ready for something.
///
/// # Errors
/// `TimedOut`, or `Interrupted` if it is cancelled.
fn await_socket(
    socket: &OwnedFd,
    events: PollFlags,
    cancel: Option<BorrowedFd<'_>>,
    end: Option<Instant>,
) -> std::io::Result<()> {
    loop {
        let mut fds = vec![PollFd::new(socket.as_fd(), events)];
        fds.extend(cancel.map(|cancel| PollFd::new(cancel, PollFlags::POLLIN)));
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(io_error(errno)),
            Ok(_) if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) => return Err(ErrorKind::Interrupted.into()),
            Ok(_) if fds[0].any() == Some(true) && !left.is_zero() => return Ok(()),
            Ok(_) if left.is_zero() => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => {}
        }
    }
}

type Ready<'a> = dyn Fn(PollFlags) -> std::io::Result<()> + 'a;

fn connect(socket: &OwnedFd, address: SocketAddr, ready: &Ready<'_>) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => return Ok(()),
        Err(Errno::EINPROGRESS | Errno::EINTR) => {}
        Err(errno) => return Err(io_error(errno)),
    }
    ready(PollFlags::POLLOUT)?;
    match nix::sys::socket::getsockopt(socket, sockopt::SocketError).map_err(io_error)? {
        0 => Ok(()),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// The beginning of the answer to a GET of HTTP/1.1 (RFC 9112), with its status line
/// whole if there is one.
fn get(mut stream: &TcpStream, address: SocketAddr, path: &str, ready: &Ready<'_>) -> std::io::Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: podlet\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let mut left = request.as_bytes();
    while !left.is_empty() {
        ready(PollFlags::POLLOUT)?;
        match stream.write(left) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            written => left = &left[written?..],
        }
    }
    let mut answer = vec![0; KEPT];
    let mut count = 0;
    while count < KEPT && !answer[..count].contains(&b'\n') {
        ready(PollFlags::POLLIN)?;
        match stream.read(&mut answer[count..]) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => count += read?,
        }
    }
    answer.truncate(count);
    Ok(answer)
}

fn judge(answer: &[u8]) -> Found {
    let answer = text(answer);
    let line = answer.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|code| code.parse().ok()).filter(|_| is_http) {
        Some(code) => Found { success: (200..400).contains(&code), code: Some(code), output: answer },
        None => Found::failed(format!("not an answer of HTTP/1.1: {answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_status() {
        for (answer, code, success) in [
            ("HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello", Some(200), true),
            ("HTTP/1.0 302 Found\r\n", Some(302), true),
            ("HTTP/1.1 399\r\n", Some(399), true),
            ("HTTP/1.1 400 Bad Request\r\n", Some(400), false),
            ("HTTP/1.1 100 Continue\r\n", Some(100), false),
            ("HTTP/2 200 OK\r\n", None, false),
            ("SSH-2.0-OpenSSH\r\n", None, false),
            ("", None, false),
        ] {
            let found = judge(answer.as_bytes());
            assert_eq!((found.code, found.success), (code, success), "{answer:?}");
        }
        assert!(judge(&[b'x'; 10_000]).output.len() <= KEPT);
    }
}
