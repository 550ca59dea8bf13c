//! The tests, by what they are about.

mod bad;
mod commands;
mod crash;
mod exits;
mod images;
mod inside;
mod namespaces;
mod pods;
mod seccomp;
mod security;

use crate::Case;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    let long = [security::CASES, pods::CASES, crash::CASES, exits::CASES];
    let short = [namespaces::CASES, inside::CASES, commands::CASES, images::CASES, bad::CASES, seccomp::CASES];
    [long.concat(), short.concat()].concat()
}
