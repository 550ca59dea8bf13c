//! Networks and the machine they are on: what is switched on there, its firewall,
//! its reboot, its own network, and another machine with pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::networks::at;
use crate::bed::{Bed, Said};
use crate::leaks;
use crate::space::{self, LONG, Place, Space};

crate::tests![
    a_ping_between_pods_of_networks_has_their_addresses,
    networks_of_two_machines_are_one_by_plain_routes,
    networks_of_two_machines_are_one_by_a_tunnel,
    what_networks_switch_on_is_said_and_nothing_else_is,
    a_firewall_of_others_is_named_where_a_pod_is_made,
    rules_of_iptables_legacy_are_said_to_be_unseen,
    pods_of_networks_come_back_after_a_reboot,
    a_pod_on_the_machines_network_is_reached_as_the_machine,
];

/// Whether there are programs that make rules as docker does.
pub fn iptables() -> bool {
    let is_there = |name: &str| ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(name).exists());
    is_there("iptables") && is_there("iptables-legacy")
}

fn a_ping_between_pods_of_networks_has_their_addresses(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("create a").ok();
    bed.podlet("create b").ok();
    let places = ["a", "b"].map(|pod| Place::of_pod(bed, pod));
    let (a, b) = (space.addresses("podlet", "a"), space.addresses("podlet", "b"));
    for (from, to) in a.iter().zip(&b) {
        ping(&places, *from, *to);
    }
    // They would keep the pods' links.
    drop(places);
    space.ends();
}

/// An echo request from the first place to the second, and its answer: both with
/// the addresses that these have.
fn ping([here, there]: &[Place; 2], from: IpAddr, to: IpAddr) {
    let (family, protocol, request, reply) = match from {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let open = || {
        let socket: OwnedFd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).expect("a raw socket");
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(LONG)).expect("a timeout");
        socket
    };
    let (here, there) = (here.within(open), there.within(open));
    // Of ICMPv6 the kernel makes the checksum.
    let (id, number) = (0x706f_u16, 1_u16);
    let checksum = if from.is_ipv4() { !(u16::from(request) << 8).wrapping_add(id).wrapping_add(number) } else { 0 };
    let words = [u16::from(request) << 8, checksum, id, number];
    here.send_to(&words.map(u16::to_be_bytes).concat(), (to, 0)).expect("a ping");
    let hear = |socket: &UdpSocket, kind: u8| loop {
        let mut buffer = [0; 128];
        let (size, sender) = socket.recv_from(&mut buffer).expect("a message");
        // With IPv4 comes the header of the packet.
        let message = if from.is_ipv4() { &buffer[20..size] } else { &buffer[..size] };
        if message.first() == Some(&kind) && message[4..6] == id.to_be_bytes() {
            break sender.ip();
        }
    };
    assert_eq!(hear(&there, request), from, "the request to {to}");
    assert_eq!(hear(&here, reply), to, "the answer to {from}");
}

fn networks_of_two_machines_are_one_by_plain_routes(bed: &Bed) {
    let peers = |nth: usize| match nth {
        0 => "--peer 192.0.2.2=10.90.2.0/24 --peer 2001:db8::2=fd90:2::/64",
        _ => "--peer 192.0.2.1=10.90.1.0/24 --peer 2001:db8::1=fd90:1::/64",
    };
    flat(bed, peers);
}

fn networks_of_two_machines_are_one_by_a_tunnel(bed: &Bed) {
    let peers = |nth: usize| match nth {
        0 => "--peer 192.0.2.2=10.90.2.0/24,fd90:2::/64 --vxlan 42",
        _ => "--peer 192.0.2.1=10.90.1.0/24,fd90:1::/64 --vxlan 42",
    };
    flat(bed, peers);
}

