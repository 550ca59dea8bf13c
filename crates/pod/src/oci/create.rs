//! `create`, and `run`, which is `create` and `start` in one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use super::dir::{Dir, Held};
use super::id_maps::seen_inside;
use super::namespaces::{self, Namespaces, OpenedMntns};
use super::record::{Attached, RECORD, Record, RecordedMntns};
use super::shared_mntns::{check_among_others, stays_below};
use super::{Instance, Runtime, cgroup_path, check_id, compat, hooks, seccomp_agent};
use crate::cgroup::{apply, doubled};
use crate::config::{Config, Ignored};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::syscalls;
use crate::launch::run_plan::seal;
use crate::launch::stdio::Io;
use crate::lookup::prepared::Prepared;
use crate::plan::Plan;
use crate::plan::input::{Isolation, MachineMount};
use crate::plan::oci_create::{self, Bundle, MntnsMode};
use crate::plan::terminal::Terminal;
use crate::spec::users::Users;
use crate::spec::{CapabilitySets, Container, Root};

/// How a container is made, besides what its config says.
#[derive(Debug)]
pub struct CreateOptions {
    /// Its standard streams, unless it has a terminal.
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
    /// If it has a terminal, a newline comes out of it as that: see
    /// [`Terminal::keeps_newlines`].
    pub keeps_newlines: bool,
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
            keeps_newlines: false,
            cancel: None,
        }
    }
}

/// A container that was just made.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub instance: Instance,
    /// Its process, a child of this program.
    pub process: OwnedFd,
    /// The controlling end of its terminal.
    pub console: Option<OwnedFd>,
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
        let Checked { facts, namespaces, prepared, cgroup, left_out, .. } = checked;

        // Held until it is made: whoever finds it waits.
        let (dir, held) = Dir::make(&dir, RECORD)?.ok_or_else(exists)?;
        let mut instance = Instance { dir, record, process: None, facts, cancel: setup.cancel.take() };
        if let Err(error) = instance.take_cgroup(cgroup) {
            // Refused: nothing was done that a hook could have to undo.
            instance.erase(&held).ok();
            return Err(error);
        }
        match instance.make((&plan, sealed), &namespaces, &prepared, setup.io, setup.preserved, waits) {
            Ok(born) => Ok((Created { instance, process: born.pidfd, console: born.console, left_out }, held)),
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
    container: Container,
    /// Capabilities that cannot be granted.
    left_out: Vec<Ignored>,
    prepared: Prepared,
    cgroup: Option<PathBuf>,
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
        let namespaces = namespaces::prepare(config, &facts)?;
        seccomp_agent::check(&config.container.seccomp, waits)?;
        let mut container = asked_for(config, setup)?;
        let left_out = match namespaces.users {
            // The specification wants what cannot be granted left out.
            Users::Caller => restrict(&mut container.capabilities, facts.capabilities),
            _ => Vec::new(),
        };
        let prepared = Prepared::of_bundle(&container, &namespaces.users, &facts)?;
        let cgroup = cgroup_path::find(&facts, config.cgroups_path.as_deref(), id)?;
        apply::check_reachable(&container.resources, &facts, cgroup.as_deref())?;
        if !namespaces.mounts.are_own() {
            check_among_others(&container, cgroup.is_some() || namespaces.makes(Namespace::Pid))?;
        }
        let created = SystemTime::now();
        let mounts = match &namespaces.mounts {
            OpenedMntns::Own => RecordedMntns::Own,
            OpenedMntns::Joined(_) => RecordedMntns::Joined,
            OpenedMntns::Callers(_, namespace) => {
                RecordedMntns::Callers(Attached::new(*namespace, id, created, container.root.path())?)
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
            prepared,
            cgroup,
            mounts,
            below,
        })
    }

    /// Everything its first process will do.
    fn plan(&self, setup: &CreateOptions) -> Plan {
        let Checked { config, waits, facts, namespaces, .. } = self;
        let isolation = Isolation::of_bundle(&namespaces.users, self.cgroup.is_some());
        oci_create::plan(&Bundle {
            launch: self.prepared.launch(isolation, facts),
            made: namespaces.made,
            joined: &namespaces.joined.iter().map(|(namespace, _)| *namespace).collect::<Vec<_>>(),
            mounts: match &self.mounts {
                RecordedMntns::Own => MntnsMode::Own,
                RecordedMntns::Joined => MntnsMode::Joined,
                RecordedMntns::Callers(attached) => MntnsMode::Callers { mark: &attached.mark },
            },
            time_offsets: config.time_offsets,
            terminal: config
                .terminal
                .then_some(Terminal { size: config.console_size, keeps_newlines: setup.keeps_newlines }),
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
        let mut env = container.env.clone();
        env.retain(|variable| !setup.env.contains(variable));
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
            container: Container { env, ..self.prepared.container().clone() },
            users: namespaces.users.clone(),
            hooks: config.hooks.clone(),
            cgroup: None,
            made_cgroups: Vec::new(),
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

/// The container of a config, as runtimes for bundles understand it.
fn asked_for(config: &Config, setup: &CreateOptions) -> Result<Container> {
    let mut container = config.container.clone();
    container.name = "container".into();
    container.env.extend(setup.env.iter().cloned());
    if let Root::Dir(path) = &mut container.root {
        // Where it is attached must be where it is found.
        *path = path.canonicalize().doing(|| format!("finding the root file system {}", path.display()))?;
    }
    namespaces::place(&mut container, config);
    compat::follow(&mut container);
    Ok(container)
}

/// Whether a container has limits, and may mount the files that they are in.
fn could_lift(container: &Container) -> bool {
    container.may_mount() && !container.resources.without_devices().is_empty()
}

/// Takes away the capabilities that are not among `grantable`, and says which.
fn restrict(sets: &mut CapabilitySets, grantable: u64) -> Vec<Ignored> {
    let mut denied = 0;
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted, &mut sets.inheritable, &mut sets.ambient]
    {
        denied |= *set & !grantable;
        *set &= grantable;
    }
    let reason = "podlet-oci was not given it itself, or the kernel does not know it";
    let is_denied = |capability: &caps::Capability| denied & capability.bitmask() != 0;
    let mut names: Vec<_> =
        caps::all().into_iter().filter(is_denied).map(|capability| capability.to_string()).collect();
    names.sort();
    names.into_iter().map(|value| Ignored { field: "process.capabilities".into(), value, reason }).collect()
}
