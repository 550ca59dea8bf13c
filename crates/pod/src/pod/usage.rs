//! What a pod and its containers use: one look, for `stats` and monitoring.
//!
//! What is not counted is `None`, never 0: a controller may be off, because
//! nothing is switched on to count, or bound to cgroup v1.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Pod;
use super::container::Container;
use crate::cgroup::stats::{self, Pressure, Stats};
use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::net_dev::{InterfaceStats, interfaces_of};
use crate::kernel::process_facts::age;
use crate::kernel::procfs::ProcessId;
use crate::spec::NamespaceMode;

/// What a pod uses.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct PodStats {
    /// Its name.
    pub name: String,
    /// All of it together, pause included. What goes through the network that its
    /// containers share is here.
    pub all: UsageStats,
    /// Its containers that run, by name.
    pub containers: Vec<ContainerStats>,
}

/// What a container uses.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ContainerStats {
    /// Its name.
    pub name: String,
    /// What it uses. Its network is its own, if it has one.
    pub all: UsageStats,
}

/// What all processes of something use.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct UsageStats {
    /// How long its first process has run.
    pub age: Duration,
    /// What its cgroup counts; `None` if it has none.
    pub cgroup: Option<Stats>,
    /// Whether its cgroup counts what is read from and written to disks: else
    /// [`Stats::io`] is empty for that.
    pub counts_io: bool,
    /// How much of it waited.
    pub pressure: Pressure,
    /// What has gone through the interfaces of its network namespace, loopback left out;
    /// `None` if that is another's.
    pub network: Option<BTreeMap<String, InterfaceStats>>,
}

impl UsageStats {
    fn of(first: ProcessId, cgroup: Option<&Path>, has_network: bool) -> Result<UsageStats> {
        let cgroup = cgroup.filter(|dir| dir.exists());
        Ok(UsageStats {
            age: age(first.start)?,
            cgroup: cgroup.map(stats::stats),
            counts_io: cgroup.is_some_and(stats::counts_io),
            pressure: cgroup.map(stats::pressure).unwrap_or_default(),
            network: if has_network { interfaces_of(first)? } else { None },
        })
    }
}

impl Pod {
    /// What it and its containers use now.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run; [`Error::Os`] if the kernel does not tell.
    pub fn stats(&self) -> Result<PodStats> {
        match self.started_anew()? {
            Some(pod) => pod.its_stats(),
            None => self.its_stats(),
        }
    }

    fn its_stats(&self) -> Result<PodStats> {
        let pause = self.pause.filter(|_| self.is_alive()).ok_or_else(|| self.dead())?;
        let cgroup = self.cgroup();
        let has_network = self.options().shares(Namespace::Net) && !self.options().host_network;
        let all = UsageStats::of(pause, cgroup.as_ref().map(|cgroup| cgroup.path()), has_network)?;
        let mut containers = Vec::new();
        for container in self.containers()? {
            match container.its_stats() {
                // It does not run, or was removed just now.
                Err(Error::State { .. } | Error::NotFound(_)) => {}
                stats => containers.push(stats?),
            }
        }
        Ok(PodStats { name: self.name().into(), all, containers })
    }
}

impl Container<'_> {
    /// What it uses now.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run; [`Error::NotFound`]; [`Error::Os`] if the
    /// kernel does not tell.
    pub fn stats(&self) -> Result<ContainerStats> {
        self.now(|it| it.its_stats())
    }

    fn its_stats(&self) -> Result<ContainerStats> {
        let record = self.record()?;
        let main = self.main_of(&record)?;
        let (pod, mode) = (self.pod.options(), record.container.net);
        let is_pods = mode == NamespaceMode::Pod && (pod.shares(Namespace::Net) || pod.host_network);
        let has_network = !is_pods && mode != NamespaceMode::Host;
        let all = UsageStats::of(main.process, self.cgroup().as_deref(), has_network)?;
        Ok(ContainerStats { name: self.name.clone(), all })
    }
}
