//! The file `resolv.conf` of a pod: the machine's, as far as a pod can use it, and
//! what was said for the pod (resolv.conf(5)).

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::names::{self, MAX_SEARCH, MAX_SERVERS};

/// Where systemd-resolved has the servers that it asks itself
/// (systemd-resolved.service(8)).
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Where systemd-resolved listens, for its machine alone.
const RESOLVED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// Who is asked if no server of the machine's is within a pod's reach: Cloudflare
/// and Google.
pub const FALLBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))];

/// What a resolver is told: of a machine, or what was said for a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolver {
    /// Whom it asks, in this order.
    pub servers: Vec<IpAddr>,
    /// Where it looks for short names; `.` alone means nowhere.
    pub search: Vec<String>,
    /// Its options, such as `ndots:2`.
    pub options: Vec<String>,
}

/// What a pod's resolver is told, and what the user should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodResolver {
    /// What its file says.
    pub resolver: Resolver,
    /// That servers were made up, if they were; it prints itself.
    pub fallback: Option<Fallback>,
}

/// That a pod asks [`FALLBACK`], and whom it cannot ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The servers of the machine.
    pub unusable: Vec<IpAddr>,
}

impl Display for Fallback {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.unusable.is_empty() {
            true => f.write_str("this machine has no name servers")?,
            false => write!(f, "no pod can ask this machine's name servers ({})", crate::config::List(&self.unusable))?,
        }
        write!(f, ": pods ask {}; say others by --dns", crate::config::List(&FALLBACK))
    }
}

impl Resolver {
    /// This machine's: `/etc/resolv.conf`, or what systemd-resolved asks itself if
    /// that leads to it alone.
    ///
    /// # Errors
    /// [`Error::Os`] if a file is there and cannot be read.
    pub fn of_machine() -> Result<Resolver> {
        Resolver::read(Path::new("/etc/resolv.conf"), Path::new(BEHIND_RESOLVED))
    }

    /// What the machine's own programs ask, wherever that listens.
    ///
    /// # Errors
    /// As [`Resolver::of_machine`].
    pub(crate) fn of_machines_programs() -> Result<Resolver> {
        let etc = Path::new("/etc/resolv.conf");
        Resolver::read(etc, etc)
    }

    fn read(etc: &Path, behind_resolved: &Path) -> Result<Resolver> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(Resolver::parse(&String::from_utf8_lossy(&bytes)))),
            Err(error) if crate::files::is_missing(&error) => Ok(None),
            Err(error) => Err(Error::failed(format!("reading {}", path.display()), error)),
        };
        let machine = read(etc)?.unwrap_or_default();
        if machine.servers != [RESOLVED] {
            return Ok(machine);
        }
        Ok(read(behind_resolved)?.unwrap_or(machine))
    }

    /// What a file says. As the C library does, it passes over what it does not
    /// understand, and takes the last of `search` and `domain`. So it does with
    /// link-local servers of an interface, which no pod has.
    pub fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    resolver.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                Some("search") => resolver.search = words.map(Into::into).collect(),
                Some("domain") => resolver.search = words.take(1).map(Into::into).collect(),
                Some("options") => resolver.options.extend(words.map(Into::into)),
                _ => {}
            }
        }
        resolver
    }

    /// Checks what was said for a pod.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the option of the command that it was said by.
    pub fn check(&self) -> Result<()> {
        self.servers.iter().try_for_each(|server| names::check_server(*server))?;
        self.search.iter().try_for_each(|domain| names::check_search(domain))?;
        self.options.iter().try_for_each(|option| names::check_option(option))?;
        names::check_counts(&self.servers, &self.search)
    }

    /// What a pod's resolver is told: of servers, domains and options each what was
    /// said for the pod, which is checked; else this machine's, without servers on
    /// loopback, where the pod has none, and no more than resolvers take.
    ///
    /// # Errors
    /// As [`Resolver::check`] of what was said.
    pub fn for_pod(&self, said: &Resolver) -> Result<PodResolver> {
        said.check()?;
        let mut resolver = said.clone();
        let mut fallback = None;
        if resolver.servers.is_empty() {
            let usable = |ip: &IpAddr| !ip.is_loopback() && names::check_server(*ip).is_ok();
            resolver.servers = self.servers.iter().copied().filter(usable).take(MAX_SERVERS).collect();
            if resolver.servers.is_empty() {
                resolver.servers = FALLBACK.to_vec();
                fallback = Some(Fallback { unusable: self.servers.clone() });
            }
        }
        if resolver.search.is_empty() {
            let mut left = MAX_SEARCH + 1;
            let fits = |domain: &&String| {
                let before = left;
                left = left.saturating_sub(domain.len() + 1);
                before > domain.len()
            };
            resolver.search = self.search.iter().take_while(fits).cloned().collect();
        }
        if resolver.options.is_empty() {
            resolver.options.clone_from(&self.options);
        }
        Ok(PodResolver { resolver, fallback })
    }
}

