//! Each step of a packet is broken, found, and mended by the cure that is told.

use super::{Node, TestPod};
use crate::check::{Finding, Verdict};
use crate::nft::tests::space::{Machine, alone, has, run, sysctl};

/// A machine with a way out and a pod with ports, all in order.
fn world() -> Option<(Node, TestPod)> {
    if !has("ip") || !has("nft") {
        return None;
    }
    let outside = Machine::new();
    outside.attach("up0", ["192.0.2.2/24", "2001:db8::2/64"], ["192.0.2.1", "2001:db8::1"]);
    run("ip address add 192.0.2.1/24 dev up0");
    run("ip address add 2001:db8::1/64 dev up0 nodad");
    run("ip route add default via 192.0.2.2");
    run("ip -6 route add default via 2001:db8::2");
    let node = Node::new(Machine::here());
    node.create("web", &["10.90.1.0/24", "fd90:1::/64"], vec![]);
    let pod = node.attach("web", "a", &["8080:80", "8053:80/udp"]);
    pod.machine.serve("a");
    // It holds the other end of the way out.
    std::mem::forget(outside);
    Some((node, pod))
}

fn check(node: &Node, pod: &TestPod) -> Vec<Finding> {
    node.networks.check_attached(&pod.attachment, Some(&pod.namespace)).expect("findings")
}

/// What is not good, as it is printed.
fn bad(node: &Node, pod: &TestPod) -> Vec<String> {
    let found = check(node, pod);
    found.iter().filter(|finding| finding.verdict != Verdict::Good).map(ToString::to_string).collect()
}

/// The one that is not good.
fn only(node: &Node, pod: &TestPod) -> String {
    let bad = bad(node, pod);
    assert_eq!(bad.len(), 1, "{bad:#?}");
    bad[0].clone()
}

fn assert_good(node: &Node, pod: &TestPod) {
    assert_eq!(bad(node, pod), [""; 0]);
}

fn reload(node: &Node) {
    let changing = node.networks.changing().expect("locked");
    let _ = node.networks.reload(&changing).expect("reloaded");
}

#[test]
fn what_podlet_makes_is_found_missing_and_reloaded() {
    alone(concat!(module_path!(), "::what_podlet_makes_is_found_missing_and_reloaded"), || {
        let Some((node, pod)) = world() else { return };
        assert_good(&node, &pod);
        let forwarding = || sysctl("ipv4/conf/up0/forwarding", "0");
        let breaks: [(&dyn Fn(), &str); 5] = [
            (&|| drop(run("ip link set podlet0 down")), "bridge podlet0 of network web: is down"),
            (&|| drop(run("ip address del 10.90.1.1/24 dev podlet0")), "has lost 10.90.1.1/24"),
            (&forwarding, "should be set: net.ipv4.conf.up0.forwarding=1"),
            (&|| sysctl("ipv4/conf/podlet0/route_localnet", "0"), "net.ipv4.conf.podlet0.route_localnet=1"),
            (&|| drop(run("nft flush ruleset")), "podlet's table is not there"),
        ];
        for (damage, expected) in breaks {
            damage();
            let found = bad(&node, &pod).join("\n");
            assert!(found.contains(expected) && found.contains("cure: podlet network reload"), "{expected}: {found}");
            reload(&node);
            assert_good(&node, &pod);
        }
        let table = crate::make::table_name(node.dir.path());
        run(&format!("nft flush map inet {table} ports4"));
        let found = bad(&node, &pod);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("port 8080:80/tcp: the firewall does not lead it to 10.90.1.2"), "{found:#?}");
        reload(&node);
        assert_good(&node, &pod);
        run(&format!("nft flush chain inet {table} postrouting"));
        assert!(only(&node, &pod).contains("podlet's table has lost rules of its chains postrouting"));
        reload(&node);
        assert_good(&node, &pod);
    });
}

#[test]
fn ports_of_a_pod_that_ended_by_itself_lead_nowhere() {
    alone(concat!(module_path!(), "::ports_of_a_pod_that_ended_by_itself_lead_nowhere"), || {
        let Some((node, pod)) = world() else { return };
        let found = node.networks.check_attached(&pod.attachment, None).expect("findings");
        let of_port = |finding: &&Finding| finding.what.starts_with("port 8080:80/tcp: is kept for the pod");
        let found = found.iter().find(of_port).expect("a finding");
        assert_eq!(found.verdict, Verdict::Stops);
    });
}

