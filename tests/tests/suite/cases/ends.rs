//! Where one thing ends and the next begins: what a command returned from has
//! happened, and no command takes from another what that is about to use.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};

use super::oci::become_subreaper;
use crate::bed::{Bed, Said};
use crate::{leaks, sys};

crate::tests![
    after_wait_the_name_can_be_started_again,
    a_start_in_a_pod_that_is_ending_says_so,
    the_exit_of_what_removes_itself_is_told_whoever_comes_by,
    wait_tells_of_an_end_before_it_sweeps,
    after_wait_the_name_of_what_removes_itself_can_be_used_again,
    a_killed_foreground_leaves_no_container_that_was_to_be_removed,
    a_pod_whose_maker_was_stopped_is_swept_in_the_end,
    a_run_whose_pod_was_swept_meanwhile_tells_its_exit_code,
    a_pod_that_ended_before_its_maker_detached_it_is_still_there,
    thirty_two_at_once_do_not_get_in_each_others_way,
    a_look_that_fails_is_no_answer,
    a_name_that_is_no_text_takes_a_container_from_nobody,
    the_foreground_leaves_no_zombie_of_pause,
    ps_shows_what_inspect_tells,
];

/// Whether a process has ended or waits for something to be readable.
fn has_ended_or_polls(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    // poll(2) and ppoll(2).
    sys::ends_within(pid, 0) || ["7 ", "271 "].iter().any(|number| call.starts_with(number))
}

/// A pod `a` whose last container has ended while pause cannot be gone before
/// the process that comes back is: we trace it.
fn ending(bed: &Bed) -> u32 {
    bed.podlet("run -d --name a --rootfs ROOT /probe orphan block , block").ok();
    bed.await_processes("a", 3);
    let (pause, main) = (bed.pause_of("a"), bed.pid_of("a/a"));
    let orphan = leaks::descendants(pause).into_iter().find(|seen| seen.pid != main).expect("an orphan").pid;
    sys::seize(orphan);
    bed.kill(main, Signal::SIGKILL);
    bed.until("the exit", || bed.inspect("a/a")["state"] == "exited");
    bed.until("the end of all others", || sys::ends_within(orphan, 0));
    orphan
}

fn after_wait_the_name_can_be_started_again(bed: &Bed) {
    let held = ending(bed);
    let waiting = bed.spawn("wait a");
    bed.until("a wait that waits", || has_ended_or_polls(waiting.pid()));
    let returned = sys::ends_within(waiting.pid(), 0);
    let starting = bed.spawn("start a");
    bed.until("a start that waits", || has_ended_or_polls(starting.pid()));
    sys::let_go(held);
    assert_eq!(waiting.wait().ok().trim(), "137");
    starting.wait().ok();
    assert_eq!(bed.inspect("a/a")["state"], "running");
    assert!(!returned, "`wait` returned while the pod had not ended");
    // And many times, as it comes.
    for _ in 0..bed.rounds(20) {
        bed.podlet("kill a").ok();
        assert_eq!(bed.podlet("wait a").ok().trim(), "137");
        bed.podlet("start a").ok();
    }
    bed.podlet("rm -f a").ok();
}

fn a_start_in_a_pod_that_is_ending_says_so(bed: &Bed) {
    let held = ending(bed);
    let said = bed.podlet("run --pod a --name b --rootfs ROOT /probe exit 0");
    sys::let_go(held);
    said.fails(125, &["pod a ended while container a/b was being started", "podlet start a"]);
    bed.podlet("rm -f a").ok();
    bed.is_clean();
}

/// Whether only the directory for marks is left.
fn is_swept(bed: &Bed) -> bool {
    bed.podlet("ps").ok();
    leaks::tree(&bed.state()).iter().all(|path| path.ends_with("/.sweep"))
}

fn the_exit_of_what_removes_itself_is_told_whoever_comes_by(bed: &Bed) {
    bed.podlet("create web").ok();
    for (target, records) in [("q", "q"), ("web/c", "web/containers/c")] {
        let options = if target == "q" { "--name q" } else { "--pod web --name c" };
        bed.podlet(&format!("run -d --rm {options} --rootfs ROOT /probe block")).ok();
        let waiting = bed.spawn(&format!("wait {target}"));
        bed.until("a wait that waits", || has_ended_or_polls(waiting.pid()));
        waiting.signal(Signal::SIGSTOP);
        bed.podlet(&format!("kill {target}")).ok();
        bed.until("the sweep", || {
            bed.podlet("ps").ok();
            !bed.state().join(records).exists()
        });
        waiting.signal(Signal::SIGCONT);
        assert_eq!(waiting.wait().ok().trim(), "137");
    }
    bed.podlet("rm web").ok();
    bed.is_clean();
}

