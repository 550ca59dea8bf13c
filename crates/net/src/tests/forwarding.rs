//! A machine with several links, and others behind each: published ports are reached
//! from all of them, and they do not reach one another by it.
//!
//! ```text
//!   near 192.0.2.2 ──── up0, the way out ─┐
//!   far 198.51.100.2 ── up1 ──────────────┤ the machine ── podlet0 ── pod a 10.90.1.2
//!   late 203.0.113.2 ── up2, later ───────┘
//! ```

use super::{Node, TestPod};
use crate::nft::tests::space::{Machine, alone, has, run, sysctl};

/// A link to another machine, which takes this one for its router.
fn connect(link: &str, net: &str, net6: &str) -> Machine {
    let other = Machine::new();
    let [own, others] = [1, 2].map(|host| [format!("{net}.{host}/24"), format!("{net6}::{host}/64")]);
    let gateways = [format!("{net}.1"), format!("{net6}::1")];
    other.attach(link, others.each_ref().map(String::as_str), gateways.each_ref().map(String::as_str));
    run(&format!("ip address add {} dev {link}", own[0]));
    run(&format!("ip address add {} dev {link} nodad", own[1]));
    other.serve("other");
    other
}

fn near() -> Machine {
    let near = connect("up0", "192.0.2", "2001:db8");
    run("ip route add default via 192.0.2.2");
    run("ip -6 route add default via 2001:db8::2");
    near
}

fn far() -> Machine {
    connect("up1", "198.51.100", "2001:db8:1")
}

fn pod(node: &Node) -> TestPod {
    let pod = node.attach("web", "a", &["8080:80", "8080:80/udp"]);
    pod.machine.serve("a");
    pod
}

fn node() -> Node {
    let node = Node::new(Machine::here());
    node.create("web", &["10.90.1.0/24", "fd90:1::/64"], vec![]);
    node
}

#[track_caller]
fn hears(machine: &Machine, server: &str, says: &str) {
    assert_eq!(machine.ask(server).unwrap_or_else(|error| panic!("{server}: {error}")), says, "{server}");
}

fn forwards(family: &str, link: &str) -> bool {
    let name = if family == "ipv4" { "forwarding" } else { "force_forwarding" };
    read(&format!("{family}/conf/{link}/{name}")) == "1\n"
}

/// A kernel parameter; nothing if there is none of that name.
fn read(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default()
}

#[test]
fn ports_are_reached_by_each_link_and_none_leads_to_another() {
    alone(concat!(module_path!(), "::ports_are_reached_by_each_link_and_none_leads_to_another"), || {
        if !has("ip") {
            return;
        }
        let (near, far) = (near(), far());
        let node = node();
        let pod = pod(&node);
        for (machine, from, from6) in [(&near, "192.0.2", "2001:db8"), (&far, "198.51.100", "2001:db8:1")] {
            for server in ["192.0.2.1:8080", "198.51.100.1:8080"] {
                hears(machine, server, &format!("a {from}.2"));
            }
            hears(machine, "[2001:db8:1::1]:8080", &format!("a {from6}::2"));
        }
        // The machine's end of the pod's link has no address, and the kernel makes none
        // up: 1 of addr_gen_mode says so.
        let own = &pod.attachment.networks[0].host_interface;
        assert_eq!(read(&format!("ipv6/conf/{own}/addr_gen_mode")), "1\n");
        assert!(!std::fs::read_to_string("/proc/net/if_inet6").expect("addresses").contains(own.as_str()));
        // The pod reaches both, as this machine.
        hears(&pod.machine, "192.0.2.2:80", "other 192.0.2.1");
        hears(&pod.machine, "198.51.100.2:80", "other 198.51.100.1");
        // They do not reach each other, though both links forward.
        assert!(["up0", "up1"].iter().all(|link| forwards("ipv4", link)));
        assert!(near.does_not_get_to(&far, "198.51.100.2") && far.does_not_get_to(&near, "192.0.2.2"));
        assert!(near.does_not_get_to(&far, "2001:db8:1::2") && far.does_not_get_to(&near, "2001:db8::2"));
        // A pod's other ports are for who comes by the way out, as ever.
        hears(&near, "10.90.1.2:80", "a 192.0.2.2");
        assert!(far.is_cut_off_from("10.90.1.2:80"));
        assert!(far.is_cut_off_from("[fd90:1::2]:80"));
    });
}

