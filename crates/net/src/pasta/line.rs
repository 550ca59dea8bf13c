//! The command line of pasta, from what a pod is to have: pure.
//!
//! What it would do by itself is switched off: it would lead every port that
//! anybody listens on in the pod or on the machine to the other side, and the
//! gateway's address to the machine's 127.0.0.1.

use std::ffi::OsString;
use std::path::Path;

use crate::pasta::RESOLVER;
use crate::ports::{PortMapping, Protocol};

/// The interface in the pod.
pub(crate) const INTERFACE: &str = "eth0";

/// Which user namespace pasta enters first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Userns {
    /// None: the pod's network namespace belongs to the caller's.
    Own,
    /// The one that is its standard input.
    Input,
}

/// What pasta is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The path of the pod's network namespace, by pause: pasta ends once `/proc` does
    /// not have it any more; that of Debian 12 does not.
    pub netns: &'a str,
    pub userns: Userns,
    /// The hardware address in the pod; any if `None`.
    pub mac: Option<&'a str>,
    pub ports: &'a [PortMapping],
    /// Whether the pod asks for names at [`RESOLVER`].
    pub resolves: bool,
    /// Where it writes its number.
    pub pid_file: &'a Path,
}

impl Line<'_> {
    /// The words after the program's name.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut say = |option: &str, values: &[&str]| {
            words.push(option.into());
            words.extend(values.iter().map(Into::into));
        };
        say("--config-net", &[]);
        say("--quiet", &[]);
        say("--no-map-gw", &[]);
        say("--ns-ifname", &[INTERFACE]);
        if let Some(mac) = self.mac {
            say("--ns-mac-addr", &[mac]);
        }
        if self.resolves {
            say("--dns-forward", &[&RESOLVER.to_string()]);
        }
        for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
            let ports: Vec<_> = self.ports.iter().filter(|port| port.protocol == protocol).collect();
            // One by one: of several in one option pasta of Debian 12 is content with any.
            ports.iter().for_each(|port| say(option, &[&spelt(port)]));
            if ports.is_empty() {
                say(option, &["none"]);
            }
        }
        say("--tcp-ns", &["none"]);
        say("--udp-ns", &["none"]);
        match self.userns {
            Userns::Own => say("--netns-only", &[]),
            // Perhaps no process is in it, so that `/proc` has no other path to it.
            Userns::Input => say("--userns", &["/proc/self/fd/0"]),
        }
        say("--netns", &[self.netns]);
        words.extend(["--pid".into(), self.pid_file.into()]);
        words
    }
}

/// `192.0.2.1/8080:80`, `8080:80`.
fn spelt(port: &PortMapping) -> String {
    let PortMapping { host_ip, host, pod, .. } = port;
    let ip = host_ip.map(|ip| format!("{ip}/")).unwrap_or_default();
    format!("{ip}{host}:{pod}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::parse;

    fn line(line: &Line<'_>) -> String {
        line.words().iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn least() -> Line<'static> {
        let pid_file = Path::new("/s/web/ext/net/pasta.pid");
        Line { netns: "/proc/7/ns/net", userns: Userns::Input, mac: None, ports: &[], resolves: false, pid_file }
    }

    #[test]
    fn nothing_leads_anywhere_that_nobody_asked_for() {
        let expected = "--config-net --quiet --no-map-gw --ns-ifname eth0 --tcp-ports none --udp-ports none \
                        --tcp-ns none --udp-ns none --userns /proc/self/fd/0 --netns /proc/7/ns/net \
                        --pid /s/web/ext/net/pasta.pid";
        assert_eq!(line(&least()), expected);
        let own = line(&Line { userns: Userns::Own, ..least() });
        assert_eq!(own, expected.replace("--userns /proc/self/fd/0", "--netns-only"));
    }

    #[test]
    fn what_was_asked_for_is_said() {
        let texts = ["8080-8081:80-81", "127.0.0.1:8070:80", "[2001:db8::1]:8072:80", "5353:53/udp"];
        let requests = texts.iter().flat_map(|text| parse(text).expect("ports"));
        let mapping = |request: crate::ports::PortRequest| PortMapping {
            host_ip: request.host_ip,
            host: request.host.expect("a port"),
            pod: request.pod,
            protocol: request.protocol,
        };
        let ports: Vec<_> = requests.map(mapping).collect();
        let said = line(&Line { mac: Some("02:00:00:00:00:07"), ports: &ports, resolves: true, ..least() });
        let expected = "--ns-ifname eth0 --ns-mac-addr 02:00:00:00:00:07 --dns-forward 169.254.1.1 \
                        --tcp-ports 8080:80 --tcp-ports 8081:81 --tcp-ports 127.0.0.1/8070:80 \
                        --tcp-ports 2001:db8::1/8072:80 --udp-ports 5353:53 --tcp-ns none";
        assert!(said.contains(expected), "{said}");
    }
}
