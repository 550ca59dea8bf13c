//! Which of the machine's links forward packets to pods and from them, and that they
//! do so for pods alone.
//!
//! Whether a packet is sent on is a matter of the link that it came in by
//! (ip-sysctl, `forwarding`). Those that others reach this machine by have to, and so
//! the machine would become a router between them. What podlet switched on is noted,
//! before it is, and rules of the firewall stop what has nothing to do with pods
//! (`nft::Guard`). A link that somebody else had switched on is left as it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::machine::OuterLink;
use crate::nft::Guard;
use crate::setting::Setting;

/// What this build writes as the version of a record. It goes up when a build
/// before would misunderstand one.
const VERSION: u32 = 1;

/// That links send on what is of IPv4.
pub(crate) fn of_ipv4(links: &[OuterLink]) -> impl Iterator<Item = Setting> {
    links.iter().filter(|link| link.ipv4).map(|link| of_ipv4_by(&link.name))
}

fn of_ipv4_by(link: &str) -> Setting {
    Setting::of_link("ipv4", link, "forwarding", "1")
}

/// IPv6 is sent on by all links or none (`net.ipv6.conf.all.forwarding`), but on
/// new kernels by some, too. Where it is switched on for all, a link that
/// learns its routes from routers has to be told that it goes on doing so.
pub(crate) fn of_ipv6(bridge: &str, links: &[OuterLink]) -> Vec<Setting> {
    let all = of_ipv6_by_all();
    if all.is_so() {
        return Vec::new();
    }
    let names = links.iter().filter(|link| link.ipv6).map(|link| link.name.as_str());
    if knows_links() {
        return [bridge].into_iter().chain(names).map(of_ipv6_by).collect();
    }
    let learns = |link: &&str| Setting::of_link("ipv6", link, "accept_ra", "1").is_so();
    let learning = names.filter(learns).map(|link| Setting::of_link("ipv6", link, "accept_ra", "2"));
    learning.chain([all]).collect()
}

/// The same for a tunnel's end, where that can be said of one link.
pub(crate) fn of_tunnel(link: &str) -> Option<Setting> {
    knows_links().then(|| of_ipv6_by(link))
}

fn of_ipv6_by(link: &str) -> Setting {
    Setting::of_link("ipv6", link, "force_forwarding", "1")
}

fn of_ipv6_by_all() -> Setting {
    Setting::of_link("ipv6", "all", "forwarding", "1")
}

/// Whether this kernel can have some links alone send on what is of IPv6 (Linux 6.17).
fn knows_links() -> bool {
    of_ipv6_by("all").is_known()
}

/// What is noted: the machine's links, and which of them podlet had forward.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forwarding {
    version: u32,
    /// Of which boot, and of which network namespace.
    place: String,
    links: Vec<Noted>,
    /// Whether podlet had all links forward IPv6, on a kernel that has no other way.
    all_ipv6: bool,
}

/// A link of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    /// By it a later link of the same name is not taken for this one.
    index: u32,
    name: String,
    is_way: bool,
    /// Whether podlet had it forward IPv4.
    ipv4: bool,
    /// The same of IPv6.
    ipv6: bool,
}

impl Forwarding {
    /// What was noted here; nothing of another boot or namespace.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`], [`Error::Os`].
    pub(crate) fn read(path: &Path) -> Result<Forwarding> {
        /// What a record says first, whatever else it says.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let empty = Forwarding { version: VERSION, place: place()?, ..Forwarding::default() };
        let Some(bytes) = files::read(path)? else { return Ok(empty) };
        let Version { version } = files::from_json(path, &bytes)?;
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
        let read: Forwarding = files::from_json(path, &bytes)?;
        Ok(if read.place == empty.place { read } else { empty })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|error| Error::failed(format!("writing {}", path.display()), error))?;
        files::write(path, &json, 0o600)
    }

    /// What is to be noted once these settings are made, of the links that there are.
    pub(crate) fn after(&self, links: &[OuterLink], unset: &[Setting]) -> Forwarding {
        let note = |link: &OuterLink| {
            let before = self.links.iter().find(|noted| noted.index == link.index && noted.name == link.name);
            let is_ours = |setting, was: fn(&Noted) -> bool| unset.contains(&setting) || before.is_some_and(was);
            Noted {
                index: link.index,
                name: link.name.clone(),
                is_way: link.is_way || before.is_some_and(|noted| noted.is_way),
                ipv4: is_ours(of_ipv4_by(&link.name), |noted| noted.ipv4),
                ipv6: is_ours(of_ipv6_by(&link.name), |noted| noted.ipv6),
            }
        };
        let links = links.iter().map(note).collect();
        let all_ipv6 = self.all_ipv6 || unset.contains(&of_ipv6_by_all());
        Forwarding { version: VERSION, place: self.place.clone(), links, all_ipv6 }
    }

    /// Whom rules keep from being routers. Where somebody has the whole machine be one
    /// by now, nobody.
    pub(crate) fn guard(&self) -> Guard {
        let names = |is: fn(&Noted) -> bool| {
            self.links.iter().filter(|link| is(link)).map(|link| link.name.clone()).collect::<Vec<_>>()
        };
        let ipv4 = if Setting::of_link("ipv4", "all", "forwarding", "1").is_so() {
            Vec::new()
        } else {
            names(|link| link.ipv4)
        };
        let ipv6 = match (self.all_ipv6, of_ipv6_by_all().is_so()) {
            (true, _) => names(|_| true),
            (false, true) => Vec::new(),
            (false, false) => names(|link| link.ipv6),
        };
        Guard { outer: names(|_| true), ways: names(|link| link.is_way), ipv4, ipv6 }
    }

    /// What is to be taken back of what podlet switched on, so that without rules no
    /// link forwards for others: nothing that somebody else has switched on by now.
    pub(crate) fn undo(&self) -> Vec<Setting> {
        let Guard { ipv4, ipv6, .. } = self.guard();
        let off = |family, name| move |link: &String| Setting::of_link(family, link, name, "0");
        let ipv6 = if self.all_ipv6 { Vec::new() } else { ipv6 };
        ipv4.iter().map(off("ipv4", "forwarding")).chain(ipv6.iter().map(off("ipv6", "force_forwarding"))).collect()
    }
}

/// The boot, whose links have these indices, and the caller's network namespace.
fn place() -> Result<String> {
    let failed = |error| Error::failed("asking which network namespace this is", error);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(failed)?;
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(failed)?.ino();
    Ok(format!("{} {namespace}", boot.trim()))
}
