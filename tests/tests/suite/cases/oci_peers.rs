//! What users of runc and crun have come to expect.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use super::oci::{become_subreaper, config, list, pid, reap, write};
use super::oci_terminal::{await_words, terminal};
use crate::bed::Bed;
use crate::modes::Mode;
use crate::sys;

crate::tests![
    a_seccomp_listener_is_told_when_the_container_is_created,
    sigkill_reaches_all_of_a_container_without_a_pid_namespace,
    a_terminal_in_a_dev_that_is_read_only,
    a_newline_on_a_terminal_that_is_shown_stays_one,
    what_runc_and_crun_do_without_may_be_left_out,
    a_container_without_a_process_is_created_and_not_started,
    an_ambient_capability_beyond_the_others_is_told,
    a_script_whose_interpreter_is_missing_is_told_as_that,
    supplementary_groups_are_those_of_the_list,
    a_root_that_is_not_there_has_no_containers_and_is_not_made,
    features_tell_what_memory_policies_there_are,
    an_errno_without_a_name_keeps_its_number,
];

/// The container process state that comes to a listener, and what its
/// descriptor is; none if no runtime has connected.
fn told(listener: &UnixListener) -> Option<(Value, String)> {
    let (connection, _) = listener.accept().ok()?;
    let mut text = [0u8; 4096];
    let mut space = cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = message.expect("a message");
    let size = message.bytes;
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().expect("control messages").next() else {
        panic!("no descriptor")
    };
    let filter = sys::own(fds[0]);
    let kind = fs::read_link(format!("/proc/self/fd/{}", filter.as_raw_fd())).expect("a descriptor");
    Some((serde_json::from_slice(&text[..size]).expect("JSON"), kind.display().to_string()))
}

fn a_seccomp_listener_is_told_when_the_container_is_created(bed: &Bed) {
    let path = bed.dir.join("listener");
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("a flag");
    let mut config = config(bed, "write /up x , block");
    let mut seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "of the test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    for no_new_privileges in [false, true] {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = seccomp.clone();
        write(bed, &config);
        bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
        let (state, kind) = told(&listener).expect("nobody has told the listener");
        assert_eq!(kind, "anon_inode:seccomp notify");
        let expected = json!({ "fds": ["seccompFd"], "metadata": "of the test", "pid": pid(bed) });
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&state[name], value, "{name} in {state}");
        }
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(bed.oci_state_of("c")["status"], "created");
        assert!(!bed.inside("up").exists());
        bed.oci("start c").ok();
        bed.until("its program", || bed.inside("up").exists());
        assert!(told(&listener).is_none(), "it is told once");
        fs::remove_file(bed.inside("up")).expect("what it wrote");
        bed.oci("delete --force c").ok();
    }
    // What waits for its start does that under the filter.
    let denied = json!({ "names": ["accept4"], "action": "SCMP_ACT_ERRNO" });
    seccomp["syscalls"].as_array_mut().expect("an array").push(denied);
    config["linux"]["seccomp"] = seccomp;
    write(bed, &config);
    bed.oci("create --bundle DIR c").fails(1, &["linux.seccomp.syscalls", "accept4", "listener"]);
    assert!(told(&listener).is_none());
    bed.is_clean();
}

fn sigkill_reaches_all_of_a_container_without_a_pid_namespace(bed: &Bed) {
    become_subreaper();
    let mut config = config(bed, "orphan block , bg block , write /up x , block");
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "pid");
    list(&mut config["mounts"]).retain(|entry| entry["type"] != "proc");
    write(bed, &config);
    // Also when its first process is gone.
    for before in ["", "TERM"] {
        bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid c").ok();
        bed.until("its program", || bed.inside("up").exists());
        fs::remove_file(bed.inside("up")).expect("what it wrote");
        let all: Vec<u32> = serde_json::from_str(&bed.oci("ps --format json c").ok()).expect("pids");
        assert_eq!(all.len(), 3, "{all:?}");
        if !before.is_empty() && bed.mode.has_cgroups() {
            bed.oci(&format!("kill c {before}")).ok();
            bed.until("its end", || bed.oci_state_of("c")["status"] == "stopped");
        }
        bed.oci("kill c KILL").ok();
        for pid in all {
            assert!(sys::ends_within(pid, 5000), "{pid} lives on");
            reap(pid);
        }
        bed.oci("kill c KILL").fails(1, &["container not running"]);
        bed.oci("delete c").ok();
    }
    bed.is_clean();
}

fn a_terminal_in_a_dev_that_is_read_only(bed: &Bed) {
    let mut config = config(bed, "tty , stat /dev/console , write /dev/x y");
    config["process"]["terminal"] = json!(true);
    list(&mut config["mounts"][1]["options"]).push(json!("ro"));
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert!(said.contains("tty /dev/pts/0") && said.contains("stat /dev/console: char"), "{said}");
    assert!(said.contains("write /dev/x: errno 30"), "{said}");
    bed.is_clean();
}

