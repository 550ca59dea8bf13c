//! Bundles, through `podlet-oci`: a container's life as the runtime
//! specification tells it, and what no caller may do to it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};
use serde_json::{Value, json};

use super::config::mutations_of;
use crate::bed::Bed;
use crate::leaks::{self, Snapshot};
use crate::modes::{Mode, hierarchy};
use crate::sys;

crate::tests![
    life_of_a_container,
    errors_that_the_specification_demands,
    edits_after_create_have_no_effect,
    a_failed_create_leaves_nothing,
    run_in_the_foreground_and_detached,
    a_detached_container_outlives_who_made_it,
    only_what_create_made_is_deleted,
    the_gate_opens_for_nobody_else,
    pause_and_resume,
    kill_one_or_all,
    what_was_not_started_ends_by_what_ends_a_program,
    what_was_not_started_can_be_deleted,
    lists_and_states,
    what_spec_writes_runs,
    files_of_no_cgroup_are_refused,
    an_update_tells_the_rules_for_devices_again,
    a_directory_is_no_program,
    a_program_that_only_who_starts_it_may_execute,
    what_the_filter_forbids_us_is_told,
    what_a_container_does_without_is_told,
    features_are_told,
    what_is_not_here_is_refused,
    the_log_has_lines_in_json,
    two_hundred_mutations_of_a_bundle,
];

/// A config for the mode's user, of a container that runs the probe.
pub fn config(bed: &Bed, script: &str) -> Value {
    let args: Vec<_> = std::iter::once("/probe").chain(script.split_whitespace()).collect();
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let mut config = json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        ],
        "linux": { "namespaces": kinds.map(|kind| json!({ "type": kind })) },
        "annotations": { "org.example.key": "value" }
    });
    adapt(bed, &mut config);
    config
}

/// An ordinary user's containers need a user namespace.
pub fn adapt(bed: &Bed, config: &mut Value) {
    if bed.mode.nests_users() {
        list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
        let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        config["linux"]["uidMappings"] = map(Uid::effective().as_raw());
        config["linux"]["gidMappings"] = map(Gid::effective().as_raw());
    }
}

pub fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("an array")
}

/// The bundle is the test's directory.
pub fn write(bed: &Bed, config: &Value) {
    fs::write(bed.dir.join("config.json"), config.to_string()).expect("config.json");
}

/// Makes a container of this script, and comes back with its pid.
pub fn create(bed: &Bed, id: &str, script: &str) -> u32 {
    write(bed, &config(bed, script));
    bed.oci_detached(&format!("create --bundle DIR --pid-file DIR/pid {id}")).ok();
    pid(bed)
}

/// Makes a container that runs.
pub fn start(bed: &Bed, id: &str, script: &str) -> u32 {
    let pid = create(bed, id, script);
    bed.oci(&format!("start {id}")).ok();
    pid
}

/// What the pid file says.
pub fn pid(bed: &Bed) -> u32 {
    fs::read_to_string(bed.dir.join("pid")).expect("a pid file").parse().expect("a number and nothing else")
}

/// Containers become children of this process, as of conmon.
pub fn become_subreaper() {
    nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
}

pub fn reap(pid: u32) -> WaitStatus {
    waitpid(Pid::from_raw(pid as i32), None).expect("a child of ours")
}

fn parent_of(pid: u32) -> u32 {
    leaks::processes().iter().find(|seen| seen.pid == pid).unwrap_or_else(|| panic!("{pid} is gone")).parent
}

/// Waits for the end of a process that others reap.
pub fn ends(pid: u32) {
    assert!(sys::ends_within(pid, 20_000), "{pid} lives on");
}

fn life_of_a_container(bed: &Bed) {
    become_subreaper();
    let pid = create(bed, "c", "wait-file /go , exit 7");
    let state = bed.oci_state_of("c");
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], "c");
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], pid);
    assert_eq!(state["bundle"], bed.dir.to_str().expect("UTF-8"));
    assert_eq!(state["annotations"], json!({ "org.example.key": "value" }));
    // It is not the program yet, and it is ours.
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a process");
    assert!(!title.contains("probe"), "{title:?}");
    assert_eq!(parent_of(pid), std::process::id());
    bed.oci("start c").ok();
    let state = bed.oci_state_of("c");
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)));
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(reap(pid), WaitStatus::Exited(Pid::from_raw(pid as i32), 7));
    assert_eq!(bed.oci_state_of("c")["status"], "stopped");
    bed.oci("delete c").ok();
    bed.oci("state c").fails(1, &["container does not exist", "c"]);
    bed.is_clean();
}

