//! Throw-away namespaces, and machines in them.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use netlink::{Family, Socket};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

const INSIDE: &str = "PODLET_NET_TEST_INSIDE";
/// What is expected comes sooner.
const LONG: Duration = Duration::from_secs(20);
/// What is dropped has not come by then.
const SHORT: Duration = Duration::from_millis(300);

/// Runs the test's body in a process of its own, in a new network namespace: for
/// root in one of the machine's user namespace, and for everybody in one of a new
/// user namespace. `name` is the test's, with its modules and the crate.
pub(crate) fn alone(name: &str, body: fn()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let with_user = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
    for flags in [CloneFlags::CLONE_NEWNET, with_user] {
        if flags == with_user || getuid().is_root() {
            let (_, name) = name.split_once("::").expect("a crate");
            let output = entering(flags, name).output().unwrap_or_else(|error| panic!("{flags:?}: {error}"));
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(output.status.success() && text.contains("1 passed"), "in {flags:?}:\n{text}");
            // A test that could not be done says so, also where it is not asked.
            let skipped = text.lines().filter_map(|line| line.find("skipped").map(|at| &line[at..]));
            skipped.for_each(|line| writeln!(io::stderr(), "{name} {line}").expect("standard error"));
        }
    }
}

#[allow(unsafe_code)]
fn entering(flags: CloneFlags, name: &str) -> Command {
    let maps = [
        ("setgroups", "deny".to_string()),
        ("uid_map", format!("0 {} 1", getuid())),
        ("gid_map", format!("0 {} 1", getgid())),
    ];
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let enter = move || {
        unshare(flags)?;
        if flags.contains(CloneFlags::CLONE_NEWUSER) {
            for (file, text) in &maps {
                fs::write(format!("/proc/self/{file}"), text)?;
            }
        }
        Ok(())
    };
    // SAFETY: nothing in it needs a lock that another thread could have held at
    // the fork, but for the allocator's, which the C library sees to.
    unsafe { command.pre_exec(enter) };
    command
}

/// Does it, as root, in a thread with its own network and mounts, and an empty /run and
/// /var/lib. Nothing of it is seen outside, and all of it is gone with the thread.
pub(crate) fn in_private_mounts(act: impl FnOnce() + Send) {
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("private mounts");
        for dir in ["/run", "/var/lib"] {
            mount(Some("test"), dir, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
        }
        act();
    };
    thread::scope(|scope| scope.spawn(private).join()).expect("the test passes");
}

/// Whether the program is there; if not, the test is skipped and says so.
pub(crate) fn has(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&paths).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).exists());
    if !found {
        println!("skipped, in part or as a whole: there is no program {program}");
    }
    found
}

/// What the program prints; it has to succeed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let output = Command::new(words.next().expect("a program")).args(words).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A conversation about the caller's network namespace.
pub(crate) fn netfilter() -> Socket {
    Socket::open(Family::Netfilter).expect("a netlink socket")
}

/// Sets one of the caller's network namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A network namespace with a machine's or a pod's interfaces.
pub(crate) struct Machine(File);

impl Machine {
    pub(crate) fn new() -> Machine {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            File::open("/proc/thread-self/ns/net").expect("the namespace")
        };
        Machine(thread::spawn(make).join().expect("a namespace"))
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> OwnedFd {
        self.0.try_clone().expect("a descriptor").into()
    }

    /// Of the caller.
    pub(crate) fn here() -> Machine {
        Machine(File::open("/proc/thread-self/ns/net").expect("the namespace"))
    }

    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join()).expect("no panic within")
    }

    /// Connects it: `link` is the other end, in the caller's namespace.
    pub(crate) fn attach(&self, link: &str, addresses: [&str; 2], gateways: [&str; 2]) {
        let path = format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd());
        run(&format!("ip link add {link} type veth peer name eth0 netns {path}"));
        run(&format!("ip link set {link} up"));
        self.within(|| {
            run("ip link set lo up");
            run(&format!("ip address add {} dev eth0", addresses[0]));
            run(&format!("ip address add {} dev eth0 nodad", addresses[1]));
            run("ip link set eth0 up");
            run(&format!("ip route add default via {}", gateways[0]));
            run(&format!("ip -6 route add default via {}", gateways[1]));
        });
    }

    /// Answers on port 80 of it, of TCP and UDP, with `name` and the address that
    /// it was asked from.
    pub(crate) fn serve(&self, name: &'static str) {
        self.serve_at("[::]:80", name);
    }

    /// The same at one address, for a machine that has several: UDP answers come
    /// from the one that was asked.
    pub(crate) fn serve_at(&self, at: &str, name: &'static str) {
        let (tcp, udp) =
            self.within(|| (TcpListener::bind(at).expect("a free port"), UdpSocket::bind(at).expect("a free port")));
        let answer = move |peer: SocketAddr| format!("{name} {}", peer.ip().to_canonical());
        thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let peer = stream.peer_addr().expect("a peer");
                stream.write_all(answer(peer).as_bytes()).ok();
                // Until the other end has had enough.
                thread::spawn(move || io::copy(&mut stream.try_clone().expect("a stream"), &mut stream));
            }
        });
        thread::spawn(move || {
            while let Ok((_, peer)) = udp.recv_from(&mut [0; 64]) {
                udp.send_to(answer(peer).as_bytes(), peer).ok();
            }
        });
    }

    /// What a server says over TCP, and over UDP: the same.
    pub(crate) fn ask(&self, server: &str) -> io::Result<String> {
        let server: SocketAddr = server.parse().expect("an address");
        let by_tcp = self.within(|| answer(&mut connect(server, LONG)?));
        let by_udp = self.within(|| ask_by_udp(&udp_to(server)?, LONG));
        assert_eq!(by_tcp.as_ref().map_err(io::Error::kind), by_udp.as_ref().map_err(io::Error::kind), "{server}");
        by_tcp
    }

    /// A datagram to `other`, which has this address, does not get there: with an
    /// answer, two rules would do what each has to.
    pub(crate) fn does_not_get_to(&self, other: &Machine, address: &str) -> bool {
        let listener = other.within(|| UdpSocket::bind((address, 0))).expect("a port");
        let listener_at = listener.local_addr().expect("an address");
        let send = |text: &[u8]| udp_to(listener_at).and_then(|socket| socket.send(text)).expect("sent");
        self.within(|| send(b"far"));
        // What is sent later would come later.
        other.within(|| send(b"near"));
        let mut buffer = [0; 8];
        let size = listener.recv(&mut buffer).expect("a packet");
        buffer[..size] == *b"near"
    }

    /// Nothing comes back from there.
    pub(crate) fn is_cut_off_from(&self, server: &str) -> bool {
        let server: SocketAddr = server.parse().expect("an address");
        let silent = |result: io::Result<()>| {
            matches!(result.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
        };
        silent(self.within(|| connect(server, SHORT).map(drop)))
            && silent(self.within(|| ask_by_udp(&udp_to(server)?, SHORT).map(drop)))
    }
}

pub(crate) fn connect(server: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

pub(crate) fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut buffer = [0; 64];
    let size = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

pub(crate) fn udp_to(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    Ok(socket)
}

fn ask_by_udp(socket: &UdpSocket, limit: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let size = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

/// What the server at the other end of this socket says.
pub(crate) fn again(socket: &UdpSocket) -> io::Result<String> {
    ask_by_udp(socket, LONG)
}
