//! What names a unit of systemd's, and what is written down of one; in every build,
//! for another one may have made it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup;

/// Unit and slice; the manager's usual one for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitName {
    pub unit: String,
    pub slice: Option<String>,
    /// Which property says so, and what.
    pub said: (&'static str, String),
}

/// A scope, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// The unit's name.
    pub(super) unit: String,
    /// It is the user's own manager's.
    pub(super) user: bool,
    /// Its cgroup, by its number, once it is there: by its name it may be
    /// another's, which came after it.
    pub(super) number: Option<u64>,
}

impl Scope {
    /// Whether systemd is known to have made it.
    pub fn is_made(&self) -> bool {
        self.number.is_some()
    }

    /// Whether the cgroup at the scope's place is known to be the scope's.
    pub fn is_at(&self, dir: &Path) -> bool {
        self.is_made() && cgroup::number(dir) == self.number
    }
}
