//! What a pod is to be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::CgroupManager;
use super::check::{check_hostname, check_maps};
use super::sysctl;
use super::text::{check_name, check_notes};
use crate::error::{Error, Result};
use crate::kernel::idmap::IdMap;
use crate::kernel::namespace::Namespace;
use crate::resources::Resources;

/// Offsets of a time namespace's clocks (time_namespaces(7)).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Added to CLOCK_MONOTONIC, in seconds.
    pub monotonic: i64,
    /// Added to CLOCK_BOOTTIME, in seconds.
    pub boottime: i64,
    /// Added to CLOCK_MONOTONIC besides, in nanoseconds, below 10⁹.
    #[serde(default)]
    pub monotonic_nanos: u32,
    /// Added to CLOCK_BOOTTIME besides, in nanoseconds, below 10⁹.
    #[serde(default)]
    pub boottime_nanos: u32,
}

/// The options of a `/dev/shm` of this many bytes (tmpfs(5)).
pub(crate) fn shm_options(size: Option<u64>) -> String {
    match size {
        None => "mode=1777,size=65536k".into(),
        Some(bytes) => format!("mode=1777,size={bytes}"),
    }
}

impl TimeOffsets {
    /// As `/proc/<pid>/timens_offsets` takes them.
    pub fn text(&self) -> String {
        let TimeOffsets { monotonic, boottime, monotonic_nanos, boottime_nanos } = self;
        format!("monotonic {monotonic} {monotonic_nanos}\nboottime {boottime} {boottime_nanos}\n")
    }
}

