//! podlet-oci, killed as it begins any of its system calls, or with any call of it
//! or of the container that it makes failing: `state` tells the truth, and
//! `delete --force` removes everything.

use nix::sys::signal::Signal;

use super::any_call::{Rounds, at_moments, steps, told, until};
use super::oci::{become_subreaper, config, write};
use super::oci_crash::everybody_ends;
use crate::bed::Bed;
use crate::leaks::{self, Seen, Snapshot};
use crate::tracer::{self, What, faults};

/// A command, and what it is done to.
struct Scene {
    /// What the container does.
    script: &'static str,
    /// What is there before.
    before: &'static [&'static str],
    line: &'static str,
    /// Its exit code.
    code: i32,
    /// The container's status once it has succeeded.
    after: &'static str,
}

const BLOCK: &str = "echo main-c , orphan block , block";
const END: &str = "echo main-c , exit 7";
const CREATE: &str = "create --bundle DIR c";
const RUN: &str = "run -d --bundle DIR c";

macro_rules! scenes {
    ($($killed:ident, $failing:ident: $script:expr, $before:expr, $line:expr => $code:expr, $after:expr;)*) => {
        &[$(
            (stringify!($killed), |bed| {
                killed(bed, &Scene { script: $script, before: $before, line: $line, code: $code, after: $after })
            }),
            (stringify!($failing), |bed| {
                failing(bed, &Scene { script: $script, before: $before, line: $line, code: $code, after: $after })
            }),
        )*]
    };
}

pub const CASES: &[crate::Case] = scenes! {
    an_oci_create_killed_at_any_call, an_oci_create_any_call_of_which_fails:
        BLOCK, &[], CREATE => 0, "created";
    an_oci_run_killed_at_any_call, an_oci_run_any_call_of_which_fails:
        END, &[], "run --bundle DIR c" => 7, "gone";
    a_detached_oci_run_killed_at_any_call, a_detached_oci_run_any_call_of_which_fails:
        BLOCK, &[], RUN => 0, "running";
    an_oci_start_killed_at_any_call, an_oci_start_any_call_of_which_fails:
        BLOCK, &[CREATE], "start c" => 0, "running";
    an_oci_exec_killed_at_any_call, an_oci_exec_any_call_of_which_fails:
        BLOCK, &[RUN], "exec c /probe exit 7" => 7, "running";
    an_oci_kill_killed_at_any_call, an_oci_kill_any_call_of_which_fails:
        BLOCK, &[RUN], "kill c KILL" => 0, "stopped";
    an_oci_delete_killed_at_any_call, an_oci_delete_any_call_of_which_fails:
        BLOCK, &[RUN, "kill c KILL"], "delete c" => 0, "gone";
    an_oci_delete_by_force_killed_at_any_call, an_oci_delete_by_force_any_call_of_which_fails:
        BLOCK, &[RUN], "delete --force c" => 0, "gone";
};

/// In mode vm.
pub const ON_A_WHOLE_MACHINE: &[crate::Case] = scenes! {
    an_oci_update_killed_at_any_call, an_oci_update_any_call_of_which_fails:
        BLOCK, &[RUN], "update --memory 67108864 --pids-limit 50 c" => 0, "running";
};

fn prepare(bed: &Bed, scene: &Scene) {
    write(bed, &config(bed, scene.script));
    for line in scene.before {
        bed.oci_detached(line).ok();
        if line.starts_with("kill") {
            until("its end", || status(bed) == ("stopped".into(), None));
        }
    }
}

/// What `state` says, and of which pid.
fn status(bed: &Bed) -> (String, Option<u64>) {
    let said = bed.oci("state c");
    if !said.status.success() {
        return ("gone".into(), None);
    }
    let state: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    (state["status"].as_str().expect("a status").into(), state["pid"].as_u64().filter(|pid| *pid != 0))
}