fn errors_that_the_specification_demands(bed: &Bed) {
    let pid = create(bed, "c", "block");
    bed.oci("create --bundle DIR c").fails(1, &["exists already"]);
    bed.oci("run --bundle DIR c").fails(1, &["exists already"]);
    let state = bed.oci_state_of("c");
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(pid)));
    bed.oci("start c").ok();
    bed.oci("start c").fails(1, &["running", "cannot be started"]);
    bed.oci("delete c").fails(1, &["running", "cannot be deleted"]);
    bed.oci("resume c").fails(1, &["running", "cannot be resumed"]);
    assert_eq!(bed.oci_state_of("c")["status"], "running");
    for signal in ["SIGNOPE", "65", "-1"] {
        bed.finish(bed.oci_command(&["kill", "--", "c", signal])).fails(1, &[signal]);
    }
    bed.oci("kill c KILL").ok();
    ends(pid);
    bed.oci("kill c KILL").fails(1, &["container not running"]);
    bed.oci("start c").fails(1, &["stopped", "cannot be started"]);
    bed.oci("pause c").fails(1, &["stopped", "cannot be paused"]);
    bed.oci("exec c /probe").fails(255, &["stopped"]);
    bed.oci("delete c").ok();
    for line in ["delete c", "state c", "start c", "kill c", "pause c", "resume c", "ps c"] {
        bed.oci(line).fails(1, &["container does not exist"]);
    }
    bed.oci("exec c /probe").fails(255, &["container does not exist"]);
    bed.oci("delete --force c").ok();
    for id in ["", "..", "a/b", ".a", "a b", "é"] {
        bed.finish(bed.oci_command(&["create", "--bundle", &bed.dir.display().to_string(), "--", id]))
            .fails(1, &["id"]);
        bed.finish(bed.oci_command(&["delete", "--", id])).fails(1, &["does not exist"]);
    }
    bed.oci("create --bundle DIR/none c").fails(1, &["config.json"]);
    bed.is_clean();
}

fn edits_after_create_have_no_effect(bed: &Bed) {
    become_subreaper();
    let pid = create(bed, "c", "exit 7");
    let mut other = config(bed, "exit 9");
    other["annotations"] = json!({ "other": "one" });
    other["hooks"] = json!({ "poststart": [{ "path": "/bin/false" }], "poststop": [{ "path": "/bin/false" }] });
    write(bed, &other);
    bed.oci("start c").ok();
    assert_eq!(reap(pid), WaitStatus::Exited(Pid::from_raw(pid as i32), 7));
    assert_eq!(bed.oci_state_of("c")["annotations"], json!({ "org.example.key": "value" }));
    assert_eq!(bed.oci("delete c").code(0).err, "");
}

fn a_failed_create_leaves_nothing(bed: &Bed) {
    let before = Snapshot::take();
    let good = config(bed, "block");
    let with = |path: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        config
    };
    let mut mounts = good["mounts"].clone();
    list(&mut mounts).push(json!({ "destination": "/x", "type": "nosuchfs", "source": "none" }));
    let mut source = good["mounts"].clone();
    list(&mut source).push(json!({ "destination": "/x", "type": "none", "source": "gone", "options": ["bind"] }));
    let mut hooks = good.clone();
    hooks["hooks"] = json!({ "createContainer": [{ "path": "/bin/false" }] });
    let mut console = good.clone();
    console["process"]["terminal"] = json!(true);
    for (config, options, words) in [
        (with("/process/args/0", json!("/none")), "", &["/none"][..]),
        (with("/process/cwd", json!("/probe")), "", &["probe", "Not a directory"]),
        (with("/root/path", json!("gone")), "", &["gone"]),
        (with("/mounts", mounts), "", &["nosuchfs"]),
        (with("/mounts", source), "", &["gone"]),
        (hooks, "", &["createContainer", "/bin/false"]),
        (good.clone(), "--pid-file DIR/none/pid", &["none/pid"]),
        (console, "--console-socket DIR/none/socket", &["none/socket"]),
    ] {
        write(bed, &config);
        bed.oci_detached(&format!("create --bundle DIR {options} c")).fails(1, words);
        bed.oci("state c").fails(1, &["does not exist"]);
        bed.is_clean();
        assert_eq!(before.compare(), [""; 0]);
        let body = std::process::id();
        bed.until("the end of every process", || leaks::descendants(body).is_empty());
    }
}

