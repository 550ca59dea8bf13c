//! Starts from a program that is large and busy, and from a small one.
//!
//! Each is a process of its own, this program again: what it is asked to carry
//! it carries from its first start on. The busy threads are there in both
//! cases, in the starting program itself or in another one beside it: what
//! they take from the processors is no part of what a start costs. A program
//! that starts containers prints four numbers, one a line: the
//! median of a start to its end when nothing else is started, in milliseconds;
//! the same for all starts at once, as a share of the whole; and its open
//! descriptors before and after.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pod::{ContainerSpec, Io, Pod, PodOptions, Root, Store, Streams};

use crate::fixture::{Fixture, descriptors};
use crate::measure::{median, milliseconds, timed};

/// What such a program carries.
#[derive(clap::Args, Clone, Copy)]
pub struct Burden {
    /// Threads that start containers.
    #[arg(long)]
    starters: usize,
    /// Threads that allocate and take locks all the time.
    #[arg(long)]
    busy: usize,
    /// Memory in use, in MiB.
    #[arg(long)]
    memory: usize,
    /// How many containers all threads start at once.
    #[arg(long)]
    starts: usize,
}

impl Burden {
    /// Nothing but starts.
    pub fn small(starts: usize) -> Burden {
        Burden { starters: 32, busy: 0, memory: 0, starts }
    }

    /// The busy threads of the large one, and no starts: beside the small one.
    pub fn beside() -> Burden {
        Burden { starters: 0, busy: 32, memory: 0, starts: 0 }
    }

    pub fn large(starts: usize) -> Burden {
        Burden { starters: 32, busy: 32, memory: 1024, starts }
    }
}

/// What came out.
pub struct Starts {
    pub single: f64,
    pub at_once: f64,
    pub descriptors: (usize, usize),
}

/// Runs a small program while another one is busy beside it.
pub fn measure_small(fixture: &Fixture, starts: usize) -> Result<Starts> {
    let mut busy = command(fixture, Burden::beside())?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let result = measure(fixture, Burden::small(starts));
    // The end of its input is the word.
    drop(busy.stdin.take());
    busy.wait()?;
    result
}

fn command(fixture: &Fixture, burden: Burden) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("starts").arg("--root").arg(fixture.store.root()).arg("--rootfs").arg(&fixture.rootfs);
    for (name, value) in [
        ("--starters", burden.starters),
        ("--busy", burden.busy),
        ("--memory", burden.memory),
        ("--starts", burden.starts),
    ] {
        command.arg(name).arg(value.to_string());
    }
    Ok(command)
}

/// Runs a program with that burden. If it does not end within two minutes it
/// hangs.
pub fn measure(fixture: &Fixture, burden: Burden) -> Result<Starts> {
    let mut child = command(fixture, burden)?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let end = Instant::now() + Duration::from_secs(120);
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("the starts hang: a deadlock");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the starts failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let [single, at_once, before, after] = numbers[..] else { bail!("the starts printed {text:?}") };
    Ok(Starts { single, at_once, descriptors: (before as usize, after as usize) })
}

/// The program itself.
pub fn carry(store: &Store, rootfs: &std::path::Path, burden: Burden) -> Result<()> {
    let memory = vec![1u8; burden.memory << 20];
    // An exit table has 127 entries, and nothing is removed while it is measured.
    let pods = (0..burden.starters.min(1) + burden.starts.div_ceil(100)).map(|number| {
        let name = format!("starts-{}-{number}", burden.busy);
        Ok(Pod::create(store, PodOptions::new(name))?)
    });
    let pods = pods.collect::<Result<Vec<_>>>()?;
    let shared = Mutex::new(Vec::<Vec<u8>>::new());
    let stop = AtomicBool::new(false);
    let before = descriptors()?;
    let results = std::thread::scope(|scope| {
        for _ in 0..burden.busy {
            scope.spawn(|| keep_busy(&shared, &stop));
        }
        let results = if burden.starters == 0 { wait_for_end() } else { start_all(&pods, rootfs, burden) };
        stop.store(true, Ordering::Relaxed);
        results
    });
    let (single, at_once) = results?;
    let after = descriptors()?;
    black_box(&memory);
    for pod in pods {
        pod.remove()?;
    }
    println!("{single}\n{at_once}\n{before}\n{after}");
    Ok(())
}

/// Waits until no process has the other end of the input open.
fn wait_for_end() -> Result<(f64, f64)> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok((0.0, 0.0))
}

/// Allocates, frees and keeps a lock, in bursts: a busy server's threads, not
/// a machine's worth of spinning ones, which would only measure the scheduler.
fn keep_busy(shared: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for size in 1..20 {
            let block = black_box(vec![0u8; size * 512]);
            let Ok(mut blocks) = shared.lock() else { return };
            blocks.push(block);
            if blocks.len() > 64 {
                blocks.clear();
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start_all(pods: &[Pod], rootfs: &std::path::Path, burden: Burden) -> Result<(f64, f64)> {
    const SINGLE: usize = 40;
    let mut single = Vec::with_capacity(SINGLE);
    for number in 0..SINGLE {
        let taken = start_one(&pods[0], rootfs, &format!("single-{number}"))?;
        single.push(milliseconds(taken));
    }
    let next = AtomicUsize::new(0);
    let barrier = Barrier::new(burden.starters + 1);
    let work = || -> Result<()> {
        barrier.wait();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= burden.starts {
                return Ok(());
            }
            start_one(&pods[1 + number % (pods.len() - 1)], rootfs, &format!("c-{number}"))?;
        }
    };
    let (taken, ()) = timed(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..burden.starters).map(|_| scope.spawn(work)).collect();
            barrier.wait();
            threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
        })
    })?;
    Ok((median(&single), milliseconds(taken) / burden.starts as f64))
}

/// A start to its end.
fn start_one(pod: &Pod, rootfs: &std::path::Path, name: &str) -> Result<Duration> {
    let container = ContainerSpec::new(name, Root::Dir(rootfs.into())).args(["/bin/true"]);
    let (taken, exit) = timed(|| Ok(pod.run(&container, quiet())?.wait()?))?;
    ensure!(exit.shell_code() == 0, "the container ended with {}", exit.shell_code());
    Ok(taken)
}

/// No input, no output.
pub fn quiet() -> Streams {
    Io::null()
}
