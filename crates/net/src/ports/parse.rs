//! The syntax of `-p`, which is podman's: `[[IP:][HOST]:]POD[/PROTOCOL]`, with
//! ranges for both ports and IPv6 in brackets.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use pod::{Error, Result};

use super::{FIELD, PortRequest, Protocol, check_address};

const SYNTAX: &str = "give [IP:]HOST:POD[/tcp|/udp], such as 8080:80, 127.0.0.1:5353:53/udp, [fd00::1]:80:80 or \
                      8000-8010:80-90";

/// What is said to `-p`: one mapping, or as many as a range has ports. `POD` alone
/// and `IP::POD` leave the machine's port to be chosen.
///
/// # Errors
/// [`Error::Invalid`] with the whole text and what would be right.
pub fn parse(text: &str) -> Result<Vec<PortRequest>> {
    let invalid = |reason: String| Error::invalid(FIELD, text, reason);
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, name)) => (ports, protocol(name).map_err(invalid)?),
    };
    let (ip, host, pod) = split(ports).map_err(invalid)?;
    let host_ip = ip.map(|ip| address(ip).map_err(invalid)).transpose()?;
    host_ip.map_or(Ok(()), |ip| check_address(ip, text))?;
    let pod = range(pod).map_err(invalid)?;
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Ok(pod.map(|pod| PortRequest { host_ip, host: None, pod, protocol }).collect());
    };
    let host = range(host).map_err(invalid)?;
    if host.len() != pod.len() {
        let reason = format!("{} ports of the machine for {} of the pod: give as many of each", host.len(), pod.len());
        return Err(invalid(reason));
    }
    Ok(host.zip(pod).map(|(host, pod)| PortRequest { host_ip, host: Some(host), pod, protocol }).collect())
}

fn protocol(name: &str) -> std::result::Result<Protocol, String> {
    name.parse().map_err(|error| match error {
        Error::Invalid { value, reason, .. } => format!("protocol {value:?}: {reason}"),
        error => error.to_string(),
    })
}

/// The address, the machine's port and the pod's, as far as there are any.
fn split(ports: &str) -> std::result::Result<(Option<&str>, Option<&str>, &str), String> {
    if let Some(rest) = ports.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| format!("a bracket is not closed: {SYNTAX}"))?;
        let (host, pod) = rest.strip_prefix(':').and_then(|rest| rest.split_once(':')).ok_or(SYNTAX)?;
        // An IPv4 address is not written so.
        ip.parse::<Ipv6Addr>().map_err(|_| format!("{ip:?} is no IPv6 address: {SYNTAX}"))?;
        return Ok((Some(ip), Some(host), pod));
    }
    match *ports.split(':').collect::<Vec<_>>() {
        [pod] => Ok((None, None, pod)),
        [host, pod] if !host.is_empty() => Ok((None, Some(host), pod)),
        [ip, host, pod] if !ip.is_empty() => Ok((Some(ip), Some(host), pod)),
        [_, _, _, _, ..] => Err(format!("an IPv6 address has to be in brackets: {SYNTAX}")),
        _ => Err(SYNTAX.into()),
    }
}

fn address(ip: &str) -> std::result::Result<IpAddr, String> {
    ip.parse().map_err(|_| format!("{ip:?} is no IP address: {SYNTAX}"))
}

/// One port, or those from one to another.
fn range(text: &str) -> std::result::Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range {text} runs backwards: give the lower port first"));
    }
    Ok(first..=last)
}

fn port(text: &str) -> std::result::Result<u16, String> {
    // Only digits: `parse` would take a plus, too.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is no port: {SYNTAX}"));
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{text} is no port: ports are from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let requests = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let show = |request: PortRequest| {
            let PortRequest { host_ip, host, pod, protocol } = request;
            format!("{host_ip:?} {host:?} {pod} {protocol}")
        };
        requests.into_iter().map(show).collect()
    }

    #[test]
    fn each_spelling_is_understood() {
        for (text, expected) in [
            ("80", "None None 80 tcp"),
            ("80/udp", "None None 80 udp"),
            ("8080:80", "None Some(8080) 80 tcp"),
            ("8080:80/UDP", "None Some(8080) 80 udp"),
            ("127.0.0.1:8080:80", "Some(127.0.0.1) Some(8080) 80 tcp"),
            ("127.0.0.1::80", "Some(127.0.0.1) None 80 tcp"),
            ("[fd00::1]:53:53/udp", "Some(fd00::1) Some(53) 53 udp"),
            ("[::]::80", "Some(::) None 80 tcp"),
            ("65535:1", "None Some(65535) 1 tcp"),
        ] {
            assert_eq!(shown(text), [expected], "{text}");
        }
        assert_eq!(
            shown("8000-8002:80-82"),
            ["None Some(8000) 80 tcp", "None Some(8001) 81 tcp", "None Some(8002) 82 tcp"]
        );
        assert_eq!(shown("80-81"), ["None None 80 tcp", "None None 81 tcp"]);
        assert_eq!(shown("1-65535:1-65535").len(), 65535);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_value_and_the_cure() {
        for (text, reason) in [
            ("", "\"\" is no port: give"),
            (":", "give [IP:]HOST:POD"),
            (":80", "give [IP:]HOST:POD"),
            ("80:", "\"\" is no port"),
            ("0:80", "0 is no port: ports are from 1 to 65535"),
            ("80:0", "0 is no port"),
            ("65536:80", "65536 is no port: ports are from 1 to 65535"),
            ("99999999999999999999:80", "ports are from 1 to 65535"),
            ("-1:80", "\"\" is no port"),
            ("+1:80", "\"+1\" is no port"),
            ("http:80", "\"http\" is no port"),
            ("80:80/sctp", "protocol \"sctp\": sctp is not forwarded: give tcp or udp"),
            ("80:80/", "protocol \"\": give tcp or udp"),
            ("80:80/tcp/udp", "give tcp or udp"),
            ("8000-8010:80", "11 ports of the machine for 1 of the pod: give as many of each"),
            ("8010-8000:80-90", "the range 8010-8000 runs backwards"),
            ("1-2-3:1-3", "\"2-3\" is no port"),
            ("[::1]:80:80", "::1 cannot be forwarded"),
            ("::1:80:80", "has to be in brackets"),
            ("fd00::1:80:80", "has to be in brackets"),
            ("[fd00::1:80:80", "a bracket is not closed"),
            ("[fd00::1]80:80", "give [IP:]HOST:POD"),
            ("[10.0.0.1]:80:80", "\"10.0.0.1\" is no IPv6 address"),
            ("10.0.0.256:80:80", "\"10.0.0.256\" is no IP address"),
            ("localhost:80:80", "\"localhost\" is no IP address"),
            ("[::ffff:10.0.0.1]:80:80", "give 10.0.0.1"),
            ("[fe80::1]:80:80", "link-local"),
            ("224.0.0.1:80:80", "not the address of one machine"),
            ("255.255.255.255:80:80", "not the address of one machine"),
        ] {
            let error = parse(text).expect_err(text);
            let Error::Invalid { field, value, reason: said, .. } = &error else { panic!("{text}: {error}") };
            assert_eq!((field.as_str(), value.as_str()), ("publish", text));
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
