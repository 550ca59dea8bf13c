//! Steps that change who a process is: ids, capabilities, `no_new_privs`.
//!
//! After every change of ids the kernel may make a process dumpable again
//! (`fs.suid_dumpable`), so each of these ends with the opposite.

use caps::Capability;

use super::{Plan, step};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::facts::Facts;
use crate::kernel::idmap::{self, IdMap};
use crate::seccomp::Filter;
use crate::spec::ProcessSpec;
use crate::spec::users::{Ids, Users};

/// In a user namespace just entered: from the unmapped id of outside to root
/// inside, or where there is none to the first id of all. It has every
/// capability in either case.
pub(super) fn become_root(p: &mut Plan, users: &Users, facts: &Facts) {
    set_groups(p, users, facts, &[]);
    p.push(step::setresgid(root_of(users.gids())));
    p.push(step::setresuid(root_of(users.uids())));
}

/// Supplementary groups; where they cannot be set, those that are inherited
/// stay.
fn set_groups(p: &mut Plan, users: &Users, facts: &Facts, groups: &[u32]) {
    if users.setgroups(facts) {
        p.push(step::setgroups(groups));
    }
}

/// Root of a user namespace with these ids, or the first of them.
fn root_of(maps: &[IdMap]) -> u32 {
    match maps.first() {
        Some(first) if !maps.iter().any(|map| map.contains(0)) => first.inside,
        _ => 0,
    }
}

/// From here on a change of ids takes no capabilities away.
pub(super) fn keep_capabilities(p: &mut Plan) {
    p.push(step::prctl(libc::PR_SET_SECUREBITS, "PR_SET_SECUREBITS", SECBIT_NO_SETUID_FIXUP));
}

/// linux/securebits.h: a change of user ids changes no capabilities.
const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;

/// As [`become_root`], for nothing but the files it makes: an owner that a
/// user namespace does not map can have none there.
pub(super) fn make_files_as_root(p: &mut Plan, users: &Users, facts: &Facts) {
    set_groups(p, users, facts, &[]);
    p.push(step::setfsgid(root_of(users.gids())));
    p.push(step::setfsuid(root_of(users.uids())));
}

/// Does what `then` adds with the files that it makes belonging to root of a new
/// user namespace with these ids, as it is seen from here, and with the
/// capabilities of here.
pub(super) fn as_their_root(p: &mut Plan, users: &Users, then: impl FnOnce(&mut Plan)) {
    let outside = |maps: &[IdMap]| idmap::on_machine(root_of(maps), maps);
    keep_capabilities(p);
    p.push(step::setfsgid(outside(users.gids())));
    p.push(step::setfsuid(outside(users.uids())));
    then(p);
    make_files_as_oneself(p);
    p.push(step::undumpable());
}

/// The end of that.
pub(super) fn make_files_as_oneself(p: &mut Plan) {
    // Nothing else is changed, but these follow.
    p.push(step::setregid_to_same());
    p.push(step::setreuid_to_same());
}

/// pause keeps nothing.
pub(super) fn drop_everything(p: &mut Plan, facts: &Facts) {
    p.push(step::drop_bounding(0, facts.last_capability));
    p.push(step::capset(CapabilitySet::EMPTY, CapabilitySet::EMPTY, CapabilitySet::EMPTY));
    p.push(step::prctl(libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1));
    p.push(step::undumpable());
}

/// What a container's process must keep until it has loaded its seccomp filter
/// although the container does not have it: without `no_new_privs`, the kernel
/// demands CAP_SYS_ADMIN for that.
pub(super) fn kept_for(process: &ProcessSpec, filter: Option<&Filter>) -> CapabilitySet {
    let needed = (filter.is_some() && !process.no_new_privileges).then_some(Capability::CAP_SYS_ADMIN);
    needed.into_iter().collect::<CapabilitySet>().difference(process.capabilities.effective)
}

/// A container's process becomes who it is to be in the user namespaces
/// `users`, but for the capabilities that loading `filter` takes, and those in
/// `besides` until [`give_up`].
pub(super) fn become_user(
    p: &mut Plan,
    facts: &Facts,
    users: &Users,
    ids: &Ids,
    process: &ProcessSpec,
    filter: Option<&Filter>,
    besides: CapabilitySet,
) {
    let kept = kept_for(process, filter).union(besides);
    let sets = &process.capabilities;
    for (first, last) in outside(sets.bounding.bits(), facts.last_capability) {
        p.push(step::drop_bounding(first, last));
    }
    // Capabilities would not survive the change to another user id, and
    // inheriting needs them to.
    if ids.uid != 0 {
        p.push(step::prctl(libc::PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", 1));
    }
    set_groups(p, users, facts, &ids.groups);
    p.push(step::setresgid(ids.gid));
    p.push(step::setresuid(ids.uid));
    p.push(step::capset(sets.effective.union(kept), sets.permitted.union(kept), sets.inheritable));
    for capability in 0..=facts.last_capability {
        if sets.ambient.bits() & 1 << capability != 0 {
            // Only what is permitted and inheritable can be; as runc and crun
            // do, one that is not is left out.
            p.push(step::raise_ambient(capability).tolerate(&[libc::EPERM]));
        }
    }
    if process.no_new_privileges {
        p.push(step::prctl(libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1));
    }
    p.push(step::undumpable());
}

/// From here on it has the container's capabilities alone, and those that
/// loading `filter` takes.
pub(super) fn give_up(p: &mut Plan, process: &ProcessSpec, filter: Option<&Filter>) {
    let (sets, kept) = (&process.capabilities, kept_for(process, filter));
    p.push(step::capset(sets.effective.union(kept), sets.permitted.union(kept), sets.inheritable));
}

/// The runs of bits from 0 to `last` that `set` lacks.
fn outside(set: u64, last: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for bit in (0..=last).filter(|bit| set & 1 << bit == 0) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == bit => *end = bit,
            _ => runs.push((bit, bit)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn runs_of_missing_bits() {
        assert_eq!(outside(0b0110, 5), [(0, 0), (3, 5)]);
        assert_eq!(outside(!0, 40), []);
        assert_eq!(outside(0, 40), [(0, 40)]);
    }
}
