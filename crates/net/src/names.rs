//! Names that pods have and look for: what users say of them, and the file
//! `hostname`. The files `hosts` and `resolv.conf` are next door
//! ([`hosts`](crate::hosts), [`resolv`](crate::resolv)).

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

/// The longest name of a machine (HOST_NAME_MAX, gethostname(2)).
const HOST_NAME_MAX: usize = 64;

/// How many name servers the readers of resolv.conf take (MAXNS, resolv.conf(5)).
pub(crate) const MAX_SERVERS: usize = 3;

/// How long all search domains may be together: what musl takes; glibc has no limit
/// since 2.26.
pub(crate) const MAX_SEARCH: usize = 255;

/// The name of the machine, as a host of `--add-host`.
const GATEWAY: &str = "host-gateway";

/// Checks a host's name: RFC 1123, 2.1, and no address.
///
/// # Errors
/// [`Error::Invalid`] with `field` as its field.
pub fn check_host_name(field: &str, name: &str) -> Result<()> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        let reason = "give letters, digits and `-` (not at an end), up to 63, or several such with dots between";
        return Err(Error::invalid(field, name, reason));
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(Error::invalid(field, name, "an address: give a name"));
    }
    Ok(())
}

/// Checks another name by which a pod is found on a network.
///
/// # Errors
/// As [`check_host_name`].
pub fn check_alias(name: &str) -> Result<()> {
    check_host_name("network-alias", name)?;
    if is_own_name(name) {
        return Err(Error::invalid("network-alias", name, "is each pod's own loopback: give another name"));
    }
    Ok(())
}

/// Whether a name leads to whoever asks: others must not get it.
pub(crate) fn is_own_name(name: &str) -> bool {
    ["localhost", "ip6-localhost", "ip6-loopback"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The file `hostname` of a pod that is called so.
///
/// # Errors
/// [`Error::Invalid`] for what is no name, and for more than 64 bytes.
pub fn hostname_file(name: &str) -> Result<String> {
    check_wider("hostname", name, name)?;
    if name.len() > HOST_NAME_MAX {
        let reason = format!("longer than the {HOST_NAME_MAX} bytes that the kernel takes: give a shorter one");
        return Err(Error::invalid("hostname", name, reason));
    }
    Ok(format!("{name}\n"))
}

/// Where a name of `--add-host` leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostTarget {
    /// To an address.
    Address(IpAddr),
    /// To this machine, as the pod sees it: its gateway.
    HostGateway,
}

/// A name for a pod alone, as said to `--add-host`: `NAME:IP` or
/// `NAME:host-gateway`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// The name.
    pub name: String,
    /// Where it leads.
    pub target: HostTarget,
}

impl AddHost {
    /// The addresses to which the name leads, with these gateways of the pod.
    pub fn addresses(&self, gateways: &[IpAddr]) -> Vec<IpAddr> {
        match self.target {
            HostTarget::Address(ip) => vec![ip],
            HostTarget::HostGateway => gateways.to_vec(),
        }
    }
}

impl FromStr for AddHost {
    type Err = Error;

    /// An IPv6 address may be in brackets or not: a name has no colon.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    fn from_str(text: &str) -> Result<AddHost> {
        let syntax = "give NAME:IP or NAME:host-gateway";
        let Some((name, target)) = text.split_once(':') else {
            return Err(Error::invalid("add-host", text, syntax));
        };
        check_host_name("add-host", name).map_err(|error| of_value(error, text))?;
        let bare = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let target = match bare.unwrap_or(target).parse() {
            Ok(ip) if bare.is_none() || matches!(ip, IpAddr::V6(_)) => HostTarget::Address(ip),
            _ if target == GATEWAY => HostTarget::HostGateway,
            _ => return Err(Error::invalid("add-host", text, format!("{target:?} is no IP address: {syntax}"))),
        };
        Ok(AddHost { name: name.into(), target })
    }
}

impl Display for AddHost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.target {
            HostTarget::Address(ip) => write!(f, "{}:{ip}", self.name),
            HostTarget::HostGateway => write!(f, "{}:{GATEWAY}", self.name),
        }
    }
}

