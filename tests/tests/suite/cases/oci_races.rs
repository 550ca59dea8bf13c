//! Commands on one container at the same time: each finds it as another one
//! left it, or waits.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode as Permissions;
use nix::sys::wait::WaitStatus;
use pod::oci::Runtime;
use serde_json::{Value, json};

use super::oci::{become_subreaper, config, create, ends, list, pid, reap, start, write};
use super::oci_crash::everybody_ends;
use crate::bed::{Background, Bed};

crate::tests![
    nobody_joins_a_container_that_is_being_made,
    a_start_and_a_delete_wait_for_who_creates,
    a_signal_waits_for_who_starts,
    a_start_that_is_killed_in_its_hook_ends_the_container,
    who_was_deleted_is_not_taken_for_the_next_of_that_name,
    many_commands_at_once,
];

/// Until its root is changed it is in the machine's: an exec that joined it then
/// would have that for good.
fn nobody_joins_a_container_that_is_being_made(bed: &Bed) {
    let mut config = config(bed, "block");
    // So that there is time to try.
    for number in 0..500 {
        list(&mut config["mounts"]).push(json!({
            "destination": format!("/many/{number}"), "type": "tmpfs", "source": "tmpfs", "options": ["size=4k"],
        }));
    }
    write(bed, &config);
    let mut refused = 0;
    for round in 0..bed.rounds(10).max(2) {
        for line in ["create", "run -d"] {
            let id = format!("c{round}");
            let maker = bed.spawn_command(bed.oci_command(&bed.expand(&format!("{line} --bundle DIR {id}"))));
            loop {
                // The machine has one, the container has not.
                let said = bed.oci(&format!("exec --cwd /tmp {id} /bin/true"));
                assert!(!said.status.success(), "it ran on the machine");
                refused += u32::from(said.err.contains("creating"));
                if said.err.contains("/bin/true") {
                    break;
                }
            }
            maker.wait().ok();
            bed.oci(&format!("delete --force {id}")).ok();
        }
    }
    assert!(refused > 0, "nobody tried in time");
    bed.is_clean();
}

/// Two pipes with which a hook says that it runs, and is told to end.
fn hook_that_waits(bed: &Bed) -> Value {
    for name in ["hooked", "go"] {
        let path = bed.dir.join(name);
        if !path.exists() {
            nix::unistd::mkfifo(&path, Permissions::from_bits_truncate(0o600)).expect("a fifo");
        }
    }
    let dir = bed.dir.display();
    let script = format!("echo >{dir}/hooked; read line <{dir}/go");
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] })
}

fn is_hooked(bed: &Bed) {
    fs::read(bed.dir.join("hooked")).expect("a word of the hook");
}

fn go_on(bed: &Bed) {
    fs::write(bed.dir.join("go"), "\n").expect("a word for the hook");
}

/// Starts a command that has to wait for a lock, and comes back when it does.
fn waiting(bed: &Bed, line: &str) -> Background {
    let command = bed.spawn_command(bed.oci_command(&bed.expand(line)));
    let pid = command.pid().to_string();
    bed.until("a command that waits", || {
        let locks = fs::read_to_string("/proc/locks").expect("locks");
        locks.lines().any(|line| line.contains("->") && line.split_whitespace().any(|word| word == pid))
    });
    command
}

fn a_start_and_a_delete_wait_for_who_creates(bed: &Bed) {
    become_subreaper();
    let mut config = config(bed, "write /up x , block");
    config["hooks"] = json!({ "createRuntime": [hook_that_waits(bed)] });
    write(bed, &config);
    for (line, status) in [("start c", "running"), ("delete c", "")] {
        let creator = bed.spawn_command(bed.oci_command(&bed.expand("create --bundle DIR --pid-file DIR/pid c")));
        is_hooked(bed);
        assert_eq!(bed.oci_state_of("c")["status"], "creating");
        let other = waiting(bed, line);
        go_on(bed);
        creator.wait().ok();
        other.wait().ok();
        if status.is_empty() {
            ends(pid(bed));
            bed.oci("state c").fails(1, &["c"]);
        } else {
            assert_eq!(bed.oci_state_of("c")["status"], status);
            bed.oci("delete --force c").ok();
        }
    }
    bed.is_clean();
}

