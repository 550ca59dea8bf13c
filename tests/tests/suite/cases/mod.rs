//! The tests, by what they are about.

mod any_call;
mod any_call_oci;
mod bad;
mod bundles;
mod bundles_known;
mod commands;
mod config;
mod crash;
mod ends;
mod events;
mod exits;
mod extensions;
mod files;
mod first_hour;
mod images;
mod inside;
mod labels;
mod limits;
mod machine;
mod mounts;
mod namespaces;
mod nesting;
mod oci;
mod oci_cgroups;
mod oci_crash;
mod oci_exec;
mod oci_hooks;
mod oci_images;
mod oci_mounts;
mod oci_namespaces;
mod oci_peers;
mod oci_races;
mod oci_signals;
mod oci_terminal;
mod oci_users;
mod pause;
mod pause_by_id;
mod pods;
mod reach;
mod revealed;
mod seccomp;
mod security;
mod soak;
mod streams;
mod trees;
mod users;
mod versions;

pub use bundles::runc;
pub use config::ip;
pub use ends::strace_path as strace;
pub use machine::podman;

use crate::Case;
use crate::modes::Mode;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    let long = [any_call::CASES, soak::CASES, security::CASES, pods::CASES, crash::CASES, exits::CASES, ends::CASES];
    let short = [
        namespaces::CASES,
        pause::CASES,
        reach::CASES,
        inside::CASES,
        mounts::CASES,
        commands::CASES,
        streams::CASES,
        first_hour::CASES,
        labels::CASES,
        extensions::CASES,
        events::CASES,
        config::CASES,
        images::CASES,
        bad::CASES,
        seccomp::CASES,
        users::CASES,
        nesting::CASES,
        pause_by_id::CASES,
    ];
    [long.concat(), of_podlet_oci(), short.concat(), on_a_whole_machine()].concat()
}

/// What runs podlet-oci, which does not without the new calls. The long ones
/// first, too.
pub fn of_podlet_oci() -> Vec<Case> {
    [
        any_call_oci::CASES,
        bundles::CASES,
        oci_crash::CASES,
        oci::CASES,
        oci_namespaces::CASES,
        oci_mounts::CASES,
        oci_images::CASES,
        oci_races::CASES,
        oci_hooks::CASES,
        oci_exec::CASES,
        oci_cgroups::CASES,
        oci_users::CASES,
        oci_peers::CASES,
        oci_signals::CASES,
        oci_terminal::CASES,
        versions::CASES,
        files::CASES,
        trees::CASES,
        revealed::CASES,
    ]
    .concat()
}

/// What needs a machine's cgroup controllers and capabilities, all of them:
/// mode vm has these and nothing else, the other modes have the rest.
fn on_a_whole_machine() -> Vec<Case> {
    [
        machine::CASES,
        limits::CASES,
        events::ON_A_WHOLE_MACHINE,
        any_call::ON_A_WHOLE_MACHINE,
        any_call_oci::ON_A_WHOLE_MACHINE,
    ]
    .concat()
}

/// Whether a mode has this test.
pub fn belongs(test: &str, mode: Mode) -> bool {
    let is = |cases: &[Case]| cases.iter().any(|case| case.0 == test);
    // Only root makes shared mounts, and can run runc.
    (mode == Mode::Vm) == is(&on_a_whole_machine()) && (mode == Mode::Root || !is(bundles::CASES))
}
