//! A machine for tests of networks, a network namespace of the test's own, and
//! another machine beside it. In mode vm the machine is this one itself.
//!
//! ```text
//!    outside                       the test, podlet, its pods' bridges
//!    192.0.2.2, 2001:db8::2        192.0.2.1, 2001:db8::1
//!      eth0 ═══════════════════════ uplink, its default route
//! ```
//!
//! All is said to the kernel by netlink: a fresh machine has neither ip(8) nor
//! nft(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netlink::{Batch, Family, Message, Reply, Socket, attributes, find};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid};

use crate::bed::{Background, Bed};
use crate::harness::NETWORK;
use crate::modes::Mode;
use crate::sys;

/// What is expected comes sooner.
pub const LONG: Duration = Duration::from_secs(20);

const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// The indices of both ends of the cable: chosen, so that nobody has to ask.
const CABLE: u32 = 900;
/// The addresses of both ends of the cable, and the lengths of their prefixes.
const NEAR: [(&str, u8); 2] = [("192.0.2.1", 24), ("2001:db8::1", 64)];
const FAR: [(&str, u8); 2] = [("192.0.2.2", 24), ("2001:db8::2", 64)];

/// Has the test, which has one thread, be on a machine of its own, where networks
/// are made as nobody says otherwise.
pub fn enter() {
    sys::forget_variable(NETWORK);
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    change(Family::Route, [up("lo")]);
}

/// What this kernel lacks for pods' networks, if anything: asked by a process of its
/// own, which is root of a user namespace where the caller is not root.
pub fn lacks() -> Option<&'static str> {
    let asked = Command::new("/proc/self/exe").arg("--lacks").status().expect("the suite runs itself");
    LACKS.get(asked.code().expect("an exit code") as usize).copied().flatten()
}

/// By the exit codes of [`look`].
const LACKS: [Option<&str>; 6] = [
    None,
    Some("no network namespace is to be had"),
    Some("this kernel has no bridges"),
    Some("this kernel has no veth"),
    Some("this kernel has no nf_tables"),
    Some("this kernel has no IPv6"),
];

/// `--lacks`
pub fn look() -> ExitCode {
    let user = if Uid::effective().is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
    let has_place = unshare(user | CloneFlags::CLONE_NEWNET).is_ok();
    let try_out = |message| send(Family::Route, [message]).is_ok();
    let here = Place::here();
    let cable = veth("uplink", &here, "eth0", (CABLE, CABLE + 1));
    let has = [
        has_place,
        has_place && try_out(bridge("bridge")),
        has_place && try_out(cable),
        tables().is_ok(),
        fs::exists("/proc/sys/net/ipv6").unwrap_or(false),
    ];
    ExitCode::from(has.iter().position(|has| !has).map_or(0, |at| at as u8 + 1))
}

/// A network namespace.
pub struct Place(File);

