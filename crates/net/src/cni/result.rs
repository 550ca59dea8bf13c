//! What plugins answer to ADD.
//!
//! The next plugin, CHECK and DEL get the answer as it was printed, so that raw
//! JSON is kept; this is what we ourselves understand of it, the same for all
//! versions, and checked: a wrong address would otherwise be believed for as long
//! as the pod lives.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::Version;

/// The network that a container got (section 5 of the specification).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Interfaces that were made, on both sides.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Settings for resolving names.
    pub dns: Dns,
}

/// An interface that was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; may be empty.
    pub mac: String,
    /// The container's network namespace, if it is in there; empty on the host.
    pub sandbox: String,
    /// Its MTU, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The socket of a device in user space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The PCI device that it is.
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ip {
    /// Which of the interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// With the length of its network.
    pub address: IpNet,
    /// The router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route in the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// By which router; without one by the interface's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path's MTU, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size that is advertised, in bytes.
    #[serde(rename = "advmss", default, skip_serializing_if = "Option::is_none")]
    pub adv_mss: Option<u32>,
    /// Lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// In which table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// As rtnetlink(7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Settings for resolving names, resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl CniResult {
    /// The addresses inside the container.
    pub fn addresses(&self) -> impl Iterator<Item = &IpNet> {
        let inside = |ip: &&Ip| ip.interface.is_none_or(|index| !self.interfaces[index].sandbox.is_empty());
        self.ips.iter().filter(inside).map(|ip| &ip.address)
    }

    /// The container's interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name && !interface.sandbox.is_empty())
    }

    /// What a plugin printed, as a value of the version that is spoken with all of
    /// the list, and what we understand of it. The error is a half sentence.
    pub(crate) fn parse(printed: &[u8], spoken: Version) -> Result<(Map<String, Value>, CniResult), String> {
        if printed.iter().all(u8::is_ascii_whitespace) {
            return Err("printed no result".to_owned());
        }
        let mut raw: Map<String, Value> =
            serde_json::from_slice(printed).map_err(|error| format!("printed a result that is not JSON: {error}"))?;
        if raw.contains_key("code") && raw.contains_key("msg") {
            return Err("ended with 0, but printed an error".to_owned());
        }
        // Plugins of the older library leave the version out of what they delegate.
        let version = match raw.get("cniVersion").and_then(Value::as_str) {
            None | Some("") => spoken,
            Some(name) => Version::known(name).ok_or_else(|| format!("printed a result of version {name:?}"))?,
        };
        raw.retain(|key, value| !(value.is_null() && key != "cniVersion"));
        raw.insert("cniVersion".into(), spoken.as_str().into());
        let result = CniResult::from_raw(&raw)?;
        convert(&mut raw, &result, version, spoken);
        Ok((raw, result))
    }

    /// What we understand of a result that was recorded.
    pub(crate) fn from_raw(raw: &Map<String, Value>) -> Result<CniResult, String> {
        let mut value = Value::Object(raw.clone());
        remove_nulls(&mut value);
        let result: CniResult =
            serde_json::from_value(value).map_err(|error| format!("printed a result that is wrong: {error}"))?;
        result.validate()?;
        Ok(result)
    }

    fn validate(&self) -> Result<(), String> {
        for interface in &self.interfaces {
            let odd = |c: char| c.is_whitespace() || c.is_control();
            if interface.name.is_empty() || interface.name.contains(odd) {
                return Err(format!("printed an interface without a good name: {:?}", interface.name));
            }
        }
        for ip in &self.ips {
            if let Some(index) = ip.interface.filter(|index| *index >= self.interfaces.len()) {
                let count = self.interfaces.len();
                return Err(format!("printed address {} on interface {index}, and there are {count}", ip.address));
            }
            if let Some(gateway) = ip.gateway.filter(|gateway| gateway.is_ipv4() != ip.address.addr().is_ipv4()) {
                return Err(format!("printed address {} with gateway {gateway} of the other family", ip.address));
            }
        }
        for route in &self.routes {
            if let Some(gw) = route.gw.filter(|gw| gw.is_ipv4() != route.dst.addr().is_ipv4()) {
                return Err(format!("printed a route to {} by {gw} of the other family", route.dst));
            }
        }
        let dns = &self.dns;
        let words = dns.nameservers.iter().chain(&dns.search).chain([&dns.domain]);
        match words.into_iter().find(|word| word.contains(|c: char| c.is_whitespace() || c.is_control())) {
            Some(word) => Err(format!("printed {word:?} for resolving names, which would be more than one word")),
            None => Ok(()),
        }
    }
}

/// What is null is as good as not there, which some plugins write for an empty list.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Between the versions only one thing has another form: an address said its
/// family until 1.0.0.
fn convert(raw: &mut Map<String, Value>, result: &CniResult, from: Version, to: Version) {
    if from.has_families() == to.has_families() {
        return;
    }
    let Some(Value::Array(ips)) = raw.get_mut("ips") else { return };
    for (ip, known) in ips.iter_mut().zip(&result.ips) {
        let Value::Object(ip) = ip else { continue };
        match to.has_families() {
            true => ip.insert("version".into(), if known.address.addr().is_ipv4() { "4" } else { "6" }.into()),
            false => ip.remove("version"),
        };
    }
}