/// Checks a name server's address.
///
/// # Errors
/// [`Error::Invalid`] for what no server can have, and for link-local ones of IPv6,
/// which mean nothing without an interface.
pub fn check_server(ip: IpAddr) -> Result<()> {
    let is_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if ip.is_unspecified() || ip.is_multicast() || is_local || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        let reason = "no address of a name server that a pod could ask: give another";
        return Err(Error::invalid("dns", ip.to_string(), reason));
    }
    Ok(())
}

/// A name server, as said to `--dns`.
///
/// # Errors
/// [`Error::Invalid`] for what is no address, and as [`check_server`].
pub fn parse_server(text: &str) -> Result<IpAddr> {
    let ip = text.parse().map_err(|_| Error::invalid("dns", text, "no IP address: give that of a name server"))?;
    check_server(ip)?;
    Ok(ip)
}

/// Checks a domain to look in, as said to `--dns-search`; `.` means none.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_search(domain: &str) -> Result<()> {
    if domain == "." {
        return Ok(());
    }
    check_wider("dns-search", domain, domain.strip_suffix('.').unwrap_or(domain))
}

/// The same with `_`, which names of services and of pods may have.
fn check_wider(field: &str, value: &str, name: &str) -> Result<()> {
    check_host_name(field, &name.replace('_', "x")).map_err(|error| of_value(error, value))
}

/// What is wrong with a part, said of the whole as the user gave it.
fn of_value(error: Error, value: &str) -> Error {
    match error {
        Error::Invalid { field, reason, .. } => Error::invalid(field, value, reason),
        error => error,
    }
}

/// Options with a number, with its limits (resolv.conf(5)). What is beyond them
/// the library would cap without a word.
const NUMBERED: [(&str, u32, u32); 3] = [("ndots", 0, 15), ("timeout", 1, 30), ("attempts", 1, 5)];

/// Options without (resolv.conf(5)).
const PLAIN: [&str; 13] = [
    "debug",
    "rotate",
    "no-aaaa",
    "no-check-names",
    "inet6",
    "ip6-bytestring",
    "edns0",
    "single-request",
    "single-request-reopen",
    "no-tld-query",
    "use-vc",
    "no-reload",
    "trust-ad",
];

/// Checks an option of the resolver, as said to `--dns-option`.
///
/// # Errors
/// [`Error::Invalid`] for one that resolv.conf(5) does not have.
pub fn check_option(option: &str) -> Result<()> {
    let (name, value) = option.split_once(':').map_or((option, None), |(name, value)| (name, Some(value)));
    let numbered = NUMBERED.iter().find(|(known, _, _)| *known == name);
    let reason = match (numbered, value) {
        (None, None) if PLAIN.contains(&name) => return Ok(()),
        (None, Some(_)) if PLAIN.contains(&name) => format!("{name} has no value: give it alone"),
        (Some((_, least, most)), value) => {
            let number = value.and_then(|value| value.parse().ok());
            if number.is_some_and(|number| (*least..=*most).contains(&number)) {
                return Ok(());
            }
            format!("give {name}:N with N from {least} to {most}")
        }
        (None, _) => {
            let numbered: Vec<_> = NUMBERED.iter().map(|(name, _, _)| format!("{name}:N")).collect();
            format!("no option of resolv.conf(5), which has {} and {}", numbered.join(", "), PLAIN.join(", "))
        }
    };
    Err(Error::invalid("dns-option", option, reason))
}

