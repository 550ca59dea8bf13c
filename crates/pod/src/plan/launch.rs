//! The plan of a container: from outside, into the pod last.
//!
//! ```text
//!   H  outside: opens trees, joins pause's namespaces and mount namespace,
//!   │  builds the root, gives up everything
//!   ├─ clone3 ► H2  first step inside the pod's pid namespace
//!   │           ├─ clone3 ► C   a session, the working directory, execve
//!   │           ▼  report BORN, exit: pause is C's parent now
//!   ▼  exit
//! ```
//!
//! While H works it has no pid in the pod: nobody in there, with whatever
//! capability, can trace it or read through its /proc links. What a pod-mate
//! can catch of H2 and C has already become the container.
//!
//! A container with a pid namespace of its own needs a /proc that only a
//! process inside it can mount, so there C is cloned first and builds the root
//! itself.

use std::path::{Path, PathBuf};

use pause::table::{self, Entry};
use pause::wire::{Record, Slot, TABLE_BASE};

use super::hold::{PodShape, Users};
use super::ids;
pub use super::ids::Ids;
pub use super::mounts::old::{Below, OldOrder};
use super::mounts::{self, Trees, old};
use super::program::{self, Program};
use super::{Arg, Given, Plan, process, step};
use crate::facts::Facts;
use crate::seccomp::Filter;
use crate::spec::{Container, Mount, MountKind, Namespace, Place, rlimit_number};

/// Where a container's root comes from, as decided for this pod and caller.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// A directory.
    Dir {
        /// Which.
        path: &'a Path,
        /// Its files belong to this machine's root, not to the pod's: they
        /// are to appear as the latter's.
        idmapped: bool,
    },
    /// An overlay on the machine's root.
    Overlay {
        /// What the container changes.
        upper: &'a Path,
        /// overlayfs' own.
        work: &'a Path,
    },
    /// The machine's root, which cannot be written.
    ReadOnlyHost,
}

/// What a bind mount's source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Where device nodes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// There are no rules for devices: the machine's own nodes are bound into
    /// a fresh `/dev`, and no others can be opened, because everything else
    /// is mounted `nodev`.
    Bound,
    /// There are rules (a BPF program of its cgroup): nodes are made, in a
    /// user namespace bound, and mounts have the options that are asked for
    /// and no others.
    Made,
}

/// Everything the plan of a container depends on.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// The pod.
    pub pod: &'a PodShape<'a>,
    /// The container, as checked.
    pub container: &'a Container,
    /// Its root.
    pub image: Image<'a>,
    /// Its user, as looked up.
    pub ids: &'a Ids,
    /// For each of the container's mounts: what its source is, if it has one.
    pub sources: &'a [Option<Source>],
    /// The system calls it may make.
    pub filter: Option<&'a Filter>,
    /// The machine has `/dev/mqueue`.
    pub has_host_mqueue: bool,
    /// Where its device nodes come from.
    pub nodes: Nodes,
    /// For each of the container's devices: where the machine has it, if it
    /// has to be bound.
    pub nodes_outside: &'a [Option<PathBuf>],
    /// Where the root is attached before it becomes `/`; on a mount that is
    /// not shared.
    pub attach: &'a Path,
    /// Facts for the old order, where the new calls are denied.
    pub old_order: Option<&'a OldOrder>,
    /// The slot in the exit table.
    pub entry: usize,
}

/// As many descriptors as making a container may take.
const ENOUGH: u64 = 1024;

/// As [`rlimit_number`] gives it; its type is the C library's choice.
#[allow(clippy::unnecessary_cast)] // Not with every C library.
const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// Where the root is attached in a copy of pause's.
pub const IN_PAUSE: &str = "/root";

