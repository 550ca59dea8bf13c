//! Pods of an ordinary user, whose way out is pasta: each test is on a machine of its
//! own, as somebody who has no capability there ([`Space::enter_as_user`]).

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bed::Bed;
use crate::leaks;
use crate::space::{self, LONG, Place, Space, hear};

crate::tests![
    a_users_pod_has_a_way_out_by_pasta,
    nothing_leads_to_the_machine_from_a_pod_on_pasta,
    ports_of_pasta_lead_to_a_pod,
    pasta_asks_the_machines_resolver_for_a_pod,
    a_pasta_that_has_ended_is_told_and_comes_back,
    a_pod_on_pasta_started_again_has_its_ports,
    a_pod_on_pasta_that_was_killed_keeps_no_port,
    what_cannot_be_had_of_pasta_is_refused_and_leaves_nothing,
];

/// Why none of this can be tested here.
pub fn without_pasta() -> Option<&'static str> {
    let is_there = |path: &str| Path::new(path).exists();
    let may_open = fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    match (["/usr/bin/pasta", "/usr/local/bin/pasta"].iter().any(|path| is_there(path)), may_open) {
        (false, _) => Some("pasta is not installed (package passt); .ci/run does that"),
        (true, false) => Some("/dev/net/tun is not there, or only root may open it"),
        (true, true) => space::lacks(),
    }
}

/// The process that is a pod's pasta, as `inspect` has it.
fn pasta_of(bed: &Bed, pod: &str) -> Option<u32> {
    let shown = &bed.inspect(pod)["network"]["pasta"];
    shown.as_u64().map(|pid| pid as u32)
}

/// The processes that are anybody's pasta.
fn all_pasta() -> Vec<String> {
    let all = leaks::descendants(nix::unistd::getppid().as_raw() as u32);
    let line = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let lines = all.iter().map(|seen| String::from_utf8_lossy(&line(seen.pid)).replace('\0', " "));
    lines.filter(|line| line.contains("--config-net")).collect()
}

/// A connection over TCP to a server of the probe's, and what that says. The client
/// speaks first: else Debian 12's pasta hands on nothing.
fn greeted(place: &Place, server: &str) -> (TcpStream, String) {
    greet(place, server).unwrap_or_else(|error| panic!("{server}: {error}"))
}

fn greet(place: &Place, server: &str) -> io::Result<(TcpStream, String)> {
    let mut stream = place.connect(server)?;
    writeln!(stream, "hello")?;
    let heard = hear(&mut stream)?;
    Ok((stream, heard))
}

/// Who answers there over TCP and UDP, and as whom this one is seen. A server that has
/// just been started may not listen yet.
#[track_caller]
fn hears(place: &Place, server: &str, answer: &str) {
    let end = Instant::now() + LONG;
    let ask = || [greet(place, server).map(|(_, heard)| heard), place.ask_by_udp(server)];
    let mut heard = ask();
    while heard.iter().any(Result::is_err) && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
        heard = ask();
    }
    for (heard, way) in heard.into_iter().zip(["TCP", "UDP"]) {
        let heard = heard.unwrap_or_else(|error| panic!("over {way} from {server}: {error}"));
        assert_eq!(heard, answer, "over {way} from {server}");
    }
}

/// What `ps` has of a pod: the line.
fn shown(bed: &Bed, pod: &str) -> String {
    let said = bed.podlet("ps -a").ok();
    said.lines().find(|line| line.starts_with(pod)).unwrap_or_default().to_string()
}

