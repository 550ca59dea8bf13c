//! How a process comes to be in a pod: a child of pause, entered in the exit
//! table before its first instruction.
//!
//! ```text
//!   H  outside
//!   ├─ clone3 ► H2  first step inside the pod's pid namespace
//!   │           ├─ clone3 ► C   execve
//!   │           ▼  report BORN, exit: pause is C's parent now
//!   ▼  exit
//! ```

use pause::table::{self, Entry};
use pause::wire::{Record, TABLE_BASE};

use super::process::set_last_limits;
use super::program::{self, Program};
use super::{Given, Plan, step, terminal};
use crate::kernel::facts::Facts;
use crate::seccomp::Filter;
use crate::spec::ProcessSpec;

/// Where a field of an exit table's slot stands in the new process.
fn entry_address(entry: usize, field: usize) -> u64 {
    let entries = std::mem::offset_of!(table::Table, entries);
    (TABLE_BASE + entries + entry * size_of::<Entry>() + field) as u64
}

/// How a process is entered in the exit table.
pub(super) struct Registration {
    pub entry: usize,
    pub running: u32,
    pub shown: &'static str,
}

/// What the helper does in the pod's pid namespace besides giving birth:
/// before, and when its child is there.
pub(super) struct Inside<F, G> {
    pub first: F,
    pub then: G,
}

type Steps = fn(&mut Plan);

/// Nothing besides.
pub(super) const NOTHING: Inside<Steps, Steps> = Inside { first: |_| (), then: |_| () };

/// Forks into the pod, registers, and leaves `child` there with pause as its
/// parent, born in new `namespaces`.
pub(super) fn be_born(
    p: &mut Plan,
    registration: Registration,
    namespaces: u64,
    inside: Inside<impl FnOnce(&mut Plan), impl FnOnce(&mut Plan)>,
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
        (inside.first)(p);
        // From RUNNING on pause looks for the pid, so it must not be an old
        // one; the kernel writes the new one before the clone returns.
        let pid = entry_address(registration.entry, std::mem::offset_of!(Entry, pid));
        let state = entry_address(registration.entry, std::mem::offset_of!(Entry, state));
        p.push(step::store(pid, 0, "0"));
        p.push(step::store(state, registration.running, registration.shown));
        p.fork(step::clone(namespaces, pid), born, child);
        (inside.then)(p);
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
    process: &ProcessSpec,
    filter: Option<&Filter>,
    program: &Program<'_>,
    has_terminal: bool,
) {
    p.push(step::unmap_table());
    p.push(step::setsid());
    if has_terminal {
        terminal::control(p);
    }
    program::go_to(p, facts, program);
    p.push(step::close_from(p.slot_of(Given::Lock)));
    set_last_limits(p, process);
    program::start(p, p.slot_of(Given::Plan), process, filter, program);
}
