//! Addresses of a network, each held by one pod at a time.
//!
//! A lease is a file with the address as its name and the holder in it. It gets
//! its name by link(2), complete, and only if nobody has that name: so whoever
//! has the file has the address, however many ask at once. They share a lock,
//! which only those want alone who take leases away: a file that was read as that
//! of a dead pod is still the same one when it is removed.
//!
//! Addresses are handed out in turn: what the kernel still knows of the flows of
//! a pod that is gone should not meet another one. Whose turn it is stands in a
//! file. If some after that are held, too, the directory is listed and the next
//! that is free is taken: nobody is refused while there is one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::config::{List, NetworkConfig};
use crate::files::{self, Lock, Sharing};

mod range;
#[cfg(test)]
mod tests;

use range::Range;

/// Shared by those who take leases, exclusive for those who take them away.
const LOCK: &str = ".lock";

/// How many turns are tried before the directory is listed.
const TURNS: usize = 16;

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The pod's name, for people.
    pub pod: String,
    /// The pod's id, which no other pod has.
    pub id: String,
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub holder: Holder,
}

/// The leases of one network.
///
/// Nothing tells of a pod that is gone but [`Leases::reclaim`]: note a pod where it
/// finds it before you take an address for it.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
    /// Its network's record: without it there is no network to take from.
    record: PathBuf,
    network: String,
    ranges: Vec<Range>,
}

impl Leases {
    pub(crate) fn new(dir: PathBuf, record: PathBuf, config: &NetworkConfig) -> Leases {
        let range = |subnet: &IpNet| Range::new(*subnet, config.gateway(subnet));
        let ranges = config.subnets.iter().map(range).collect();
        Leases { dir, record, network: config.name.clone(), ranges }
    }

    /// Of a network whose record cannot be read: nothing can be taken.
    pub(crate) fn of_unknown(dir: PathBuf, record: PathBuf, network: &str) -> Leases {
        Leases { dir, record, network: network.into(), ranges: Vec::new() }
    }

    /// Takes an address of each of the network's subnets, the one in `wanted` if
    /// that has one in it, and gives them in the subnets' order. The IPv6 address
    /// has the number of the IPv4 one in its subnet if that is free, so that they
    /// look alike. A wanted address that the holder has is had already.
    ///
    /// # Errors
    /// Nothing is held by them that was not before. [`Error::Invalid`] for a wanted
    /// address that is in none of the subnets, that no pod can have, or that
    /// another pod has; [`Error::State`] if a subnet is full; [`Error::NotFound`]
    /// if the network was removed.
    pub fn take(&self, wanted: &[IpAddr], holder: &Holder) -> Result<Vec<IpAddr>> {
        let wanted = self.sort_wanted(wanted)?;
        let _lock = self.lock(Sharing::Shared)?;
        let json = serde_json::to_vec(holder).map_err(|error| Error::failed("writing a lease", error))?;
        let file = files::nameless(&self.dir, &json)?;
        let mut taken = Taken { leases: self, addresses: Vec::new() };
        // What is wanted first: the others are to look like it.
        for ip in wanted.iter().flatten() {
            self.take_wanted(*ip, holder, file.path(), &mut taken)?;
        }
        let mut alike = self.ranges.iter().zip(&wanted).find_map(|(range, ip)| range.number(*ip.as_ref()?));
        let mut addresses = Vec::new();
        for (range, ip) in self.ranges.iter().zip(&wanted) {
            let ip = match ip {
                Some(ip) => *ip,
                None => self.take_any(range, alike, file.path(), &mut taken)?,
            };
            alike = alike.or_else(|| range.number(ip));
            addresses.push(ip);
        }
        taken.addresses.clear();
        Ok(addresses)
    }

