//! `create`, and `run`, which is `create` and `start` in one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use super::dir::{Dir, Held};
use super::id_maps::seen_inside;
use super::namespaces::{self, Namespaces, OpenedMntns};
use super::process::Process;
use super::record::{Attached, RECORD, Record, RecordedMntns};
use super::shared_mntns::{check_among_others, stays_below};
use super::{Instance, Runtime, cgroup_path, check_id, compat, hooks, scope, seccomp_agent};
use crate::cgroup::systemd::Planned;
use crate::cgroup::{apply, doubled};
use crate::config::{Config, Ignored};
use crate::error::{Context, Error, Result};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::syscalls;
use crate::launch::run_plan::{Launched, seal};
use crate::launch::stdio::Io;
use crate::lookup::prepared::Prepared;
use crate::plan::Plan;
use crate::plan::input::{ContainerInput, Isolation, MachineMount, TerminalOptions};
use crate::plan::oci_create::{self, Bundle, MntnsMode};
use crate::spec::users::Users;
use crate::spec::{CapabilitySets, CgroupManager, ContainerSpec, Root};

/// How a container is made, besides what its config says.
#[derive(Debug)]
pub struct CreateOptions {
    /// Its standard streams, or its terminal: that if and only if
    /// `process.terminal` of its config is true. `process.consoleSize` comes
    /// before the size that stands here.
    pub io: Io,
    /// Descriptors it gets from 3 on.
    pub preserved: Vec<OwnedFd>,
    /// Variables besides those of its config, for its first process alone.
    pub env: Vec<String>,
    /// Its root becomes one by `pivot_root(2)`; false where the machine's root
    /// is a ramdisk, which cannot be pivoted.
    pub pivot: bool,
    /// It gets a session keyring of its own.
    pub keyring: bool,
    /// Who makes its cgroup, which is what `linux.cgroupsPath` is for.
    pub cgroup_manager: CgroupManager,
    /// Once it can be read, whatever is waited for is given up, hooks included,
    /// with [`Error::GivenUp`]: a signalfd(2) of a program that has these
    /// signals wait. One message is read for each thing that is given up.
    pub cancel: Option<OwnedFd>,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions {
            io: Io::default(),
            preserved: Vec::new(),
            env: Vec::new(),
            pivot: true,
            keyring: true,
            cgroup_manager: CgroupManager::Cgroupfs,
            cancel: None,
        }
    }
}

/// A container that was just made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Created {
    /// The container.
    pub instance: Instance,
    /// Its process.
    pub process: Process,
    /// Capabilities that could not be granted.
    pub left_out: Vec<Ignored>,
}

impl Runtime {
    /// Makes a container that waits to be started.
    ///
    /// Its process is a child of this program.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], [`Error::Hook`], or why it cannot
    /// be done here. Nothing is left behind.
    pub fn create(&self, id: &str, config: &Config, setup: CreateOptions) -> Result<Created> {
        self.make(id, config, setup, true).map(|(created, _)| created)
    }

    /// Makes a container and starts it.
    ///
    /// # Errors
    /// As [`create`](Runtime::create) and [`Instance::start`].
    pub fn run(&self, id: &str, config: &Config, setup: CreateOptions) -> Result<Created> {
        config.needs_process()?;
        // The one hook that comes between the two needs somebody to wait.
        let waits = !config.hooks.start_container.is_empty();
        let (mut created, held) = self.make(id, config, setup, waits)?;
        let result = match waits {
            // Nobody else starts it.
            true => created.instance.start_held(held),
            false => {
                drop(held);
                created.instance.after_start()
            }
        };
        if let Err(error) = result {
            // What went wrong first is what counts.
            created.instance.delete(true).ok();
            syscalls::reap(created.process.as_fd());
            return Err(error);
        }
        Ok(created)
    }

