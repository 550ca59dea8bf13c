//! What the kernel has of a store's networks: bridges, and one table of the
//! firewall for all of them. It can be made anew from the records at any time.

use std::collections::HashSet;
use std::path::Path;

use netlink::{Family, Socket};
use nix::errno::Errno;
use pod::{Error, Result};

use crate::bridge::{self, Plan};
use crate::config::NetworkConfig;
use crate::files;
use crate::forwarding::{self, Forwarding};
use crate::lease::Holder;
use crate::machine::{self, Machine, OWN_ALIAS, OuterLink};
use crate::networks::{Changing, Networks, StoredNetwork};
use crate::nft::{self, NetworkRules, PortRule};
use crate::peers;
use crate::registry::Taking;
use crate::route;
use crate::setting::Setting;
use crate::step::{self, Step, refused};

/// What was switched on for the whole machine, for the user to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Notes(pub Vec<String>);

/// The table of the store at `root`: two stores know nothing of each other.
pub(crate) fn table_name(root: &Path) -> String {
    if root == Path::new("/run/podlet") {
        return "podlet".into();
    }
    // FNV-1a, which is the same in every build.
    let hash = root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("podlet-{:08x}", hash as u32)
}

pub(crate) fn open(family: Family) -> Result<Socket> {
    Socket::open(family).map_err(refused)
}

impl Networks {
    /// What the table of the firewall is called that has the rules of this store's
    /// networks, of the family `inet`.
    pub fn table_name(&self) -> String {
        table_name(self.root())
    }

    /// Makes what the kernel should have of a network, as far as it is missing, so
    /// that pods can be attached.
    ///
    /// # Errors
    /// [`Error::State`] if a link with the bridge's name is somebody else's;
    /// [`Error::Invalid`] for a peer that cannot be reached as it should be;
    /// [`Error::Os`] with what could not be done: EPERM without CAP_NET_ADMIN in the
    /// caller's network namespace.
    pub fn make(&self, _: &Changing, network: &StoredNetwork) -> Result<Notes> {
        let mut socket = open(Family::Route)?;
        let machine = Machine::look(&mut socket)?;
        let plan = self.plan(network, &machine);
        let mut steps = plan.steps()?;
        peers::check(network.config(), &machine, &mut socket)?;
        // Last of all, and after the rules: see `bridge`.
        let up = steps.pop();
        step::perform(&mut socket, &steps)?;
        let registry = self.registry()?;
        let taking = registry.taking()?;
        let notes = match network.config().internal {
            true => self.rebuild_table(&taking).map(|()| Notes::default())?,
            false => self.forward(&taking, network.config(), &plan.outer(), &plan.forwarding())?,
        };
        step::perform(&mut socket, up.as_slice())?;
        Ok(notes)
    }

    /// Makes these settings, by which the machine's links forward for pods, once it is
    /// noted that they are podlet's, and rules keep the links from forwarding for
    /// others.
    fn forward(
        &self,
        taking: &Taking<'_>,
        network: &NetworkConfig,
        links: &[OuterLink],
        unset: &[Setting],
    ) -> Result<Notes> {
        let path = self.forwarding_path();
        let before = Forwarding::read(&path)?;
        let after = before.after(links, unset);
        if after != before {
            after.write(&path)?;
        }
        self.rebuild_table(taking)?;
        // Links may go at any time.
        let there: Vec<_> = unset.iter().filter(|setting| setting.is_known()).collect();
        there.iter().try_for_each(|setting| setting.set())?;
        let note = |setting| format!("{setting} is set, so that packets get to pods and from them, and nowhere else");
        // What is the bridge's own goes with it.
        let stays = there.into_iter().filter(|setting| !setting.is_of_link(&network.bridge));
        Ok(Notes(stays.map(note).collect()))
    }

    /// Has links forward to a pod's ports that others reach the machine by since its
    /// network was made.
    pub(crate) fn forward_to_ports(&self, taking: &Taking<'_>, network: &NetworkConfig) -> Result<Notes> {
        if network.internal {
            return Ok(Notes::default());
        }
        let links = machine::outer_links(&mut open(Family::Route)?)?;
        let (v4, v6) = network.families();
        let of_v4 = forwarding::of_ipv4(&links).filter(|_| v4.is_some());
        let of_v6 = if v6.is_some() { forwarding::of_ipv6(&network.bridge, &links) } else { Vec::new() };
        let unset: Vec<_> = of_v4.chain(of_v6).filter(|setting| !setting.is_so()).collect();
        if unset.is_empty() {
            return Ok(Notes::default());
        }
        self.forward(taking, network, &links, &unset)
    }

