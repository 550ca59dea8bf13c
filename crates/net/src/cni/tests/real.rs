//! The reference plugins, in a machine of their own ([`in_private_mounts`]).
//!
//! Where they cannot be executed these tests do nothing, and say so.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use super::fake::{assert_has, ignore, parse};
use crate::cni::{
    Attachment, Bandwidth, CheckReport, Conflist, PortMapping, Protocol, Record, Runtime, StatusReport, Survey,
};
use crate::nft::tests::space::in_private_mounts;
use crate::tests::reference::{plugin_dirs, run, traces};

/// Does it in a machine of its own for each directory of plugins.
fn in_a_machine(act: impl Fn(&Runtime) + Sync) {
    for plugins in plugin_dirs() {
        in_private_mounts(|| {
            run("ip link set lo up");
            let mut runtime = Runtime::new("/run/locks");
            runtime.plugin_dirs = vec![plugins];
            act(&runtime);
        });
    }
}

/// A pod's network namespace, known to `ip -n NAME`.
fn namespace(name: &str) -> PathBuf {
    let path = Path::new("/run/netns").join(name);
    fs::create_dir_all("/run/netns").expect("a directory");
    fs::write(&path, "").expect("a file");
    let bind = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind");
    };
    thread::scope(|scope| scope.spawn(bind).join()).expect("a namespace");
    path
}

/// A bridge, alone or with the plugins that are executed after it.
fn bridge(version: &str, range: Value, more: &[&str]) -> Conflist {
    let mut plugins = vec![json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
               "ipam": {"type": "host-local", "ranges": [[range]], "routes": [{"dst": "0.0.0.0/0"}]}})];
    plugins.extend(more.iter().map(|kind| match *kind {
        "portmap" => json!({"type": kind, "capabilities": {"portMappings": true}}),
        "bandwidth" => json!({"type": kind, "capabilities": {"bandwidth": true}}),
        _ => json!({"type": kind}),
    }));
    parse(json!({"cniVersion": version, "name": "net", "plugins": plugins}))
}

fn ports() -> Vec<PortMapping> {
    vec![PortMapping { host_port: 8080, container_port: 80, protocol: Protocol::Tcp, host_ip: None }]
}

/// Whether something that listens in the namespace is reached by this address.
fn is_reached(netns: &Path, listen: &str, connect: &str) -> bool {
    let enter = fs::File::open(netns).expect("a namespace");
    let listener = thread::scope(|scope| {
        let listening = scope.spawn(|| {
            setns(&enter, CloneFlags::CLONE_NEWNET).expect("entered");
            TcpListener::bind(listen).expect("a listener")
        });
        listening.join().expect("a listener")
    });
    let Ok(mut client) = TcpStream::connect(connect) else { return false };
    let (mut server, _) = listener.accept().expect("a connection");
    client.write_all(b"hello").expect("written");
    drop(client);
    let mut heard = String::new();
    server.read_to_string(&mut heard).expect("read");
    heard == "hello"
}

fn speaks(runtime: &Runtime, version: &str) -> bool {
    let plugin = runtime.plugin_dirs[0].join("bridge");
    let command = format!("echo '{{\"cniVersion\": \"{version}\"}}' | CNI_COMMAND=VERSION {}", plugin.display());
    run(&command).split("supportedVersions").nth(1).is_some_and(|versions| versions.contains(version))
}

