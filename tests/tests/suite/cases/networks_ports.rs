//! Ports of the machine that lead to pods: from everywhere, while they change, and
//! after others were at the firewall.

use std::io::Write;

use super::networks::at;
use crate::bed::Bed;
use crate::space::{self, Space, hear};

crate::tests![
    ports_of_networks_lead_to_a_pod_from_everywhere,
    ports_of_networks_change_while_a_connection_lives,
    ports_of_networks_are_chosen_and_in_ranges,
    a_pod_of_networks_started_again_keeps_address_and_ports,
    ports_of_networks_are_anew_after_the_firewall_was_flushed,
    ports_of_networks_of_a_pod_that_was_killed_are_free,
    a_connection_that_nobody_answers_keeps_no_pod_in_a_network,
];

fn ports_of_networks_lead_to_a_pod_from_everywhere(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp -p 127.0.0.1:9090:80 -p 127.0.0.1:9090:80/udp");
    space.serve("other", "");
    // As they are seen: of another machine the address is what it is.
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space.outside.hears("[2001:db8::1]:8080", "web 2001:db8::2");
    for server in ["192.0.2.1:8080", "127.0.0.1:8080", "10.89.0.1:8080", "127.0.0.1:9090", "[2001:db8::1]:8080"] {
        let heard = space.here.ask(server).unwrap_or_else(|error| panic!("{server}: {error}"));
        assert!(heard.starts_with("web "), "{server}: {heard}");
    }
    space.here.is_refused("[::1]:8080");
    space.outside.is_refused("192.0.2.1:9090");
    space.here.is_refused("192.0.2.1:9090");
    for container in ["other/other", "web/web"] {
        space.hears(container, "192.0.2.1:8080", "web 10.89.0.1");
        space.hears(container, "10.89.0.1:8080", "web 10.89.0.1");
        let heard = bed.podlet(&format!("exec {container} /probe ask [2001:db8::1]:8080")).ok();
        assert!(heard.lines().count() == 2 && heard.lines().all(|line| line.starts_with("web ")), "{heard}");
    }
    // What listens on the machine's own loopback is not theirs.
    assert_eq!(bed.podlet("exec other/other /probe ask 127.0.0.1:9090").ok(), "errno 111\nerrno 111\n");
    space.ends();
}

fn a_connection_that_nobody_answers_keeps_no_pod_in_a_network(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8080:80");
    let mut stream = space.outside.connect("192.0.2.1:8080").expect("a connection");
    assert_eq!(hear(&mut stream).expect("a greeting"), "web 192.0.2.2");
    space.outside.falls_silent();
    // Its end waits for an answer, and keeps the pod's namespace for as long.
    space.ends();
}

fn ports_of_networks_change_while_a_connection_lives(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    let mut stream = space.outside.connect("192.0.2.1:8080").expect("a connection");
    assert_eq!(hear(&mut stream).expect("a greeting"), "web 192.0.2.2");
    let mut goes_on = |word: &str| {
        writeln!(stream, "{word}").expect("a word");
        assert_eq!(hear(&mut stream).expect("the same word"), word);
    };
    assert_eq!(bed.podlet("port add web 8081:80 8081:80/udp").ok(), "8081:80/tcp\n8081:80/udp\n");
    space.outside.hears("192.0.2.1:8081", "web 192.0.2.2");
    goes_on("added");
    bed.podlet("port rm web 8080:80 8080:80/udp").ok();
    goes_on("removed");
    space.outside.is_refused("192.0.2.1:8080");
    space.outside.hears("192.0.2.1:8081", "web 192.0.2.2");
    assert_eq!(bed.podlet("port ls web").ok(), "8081:80/tcp\n8081:80/udp\n");
    // It is free for another pod, and leads there.
    space.serve("other", "-p 8080:80 -p 8080:80/udp");
    space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    goes_on("another's");
    drop(stream);
    space.ends();
}

fn ports_of_networks_are_chosen_and_in_ranges(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8000-8002:79-81 -p 8000-8002:79-81/udp -p 80");
    let ports = bed.podlet("port ls web").ok();
    let chosen = ports.lines().find(|line| !line.starts_with("800")).expect("a chosen port");
    let chosen = chosen.strip_suffix(":80/tcp").expect("of port 80");
    space.outside.hears("192.0.2.1:8001", "web 192.0.2.2");
    let heard = hear(&mut space.outside.connect(&format!("192.0.2.1:{chosen}")).expect("a connection"));
    assert_eq!(heard.expect("a greeting"), "web 192.0.2.2");
    assert_eq!(ports.lines().count(), 7, "{ports}");
    space.ends();
}

fn a_pod_of_networks_started_again_keeps_address_and_ports(bed: &Bed) {
    let space = Space::enter(bed);
    bed.podlet("create web -p 8080:80 -p 8080:80/udp").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe serve web 80").ok();
    bed.await_log("web/a", "serving");
    let addresses = space.addresses("podlet", "web");
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    bed.podlet("stop -t 0 web").ok();
    space.outside.is_refused("192.0.2.1:8080");
    // Its address waits for it, its port does not.
    space.serve("other", "-p 8080:80 -p 8080:80/udp");
    space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    bed.podlet("start web").fails(125, &["8080", "pod other", "port rm"]);
    assert_eq!(bed.inspect("web")["state"], "exited");
    space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    bed.podlet("rm -f other").ok();
    bed.podlet("start web").ok();
    assert_eq!(space.addresses("podlet", "web"), addresses);
    assert_eq!(bed.podlet("exec web/a /probe reach 127.0.0.1:80").ok(), "web 127.0.0.1\n");
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    for address in addresses {
        let heard = space.here.ask(&at(address, 80)).expect("an answer");
        assert!(heard.starts_with("web "), "{heard}");
    }
    // Also while the kernel still has the link of the one before.
    for _ in 0..bed.rounds(10) {
        bed.podlet("stop -t 0 web").ok();
        bed.podlet("start web").ok();
    }
    space.ends();
}

fn ports_of_networks_are_anew_after_the_firewall_was_flushed(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space::flush_ruleset();
    assert_eq!(space::tables().expect("tables"), [""; 0]);
    bed.podlet("network reload").ok();
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    bed.podlet("network reload").ok();
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    // Whoever has a port to add finds that out, too.
    space::flush_ruleset();
    bed.podlet("port add web 8081:80 8081:80/udp").ok();
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space.outside.hears("192.0.2.1:8081", "web 192.0.2.2");
    space::flush_ruleset();
    bed.podlet("port rm web 8081:80").ok();
    bed.podlet("rm -f web").ok();
    // A network without its bridge is made anew for the next pod.
    space::delete_link("podlet0");
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    space.outside.hears("192.0.2.1:8080", "web 192.0.2.2");
    space.ends();
}

fn ports_of_networks_of_a_pod_that_was_killed_are_free(bed: &Bed) {
    let space = Space::enter(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    bed.kill(bed.pause_of("web"), nix::sys::signal::Signal::SIGKILL);
    bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
    space.serve("other", "-p 8080:80 -p 8080:80/udp");
    space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    bed.podlet("rm -f web").ok();
    space.outside.hears("192.0.2.1:8080", "other 192.0.2.2");
    space.ends();
}
