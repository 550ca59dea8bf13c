//! A machine with CNI networks, for tests of the reference plugins.
//!
//! It is a [`Space`] with mounts of its own: what plugins keep below /var/lib and
//! /run is kept in memory, and gone with the test. Each test is done once for each
//! directory of plugins, which say themselves which versions they speak.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::leaks;
use crate::space::{self, Space};
use crate::sys;

/// Names directories of plugins, with colons between.
pub const PLUGINS: &str = "PODLET_TEST_CNI";

/// Where plugins are.
fn plugin_dirs() -> Vec<PathBuf> {
    let said = std::env::var_os(PLUGINS).unwrap_or(OsString::from("/usr/lib/cni"));
    std::env::split_paths(&said).collect()
}

/// What this machine lacks for CNI networks, if anything.
pub fn lacks() -> Option<&'static str> {
    let has_plugins = plugin_dirs().iter().all(|dir| dir.join("bridge").exists());
    if !has_plugins {
        return Some("the reference plugins are not installed (containernetworking-plugins); .ci/run does that");
    }
    let has_iptables =
        ["iptables-save", "ip6tables-save"].iter().all(|name| Path::new("/usr/sbin").join(name).exists());
    (!has_iptables).then_some("iptables is not installed; .ci/run does that")
}

/// What plugins make once and leave to all pods that follow.
const OF_ALL_PODS: [&str; 12] = [
    ":CNI-ADMIN -",
    ":CNI-FORWARD -",
    ":CNI-HOSTPORT-DNAT -",
    ":CNI-HOSTPORT-MASQ -",
    ":CNI-HOSTPORT-SETMARK -",
    "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
    "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
    "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    "-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ",
    "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
    "-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000",
];

/// This machine with the plugins of one directory, and another machine.
pub struct Machine<'a> {
    pub space: Space<'a>,
    /// What is spoken with the plugins.
    pub version: &'static str,
}

impl Machine<'_> {
    /// Does a test with the plugins of each directory.
    pub fn each(bed: &Bed, test: impl Fn(&Machine<'_>)) {
        for plugins in plugin_dirs() {
            println!("plugins of {}", plugins.display());
            let machine = Machine::enter(bed, &plugins);
            test(&machine);
            machine.ends();
        }
    }

    /// With the plugins of the first directory.
    pub fn first(bed: &Bed) -> Machine<'_> {
        Machine::enter(bed, &plugin_dirs()[0])
    }

    fn enter<'a>(bed: &'a Bed, plugins: &Path) -> Machine<'a> {
        let space = Space::enter(bed);
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        for dir in ["/run", "/var/lib"] {
            mount(Some("cni"), dir, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
        }
        fs::create_dir_all(bed.dir.join("net.d")).expect("a directory");
        sys::set_variable("NETCONFPATH", bed.dir.join("net.d"));
        sys::set_variable("CNI_PATH", plugins);
        let version = if speaks(plugins, "1.1.0") { "1.1.0" } else { "1.0.0" };
        Machine { space, version }
    }

    pub fn bed(&self) -> &Bed {
        self.space.bed
    }

    /// Configures a network.
    pub fn network(&self, name: &str, plugins: Value) {
        let list = json!({"cniVersion": self.version, "name": name, "plugins": plugins});
        fs::write(self.configuration(name), list.to_string()).expect("a configuration");
    }

    /// The file of a network's configuration.
    pub fn configuration(&self, name: &str) -> PathBuf {
        self.bed().dir.join(format!("net.d/{name}.conflist"))
    }

    /// The addresses of a pod in its networks, in their order.
    pub fn addresses(&self, pod: &str) -> Vec<IpAddr> {
        let list = self.bed().list();
        let found = list.as_array().expect("a list").iter().find(|found| found["name"] == pod);
        let networks = found.unwrap_or_else(|| panic!("{pod}: {list}"))["network"]["networks"].clone();
        let address = |text: &Value| text.as_str()?.split('/').next()?.parse().ok();
        let of = |network: &Value| network["addresses"].as_array().expect("addresses").clone();
        let all = networks.as_array().expect("networks").iter().flat_map(of);
        all.map(|text| address(&text).expect("an address")).collect()
    }

    /// `podlet network check`: plugins find the pod as they made it. Those of 1.1.1
    /// look for rules of a port that they do not make.
    pub fn is_as_made(&self, pod: &str, has_port: bool) {
        let said = self.bed().podlet(&format!("network check {pod}"));
        match has_port && self.version == "1.0.0" {
            true => assert!(said.code(1).out.contains("could not check ipv6 dnat")),
            false => assert!(!said.ok().contains("STOPS")),
        }
    }

    /// All pods are removed, and nothing is left of them.
    pub fn ends(&self) {
        self.bed().podlet("rm -fa").ok();
        is_clean(self.bed());
    }
}

/// All that there is of pods: rules, leases, records, links and namespaces.
pub fn traces() -> Vec<String> {
    let mut found = [rules("/usr/sbin/iptables-save"), rules("/usr/sbin/ip6tables-save")].concat();
    let leases = leaks::tree("/var/lib/cni/networks".as_ref()).into_iter().filter(|path| Path::new(path).is_file());
    let is_lease = |path: &String| !path.ends_with("/lock") && !path.contains("/last_reserved_ip.");
    found.extend(leases.filter(is_lease));
    found.extend(leaks::tree("/var/lib/podlet/cni".as_ref()).into_iter().filter(|path| !path.contains("/.locks")));
    found.extend(leaks::mounts().into_iter().filter(|mount| mount.contains("/ext/net/netns ")));
    // podlet's, those of bridge and ptp, and of bandwidth.
    let is_of_a_pod = |link: &String| ["pod", "veth", "bwp"].iter().any(|name| link.starts_with(name));
    found.extend(space::links().into_iter().filter(is_of_a_pod));
    found
}

/// Nothing is left of pods that are removed. The link of a dead one goes a moment
/// after it.
pub fn is_clean(bed: &Bed) {
    bed.podlet("network prune").ok();
    bed.until(&format!("the end of {:?}", traces()), || traces().is_empty());
    assert!(!Path::new("/var/lib/podlet").exists(), "nor locks: {:?}", leaks::tree("/var/lib/podlet".as_ref()));
    bed.is_clean();
}

/// Whether plugins speak a version, as they say themselves.
fn speaks(plugins: &Path, version: &str) -> bool {
    let mut command = Command::new(plugins.join("bridge"));
    let said = command.env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).output().expect("the plugin runs").stdout;
    let said: Value = serde_json::from_slice(&said).expect("JSON");
    said["supportedVersions"].as_array().is_some_and(|all| all.contains(&version.into()))
}

/// The rules of pods.
fn rules(program: &str) -> Vec<String> {
    let output = Command::new(program).output().expect("iptables runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let rules = text.lines().filter(|line| line.starts_with([':', '-']) && !line.contains(" ACCEPT ["));
    // Without the counters.
    let rules = rules.map(|line| line.split(" [").next().unwrap_or_default());
    rules.filter(|line| !OF_ALL_PODS.contains(line)).map(String::from).collect()
}