#[test]
fn rules_of_others_that_may_be_in_the_way_are_named() {
    alone(concat!(module_path!(), "::rules_of_others_that_may_be_in_the_way_are_named"), || {
        let Some((node, pod)) = world() else { return };
        run("nft add table inet strict");
        run("nft add chain inet strict way { type filter hook forward priority 5 ; }");
        run("nft add rule inet strict way iifname other0 drop");
        assert_good(&node, &pod);
        run("nft add rule inet strict way ip saddr 192.0.2.0/24 reject");
        let found = only(&node, &pod);
        let expected = "perhaps  firewall: the chain way of the table inet strict has rules that drop";
        assert!(found.starts_with(expected) && found.ends_with("look at nft list chain inet strict way"), "{found}");
        run("nft flush chain inet strict way");
        run("nft add rule inet strict way tcp dport 23 drop");
        assert!(only(&node, &pod).starts_with(expected));
        run("nft delete table inet strict");

        run("nft add table ip other");
        run("nft add chain ip other in { type nat hook prerouting priority dstnat ; }");
        run("nft add rule ip other in tcp dport 8443 dnat to 10.90.1.9:443");
        run("nft add rule ip other in tcp sport 8080 dnat to 10.90.1.9:443");
        run("nft add rule ip other in tcp dport 8053 dnat to 10.90.1.9:443");
        assert_good(&node, &pod);
        run("nft add rule ip other in tcp dport 8080 dnat to 10.90.1.9:80");
        let expected = "perhaps  port 8080:80/tcp: the chain in of the table other leads port 8080 elsewhere";
        assert!(only(&node, &pod).starts_with(expected));
        run("nft delete table ip other");
        // As portmap and docker have it.
        if has("iptables") && run("iptables -V").contains("nf_tables") {
            run("iptables -t nat -A PREROUTING -p tcp -m tcp --dport 8080:8081 -j DNAT --to-destination 10.90.1.9:80");
            assert!(only(&node, &pod).starts_with("perhaps  port 8080:80/tcp: the chain PREROUTING of the table nat"));
        }
    });
}

#[test]
fn what_is_wrong_with_the_pods_link_is_found() {
    alone(concat!(module_path!(), "::what_is_wrong_with_the_pods_link_is_found"), || {
        let Some((node, pod)) = world() else { return };
        let link = &pod.attachment.networks[0].host_interface;
        run(&format!("ip link set {link} nomaster"));
        let found = only(&node, &pod);
        let cure = found.split_once("cure: ").expect("a cure").1;
        run(cure);
        assert_good(&node, &pod);

        pod.machine.within(|| run("ip route del default"));
        assert!(only(&node, &pod).contains("default route in the pod: none by 10.90.1.1"));
        pod.machine.within(|| run("ip route add default via 10.90.1.1"));
        pod.machine.within(|| run("ip address del fd90:1::2/64 dev eth0"));
        assert!(only(&node, &pod).contains("eth0 in the pod: has lost fd90:1::2/64"));

        run(&format!("ip link del {link}"));
        let found = bad(&node, &pod).join("\n");
        assert!(found.contains(&format!("link {link}: is not there")), "{found}");
        assert!(found.contains("eth0 in the pod: is not there"), "{found}");
        let found = node.networks.check_attached(&pod.attachment, None).expect("findings");
        assert!(found.iter().any(|finding| finding.what == "pod: is not running"), "{found:#?}");
    });
}

#[test]
fn a_bridge_that_is_gone_or_anothers_is_found() {
    alone(concat!(module_path!(), "::a_bridge_that_is_gone_or_anothers_is_found"), || {
        let Some((node, pod)) = world() else { return };
        let mut other = pod.attachment.clone();
        other.networks[0].name = "cni:cbr0".into();
        let found = node.networks.check_attached(&other, Some(&pod.namespace)).expect("findings");
        assert_eq!((found[0].verdict, &found[0].what[..17]), (Verdict::Unsure, "network cni:cbr0:"));
        other.networks[0].name = "gone".into();
        let found = node.networks.check_attached(&other, Some(&pod.namespace)).expect("findings");
        assert_eq!(found[0].what, "network gone: has no record");

        run("ip link set podlet0 alias mine");
        assert!(bad(&node, &pod)[0].contains("bridge podlet0 of network web: is somebody else's"));
        run("ip link del podlet0");
        assert!(bad(&node, &pod)[0].contains("bridge podlet0 of network web: is not there"));
    });
}