fn a_users_pod_has_a_way_out_by_pasta(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    let _server = space.serve_outside();
    space.serve("web", "--hostname shop --add-host db.example:198.51.100.7 --mac 02:00:00:00:00:07");
    // As the machine is seen itself.
    space.hears("web/web", "192.0.2.2:80", "outside 192.0.2.1");
    space.hears("web/web", "[2001:db8::2]:80", "outside 2001:db8::1");
    let read = |path: &str| bed.podlet(&format!("exec web/web /probe read {path}")).ok();
    assert_eq!(read("/sys/class/net/eth0/address"), "02:00:00:00:00:07\n");
    let hosts = read("/etc/hosts");
    for (address, name) in [("198.51.100.7", "db.example"), ("192.0.2.1", "web"), ("2001:db8::1", "shop")] {
        let leads = |line: &str| line.starts_with(&format!("{address}\t")) && line.contains(name);
        assert!(hosts.lines().any(leads), "{name}: {hosts}");
    }
    assert_eq!(read("/etc/hostname"), "shop\n");
    assert!(shown(bed, "web").contains("192.0.2.1,2001:db8::1 (pasta)"));
    let network = &bed.inspect("web")["network"];
    assert_eq!(network["networks"][0]["name"], "pasta");
    assert_eq!(network["networks"][0]["addresses"], serde_json::json!(["192.0.2.1/24", "2001:db8::1/64"]));
    assert_eq!(network["networks"][0]["gateways"], serde_json::json!(["192.0.2.2", "2001:db8::2"]));
    let checked = bed.podlet("network check web").ok();
    for part in ["pasta: runs", "eth0 in the pod: has 192.0.2.1/24, 2001:db8::1/64", "by 192.0.2.2, 2001:db8::2"] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
    // Also by name, and for a pod that has nothing to say of networks afterwards.
    assert_eq!(
        bed.podlet("run --rm --network pasta --rootfs ROOT /probe reach 192.0.2.2:80").ok(),
        "outside 192.0.2.1\n"
    );
    bed.podlet("rm -f web").ok();
    assert_eq!(all_pasta(), [""; 0]);
    space.ends();
}

fn nothing_leads_to_the_machine_from_a_pod_on_pasta(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    let _tcp = TcpListener::bind("127.0.0.1:9000").expect("a port");
    let _all = TcpListener::bind("0.0.0.0:9001").expect("a port");
    space.serve("web", "");
    // Its loopback by the gateway: of who refuses there Debian 12's pasta says nothing.
    let said = bed.podlet("exec web/web /probe silence 192.0.2.2:9000").ok();
    assert!(!said.contains("connected"), "{said}");
    // Its ports by the pod's own.
    for server in ["127.0.0.1:9000", "127.0.0.1:9001", "192.0.2.1:9001"] {
        let said = bed.podlet(&format!("exec web/web /probe ask {server}")).ok();
        assert_eq!(said, "errno 111\nerrno 111\n", "{server}");
    }
    // Nor is a port of the pod the machine's because somebody listens on it, also where
    // pasta finds it there as it starts.
    bed.podlet("run -d --pod web --name high --rootfs ROOT /probe serve high 8085").ok();
    bed.await_log("web/high", "serving");
    bed.kill(pasta_of(bed, "web").expect("it runs"), Signal::SIGKILL);
    bed.podlet("network reload").ok();
    for server in ["192.0.2.1:8085", "127.0.0.1:8085"] {
        space.here.is_refused(server);
    }
    space.ends();
}

fn ports_of_pasta_lead_to_a_pod(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    space
        .serve("web", "-p 8080:80 -p 8080:80/udp -p 127.0.0.1:9090:80 -p 8000-8002:79-81 -p 8003-8004:81-82/udp -p 80");
    hears(&space.outside, "192.0.2.1:8080", "web 192.0.2.2");
    // Until the pod's interface has settled its address of the link, Debian 12's pasta
    // resets connections over IPv6.
    let by_ipv6 = || greet(&space.outside, "[2001:db8::1]:8080").map(|(_, heard)| heard);
    bed.until("an answer over IPv6", || by_ipv6().is_ok_and(|heard| heard == "web 2001:db8::2"));
    assert_eq!(greeted(&space.outside, "192.0.2.1:8001").1, "web 192.0.2.2");
    space.outside.is_refused("192.0.2.1:9090");
    let ports = bed.podlet("port ls web").ok();
    let chosen =
        ports.lines().find(|line| !line.starts_with("80") && line.ends_with(":80/tcp") && !line.contains("9090"));
    let chosen = chosen.and_then(|line| line.split_once(':')).expect("a chosen port").0;
    for server in ["127.0.0.1:9090", "127.0.0.1:8080", &format!("192.0.2.1:{chosen}")] {
        assert!(greeted(&space.here, server).1.starts_with("web "), "{server}");
    }
    let line = shown(bed, "web");
    for port in ["8080->80/tcp", "8080->80/udp", "127.0.0.1:9090->80/tcp", "8000-8002->79-81/tcp"] {
        assert!(line.contains(port), "{port}: {line}");
    }
    let checked = bed.podlet("network check web").code(1).out;
    assert!(
        checked.contains("port 8080:80/tcp: is led to 192.0.2.1, 2001:db8::1, where somebody listens"),
        "{checked}"
    );
    assert!(checked.contains("port 8000:79/tcp: nobody listens"), "{checked}");
    bed.podlet("port add web 8090:80").fails(125, &["network \"pasta\"", "while it runs", "-p"]);
    bed.podlet("port rm web 8080:80").fails(125, &["network \"pasta\"", "while it runs"]);
    hears(&space.outside, "192.0.2.1:8080", "web 192.0.2.2");
    bed.podlet("rm -f web").ok();
    space.outside.is_refused("192.0.2.1:8080");
    space.ends();
}

