//! What a network costs a pod, at its start and at its end, and beside networks of
//! others: of CNI plugins, netavark and podman.
//!
//! Everything happens in a network namespace of this program's own: it is the last
//! thing that is measured.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use net::{AttachOptions, NetworkOptions, NetworkRequest, Networks};
use netlink::{Family, Message, Socket};
use nix::sched::{CloneFlags, unshare};
use pod::{Pod, PodOptions, Store};

mod crowd;
mod plugins;

mod prototype;
mod throughput;

use crate::podman::Podman;

use crate::fixture::{Fixture, run};
use crate::measure::{Series, Subject, interleaved, timed};
use crate::report::{NONE, aim, line, ms, section, times};

/// The share of a network in a start, and in a removal, in milliseconds.
const AIM: f64 = 3.0;
/// Until the machine's end of a link is gone, in milliseconds.
const GONE: f64 = 100.0;

const NETWORK: &str = "bench";

/// Enters a network namespace that this program alone has.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
    up()
}

pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    let networks = Networks::open(&fixture.store).with_cni(plugins::dirs(fixture)?);
    let store = net::docked(fixture.store.clone(), networks.clone(), |left| println!("  {left}"));
    let _ = networks.create_network(&NetworkOptions::new(NETWORK))?;
    shares(&store, &networks, rounds)?;
    crowd::measure(&store, &networks)?;
    plugins::measure(fixture, &store, &networks, rounds)?;
    let podman = Podman::new(fixture);
    if let Err(error) = &podman {
        line(&format!("podman: left out: {error:#}"), NONE, "");
    }
    lives(fixture, podman.as_ref().ok(), rounds)?;
    throughput::measure(&store, &networks, podman.as_ref().ok(), rounds)?;
    networks.prune()?;
    Ok(())
}

/// Loopback, which is down in a new namespace.
fn up() -> Result<()> {
    let mut fixed = [0u8; 16];
    fixed[4..8].copy_from_slice(&1u32.to_ne_bytes());
    fixed[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    fixed[12..].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    Socket::open(Family::Route)?.ask(&Message::new("link set lo up", libc::RTM_NEWLINK, &fixed))?;
    Ok(())
}

/// What of a pod's life is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    Removal,
    Link,
}

/// The library alone: pods without a network, in one, and with a port.
fn shares(store: &Store, networks: &Networks, rounds: usize) -> Result<()> {
    let of = |part: Part, ports: Option<&'static [&'static str]>| {
        Subject::new(name(part, ports), move || {
            let (start, pod) = timed(|| make(store, networks, ports))?;
            let link = networks.attachment(pod.name())?.map(|found| found.networks[0].host_interface.clone());
            let (removal, ()) = timed(|| Ok(pod.remove()?))?;
            let gone = Instant::now();
            // Unlike /sys this shows the network namespace that looks.
            while let Some(link) = link.as_ref().filter(|link| Path::new("/proc/sys/net/ipv4/conf").join(link).exists())
            {
                ensure!(gone.elapsed() < Duration::from_secs(5), "{link} is still there");
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(match part {
                Part::Start => start,
                Part::Removal => removal,
                Part::Link => gone.elapsed(),
            })
        })
    };
    const PORT: Option<&[&str]> = Some(&["18080:80"]);
    let kinds = [None, Some::<&[&str]>(&[]), PORT];
    let parts = [Part::Start, Part::Removal];
    let subjects = parts.iter().flat_map(|part| kinds.map(|ports| of(*part, ports)));
    let series = interleaved(rounds, subjects.chain([of(Part::Link, Some(&[]))]).collect())?;
    section("A pod's network, its share (library)", ["median", "p95", "whole"]);
    for (part, all) in parts.iter().zip(series.chunks(kinds.len())) {
        for with in &all[1..] {
            let share: Vec<_> = with.rounds.iter().zip(&all[0].rounds).map(|(with, without)| with - without).collect();
            let share = Series { name: with.name.clone(), rounds: share };
            let limit = match part {
                Part::Start => "start: at most 3 ms",
                _ => "removal: at most 3 ms",
            };
            let reached = share.median() <= AIM;
            line(&with.name, [&ms(share.median()), &ms(share.p95()), &ms(with.median())], &aim(limit, reached));
        }
    }
    if let Some(link) = series.last() {
        let reached = link.p95() <= GONE;
        line(&link.name, [&ms(link.median()), &ms(link.p95()), ""], &aim("at most 100 ms", reached));
    }
    Ok(())
}

fn name(part: Part, ports: Option<&[&str]>) -> String {
    let what = match part {
        Part::Start => "start",
        Part::Removal => "removal",
        Part::Link => return "from the removal to the end of its link".into(),
    };
    match ports {
        None => format!("{what}, without a network"),
        Some([]) => format!("{what}, in a network"),
        Some(_) => format!("{what}, in a network, with a port"),
    }
}

fn make(store: &Store, networks: &Networks, ports: Option<&[&str]>) -> Result<Pod> {
    let pod = Pod::create(store, PodOptions::new("net"))?;
    if let Some(ports) = ports {
        let mut options = AttachOptions::new([NetworkRequest::new(NETWORK)]);
        for port in ports {
            options.ports.extend(net::ports::parse(port)?);
        }
        let _ = networks.attach(&pod, &options)?;
    }
    Ok(pod)
}

/// A pod of two containers with a network and a port, by the commands: made, run,
/// removed.
fn lives(fixture: &Fixture, podman: Option<&Podman>, rounds: usize) -> Result<()> {
    let mut subjects = vec![Subject::new("podlet", || podlet(fixture))];
    section("A pod of two with a network and a port: made, run, removed", ["median", "/ podlet", ""]);
    subjects.extend(podman.map(|podman| Subject::new(podman.name(), || podman.life())));
    // The peer takes a second each time.
    let series = interleaved(rounds.min(10), subjects)?;
    for one in &series {
        let ratio = one.ratio(&series[0]);
        let limit = match one.name.as_str() {
            "podlet" => String::new(),
            _ => aim("at least 25 x podlet, aim 40 x", ratio >= 25.0),
        };
        line(&one.name, [&ms(one.median()), &times(ratio), ""], &limit);
    }
    Ok(())
}

fn podlet(fixture: &Fixture) -> Result<Duration> {
    let command = |words: &[&str]| {
        let mut command = Command::new(&fixture.podlet);
        command.arg("--root").arg(fixture.store.root()).args(words);
        command
    };
    let (taken, ()) = timed(|| {
        run(&mut command(&["create", "--network", NETWORK, "-p", "18080:80", "two"]))?;
        for name in ["first", "second"] {
            let mut start = command(&["run", "-d", "--pod", "two", "--name", name, "--rootfs"]);
            run(start.arg(&fixture.rootfs).arg("/bin/true"))?;
        }
        run(&mut command(&["rm", "-f", "two"])).map(drop)
    })?;
    Ok(taken)
}