impl Place {
    fn new() -> Place {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            Place::here()
        };
        thread::spawn(make).join().expect("no panic")
    }

    /// That of a pod.
    pub fn of_pod(bed: &Bed, pod: &str) -> Place {
        Place(File::open(format!("/proc/{}/ns/net", bed.pause_of(pod))).expect("a network namespace"))
    }

    pub fn here() -> Place {
        Place(File::open("/proc/thread-self/ns/net").expect("a network namespace"))
    }

    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the network namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join()).expect("no panic within")
    }

    /// What a server of the probe's says over TCP, and over UDP: the same.
    pub fn ask(&self, server: &str) -> io::Result<String> {
        same(self.ask_by_both(server), server)
    }

    fn ask_by_both(&self, server: &str) -> [io::Result<String>; 2] {
        [self.connect(server).and_then(|mut stream| hear(&mut stream)), self.ask_by_udp(server)]
    }

    /// The same over UDP alone.
    pub fn ask_by_udp(&self, server: &str) -> io::Result<String> {
        self.within(|| {
            let server: SocketAddr = server.parse().expect("an address");
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(LONG))?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let size = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..size]).trim_end().to_string())
        })
    }

    /// From now on it does not answer any more: its end of the cable is down.
    pub fn falls_silent(&self) {
        let mut fixed = link(0, 0);
        fixed[12..].copy_from_slice(&libc::IFF_UP.to_ne_bytes());
        let down = Message::new("link set eth0 down", libc::RTM_NEWLINK, &fixed).with(|with| {
            with.str(libc::IFLA_IFNAME, "eth0");
        });
        self.within(|| send(Family::Route, [down])).expect("down");
    }

    /// Who answers there, and as whom this one is seen. A server that has just been
    /// started may not listen yet.
    #[track_caller]
    pub fn hears(&self, server: &str, answer: &str) {
        let end = Instant::now() + LONG;
        let is_refused = |heard: &io::Result<String>| {
            heard.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        let mut heard = self.ask_by_both(server);
        while heard.iter().any(is_refused) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
            heard = self.ask_by_both(server);
        }
        let heard = same(heard, server).unwrap_or_else(|error| panic!("{server}: {error}"));
        assert_eq!(heard, answer, "from {server}");
    }

    /// Nobody is there, and that is said at once.
    #[track_caller]
    pub fn is_refused(&self, server: &str) {
        let refused = self.ask(server).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused), "{server}");
    }

    /// A connection over TCP.
    pub fn connect(&self, server: &str) -> io::Result<TcpStream> {
        let server = server.parse().expect("an address");
        let stream = self.within(|| TcpStream::connect_timeout(&server, LONG))?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(stream)
    }
}

/// TCP and UDP have the same to say.
#[track_caller]
fn same([by_tcp, by_udp]: [io::Result<String>; 2], server: &str) -> io::Result<String> {
    let (tcp, udp) = (by_tcp.as_ref().map_err(io::Error::kind), by_udp.as_ref().map_err(io::Error::kind));
    assert_eq!(tcp, udp, "by TCP and by UDP from {server}");
    by_tcp
}

/// A line from the other end, which says no more until it is spoken to.
pub fn hear(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_string())
}

/// This machine, and another.
pub struct Space<'a> {
    pub bed: &'a Bed,
    pub here: Place,
    pub outside: Place,
    links: BTreeSet<String>,
    parameters: BTreeMap<PathBuf, String>,
}