#[test]
fn a_firewall_in_the_way_is_named_and_its_cure_helps() {
    alone(concat!(module_path!(), "::a_firewall_in_the_way_is_named_and_its_cure_helps"), || {
        let Some((node, pod)) = world() else { return };
        run("nft add table inet strict");
        run("nft add chain inet strict way { type filter hook forward priority 5 ; policy drop ; }");
        // Not in the way: it accepts, or is about something else.
        run("nft add chain inet strict in { type filter hook input priority 0 ; policy drop ; }");
        run("nft add table ip kind");
        run("nft add chain ip kind way { type filter hook forward priority 0 ; }");
        let found = only(&node, &pod);
        assert!(found.contains("STOPS    firewall: the chain way of the table inet strict drops"), "{found}");
        let cures = found.split_once("cure: ").expect("a cure").1;
        cures.split("; ").for_each(|cure| drop(run(cure)));
        assert_good(&node, &pod);

        // As docker leaves it.
        if !has("iptables") || !run("iptables -V").contains("nf_tables") {
            return;
        }
        run("iptables -P FORWARD DROP");
        let found = only(&node, &pod);
        assert!(found.contains("the chain FORWARD of the table ip filter drops"), "{found}");
        let (_, cures) = found.split_once("cure: ").expect("a cure");
        let (cures, _) = cures.split_once(" (with docker").expect("a word about docker");
        cures.split("; ").for_each(|cure| drop(run(cure)));
        assert_good(&node, &pod);
    });
}

#[test]
fn a_port_without_a_listener_is_found() {
    alone(concat!(module_path!(), "::a_port_without_a_listener_is_found"), || {
        let Some((node, _)) = world() else { return };
        let pod = node.attach("web", "b", &["9090:80"]);
        assert!(only(&node, &pod).contains("port 9090:80/tcp: nobody listens on 80/tcp in the pod"));
        let listen = |at: &str| pod.machine.within(|| std::net::TcpListener::bind(at).expect("a port"));
        let loopback = listen("127.0.0.1:80");
        assert!(only(&node, &pod).contains("80/tcp in the pod is listened on at 127.0.0.1 only"));
        drop(loopback);
        let of_one_family = listen("0.0.0.0:80");
        let found = only(&node, &pod);
        assert!(found.starts_with("perhaps") && found.contains("at fd90:1::3"), "{found}");
        drop(of_one_family);
        let _everywhere = listen("[::]:80");
        assert_good(&node, &pod);
    });
}

#[test]
fn what_is_wrong_with_the_way_out_is_found() {
    alone(concat!(module_path!(), "::what_is_wrong_with_the_way_out_is_found"), || {
        let Some((node, pod)) = world() else { return };
        run("ip link add up1 type veth peer name up2");
        run("ip link set up2 up");
        run("ip link set up1 up");
        run("ip address add 198.51.100.1/24 dev up1");
        run("ip route add default via 198.51.100.2 metric 100");
        assert!(only(&node, &pod).contains("net.ipv4.conf.up1.forwarding=1"));
        reload(&node);
        for link in ["all", "up0", "up1"] {
            sysctl(&format!("ipv4/conf/{link}/rp_filter"), "0");
        }
        assert_good(&node, &pod);

        sysctl("ipv4/conf/up1/rp_filter", "1");
        let found = only(&node, &pod);
        assert!(found.starts_with("perhaps  way out: by up0, up1;"), "{found}");
        assert!(found.ends_with("cure: sysctl net.ipv4.conf.up1.rp_filter=2"), "{found}");
        sysctl("ipv4/conf/up1/rp_filter", "2");
        assert_good(&node, &pod);

        for family in ["-4", "-4", "-6"] {
            run(&format!("ip {family} route del default"));
        }
        assert!(only(&node, &pod).contains("way out: this machine has no default route"));
    });
}
