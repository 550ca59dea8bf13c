//! Pods in networks: addresses, names, and what keeps networks apart. Each test is
//! on a machine of its own ([`space`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::bed::Bed;
use crate::harness::every;
use crate::space::{self, Space};

crate::tests![
    pods_in_networks_reach_each_other_by_their_addresses,
    pods_in_networks_reach_what_is_outside,
    a_server_in_a_network_crashes_and_its_address_stays,
    pods_in_networks_find_each_other_by_name,
    pods_in_networks_have_names_and_servers_of_their_own,
    pods_in_networks_have_the_addresses_they_ask_for,
    internal_and_isolated_networks_are_what_they_say,
    networks_in_use_stay,
    networks_of_two_stores_have_two_bridges,
    networks_leave_links_of_others_alone,
    what_goes_through_a_pods_network_is_counted,
];

/// `10.89.0.2:80`, `[fd00::2]:80`.
pub fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn pods_in_networks_reach_each_other_by_their_addresses(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "");
    space.serve("b", "");
    let (a, b) = (space.addresses("podlet", "a"), space.addresses("podlet", "b"));
    assert!(a.len() == 2 && a[0].is_ipv4() && a[1].is_ipv6(), "{a:?}");
    for (a, b) in a.iter().zip(&b) {
        space.hears("a/a", &at(*b, 80), &format!("b {a}"));
        space.hears("b/b", &at(*a, 80), &format!("a {b}"));
        // The machine, too, without a port.
        let heard = space.here.ask(&at(*a, 80)).expect("an answer");
        assert!(heard.starts_with("a "), "{heard}");
    }
    space.ends();
}

fn pods_in_networks_reach_what_is_outside(bed: &Bed) {
    let space = Space::enter(bed);
    let _server = space.serve_outside();
    space.serve("a", "");
    // As this machine: nobody out there knows a way to the pod.
    space.hears("a/a", "192.0.2.2:80", "outside 192.0.2.1");
    space.hears("a/a", "[2001:db8::2]:80", "outside 2001:db8::1");
    space.ends();
}

fn a_server_in_a_network_crashes_and_its_address_stays(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("create web -p 8080:80 -p 8080:80/udp").ok();
    bed.podlet("run -d --pod web --name server --rootfs ROOT /probe serve web 80").ok();
    bed.podlet("run -d --pod web --name client --rootfs ROOT /probe block").ok();
    bed.await_log("web/server", "serving");
    let mac = || bed.podlet("exec web/client /probe read /sys/class/net/eth0/address").ok();
    let (addresses, first_mac) = (space.addresses("podlet", "web"), mac());
    assert!(first_mac.starts_with("0a:58:"), "{first_mac}");
    for _ in 0..every().map_or(bed.rounds(20), |_| 100) {
        assert_eq!(bed.podlet("exec web/client /probe crash 127.0.0.1:80").ok(), "crashed\n");
        assert_eq!(bed.podlet("wait web/server").ok(), "137\n");
        bed.podlet("start web/server").ok();
        assert_eq!(bed.podlet("exec web/client /probe reach 127.0.0.1:80").ok(), "web 127.0.0.1\n");
        assert_eq!((space.addresses("podlet", "web"), mac()), (addresses.clone(), first_mac.clone()));
        space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    }
    space.ends();
}

/// The names that a container's hosts file has for an address.
pub fn names_of(bed: &Bed, container: &str, address: IpAddr) -> BTreeSet<String> {
    let hosts = bed.podlet(&format!("exec {container} /probe read /etc/hosts")).ok();
    // What is behind a `#` is no name (hosts(5)).
    let lines = hosts.lines().filter_map(|line| line.split('#').next());
    let words = lines.map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    let of_address = words.filter(|words| words.first().is_some_and(|first| *first == address.to_string()));
    of_address.flat_map(|words| words[1..].to_vec()).collect()
}

