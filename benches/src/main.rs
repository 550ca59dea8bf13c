//! `make bench`: podlet beside the kernel's floor, crun and runc.
//!
//! Everything is measured in one run on one machine, as root. What is compared
//! is measured in turns, so that whatever else the machine does hits all alike.
//! It works in a mount namespace and a temporary directory of its own, and
//! leaves nothing behind.

mod bundles;
mod fixture;
mod listing;
mod logs;
mod measure;
mod network;
mod podman;
mod pods;
mod report;
mod starts;
mod terminal;
mod two;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pod::{ContainerSpec, Pod, PodOptions, Root, Store};

use fixture::{Fixture, Peer, run, show_version_2_alone};
use measure::{Series, Subject, interleaved, timed};
use report::{aim, line, ms, section, times};
use starts::Burden;

/// Measures podlet beside the kernel's floor, crun and runc
#[derive(Parser)]
struct Options {
    /// How often each thing is measured
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// How many idle pods are held at once
    #[arg(long, default_value_t = 200)]
    pods: usize,
    /// How many containers a busy program starts at once
    #[arg(long, default_value_t = 500)]
    starts: usize,
    /// Only these sections: run, bundle, join, two, starts, memory, many, listing, teardown, terminal, network,
    /// logs
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where podlet and podlet-oci are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Subcommand)]
enum Inner {
    /// The program whose starts are measured
    #[command(hide = true)]
    Starts {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        rootfs: PathBuf,
        #[command(flatten)]
        burden: Burden,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Inner::Starts { root, rootfs, burden }) = &options.inner {
        return starts::carry(&Store::open(root)?, rootfs, *burden);
    }
    ensure!(nix::unistd::geteuid().is_root(), "the benchmark measures as root: sudo make bench");
    ensure!(options.rounds > 0 && options.pods > 0 && options.starts > 0, "give numbers above 0");
    // What is mounted from here on is seen by no other process.
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    show_version_2_alone()?;
    let _priority = Priority::raise();
    let fixture = Fixture::new(options.programs.as_deref())?;
    let wanted = |section: &str| options.only.is_empty() || options.only.iter().any(|only| only == section);
    print_machine(&options)?;
    if wanted("run") {
        measure_run(&fixture, options.rounds)?;
    }
    if wanted("bundle") {
        bundles::measure(&fixture, options.rounds)?;
    }
    if wanted("join") {
        measure_join(&fixture, options.rounds, 0)?;
        measure_join(&fixture, options.rounds, 400)?;
    }
    if wanted("two") {
        two::measure(&fixture, options.rounds)?;
    }
    if wanted("starts") {
        measure_starts(&fixture, options.starts)?;
    }
    if wanted("memory") {
        pods::memory(&fixture)?;
    }
    if wanted("many") {
        pods::many(&fixture, options.pods)?;
        pods::notes();
    }
    if wanted("listing") {
        listing::measure(&fixture, options.rounds.min(30))?;
    }
    if wanted("teardown") {
        pods::teardown(&fixture, options.rounds.min(30))?;
    }
    if wanted("terminal") {
        terminal::measure(&fixture, options.rounds)?;
    }
    // From here on podman is a peer, in a network namespace of this program's own.
    if wanted("network") || wanted("logs") {
        network::enter()?;
    }
    if wanted("network") {
        network::measure(&fixture, options.rounds)?;
    }
    if wanted("logs") {
        logs::measure(&fixture, options.rounds)?;
    }
    Ok(())
}

/// Goes before what others do on this machine, with everything it starts, as
/// long as this value lives. A machine that does not let us is measured as it
/// is.
struct Priority;

/// Where the scheduler weighs sessions against each other (sched(7)), a
/// process's own priority counts only within its session.
const SESSION: &str = "/proc/self/autogroup";

impl Priority {
    #[allow(unsafe_code)] // One call without memory arguments.
    fn raise() -> Priority {
        // SAFETY: takes numbers only.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
        std::fs::write(SESSION, "-20").ok();
        Priority
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        std::fs::write(SESSION, "0").ok();
    }
}

fn print_machine(options: &Options) -> Result<()> {
    let read = |path| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let processors = std::thread::available_parallelism()?;
    let load = read("/proc/loadavg")?.split_whitespace().next().unwrap_or_default().to_string();
    let kernel = read("/proc/sys/kernel/osrelease")?;
    println!(
        "Linux {}, {processors} processors, load {load}; medians of {} rounds, ratios round by round.",
        kernel.trim(),
        options.rounds
    );
    Ok(())
}

/// One container to its end.
fn measure_run(fixture: &Fixture, rounds: usize) -> Result<()> {
    let (mut peers, mut missing): (Vec<Peer>, Vec<String>) = (vec![], vec![]);
    for name in ["crun", "runc"] {
        match fixture.peer(name) {
            Ok(peer) => peers.push(peer),
            Err(reason) => missing.push(reason),
        }
    }
    let versions: Vec<_> = peers.iter().map(|peer| peer.version.clone()).collect();
    let mut subjects = vec![
        Subject::new("kernel's floor, with a cgroup", || run(&mut fixture.floor("run", None, true))),
        Subject::new("kernel's floor, without", || run(&mut fixture.floor("run", None, false))),
        Subject::new("podlet run (a pod of its own)", || run(&mut fixture.podlet_run(&[]))),
        Subject::new("podlet --version (its start alone)", || {
            run(std::process::Command::new(&fixture.podlet).arg("--version"))
        }),
    ];
    subjects.extend(peers.iter_mut().map(|peer| Subject::new(format!("{} run", peer.name), || peer.run())));
    let series = interleaved(rounds, subjects)?;
    let crun = series.iter().find(|series| series.name == "crun run");

    section("One container to its end, on the same root file system", ["median", "/ floor", "/ crun"]);
    for one in &series {
        let aims = if one.name.starts_with("podlet run") {
            let mut aims = vec![aim("at most 2.5 x floor", one.ratio(&series[0]) <= 2.5)];
            aims.extend(crun.map(|crun| aim("half of crun", one.ratio(crun) <= 0.5)));
            aims.join(", ")
        } else {
            String::new()
        };
        print_series(one, &series[0], crun, &aims);
    }
    for text in
        versions.iter().map(|version| format!("({version})")).chain(missing.iter().map(|why| format!("skipped: {why}")))
    {
        println!("  {text}");
    }
    Ok(())
}