/// Pods of this machine and the one outside hear each other as who they are.
fn flat(bed: &Bed, peers: fn(usize) -> &'static str) {
    let space = Space::enter(bed);
    let root = bed.dir.join("second");
    let outside = |line: &str| -> Said { space.outside.within(|| bed.finish(bed.in_store(&root, line))) };
    bed.podlet(&format!("network create flat --subnet 10.90.1.0/24 --subnet fd90:1::/64 {}", peers(0))).ok();
    outside(&format!("network create flat --subnet 10.90.2.0/24 --subnet fd90:2::/64 {}", peers(1))).ok();
    space.serve("a", "--network flat");
    outside("run -d --name b --network flat --rootfs ROOT /probe serve b 80").ok();
    bed.until("a server outside", || outside("logs b").ok().contains("serving"));
    for (a, b) in [("10.90.1.2", "10.90.2.2"), ("fd90:1::2", "fd90:2::2")] {
        let [a, b] = [a, b].map(|address| address.parse::<IpAddr>().expect("an address"));
        space.hears("a/a", &at(b, 80), &format!("b {a}"));
        let heard = outside(&format!("exec b/b /probe ask {}", at(a, 80))).ok();
        assert_eq!(heard, format!("a {b}\na {b}\n"));
    }
    outside("rm -fa").ok();
    assert_eq!(outside("network prune").ok(), "flat\n");
    let left: Vec<_> = leaks::tree(&root).into_iter().filter(|path| !path.ends_with("/.sweep")).collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir_all(&root).expect("the second store");
    space.ends();
}

/// As sysctl(8) has it: `net.ipv4.conf.uplink.forwarding=1`.
fn as_sysctl(file: &Path, value: &str) -> String {
    let name = file.strip_prefix("/proc/sys").expect("a parameter").display().to_string();
    format!("{}={}", name.replace('/', "."), value.trim())
}

fn what_networks_switch_on_is_said_and_nothing_else_is(bed: &Bed) {
    let space = Space::enter(bed);
    let said = bed.podlet("create web -p 8080:80").code(0).err;
    let is_set =
        |line: &str| line.strip_prefix("podlet: note: ")?.split_once(" is set, ").map(|(what, _)| what.to_string());
    let told: BTreeSet<String> = said.lines().filter_map(is_set).collect();
    assert!(told.contains("net.ipv4.conf.uplink.forwarding=1"), "{said}");
    let now = || space.changed_parameters().iter().map(|(file, value)| as_sysctl(file, value)).collect::<BTreeSet<_>>();
    let changed = now();
    let of_bridge = |what: &&String| what.contains(".podlet0.");
    // The one of all links is that of each.
    let all = "net.ipv6.conf.all.forwarding=1";
    let follows =
        |what: &&String| told.contains(all) && what.starts_with("net.ipv6.conf.") && what.ends_with(".forwarding=1");
    let untold: Vec<_> = changed.difference(&told).filter(|what| !follows(what)).collect();
    assert!(untold.is_empty(), "set and not told: {untold:?}");
    let unset: Vec<_> = told.difference(&changed).filter(|what| !of_bridge(what)).collect();
    assert!(unset.is_empty(), "told and not set: {unset:?}");
    let again = bed.podlet("create other").code(0).err;
    assert!(!again.contains(" is set, "), "told again: {again}");
    bed.podlet("rm -fa").ok();
    space::prune(bed);
    let stays = |what: &&String| what.starts_with("net.ipv6.") && !what.contains(".force_forwarding=");
    assert_eq!(now(), changed.iter().filter(stays).cloned().collect(), "what somebody else may rely on stays");
    space.ends();
}

fn a_firewall_of_others_is_named_where_a_pod_is_made(bed: &Bed) {
    let space = Space::enter(bed);
    let _server = space.serve_outside();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        bed.finish(command).ok()
    };
    shell("iptables -P FORWARD DROP");
    let run = "run -d --name web -p 8080:80 -p 8080:80/udp --rootfs ROOT /probe serve web 80";
    let said = bed.podlet(run).code(0).err;
    bed.await_log("web/web", "serving");
    let chain = "the chain FORWARD of the table ip filter drops";
    let line = said.lines().find(|line| line.contains(chain)).unwrap_or_else(|| panic!("{said}"));
    let (_, cure) = line.split_once("cure: ").expect("a cure");
    space.hears_nothing("web/web", "192.0.2.2:80");
    let check = |code| bed.podlet("network check web").code(code).out;
    let found = check(1);
    assert!(found.lines().any(|line| line.starts_with("STOPS") && line.contains(chain)), "{found}");
    assert!(found.contains(cure), "{found}");

    shell(cure.split_once(" (with docker").expect("a word about docker").0);
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space.hears("web/web", "192.0.2.2:80", "outside 192.0.2.1");
    assert!(!check(0).contains("STOPS"));
    let said = bed.podlet("create other").code(0).err;
    assert!(!said.contains("firewall"), "{said}");

    space::flush_ruleset();
    assert!(check(1).contains("podlet's table is not there"));
    bed.podlet("network reload").ok();
    assert!(!check(0).contains("STOPS"));
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space.ends();
}