impl Launch<'_> {
    /// Whether the machine's file systems can be mounted, or must be bound.
    pub(super) fn can_mount_afresh(&self) -> bool {
        self.facts.initial_users && self.in_callers_users()
    }

    pub(super) fn in_callers_users(&self) -> bool {
        *self.pod.users == Users::Caller
    }

    /// Whether device nodes can be made, and may.
    pub(super) fn makes_nodes(&self) -> bool {
        self.nodes == Nodes::Made && self.can_mount_afresh()
    }

    /// Whether they are made outside, by who may, with the owner that the
    /// container's user namespace has them belong to, and bound.
    pub(super) fn makes_nodes_outside(&self) -> bool {
        let Launch { nodes, facts, pod, .. } = self;
        *nodes == Nodes::Made && makes_nodes_for(pod.users, facts)
    }

    pub(super) fn host_net(&self) -> bool {
        self.container.net == Place::Host
    }

    pub(super) fn host_ipc(&self) -> bool {
        self.container.ipc == Place::Host
    }

    fn shares(&self, namespace: Namespace, place: Place) -> bool {
        place == Place::Pod && self.pod.options.shares(namespace)
    }

    /// Whether its pid namespace is nested under pause's.
    pub(super) fn own_pid(&self) -> bool {
        !self.shares(Namespace::Pid, self.container.pid)
    }

    /// Whether what its procfs shows as process 1 is pause.
    pub(super) fn sees_pause(&self) -> bool {
        !self.own_pid()
    }

    pub(super) fn source_of(&self, mount: &Mount) -> Option<Source> {
        let place = self.container.mounts.iter().position(|other| std::ptr::eq(other, mount))?;
        *self.sources.get(place)?
    }

    pub(super) fn is_file(&self, mount: &Mount) -> bool {
        self.source_of(mount) == Some(Source::File)
    }

    /// Where pause keeps the pod's own of this kind.
    pub(super) fn pods_own(&self, kind: &MountKind) -> Option<&'static str> {
        let container = self.container;
        if self.old_order.is_some() {
            // In there nobody can go.
            return None;
        }
        match kind {
            MountKind::Proc if !self.own_pid() => Some("/proc"),
            MountKind::Sysfs if self.shares(Namespace::Net, container.net) => Some("/sys"),
            MountKind::Mqueue if self.shares(Namespace::Ipc, container.ipc) => Some("/mqueue"),
            MountKind::Shm if self.shares(Namespace::Ipc, container.ipc) => Some("/shm"),
            _ => None,
        }
    }

    /// The file system's options: a terminal's group only where it exists.
    pub(super) fn data_of(&self, mount: &Mount) -> String {
        let gids = self.pod.users.gids();
        let has_tty = if gids.is_empty() { self.facts.tty_group } else { gids.iter().any(|map| map.contains(5)) };
        if mount.kind != MountKind::Devpts || has_tty {
            return mount.data.clone();
        }
        mount.data.split(',').filter(|option| *option != "gid=5").collect::<Vec<_>>().join(",")
    }

    /// Namespaces to join: pause's, of the kinds this container shares.
    fn joined(&self) -> u64 {
        let container = self.container;
        let left_out =
            [(Namespace::Net, container.net), (Namespace::Ipc, container.ipc), (Namespace::Cgroup, container.cgroup)];
        let left_out = left_out.iter().filter(|(_, place)| *place != Place::Pod);
        self.pod.joined() & left_out.fold(!0, |mask, (namespace, _)| mask & !namespace.flag())
    }

    /// Namespaces to make, besides mnt and pid.
    fn own(&self) -> u64 {
        let container = self.container;
        let kinds = [
            (Namespace::Net, container.net),
            (Namespace::Ipc, container.ipc),
            (Namespace::Uts, Place::Pod),
            (Namespace::Cgroup, container.cgroup),
        ];
        let own = kinds.iter().filter(|(kind, place)| *place != Place::Host && !self.shares(*kind, *place));
        own.fold(0, |flags, (kind, _)| flags | kind.flag())
    }
}

/// Whether the caller may make device nodes, and knows whose they are to be in
/// this other user namespace.
pub(crate) fn makes_nodes_for(users: &Users, facts: &Facts) -> bool {
    let needed = caps::Capability::CAP_MKNOD.bitmask() | caps::Capability::CAP_CHOWN.bitmask();
    let able = facts.capabilities & needed == needed;
    let may = facts.privileged && facts.initial_users && facts.calls.new_order() && able;
    may && matches!(users, Users::New { uids, gids } if !uids.is_empty() && !gids.is_empty())
}

/// Where a field of an exit table's slot stands in the new process.
fn entry_address(entry: usize, field: usize) -> u64 {
    let entries = std::mem::offset_of!(table::Table, entries);
    (TABLE_BASE + entries + entry * size_of::<Entry>() + field) as u64
}