fn run_in_the_foreground_and_detached(bed: &Bed) {
    let mut config = config(bed, "stdin , echo out , err err , fds , exit 42");
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").code(42);
    assert!(said.out.contains("stdin \"\"\nout\n"), "{}", said.out);
    assert!(said.err == "err\n", "{}", said.err);
    assert_eq!(said.out.lines().filter(|line| line.starts_with("fd ")).count(), 3, "{}", said.out);
    bed.is_clean();
    config["process"]["args"] = json!(["/probe", "trap", "TERM", "5", ",", "echo", "up", ",", "block"]);
    write(bed, &config);
    let run = bed.spawn_command(bed.oci_command(&bed.expand("run --bundle DIR --keep c")));
    run.await_line(bed, "up");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait().code(5);
    assert_eq!(bed.oci_state_of("c")["status"], "stopped");
    bed.oci("delete c").ok();
    // systemd's SIGRTMIN+3, at which it shuts down.
    config["process"]["args"] = json!(["/probe", "trap", "37", "6", ",", "echo", "up", ",", "block"]);
    write(bed, &config);
    let run = bed.spawn_command(bed.oci_command(&bed.expand("run --bundle DIR c")));
    run.await_line(bed, "up");
    run.signal_number(37);
    run.wait().code(6);
    config["process"]["args"] = json!(["/probe", "trap", "TERM", "5", ",", "echo", "up", ",", "block"]);
    write(bed, &config);
    let run = bed.spawn_command(bed.oci_command(&bed.expand("run --bundle DIR c")));
    run.await_line(bed, "up");
    // Its maker hears only then that it runs.
    bed.until("a container that runs", || bed.oci_state_of("c")["status"] == "running");
    bed.oci("kill c KILL").ok();
    run.wait().code(128 + 9);
    bed.is_clean();
    config["process"]["args"] = json!(["nope"]);
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["nope"]);
    bed.is_clean();
}

fn a_detached_container_outlives_who_made_it(bed: &Bed) {
    become_subreaper();
    write(bed, &config(bed, "wait-file /go , exit 3"));
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid c").ok();
    let pid = pid(bed);
    assert_eq!(bed.oci_state_of("c")["status"], "running");
    assert_eq!(parent_of(pid), std::process::id());
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(reap(pid), WaitStatus::Exited(Pid::from_raw(pid as i32), 3));
    bed.oci("delete c").ok();
}

