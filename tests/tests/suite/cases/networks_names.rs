//! By which names pods of networks are found, until when, and what becomes of the files
//! they stand in. Each test is on a machine of its own ([`space`](crate::space)).

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::networks::names_of;
use crate::bed::Bed;
use crate::space::Space;

crate::tests![
    a_pod_of_a_network_is_named_as_long_as_it_runs,
    names_of_a_pod_that_ended_by_itself_go_with_the_next_look,
    hosts_files_that_somebody_removed_are_made_anew,
    a_hardware_address_of_a_network_is_one_pods,
    parameters_of_interfaces_are_set_when_these_are_there,
    ps_shows_all_addresses_of_a_pod,
    what_networks_switch_on_is_told_when_it_is,
    a_container_keeps_the_names_of_its_image_where_that_is_asked,
];

fn one(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_string()])
}

fn a_pod_of_a_network_is_named_as_long_as_it_runs(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("network create blue").ok();
    space.serve("a", "");
    // With a hosts file of its own.
    space.serve("both", "--network podlet --network blue");
    space.serve("db", "--network-alias store");
    let addresses = space.addresses("podlet", "db");
    let found = || -> Vec<BTreeSet<String>> {
        let by = |pod: &str| addresses.iter().map(|ip| names_of(bed, &format!("{pod}/{pod}"), *ip)).collect::<Vec<_>>();
        [by("a"), by("both")].concat()
    };
    let named = vec![BTreeSet::from(["db", "store"].map(String::from)); 4];
    let unnamed = vec![BTreeSet::new(); 4];
    assert_eq!(found(), named);
    bed.podlet("stop -t 0 db").ok();
    assert_eq!(found(), unnamed, "it is stopped");
    bed.podlet("start db").ok();
    assert_eq!((space.addresses("podlet", "db"), found()), (addresses.clone(), named.clone()), "it is started");
    bed.podlet("restart -t 0 db").ok();
    assert_eq!(found(), named, "it is restarted");
    // A pod with a file of its own finds who is there when it is started, and is found.
    let both = space.addresses("blue", "both")[0];
    bed.podlet("stop -t 0 both").ok();
    space.serve("b", "--network blue");
    assert_eq!(names_of(bed, "b/b", both), BTreeSet::new());
    bed.podlet("start both").ok();
    assert_eq!(names_of(bed, "b/b", both), one("both"));
    assert_eq!(names_of(bed, "both/both", space.addresses("blue", "b")[0]), one("b"));
    assert_eq!(found(), named);
    space.ends();
}

fn a_container_keeps_the_names_of_its_image_where_that_is_asked(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "");
    for (option, lacking) in [("", ""), ("--no-hosts", "/etc/hosts"), ("--no-hostname", "/etc/hostname")] {
        let table = bed.podlet(&format!("run --rm --pod a {option} --rootfs ROOT /probe mounts")).ok();
        for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            assert_eq!(table.contains(&format!(" {file} ")), file != lacking, "{option} {file}: {table}");
        }
    }
    let refused = "run --no-hosts --add-host db:10.0.0.1 --rootfs ROOT /probe exit 0";
    bed.podlet(refused).fails(125, &["--no-hosts", "--add-host"]);
    space.ends();
}

fn names_of_a_pod_that_ended_by_itself_go_with_the_next_look(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "");
    space.serve("own", "--add-host x:198.51.100.7");
    bed.podlet("run -d --name short --rootfs ROOT /probe block").ok();
    let address = space.addresses("podlet", "short")[0];
    assert_eq!(names_of(bed, "a/a", address), one("short"));
    bed.podlet("kill short").ok();
    bed.podlet("wait short").ok();
    bed.until("its end", || bed.inspect("short")["state"] == "exited");
    bed.podlet("network reload").ok();
    for pod in ["a/a", "own/own"] {
        assert_eq!(names_of(bed, pod, address), BTreeSet::new(), "{pod}");
    }
    assert_eq!(names_of(bed, "own/own", space.addresses("podlet", "a")[0]), one("a"), "who runs stays");
    bed.podlet("start short").ok();
    assert_eq!(names_of(bed, "a/a", address), one("short"));
    space.ends();
}