impl Space<'_> {
    /// [`enter`]s, but in mode vm, and connects this machine with another.
    pub fn enter(bed: &Bed) -> Space<'_> {
        match bed.mode {
            Mode::Vm => sys::forget_variable(NETWORK),
            _ => enter(),
        }
        Space::connect(bed)
    }

    /// The same, and never on the machine itself.
    pub fn apart(bed: &Bed) -> Space<'_> {
        enter();
        Space::connect(bed)
    }

    fn connect(bed: &Bed) -> Space<'_> {
        let (here, outside) = (Place::here(), Place::new());
        change(Family::Route, [veth("uplink", &outside, "eth0", (CABLE, CABLE))]);
        outside.within(|| {
            change(Family::Route, [up("lo"), up("eth0")]);
            change(Family::Route, FAR.map(address));
        });
        change(Family::Route, [up("uplink")]);
        change(Family::Route, NEAR.map(address));
        change(Family::Route, FAR.map(default_route));
        Space { bed, here, outside, links: links(), parameters: parameters() }
    }

    /// What has become of the kernel's parameters of this machine's links: those that
    /// are another than they were.
    pub fn changed_parameters(&self) -> BTreeMap<PathBuf, String> {
        let is_other = |path: &PathBuf, value: &String| self.parameters.get(path).is_some_and(|old| old != value);
        parameters().into_iter().filter(|(path, value)| is_other(path, value)).collect()
    }

    /// Makes them what they were: those of all links first, which change the others.
    pub fn reset_parameters(&self) {
        for path in self.changed_parameters().into_keys() {
            fs::write(&path, &self.parameters[&path]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    /// The same of an ordinary user, who makes both in a user namespace where he is who
    /// he was: programs that the test starts have no capabilities there.
    pub fn enter_as_user(bed: &Bed) -> Space<'_> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        unshare(CloneFlags::CLONE_NEWUSER).expect("a user namespace");
        for (file, text) in [
            ("setgroups", "deny".to_string()),
            ("uid_map", format!("{uid} {uid} 1")),
            ("gid_map", format!("{gid} {gid} 1")),
        ] {
            fs::write(Path::new("/proc/self").join(file), text).expect("the maps of a user namespace");
        }
        let space = Space::enter(bed);
        // Servers out there are as small.
        space.outside.within(|| fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")).expect("a setting");
        space
    }

    /// A pod of that name with a server of that name at port 80; options of `run`.
    pub fn serve(&self, pod: &str, options: &str) {
        self.bed.podlet(&format!("run -d --name {pod} {options} --rootfs ROOT /probe serve {pod} 80")).ok();
        self.bed.await_log(&format!("{pod}/{pod}"), "serving");
    }

    /// A server outside, at port 80.
    pub fn serve_outside(&self) -> Outsider {
        let mut command = Command::new(self.bed.inside("/probe"));
        command.args(["serve", "outside", "80"]).stdin(Stdio::null());
        let server = self.outside.within(|| self.bed.spawn_command(command));
        server.await_line(self.bed, "serving");
        Outsider(server)
    }

    /// The addresses of a pod in a network, by the order of its subnets.
    pub fn addresses(&self, network: &str, pod: &str) -> Vec<IpAddr> {
        let json = self.network(network);
        let pods = json["pods"].as_array().expect("pods");
        let found = pods.iter().find(|found| found["pod"] == pod).unwrap_or_else(|| panic!("{pod}: {json}"));
        let addresses = found["addresses"].as_array().expect("addresses").iter();
        addresses.map(|address| address.as_str().and_then(|text| text.parse().ok()).expect("an address")).collect()
    }

    /// `podlet network inspect`.
    pub fn network(&self, name: &str) -> serde_json::Value {
        let text = self.bed.podlet(&format!("network inspect {name}")).ok();
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[0].clone()
    }

    /// A container hears this answer of a server, over TCP and UDP.
    #[track_caller]
    pub fn hears(&self, container: &str, server: &str, answer: &str) {
        let heard = self.bed.podlet(&format!("exec {container} /probe ask {server}")).ok();
        assert_eq!(heard, format!("{answer}\n{answer}\n"), "{container} from {server}");
    }

    /// A container hears nothing from there: it is dropped, or nobody says the way.
    #[track_caller]
    pub fn hears_nothing(&self, container: &str, server: &str) {
        let heard = self.bed.podlet(&format!("exec {container} /probe silence {server}")).ok();
        assert!(heard.lines().all(|line| matches!(line, "silence" | "errno 113" | "errno 101")), "{server}: {heard}");
    }

    /// All pods and networks are removed, and nothing is left of them.
    pub fn ends(&self) {
        self.bed.podlet("rm -fa").ok();
        prune(self.bed);
        assert_eq!(links(), self.links, "links");
        self.bed.is_clean();
        if self.bed.mode == Mode::Vm {
            self.reset_parameters();
            delete_link("uplink");
        }
    }
}

/// A test that failed leaves its bridge and its firewall to no other one.
impl Drop for Space<'_> {
    fn drop(&mut self) {
        if self.bed.mode == Mode::Vm && thread::panicking() && links().contains("podlet0") {
            delete_link("podlet0");
            flush_ruleset();
        }
    }
}

/// The kernel's parameters of this machine's links, and whether it forwards at all.
fn parameters() -> BTreeMap<PathBuf, String> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = ["ipv4", "ipv6"].map(|family| Path::new("/proc/sys/net").join(family).join("conf"));
    let links = links.iter().flat_map(|conf| entries(conf));
    let files = links.flat_map(|link| entries(&link).collect::<Vec<_>>());
    let files = files.chain(["/proc/sys/net/ipv4/ip_forward".into()]);
    // Some cannot be read, such as a secret that nobody has given.
    files.filter_map(|file| Some((file.clone(), fs::read_to_string(&file).ok()?))).collect()
}

