//! `podlet-oci exec`, and what descriptors it and `run` pass on.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::json;

use super::oci::{become_subreaper, config, pid, reap, start, write};
use crate::bed::Bed;
use crate::modes::Mode;
use crate::sys;

crate::tests![
    options_of_exec,
    exec_by_a_process_file,
    each_user_has_a_home,
    a_caller_who_ignores_its_children,
    exec_that_fails,
    exec_in_the_background,
    exec_in_a_container_that_waits,
    only_what_is_asked_for_is_passed_on,
    sockets_of_a_service_manager,
    cve_2022_29162_nothing_is_inheritable,
    cve_2019_5736_podlet_oci_is_not_to_be_had,
];

fn options_of_exec(bed: &Bed) {
    start(bed, "c", "block");
    let exec = |options: &str, script: &str| bed.oci(&format!("exec {options} c /probe {script}"));
    let env = |options: &str| {
        let said = exec(options, "env").ok();
        let mut lines: Vec<_> = said.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(exec("", "cwd").ok(), "/\n");
    assert_eq!(env(""), ["HOME=/root", "PATH=/bin"]);
    assert_eq!(exec("--cwd /srv", "cwd").ok(), "/srv\n");
    assert_eq!(env("--env B=c --env PATH=/x"), ["B=c", "HOME=/root", "PATH=/x"]);
    assert_eq!(bed.oci("exec c probe exit 5").code(5).out, "");
    exec("", "kill-self KILL").code(128 + 9);
    let said = exec("", "stdin , fds").ok();
    assert!(said.starts_with("stdin \"\"\n") && said.lines().count() == 4, "{said}");
    let said = exec("--cap CAP_KILL --cap CAP_CHOWN", "status").ok();
    for (field, wanted) in [("CapEff", 0x21), ("CapPrm", 0x21), ("CapBnd", 0x21)] {
        let line = said.lines().find(|line| line.starts_with(field)).expect("a field");
        assert_eq!(u64::from_str_radix(line.split_whitespace().nth(1).expect("a mask"), 16), Ok(wanted), "{line}");
    }
    for field in ["CapInh", "CapAmb"] {
        assert!(said.contains(&format!("{field}:\t0000000000000000")), "{said}");
    }
    assert!(exec("--no-new-privs", "status").ok().contains("NoNewPrivs:\t1"));
    if bed.mode.has_ids() && !bed.mode.nests_users() {
        assert!(exec("--user 33:34", "ids").ok().contains("Uid: 33 33 33 33\nGid: 34 34 34 34"));
        assert!(exec("--user 33", "ids").ok().contains("Uid: 33 33 33 33\nGid: 0 0 0 0"));
        let said = exec("--user 33:34 -g 5 --additional-gids 6", "ids").ok();
        assert!(said.contains("Groups: 5 6"), "{said}");
    }
    for options in ["--user x", "--user 4294967296", "--user :", "--user 1000x", "--env =x", "--cap CAP_NONE", "-g x"] {
        let said = exec(options, "ids");
        assert!([1, 255].contains(&said.status.code().expect("a code")), "{options}: {}", said.err);
        assert!(!said.err.is_empty());
    }
    bed.oci("delete --force c").ok();
}

fn exec_by_a_process_file(bed: &Bed) {
    start(bed, "c", "block");
    let process = json!({
        "args": ["/probe", "cwd", ",", "env", ",", "status", ",", "exit", "8"], "cwd": "/srv", "env": ["X=y"],
        "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
        "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }]
    });
    fs::write(bed.dir.join("process.json"), process.to_string()).expect("process.json");
    let said = bed.oci("exec --process DIR/process.json c").code(8).out;
    assert!(said.starts_with("/srv\nX=y\nHOME=/root\n"), "{said}");
    assert!(said.contains("CapEff:\t0000000000000020") && said.contains("NoNewPrivs:\t1"), "{said}");
    for (text, words) in [
        ("", "process.json"),
        ("[]", "process"),
        ("1", "process"),
        ("{}", "process.cwd"),
        (r#"{"args":[],"cwd":"/","user":{"uid":0,"gid":0}}"#, "args"),
        (r#"{"args":["/probe"],"cwd":"x","user":{"uid":0,"gid":0}}"#, "cwd"),
    ] {
        fs::write(bed.dir.join("process.json"), text).expect("process.json");
        bed.oci("exec --process DIR/process.json c").fails(255, &[words]);
    }
    fs::write(bed.dir.join("process.json"), r#"{"args":["/probe","ids"],"cwd":"/"}"#).expect("process.json");
    assert!(bed.oci("exec --process DIR/process.json c").ok().contains("Uid: 0 0 0 0\nGid: 0 0 0 0"));
    bed.oci("exec --process DIR/none c").fails(255, &["none"]);
    bed.oci("delete --force c").ok();
}

fn each_user_has_a_home(bed: &Bed) {
    fs::create_dir_all(bed.inside("etc")).expect("a directory");
    fs::write(bed.inside("etc/passwd"), "root:x:0:0::/root:\nuser:x:1000:1000::/home/user:\n").expect("a file");
    start(bed, "c", "block");
    let home = |options: &str| {
        let said = bed.oci(&format!("exec {options} c /probe env")).ok();
        said.lines().find_map(|line| Some(line.strip_prefix("HOME=")?.to_string())).expect("HOME")
    };
    assert_eq!(home(""), "/root");
    assert_eq!(home("--env HOME=/else"), "/else");
    assert_eq!(home("--env HOME="), "/root");
    if bed.mode == Mode::Root {
        assert_eq!(home("--user 1000"), "/home/user");
    }
    bed.oci("delete --force c").ok();
}

fn a_caller_who_ignores_its_children(bed: &Bed) {
    for line in ["exec c /probe exit 6", "run --bundle DIR c"] {
        if line.starts_with("exec") {
            start(bed, "c", "block");
        } else {
            write(bed, &config(bed, "exit 6"));
        }
        let mut command = bed.oci_command(&bed.expand(line));
        sys::ignore_children(&mut command);
        bed.finish(command).code(6);
        bed.oci("delete --force c").ok();
    }
    // Hooks are children, too.
    let mut config = config(bed, "exit 0");
    config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 0"] }] });
    write(bed, &config);
    let mut command = bed.oci_command(&bed.expand("create --bundle DIR c"));
    sys::ignore_children(&mut command);
    bed.spawn_command(command).wait().ok();
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn exec_that_fails(bed: &Bed) {
    start(bed, "c", "block");
    bed.oci("exec c /none").fails(255, &["/none", "No such file"]);
    bed.oci("exec c none").fails(255, &["none"]);
    bed.oci("exec c /etc/passwd").fails(255, &["/etc/passwd", "Permission denied"]);
    bed.oci("exec c /etc").fails(255, &["/etc", "Permission denied", "directory"]);
    bed.oci("exec --cwd /none c /probe").fails(255, &["/none"]);
    bed.oci("exec c").fails(255, &["process"]);
    bed.oci("exec none /probe").fails(255, &["does not exist"]);
    // CVE-2024-21626
    for number in 3..32 {
        bed.oci(&format!("exec --cwd /proc/self/fd/{number} c /probe cwd")).fails(255, &["fd"]);
    }
    bed.oci("delete --force c").ok();
}

fn exec_in_the_background(bed: &Bed) {
    become_subreaper();
    start(bed, "c", "block");
    bed.oci_detached("exec -d --pid-file DIR/pid c /probe wait-file /go , exit 4").ok();
    let pid = pid(bed);
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a process").contains("probe"));
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(reap(pid), WaitStatus::Exited(Pid::from_raw(pid as i32), 4));
    bed.oci("delete --force c").ok();
}

fn exec_in_a_container_that_waits(bed: &Bed) {
    super::oci::create(bed, "c", "block");
    let said = bed.oci("exec c /probe ns").ok();
    let ours = fs::read_link("/proc/self/ns/mnt").expect("a namespace").display().to_string();
    assert!(said.contains("mnt ") && !said.contains(ours.trim_matches(|c: char| !c.is_ascii_digit())), "{said}");
    bed.oci("start c").ok();
    bed.oci("delete --force c").ok();
}

/// SECURITY: CVE-2024-21626, and runc #5474.
fn only_what_is_asked_for_is_passed_on(bed: &Bed) {
    write(bed, &config(bed, "fds"));
    let file = fs::File::open(bed.dir.join("config.json")).expect("a file");
    let line = |line: &str| {
        let mut command = bed.oci_command(&bed.expand(line));
        let fd = file.as_raw_fd();
        crate::sys::give(&mut command, &[(fd, 3), (fd, 4), (fd, 9)]);
        bed.finish(command)
    };
    let fds = |said: String| {
        let numbers = said.lines().filter_map(|line| line.strip_prefix("fd ")?.split(' ').next().map(String::from));
        numbers.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fds(line("run --bundle DIR c").ok()), "0 1 2");
    let said = line("run --bundle DIR --preserve-fds 2 c").ok();
    assert_eq!(fds(said.clone()), "0 1 2 3 4");
    assert!(said.contains("fd 3 ") && said.contains("config.json"), "{said}");
    line("run --bundle DIR --preserve-fds 3 c").fails(1, &["--preserve-fds", "5"]);
    bed.oci("run --bundle DIR --preserve-fds 3 c").fails(1, &["--preserve-fds", "3"]);
    bed.oci("create --bundle DIR --preserve-fds 1 c").fails(1, &["--preserve-fds", "3"]);
    bed.is_clean();
    start(bed, "c", "block");
    assert_eq!(fds(line("exec c /probe fds").ok()), "0 1 2");
    assert_eq!(fds(line("exec --preserve-fds 2 c /probe fds").ok()), "0 1 2 3 4");
    bed.oci("exec --preserve-fds 1 c /probe fds").fails(255, &["--preserve-fds"]);
    bed.oci("delete --force c").ok();
}

/// sd_listen_fds(3).
fn sockets_of_a_service_manager(bed: &Bed) {
    write(bed, &config(bed, "fds , env , block"));
    let run = |pid: &str, options: &str| {
        let oci = bed.oci_command(&bed.expand(&format!("run --bundle DIR {options} c")));
        let mut command = Command::new("sh");
        let script = format!("exec 3<DIR/config.json 4<DIR/config.json; LISTEN_PID={pid} LISTEN_FDS=1 exec \"$@\"");
        command.args(["-c", &script.replace("DIR", &bed.dir.display().to_string()), "sh"]);
        command.arg(oci.get_program()).args(oci.get_args());
        bed.spawn_command(command).wait().ok()
    };
    let said = run("$$", "-d");
    bed.until("its output", || fs::read_to_string(bed.dir.join("spawned/0")).is_ok_and(|said| said.contains("HOME=")));
    let said = said + &fs::read_to_string(bed.dir.join("spawned/0")).expect("output");
    assert!(said.contains("LISTEN_FDS=1") && said.contains("LISTEN_PID=1"), "{said}");
    assert!(said.contains("fd 3 ") && !said.contains("fd 4 "), "{said}");
    let said = bed.oci("exec c /probe env").ok();
    assert!(!said.contains("LISTEN"), "{said}");
    bed.oci("delete --force c").ok();
    write(bed, &config(bed, "fds , env"));
    let said = run("$$", "--preserve-fds 1");
    assert!(said.contains("LISTEN_FDS=1") && said.contains("fd 4 "), "{said}");
    // Meant for another process.
    let said = run("1", "");
    assert!(!said.contains("LISTEN") && !said.contains("fd 3 "), "{said}");
    bed.is_clean();
}

fn cve_2022_29162_nothing_is_inheritable(bed: &Bed) {
    let mut config = config(bed, "status , block");
    let all = json!(["CAP_KILL", "CAP_CHOWN"]);
    config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    config["process"]["args"] = json!(["/probe", "status"]);
    write(bed, &config);
    let careless = |line: &str| {
        let mut command = bed.oci_command(&bed.expand(line));
        crate::sys::be_careless(&mut command);
        command.process_group(0);
        bed.finish(command).ok()
    };
    let clean = |said: String| {
        assert!(said.contains("CapInh:\t0000000000000000") && said.contains("CapAmb:\t0000000000000000"), "{said}");
        // CVE-2022-36109
        let groups = said.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line").trim().to_string();
        assert!(groups.is_empty() || bed.mode != Mode::Root, "{groups}");
    };
    clean(careless("run --bundle DIR c"));
    start(bed, "c", "block");
    clean(careless("exec c /probe status"));
    bed.oci("delete --force c").ok();
}

/// SECURITY: a program of the image that is whatever executes it.
fn cve_2019_5736_podlet_oci_is_not_to_be_had(bed: &Bed) {
    let program = bed.oci_command(&["list"]).get_program().to_owned();
    let before = fs::read(&program).expect("podlet-oci");
    let bait = bed.inside("bait");
    fs::write(&bait, "#!/proc/self/exe\n").expect("a script");
    fs::set_permissions(&bait, fs::Permissions::from_mode(0o755)).expect("mode");
    let mut itself = config(bed, "");
    itself["process"]["args"] = json!(["/bait"]);
    write(bed, &itself);
    bed.oci("run --bundle DIR c");
    bed.is_clean();
    start(bed, "c", "block");
    for _ in 0..bed.rounds(20).max(1) {
        let said = bed.oci("exec c /bait");
        assert!(!said.out.contains("podlet") && !said.out.contains("Usage"), "{}", said.out);
        // Busy or forbidden: what is executed here is the image's own.
        let said = bed.oci("exec c /probe touch-rw /proc/1/exe , touch-rw /proc/self/exe").ok();
        assert!(said.lines().all(|line| line.ends_with("errno 26") || line.ends_with("errno 13")), "{said}");
    }
    bed.oci("delete --force c").ok();
    assert!(fs::read(&program).expect("podlet-oci") == before, "podlet-oci has changed");
}
