//! The plan of a supervisor's process, which outlives whoever starts it and is
//! outside of the pod.

use std::ffi::CString;

use pause::wire::Record;

use super::step;
use super::{Given, Plan};

/// The plan: a process of a session of its own that executes a program with these
/// arguments and this environment, and has the standard streams alone. It starts
/// containers as its starter would, and so may do all that this one may.
pub fn plan(argv: Vec<CString>, environment: Vec<CString>) -> Plan {
    let streams = [Given::Stdin, Given::Stdout, Given::Stderr];
    let mut plan = Plan::new(&[&streams[..], &[Given::Plan, Given::Report, Given::Supervisor]].concat());
    let p = &mut plan;
    let supervisor = p.slot("supervisor");
    let _supervisor_pid = p.slot("supervisor_pid");
    // Its parent ends: it belongs to whoever adopts orphans, as pause does.
    p.fork(step::clone(0, 0), supervisor, |p| {
        p.push(step::set_name("podlet:super"));
        p.push(step::setsid());
        p.push(step::chdir("/"));
        p.push(step::close_from_at_exec(p.slot_of(Given::Plan)));
        // Until it is written down which process this is: nobody would find it.
        p.push(step::await_message(p.slot_of(Given::Report)));
        p.push(step::unblock_signals());
        p.push(step::report(Record::EXEC, "EXEC", None));
        p.push(step::execveat(p.slot_of(Given::Supervisor), argv, environment));
    });
    p.push(step::report(Record::BORN, "BORN", Some(supervisor)));
    p.push(step::exit(0));
    plan
}