fn wait_tells_of_an_end_before_it_sweeps(bed: &Bed) {
    bed.podlet("create web").ok();
    for (pod, name, options) in [("q", "q", "--name q"), ("web", "c", "--pod web --name c")] {
        bed.podlet(&format!("run -d --rm {options} --rootfs ROOT /probe exit 4")).ok();
        let pod = pod::Pod::open(&bed.store(), pod).expect("the pod");
        pod.container(name).expect("a container").process().expect("its process").wait().expect("its end");
        assert_eq!(bed.podlet(&format!("wait {}/{name}", pod.name())).ok().trim(), "4");
    }
    bed.podlet("rm web").ok();
    assert!(is_swept(bed));
}

fn after_wait_the_name_of_what_removes_itself_can_be_used_again(bed: &Bed) {
    bed.podlet("create web").ok();
    for _ in 0..bed.rounds(20) {
        for (target, options) in [("q", "--name q"), ("web/c", "--pod web --name c")] {
            bed.podlet(&format!("run -d --rm {options} --rootfs ROOT /probe exit 4")).ok();
            assert_eq!(bed.podlet(&format!("wait {target}")).ok().trim(), "4");
            bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe exit 5")).code(5);
        }
    }
    bed.podlet("rm web").ok();
    bed.is_clean();
}

fn a_killed_foreground_leaves_no_container_that_was_to_be_removed(bed: &Bed) {
    bed.podlet("create web").ok();
    let running = bed.spawn("run --rm --pod web --name c --rootfs ROOT /probe echo runs , block");
    running.await_line(bed, "runs");
    running.signal(Signal::SIGKILL);
    running.wait();
    bed.podlet("kill web/c").ok();
    bed.until("the sweep", || bed.inspect("web")["containers"] == serde_json::json!([]));
    bed.podlet("rm web").ok();
    bed.is_clean();
}

/// Where distributions have strace.
pub fn strace_path() -> Option<&'static str> {
    ["/usr/bin/strace", "/bin/strace"].into_iter().find(|path| Path::new(path).exists())
}

/// `podlet` under strace, which writes down what it opens and interferes as
/// `inject` says.
fn traced(bed: &Bed, inject: &str, line: &str) -> Command {
    traced_at(bed, None, inject, line)
}

/// The same, where it opens this path.
fn traced_at(bed: &Bed, path: Option<&str>, inject: &str, line: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o"]).arg(bed.dir.join("calls")).args(["-e", "trace=open,openat"]);
    command.args(path.into_iter().flat_map(|path| ["-P", path]));
    if !inject.is_empty() {
        command.args(["-e", &format!("inject={inject}")]);
    }
    let podlet = bed.command(&bed.expand(line));
    command.arg(podlet.get_program()).args(podlet.get_args()).stdin(std::process::Stdio::null());
    command
}

/// What the last command opened: the how manieth that was of the calls of its
/// name, and the line of strace.
fn opened(bed: &Bed) -> Vec<(usize, String)> {
    let calls = fs::read_to_string(bed.dir.join("calls")).expect("what strace wrote");
    let mut seen = HashMap::new();
    let numbered = |line: &str| {
        let number = seen.entry(call(line).to_string()).or_insert(0);
        *number += 1;
        (*number, line.to_string())
    };
    calls.lines().filter(|line| line.starts_with("open")).map(numbered).collect()
}

/// The name of the call that opens files; the C library chooses, and a file
/// opened in a directory that is open is opened by another.
fn call(line: &str) -> &str {
    line.split('(').next().unwrap_or_default()
}

/// What it opens.
fn path(line: &str) -> &str {
    line.split('"').nth(1).unwrap_or_default()
}

