//! The plan of a container without a pod, as an OCI runtime makes it.
//!
//! ```text
//!   H  opens trees, joins namespaces that are there, gets its ids
//!   ├─ clone3(CLONE_PARENT) ► C   builds the root                       RUNTIME
//!   │                             (hooks run)                          ◄ go on
//!   ▼  report BORN, exit          changes the root, becomes the user
//!                                 (its number is written down)         ◄ go on
//!                                 waits to be started◄ start connects   CREATED
//!                                 (hooks run)                          ◄ go on
//!                                 execve                                EXEC
//! ```
//!
//! C is cloned early: it has no pod-mates who could catch it half-made, and it
//! must be a child of the caller, and after the caller's end of the caller's
//! subreaper (conmon, the containerd shim), who waits for its exit.
//!
//! Where there is nothing to join and nobody else to become first, there is no
//! H: C is born in its namespaces, and opens the trees in its own copy of the
//! caller's mounts.
//!
//! A container that is to be in a mount namespace with others ([`MntnsMode`]) is
//! built all the same in one that nobody else sees, and comes to the others in
//! one piece: what fails before leaves nothing there, and no path of theirs is
//! followed but that of the root.

use pause::wire::{Record, Slot};

use super::input::ContainerInput;
use super::program::{self, Program};
use super::{Given, Plan, container, ids, mounts, pod, process, step, terminal};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::spec::TimeOffsets;
use crate::spec::users::Users;

pub use super::input::MachineMount;

/// Whose mount namespace the container's process is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MntnsMode<'a> {
    /// Its own.
    Own,
    /// One that is there: the root becomes that of all who are in it.
    Joined,
    /// The caller's: the root stands in its mount table, and is that of this
    /// process alone.
    Callers {
        /// The source of the file system below it, by which it is found again.
        mark: &'a str,
    },
}

/// Everything the plan depends on.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The container.
    pub launch: ContainerInput<'a>,
    /// `CLONE_NEW*` of the namespaces to make, whatever it says of mounts.
    pub made: u64,
    /// Those to join, in this order: before `user` come the ones that do not
    /// belong to it.
    pub joined: &'a [Namespace],
    /// The mount namespace. One to join comes after all others: it must belong
    /// to the user namespace that the container is in, or nothing could be
    /// mounted there.
    pub mounts: MntnsMode<'a>,
    /// Of the time namespace, if one is made.
    pub time_offsets: TimeOffsets,
    /// There is something to do before its root is changed: hooks, network
    /// interfaces.
    pub stops: bool,
    /// Its root becomes one by `pivot_root(2)`, or, where the machine's root is
    /// a ramdisk and cannot, by moving it over the machine's: then these of the
    /// machine's mounts have to go.
    pub below: Option<&'a [MachineMount]>,
    /// It gets a session keyring of its own.
    pub keyring: bool,
    /// How many descriptors it keeps, from 3 on.
    pub preserved: u16,
    /// It finds out whether its program is there before it waits.
    pub looks_for_program: bool,
    /// It waits to be started by this user, as the user is seen inside.
    pub start_user: Option<u32>,
}

impl Bundle<'_> {
    fn makes(&self, namespace: Namespace) -> bool {
        self.made & namespace.flag() != 0
    }

    /// What its process is born in. The root is always built in a new mount
    /// namespace.
    fn birthplace(&self) -> u64 {
        self.made | libc::CLONE_NEWNS as u64
    }

    fn is_among_callers(&self) -> bool {
        matches!(self.mounts, MntnsMode::Callers { .. })
    }

    /// Whether an ordinary user joins its namespaces later, who can only join
    /// those of a process that may be traced.
    fn is_joined_by_user(&self) -> bool {
        matches!(self.launch.isolation.users, Users::Nested { .. })
    }

    /// Whether the first process is the container's own: no namespace has to
    /// be joined, and none has to be made by somebody who lives in it then.
    fn is_born_inside(&self) -> bool {
        self.launch.facts.privileged
            && self.joined.is_empty()
            && !self.makes(Namespace::User)
            && !self.makes(Namespace::Time)
    }
}

