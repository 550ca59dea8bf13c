//! What it costs that the output of a detached container is kept: memory, and the rate
//! at which it may write; beside podman's conmon, which writes the same format.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pod::Pod;

use crate::fixture::{Fixture, run};
use crate::measure::{Subject, interleaved};
use crate::podman::Podman;
use crate::pods::{Memory, memory_of};
use crate::report::{NONE, aim, kib, line, section, times};

/// What is written in a round, in MiB.
const AMOUNT: u64 = 64;
/// In so many bytes a call: a line, and what a C library gathers for a pipe.
const PIECES: [(u64, &str); 2] = [(100, "a line a call"), (4096, "4 KiB a call")];
/// conmon's rate times this.
const RATE: f64 = 2.0;
/// Of pause and the copier together, in KiB.
const MEMORY: f64 = 40.0;
/// Of a supervisor, in KiB.
const SUPERVISOR: f64 = 400.0;

/// Memory and rates; in the network namespace of the caller.
pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    let podman = Podman::new(fixture);
    if let Err(error) = &podman {
        line(&format!("podman: left out: {error:#}"), NONE, "");
    }
    memory(fixture, podman.as_ref().ok())?;
    for (piece, how) in PIECES {
        rates(fixture, podman.as_ref().ok(), rounds.min(10), piece, how)?;
    }
    Ok(())
}

fn podlet(fixture: &Fixture, words: &[&str]) -> Command {
    let mut command = Command::new(&fixture.podlet);
    command.env("PODLET_NETWORK", "none");
    command.arg("--root").arg(fixture.store.root()).args(words);
    command
}

/// `run -d`, of the measured program with these words.
fn detached(fixture: &Fixture, options: &[&str], words: &[&str]) -> Command {
    let mut command = podlet(fixture, &["run", "-d"]);
    command.args(options).arg("--rootfs").arg(&fixture.rootfs).arg("/bin/true").args(words);
    command
}

fn memory(fixture: &Fixture, podman: Option<&Podman>) -> Result<()> {
    section("A detached container and its log", ["share", "dirty", ""]);
    run(&mut detached(fixture, &["--name", "kept"], &["sleep"]))?;
    let pod = Pod::open(&fixture.store, "kept")?;
    let pause = memory_of(pod.pause_pid().context("pause has ended")?)?;
    let copier = memory_of(process_called("podlet:log")?)?;
    let both = Memory { share: pause.share + copier.share, dirty: pause.dirty + copier.dirty };
    let print = |what: &str, memory: &Memory, aim: &str| {
        line(what, [&kib(memory.share), &kib(memory.dirty), ""], aim);
    };
    print("podlet: pause", &pause, "");
    print("podlet: the copier", &copier, "");
    print("podlet: both", &both, &aim("at most 40 KiB", both.share <= MEMORY));
    run(&mut podlet(fixture, &["rm", "-f", "kept"]))?;
    if let Some(podman) = podman {
        print("podman: conmon", &podman.with_conmon(memory_of)?, "");
    }
    run(&mut podlet(fixture, &["create", "three"]))?;
    for name in ["first", "second", "third"] {
        run(&mut detached(fixture, &["--pod", "three", "--restart", "always", "--name", name], &["sleep"]))?;
    }
    let supervisor = memory_of(process_called("supervise")?)?;
    // The rest is the command's own file, which all podlets share.
    let reached = supervisor.dirty <= SUPERVISOR;
    print("podlet: the supervisor of a pod of three", &supervisor, &aim("at most 400 KiB dirty", reached));
    run(&mut podlet(fixture, &["rm", "-f", "three"])).map(drop)
}

/// A process of podlet's with this word in its command line, of which there is one.
fn process_called(word: &str) -> Result<u32> {
    let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"podlet") && String::from_utf8_lossy(&words).contains(word)
    };
    let mut found: Vec<u32> = processes.filter(is_it).collect();
    found.sort_unstable();
    found.pop().with_context(|| format!("no process {word}"))
}

/// How fast a container may write; ratios of rates, so podlet's time is below.
fn rates(fixture: &Fixture, podman: Option<&Podman>, rounds: usize, piece: u64, how: &str) -> Result<()> {
    let (amount, piece) = (AMOUNT.to_string(), piece.to_string());
    let words = ["write", &*amount, &*piece];
    // Where the program has left how long it took.
    let taken = || -> Result<Duration> {
        let path = fixture.rootfs.join("taken");
        let nanoseconds = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::remove_file(&path)?;
        Ok(Duration::from_nanos(nanoseconds.parse()?))
    };
    let ours = || {
        run(&mut detached(fixture, &["--name", "writer"], &words))?;
        run(&mut podlet(fixture, &["wait", "writer"]))?;
        run(&mut podlet(fixture, &["rm", "writer"]))?;
        taken()
    };
    let mut subjects = vec![Subject::new("podlet's copier", ours)];
    subjects.extend(podman.map(|podman| {
        Subject::new("podman's conmon", || {
            podman.write(&words)?;
            taken()
        })
    }));
    let series = interleaved(rounds, subjects)?;
    section(&format!("{AMOUNT} MiB of output into a log, {how}"), ["rate", "/ conmon", ""]);
    for one in &series {
        let rate = format!("{:.0} MiB/s", AMOUNT as f64 * 1e3 / one.median());
        let conmon = series.get(1).filter(|_| one.name == series[0].name);
        let ratio = conmon.map(|conmon| conmon.ratio(one));
        let text = ratio.map_or(String::new(), |ratio| aim("at least 2 x", ratio >= RATE));
        line(&one.name, [&rate, &ratio.map_or(String::new(), times), ""], &text);
    }
    Ok(())
}
