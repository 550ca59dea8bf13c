//! The ids of a bundle's container, inside and on this machine.

use std::fs;

use crate::error::{Context, Result};
use crate::kernel::idmap::{self, IdMap, show_maps};
use crate::lookup::subids;
use crate::spec::users::Users;

/// How user `uid` of this machine appears in a user namespace with these maps.
pub(super) fn seen_inside(uid: u32, maps: &[IdMap], users: &Users) -> u32 {
    if *users == Users::Caller {
        return uid;
    }
    idmap::inside(uid, maps).unwrap_or(idmap::OVERFLOW)
}

/// The id maps of a new user namespace, written by this program, or by newuidmap
/// and newgidmap where it may not.
pub(super) fn write_maps(pid: u32, users: &Users) -> Result<()> {
    if let Users::Nested { by_helper: true, .. } = users {
        return subids::map_by_helper(pid, users);
    }
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::write(&path, text).doing(|| format!("writing {path}"))
    };
    if let Users::Nested { .. } = users {
        // Only without groups to drop may an ordinary user map one.
        write("setgroups", "deny")?;
    }
    write("uid_map", &show_maps(users.uids()))?;
    write("gid_map", &show_maps(users.gids()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::idmap::on_machine;

    #[test]
    fn ids_from_both_sides() {
        let maps = vec![IdMap { inside: 0, outside: 1000, count: 1 }, IdMap { inside: 1, outside: 100_000, count: 10 }];
        let users = Users::New { uids: maps.clone(), gids: maps.clone() };
        assert_eq!(seen_inside(1000, &maps, &users), 0);
        assert_eq!(seen_inside(100_003, &maps, &users), 4);
        assert_eq!(seen_inside(0, &maps, &users), 65534);
        assert_eq!(on_machine(4, &maps), 100_003);
        assert_eq!(on_machine(7, &[]), 7);
    }
}
