//! What is said of a pod's networks where it is made, and what is done about it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use net::check::Finding;
use net::names::AddHost;
use net::ports::{PortMapping, PortRequest};
use net::resolv::Resolver;
use net::{AttachOptions, AttachedNetwork, Attachment, NetworkRequest, Networks};
use pod::spec::NamespaceMode;
use pod::{ContainerSpec, Error, Namespace, Pod, PodOptions, PodStatus, Store};
use serde::Serialize;

use super::storage::OwnFileArgs;
use crate::output;

/// The pod's networks, addresses, ports and names.
#[derive(Args, Default)]
pub struct NetArgs {
    /// Its networks, the first of which has its ports: NAME, or cni:NAME for a CNI network, once for each; pasta: an ordinary user's way out; none: only its own loopback; host: this
    /// machine's own; pod:POD: join that pod [default: what PODLET_NETWORK says, else podlet, made if it is missing; for an ordinary user pasta, or none where that cannot be]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Have a port of this machine lead to one of the pod's; ranges such as 8000-8009:80-89, and POD alone for a
    /// free one
    #[arg(short, long, value_name = "[IP:]HOST:POD[/udp]")]
    publish: Vec<String>,
    /// Its IPv4 address on the first network, unless that is pasta [default: one that is free]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// The hardware address of its interface there
    #[arg(long, visible_alias = "mac-address", value_name = "MAC")]
    mac: Option<String>,
    /// Another name by which pods of its networks find it
    #[arg(long, value_name = "NAME")]
    network_alias: Vec<String>,
    /// A name server it asks [default: this machine's]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// A domain in which it looks for short names; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// An option of its resolver, such as ndots:2 (resolv.conf(5))
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// A name for it alone; host-gateway is this machine
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

/// Where a pod's network comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nobody said so.
    Default(AttachOptions),
    /// Loopback alone.
    None,
    /// The machine's.
    Host,
    /// These; and how the first was said, as an error has it.
    Named(AttachOptions, String),
}

/// Stands for `--network` where that is not given.
const VARIABLE: &str = "PODLET_NETWORK";

