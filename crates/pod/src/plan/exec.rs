//! The plan of another process in a running container.
//!
//! The same order as a launch: everything is joined and given up before the
//! pid namespace is entered. The container's mount namespace is entered with
//! descriptors of the machine still open, but by a process that nobody in
//! there can see.

use std::path::Path;

use caps::Capability;
use pause::table;

use super::birth::{Inside, Registration, be_born, last_steps};
use super::input::{Isolation, TerminalOptions};
use super::program::{self, Program};
use super::{Given, Plan, ids, process, step, terminal};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{ContainerSpec, NamespaceMode};

/// Everything the plan of an exec depends on.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// How the container is kept apart from others.
    pub isolation: Isolation<'a>,
    /// The container.
    pub container: &'a ContainerSpec,
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
    /// It gets such a terminal.
    pub terminal: Option<TerminalOptions>,
    /// The slot in the exit table.
    pub entry: usize,
}

/// The plan of an exec.
pub fn plan(exec: &Exec<'_>) -> Plan {
    let container = exec.container;
    let own_pid = !exec.isolation.shares(container, Namespace::Pid);
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report, Given::Lock];
    given.extend(own_pid.then_some(Given::Namespace(Namespace::Pid)));
    given.extend([Given::Container, Given::Table, Given::Pause]);
    let mut plan = Plan::new(&given);
    let p = &mut plan;
    p.push(step::set_name("podlet:exec"));
    p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    process::affinity(p, container.process.exec_cpu_affinity.initial.as_ref());
    process::while_dumpable(p, &container.process);
    p.push(step::undumpable());
    p.push(step::map_table(p.slot_of(Given::Table)));
    process::set_limits(p, &container.process);
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
    if let Some(options) = exec.terminal {
        let root = p.keep("root", step::openat(step::CWD, "/", libc::O_PATH | libc::O_DIRECTORY));
        terminal::make(p, exec.facts, root, options, exec.ids.uid);
    }
    p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
    p.push(step::umask(container.process.umask));
    let reached = p.slot("reached");
    program::go_ahead(p, exec.facts, exec.cwd, reached);
    // A nested pid namespace can only be joined by the helper, from inside the
    // pod, and that takes CAP_SYS_ADMIN: all it has there that the process will
    // not have.
    let besides = own_pid.then_some(Capability::CAP_SYS_ADMIN).into_iter().collect();
    ids::become_user(p, exec.facts, exec.isolation.users, exec.ids, &container.process, exec.filter, besides);
    p.push(step::close_from(target));
    let kind = Registration { entry: exec.entry, running: table::RUNNING | table::EXEC_KIND, shown: "RUNNING|EXEC" };
    let first = |p: &mut Plan| {
        if own_pid {
            p.push(step::setns(p.slot_of(Given::Namespace(Namespace::Pid)), Namespace::Pid.flag()));
            ids::give_up(p, &container.process, exec.filter);
        }
    };
    process::affinity(p, container.process.exec_cpu_affinity.last.as_ref());
    let program =
        Program { file: &exec.args[0], cwd: exec.cwd, args: exec.args, env: exec.env, reached: Some(reached) };
    be_born(p, kind, 0, Inside { first, then: |_: &mut Plan| () }, |p| {
        last_steps(p, exec.facts, &container.process, exec.filter, &program, exec.terminal.is_some());
    });
    plan
}
