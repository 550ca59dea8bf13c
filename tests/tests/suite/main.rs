//! The integration suite: the library and the command, with a static probe as
//! payload, in real namespaces.
//!
//! ```text
//!   suite                         chooses, counts, prints
//!     └─ --supervise              becomes the mode's user (`modes`)
//!          = --guard              subreaper: reaps, watches the clock, and
//!              │                  afterwards looks for leaks (`leaks`)
//!              └─ --body          the test itself, with a `Bed` to lie in
//!                   └─ podlet, or this binary as an embedder (`embed`)
//! ```
//!
//! Every test runs in every mode the caller can have; what is left out stands
//! in [`SKIPS`] with its reason. The tests of mode vm are no part of this: they
//! need every cgroup controller and capability, which a container or a login
//! does not have, and run where that mode is asked for (`make test-vm`).
//!
//! `suite [--mode M,...] [--jobs N] [--every N] [--part kernel] [--list] [FILTER...]`,
//! with `all` for every mode and vm; `--every 1` is the long form of the tests that have
//! one (`make test-kill`, `make test-soak`), `--part kernel` leaves out what finds the
//! same with every kernel and C library ([`cases::asks_the_kernel`]);
//! `PODLET_TEST_BIN` names a directory with
//! the commands `podlet`, `podlet-oci` and `podlet-old-order`, without it cargo
//! builds them; `PODLET_TEST_FORMER` one with `podlet` and `podlet-oci` of the
//! build before (`make test-versions`); `PODLET_TEST_CNI` directories of CNI plugins
//! (`make test-cni`); `PODLET_TEST_PATIENCE` says how many times
//! slower than usual the machine is.

mod bed;
mod cni;
mod embed;
mod harness;
mod leaks;
mod modes;
#[path = "../../probe/scribble.rs"]
mod scribble;
mod space;
mod sys;
mod tracer;

mod cases;

use bed::Bed;
use modes::Mode;

/// A test: its name and what it does.
pub type Case = (&'static str, fn(&Bed));

/// Names functions of this module as tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { pub const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*]; };
}
pub(crate) use tests;

/// What does not run where, and why. The harness refuses names that are not
/// there; nothing else is ever left out.
const SKIPS: &[Skip] = &[
    (Mode::User, "a_full_disk_is_said_and_the_container_goes_on", NO_SMALL_DISK),
    (Mode::Delegated, "a_full_disk_is_said_and_the_container_goes_on", NO_SMALL_DISK),
];

const NO_SMALL_DISK: &str = "who may not mount has none that is small";

const NO_FORMER: &str = "PODLET_TEST_FORMER does not say where the build before is; make test-versions does";

/// Tests that need a program which a machine may not have: whether it is there.
fn needs_programs() -> Vec<(bool, &'static [Mode], &'static str, &'static str)> {
    const USUAL: &[Mode] = &Mode::USUAL;
    vec![
        (
            cases::runc().is_some(),
            &[Mode::Root],
            "podlet_oci_does_as_runc_does",
            "runc is not installed; .ci/run does that",
        ),
        (cases::podman().is_some(), &[Mode::Vm], "podman_limits_memory", "podman is not installed; .ci/run does that"),
        (cases::ip().is_some(), USUAL, "network_devices_of_a_config", "iproute2 is not installed; .ci/run does that"),
        (
            cases::iptables(),
            &[Mode::Root, Mode::Mapped, Mode::Vm],
            "a_firewall_of_others_is_named_where_a_pod_is_made",
            "iptables is not installed; .ci/run does that",
        ),
        (
            cases::iptables(),
            &[Mode::Root, Mode::Mapped],
            "rules_of_iptables_legacy_are_said_to_be_unseen",
            "iptables is not installed; .ci/run does that",
        ),
        (
            cases::strace().is_some(),
            USUAL,
            "a_run_whose_pod_was_swept_meanwhile_tells_its_exit_code",
            "strace is not installed; .ci/run does that",
        ),
        (harness::former().is_some(), USUAL, "pods_of_the_build_before_go_on", NO_FORMER),
        (harness::former().is_some(), USUAL, "containers_of_the_build_before_go_on", NO_FORMER),
        (
            cases::strace().is_some(),
            USUAL,
            "a_pod_whose_maker_was_stopped_is_swept_in_the_end",
            "strace is not installed; .ci/run does that",
        ),
        (
            cases::strace().is_some(),
            USUAL,
            "a_look_that_fails_is_no_answer",
            "strace is not installed; .ci/run does that",
        ),
    ]
}