/// A signal that would end a program that has not begun is left to the program.
fn a_signal_waits_for_who_starts(bed: &Bed) {
    become_subreaper();
    let mut config = config(bed, "trap TERM 7 , write /up x , block");
    config["hooks"] = json!({
        "startContainer": [{ "path": "/probe", "args": ["probe", "write", "/hooked", "x", ",", "wait-file", "/go"] }],
    });
    write(bed, &config);
    bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
    let starter = bed.spawn_command(bed.oci_command(&bed.expand("start c")));
    bed.until("the hook", || bed.inside("hooked").exists());
    assert_eq!(bed.oci_state_of("c")["status"], "created");
    let killer = waiting(bed, "kill c TERM");
    fs::write(bed.inside("go"), "").expect("a file");
    starter.wait().ok();
    killer.wait().ok();
    bed.until("its program", || bed.inside("up").exists());
    // The first one may have come before there was a handler.
    bed.oci("kill c TERM");
    let pid = pid(bed);
    assert!(matches!(reap(pid), WaitStatus::Exited(_, 7)));
    bed.oci("delete c").ok();
}

fn a_start_that_is_killed_in_its_hook_ends_the_container(bed: &Bed) {
    let mut config = config(bed, "write /up x , block");
    config["hooks"] = json!({
        "startContainer": [{ "path": "/probe", "args": ["probe", "write", "/hooked", "x", ",", "block"] }],
    });
    write(bed, &config);
    bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
    let starter = bed.spawn_command(bed.oci_command(&bed.expand("start c")));
    bed.until("the hook", || bed.inside("hooked").exists());
    starter.signal(Signal::SIGKILL);
    starter.wait();
    ends(pid(bed));
    assert_eq!(bed.oci_state_of("c")["status"], "stopped");
    assert!(!bed.inside("up").exists(), "its program ran");
    bed.oci("start c").fails(1, &["stopped"]);
    bed.oci("delete c").ok();
    bed.is_clean();
}

fn who_was_deleted_is_not_taken_for_the_next_of_that_name(bed: &Bed) {
    start(bed, "c", "block");
    let runtime = Runtime::open(bed.oci_state()).expect("a runtime");
    let mut stale = [runtime.get("c").expect("a container"), runtime.get("c").expect("a container")];
    bed.oci("delete --force c").ok();
    let pid = create(bed, "c", "block");
    let error = stale[0].delete(true).expect_err("another one").to_string();
    assert!(error.contains("\"c\""), "{error}");
    stale[1].start().expect_err("another one");
    let state = bed.oci_state_of("c");
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(pid)));
    bed.oci("start c").ok();
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn many_commands_at_once(bed: &Bed) {
    become_subreaper();
    write(bed, &config(bed, "block"));
    let lines =
        ["create --bundle DIR c", "start c", "delete --force c", "run -d --bundle DIR c", "kill c KILL", "delete c"];
    for round in 0..bed.rounds(20) as usize {
        let begin = |at: usize| {
            let line = lines[(at * (round % 5 + 1)) % lines.len()];
            bed.spawn_command(bed.oci_command(&bed.expand(line)))
        };
        let said: Vec<_> = (0..8).map(begin).collect::<Vec<_>>().into_iter().map(Background::wait).collect();
        // Refused is all that a command can be.
        for said in said.iter().filter(|said| !said.status.success()) {
            let known = [
                "exists already",
                "no such container",
                "is stopped",
                "is created",
                "is running",
                "is creating",
                "was killed",
            ];
            assert!(known.iter().any(|known| said.err.contains(known)), "{}: {}", said.command, said.err);
        }
    }
    bed.oci("delete --force c").ok();
    bed.is_clean();
    everybody_ends(bed);
}
