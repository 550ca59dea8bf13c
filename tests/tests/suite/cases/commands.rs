//! Every subcommand does what it says.

use std::fs;

use nix::sys::signal::Signal;

use crate::bed::Bed;
use crate::{leaks, sys};

crate::tests![
    stop_sends_term_and_then_kills_all_in_the_container,
    stop_of_a_pod_stops_all_of_it,
    restart_starts_anew_in_the_same_pod,
    start_wakes_a_dead_pod,
    rm_removes_what_has_ended_and_rm_f_what_runs,
    rm_flag_in_the_foreground_and_detached,
    a_run_without_pod_ends_its_pod,
    logs_and_logs_follow,
    exec_runs_beside,
    kill_sends_any_signal,
    ps_and_inspect_have_the_names_scripts_rely_on,
    plan_changes_nothing,
    run_in_the_foreground_passes_signals_on,
];

pub(super) fn detached(bed: &Bed, name: &str, script: &str) -> u32 {
    bed.podlet(&format!("run --pod web -d --name {name} --rootfs ROOT /probe {script} , echo up , block")).ok();
    bed.await_log(&format!("web/{name}"), "up");
    bed.pid_of(&format!("web/{name}"))
}

/// The processes whose root is the container's: its main one and its orphans.
pub(super) fn of_container(pid: u32) -> Vec<u32> {
    let mounts = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = mounts(pid).expect("it runs");
    leaks::processes().into_iter().map(|seen| seen.pid).filter(|&pid| mounts(pid).as_ref() == Some(&own)).collect()
}

fn stop_sends_term_and_then_kills_all_in_the_container(bed: &Bed) {
    bed.podlet("create web").ok();
    let gentle = detached(bed, "gentle", "trap TERM 42");
    let stubborn = detached(bed, "stubborn", "ignore TERM , orphan block , orphan block , bg block");
    let other = detached(bed, "other", "orphan block");
    let all = of_container(stubborn);
    assert_eq!(all.len(), 4, "{all:?}");
    let others = of_container(other);
    bed.podlet("stop web/gentle").ok();
    assert!(sys::ends_within(gentle, 0));
    assert_eq!(bed.inspect("web/gentle")["exit_code"], 42);
    bed.podlet("stop -t 0 web/stubborn").ok();
    for pid in all {
        assert!(sys::ends_within(pid, 0), "{pid} of the stopped container lives");
    }
    assert_eq!(bed.inspect("web/stubborn")["signal"], 9);
    for pid in others {
        assert!(!sys::ends_within(pid, 0), "{pid} of the other container was touched");
    }
    assert_eq!(bed.inspect("web/other")["state"], "running");
    // Again is no error; orphans of a container that ended by itself go too.
    bed.podlet("stop web/stubborn").ok();
    bed.podlet("run --pod web -d --name left --rootfs ROOT /probe orphan block , echo up , wait-file /go , exit 0")
        .ok();
    bed.await_log("web/left", "up");
    let all = of_container(bed.pid_of("web/left"));
    fs::write(bed.inside("go"), "").expect("a file");
    bed.podlet("wait web/left").ok();
    bed.podlet("stop web/left").ok();
    for pid in all {
        assert!(sys::ends_within(pid, 0), "{pid} of the ended container lives");
    }
}

fn stop_of_a_pod_stops_all_of_it(bed: &Bed) {
    bed.podlet("create web").ok();
    let pids =
        [detached(bed, "a", "trap TERM 1"), detached(bed, "b", "ignore TERM , orphan block"), bed.pause_of("web")];
    bed.podlet("stop -t 1 web").ok();
    for pid in pids {
        assert!(sys::ends_within(pid, 0), "{pid} lives");
    }
    let status = bed.inspect("web");
    assert_eq!(status["state"], "exited");
    assert_eq!(status["containers"][0]["exit_code"], 1);
    assert_eq!(status["containers"][1]["signal"], 9);
}

