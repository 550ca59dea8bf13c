//! What a pod has of networks: in `<pod>/ext/net/`, where it is noted before it is
//! made.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pod::{Error, Pod, Result};
use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::files::{self, Lock, Sharing};
use crate::hosts::HostsFile;
use crate::lease::Holder;
use crate::names::AddHost;
use crate::nft::PortRule;
use crate::ports::PortMapping;
use crate::resolv::Resolver;

/// Whose directory in a pod's it is.
pub(crate) const OWNER: &str = "net";

/// What the name of a CNI network begins with, where networks are named.
pub(crate) const CNI: &str = "cni:";

/// What stands for pasta(1), an ordinary user's way out, where networks are named.
pub const PASTA: &str = "pasta";

const RECORD: &str = "attachment.json";
const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";
const LOCK: &str = ".lock";
/// What this build writes as the version of a record. It goes up when a build
/// before would misunderstand one.
const VERSION: u32 = 1;

/// Of what is asked of a pod that is in no network; `so` says what that comes to.
pub(crate) fn in_none(pod: &Pod, so: &str) -> Error {
    let state = match pod.options().host_network {
        true => "has the machine's own network: what its containers listen on, the machine does".into(),
        false => format!("is in no network: {so}"),
    };
    Error::state(format!("pod {}", pod.name()), state)
}

/// This crate's directory in that of a pod, in the store at `root`.
pub(crate) fn dir_of(root: &Path, pod: &str) -> PathBuf {
    root.join(pod).join("ext").join(OWNER)
}

/// What a pod has of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Attachment {
    version: u32,
    /// The networks it is in. The first has its default route, and its ports.
    pub networks: Vec<AttachedNetwork>,
    /// The machine's ports that lead to it.
    pub ports: Vec<PortMapping>,
    /// Whether they do now: not while the pod is stopped.
    pub published: bool,
    /// Names for it alone.
    #[serde(default)]
    pub add_hosts: Vec<AddHost>,
    /// What was said for its resolver, and always if others than podlet make its network:
    /// those tell more each time that it is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
    /// Kernel parameters of its interfaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
}

/// A network that a pod is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AttachedNetwork {
    /// The network's name; of a CNI network `cni:` and its name; [`PASTA`].
    pub name: String,
    /// The interface in the pod, such as `eth0`.
    pub interface: String,
    /// The machine's end of it, which is in the network's bridge. What a CNI plugin
    /// named as such, or nothing.
    pub host_interface: String,
    /// The hardware address in the pod, such as `0a:58:0a:59:00:02`.
    pub mac: String,
    /// The pod's addresses, with the lengths of the subnets' prefixes. None until
    /// they are leased, or as long as it is not in its CNI network.
    pub addresses: Vec<IpNet>,
    /// The bridge's addresses, or a CNI network's routers.
    pub gateways: Vec<IpAddr>,
    /// Names by which it is found on this network besides the pod's.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What was asked of a CNI network, or of pasta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// What is asked of a CNI network, or of pasta, each time that the pod is put into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Asked {
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// The hardware address.
    pub mac: Option<String>,
}

/// A pod, as its networks see it.
pub(crate) struct Attached<'a> {
    pub name: &'a str,
    pub id: &'a str,
    /// This crate's directory in the pod's.
    pub dir: &'a Path,
    pub hostname: &'a str,
}

impl Attached<'_> {
    pub fn holder(&self) -> Holder {
        Holder { pod: self.name.into(), id: self.id.into() }
    }
}

impl AttachedNetwork {
    /// Nothing of it is made yet.
    pub(crate) fn new(config: &NetworkConfig, nth: usize, pod_id: &str) -> AttachedNetwork {
        AttachedNetwork {
            name: config.name.clone(),
            interface: format!("eth{nth}"),
            // 15 bytes are what a link's name has.
            host_interface: format!("pod{}-{nth}", pod_id.get(..9).unwrap_or(pod_id)),
            mac: String::new(),
            addresses: Vec::new(),
            gateways: config.subnets.iter().map(|subnet| config.gateway(subnet)).collect(),
            aliases: Vec::new(),
            asked: None,
        }
    }

    /// The same of a network that others make, by its name: with `cni:`, or [`PASTA`].
    pub(crate) fn of_others(name: &str, nth: usize, asked: Asked) -> AttachedNetwork {
        AttachedNetwork {
            name: name.into(),
            interface: format!("eth{nth}"),
            host_interface: String::new(),
            mac: String::new(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            aliases: Vec::new(),
            asked: Some(asked),
        }
    }

    /// Whether it is the pod's first, which has its default route and its ports.
    pub(crate) fn is_first(&self) -> bool {
        self.interface == "eth0"
    }

    /// The name of the CNI network that it is; `None` of any other.
    pub fn cni(&self) -> Option<&str> {
        cni_name(&self.name)
    }

    /// Whether it is a network of podlet's own.
    pub(crate) fn is_own(&self) -> bool {
        self.cni().is_none() && self.name != PASTA
    }
}

/// The CNI network of `cni:NAME`.
pub(crate) fn cni_name(name: &str) -> Option<&str> {
    name.strip_prefix(CNI)
}

impl Attachment {
    pub(crate) fn new(networks: Vec<AttachedNetwork>, add_hosts: Vec<AddHost>) -> Attachment {
        let (ports, sysctls) = (Vec::new(), BTreeMap::new());
        Attachment { version: VERSION, networks, ports, published: false, add_hosts, resolver: None, sysctls }
    }

    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().flat_map(|network| network.addresses.iter().map(IpNet::addr))
    }

