//! Tables as the kernel takes them, and as nft reads them.

use nix::errno::Errno;

use super::space::{alone, has, netfilter, run};
use super::{net, network, port};
use crate::nft::{Guard, NetworkRules, PortRule, add_ports, delete_ports, remove, table};
use crate::ports::Protocol;

const TABLE: &str = "podlet";

/// Everything that a rule can say.
fn everything() -> (Vec<NetworkRules>, Guard, Vec<PortRule>) {
    let mut networks: Vec<NetworkRules> = (0..4).map(network).collect();
    networks[0].unmasqueraded = vec![net("10.200.0.0/17"), net("fd00:200::/60"), net("198.51.100.7/32")];
    networks[1].isolated = true;
    networks[2].internal = true;
    networks[3].masquerade = false;
    let ports = vec![
        port(Protocol::Tcp, "8080", "10.87.0.2"),
        port(Protocol::Udp, "53", "10.87.0.2"),
        port(Protocol::Tcp, "8080", "fd87::2"),
        port(Protocol::Tcp, "127.0.0.1:8081", "10.87.0.3"),
        port(Protocol::Udp, "2001:db8::1:8081", "fd87::3"),
        port(Protocol::Tcp, "0.0.0.0:8082", "10.88.0.3"),
    ];
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let guard = Guard {
        outer: names(&["eth0", "eth1", "wlan0"]),
        ways: names(&["wlan0"]),
        ipv4: names(&["eth1", "wlan0"]),
        ipv6: names(&["eth1"]),
    };
    (networks, guard, ports)
}

/// A listing without the layout of elements, and those in one order: nft's
/// depend on its version.
fn plain(listing: &str) -> Vec<String> {
    let joined = listing.replace(",\n", ",");
    let line = |line: &str| {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some(elements) = line.strip_prefix("elements = { ") else {
            // Newer ones name this priority, too.
            return line.replace("hook output priority dstnat", "hook output priority -100");
        };
        let mut elements: Vec<&str> = elements.trim_end_matches(" }").split(", ").collect();
        elements.sort();
        elements.join(", ")
    };
    joined.lines().map(line).collect()
}

#[test]
fn it_prints_itself_as_nft_lists_it() {
    alone(concat!(module_path!(), "::it_prints_itself_as_nft_lists_it"), || {
        let (networks, guard, ports) = everything();
        netfilter().send(&table(TABLE, &networks, &guard, &ports).replace()).expect("a table");
        if has("nft") {
            let ours = table(TABLE, &networks, &guard, &ports).to_string();
            let theirs = run("nft list table inet podlet");
            assert_eq!(plain(&ours), plain(&theirs), "ours:\n{ours}\nnft's:\n{theirs}");
        }
    });
}

#[test]
fn a_table_is_as_in_the_golden_file() {
    let (networks, guard, ports) = everything();
    let text = table(TABLE, &networks, &guard, &ports).to_string();
    assert_eq!(text, include_str!("everything.nft"), "{text}");
}

#[test]
fn it_is_replaced_as_a_whole_and_removed_as_often_as_one_likes() {
    alone(concat!(module_path!(), "::it_is_replaced_as_a_whole_and_removed_as_often_as_one_likes"), || {
        let mut socket = netfilter();
        let (networks, guard, ports) = everything();
        let one = [port(Protocol::Tcp, "8080", "10.87.0.9")];
        for _ in 0..2 {
            socket.send(&table(TABLE, &networks, &guard, &ports).replace()).expect("a table");
        }
        socket.send(&table(TABLE, &networks, &guard, &[]).replace()).expect("a table without ports");
        socket.send(&add_ports(TABLE, &one)).expect("a port that was another's");
        for _ in 0..2 {
            socket.send(&remove(TABLE)).expect("no table");
        }
        for batch in [add_ports(TABLE, &one), delete_ports(TABLE, &one)] {
            assert_eq!(socket.send(&batch).expect_err("no table").errno, Errno::ENOENT);
        }
        socket.send(&add_ports(TABLE, &[])).expect("nothing is asked");
    });
}