impl NetArgs {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        self.given_but_network().or_else(|| (!self.network.is_empty()).then_some("--network"))
    }

    /// The same of the others.
    pub fn given_but_network(&self) -> Option<&'static str> {
        let given = [("--publish", !self.publish.is_empty())];
        given.into_iter().chain(self.details()).find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// Those that need a network.
    fn details(&self) -> [(&'static str, bool); 8] {
        [
            ("--ip", self.ip.is_some()),
            ("--ip6", self.ip6.is_some()),
            ("--mac", self.mac.is_some()),
            ("--network-alias", !self.network_alias.is_empty()),
            ("--dns", !self.dns.is_empty()),
            ("--dns-search", !self.dns_search.is_empty()),
            ("--dns-option", !self.dns_option.is_empty()),
            ("--add-host", !self.add_host.is_empty()),
        ]
    }

    /// The pod of `--network pod:POD`.
    pub fn pod(&self) -> Result<Option<&str>> {
        let pods: Vec<_> = self.network.iter().filter_map(|network| network.strip_prefix("pod:")).collect();
        match (&pods[..], &self.network[..]) {
            ([], _) => Ok(None),
            ([""], _) => bail!("--network pod:: name the pod: give --network pod:POD"),
            ([pod], [_]) => Ok(Some(pod)),
            _ => bail!("--network pod:{}: a pod has its networks already, so name nothing besides", pods[0]),
        }
    }

    /// A variable of a script's that is not set is no value.
    fn check_values(&self) -> Result<()> {
        let several = [
            ("--network", &self.network),
            ("--publish", &self.publish),
            ("--network-alias", &self.network_alias),
            ("--dns", &self.dns),
            ("--dns-search", &self.dns_search),
            ("--dns-option", &self.dns_option),
            ("--add-host", &self.add_host),
        ];
        let single = [("--ip", &self.ip), ("--ip6", &self.ip6), ("--mac", &self.mac)];
        let several = several.into_iter().flat_map(|(option, values)| values.iter().map(move |value| (option, value)));
        let single = single.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?)));
        several.chain(single).try_for_each(|(option, value)| check_given(option, value))
    }

    /// What was said, checked as far as it can be without asking the machine more than
    /// which network is the default one here.
    pub fn choice(&self) -> Result<Choice> {
        self.check_values()?;
        let mut requests = Vec::new();
        let variable = || std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        let (said, mut spelt) = said(&self.network, variable)?;
        for name in &said {
            match name.as_str() {
                "none" | "host" if said.len() > 1 => {
                    bail!("--network {name}: name nothing besides")
                }
                "none" | "host" => {
                    let needs = [("--publish", !self.publish.is_empty())].into_iter().chain(self.details());
                    if let Some((option, _)) = needs.into_iter().find(|(_, given)| *given) {
                        bail!("{option}: needs a network of pods, and {spelt} is none");
                    }
                    return Ok(if name == "none" { Choice::None } else { Choice::Host });
                }
                _ => {
                    check_meant(name)?;
                    requests.push(NetworkRequest::new(name));
                }
            }
        }
        let is_default = requests.is_empty();
        if is_default {
            let name = if !net::may_make() && net::may_use_pasta() { net::PASTA } else { net::DEFAULT };
            spelt = format!("--network {name}");
            requests.push(NetworkRequest::new(name));
        }
        for request in &mut requests {
            request.aliases = self.network_alias.clone();
        }
        let first = &mut requests[0];
        let ip = self.ip.as_deref().map(net::parse_ip).transpose()?.map(IpAddr::from);
        let ip6 = self.ip6.as_deref().map(net::parse_ip6).transpose()?.map(IpAddr::from);
        first.addresses = ip.into_iter().chain(ip6).collect();
        first.mac = self.mac.as_deref().map(net::parse_mac).transpose()?;
        let mut options = AttachOptions::new(requests);
        options.ports = ports(&self.publish)?;
        options.resolver = Resolver {
            servers: self.dns.iter().map(|server| net::names::parse_server(server)).collect::<Result<_, _>>()?,
            search: self.dns_search.clone(),
            options: self.dns_option.clone(),
        };
        options.add_hosts = self.add_host.iter().map(|host| host.parse()).collect::<Result<_, _>>()?;
        options.check()?;
        let wants = self.publish.is_empty() && self.details().iter().all(|(_, given)| !given);
        Ok(if is_default && wants { Choice::Default(options) } else { Choice::Named(options, spelt) })
    }
}

/// The networks that are named, by the option or else the variable, and how the
/// first of them is spelt where it is; neither if nobody names one.
fn said(given: &[String], variable: impl FnOnce() -> Option<String>) -> Result<(Vec<String>, String), Error> {
    if let Some(first) = given.first() {
        return Ok((given.to_vec(), format!("--network {first}")));
    }
    let Some(name) = variable() else { return Ok((Vec::new(), String::new())) };
    let invalid = |reason: &str| Err(Error::invalid(VARIABLE, &name, reason));
    if name.starts_with("pod:") {
        return invalid("only `--network` joins a pod: name a network, or none");
    }
    let is_checked = !matches!(name.as_str(), "none" | "host");
    match AttachOptions::new([NetworkRequest::new(&name)]).check() {
        Err(Error::Invalid { reason, .. }) if is_checked => invalid(&reason),
        _ => Ok((vec![name.clone()], format!("{VARIABLE} {name:?}"))),
    }
}

/// Refuses an option that was given with nothing.
pub fn check_given(option: &str, value: &str) -> Result<()> {
    if value.trim().is_empty() {
        bail!("{option} {value:?}: is empty: give a value, or leave the option away");
    }
    Ok(())
}

