//! Connections through a table, between machines and pods in namespaces.
//!
//! ```text
//!   outside 192.0.2.2 ─── 192.0.2.1 host ─┬─ podlet0 10.87.0.1 ─┬─ a 10.87.0.2
//!           2001:db8::2                   │                     └─ b 10.87.0.3
//!                                         └─ podlet1 10.88.0.1 ─┬─ c 10.88.0.2
//!                                                               └─ d 10.88.0.3
//! ```

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::space::{Machine, again, alone, answer, connect, has, netfilter, run, sysctl, udp_to};
use super::{address, net, network, port};
use crate::nft::{Guard, NetworkRules, PortRule, add_ports, delete_ports, forget, table};
use crate::ports::Protocol;

const TABLE: &str = "podlet";
const HOST: [&str; 2] = ["192.0.2.1", "[2001:db8::1]"];

struct World {
    host: Machine,
    outside: Machine,
    pods: [Machine; 4],
}

impl World {
    /// All connected, and each answering to its name; `None` where there is no
    /// `ip`.
    fn new() -> Option<World> {
        if !has("ip") {
            return None;
        }
        run("ip link set lo up");
        for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl(name, "1");
        }
        let world = World { host: Machine::here(), outside: Machine::new(), pods: [0; 4].map(|_| Machine::new()) };
        world.outside.attach("up0", ["192.0.2.2/24", "2001:db8::2/64"], [HOST[0], "2001:db8::1"]);
        run("ip address add 192.0.2.1/24 dev up0");
        run("ip address add 2001:db8::1/64 dev up0 nodad");
        for number in 0..2 {
            let (bridge, net) = (format!("podlet{number}"), 87 + number);
            run(&format!("ip link add {bridge} type bridge"));
            sysctl(&format!("ipv6/conf/{bridge}/accept_dad"), "0");
            sysctl(&format!("ipv4/conf/{bridge}/route_localnet"), "1");
            run(&format!("ip address add 10.{net}.0.1/16 dev {bridge}"));
            run(&format!("ip address add fd{net}::1/64 dev {bridge} nodad"));
            run(&format!("ip link set {bridge} up"));
            for (pod, host) in world.pods.iter().skip(2 * number).zip(2..4) {
                let link = format!("pod{net}-{host}");
                let addresses = [format!("10.{net}.0.{host}/16"), format!("fd{net}::{host}/64")];
                let gateways = [format!("10.{net}.0.1"), format!("fd{net}::1")];
                pod.attach(
                    &link,
                    addresses.each_ref().map(|text| text.as_str()),
                    gateways.each_ref().map(|text| text.as_str()),
                );
                run(&format!("ip link set {link} master {bridge}"));
                run(&format!("ip link set {link} type bridge_slave hairpin on"));
            }
        }
        for (pod, name) in world.pods.iter().zip(["a", "b", "c", "d"]) {
            pod.serve(name);
        }
        world.outside.serve("outside");
        Some(world)
    }

    /// The table of two networks, and ports 8080 for a, 8082 for c.
    fn rules(&self, networks: [NetworkRules; 2]) {
        let ports: Vec<PortRule> = [("8080", 87), ("8082", 88)]
            .iter()
            .flat_map(|(number, net)| [(number, format!("10.{net}.0.2")), (number, format!("fd{net}::2"))])
            .flat_map(|(number, pod)| [Protocol::Tcp, Protocol::Udp].map(|protocol| port(protocol, number, &pod)))
            .collect();
        netfilter().send(&table(TABLE, &networks, &Guard::default(), &ports).replace()).expect("a table");
    }
}

/// With bridged packets passing the rules, and without.
fn in_both_ways(test: impl Fn()) {
    for value in ["0", "1"] {
        if Path::new("/proc/sys/net/bridge").exists() {
            sysctl("bridge/bridge-nf-call-iptables", value);
            sysctl("bridge/bridge-nf-call-ip6tables", value);
        }
        test();
    }
}

