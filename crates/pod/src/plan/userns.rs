//! The plan of a user namespace for an idmapped mount: it is made by somebody
//! who ends at once, and lives on as a descriptor.

use pause::wire::Record;

use super::step::{self, CWD};
use super::{Given, Plan};
use crate::kernel::namespace::Namespace;

/// The plan; the library writes the maps when it asks for them.
pub fn plan() -> Plan {
    let given = [Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report];
    let mut plan = Plan::new(&given);
    let p = &mut plan;
    p.push(step::set_name("podlet:ids"));
    p.push(step::unshare(Namespace::User.flag()));
    p.push(step::report(Record::MAPS, "MAPS", None));
    p.push(step::await_message(p.slot_of(Given::Report)));
    let users = p.keep("users", step::openat(CWD, "/proc/self/ns/user", 0));
    p.push(step::report(Record::USERS, "USERS", Some(users)));
    p.push(step::exit(0));
    plan
}
