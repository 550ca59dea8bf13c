//! What was seen, beside what there should be.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::listen::Listener;
use super::look::{Firewall, Seen, SeenNetwork, SeenPod, SeenRootless, is_cni};
use super::{Finding, Verdict};
use crate::config::List;
use crate::nft::{ForwardChain, PortRule, SeenRule};
use crate::ports::PortMapping;
use crate::record::{AttachedNetwork, Attachment};

/// What makes all anew that podlet itself makes on the machine.
const RELOAD: &str = "podlet network reload";
/// What makes all anew in the pod.
const ANEW: &str = "the pod has to be made anew: podlet stop it, and podlet start it";

/// The steps, from the machine's side inwards, then outwards.
pub(super) fn findings(attachment: &Attachment, seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    for (attached, network) in attachment.networks.iter().zip(&seen.networks) {
        match network {
            Some(network) => judge_network(attached, network, &mut found),
            None if is_cni(&attached.name) => {
                let what = format!("network {}: what its plugins made is not looked at", attached.name);
                found.push(Finding::unsure(what, "ask its own tools"));
            }
            None => found.push(Finding::stops(format!("network {}: has no record", attached.name), ANEW)),
        }
        if let Some(pod) = &seen.pod {
            judge_pod(attached, attached.is_first(), pod, &mut found);
        }
    }
    if seen.pod.is_none() {
        found.push(Finding::stops("pod: is not running", "podlet start it"));
    }
    judge_firewall(&seen.firewall, &mut found);
    let first = attachment.networks.iter().zip(&seen.networks).find(|(attached, _)| attached.is_first());
    let first = first.and_then(|(_, network)| network.as_ref());
    let rules = attachment.port_rules(&attachment.ports);
    let is_led = seen.firewall.published.as_deref().unwrap_or_default();
    let led: HashSet<_> = rules.iter().zip(is_led).filter_map(|(rule, is_led)| is_led.then_some(rule)).collect();
    for port in &attachment.ports {
        found.push(judge_port(attachment, port, seen, &led));
        found.extend(judge_way_in(port, first, &seen.firewall));
    }
    if let Some(first) = first {
        judge_way_out(first, &mut found);
    }
    found
}

/// The same of a pod that has pasta, which is that process, and what it has by it.
pub(super) fn findings_of_pasta(attachment: &Attachment, pasta: Option<u32>, seen: &SeenRootless) -> Vec<Finding> {
    let Some(pid) = pasta else { return vec![Finding::stops("pasta: has ended", RELOAD)] };
    let mut found = vec![Finding::good(format!("pasta: runs, as process {pid}"))];
    for attached in &attachment.networks {
        let (name, now) = (format!("{} in the pod", attached.interface), &seen.interface);
        let lost: Vec<_> = attached.addresses.iter().filter(|ip| !now.addresses.contains(ip)).copied().collect();
        found.push(match &lost[..] {
            [] => Finding::good(format!("{name}: has {}", List(&now.addresses))),
            lost => Finding::stops(format!("{name}: has lost {}", List(lost)), ANEW),
        });
        found.push(match &now.gateways[..] {
            [] => Finding::unsure("default route in the pod: none", "the machine had none as pasta started"),
            gateways => Finding::good(format!("default route in the pod: by {}", List(gateways))),
        });
    }
    for port in &attachment.ports {
        let is_of_family = |ip: &IpAddr| port.host_ip.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
        let addresses: Vec<_> = attachment.addresses().filter(is_of_family).collect();
        found.push(judge_listeners(port, &addresses, &seen.listeners));
    }
    found
}

fn judge_network(attached: &AttachedNetwork, network: &SeenNetwork, found: &mut Vec<Finding>) {
    let config = &network.config;
    let name = format!("bridge {} of network {}", config.bridge, config.name);
    let Some(bridge) = &network.bridge else {
        let cure = format!("{RELOAD}; pods that run keep links that lead nowhere, so start them anew");
        found.push(Finding::stops(format!("{name}: is not there"), cure));
        return;
    };
    if !network.is_ours {
        let cure = format!("ip link del {}, if nobody needs it, and {RELOAD}", config.bridge);
        found.push(Finding::stops(format!("{name}: is somebody else's"), cure));
        return;
    }
    found.push(match (bridge.is_up, &network.missing[..]) {
        (false, _) => Finding::stops(format!("{name}: is down"), RELOAD),
        (true, []) => Finding::good(format!("{name}: is there, up, and has its addresses")),
        (true, missing) => Finding::stops(format!("{name}: has lost {}", List(missing)), RELOAD),
    });
    found.push(match &network.unset[..] {
        [] => Finding::good(format!("forwarding: all that {name} needs is set")),
        unset => Finding::stops(format!("forwarding: these should be set: {}", List(unset)), RELOAD),
    });
    let link = &attached.host_interface;
    found.push(match &network.end {
        None => Finding::stops(format!("link {link}: is not there"), ANEW),
        Some(end) if end.master != Some(bridge.index) => {
            let cure = format!("ip link set {link} master {}", config.bridge);
            Finding::stops(format!("link {link}: is not in the bridge"), cure)
        }
        Some(end) if !end.is_up => Finding::stops(format!("link {link}: is down"), format!("ip link set {link} up")),
        Some(_) => Finding::good(format!("link {link}: is in the bridge, and up")),
    });
}

