//! The networks of a store, as they are kept on disk.
//!
//! ```text
//!   <store>/.networks/
//!     .cni/<name>             the names of the pods of a CNI network
//!     .forwarding             which links podlet had forward
//!     .lock                   shared: networks are used; exclusive: some are made or removed
//!     <name>/
//!       network.json          what it is; as long as it is missing there is no network
//!       lock                  who changes what the kernel has of it
//!       leases/<address>      whose the address is
//!       hosts                 the names of its pods
//! ```
//!
//! The directory's name is hidden because every other one in a store is a pod's.
//! A record is the last to be made and the first to be removed: a directory
//! without one was left by a program that was killed, and is swept by the next
//! that makes or lists networks. Only files known here are removed. Other
//! things that somebody put there stay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use netlink::{Family, Socket};
use pod::{Error, Result, Store};
use serde::Deserialize;

use crate::cni::CniDirs;
use crate::config::{NetworkConfig, Peer, VERSION, check_network_name, overlap};
use crate::files::{self, Lock, Sharing};
use crate::hosts::HostsFile;
use crate::lease::Leases;
use crate::registry::Registry;
use crate::step::refused;

#[cfg(test)]
mod tests;

const DIR: &str = ".networks";
const RECORD: &str = "network.json";
const LEASES: &str = "leases";
const HOSTS: &str = "hosts";
/// Hidden, because every other directory is a network's.
const PORTS: &str = ".ports";
/// Hidden for the same reason.
const FORWARDING: &str = ".forwarding";
/// Hidden for the same reason; a file for each CNI network.
const CNI_HOSTS: &str = ".cni";
/// Hidden for the same reason; in it a directory for each network, with an empty file
/// for each of its pods that has a hosts file of its own.
const OWN_HOSTS: &str = ".own";

/// All networks of a store.
///
/// What is asked of the kernel is asked of the network namespace in which that is
/// first done by a value or a clone of it.
#[derive(Debug, Clone)]
pub struct Networks {
    store: Store,
    dir: PathBuf,
    cni: CniDirs,
    /// Kept once it is open: to close one right after something was deleted by it
    /// takes the kernel some milliseconds, and so does any other one meanwhile.
    netfilter: Arc<Mutex<Option<Socket>>>,
}

