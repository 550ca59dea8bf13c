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
//! A container with a pid namespace of its own comes there otherwise
//! ([`nested`](super::nested)).

use pause::table;
use pause::wire::{Record, Slot};

use super::birth::{self, Registration, be_born, last_steps};
use super::input::ContainerInput;
use super::mounts::{self, Trees, legacy};
use super::program::{self, Program};
use super::{Arg, Given, Plan, ids, nested, process, step, terminal};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::namespace::Namespace;
use crate::spec::users::Users;

/// The plan of a container.
pub fn plan(launch: &ContainerInput<'_>) -> Plan {
    let nests_users = matches!(launch.isolation.users, Users::Nested { .. });
    let order = Order::of(launch);
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report, Given::Lock];
    if order == Order::Nested {
        given.extend(nested::GIVEN);
    }
    given.extend([Given::Table, Given::Pause]);
    if nests_users && launch.legacy_mounts.is_none() {
        given.push(Given::PauseMounts);
    }
    if launch.image.is_idmapped() {
        given.push(Given::PauseUsers);
    }
    given.extend(mounts::given(launch));
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    p.push(step::set_name("podlet:launch"));
    if launch.legacy_mounts.is_none() {
        p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    }
    process::while_dumpable(p, &launch.container.process);
    p.push(step::undumpable());
    p.push(step::map_table(p.slot_of(Given::Table)));
    process::set_limits(p, &launch.container.process);
    process::inherited(p, launch.container);
    let trees = enter(p, launch, order);
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
    match (order, &trees) {
        (Order::Nested, Some(trees)) => nested::plan(p, launch, trees),
        _ => enter_pod(p, launch, order, trees.as_ref()),
    }
    plan
}

/// Who builds the root, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// H, which enters the pod last.
    Last,
    /// The same, for a container with a pid namespace of its own.
    Nested,
    /// C, inside the pod.
    Inside,
}

impl Order {
    fn of(launch: &ContainerInput<'_>) -> Order {
        // The feature is the negative control of a test.
        let inside = launch.legacy_mounts.is_some() || cfg!(feature = "test-old-order");
        match launch.own_pid() {
            _ if inside => Order::Inside,
            true => Order::Nested,
            false => Order::Last,
        }
    }
}

/// H gives up everything and forks into the pod, or has C do it there.
fn enter_pod(p: &mut Plan, launch: &ContainerInput<'_>, order: Order, trees: Option<&Trees>) {
    let reached = p.slot("reached");
    if order == Order::Last {
        build(p, launch, trees);
        p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
        become_container(p, launch, reached);
        let keep_below = p.slot_of(Given::Table);
        p.push(step::close_from(keep_below));
    }
    let namespaces = if launch.own_pid() { Namespace::Pid.flag() } else { 0 };
    let kind = Registration { entry: launch.entry, running: table::RUNNING, shown: "RUNNING" };
    let program = Program { reached: Some(reached), ..Program::of(&launch.container.process) };
    be_born(p, kind, namespaces, birth::NOTHING, |p| {
        if order == Order::Inside {
            build(p, launch, trees);
            process::own_scheduler(p, &launch.container.process);
            p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
            become_container(p, launch, reached);
        }
        let has_terminal = launch.terminal.is_some();
        last_steps(p, launch.facts, &launch.container.process, launch.filter, &program, has_terminal);
    });
}

/// Builds the root and makes it that.
fn build(p: &mut Plan, launch: &ContainerInput<'_>, trees: Option<&Trees>) {
    if let Some(trees) = trees {
        mounts::build(p, launch, trees);
        terminal::make_in_root(p, launch, trees.root);
        mounts::close(p, launch, trees);
        mounts::change_root(p, launch, trees.root);
    }
    launch.legacy_mounts.iter().for_each(|facts| legacy::build(p, launch, facts));
}

/// Opens what is outside and enters the pod, but for its pid namespace: what
/// has been opened.
fn enter(p: &mut Plan, launch: &ContainerInput<'_>, order: Order) -> Option<Trees> {
    let pause = p.slot_of(Given::Pause);
    let mounts = libc::CLONE_NEWNS as u64;
    // Without a cgroup its processes are found by their mount namespace, which
    // must be known however soon the first of them ends. Inside the pod this
    // process has no /proc of its own, so it is opened here.
    let own_namespaces = (!launch.isolation.cgroup)
        .then(|| p.keep("ns", step::openat(step::CWD, "/proc/self/ns", libc::O_PATH | libc::O_DIRECTORY)));
    let user = Namespace::User.flag();
    // Of the children.
    let pid = if order == Order::Nested { 0 } else { Namespace::Pid.flag() };
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
    if launch.legacy_mounts.is_some() {
        legacy::cut_off(p, launch);
    }
    trees
}

/// Working directory, ids and capabilities.
pub(super) fn become_container(p: &mut Plan, launch: &ContainerInput<'_>, reached: Slot) {
    let container = launch.container;
    program::go_ahead(p, launch.facts, &container.process.cwd, reached);
    ids::become_user(
        p,
        launch.facts,
        launch.isolation.users,
        launch.ids,
        &container.process,
        launch.filter,
        CapabilitySet::EMPTY,
    );
}
