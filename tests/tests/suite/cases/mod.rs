//! The tests, by what they are about.

mod exits;

use crate::Case;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    [exits::CASES].concat()
}