    /// A container that nobody else can change yet.
    fn make(&self, id: &str, config: &Config, mut setup: CreateOptions, waits: bool) -> Result<(Created, Held)> {
        check_id(id)?;
        let exists = || Error::Exists(format!("container {id:?}"));
        let dir = self.root.join(id);
        if dir.exists() {
            return Err(exists());
        }
        let checked = Checked::look_up(id, config, &setup, waits)?;
        let plan = checked.plan(&setup);
        let sealed = seal(&plan)?;
        let record = checked.record(&setup, &plan);
        let Checked { facts, namespaces, prepared, cgroup, scope, left_out, .. } = checked;

        // Held until it is made: whoever finds it waits.
        let (dir, held) = Dir::make(&dir, RECORD)?.ok_or_else(exists)?;
        let mut instance = Instance { dir, record, process: None, facts, cancel: setup.cancel.take() };
        if let Err(error) = instance.take_cgroup(cgroup, scope.as_ref()) {
            // Refused: nothing was done that a hook could have to undo.
            instance.erase(&held).ok();
            return Err(error);
        }
        match instance.make((&plan, sealed), &namespaces, &prepared, (setup.io, setup.preserved), scope, waits) {
            Ok((Launched { pidfd, terminal, .. }, pipes)) => {
                let process = Process::new(pidfd, pipes, terminal);
                Ok((Created { instance, process, left_out }, held))
            }
            Err(error) => {
                // What went wrong first is what counts. Hooks that have run
                // may have made something, too.
                instance.erase(&held).ok();
                drop(held);
                instance.run_stop_hooks();
                Err(error)
            }
        }
    }
}

/// A container that can be made here, as far as that is found out before
/// anything is made.
struct Checked<'a> {
    id: &'a str,
    config: &'a Config,
    /// It is to wait to be started.
    waits: bool,
    created: SystemTime,
    facts: Facts,
    namespaces: Namespaces,
    /// As its config has it.
    container: ContainerSpec,
    /// Capabilities that cannot be granted.
    left_out: Vec<Ignored>,
    terminal: Option<TerminalOptions>,
    prepared: Prepared,
    cgroup: Option<PathBuf>,
    /// What makes the cgroup, if we do not.
    scope: Option<Planned>,
    mounts: RecordedMntns,
    /// What of the machine's mounts has to go from below a root that is not
    /// pivoted.
    below: Option<Vec<MachineMount>>,
}

impl<'a> Checked<'a> {
    /// Looks everything up. Changes nothing.
    fn look_up(id: &'a str, config: &'a Config, setup: &CreateOptions, waits: bool) -> Result<Checked<'a>> {
        let facts = Facts::read()?;
        check_calls(&facts)?;
        let terminal = terminal_of(config, &setup.io)?;
        let namespaces = namespaces::prepare(config, &facts)?;
        seccomp_agent::check(&config.container.seccomp, waits)?;
        let mut container = asked_for(config, setup)?;
        let left_out = match namespaces.users {
            // The specification wants what cannot be granted left out.
            Users::Caller => restrict(&mut container.process.capabilities, facts.capabilities),
            _ => Vec::new(),
        };
        let prepared = Prepared::of_bundle(&container, &namespaces.users, &facts)?;
        let scope = match setup.cgroup_manager {
            CgroupManager::Cgroupfs => None,
            CgroupManager::Systemd => Some(scope::find(&facts, config, &container.resources, id)?),
        };
        let cgroup = match &scope {
            Some(scope) => Some(scope.dir.clone()),
            None => cgroup_path::find(&facts, config.cgroups_path.as_deref(), id)?,
        };
        apply::check_reachable(&container.resources, &facts, cgroup.as_deref())?;
        if !namespaces.mounts.are_own() {
            check_among_others(&container, cgroup.is_some() || namespaces.makes(Namespace::Pid))?;
        }
        let created = SystemTime::now();
        let mounts = match &namespaces.mounts {
            OpenedMntns::Own => RecordedMntns::Own,
            OpenedMntns::Joined(_) => RecordedMntns::Joined,
            OpenedMntns::Callers(_, namespace) => {
                RecordedMntns::Callers(Attached::new(*namespace, id, created, prepared.root())?)
            }
        };
        let below = if setup.pivot { None } else { stays_below(&namespaces.mounts)? };
        Ok(Checked {
            id,
            config,
            waits,
            created,
            facts,
            namespaces,
            container,
            left_out,
            terminal,
            prepared,
            cgroup,
            scope,
            mounts,
            below,
        })
    }

    /// Everything its first process will do.
    fn plan(&self, setup: &CreateOptions) -> Plan {
        let Checked { config, waits, facts, namespaces, .. } = self;
        let isolation = Isolation::of_bundle(&namespaces.users, self.cgroup.is_some());
        oci_create::plan(&Bundle {
            launch: ContainerInput { terminal: self.terminal, ..self.prepared.launch(isolation, facts) },
            made: namespaces.made,
            joined: &namespaces.joined.iter().map(|(namespace, _)| *namespace).collect::<Vec<_>>(),
            mounts: match &self.mounts {
                RecordedMntns::Own => MntnsMode::Own,
                RecordedMntns::Joined => MntnsMode::Joined,
                RecordedMntns::Callers(attached) => MntnsMode::Callers { mark: &attached.mark },
            },
            time_offsets: config.time_offsets,
            stops: hooks::stops_before_root(&config.hooks, &self.container),
            below: self.below.as_deref(),
            keyring: setup.keyring,
            preserved: setup.preserved.len() as u16,
            looks_for_program: *waits && config.has_process,
            start_user: waits.then(|| seen_inside(facts.uid, namespaces.users.uids(), &namespaces.users)),
        })
    }

    /// What is written down of it before anything is made. It has no cgroup
    /// yet.
    fn record(&self, setup: &CreateOptions, plan: &Plan) -> Record {
        let Checked { config, facts, namespaces, container, .. } = self;
        // The environment is the config's: what this process gets besides, and
        // its user's HOME, is not for others.
        let mut recorded = self.prepared.container().clone();
        recorded.process.env = container.process.env.clone();
        recorded.process.env.retain(|variable| !setup.env.contains(variable));
        let (late_steps, late_kinds) = plan.late_steps().into_iter().unzip();
        Record {
            id: self.id.into(),
            bundle: config.bundle.clone(),
            annotations: config.annotations.clone(),
            created: self.created,
            owner: facts.uid,
            pids: facts.pids,
            ends_as_one: namespaces.makes(Namespace::Pid),
            has_process: config.has_process,
            container: recorded,
            users: namespaces.users.clone(),
            hooks: config.hooks.clone(),
            cgroup: None,
            made_cgroups: Vec::new(),
            scope: None,
            doubled: namespaces.makes(Namespace::Cgroup) && could_lift(container) && !doubled::is_delegated(),
            mounts: self.mounts.clone(),
            late_steps,
            late_kinds,
        }
    }
}

