//! A tracer: kills a command as it begins its N-th system call, or has one call
//! of it, or of anything it starts, fail.
//!
//! ```text
//!   test (cases/any_call*.rs)     for every moment: prepare, trace, compare
//!     └─ suite --trace LOG WHAT   this module; ptrace(2), PTRACE_SEIZE
//!          └─ podlet run ...      process 1, traced from its first call on
//!               ├─ maker          1.1: clone3(VM|VFORK), execveat of a memfd
//!               │    └─ pause     1.1.1
//!               └─ H              1.2
//!                    └─ H2        1.2.1
//!                         └─ C    1.2.1.1, until it executes its program
//!
//!   the command                    the tracer
//!     │ clone3 ───── stop ────────► an event: kill here, or follow the child
//!     │ openat ───── stop ────────► entry: count; is it this one?
//!     │                              kill   SIGKILL, the call is not made
//!     │                              fail   close(-1) is made instead,
//!     │ ◄──────────────────────────         which every filter lets through
//!     │   -1 EIO ─── stop ────────► exit: the result is overwritten
//! ```
//!
//! A kill is for the command alone, all its threads: what it has started is let
//! go at once and lives on. A fault follows everything that is podlet's: the
//! launchers, and pause. A process that executes a program by its path is not any
//! more, and is let go before: the kernel takes the privileges of newuidmap from a
//! process that is traced.
//!
//! The tracer is a process of its own that ends with the command; the kernel
//! then lets go whatever is still traced, running or stopped. A tracer that has
//! hung is ended by its own alarm, and writes no last line.
//!
//! [`Tracer::run`] is the test's side, [`main`] the tracer's; they speak by the
//! lines of a file.

pub mod faults;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};
use syscalls::x86_64::Sysno;

use crate::bed::{Bed, Said};
use crate::harness::patience;
use crate::sys;

/// No traced command takes longer, in seconds; else it has hung.
/// Times [`patience`].
const LIMIT: u32 = 25;

/// What is done to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its calls are written down.
    Watch,
    /// It is killed at its N-th moment, from 1: a call that begins, or a process
    /// that it has just made.
    Kill(usize),
    /// It is killed as it begins the N-th of these calls, from 1.
    KillAt(Vec<String>, usize),
    /// The N-th call, from 1, of a process of this name fails, if it can: with
    /// the error of this number among those the call can fail with.
    Fail { process: String, call: usize, error: usize },
}

impl What {
    fn word(&self) -> String {
        match self {
            What::Watch => "watch".into(),
            What::Kill(moment) => format!("kill:{moment}"),
            What::KillAt(names, number) => format!("kill-at:{}:{number}", names.join(",")),
            What::Fail { process, call, error } => format!("fail:{process}:{call}:{error}"),
        }
    }

    fn parse(word: &str) -> What {
        let words: Vec<&str> = word.split(':').collect();
        let number = |word: &str| word.parse().expect("a number");
        match words[..] {
            ["watch"] => What::Watch,
            ["kill", moment] => What::Kill(number(moment)),
            ["kill-at", names, count] => What::KillAt(names.split(',').map(String::from).collect(), number(count)),
            ["fail", process, call, error] => {
                What::Fail { process: process.into(), call: number(call), error: number(error) }
            }
            _ => panic!("not what a tracer does: {word}"),
        }
    }

    /// Whether children are traced, too.
    fn follows(&self) -> bool {
        matches!(self, What::Watch | What::Fail { .. })
    }
}

/// A system call that was made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which process made it: `1` is the command, `1.2` the second process that
    /// this has made, and so on.
    pub process: String,
    /// Which one of its calls that is, from 1.
    pub number: usize,
    /// How many errors it can fail with.
    pub errors: usize,
}

/// What became of a traced command.
#[derive(Debug)]
pub struct Traced {
    /// How it ended: as the shell says it, and what it printed.
    pub said: Said,
    /// Its calls, if these are written down.
    pub calls: Vec<Call>,
    /// Where it was killed or failed, if it came so far.
    pub hit: Option<String>,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// Its exit code.
    pub code: Option<i32>,
}