/// A server of the other machine, until it is dropped.
pub struct Outsider(Background);

impl Drop for Outsider {
    fn drop(&mut self) {
        self.0.signal(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Removes the networks that no pod is in: then nothing of podlet's is left in the
/// kernel. The link of a dead pod goes a moment after it.
pub fn prune(bed: &Bed) {
    bed.podlet("network prune").ok();
    let of_podlet = || links().into_iter().filter(|link| link.starts_with("pod")).collect::<Vec<_>>();
    bed.until("the end of the pods' links", || of_podlet().is_empty());
    assert_eq!(tables().expect("tables"), [""; 0], "tables of the firewall");
}

/// The names of this machine's links.
pub fn links() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("the links");
    table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_string())).collect()
}

/// The names of the firewall's tables.
pub fn tables() -> netlink::Result<Vec<String>> {
    const GET_TABLE: i32 = 1;
    let message = nftables("listing tables", GET_TABLE).flags(libc::NLM_F_DUMP);
    let replies = Socket::open(Family::Netfilter)?.ask(&message)?;
    let name = |body: &[u8]| find(&attributes(body, 4), 1).map(|name| String::from_utf8_lossy(name).into_owned());
    let names = replies.iter().filter_map(|reply| name(&reply.body));
    Ok(names.map(|name| name.trim_end_matches('\0').to_string()).collect())
}

/// How many rules the firewall has.
pub fn rules() -> usize {
    dump(nftables("listing rules", libc::NFT_MSG_GETRULE)).len()
}

/// How many ports lead to pods, by the firewall: elements of the maps in all tables
/// that have rules for ports.
pub fn elements() -> usize {
    /// `NFPROTO_INET`
    const INET: u8 = 1;
    const LIST: u16 = 3;
    const MAPS: [&str; 4] = ["ports4", "ports6", "addressed4", "addressed6"];
    let of = |table: &str, map: &str| {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETSETELEM) as u16;
        let message = Message::new("listing elements", kind, &[INET, 0, 0, 0]);
        let lists = dump(message.with(|with| _ = with.str(1, table).str(2, map)));
        let count = |body: &[u8]| find(&attributes(body, 4), LIST).map_or(0, |list| attributes(list, 0).len());
        lists.iter().map(|reply| count(&reply.body)).sum::<usize>()
    };
    let tables = tables().expect("tables");
    tables.iter().flat_map(|table| MAPS.map(|map| of(table, map))).sum()
}

/// To which ports the flows of UDP go that the kernel knows.
pub fn udp_flows() -> Vec<u16> {
    const GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK << 8 | 1) as u16;
    /// Of the first packet: its ports and protocol (`CTA_TUPLE_ORIG`, `CTA_TUPLE_PROTO`).
    const WAY: [u16; 2] = [1, 2];
    let flows = dump(Message::new("listing flows", GET, &[0; 4]));
    let port = |body: &[u8]| {
        let flow = attributes(body, 4);
        let first = attributes(find(&flow, WAY[0])?, 0);
        let transport = attributes(find(&first, WAY[1])?, 0);
        let is_udp = find(&transport, 1)?.first() == Some(&(libc::IPPROTO_UDP as u8));
        let port = find(&transport, 3)?.try_into().ok().map(u16::from_be_bytes)?;
        is_udp.then_some(port)
    };
    flows.iter().filter_map(|reply| port(&reply.body)).collect()
}

fn dump(message: Message) -> Vec<Reply> {
    let mut socket = Socket::open(Family::Netfilter).expect("a socket");
    socket.ask(&message.flags(libc::NLM_F_DUMP)).expect("what there is")
}