/// The plan of a container without a pod.
pub fn plan(bundle: &Bundle<'_>) -> Plan {
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    given.extend(bundle.start_user.map(|_| Given::StartSocket));
    given.extend((0..bundle.preserved).map(Given::Preserved));
    let kept = given.len();
    given.extend(mounts::given(&bundle.launch));
    given.extend(bundle.joined.iter().map(|&kind| Given::Namespace(kind)));
    given.extend((bundle.mounts != MntnsMode::Own).then_some(Given::Mounts));
    given.extend(bundle.is_among_callers().then_some(Given::Place));
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    p.push(step::set_name("podlet:create"));
    p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    // Whoever asked for it has to be there for the answers.
    p.push(step::die_with_parent());
    process::while_dumpable(p, &bundle.launch.container.process);
    process::set_limits(p, &bundle.launch.container.process);
    process::inherited(p, bundle.launch.container);
    let trees = enter(p, bundle);
    p.push(step::undumpable());
    if bundle.is_born_inside() {
        p.born_in = bundle.birthplace();
        container_steps(p, bundle, &trees, Slot(kept as u16));
        return plan;
    }

    let born = p.slot("container");
    let _born_pid = p.slot("container_pid");
    let made = bundle.birthplace() & !(Namespace::User.flag() | Namespace::Time.flag());
    p.fork(step::clone_sibling(made), born, |p| {
        p.push(step::die_with_parent());
        container_steps(p, bundle, &trees, Slot(kept as u16));
    });
    p.push(step::report(Record::BORN, "BORN", Some(born)));
    p.push(step::exit(0));
    plan
}

/// Opens what is outside, and leaves: trees with the ids that may open them,
/// then the namespaces.
fn enter(p: &mut Plan, bundle: &Bundle<'_>) -> mounts::Trees {
    let launch = &bundle.launch;
    let privileged = launch.facts.privileged;
    let mounts = libc::CLONE_NEWNS as u64;
    if privileged && !launch.facts.initial_users && !bundle.is_born_inside() {
        // The caller's mounts may belong to a user namespace further out.
        p.push(step::unshare(mounts));
    }
    let trees = privileged.then(|| mounts::open_trees(p, launch));
    // As long as files of /proc/self are ours. What may be written there is
    // asked of who opened it.
    let clocks = bundle.makes(Namespace::Time).then(|| p.keep("clocks", pod::open_time_offsets()));
    let joins_users = bundle.joined.contains(&Namespace::User);
    if joins_users {
        // Whoever is root in there may see us from a pid namespace further
        // out, and could trace us while we still have the machine's root and
        // files open.
        p.push(step::undumpable());
    }
    for &kind in bundle.joined {
        p.push(step::setns(p.slot_of(Given::Namespace(kind)), kind.flag()));
        if kind == Namespace::User {
            become_root(p, launch.isolation.users, launch.facts);
        }
    }
    if bundle.makes(Namespace::User) {
        p.push(step::unshare(Namespace::User.flag()));
        p.push(step::report(Record::MAPS, "MAPS", None));
        p.push(step::await_message(p.slot_of(Given::Report)));
        become_root(p, launch.isolation.users, launch.facts);
    }
    if let Some(clocks) = clocks {
        // The offsets can be written until the first process is in it.
        p.push(step::unshare(Namespace::Time.flag()));
        p.push(step::write(clocks, bundle.time_offsets.text().as_bytes()));
        p.free(clocks);
    }
    let mut trees = trees.unwrap_or_else(|| {
        // An ordinary user can only clone trees of mounts that the new user
        // namespace owns.
        p.push(step::unshare(mounts));
        mounts::open_trees(p, launch)
    });
    trees.opened_inside = bundle.is_born_inside();
    trees
}

fn become_root(p: &mut Plan, users: &Users, facts: &Facts) {
    ids::become_root(p, users, facts);
    // Forgotten at the change of ids.
    p.push(step::die_with_parent());
}

/// What the container's process does once it is in its namespaces, up to the
/// program.
fn container_steps(p: &mut Plan, bundle: &Bundle<'_>, trees: &mounts::Trees, kept: Slot) {
    let launch = &bundle.launch;
    let container = launch.container;
    // Nothing that is attached here comes out, or is in the way of the pivot.
    p.push(step::remount("/", libc::MS_REC | libc::MS_PRIVATE));
    // Without a cgroup its processes are found by their mount namespace, and
    // killed. One that others are in is never told.
    if !launch.isolation.cgroup && bundle.mounts == MntnsMode::Own {
        let namespace = p.keep("mnt", step::openat(step::CWD, "/proc/self/ns/mnt", 0));
        p.push(step::report(Record::MOUNTS, "MOUNTS", Some(namespace)));
        p.push(step::close(namespace));
    }
    set_up_namespaces(p, bundle);
    mounts::build(p, launch, trees);
    if let Some(options) = launch.terminal {
        terminal::make(p, launch.facts, trees.root, options, launch.ids.uid);
        terminal::bind(p, trees.root);
    }
    mounts::close(p, launch, trees);
    mounts::make_directory(p, trees, &container.process.cwd);
    let root = settle(p, bundle, trees);
    if bundle.stops {
        stop_for_hooks(p, bundle);
    }
    match bundle.mounts {
        MntnsMode::Callers { .. } => mounts::enter_root(p, launch, root),
        _ => match bundle.below {
            None => mounts::change_root(p, launch, root),
            Some(below) => mounts::move_root(p, launch, root, below),
        },
    }
    if bundle.keyring {
        p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
    }
    process::own_scheduler(p, &container.process);
    let reached = p.slot("reached");
    container::become_container(p, launch, reached);
    let program = Program { reached: Some(reached), ..Program::of(&container.process) };
    p.push(step::setsid());
    if launch.terminal.is_some() {
        terminal::control(p);
    }
    program::go_to(p, launch.facts, &program);
    p.push(step::close_from(kept));
    if bundle.looks_for_program {
        program::look_for(p, &container.process.args[0], &container.process.env);
    }
    // From here on it is worth no more than the container itself.
    if bundle.is_joined_by_user() {
        p.push(step::dumpable());
    }
    outlive_creator(p, bundle.stops || bundle.is_among_callers());
    let mut filter = launch.filter;
    if let Some(user) = bundle.start_user {
        // Whoever is asked is to know of it when the container is created, as
        // with runc.
        if let Some(asking) = filter.take_if(|filter| filter.listener.is_some()) {
            program::load(p, &container.process, asking);
        }
        wait_for_start(p, user);
    }
    process::set_last_limits(p, &container.process);
    let first_not_kept = keep_descriptors(p, bundle.preserved);
    program::start(p, first_not_kept, &container.process, filter, &program);
}