/// The plan of a container.
pub fn plan(launch: &Launch<'_>) -> Plan {
    let nested = matches!(launch.pod.users, Users::Nested { .. });
    let idmapped = matches!(launch.image, Image::Dir { idmapped: true, .. });
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report, Given::Lock];
    given.extend([Given::Table, Given::Pause]);
    if nested && launch.old_order.is_none() {
        given.push(Given::PauseMounts);
    }
    if idmapped {
        given.push(Given::PauseUsers);
    }
    given.extend(mounts::given(launch));
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    p.push(step::set_name("podlet:launch"));
    if launch.old_order.is_none() {
        p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    }
    process::while_dumpable(p, launch.container);
    p.push(step::undumpable());
    p.push(step::map_table(p.slot_of(Given::Table)));
    set_limits(p, launch.container);
    process::inherited(p, launch.container);
    let build = enter(p, launch);
    if launch.own() & Namespace::Net.flag() != 0 {
        let socket = p.keep("socket", step::inet_socket());
        p.push(step::loopback_up(socket));
    }
    if launch.own() & Namespace::Uts.flag() != 0 {
        let own = launch.container.hostname.as_deref();
        p.push(step::sethostname(own.unwrap_or(launch.pod.options.effective_hostname())));
        launch.container.domainname.iter().for_each(|name| p.push(step::setdomainname(name)));
    }
    process::set_sysctls_of_pause(p, launch.facts, &launch.container.sysctl);
    let reached = p.slot("reached");
    // The feature is the negative control of a test: everything is done inside.
    let enter_last = !launch.own_pid() && launch.old_order.is_none() && !cfg!(feature = "test-old-order");
    if enter_last {
        build(p);
        p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
        become_container(p, launch, reached);
        let keep_below = p.slot_of(Given::Table);
        p.push(step::close_from(keep_below));
    }
    let namespaces = if launch.own_pid() { Namespace::Pid.flag() } else { 0 };
    let kind = Registration { entry: launch.entry, running: table::RUNNING, shown: "RUNNING" };
    let program = Program { reached: Some(reached), ..Program::of(launch.container) };
    be_born(
        p,
        kind,
        namespaces,
        |_| (),
        |p| {
            if !enter_last {
                build(p);
                process::own_scheduler(p, launch.container);
                p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
                become_container(p, launch, reached);
            }
            last_steps(p, launch.facts, launch.container, launch.filter, &program);
        },
    );
    plan
}

/// Resource limits, while they can still be raised.
pub(super) fn set_limits(p: &mut Plan, container: &Container) {
    for limit in &container.rlimits {
        match rlimit_number(&limit.name) {
            Ok((RLIMIT_NOFILE, _)) if limit.hard < ENOUGH => {}
            Ok((RLIMIT_NOFILE, name)) => {
                p.push(step::setrlimit(RLIMIT_NOFILE, name, limit.soft.max(ENOUGH), limit.hard));
            }
            Ok((number, name)) => p.push(step::setrlimit(number, name, limit.soft, limit.hard)),
            Err(_) => {}
        }
    }
}

/// Those that would be too few while the container is made.
pub(super) fn set_last_limits(p: &mut Plan, container: &Container) {
    for limit in &container.rlimits {
        if let Ok((RLIMIT_NOFILE, name)) = rlimit_number(&limit.name)
            && limit.soft < ENOUGH
        {
            p.push(step::setrlimit(RLIMIT_NOFILE, name, limit.soft, limit.hard));
        }
    }
}