/// Checks that there are no more servers and domains than readers of resolv.conf
/// take: they leave the rest away without a word.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_counts(servers: &[IpAddr], search: &[String]) -> Result<()> {
    if let Some(ip) = servers.get(MAX_SERVERS) {
        let reason = format!("resolvers ask the first {MAX_SERVERS} servers alone: leave the others away");
        return Err(Error::invalid("dns", ip.to_string(), reason));
    }
    if search.len() > 1 && search.iter().any(|domain| domain == ".") {
        return Err(Error::invalid("dns-search", ".", "means no domain at all: give it alone"));
    }
    let length = search.join(" ").len();
    if length > MAX_SEARCH {
        let reason = format!("all domains together have {length} bytes, and musl takes {MAX_SEARCH}: give fewer");
        return Err(Error::invalid("dns-search", search.last().cloned().unwrap_or_default(), reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        for name in ["a", "web", "3com", "a-b.c", "WEB", "1.2.3", &"a".repeat(63), &["abcdefg"; 31].join(".")] {
            check_host_name("hostname", name).expect(name);
        }
        let long = ["abcdefg"; 32].join(".");
        for name in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "ä", "a#", "10.0.0.1", &"a".repeat(64), &long]
        {
            assert!(
                said(check_alias(name))
                    .starts_with(&format!("network-alias{}", if name.is_empty() { ":" } else { " " }))
            );
        }
    }

    #[test]
    fn a_hostname_file_has_the_name_and_an_end() {
        assert_eq!(hostname_file("web_1").expect("a pod's name"), "web_1\n");
        assert!(said(hostname_file("a\nb")).contains("give letters"));
        assert!(said(hostname_file(&["abcdefg"; 9].join("."))).contains("longer than the 64"));
    }

    #[test]
    fn hosts_to_add_are_names_and_where_they_lead() {
        for (text, shown) in [
            ("db:10.0.0.1", "db:10.0.0.1"),
            ("db:::1", "db:::1"),
            ("db.example:[fd00::1]", "db.example:fd00::1"),
            ("me:host-gateway", "me:host-gateway"),
        ] {
            let host: AddHost = text.parse().expect(text);
            assert_eq!(host.to_string(), shown);
            assert_eq!(
                serde_json::from_str::<AddHost>(&serde_json::to_string(&host).expect("json")).expect("read"),
                host
            );
        }
        let gateways: [IpAddr; 2] = [Ipv4Addr::new(10, 89, 0, 1).into(), "fd00::1".parse().expect("an address")];
        assert_eq!("me:host-gateway".parse::<AddHost>().expect("parsed").addresses(&gateways), gateways);
        for (text, reason) in [
            ("db", "give NAME:IP"),
            ("db:", "\"\" is no IP address"),
            (":10.0.0.1", "give letters"),
            ("a_b:10.0.0.1", "give letters"),
            ("db:gateway", "\"gateway\" is no IP address"),
            ("db:[10.0.0.1]", "\"[10.0.0.1]\" is no IP address"),
            ("db:10.0.0.256", "is no IP address"),
        ] {
            let error = said(text.parse::<AddHost>());
            assert!(error.starts_with("add-host") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn values_for_resolvers_are_checked() {
        assert_eq!(parse_server("1.1.1.1").expect("a server").to_string(), "1.1.1.1");
        for (text, reason) in [
            ("dns.example", "no IP address"),
            ("::", "no address of"),
            ("fe80::1", "no address of"),
            ("ff02::1", "no address of"),
        ] {
            assert!(said(parse_server(text)).contains(reason));
        }
        for domain in [".", "example.org", "example.org.", "_tcp.example.org"] {
            check_search(domain).expect(domain);
        }
        for domain in ["", "..", "a b", "-a"] {
            assert!(said(check_search(domain)).starts_with("dns-search"));
        }
        for option in ["ndots:0", "ndots:15", "timeout:30", "attempts:1", "rotate", "trust-ad"] {
            check_option(option).expect(option);
        }
        for (option, reason) in [
            ("ndots", "give ndots:N with N from 0 to 15"),
            ("ndots:16", "from 0 to 15"),
            ("timeout:0", "from 1 to 30"),
            ("rotate:1", "rotate has no value"),
            ("fast", "no option of resolv.conf(5), which has ndots:N"),
            ("", "no option of"),
        ] {
            assert!(said(check_option(option)).contains(reason));
        }
    }

    #[test]
    fn more_than_a_resolver_takes_is_refused() {
        let servers: Vec<IpAddr> = (1..=4).map(|last| Ipv4Addr::new(10, 0, 0, last).into()).collect();
        check_counts(&servers[..3], &[]).expect("three");
        assert!(said(check_counts(&servers, &[])).starts_with("dns \"10.0.0.4\""));
        assert!(said(check_counts(&[], &[".".into(), "a".into()])).contains("give it alone"));
        let domains = vec!["a".repeat(63); 4];
        check_counts(&[], &domains).expect("255 bytes");
        assert!(said(check_counts(&[], &[&domains[..], &["b".into()]].concat())).contains("257 bytes"));
    }
}
