//! Networks that are set up by programs of others: a chain of CNI plugins, executed
//! by podlet, and netavark, each beside podlet's own.
//!
//! Theirs have IPv4 alone, which is less work: with IPv6 the plugin `bridge` waits a
//! second or two for the kernel. A removal is that of the whole pod, but for
//! netavark's, which has no pod.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use net::cni::CniDirs;
use net::{AttachOptions, NetworkRequest, Networks};
use nix::sched::{CloneFlags, unshare};
use pod::{Pod, PodOptions, Store};
use serde_json::{Value, json};

use super::NETWORK;
use crate::fixture::Fixture;
use crate::measure::{Subject, interleaved, median, milliseconds, timed};
use crate::report::{NONE, aim, line, ms, section, times};

const CHAIN: &str = "cni:chain";
/// As a pod of two is beside podman's.
const AIM: f64 = 25.0;

/// The CNI networks of the benchmark: that of [`measure`].
pub fn dirs(fixture: &Fixture) -> Result<CniDirs> {
    let dir = fixture.dir.path().join("cni");
    fs::create_dir_all(&dir)?;
    let ranges = json!([[{ "subnet": "10.97.0.0/16" }]]);
    let ipam = json!({
        "type": "host-local", "dataDir": dir.join("leases"), "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let list = json!({ "cniVersion": "1.0.0", "name": "chain", "plugins": [
        { "type": "bridge", "bridge": "chain0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam },
        { "type": "portmap", "capabilities": { "portMappings": true } },
        { "type": "firewall" },
    ] });
    fs::write(dir.join("chain.conflist"), list.to_string())?;
    Ok(CniDirs { configs: vec![dir.clone()], records: dir.join("records"), ..CniDirs::of_machine() })
}

/// What was taken to set one up, and to take it away.
type Parts = (Duration, Duration);

/// One way to a network: its name, and how it is gone once.
type Way<'a> = (String, Box<dyn Fn() -> Result<Parts> + 'a>);

/// Measures, each with a port.
pub fn measure(fixture: &Fixture, store: &Store, networks: &Networks, rounds: usize) -> Result<()> {
    section("A network with a port, set up and taken away", ["set up", "away", "/ podlet"]);
    let netavark = Netavark::new(fixture);
    let mut ways: Vec<Way<'_>> = vec![
        ("podlet's own".into(), Box::new(|| of_pod(store, networks, NETWORK))),
        ("CNI: bridge, host-local, portmap, firewall".into(), Box::new(|| of_pod(store, networks, CHAIN))),
    ];
    if let Ok(netavark) = &netavark {
        ways.push((netavark.version.clone(), Box::new(|| netavark.once())));
    }
    let left_out = |name: &str, error: &anyhow::Error| line(&format!("{name}: left out: {error:#}"), NONE, "");
    netavark.as_ref().err().inspect(|error| left_out("netavark", error));
    // Once before, to know what cannot be measured here.
    ways.retain(|(name, once)| once().inspect_err(|error| left_out(name, error)).is_ok());
    let parts: Vec<_> = ways.iter().map(|_| RefCell::new((Vec::new(), Vec::new()))).collect();
    let subjects = ways.iter().zip(&parts).map(|((name, once), parts)| {
        Subject::new(name, move || {
            let (up, away) = once()?;
            let mut parts = parts.borrow_mut();
            parts.0.push(milliseconds(up));
            parts.1.push(milliseconds(away));
            Ok(up + away)
        })
    });
    let series = interleaved(rounds.min(10), subjects.collect())?;
    for (one, parts) in series.iter().zip(&parts) {
        let ratio = one.ratio(&series[0]);
        let is_own = std::ptr::eq(one, &series[0]);
        let limit = if is_own { String::new() } else { aim("at least 25 x podlet", ratio >= AIM) };
        let (up, away) = &*parts.borrow();
        line(&one.name, [&ms(median(up)), &ms(median(away)), &times(ratio)], &limit);
    }
    Ok(())
}

fn of_pod(store: &Store, networks: &Networks, network: &str) -> Result<Parts> {
    let pod = Pod::create(store, PodOptions::new("plugged"))?;
    let mut options = AttachOptions::new([NetworkRequest::new(network)]);
    options.ports = net::ports::parse("18082:80")?;
    let up = timed(|| Ok(networks.attach(&pod, &options).map(drop)?));
    // It goes also where that failed.
    let (away, ()) = timed(|| Ok(pod.remove()?))?;
    Ok((up?.0, away))
}

/// podman's program for networks.
struct Netavark {
    program: &'static Path,
    version: String,
    /// Where it keeps what it has to know.
    dir: PathBuf,
}

impl Netavark {
    fn new(fixture: &Fixture) -> Result<Netavark> {
        let places = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"].map(Path::new);
        let program = places.into_iter().find(|path| path.exists());
        let program = program.context("it is not installed (apt-get install netavark)")?;
        let version = Command::new(program).arg("--version").output().context("running it")?.stdout;
        let version = String::from_utf8_lossy(&version).trim().to_string();
        let dir = fixture.dir.path().join("netavark");
        fs::create_dir_all(&dir)?;
        Ok(Netavark { program, version, dir })
    }

    fn once(&self) -> Result<Parts> {
        let namespace = new_namespace()?;
        let up = timed(|| self.ask("setup", &namespace));
        // Also where that failed.
        let away = timed(|| self.ask("teardown", &namespace));
        Ok((up?.0, away?.0))
    }

    fn ask(&self, verb: &str, namespace: &OwnedFd) -> Result<()> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        let mut command = Command::new(self.program);
        command.arg("--config").arg(&self.dir).args([verb, &path]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("no input")?;
        serde_json::to_writer(input, &request())?;
        let output = child.wait_with_output()?;
        // It says what went wrong as JSON, or in words.
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{verb} ended with {}: {}", output.status, said.trim());
        Ok(())
    }
}

/// What podman would tell it.
fn request() -> Value {
    let port = json!({ "container_port": 80, "host_ip": "", "host_port": 18083, "protocol": "tcp", "range": 1 });
    let network = json!({
        "name": "bench", "id": "b".repeat(64), "driver": "bridge", "network_interface": "bench0",
        "subnets": [{ "subnet": "10.96.0.0/16", "gateway": "10.96.0.1" }],
        "ipv6_enabled": false, "internal": false, "dns_enabled": false,
    });
    json!({
        "container_id": "c".repeat(64), "container_name": "bench", "port_mappings": [port],
        "networks": { "bench": { "interface_name": "eth0", "static_ips": ["10.96.0.2"] } },
        "network_info": { "bench": network },
    })
}

/// A network namespace that nobody is in.
fn new_namespace() -> Result<OwnedFd> {
    let make = || -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    };
    thread::spawn(make).join().expect("no panic")
}
