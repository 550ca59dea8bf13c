//! Whether a port of the machine is free, asked of the kernel by bind(2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket, sockopt,
};
use pod::{Error, Result};

use super::{FIELD, PortIndex, PortMapping, PortRequest, Protocol, check_list};

/// How often a free port is asked for: the kernel may offer ones that are taken
/// in the other family, or that a pod has.
const TRIES: usize = 100;

/// Asks whether a program of this machine has the port of a mapping, in the
/// calling thread's network namespace. Nobody can connect to it meanwhile.
///
/// # Errors
/// [`Error::Invalid`] if one has, if the address is not this machine's, or if the
/// port is below `net.ipv4.ip_unprivileged_port_start` and the caller has no
/// CAP_NET_BIND_SERVICE; [`Error::Os`] for anything else that the kernel says.
pub fn probe(mapping: &PortMapping) -> Result<()> {
    mapping.check()?;
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let one = mapping.host_ip.map(|ip| [ip]);
    for ip in one.as_ref().map_or(&all[..], |one| &one[..]) {
        match try_bind(SocketAddr::new(*ip, mapping.host), mapping.protocol) {
            Ok(_) => {}
            // A machine may well have no IPv6.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if mapping.host_ip.is_none() && ip.is_ipv6() => {}
            Err(errno) => return Err(explain(mapping, errno)),
        }
    }
    Ok(())
}

fn explain(mapping: &PortMapping, errno: Errno) -> Error {
    let host = mapping.host;
    let reason = match errno {
        Errno::EADDRINUSE => format!(
            "a program of this machine has {} port {host}: end it (`ss -lnp` names it), or choose another port",
            mapping.protocol
        ),
        Errno::EADDRNOTAVAIL => "no address of this machine: give one of its own (`ip address`), or none".into(),
        Errno::EACCES => {
            format!("only root may have port {host} (sysctl net.ipv4.ip_unprivileged_port_start): choose a higher one")
        }
        errno => return Error::failed(format!("asking for the port of {mapping}"), errno),
    };
    Error::invalid(FIELD, mapping.to_string(), reason).because(errno)
}

/// A socket that is bound there and listens to nothing.
fn try_bind(to: SocketAddr, protocol: Protocol) -> nix::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // Connections that linger in TIME_WAIT are nobody's. UDP has none of these,
    // and there two that both say so would share the port.
    if protocol == Protocol::Tcp {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if to.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket)
}

/// Makes mappings of what was asked for, choosing a free port of the machine
/// where none was named: one that nobody listens on and that is not in `taken`.
///
/// Those that were named are not probed here ([`probe`]).
///
/// # Errors
/// As [`check_list`], which the result has passed; [`Error::Invalid`] if no port
/// is free; [`Error::Os`] if none can be asked for.
pub fn settle(requests: &[PortRequest], taken: &[PortMapping]) -> Result<Vec<PortMapping>> {
    let mapping = |request: &PortRequest, host| {
        let PortRequest { host_ip, pod, protocol, .. } = *request;
        PortMapping { host_ip, host, pod, protocol }
    };
    // First what was named, so that none of it is chosen for another.
    let named = requests.iter().filter_map(|request| Some(mapping(request, request.host?)));
    let mut avoided: PortIndex = named.chain(taken.iter().copied()).collect();
    let mut settled = Vec::with_capacity(requests.len());
    for request in requests {
        let host = match request.host {
            Some(host) => host,
            None => choose(request, |host| mapping(request, host), &avoided)?,
        };
        settled.push(mapping(request, host));
        if request.host.is_none() {
            avoided.extend([mapping(request, host)]);
        }
    }
    check_list(&settled)?;
    Ok(settled)
}

fn choose(request: &PortRequest, mapping: impl Fn(u16) -> PortMapping, avoided: &PortIndex) -> Result<u16> {
    let ip = request.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    for _ in 0..TRIES {
        let bound = try_bind(SocketAddr::new(ip, 0), request.protocol);
        let socket = bound.map_err(|errno| explain(&mapping(0), errno))?;
        let address = getsockname::<SockaddrStorage>(socket.as_raw_fd())
            .map_err(|errno| Error::failed("asking which port was chosen", errno))?;
        drop(socket);
        let port = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(address), _) => address.port(),
            (None, Some(address)) => address.port(),
            (None, None) => continue,
        };
        let chosen = mapping(port);
        if avoided.in_conflict(&chosen).is_none() && probe(&chosen).is_ok() {
            return Ok(port);
        }
    }
    let reason = "no free port of the machine was found (sysctl net.ipv4.ip_local_port_range): name one, HOST:POD";
    Err(Error::invalid(FIELD, format!("{}/{}", request.pod, request.protocol), reason))
}

#[cfg(test)]
mod tests;