fn restart_starts_anew_in_the_same_pod(bed: &Bed) {
    bed.podlet("create web").ok();
    let (a, b) = (detached(bed, "a", "orphan block"), detached(bed, "b", ""));
    let (old, before) = (of_container(a), bed.inspect("web"));
    bed.podlet("restart -t 1 web/a").ok();
    bed.until("another a", || bed.pid_of("web/a") != a);
    old.into_iter().for_each(|pid| assert!(sys::ends_within(pid, 0), "{pid} of the earlier run lives"));
    assert_eq!(bed.pid_of("web/b"), b);
    assert_eq!(bed.inspect("web")["namespaces"], before["namespaces"]);
    assert_eq!(bed.inspect("web/a")["id"], before["containers"][0]["id"]);
    assert_ne!(bed.inspect("web/a")["started"], before["containers"][0]["started"]);
    // A container that has ended is started.
    bed.podlet("kill web/b").ok();
    bed.podlet("wait web/b").ok();
    bed.podlet("start web/b").ok();
    bed.podlet("start web/b").fails(125, &["web/b", "is running"]);
    // A pod of its own outlives the restart of its only container.
    bed.podlet("run -d --name solo --rootfs ROOT /probe echo up , block").ok();
    let network = bed.inspect("solo")["namespaces"]["net"].clone();
    bed.podlet("restart -t 1 solo").ok();
    assert_eq!(bed.inspect("solo")["namespaces"]["net"], network);
    assert_eq!(bed.inspect("solo")["containers"][0]["state"], "running");
}

fn start_wakes_a_dead_pod(bed: &Bed) {
    bed.podlet("create web --hostname before").ok();
    detached(bed, "a", "hostname");
    detached(bed, "b", "");
    bed.podlet("stop -t 1 web").ok();
    bed.podlet("exec web/a /probe exit 0").fails(125, &["web"]);
    bed.podlet("start web").ok();
    let status = bed.inspect("web");
    assert_eq!(status["state"], "running");
    assert_eq!(status["containers"][0]["state"], "running");
    assert_eq!(status["containers"][1]["state"], "running");
    bed.podlet("exec web/a /probe hostname").ok();
}

fn rm_removes_what_has_ended_and_rm_f_what_runs(bed: &Bed) {
    bed.podlet("create web").ok();
    let a = detached(bed, "a", "ignore TERM , orphan block");
    bed.podlet("rm web/a").fails(125, &["web/a", "is running"]);
    bed.podlet("rm web").fails(125, &["web/a", "is running"]);
    let all = of_container(a);
    bed.podlet("rm -f web/a").ok();
    all.into_iter().for_each(|pid| assert!(sys::ends_within(pid, 0), "{pid} lives"));
    bed.podlet("inspect web/a").fails(125, &["no such", "web/a"]);
    bed.podlet("run --pod web --name b --rootfs ROOT /probe exit 1").code(1);
    bed.podlet("rm web/b").ok();
    bed.podlet("rm web").ok();
    bed.podlet("rm web").fails(125, &["no such", "web"]);
    bed.podlet("rm -f web").ok();
    bed.is_clean();
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn rm_flag_in_the_foreground_and_detached(bed: &Bed) {
    bed.podlet("run --rm --rootfs ROOT /probe exit 3").code(3);
    bed.is_clean();
    bed.podlet("create web").ok();
    bed.podlet("run --rm --pod web --name a --rootfs ROOT /probe orphan block , exit 4").code(4);
    assert_eq!(bed.inspect("web")["containers"], serde_json::json!([]));
    bed.podlet("run --rm -d --pod web --name b --rootfs ROOT /probe echo up , wait-file /go").ok();
    bed.podlet("run --rm -d --name solo --rootfs ROOT /probe echo up , wait-file /go").ok();
    assert_eq!(bed.inspect("web/b")["state"], "running");
    fs::write(bed.inside("go"), "").expect("a file");
    bed.until("the sweep of web/b", || bed.inspect("web")["containers"] == serde_json::json!([]));
    bed.until("the sweep of solo", || bed.list().as_array().map(Vec::len) == Some(1));
    bed.podlet("rm web").ok();
    bed.is_clean();
}

fn a_run_without_pod_ends_its_pod(bed: &Bed) {
    bed.podlet("run --name a --rootfs ROOT /probe orphan block , exit 5").code(5);
    assert_eq!(bed.inspect("a")["state"], "exited");
    assert_eq!(bed.inspect("a/a")["exit_code"], 5);
    assert_eq!(bed.podlet("wait a").ok().trim(), "5");
    assert_eq!(bed.podlet("run -d --name b --rootfs ROOT /probe wait-file /go , exit 6").ok().trim(), "b");
    let pause = bed.pause_of("b");
    fs::write(bed.inside("go"), "").expect("a file");
    assert!(sys::ends_within(pause, 10_000), "pause ends with the last container");
    assert_eq!(bed.podlet("wait b").ok().trim(), "6");
    assert_eq!(bed.podlet("ps --format json").ok().trim(), "[]");
}

fn logs_and_logs_follow(bed: &Bed) {
    bed.podlet("create web").ok();
    let script = "lines 3 , err four , wait-file /go , lines 2000 , echo end";
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe {script}")).ok();
    bed.await_log("web/a", "four");
    let said = bed.podlet("logs web/a");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("0\n1\n2\n", "four\n"));
    let follow = bed.spawn("logs -f web/a");
    follow.await_line(bed, "four");
    fs::write(bed.inside("go"), "").expect("a file");
    let out = follow.wait().ok();
    assert_eq!(out.lines().count(), 2005);
    assert!(out.ends_with("1999\nend\n"));
    assert_eq!(bed.podlet("logs -f web/a").ok(), out.replace("four\n", ""), "of one that has ended");
    // A reader that goes away is no failure.
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["--embed", "-", "-", "broken-pipe"]).arg(bed.command(&[""]).get_program());
    command.arg("--root").arg(bed.state()).args(["logs", "web/a"]);
    bed.finish(command).ok();
}

