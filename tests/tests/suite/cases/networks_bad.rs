//! What cannot be had of networks: a sentence with the name, the value and the
//! cure, and nothing is left.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::bed::Bed;
use crate::leaks;
use crate::space::{self, Space};
use crate::sys;

crate::tests![what_cannot_be_had_of_networks_is_refused_and_leaves_nothing];

/// Of who may not make networks.
pub const OF_USERS: &[crate::Case] =
    &[("a_user_without_networks_is_told_so_once", a_user_without_networks_is_told_so_once)];

/// What is refused to `run -d --name bad ... --rootfs ROOT /probe block`, and the
/// words that say why.
const OF_RUN: &[(&str, &[&str])] = &[
    ("-p 8080:80", &["publish", "8080:80/tcp", "pod web", "choose another"]),
    ("-p 127.0.0.1:8080:80", &["publish", "127.0.0.1:8080:80/tcp", "pod web"]),
    ("-p 8090:80", &["publish", "8090:80/tcp", "a program of this machine", "choose another"]),
    ("-p 8090:80/udp", &["publish", "8090:80/udp", "a program of this machine", "choose another"]),
    ("-p 99999:80", &["publish", "99999:80", "1 to 65535"]),
    ("-p 0:80", &["publish", "0:80", "1 to 65535"]),
    ("-p 8091:80 -p 8091:81", &["publish", "8091:81", "8091:80/tcp", "choose another port"]),
    ("-p 8091-8093:80-81", &["publish", "8091-8093:80-81", "as many of each"]),
    ("-p 198.51.100.9:80:80", &["publish", "198.51.100.9", "no address of this machine", "give one of its own"]),
    ("-p [::1]:8091:80", &["publish", "::1", "give 127.0.0.1"]),
    ("-p 80:80/sctp", &["publish", "sctp", "give tcp or udp"]),
    ("--network small4 -p [2001:db8::1]:8091:80", &["publish", "2001:db8::1", "no address of that family"]),
    ("--ip 10.1.2.3", &["ip", "10.1.2.3", "network podlet", "give an address of it"]),
    ("--ip 10.89.0.99", &["ip", "10.89.0.99", "pod web", "give another"]),
    ("--ip 10.89.0.1", &["ip", "10.89.0.1", "give"]),
    ("--ip 10.89.0.255", &["ip", "10.89.0.255", "give"]),
    ("--ip6 fe80::1", &["ip6", "fe80::1", "network podlet"]),
    ("--ip 10.89.0.256", &["ip", "10.89.0.256", "no address", "give one of the network"]),
    ("--ip fd00::1", &["ip", "fd00::1", "--ip6"]),
    ("--ip6 10.89.0.7", &["ip6", "10.89.0.7", "by --ip"]),
    ("--ip 10.89.0.7/24", &["ip", "10.89.0.7/24", "give the address alone, 10.89.0.7"]),
    ("--network container:web", &["--network", "container:web", "pod:web"]),
    ("--network podlet:ip=10.89.0.7", &["--network", "podlet:ip=10.89.0.7", "--ip"]),
    ("--network podlet,small", &["--network", "podlet,small", "once for each"]),
    ("--network pod:", &["--network pod:", "name the pod"]),
    ("--network small", &["network small", "is full", "10.77.0.0/30", "larger subnet"]),
    ("--network nowhere", &["network nowhere", "network create"]),
    ("--network podlet --network podlet", &["network", "podlet", "twice"]),
    ("--network podlet --network none", &["--network none", "nothing besides"]),
    ("--network none -p 8091:80", &["--publish", "--network none"]),
    ("--network host --ip 10.89.0.50", &["--ip", "--network host"]),
    ("--share ipc --network podlet", &["--network", "network namespace", "--share"]),
    ("--mac 01:00:00:00:00:01", &["mac", "01:00:00:00:00:01", "even first byte"]),
    ("--mac 02:00:00", &["mac", "02:00:00", "six bytes"]),
    ("--network-alias -x-", &["network-alias", "-x-", "give letters"]),
    ("--add-host nowhere", &["add-host", "nowhere", "NAME:IP"]),
    ("--add-host a:b", &["add-host", "a:b", "no IP address"]),
    ("--dns 0.0.0.0", &["dns", "0.0.0.0", "give another"]),
    ("--dns example.org", &["dns", "example.org"]),
];

