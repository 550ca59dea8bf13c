//! The plan of another process in a running container.
//!
//! The same order as a launch: everything is joined and given up before the
//! pid namespace is entered. The container's mount namespace is entered with
//! descriptors of the machine still open, but by a process that nobody in
//! there can see.

use std::path::Path;

use pause::table;

use super::container::{Registration, be_born, last_steps, set_limits};
use super::input::Isolation;
use super::program::{self, Program};
use super::{Given, Plan, ids, process, step};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{Container, NamespaceMode};

/// Everything the plan of an exec depends on.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// How the container is kept apart from others.
    pub isolation: Isolation<'a>,
    /// The container.
    pub container: &'a Container,
    /// The system calls it may make.
    pub filter: Option<&'a Filter>,
    /// The program and its arguments.
    pub args: &'a [String],
    /// The environment.
    pub env: &'a [String],
    /// Working directory.
    pub cwd: &'a Path,
    /// Who it runs as.
    pub ids: &'a Ids,
    /// The slot in the exit table.
    pub entry: usize,
}

/// The plan of an exec.
pub fn plan(exec: &Exec<'_>) -> Plan {
    let container = exec.container;
    let own_pid = !exec.isolation.shares(container, Namespace::Pid);
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report, Given::Lock];
    given.extend([Given::Container, Given::Table, Given::Pause]);
    let mut plan = Plan::new(&given);
    let p = &mut plan;
    p.push(step::set_name("podlet:exec"));
    p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    process::affinity(p, container.exec_cpu_affinity.initial.as_ref());
    process::while_dumpable(p, container);
    p.push(step::undumpable());
    p.push(step::map_table(p.slot_of(Given::Table)));
    set_limits(p, container);
    process::inherited(p, container);

    // The pod's pid namespace from pause, all else from the container, which
    // may have some of its own. What it shares with the machine we are in.
    let apart = *exec.isolation.users != Users::Caller;
    let user = if apart { Namespace::User.flag() } else { 0 };
    let (pause, target) = (p.slot_of(Given::Pause), p.slot_of(Given::Container));
    // The clocks too: an ordinary user's pod has them from its outer user
    // namespace, which can only be entered from where we are now.
    let time = exec.isolation.joined() & Namespace::Time.flag();
    p.push(step::setns(pause, Namespace::Pid.flag() | time | user));
    let mut others = libc::CLONE_NEWNS as u64 | Namespace::Uts.flag();
    for kind in [Namespace::Net, Namespace::Ipc, Namespace::Cgroup] {
        if container.mode_of(kind) != NamespaceMode::Host {
            others |= kind.flag();
        }
    }
    p.push(step::setns(target, others));
    if apart {
        ids::become_root(p, exec.isolation.users, exec.facts);
    }
    p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
    p.push(step::umask(container.umask));
    let reached = p.slot("reached");
    let become_user = |p: &mut Plan| {
        program::go_ahead(p, exec.facts, exec.cwd, reached);
        ids::become_user(p, exec.facts, exec.isolation.users, exec.ids, container, exec.filter);
    };
    // A nested pid namespace can only be joined by the helper, from inside the
    // pod, and that takes CAP_SYS_ADMIN: there it gives up what it has later.
    if !own_pid {
        become_user(p);
    }
    p.push(step::close_from(p.slot_of(if own_pid { Given::Table } else { Given::Container })));
    let kind = Registration { entry: exec.entry, running: table::RUNNING | table::EXEC_KIND, shown: "RUNNING|EXEC" };
    let inside = |p: &mut Plan| {
        if own_pid {
            p.push(step::setns(target, Namespace::Pid.flag()));
            become_user(p);
            p.push(step::die_with_parent());
        }
    };
    process::affinity(p, container.exec_cpu_affinity.last.as_ref());
    let program =
        Program { file: &exec.args[0], cwd: exec.cwd, args: exec.args, env: exec.env, reached: Some(reached) };
    be_born(p, kind, 0, inside, |p| {
        last_steps(p, exec.facts, container, exec.filter, &program);
    });
    plan
}