fn a_pod_whose_maker_was_stopped_is_swept_in_the_end(bed: &Bed) {
    let line = "run --rm --name web --rootfs ROOT /probe block";
    bed.finish(traced(bed, "", "run --rm --name web --rootfs ROOT /probe exit 0")).ok();
    let (number, mark) = opened(bed).into_iter().find(|(_, line)| line.contains(".sweep/web\"")).expect("its mark");
    let stop = format!("{}:signal=SIGSTOP:when={number}", call(&mark));
    let strace = bed.spawn_command(traced(bed, &stop, line));
    let calls = || fs::read_to_string(bed.dir.join("calls")).unwrap_or_default();
    bed.until("a maker that stands still", || calls().contains("stopped by SIGSTOP"));
    assert!(!bed.state().join("web").exists(), "stopped before there is a directory");
    // Another command sweeps, and sees no pod.
    bed.podlet("ps").ok();
    let maker = leaks::descendants(strace.pid()).first().expect("the maker").pid;
    bed.kill(maker, Signal::SIGCONT);
    bed.until("the container", || {
        let list = bed.list();
        list.pointer("/0/containers/0/state").is_some_and(|state| state == "running")
    });
    bed.kill(maker, Signal::SIGKILL);
    strace.wait();
    // If it had not detached the pod yet, that ends with it.
    bed.podlet("kill web");
    bed.until("the sweep", || is_swept(bed));
}

/// The run stands still where it is about to write that the pod has no owner any
/// more; the pod has ended, and another command sweeps it.
fn a_run_whose_pod_was_swept_meanwhile_tells_its_exit_code(bed: &Bed) {
    let line = "run --rm --name web --rootfs ROOT /probe exit 7";
    bed.finish(traced(bed, "", line)).code(7);
    let opened = opened(bed);
    let last = opened.iter().rposition(|(_, line)| line.contains("web/pod.new\"")).expect("its record");
    // And where it is about to take the pod's lock for that.
    for at in [last - 1, last] {
        // By its path: how much else is opened differs from run to run.
        let path = path(&opened[at].1);
        let number = opened[..=at].iter().filter(|(_, line)| self::path(line) == path).count();
        let stop = format!("{}:signal=SIGSTOP:when={number}", call(&opened[at].1));
        fs::remove_file(bed.dir.join("calls")).expect("what strace wrote before");
        let strace = bed.spawn_command(traced_at(bed, Some(path), &stop, line));
        let calls = || fs::read_to_string(bed.dir.join("calls")).unwrap_or_default();
        bed.until("a run that stands still", || calls().contains("stopped by SIGSTOP"));
        let run = leaks::descendants(strace.pid()).first().expect("the run").pid;
        bed.until("its pod's end", || {
            bed.podlet("ps -a").ok();
            let ours = leaks::descendants(std::os::unix::process::parent_id());
            !ours.iter().any(|seen| seen.title.starts_with("podlet:pause web") && seen.state != 'Z')
        });
        bed.podlet("ps -a").ok();
        bed.kill(run, Signal::SIGCONT);
        strace.wait().code(7);
        bed.until("the sweep", || is_swept(bed));
    }
}

/// Its container may have ended, and the pod with it, before its maker could
/// say that it is to stay.
fn a_pod_that_ended_before_its_maker_detached_it_is_still_there(bed: &Bed) {
    for _ in 0..bed.rounds(3) {
        let mut options = pod::PodOptions::new("brief");
        options.end_with_last = true;
        let mut pod = pod::Pod::create(&bed.store(), options).expect("a pod");
        let process = pod.run(&bed.container("brief", "exit 6"), pod::Io::log()).expect("a container");
        assert_eq!(process.wait().expect("its end").shell_code(), 6);
        bed.podlet("ps").ok();
        pod.detach().expect("still there");
        drop(pod);
        assert_eq!(bed.podlet("wait brief").ok().trim(), "6");
        bed.podlet("rm brief").ok();
    }
    bed.is_clean();
}

fn thirty_two_at_once_do_not_get_in_each_others_way(bed: &Bed) {
    bed.podlet("create shared").ok();
    std::thread::scope(|scope| {
        for number in 0..32 {
            scope.spawn(move || {
                for _ in 0..bed.rounds(3) {
                    let line = format!("run --rm --name p{number} --rootfs ROOT /probe exit 3");
                    bed.podlet(&line).code(3);
                    let line = format!("run --rm --pod shared --name c{number} --rootfs ROOT /probe exit 4");
                    bed.podlet(&line).code(4);
                }
            });
        }
    });
    bed.podlet("rm shared").ok();
    assert!(is_swept(bed));
}

/// Which of the opens of /proc that a command makes fails.
fn faults(bed: &Bed) -> Vec<String> {
    let of_proc = opened(bed).into_iter().filter(|(_, line)| line.contains("\"/proc/"));
    of_proc.map(|(number, line)| format!("{}:error=EMFILE:when={number}", call(&line))).collect()
}