fn print_series(one: &Series, floor: &Series, crun: Option<&Series>, aims: &str) {
    let beside = crun.map_or(String::new(), |crun| times(one.ratio(crun)));
    line(&one.name, [&ms(one.median()), &times(one.ratio(floor)), &beside], aims);
}

/// A container that joins a running pod, to its end.
fn measure_join(fixture: &Fixture, rounds: usize, mounts: usize) -> Result<()> {
    let extra = Mounts::make(fixture, mounts)?;
    let pod = Pod::create(&fixture.store, PodOptions::new("shared"))?;
    let pause = pod.pause_pid().context("pause has ended")?;
    let mut removals = Vec::new();
    let mut number = 0;
    let library = || {
        number += 1;
        let name = format!("library-{number}");
        let container = ContainerSpec::new(&name, Root::Dir(fixture.rootfs.clone())).args(["/bin/true"]);
        let (taken, exit) = timed(|| Ok(pod.run(&container, starts::quiet())?.wait()?))?;
        ensure!(exit.shell_code() == 0, "the container ended with {}", exit.shell_code());
        removals.push(measure::milliseconds(timed(|| Ok(pod.container(&name).expect("a container").remove()?))?.0));
        Ok(taken)
    };
    let subjects = vec![
        Subject::new("kernel's floor", || run(&mut fixture.floor("join", Some(pause), false))),
        Subject::new("kernel's floor, with a cgroup", || run(&mut fixture.floor("join", Some(pause), true))),
        Subject::new("library: Pod::run and wait", library),
        Subject::new("command: podlet run --pod P --rm", || run(&mut fixture.podlet_run(&["--pod", "shared"]))),
    ];
    let series = interleaved(rounds, subjects)?;
    let more = if mounts == 0 { String::new() } else { format!(", {mounts} more mounts on the machine") };
    section(&format!("A container joins a running pod and ends{more}"), ["median", "/ floor", "/ + cgroup"]);
    for one in &series {
        let limit = match one.name.split(':').next() {
            Some("library") => Some(1.3),
            Some("command") => Some(1.6),
            _ => None,
        };
        let aims = limit
            .map_or(String::new(), |limit| aim(&format!("at most {limit} x floor"), one.ratio(&series[0]) <= limit));
        let columns = [&*ms(one.median()), &*times(one.ratio(&series[0])), &*times(one.ratio(&series[1]))];
        line(&one.name, columns, &aims);
    }
    line("library: Container::remove", [&ms(measure::median(&removals)), "", ""], "");
    pod.remove()?;
    drop(extra);
    Ok(())
}

/// Mounts that no pod needs, as a machine with many containers has them.
struct Mounts(Vec<PathBuf>);

impl Mounts {
    fn make(fixture: &Fixture, count: usize) -> Result<Mounts> {
        let mut mounts = Mounts(Vec::new());
        for number in 0..count {
            let dir = fixture.dir.path().join(format!("mount-{number}"));
            std::fs::create_dir_all(&dir)?;
            mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            mounts.0.push(dir);
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for dir in &self.0 {
            // They go with the mount namespace at the latest.
            umount2(dir, MntFlags::MNT_DETACH).ok();
        }
    }
}

/// Starts from a large, busy program against the same from a small one.
fn measure_starts(fixture: &Fixture, count: usize) -> Result<()> {
    section(
        &format!("{count} containers from 32 threads; large: 1 GiB and 32 busy threads in the same program"),
        ["small", "large", "ratio"],
    );
    // In turns, because the machine may change in between.
    let mut results = Vec::new();
    for _ in 0..3 {
        let small = starts::measure_small(fixture, count)?;
        results.push((small, starts::measure(fixture, Burden::large(count))?));
    }
    for (name, of) in [
        ("a start to its end, one at a time", (|s| s.single) as fn(&starts::Starts) -> f64),
        ("all at once: the whole time for each", |s| s.at_once),
    ] {
        let middle = |values: Vec<f64>| measure::median(&values);
        let small = middle(results.iter().map(|(small, _)| of(small)).collect());
        let large = middle(results.iter().map(|(_, large)| of(large)).collect());
        let ratio = middle(results.iter().map(|(small, large)| of(large) / of(small)).collect());
        line(name, [&ms(small), &ms(large), &times(ratio)], &aim("at most 1.2 x", ratio <= 1.2));
    }
    let all = results.iter().flat_map(|(small, large)| [small, large]);
    let leaked: usize = all.map(|starts| starts.descriptors.1.abs_diff(starts.descriptors.0)).sum();
    line("deadlocks", ["", "0", ""], &aim("0", true));
    line("descriptors more than before", ["", &leaked.to_string(), ""], &aim("0", leaked == 0));
    Ok(())
}