fn only_what_create_made_is_deleted(bed: &Bed) {
    if bed.mode != Mode::Root {
        // No hierarchy of their own.
        let before = Snapshot::take();
        start(bed, "c", "block");
        bed.oci("delete --force c").ok();
        return assert_eq!(before.compare(), [""; 0]);
    }
    let top = hierarchy().expect("cgroup v2");
    let theirs = top.join("theirs");
    fs::create_dir(&theirs).expect("a cgroup");
    for (path, stays, goes) in [
        ("/theirs", "theirs", ""),
        ("/theirs/a/b", "theirs", "theirs/a"),
        ("/ours/a", "", "ours"),
        ("relative/a", "", "relative"),
    ] {
        let mut config = config(bed, "block");
        config["linux"]["cgroupsPath"] = json!(path);
        write(bed, &config);
        bed.oci_detached("run -d --bundle DIR c").ok();
        let dir = top.join(path.trim_start_matches('/'));
        let inside = fs::read_to_string(dir.join("cgroup.procs")).expect("a cgroup");
        assert_eq!(inside.lines().count(), 1, "{path}: {inside}");
        // Another container does not share it.
        bed.oci("create --bundle DIR d").fails(1, &["linux.cgroupsPath", "processes in it"]);
        assert_eq!(bed.oci_state_of("c")["status"], "running", "{path}");
        bed.oci("delete --force c").ok();
        assert!(stays.is_empty() || top.join(stays).exists(), "{path}: {stays} is gone");
        assert!(goes.is_empty() || !top.join(goes).exists(), "{path}: {goes} is there");
    }
    fs::remove_dir(&theirs).expect("nobody in it");
    for path in ["/", "../x", "/a/../../x"] {
        let mut config = config(bed, "block");
        config["linux"]["cgroupsPath"] = json!(path);
        write(bed, &config);
        bed.oci("create --bundle DIR c").fails(1, &["linux.cgroupsPath"]);
    }
    // A cgroup of its own, for a config that does not say which.
    start(bed, "a", "block");
    assert!(top.join("podlet-oci-a").exists());
    bed.oci("delete --force a").ok();
    assert!(!top.join("podlet-oci-a").exists());
}

fn the_gate_opens_for_nobody_else(bed: &Bed) {
    let pid = create(bed, "c", "block");
    let gate = bed.oci_state().join("c/gate");
    let meta = fs::metadata(&gate).expect("a gate");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(gate.parent().expect("a directory")).expect("a directory").mode() & 0o077, 0);
    if bed.mode == Mode::Root {
        const OTHER: u32 = 1000;
        let refused = sys::as_user(OTHER, || sys::connect(&gate)).expect_err("a connection");
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        // Even if they could get there: the peer's user is looked at.
        for path in [&bed.oci_state(), &bed.oci_state().join("c"), &gate] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("mode");
        }
        for _ in 0..20 {
            drop(sys::as_user(OTHER, || sys::connect(&gate)).expect("a connection"));
        }
        for path in [bed.oci_state(), bed.oci_state().join("c")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("mode");
        }
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a process");
        assert!(!title.contains("probe"), "{title:?}");
    }
    assert_eq!(bed.oci_state_of("c")["status"], "created");
    bed.oci("start c").ok();
    assert!(!gate.exists());
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a process").contains("probe"));
    bed.oci("delete --force c").ok();
}

fn pause_and_resume(bed: &Bed) {
    let pid = start(bed, "c", "block");
    if !bed.mode.has_cgroups() {
        bed.oci("pause c").fails(1, &["no cgroup"]);
        return drop(bed.oci("delete --force c").ok());
    }
    bed.oci("pause c").ok();
    assert_eq!(bed.oci_state_of("c")["status"], "paused");
    bed.oci("pause c").fails(1, &["paused"]);
    bed.oci("exec c /probe").fails(255, &["paused"]);
    // It waits, and goes on with the others.
    let waiting = bed.spawn_command(bed.oci_command(&bed.expand("exec --ignore-paused c /probe exit 9")));
    bed.oci("delete c").fails(1, &["paused"]);
    bed.oci("resume c").ok();
    waiting.wait().code(9);
    assert_eq!(bed.oci_state_of("c")["status"], "running");
    bed.oci("exec c /probe exit 4").code(4);
    bed.oci("pause c").ok();
    bed.oci("kill c KILL").ok();
    ends(pid);
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn what_was_not_started_ends_by_what_ends_a_program(bed: &Bed) {
    for (harmless, ends_it) in [("0", "TERM"), ("USR1", "HUP"), ("CONT", "INT")] {
        let pid = create(bed, "c", "block");
        bed.oci(&format!("kill c {harmless}")).ok();
        assert_eq!(bed.oci_state_of("c")["status"], "created", "after {harmless}");
        bed.oci(&format!("kill c {ends_it}")).ok();
        ends(pid);
        assert_eq!(bed.oci_state_of("c")["status"], "stopped", "after {ends_it}");
        bed.oci("delete c").ok();
    }
    bed.is_clean();
}

fn what_was_not_started_can_be_deleted(bed: &Bed) {
    let pid = create(bed, "c", "write /up x");
    bed.oci("delete c").ok();
    ends(pid);
    assert!(!bed.inside("up").exists(), "its program ran");
    bed.is_clean();
}

fn kill_one_or_all(bed: &Bed) {
    let pid = start(bed, "c", "orphan block , trap USR1 6 , write /up x , block");
    bed.until("two processes", || bed.inside("up").exists());
    let other = leaks::descendants(pid)[0].pid;
    bed.oci("kill c 0").ok();
    bed.oci("kill c SIGUSR1").ok();
    ends(pid);
    // Its pid namespace ended with it.
    ends(other);
    bed.oci("delete c").ok();

    // Without one of its own the others stay, but for SIGKILL.
    if bed.mode.has_cgroups() {
        let mut config = config(bed, "orphan block , block");
        list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "pid");
        if bed.mode.nests_users() {
            // The machine's processes are not this user namespace's to show.
            list(&mut config["mounts"]).retain(|mount| mount["destination"] != "/proc");
        }
        write(bed, &config);
        bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid c").ok();
        let pid = self::pid(bed);
        let all = || -> Vec<u32> { serde_json::from_str(&bed.oci("ps -f json c").ok()).expect("JSON") };
        bed.until("two processes", || all().len() == 2);
        let both = all();
        bed.oci("kill c TERM").ok();
        ends(pid);
        assert_eq!(all().len(), 1);
        bed.oci("kill --all c KILL").ok();
        both.into_iter().for_each(ends);
        bed.oci("delete c").ok();
    }
    bed.is_clean();
}