fn says(machine: &Machine, server: &str, text: &str) {
    assert_eq!(machine.ask(server).unwrap_or_else(|error| panic!("{server}: {error}")), text, "{server}");
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    alone(concat!(module_path!(), "::a_published_port_is_reached_from_everywhere"), || {
        let Some(world) = World::new() else { return };
        let [a, b, c, _] = &world.pods;
        world.rules([network(0), network(1)]);
        in_both_ways(|| {
            says(&world.outside, "192.0.2.1:8080", "a 192.0.2.2");
            says(&world.outside, "[2001:db8::1]:8080", "a 2001:db8::2");
            says(&world.host, "192.0.2.1:8080", "a 192.0.2.1");
            says(&world.host, "[2001:db8::1]:8080", "a 2001:db8::1");
            says(&world.host, "127.0.0.1:8080", "a 10.87.0.1");
            says(&world.host, "127.1.2.3:8080", "a 10.87.0.1");
            says(&world.host, "10.87.0.1:8080", "a 10.87.0.1");
            // From another network nobody's address needs to change.
            says(c, "192.0.2.1:8080", "a 10.88.0.2");
            says(c, "[2001:db8::1]:8080", "a fd88::2");
            // Of the same network and the pod itself.
            for host in HOST {
                for pod in [a, b] {
                    let said = pod.ask(&format!("{host}:8080")).expect("an answer");
                    assert!(said.starts_with("a "), "{host}: {said}");
                }
            }
            for host in ["[::1]:8080", "192.0.2.1:8081"] {
                assert_eq!(world.host.ask(host).expect_err(host).kind(), ErrorKind::ConnectionRefused);
            }
            // Another machine's port of that number.
            assert_eq!(a.ask("192.0.2.2:8080").expect_err("nothing there").kind(), ErrorKind::ConnectionRefused);
        });
    });
}

