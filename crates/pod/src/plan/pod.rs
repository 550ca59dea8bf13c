//! The plan of a pod: from the caller's process to pause.
//!
//! ```text
//!   maker   [unshare(user), maps, execve itself]      ordinary users only
//!     │
//!     ├─ clone3(new namespaces) ──► pause: empty root, proc, sysfs, mqueue, shm
//!     │                               │    no capabilities, no descriptors,
//!     │  [writes pause's id maps]     │    few system calls
//!     ▼  report BORN, exit            ▼    report READY, hold
//! ```
//!
//! An ordinary user's pod has two user namespaces, one inside the other: the
//! program is executed in the outer one, pause lives in the inner one. So the
//! user, who owns the outer, can still enter; but nobody in the inner, with
//! whatever capability, may look into pause's memory or follow its /proc
//! links: that takes capabilities where the program was executed.
//!
//! What needs no more than to be the same user (limits, scheduling, the
//! readiness to be killed) is denied by pause's ids: where there are some that
//! the pod's namespace does not map, they are pause's, and nobody in there can
//! become that user. It came in with them, makes its files as root of the pod
//! and goes back to them, for it could not name them any more.

use pause::wire::{Record, Slot};

use super::input::Isolation;
use super::step::{self, CWD};
use super::{Given, Plan, ids, process};
use crate::error::Purpose;
use crate::kernel::facts::Facts;
use crate::kernel::idmap::{IdMap, show_maps};
use crate::kernel::namespace::Namespace;
use crate::spec::users::Users;
use crate::spec::{PodOptions, TimeOffsets, shm_options};

/// Flags of a mount nobody can do anything with but read.
const STRICT: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// The numbers of the descriptors in which pause keeps streams of containers. A later
/// build must find those of this one.
pub(crate) const KEEPER: [i32; 2] = [7, 8];

/// What the pod's procfs shows of pause, from above it.
const OWN_PROC: &str = "proc/1";

/// A pod, as its plan sees it.
#[derive(Clone, Debug)]
pub struct PodShape<'a> {
    /// As asked for.
    pub options: &'a PodOptions,
    /// As decided.
    pub users: &'a Users,
    /// The pod has a cgroup.
    pub cgroup: bool,
}

impl<'a> PodShape<'a> {
    /// How its containers are kept apart from others.
    pub fn isolation(&self) -> Isolation<'a> {
        let shared = self.options.share.iter().fold(0, |flags, namespace| flags | namespace.flag());
        let hostname = Some(self.options.effective_hostname());
        Isolation { shared, users: self.users, cgroup: self.cgroup, hostname }
    }
}

/// The plan of a pod.
pub fn plan(pod: &PodShape<'_>, facts: &Facts) -> Plan {
    let nested = matches!(pod.users, Users::Nested { .. });
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    given.extend([Given::Lifeline, Given::Owner, Given::KeepIn, Given::KeepOut]);
    given.extend([Given::Table, Given::Maker, Given::Made]);
    if nested {
        given.push(Given::Program);
    }
    let leaf = pod.cgroup && pod.options.shares(Namespace::Cgroup);
    if leaf {
        given.push(Given::Leaf);
    }
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    if nested {
        outer_namespace(p, pod);
    }
    p.push(step::set_name("podlet:pause"));
    p.push(step::map_table(p.slot_of(Given::Table)));
    if pod.options.shares(Namespace::Time) {
        // The offsets can be written until the first process is in it.
        p.push(step::unshare(Namespace::Time.flag()));
        write_time_offsets(p, &pod.options.time_offsets);
    }
    let mut namespaces =
        pod.isolation().joined() & !Namespace::Time.flag() | Namespace::Pid.flag() | libc::CLONE_NEWNS as u64;
    if keeps_sysfs(pod, facts) {
        namespaces |= Namespace::Net.flag();
    }
    if *pod.users != Users::Caller {
        namespaces |= Namespace::User.flag();
    }
    if let Some((uid, gid)) = pod.users.nobodys(facts) {
        // Before it is in the namespace that does not know them.
        if nested || (uid, gid) != (facts.uid, facts.gid) {
            ids::keep_capabilities(p);
        }
        p.push(step::setresgid(gid));
        p.push(step::setresuid(uid));
    }
    let pause = p.slot("pause");
    let pause_pid = p.slot("pause_pid");
    // Our parent is who makes the pod.
    let clone = if pod.options.pause_is_child { step::clone_sibling(namespaces) } else { step::clone(namespaces, 0) };
    p.fork(clone, pause, |p| pause_steps(p, pod, facts));

    if *pod.users != Users::Caller {
        write_maps(p, pod, facts, pause_pid);
    }
    p.push(step::report(Record::BORN, "BORN", Some(pause)));
    p.push(step::exit(0));
    plan
}

