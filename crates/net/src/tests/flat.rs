//! A flat network over two machines: pods reach each other by their own addresses.
//!
//! ```text
//!   pod a ── podlet0 ── node one ═══ 192.0.2.0/24, 2001:db8::/64 ═══ node two ── podlet0 ── pod b
//!   10.90.1.2                                                                   10.90.2.2
//! ```

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink::Family;

use super::{Node, TestPod, net};
use crate::config::{Peer, Way};
use crate::make::open;
use crate::manage::NetworkOptions;
use crate::nft::tests::space::{Machine, alone, has, run};
use crate::setting::Setting;

const SUBNETS: [[&str; 2]; 2] = [["10.90.1.0/24", "fd90:1::/64"], ["10.90.2.0/24", "fd90:2::/64"]];
const ADDRESSES: [[&str; 2]; 2] = [["192.0.2.1", "2001:db8::1"], ["192.0.2.2", "2001:db8::2"]];

/// Two machines on one wire, and nothing else: neither has a way out.
fn nodes() -> [Node; 2] {
    let (one, two) = (Machine::here(), Machine::new());
    let namespace = two.namespace();
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    run(&format!("ip link add wire type veth peer name wire netns {path}"));
    let nodes = [one, two].map(Node::new);
    for (node, addresses) in nodes.iter().zip(ADDRESSES) {
        node.machine.within(|| {
            run(&format!("ip address add {}/24 dev wire", addresses[0]));
            run(&format!("ip address add {}/64 dev wire nodad", addresses[1]));
            run("ip link set wire up");
        });
    }
    nodes
}