#[test]
fn a_port_at_one_address_is_there_only_and_comes_before_others() {
    alone(concat!(module_path!(), "::a_port_at_one_address_is_there_only_and_comes_before_others"), || {
        let Some(world) = World::new() else { return };
        world.rules([network(0), network(1)]);
        let mut ports = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            ports.push(port(protocol, "192.0.2.1:9090", "10.87.0.3"));
            ports.push(port(protocol, "2001:db8::1:9090", "fd87::3"));
            ports.push(port(protocol, "127.0.0.1:8080", "10.87.0.3"));
        }
        netfilter().send(&add_ports(TABLE, &ports)).expect("ports");
        for machine in [&world.outside, &world.host] {
            for host in HOST {
                let said = machine.ask(&format!("{host}:9090")).expect("an answer");
                assert!(said.starts_with("b "), "{host}: {said}");
            }
        }
        says(&world.host, "127.0.0.1:8080", "b 10.87.0.1");
        says(&world.host, "127.0.0.2:8080", "a 10.87.0.1");
        for host in ["127.0.0.1:9090", "10.87.0.1:9090", "[fd87::1]:9090"] {
            assert_eq!(world.host.ask(host).expect_err(host).kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn pods_are_masqueraded_where_nobody_knows_them() {
    alone(concat!(module_path!(), "::pods_are_masqueraded_where_nobody_knows_them"), || {
        let Some(world) = World::new() else { return };
        let [a, b, c, _] = &world.pods;
        world.outside.within(|| {
            run("ip address add 198.51.100.1/24 dev eth0");
            run("ip address add fd00:51::1/64 dev eth0 nodad");
            run("ip route add 10.0.0.0/8 via 192.0.2.1");
        });
        for at in ["198.51.100.1:81", "[fd00:51::1]:81"] {
            world.outside.serve_at(at, "peer");
        }
        world.outside.serve_at("[2001:db8::2]:81", "outside");
        run("ip route add 198.51.100.0/24 via 192.0.2.2");
        run("ip -6 route add fd00:51::/64 via 2001:db8::2");
        let plain = NetworkRules { masquerade: false, ..network(1) };
        let peers = vec![net("198.51.100.0/24"), net("fd00:51::/64")];
        world.rules([NetworkRules { unmasqueraded: peers, ..network(0) }, plain]);
        in_both_ways(|| {
            says(a, "192.0.2.2:80", "outside 192.0.2.1");
            says(a, "[2001:db8::2]:80", "outside 2001:db8::1");
            says(a, "198.51.100.1:81", "peer 10.87.0.2");
            says(a, "[fd00:51::1]:81", "peer fd87::2");
            says(c, "192.0.2.2:80", "outside 10.88.0.2");
            says(c, "[2001:db8::2]:81", "outside fd88::2");
            says(a, "10.87.0.3:80", "b 10.87.0.2");
            says(a, "[fd87::3]:80", "b fd87::2");
            says(b, "10.88.0.2:80", "c 10.87.0.3");
            says(b, "[fd88::2]:80", "c fd87::3");
            says(&world.outside, "10.87.0.2:80", "a 192.0.2.2");
            // What br_netfilter shows to the rules of a bridge's own.
            let listener = b.within(|| UdpSocket::bind("0.0.0.0:6000")).expect("a port");
            a.within(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
                socket.set_broadcast(true).expect("allowed");
                socket.send_to(b"all", "255.255.255.255:6000").expect("sent");
            });
            assert_eq!(listener.recv_from(&mut [0; 8]).expect("a packet").1.ip(), address("10.87.0.2"));
        });
    });
}

#[test]
fn an_internal_network_is_among_its_pods_and_the_host() {
    alone(concat!(module_path!(), "::an_internal_network_is_among_its_pods_and_the_host"), || {
        let Some(world) = World::new() else { return };
        let [a, b, c, d] = &world.pods;
        world.rules([network(0), NetworkRules { internal: true, ..network(1) }]);
        in_both_ways(|| {
            says(c, "10.88.0.3:80", "d 10.88.0.2");
            says(c, "[fd88::3]:80", "d fd88::2");
            says(d, "192.0.2.1:8082", "c 10.88.0.1");
            says(&world.host, "10.88.0.2:80", "c 10.88.0.1");
            says(&world.host, "127.0.0.1:8082", "c 10.88.0.1");
            for server in ["192.0.2.2:80", "[2001:db8::2]:80", "10.87.0.2:80", "[fd87::2]:80", "192.0.2.1:8080"] {
                assert!(c.is_cut_off_from(server), "{server}");
            }
            for (machine, server) in [(&world.outside, "10.88.0.2:80"), (a, "10.88.0.2:80"), (a, "192.0.2.1:8082")] {
                assert!(machine.is_cut_off_from(server), "{server}");
            }
            says(b, "192.0.2.2:80", "outside 192.0.2.1");
            assert!(c.does_not_get_to(&world.outside, "192.0.2.2") && c.does_not_get_to(a, "fd87::2"));
            assert!(world.outside.does_not_get_to(c, "fd88::2") && a.does_not_get_to(c, "10.88.0.2"));
        });
    });
}

#[test]
fn an_isolated_network_reaches_the_outside_alone() {
    alone(concat!(module_path!(), "::an_isolated_network_reaches_the_outside_alone"), || {
        let Some(world) = World::new() else { return };
        let [a, _, c, d] = &world.pods;
        world.rules([network(0), NetworkRules { isolated: true, ..network(1) }]);
        in_both_ways(|| {
            says(c, "192.0.2.2:80", "outside 192.0.2.1");
            says(c, "[2001:db8::2]:80", "outside 2001:db8::1");
            says(&world.outside, "192.0.2.1:8082", "c 192.0.2.2");
            says(&world.host, "127.0.0.1:8082", "c 10.88.0.1");
            // Ports that are published to all.
            says(c, "192.0.2.1:8080", "a 10.88.0.2");
            says(a, "192.0.2.1:8082", "c 10.87.0.2");
            for (pod, server) in [(a, "10.88.0.2:80"), (a, "[fd88::2]:80"), (c, "10.87.0.2:80"), (c, "[fd87::2]:80")] {
                assert!(pod.is_cut_off_from(server), "{server}");
            }
            assert!(c.does_not_get_to(a, "10.87.0.2") && c.does_not_get_to(a, "fd87::2"));
            assert!(a.does_not_get_to(c, "10.88.0.2") && a.does_not_get_to(c, "fd88::2"));
            assert!(!c.does_not_get_to(&world.outside, "192.0.2.2") && !world.outside.does_not_get_to(c, "10.88.0.2"));
            assert!(d.is_cut_off_from("192.0.2.1:8082") && d.is_cut_off_from("[2001:db8::1]:8082"));
        });
        // Bridged: only what br_netfilter shows to the rules.
        if Path::new("/proc/sys/net/bridge").exists() {
            assert!(d.is_cut_off_from("10.88.0.2:80") && d.is_cut_off_from("[fd88::2]:80"));
        }
    });
}

#[test]
fn a_pod_has_nothing_to_do_with_the_hosts_loopback() {
    alone(concat!(module_path!(), "::a_pod_has_nothing_to_do_with_the_hosts_loopback"), || {
        let Some(world) = World::new() else { return };
        let [a, ..] = &world.pods;
        let _private = TcpListener::bind("127.0.0.1:7000").expect("a port");
        a.within(|| {
            run("ip address del 127.0.0.1/8 dev lo");
            sysctl("ipv4/conf/all/route_localnet", "1");
            run("ip route add 127.0.0.0/8 via 10.87.0.1 dev eth0");
        });
        let server = "127.0.0.1:7000".parse().expect("an address");
        let reaches = || a.within(|| connect(server, Duration::from_millis(300)).is_ok());
        // It is the rules that forbid it.
        assert!(reaches());
        world.rules([network(0), network(1)]);
        assert!(!reaches());
        a.within(|| run("ip address add 127.0.0.9/32 dev eth0"));
        let as_host = || {
            a.within(|| {
                let socket = UdpSocket::bind("127.0.0.9:0").expect("a port");
                socket.send_to(b"?", "10.87.0.1:6000").expect("it is sent");
            })
        };
        let listener = UdpSocket::bind("10.87.0.1:6000").expect("a port");
        as_host();
        // What comes after it came through: it did not.
        a.within(|| udp_to("10.87.0.1:6000".parse().expect("an address")).expect("a socket").send(b"!").expect("sent"));
        let (_, peer) = listener.recv_from(&mut [0; 8]).expect("a packet");
        assert_eq!(peer.ip(), address("10.87.0.2"));
    });
}

#[test]
fn connections_outlive_their_port_and_datagrams_do_not() {
    alone(concat!(module_path!(), "::connections_outlive_their_port_and_datagrams_do_not"), || {
        let Some(world) = World::new() else { return };
        let mut socket = netfilter();
        socket.send(&table(TABLE, &[network(0)], &Guard::default(), &[]).replace()).expect("a table");
        let server = "192.0.2.1:8080".parse().expect("an address");
        let udp = world.outside.within(|| udp_to(server)).expect("a socket");
        let to = |pod: &str| [Protocol::Tcp, Protocol::Udp].map(|protocol| port(protocol, "8080", pod));
        let (to_a, to_b) = (to("10.87.0.2"), to("10.87.0.3"));

        assert_eq!(again(&udp).expect_err("nothing there").kind(), ErrorKind::ConnectionRefused);
        socket.send(&add_ports(TABLE, &to_a)).expect("ports");
        // Still to the host, until that is forgotten.
        assert_eq!(again(&udp).expect_err("as before").kind(), ErrorKind::ConnectionRefused);
        forget(&mut socket, &to_a).expect("forgotten");
        assert_eq!(again(&udp).expect("an answer"), "a 192.0.2.2");

        let mut tcp = world.outside.within(|| connect(server, Duration::from_secs(20))).expect("a connection");
        assert_eq!(answer(&mut tcp).expect("an answer"), "a 192.0.2.2");
        socket.send(&delete_ports(TABLE, &to_a)).expect("taken back");
        socket.send(&add_ports(TABLE, &to_b)).expect("another's");
        assert_eq!(again(&udp).expect("as before"), "a 192.0.2.2");
        forget(&mut socket, &to_a).expect("forgotten");
        assert_eq!(again(&udp).expect("an answer"), "b 192.0.2.2");
        // The connection goes on: the server says what it hears.
        std::io::Write::write_all(&mut tcp, b"still").expect("it is written");
        assert_eq!(answer(&mut tcp).expect("an answer"), "still");
    });
}
