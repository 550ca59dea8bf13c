//! The tests, by what they are about.

mod any_call;
mod any_call_cni;
mod any_call_networks;
mod any_call_oci;
mod attach;
mod bad;
mod bundles;
mod bundles_known;
mod commands;
mod config;
mod copying;
mod crash;
mod created;
mod ends;
mod events;
mod everyday;
mod exits;
mod extensions;
mod files;
mod first_hour;
mod health;
mod images;
mod inside;
mod io;
mod labels;
mod layers;
mod limits;
mod logs;
mod machine;
mod mounts;
mod namespaces;
mod nesting;
mod networks;
mod networks_bad;
mod networks_cni;
mod networks_machine;
mod networks_names;
mod networks_pasta;
mod networks_ports;
mod networks_soak;
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
mod options;
mod order;
mod own_pid;
mod pause;
mod pause_by_id;
mod pods;
mod reach;
mod restarts;
mod revealed;
mod seccomp;
mod security;
mod seeing;
mod soak;
mod streams;
mod terminal;
mod trees;
mod users;
mod versions;

pub use bundles::runc;
pub use config::ip;
pub use ends::strace_path as strace;
pub use machine::podman;
pub use networks_machine::iptables;
pub use networks_pasta::without_pasta;

use crate::Case;
use crate::modes::Mode;

/// All of them, the long ones first: they then run beside the many short.
pub fn all() -> Vec<Case> {
    let long = [
        any_call::CASES,
        attach::CASES,
        restarts::AT_ANY_CALL,
        any_call_networks::CASES,
        any_call_cni::CASES,
        networks_soak::CASES,
        any_call_networks::OF_PASTA,
        soak::CASES,
        security::CASES,
        pods::CASES,
        crash::CASES,
        exits::CASES,
        ends::CASES,
    ];
    let short = [
        networks::CASES,
        networks_ports::CASES,
        networks_machine::CASES,
        networks_names::CASES,
        networks_bad::CASES,
        networks_cni::CASES,
        networks_bad::OF_USERS,
        networks_pasta::CASES,
        namespaces::CASES,
        own_pid::CASES,
        pause::CASES,
        reach::CASES,
        inside::CASES,
        mounts::CASES,
        commands::CASES,
        created::CASES,
        restarts::CASES,
        health::CASES,
        streams::CASES,
        terminal::CASES,
        io::CASES,
        first_hour::CASES,
        labels::CASES,
        seeing::CASES,
        copying::CASES,
        everyday::CASES,
        layers::CASES,
        logs::CASES,
        extensions::CASES,
        events::CASES,
        config::CASES,
        images::CASES,
        bad::CASES,
        seccomp::CASES,
        users::CASES,
        options::CASES,
        order::CASES,
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

/// Whether a test may end in another way with another kernel or C library: not what is
/// about podlet's own words and records, and not what does one thing very often, at each
/// of many system calls or in many rounds.
pub fn asks_the_kernel(test: &str) -> bool {
    let others = [
        any_call::CASES,
        any_call_cni::CASES,
        any_call_networks::CASES,
        any_call_networks::OF_PASTA,
        any_call_oci::CASES,
        bad::CASES,
        commands::CASES,
        created::CASES,
        everyday::CASES,
        extensions::CASES,
        first_hour::CASES,
        health::CASES,
        labels::CASES,
        logs::CASES,
        networks_bad::CASES,
        networks_bad::OF_USERS,
        networks_soak::CASES,
        options::CASES,
        order::CASES,
        restarts::AT_ANY_CALL,
        restarts::CASES,
        seeing::CASES,
        soak::CASES,
    ];
    let mutated = test.starts_with("two_hundred_mutations");
    !mutated && !others.concat().iter().any(|case| case.0 == test)
}

/// What needs a machine's cgroup controllers and capabilities, all of them:
/// mode vm has these, and networks on the machine itself; the other modes have the rest.
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

/// What makes networks, on a machine of its own: root's of the machine, and root's
/// of a user namespace.
pub fn of_networks() -> Vec<Case> {
    let own = [
        networks::CASES,
        networks_ports::CASES,
        networks_names::CASES,
        networks_bad::CASES,
        networks_machine::CASES,
        networks_soak::CASES,
        any_call_networks::CASES,
    ];
    [own.concat(), of_plugins()].concat()
}

/// What executes CNI plugins, as part of [`of_networks`].
pub fn of_plugins() -> Vec<Case> {
    [networks_cni::CASES, any_call_cni::CASES].concat()
}

/// Of these, what mode vm does on the machine itself.
pub const ON_THE_MACHINE: &[&str] = &[
    "pods_in_networks_reach_each_other_by_their_addresses",
    "pods_in_networks_reach_what_is_outside",
    "ports_of_networks_lead_to_a_pod_from_everywhere",
    "ports_of_networks_change_while_a_connection_lives",
    "ports_of_networks_are_anew_after_the_firewall_was_flushed",
    "a_ping_between_pods_of_networks_has_their_addresses",
    "networks_of_two_machines_are_one_by_plain_routes",
    "networks_of_two_machines_are_one_by_a_tunnel",
    "what_networks_switch_on_is_said_and_nothing_else_is",
    "a_firewall_of_others_is_named_where_a_pod_is_made",
    "pods_of_networks_come_back_after_a_reboot",
    "a_pod_on_the_machines_network_is_reached_as_the_machine",
];

/// Whether nothing may run beside it: it changes the links of the machine itself,
/// which all others see.
pub fn runs_alone(test: &str, mode: Mode) -> bool {
    mode == Mode::Vm && ON_THE_MACHINE.contains(&test)
}

/// Of networks, what takes long and finds the same on every kernel.
pub fn of_networks_for_long() -> Vec<Case> {
    let many = networks::CASES.iter().filter(|case| case.0.starts_with("sixty_four_pods"));
    many.chain(networks_bad::CASES).chain(networks_soak::CASES).chain(any_call_networks::CASES).copied().collect()
}

/// What an ordinary user's pods have for networks.
pub fn of_pasta() -> Vec<Case> {
    [networks_pasta::CASES, any_call_networks::OF_PASTA].concat()
}

/// Whether a mode has this test.
pub fn belongs(test: &str, mode: Mode) -> bool {
    let is = |cases: &[Case]| cases.iter().any(|case| case.0 == test);
    if is(&of_networks()) {
        return crate::NETWORKS.contains(&mode) || runs_alone(test, mode);
    }
    if is(&of_pasta()) {
        return mode == Mode::User;
    }
    if is(networks_bad::OF_USERS) {
        return matches!(mode, Mode::User | Mode::Mapped | Mode::Delegated);
    }
    // Only root makes shared mounts, and can run runc.
    (mode == Mode::Vm) == is(&on_a_whole_machine()) && (mode == Mode::Root || !is(bundles::CASES))
}
