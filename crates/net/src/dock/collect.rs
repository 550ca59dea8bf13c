//! CNI networks as a whole: which there are, whether pods are still in them, and
//! the taking back of what is left of pods that are gone.

use pod::{Error, Pod, Result};
use serde::Serialize;

use super::records::{Kept, Key};
use crate::cni::{CheckReport, Conflist, Record, Survey};
use crate::files;
use crate::make::Notes;
use crate::networks::Networks;

/// A CNI network of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CniNetwork {
    /// As pods name it: `cni:NAME`.
    pub name: String,
    /// The types of its plugins, in the order of ADD.
    pub plugins: Vec<String>,
    /// The version of the specification that is spoken with them.
    pub cni_version: String,
    /// The pods of this store that are in it.
    pub pods: Vec<String>,
}

impl Networks {
    /// The machine's CNI networks, and what is wrong with configurations that are
    /// none.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn cni_networks(&self) -> Result<(Vec<CniNetwork>, Notes)> {
        let mut networks: Vec<CniNetwork> = Vec::new();
        let mut notes = Notes::default();
        let kept = self.own_records()?;
        for found in Conflist::list(&self.cni_dirs().configs)? {
            let list = match found.conflist {
                Ok(list) => list,
                Err(error) => {
                    notes.0.push(format!("no CNI network: {}: {error}", found.path.display()));
                    continue;
                }
            };
            let name = format!("{}{}", crate::record::CNI, list.name());
            if networks.iter().any(|before| before.name == name) {
                continue;
            }
            let of_it = kept.iter().filter(|kept| kept.record.network().name() == list.name());
            let mut pods: Vec<_> = of_it.map(|kept| kept.pod.clone()).collect();
            pods.dedup();
            let plugins = list.plugin_types().map(String::from).collect();
            networks.push(CniNetwork { name, plugins, cni_version: list.version().to_string(), pods });
        }
        Ok((networks, notes))
    }

    /// What the plugins of a pod's CNI networks say of it, for each network by its
    /// name with `cni:`.
    ///
    /// # Errors
    /// As [`attachment`](Networks::attachment), [`Error::Corrupt`] for a record,
    /// [`Error::Deadline`] if the pod is being put into networks or taken out. What
    /// a plugin finds wrong is a report.
    pub fn check_cni(&self, pod: &Pod) -> Result<Vec<(String, CheckReport)>> {
        let attachment = self.attachment(pod.name())?;
        let networks = attachment.iter().flat_map(|attachment| &attachment.networks);
        let mut reports = Vec::new();
        for network in networks {
            let Some(name) = network.cni() else { continue };
            let kept = self.records().read(&Key::new(name, pod.id(), &network.interface))?;
            let report = match kept.filter(|kept| kept.record.result().is_some()) {
                None => CheckReport::NotAsked("the pod is not in the network now: it has been stopped"),
                Some(kept) => self.runtime(&kept.plugins).check(&kept.record)?,
            };
            reports.push((network.name.clone(), report));
        }
        Ok(reports)
    }

    /// Has plugins take back what is left of this store's pods that are gone: by
    /// our own records first, and then, for networks which this store used, by GC,
    /// where they speak that. It tells what was taken back, and what could not be.
    ///
    /// # Errors
    /// What has nothing to do with plugins.
    pub fn collect_cni(&self) -> Result<Notes> {
        let mut notes = Notes::default();
        let mut networks: Vec<String> =
            self.own_records()?.iter().map(|kept| kept.record.network().name().into()).collect();
        networks.sort();
        networks.dedup();
        for name in networks {
            if let Err(error) = self.collect_one(&name, &mut notes) {
                let records = self.cni_dirs().records.display();
                let cure = format!("it is tried again each time, unless you remove its record from {records}");
                notes.0.push(format!("{error}; {cure}"));
            }
        }
        let dir = &self.cni_dirs().records;
        if !dir.exists() {
            // The one above it may be there alone, of a program that could make no more.
            // It is root's, and no harm where it stays.
            self.records().remove_dir().ok();
            return Ok(notes);
        }
        self.runtime(&[]).undisturbed(|| files::sweep_nameless(dir))?;
        if self.records().keys()?.is_empty() {
            self.runtime(&[]).remove_locks();
            self.records().remove_dir()?;
        }
        Ok(notes)
    }

    fn collect_one(&self, name: &str, notes: &mut Notes) -> Result<()> {
        let own = self.own_records()?.into_iter().filter(|kept| kept.record.network().name() == name);
        let mut stale = Vec::new();
        for kept in own {
            if self.is_stale(&kept)? {
                stale.push(kept);
            }
        }
        let mut store = |record: &Record| {
            let Some(kept) = stale.iter().find(|kept| kept.record.name() == record.name()) else { return Ok(()) };
            if record.is_gone() {
                self.cni_hosts(name).remove(&record.name().container_id)?;
                notes.0.push(format!("pod {} is gone, and has been taken out of CNI network {name}", kept.pod));
            }
            self.records().keep(&Kept { record: record.clone(), ..kept.clone() })
        };
        let dirs = stale.iter().flat_map(|kept| kept.plugins.clone()).collect::<Vec<_>>();
        let runtime = self.runtime(&dirs);
        match self.conflist(name) {
            Ok(list) => runtime.gc(&list, &mut || self.survey(name), &mut store),
            // It is configured no more: its records say how it was.
            Err(Error::NotFound(_)) => stale.iter().try_for_each(|kept| runtime.del(&kept.record, &mut store)),
            Err(error) => Err(error),
        }
    }

    /// What is known of a network, while nobody executes plugins.
    fn survey(&self, name: &str) -> Result<Survey> {
        let mut survey = Survey::default();
        for key in self.records().keys()?.into_iter().filter(|key| key.network == name) {
            match self.records().read(&key) {
                Ok(None) => {}
                Ok(Some(kept)) => {
                    if !self.is_stale(&kept)? {
                        survey.valid.push(key.attachment);
                    }
                    survey.records.push(kept.record);
                }
                // Perhaps it is in use.
                Err(_) => survey.valid.push(key.attachment),
            }
        }
        Ok(survey)
    }

    /// The records of this store's pods, as far as they can be read.
    fn own_records(&self) -> Result<Vec<Kept>> {
        let keys = self.records().keys()?;
        let read = keys.iter().filter_map(|key| self.records().read(key).ok().flatten());
        Ok(read.filter(|kept| kept.store == self.root()).collect())
    }

    /// Whether it is of a pod of this store that is gone.
    fn is_stale(&self, kept: &Kept) -> Result<bool> {
        if kept.store != self.root() {
            return Ok(false);
        }
        match Pod::open(self.store(), &kept.pod) {
            Ok(pod) => Ok(pod.id() != kept.record.attachment().container_id),
            Err(Error::NotFound(_)) => Ok(true),
            // What cannot be read may be the one.
            Err(_) => Ok(false),
        }
    }
}