    /// What is wanted of each range.
    fn sort_wanted(&self, wanted: &[IpAddr]) -> Result<Vec<Option<IpAddr>>> {
        let mut sorted = vec![None; self.ranges.len()];
        for ip in wanted {
            let Some(at) = self.ranges.iter().position(|range| range.subnet.contains(ip)) else {
                let subnets: Vec<_> = self.ranges.iter().map(|range| range.subnet).collect();
                let reason = format!("not in network {} ({}): give an address of it", self.network, List(&subnets));
                return Err(Error::invalid(field(*ip), ip.to_string(), reason));
            };
            self.ranges[at].check(*ip)?;
            if let Some(before) = sorted[at].replace(*ip) {
                let reason = format!("{before} is wanted, too: a pod has one address of {}", self.ranges[at].subnet);
                return Err(Error::invalid(field(*ip), ip.to_string(), reason));
            }
        }
        Ok(sorted)
    }

    fn take_wanted(&self, ip: IpAddr, holder: &Holder, file: &Path, taken: &mut Taken<'_>) -> Result<()> {
        // Whoever has it may give it back between two looks.
        while !taken.link(file, ip)? {
            let Some(other) = self.holder(ip)? else { continue };
            if other.id == holder.id {
                return Ok(());
            }
            let reason = format!("pod {} has it: give another address of network {}, or none", other.pod, self.network);
            return Err(Error::invalid(field(ip), ip.to_string(), reason));
        }
        Ok(())
    }

    fn take_any(&self, range: &Range, alike: Option<u128>, file: &Path, taken: &mut Taken<'_>) -> Result<IpAddr> {
        if let Some(ip) = alike.and_then(|number| range.with_number(number))
            && taken.link(file, ip)?
        {
            return Ok(ip);
        }
        let mut turn = 0;
        for _ in 0..TURNS {
            turn = self.next_turn(range)?;
            let ip = range.at(turn);
            if taken.link(file, ip)? {
                return Ok(ip);
            }
        }
        loop {
            let held: HashSet<IpAddr> = self.addresses()?.into_iter().collect();
            let mut free = range.from(turn).filter(|ip| !held.contains(ip)).peekable();
            if free.peek().is_none() {
                let state = format!(
                    "is full: pods have all {} addresses of {}; remove some, or make a network with a larger subnet",
                    range.count(),
                    range.subnet
                );
                return Err(Error::state(format!("network {}", self.network), state));
            }
            // Others may take them meanwhile, as many as are running.
            for ip in free.take(TURNS) {
                if taken.link(file, ip)? {
                    return Ok(ip);
                }
            }
        }
    }

    /// Whose turn it is, and after this call the next one's. No two get the same, so
    /// that those who ask at once do not ask for the same address.
    fn next_turn(&self, range: &Range) -> Result<u128> {
        let path = self.dir.join(if range.subnet.addr().is_ipv4() { ".next4" } else { ".next6" });
        let count = || {
            let mut options = File::options();
            let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.lock()?;
            let mut text = String::new();
            // What cannot be read begins anew: it is nothing but a good place to
            // begin.
            let _ = (&mut file).take(64).read_to_string(&mut text);
            let turn = text.trim().parse().unwrap_or(0) % range.count();
            // Always as long, so that it is overwritten whole.
            file.write_all_at(format!("{:040}\n", turn + 1).as_bytes(), 0)?;
            Ok(turn)
        };
        count().map_err(|error: std::io::Error| Error::failed(format!("writing {}", path.display()), error))
    }

    /// Gives back those of the addresses that the pod with this id has. This is as
    /// fast with many leases as with few.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Corrupt`]; none for what is given back already.
    pub fn give_back_these(&self, addresses: &[IpAddr], id: &str) -> Result<()> {
        let Some(_lock) = Lock::take(&self.dir.join(LOCK), Sharing::Exclusive)? else { return Ok(()) };
        for ip in addresses {
            if self.holder(*ip)?.is_some_and(|holder| holder.id == id) {
                files::remove_file(&self.path(*ip))?;
            }
        }
        Ok(())
    }

    /// Gives back all that the pod with this id has, and tells which. Every lease is
    /// read for it: [`Leases::give_back_these`] is for who knows them.
    ///
    /// # Errors
    /// As there.
    pub fn give_back(&self, id: &str) -> Result<Vec<IpAddr>> {
        let leases = self.holders()?.into_iter().filter(|lease| lease.holder.id == id);
        let addresses: Vec<_> = leases.map(|lease| lease.address).collect();
        self.give_back_these(&addresses, id)?;
        Ok(addresses)
    }