/// What a pod is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PodOptions {
    /// Unique in its [`Store`](crate::Store).
    pub name: String,
    /// What its containers share. Default: net, pid, ipc, uts.
    pub share: BTreeSet<Namespace>,
    /// Its containers are in the machine's network namespace, but for those that say
    /// otherwise. Not with [`Namespace::Net`] among what they share. As CRI's pods
    /// with NODE for network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// Host name inside; the pod's name if not given.
    pub hostname: Option<String>,
    /// With [`Namespace::User`]: user ids. If empty, an ordinary user's pod
    /// gets what that user may have (`/etc/subuid`).
    pub uid_maps: Vec<IdMap>,
    /// With [`Namespace::User`]: group ids.
    pub gid_maps: Vec<IdMap>,
    /// With [`Namespace::Time`].
    pub time_offsets: TimeOffsets,
    /// pause ends, and with it the pod, when the last container has ended.
    pub end_with_last: bool,
    /// A dead pod's records are removed by the next sweep: see
    /// [`Pod::sweep`](crate::Pod::sweep).
    pub remove_when_dead: bool,
    /// pause is a child of the program that makes the pod, which reaps it when
    /// it ends the pod through this library. Else pause is left to the nearest
    /// subreaper (PR_SET_CHILD_SUBREAPER(2const)), also as a zombie in the end.
    #[serde(skip)]
    pub pause_is_child: bool,
    /// With [`Namespace::Ipc`]: how much its `/dev/shm` holds, in bytes; 0 for as
    /// much as there is, 64 MiB if not said.
    #[serde(default)]
    pub shm_size: Option<u64>,
    /// With [`Namespace::Uts`]: domain name inside (setdomainname(2)).
    #[serde(default)]
    pub domainname: Option<String>,
    /// Kernel parameters of the namespaces that are shared:
    /// `net.ipv4.ip_forward` to `1`.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// What all of it together may use, pause included.
    #[serde(default)]
    pub resources: Resources,
    /// Who makes its cgroup. With systemd it is that of the scope
    /// `podlet-<name>-<id>.scope`, all of the pod is in there, and annotations
    /// `org.systemd.property.*` are properties of it.
    #[serde(default, skip_serializing_if = "CgroupManager::is_cgroupfs")]
    pub cgroup_manager: CgroupManager,
    /// What tools find and group it by: names to values, for programs and
    /// people; podlet itself gives them no meaning.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What tools note on it, names to values; nothing is found by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl PodOptions {
    /// A pod that shares net, pid, ipc and uts.
    pub fn new(name: impl Into<String>) -> PodOptions {
        PodOptions {
            name: name.into(),
            share: [Namespace::Net, Namespace::Pid, Namespace::Ipc, Namespace::Uts].into(),
            host_network: false,
            hostname: None,
            uid_maps: Vec::new(),
            gid_maps: Vec::new(),
            time_offsets: TimeOffsets::default(),
            end_with_last: false,
            remove_when_dead: false,
            pause_is_child: false,
            shm_size: None,
            domainname: None,
            sysctl: BTreeMap::new(),
            resources: Resources::default(),
            cgroup_manager: CgroupManager::Cgroupfs,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Shares exactly these.
    #[must_use]
    pub fn share(mut self, namespaces: impl IntoIterator<Item = Namespace>) -> PodOptions {
        self.share = namespaces.into_iter().collect();
        self
    }

    /// Has its containers in the machine's network namespace.
    #[must_use]
    pub fn host_network(mut self) -> PodOptions {
        self.share.remove(&Namespace::Net);
        self.host_network = true;
        self
    }

    /// Adds a label, or changes its value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> PodOptions {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds an annotation, or changes its value.
    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> PodOptions {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Sets how much its `/dev/shm` holds, in bytes; 0 for as much as there is.
    #[must_use]
    pub fn shm_size(mut self, bytes: u64) -> PodOptions {
        self.shm_size = Some(bytes);
        self
    }

    /// Sets the host name inside.
    #[must_use]
    pub fn hostname(mut self, name: impl Into<String>) -> PodOptions {
        self.hostname = Some(name.into());
        self
    }

    /// The host name inside.
    pub fn effective_hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.name)
    }

    /// The domain name inside, if one is set: a kernel parameter, too, and set
    /// as such last.
    pub fn effective_domainname(&self) -> Option<&str> {
        let parameter = |name: &str| self.sysctl.get(name).map(String::as_str);
        parameter("kernel.domainname").or(parameter("kernel/domainname")).or(self.domainname.as_deref())
    }

    /// Whether containers share this namespace.
    pub fn shares(&self, namespace: Namespace) -> bool {
        self.share.contains(&namespace)
    }

    /// # Errors
    /// [`Error::Invalid`] for what cannot be.
    pub fn check(&self) -> Result<()> {
        check_name("pod", &self.name)?;
        check_hostname("hostname", self.effective_hostname())?;
        if let Some(domainname) = &self.domainname {
            check_hostname("domainname", domainname)?;
            if !self.shares(Namespace::Uts) {
                return Err(Error::invalid("domainname", domainname, "needs a uts namespace: add `uts` to --share"));
            }
        }
        if let Some(bytes) = self.shm_size.filter(|_| !self.shares(Namespace::Ipc)) {
            let reason = "its containers have a /dev/shm each: add `ipc` to --share";
            return Err(Error::invalid("shm_size", bytes.to_string(), reason));
        }
        if self.host_network && self.shares(Namespace::Net) {
            let reason = "its network namespace is the machine's: take `net` out of --share";
            return Err(Error::invalid("share", "net", reason));
        }
        sysctl::check_sysctls(&self.sysctl)?;
        for name in self.sysctl.keys() {
            let namespace = sysctl::parse(name)?.namespace;
            if self.host_network && namespace == Namespace::Net {
                return Err(Error::invalid("sysctl", name, "the pod's net namespace is the machine's: set it there"));
            }
            if !self.shares(namespace) {
                let kind = namespace.name();
                let reason = format!("the pod has no {kind} namespace: add `{kind}` to --share");
                return Err(Error::invalid("sysctl", name, reason));
            }
        }
        let no_maps = self.uid_maps.is_empty() && self.gid_maps.is_empty();
        if !self.shares(Namespace::User) && !no_maps {
            return Err(Error::invalid("uidmap", "", "id maps need a user namespace: add `user` to --share"));
        }
        if self.uid_maps.is_empty() != self.gid_maps.is_empty() {
            return Err(Error::invalid("uidmap", "", "give --uidmap and --gidmap together"));
        }
        for (field, maps) in [("uidmap", &self.uid_maps), ("gidmap", &self.gid_maps)] {
            check_maps(field, maps)?;
        }
        if !self.shares(Namespace::Time) && self.time_offsets != TimeOffsets::default() {
            return Err(Error::invalid(
                "monotonic-offset or boottime-offset",
                "",
                "offsets need a time namespace: add `time` to --share",
            ));
        }
        let TimeOffsets { monotonic_nanos, boottime_nanos, .. } = self.time_offsets;
        if let Some(nanos) = [monotonic_nanos, boottime_nanos].into_iter().find(|nanos| *nanos >= 1_000_000_000) {
            return Err(Error::invalid("time offset", nanos.to_string(), "nanoseconds: at most 999999999"));
        }
        check_notes(&self.labels, &self.annotations)?;
        self.resources.check()
    }
}