fn exec_runs_beside(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a -e MAIN=1 -w /srv --rootfs ROOT /probe echo up , block").ok();
    let pid = bed.pid_of("web/a");
    let said = bed.podlet("exec -e X=y web/a /probe env , cwd , ns , wait-adopted , session").ok();
    assert!(said.contains("MAIN=1\n") && said.contains("X=y\n"), "{said}");
    assert!(said.contains("\n/srv\n"), "{said}");
    for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup", "user"] {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").display().to_string();
        let inode = link.trim_end_matches(']').rsplit('[').next().expect("an inode").to_string();
        assert!(said.contains(&format!("{kind} {inode}\n")), "{kind} {inode}: {said}");
    }
    assert!(said.contains("ppid 1 "), "pause is its parent: {said}");
    assert_eq!(bed.podlet("exec -w /tmp web/a probe cwd").ok().trim(), "/tmp");
    for code in [0, 1, 77, 255] {
        bed.podlet(&format!("exec web/a /probe exit {code}")).code(code);
    }
    bed.podlet("exec web/a /probe kill-self SEGV").code(139);
    bed.podlet("exec web/a /none").fails(127, &["/none"]);
    bed.podlet("exec web/a none").fails(127, &["none"]);
    bed.podlet("exec web/a /etc/passwd").fails(126, &["/etc/passwd"]);
    bed.podlet("exec web/a /etc").fails(126, &["/etc"]);
    bed.podlet("exec -w /none web/a /probe exit 0").fails(125, &["none"]);
    bed.podlet("exec -u nobody web/a /probe exit 0").fails(125, &["user", "nobody"]);
    bed.podlet("exec web/none /probe exit 0").fails(125, &["no such", "web/none"]);
    // Detached: its output goes to the log.
    bed.podlet("exec -d web/a /probe echo detached").ok();
    bed.await_log("web/a", "detached");
    let exec = bed.spawn("exec web/a /probe trap TERM 9 , echo in , block");
    exec.await_line(bed, "in");
    exec.signal(Signal::SIGTERM);
    exec.wait().code(9);
    assert_eq!(bed.pid_of("web/a"), pid, "the container is untouched");
    // It ends with the container where that is stopped.
    let exec = bed.spawn("exec web/a /probe ignore TERM , echo in , block");
    exec.await_line(bed, "in");
    bed.podlet("stop -t 0 web/a").ok();
    exec.wait().code(137);
    bed.podlet("exec web/a /probe exit 0").fails(125, &["web/a", "not running"]);
}