/// `nft flush ruleset`.
pub fn flush_ruleset() {
    const DELETE_TABLE: i32 = 2;
    let limit = |kind: i32| {
        let fixed = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
        Message::new("a transaction", kind as u16, &fixed).unacknowledged()
    };
    let flush = nftables("nft flush ruleset", DELETE_TABLE);
    change(Family::Netfilter, [limit(libc::NFNL_MSG_BATCH_BEGIN), flush, limit(libc::NFNL_MSG_BATCH_END)]);
}

fn nftables(doing: &str, request: i32) -> Message {
    Message::new(doing, (libc::NFNL_SUBSYS_NFTABLES << 8 | request) as u16, &[0; 4])
}

/// Has another file be there for this process and all that come of it.
pub fn cover(file: &Path, target: &str) {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(Some(file), target, none, MsFlags::MS_BIND, none).expect("covering a file");
}

/// A bridge that nobody says is podlet's.
pub fn add_bridge(name: &str) {
    change(Family::Route, [bridge(name)]);
}

pub fn delete_link(name: &str) {
    let message = Message::new(format!("link del {name}"), libc::RTM_DELLINK, &link(0, 0));
    change(Family::Route, [message.with(|with| _ = with.str(libc::IFLA_IFNAME, name))]);
}

fn change<const N: usize>(family: Family, messages: [Message; N]) {
    send(family, messages).expect("a change of the test's own machine");
}

fn send<const N: usize>(family: Family, messages: [Message; N]) -> netlink::Result<()> {
    let mut batch = Batch::new();
    for message in messages {
        batch.push(message);
    }
    Socket::open(family)?.send(&batch)
}

/// struct ifinfomsg.
fn link(index: u32, flags: i32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

fn bridge(name: &str) -> Message {
    Message::new(format!("link add {name}"), libc::RTM_NEWLINK, &link(0, 0)).flags(NEW).with(|with| {
        with.str(libc::IFLA_IFNAME, name).nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "bridge");
        });
    })
}

/// A cable from here to another place.
fn veth(name: &str, place: &Place, other: &str, indices: (u32, u32)) -> Message {
    const PEER: u16 = 1;
    Message::new(format!("link add {name}"), libc::RTM_NEWLINK, &link(indices.0, 0)).flags(NEW).with(|with| {
        with.str(libc::IFLA_IFNAME, name).nest(libc::IFLA_LINKINFO, |info| {
            info.str(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(PEER, |peer| {
                    peer.fixed(&link(indices.1, 0)).str(libc::IFLA_IFNAME, other);
                    peer.u32(libc::IFLA_NET_NS_FD, place.0.as_raw_fd() as u32);
                });
            });
        });
    })
}

fn up(name: &str) -> Message {
    let message = Message::new(format!("link set {name} up"), libc::RTM_NEWLINK, &link(0, libc::IFF_UP));
    message.with(|with| _ = with.str(libc::IFLA_IFNAME, name))
}

fn bytes(text: &str) -> (u8, Vec<u8>) {
    match text.parse().expect("an address") {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// An address for an end of the cable, of which nobody is asked whether it is taken.
fn address((text, prefix): (&str, u8)) -> Message {
    let (family, bytes) = bytes(text);
    let fixed = [[family, prefix, 0, 0], CABLE.to_ne_bytes()].concat();
    Message::new(format!("address add {text}"), libc::RTM_NEWADDR, &fixed).flags(NEW).with(|with| {
        with.bytes(libc::IFA_LOCAL, &bytes).bytes(libc::IFA_ADDRESS, &bytes);
        with.u32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
    })
}

fn default_route((via, _): (&str, u8)) -> Message {
    let (family, bytes) = bytes(via);
    let how = [libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
    let fixed = [[family, 0, 0, 0], how, [0; 4]].concat();
    let message = Message::new(format!("route add default via {via}"), libc::RTM_NEWROUTE, &fixed).flags(NEW);
    message.with(|with| _ = with.bytes(libc::RTA_GATEWAY, &bytes))
}
