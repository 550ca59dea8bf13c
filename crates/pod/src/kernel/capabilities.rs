//! Sets of capabilities(7).

use std::fmt::{self, Debug, Formatter};

use caps::Capability;
use serde::{Deserialize, Serialize};

/// A set of capabilities, as the kernel has it: one bit each, those that this
/// library has no name for included. Kept in records as that number.
///
/// ```
/// use pod::{Capability, CapabilitySet};
/// let mut set: CapabilitySet = [Capability::CAP_KILL, Capability::CAP_CHOWN].into_iter().collect();
/// set.remove(Capability::CAP_CHOWN);
/// assert!(set.contains(Capability::CAP_KILL) && set.iter().count() == 1);
/// assert_eq!(set.bits(), 1 << 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// Those whose bits are set.
    pub const fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits)
    }

    /// One bit each.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bitmask() != 0
    }

    /// Adds it.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= capability.bitmask();
    }

    /// Takes it out.
    pub fn remove(&mut self, capability: Capability) {
        self.0 &= !capability.bitmask();
    }

    /// Those in either.
    pub const fn union(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }

    /// Those in both.
    pub const fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }

    /// Those that are not in the other.
    pub const fn difference(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    /// Those in it that have names here, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let mut all: Vec<_> = caps::all().into_iter().filter(|capability| self.contains(*capability)).collect();
        all.sort_by_key(|capability| capability.index());
        all.into_iter()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<T: IntoIterator<Item = Capability>>(all: T) -> CapabilitySet {
        all.into_iter().fold(CapabilitySet::EMPTY, |set, capability| CapabilitySet(set.0 | capability.bitmask()))
    }
}

/// By their names.
impl Debug for CapabilitySet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_number_in_records() {
        let set: CapabilitySet = [Capability::CAP_SYS_ADMIN, Capability::CAP_CHOWN].into_iter().collect();
        assert_eq!(serde_json::to_string(&set).expect("JSON"), "2097153");
        assert_eq!(serde_json::from_str::<CapabilitySet>("2097153").expect("a set"), set);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Capability::CAP_CHOWN, Capability::CAP_SYS_ADMIN]);
        // What a later kernel has is not lost.
        let later = CapabilitySet::from_bits(1 << 60);
        assert_eq!((later.iter().count(), later.union(set).difference(set)), (0, later));
    }
}