fn a_newline_on_a_terminal_that_is_shown_stays_one(bed: &Bed) {
    let mut config = config(bed, "echo first , echo second , block");
    config["process"]["terminal"] = json!(true);
    config["process"]["args"] = json!(["/probe", "echo", "first", ",", "echo", "second"]);
    write(bed, &config);
    assert_eq!(bed.oci("run --bundle DIR c").ok(), "first\nsecond\n");
    // On a terminal it is what that makes of it.
    let (mut ours, theirs) = terminal(24, 80);
    let mut command = bed.oci_command(&bed.expand("run --bundle DIR c"));
    let stream = || theirs.try_clone().expect("dup");
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().expect("podlet-oci");
    await_words(bed, &mut ours, "first\r\nsecond\r\n");
    assert!(child.wait().expect("an end").success());
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/probe", "block"]);
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR c").ok();
    assert_eq!(bed.oci("exec -t c /probe echo third").ok(), "third\n");
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn what_runc_and_crun_do_without_may_be_left_out(bed: &Bed) {
    let cases: [(&str, Value); 6] = [
        ("user", json!({ "uid": 0 })),
        ("user", json!({ "uid": 0, "gid": null })),
        ("ioPriority", json!({ "class": "IOPRIO_CLASS_BE" })),
        ("scheduler", json!({ "policy": "SCHED_IDLE", "nice": 5 })),
        ("execCPUAffinity", json!({ "initial": " 0 , ", "final": "" })),
        ("execCPUAffinity", json!({ "initial": "", "final": ",0" })),
    ];
    for (name, value) in cases {
        let mut config = config(bed, "ids , block");
        config["process"][name] = value;
        write(bed, &config);
        bed.oci_detached("run -d --bundle DIR c").ok();
        let said = bed.oci("exec c /probe ids , how").ok();
        assert!(said.contains("Gid: 0 0 0 0"), "{name}: {said}");
        bed.oci("delete --force c").ok();
    }
    bed.is_clean();
}

fn a_container_without_a_process_is_created_and_not_started(bed: &Bed) {
    let mut config = config(bed, "");
    config.as_object_mut().expect("an object").remove("process");
    write(bed, &config);
    bed.oci_detached("create --bundle DIR c").ok();
    assert_eq!(bed.oci_state_of("c")["status"], "created");
    bed.oci("start c").fails(1, &["without `process`"]);
    assert_eq!(bed.oci_state_of("c")["status"], "created");
    // Others can be, in its namespaces.
    assert!(bed.oci("exec c /probe echo there").ok().contains("there"));
    bed.oci("delete c").ok();
    bed.oci("run --bundle DIR c").fails(1, &["process", "needed"]);
    bed.podlet("run --rm --bundle DIR").fails(125, &["process", "needed"]);
    bed.is_clean();
}

fn an_ambient_capability_beyond_the_others_is_told(bed: &Bed) {
    let mut config = config(bed, "status");
    let all = json!(["CAP_KILL", "CAP_CHOWN"]);
    config["process"]["capabilities"] = json!({
        "bounding": all, "effective": all, "permitted": all, "inheritable": ["CAP_KILL"], "ambient": all,
    });
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").fails(0, &["process.capabilities.ambient", "CAP_CHOWN", "inheritable"]);
    assert!(!said.err.contains("CAP_KILL"), "{}", said.err);
    assert!(
        said.out.split_whitespace().collect::<Vec<_>>().join(" ").contains("CapAmb: 0000000000000020"),
        "{}",
        said.out
    );
    bed.podlet("run --rm --bundle DIR").fails(125, &["process.capabilities.ambient", "CAP_CHOWN"]);
    bed.is_clean();
}

fn a_script_whose_interpreter_is_missing_is_told_as_that(bed: &Bed) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(bed.inside("script"), "#!/bin/none\n").expect("a script");
    fs::set_permissions(bed.inside("script"), fs::Permissions::from_mode(0o755)).expect("mode");
    let mut config = config(bed, "");
    config["process"]["args"] = json!(["/script"]);
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["/script", "interpreter is not there"]);
    bed.oci_detached("create --bundle DIR c").ok();
    bed.oci("start c").fails(1, &["/script", "it was there", "interpreter is not"]);
    bed.oci("delete c").ok();
    bed.podlet("run --rm --rootfs ROOT /script").fails(127, &["/script", "interpreter is not there"]);
    bed.is_clean();
}

fn supplementary_groups_are_those_of_the_list(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    let mut config = config(bed, "ids");
    config["process"]["user"]["additionalGids"] = json!([5, 7, 5]);
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert!(said.contains("Groups: 5 5 7\n"), "{said}");
}

fn a_root_that_is_not_there_has_no_containers_and_is_not_made(bed: &Bed) {
    let oci = |words: &str| {
        let mut command = std::process::Command::new(bed.program("podlet-oci"));
        command.args(bed.expand(words));
        bed.finish(command)
    };
    assert!(oci("--root DIR/none list").ok().starts_with("ID "));
    assert_eq!(oci("--root DIR/none list -f json").ok(), "[]\n");
    oci("--root DIR/none state c").fails(1, &["container does not exist"]);
    oci("--root DIR/none delete --force c").ok();
    assert!(!bed.dir.join("none").exists());
}

fn features_tell_what_memory_policies_there_are(bed: &Bed) {
    let features: Value = serde_json::from_str(&bed.oci("features").ok()).expect("JSON");
    let policy = &features["linux"]["memoryPolicy"];
    for (list, name) in [("modes", "MPOL_INTERLEAVE"), ("flags", "MPOL_F_STATIC_NODES")] {
        assert!(policy[list].as_array().is_some_and(|names| names.contains(&json!(name))), "{name}: {policy}");
    }
}

fn an_errno_without_a_name_keeps_its_number(bed: &Bed) {
    let mut config = config(bed, "exit 0");
    let denied = json!({ "names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 500 });
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied] });
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["cannot execute", "error number 500"]);
    bed.oci_detached("create --bundle DIR c").ok();
    bed.oci("start c").fails(1, &["cannot execute", "error number 500"]);
    bed.oci("delete c").ok();
    bed.is_clean();
}