/// As containerd does it, with all that there is of the container.
fn an_update_tells_the_rules_for_devices_again(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let mut config = config(bed, "block");
    let rules = json!([{ "allow": false, "access": "rwm" }]);
    config["linux"]["resources"] = json!({ "devices": rules });
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR c").ok();
    let update = |resources: Value| {
        fs::write(bed.dir.join("resources.json"), resources.to_string()).expect("a file");
        bed.oci("update --resources DIR/resources.json c")
    };
    update(json!({ "devices": rules, "memory": {}, "cpu": {} })).ok();
    update(json!({})).ok();
    update(json!({ "devices": [{ "allow": true, "access": "rwm" }] })).fails(1, &["devices"]);
    bed.oci("update c").fails(1, &["--memory"]);
    bed.oci("delete --force c").ok();
}

/// `create` is to hear of it, not `start`.
fn a_directory_is_no_program(bed: &Bed) {
    let mut config = config(bed, "ids");
    for (name, path, starts) in
        [("/etc", "/bin", false), ("probe", "/first:/second", false), ("probe", "/first:/", true)]
    {
        fs::create_dir_all(bed.inside("first/probe")).expect("a directory of that name");
        fs::create_dir_all(bed.inside("second/probe")).expect("another one");
        config["process"]["args"] = json!([name, "ids"]);
        config["process"]["env"] = json!([format!("PATH={path}")]);
        write(bed, &config);
        match starts {
            true => {
                bed.oci_detached("create --bundle DIR c").ok();
                bed.oci("start c").ok();
                bed.oci("delete --force c").ok();
            }
            false => drop(bed.oci("create --bundle DIR c").fails(1, &[name, "Permission denied", "directory"])),
        }
    }
    bed.is_clean();
}

/// Until `execve` the container's user has the capabilities of its config.
fn a_program_that_only_who_starts_it_may_execute(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    let mut config = config(bed, "ids");
    fs::set_permissions(bed.inside("probe"), fs::Permissions::from_mode(0o700)).expect("a mode");
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    for (capabilities, may) in [(json!(["CAP_DAC_OVERRIDE"]), true), (json!([]), false)] {
        config["process"]["capabilities"] =
            json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
        write(bed, &config);
        if may {
            bed.oci_detached("create --bundle DIR c").ok();
            bed.oci("start c").ok();
            bed.oci("delete --force c").ok();
        } else {
            bed.oci("create --bundle DIR c").fails(1, &["/probe", "Permission denied"]);
        }
    }
    bed.is_clean();
}

