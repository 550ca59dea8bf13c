//! podlet-oci may be killed at any instruction: `delete --force` removes what
//! is there, and then the id can be used again. See also `any_call_oci`.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::oci::{become_subreaper, config, write};
use crate::bed::Bed;
use crate::harness::patience;
use crate::leaks::{self, Snapshot};
use crate::tracer::{self, What};

crate::tests![
    a_killed_create_or_run_leaves_nothing_that_delete_does_not_remove,
    a_killed_start_or_delete_can_be_followed_by_a_delete,
    a_start_that_is_killed_at_the_gate_leaves_nobody_waiting,
    a_killed_delete_of_what_ended_in_another_pid_namespace_goes_on,
];

/// Moments at which a command is killed, from its first instructions to well
/// after its end.
pub fn moments() -> impl Iterator<Item = Duration> {
    (0..50).map(|step| Duration::from_micros(step * step * 10) * patience())
}

pub fn kill_after(bed: &Bed, line: &str, delay: Duration) {
    println!("after {delay:?}:");
    let command = bed.spawn_command(bed.oci_command(&bed.expand(line)));
    // Not an event that is awaited, but the moment of a crash.
    std::thread::sleep(delay);
    command.signal(Signal::SIGKILL);
    command.wait();
}

/// Waits for the end of all processes below this one, which reaps them.
pub fn everybody_ends(bed: &Bed) {
    let body = std::process::id();
    bed.until("the end of every process", || {
        reap_all();
        leaks::descendants(body).is_empty()
    });
}

/// Reaps all children that have ended.
pub fn reap_all() {
    while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status.pid().is_some())
    {}
}

/// Removes it, and nothing is left.
pub fn remove(bed: &Bed, before: &Snapshot) {
    bed.oci("delete --force c").ok();
    bed.is_clean();
    everybody_ends(bed);
    assert_eq!(before.compare(), [""; 0]);
}

fn a_killed_create_or_run_leaves_nothing_that_delete_does_not_remove(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "orphan block , block"));
    for line in ["create --bundle DIR c", "run -d --bundle DIR c"] {
        for delay in moments() {
            kill_after(bed, line, delay);
            remove(bed, &before);
        }
    }
}

fn a_killed_start_or_delete_can_be_followed_by_a_delete(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "orphan block , block"));
    for line in ["start c", "delete --force c"] {
        for delay in moments().step_by(2) {
            bed.oci_detached("create --bundle DIR c").ok();
            kill_after(bed, line, delay);
            remove(bed, &before);
        }
    }
}

/// Kills podlet-oci as it begins the N-th of these calls.
fn killed_at(bed: &Bed, line: &str, calls: &[&str], number: usize) {
    let what = What::KillAt(calls.iter().map(|name| name.to_string()).collect(), number);
    let traced = tracer::run(bed, &bed.oci_command(&bed.expand(line)), &what);
    assert_eq!(traced.signal, Some(Signal::SIGKILL), "{line} at the {number}. of {calls:?}");
}

/// Its cgroup, by which it is known to have ended, goes before its record.
fn a_killed_delete_of_what_ended_in_another_pid_namespace_goes_on(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "block"));
    for call in 1..=4 {
        let run = bed.oci_command(&bed.expand("run -d --bundle DIR c"));
        bed.in_pid_namespace(&["--mount-proc"], run).ok();
        bed.until("its end", || bed.oci("state c").status.success());
        killed_at(bed, "delete c", &["unlink", "unlinkat", "rmdir"], call);
        remove(bed, &before);
    }
}

/// The next `start` can start it, unless it runs already or has ended.
fn a_start_that_is_killed_at_the_gate_leaves_nobody_waiting(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "write /up x , block"));
    for call in ["connect", "unlink", "sendto"] {
        bed.oci_detached("create --bundle DIR c").ok();
        killed_at(bed, "start c", &[call], 1);
        let again = bed.oci("start c");
        let up = || bed.inside("up").exists();
        // Once `start` has knocked, it ends with that.
        match call {
            "connect" => {
                again.ok();
                bed.until("its program", up);
                fs::remove_file(bed.inside("up")).expect("what it wrote");
            }
            _ => {
                bed.until("its end", || bed.oci_state_of("c")["status"] == "stopped");
                assert!(!again.status.success() && !up(), "{call}");
            }
        }
        remove(bed, &before);
    }
}