    /// All addresses that are held, in their order. What else is in the directory is
    /// none of ours.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Corrupt`].
    pub fn holders(&self) -> Result<Vec<Lease>> {
        let lease = |address| Ok(self.holder(address)?.map(|holder| Lease { address, holder }));
        self.addresses()?.into_iter().filter_map(|address| lease(address).transpose()).collect()
    }

    /// Gives back what pods have that are gone: those of which `alive` says so. It
    /// is asked without a lock held, and may take its time. What was given back is
    /// told.
    ///
    /// # Errors
    /// As [`Leases::holders`].
    pub fn reclaim(&self, alive: impl Fn(&Holder) -> bool) -> Result<Vec<Lease>> {
        let mut leases = self.holders()?;
        leases.retain(|lease| !alive(&lease.holder));
        for lease in &leases {
            self.give_back_these(&[lease.address], &lease.holder.id)?;
        }
        // Nobody is in the middle of taking one who has the lock alone.
        if let Some(_lock) = Lock::try_take(&self.dir.join(LOCK)) {
            files::sweep_nameless(&self.dir)?;
        }
        Ok(leases)
    }

    /// Holds up everybody who wants to take one, and removes the leases' directory
    /// and, before it, the network's record.
    ///
    /// # Errors
    /// [`Error::State`] with the pods that hold leases; nothing is removed then.
    pub(crate) fn remove(&self) -> Result<()> {
        let lock = Lock::take(&self.dir.join(LOCK), Sharing::Exclusive)?;
        let mut pods: Vec<_> = self.holders()?.into_iter().map(|lease| lease.holder.pod).collect();
        pods.sort();
        pods.dedup();
        if !pods.is_empty() {
            let which = if pods.len() == 1 { "pod" } else { "pods" };
            let state = format!("is used by {which} {}: remove them first", List(&pods));
            return Err(Error::state(format!("network {}", self.network), state));
        }
        files::remove_file(&self.record)?;
        files::sweep_nameless(&self.dir)?;
        [".next4", ".next6", LOCK].iter().try_for_each(|name| files::remove_file(&self.dir.join(name)))?;
        drop(lock);
        files::remove_empty_dir(&self.dir)
    }

    /// Removes the leases, and then all else, of a network that has no record.
    pub(crate) fn sweep(&self) -> Result<()> {
        self.addresses()?.iter().try_for_each(|ip| files::remove_file(&self.path(*ip)))?;
        self.remove()
    }

    fn lock(&self, sharing: Sharing) -> Result<Lock> {
        let lock = Lock::take(&self.dir.join(LOCK), sharing)?;
        // It is removed under the lock, so it is there as long as this one is held.
        lock.filter(|_| self.record.exists()).ok_or_else(|| Error::NotFound(format!("network {}", self.network)))
    }

    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let names = files::names_in(&self.dir)?;
        let mut addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
        addresses.sort();
        Ok(addresses)
    }

    fn holder(&self, ip: IpAddr) -> Result<Option<Holder>> {
        files::read_json(&self.path(ip))
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(ip.to_string())
    }
}

/// As the user spells an address that is wanted.
fn field(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip" } else { "ip6" }
}

/// What one call has taken; it goes back if the call fails.
struct Taken<'a> {
    leases: &'a Leases,
    addresses: Vec<IpAddr>,
}

impl Taken<'_> {
    /// Whether the address was free, and is taken now.
    fn link(&mut self, file: &Path, ip: IpAddr) -> Result<bool> {
        let path = self.leases.path(ip);
        match fs::hard_link(file, &path) {
            Ok(()) => self.addresses.push(ip),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::failed(format!("writing {}", path.display()), error)),
        }
        Ok(true)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for ip in &self.addresses {
            // What stays is reclaimed with its pod.
            let _ = fs::remove_file(self.leases.path(*ip));
        }
    }
}