/// Runs a command to its end, traced.
pub fn run(bed: &Bed, command: &Command, what: &What) -> Traced {
    let log = bed.dir.join("traced");
    let mut tracer = Command::new(bed.program("suite"));
    tracer.arg("--trace").arg(&log).arg(what.word()).arg(command.get_program()).args(command.get_args());
    tracer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let said = bed.spawn_command(tracer).wait();
    let log = fs::read_to_string(log).expect("what the tracer wrote");
    let mut traced = Traced { said, calls: Vec::new(), hit: None, signal: None, code: None };
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["call", process, call, _, errors] => {
                let number = |word: &str| word.parse().expect("a number");
                let (process, number, errors) = (process.into(), number(call), number(errors));
                traced.calls.push(Call { process, number, errors });
            }
            ["hit", ref words @ ..] => traced.hit = Some(words.join(" ")),
            ["code", code] => traced.code = code.parse().ok(),
            ["signal", name] => traced.signal = name.parse().ok(),
            _ => panic!("the tracer wrote {line:?}"),
        }
    }
    let ended = traced.code.is_some() || traced.signal.is_some();
    let limit = LIMIT * patience();
    assert!(
        ended,
        "{} hung for {limit} s, {}: {what:?}",
        traced.said.command,
        traced.hit.as_deref().unwrap_or("unhit")
    );
    traced
}

/// `suite --trace LOG WHAT PROGRAM ARG...`
pub fn main(log: &str, what: &str, command: &[&str]) -> ExitCode {
    let log = File::create(log).expect("a log");
    // What it does by default ends this process, and with it all tracing.
    alarm::set(LIMIT * patience());
    let (root, release) = sys::fork_that_executes(command);
    let mut options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC;
    options |= Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
    ptrace::seize(root, options).expect("PTRACE_SEIZE");
    drop(release);
    let mut tracer = Tracer::new(What::parse(what), log, root);
    let ended = loop {
        let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => continue,
            status => status.expect("something to trace"),
        };
        match status {
            WaitStatus::Exited(pid, code) if pid == root => break format!("code {code}"),
            WaitStatus::Signaled(pid, signal, _) if pid == root => break format!("signal {signal}"),
            status => tracer.step(status),
        }
    };
    writeln!(tracer.log, "{ended}").expect("a line of the log");
    ExitCode::SUCCESS
}

struct Tracer {
    what: What,
    log: File,
    /// The command itself.
    root: Pid,
    /// Processes and threads that are traced.
    processes: HashMap<Pid, Traceable>,
    /// Processes that stand still until their parent is known.
    unknown: HashSet<Pid>,
    /// Of the command itself, for [`What::Kill`].
    moments: usize,
}

/// What is known of a process.
#[derive(Default)]
struct Traceable {
    /// As in [`Call::process`].
    name: String,
    /// How many processes it has made.
    made: usize,
    /// How many calls it has begun.
    calls: usize,
    /// It is in a call.
    inside: bool,
    /// How that ends, and the first argument that it had.
    verdict: Option<(Errno, u64)>,
}

impl Tracer {
    fn new(what: What, log: File, root: Pid) -> Tracer {
        // Its first stop is in execve(2), by which it becomes the command.
        let command = Traceable { name: "1".into(), inside: true, ..Traceable::default() };
        Tracer { what, log, root, processes: HashMap::from([(root, command)]), unknown: HashSet::new(), moments: 0 }
    }

    /// Takes up a process that `parent` has made.
    fn adopt(&mut self, parent: Pid, new: Pid) {
        let Some(parent) = self.processes.get_mut(&parent) else { return };
        parent.made += 1;
        let name = format!("{}.{}", parent.name, parent.made);
        self.processes.insert(new, Traceable { name, ..Traceable::default() });
    }

    /// A process has stopped or ended: looks at it, and has it go on.
    fn step(&mut self, status: WaitStatus) {
        let Some(pid) = status.pid() else { return };
        match status {
            WaitStatus::PtraceSyscall(pid) => self.call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => drop(self.processes.remove(&pid)),
            other => panic!("not expected: {other:?}"),
        }
    }