fn pasta_asks_the_machines_resolver_for_a_pod(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").expect("a setting");
    // Where systemd-resolved listens, and where no pod could ask it.
    let conf = bed.dir.join("resolv.conf");
    fs::write(&conf, "nameserver 127.0.0.53\nsearch example.org\n").expect("a file");
    space::cover(&conf, "/etc/resolv.conf");
    let resolver = UdpSocket::bind("127.0.0.53:53").expect("a port");
    let answers = std::thread::spawn(move || {
        let (_, asker) = resolver.recv_from(&mut [0; 64]).expect("a question");
        resolver.send_to(b"resolved", asker).expect("an answer");
    });
    space.serve("web", "");
    let conf = bed.podlet("exec web/web /probe read /etc/resolv.conf").ok();
    assert_eq!(conf, "search example.org\nnameserver 169.254.1.1\n");
    // Debian 12's pasta hands on UDP alone.
    let said = bed.podlet("exec web/web /probe ask 169.254.1.1:53").ok();
    assert_eq!(said.lines().nth(1), Some("resolved"), "{said}");
    answers.join().expect("no panic");
    space.serve("other", "--dns 198.51.100.53 --dns-search . --dns-option ndots:2");
    let conf = bed.podlet("exec other/other /probe read /etc/resolv.conf").ok();
    assert_eq!(conf, "search .\nnameserver 198.51.100.53\noptions ndots:2\n");
    space.ends();
}

fn a_pasta_that_has_ended_is_told_and_comes_back(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    space.serve("other", "");
    for cure in ["network reload", "start web", "restart -t 0 web"] {
        hears(&space.outside, "192.0.2.1:8080", "web 192.0.2.2");
        let pasta = pasta_of(bed, "web").expect("it runs");
        bed.kill(pasta, Signal::SIGKILL);
        bed.until("the end of pasta", || pasta_of(bed, "web").is_none());
        let line = shown(bed, "web");
        assert!(line.contains("pasta (ended)") && !line.contains("8080->"), "{line}");
        let checked = bed.podlet("network check web").code(1).out;
        assert!(checked.contains("pasta: has ended") && checked.contains("podlet network reload"), "{checked}");
        // It may be on its way out yet.
        let refused = || space.outside.connect("192.0.2.1:8080").map_err(|error| error.kind()).err();
        bed.until("the end of its port", || refused() == Some(ErrorKind::ConnectionRefused));
        bed.podlet(cure).ok();
        assert!(pasta_of(bed, "web").is_some_and(|now| now != pasta), "after {cure}");
        bed.await_log("web/web", "serving");
    }
    hears(&space.outside, "192.0.2.1:8080", "web 192.0.2.2");
    // Of one that runs nothing is changed.
    let before = (pasta_of(bed, "web"), pasta_of(bed, "other"));
    bed.podlet("network reload").ok();
    assert_eq!((pasta_of(bed, "web"), pasta_of(bed, "other")), before);
    space.ends();
}