fn rules_of_iptables_legacy_are_said_to_be_unseen(bed: &Bed) {
    // They could not be taken away from the machine itself.
    let space = Space::apart(bed);
    space.serve("web", "-p 8080:80");
    let check = || bed.podlet("network check web").code(0).out;
    assert!(!check().contains("perhaps"));
    let mut command = Command::new("iptables-legacy");
    command.arg("-S").env("XTABLES_LOCKFILE", bed.dir.join("xtables.lock"));
    bed.finish(command).ok();
    let found = check();
    assert!(found.lines().any(|line| line.starts_with("perhaps") && line.contains("iptables-legacy")), "{found}");
    bed.podlet("rm -fa").ok();
    space::prune(bed);
}

/// Another boot, as far as podlet can tell: another identifier of it, and of all that
/// the kernel had nothing.
struct Reboot(PathBuf);

impl Reboot {
    const ID: &str = "/proc/sys/kernel/random/boot_id";

    fn simulate(space: &Space<'_>, pod: &str) -> Reboot {
        let bed = space.bed;
        bed.kill(bed.pause_of(pod), Signal::SIGKILL);
        bed.until("the end of the pod", || bed.inspect(pod)["state"] == "exited");
        forget_everything(space);
        let id = bed.dir.join("boot_id");
        std::fs::write(&id, "00000000-0000-4000-8000-000000000000\n").expect("an identifier");
        let none: Option<&str> = None;
        mount(Some(&id), Reboot::ID, none, MsFlags::MS_BIND, none).expect("another boot");
        Reboot(Reboot::ID.into())
    }
}

impl Drop for Reboot {
    fn drop(&mut self) {
        umount(&self.0).expect("the machine's own boot again");
    }
}

/// Links, tables and parameters are those of a machine without networks of pods.
fn forget_everything(space: &Space<'_>) {
    space::delete_link("podlet0");
    space::flush_ruleset();
    space.reset_parameters();
    assert!(space.changed_parameters().is_empty());
}

fn pods_of_networks_come_back_after_a_reboot(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("create web -p 8080:80 -p 8080:80/udp").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe serve web 80").ok();
    bed.await_log("web/a", "serving");
    let addresses = space.addresses("podlet", "web");
    let _reboot = Reboot::simulate(&space, "web");
    assert_eq!(bed.inspect("web")["state"], "exited");
    bed.podlet("start web").ok();
    assert_eq!(space.addresses("podlet", "web"), addresses);
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    assert!(bed.podlet("network check web").code(0).out.contains("port 8080:80/tcp: is led to 10.89.0.2"));

    // Networks first, then pods.
    bed.podlet("stop -t 0 web").ok();
    forget_everything(&space);
    bed.podlet("network reload").ok();
    assert!(space::links().contains("podlet0"));
    bed.podlet("start web").ok();
    space.outside.hears("[2001:db8::1]:8080", "web 2001:db8::2");
    space.ends();
}

fn a_pod_on_the_machines_network_is_reached_as_the_machine(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("create web --network host").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe serve web 80").ok();
    bed.await_log("web/a", "serving");
    space.outside.hears("192.0.2.1:80", "web 192.0.2.2");
    assert!(!space::links().contains("podlet0"), "nobody needs it");
    bed.podlet("port add web 8080:80").fails(125, &["pod web", "the machine's own network"]);
    bed.podlet("network check web").fails(125, &["pod web", "the machine's own network"]);
    space.ends();
}