    fn event(&mut self, pid: Pid, event: i32) {
        const NEW: [i32; 3] = [libc::PTRACE_EVENT_CLONE, libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK];
        if NEW.contains(&event) {
            // It may have told us of itself before.
            let new = ptrace::getevent(pid).map(|new| Pid::from_raw(new as i32));
            if let Ok(new) = new
                && self.is_ours(new)
            {
                self.adopt(pid, new);
                if self.unknown.remove(&new) {
                    go_on(new, None);
                }
            }
            if self.is_moment(pid) {
                return self.kill("a process that was just made");
            }
        } else if event == libc::PTRACE_EVENT_STOP && !self.processes.contains_key(&pid) {
            match self.is_ours(pid) {
                true => self.unknown.insert(pid),
                false => return let_go(pid),
            };
            return;
        }
        go_on(pid, None);
    }

    /// Whether this is a thread of the command.
    fn is_command(&self, pid: Pid) -> bool {
        pid == self.root || Path::new(&format!("/proc/{}/task/{pid}", self.root)).exists()
    }

    /// Whether this one is to be traced: of a command that is to be killed only
    /// its threads are.
    fn is_ours(&self, new: Pid) -> bool {
        self.what.follows() || self.is_command(new)
    }

    /// Counts a moment of the command. True if it is the one.
    fn is_moment(&mut self, pid: Pid) -> bool {
        let is_thread = self.processes.contains_key(&pid);
        self.moments += usize::from(is_thread);
        is_thread && self.what == What::Kill(self.moments)
    }

    fn kill(&mut self, name: &str) {
        writeln!(self.log, "hit {} {name}", self.moments).expect("a line of the log");
        kill(self.root, Signal::SIGKILL).expect("SIGKILL");
    }

    /// At the beginning or the end of a call.
    fn call(&mut self, pid: Pid) {
        // Killed in the meantime, by podlet or the kernel.
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        let Some(process) = self.processes.get_mut(&pid) else { return let_go(pid) };
        process.inside = !process.inside;
        if !process.inside {
            if let Some((errno, argument)) = process.verdict.take() {
                registers.rax = -(errno as i64) as u64;
                registers.rdi = argument;
                ptrace::setregs(pid, registers).ok();
            }
            return go_on(pid, None);
        }
        process.calls += 1;
        let (process, calls) = (process.name.clone(), process.calls);
        let call = Sysno::new(registers.orig_rax as usize);
        let name = call.map_or("unknown", |call| call.name());
        let is_moment = self.is_moment(pid);
        let site = faults::Site {
            name,
            arguments: [registers.rdi, registers.rsi, registers.rdx, registers.r10],
            is_command: self.is_command(pid),
            pid: pid.as_raw(),
        };
        match &mut self.what {
            What::Watch => {
                let errors = faults::of(&site).len();
                writeln!(self.log, "call {process} {calls} {name} {errors}").expect("a line of the log");
            }
            What::KillAt(names, left) if names.iter().any(|wanted| wanted == name) => {
                *left -= 1;
                if *left == 0 {
                    return self.kill(name);
                }
            }
            What::Kill(_) if is_moment => return self.kill(name),
            What::Fail { process: wanted, call, error } if *wanted == process && *call == calls => {
                if let Some(errno) = faults::of(&site).get(*error) {
                    writeln!(self.log, "hit {process} {calls} {name} {errno:?}").expect("a line of the log");
                    self.processes.entry(pid).and_modify(|process| process.verdict = Some((*errno, registers.rdi)));
                    registers.orig_rax = libc::SYS_close as u64;
                    registers.rdi = u64::MAX;
                    ptrace::setregs(pid, registers).expect("PTRACE_SETREGS");
                    return go_on(pid, None);
                }
            }
            _ => {}
        }
        if name == "execve" && pid != self.root {
            self.processes.remove(&pid);
            return let_go(pid);
        }
        go_on(pid, None);
    }
}

/// To its next call; it may have been killed as it stood there.
fn go_on(pid: Pid, signal: Option<Signal>) {
    ptrace::syscall(pid, signal).ok();
}

fn let_go(pid: Pid) {
    ptrace::detach(pid, None).ok();
}