fn a_pod_on_pasta_started_again_has_its_ports(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    bed.podlet("create web -p 8080:80 -p 8080:80/udp").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe serve web 80").ok();
    bed.await_log("web/a", "serving");
    let (mut stream, heard) = greeted(&space.outside, "192.0.2.1:8080");
    assert_eq!(heard, "web 192.0.2.2");
    bed.podlet("stop -t 0 web").ok();
    assert_eq!(all_pasta(), [""; 0]);
    space.outside.is_refused("192.0.2.1:8080");
    let end = io::copy(&mut stream, &mut io::sink()).map_err(|error| error.kind());
    assert!(!matches!(end, Err(ErrorKind::WouldBlock)), "the connection has ended");
    // Its port does not wait for it.
    space.serve("other", "-p 8080:80 -p 8080:80/udp");
    bed.podlet("start web").fails(125, &["8080", "pod other"]);
    assert_eq!((bed.inspect("web")["state"].as_str(), all_pasta().len()), (Some("exited"), 1));
    bed.podlet("rm -f other").ok();
    bed.podlet("start web").ok();
    assert_eq!(bed.podlet("exec web/a /probe reach 127.0.0.1:80").ok(), "web 127.0.0.1\n");
    hears(&space.outside, "192.0.2.1:8080", "web 192.0.2.2");
    space.ends();
}

fn a_pod_on_pasta_that_was_killed_keeps_no_port(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
    space.serve("other", "-p 8080:80 -p 8080:80/udp");
    hears(&space.outside, "192.0.2.1:8080", "other 192.0.2.2");
    bed.podlet("rm -f web").ok();
    hears(&space.outside, "192.0.2.1:8080", "other 192.0.2.2");
    space.ends();
}

/// What is refused to `run -d --name bad ... --rootfs ROOT /probe block`, and the
/// words that say why.
const OF_RUN: &[(&str, &[&str])] = &[
    ("-p 8080:80", &["publish", "8080:80/tcp", "pod web", "choose another"]),
    ("-p 8090:80", &["publish", "8090:80/tcp", "a program of this machine", "choose another"]),
    ("-p 8089-8091:80-82", &["publish", "8090:81/tcp", "a program of this machine"]),
    ("-p 8090:80/udp", &["publish", "8090:80/udp", "a program of this machine"]),
    ("-p 80:80", &["publish", "80:80/tcp", "net.ipv4.ip_unprivileged_port_start"]),
    ("-p 198.51.100.9:8070:80", &["publish", "198.51.100.9", "no address of this machine"]),
    ("--ip 192.0.2.9", &["ip", "192.0.2.9", "pasta", "leave the option away"]),
    ("--ip6 2001:db8::9", &["ip6", "2001:db8::9", "pasta"]),
    ("--network pasta --network-alias db", &["network-alias", "db", "pasta", "leave the option away"]),
    ("--add-host up:host-gateway", &["add-host", "up:host-gateway", "pasta"]),
    ("--network pasta --network blue", &["network", "pasta", "nothing besides"]),
    ("--network blue", &["--network blue", "CAP_NET_ADMIN"]),
    ("--mac 01:00:00:00:00:01", &["mac", "01:00:00:00:00:01", "even first byte"]),
];

fn what_cannot_be_had_of_pasta_is_refused_and_leaves_nothing(bed: &Bed) {
    let space = Space::enter_as_user(bed);
    let _tcp = TcpListener::bind("0.0.0.0:8090").expect("a port");
    let _udp = UdpSocket::bind("[::]:8090").expect("a port");
    space.serve("web", "-p 8080:80 -p 8080:80/udp");
    let everything = || {
        let files = leaks::tree(&bed.state()).into_iter().filter(|path| !path.contains("/.sweep"));
        files.chain(all_pasta()).collect::<Vec<_>>()
    };
    let before = everything();
    for (options, words) in OF_RUN {
        bed.podlet(&format!("run -d --name bad {options} --rootfs ROOT /probe block")).fails(125, words);
        assert_eq!(everything(), before, "after {options}");
    }
    bed.podlet("network create pasta").fails(125, &["network pasta", "CAP_NET_ADMIN"]);
    // A machine without a way out: there it says so, or links the pod to nobody.
    space::delete_link("uplink");
    let said = bed.podlet("run --rm --rootfs ROOT /probe echo hello").code(0);
    assert_eq!(said.out, "hello\n");
    assert!(
        said.err.lines().count() <= 1 && (said.err.is_empty() || said.err.contains("loopback alone")),
        "{}",
        said.err
    );
    assert_eq!(everything(), before);
    bed.podlet("rm -f web").ok();
    assert_eq!(all_pasta(), [""; 0]);
    bed.podlet("network prune").ok();
    bed.is_clean();
}
