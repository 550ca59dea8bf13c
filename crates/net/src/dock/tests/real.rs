//! The reference plugins.

use std::os::fd::AsFd;

use pod::Namespace;
use serde_json::json;

use super::{Bed, die, in_a_machine};
use crate::cni::CheckReport;
use crate::enter;
use crate::tests::reference::{plugin_dirs, run, traces};

fn with_plugins(act: impl Fn(&Bed) + Sync) {
    for plugins in plugin_dirs() {
        in_a_machine(&[plugins], |bed| {
            run("ip link set lo up");
            let bridge = json!({"type": "bridge", "bridge": "cni9", "isGateway": true, "ipMasq": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}]}, "capabilities": {"ips": true}});
            let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
            bed.network("real", "1.0.0", json!([bridge, portmap, {"type": "firewall"}]));
            act(bed);
        });
    }
}

#[test]
fn a_pod_on_the_reference_plugins_has_its_address_and_leaves_nothing() {
    with_plugins(|bed| {
        let mut pod = bed.pod("web");
        let attachment = bed.attach(&pod, &["cni:real"], &["8080:80"]).expect("attached");
        let inside = |pod: &pod::Pod| {
            let namespace = pod.namespace(Namespace::Net).expect("its namespace");
            enter::inside(namespace.as_fd(), || Ok(run("ip -o -4 address show dev eth0; ip route"))).expect("entered")
        };
        assert_eq!(attachment.networks[0].gateways, ["10.77.0.1".parse::<std::net::IpAddr>().expect("an address")]);
        let address = attachment.networks[0].addresses[0].to_string();
        assert!(inside(&pod).contains(&address) && inside(&pod).contains("default via 10.77.0.1"), "{}", inside(&pod));
        assert!(traces().contains("8080") && traces().contains("veth"), "{}", traces());
        pod.kill().expect("stopped");
        assert_eq!(traces(), "");
        pod.start().expect("started");
        let address = bed.attachment("web").networks[0].addresses[0].to_string();
        assert!(inside(&pod).contains(&address), "{}", inside(&pod));
        die(bed, "web");
        pod.remove().expect("removed");
        assert_eq!(traces(), "", "nor after an end of itself");
        assert_eq!(bed.told(), [""; 0]);
        bed.is_clean();
    });
}

#[test]
fn pods_on_the_reference_plugins_get_the_address_they_ask_for_and_are_checked() {
    with_plugins(|bed| {
        let pod = bed.pod("web");
        let mut options = super::options(&["cni:real"], &[]);
        options.networks[0].addresses = vec!["10.77.0.99".parse().expect("an address")];
        let attachment = bed.attach_by(&pod, &options).expect("attached");
        assert_eq!(attachment.networks[0].addresses[0].to_string(), "10.77.0.99/24");
        let reports = bed.networks.check_cni(&pod).expect("asked");
        assert!(matches!(reports[..], [(_, CheckReport::AsMade)]), "{reports:?}");
        pod.remove().expect("removed");
        assert_eq!(traces(), "");
        bed.is_clean();
    });
}