/// The report's own call is refused then, too.
fn what_the_filter_forbids_us_is_told(bed: &Bed) {
    let mut config = config(bed, "true");
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["execve", "write", "exit_group"], "action": "SCMP_ACT_ALLOW" }],
    });
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["capset", "not permitted"]);
    bed.is_clean();
}

/// As the specification wants it: a warning, and the container runs.
fn what_a_container_does_without_is_told(bed: &Bed) {
    let restricted = bed.mode == Mode::Root;
    if restricted {
        sys::give_up_capability(CAP_SYS_BOOT);
    }
    let mut config = config(bed, "status , mounts");
    let capabilities = json!(["CAP_KILL", "CAP_SYS_BOOT", "CAP_FROB"]);
    config["process"]["capabilities"] = json!({ "bounding": capabilities, "permitted": capabilities });
    let options = ["rbind", "ro", "sync", "mode=755", "lazytime"];
    let bind = json!({ "destination": "/b", "type": "bind", "source": bed.dir, "options": options });
    config["mounts"].as_array_mut().expect("mounts").push(bind);
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").code(0);
    let warnings: Vec<_> = said.err.lines().filter(|line| line.contains("level=warning")).collect();
    let warns_of = |words: [&str; 2]| warnings.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(warns_of(["process.capabilities", "CAP_FROB"]), "{}", said.err);
    assert!(warns_of(["mounts[3].options", "sync,mode=755,lazytime"]), "{}", said.err);
    assert_eq!(warns_of(["process.capabilities", "CAP_SYS_BOOT"]), restricted, "{}", said.err);
    assert_eq!(warnings.len(), if restricted { 3 } else { 2 }, "{}", said.err);
    let kept = if restricted { 1 << 5 } else { 1 << 5 | 1 << CAP_SYS_BOOT };
    assert!(said.out.contains(&format!("CapBnd:\t{kept:016x}")), "{}", said.out);
    let bind = said.out.lines().find(|line| line.contains(" /b ")).expect("the bind");
    assert!(bind.contains(" ro,"), "{bind}");
    bed.is_clean();
}

/// capabilities(7).
const CAP_SYS_BOOT: u64 = 22;

/// Also where what is asked for there is no limit.
fn files_of_no_cgroup_are_refused(bed: &Bed) {
    for content in ["max", "10"] {
        let mut config = config(bed, "block");
        config["linux"]["resources"] = json!({ "unified": { "memroy.high": content } });
        write(bed, &config);
        bed.oci("run --bundle DIR c").fails(1, &["unified.memroy.high"]);
        bed.is_clean();
    }
}

fn lists_and_states(bed: &Bed) {
    assert_eq!(bed.oci("list -q").ok(), "");
    assert_eq!(serde_json::from_str::<Value>(&bed.oci("list -f json").ok()).expect("JSON"), json!([]));
    let a = start(bed, "a", "block");
    let b = create(bed, "b", "block");
    assert_eq!(bed.oci("list -q").ok(), "a\nb\n");
    let list: Value = serde_json::from_str(&bed.oci("list --format json").ok()).expect("JSON");
    let shown = |i: usize| (list[i]["id"].clone(), list[i]["status"].clone(), list[i]["pid"].clone());
    assert_eq!(shown(0), (json!("a"), json!("running"), json!(a)));
    assert_eq!(shown(1), (json!("b"), json!("created"), json!(b)));
    assert_eq!(list[0]["rootfs"], bed.rootfs().to_str().expect("UTF-8"));
    let table = bed.oci("list").ok();
    assert!(table.starts_with("ID") && table.lines().count() == 3, "{table}");
    let ps = bed.oci("ps a").ok();
    assert!(ps.lines().count() == 2 && ps.contains(&a.to_string()), "{ps}");
    assert_eq!(bed.oci("ps --format json a").ok(), format!("[{a}]\n"));
    let ps = bed.oci("ps a -o pid,args").ok();
    assert!(ps.contains("/probe block"), "{ps}");
    bed.oci("delete --force a").ok();
    bed.oci("delete --force b").ok();
}