/// Names, loopback and kernel parameters of the namespaces that are made.
fn set_up_namespaces(p: &mut Plan, bundle: &Bundle<'_>) {
    let container = bundle.launch.container;
    if let Some(hostname) = container.hostname.as_deref().filter(|_| bundle.makes(Namespace::Uts)) {
        p.push(step::sethostname(hostname));
    }
    if let Some(name) = container.domainname.as_deref().filter(|_| bundle.makes(Namespace::Uts)) {
        p.push(step::setdomainname(name));
    }
    if bundle.makes(Namespace::Net) {
        let socket = p.keep("socket", step::inet_socket());
        p.push(step::loopback_up(socket));
        p.push(step::close(socket));
    }
    // By the machine's /proc, of which this process has a copy for itself.
    process::set_sysctls(p, bundle.launch.facts, &container.sysctl);
}

/// The runtime does what is to be done before the root is changed.
fn stop_for_hooks(p: &mut Plan, bundle: &Bundle<'_>) {
    // Here somebody who is in the pid namespace already could trace this
    // process, too.
    let open = bundle.is_joined_by_user() && !bundle.joined.contains(&Namespace::Pid);
    if open {
        p.push(step::dumpable());
    }
    p.push(step::report(Record::RUNTIME, "RUNTIME", None));
    p.push(step::await_message(p.slot_of(Given::Report)));
    if open {
        p.push(step::undumpable());
    }
}

/// Takes the finished root to where the process is to live. Where that is.
fn settle(p: &mut Plan, bundle: &Bundle<'_>, trees: &mounts::Trees) -> Slot {
    match bundle.mounts {
        MntnsMode::Own => trees.root,
        MntnsMode::Joined => mounts::take_to_others(p, bundle.launch.attach, trees.root),
        MntnsMode::Callers { mark } => {
            // Once it is written down who we are: were our maker killed, and we
            // not yet, whoever clears up after both would look too soon.
            p.push(step::await_message(p.slot_of(Given::Report)));
            mounts::take_to_caller(p, mark, trees.root)
        }
    }
}

/// From here on whoever asked for the container may go: now that its number is
/// written down others can end it.
fn outlive_creator(p: &mut Plan, told: bool) {
    // One that stopped before, for its hooks or its root, has been told then.
    if !told {
        p.push(step::await_message(p.slot_of(Given::Report)));
    }
    p.push(step::survive_parent());
}

/// Somebody else comes and hears the rest of the report.
fn wait_for_start(p: &mut Plan, user: u32) {
    let report = p.slot_of(Given::Report);
    p.push(step::report(Record::CREATED, "CREATED", None));
    p.push(step::close(report));
    let gate = p.slot_of(Given::StartSocket);
    p.push(step::accept(gate, user).into_slot(report));
    p.push(step::close(gate));
    // If that one is killed the container ends here.
    p.push(step::await_message(report));
}

/// Moves the descriptors to keep to where they are expected, and the report
/// out of their way. Comes back with the first number that is not kept.
pub(super) fn keep_descriptors(p: &mut Plan, count: u16) -> Slot {
    let end = 3 + count;
    if count > 0 {
        let report = p.slot_of(Given::Report);
        p.push(step::dup_above(report, end.into()).into_slot(report));
    }
    for i in 0..count {
        // Upwards: who stood in this place has moved already.
        p.push(step::dup_to(p.slot_of(Given::Preserved(i)), 3 + u64::from(i)));
    }
    Slot(end)
}