fn judge_pod(attached: &AttachedNetwork, is_first: bool, pod: &SeenPod, found: &mut Vec<Finding>) {
    let name = format!("{} in the pod", attached.interface);
    let Some(link) = pod.links.iter().find(|link| link.name == attached.interface) else {
        found.push(Finding::stops(format!("{name}: is not there"), ANEW));
        return;
    };
    let is_missing = |address: &&IpNet| !pod.addresses.contains(&(link.index, **address));
    let missing: Vec<IpNet> = attached.addresses.iter().filter(is_missing).copied().collect();
    found.push(match (link.is_up, &missing[..]) {
        (false, _) => Finding::stops(format!("{name}: is down"), ANEW),
        (true, []) => Finding::good(format!("{name}: is up, and has {}", List(&attached.addresses))),
        (true, missing) => Finding::stops(format!("{name}: has lost {}", List(missing)), ANEW),
    });
    if !is_first {
        return;
    }
    let leads = |gateway: &&std::net::IpAddr| {
        pod.routes.iter().any(|route| route.to.prefix_len() == 0 && route.via == Some(**gateway))
    };
    let lost: Vec<_> = attached.gateways.iter().filter(|gateway| !leads(gateway)).copied().collect();
    found.push(match &lost[..] {
        [] => Finding::good(format!("default route in the pod: by {}", List(&attached.gateways))),
        lost => Finding::stops(format!("default route in the pod: none by {}", List(lost)), ANEW),
    });
}

fn judge_firewall(firewall: &Firewall, found: &mut Vec<Finding>) {
    found.push(match (&firewall.published, &firewall.emptied[..]) {
        (Some(_), []) => Finding::good("firewall: podlet's table is there"),
        (Some(_), emptied) => {
            let what = format!("firewall: podlet's table has lost rules of its chains {}", List(emptied));
            Finding::stops(what, RELOAD)
        }
        (None, _) => {
            let what = "firewall: podlet's table is not there; somebody has flushed it: published ports are closed, \
                        and what keeps pods from the machine's 127.0.0.0/8 is gone with it";
            Finding::stops(what, RELOAD)
        }
    });
    found.extend(firewall.foreign.iter().map(|(chain, unnamed)| judge_foreign(chain, unnamed)));
    for chain in &firewall.dropping {
        let (family, ForwardChain { table, name, .. }) = (chain.family().unwrap_or_default(), chain);
        let what =
            format!("firewall: the chain {name} of the table {family} {table} has rules that drop what they are about");
        found.push(Finding::unsure(what, format!("look at nft list chain {family} {table} {name}")));
    }
    if firewall.has_legacy {
        let what = "firewall: iptables-legacy has rules for what is forwarded, which are not seen from here";
        found.push(Finding::unsure(what, "look at iptables-legacy -S FORWARD, and accept the bridge there"));
    }
}

/// A chain of others that drops, and the bridges that no rule beside it names.
pub(super) fn judge_foreign(chain: &ForwardChain, unnamed: &[String]) -> Finding {
    let ForwardChain { table, name, .. } = chain;
    let family = chain.family().unwrap_or_default();
    let what = format!("firewall: the chain {name} of the table {family} {table} drops what none of its rules accepts");
    match unnamed.first() {
        None => Finding::good(format!("{what}; it has rules for the bridge")),
        Some(bridge) => Finding::stops(format!("{what}, and none names {bridge}"), cure_for(chain, bridge)),
    }
}

/// In the words of whoever made the chain.
fn cure_for(chain: &ForwardChain, bridge: &str) -> String {
    let (family, name) = (chain.family().unwrap_or_default(), &chain.name);
    let iptables = if family == "ip6" { "ip6tables" } else { "iptables" };
    match (chain.table.as_str(), name.as_str(), family) {
        ("firewalld", ..) => {
            format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload")
        }
        ("filter", "FORWARD", "ip" | "ip6") => {
            format!(
                "{iptables} -I FORWARD -i {bridge} -j ACCEPT; {iptables} -I FORWARD -o {bridge} -j ACCEPT (with docker: in DOCKER-USER)"
            )
        }
        (table, ..) => {
            let insert = |way: &str| format!("nft insert rule {family} {table} {name} {way} {bridge} accept");
            format!("{}; {}", insert("iifname"), insert("oifname"))
        }
    }
}