/// Opens what is outside and enters the pod, but for its pid namespace.
/// What builds the root then.
fn enter<'a>(p: &mut Plan, launch: &'a Launch<'_>) -> Box<dyn Fn(&mut Plan) + 'a> {
    let pause = p.slot_of(Given::Pause);
    let mounts = libc::CLONE_NEWNS as u64;
    // Without a cgroup its processes are found by their mount namespace, which
    // must be known however soon the first of them ends. Inside the pod this
    // process has no /proc of its own, so it is opened here.
    let own_namespaces = (!launch.pod.cgroup)
        .then(|| p.keep("ns", step::openat(step::CWD, "/proc/self/ns", libc::O_PATH | libc::O_DIRECTORY)));
    let (pid, user) = (Namespace::Pid.flag(), Namespace::User.flag());
    let trees: Option<Trees> = match launch.pod.users {
        users if launch.old_order.is_some() => {
            let apart = *users != Users::Caller;
            p.push(step::setns(pause, launch.joined() | pid | if apart { user } else { 0 }));
            if apart {
                ids::become_root(p, launch.pod.users, launch.pod.users.setgroups(launch.facts));
                p.push(step::undumpable());
            }
            None
        }
        Users::Nested { .. } => {
            p.push(step::setns(pause, launch.joined() | pid | user));
            ids::become_root(p, launch.pod.users, launch.pod.users.setgroups(launch.facts));
            p.push(step::undumpable());
            // A copy of the machine's mounts that the pod's user namespace
            // owns: only from such a one can trees be cloned.
            p.push(step::unshare(mounts));
            let trees = mounts::open_trees(p, launch);
            p.push(step::setns(p.slot_of(Given::PauseMounts), mounts));
            Some(trees)
        }
        users => {
            if !launch.facts.initial_users {
                // The caller's mounts may belong to a user namespace further
                // out: trees can only be cloned from a copy of our own.
                p.push(step::unshare(mounts));
            }
            let trees = mounts::open_trees(p, launch);
            let apart = *users != Users::Caller;
            p.push(step::setns(pause, launch.joined() | pid | mounts | if apart { user } else { 0 }));
            if apart {
                ids::become_root(p, launch.pod.users, launch.pod.users.setgroups(launch.facts));
                p.push(step::undumpable());
            }
            Some(trees)
        }
    };
    // A copy of pause's root: one to five mounts, nothing of the machine; in
    // the old order one of the machine's.
    p.push(step::unshare(mounts | launch.own()));
    if let Some(own) = own_namespaces {
        let namespace = p.keep("mnt", step::openat(Arg::Slot(own), "mnt", 0));
        p.push(step::report(Record::MOUNTS, "MOUNTS", Some(namespace)));
    }
    match (trees, launch.old_order) {
        (Some(trees), _) => Box::new(move |p| {
            mounts::build(p, launch, &trees);
            mounts::close(p, launch, &trees);
            mounts::change_root(p, launch, trees.root);
        }),
        (None, facts) => {
            old::cut_off(p, launch);
            Box::new(move |p| facts.iter().for_each(|facts| old::build(p, launch, facts)))
        }
    }
}

/// Working directory, ids and capabilities.
pub(super) fn become_container(p: &mut Plan, launch: &Launch<'_>, reached: Slot) {
    let container = launch.container;
    program::go_ahead(p, launch.facts, &container.cwd, reached);
    let setgroups = launch.pod.users.setgroups(launch.facts);
    let kept = ids::kept_for(container, launch.filter);
    ids::become_user(p, launch.facts, launch.ids, container, kept, setgroups);
}

/// How a process is entered in the exit table.
pub(super) struct Registration {
    pub entry: usize,
    pub running: u32,
    pub shown: &'static str,
}

/// Forks into the pod, registers, and leaves `child` there with pause as its
/// parent. `inside` is what the helper does first, in the pod's pid namespace.
pub(super) fn be_born(
    p: &mut Plan,
    registration: Registration,
    namespaces: u64,
    inside: impl FnOnce(&mut Plan),
    child: impl FnOnce(&mut Plan),
) {
    let helper = p.slot("helper");
    let _helper_pid = p.slot("helper_pid");
    let born = p.slot("container");
    let _born_pid = p.slot("container_pid");
    p.fork(step::clone(0, 0), helper, |p| {
        // A launch that is given up must not come back: who is in here could
        // stop us and let us go on later.
        p.push(step::die_with_parent());
        // The one outside holds the lock until we are gone; in here somebody
        // could take it from us.
        let lock = p.slot_of(Given::Lock);
        p.push(step::close_range(lock, lock));
        inside(p);
        // From RUNNING on pause looks for the pid, so it must not be an old
        // one; the kernel writes the new one before the clone returns.
        let pid = entry_address(registration.entry, std::mem::offset_of!(Entry, pid));
        let state = entry_address(registration.entry, std::mem::offset_of!(Entry, state));
        p.push(step::store(pid, 0, "0"));
        p.push(step::store(state, registration.running, registration.shown));
        p.fork(step::clone(namespaces, pid), born, child);
        p.push(step::report(Record::BORN, "BORN", Some(born)));
        p.push(step::exit(0));
    });
    p.push(step::wait_for(helper));
    p.push(step::exit(0));
}

/// What only the new process itself can do, and `execve`.
///
/// The filter comes last, so that it needs to allow nothing of ours but
/// `execve`, and `capset` where a capability was kept to load it. That leaves
/// no word for afterwards: EXEC is said before. Should one of these fail and
/// the filter forbid to report it, the exit code still tells.
pub(super) fn last_steps(
    p: &mut Plan,
    facts: &Facts,
    container: &Container,
    filter: Option<&Filter>,
    program: &Program<'_>,
) {
    p.push(step::unmap_table());
    p.push(step::setsid());
    program::go_to(p, facts, program);
    p.push(step::close_from(p.slot_of(Given::Lock)));
    set_last_limits(p, container);
    program::start(p, p.slot_of(Given::Plan), container, filter, program);
}
