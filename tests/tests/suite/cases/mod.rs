//! The tests, by what they are about.

mod bad;
mod commands;
mod crash;
mod exits;
mod images;
mod inside;
mod mounts;
mod namespaces;
mod pods;
mod security;

use crate::Case;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    let long = [security::CASES, pods::CASES, crash::CASES, exits::CASES];
    let short = [namespaces::CASES, inside::CASES, mounts::CASES, commands::CASES, images::CASES, bad::CASES];
    [long.concat(), short.concat()].concat()
}