fn pods_in_networks_find_each_other_by_name(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "");
    space.serve("db", "--hostname postgres --network-alias store --network-alias data.example");
    let names = ["data.example", "db", "postgres", "store"].map(String::from).into();
    for address in space.addresses("podlet", "db") {
        assert_eq!(names_of(bed, "a/a", address), names, "{address}");
        assert_eq!(names_of(bed, "db/db", address), names, "its own: {address}");
    }
    assert_eq!(bed.podlet("exec db/db /probe read /etc/hostname").ok(), "postgres\n");
    let former = space.addresses("podlet", "db");
    bed.podlet("rm -f db").ok();
    assert!(former.iter().all(|address| names_of(bed, "a/a", *address).is_empty()), "of a pod that is gone");
    // Who is in two networks finds those of both, and is found in both.
    bed.podlet("network create blue").ok();
    space.serve("b", "--network blue");
    space.serve("both", "--network podlet --network blue");
    let one = |name: &str| BTreeSet::from([name.to_string()]);
    assert_eq!(names_of(bed, "both/both", space.addresses("podlet", "a")[0]), one("a"));
    assert_eq!(names_of(bed, "both/both", space.addresses("blue", "b")[0]), one("b"));
    assert_eq!(names_of(bed, "a/a", space.addresses("podlet", "both")[0]), one("both"));
    assert_eq!(names_of(bed, "b/b", space.addresses("blue", "both")[0]), one("both"));
    assert_eq!(names_of(bed, "a/a", space.addresses("blue", "b")[0]), BTreeSet::new());
    let from = space.addresses("blue", "both")[0];
    space.hears("both/both", &at(space.addresses("blue", "b")[0], 80), &format!("b {from}"));
    space.ends();
}

fn pods_in_networks_have_names_and_servers_of_their_own(bed: &Bed) {
    let space = Space::enter(bed);
    let options = "--add-host db.example:198.51.100.7 --add-host up:host-gateway --dns 198.51.100.53 \
                   --dns-search example.org --dns-option ndots:2";
    space.serve("a", options);
    space.serve("b", "");
    let address = |text: &str| text.parse().expect("an address");
    let one = |name: &str| BTreeSet::from([name.to_string()]);
    assert_eq!(names_of(bed, "a/a", address("198.51.100.7")), one("db.example"));
    assert_eq!(names_of(bed, "a/a", address("10.89.0.1")), one("up"));
    assert_eq!(names_of(bed, "b/b", address("198.51.100.7")), BTreeSet::new(), "another's");
    let b = space.addresses("podlet", "b")[0];
    assert_eq!(names_of(bed, "a/a", b), one("b"), "a pod that came later");
    let resolver = bed.podlet("exec a/a /probe read /etc/resolv.conf").ok();
    for line in ["nameserver 198.51.100.53", "search example.org", "options ndots:2"] {
        assert!(resolver.lines().any(|found| found == line), "{line}: {resolver}");
    }
    bed.podlet("rm -f b").ok();
    assert_eq!(names_of(bed, "a/a", b), BTreeSet::new(), "of a pod that is gone");
    space.ends();
}

fn pods_in_networks_have_the_addresses_they_ask_for(bed: &Bed) {
    let space = Space::enter(bed);
    let create = "network create blue --subnet 10.77.0.0/24 --subnet fd77::/64 --gateway 10.77.0.254 --mtu 1400";
    assert_eq!(bed.podlet(create).ok(), "blue\n");
    space.serve("a", "--network blue --ip 10.77.0.7 --ip6 fd77::99 --mac 02:00:00:00:00:07");
    let wanted: Vec<IpAddr> = ["10.77.0.7", "fd77::99"].map(|text| text.parse().expect("an address")).into();
    assert_eq!(space.addresses("blue", "a"), wanted);
    let read = |path: &str| bed.podlet(&format!("exec a/a /probe read {path}")).ok();
    assert_eq!(read("/sys/class/net/eth0/address"), "02:00:00:00:00:07\n");
    assert_eq!(read("/sys/class/net/eth0/mtu"), "1400\n");
    // The way out is the gateway, in the kernel's own spelling.
    let routes = read("/proc/net/route");
    let way_out = |line: &str| line.starts_with("eth0\t00000000\tFE004D0A\t") && line.contains("\t00000000\t0\t0\t0");
    assert!(routes.lines().any(way_out), "{routes}");
    space.here.hears("10.77.0.7:80", "a 10.77.0.254");
    space.ends();
}

fn internal_and_isolated_networks_are_what_they_say(bed: &Bed) {
    let space = Space::enter(bed);
    let _server = space.serve_outside();
    bed.podlet("network create inner --internal").ok();
    bed.podlet("network create lonely --isolated").ok();
    for (pod, network) in [("a", "inner"), ("b", "inner"), ("d", "lonely"), ("e", "podlet")] {
        space.serve(pod, &format!("--network {network}"));
    }
    space.serve("c", "--network lonely -p 8080:80 -p 8080:80/udp");
    let address = |pod: &str, network: &str| space.addresses(network, pod)[0];
    let (a, b) = (address("a", "inner"), address("b", "inner"));
    space.hears("a/a", &at(b, 80), &format!("b {a}"));
    space.hears_nothing("a/a", "192.0.2.2:80");
    space.hears_nothing("a/a", &at(address("e", "podlet"), 80));
    space.hears_nothing("e/e", &at(a, 80));
    for (pod, other) in [("c", address("d", "lonely")), ("c", address("e", "podlet")), ("e", address("c", "lonely"))] {
        space.hears_nothing(&format!("{pod}/{pod}"), &at(other, 80));
    }
    // Neither keeps it from what is outside, nor its ports from the machine.
    space.hears("c/c", "192.0.2.2:80", "outside 192.0.2.1");
    space.outside.hears("192.0.2.1:8080", "c 192.0.2.2");
    space.ends();
}

