//! A container with a pid namespace of its own, nested under pause's: entered
//! last, too.
//!
//! ```text
//!   H  outside: the root is complete, but for /proc and what goes onto it
//!   ├─ clone3 ► H1  outside: becomes the container and closes everything
//!   │           ├─ clone3 ► H2  in the pod: unshare(pid), of no use for more
//!   │           │           ├─ clone3 ► C   gives up that right, waits
//!   │           │           ▼  says whose procfs it is, report BORN, exit
//!   │           ▼  exit
//!   │  mounts that procfs, masks, pivot_root: C's root, too
//!   │  the word for C                       C   execve
//!   ▼  exit
//! ```
//!
//! The kernel lets a pid namespace be made only by who is in the one around
//! it. So H2 has a pid in the pod and CAP_SYS_ADMIN in the pod's user
//! namespace, and else nothing that the container will not have. H keeps all
//! its rights and descriptors: outside.
//!
//! Before Linux 6.17 a procfs is for the pid namespace of who mounts it. Then
//! C keeps that right until it has done so: this one mount is the difference.

use caps::Capability;
use pause::table;
use pause::wire::Slot;

use super::birth::{Inside, Registration, be_born, last_steps};
use super::input::ContainerInput;
use super::mounts::{self, Trees, own_proc};
use super::process::own_scheduler;
use super::program::{self, Program};
use super::{Given, Plan, ids, step, terminal};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::namespace::Namespace;
use crate::spec::Mount;

/// Descriptors that it needs besides: what H and C agree by, and the pod's pid
/// namespace, which H1 enters. All behind them is closed by H1.
pub(super) const GIVEN: [Given; 3] = [Given::Made, Given::Maker, Given::Namespace(Namespace::Pid)];

/// The container's procfs.
#[derive(Clone, Copy)]
struct Procfs<'a> {
    mount: &'a Mount,
    /// Its context, or where C is to mount it.
    open: Slot,
}

/// From the moment that H is in the container's namespaces, but for the pod's
/// pid namespace.
pub(super) fn plan(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees) {
    mounts::build_at_first(p, launch, trees);
    terminal::make_in_root(p, launch, trees.root);
    let procfs = own_proc::first(launch).map(|mount| {
        let open = if launch.facts.pidns { own_proc::open(p, mount) } else { own_proc::target(p, trees, mount) };
        Procfs { mount, open }
    });
    let entering = p.slot("entering");
    let _entering_pid = p.slot("entering_pid");
    p.fork(step::clone(0, 0), entering, |p| enter(p, launch, trees, procfs));

    let (made, maker) = (p.slot_of(Given::Made), p.slot_of(Given::Maker));
    p.push(step::close_range(made, made));
    // Its end instead of a word says that the others came to theirs.
    p.push(step::await_message(maker));
    let outside = procfs.filter(|_| launch.facts.pidns);
    let tree = outside.map(|procfs| own_proc::tree(p, launch, procfs.open, procfs.mount));
    mounts::build_the_rest(p, launch, trees, tree);
    mounts::close(p, launch, trees);
    mounts::change_root(p, launch, trees.root);
    p.push(step::write(maker, b"!"));
    p.push(step::wait_for(entering));
    p.push(step::exit(0));
}

/// H1: what it has when it forks is what can be seen in the pod.
fn enter(p: &mut Plan, launch: &ContainerInput<'_>, trees: &Trees, procfs: Option<Procfs<'_>>) {
    let container = launch.container;
    let reached = p.slot("reached");
    program::go_ahead_below(p, trees.root, &container.process.cwd, reached);
    p.push(step::umask(container.process.umask));
    p.push(step::join_session_keyring().tolerate(&[libc::ENOSYS]));
    p.push(step::setns(p.slot_of(Given::Namespace(Namespace::Pid)), Namespace::Pid.flag()));
    let (plan, maker) = (p.slot_of(Given::Plan), p.slot_of(Given::Maker));
    // Instead of H's end of their socket, which only H may have.
    let procfs = procfs.map(|procfs| {
        let open = p.keep("procfs", step::dup3(procfs.open, maker));
        Procfs { open, ..procfs }
    });
    p.push(step::close_range(plan, plan));
    p.push(step::close_from(if procfs.is_some() { Slot(maker.0 + 1) } else { maker }));
    let besides = kept(launch);
    ids::become_user(p, launch.facts, launch.isolation.users, launch.ids, &container.process, launch.filter, besides);
    p.push(step::die_with_parent());

    let made = p.slot_of(Given::Made);
    let registration = Registration { entry: launch.entry, running: table::RUNNING, shown: "RUNNING" };
    let first = |p: &mut Plan| p.push(step::unshare(Namespace::Pid.flag()));
    let then = |p: &mut Plan| {
        // Else C mounts it and says so.
        if launch.facts.pidns || procfs.is_none() {
            procfs.iter().for_each(|procfs| own_proc::settle(p, procfs.open, procfs.mount));
            p.push(step::write(made, b"!"));
        }
    };
    be_born(p, registration, 0, Inside { first, then }, |p| be_container(p, launch, procfs, made, reached));
}

/// What H2 and C have that the container may not have: H2 makes the namespace
/// with it.
fn kept(launch: &ContainerInput<'_>) -> CapabilitySet {
    let own = launch.container.process.scheduler.as_ref().is_some_and(|scheduler| scheduler.is_not_inherited());
    let own = own.then_some(Capability::CAP_SYS_NICE);
    [Capability::CAP_SYS_ADMIN].into_iter().chain(own).collect()
}

/// C: gives up what it has of H2, and waits until its root is complete.
fn be_container(p: &mut Plan, launch: &ContainerInput<'_>, procfs: Option<Procfs<'_>>, made: Slot, reached: Slot) {
    let process = &launch.container.process;
    let own = procfs.filter(|_| !launch.facts.pidns);
    own.iter().for_each(|procfs| own_proc::mount_here(p, launch, procfs.mount, procfs.open));
    let behind = Slot(made.0 + 1);
    p.push(step::close_from(behind));
    own_scheduler(p, process);
    ids::give_up(p, process, launch.filter);
    if own.is_some() {
        p.push(step::write(made, b"!"));
    }
    p.push(step::await_message(made));
    let program = Program { reached: Some(reached), ..Program::of(process) };
    last_steps(p, launch.facts, process, launch.filter, &program, launch.terminal.is_some());
}