    /// Those of its networks that are our own.
    pub(crate) fn own(&self) -> impl Iterator<Item = &AttachedNetwork> {
        self.networks.iter().filter(|network| network.is_own())
    }

    /// The same without CNI networks, and without ports that their plugins make.
    pub(crate) fn without_cni(mut self) -> Attachment {
        if self.leaves_ports_to_plugins() {
            self.ports.clear();
        }
        self.networks.retain(|network| network.cni().is_none());
        self
    }

    /// Whether it is in a CNI network.
    pub(crate) fn has_cni(&self) -> bool {
        self.networks.iter().any(|network| network.cni().is_some())
    }

    /// Whether it has pasta for a network, and then no other.
    pub fn has_pasta(&self) -> bool {
        self.networks.iter().any(|network| network.name == PASTA)
    }

    /// Whether its ports are a CNI plugin's affair.
    pub(crate) fn leaves_ports_to_plugins(&self) -> bool {
        self.networks.first().is_some_and(|network| network.cni().is_some())
    }

    /// The rules for its ports, unless others have them lead there: of each family that a port is for and the pod has
    /// an address of in its first network.
    pub(crate) fn port_rules(&self, ports: &[PortMapping]) -> Vec<PortRule> {
        let first = self.networks.first().filter(|network| network.is_own());
        let addresses = first.map(|network| network.addresses.as_slice()).unwrap_or_default();
        let rules = ports.iter().flat_map(|port| addresses.iter().filter_map(|address| rule(port, address.addr())));
        rules.collect()
    }

    /// The same of ports that plugins make: as any address of a family decides which
    /// flows are theirs.
    pub(crate) fn port_rules_of_plugins(&self, ports: &[PortMapping]) -> Vec<PortRule> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let ports = ports.iter().filter(|_| self.leaves_ports_to_plugins());
        ports.flat_map(|port| any.iter().filter_map(|address| rule(port, *address))).collect()
    }

    /// Of the pod whose directory of this crate's that is; `None` if it is in no
    /// network.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`].
    pub(crate) fn read(dir: &Path) -> Result<Option<Attachment>> {
        /// What a record says first, whatever else it says.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let path = dir.join(RECORD);
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let Version { version } = files::from_json(&path, &bytes)?;
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
        files::from_json(&path, &bytes).map(Some)
    }

    /// Removes the record, the last of what a pod has.
    pub(crate) fn remove(dir: &Path) -> Result<()> {
        files::remove_file(&dir.join(RECORD))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(RECORD);
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|error| Error::failed(format!("writing {}", path.display()), error))?;
        files::write(&path, &json, 0o600)
    }

    /// The files that belong over those of an image: each with its place there.
    pub(crate) fn files(&self, dir: &Path, shared_hosts: Option<PathBuf>) -> Vec<(PathBuf, &'static str)> {
        let hosts = shared_hosts.unwrap_or_else(|| dir.join(HOSTS));
        vec![(hosts, "/etc/hosts"), (dir.join(RESOLV_CONF), "/etc/resolv.conf"), (dir.join(HOSTNAME), "/etc/hostname")]
    }

    /// Whether its names are those of its network's pods, no more and no less.
    pub(crate) fn shares_hosts(&self) -> bool {
        self.networks.len() == 1 && self.add_hosts.is_empty() && !self.has_pasta()
    }
}

fn rule(port: &PortMapping, pod_ip: IpAddr) -> Option<PortRule> {
    let is_of_family = port.host_ip.is_none_or(|ip| ip.is_ipv4() == pod_ip.is_ipv4());
    let PortMapping { host_ip, host, pod, protocol } = *port;
    is_of_family.then_some(PortRule { host_ip, protocol, host_port: host, pod_ip, pod_port: pod })
}

/// The names of a pod that has some of its own.
pub(crate) fn own_hosts(dir: &Path) -> HostsFile {
    HostsFile::at(dir.join(HOSTS))
}

/// That nobody else changes what a pod has of networks as long as it is there; `None`
/// if the pod is removed.
pub(crate) fn lock(dir: &Path) -> Result<Option<Lock>> {
    Lock::take(&dir.join(LOCK), Sharing::Exclusive)
}

/// The same if nobody has it now.
pub(crate) fn try_lock(dir: &Path) -> Option<Lock> {
    Lock::try_take(&dir.join(LOCK))
}

/// The host name that was written.
pub(crate) fn hostname(dir: &Path) -> Result<String> {
    let bytes = files::read(&dir.join(HOSTNAME))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
}

/// Writes what a pod's resolver is told.
pub(crate) fn write_resolver(dir: &Path, resolver: &Resolver) -> Result<()> {
    files::write(&dir.join(RESOLV_CONF), resolver.to_string().as_bytes(), 0o644)
}

/// Whether what [`write_names`] writes is there.
pub(crate) fn has_names(dir: &Path) -> bool {
    [RESOLV_CONF, HOSTNAME].iter().all(|name| dir.join(name).exists())
}

/// Writes what a pod's resolver is told, and the pod's host name.
pub(crate) fn write_names(dir: &Path, resolver: &Resolver, hostname: &str) -> Result<()> {
    write_resolver(dir, resolver)?;
    files::write(&dir.join(HOSTNAME), hostname.as_bytes(), 0o644)
}
