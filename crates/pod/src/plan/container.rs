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

use pause::table::{self, Entry};
use pause::wire::{Record, Slot, TABLE_BASE};

use super::input::{ContainerInput, RootSource};
use super::mounts::{self, Trees, legacy};
use super::program::{self, Program};
use super::{Arg, Given, Plan, ids, process, step};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::seccomp::Filter;
use crate::spec::users::Users;
use crate::spec::{Container, rlimit_number};

pub use super::input::{Below, LegacyMounts};
pub use crate::spec::users::Ids;

/// As many descriptors as making a container may take.
const ENOUGH: u64 = 1024;

/// As [`rlimit_number`] gives it; its type is the C library's choice.
#[allow(clippy::unnecessary_cast)] // Not with every C library.
const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// Where a field of an exit table's slot stands in the new process.
fn entry_address(entry: usize, field: usize) -> u64 {
    let entries = std::mem::offset_of!(table::Table, entries);
    (TABLE_BASE + entries + entry * size_of::<Entry>() + field) as u64
}

/// The plan of a container.
pub fn plan(launch: &ContainerInput<'_>) -> Plan {
    let nested = matches!(launch.isolation.users, Users::Nested { .. });
    let idmapped = matches!(launch.image, RootSource::Dir { idmapped: true, .. });
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report, Given::Lock];
    given.extend([Given::Table, Given::Pause]);
    if nested && launch.legacy_mounts.is_none() {
        given.push(Given::PauseMounts);
    }
    if idmapped {
        given.push(Given::PauseUsers);
    }
    given.extend(mounts::given(launch));
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    p.push(step::set_name("podlet:launch"));
    if launch.legacy_mounts.is_none() {
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
        let own = launch.container.hostname.as_deref().or(launch.isolation.hostname);
        own.iter().for_each(|name| p.push(step::sethostname(name)));
        launch.container.domainname.iter().for_each(|name| p.push(step::setdomainname(name)));
    }
    process::set_sysctls(p, launch.facts, &launch.container.sysctl);
    let reached = p.slot("reached");
    // The feature is the negative control of a test: everything is done inside.
    let enter_last = !launch.own_pid() && launch.legacy_mounts.is_none() && !cfg!(feature = "test-old-order");
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
fn enter<'a>(p: &mut Plan, launch: &'a ContainerInput<'_>) -> Box<dyn Fn(&mut Plan) + 'a> {
    let pause = p.slot_of(Given::Pause);
    let mounts = libc::CLONE_NEWNS as u64;
    // Without a cgroup its processes are found by their mount namespace, which
    // must be known however soon the first of them ends. Inside the pod this
    // process has no /proc of its own, so it is opened here.
    let own_namespaces = (!launch.isolation.cgroup)
        .then(|| p.keep("ns", step::openat(step::CWD, "/proc/self/ns", libc::O_PATH | libc::O_DIRECTORY)));
    let (pid, user) = (Namespace::Pid.flag(), Namespace::User.flag());
    let trees: Option<Trees> = match launch.isolation.users {
        users if launch.legacy_mounts.is_some() => {
            let apart = *users != Users::Caller;
            p.push(step::setns(pause, launch.joined() | pid | if apart { user } else { 0 }));
            if apart {
                ids::become_root(p, launch.isolation.users, launch.facts);
                p.push(step::undumpable());
            }
            None
        }
        Users::Nested { .. } => {
            p.push(step::setns(pause, launch.joined() | pid | user));
            ids::become_root(p, launch.isolation.users, launch.facts);
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
                ids::become_root(p, launch.isolation.users, launch.facts);
                p.push(step::undumpable());
            }
            Some(trees)
        }
    };
    // A copy of pause's root: three to six mounts, nothing of the machine; in
    // the legacy mount API one of the machine's.
    p.push(step::unshare(mounts | launch.own()));
    if let Some(own) = own_namespaces {
        let namespace = p.keep("mnt", step::openat(Arg::Slot(own), "mnt", 0));
        p.push(step::report(Record::MOUNTS, "MOUNTS", Some(namespace)));
    }
    match (trees, launch.legacy_mounts) {
        (Some(trees), _) => Box::new(move |p| {
            mounts::build(p, launch, &trees);
            mounts::close(p, launch, &trees);
            mounts::change_root(p, launch, trees.root);
        }),
        (None, facts) => {
            legacy::cut_off(p, launch);
            Box::new(move |p| facts.iter().for_each(|facts| legacy::build(p, launch, facts)))
        }
    }
}

/// Working directory, ids and capabilities.
pub(super) fn become_container(p: &mut Plan, launch: &ContainerInput<'_>, reached: Slot) {
    let container = launch.container;
    program::go_ahead(p, launch.facts, &container.cwd, reached);
    ids::become_user(p, launch.facts, launch.isolation.users, launch.ids, container, launch.filter);
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