#[test]
fn a_link_that_comes_later_leads_to_ports_as_soon_as_podlet_looks() {
    alone(concat!(module_path!(), "::a_link_that_comes_later_leads_to_ports_as_soon_as_podlet_looks"), || {
        if !has("ip") {
            return;
        }
        let near = near();
        let node = node();
        let pod = pod(&node);
        let far = far();
        assert!(far.is_cut_off_from("198.51.100.1:8080"), "nobody has told podlet");
        let findings = node.networks.check_attached(&pod.attachment, Some(&pod.namespace)).expect("findings");
        let named = |finding: &crate::check::Finding| finding.what.contains("net.ipv4.conf.up1.forwarding=1");
        assert!(findings.iter().any(named), "{findings:#?}");
        node.networks.reload(&node.networks.changing().expect("locked")).map(drop).expect("reloaded");
        hears(&far, "198.51.100.1:8080", "a 198.51.100.2");
        hears(&far, "[2001:db8:1::1]:8080", "a 2001:db8:1::2");
        // Whoever publishes a port looks, too; and what leads there already stays.
        let late = connect("up2", "203.0.113", "2001:db8:2");
        let other = node.attach("web", "b", &["8081:80"]);
        other.machine.serve("b");
        hears(&late, "203.0.113.1:8080", "a 203.0.113.2");
        for (machine, address) in [(&near, "192.0.2.2"), (&far, "198.51.100.2")] {
            assert!(late.does_not_get_to(machine, address) && machine.does_not_get_to(&late, "203.0.113.2"));
        }
    });
}

#[test]
fn a_machine_that_is_a_router_stays_one() {
    alone(concat!(module_path!(), "::a_machine_that_is_a_router_stays_one"), || {
        if !has("ip") {
            return;
        }
        let (near, far) = (near(), far());
        // Somebody has one link forward, and podlet the other.
        sysctl("ipv4/conf/up0/forwarding", "1");
        let node = node();
        let _pod = pod(&node);
        assert!(!near.does_not_get_to(&far, "198.51.100.2"), "as before");
        assert!(far.does_not_get_to(&near, "192.0.2.2"));
        // Then somebody has all of them.
        sysctl("ipv4/ip_forward", "1");
        node.networks.reload(&node.networks.changing().expect("locked")).map(drop).expect("reloaded");
        assert!(!far.does_not_get_to(&near, "192.0.2.2"));
    });
}

#[test]
fn links_forward_no_more_once_the_last_network_is_gone() {
    alone(concat!(module_path!(), "::links_forward_no_more_once_the_last_network_is_gone"), || {
        if !has("ip") {
            return;
        }
        let (_near, _far) = (near(), far());
        sysctl("ipv4/conf/up0/forwarding", "1");
        let (node, other) = (node(), Node::new(Machine::here()));
        let mut options = crate::NetworkOptions::new("web");
        options.bridge = Some("podlet9".into());
        let _ = other.networks.create_network(&options).expect("a network of another store");
        assert!(forwards("ipv4", "up1"));
        let unmake =
            |node: &Node| node.networks.unmake(&node.networks.changing().expect("locked"), "web").expect("gone");
        unmake(&node);
        assert!(forwards("ipv4", "up1"), "another store's pods may need it");
        // By now it is that one's to have it forward.
        sysctl("ipv4/conf/up1/forwarding", "0");
        if forwards("ipv6", "up1") {
            sysctl("ipv6/conf/up1/force_forwarding", "0");
        }
        other.networks.reload(&other.networks.changing().expect("locked")).map(drop).expect("reloaded");
        assert!(forwards("ipv4", "up1"));
        unmake(&other);
        assert!(forwards("ipv4", "up0") && !forwards("ipv4", "up1") && !forwards("ipv6", "up1"));
        assert!(!other.networks.forwarding_path().exists());
    });
}