#[test]
fn a_port_that_is_taken_is_a_conflict_and_nothing_is_done() {
    alone(concat!(module_path!(), "::a_port_that_is_taken_is_a_conflict_and_nothing_is_done"), || {
        let mut socket = netfilter();
        socket.send(&table(TABLE, &[network(0)], &Guard::default(), &[]).replace()).expect("a table");
        let (taken, free) = (port(Protocol::Tcp, "8080", "10.87.0.2"), port(Protocol::Tcp, "8081", "10.87.0.3"));
        socket.send(&add_ports(TABLE, std::slice::from_ref(&taken))).expect("a port");
        let other = PortRule { pod_ip: super::address("10.87.0.3"), ..taken.clone() };
        for conflict in [other, taken] {
            let error = socket.send(&add_ports(TABLE, &[free.clone(), conflict.clone()])).expect_err("a conflict");
            assert_eq!((error.errno, error.doing), (Errno::EEXIST, format!("publishing {conflict}")));
        }
        socket.send(&add_ports(TABLE, &[free])).expect("it is free still");
        // Others, though of the same number.
        let others = [port(Protocol::Udp, "8080", "10.87.0.2"), port(Protocol::Tcp, "127.0.0.1:8080", "10.87.0.2")];
        socket.send(&add_ports(TABLE, &others)).expect("other ports");
    });
}

#[test]
fn a_port_of_another_pod_is_not_taken_back() {
    alone(concat!(module_path!(), "::a_port_of_another_pod_is_not_taken_back"), || {
        let mut socket = netfilter();
        let (mine, also_mine) = (port(Protocol::Tcp, "8080", "10.87.0.2"), port(Protocol::Udp, "::1:53", "fd87::2"));
        socket
            .send(&table(TABLE, &[network(0)], &Guard::default(), &[mine.clone(), also_mine.clone()]).replace())
            .expect("a table");
        let former = PortRule { pod_ip: super::address("10.87.0.9"), ..mine.clone() };
        let error = socket.send(&delete_ports(TABLE, &[also_mine.clone(), former])).expect_err("another's");
        assert_eq!(error.errno, Errno::EEXIST);
        for port in [&mine, &also_mine] {
            let port = std::slice::from_ref(port);
            assert_eq!(socket.send(&add_ports(TABLE, port)).expect_err("still there").errno, Errno::EEXIST);
            for _ in 0..2 {
                socket.send(&delete_ports(TABLE, port)).expect("one's own, or none");
            }
            socket.send(&add_ports(TABLE, port)).expect("it is free");
        }
    });
}

#[test]
fn an_address_of_the_other_family_is_refused() {
    alone(concat!(module_path!(), "::an_address_of_the_other_family_is_refused"), || {
        let mut socket = netfilter();
        socket.send(&table(TABLE, &[network(0)], &Guard::default(), &[]).replace()).expect("a table");
        for wrong in
            [port(Protocol::Tcp, "2001:db8::1:80", "10.87.0.2"), port(Protocol::Tcp, "127.0.0.1:80", "fd87::2")]
        {
            assert_eq!(socket.send(&add_ports(TABLE, &[wrong])).expect_err("two families").errno, Errno::EINVAL);
        }
    });
}

#[test]
fn thousands_of_ports_are_one_transaction_and_so_are_their_conflicts() {
    alone(concat!(module_path!(), "::thousands_of_ports_are_one_transaction_and_so_are_their_conflicts"), || {
        let mut socket = netfilter();
        let many: Vec<PortRule> =
            (1..=2500).map(|number| port(Protocol::Tcp, &format!("2001:db8::1:{number}"), "fd87::2")).collect();
        socket.send(&table(TABLE, &[network(0)], &Guard::default(), &many).replace()).expect("a table");
        let error = socket.send(&add_ports(TABLE, &many)).expect_err("conflicts");
        assert_eq!((error.errno, error.doing), (Errno::EEXIST, format!("publishing {}", many[0])));
        socket.send(&delete_ports(TABLE, &many[1..])).expect("one's own");
        socket.send(&add_ports(TABLE, &many[1..])).expect("free ports");
    });
}