fn kill_sends_any_signal(bed: &Bed) {
    bed.podlet("create web").ok();
    for (signal, number) in [("USR1", "10"), ("SIGUSR2", "12"), ("int", "2"), ("1", "1")] {
        detached(bed, "a", &format!("trap {number} 50"));
        bed.podlet(&format!("kill -s {signal} web/a")).ok();
        assert_eq!(bed.podlet("wait web/a").ok().trim(), "50");
        bed.podlet("kill web/a").fails(125, &["a", "has ended"]);
        bed.podlet("rm web/a").ok();
    }
    detached(bed, "a", "");
    detached(bed, "b", "");
    bed.podlet("kill web").ok();
    assert_eq!(bed.podlet("wait web/a web/b").ok(), "137\n137\n");
    bed.podlet("kill web").fails(125, &["no container of web is running"]);
}

fn ps_and_inspect_have_the_names_scripts_rely_on(bed: &Bed) {
    bed.podlet("create web").ok();
    let pid = detached(bed, "a", "");
    bed.podlet("run --pod web --name done --rootfs ROOT /probe exit 2").code(2);
    let status = bed.inspect("web");
    let fields = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    for name in ["name", "id", "state", "created", "pause", "shared", "namespaces", "reaped_orphans", "containers"] {
        assert!(fields(&status).iter().any(|field| field == name), "{name}: {status}");
    }
    let running = &status["containers"][0];
    for name in ["name", "id", "pid", "state", "exit_code", "signal", "created", "started", "finished"] {
        assert!(fields(running).iter().any(|field| field == name), "{name}: {running}");
    }
    assert_eq!((&running["pid"], &running["state"]), (&pid.into(), &"running".into()));
    assert!(running["exit_code"].is_null() && running["signal"].is_null() && running["finished"].is_null());
    let done = &status["containers"][1];
    assert_eq!((&done["state"], &done["exit_code"]), (&"exited".into(), &2.into()));
    assert!(done["pid"].is_null() && done["signal"].is_null());
    for time in [&status["created"], &running["started"], &done["created"], &done["finished"]] {
        let time = time.as_str().expect("a time");
        assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "RFC 3339: {time}");
    }
    assert_eq!(bed.inspect("web/done")["exit_code"], 2, "a container alone");
    let list: serde_json::Value = serde_json::from_str(&bed.podlet("ps --format json").ok()).expect("JSON");
    assert_eq!(list[0]["containers"].as_array().map(Vec::len), Some(1), "only what runs");
    assert_eq!(bed.list()[0]["containers"].as_array().map(Vec::len), Some(2));
    let table = bed.podlet("ps -a").ok();
    assert!(table.contains("POD") && table.contains("exited (2)") && table.contains("running"), "{table}");
    // As the host sees it: pause has that title.
    let title = fs::read_to_string(format!("/proc/{}/cmdline", status["pause"]["pid"])).expect("pause");
    assert!(title.contains("web"), "{title}");
}

fn plan_changes_nothing(bed: &Bed) {
    let before = (leaks::tree(&bed.state()), leaks::tree(&bed.rootfs()), leaks::mounts());
    let said = bed.podlet("plan --name web -v DIR/rootfs/etc:/made:ro --tmpfs /x --rootfs ROOT /probe exit 1").ok();
    for call in ["open_tree", "setns", "move_mount", "pivot_root", "clone3", "execve", "\"/probe\""] {
        assert!(said.contains(call), "{call}: {said}");
    }
    assert_eq!((leaks::tree(&bed.state()), leaks::tree(&bed.rootfs()), leaks::mounts()), before);
    bed.podlet("create web").ok();
    let before = leaks::tree(&bed.state());
    assert!(bed.podlet("plan --pod web --name a --rootfs ROOT /probe exit 1").ok().contains("execve"));
    assert_eq!(leaks::tree(&bed.state()), before);
}

fn run_in_the_foreground_passes_signals_on(bed: &Bed) {
    // The last is systemd's SIGRTMIN+3.
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGHUP, libc::SIGPWR, 37] {
        let run = bed.spawn(&format!("run --rm --rootfs ROOT /probe trap {number} 60 , echo up , block"));
        run.await_line(bed, "up");
        run.signal_number(number);
        run.wait().code(60);
    }
    let run = bed.spawn("run --rm --rootfs ROOT /probe echo up , block");
    run.await_line(bed, "up");
    run.signal(Signal::SIGINT);
    run.wait().code(130);
    bed.is_clean();
}
