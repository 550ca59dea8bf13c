//! Whole networks on a kernel: machines with stores of their own and pods on
//! them, in throw-away namespaces.

mod check;
mod flat;
mod forwarding;
mod ports;
pub(crate) mod reference;

use std::os::fd::OwnedFd;

use ipnet::IpNet;
use netlink::Family;
use pod::{Result, Store};
use tempfile::TempDir;

use crate::config::Peer;
use crate::make::{Notes, open};
use crate::manage::NetworkOptions;
use crate::nft::tests::space::{Machine, run};
use crate::record::{Attached, Attachment};
use crate::request::{AttachOptions, NetworkRequest};
use crate::resolv::Resolver;
use crate::{Networks, ports as said};

/// A machine with a store.
struct Node {
    machine: Machine,
    networks: Networks,
    dir: TempDir,
}

/// A pod's network namespace, and what it has of networks.
struct TestPod {
    machine: Machine,
    namespace: OwnedFd,
    attachment: Attachment,
}

impl Node {
    fn new(machine: Machine) -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let networks = Networks::open(&Store::open(dir.path()).expect("a store"));
        machine.within(|| run("ip link set lo up"));
        Node { machine, networks, dir }
    }

    fn create(&self, name: &str, subnets: &[&str], peers: Vec<Peer>) {
        let mut options = NetworkOptions::new(name);
        options.subnets = subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
        options.peers = peers;
        self.machine.within(|| self.networks.create_network(&options).map(drop)).expect("a network");
    }

    fn attach(&self, network: &str, name: &str, publish: &[&str]) -> TestPod {
        self.try_attach(network, name, publish).expect("attached").0
    }

    fn try_attach(&self, network: &str, name: &str, publish: &[&str]) -> Result<(TestPod, Notes)> {
        let machine = Machine::new();
        machine.within(|| run("ip link set lo up"));
        let namespace = machine.namespace();
        let dir = self.dir.path().join(name).join("ext/net");
        std::fs::create_dir_all(&dir).expect("a directory");
        // By it a store knows that there is a pod.
        std::fs::write(self.dir.path().join(name).join("pod.json"), "{}").expect("a record");
        let mut options = AttachOptions::new([NetworkRequest::new(network)]);
        options.ports = publish.iter().flat_map(|port| said::parse(port).expect("a port")).collect();
        let id = format!("{name}0123456789");
        let pod = Attached { name, id: &id, dir: &dir, hostname: name };
        let attach = || {
            let mut socket = open(Family::Route)?;
            let networks = [self.networks.get(network)?];
            self.networks.attach_noted(&pod, &options, &networks, &namespace, &mut socket, &Resolver::default())
        };
        let (attachment, notes, _) = self.machine.within(attach)?;
        Ok((TestPod { machine, namespace, attachment }, notes))
    }
}

impl TestPod {
    /// Its address of IPv4, and that of IPv6 in brackets.
    fn addresses(&self) -> [String; 2] {
        let mut addresses = self.attachment.addresses();
        [addresses.next(), addresses.next()].map(|address| match address.expect("of both families") {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        })
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a subnet")
}
