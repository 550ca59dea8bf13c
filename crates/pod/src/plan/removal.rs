//! The plan of removing what containers have made as others than an ordinary
//! user: files of sub-ids belong to nobody outside of a user namespace, and a
//! directory that is closed to its owner is open to root in one.

use std::path::PathBuf;

use pause::wire::Record;

use super::step::{self, CWD};
use super::{Given, Plan, ids, pod};
use crate::kernel::facts::Facts;
use crate::spec::users::Users;

/// The plan: empties these directories in a user namespace with the ids of
/// `users`, an ordinary user's.
pub fn plan(dirs: &[PathBuf], users: &Users, facts: &Facts) -> Plan {
    let mut plan = Plan::new(&[Given::Stdin, Given::Stdout, Given::Stderr, Given::Plan, Given::Report]);
    let p = &mut plan;
    p.push(step::set_name("podlet:remove"));
    pod::outer_users(p, users);
    ids::become_root(p, users, facts);
    for path in dirs {
        let dir = p.slot("dir");
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        p.if_ok(step::openat(CWD, path, flags).into_slot(dir).tolerate(&[libc::ENOENT]), |p| {
            p.push(step::empty_directory(dir));
            p.push(step::close(dir));
        });
        p.free.push(dir);
    }
    // As whoever makes a user namespace for others ends.
    let users = p.keep("users", step::openat(CWD, "/proc/self/ns/user", 0));
    p.push(step::report(Record::USERS, "USERS", Some(users)));
    p.push(step::exit(0));
    plan
}
