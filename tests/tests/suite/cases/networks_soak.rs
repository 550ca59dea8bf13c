//! Pods in networks again and again, and many at once: nothing of them is left.
//!
//! Some rounds; `--every 1` is a thousand (`make test-soak`).

use std::collections::BTreeSet;
use std::fs;

use net::{AttachOptions, NetworkOptions, NetworkRequest, Networks};
use pod::{Pod, PodOptions};

use super::networks::at;
use super::soak::soak;
use crate::bed::Bed;
use crate::leaks::{self, Snapshot};
use crate::space::{self, Space};

crate::tests![
    pods_of_networks_again_and_again_leave_nothing,
    pods_of_networks_again_and_again_leave_a_program_no_descriptor,
    sixty_four_pods_of_networks_at_once_have_as_many_addresses,
];

/// What pods may leave nothing of while their network stays.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    links: BTreeSet<String>,
    /// How many rules podlet's table has, and how many elements.
    table: (usize, usize),
    /// Of UDP: nobody tells the kernel that one of these has ended.
    flows: Vec<u16>,
    files: BTreeSet<String>,
    /// The lines that count of the network's hosts file.
    names: Vec<String>,
}

impl Kept {
    fn look(space: &Space<'_>) -> Kept {
        let state = space.bed.state();
        let hosts = fs::read_to_string(state.join(".networks/podlet/hosts")).expect("the network's names");
        let counts = |line: &&str| !line.starts_with('#');
        Kept {
            links: space::links(),
            table: (space::rules(), space::elements()),
            flows: space::udp_flows(),
            files: leaks::tree(&state).into_iter().collect(),
            names: hosts.lines().filter(counts).map(String::from).collect(),
        }
    }
}

/// A pod that is used by its ports, from outside and by itself, and removed.
fn life(space: &Space<'_>) -> Result<(), String> {
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    for server in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        let answer = space.outside.ask(server).map_err(|error| format!("{server}: {error}"))?;
        if !answer.starts_with("web ") {
            return Err(format!("{server} says {answer:?}"));
        }
    }
    let removed = space.bed.podlet("rm -f web");
    if removed.status.success() { Ok(()) } else { Err(format!("{removed:?}")) }
}

fn pods_of_networks_again_and_again_leave_nothing(bed: &Bed) {
    let space = Space::enter(bed);
    let links = space::links();
    // One before: the network stays.
    life(&space).expect("a life");
    let is_gone = || space::links().len() == links.len() + 1;
    bed.until("the end of the pod's link", is_gone);
    let (before, machine) = (Kept::look(&space), Snapshot::take());
    assert_eq!((before.table.1, before.flows.len()), (0, 0), "{before:?}");
    soak(bed, 20, || life(&space));
    bed.until("the end of the pods' links", is_gone);
    assert_eq!(Kept::look(&space), before);
    assert_eq!(machine.compare(), [""; 0]);
    space.ends();
}

fn pods_of_networks_again_and_again_leave_a_program_no_descriptor(bed: &Bed) {
    let space = Space::enter(bed);
    let store = net::extended(bed.store());
    let networks = Networks::open(&store);
    let _ = networks.create_network(&NetworkOptions::new("podlet")).expect("a network");
    let life = || {
        let pod = Pod::create(&store, PodOptions::new("web"))?;
        let mut options = AttachOptions::new([NetworkRequest::new("podlet")]);
        options.ports = net::ports::parse("8080:80")?;
        let _ = networks.attach(&pod, &options)?;
        pod.remove()
    };
    // One before: a socket for the firewall stays.
    life().expect("a life");
    let before = leaks::descriptors();
    soak(bed, 20, || life().map_err(|error| error.to_string()));
    assert_eq!(leaks::descriptors(), before);
    space.ends();
}

fn sixty_four_pods_of_networks_at_once_have_as_many_addresses(bed: &Bed) {
    const PODS: usize = 64;
    let space = Space::enter(bed);
    let each = |line: &dyn Fn(usize) -> String| {
        let all: Vec<_> = (0..PODS).map(|number| bed.spawn(&line(number))).collect();
        all.into_iter().for_each(|command| drop(command.wait().code(0)));
    };
    each(&|number| {
        let port = 8000 + number;
        format!("run -d --name p{number} -p {port}:80 -p {port}:80/udp --rootfs ROOT /probe serve p{number} 80")
    });
    let addresses: Vec<_> = (0..PODS).flat_map(|number| space.addresses("podlet", &format!("p{number}"))).collect();
    let different: BTreeSet<_> = addresses.iter().collect();
    assert_eq!((addresses.len(), different.len()), (2 * PODS, 2 * PODS));
    assert_eq!(addresses.iter().filter(|address| address.is_ipv6()).count(), PODS);
    let of_pods = || space::links().iter().filter(|link| link.starts_with("pod")).count();
    assert_eq!(of_pods(), PODS + 1, "a link each, and the bridge");
    assert_eq!(space::elements(), 4 * PODS, "TCP and UDP, of IPv4 and IPv6");
    for (number, both) in addresses.chunks(2).enumerate() {
        let name = format!("p{number}");
        bed.await_log(&format!("{name}/{name}"), "serving");
        for address in both {
            let heard = space.here.ask(&at(*address, 80)).expect("an answer");
            assert!(heard.starts_with(&format!("{name} ")), "{name} at {address}: {heard}");
        }
        space.outside.hears(&format!("192.0.2.1:{}", 8000 + number), &format!("{name} 192.0.2.2"));
        space.outside.hears(&format!("[2001:db8::1]:{}", 8000 + number), &format!("{name} 2001:db8::2"));
    }
    each(&|number| format!("rm -f p{number}"));
    bed.until("the end of the pods' links", || of_pods() == 1);
    assert_eq!(space.network("podlet")["pods"], serde_json::json!([]));
    let by_ports = space::udp_flows().into_iter().filter(|port| *port >= 8000);
    assert_eq!((space::elements(), by_ports.collect()), (0, Vec::new()));
    // What is hidden are locks, and whose turn it is.
    let is_left = |path: &&String| !path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    let left = |dir: &str| leaks::tree(&bed.state().join(".networks").join(dir)).iter().filter(is_left).count();
    assert_eq!((left("podlet/leases"), left(".ports")), (0, 0));
    space.ends();
}