/// What is left out where cgroup v2 is alone, besides [`SKIPS`].
const SKIPS_ON_PURE_V2: &[Skip] = &[(
    Mode::Root,
    "podlet_oci_does_as_runc_does",
    "its list of differences is that of a machine where runc uses cgroup v1; limits are compared in mode vm",
)];

/// What is left out where /bin/sh is busybox, which takes its own applets for
/// programs, besides [`SKIPS`].
const SKIPS_WITH_BUSYBOX: &[Skip] = &[
    (Mode::Root, "what_a_hook_sees", "its hook is a script for the tools of GNU and util-linux"),
    (Mode::Root, "network_devices_of_a_config", "its script needs nsenter and ip of util-linux and iproute2"),
];

/// The modes that make networks.
const NETWORKS: [Mode; 2] = [Mode::Root, Mode::Mapped];

/// Where, which test, and why.
type Skip = (Mode, &'static str, &'static str);

/// What mode root leaves to mode vm where that is asked for, too.
fn left_to_vm() -> Vec<Skip> {
    let on_it = cases::ON_THE_MACHINE.iter().map(|test| (Mode::Root, *test, "mode vm does it on the machine itself"));
    let too_long = "takes too long on a machine that is emulated; `--mode root` has it";
    on_it.chain(cases::of_networks_for_long().into_iter().map(|(test, _)| (Mode::Root, test, too_long))).collect()
}

fn skips(modes: &[Mode]) -> Vec<Skip> {
    let is_pure = modes::hierarchy().is_some_and(|path| path.ends_with("cgroup"));
    let is_busybox = std::fs::canonicalize("/bin/sh").is_ok_and(|path| path.ends_with("busybox"));
    let with_runc = is_pure && cases::runc().is_some();
    let on_this = [(with_runc, SKIPS_ON_PURE_V2), (is_busybox, SKIPS_WITH_BUSYBOX)];
    let on_this = on_this.into_iter().filter(|(is, _)| *is).flat_map(|(_, skips)| skips);
    let missing = needs_programs().into_iter().filter(|(is_there, ..)| !is_there);
    let missing = missing.flat_map(|(_, modes, test, reason)| modes.iter().map(move |mode| (*mode, test, reason)));
    let networks = space::lacks().map(|lack| (cases::of_networks(), lack)).into_iter();
    let networks = networks.flat_map(|(tests, lack)| tests.into_iter().map(move |(test, _)| (test, lack)));
    let networks =
        networks.flat_map(|(test, lack)| [Mode::Root, Mode::Mapped, Mode::Vm].map(|mode| (mode, test, lack)));
    let plugins = cni::lacks().filter(|_| space::lacks().is_none()).map(|lack| (cases::of_plugins(), lack)).into_iter();
    let plugins = plugins.flat_map(|(tests, lack)| tests.into_iter().map(move |(test, _)| (test, lack)));
    let plugins = plugins.flat_map(|(test, lack)| NETWORKS.map(|mode| (mode, test, lack)));
    let in_vm = if modes.contains(&Mode::Vm) { left_to_vm() } else { Vec::new() };
    let pasta = cases::without_pasta().map(|lack| (cases::of_pasta(), lack)).into_iter();
    let pasta = pasta.flat_map(|(tests, lack)| tests.into_iter().map(move |(test, _)| (Mode::User, test, lack)));
    let missing = missing.chain(networks).chain(plugins).chain(pasta);
    SKIPS.iter().chain(on_this).copied().chain(missing).chain(in_vm).collect()
}

/// Why nothing of podlet-oci runs without them.
const OCI_NEEDS_NEW_CALLS: &str = "podlet-oci needs the new calls, and says so";

/// Why what runs with the machine's files is root's without them.
const HOST_NEEDS_NEW_CALLS: &str = "the image `host` takes detached trees for an ordinary user";

/// Modes of users that do not have the machine's root.
const USERS: &[Mode] = &[Mode::User, Mode::Mapped, Mode::Delegated];