const OF_OTHERS: &[(&str, &[&str])] = &[
    ("network create podlet", &["network podlet", "exists"]),
    ("network create none", &["network name", "none", "choose another name"]),
    ("network create pasta", &["network name", "pasta", "choose another name"]),
    ("network create ../x", &["network", "../x"]),
    ("network create blue --subnet 10.77.0.0/24", &["subnet", "10.77.0.0/24", "10.77.0.0/30"]),
    (
        "network create blue --subnet 192.0.2.0/25",
        &["subnet", "192.0.2.0/25", "192.0.2.0/24", "uplink", "give another"],
    ),
    ("network create blue --subnet 10.66.0.1/24", &["subnet", "10.66.0.1/24", "give 10.66.0.0/24"]),
    ("network create blue --subnet 10.66.0.0/31", &["subnet", "10.66.0.0/31", "/30"]),
    ("network create blue --subnet nowhere", &["subnet", "nowhere", "10.89.0.0/24"]),
    ("network create blue --subnet 127.0.0.0/16", &["subnet", "127.0.0.0/16", "loopback"]),
    ("network create blue --subnet 10.66.0.0/24 --subnet 10.67.0.0/24", &["subnet", "10.67.0.0/24", "one subnet"]),
    ("network create blue --subnet 10.66.0.0/24 --gateway 10.67.0.1", &["gateway", "10.67.0.1", "10.66.0.0/24"]),
    ("network create blue --bridge a-name-that-is-too-long", &["bridge", "a-name-that-is-too-long", "15 bytes"]),
    ("network create blue --bridge uplink", &["uplink", "--bridge"]),
    ("network create blue --bridge podlet0", &["podlet0"]),
    ("network create blue --mtu 100", &["mtu", "100", "1280"]),
    ("network rm podlet", &["network podlet", "pod web", "remove"]),
    ("network create blue --mtu x", &["--mtu", "x"]),
    ("network create blue --mtu -1", &["--mtu", "-1", "68"]),
    ("network create blue --gateway 10.66.0.1/24", &["gateway", "10.66.0.1/24", "alone"]),
    ("network create blue --bridge a\"b", &["bridge", "a\"b", "1 to 15 bytes of"]),
    ("network create blue --peer 192.0.2.1=10.66.0.0/24", &["peer", "192.0.2.1", "own address", "give"]),
    ("network create blue --peer 203.0.113.7=10.66.0.0/24", &["peer", "203.0.113.7", "router", "--vxlan"]),
    ("network create blue --peer 10.89.0.9=10.66.0.0/24", &["peer", "10.89.0.9", "network podlet"]),
    ("network create blue --internal --peer 192.0.2.2=10.66.0.0/24", &["peer", "192.0.2.2", "--internal"]),
    ("network create blue --isolated --peer 192.0.2.2=10.66.0.0/24", &["peer", "192.0.2.2", "--isolated"]),
    ("network create blue --peer 192.0.2.2=10.66.0.0/24 --vxlan 0", &["--vxlan", "16777215"]),
    ("network create blue --peer 192.0.2.2=10.66.0.1/24", &["--peer", "192.0.2.2=10.66.0.1/24", "10.66.0.0/24"]),
    ("network create cni:x", &["cni:x", "file", "/etc/cni/net.d"]),
    ("network create blue --driver bridge", &["network create", "--driver", "bridges"]),
    ("network rm nowhere", &["network nowhere", "network ls"]),
    ("network rm cni:x", &["cni:x", "file", "/etc/cni/net.d"]),
    ("network inspect nowhere", &["network nowhere", "network ls"]),
    ("network inspect cni:x", &["cni:x", "/etc/cni/net.d", "network ls"]),
    ("network connect web podlet", &["network", "connect", "--network NAME"]),
    ("network disconnect web podlet", &["network", "disconnect", "--network NAME"]),
    ("network list", &["network", "list", "network ls"]),
    ("port add web 8090:80", &["publish", "8090:80/tcp", "a program of this machine"]),
    ("port add small 8080:80", &["publish", "8080:80/tcp", "pod web"]),
    ("port add web 8092:80 70000:80", &["publish", "70000:80", "1 to 65535"]),
    ("port add web 8092:80 8090:80", &["publish", "8090:80/tcp", "a program of this machine"]),
    ("port rm web 8092:80", &["publish", "8092:80/tcp", "pod web", "podlet port ls web"]),
    ("port rm web 80", &["80", "HOST:POD"]),
    ("port add alone 8092:80", &["pod alone", "in no network"]),
    ("port add nobody 8092:80", &["nobody"]),
];

/// Options that a script gave an empty variable.
const EMPTY: &[(&str, &[&str])] = &[
    (
        "run -d --name bad",
        &[
            "--network",
            "--publish",
            "--ip",
            "--ip6",
            "--mac",
            "--network-alias",
            "--dns",
            "--dns-search",
            "--dns-option",
            "--add-host",
        ],
    ),
    ("network create blue", &["--subnet", "--gateway", "--bridge", "--peer"]),
];