/// An ordinary user's outer user namespace, and the program executed in it.
fn outer_namespace(p: &mut Plan, pod: &PodShape<'_>) {
    outer_users(p, pod.users);
    let argv = vec![step::text(title(&pod.options.name))];
    p.push(step::execveat(p.slot_of(Given::Program), argv, vec![step::text("resume")]));
    p.resume = p.steps().len();
}

/// Makes an ordinary user's outer user namespace, with its maps.
pub(super) fn outer_users(p: &mut Plan, users: &Users) {
    p.push(step::unshare(Namespace::User.flag()));
    if matches!(users, Users::Nested { by_helper: true, .. }) {
        p.push(step::report(Record::MAPS, "MAPS", None));
        p.push(step::await_message(p.slot_of(Given::Report)));
        return;
    }
    // The kernel lets everybody map their own single id, once groups can no longer
    // be dropped.
    write_file(p, "/proc/self/setgroups", "deny");
    for (path, maps) in [("/proc/self/uid_map", users.uids()), ("/proc/self/gid_map", users.gids())] {
        p.begin_part(id_map(maps));
        write_file(p, path, &show_maps(maps));
    }
    p.end_part();
}

/// The title under which `ps` shows pause.
pub fn title(pod: &str) -> String {
    format!("podlet:pause {pod}")
}

/// The clocks of a time namespace just made, which nobody is in yet.
fn write_time_offsets(p: &mut Plan, offsets: &TimeOffsets) {
    let file = p.keep("file", open_time_offsets());
    p.push(step::write(file, offsets.text().as_bytes()));
}

fn write_file(p: &mut Plan, path: &str, content: &str) {
    let file = p.keep("file", step::openat(CWD, path, libc::O_WRONLY));
    p.push(step::write(file, content.as_bytes()));
}

/// The file for the offsets of whatever time namespace the process will have
/// made.
pub(super) fn open_time_offsets() -> step::Step {
    step::openat(CWD, "/proc/self/timens_offsets", libc::O_WRONLY)
}

/// The maker writes pause's id maps, then lets it go on.
fn write_maps(p: &mut Plan, pod: &PodShape<'_>, facts: &Facts, pause_pid: Slot) {
    let (uids, gids): (Vec<_>, Vec<_>) = match pod.users {
        Users::New { uids, gids } => (uids.clone(), gids.clone()),
        users => {
            let same = |maps: &[IdMap]| maps.iter().map(|map| IdMap { outside: map.inside, ..*map }).collect();
            (same(users.uids()), same(users.gids()))
        }
    };
    if !pod.users.setgroups(facts) {
        // Inherited from the outer one; said again for the reader.
        write_proc(p, pause_pid, "setgroups", "deny");
    }
    for (name, maps) in [("uid_map", uids), ("gid_map", gids)] {
        p.begin_part(id_map(&maps));
        write_proc(p, pause_pid, name, &show_maps(&maps));
    }
    p.end_part();
    p.push(step::write(p.slot_of(Given::Maker), b"!"));
}

fn id_map(maps: &[IdMap]) -> Purpose {
    Purpose::IdMap { root_to_root: maps.first().is_some_and(|map| (map.inside, map.outside) == (0, 0)) }
}

fn write_proc(p: &mut Plan, pid: Slot, name: &str, content: &str) {
    let file = p.keep("file", step::open_proc(pid, name));
    p.push(step::write(file, content.as_bytes()));
}

