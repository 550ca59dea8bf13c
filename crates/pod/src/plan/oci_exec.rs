//! The plan of another process in a container without a pod: an exec, or a
//! hook that is to run inside.
//!
//! ```text
//!   H  joins the container's namespaces, gives up what the process may not have
//!   ├─ clone3(CLONE_PARENT) ► C   a session, the working directory, execve
//!   ▼  report BORN, exit
//! ```

use std::path::Path;

use pause::wire::{Record, Slot};

use super::input::TerminalOptions;
use super::oci_create::keep_descriptors;
use super::program::{self, Program};
use super::{Given, Plan, ids, process, step, terminal};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{ContainerSpec, ProcessSpec};

/// Everything the plan depends on.
#[derive(Debug)]
pub struct Enter<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// The container's user namespace.
    pub users: &'a Users,
    /// What the process is to be: its program, identity and limits.
    pub process: &'a ContainerSpec,
    /// `CLONE_NEW*` of the container's namespaces that are not the caller's.
    pub namespaces: u64,
    /// The container's root is not that of its mount namespace.
    pub own_root: bool,
    /// The program to execute; what it is called stands in `process.args`.
    pub program: &'a str,
    /// Who it runs as; a hook keeps what the runtime has.
    pub ids: Option<&'a Ids>,
    /// Its seccomp filter.
    pub filter: Option<&'a Filter>,
    /// Where it begins.
    pub cwd: &'a Path,
    /// It gets such a terminal.
    pub terminal: Option<TerminalOptions>,
    /// How many descriptors it keeps, from 3 on.
    pub preserved: u16,
}

/// The plan of another process in a container without a pod.
pub fn plan(enter: &Enter<'_>) -> Plan {
    let container = enter.process;
    let mut given = vec![Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    given.extend((0..enter.preserved).map(Given::Preserved));
    let kept = given.len();
    given.push(Given::Container);
    given.extend(enter.own_root.then_some(Given::Root));
    let mut plan = Plan::new(&given);
    let p = &mut plan;

    p.push(step::set_name("podlet:exec"));
    p.push(step::close_range(p.slot_of(Given::Plan), p.slot_of(Given::Plan)));
    p.push(step::die_with_parent());
    // A hook is the runtime's own program; only where it is found and what it
    // sees are the container's.
    let is_hook = enter.ids.is_none();
    if !is_hook {
        process::affinity(p, container.process.exec_cpu_affinity.initial.as_ref());
        process::while_dumpable(p, &container.process);
    }
    p.push(step::undumpable());
    if !is_hook {
        process::set_limits(p, &container.process);
        process::inherited(p, container);
    }
    if enter.namespaces != 0 {
        p.push(step::setns(p.slot_of(Given::Container), enter.namespaces));
    }
    if enter.namespaces & Namespace::User.flag() != 0 {
        ids::become_root(p, enter.users, enter.facts);
        p.push(step::undumpable());
    }
    if enter.own_root {
        p.push(step::fchdir(p.slot_of(Given::Root)));
        p.push(step::chroot("."));
    }
    if let Some(options) = enter.terminal {
        let root = p.keep("root", step::openat(step::CWD, "/", libc::O_PATH | libc::O_DIRECTORY));
        terminal::make(p, enter.facts, root, options, enter.ids.map_or(0, |ids| ids.uid));
    }
    let reached = p.slot("reached");
    if let Some(ids) = enter.ids {
        p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
        p.push(step::umask(container.process.umask));
        program::go_ahead(p, enter.facts, enter.cwd, reached);
        ids::become_user(p, enter.facts, enter.users, ids, &container.process, enter.filter, CapabilitySet::EMPTY);
    }

    if !is_hook {
        process::affinity(p, container.process.exec_cpu_affinity.last.as_ref());
    }
    let ProcessSpec { args, env, .. } = &container.process;
    let reached = enter.ids.map(|_| reached);
    let program = Program { file: enter.program, cwd: enter.cwd, args, env, reached };
    let born = p.slot("process");
    let _born_pid = p.slot("process_pid");
    p.fork(step::clone_sibling(0), born, |p| {
        p.push(step::setsid());
        if enter.terminal.is_some() {
            terminal::control(p);
        }
        program::go_to(p, enter.facts, &program);
        p.push(step::close_from(Slot(kept as u16)));
        if !is_hook {
            process::set_last_limits(p, &container.process);
        }
        let end = keep_descriptors(p, enter.preserved);
        program::start(p, end, &container.process, enter.filter, &program);
    });
    p.push(step::report(Record::BORN, "BORN", Some(born)));
    p.push(step::exit(0));
    plan
}
