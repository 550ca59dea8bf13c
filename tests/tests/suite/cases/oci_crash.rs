//! podlet-oci may be killed at any instruction: `delete --force` removes what
//! is there, and then the id can be used again.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
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
        while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status.pid().is_some())
        {}
        leaks::descendants(body).is_empty()
    });
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

/// Where distributions have strace.
pub fn strace_path() -> Option<&'static str> {
    ["/usr/bin/strace", "/bin/strace"].into_iter().find(|path| Path::new(path).exists())
}

/// Runs podlet-oci under strace, which writes down its system calls and may
/// kill it as it begins one.
fn strace(bed: &Bed, line: &str, inject: &[String]) -> ExitStatus {
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=all", "-o"]).arg(bed.dir.join("calls")).args(inject);
    let traced = bed.oci_command(&bed.expand(line));
    command.arg(traced.get_program()).args(traced.get_args()).stdin(Stdio::null());
    bed.spawn_command(command).wait().status
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
        let inject = format!("inject=unlink,unlinkat,rmdir:signal=KILL:when={call}");
        let ended = strace(bed, "delete c", &["-e".into(), inject]);
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32), "{call}");
        remove(bed, &before);
    }
}

/// Whoever comes next can start it, unless it runs already or has ended.
fn a_start_that_is_killed_at_the_gate_leaves_nobody_waiting(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "write /up x , block"));
    for call in ["connect", "unlink", "sendto"] {
        bed.oci_detached("create --bundle DIR c").ok();
        let ended = strace(bed, "start c", &["-e".into(), format!("inject={call}:signal=KILL:when=1")]);
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32), "{call}");
        let again = bed.oci("start c");
        let up = || bed.inside("up").exists();
        // Once it was knocked for, it ends with who knocked.
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

/// The same at moments that do not depend on the machine's speed.
fn killed_at_its_system_calls_one_after_the_other(bed: &Bed) {
    become_subreaper();
    let before = Snapshot::take();
    write(bed, &config(bed, "orphan block , block"));
    for line in ["create --bundle DIR c", "run -d --bundle DIR c", "start c", "delete --force c"] {
        let prepare = || {
            if !line.contains("--bundle") {
                bed.oci_detached("create --bundle DIR c").ok();
            }
        };
        prepare();
        assert!(strace(bed, line, &[]).success());
        remove(bed, &before);
        let calls = fs::read_to_string(bed.dir.join("calls")).expect("system calls");
        let calls: Vec<_> = calls.lines().filter_map(|line| line.split_once('(').map(|(name, _)| name)).collect();
        assert!(calls.len() > 60, "{line}: {calls:?}");
        // Not what the program's start and end have to do.
        let moments = (40..calls.len()).step_by(3 * patience() as usize);
        let mut killed = 0;
        for moment in moments.clone() {
            prepare();
            let name = calls[moment];
            // strace counts each of them by itself.
            let number = calls[..=moment].iter().filter(|other| **other == name).count();
            let inject = ["-e".into(), format!("inject={name}:signal=KILL:when={number}")];
            let ended = strace(bed, line, &inject);
            remove(bed, &before);
            match ended.signal() {
                Some(signal) => assert_eq!(signal, Signal::SIGKILL as i32),
                // This time it had less to wait for.
                None => assert!(ended.success(), "{line} at {name} {number}"),
            }
            killed += usize::from(!ended.success());
        }
        println!("{line}: killed {killed} times");
        assert!(killed * 2 > moments.len(), "{line}: killed {killed} times");
    }
}