/// Whether pause has a network namespace and its sysfs: the pod's, or one that
/// only serves containers in a user namespace, where the kernel lets nobody
/// mount a sysfs who does not see one already.
fn keeps_sysfs(pod: &PodShape<'_>, facts: &Facts) -> bool {
    pod.options.shares(Namespace::Net) || *pod.users != Users::Caller || !facts.initial_users
}

/// What pause does until it holds. From here on it is PID 1 of the pod.
fn pause_steps(p: &mut Plan, pod: &PodShape<'_>, facts: &Facts) {
    if p.wants(Given::Leaf) {
        // The shared cgroup namespace has its root where pause was born, in
        // the pod's own cgroup; a cgroup with controllers has no processes.
        p.push(step::write(p.slot_of(Given::Leaf), b"0"));
    }
    if *pod.users != Users::Caller {
        // Our copy of the maker's end would keep us waiting for a dead maker.
        let maker = p.slot_of(Given::Maker);
        p.push(step::close_range(maker, maker));
        p.push(step::await_message(p.slot_of(Given::Made)));
        match pod.users.nobodys(facts) {
            Some(_) => ids::make_files_as_root(p, pod.users, facts),
            None => ids::become_root(p, pod.users, facts),
        }
    }
    // Only now: the maps of an undumpable process cannot be written.
    p.push(step::undumpable());
    if pod.options.shares(Namespace::Uts) {
        p.push(step::sethostname(pod.options.effective_hostname()));
        pod.options.domainname.iter().for_each(|name| p.push(step::setdomainname(name)));
    }
    if pod.options.shares(Namespace::Net) {
        let socket = p.keep("socket", step::inet_socket());
        p.push(step::loopback_up(socket));
    }
    empty_root(p, pod, facts);
    set_sysctls(p, pod, facts);

    // Nothing is kept of what we were born with, but the lifeline, the owner, the
    // keeper of streams and, until the last word, the report.
    let (plan, table) = (p.slot_of(Given::Plan), p.slot_of(Given::Table));
    p.push(step::close_range(p.slot_of(Given::Stdin), plan));
    p.push(step::close_from(table));
    let signals = p.keep("signals", step::signalfd());
    if pod.users.nobodys(facts).is_some() {
        ids::make_files_as_oneself(p);
    }
    ids::drop_everything(p, facts);
    let filter = ::seccomp::allow_only(PAUSE_CALLS.map(|call| call as u16));
    p.push(step::seccomp(filter.program, filter.flags));
    p.push(step::report(Record::READY, "READY", None));
    let report = p.slot_of(Given::Report);
    p.push(step::close_range(report, report));
    p.push(step::hold(signals, p.slot_of(Given::Lifeline), p.slot_of(Given::Owner)));
}

/// The pod's kernel parameters. Some ask who writes them, not what that may
/// do: where pause is nobody, root of the pod writes them in its place.
fn set_sysctls(p: &mut Plan, pod: &PodShape<'_>, facts: &Facts) {
    let parameters = &pod.options.sysctl;
    if parameters.is_empty() || pod.users.nobodys(facts).is_none() {
        return process::set_sysctls(p, facts, parameters);
    }
    let helper = p.slot("helper");
    let _helper_pid = p.slot("helper_pid");
    p.fork(step::clone(0, 0), helper, |p| {
        ids::become_root(p, pod.users, facts);
        process::set_sysctls(p, facts, parameters);
        p.push(step::exit(0));
    });
    p.push(step::wait_for(helper));
}

