//! Commands that make and change networks, killed at any call, and with any call
//! failing: see [`any_call`](super::any_call). Once the pod is removed and networks
//! are pruned, no link, table, lease or file is left.

use super::any_call::{Scene, failing, killed};
use crate::bed::Bed;
use crate::space::{self, Place, Space};

const WEB: &str = "run -d --name web -p 8080:80 --rootfs ROOT /probe echo main-web , orphan block , block";
const STOPPED: [&str; 3] = [
    "create web -p 8080:80",
    "run -d --pod web --name a --rootfs ROOT /probe echo main-a , ignore TERM , block",
    "stop -t 0 web",
];

/// Tests of this name, of [`killed`] and of [`failing`], on a machine of their own.
macro_rules! scenes {
    ($enter:expr; $($killed:ident, $failing:ident: $before:expr, $line:expr, $after:expr;)*) => {
        &[$(
            (stringify!($killed), |bed| {
                let _machine = ($enter)(bed);
                killed(bed, &Scene { before: $before, line: $line, code: 0, after: $after, clear: space::prune });
            }),
            (stringify!($failing), |bed| {
                let _machine = ($enter)(bed);
                failing(bed, &Scene { before: $before, line: $line, code: 0, after: $after, clear: space::prune });
            }),
        )*]
    };
}

pub const CASES: &[crate::Case] = scenes! {
    |_: &Bed| {
        space::enter();
        Place::here()
    };
    a_run_in_a_network_killed_at_any_call, a_run_in_a_network_any_call_of_which_fails:
        &[], WEB, ("web/web", "running");
    a_network_made_killed_at_any_call, a_network_made_any_call_of_which_fails:
        &[], "network create blue", ("web", "gone");
    a_port_added_killed_at_any_call, a_port_added_any_call_of_which_fails:
        &[WEB], "port add web 8081:81 8082:82/udp", ("web/web", "running");
    a_port_removed_killed_at_any_call, a_port_removed_any_call_of_which_fails:
        &[WEB], "port rm web 8080:80", ("web/web", "running");
    a_start_in_a_network_killed_at_any_call, a_start_in_a_network_any_call_of_which_fails:
        &STOPPED, "start web", ("web/a", "running");
    a_removal_with_a_port_killed_at_any_call, a_removal_with_a_port_any_call_of_which_fails:
        &[WEB], "rm -f web", ("web", "gone");
};

/// Of an ordinary user.
pub const OF_PASTA: &[crate::Case] = scenes! {
    Space::enter_as_user;
    a_run_on_pasta_killed_at_any_call, a_run_on_pasta_any_call_of_which_fails:
        &[], WEB, ("web/web", "running");
    a_start_on_pasta_killed_at_any_call, a_start_on_pasta_any_call_of_which_fails:
        &STOPPED, "start web", ("web/a", "running");
    a_removal_on_pasta_killed_at_any_call, a_removal_on_pasta_any_call_of_which_fails:
        &[WEB], "rm -f web", ("web", "gone");
};
