use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use netlink::{Batch, Family, Message, Socket};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::ports::parse;

/// Does it in a network namespace of its own, with loopback and nothing else. Who
/// is not root runs the test of that name again as root of a user namespace.
fn in_namespace(test: &str, act: impl FnOnce() + Send) {
    let begin = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // struct ifinfomsg: the interface 1 is to be up.
        let mut up = [0u8; 16];
        up[4..8].copy_from_slice(&1u32.to_ne_bytes());
        up[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        up[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        let mut batch = Batch::new();
        batch.push(Message::new("bringing up lo", libc::RTM_NEWLINK, &up));
        Socket::open(Family::Route).and_then(|mut socket| socket.send(&batch)).expect("lo is up");
        Ok(())
    };
    let result: nix::Result<()> = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            begin()?;
            act();
            Ok(())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if result == Err(Errno::EPERM) {
        let test = format!("ports::probe::tests::{test}");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--net"]).arg(std::env::current_exe().expect("this test"));
        assert!(again.args(["--exact", &test]).status().expect("unshare(1)").success());
    } else {
        result.expect("a namespace");
    }
}

fn mapping(text: &str, host: u16) -> PortMapping {
    let PortRequest { host_ip, pod, protocol, .. } = parse(text).expect("a request")[0];
    PortMapping { host_ip, host, pod, protocol }
}

fn refused(text: &str, host: u16) -> String {
    probe(&mapping(text, host)).expect_err(text).to_string()
}

#[test]
fn listeners_of_the_machine_are_found() {
    in_namespace("listeners_of_the_machine_are_found", || {
        let tcp = TcpListener::bind("127.0.0.1:7001").expect("bound");
        let udp = UdpSocket::bind("0.0.0.0:7002").expect("bound");
        let v6 = TcpListener::bind("[::1]:7003").expect("bound");
        for (text, port) in [("80", 7001), ("127.0.0.1::80", 7001), ("0.0.0.0::80", 7001), ("80", 7003)] {
            let error = refused(text, port);
            assert!(error.contains(&format!("a program of this machine has tcp port {port}: end it")), "{error}");
        }
        assert!(refused("53/udp", 7002).contains("udp port 7002"));
        for (text, port) in [
            ("80/udp", 7001),
            ("127.0.0.2::80", 7001),
            ("[::]::80", 7001),
            ("53", 7002),
            ("127.0.0.1::80", 7003),
            ("80", 7004),
        ] {
            probe(&mapping(text, port)).unwrap_or_else(|error| panic!("{text} {port}: {error}"));
        }
        drop((tcp, udp, v6));
        for port in [7001, 7002, 7003] {
            probe(&mapping("80", port)).expect("free again");
        }
        assert!(refused("10.77.0.1::80", 80).contains("no address of this machine"));
    });
}

#[test]
fn connections_that_linger_are_nobodys() {
    in_namespace("connections_that_linger_are_nobodys", || {
        let listener = TcpListener::bind("127.0.0.1:7001").expect("bound");
        let mut client = TcpStream::connect("127.0.0.1:7001").expect("connected");
        // Who closes first lingers: here it is the server's port.
        drop(listener.accept().expect("accepted"));
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        drop((client, listener));
        probe(&mapping("80", 7001)).expect("nobody listens");
    });
}

#[test]
fn a_udp_socket_is_found_that_would_share_its_port() {
    in_namespace("a_udp_socket_is_found_that_would_share_its_port", || {
        let family = (AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        let sharing = socket(family.0, family.1, family.2, None).expect("a socket");
        setsockopt(&sharing, sockopt::ReuseAddr, &true).expect("set");
        let address = nix::sys::socket::SockaddrIn::new(0, 0, 0, 0, 7001);
        bind(sharing.as_raw_fd(), &address).expect("bound");
        assert!(refused("53/udp", 7001).contains("udp port 7001"));
    });
}

#[test]
fn free_ports_are_chosen_and_no_two_are_the_same() {
    in_namespace("free_ports_are_chosen_and_no_two_are_the_same", || {
        let requests: Vec<_> =
            ["80-89", "8080:80", "80/udp"].iter().flat_map(|text| parse(text).expect("requests")).collect();
        let settled = settle(&requests, &[]).expect("settled");
        assert_eq!(settled.len(), requests.len());
        assert_eq!(settled[10], mapping("8080:80", 8080));
        check_list(&settled).expect("no two the same");
        let more = settle(&requests[..1], &settled).expect("settled");
        assert!(!settled.iter().any(|taken| crate::ports::conflict(taken, &more[0])));
        let error = settle(&[requests[10], requests[10]], &[]).expect_err("twice").to_string();
        assert!(error.contains("has the same port of the machine"), "{error}");
    });
}

#[test]
fn a_port_is_chosen_only_if_one_is_free() {
    in_namespace("a_port_is_chosen_only_if_one_is_free", || {
        let taken: Vec<_> = (1..=u16::MAX).map(|port| mapping("80", port)).collect();
        let error = settle(&parse("80").expect("a request"), &taken).expect_err("none").to_string();
        assert!(error.starts_with("publish \"80/tcp\": no free port of the machine was found"), "{error}");
        let request = PortRequest { host_ip: Some(Ipv4Addr::new(10, 77, 0, 1).into()), ..parse("80").expect("one")[0] };
        assert!(settle(&[request], &[]).expect_err("not here").to_string().contains("no address of this machine"));
    });
}

#[test]
fn what_the_kernel_says_is_explained() {
    let said = |errno| explain(&mapping("80", 80), errno).to_string();
    assert!(said(Errno::EACCES).contains("only root may have port 80 (sysctl net.ipv4.ip_unprivileged_port_start)"));
    assert!(matches!(explain(&mapping("80", 80), Errno::ENOMEM), Error::Os { .. }));
}