/// All that networks leave: files, links, tables.
fn everything(bed: &Bed) -> Vec<String> {
    let files = leaks::tree(&bed.state()).into_iter().filter(|path| !path.ends_with("/.sweep"));
    let tables = space::tables().expect("tables").into_iter().map(|name| format!("table {name}"));
    let mut all: Vec<_> = files.chain(tables).chain(space::links()).collect();
    all.sort();
    all
}

fn what_cannot_be_had_of_networks_is_refused_and_leaves_nothing(bed: &Bed) {
    let space = Space::enter(bed);
    let _tcp = TcpListener::bind("0.0.0.0:8090").expect("a port");
    let _udp = UdpSocket::bind("[::]:8090").expect("a port");
    bed.podlet("network create small --subnet 10.77.0.0/30").ok();
    bed.podlet("network create small4 --subnet 10.78.0.0/24").ok();
    bed.podlet("create --network none alone").ok();
    bed.podlet("create --network small small").ok();
    space.serve("web", "-p 8080:80 -p 8080:80/udp --ip 10.89.0.99");
    // Whose turn the next address is stays noted.
    bed.podlet("create --network podlet --network small4 first").ok();
    bed.podlet("rm -f first").ok();
    let first = |link: &String| link.starts_with("pod") && !link.starts_with("podlet");
    bed.until("the end of a link", || space::links().iter().filter(|link| first(link)).count() == 2);
    let (before, links) = (everything(bed), space::links());
    let run = |(options, words): &(&str, &'static [&'static str])| {
        (format!("run -d --name bad {options} --rootfs ROOT /probe block"), *words)
    };
    let other = |(line, words): &(&str, &'static [&'static str])| (line.to_string(), *words);
    for (line, words) in OF_RUN.iter().map(run).chain(OF_OTHERS.iter().map(other)) {
        bed.podlet(&line).fails(125, words);
        // The link of a pod goes a moment after it.
        bed.until("the end of a link", || space::links() == links);
        assert_eq!(everything(bed), before, "after {line}");
    }
    for (command, option) in
        EMPTY.iter().flat_map(|(command, options)| options.iter().map(move |option| (command, option)))
    {
        let args = [bed.expand(command), vec![option.to_string(), "".into()]].concat();
        let args =
            if command.starts_with("run") { [args, bed.expand("--rootfs ROOT /probe block")].concat() } else { args };
        bed.podlet_args(&args).fails(125, &[option, "\"\"", "is empty", "leave the option away"]);
        assert_eq!(everything(bed), before, "after {args:?}");
    }
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    assert_eq!(bed.podlet("port ls web").ok(), "8080:80/tcp\n8080:80/udp\n");
    space.ends();
}

/// Has programs be found that podlet may need, and no others.
fn without_pasta(bed: &Bed) {
    let dir = bed.dir.join("bin");
    fs::create_dir(&dir).expect("a directory");
    for program in ["newuidmap", "newgidmap"] {
        symlink(Path::new("/usr/bin").join(program), dir.join(program)).expect("a link");
    }
    sys::set_variable("PATH", &dir);
}

fn a_user_without_networks_is_told_so_once(bed: &Bed) {
    sys::forget_variable(crate::harness::NETWORK);
    without_pasta(bed);
    let said = bed.podlet("run --rm --rootfs ROOT /probe echo hello").code(0);
    assert_eq!(said.out, "hello\n");
    assert_eq!(said.err.matches("loopback alone").count(), 1, "{}", said.err);
    let words = ["CAP_NET_ADMIN", "the package passt"];
    assert!(words.iter().all(|word| said.err.contains(word)) && said.err.lines().count() == 1, "{}", said.err);
    assert_eq!(bed.podlet("run --rm --network none --rootfs ROOT /probe echo hello").code(0).err, "");
    for options in ["--network podlet", "-p 8080:80", "--ip 10.89.0.2"] {
        let line = format!("run --rm --name web {options} --rootfs ROOT /probe echo hello");
        bed.podlet(&line).fails(125, &["--network podlet", "CAP_NET_ADMIN", "--network none"]);
    }
    let line = "run --rm --name web --network pasta --rootfs ROOT /probe echo hello";
    bed.podlet(line).fails(125, &["network", "pasta", "install the package passt"]);
    bed.podlet("network create blue").fails(125, &["network blue", "CAP_NET_ADMIN"]);
    bed.podlet("network rm blue").fails(125, &["network blue"]);
    bed.podlet("network reload").ok();
    assert_eq!(bed.podlet("ps -aq").ok(), "");
    bed.is_clean();
}
