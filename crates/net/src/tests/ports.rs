//! Ports of the machine that somebody else has, that are many, or that were left over.

use super::Node;
use crate::nft::tests::space::{Machine, alone, has, run};
use crate::{NetworkOptions, files};

fn node() -> Node {
    let node = Node::new(Machine::here());
    node.create("web", &["10.90.1.0/24"], vec![]);
    node
}

fn refusal(node: &Node, publish: &str) -> String {
    node.try_attach("web", "b", &[publish]).map(drop).expect_err("not to be had").to_string()
}

#[test]
fn a_port_of_another_stores_pod_is_refused_by_name() {
    alone(concat!(module_path!(), "::a_port_of_another_stores_pod_is_refused_by_name"), || {
        if !has("ip") {
            return;
        }
        let one = node();
        one.attach("web", "a", &["8080:80", "127.0.0.1:5353:53/udp"]);
        let other = Node::new(Machine::here());
        let mut options = NetworkOptions::new("web");
        options.subnets = vec![super::net("10.91.1.0/24")];
        other.networks.create_network(&options).map(drop).expect("a network beside it");
        let root = one.dir.path().display();
        for (publish, whole) in [
            ("8080:81", "publish \"8080:81/tcp\": "),
            ("127.0.0.1:8080:80", "publish \"127.0.0.1:8080:80/tcp\": "),
            ("5353:53/udp", "publish \"5353:53/udp\": "),
        ] {
            let said = refusal(&other, publish);
            let expected = format!("{whole}a pod of the store {root} has that port: choose another");
            assert!(said.starts_with(&expected), "{said}");
        }
        other.attach("web", "c", &["8081:80", "8080:80/udp", "127.0.0.2:5353:53/udp"]);
        // Of a store that nobody knows any more only the rules are left.
        run("ip link del podlet0");
        let table = crate::make::table_name(one.dir.path());
        assert!(refusal(&other, "8080:80").contains(&format!("nft delete table inet {table}")));
    });
}

#[test]
fn thousands_of_ports_are_published_and_taken_back() {
    alone(concat!(module_path!(), "::thousands_of_ports_are_published_and_taken_back"), || {
        if !has("ip") {
            return;
        }
        let node = node();
        let pod = node.attach("web", "a", &["20000-23999:20000-23999", "20000-23999:20000-23999/udp"]);
        assert_eq!(pod.attachment.ports.len(), 8000);
        let port = |number: u16| format!("[::]:{number}");
        pod.machine.serve_at(&port(20000), "first");
        pod.machine.serve_at(&port(23999), "last");
        let asked = |number: u16| Machine::here().ask(&format!("10.90.1.1:{number}")).expect("an answer");
        assert_eq!([20000, 23999].map(asked), ["first 10.90.1.1", "last 10.90.1.1"]);
        let dir = crate::record::dir_of(node.dir.path(), "a");
        let mut attachment = pod.attachment.clone();
        node.networks.close(&mut attachment, &dir).expect("closed");
        assert!(Machine::here().ask("10.90.1.1:23999").is_err());
    });
}

#[test]
fn a_port_that_was_left_claimed_is_anybodys() {
    alone(concat!(module_path!(), "::a_port_that_was_left_claimed_is_anybodys"), || {
        if !has("ip") {
            return;
        }
        let node = node();
        // As whoever was killed leaves it that took a port for a pod which is gone.
        let registry = node.networks.registry().expect("a registry");
        let holder = crate::lease::Holder { pod: "gone".into(), id: "gone0123456789".into() };
        let ports = crate::ports::settle(&crate::ports::parse("8080:80").expect("a port"), &[]).expect("a port");
        registry.taking().expect("locked").take(&ports, &holder).expect("noted").expect("free");
        let pod = node.attach("web", "a", &["8080:80"]);
        assert_eq!(pod.attachment.ports, ports);
    });
}

#[test]
fn a_port_of_an_internal_network_is_this_machines_alone() {
    alone(concat!(module_path!(), "::a_port_of_an_internal_network_is_this_machines_alone"), || {
        if !has("ip") {
            return;
        }
        let node = Node::new(Machine::here());
        let outside = Machine::new();
        outside.attach("up0", ["192.0.2.2/24", "2001:db8::2/64"], ["192.0.2.1", "2001:db8::1"]);
        run("ip address add 192.0.2.1/24 dev up0");
        let mut options = NetworkOptions::new("web");
        options.subnets = vec![super::net("10.90.1.0/24")];
        options.internal = true;
        node.networks.create_network(&options).map(drop).expect("a network");
        let (pod, notes) =
            node.try_attach("web", "a", &["8080:80", "8080:80/udp", "127.0.0.1:9090:80"]).expect("attached");
        pod.machine.serve("a");
        let said = "ports 8080->80/tcp, 8080->80/udp: reached from this machine alone, network web is internal";
        assert_eq!(notes.0, [said]);
        assert_eq!(Machine::here().ask("192.0.2.1:8080").expect("an answer"), "a 192.0.2.1");
        assert!(outside.is_cut_off_from("192.0.2.1:8080"));
        let findings = node.networks.check_attached(&pod.attachment, Some(&pod.namespace)).expect("findings");
        let here = |finding: &&crate::check::Finding| finding.what.contains("is reached from this machine alone");
        assert_eq!(findings.iter().filter(here).count(), 2, "{findings:#?}");
    });
}

#[test]
fn a_bridge_whose_record_was_lost_is_pruned_unless_pods_are_in_it() {
    alone(concat!(module_path!(), "::a_bridge_whose_record_was_lost_is_pruned_unless_pods_are_in_it"), || {
        if !has("ip") {
            return;
        }
        let (node, other) = (node(), Node::new(Machine::here()));
        let create = |node: &Node, name: &str| {
            node.networks.create_network(&NetworkOptions::new(name)).map(drop).expect("a network");
        };
        let lose = |node: &Node, name: &str| {
            files::remove_file(&node.dir.path().join(".networks").join(name).join("network.json")).expect("removed");
        };
        let links = || run("ip -br link");
        create(&node, "blue");
        create(&other, "red");
        let pod = node.attach("web", "a", &[]);
        ["web", "blue"].iter().for_each(|name| lose(&node, name));
        // Another store's is not this one's to remove.
        lose(&other, "red");
        assert_eq!(node.networks.prune().expect("pruned"), ["blue"]);
        let left = links();
        assert!(left.contains("podlet0") && !left.contains("podlet1") && left.contains("podlet2"), "{left}");
        run(&format!("ip link del {}", pod.attachment.networks[0].host_interface));
        assert_eq!(node.networks.prune().expect("pruned"), ["web"]);
        assert_eq!(other.networks.prune().expect("pruned"), ["red"]);
        assert!(!links().contains("podlet"));
    });
}
