//! `podlet create`: an empty pod.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use net::Networks;
use pod::config::PodHints;
use pod::idmap::IdMap;
use pod::spec::TimeOffsets;
use pod::{CgroupManager, Error, Namespace, Pod, PodOptions, Store};

use super::id_files::IdFile;
use super::namespaces::check_userns;
use super::net::NetArgs;
use super::rm;
use super::settings::{self, NoteArgs};
use super::update::{LimitArgs, parse_size};
use crate::output;

/// Make an empty pod: pause and its namespaces
#[derive(Args)]
pub struct Create {
    /// The pod's name [default: made up]
    #[arg(value_name = "POD", conflicts_with = "named")]
    name: Option<String>,
    /// The same as an option
    #[arg(short, long = "name", value_name = "POD", id = "named")]
    named: Option<String>,
    /// When its last container ends: continue, or stop, and it ends as well [default: continue]
    #[arg(long, value_name = "POLICY")]
    exit_policy: Option<String>,
    /// Write its name to a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// Remove a pod that has its name, with all that is in it
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    options: PodArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    notes: NoteArgs,
}

/// What can be said of a pod where it is made. Its commands have no `-h` for
/// help, as with podman and docker: that is the host name's.
#[derive(Args, Default)]
pub struct PodArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Namespaces its containers share: any of net,pid,ipc,uts,user,cgroup,time, or none; + before the list adds to
    /// the default [default: net,pid,ipc,uts]
    #[arg(long, value_name = "LIST")]
    pub share: Option<String>,
    /// How much its /dev/shm holds, such as 256m; 0 for as much as there is [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// host: no user namespace of its own, as if nothing was said; others are said by --share, --uidmap and --gidmap
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Host name inside [default: the pod's name]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// User ids of a shared user namespace
    #[arg(long = "uidmap", value_name = "INSIDE:OUTSIDE:COUNT")]
    pub uid_maps: Vec<String>,
    /// Group ids of a shared user namespace
    #[arg(long = "gidmap", value_name = "INSIDE:OUTSIDE:COUNT")]
    pub gid_maps: Vec<String>,
    /// Offset of a shared time namespace's monotonic clock, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    pub monotonic_offset: i64,
    /// Offset of a shared time namespace's boot-time clock, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    pub boottime_offset: i64,
    /// Who makes its cgroup: cgroupfs (podlet itself) or systemd, as a scope [default: cgroupfs]
    #[arg(long, value_name = "MANAGER")]
    pub cgroup_manager: Option<String>,
    /// Set a kernel parameter of a namespace, such as net.ipv4.ip_forward=1, or of an interface that a network gives
    /// it, such as net.ipv4.conf.eth0.rp_filter=2
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    #[command(flatten)]
    pub net: NetArgs,
}

impl PodArgs {
    /// The library's options for a pod of this name.
    pub fn options(&self, name: &str) -> Result<PodOptions> {
        let mut options = PodOptions::new(name);
        if let Some(list) = &self.share {
            let (added, list) = list.strip_prefix('+').map_or((false, list.as_str()), |list| (true, list));
            let names = list.split(',').filter(|name| !name.is_empty() && list != "none");
            let named = names.map(str::parse::<Namespace>).collect::<Result<BTreeSet<_>, _>>()?;
            options.share = if added { &options.share | &named } else { named };
        }
        let own_users = options.shares(Namespace::User) || !self.uid_maps.is_empty() || !self.gid_maps.is_empty();
        check_userns(self.userns.as_deref(), own_users)?;
        options.shm_size = self.shm_size()?;
        options.hostname = self.hostname.clone();
        options.uid_maps = self.uid_maps.iter().map(|map| parse_map("uidmap", map)).collect::<Result<_, _>>()?;
        options.gid_maps = self.gid_maps.iter().map(|map| parse_map("gidmap", map)).collect::<Result<_, _>>()?;
        let (monotonic, boottime) = (self.monotonic_offset, self.boottime_offset);
        options.time_offsets = TimeOffsets { monotonic, boottime, ..TimeOffsets::default() };
        options.cgroup_manager = match self.cgroup_manager.as_deref() {
            None | Some("cgroupfs") => CgroupManager::Cgroupfs,
            Some("systemd") => CgroupManager::Systemd,
            Some(other) => bail!("--cgroup-manager {other:?}: give cgroupfs or systemd"),
        };
        Ok(options)
    }