/// A bundle's mounts are made by calls that are not everywhere.
fn check_calls(facts: &Facts) -> Result<()> {
    if facts.calls.new_mount_api() {
        return Ok(());
    }
    let reason = "this kernel or sandbox denies openat2, open_tree, move_mount, fsopen or mount_setattr, without which \
                  a bundle's mounts cannot be made; allow them (in a container of podlet's by `--security-opt \
                  nesting`), or use podlet run --bundle; as root of a user namespace be in a mount namespace of that, \
                  too (unshare -m)";
    Err(Error::invalid("system calls", "", reason))
}

/// The terminal that a config asks for. The caller has to know of it, who gets
/// its other end.
fn terminal_of(config: &Config, io: &Io) -> Result<Option<TerminalOptions>> {
    io.check()?;
    let wrong = |reason| Err(Error::invalid("process.terminal", config.terminal.to_string(), reason));
    match (config.terminal, io.terminal_options()) {
        (true, None) => wrong("whoever creates it gives it other streams: give it a terminal (CreateOptions::io)"),
        (false, Some(_)) => wrong("whoever creates it expects a terminal: give it other streams (CreateOptions::io)"),
        (_, options) => Ok(options.map(|options| {
            let size = config.console_size.unwrap_or(options.size);
            TerminalOptions { size, ..options }
        })),
    }
}

/// The container of a config, as runtimes for bundles understand it.
fn asked_for(config: &Config, setup: &CreateOptions) -> Result<ContainerSpec> {
    let mut container = config.container.clone();
    container.name = "container".into();
    container.process.env.extend(setup.env.iter().cloned());
    if let Root::Dir(path) = &mut container.root {
        // Where it is attached must be where it is found.
        *path = path.canonicalize().doing(|| format!("finding the root file system {}", path.display()))?;
    }
    namespaces::place(&mut container, config);
    compat::follow(&mut container);
    Ok(container)
}

/// Whether a container has limits, and may mount the files that they are in.
fn could_lift(container: &ContainerSpec) -> bool {
    container.may_mount() && !container.resources.without_devices().is_empty()
}

/// Takes away the capabilities that are not among `grantable`, and says which.
fn restrict(sets: &mut CapabilitySets, grantable: CapabilitySet) -> Vec<Ignored> {
    let mut denied = CapabilitySet::EMPTY;
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted, &mut sets.inheritable, &mut sets.ambient]
    {
        denied = denied.union(set.difference(grantable));
        *set = set.intersection(grantable);
    }
    let reason = "podlet-oci was not given it itself, or the kernel does not know it";
    let mut names: Vec<_> = denied.iter().map(|capability| capability.to_string()).collect();
    names.sort();
    names.into_iter().map(|value| Ignored { field: "process.capabilities".into(), value, reason }).collect()
}