impl Display for Resolver {
    /// As the file has it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.search.is_empty() {
            writeln!(f, "search {}", self.search.join(" "))?;
        }
        self.servers.iter().try_for_each(|server| writeln!(f, "nameserver {server}"))?;
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "# a comment\n; another\ndomain old.example\nsearch a.example b.example\nnameserver 10.0.0.53\n\
                           nameserver  fd00::53\nnameserver fe80::1%eth0\nnameserver nonsense\nsortlist 10.0.0.0\n\
                           options ndots:2\noptions rotate unheard-of\n";

    fn machine(text: &str) -> PodResolver {
        Resolver::parse(text).for_pod(&Resolver::default()).expect("nothing said")
    }

    #[test]
    fn the_machines_file_is_understood_and_written_again() {
        let PodResolver { resolver, fallback } = machine(MACHINE);
        assert_eq!(fallback, None);
        let written = "search a.example b.example\nnameserver 10.0.0.53\nnameserver fd00::53\n\
                       options ndots:2 rotate unheard-of\n";
        assert_eq!(resolver.to_string(), written);
        assert_eq!(Resolver::parse(written), resolver);
    }

    #[test]
    fn systemd_resolved_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (etc, behind) = (dir.path().join("etc"), dir.path().join("run"));
        assert_eq!(Resolver::read(&etc, &behind).expect("none"), Resolver::default());
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
        write(&etc, "nameserver 127.0.0.53\noptions edns0\n");
        assert_eq!(Resolver::read(&etc, &behind).expect("read").servers, [RESOLVED]);
        write(&behind, "nameserver 10.0.0.1\n");
        assert_eq!(Resolver::read(&etc, &behind).expect("read").to_string(), "nameserver 10.0.0.1\n");
        write(&etc, "nameserver 127.0.0.53\nnameserver 10.0.0.2\n");
        let both = Resolver::read(&etc, &behind).expect("read");
        assert_eq!(both.for_pod(&Resolver::default()).expect("said").resolver.to_string(), "nameserver 10.0.0.2\n");
        assert!(matches!(Resolver::read(dir.path(), &behind), Err(Error::Os { .. })));
    }

    #[test]
    fn servers_are_made_up_only_if_none_is_left_and_it_is_said() {
        let none = machine("nameserver 127.0.0.1\nnameserver ::1\n");
        assert_eq!(none.resolver.servers, FALLBACK);
        let said = none.fallback.expect("said").to_string();
        assert!(said.contains("(127.0.0.1, ::1): pods ask 1.1.1.1, 8.8.8.8; say others by --dns"), "{said}");
        let said = machine("").fallback.expect("said").to_string();
        assert!(said.starts_with("this machine has no name servers"), "{said}");
        assert_eq!(machine("nameserver 127.0.0.1\nnameserver 10.0.0.1\n").fallback, None);
    }

    #[test]
    fn what_was_said_takes_the_machines_place() {
        let said = Resolver {
            servers: vec!["10.9.9.9".parse().expect("an address")],
            search: vec![".".into()],
            options: vec!["ndots:5".into()],
        };
        let pod = Resolver::parse(MACHINE).for_pod(&said).expect("in order");
        assert_eq!(pod.resolver.to_string(), "search .\nnameserver 10.9.9.9\noptions ndots:5\n");
        let servers_alone = Resolver { search: Vec::new(), options: Vec::new(), ..said.clone() };
        let pod = Resolver::parse(MACHINE).for_pod(&servers_alone).expect("in order");
        assert!(pod.resolver.to_string().starts_with("search a.example b.example\nnameserver 10.9.9.9\n"));
        let wrong = Resolver { options: vec!["fast".into()], ..said };
        assert!(Resolver::default().for_pod(&wrong).is_err());
    }

    #[test]
    fn no_more_is_taken_of_the_machines_than_resolvers_take() {
        let servers: String = (1..=5).map(|last| format!("nameserver 10.0.0.{last}\n")).collect();
        assert_eq!(machine(&servers).resolver.servers.len(), 3);
        let domain = "a".repeat(63);
        let search = format!("search {domain} {domain} {domain} {domain} b\n");
        assert_eq!(machine(&search).resolver.search.len(), 4);
    }
}