fn networks_in_use_stay(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("network create blue").ok();
    bed.podlet("network create idle").ok();
    space.serve("a", "--network blue");
    bed.podlet("network rm blue").fails(125, &["network blue", "pod a", "remove"]);
    space.here.ask(&at(space.addresses("blue", "a")[0], 80)).expect("an answer");
    // One that cannot be removed does not keep another.
    bed.podlet("network rm blue idle").fails(125, &["network blue"]);
    assert_eq!(bed.podlet("network ls -q").ok(), "blue\n");
    assert_eq!(bed.podlet("network prune").ok(), "");
    bed.podlet("stop -t 0 a").ok();
    bed.podlet("network rm blue").fails(125, &["network blue", "pod a"]);
    assert_eq!(bed.podlet("network prune").ok(), "", "a pod that is stopped has it");
    bed.podlet("rm -f a").ok();
    bed.podlet("network rm blue").ok();
    assert_eq!(bed.podlet("network ls -q").ok(), "");
    space.ends();
}

fn networks_of_two_stores_have_two_bridges(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "-p 8080:80 -p 8080:80/udp");
    let root = bed.dir.join("second");
    let second = |line: &str| bed.finish(bed.in_store(&root, line));
    second("run -d --name a --rootfs ROOT /probe block").ok();
    let json: serde_json::Value = serde_json::from_str(&second("network inspect podlet").ok()).expect("JSON");
    assert_eq!((&json[0]["bridge"], &space.network("podlet")["bridge"]), (&"podlet1".into(), &"podlet0".into()));
    assert_eq!(space::tables().expect("tables").len(), 2);
    second("rm -f a").ok();
    assert_eq!(second("network prune").ok(), "podlet\n");
    assert_eq!(space::tables().expect("tables").len(), 1);
    space.outside.hears("192.0.2.1:8080", "a 192.0.2.2");
    let left: Vec<_> = crate::leaks::tree(&root).into_iter().filter(|path| !path.ends_with("/.sweep")).collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir_all(&root).expect("the second store");
    space.ends();
}

fn networks_leave_links_of_others_alone(bed: &Bed) {
    let space = Space::enter(bed);
    space::add_bridge("podlet0");
    space.serve("a", "");
    assert_eq!(space.network("podlet")["bridge"], "podlet1");
    bed.podlet("network create blue --bridge podlet0").fails(125, &["podlet0", "podlet's", "--bridge"]);
    bed.podlet("network create blue --bridge uplink").fails(125, &["uplink", "--bridge"]);
    assert_eq!(bed.podlet("network ls -q").ok(), "podlet\n");
    bed.podlet("rm -f a").ok();
    bed.podlet("network prune").ok();
    assert!(space::links().contains("podlet0"), "it was not podlet's");
    space::delete_link("podlet0");
    space.ends();
}

fn what_goes_through_a_pods_network_is_counted(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "");
    space.serve("b", "");
    let counted = || -> Vec<u64> {
        let rows: serde_json::Value = serde_json::from_str(&bed.podlet("stats --format json b").ok()).expect("JSON");
        let eth0 = &rows[0]["network"]["eth0"];
        assert!(rows[0]["network"].as_object().is_some_and(|all| all.keys().eq(["eth0"])), "{rows}");
        ["rx_bytes", "tx_bytes"].iter().map(|name| eth0[*name].as_u64().expect("a number")).collect()
    };
    let before = counted();
    let (a, b) = (space.addresses("podlet", "a")[0], space.addresses("podlet", "b")[0]);
    space.hears("a/a", &at(b, 80), &format!("b {a}"));
    let after = counted();
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
    let text = bed.podlet("stats --format prometheus b").ok();
    assert!(text.contains("podlet_pod_network_receive_bytes_total{pod=\"b\",interface=\"eth0\"} "), "{text}");
    space.ends();
}
