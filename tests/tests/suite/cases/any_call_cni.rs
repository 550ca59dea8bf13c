//! Commands that have CNI plugins executed, killed at any call, and with any call
//! failing, on the reference plugins: see [`any_call`](super::any_call). Plugins that
//! were begun come to their end by themselves, and once the pod is removed no rule,
//! lease, link or record is left.

use super::any_call::{Scene, failing, killed};
use super::networks_cni::bridge;
use crate::bed::Bed;
use crate::cni::{self, Machine};

const WEB: &str = "run -d --name web --network cni:br -p 8080:80 --rootfs ROOT /probe echo main-web , block";

/// A scene on a machine with a CNI network.
fn scene(
    bed: &Bed,
    play: fn(&Bed, &Scene),
    before: &'static [&'static str],
    line: &'static str,
    after: (&'static str, &'static str),
) {
    let machine = Machine::first(bed);
    machine.network("br", bridge(98));
    // Rules that plugins make for all pods are there from now on.
    bed.podlet(WEB).ok();
    machine.ends();
    play(bed, &Scene { before, line, code: 0, after, clear: cni::is_clean });
}

pub const CASES: &[crate::Case] = &[
    ("a_run_on_cni_killed_at_any_call", |bed| scene(bed, killed, &[], WEB, ("web/web", "running"))),
    ("a_run_on_cni_any_call_of_which_fails", |bed| scene(bed, failing, &[], WEB, ("web/web", "running"))),
    ("a_stop_on_cni_killed_at_any_call", |bed| scene(bed, killed, &[WEB], "stop -t 0 web", ("web", "exited"))),
    ("a_removal_on_cni_killed_at_any_call", |bed| scene(bed, killed, &[WEB], "rm -f web", ("web", "gone"))),
    ("a_removal_on_cni_any_call_of_which_fails", |bed| scene(bed, failing, &[WEB], "rm -f web", ("web", "gone"))),
];