fn bridge_with_all(runtime: &Runtime, version: &str) {
    let before = traces();
    let netns = namespace("web");
    let mut web = Attachment::new("web", &netns, "eth0");
    web.args.insert("K8S_POD_NAME".into(), "web".into());
    web.capabilities.port_mappings = ports();
    let bandwidth = Bandwidth {
        ingress_rate: 80_000_000,
        ingress_burst: 8_000_000,
        egress_rate: 80_000_000,
        egress_burst: 8_000_000,
    };
    web.capabilities.bandwidth = Some(bandwidth);
    // The plugin firewall refuses what is older.
    let more = &["portmap", "bandwidth", "firewall"][..if version == "0.3.1" { 2 } else { 3 }];
    let network = bridge(version, json!({"subnet": "10.99.0.0/24"}), more);
    let (record, result) = runtime.add(&network, &web, &mut ignore).expect("added");
    let addresses: Vec<String> = result.addresses().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.99.0.2/24"]);
    assert_eq!(result.interface("eth0").map(|eth0| eth0.sandbox.as_str()), netns.to_str());
    assert_has(&run("ip -n web -4 -o addr show eth0"), &["10.99.0.2/24"]);
    assert!(is_reached(&netns, "10.99.0.2:80", "10.99.0.2:80"), "by the pod's address");
    assert!(is_reached(&netns, "10.99.0.2:80", "10.99.0.1:8080"), "by the port of the host");
    match runtime.check(&record).expect("checked") {
        CheckReport::AsMade => assert!(version != "0.3.1"),
        CheckReport::NotAsked(_) => assert_eq!(version, "0.3.1"),
        // Portmap 1.1.1 looks for rules of IPv6 also where there is no such address.
        CheckReport::Failed(error) => {
            assert!(!speaks(runtime, "1.1.0"), "{error}");
            assert_has(&error.to_string(), &["\"portmap\"", "ipv6 dnat"]);
        }
    }
    // Something is taken away behind the plugins' back.
    run("ip -n web addr del 10.99.0.2/24 dev eth0");
    if version != "0.3.1" {
        let CheckReport::Failed(error) = runtime.check(&record).expect("checked") else { panic!("not noticed") };
        assert_has(&error.to_string(), &["CHECK", "\"bridge\""]);
    }
    // The bridge plugin takes from the interface which masquerade rules are to go.
    run("ip -n web addr add 10.99.0.2/24 dev eth0");
    runtime.del(&record, &mut ignore).expect("deleted");
    runtime.del(&record, &mut ignore).expect("deleted again");
    assert_eq!(traces(), before);
}

#[test]
fn the_bridge_with_ports_firewall_and_bandwidth_in_each_version() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        in_a_machine(|runtime| {
            if speaks(runtime, version) {
                bridge_with_all(runtime, version);
            }
        });
    }
}

// Rule 2.
#[test]
fn a_version_that_the_plugins_do_not_speak_is_refused_in_their_words() {
    in_a_machine(|runtime| {
        if speaks(runtime, "1.1.0") {
            return;
        }
        let web = Attachment::new("web", namespace("web"), "eth0");
        let error = runtime.add(&bridge("1.1.0", json!({"subnet": "10.99.0.0/24"}), &[]), &web, &mut ignore);
        let said = error.expect_err("refused").to_string();
        assert_has(&said, &["code 1", "incompatible CNI versions", "set cniVersion to 1.0.0"]);
    });
}

// Rules 11, 12 and 23.
#[test]
fn ports_and_leases_of_a_namespace_that_is_gone() {
    in_a_machine(|runtime| {
        let netns = namespace("web");
        let network = bridge("1.0.0", json!({"subnet": "10.99.0.0/24"}), &["firewall", "portmap"]);
        let mut web = Attachment::new("web", &netns, "eth0");
        web.capabilities.port_mappings = ports();
        let (record, _) = runtime.add(&network, &web, &mut ignore).expect("added");
        assert!(run("iptables-save").contains("--dport 8080"));
        nix::mount::umount(&netns).expect("unmounted");
        runtime.del(&record, &mut ignore).expect("deleted");
        // Only the rules of the bridge plugin stay, for masquerade: so DEL comes before.
        let (rules, leases) = (run("iptables-save"), run("find /var/lib/cni -name '10.99*'"));
        assert_eq!((rules.contains("--dport 8080"), leases.as_str()), (false, ""));
    });
}

// Rule 9.
#[test]
fn an_interface_of_an_add_that_found_no_address() {
    in_a_machine(|runtime| {
        let network = bridge(
            "1.0.0",
            json!({"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.5", "rangeEnd": "10.99.0.5"}),
            &["firewall"],
        );
        let first = Attachment::new("first", namespace("first"), "eth0");
        let second = Attachment::new("second", namespace("second"), "eth0");
        let (record, _) = runtime.add(&network, &first, &mut ignore).expect("added");
        let with_one = traces();
        let error = runtime.add(&network, &second, &mut ignore).expect_err("the range has one address");
        assert_has(&error.to_string(), &["\"bridge\"", "no IP addresses available"]);
        assert_eq!(traces(), with_one);
        assert!(!run("ip -n second -o link").contains("eth0"));
        runtime.del(&record, &mut ignore).expect("deleted");
        runtime.add(&network, &second, &mut ignore).expect("the address is free again");
    });
}

