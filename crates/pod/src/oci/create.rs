//! `create`, and `run`, which is `create` and `start` in one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::dir::{Dir, Held};
use super::exec::Inside;
use super::id_maps::{give, seen_inside, write_maps};
use super::namespaces::{self, Namespaces, OpenedMntns};
use super::record::{self, Attached, PROCESS, ProcessRecord, RECORD, Record, START_SOCKET, Status, UNFINISHED};
use super::shared_mntns::{check_among_others, stays_below};
use super::{Instance, Runtime, cgroup_path, check_id, compat, hooks, seccomp_agent};
use crate::cgroup::{self, apply, doubled};
use crate::config::{Config, Hooks, Ignored};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::{MountNamespace, ProcessId, innermost_pid};
use crate::kernel::{idmap, netlink, probe, record_file, syscalls};
use crate::launch::run_plan::{LaunchRequest, Launched, Note, Question, run_plan, seal};
use crate::launch::stdio::{self, Io};
use crate::lookup::prepared::Prepared;
use crate::plan::input::{Nodes, PodShape};
use crate::plan::oci_create::{self, Bundle};
use crate::plan::terminal::Terminal;
use crate::plan::{Given, Plan};
use crate::spec::users::Users;
use crate::spec::{CapabilitySets, Container, PodOptions, Root};

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
        let gate = !config.hooks.start_container.is_empty();
        let (mut created, held) = self.make(id, config, setup, gate)?;
        let result = match gate {
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
    fn make(&self, id: &str, config: &Config, mut setup: CreateOptions, gate: bool) -> Result<(Created, Held)> {
        check_id(id)?;
        let exists = || Error::Exists(format!("container {id:?}"));
        let dir = self.root.join(id);
        if dir.exists() {
            return Err(exists());
        }
        let facts = Facts::read()?;
        check_calls(&facts)?;
        let namespaces = namespaces::prepare(config, &facts)?;
        seccomp_agent::check(&config.container.seccomp, gate)?;
        let mut container = asked_for(config, &setup)?;
        let left_out = match namespaces.users {
            // The specification wants what cannot be granted left out.
            Users::Caller => restrict(&mut container.capabilities, facts.capabilities),
            _ => Vec::new(),
        };
        let options = PodOptions::new("none").share([]);
        let shape = PodShape { options: &options, users: &namespaces.users, cgroup: true };
        let prepared = Prepared::new(&container, &shape, &facts, Nodes::Made, &[], &dir)?;
        let ends_as_one = namespaces.made & Namespace::Pid.flag() != 0;
        let cgroup = cgroup_path::find(&facts, config.cgroups_path.as_deref(), id)?;
        apply::check_reachable(&container.resources, &facts, cgroup.as_deref())?;
        if !namespaces.mounts.are_own() {
            check_among_others(&container, cgroup.is_some() || ends_as_one)?;
        }
        let created = SystemTime::now();
        let mounts = match &namespaces.mounts {
            OpenedMntns::Own => record::RecordedMntns::Own,
            OpenedMntns::Joined(_) => record::RecordedMntns::Joined,
            OpenedMntns::Callers(_, namespace) => {
                record::RecordedMntns::Callers(Attached::new(*namespace, id, created, container.root.path())?)
            }
        };
        let below = if setup.pivot { None } else { stays_below(&namespaces.mounts)? };
        let bundle = Bundle {
            launch: prepared.alone(&shape, &facts),
            made: namespaces.made,
            joined: &namespaces.joined.iter().map(|(namespace, _)| *namespace).collect::<Vec<_>>(),
            mounts: match &mounts {
                record::RecordedMntns::Own => oci_create::MntnsMode::Own,
                record::RecordedMntns::Joined => oci_create::MntnsMode::Joined,
                record::RecordedMntns::Callers(attached) => oci_create::MntnsMode::Callers { mark: &attached.mark },
            },
            time_offsets: config.time_offsets,
            terminal: config
                .terminal
                .then_some(Terminal { size: config.console_size, keeps_newlines: setup.keeps_newlines }),
            stops: stops(&config.hooks, &container),
            below: below.as_deref(),
            keyring: setup.keyring,
            preserved: setup.preserved.len() as u16,
            tells_mounts: cgroup.is_none(),
            looks_for_program: gate && config.has_process,
            gate: gate.then(|| seen_inside(facts.uid, namespaces.users.uids(), &namespaces.users)),
        };
        let plan = oci_create::plan(&bundle);
        let sealed = seal(&plan)?;
        let mut recorded = prepared.container().clone();
        recorded.env.retain(|variable| !setup.env.contains(variable));
        if container.env_value("HOME").is_none() {
            // The user's, not the config's: that of another process may differ.
            recorded.env.retain(|variable| !variable.starts_with("HOME="));
        }
        let (late_steps, late_kinds) = plan.late_steps().into_iter().unzip();
        let record = Record {
            id: id.into(),
            bundle: config.bundle.clone(),
            annotations: config.annotations.clone(),
            created,
            owner: facts.uid,
            pids: facts.pids,
            ends_as_one,
            has_process: config.has_process,
            container: recorded,
            users: namespaces.users.clone(),
            hooks: config.hooks.clone(),
            cgroup: None,
            made_cgroups: Vec::new(),
            doubled: namespaces.made & Namespace::Cgroup.flag() != 0
                && could_lift(&container)
                && !doubled::is_delegated(),
            mounts,
            late_steps,
            late_kinds,
        };

        // Held until it is made: whoever finds it waits.
        let (dir, held) = Dir::make(&dir, RECORD)?.ok_or_else(exists)?;
        let mut instance = Instance { dir, record, process: None, facts, cancel: setup.cancel.take() };
        let places = [instance.dir.path().into(), "/dev/shm".into(), "/var/tmp".into()];
        if let Err(error) = instance.take_cgroup(cgroup) {
            // Refused: nothing was done that a hook could have to undo.
            instance.erase(&held).ok();
            return Err(error);
        }
        let made = prepared.make_outside(&shape, &places);
        let made =
            made.and_then(|outside| instance.make((&plan, sealed), &namespaces, &prepared, outside, setup, gate));
        match made {
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

/// A bundle's mounts are made by calls that are not everywhere.
fn check_calls(facts: &Facts) -> Result<()> {
    if facts.calls.new_order() {
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

impl Instance {
    /// A cgroup that nobody is in, to be the container's.
    fn take_cgroup(&mut self, cgroup: Option<PathBuf>) -> Result<()> {
        let mut made = cgroup.as_deref().map(cgroup_path::missing).transpose()?.unwrap_or_default();
        if let Some(cgroup) = cgroup.as_deref().filter(|_| self.record.doubled && made.is_empty()) {
            // Of a cgroup that stays.
            made.push(doubled::birthplace(cgroup, true));
        }
        self.record.made_cgroups = made;
        self.record.doubled &= cgroup.is_some();
        self.record.cgroup = cgroup;
        Ok(())
    }

    fn make(
        &mut self,
        (plan, sealed): (&Plan, OwnedFd),
        namespaces: &Namespaces,
        prepared: &Prepared,
        outside: Vec<(Given, OwnedFd)>,
        setup: CreateOptions,
        gate: bool,
    ) -> Result<Launched> {
        let object = self.object();
        record_file::write_record(&self.dir.join(RECORD), &self.record)?;
        if let Some(cgroup) = self.cgroup() {
            cgroup_path::make(cgroup)?;
            doubled::limit(cgroup, self.record.doubled, &self.record.container.resources)?;
        }
        let gate = gate.then(|| self.make_gate()).transpose()?;
        let streams = [(setup.io.stdin, 0), (setup.io.stdout, 1), (setup.io.stderr, 2)];
        let streams = streams.map(|(stdio, number)| stdio::open_stdio(stdio, number, &self.dir.join("log")));
        let [stdin, stdout, stderr] = streams;
        let streams = [stdin?, stdout?, stderr?];
        let owner = idmap::on_machine(prepared.ids().uid, self.record.users.uids());
        streams.iter().for_each(|stream| give(stream, owner));
        let birthplace = self.birthplace().map(|dir| cgroup::open_dir(&dir)).transpose()?;
        let mut fds: Vec<(Given, BorrowedFd<'_>)> =
            [Given::Stdin, Given::Stdout, Given::Stderr].into_iter().zip(streams.iter().map(AsFd::as_fd)).collect();
        fds.extend(gate.iter().map(|gate| (Given::StartSocket, gate.as_fd())));
        fds.extend((0..).zip(&setup.preserved).map(|(i, fd)| (Given::Preserved(i), fd.as_fd())));
        fds.extend(namespaces.joined.iter().map(|(namespace, file)| (Given::Namespace(*namespace), file.as_fd())));
        fds.extend(namespaces.mounts.file().map(|file| (Given::Mounts, file.as_fd())));
        let is_among_callers = matches!(namespaces.mounts, OpenedMntns::Callers(..));
        // Resolved already: were there a link by now, it would be mounted
        // wherever that leads.
        let open = || probe::open_without_links(self.rootfs()).doing(|| format!("opening {}", self.rootfs().display()));
        let place = is_among_callers.then(open).transpose()?;
        fds.extend(place.iter().map(|place| (Given::Place, place.as_fd())));
        fds.extend(outside.iter().map(|(given, fd)| (*given, fd.as_fd())));
        let title = CString::new(format!("podlet-oci:create {}", self.record.id)).unwrap_or_default();
        let moved = RefCell::default();
        let noted = Cell::new(None);
        let note = |pid, mounts| self.note_process(pid, mounts).map(|process| noted.set(Some(process)));
        let request = LaunchRequest {
            object: &object,
            title: &title,
            sealed,
            fds: &fds,
            handed_over: Vec::new(),
            cgroup: birthplace.as_ref().map(AsFd::as_fd),
            // One that waits for its hooks is told then, unless it waits before.
            note: (is_among_callers || !stops(&self.record.hooks, &self.record.container))
                .then_some(Note { with_mounts: self.cgroup().is_none() && self.has_own_mounts(), write: &note }),
            answer: &|question| match question {
                Question::Maps(pid) => write_maps(pid, &self.record.users),
                Question::Runtime(pidfd, mounts) => {
                    let pid = syscalls::pid_of(pidfd.as_fd()).doing(|| self.object())?;
                    let pid = pid.ok_or_else(|| Error::Died { object: self.object() })?;
                    // Before the hooks: one may hang.
                    if noted.get().is_none() {
                        note(pid, mounts)?;
                    }
                    self.move_devices(pid, &moved)?;
                    self.run_create_hooks(pid, pidfd)
                }
                Question::Listener { filter, process } => self.pass_on_listener(&filter, process),
            },
            places: &[self.dir.path().into(), "/dev/shm".into(), "/var/tmp".into()],
            cancel: self.cancel.as_ref(),
        };
        let born = run_plan(plan, request).inspect_err(|_| {
            if let Some(Moved { devices, here, there }) = moved.borrow().as_ref() {
                netlink::give_back(devices, here.as_fd(), there.as_fd());
            }
        })?;
        let made = noted.get().ok_or_else(|| Error::Died { object: self.object() });
        let made = made.and_then(|process| self.note_made().map(|()| process));
        self.process = Some(made.inspect_err(|_| {
            syscalls::pidfd_signal(born.pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::reap(born.pidfd.as_fd());
        })?);
        Ok(born)
    }

    /// Writes down who has to be ended if we are killed before it is made.
    fn note_process(&self, pid: u32, mounts: Option<MountNamespace>) -> Result<ProcessRecord> {
        let process = ProcessId::of(pid)?.ok_or_else(|| Error::Died { object: self.object() })?;
        let process = ProcessRecord { process, mounts, cgroup: self.cgroup().and_then(cgroup::number) };
        let path = self.dir.join(UNFINISHED);
        record_file::write_new(&path, &record_file::record_bytes(&path, &process)?)?;
        Ok(process)
    }

    /// It is in its root now, and others may know of it.
    fn note_made(&self) -> Result<()> {
        let path = self.dir.join(PROCESS);
        fs::rename(self.dir.join(UNFINISHED), &path).doing(|| format!("making {}", path.display()))
    }

    /// The socket at which the container will wait, for this user alone.
    fn make_gate(&self) -> Result<OwnedFd> {
        let context = || format!("making the gate of {}", self.object());
        let gate = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).doing(context)?;
        let path = self.dir.short(START_SOCKET);
        bind(gate.as_raw_fd(), &UnixAddr::new(path.as_str()).doing(context)?).doing(context)?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.dir.join(START_SOCKET), private).doing(context)?;
        listen(&gate, Backlog::new(1).doing(context)?).doing(context)?;
        Ok(gate)
    }

    /// Network interfaces of this machine that the container is to have.
    fn move_devices(&self, pid: u32, moved: &RefCell<Option<Moved>>) -> Result<()> {
        let devices = &self.record.container.net_devices;
        if devices.is_empty() {
            return Ok(());
        }
        let open = |path: String| File::open(&path).doing(|| format!("opening {path}"));
        let (here, there) = (open("/proc/thread-self/ns/net".into())?, open(format!("/proc/{pid}/ns/net"))?);
        let devices = netlink::transfer(devices, here.as_fd(), there.as_fd())?;
        *moved.borrow_mut() = Some(Moved { devices, here, there });
        Ok(())
    }

    /// Hooks that run while the container's root is not yet changed.
    fn run_create_hooks(&self, pid: u32, pidfd: &OwnedFd) -> Result<()> {
        let gone = || Error::Died { object: self.object() };
        let mut state = self.state_as(Status::Creating);
        state.pid = pid;
        let hooks = &self.record.hooks;
        for (kind, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            hooks::run_all(kind, list, &state, &self.record.bundle, self.until(Some(pidfd)))?;
        }
        hooks.create_container.iter().try_for_each(|hook| {
            let state = super::State { pid: innermost_pid(pid)?.ok_or_else(gone)?, ..state.clone() };
            let inside = Inside { cwd: self.rootfs(), env: self.record.container.env.clone(), ids: None };
            self.run_inside("createContainer", hook, &state, pidfd, inside)
        })
    }
}

/// Whether there is something to do between a container's birth and the change
/// of its root.
fn stops(hooks: &Hooks, container: &Container) -> bool {
    let Hooks { prestart, create_runtime, create_container, .. } = hooks;
    let hooks = [prestart, create_runtime, create_container];
    hooks.iter().any(|hooks| !hooks.is_empty()) || !container.net_devices.is_empty()
}

/// Interfaces on their way, and the two network namespaces.
struct Moved {
    devices: BTreeMap<String, String>,
    here: File,
    there: File,
}