/// What needs the calls that `--deny new-calls` denies.
const NEEDS_NEW_CALLS: &[(&[Mode], &str, &str)] = &[
    (&Mode::USUAL, "limits_that_a_bundle_lifts_still_hold", OCI_NEEDS_NEW_CALLS),
    (&Mode::USUAL, "a_cgroup_that_was_there_keeps_nothing_of_doubled_limits", OCI_NEEDS_NEW_CALLS),
    (&Mode::USUAL, "events_end_when_their_reader_has_gone", OCI_NEEDS_NEW_CALLS),
    (
        &Mode::USUAL,
        "cve_2016_9962_a_pod_mate_with_ptrace_gets_nothing_of_a_thousand_launches",
        "the old order is the one that a mate with CAP_SYS_PTRACE can catch",
    ),
    (
        &Mode::USUAL,
        "a_mate_with_ptrace_gets_nothing_of_who_makes_a_pid_namespace",
        "the old order is the one that a mate with CAP_SYS_PTRACE can catch",
    ),
    (&Mode::USUAL, "cve_2024_5154_planted_passwd", "without openat2 a linked passwd is refused before it is read"),
    (
        &Mode::USUAL,
        "cve_2026_55686_a_working_directory_behind_a_link_stays_inside",
        "without openat2 it is refused sooner",
    ),
    (
        &Mode::USUAL,
        "the_working_directory_and_the_path",
        "without openat2 a working directory behind a link is refused",
    ),
    (&Mode::USUAL, "places_in_the_image", "without openat2 targets behind links are refused"),
    (
        &Mode::USUAL,
        "a_volume_behind_a_link_of_the_image_to_its_proc_is_there",
        "without openat2 targets behind links are refused",
    ),
    (
        &[Mode::Root, Mode::Mapped],
        "what_is_mounted_in_a_layer_is_not_seen_by_the_lookup_of_a_user",
        "without openat2 a mount of the same file system is not told from the layer",
    ),
    (USERS, "a_container_that_does_not_run_has_its_root_copied", HOST_NEEDS_NEW_CALLS),
    (
        &Mode::USUAL,
        "links_of_a_container_lead_nowhere_outside",
        "without openat2 a link of the image is refused wherever it would be followed",
    ),
    (&[Mode::Root], "copies_into_a_pod_with_its_own_ids_are_its_roots", "root's user namespaces need the new calls"),
    (&Mode::USUAL, "a_privileged_container_may_what_its_caller_may", "what denies the calls is a filter that it sees"),
    (USERS, "the_examples_do_what_they_say", HOST_NEEDS_NEW_CALLS),
    (
        &[Mode::Root],
        "the_examples_do_what_they_say",
        "without the new calls a container of the image `host` has a /dev/shm of its own",
    ),
    (USERS, "a_shell_has_job_control_and_the_size_of_the_window", HOST_NEEDS_NEW_CALLS),
    (USERS, "keys_mean_nothing_to_a_terminal_in_raw_mode", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_shell_is_left_and_come_back_to", HOST_NEEDS_NEW_CALLS),
    (USERS, "several_see_and_type_at_once", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_detached_terminal_is_attached_to_and_started_again", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_killed_podlet_leaves_the_terminal", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_killed_copier_of_a_terminal_is_replaced", HOST_NEEDS_NEW_CALLS),
    (USERS, "keys_that_leave_are_the_users_choice", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_terminal_without_a_log", HOST_NEEDS_NEW_CALLS),
    (USERS, "the_callers_terminal_is_as_it_was_whatever_ends_podlet", HOST_NEEDS_NEW_CALLS),
    (USERS, "stopped_and_continued_it_goes_on", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_terminal_without_input", HOST_NEEDS_NEW_CALLS),
    (USERS, "an_input_that_is_no_terminal", HOST_NEEDS_NEW_CALLS),
    (USERS, "more_than_a_terminal_holds_in_both_directions", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_terminal_that_is_closed_can_be_opened_again", HOST_NEEDS_NEW_CALLS),
    (USERS, "what_a_terminal_can_do_is_said_once", HOST_NEEDS_NEW_CALLS),
    (USERS, "a_plan_shows_the_terminal", HOST_NEEDS_NEW_CALLS),
    (&Mode::USUAL, "a_pods_user_namespace_has_its_maps", "root's pods with a user namespace take detached trees"),
    (&[Mode::Root], "user_namespace_of_a_config", "root's pods with a user namespace take detached trees"),
    (
        &[Mode::Root],
        "a_pods_user_namespace_owns_layers_of_the_machines",
        "root's pods with a user namespace take detached trees",
    ),
    (
        &[Mode::Root],
        "nothing_of_pause_can_be_written_in_the_proc_of_a_user_namespace",
        "root's pods with a user namespace take detached trees",
    ),
    (
        &[Mode::Root],
        "pause_is_of_a_user_that_no_container_can_become",
        "root's pods with a user namespace take detached trees",
    ),
    (
        &[Mode::Root],
        "a_pod_whose_ids_are_the_callers_has_another_user_for_pause",
        "root's pods with a user namespace take detached trees",
    ),
    (
        &[Mode::Root],
        "a_container_makes_no_namespaces_and_no_mounts",
        "root's pods with a user namespace take detached trees",
    ),
    (
        &[Mode::Root],
        "cgroup_v1_and_own_limits_are_out_of_reach",
        "root's pods with a user namespace take detached trees",
    ),
    (&[Mode::Root], "cap_sys_admin_gives_namespaces_back", "root's pods with a user namespace take detached trees"),
    (&[Mode::Root], "a_nesting_container_mounts_a_fresh_proc", "root's pods with a user namespace take detached trees"),
    (&[Mode::Root], "podlet_runs_in_a_container_that_nests", "root's pods with a user namespace take detached trees"),
    (
        &[Mode::Root],
        "podlet_in_a_container_that_does_not_nest_says_what_it_takes",
        "root's pods with a user namespace take detached trees",
    ),
    (&[Mode::Root], "nobody_in_a_pod_changes_how_pause_runs", "root's pods with a user namespace take detached trees"),
    (
        &Mode::USUAL,
        "two_containers_find_each_other_on_localhost_and_in_shared_memory",
        "the pod's /dev/shm is a detached tree",
    ),
    (USERS, "a_terminal_with_the_machines_files", "an ordinary user's host image takes detached trees"),
    (&Mode::USUAL, "a_bundle_without_defaults_gets_none", "it looks for a filter, and the one that denies is there"),
    (&Mode::USUAL, "unconfined_lifts_it", "the filter that denies is there whatever is lifted"),
    (&Mode::USUAL, "plan_changes_nothing", "it looks for the new calls in the plan"),
    (&Mode::USUAL, "volumes_propagate_as_asked", "rshared takes detached trees"),
    (&Mode::USUAL, "the_root_propagates_as_asked", "shared takes detached trees"),
    (&Mode::USUAL, "ids_of_a_mount", "idmap takes mount_setattr"),
    (&Mode::USUAL, "tmpcopyup_begins_with_what_the_image_has", "tmpcopyup takes fsmount"),
    (
        &[Mode::Mapped, Mode::User, Mode::Delegated],
        "the_machines_own_files_copy_on_write",
        "in a user namespace the machine's root is a recursive read-only bind, which takes mount_setattr",
    ),
    (
        &[Mode::Mapped, Mode::User, Mode::Delegated],
        "a_run_of_the_host_killed_at_any_call",
        "in a user namespace the machine's root is a recursive read-only bind, which takes mount_setattr",
    ),
    (
        &[Mode::Mapped, Mode::User, Mode::Delegated],
        "a_run_of_the_host_any_call_of_which_fails",
        "in a user namespace the machine's root is a recursive read-only bind, which takes mount_setattr",
    ),
];

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[1..] {
        ["--supervise", mode, test, dir, cgroup] => harness::supervise(mode, test, dir, cgroup),
        ["--guard", mode, test, dir] => harness::guard(mode, test, dir),
        ["--body", mode, test, dir] => harness::body(mode, test, dir),
        ["--lacks"] => space::look(),
        ["--trace", log, what, ref command @ ..] => tracer::main(log, what, command),
        ["--embed", ref rest @ ..] => embed::run(rest),
        ref rest => harness::all(rest),
    }
}
