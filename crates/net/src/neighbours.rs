//! Hosts files of pods that have one for themselves: they learn who comes to their
//! networks and who goes, as the pods that share a network's file do by that.
//!
//! ```text
//!   a pod comes:   the network's file ─► its own file ─► those of the others
//!   another one at the same time finds the first in the network's file, or its
//!   own file is there already when the first looks for others
//! ```

use std::collections::HashSet;
use std::fs::File;

use pod::{Error, Result};

use crate::files;
use crate::hosts::{HostsEntry, HostsFile};
use crate::networks::Networks;
use crate::record;

impl Networks {
    /// The names of a network's pods. It is named as where a pod is made.
    pub(crate) fn hosts_of(&self, network: &str) -> HostsFile {
        match record::cni_name(network) {
            Some(name) => self.cni_hosts(name),
            None => self.network_hosts(network),
        }
    }

    /// Tells a pod's own file who is in a network.
    pub(crate) fn copy_names(&self, network: &str, own: &HostsFile) -> Result<()> {
        let hosts = self.hosts_of(network);
        let found = hosts.entries()?;
        own.add_all(&found.iter().map(|entry| beside(network, entry)).collect::<Vec<_>>())?;
        // Who went meanwhile may have looked for this file before it was there.
        let left: HashSet<_> = hosts.entries()?.into_iter().map(|entry| entry.id).collect();
        let gone = found.iter().filter(|entry| !left.contains(&entry.id));
        gone.map(|entry| own.remove(&id(network, &entry.id))).try_for_each(|removed| removed.map(drop))
    }

    /// Tells the own files of a network's pods that one is there.
    pub(crate) fn tell_neighbours(&self, network: &str, entry: &HostsEntry) -> Result<()> {
        self.own_files(network)?.iter().try_for_each(|own| match own.add(&beside(network, entry)) {
            // Removed just now, with its pod.
            Err(Error::NotFound(_)) => Ok(()),
            added => added,
        })
    }

    /// Tells the own files of a network's pods that one is gone.
    pub(crate) fn forget_at_neighbours(&self, network: &str, pod: &str) -> Result<()> {
        self.own_files(network)?.iter().try_for_each(|own| match own.remove(&id(network, pod)) {
            Err(Error::NotFound(_)) => Ok(()),
            removed => removed.map(drop),
        })
    }

    fn own_files(&self, network: &str) -> Result<Vec<HostsFile>> {
        let mut found = Vec::new();
        for pod in files::names_in(&self.own_hosts_of(network))? {
            let own = record::own_hosts(&record::dir_of(self.root(), &pod));
            // It is noted before it is made.
            if own.path().exists() {
                found.push(own);
            }
        }
        Ok(found)
    }

    /// Notes that a pod of a network has a file of its own, or is about to.
    pub(crate) fn note_own(&self, network: &str, pod: &str) -> Result<()> {
        let path = self.own_hosts_of(network).join(pod);
        files::make_private(&self.own_hosts_of(network))?;
        File::create(&path).map(drop).map_err(|error| Error::failed(format!("making {}", path.display()), error))
    }

    /// Forgets that. Its directory goes with the network.
    pub(crate) fn forget_own(&self, network: &str, pod: &str) -> Result<()> {
        files::remove_file(&self.own_hosts_of(network).join(pod))
    }
}

/// Who is in two of a file's networks has an entry for each.
fn id(network: &str, pod: &str) -> String {
    format!("{pod}-{network}")
}

fn beside(network: &str, entry: &HostsEntry) -> HostsEntry {
    HostsEntry { id: id(network, &entry.id), ..entry.clone() }
}
