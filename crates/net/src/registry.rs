//! Which pod has which of the machine's ports: a file each, so that a conflict is
//! found before anything is made, also between a port at all addresses and one at
//! a single one, which the kernel would take both.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use pod::{Error, Result};

use crate::files::{self, Lock, Sharing};
use crate::lease::Holder;
use crate::ports::{PortIndex, PortMapping, Protocol};

/// The ports of a store's pods.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    dir: PathBuf,
}

/// That nobody else takes ports, notes in a record which ones lead to a pod, or has
/// the kernel's table follow that, as long as it is there.
#[derive(Debug)]
pub(crate) struct Taking<'a> {
    registry: &'a Registry,
    #[expect(dead_code, reason = "held for its lock")]
    lock: Lock,
}

impl Registry {
    pub(crate) fn at(dir: PathBuf) -> Result<Registry> {
        files::make_private(&dir)?;
        Ok(Registry { dir })
    }

    pub(crate) fn taking(&self) -> Result<Taking<'_>> {
        loop {
            // Whoever removed the last network may have removed the directory, too.
            files::make_private(&self.dir)?;
            if let Some(lock) = Lock::take(&self.dir.join(".lock"), Sharing::Exclusive)? {
                return Ok(Taking { registry: self, lock });
            }
        }
    }

    /// Whose a port is.
    pub(crate) fn holder(&self, port: &PortMapping) -> Result<Option<Holder>> {
        files::read_json(&self.path(port))
    }

    /// Gives back those of these ports that the pod has, and tells whether there was
    /// one.
    pub(crate) fn give_back(&self, ports: &[PortMapping], id: &str) -> Result<bool> {
        let mut given = false;
        for port in ports {
            if self.holder(port)?.is_some_and(|holder| holder.id == id) {
                files::remove_file(&self.path(port))?;
                given = true;
            }
        }
        Ok(given)
    }

    /// Gives back all that a pod has, whatever its record says.
    pub(crate) fn give_back_all(&self, id: &str) -> Result<bool> {
        self.give_back(&self.all()?, id)
    }

    /// Gives back what a pod has that its record does not say, and tells whether that
    /// was anything: a program was killed before it could note a port, or after it
    /// had noted that one is none of the pod's any more.
    pub(crate) fn give_back_unnoted(&self, noted: &[PortMapping], id: &str) -> Result<bool> {
        let noted: HashSet<_> = noted.iter().map(file_name).collect();
        let unnoted: Vec<_> = self.all()?.into_iter().filter(|port| !noted.contains(&file_name(port))).collect();
        self.give_back(&unnoted, id)
    }

    /// Gives back what pods have that are gone: those of which `alive` says so.
    pub(crate) fn reclaim(&self, alive: impl Fn(&Holder) -> bool) -> Result<()> {
        for port in self.all()? {
            if let Some(holder) = self.holder(&port)?.filter(|holder| !alive(holder)) {
                self.give_back(&[port], &holder.id)?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<Vec<PortMapping>> {
        Ok(files::names_in(&self.dir)?.iter().filter_map(|name| port_of(name)).collect())
    }

    fn path(&self, port: &PortMapping) -> PathBuf {
        self.dir.join(file_name(port))
    }
}

impl Taking<'_> {
    /// All ports that somebody has; their pods' ports are not told.
    pub(crate) fn taken(&self) -> Result<Vec<PortMapping>> {
        self.registry.all()
    }

    /// Takes ports for a pod, all or none: else the first that is in conflict with
    /// another pod's, and that pod.
    pub(crate) fn take(
        &self,
        ports: &[PortMapping],
        holder: &Holder,
    ) -> Result<std::result::Result<(), (PortMapping, Holder)>> {
        let taken: PortIndex = self.taken()?.into_iter().collect();
        for port in ports {
            let Some(theirs) = taken.in_conflict(port) else { continue };
            match self.registry.holder(&theirs)? {
                Some(other) if other.id != holder.id => return Ok(Err((*port, other))),
                _ => {}
            }
        }
        let json = serde_json::to_vec(holder).map_err(|error| Error::failed("noting a port", error))?;
        let paths: Vec<_> = ports.iter().map(|port| self.registry.path(port)).collect();
        if let Err(error) = files::write_as_each(&paths, &json) {
            self.registry.give_back(ports, &holder.id)?;
            return Err(error);
        }
        Ok(Ok(()))
    }
}

/// `tcp-8080`, `udp-53-127.0.0.1`.
fn file_name(port: &PortMapping) -> String {
    match port.host_ip {
        None => format!("{}-{}", port.protocol, port.host),
        Some(ip) => format!("{}-{}-{ip}", port.protocol, port.host),
    }
}

fn port_of(name: &str) -> Option<PortMapping> {
    let mut words = name.splitn(3, '-');
    let protocol: Protocol = words.next()?.parse().ok()?;
    let host = words.next()?.parse().ok()?;
    let host_ip = words.next().map(str::parse::<IpAddr>).transpose().ok()?;
    Some(PortMapping { host_ip, host, pod: host, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> PortMapping {
        port_of(text).expect("a port")
    }

    fn holder(id: &str) -> Holder {
        Holder { pod: format!("pod-{id}"), id: id.into() }
    }

    #[test]
    fn a_port_is_one_pods_at_all_addresses_or_at_each() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = Registry::at(dir.path().join("ports")).expect("a registry");
        let take = |ports: &[&str], id: &str| {
            let ports: Vec<_> = ports.iter().map(|text| port(text)).collect();
            registry
                .taking()
                .expect("the lock")
                .take(&ports, &holder(id))
                .expect("asked")
                .map_err(|(_, other)| other.pod)
        };
        assert_eq!(take(&["tcp-80", "udp-53-127.0.0.1"], "a"), Ok(()));
        assert_eq!(take(&["tcp-80"], "a"), Ok(()), "it has it already");
        assert_eq!(take(&["tcp-81", "tcp-80-10.0.0.1"], "b"), Err("pod-a".into()));
        assert_eq!(take(&["udp-53"], "b"), Err("pod-a".into()));
        assert_eq!(take(&["udp-53-127.0.0.2", "tcp-81", "udp-80"], "b"), Ok(()));
        assert_eq!(registry.taking().expect("the lock").taken().expect("listed").len(), 5, "none of a refusal is left");
        registry.give_back(&[port("tcp-80"), port("tcp-81"), port("tcp-82")], "a").expect("given back");
        assert_eq!(take(&["tcp-80-fd00::1"], "b"), Ok(()));
        assert_eq!(registry.holder(&port("tcp-81")).expect("read"), Some(holder("b")), "only its own");
        // What was left on the way.
        let noted = [port("tcp-81"), port("udp-80"), port("tcp-80-fd00::1")];
        assert!(registry.give_back_unnoted(&noted, "b").expect("given back"));
        assert_eq!(registry.holder(&port("udp-53-127.0.0.2")).expect("read"), None, "unnoted");
        assert!(!registry.give_back_unnoted(&noted, "b").expect("given back"));
        registry.reclaim(|holder| holder.id == "a").expect("reclaimed");
        assert_eq!(registry.all().expect("listed"), [port("udp-53-127.0.0.1")]);
    }
}
