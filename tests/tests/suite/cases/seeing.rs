//! What people look at: `top`, `stats`, and `ps --tree`.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::oci_terminal::{await_words, terminal};
use super::streams::{await_end, on_terminal};
use crate::bed::Bed;

crate::tests![
    top_shows_all_processes_of_a_container_and_no_other,
    top_names_the_parent_that_does_not_wait,
    top_sees_pids_and_users_as_the_container_does,
    top_refuses_what_is_no_column,
    stats_count_what_is_counted_and_nothing_else,
    stats_are_what_prometheus_reads,
    stats_go_on_on_a_terminal,
    a_tree_shows_why_containers_ended,
];

/// Rows by the header's words, each a single one.
fn rows(out: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = out.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|line| header.iter().cloned().zip(line).collect()).collect()
}

fn top(bed: &Bed, target: &str, columns: &str) -> Vec<BTreeMap<String, String>> {
    rows(&bed.podlet(&format!("top {target} {columns}")).ok())
}

fn top_shows_all_processes_of_a_container_and_no_other(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe bg block , echo up , block").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe block").ok();
    bed.await_log("web/a", "up");
    let main = bed.pid_of("web/a").to_string();
    let found = top(bed, "web/a", "hpid hppid pid ppid state comm");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0]["HPID"], &found[0]["PPID"]), (&main, &"1".to_string()));
    assert_eq!((&found[1]["HPPID"], &found[1]["PPID"]), (&main, &found[0]["PID"]));
    assert!(found.iter().all(|row| row["COMMAND"] == "probe" && row["STATE"] == "S"), "{found:?}");
    // What an exec has started is in the container, too.
    let exec = bed.spawn("exec web/b /probe echo up , block");
    exec.await_line(bed, "up");
    assert_eq!(top(bed, "web/b", "pid").len(), 2);
    // Of a pod: all of its containers, which are named then.
    let out = bed.podlet("top web").ok();
    let header: Vec<_> = out.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(header, ["CONTAINER", "USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
    let containers: Vec<_> = out.lines().skip(1).map(|line| line.split_whitespace().next().expect("a name")).collect();
    assert_eq!(containers, ["a", "a", "b", "b"], "pause is none of them");
    assert!(out.contains("/probe echo up , block"), "{out}");
    exec.signal(Signal::SIGKILL);
    exec.wait();
    bed.podlet("kill web").ok();
    bed.podlet("wait web/a").ok();
    bed.podlet("wait web/b").ok();
    bed.podlet("top web/a").fails(125, &["web/a", "is not running"]);
    bed.podlet("top web").fails(125, &["no container of web is running"]);
    bed.podlet("top web/none").fails(125, &["no such", "web/none"]);
}

fn top_names_the_parent_that_does_not_wait(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe bg exit 3 , block").ok();
    let mut found = String::new();
    bed.until("a zombie", || {
        let output = bed.command(&["top", "web", "pid,ppid,state,args"]).output().expect("podlet runs");
        found = String::from_utf8_lossy(&output.stdout).into_owned();
        found.contains("<defunct>")
    });
    let rows = rows(&found);
    assert_eq!((rows.len(), rows[1]["STATE"].as_str()), (2, "Z"), "{found}");
    let said = format!("[probe] <defunct>, {} (probe) does not wait for it", rows[0]["PID"]);
    assert!(found.contains(&said), "{said}: {found}");
}

fn top_sees_pids_and_users_as_the_container_does(bed: &Bed) {
    let user = if bed.mode.has_ids() { "web" } else { "root" };
    bed.podlet("create web --share net,ipc,uts").ok();
    bed.podlet(&format!("run -d --pod web --name a -u {user} --rootfs ROOT /probe block")).ok();
    let found = top(bed, "web/a", "user,group,pid,ppid,hpid,huser,nspid,capeff,seccomp");
    let row = &found[0];
    assert_eq!((row["PID"].as_str(), row["PPID"].as_str(), row["NSPID"].as_str()), ("1", "0", "1"));
    assert_eq!(row["USER"], user);
    assert_eq!(row["GROUP"], if user == "web" { "www" } else { "root" });
    assert_eq!(row["HPID"], bed.pid_of("web/a").to_string());
    let status = std::fs::read_to_string(format!("/proc/{}/status", row["HPID"])).expect("its status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).expect("a line");
    let uid = uid.split('\t').next().expect("an id");
    let passwd = std::fs::read_to_string("/etc/passwd").expect("the machine's");
    let name = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line.get(2) == Some(&uid));
    assert_eq!(row["HUSER"], name.map_or(uid, |line| line[0]));
}

fn top_refuses_what_is_no_column(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    bed.podlet("top web pid,frob").fails(125, &["\"frob\"", "there is args", "podlet exec"]);
    bed.podlet("top web -ef").fails(125, &["no option -e", "ps(1)"]);
    bed.podlet("top").fails(125, &["TARGET"]);
    // What the program calls itself does nothing to a terminal.
    bed.podlet_args(&[
        "run",
        "-d",
        "--name",
        "odd",
        "--rootfs",
        &bed.rootfs().display().to_string(),
        "/probe",
        "echo",
        "\x1b[31m",
        ",",
        "block",
    ])
    .ok();
    let shown = bed.podlet("top odd args").ok();
    assert!(!shown.contains('\x1b') && shown.contains("[31m"), "{shown:?}");
}

fn stats(bed: &Bed, line: &str) -> (Vec<Value>, String) {
    let said = bed.podlet(&format!("stats --format json {line}")).code(0);
    (serde_json::from_str(&said.out).expect("JSON"), said.err)
}

fn stats_count_what_is_counted_and_nothing_else(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe burn").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe exit 0").ok();
    bed.podlet("wait web/b").ok();
    let (found, note) = stats(bed, "");
    assert_eq!(found.len(), 2, "a pod and its container that runs: {found:?}");
    assert_eq!((&found[0]["pod"], &found[0]["container"]), (&"web".into(), &Value::Null));
    assert_eq!((&found[1]["pod"], &found[1]["container"]), (&"web".into(), &"a".into()));
    assert!(found[0]["network"].is_object() && found[1]["network"].is_null(), "the network is the pod's: {found:?}");
    let usage = |found: &[Value]| found[1]["cpu_usec"].as_u64();
    if bed.mode.has_cgroups() {
        let first = usage(&found).expect("it is counted");
        bed.until("what it burns", || usage(&stats(bed, "web").0).is_some_and(|now| now > first));
        // What counts the kernel's files say, and nothing else.
        let cgroup = bed.inspect("web/a")["usage"].clone();
        assert_eq!(cgroup["memory"].is_null(), found[1]["memory_bytes"].is_null(), "{found:?}");
        assert_eq!(cgroup["pids"].is_null(), found[1]["pids"].is_null(), "{found:?}");
        assert_eq!(found[1]["memory_bytes"].is_null(), note.contains("not counted here: memory"), "{note}");
    } else {
        assert_eq!(usage(&found), None);
        assert!(note.contains("no cgroups here"), "{note}");
    }
    let table = bed.podlet("stats --no-stream web/a").ok();
    assert_eq!(table.lines().count(), 2, "{table}");
    // It ended before; only --all has it, and it has no numbers.
    let (all, _) = stats(bed, "--all");
    let ended = all.iter().find(|row| row["container"] == "b").expect("b");
    assert!(ended["age_seconds"].is_null() && ended["pids"].is_null(), "{ended}");
    bed.podlet("stats web/b").fails(125, &["web/b", "is not running"]);
    bed.podlet("stats none").fails(125, &["no such", "none"]);
    bed.podlet("stats --format yaml").fails(125, &["yaml"]);
    bed.podlet("stats -i 0").fails(125, &["--interval", "0"]);
    bed.podlet("kill web/a").ok();
}