/// That networks are neither made nor removed as long as it is there.
#[derive(Debug)]
pub struct Using(#[expect(dead_code, reason = "held for its lock")] Lock);

/// That nobody else makes, removes or uses networks as long as it is there.
#[derive(Debug)]
pub struct Changing(#[expect(dead_code, reason = "held for its lock")] Lock);

impl Networks {
    /// Those of a store, and the machine's CNI networks. Nothing is made yet.
    pub fn open(store: &Store) -> Networks {
        let dir = store.root().join(DIR);
        Networks { store: store.clone(), dir, cni: CniDirs::of_machine(), netfilter: Arc::default() }
    }

    /// The same with CNI networks of other directories.
    #[must_use]
    pub fn with_cni(self, cni: CniDirs) -> Networks {
        Networks { cni, ..self }
    }

    /// Where CNI networks are.
    pub fn cni_dirs(&self) -> &CniDirs {
        &self.cni
    }

    /// The names of the pods of a CNI network.
    pub(crate) fn cni_hosts(&self, name: &str) -> HostsFile {
        HostsFile::at(self.dir.join(CNI_HOSTS).join(name))
    }

    /// The names of the pods of a network of our own.
    pub(crate) fn network_hosts(&self, name: &str) -> HostsFile {
        HostsFile::at(self.dir.join(name).join(HOSTS))
    }

    /// As [`using`](Networks::using), where there may be none of our own, so that
    /// the directory is missing.
    pub(crate) fn using_cni(&self) -> Result<Using> {
        loop {
            files::make_private(&self.dir.join(CNI_HOSTS))?;
            match self.using() {
                Err(Error::NotFound(_)) => {}
                using => return using,
            }
        }
    }

    /// Whose networks they are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> &Path {
        self.store.root()
    }

    /// Asks the kernel's firewall.
    pub(crate) fn netfilter<T>(&self, ask: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let mut kept = self.netfilter.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *kept {
            Some(socket) => socket,
            none => none.insert(Socket::open(Family::Netfilter).map_err(refused)?),
        };
        ask(socket)
    }

    /// Whose the machine's ports are.
    pub(crate) fn registry(&self) -> Result<Registry> {
        Registry::at(self.dir.join(PORTS))
    }

    /// Where it is noted which of the machine's links podlet had forward.
    pub(crate) fn forwarding_path(&self) -> PathBuf {
        self.dir.join(FORWARDING)
    }

    /// Keeps networks as they are: waits for those who make or remove some.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn using(&self) -> Result<Using> {
        self.lock(Sharing::Shared).map(Using)
    }

    /// Keeps all others from using networks, and waits for those who do. What is
    /// chosen under it (a subnet, a bridge) is still free when it is recorded.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn changing(&self) -> Result<Changing> {
        loop {
            files::make_private(&self.dir)?;
            // Whoever removed the last network may have removed the directory, too.
            match self.lock(Sharing::Exclusive) {
                Err(Error::NotFound(_)) => {}
                lock => return lock.map(Changing),
            }
        }
    }

    fn lock(&self, sharing: Sharing) -> Result<Lock> {
        let path = self.dir.join(".lock");
        Lock::take(&path, sharing)?.ok_or_else(|| Error::NotFound(format!("directory {}", self.dir.display())))
    }

    /// Records a network. Nothing is made of it in the kernel.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::Invalid`] for what is wrong with it
    /// ([`NetworkConfig::check`]), and for a bridge or a subnet that another
    /// network has; nothing is recorded then.
    pub fn create(&self, _: &Changing, config: &NetworkConfig) -> Result<StoredNetwork> {
        config.check()?;
        if config.version != VERSION {
            let reason = format!("this build writes version {VERSION}: make it by NetworkConfig::new");
            return Err(Error::invalid("version", config.version.to_string(), reason));
        }
        self.sweep()?;
        for other in self.list_recorded()? {
            check_beside(config, &other.config)?;
        }
        let network = self.stored(config.clone());
        files::make_private(&network.dir.join(LEASES))?;
        network.hosts().create()?;
        let record = network.dir.join(RECORD);
        let mut json = serde_json::to_vec_pretty(config)
            .map_err(|error| Error::failed(format!("writing {}", record.display()), error))?;
        json.push(b'\n');
        files::write(&record, &json, 0o600)?;
        Ok(network)
    }

    /// The network of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for what is no name;
    /// [`Error::Corrupt`] and [`Error::Newer`] for a record.
    pub fn get(&self, name: &str) -> Result<StoredNetwork> {
        check_network_name(name)?;
        let path = self.dir.join(name).join(RECORD);
        let Some(bytes) = files::read(&path)? else { return Err(Error::NotFound(format!("network {name}"))) };
        let Version { version } = files::from_json(&path, &bytes)?;
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
        let config: NetworkConfig = files::from_json(&path, &bytes)?;
        if config.name != name {
            return Err(Error::corrupt(&path, format!("name: says {:?}, and its directory {name:?}", config.name)));
        }
        config.check().map_err(|error| Error::corrupt(&path, error.to_string()))?;
        Ok(self.stored(config))
    }

    /// All networks, by name. Half-made ones are swept, unless somebody is making
    /// or using some now.
    ///
    /// # Errors
    /// As [`Networks::get`], of the first that cannot be read.
    pub fn list(&self) -> Result<Vec<StoredNetwork>> {
        if let Some(_lock) = Lock::try_take(&self.dir.join(".lock")) {
            self.sweep()?;
        }
        self.list_recorded()
    }

    /// The names of all that have a record, readable or not, sorted.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = self.directories()?;
        names.retain(|name| self.dir.join(name).join(RECORD).exists());
        Ok(names)
    }

    /// Removes the record of a network and all that is kept with it, also if it
    /// cannot be read. What the kernel has of it is removed before.
    ///
    /// # Errors
    /// [`Error::State`] with the names of the pods that have addresses of it;
    /// [`Error::NotFound`]; [`Error::Newer`].
    pub fn remove(&self, _: &Changing, name: &str) -> Result<()> {
        let leases = match self.get(name) {
            Err(Error::Corrupt { .. }) => self.leases_of(name),
            network => network?.leases(),
        };
        leases.remove()?;
        self.remove_rest(name)
    }

    /// Removes what ended programs left on the way, and where there are no networks
    /// the directory of them.
    pub(crate) fn tidy(&self, _: &Changing) -> Result<()> {
        self.sweep()?;
        let ports = self.dir.join(PORTS);
        [&ports, &self.dir, &self.dir.join(CNI_HOSTS)].into_iter().try_for_each(|dir| files::sweep_nameless(dir))?;
        if !self.names()?.is_empty() {
            return Ok(());
        }
        for lock in [ports.join(".lock"), self.dir.join(".lock")] {
            files::remove_file(&lock)?;
        }
        files::remove_empty_dir(&ports)?;
        let own = self.dir.join(OWN_HOSTS);
        files::names_in(&own)?.iter().try_for_each(|network| files::remove_empty_dir(&own.join(network)))?;
        files::remove_empty_dir(&own)?;
        self.remove_cni_hosts()?;
        files::remove_empty_dir(&self.dir)
    }

    /// Where it is noted which of a network's pods have a hosts file of their own. The
    /// network is named as where a pod is made.
    pub(crate) fn own_hosts_of(&self, network: &str) -> PathBuf {
        self.dir.join(OWN_HOSTS).join(network)
    }

    /// The names in CNI networks in which no pod is.
    fn remove_cni_hosts(&self) -> Result<()> {
        let dir = self.dir.join(CNI_HOSTS);
        // Of a file that could not be made there is the lock alone.
        let of_lock = |name: &str| name.strip_prefix('.').and_then(|name| name.strip_suffix(".lock")).map(String::from);
        let names: BTreeSet<_> =
            files::all_names_in(&dir)?.into_iter().map(|name| of_lock(&name).unwrap_or(name)).collect();
        for hosts in names.iter().map(|name| self.cni_hosts(name)) {
            if hosts.entries()?.is_empty() {
                hosts.remove_files()?;
            }
        }
        files::remove_empty_dir(&dir)
    }

    pub(crate) fn list_recorded(&self) -> Result<Vec<StoredNetwork>> {
        let names = self.names()?;
        let found = names.iter().filter_map(|name| match self.get(name) {
            // Removed just now; or damaged, which is told where it is named.
            Err(Error::NotFound(_) | Error::Corrupt { .. }) => None,
            network => Some(network),
        });
        found.collect()
    }

    /// Names of all directories that may be a network's, sorted.
    fn directories(&self) -> Result<Vec<String>> {
        let mut names = files::names_in(&self.dir)?;
        names.retain(|name| check_network_name(name).is_ok() && self.dir.join(name).is_dir());
        Ok(names)
    }

    /// Removes what has no record; the caller has the lock.
    fn sweep(&self) -> Result<()> {
        for name in self.directories()? {
            if !self.dir.join(&name).join(RECORD).exists() {
                self.leases_of(&name).sweep()?;
                self.remove_rest(&name)?;
            }
        }
        Ok(())
    }

    /// Removes what is left of a network without leases and record.
    fn remove_rest(&self, name: &str) -> Result<()> {
        let dir = self.dir.join(name);
        self.network_hosts(name).remove_files()?;
        files::remove_empty_dir(&self.own_hosts_of(name))?;
        files::sweep_nameless(&dir)?;
        files::remove_empty_dir(&dir)
    }

    /// Of a network whose record may be damaged: they can be given back.
    pub(crate) fn leases_of(&self, name: &str) -> Leases {
        let dir = self.dir.join(name);
        Leases::of_unknown(dir.join(LEASES), dir.join(RECORD), name)
    }

    /// One that may have no record yet.
    pub(crate) fn stored(&self, config: NetworkConfig) -> StoredNetwork {
        StoredNetwork { dir: self.dir.join(&config.name), config }
    }
}