// Rule 9.
#[test]
fn rules_of_a_plugin_before_the_one_whose_add_failed() {
    in_a_machine(|runtime| {
        let mut network = bridge("1.0.0", json!({"subnet": "10.99.0.0/24"}), &["firewall", "portmap"]);
        let tuning = json!({"type": "tuning", "sysctl": {"net.core.none": "1"}});
        network.plugins.extend(tuning.as_object().cloned());
        let mut web = Attachment::new("web", namespace("web"), "eth0");
        web.capabilities.port_mappings = ports();
        let error = runtime.add(&network, &web, &mut ignore).expect_err("no such sysctl");
        assert_has(&error.to_string(), &["\"tuning\"", "net/core/none"]);
        assert_eq!(traces(), "", "firewall finds its rules by the result alone");
    });
}

// Rule 4.
#[test]
fn a_stale_attachment_that_the_plugins_would_keep() {
    in_a_machine(|runtime| {
        let newest = speaks(runtime, "1.1.0");
        let network = bridge(if newest { "1.1.0" } else { "1.0.0" }, json!({"subnet": "10.99.0.0/24"}), &["firewall"]);
        let add = |id: &str| {
            let attachment = Attachment::new(id, namespace(id), "eth0");
            runtime.add(&network, &attachment, &mut ignore).expect("added").0
        };
        let lives = add("lives");
        let with_one = traces();
        let records: Vec<Record> = vec![lives.clone(), add("dead")];
        let mut survey = || Ok(Survey { records: records.clone(), valid: vec![lives.name()] });
        runtime.gc(&network, &mut survey, &mut ignore).expect("collected");
        assert_eq!(traces(), with_one);
        let report = runtime.check(&lives);
        assert!(matches!(report, Ok(CheckReport::AsMade)), "{report:?}");
        let status = runtime.status(&network).expect("asked");
        assert_eq!(matches!(status, StatusReport::Ready), newest, "{status:?}");
    });
}

#[test]
fn point_to_point() {
    in_a_machine(|runtime| {
        let before = traces();
        let network = parse(json!({"cniVersion": "1.0.0", "name": "ptp", "plugins": [
            {"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "subnet": "10.98.0.0/24",
             "routes": [{"dst": "0.0.0.0/0"}]}}]}));
        let netns = namespace("web");
        let (record, result) =
            runtime.add(&network, &Attachment::new("web", &netns, "eth0"), &mut ignore).expect("added");
        assert_eq!(result.addresses().count(), 1);
        assert!(is_reached(&netns, "10.98.0.2:80", "10.98.0.2:80"));
        assert!(matches!(runtime.check(&record), Ok(CheckReport::AsMade)));
        runtime.del(&record, &mut ignore).expect("deleted");
        assert_eq!(traces(), before);
    });
}

#[test]
fn macvlan_with_an_address_and_mac_of_its_own() {
    in_a_machine(|runtime| {
        run("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up && \
             ip addr add 10.97.0.1/24 dev up1");
        let network = parse(json!({"cniVersion": "1.0.0", "name": "mac", "plugins": [
            {"type": "macvlan", "master": "up0", "capabilities": {"mac": true, "ips": true},
             "ipam": {"type": "static"}}]}));
        let netns = namespace("web");
        let mut web = Attachment::new("web", &netns, "net0");
        web.capabilities.mac = Some("c2:11:22:33:44:55".into());
        web.capabilities.ips = vec!["10.97.0.9/24".parse().expect("an address")];
        let (record, result) = runtime.add(&network, &web, &mut ignore).expect("added");
        assert_eq!(result.interface("net0").map(|net0| net0.mac.as_str()), Some("c2:11:22:33:44:55"));
        assert!(is_reached(&netns, "10.97.0.9:80", "10.97.0.9:80"), "from the other side of the uplink");
        assert!(matches!(runtime.check(&record), Ok(CheckReport::AsMade)));
        runtime.del(&record, &mut ignore).expect("deleted");
        assert!(!run("ip -n web -o link").contains("net0"));
    });
}
