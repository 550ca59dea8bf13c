//! podlet-oci may be killed at any instruction: `delete --force` removes what
//! is there, and then the id can be used again.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::oci::{become_subreaper, config, write};
use crate::bed::Bed;
use crate::harness::patience;
use crate::leaks::{self, Snapshot};

crate::tests![
    a_killed_create_or_run_leaves_nothing_that_delete_does_not_remove,
    a_killed_start_or_delete_can_be_followed_by_a_delete,
    killed_at_its_system_calls_one_after_the_other,
];

/// Moments at which a command is killed, from its first instructions to well
/// after its end.
fn moments() -> impl Iterator<Item = Duration> {
    (0..50).map(|step| Duration::from_micros(step * step * 10) * patience())
}

fn kill_after(bed: &Bed, line: &str, delay: Duration) {
    println!("after {delay:?}:");
    let command = bed.spawn_command(bed.oci_command(&bed.expand(line)));
    // Not an event that is awaited, but the moment of a crash.
    std::thread::sleep(delay);
    command.signal(Signal::SIGKILL);
    command.wait();
}

/// Removes it, and nothing is left.
fn remove(bed: &Bed, before: &Snapshot) {
    bed.oci("delete --force c").ok();
    bed.is_clean();
    let body = std::process::id();
    bed.until("the end of every process", || {
        while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status.pid().is_some())
        {}
        leaks::descendants(body).is_empty()
    });
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

/// The same at moments that do not depend on the machine's speed: strace kills
/// it as it begins its Nth system call.
fn killed_at_its_system_calls_one_after_the_other(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "orphan block , block"));
    for line in ["create --bundle DIR c", "run -d --bundle DIR c", "start c", "delete --force c"] {
        let mut number = 1;
        loop {
            if !line.contains("--bundle") {
                bed.oci_detached("create --bundle DIR c").ok();
            }
            let mut command = std::process::Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", "trace=all", "-e"]);
            command.arg(format!("inject=all:signal=KILL:when={number}"));
            let traced = bed.oci_command(&bed.expand(line));
            command.arg(traced.get_program()).args(traced.get_args()).stdin(std::process::Stdio::null());
            let ended = bed.spawn_command(command).wait().status;
            remove(bed, &before);
            if ended.success() {
                break;
            }
            assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32), "{line} at system call {number}");
            number += 5 * patience();
        }
        println!("{line}: {number} system calls");
        assert!(number > 20, "{line}");
    }
}
