//! The tests, by what they are about.

mod commands;
mod exits;
mod inside;
mod namespaces;
mod pods;

use crate::Case;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    [pods::CASES, exits::CASES, namespaces::CASES, inside::CASES, commands::CASES].concat()
}