/// A root of its own, with nothing of the machine: only the file systems that
/// belong to the pod's namespaces, for launchers to clone, and `root`, where
/// they put together the root of a container.
fn empty_root(p: &mut Plan, pod: &PodShape<'_>, facts: &Facts) {
    p.push(step::remount("/", libc::MS_REC | libc::MS_PRIVATE));
    let root = if facts.calls.mounts {
        let fs = p.keep("fs", step::fsopen("tmpfs"));
        p.push(step::fsconfig(fs, "mode", "0755"));
        p.push(step::fscreate(fs));
        let root = p.keep("root", step::fsmount(fs, 0));
        p.push(step::move_mount_to(root, "/"));
        p.push(step::fchdir(root));
        root
    } else {
        p.push(step::mount("tmpfs", "/", "tmpfs", 0, "mode=0755"));
        // Paths still begin below it, but `..` leads onto it.
        p.push(step::chdir("/.."));
        p.keep("root", step::openat(CWD, ".", libc::O_PATH | libc::O_DIRECTORY))
    };
    p.push(step::mkdirat(root, "root", 0o755));
    let add = |p: &mut Plan, name: &str, kind: &str, flags: u64, data: &str| {
        p.push(step::mkdirat(root, name, 0o755));
        p.push(step::mount(kind, name, kind, flags, data));
    };
    // Before the old root goes: the kernel lets a user namespace mount proc
    // and sysfs only while it sees others, uncovered.
    add(p, "proc", "proc", STRICT, "");
    // Every container's /proc is a copy of this one. What can be written in
    // the directory of a process is for its user: how readily it is killed, how
    // it is scheduled.
    p.push(step::bind(OWN_PROC, OWN_PROC, false));
    p.push(step::remount(OWN_PROC, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | STRICT));
    if keeps_sysfs(pod, facts) {
        add(p, "sys", "sysfs", STRICT | libc::MS_RDONLY, "");
    }
    if pod.options.shares(Namespace::Ipc) {
        add(p, "mqueue", "mqueue", STRICT, "");
        add(p, "shm", "tmpfs", STRICT, &shm_options(pod.options.shm_size));
    }
    p.push(step::pivot_root());
    p.push(step::detach("."));
    p.push(step::remount("/", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | STRICT));
}

/// What pause may still ask of the kernel.
const PAUSE_CALLS: [libc::c_long; 12] = [
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_wait4,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_munmap,
    libc::SYS_sendmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keepers_descriptors_have_their_numbers() {
        let options = PodOptions::new("web");
        let shape = PodShape { options: &options, users: &Users::Caller, cgroup: true };
        let plan = plan(&shape, &Facts::of_root());
        assert_eq!([Given::KeepIn, Given::KeepOut].map(|given| i32::from(plan.slot_of(given).0)), KEEPER);
    }
    use crate::kernel::capabilities::CapabilitySet;

    #[test]
    fn pause_has_ids_that_the_pod_has_not() {
        let map = |outside, count| vec![IdMap { inside: 0, outside, count }];
        let new = |uids, gids| Users::New { uids, gids };
        let others = new(map(100_000, 65536), map(100_000, 65536));
        assert_eq!(others.nobodys(&Facts::of_root()), Some((0, 0)), "the caller's");
        let callers = new(map(0, 65536), map(100_000, 65536));
        assert_eq!(callers.nobodys(&Facts::of_root()), Some((u32::MAX - 1, 0)), "where that is the container's");
        let all = new(map(0, u32::MAX), map(0, u32::MAX));
        assert_eq!(all.nobodys(&Facts::of_root()), None, "there is none");
        for facts in [
            Facts { initial_users: false, ..Facts::of_root() },
            Facts { capabilities: CapabilitySet::EMPTY, ..Facts::of_root() },
        ] {
            assert_eq!(callers.nobodys(&facts), None);
            assert_eq!(others.nobodys(&facts), Some((0, 0)), "that takes nothing");
        }
    }

    #[test]
    fn the_last_id_of_a_range_is_pauses() {
        let own = |id| IdMap { inside: 0, outside: id, count: 1 };
        let maps = vec![own(1000), IdMap { inside: 1, outside: 100_000, count: 65535 }];
        let users = |apart| Users::Nested { uids: maps.clone(), gids: maps.clone(), by_helper: true, apart };
        assert_eq!(users(true).nobodys(&Facts::of_root()), Some((65536, 65536)));
        let [uids, _] = users(true).of_outer();
        assert_eq!(show_maps(&uids), "0 1000 1\n1 100000 65536\n");
        // As a record of before has it.
        assert_eq!(users(false).nobodys(&Facts::of_root()), None);
        assert_eq!(users(false).of_outer(), [maps.clone(), maps]);
    }
}