    /// What `--shm-size` says, in bytes.
    pub fn shm_size(&self) -> Result<Option<u64>> {
        let bytes = self.shm_size.as_ref().map(|text| parse_size("shm-size", text)).transpose()?;
        // As podman has it, 0 is no limit; -1 it does not have.
        Ok(bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
    }

    /// Adds what a config says of the pod, where the command line does not.
    pub fn take(&self, options: &mut PodOptions, hints: PodHints) {
        if self.share.is_none() {
            options.share = hints.share;
        }
        if self.uid_maps.is_empty() && self.gid_maps.is_empty() {
            (options.uid_maps, options.gid_maps) = (hints.uid_maps, hints.gid_maps);
        }
        if options.time_offsets == TimeOffsets::default() {
            options.time_offsets = hints.time_offsets;
        }
    }

    /// What `--sysctl` says; the last of a name counts.
    pub fn sysctls(&self) -> Result<BTreeMap<String, String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
            _ => bail!("--sysctl {text:?}: give NAME=VALUE"),
        };
        self.sysctl.iter().map(pair).collect()
    }

    /// The first of these options that was given and belongs to the pod alone.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--share", self.share.is_some()),
            ("--shm-size", self.shm_size.is_some()),
            ("--userns", self.userns.is_some()),
            ("--hostname", self.hostname.is_some()),
            ("--uidmap", !self.uid_maps.is_empty()),
            ("--gidmap", !self.gid_maps.is_empty()),
            ("--monotonic-offset", self.monotonic_offset != 0),
            ("--boottime-offset", self.boottime_offset != 0),
            ("--cgroup-manager", self.cgroup_manager.is_some()),
        ];
        let given = given.into_iter().find(|(_, given)| *given).map(|(name, _)| name);
        given.or_else(|| self.net.given())
    }
}

fn parse_map(field: &str, text: &str) -> Result<IdMap, Error> {
    let numbers: Vec<_> = text.split(':').map(str::parse).collect();
    match numbers[..] {
        [Ok(inside), Ok(outside), Ok(count)] => Ok(IdMap { inside, outside, count }),
        _ => Err(Error::invalid(field, text, "give three numbers, INSIDE:OUTSIDE:COUNT, such as 0:100000:65536")),
    }
}

/// Said once a pod, where it is made.
pub fn note_limits(pod: &Pod) {
    if pod.ends_by_search() {
        output::note(
            "note: no cgroup can be written here, so stopping a container means looking for its processes, \
             and one that forks fast enough can hide (docs/limits.md)",
        );
    }
    if pod.builds_inside() {
        output::note(format_args!("note: {LEGACY_MOUNT_API}"));
    }
}

/// What is different where a sandbox denies the newer system calls.
pub const LEGACY_MOUNT_API: &str = "open_tree, mount_setattr and the like, or openat2, are denied here, so containers are built \
                             from inside the pod, where a mate with CAP_SYS_PTRACE can catch them (docs/limits.md)";

impl Create {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let made_up;
        let name = match self.name.as_ref().or(self.named.as_ref()) {
            Some(name) => name,
            None => {
                made_up = settings::make_up("p")?;
                &made_up
            }
        };
        let mut options = self.options.options(name)?;
        options.end_with_last = match self.exit_policy.as_deref() {
            None | Some("continue") => false,
            Some("stop") => true,
            Some(other) => bail!("--exit-policy {other:?}: give continue or stop"),
        };
        options.sysctl = self.options.sysctls()?;
        options.resources = self.limits.resources(true)?;
        self.notes.add(&mut options.labels, &mut options.annotations)?;
        if let Some(pod) = self.options.net.pod()? {
            bail!("--network pod:{pod}: belongs to containers; give it to `podlet run`");
        }
        let mut network = self.options.net.choice()?;
        network.adjust(&mut options)?;
        network.take_sysctls(&mut options, None)?;
        options.check()?;
        let file =
            self.pod_id_file.as_deref().map(|path| IdFile::with_name("--pod-id-file", path, name)).transpose()?;
        if self.replace {
            rm::by_force(store, name)?;
        }
        let mut pod = Pod::create(store, options)?;
        network.attach(&pod, &Networks::open(store))?;
        pod.detach()?;
        file.map(|file| file.keep("")).transpose()?;
        note_limits(&pod);
        let name = pod.name();
        output::line(name).with_context(|| format!("pod {name} is made; only its name could not be printed"))?;
        Ok(0)
    }
}
