//! The plan of a process that does nothing but wait for its creator's end.

use super::{Given, Plan, step};

/// The plan. That the other end of the report is closed it takes for a failure,
/// and it ends, as it is to.
pub fn plan() -> Plan {
    let given = [Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    let mut plan = Plan::new(&given);
    let p = &mut plan;
    p.push(step::set_name("podlet:scope"));
    p.push(step::await_message(p.slot_of(Given::Report)));
    p.push(step::exit(0));
    plan
}