    /// Without networks no link forwards for pods, and there are no rules that would
    /// keep it from doing so for others. Another store's pods may rely on it.
    fn forward_no_more(&self) -> Result<()> {
        let path = self.forwarding_path();
        let mut socket = open(Family::Route)?;
        let is_bridge = |link: &route::Link| link.alias.as_ref().is_some_and(|alias| alias.starts_with(OWN_ALIAS));
        if !route::links(&mut socket).map_err(refused)?.iter().any(is_bridge) {
            let there = machine::outer_links(&mut socket)?;
            let settings = Forwarding::read(&path)?.after(&there, &[]).undo();
            settings.iter().filter(|setting| setting.is_known()).try_for_each(Setting::set)?;
        }
        files::remove_file(&path)
    }

    /// What [`make`](Networks::make) would do, a line each: as ip(8), sysctl(8) and
    /// nft(8) have it.
    ///
    /// # Errors
    /// As there, for what is found before something is made.
    pub fn plan_make(&self, network: &StoredNetwork) -> Result<String> {
        let machine = Machine::look(&mut open(Family::Route)?)?;
        let plan = self.plan(network, &machine);
        let forwarding = plan.forwarding();
        let guard = Forwarding::read(&self.forwarding_path())?.after(&plan.outer(), &forwarding).guard();
        let rules = nft::table(&self.table_name(), &[rules(network)], &guard, &[]);
        let mut steps = plan.steps()?;
        let up = steps.pop();
        let lines = |steps: Vec<Step>| steps.iter().map(|step| format!("{step}\n")).collect::<String>();
        let forwarding = forwarding.into_iter().map(Step::from).chain(up).collect();
        let text = lines(steps) + &rules.to_string() + &lines(forwarding);
        Ok(text)
    }

    /// Whether pods can be attached to it as it is.
    pub(crate) fn is_made(&self, socket: &mut Socket, network: &StoredNetwork) -> Result<Option<route::Link>> {
        let name = &network.config().bridge;
        let link = route::link_named(socket, name).map_err(refused)?;
        // One that is down somebody may be making now: whose it is, is seen under the
        // lock.
        let Some(link) = link.filter(|link| link.is_up) else { return Ok(None) };
        bridge::check_own(&link, &bridge::alias(self.root(), &network.config().name))?;
        Ok(Some(link))
    }

    pub(crate) fn plan<'a>(&self, network: &'a StoredNetwork, machine: &'a Machine) -> Plan<'a> {
        let config = network.config();
        Plan { config, machine, alias: bridge::alias(self.root(), &config.name) }
    }

    /// Makes the table of the firewall anew, from the records, in one transaction:
    /// connections go on.
    pub(crate) fn rebuild_table(&self, _: &Taking<'_>) -> Result<()> {
        let batch = self.table()?.replace();
        self.netfilter(|socket| socket.send(&batch).map_err(refused))
    }

    /// The table as it should be by the records.
    pub(crate) fn table(&self) -> Result<nft::Table> {
        let networks = self.list_recorded()?;
        let rules: Vec<_> = networks.iter().map(rules).collect();
        let guard = Forwarding::read(&self.forwarding_path())?.guard();
        Ok(nft::table(&self.table_name(), &rules, &guard, &self.published()?))
    }

    /// The rules of all pods' ports. Of a pod whose record cannot be read nothing is
    /// known, and removing it is what helps.
    fn published(&self) -> Result<Vec<PortRule>> {
        let mut rules: Vec<PortRule> = Vec::new();
        let mut keys = HashSet::new();
        for pod in self.store().names()? {
            let attachment = match self.attachment(&pod) {
                Err(Error::Corrupt { .. }) => None,
                attachment => attachment?,
            };
            let Some(attachment) = attachment.filter(|attachment| attachment.published) else { continue };
            for rule in attachment.port_rules(&attachment.ports) {
                // The kernel would take none of the table if one port stood in it twice.
                if keys.insert(rule.key()) {
                    rules.push(rule);
                }
            }
        }
        Ok(rules)
    }

