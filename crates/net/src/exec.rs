//! Executes one program with a deadline, and collects what it writes.
//!
//! Its standard input is a file, so nothing has to be written while it runs. It is
//! in a process group of its own: an interrupt from the terminal does not tear an
//! attachment in two, and at the deadline all that it started is killed with it.
//! Whether it has ended says a pidfd, not the end of its output, which a daemon that
//! it leaves behind may keep open.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::process::Process;

/// No result is longer; who prints more is broken.
const MOST_OUTPUT: usize = 4 << 20;
/// Of messages only so much is kept, the latest.
const MOST_MESSAGES: usize = 64 << 10;
/// No pipe holds more, unless root made it (`fs.pipe-max-size`).
const MOST_IN_PIPE: usize = 1 << 20;
/// How long a killed process may need to go.
const DYING: Duration = Duration::from_secs(5);

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why there is no output.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It could not be executed.
    Start(io::Error),
    /// It did not end in time, and was killed; what it wrote to standard error.
    Late(Vec<u8>),
    /// It printed more than 4 MiB, and was killed.
    TooMuch,
    /// Something about its pipes or its end failed.
    Wait(io::Error),
}

/// Executes the program and waits for its end.
pub(crate) fn execute(
    program: &Path,
    arguments: &[OsString],
    environment: &[(&'static str, OsString)],
    input: impl Fn() -> io::Result<File>,
    deadline: Duration,
) -> Result<Output, Trouble> {
    let until = Instant::now() + deadline;
    let start = || {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        command.stdin(input()?).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let child = start_when_written(start, until, || thread::sleep(Duration::from_millis(10)))?;
    let mut running = Running::new(child).map_err(Trouble::Wait)?;
    let ended = running.follow(until);
    if ended.is_err() {
        running.kill();
    }
    ended
}

/// A program that is just being installed, or was written by a process one of whose
/// threads has forked meanwhile, cannot be executed for a moment (ETXTBSY).
pub(crate) fn start_when_written<T>(
    mut start: impl FnMut() -> io::Result<T>,
    until: Instant,
    mut pause: impl FnMut(),
) -> Result<T, Trouble> {
    loop {
        match start() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < until => pause(),
            other => return other.map_err(Trouble::Start),
        }
    }
}

struct Running {
    child: Child,
    ended: Process,
    stdout: Option<File>,
    stderr: Option<File>,
    printed: Vec<u8>,
    messages: Vec<u8>,
}

impl Running {
    fn new(mut child: Child) -> io::Result<Running> {
        let prepare = |child: &mut Child| {
            let stdout = child.stdout.take().map(|pipe| without_waiting(pipe.into())).transpose()?;
            let stderr = child.stderr.take().map(|pipe| without_waiting(pipe.into())).transpose()?;
            Ok((Process::open(child.id())?, stdout, stderr))
        };
        match prepare(&mut child) {
            Ok((ended, stdout, stderr)) => {
                Ok(Running { child, ended, stdout, stderr, printed: Vec::new(), messages: Vec::new() })
            }
            Err(error) => {
                // Not a child to wait for without a limit.
                let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn follow(&mut self, until: Instant) -> Result<Output, Trouble> {
        loop {
            let has_ended = self.poll(until)?;
            // What it wrote before its end is in the pipes by now.
            self.collect()?;
            if has_ended {
                let status = self.child.wait().map_err(Trouble::Wait)?;
                let (stdout, stderr) = (std::mem::take(&mut self.printed), std::mem::take(&mut self.messages));
                return Ok(Output { status, stdout, stderr });
            }
            if Instant::now() >= until {
                return Err(Trouble::Late(std::mem::take(&mut self.messages)));
            }
        }
    }

    /// Waits for output, the end or the deadline; whether it was the end.
    fn poll(&self, until: Instant) -> Result<bool, Trouble> {
        let mut polled = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        for pipe in self.stdout.iter().chain(&self.stderr) {
            polled.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, or the last millisecond would be spent in circles.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => Ok(polled[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(Trouble::Wait(errno.into())),
        }
    }

    fn collect(&mut self) -> Result<(), Trouble> {
        drain(&mut self.stdout, &mut self.printed, |printed| match printed.len() > MOST_OUTPUT {
            true => Err(Trouble::TooMuch),
            false => Ok(()),
        })?;
        drain(&mut self.stderr, &mut self.messages, |messages| {
            let surplus = messages.len().saturating_sub(MOST_MESSAGES);
            messages.drain(..surplus);
            Ok(())
        })
    }

    /// All that it started and that stayed in its group, and reaps it.
    fn kill(&mut self) {
        // It is not reaped yet, so the number is its own.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        self.ended.ends_by(Instant::now() + DYING);
        let _ = self.child.try_wait();
    }
}

/// Reads what is there, at most what a pipe can hold: of a program that writes
/// without end the deadline is looked at in between. A pipe that has come to its
/// end is closed.
pub(crate) fn drain(
    pipe: &mut Option<File>,
    into: &mut Vec<u8>,
    mut check: impl FnMut(&mut Vec<u8>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut buffer = [0; 16 << 10];
    let mut left = MOST_IN_PIPE;
    while let Some(file) = pipe.as_mut().filter(|_| left > 0) {
        match file.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(size) => {
                left = left.saturating_sub(size);
                into.extend_from_slice(&buffer[..size]);
                check(into)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::Wait(error)),
        }
    }
    Ok(())
}

fn without_waiting(pipe: OwnedFd) -> io::Result<File> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(File::from(pipe))
}