/// `led`: the rules by which the firewall leads ports to the pod.
fn judge_port(attachment: &Attachment, port: &PortMapping, seen: &Seen, led: &HashSet<&PortRule>) -> Finding {
    let name = format!("port {port}");
    if !attachment.published {
        return Finding::stops(format!("{name}: leads nowhere as long as the pod does not run"), "podlet start it");
    }
    let Some(pod) = &seen.pod else {
        let what = format!("{name}: is kept for the pod, which ended by itself: who connects gets no answer");
        return Finding::stops(what, "podlet start it, or stop it to have the port free");
    };
    let own = attachment.port_rules(&[*port]);
    if let Some(lost) = own.iter().find(|rule| !led.contains(rule)) {
        return Finding::stops(format!("{name}: the firewall does not lead it to {}", lost.pod_ip), RELOAD);
    }
    let addresses: Vec<_> = own.iter().map(|rule| rule.pod_ip).collect();
    judge_listeners(port, &addresses, &pod.listeners)
}

/// Whether what comes to a port is heard at these addresses of the pod.
fn judge_listeners(port: &PortMapping, addresses: &[IpAddr], listeners: &[Listener]) -> Finding {
    let name = format!("port {port}");
    let hears = |ip: &&IpAddr| listeners.iter().any(|found| found.hears(port.protocol, **ip, port.pod));
    let deaf: Vec<_> = addresses.iter().filter(|ip| !hears(ip)).copied().collect();
    let elsewhere = listeners.iter().find(|found| found.protocol == port.protocol && found.port == port.pod);
    let where_to = format!("{}/{} in the pod", port.pod, port.protocol);
    match (&deaf[..], elsewhere) {
        ([], _) => Finding::good(format!("{name}: is led to {}, where somebody listens", List(addresses))),
        (deaf, _) if deaf.len() < addresses.len() => {
            let what = format!("{name}: nobody listens on {where_to} at {}", List(deaf));
            Finding::unsure(what, "only who comes by that family is refused: have the program listen on :: as well")
        }
        (_, Some(other)) => {
            let what = format!("{name}: {where_to} is listened on at {} only", other.address);
            Finding::stops(what, "have the program listen on 0.0.0.0 or ::")
        }
        (_, None) => Finding::stops(
            format!("{name}: nobody listens on {where_to}"),
            "start the program, or publish the port it has",
        ),
    }
}

/// What else may become of packets to a port before they are led to the pod.
fn judge_way_in(port: &PortMapping, first: Option<&SeenNetwork>, firewall: &Firewall) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_for_others = port.host_ip.is_none_or(|ip| !ip.is_loopback());
    if let Some(network) = first.filter(|network| network.config.internal && is_for_others) {
        let what =
            format!("port {port}: is reached from this machine alone, network {} is internal", network.config.name);
        found.push(Finding::unsure(what, "put the pod into a network that is not, first"));
    }
    let takes = |rule: &&SeenRule| {
        let Some((protocol, ports)) = &rule.sends_on else { return false };
        protocol.is_none_or(|protocol| protocol == port.protocol) && ports.contains(&port.host)
    };
    if let Some(SeenRule { table, chain, .. }) = firewall.sent_on.iter().find(takes) {
        let what = format!("port {port}: the chain {chain} of the table {table} leads port {} elsewhere", port.host);
        let cure = "whichever is asked first has it: choose another port, or take it from there";
        found.push(Finding::unsure(what, cure));
    }
    found
}

fn judge_way_out(network: &SeenNetwork, found: &mut Vec<Finding>) {
    if network.config.internal {
        found.push(Finding::good(format!("way out: none, network {} is internal", network.config.name)));
        return;
    }
    found.push(match (&network.ways[..], &network.strict[..]) {
        ([], _) => {
            Finding::unsure("way out: this machine has no default route", "pods reach this machine only; add one")
        }
        (ways, strict) if ways.len() > 1 && !strict.is_empty() => {
            let what = format!("way out: by {}; what comes in by another than its answer takes is dropped", List(ways));
            let set = strict.iter().map(|way| format!("sysctl net.ipv4.conf.{way}.rp_filter=2"));
            Finding { what, verdict: Verdict::Unsure, cure: Some(set.collect::<Vec<_>>().join("; ")) }
        }
        (ways, _) => Finding::good(format!("way out: by {}", List(ways))),
    });
}