/// The hosts file of the network `podlet`, and the own one of a pod.
fn files(bed: &Bed) -> [PathBuf; 2] {
    [".networks/podlet/hosts", "own/ext/net/hosts"].map(|path| bed.state().join(path))
}

fn hosts_files_that_somebody_removed_are_made_anew(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "--network-alias first");
    bed.podlet("create own --add-host x:198.51.100.7 --dns 198.51.100.53").ok();
    bed.podlet("run -d --pod own --name c --rootfs ROOT /probe block").ok();
    bed.podlet("create ended").ok();
    bed.podlet("stop ended").ok();
    let [a, own, ended]: [IpAddr; 3] = ["a", "own", "ended"].map(|pod| space.addresses("podlet", pod)[0]);
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a hosts file");
    let names = |path: &PathBuf, address: IpAddr| {
        let (address, text) = (address.to_string(), text(path));
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&address)).map(String::from);
        line.and_then(|line| Some(line.split_once('#')?.0.trim().replace('\t', " ")))
    };
    let whole = || {
        let [network, ours] = files(bed);
        for path in [&network, &ours] {
            assert_eq!(names(path, a), Some(format!("{a} a first")));
            assert_eq!(names(path, own), Some(format!("{own} own")));
            assert_eq!(names(path, ended), None);
        }
        assert!(text(&ours).contains("198.51.100.7\tx"));
        let resolver = fs::read_to_string(bed.state().join("own/ext/net/resolv.conf")).expect("what it is told");
        assert!(resolver.contains("nameserver 198.51.100.53"), "{resolver}");
    };
    whole();
    let lose = || {
        files(bed).iter().for_each(|path| fs::remove_file(path).expect("removed"));
        fs::remove_file(bed.state().join("own/ext/net/resolv.conf")).expect("removed");
    };
    // By whatever looks first.
    for line in ["network reload", "start own/c", "restart -t 0 own/c", "run --rm --pod own --rootfs ROOT /probe echo"]
    {
        if line.starts_with("start") {
            bed.podlet("stop -t 0 own/c").ok();
        }
        lose();
        let said = bed.podlet(line).code(0);
        assert!(said.err.contains("pod own: ") && said.err.contains("started again"), "{line}: {}", said.err);
        if line.starts_with("network") {
            assert!(said.err.contains("pod a: "), "{}", said.err);
        }
        whole();
    }
    // A pod that comes finds none, and makes it.
    files(bed).iter().for_each(|path| fs::remove_file(path).expect("removed"));
    space.serve("late", "");
    assert_eq!(names_of(bed, "late/late", a), BTreeSet::from(["a", "first"].map(String::from)));
    // So does one that is started again.
    bed.podlet("stop -t 0 own").ok();
    bed.podlet("start own").ok();
    whole();
    assert_eq!(names_of(bed, "own/c", a), BTreeSet::from(["a", "first"].map(String::from)));
    space.ends();
}

fn a_hardware_address_of_a_network_is_one_pods(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("a", "--mac 02:00:00:00:00:07");
    let bad = |options: &str, words: &[&str]| {
        bed.podlet(&format!("run -d --name bad {options} --rootfs ROOT /probe block")).fails(125, words);
        assert_eq!(bed.podlet("ps -aq").ok(), "a\n");
    };
    bad("--mac 02:00:00:00:00:07", &["mac \"02:00:00:00:00:07\"", "pod a of network podlet", "give another"]);
    bed.podlet("stop -t 0 a").ok();
    bad("--mac 02:00:00:00:00:07", &["pod a of network podlet"]);
    bed.podlet("start a").ok();
    // That of an address which another pod may get, the bridge's, and a's own otherwise.
    for mac in ["0a:58:0a:59:00:01", "0a:58:0a:59:00:63"] {
        bad(&format!("--mac {mac}"), &["mac", mac, "by their IP addresses", "give another"]);
    }
    bad("--mac 00:00:00:00:00:00", &["mac \"00:00:00:00:00:00\"", "no interface", "give another"]);
    bad("--mac ff:ff:ff:ff:ff:ff", &["many interfaces", "even first byte"]);
    space.serve("own", "--ip 10.89.0.99 --mac 0a:58:0a:59:00:63");
    bed.podlet("network create blue").ok();
    space.serve("other", "--network blue --mac 02:00:00:00:00:07");
    bed.podlet("rm -f a").ok();
    space.serve("next", "--mac 02:00:00:00:00:07");
    space.ends();
}