    /// Takes away what the kernel has of a network, and its record.
    ///
    /// # Errors
    /// [`Error::State`] if pods have addresses of it; [`Error::Os`].
    pub fn unmake(&self, changing: &Changing, name: &str) -> Result<()> {
        let network = match self.get(name) {
            Err(Error::Corrupt { .. }) => return self.unmake_damaged(changing, name),
            network => network?,
        };
        self.reclaim(&network)?;
        if let Some(lease) = network.leases().holders()?.first() {
            let state = format!("is in use by pod {}: remove that first", lease.holder.pod);
            return Err(Error::state(format!("network {name}"), state));
        }
        let config = network.config();
        let mut socket = open(Family::Route)?;
        let machine = Machine::look(&mut socket)?;
        for link in self.plan(&network, &machine).own_links() {
            step::perform(&mut socket, &[route::delete_link(&link.name).into()])?;
        }
        for step in bridge::peer_routes(config).iter().map(route::delete_route) {
            match step::perform(&mut socket, &[step.into()]) {
                Err(Error::Os { errno, .. }) if errno == Errno::ESRCH.into() => {}
                done => done?,
            }
        }
        self.remove(changing, name)?;
        self.follow_removal(changing)
    }

    /// A network whose record cannot be read: its links say whose they are.
    fn unmake_damaged(&self, changing: &Changing, name: &str) -> Result<()> {
        self.leases_of(name).reclaim(|holder| self.has_record(holder))?;
        self.remove(changing, name)?;
        let mut socket = open(Family::Route)?;
        let alias = bridge::alias(self.root(), name);
        for link in
            route::links(&mut socket).map_err(refused)?.iter().filter(|link| link.alias.as_ref() == Some(&alias))
        {
            step::perform(&mut socket, &[route::delete_link(&link.name).into()])?;
        }
        self.follow_removal(changing)
    }

    /// Takes away bridges and tunnels of this store of which there is no record any
    /// more, unless a pod is in one, and tells the names of their networks.
    pub(crate) fn remove_unrecorded(&self, _: &Changing) -> Result<Vec<String>> {
        if !machine::may_change() {
            return Ok(Vec::new());
        }
        let recorded = self.names()?;
        let mut socket = open(Family::Route)?;
        let links = route::links(&mut socket).map_err(refused)?;
        let mut removed = Vec::new();
        for link in &links {
            let alias = link.alias.as_deref().and_then(bridge::read_alias);
            let Some((network, _)) = alias.filter(|(_, root)| Path::new(root) == self.root()) else { continue };
            let has_pods = links.iter().any(|port| port.master == Some(link.index));
            if !recorded.iter().any(|name| name == network) && !has_pods {
                step::perform(&mut socket, &[route::delete_link(&link.name).into()])?;
                removed.push(network.to_string());
            }
        }
        removed.sort_unstable();
        removed.dedup();
        Ok(removed)
    }

    /// Makes the table of the firewall what is left of it.
    fn follow_removal(&self, changing: &Changing) -> Result<()> {
        match self.names()?.is_empty() {
            true => self.tidy_with_ports(changing),
            false => self.rebuild_table(&self.registry()?.taking()?),
        }
    }

    /// Frees the addresses of pods that are gone.
    pub(crate) fn reclaim(&self, network: &StoredNetwork) -> Result<()> {
        network.leases().reclaim(|holder| self.has_record(holder)).map(drop)
    }

    /// [`tidy`](Networks::tidy), and frees the ports of pods that are gone. Without
    /// networks there is no table either.
    pub(crate) fn tidy_with_ports(&self, changing: &Changing) -> Result<()> {
        if self.names()?.is_empty() && machine::may_change() {
            let remove = nft::remove(&self.table_name());
            self.forward_no_more()?;
            self.netfilter(|socket| socket.send(&remove).map_err(refused))?;
        }
        self.registry()?.reclaim(|holder| self.has_record(holder))?;
        self.tidy(changing)
    }

    fn has_record(&self, holder: &Holder) -> bool {
        // What cannot be read may be the one.
        pod::Pod::open(self.store(), &holder.pod)
            .map_or_else(|error| !matches!(error, Error::NotFound(_)), |pod| pod.id() == holder.id)
    }
}

/// A network, as the firewall's rules see it.
fn rules(network: &StoredNetwork) -> NetworkRules {
    let config = network.config();
    NetworkRules {
        bridge: config.bridge.clone(),
        subnets: config.subnets.clone(),
        unmasqueraded: config.peers.iter().flat_map(|peer| peer.subnets.clone()).collect(),
        masquerade: !config.internal,
        internal: config.internal,
        isolated: config.isolated,
    }
}
