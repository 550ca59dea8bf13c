//! The plan of a pod: from the caller's side of the fence to pause.
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

use pause::wire::{Record, Slot};

use super::step::{self, CWD};
use super::{Given, Plan, ids, process};
use crate::facts::{Facts, IdMap, show_maps};
use crate::seccomp::compile::{bpf, rules::Rules};
use crate::spec::{Namespace, PodOptions, TimeOffsets};

/// The user namespaces of a pod.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Users {
    /// The caller's own: no new one.
    Caller,
    /// A new one, whose maps the maker writes.
    New {
        /// User ids.
        uids: Vec<IdMap>,
        /// Group ids.
        gids: Vec<IdMap>,
    },
    /// Two new ones, as an ordinary user needs them; the inner one maps the
    /// outer one's ids to themselves.
    Nested {
        /// User ids of the outer one.
        uids: Vec<IdMap>,
        /// Group ids of the outer one.
        gids: Vec<IdMap>,
        /// More than the user's own id: newuidmap and newgidmap write them.
        by_helper: bool,
    },
}

impl Users {
    /// What exists inside the pod.
    pub fn uids(&self) -> &[IdMap] {
        match self {
            Users::Caller => &[],
            Users::New { uids, .. } | Users::Nested { uids, .. } => uids,
        }
    }

    /// What exists inside the pod.
    pub fn gids(&self) -> &[IdMap] {
        match self {
            Users::Caller => &[],
            Users::New { gids, .. } | Users::Nested { gids, .. } => gids,
        }
    }

    /// Whether `setgroups(2)` works inside.
    pub fn setgroups(&self, facts: &Facts) -> bool {
        match self {
            Users::Caller => facts.setgroups,
            Users::New { .. } => facts.setgroups,
            Users::Nested { by_helper, .. } => *by_helper,
        }
    }
}

/// A pod as plans see it.
#[derive(Clone, Debug)]
pub struct PodShape<'a> {
    /// As asked for.
    pub options: &'a PodOptions,
    /// As decided.
    pub users: &'a Users,
    /// The pod has a cgroup.
    pub cgroup: bool,
}

impl PodShape<'_> {
    /// `CLONE_NEW*` of what the pod's containers share and a launcher joins
    /// with one `setns` to pause: without user, which must be joined first or
    /// not at all, and without pid, which pause always has.
    pub fn joined(&self) -> u64 {
        let joined = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Time];
        let shared = joined.into_iter().filter(|&namespace| self.options.shares(namespace));
        shared.fold(0, |flags, namespace| flags | namespace.flag())
    }
}

/// Flags of a mount nobody can do anything with but read.
const STRICT: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// The plan of a pod.
pub fn plan(pod: &PodShape<'_>, facts: &Facts) -> Plan {
    let nested = matches!(pod.users, Users::Nested { .. });
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    given.extend([Given::Lifeline, Given::Owner, Given::Table, Given::Maker, Given::Made]);
    if nested {
        given.push(Given::Program);
    }
    let leaf = pod.cgroup && pod.options.shares(Namespace::Cgroup);
    if leaf {
        given.push(Given::Leaf);
    }
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    if let Users::Nested { uids, gids, by_helper } = pod.users {
        outer_namespace(p, pod, uids, gids, *by_helper);
    }
    p.push(step::set_name("podlet:pause"));
    p.push(step::map_table(p.slot_of(Given::Table)));
    if pod.options.shares(Namespace::Time) {
        // The offsets can be written until the first process is in it.
        p.push(step::unshare(Namespace::Time.flag()));
        write_time_offsets(p, &pod.options.time_offsets);
    }
    let mut namespaces = pod.joined() & !Namespace::Time.flag() | Namespace::Pid.flag() | libc::CLONE_NEWNS as u64;
    if keeps_sysfs(pod, facts) {
        namespaces |= Namespace::Net.flag();
    }
    if *pod.users != Users::Caller {
        namespaces |= Namespace::User.flag();
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
fn outer_namespace(p: &mut Plan, pod: &PodShape<'_>, uids: &[IdMap], gids: &[IdMap], by_helper: bool) {
    p.push(step::unshare(Namespace::User.flag()));
    if by_helper {
        p.push(step::report(Record::MAPS, "MAPS", None));
        p.push(step::await_message(p.slot_of(Given::Report)));
    } else {
        // The kernel lets everybody map their own single id, once groups can
        // no longer be dropped.
        write_file(p, "/proc/self/setgroups", "deny");
        write_file(p, "/proc/self/uid_map", &show_maps(uids));
        write_file(p, "/proc/self/gid_map", &show_maps(gids));
    }
    let argv = vec![step::text(title(&pod.options.name))];
    p.push(step::execveat(p.slot_of(Given::Program), argv, vec![step::text("resume")]));
    p.resume = p.steps().len();
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
    write_proc(p, pause_pid, "uid_map", &show_maps(&uids));
    write_proc(p, pause_pid, "gid_map", &show_maps(&gids));
    p.push(step::write(p.slot_of(Given::Maker), b"!"));
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
        ids::become_root(p, pod.users, pod.users.setgroups(facts));
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
    process::set_sysctls_of_pause(p, facts, &pod.options.sysctl);

    // Nothing is kept of what we were born with, but the lifeline, the owner
    // and, until the last word, the report.
    let (plan, table) = (p.slot_of(Given::Plan), p.slot_of(Given::Table));
    p.push(step::close_range(p.slot_of(Given::Stdin), plan));
    p.push(step::close_from(table));
    let signals = p.keep("signals", step::signalfd());
    ids::drop_everything(p, facts);
    let calls = Rules::allow_only(PAUSE_CALLS.map(|call| call as u32));
    p.push(step::seccomp(bpf::encode(&bpf::assemble(&calls)), 0));
    p.push(step::report(Record::READY, "READY", None));
    let report = p.slot_of(Given::Report);
    p.push(step::close_range(report, report));
    p.push(step::hold(signals, p.slot_of(Given::Lifeline), p.slot_of(Given::Owner)));
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
    let mut add = |name: &str, kind: &str, flags: u64, data: &str| {
        p.push(step::mkdirat(root, name, 0o755));
        p.push(step::mount(kind, name, kind, flags, data));
    };
    // Before the old root goes: the kernel lets a user namespace mount proc
    // and sysfs only while it sees others, uncovered.
    add("proc", "proc", STRICT, "");
    if keeps_sysfs(pod, facts) {
        add("sys", "sysfs", STRICT | libc::MS_RDONLY, "");
    }
    if pod.options.shares(Namespace::Ipc) {
        add("mqueue", "mqueue", STRICT, "");
        add("shm", "tmpfs", STRICT, "mode=1777,size=65536k");
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