fn via(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// As `--peer ADDRESS=SUBNET` for each family.
fn underlay(other: usize) -> Vec<Peer> {
    let peer = |family: usize| Peer {
        via: via(ADDRESSES[other][family]),
        subnets: vec![net(SUBNETS[other][family])],
        way: Way::Underlay,
    };
    vec![peer(0), peer(1)]
}

/// As `--peer ADDRESS=SUBNET,SUBNET --vxlan 42`.
fn overlay(other: usize) -> Vec<Peer> {
    let mut subnets = SUBNETS[other].map(net).to_vec();
    // In whatever order they are said.
    if other == 1 {
        subnets.reverse();
    }
    vec![Peer { via: via(ADDRESSES[other][0]), subnets, way: Way::Vxlan { vni: 42 } }]
}

/// The same over IPv6.
fn overlay_over_ipv6(other: usize) -> Vec<Peer> {
    vec![Peer { via: via(ADDRESSES[other][1]), ..overlay(other).remove(0) }]
}

/// Both ways, by TCP and UDP of each family, as who they are.
fn reach_each_other(a: &TestPod, b: &TestPod) {
    a.machine.serve("a");
    b.machine.serve("b");
    for (from, to, name) in [(a, b, "b"), (b, a, "a")] {
        for (own, other) in from.addresses().iter().zip(to.addresses()) {
            let own = own.trim_matches(['[', ']']);
            let said = from
                .machine
                .ask(&format!("{other}:80"))
                .unwrap_or_else(|error| panic!("from {own} to {other}: {error}: {}", run("ip route get 10.90.2.2")));
            assert_eq!(said, format!("{name} {own}"), "from {own} to {other}");
        }
    }
}

fn flat(peers: fn(usize) -> Vec<Peer>) -> Option<[Node; 2]> {
    if !has("ip") {
        return None;
    }
    let nodes = nodes();
    for (nth, node) in nodes.iter().enumerate() {
        node.create("flat", &SUBNETS[nth], peers(1 - nth));
    }
    let [a, b] = [0, 1].map(|nth| nodes[nth].attach("flat", ["a", "b"][nth], &[]));
    reach_each_other(&a, &b);
    Some(nodes)
}

#[test]
fn pods_of_two_machines_meet_by_plain_routes() {
    alone(concat!(module_path!(), "::pods_of_two_machines_meet_by_plain_routes"), || {
        let Some(nodes) = flat(underlay) else { return };
        nodes[0].machine.within(|| {
            assert!(run("ip route").contains("10.90.2.0/24 via 192.0.2.2 dev wire"));
            assert!(run("ip -6 route").contains("fd90:2::/64 via 2001:db8::2 dev wire"));
        });
    });
}

#[test]
fn pods_of_two_machines_meet_by_a_tunnel() {
    alone(concat!(module_path!(), "::pods_of_two_machines_meet_by_a_tunnel"), || {
        let Some(nodes) = flat(overlay) else { return };
        nodes[1].machine.within(|| {
            assert!(run("ip -d link show podlet0-vx").contains("vxlan id 42"));
            assert!(!run("ip route").contains("10.90.1.0/24 via 192.0.2.1"));
        });
    });
}

#[test]
fn pods_of_two_machines_meet_by_a_tunnel_over_ipv6() {
    alone(concat!(module_path!(), "::pods_of_two_machines_meet_by_a_tunnel_over_ipv6"), || {
        let Some(nodes) = flat(overlay_over_ipv6) else { return };
        nodes[1].machine.within(|| assert!(run("bridge fdb show dev podlet0-vx").contains("dst 2001:db8::1")));
    });
}

#[test]
fn peers_that_cannot_be_reached_are_refused_and_nothing_is_left() {
    alone(concat!(module_path!(), "::peers_that_cannot_be_reached_are_refused_and_nothing_is_left"), || {
        if !has("ip") {
            return;
        }
        let [node, _other] = nodes();
        node.machine.within(|| {
            run("ip route add default via 192.0.2.2");
            let before = (run("ip link"), run("ip route"), run("ip -6 route"));
            let subnets = SUBNETS[0].map(net);
            let refused = |change: &dyn Fn(&mut NetworkOptions), words: &[&str]| {
                let mut options = NetworkOptions::new("flat");
                options.subnets = subnets.to_vec();
                change(&mut options);
                let error = node.networks.create_network(&options).map(drop).expect_err(words[0]).to_string();
                assert!(error.starts_with(words[0]), "{error}");
                assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
                assert_eq!((run("ip link"), run("ip route"), run("ip -6 route")), before, "{error}");
                assert_eq!(node.networks.names().expect("listed"), [""; 0]);
            };
            let peer = |via: &str, way| {
                let family = usize::from(via.contains(':'));
                Peer { via: via.parse().expect("an address"), subnets: vec![net(SUBNETS[1][family])], way }
            };
            let tunnel = Way::Vxlan { vni: 42 };
            for (via, way, words) in [
                ("192.0.2.1", Way::Underlay, &["peer \"192.0.2.1\": is this machine's own", "give"][..]),
                ("2001:db8::1", Way::Underlay, &["peer \"2001:db8::1\": is this machine's own"]),
                ("192.0.2.1", tunnel, &["peer \"192.0.2.1\": is this machine's own"]),
                ("192.0.2.255", Way::Underlay, &["peer \"192.0.2.255\": is no single machine's", "give"]),
                (
                    "203.0.113.7",
                    Way::Underlay,
                    &["peer \"203.0.113.7\": is reached by the router 192.0.2.2", "--vxlan"],
                ),
                ("2001:db9::7", Way::Underlay, &["peer \"2001:db9::7\": no route", "give"]),
                ("fe80::7", Way::Underlay, &["peer \"fe80::7\": link-local", "give another"]),
            ] {
                refused(&|options| options.peers = vec![peer(via, way)], words);
            }
            refused(
                &|options| (options.peers, options.internal) = (underlay(1), true),
                &["peer \"192.0.2.2\": the network is internal", "leave --internal or --peer away"],
            );
            refused(
                &|options| (options.peers, options.isolated) = (overlay(1), true),
                &["peer \"192.0.2.2\": the network is isolated", "leave --isolated or --peer away"],
            );
            // Somebody else's: a program's port, and then a tunnel.
            let port = std::net::UdpSocket::bind("0.0.0.0:4789").expect("a port");
            refused(&|options| options.peers = overlay(1), &["vxlan \"42\": a program", "4789", "end it"]);
            drop(port);
            run("ip link add other type vxlan id 42 dstport 4789");
            let error = {
                let mut options = NetworkOptions::new("flat");
                (options.subnets, options.peers) = (subnets.to_vec(), overlay(1));
                node.networks.create_network(&options).map(drop).expect_err("taken").to_string()
            };
            assert!(error.starts_with("vxlan \"42\": the link other has it: give another"), "{error}");
            run("ip link del other");
        });
    });
}

#[test]
fn a_peer_is_no_pod_of_this_machine() {
    alone(concat!(module_path!(), "::a_peer_is_no_pod_of_this_machine"), || {
        if !has("ip") {
            return;
        }
        let [node, _other] = nodes();
        node.create("web", &["10.99.0.0/24"], vec![]);
        let mut options = NetworkOptions::new("flat");
        options.subnets = SUBNETS[0].map(net).to_vec();
        options.peers = vec![Peer { via: via("10.99.0.7"), ..underlay(1).remove(0) }];
        let made = node.machine.within(|| node.networks.create_network(&options).map(drop));
        let error = made.expect_err("a pod's").to_string();
        assert!(error.starts_with("peer \"10.99.0.7\": in 10.99.0.0/24 of network web"), "{error}");
    });
}

#[test]
fn a_route_of_the_machines_is_neither_replaced_nor_removed() {
    alone(concat!(module_path!(), "::a_route_of_the_machines_is_neither_replaced_nor_removed"), || {
        if !has("ip") {
            return;
        }
        let [node, _other] = nodes();
        node.machine.within(|| {
            let create = |peers| {
                let mut options = NetworkOptions::new("flat");
                options.subnets = SUBNETS[0].map(net).to_vec();
                options.peers = peers;
                node.networks.create_network(&options).map(drop)
            };
            let change = || node.networks.changing().expect("locked");
            let reload = || node.networks.reload(&change()).map(drop);
            let foreign = "10.90.2.0/24 via 192.0.2.9 dev wire";
            // Another's, also one to more or less than that: nothing is made.
            for to in ["10.90.2.0/24", "10.90.2.7", "10.90.2.0/23"] {
                run(&format!("ip route add {to} via 192.0.2.9"));
                for peers in [underlay(1), overlay(1)] {
                    let error = create(peers).expect_err(to).to_string();
                    let is_named =
                        error.contains(&format!("the route {to}")) && error.contains("via 192.0.2.9 dev wire");
                    assert!(error.starts_with("peer \"192.0.2.2=10.90.2.0/24\"") && is_named, "{error}");
                }
                run(&format!("ip route del {to}"));
            }
            // The same as ours serves, and is somebody's still.
            run("ip -6 route add fd90:2::/64 via 2001:db8::2");
            create(underlay(1)).expect("a network");
            assert!(run("ip -6 route show proto boot").contains("fd90:2::/64 via 2001:db8::2 dev wire"));
            reload().expect("nothing in the way");
            // What came later stays, too.
            run(&format!("ip route replace {foreign}"));
            let error = reload().expect_err("another's route").to_string();
            assert!(error.starts_with(&format!("route {foreign} leads to a peer of network flat")), "{error}");
            assert!(run("ip route").contains(foreign));
            node.networks.unmake(&change(), "flat").expect("removed");
            assert!(run("ip route").contains(foreign));
            assert!(run("ip -6 route show proto boot").contains("fd90:2::/64 via 2001:db8::2 dev wire"));
            run(&format!("ip route del {foreign}"));
            // Of ours nothing is left.
            create(underlay(1)).expect("a network");
            assert!(run("ip route").contains("10.90.2.0/24 via 192.0.2.2 dev wire"));
            node.networks.unmake(&change(), "flat").expect("removed");
            assert!(!run("ip route").contains("10.90.2.0/24"));
            // A tunnel's routes are found again.
            run("ip -6 route del fd90:2::/64");
            create(overlay(1)).expect("a network");
            reload().expect("its own are not in the way");
            let tunnels = "10.90.2.0/24 via 10.90.2.0 dev podlet0-vx";
            assert!(run("ip route").contains(tunnels), "{}", run("ip route"));
            run(&format!("ip route replace {foreign}"));
            reload().expect_err("another's route");
            assert!(run("ip route").contains(foreign));
        });
    });
}

#[test]
fn pods_learn_nothing_from_routers_and_have_no_ipv6_unasked() {
    alone(concat!(module_path!(), "::pods_learn_nothing_from_routers_and_have_no_ipv6_unasked"), || {
        if !has("ip") {
            return;
        }
        let node = Node::new(Machine::here());
        for (name, subnets, disabled) in [("four", &SUBNETS[0][..1], "1"), ("six", &SUBNETS[1][1..], "0")] {
            node.create(name, subnets, vec![]);
            let pod = node.attach(name, name, &[]);
            let setting = |name| pod.machine.within(|| Setting::of_link("ipv6", "eth0", name, "").now());
            assert_eq!(setting("accept_ra").as_deref(), Some("0"), "{name}");
            assert_eq!(setting("disable_ipv6").as_deref(), Some(disabled), "{name}");
            let addresses = pod.machine.within(|| run("ip -6 address show dev eth0"));
            assert_eq!(addresses.contains("fe80::"), disabled == "0", "{addresses}");
        }
    });
}

#[test]
fn all_links_of_a_way_out_are_known() {
    alone(concat!(module_path!(), "::all_links_of_a_way_out_are_known"), || {
        if !has("ip") {
            return;
        }
        let [node, _other] = nodes();
        node.machine.within(|| {
            run("ip link add second type veth peer name second-end");
            run("ip address add 198.51.100.1/24 dev second");
            run("ip link set second-end up");
            run("ip link set second up");
            run("ip route add default nexthop via 192.0.2.2 dev wire nexthop via 198.51.100.2 dev second");
            let looked = crate::machine::Machine::look(&mut open(Family::Route).expect("a socket")).expect("looked at");
            let mut ways: Vec<_> = looked.ways_out().iter().map(|link| link.name.as_str()).collect();
            ways.sort_unstable();
            assert_eq!(ways, ["second", "wire"]);
        });
    });
}