fn a_name_that_is_no_text_takes_a_container_from_nobody(bed: &Bed) {
    // The kernel keeps 15 bytes, and half of the last letter.
    const NAME: &str = "nnnnnnnnnnnnnn\u{e9}";
    bed.podlet("create web").ok();
    bed.podlet(&format!("run -d --pod web --name a --rootfs ROOT /probe write /proc/self/comm {NAME} , block")).ok();
    bed.await_log("web/a", "write /proc/self/comm: ok");
    let pid = bed.pid_of("web/a");
    let name = fs::read(format!("/proc/{pid}/comm")).expect("its name");
    assert!(String::from_utf8(name).is_err());
    bed.podlet("exec web/a /probe exit 7").code(7);
    bed.podlet("exec --timeout 1 --kill-after 0 web/a /probe block").code(124);
    bed.podlet("stop -t 0 web/a").ok();
    assert!(sys::ends_within(pid, 0));
    bed.podlet("rm web/a").ok();
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn a_look_that_fails_is_no_answer(bed: &Bed) {
    let run = "run -d --name web --rootfs ROOT /probe block";
    let failing = |inject: &str, line: &str| -> Said { bed.spawn_command(traced(bed, inject, line)).wait() };
    failing("", run).ok();
    let faults_of_run = faults(bed);
    failing("", "stop -t 0 web").ok();
    let faults_of_stop = faults(bed);
    bed.podlet("rm web").ok();
    assert!(faults_of_run.len() > 3 && faults_of_stop.len() > 1, "{faults_of_run:?} {faults_of_stop:?}");
    for fault in faults_of_run {
        if failing(&fault, run).status.success() {
            bed.podlet("exec web /probe exit 7").code(7);
            bed.podlet("kill web").ok();
            assert_eq!(bed.podlet("wait web").ok().trim(), "137");
        }
        bed.podlet("rm -f web").ok();
    }
    for fault in faults_of_stop {
        bed.podlet(run).ok();
        let pid = bed.pid_of("web/web");
        if failing(&fault, "stop -t 0 web").status.success() {
            assert!(sys::ends_within(pid, 0), "`stop` said that it had stopped what runs");
        }
        bed.podlet("rm -f web").ok();
    }
    bed.is_clean();
}

fn the_foreground_leaves_no_zombie_of_pause(bed: &Bed) {
    become_subreaper();
    bed.podlet("run --rm --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("run --name kept --rootfs ROOT /probe exit 4").code(4);
    bed.podlet("run --rm --rootfs ROOT /none").code(127);
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD), "somebody was left to us");
    bed.podlet("rm kept").ok();
}

/// The two come by different ways to what they tell.
fn ps_shows_what_inspect_tells(bed: &Bed) {
    bed.podlet("create empty").ok();
    bed.podlet("run -d --name runs --rootfs ROOT /probe block").ok();
    bed.podlet("run --name ended --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("run -d --name killed --rootfs ROOT /probe block").ok();
    bed.podlet("kill killed").ok();
    bed.podlet("wait killed").ok();
    bed.podlet("run --pod empty --name gone --rootfs ROOT /probe exit 0").ok();
    let rows = |line: &str| -> Vec<Vec<String>> {
        let out = bed.podlet(line).ok();
        out.lines().skip(1).map(|line| line.split_whitespace().map(String::from).collect()).collect()
    };
    let pid = bed.pid_of("runs/runs").to_string();
    let shown: Vec<_> = rows("ps -a").iter().map(|row| (row[0].clone(), row[2].clone(), row[3..5].join(" "))).collect();
    let expected = [
        ("empty", "-", "exited (0)"),
        ("ended", "-", "exited (3)"),
        ("killed", "-", "exited (signal"),
        ("runs", &pid, "running"),
    ];
    for ((pod, pid, state), (shown_pod, shown_pid, shown_state)) in expected.iter().zip(&shown) {
        assert_eq!((shown_pod.as_str(), shown_pid.as_str()), (*pod, *pid));
        assert!(shown_state.starts_with(state), "{shown_state} for {state}");
    }
    assert_eq!(shown.len(), expected.len());
    let running: Vec<_> = rows("ps").iter().map(|row| row[0].clone()).collect();
    assert_eq!(running, ["empty", "runs"]);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    for pod in ["empty", "ended", "killed", "runs"] {
        bed.podlet(&format!("rm -f {pod}")).ok();
    }
}