/// What a record says first, whatever else it says.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Checks that a network can be there beside another one.
fn check_beside(config: &NetworkConfig, other: &NetworkConfig) -> Result<()> {
    let name = &other.name;
    if config.name == *name {
        return Err(Error::Exists(format!("network {name}")));
    }
    if config.bridge == other.bridge {
        return Err(Error::invalid("bridge", &config.bridge, format!("network {name} has it: choose another name")));
    }
    if let Some((peer, subnet)) = peer_in(&config.peers, &other.subnets) {
        let reason = format!("in {subnet} of network {name}, whose pods are on this machine: give another machine's");
        return Err(Error::invalid("peer", peer.via.to_string(), reason));
    }
    let with_peers = |config: &NetworkConfig| {
        let peers = config.peers.iter().flat_map(|peer| peer.subnets.clone());
        config.subnets.iter().copied().chain(peers).collect::<Vec<_>>()
    };
    let theirs = with_peers(other);
    for subnet in with_peers(config) {
        if let Some(taken) = theirs.iter().find(|taken| overlap(taken, &subnet)) {
            let reason = format!("overlaps {taken} of network {name}: choose another");
            return Err(Error::invalid("subnet", subnet.to_string(), reason));
        }
    }
    Ok(())
}

fn peer_in<'a>(peers: &'a [Peer], subnets: &'a [IpNet]) -> Option<(&'a Peer, &'a IpNet)> {
    let of = |peer: &'a Peer| Some((peer, subnets.iter().find(|subnet| subnet.contains(&peer.via))?));
    peers.iter().find_map(of)
}

/// A network that has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNetwork {
    dir: PathBuf,
    config: NetworkConfig,
}

impl StoredNetwork {
    /// What it is.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its addresses.
    pub fn leases(&self) -> Leases {
        Leases::new(self.dir.join(LEASES), self.dir.join(RECORD), &self.config)
    }

    /// The names of its pods.
    pub fn hosts(&self) -> HostsFile {
        HostsFile::at(self.dir.join(HOSTS))
    }
}