/// Refuses what podman and docker say by `--network`, and podlet otherwise.
fn check_meant(name: &str) -> Result<()> {
    let others = match name.split_once(':') {
        Some(("container", pod)) => format!("podlet joins pods: give --network pod:{pod}"),
        Some((network, _)) if !name.starts_with("cni:") => {
            format!(
                "options are not said behind the name: give --network {network}, and --ip, --ip6, --mac and the like"
            )
        }
        _ if name.contains(',') => "give --network once for each network".into(),
        _ => return Ok(()),
    };
    bail!("--network {name:?}: {others}")
}

/// What `-p` says, once for each or in ranges.
pub fn ports(texts: &[String]) -> Result<Vec<PortRequest>, Error> {
    let parsed = texts.iter().map(|text| net::ports::parse(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(parsed.into_iter().flatten().collect())
}

impl Choice {
    /// What it means for the pod's namespaces.
    pub fn adjust(&self, options: &mut PodOptions) -> Result<()> {
        if *self == Choice::Host {
            options.share.remove(&Namespace::Net);
            options.host_network = true;
        }
        if let (Choice::Named(_, spelt), false) = (self, options.shares(Namespace::Net)) {
            bail!("{spelt}: the pod's containers do not share a network namespace; leave --share away, or add net");
        }
        Ok(())
    }

    /// Kernel parameters of interfaces: the pod has these when it is in its networks. The
    /// container has given it what is the pod's.
    pub fn take_sysctls(&mut self, options: &mut PodOptions, container: Option<&ContainerSpec>) -> Result<()> {
        let shares = options.shares(Namespace::Net);
        match self {
            Choice::Host => return Ok(()),
            Choice::Default(attach) | Choice::Named(attach, _) if shares => attach.take_sysctls(&mut options.sysctl)?,
            _ => refuse_interfaces(&options.sysctl)?,
        }
        if let Some(container) = container.filter(|container| !shares && container.net == NamespaceMode::Pod) {
            refuse_interfaces(&container.sysctl)?;
        }
        match self {
            // Said or not, it has to have one now.
            Choice::Default(attach) if !attach.sysctls.is_empty() => {
                let name = attach.networks.first().map(|request| request.name.clone()).unwrap_or_default();
                *self = Choice::Named(std::mem::take(attach), format!("--network {name}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts a new pod into its networks.
    pub fn attach(self, pod: &Pod, networks: &Networks) -> Result<()> {
        let (options, named) = match self {
            Choice::None | Choice::Host => return Ok(()),
            Choice::Default(_) if !pod.options().shares(Namespace::Net) => return Ok(()),
            Choice::Default(options) => (options, None),
            Choice::Named(options, spelt) => (options, Some(spelt)),
        };
        if options.wants_pasta() {
            match (networks.attach(pod, &options), named) {
                (Ok((_, notes)), _) => say(&notes),
                // Nobody asked for it: a machine without a way out, say.
                (Err(error @ (Error::Os { .. } | Error::State { .. })), None) if pod.is_alive() => {
                    note_loopback(&error)
                }
                (Err(error), _) => return Err(error.into()),
            }
            return Ok(());
        }
        if !net::may_make() {
            let why = format!("{NOT_ALLOWED}; an ordinary user's pods have pasta where the package passt is installed");
            if let Some(spelt) = named {
                bail!("{spelt}: {why}; --network none is loopback alone");
            }
            note_loopback(&why);
            return Ok(());
        }
        let wants_default = options.networks.iter().any(|request| request.name == net::DEFAULT);
        for tries_left in (0..TRIES).rev() {
            if wants_default {
                match networks.default_network() {
                    Ok((_, notes)) => say(&notes),
                    // The kernel has no bridges, say.
                    Err(error @ Error::Os { .. }) if named.is_none() => {
                        note_loopback(&error);
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            match networks.attach(pod, &options) {
                // Somebody pruned it just now.
                Err(Error::NotFound(_)) if wants_default && tries_left > 0 => {}
                Err(error @ Error::NotFound(_)) => bail!(missing(error)),
                attached => {
                    let (attachment, notes) = attached?;
                    say(&notes);
                    warn(&networks.check_firewalls(&attachment)?);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Choice {
    /// What attaching would do before a pod's own steps.
    pub fn print_plan(&self, options: &PodOptions, networks: &Networks) -> Result<()> {
        let (Choice::Default(attach) | Choice::Named(attach, _)) = self else { return Ok(()) };
        if !options.shares(Namespace::Net) || !(net::may_make() || attach.wants_pasta()) {
            return Ok(());
        }
        if attach.wants_pasta() {
            output::line("# network pasta")?;
            output::line(networks.plan_pasta(attach)?)?;
            return Ok(());
        }
        for request in &attach.networks {
            output::line(format!("# network {}", request.name))?;
            output::line(networks.plan_attach(request)?)?;
        }
        for (name, value) in &attach.sysctls {
            output::line(format!("sysctl {name}={value}"))?;
        }
        Ok(())
    }
}

/// Said where nobody asked for a network, and none can be had.
fn note_loopback(why: &dyn Display) {
    output::note(format_args!("note: the pod has loopback alone: {why}"));
}

/// Refuses kernel parameters of interfaces that there will not be.
fn refuse_interfaces(sysctls: &BTreeMap<String, String>) -> Result<()> {
    for name in sysctls.keys() {
        if let Some(interface) = net::interface_of(name)? {
            let reason = format!("{interface} comes with a network of the pod's, and it is to have none: give it one");
            return Err(Error::invalid("sysctl", name, reason).into());
        }
    }
    Ok(())
}

/// Has a pod that runs have again what it lost of its networks: pasta that has ended, and
/// files that somebody removed.
pub fn restore(pod: &Pod, store: &Store) -> Result<()> {
    let networks = Networks::open(store);
    networks.restore_pasta(pod)?;
    say(&networks.restore_files(pod)?);
    Ok(())
}

/// Why somebody who may not make networks ([`net::may_make`]) has none.
pub const NOT_ALLOWED: &str = "a network of pods takes CAP_NET_ADMIN over this network namespace (root)";

/// How often the default network is made that others remove at once.
const TRIES: u32 = 10;

/// A network that is not there.
pub fn missing(error: Error) -> anyhow::Error {
    match error {
        Error::NotFound(what) if what.starts_with("network ") => {
            let cure = "`podlet network ls` lists them, `podlet network create NAME` makes one";
            anyhow::anyhow!("{}: {cure}", Error::NotFound(what))
        }
        error => error.into(),
    }
}

/// What was switched on.
pub fn say(notes: &net::Notes) {
    notes.0.iter().for_each(|note| output::note(format_args!("note: {note}")));
}

/// What keeps packets from a pod, and what helps.
fn warn(findings: &[Finding]) {
    for Finding { what, cure, .. } in findings {
        let cure = cure.iter().map(|cure| format!("; cure: {cure}")).collect::<String>();
        output::note(format_args!("note: {what}{cure}"));
    }
}

/// The container with the names of its pod's networks, where it mounts nothing
/// itself: neither on such a file nor on a directory above, which is the user's
/// and would get mount points.
pub fn with_names(
    container: ContainerSpec,
    pod: &Pod,
    networks: &Networks,
    own: &OwnFileArgs,
) -> Result<ContainerSpec> {
    let mut files = networks.files(pod.name())?;
    files.retain(|(_, target)| !own.keeps(target));
    Ok(bind_names(container, files))
}

fn bind_names<'a>(container: ContainerSpec, files: impl IntoIterator<Item = (PathBuf, &'a str)>) -> ContainerSpec {
    files.into_iter().fold(container, |container, (source, target)| {
        let is_users = container.mounts.iter().any(|mount| Path::new(target).starts_with(&mount.target));
        if is_users { container } else { container.bind(source, target, true) }
    })
}

/// What a pod has of networks, as `inspect` and `ps` show it; `None` if it is in
/// none. A record that cannot be read is told of, and hides nothing else.
pub fn attachment(pod: &str, networks: &Networks) -> Option<Attachment> {
    networks.attachment(pod).unwrap_or_else(|error| {
        output::note(error);
        None
    })
}

/// The process that is a pod's pasta, if it runs.
pub fn pasta_of(pod: &str, networks: &Networks) -> Option<u32> {
    networks.pasta_of(pod).unwrap_or_else(|error| {
        output::note(error);
        None
    })
}

/// A pod's status, and what it has of networks if it is in some. The crate `pod`
/// knows nothing of them.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    status: &'a PodStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<ShownNetwork>,
}

/// As the record has it, but for its version.
#[derive(Serialize)]
struct ShownNetwork {
    networks: Vec<AttachedNetwork>,
    ports: Vec<PortMapping>,
    published: bool,
    add_hosts: Vec<AddHost>,
    /// The process, if pasta is its network: null if that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pasta: Option<Option<u32>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, String>,
}

/// As `inspect` and `ps --format json` print it.
pub fn shown<'a>(status: &'a PodStatus, networks: &Networks) -> Shown<'a> {
    let network = attachment(&status.name, networks).map(|found| ShownNetwork {
        pasta: found.has_pasta().then(|| pasta_of(&status.name, networks)),
        networks: found.networks,
        ports: found.ports,
        published: found.published,
        add_hosts: found.add_hosts,
        sysctls: found.sysctls,
    });
    Shown { status, network }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Result<(Vec<String>, String), Error> {
        said(&[], || Some(name.into()))
    }

    #[test]
    fn a_network_of_the_environment_is_named_as_that() {
        assert_eq!(variable("web").expect("a name"), (vec!["web".into()], "PODLET_NETWORK \"web\"".into()));
        for name in ["none", "host", "cni:cbr0"] {
            assert_eq!(variable(name).expect(name).0, [name]);
        }
        for name in ["pod:x", "a b", "cni:"] {
            let error = variable(name).expect_err(name).to_string();
            assert!(error.starts_with(&format!("PODLET_NETWORK {name:?}: ")), "{error}");
        }
        let given = ["a b".to_string(), "web".into()];
        let (names, spelt) = said(&given, || panic!("the option is given")).expect("checked later");
        assert_eq!((&names[..], spelt.as_str()), (&given[..], "--network a b"));
        assert_eq!(said(&[], || None).expect("the default").0, [""; 0]);
    }

    #[test]
    fn the_environment_is_blamed_where_a_pod_shares_no_network() {
        let mut options = PodOptions::new("web");
        options.share.remove(&Namespace::Net);
        let choice = Choice::Named(AttachOptions::default(), "PODLET_NETWORK \"web\"".into());
        let error = choice.adjust(&mut options).expect_err("nothing shared").to_string();
        assert!(error.starts_with("PODLET_NETWORK \"web\": the pod's containers"), "{error}");
    }

    #[test]
    fn names_are_left_out_where_the_container_mounts_something() {
        let files = ["/etc/hosts", "/etc/hostname"].map(|target| (PathBuf::from("/run/x"), target));
        for (own, expected) in [
            ("/etc/hosts", &["/etc/hosts", "/etc/hostname"][..]),
            ("/etc", &["/etc"]),
            ("/etc/", &["/etc/"]),
            ("/etc/host", &["/etc/host", "/etc/hosts", "/etc/hostname"]),
            ("/etc/hosts/below", &["/etc/hosts/below", "/etc/hosts", "/etc/hostname"]),
        ] {
            let container = bind_names(ContainerSpec::new("web", pod::Root::Host).tmpfs(own), files.clone());
            let targets = container.mounts.iter().filter_map(|mount| mount.target.to_str());
            let targets: Vec<_> = targets.filter(|target| target.starts_with("/etc")).collect();
            assert_eq!(targets, expected, "{own}");
        }
    }
}