fn parameters_of_interfaces_are_set_when_these_are_there(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("network create blue").ok();
    let sysctls = "--sysctl net.ipv4.conf.eth0.rp_filter=2 --sysctl net/ipv4/neigh/eth1/gc_stale_time=77 \
                   --sysctl net.ipv4.ip_default_ttl=77";
    space.serve("a", &format!("--network podlet --network blue {sysctls}"));
    let read = |path: &str| bed.podlet(&format!("exec a/a /probe read /proc/sys/net/ipv4/{path}")).ok();
    let all = || ["conf/eth0/rp_filter", "neigh/eth1/gc_stale_time", "ip_default_ttl"].map(read);
    assert_eq!(all(), ["2\n", "77\n", "77\n"]);
    bed.podlet("stop -t 0 a").ok();
    bed.podlet("start a").ok();
    assert_eq!(all(), ["2\n", "77\n", "77\n"], "made anew");
    assert_eq!(bed.inspect("a")["network"]["sysctls"]["net.ipv4.conf.eth0.rp_filter"], "2");
    let plan = bed.podlet("plan --sysctl net.ipv4.conf.eth0.rp_filter=2 --rootfs ROOT /probe").ok();
    assert!(plan.lines().any(|line| line == "sysctl net.ipv4.conf.eth0.rp_filter=2"), "{plan}");
    for (options, words) in [
        (
            "--sysctl net.ipv4.conf.eth1.rp_filter=2",
            &["sysctl \"net.ipv4.conf.eth1.rp_filter\"", "its own are eth0"][..],
        ),
        ("--sysctl net.ipv4.conf.eth0.nothing=2", &["sysctl \"net.ipv4.conf.eth0.nothing\"", "no such parameter"]),
        (
            "--sysctl net.ipv4.conf.eth0.rp_filter=x",
            &["sysctl \"net.ipv4.conf.eth0.rp_filter\"", "\"x\"", "give another"],
        ),
        ("--sysctl net.ipv4.conf.eth0.rp_filter=2 --sysctl net/ipv4/conf/eth0/rp_filter=1", &["twice"]),
        ("--network none --sysctl net.ipv4.conf.eth0.rp_filter=2", &["eth0 comes with a network", "give it one"]),
        ("--share ipc --sysctl net.ipv4.conf.eth0.rp_filter=2", &["eth0 comes with a network", "give it one"]),
        ("--network host --sysctl net.ipv4.conf.eth0.rp_filter=2", &["the machine's: set it there"]),
    ] {
        bed.podlet(&format!("run -d --name bad {options} --rootfs ROOT /probe block")).fails(125, words);
        assert_eq!(bed.podlet("ps -aq").ok(), "a\n", "after {options}");
    }
    space.ends();
}

fn ps_shows_all_addresses_of_a_pod(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("network create blue").ok();
    space.serve("a", "--network podlet --network blue");
    let addresses = [space.addresses("podlet", "a"), space.addresses("blue", "a")].concat();
    let shown = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let said = bed.podlet("ps").ok();
    assert!(said.lines().nth(1).is_some_and(|row| row.split_whitespace().any(|word| word == shown)), "{said}");
    assert!(said.starts_with("POD") && said.contains("ADDRESSES"), "{said}");
    space.ends();
}

fn what_networks_switch_on_is_told_when_it_is(bed: &Bed) {
    let space = Space::enter(bed);
    let told = |line: &str| bed.podlet(line).code(0).err.contains(" is set");
    assert!(told("create a"));
    assert!(!told("create b"));
    assert!(!told("network create blue"));
    // With the last network it is switched off, so it is told again when there is one.
    bed.podlet("rm -fa").ok();
    assert_eq!(bed.podlet("network prune").ok(), "blue\npodlet\n");
    assert!(told("create a"));
    assert!(!told("network create blue"));
    // The table of the firewall has another name for another store than the machine's.
    let table = space.network("podlet")["table"].as_str().expect("a name").to_string();
    assert!(table.starts_with("podlet-") && crate::space::tables().expect("tables") == [table], "its table");
    space.ends();
}
