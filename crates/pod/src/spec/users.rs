//! The ids that there are in a pod, and the ones a process runs with.

use caps::Capability;

use crate::kernel::facts::Facts;
use crate::kernel::idmap::{self, IdMap};

/// The user namespaces of a pod.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Users {
    /// The caller's own: no new one.
    Caller,
    /// A new one, whose maps the maker writes.
    New {
        /// User ids.
        uids: Vec<IdMap>,
        /// Group ids.
        gids: Vec<IdMap>,
    },
    /// Two new ones, as an ordinary user needs them; the inner one maps the
    /// outer one's ids to themselves.
    Nested {
        /// User ids, by what they are outside of both.
        uids: Vec<IdMap>,
        /// Group ids, by what they are outside of both.
        gids: Vec<IdMap>,
        /// More than the user's own id: newuidmap and newgidmap write them.
        by_helper: bool,
        /// The outer one has one more id of either kind, behind the last: pause
        /// is that, and no process inside can be.
        #[serde(default)]
        apart: bool,
    },
}

impl Users {
    /// The user ids that exist inside the pod.
    pub fn uids(&self) -> &[IdMap] {
        match self {
            Users::Caller => &[],
            Users::New { uids, .. } | Users::Nested { uids, .. } => uids,
        }
    }

    /// The group ids that exist inside the pod.
    pub fn gids(&self) -> &[IdMap] {
        match self {
            Users::Caller => &[],
            Users::New { gids, .. } | Users::Nested { gids, .. } => gids,
        }
    }

    /// What newuidmap and newgidmap are asked for: user and group ids of the
    /// outer namespace.
    pub(crate) fn of_outer(&self) -> [Vec<IdMap>; 2] {
        let more = u32::from(matches!(self, Users::Nested { apart: true, .. }));
        [self.uids(), self.gids()].map(|maps| {
            let mut maps = maps.to_vec();
            maps.iter_mut().last().into_iter().for_each(|last| last.count += more);
            maps
        })
    }

    /// A user and a group id that exist where pause's creator is, and not in the
    /// pod: pause's own, so that it is of no container's user whatever that
    /// becomes.
    pub(crate) fn nobodys(&self, facts: &Facts) -> Option<(u32, u32)> {
        match self {
            Users::New { uids, gids } => Some((unmapped(uids, facts.uid, facts)?, unmapped(gids, facts.gid, facts)?)),
            Users::Nested { uids, gids, apart: true, .. } => {
                let behind = |maps: &[IdMap]| maps.last().map(|last| last.inside + last.count);
                Some((behind(uids)?, behind(gids)?))
            }
            Users::Caller | Users::Nested { .. } => None,
        }
    }

    /// Whether `setgroups(2)` works inside.
    pub fn setgroups(&self, facts: &Facts) -> bool {
        match self {
            Users::Caller => facts.setgroups,
            Users::New { .. } => facts.setgroups,
            Users::Nested { by_helper, .. } => *by_helper,
        }
    }
}

/// The ids the container's program runs with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ids {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// An id outside that `maps` leave out: the caller's own, which asks for
/// nothing; else the machine's last.
pub(crate) fn unmapped(maps: &[IdMap], own: u32, facts: &Facts) -> Option<u32> {
    // The next one means "none" in system calls.
    const LAST: u32 = u32::MAX - 1;
    let needed = [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETPCAP];
    let may_change = facts.initial_users && needed.into_iter().all(|cap| facts.capabilities.contains(cap));
    let is_free = |id: u32| idmap::inside(id, maps).is_none();
    [Some(own), may_change.then_some(LAST)].into_iter().flatten().find(|&id| is_free(id))
}
