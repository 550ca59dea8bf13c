//! How many bytes a second get from one pod to another, and from the machine to a
//! pod: over podlet's bridge, and over podman's.
//!
//! Sockets stay in the network namespace that they are made in, so both ends are
//! this program's: what differs is the way between them, and nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use net::{AttachOptions, NetworkRequest, Networks};
use nix::sched::{CloneFlags, setns};
use pod::{Namespace, Pod, PodOptions, Store};

use super::NETWORK;
use crate::measure::{Series, Subject, interleaved, timed};
use crate::podman::Podman;
use crate::report::{aim, line, section, times};

/// podlet's rate beside podman's.
const AIM: f64 = 0.95;
const MIB: u64 = 1 << 20;
/// In one call.
const PIECE: usize = 128 << 10;
/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

/// Two ends in one network, the second with its address.
struct Ends {
    first: OwnedFd,
    second: OwnedFd,
    address: String,
}

/// Measures: each round sends so many bytes by each way once, 1 GiB unless there are
/// few rounds.
pub fn measure(store: &Store, networks: &Networks, podman: Option<&Podman>, rounds: usize) -> Result<()> {
    let bytes = if rounds > 10 { 1024 * MIB } else { 256 * MIB };
    let (first, _) = hold(store, networks, "flow-first")?;
    let (second, address) = hold(store, networks, "flow-second")?;
    let ours = Ends { first: first.namespace(Namespace::Net)?, second: second.namespace(Namespace::Net)?, address };
    let theirs = podman.map(ends_of).transpose()?;
    let mut subjects = Vec::new();
    for (name, ends) in [("podlet", Some(&ours)), ("podman", theirs.as_ref())] {
        let Some(ends) = ends else { continue };
        let (first, second) = (ends.first.as_fd(), ends.second.as_fd());
        let way = move |from| move || send(from, second, &ends.address, bytes);
        subjects.push(Subject::new(format!("{name}: from pod to pod"), way(Some(first))));
        subjects.push(Subject::new(format!("{name}: from the machine to a pod"), way(None)));
    }
    let series = interleaved(rounds.clamp(10, 20), subjects)?;
    section(&format!("TCP over a bridge, {} MiB at once", bytes / MIB), ["median", "/ podman", ""]);
    // podlet's two ways, and then podman's.
    for (nth, one) in series.iter().enumerate() {
        let other = series.get(nth + 2);
        // Rates are the other way round than times.
        let ratio = other.map(|other| other.ratio(one));
        let limit = ratio.map_or(String::new(), |ratio| aim("at least 0.95 x podman", ratio >= AIM));
        line(&one.name, [&rate(one, bytes), &ratio.map_or(String::new(), times), ""], &limit);
    }
    [first, second].into_iter().try_for_each(|pod| Ok(pod.remove()?))
}

fn rate(series: &Series, bytes: u64) -> String {
    format!("{:.2} GB/s", bytes as f64 / series.median() / 1e6)
}

/// A pod in the network, and its IPv4 address.
fn hold(store: &Store, networks: &Networks, name: &str) -> Result<(Pod, String)> {
    let pod = Pod::create(store, PodOptions::new(name))?;
    let (attachment, _) = networks.attach(&pod, &AttachOptions::new([NetworkRequest::new(NETWORK)]))?;
    let address = attachment.addresses().find(|address| address.is_ipv4()).context("no IPv4 address")?;
    Ok((pod, address.to_string()))
}

fn ends_of(podman: &Podman) -> Result<Ends> {
    let (first, _) = podman.hold("flow-first")?;
    let (second, address) = podman.hold("flow-second")?;
    let namespace = |pid| Ok::<_, std::io::Error>(File::open(format!("/proc/{pid}/ns/net"))?.into());
    Ok(Ends { first: namespace(first)?, second: namespace(second)?, address })
}

/// Sends from one namespace, or from the machine, to another, until the last byte is
/// read there.
fn send(from: Option<BorrowedFd<'_>>, to: BorrowedFd<'_>, address: &str, bytes: u64) -> Result<Duration> {
    let listener = within(Some(to), || TcpListener::bind((address, 0)))?;
    let place = listener.local_addr()?;
    let mut near = within(from, || TcpStream::connect_timeout(&place, LONG))?;
    let (mut far, _) = listener.accept()?;
    near.set_read_timeout(Some(LONG))?;
    far.set_read_timeout(Some(LONG))?;
    let receive = || -> Result<u64> {
        let (mut piece, mut received) = (vec![0; PIECE], 0);
        loop {
            match far.read(&mut piece)? {
                0 => break,
                size => received += size as u64,
            }
        }
        far.write_all(b"!")?;
        Ok(received)
    };
    thread::scope(|scope| {
        let receiver = scope.spawn(receive);
        let (taken, ()) = timed(|| {
            let piece = vec![0; PIECE];
            for _ in 0..bytes / PIECE as u64 {
                near.write_all(&piece)?;
            }
            near.shutdown(Shutdown::Write)?;
            Ok(near.read_exact(&mut [0])?)
        })?;
        let received = receiver.join().expect("no panic")?;
        ensure!(received == bytes, "{received} of {bytes} bytes came");
        Ok(taken)
    })
}

/// Does it in that namespace, or in this thread's own.
fn within<T: Send>(place: Option<BorrowedFd<'_>>, work: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
    let entered = || -> Result<T> {
        if let Some(place) = place {
            setns(place, CloneFlags::CLONE_NEWNET)?;
        }
        Ok(work()?)
    };
    thread::scope(|scope| scope.spawn(entered).join()).expect("no panic")
}