/// The descendants of this process that live.
fn living() -> Vec<Seen> {
    leaks::descendants(std::process::id())
}

/// What is not so of what `state` says.
fn lie(bed: &Bed) -> Option<String> {
    let (status, pid) = status(bed);
    let living = living();
    let is_main = |seen: &Seen| seen.title.contains("main-c") && pid == Some(seen.pid.into());
    let main = living.iter().find(|seen| is_main(seen));
    let of_pid = living.iter().find(|seen| pid == Some(seen.pid.into()));
    // An orphan of a main process may live where there is no cgroup.
    let is_true = matches!(
        (status.as_str(), main, of_pid),
        ("running", Some(_), _) | ("created", None, Some(_)) | ("creating", None, _) | ("stopped" | "gone", None, None)
    );
    let living: Vec<_> = living.iter().map(|seen| seen.to_string()).collect();
    (!is_true).then(|| format!("it is {status}, its pid {pid:?}; there are {living:?}"))
}

/// `state` tells the truth; what is just happening may take a moment.
fn tells_the_truth(bed: &Bed, after: &str) {
    let mut told = None;
    let is_true = || {
        super::oci_crash::reap_all();
        told = lie(bed);
        told.is_none()
    };
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(after, is_true))).is_err() {
        panic!("a lie: {} after {after}", told.unwrap_or_default());
    }
}

fn remove(bed: &Bed, before: &Snapshot, after: &str) {
    let removed = bed.oci("delete --force c");
    assert!(removed.status.success(), "{} after {after}", removed.err);
    bed.is_clean();
    everybody_ends(bed);
    assert_eq!(before.compare(), [""; 0], "after {after}");
}

fn killed(bed: &Bed, scene: &Scene) {
    become_subreaper();
    let command = bed.oci_command(&bed.expand(scene.line));
    let mut rounds = Rounds::default();
    let kill = |moment| {
        let before = Snapshot::take();
        prepare(bed, scene);
        let traced = tracer::run(bed, &command, &What::Kill(moment));
        let after = told(&traced);
        if traced.hit.is_none() {
            assert_eq!(traced.code, Some(scene.code), "{after}");
            until(&format!("{} after {after}", scene.after), || status(bed).0 == scene.after);
        } else {
            assert_eq!(traced.signal, Some(Signal::SIGKILL), "{after}");
        }
        tells_the_truth(bed, &after);
        remove(bed, &before, &after);
        traced.hit.is_some()
    };
    at_moments(&mut rounds, kill, || clean_up(bed));
    rounds.judge("killed");
}

fn failing(bed: &Bed, scene: &Scene) {
    become_subreaper();
    let command = bed.oci_command(&bed.expand(scene.line));
    let before = Snapshot::take();
    prepare(bed, scene);
    let watched = tracer::run(bed, &command, &What::Watch);
    assert_eq!(watched.code, Some(scene.code), "{}", told(&watched));
    remove(bed, &before, "a look");
    let all = faults::of_all(&watched.calls);
    let (begin, every) = steps(211);
    let mut rounds = Rounds::default();
    for what in all.iter().skip(begin % all.len()).step_by(every) {
        let round = || {
            prepare(bed, scene);
            let traced = tracer::run(bed, &command, what);
            let after = told(&traced);
            println!("{after}");
            if traced.code == Some(scene.code) {
                until(&format!("{} after {after}", scene.after), || status(bed).0 == scene.after);
            } else {
                let says_so = traced.code.is_some_and(|code| code != 0) && !traced.said.err.trim().is_empty();
                assert!(says_so, "neither success nor an error: {after}");
            }
            tells_the_truth(bed, &after);
            remove(bed, &before, &after);
            traced.hit.is_some()
        };
        rounds.play(round, || clean_up(bed));
    }
    rounds.judge("a call failed");
}

/// After something went wrong.
fn clean_up(bed: &Bed) {
    bed.oci("delete --force c");
    everybody_ends(bed);
}
