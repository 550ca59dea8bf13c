//! Pods in CNI networks of the reference plugins: each test on a machine of its own
//! for each directory of plugins ([`cni`](crate::cni)).

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use super::networks::{at, names_of};
use crate::bed::Bed;
use crate::cni::{Machine, traces};

crate::tests![
    pods_on_cni_bridge_with_ports_firewall_and_bandwidth,
    pods_on_cni_ptp,
    pods_on_cni_macvlan,
    a_pod_in_cni_networks_and_one_of_podlets,
    a_pod_on_cni_stopped_killed_and_started_again,
    what_is_left_of_cni_pods_that_are_gone_is_collected,
    a_cni_network_that_is_not_configured_any_more_is_left,
    flows_to_a_port_of_a_cni_pod_that_is_gone_are_forgotten,
];

/// A bridge with a subnet of each family, and what is executed after it.
pub fn bridge(nth: u8) -> Value {
    let ranges = json!([[{"subnet": format!("10.{nth}.0.0/24")}], [{"subnet": format!("fd{nth}::/64")}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let bandwidth = json!({"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
        "egressRate": 80_000_000, "egressBurst": 8_000_000});
    json!([
        {"type": "bridge", "bridge": format!("cni{nth}"), "isGateway": true, "ipMasq": true, "hairpinMode": true,
         "capabilities": {"ips": true}, "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}},
        bandwidth, {"type": "firewall"}, {"type": "portmap", "capabilities": {"portMappings": true}},
    ])
}

fn pods_on_cni_bridge_with_ports_firewall_and_bandwidth(bed: &Bed) {
    Machine::each(bed, |machine| {
        let space = &machine.space;
        machine.network("br", bridge(98));
        space.serve("a", "--network cni:br -p 8080:80 -p 8080:80/udp");
        space.serve("b", "--network cni:br");
        let (a, b) = (machine.addresses("a"), machine.addresses("b"));
        assert!(a.len() == 2 && a[0].is_ipv4() && a[1].is_ipv6(), "{a:?}");
        for (a, b) in a.iter().zip(&b) {
            space.hears("a/a", &at(*b, 80), &format!("b {a}"));
        }
        space.here.hears(&at(a[0], 80), "a 10.98.0.1");
        space.outside.hears("192.0.2.1:8080", "a 192.0.2.2");
        space.outside.hears("[2001:db8::1]:8080", "a 2001:db8::2");
        for server in ["192.0.2.1:8080", "127.0.0.1:8080"] {
            let heard = space.here.ask(server).unwrap_or_else(|error| panic!("{server}: {error}"));
            assert!(heard.starts_with("a "), "{server}: {heard}");
        }
        space.hears("b/b", "192.0.2.1:8080", "a 10.98.0.1");
        space.hears("a/a", "192.0.2.1:8080", "a 10.98.0.1");
        machine.is_as_made("a", true);
        machine.is_as_made("b", false);
        // One that is gone takes nothing of the other along.
        bed.podlet("rm -f a").ok();
        space.outside.is_refused("192.0.2.1:8080");
        space.here.hears(&at(b[0], 80), "b 10.98.0.1");
        machine.is_as_made("b", false);
    });
}

fn pods_on_cni_ptp(bed: &Bed) {
    Machine::each(bed, |machine| {
        let (space, _server) = (&machine.space, machine.space.serve_outside());
        let ipam = json!({"type": "host-local", "subnet": "10.97.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]});
        machine.network("ptp", json!([{"type": "ptp", "ipMasq": true, "ipam": ipam}]));
        space.serve("a", "--network cni:ptp");
        space.serve("b", "--network cni:ptp");
        let (a, b) = (machine.addresses("a")[0], machine.addresses("b")[0]);
        space.hears("a/a", &at(b, 80), &format!("b {a}"));
        space.here.hears(&at(a, 80), "a 10.97.0.1");
        space.hears("a/a", "192.0.2.2:80", "outside 192.0.2.1");
        machine.is_as_made("a", false);
        bed.podlet("run --name c --network cni:ptp -p 80 host /bin/true")
            .fails(125, &["portMappings", "\"ptp\"", "portmap"]);
    });
}

fn pods_on_cni_macvlan(bed: &Bed) {
    Machine::each(bed, |machine| {
        let (space, _server) = (&machine.space, machine.space.serve_outside());
        // Of the other machine's subnet: it is on the same wire.
        let ipam = json!({"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10"});
        machine.network(
            "mac",
            json!([{"type": "macvlan", "master": "uplink", "capabilities": {"mac": true}, "ipam": ipam}]),
        );
        space.serve("a", "--network cni:mac --mac 02:00:00:00:00:07");
        space.serve("b", "--network cni:mac");
        let (a, b) = (machine.addresses("a")[0], machine.addresses("b")[0]);
        assert_eq!(bed.podlet("exec a/a /probe read /sys/class/net/eth0/address").ok(), "02:00:00:00:00:07\n");
        space.hears("a/a", &at(b, 80), &format!("b {a}"));
        space.hears("a/a", "192.0.2.2:80", &format!("outside {a}"));
        space.outside.hears(&at(a, 80), "a 192.0.2.2");
        machine.is_as_made("a", false);
    });
}

fn a_pod_in_cni_networks_and_one_of_podlets(bed: &Bed) {
    Machine::each(bed, |machine| {
        let space = &machine.space;
        for (name, nth) in [("one", 91), ("two", 92)] {
            machine.network(name, bridge(nth));
        }
        bed.podlet("network create own --subnet 10.93.0.0/24").ok();
        space.serve("a", "--network cni:one --network own --network cni:two -p 8080:80 -p 8080:80/udp");
        for (name, network) in [("x", "cni:one"), ("y", "own"), ("z", "cni:two")] {
            space.serve(name, &format!("--network {network}"));
        }
        let a = machine.addresses("a");
        let prefixes: Vec<_> = a.iter().map(|address| address.to_string()[..5].to_owned()).collect();
        assert_eq!(prefixes, ["10.91", "fd91:", "10.93", "10.92", "fd92:"]);
        for (name, from) in [("x", a[0]), ("y", a[2]), ("z", a[3])] {
            let to = machine.addresses(name)[0];
            space.hears("a/a", &at(to, 80), &format!("{name} {from}"));
            // By names, too.
            assert_eq!(names_of(bed, "a/a", to), BTreeSet::from([name.to_string()]));
        }
        // Both networks of plugins say a way out: it is that of the first, which has the port.
        space.outside.hears("192.0.2.1:8080", "a 192.0.2.2");
        space.outside.hears("[2001:db8::1]:8080", "a 2001:db8::2");
        let routes = bed.podlet("exec a/a /probe read /proc/net/route").ok();
        let ways: Vec<_> = routes.lines().filter(|line| line.split('\t').nth(1) == Some("00000000")).collect();
        assert!(ways.len() == 1 && ways[0].starts_with("eth0\t"), "{routes}");
        let routes = bed.podlet("exec a/a /probe read /proc/net/ipv6_route").ok();
        let is_way_out = |line: &&str| line.starts_with(&"0".repeat(32)) && !line.ends_with(" lo");
        let ways: Vec<_> = routes.lines().filter(is_way_out).collect();
        assert!(ways.len() == 1 && ways[0].ends_with(" eth0"), "{routes}");
        machine.is_as_made("a", true);
        machine.is_as_made("x", false);
        // Of several networks one fails: nothing of the others is left.
        let before = traces();
        let mut plugins = bridge(94);
        plugins[3] = json!({"type": "tuning", "sysctl": {"net.core.none": "1"}});
        machine.network("bad", plugins);
        bed.podlet("run --name b --network cni:one --network own --network cni:bad --rootfs ROOT /probe exit 0")
            .fails(125, &["\"bad\"", "\"tuning\"", "ADD", "net/core/none"]);
        bed.until("the end of its links", || traces() == before);
        assert_eq!(space.network("own")["pods"].as_array().map(Vec::len), Some(2));
    });
}

fn a_pod_on_cni_stopped_killed_and_started_again(bed: &Bed) {
    Machine::each(bed, |machine| {
        let space = &machine.space;
        machine.network("br", bridge(98));
        bed.podlet("create web --network cni:br -p 8080:80 -p 8080:80/udp").ok();
        bed.podlet("run -d --pod web --name a --rootfs ROOT /probe serve web 80").ok();
        bed.await_log("web/a", "serving");
        let first = machine.addresses("web");
        // A container that is restarted keeps all.
        bed.podlet("restart -t 0 web/a").ok();
        bed.podlet("exec web/a /probe reach 127.0.0.1:80").ok();
        assert_eq!(machine.addresses("web"), first);
        space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
        let starts = |how: &str| {
            bed.podlet("start web").ok();
            bed.podlet("exec web/a /probe reach 127.0.0.1:80").ok();
            space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
            let address = machine.addresses("web")[0];
            assert!(space.here.ask(&at(address, 80)).expect(how).starts_with("web "), "{how}");
        };
        bed.podlet("stop -t 0 web").ok();
        assert_eq!(machine.addresses("web"), [] as [std::net::IpAddr; 0]);
        bed.until("the end of its link", || traces().is_empty());
        space.outside.is_refused("192.0.2.1:8080");
        starts("after a stop");
        bed.podlet("restart -t 0 web").ok();
        bed.podlet("exec web/a /probe reach 127.0.0.1:80").ok();
        space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
        // Pause alone is killed: the plugins find the namespace.
        bed.kill(bed.pause_of("web"), nix::sys::signal::Signal::SIGKILL);
        bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
        starts("after its end");
        bed.kill(bed.pause_of("web"), nix::sys::signal::Signal::SIGKILL);
        bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
        // Its port is for who asks.
        space.serve("other", "--network cni:br -p 8080:80 -p 8080:80/udp");
        space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
        bed.podlet("start web").fails(125, &["8080", "pod other"]);
        bed.podlet("rm -f web").ok();
        space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    });
}

fn what_is_left_of_cni_pods_that_are_gone_is_collected(bed: &Bed) {
    Machine::each(bed, |machine| {
        let space = &machine.space;
        // Its masquerade rules the plugin finds only by what is in the namespace.
        let mut plugins = bridge(98);
        plugins[0]["ipMasq"] = false.into();
        machine.network("br", plugins);
        space.serve("lives", "--network cni:br -p 8080:80 -p 8080:80/udp");
        let with_one = traces();
        space.serve("dead", "--network cni:br -p 8081:80");
        assert!(traces().len() > with_one.len());
        // As a store in memory is after the machine's restart.
        bed.kill(bed.pause_of("dead"), nix::sys::signal::Signal::SIGKILL);
        bed.until("the end of the pod", || bed.inspect("dead")["state"] == "exited");
        let bind = bed.state().join("dead/ext/net/netns");
        nix::mount::umount2(&bind, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
        let (dir, away) = (bed.state().join("dead"), bed.dir.join("dead"));
        fs::rename(&dir, &away).expect("moved");
        let said = bed.podlet("network prune").code(0);
        assert!((said.out + &said.err).contains("pod dead is gone, and has been taken out of CNI network br"));
        bed.until("the end of its link", || traces() == with_one);
        space.outside.hears("192.0.2.1:8080", "lives 192.0.2.2");
        fs::rename(&away, &dir).expect("moved back");
        machine.is_as_made("lives", true);
    });
}

fn a_cni_network_that_is_not_configured_any_more_is_left(bed: &Bed) {
    Machine::each(bed, |machine| {
        machine.network("br", bridge(98));
        machine.space.serve("a", "--network cni:br -p 8080:80 -p 8080:80/udp");
        machine.space.serve("b", "--network cni:br");
        fs::remove_file(machine.configuration("br")).expect("removed");
        machine.is_as_made("b", false);
        bed.podlet("run --name c --network cni:br host /bin/true").fails(125, &["\"br\"", "net.d"]);
        bed.podlet("rm -f a b").ok();
    });
}

fn flows_to_a_port_of_a_cni_pod_that_is_gone_are_forgotten(bed: &Bed) {
    Machine::each(bed, |machine| {
        let space = &machine.space;
        machine.network("br", bridge(98));
        space.serve("a", "--network cni:br -p 8080:80/udp");
        let client = space.outside.within(|| UdpSocket::bind("192.0.2.2:4000").expect("a socket"));
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        client.connect("192.0.2.1:8080").expect("an address");
        let ask = || {
            client.send(b"?")?;
            let mut buffer = [0; 64];
            let size = client.recv(&mut buffer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..size]).into_owned())
        };
        assert_eq!(ask().expect("an answer"), "a 192.0.2.2\n");
        bed.podlet("rm -f a").ok();
        // Nobody is there, and that is said; a flow that stayed would go to the pod.
        assert_eq!(ask().map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionRefused));
        space.serve("b", "--network cni:br -p 8080:80/udp");
        assert_eq!(ask().expect("an answer"), "b 192.0.2.2\n");
    });
}