fn stats_are_what_prometheus_reads(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    let text = bed.podlet("stats --format prometheus").ok();
    let mut metric = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            metric = rest.split(' ').next().expect("a name");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                [format!("{metric} counter"), format!("{metric} gauge")].iter().any(|known| known == rest),
                "{line}"
            );
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert!(name.starts_with(&format!("{metric}{{pod=\"web\"")), "{line} below {metric}");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }
    for line in
        ["podlet_pod_running_seconds{pod=\"web\"} ", "podlet_container_running_seconds{pod=\"web\",container=\"web\"} "]
    {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    assert_eq!(text.contains("podlet_container_cpu_seconds_total{"), bed.mode.has_cgroups(), "{text}");
}

fn stats_go_on_on_a_terminal(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    let (mut ours, theirs) = terminal(30, 120);
    let mut child = on_terminal(bed, &theirs, "stats -i 1");
    // The second look comes by itself, over the first.
    let seen = await_words(bed, &mut ours, "PRESSURE");
    assert!(seen.contains("\x1b[2J"), "{seen:?}");
    let seen = await_words(bed, &mut ours, "PRESSURE");
    assert!(!seen.contains("\x1b[2J") && seen.contains("\x1b[H"), "{seen:?}");
    std::io::Write::write_all(&mut ours, b"\x03").expect("a key");
    await_end(bed, &mut child, "the end of stats", |code| assert_eq!(code, Some(0)));
    // Once is enough where it is asked for.
    let mut child = on_terminal(bed, &theirs, "stats --no-stream");
    await_words(bed, &mut ours, "PRESSURE");
    await_end(bed, &mut child, "the end of stats", |code| assert_eq!(code, Some(0)));
}

fn a_tree_shows_why_containers_ended(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name runs --rootfs ROOT /probe block").ok();
    bed.podlet("run --pod web --name code --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("run --pod web --name signal --rootfs ROOT /probe kill-self SEGV").code(139);
    bed.podlet("create empty").ok();
    let pid = bed.pid_of("web/runs").to_string();
    let out = bed.podlet("ps -a --tree").ok();
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].contains("EXIT"), "{out}");
    let has = |at: usize, words: &[&str]| {
        let mut rest = lines[at];
        for word in words {
            rest = rest.split_once(word).unwrap_or_else(|| panic!("{word:?} in {}: {out}", lines[at])).1;
        }
    };
    has(1, &["empty", "running", "-"]);
    has(2, &["web", "running"]);
    has(3, &["├─ code", "-", "exited", "code 3, ", " ago", "/probe exit 3"]);
    has(4, &["├─ runs", &pid, "running", "-", "/probe block"]);
    has(5, &["└─ signal", "-", "exited", "SIGSEGV", ", ", " ago"]);
    assert_eq!(lines.len(), 6);
    // Without --all the last branch is another one.
    let out = bed.podlet("ps --tree --filter name=web").ok();
    assert!(out.contains("└─ runs") && out.lines().count() == 3, "{out}");
    bed.podlet("ps --tree -q").fails(125, &["--tree", "--quiet"]);
    bed.podlet("ps --tree --format json").fails(125, &["--tree", "json"]);
}