fn what_spec_writes_runs(bed: &Bed) {
    let line = if bed.mode.nests_users() { "spec --rootless --bundle DIR" } else { "spec --bundle DIR" };
    bed.oci(line).ok();
    bed.oci(line).fails(1, &["config.json", "exists"]);
    let text = fs::read(bed.dir.join("config.json")).expect("config.json");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/probe", "status", ",", "mounts", ",", "mkdir", "/x"]);
    write(bed, &config);
    if bed.mode == Mode::Mapped {
        // A user with one id only cannot give another one a terminal.
        list(&mut config["mounts"]).retain(|mount| mount["destination"] != "/dev/pts");
        config["linux"]["resources"] = json!(null);
        write(bed, &config);
    }
    let said = bed.oci("run --bundle DIR c").ok();
    for words in ["NoNewPrivs: 1", "CapEff: 0000000020000420", "CapInh: 0000000000000000", "mkdir /x: errno 30"] {
        let squeezed = said.split([' ', '\t']).collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(words), "{words} is missing in {said}");
    }
    bed.is_clean();
}

fn features_are_told(bed: &Bed) {
    let features: Value = serde_json::from_str(&bed.oci("features").ok()).expect("JSON");
    let version = |field: &str| features[field].as_str().expect("a version").to_string();
    assert!(version("ociVersionMin").starts_with("1.0") && version("ociVersionMax").starts_with("1."));
    let has = |path: &str, name: &str| {
        features.pointer(path).and_then(Value::as_array).is_some_and(|list| list.iter().any(|item| item == name))
    };
    assert!(has("/hooks", "createContainer") && has("/mountOptions", "rbind"));
    assert!(has("/linux/namespaces", "time") && has("/linux/capabilities", "CAP_BPF"));
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY") && has("/linux/seccomp/archs", "SCMP_ARCH_X86"));
    assert!(has("/linux/seccomp/supportedFlags", "SECCOMP_FILTER_FLAG_LOG"));
    assert!(bed.oci("--version").ok().contains("spec: 1."));
}

fn what_is_not_here_is_refused(bed: &Bed) {
    start(bed, "c", "block");
    // Where systemd is there, tests/vm/systemd tests what it does.
    if !std::path::Path::new("/run/systemd/system").exists() {
        bed.oci("--systemd-cgroup create --bundle DIR d").fails(1, &["not booted by systemd", "cgroupfs"]);
        bed.podlet("create --cgroup-manager systemd d").fails(125, &["not booted by systemd", "cgroupfs"]);
        assert_eq!(bed.podlet("ps -aq").ok(), "", "a pod is left");
    }
    bed.oci("checkpoint c").fails(1, &["CRIU"]);
    bed.oci("restore --image-path x c").fails(1, &["CRIU"]);
    bed.oci("exec --cgroup x c /probe").fails(255, &["--cgroup"]);
    bed.oci("nonsense").fails(1, &["nonsense"]);
    bed.oci("run --nonsense c").fails(1, &["--nonsense"]);
    bed.oci("delete --force c").ok();
}

fn the_log_has_lines_in_json(bed: &Bed) {
    let log = bed.dir.join("log.json");
    let said = bed.oci("--log DIR/log.json --log-format json start none").fails(1, &["does not exist"]);
    assert!(!said.err.contains('{'), "{}", said.err);
    bed.oci("--log DIR/log.json --log-format json --debug state none").code(1);
    let text = fs::read_to_string(&log).expect("a log");
    assert_eq!(text.matches("\"level\":\"debug\"").count(), 1, "{text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line["msg"].is_string() && line["time"].is_string(), "{line}");
        assert!(["error", "debug", "warning"].contains(&line["level"].as_str().expect("a level")));
    }
    assert_eq!(text.lines().filter(|line| line.contains("container does not exist")).count(), 2, "{text}");
    bed.oci("--log DIR/none/log state none").fails(1, &["--log", "none/log"]);
    bed.oci("--log DIR/log.txt state none").code(1);
    let text = fs::read_to_string(bed.dir.join("log.txt")).expect("a log");
    assert!(text.contains("level=error msg="), "{text}");
}

fn two_hundred_mutations_of_a_bundle(bed: &Bed) {
    mutations_of(bed, |config| adapt(bed, config), |bed| bed.oci("run --bundle DIR m"));
}
