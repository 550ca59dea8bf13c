//! Standard streams: which users may open them anew, what becomes of them without
//! a reader, and keys on a terminal.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use super::commands::{detached, of_container};
use super::oci_terminal::{await_words, terminal};
use crate::bed::{Bed, Said};
use crate::modes::Mode;
use crate::{leaks, sys};

crate::tests![
    the_containers_user_can_open_dev_stdout,
    a_file_of_the_callers_stays_as_it_is,
    a_follower_ends_when_its_reader_has_gone,
    events_end_when_their_reader_has_gone,
    what_opens_dev_stdout_takes_nothing_from_the_log,
    what_cannot_be_printed_is_said,
    a_note_that_cannot_be_said_ends_nothing,
    exec_out_of_time_ends_with_all_it_started,
    exec_in_time_is_left_alone,
    a_third_ctrl_c_ends_what_ignores_the_others,
];

/// Root, and another user where there is one.
pub(super) fn users(bed: &Bed) -> &'static [&'static str] {
    if bed.mode.has_ids() { &["0", "web"] } else { &["0"] }
}

fn the_containers_user_can_open_dev_stdout(bed: &Bed) {
    const BOTH: &str = "/probe write /dev/stdout one , write /dev/stderr two";
    let both = |said: Said| {
        let said = said.code(0);
        assert!(said.out.contains("one") && said.out.contains("write /dev/stderr: ok"), "{}", said.out);
        assert!(said.err.contains("two"), "{}", said.err);
    };
    bed.podlet("create web").ok();
    for user in users(bed) {
        // A program that may do nothing else, too.
        for options in ["", "--cap-drop ALL"] {
            both(bed.podlet(&format!("run --rm -u {user} {options} --rootfs ROOT {BOTH}")));
        }
        let mut command = bed.command(&bed.expand(&format!("run --rm -u {user} --rootfs ROOT /probe read /dev/stdin")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("podlet");
        child.stdin.take().expect("a pipe").write_all(b"given").expect("a reader");
        let output = child.wait_with_output().expect("an end");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "given\n");

        // In the log.
        let name = format!("of-{user}");
        bed.podlet(&format!(
            "run -d --pod web --name {name} -u {user} --rootfs ROOT {BOTH} , echo , echo done , block"
        ))
        .ok();
        let opened = |last: &str| {
            bed.await_log(&format!("web/{name}"), last);
            let log = bed.podlet(&format!("logs web/{name}")).ok();
            assert!(log.contains("write /dev/stderr: ok") && !log.contains("errno"), "{log}");
        };
        opened("done");
        both(bed.podlet(&format!("exec web/{name} {BOTH}")));
        bed.podlet(&format!("exec -d web/{name} {BOTH} , echo , echo again")).ok();
        opened("again");
        // A log that is there already.
        bed.podlet(&format!("restart -t 0 web/{name}")).ok();
        opened("done");
        // The machine's other users cannot come by.
        let log = bed.state().join("web/containers").join(&name).join("k8s.log");
        assert!(log.exists());
        let dirs = log.ancestors().skip(1).take_while(|dir| dir.starts_with(bed.state()));
        let closed = |dir: &std::path::Path| fs::metadata(dir).expect("a directory").mode() & 0o77 == 0;
        assert!(dirs.collect::<Vec<_>>().into_iter().any(closed), "{}", log.display());
    }
    for user in users(bed).iter().skip(1) {
        both(bed.podlet(&format!("exec -u {user} web/of-0 {BOTH}")));
    }
    if bed.mode == Mode::Root {
        a_pipe_of_another_user(bed);
    }
}

/// As with `sudo podlet ... | less`.
fn a_pipe_of_another_user(bed: &Bed) {
    const SOMEBODY: u32 = 4711;
    let (reader, writer) = sys::as_user(SOMEBODY, || std::io::pipe().expect("a pipe"));
    let writer = File::from(std::os::fd::OwnedFd::from(writer));
    assert_eq!(writer.metadata().expect("a pipe").uid(), SOMEBODY);
    let line = "run --rm --cap-drop ALL --rootfs ROOT /probe write /dev/stdout one";
    let mut command = bed.command(&bed.expand(line));
    command.stdout(writer.try_clone().expect("dup"));
    let status = command.status().expect("podlet");
    drop(command);
    assert_eq!(writer.metadata().expect("a pipe").uid(), SOMEBODY, "it has another owner");
    drop(writer);
    let lines: Vec<_> = BufReader::new(reader).lines().map_while(Result::ok).collect();
    assert!(status.success() && lines == ["onewrite /dev/stdout: ok"], "{status}: {lines:?}");
}

fn a_file_of_the_callers_stays_as_it_is(bed: &Bed) {
    let path = bed.dir.join("out");
    let user = users(bed).last().expect("root");
    for _ in 0..2 {
        let file = File::create(&path).expect("a file");
        let before = file.metadata().expect("a file");
        let line = format!("run --rm -u {user} --rootfs ROOT /probe echo kept");
        let status = bed.command(&bed.expand(&line)).stdout(file).status().expect("podlet");
        assert!(status.success() && fs::read_to_string(&path).expect("a file") == "kept\n");
        let after = fs::metadata(&path).expect("a file");
        assert_eq!((before.uid(), before.gid(), before.mode()), (after.uid(), after.gid(), after.mode()));
        // A pipe with a name, too.
        fs::remove_file(&path).expect("a file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
        let pipe = File::options().read(true).write(true).open(&path).expect("a pipe");
        bed.command(&bed.expand(&line)).stdout(pipe).status().expect("podlet");
        assert_eq!(fs::metadata(&path).expect("a pipe").mode() & 0o777, 0o600);
        fs::remove_file(&path).expect("a pipe");
    }
}

/// Reads a line of what the command prints, goes away, and awaits its end.
fn read_a_line_of(bed: &Bed, mut command: Command) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a command");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    assert!(!line.is_empty());
    drop(out);
    await_end(bed, &mut child, "the end of who has no reader", |code| assert_eq!(code, Some(0)));
}

pub(super) fn await_end(bed: &Bed, child: &mut Child, what: &str, judge: impl FnOnce(Option<i32>)) {
    let mut ended = None;
    let end = std::panic::AssertUnwindSafe(|| {
        bed.until(what, || {
            ended = child.try_wait().expect("a child");
            ended.is_some()
        });
    });
    if let Err(panic) = std::panic::catch_unwind(end) {
        child.kill().ok();
        child.wait().ok();
        std::panic::resume_unwind(panic);
    }
    judge(ended.and_then(|status| status.code()));
}

fn a_follower_ends_when_its_reader_has_gone(bed: &Bed) {
    bed.podlet("create web").ok();
    // Of a container that says nothing more, and of one that goes on and on.
    detached(bed, "quiet", "");
    bed.podlet("run --pod web -d --name busy --rootfs ROOT /probe bg lines 100000000 , block").ok();
    for name in ["quiet", "busy"] {
        read_a_line_of(bed, bed.command(&["logs", "-f", &format!("web/{name}")]));
    }
    bed.podlet("rm -f web").ok();
}

fn events_end_when_their_reader_has_gone(bed: &Bed) {
    if bed.mode.has_cgroups() {
        super::oci::start(bed, "c", "block");
        read_a_line_of(bed, bed.oci_command(&["events", "--interval", "1h", "c"]));
        bed.oci("delete --force c").ok();
    }
}

fn what_opens_dev_stdout_takes_nothing_from_the_log(bed: &Bed) {
    let script = "lines 100 , echo up , wait-file /go , write /dev/stdout anew , echo , echo more";
    bed.podlet("create web").ok();
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe {script} , block")).ok();
    let follower = bed.spawn("logs -f web/a");
    follower.await_line(bed, "up");
    fs::write(bed.inside("go"), "").expect("a file");
    follower.await_line(bed, "more");
    bed.podlet("kill web/a").ok();
    let said = follower.wait().ok();
    assert!(said.lines().any(|line| line.starts_with("anew")));
    assert_eq!(bed.podlet("logs web/a").ok(), said, "all of it is there still");
    assert_eq!(said.lines().count(), 104);
}

fn to_full(bed: &Bed, mut command: Command) -> Said {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = command.stdout(full()).output().expect("a command");
    println!("$ {command:?} >/dev/full\n  {output:?}");
    let _ = bed;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Said { command: format!("{command:?} >/dev/full"), status: output.status, out: String::new(), err }
}

fn what_cannot_be_printed_is_said(bed: &Bed) {
    let full = |line: &str| to_full(bed, bed.command(&bed.expand(line)));
    full("create web").fails(125, &["pod web is made", "name could not be printed", "No space left"]);
    full("run -d --pod web --name a --rootfs ROOT /probe echo up , wait-file /go , exit 3")
        .fails(125, &["container web/a runs", "name could not be printed", "No space left"]);
    bed.await_log("web/a", "up");
    assert_eq!(bed.inspect("web/a")["state"], "running");
    for line in ["ps", "ps -q", "ps --format json", "inspect web", "inspect -f {{.Name}} web", "logs web/a"] {
        full(line).fails(125, &["writing to standard output", "No space left"]);
    }
    for line in ["plan --rootfs ROOT /probe", "--help", "run --help", "--version"] {
        full(line).fails(125, &["writing to standard output", "No space left"]);
    }
    fs::write(bed.inside("go"), "").expect("a file");
    full("wait web/a").fails(125, &["writing to standard output", "No space left"]);
    assert_eq!(bed.podlet("wait web/a").ok(), "3\n");
    for line in ["list", "features", "--help"] {
        to_full(bed, bed.oci_command(&bed.expand(line))).fails(1, &["writing to standard output", "No space left"]);
    }
}

/// Where there is no cgroup podlet says so, once a pod.
fn a_note_that_cannot_be_said_ends_nothing(bed: &Bed) {
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut command = bed.command(&bed.expand("run -d --name web --rootfs ROOT /probe block"));
    let output = command.stderr(full).output().expect("podlet");
    assert!(output.status.success() && output.stdout == b"web\n", "{output:?}");
    assert_eq!(bed.inspect("web")["state"], "running");
}

/// Cgroups of execs that are left below a pod's.
fn cgroups_of_execs(pid: u32) -> Vec<String> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup v2");
    let tree = leaks::tree(&crate::modes::hierarchy().expect("cgroup v2").join(own.trim_start_matches('/')));
    tree.into_iter().filter(|path| path.contains("/exec-") && path.ends_with("cgroup.procs")).collect()
}

fn exec_out_of_time_ends_with_all_it_started(bed: &Bed) {
    bed.podlet("create web").ok();
    let main = detached(bed, "a", "");
    let other = detached(bed, "b", "");
    let alone = of_container(main);
    // Where there is a cgroup not even a daemon can hide.
    let daemon = if bed.mode.has_cgroups() { "orphan block ," } else { "" };
    let started = format!("bg ignore TERM , bg block , {daemon} echo up");
    for (script, after) in [
        (format!("{started} , ignore TERM , block"), 0),
        // It goes by itself, and leaves the others.
        (format!("trap TERM 9 , {started} , block"), 600),
    ] {
        let exec = bed.spawn(&format!("exec --timeout 1 --kill-after {after} web/a /probe {script}"));
        exec.await_line(bed, "up");
        assert!(of_container(main).len() > alone.len());
        exec.wait().fails(124, &["web/a", "1 s"]);
        assert_eq!(of_container(main), alone, "what it had started is gone, and nothing else");
    }
    if bed.mode.has_cgroups() {
        assert_eq!(cgroups_of_execs(main), [""; 0]);
    }
    assert_eq!((bed.pid_of("web/a"), bed.pid_of("web/b")), (main, other));
    bed.podlet("exec -d --timeout 1 web/a /probe exit 0").fails(125, &["--timeout", "--detach"]);
    bed.podlet("exec --kill-after 1 web/a /probe exit 0").fails(125, &["--timeout"]);
}

fn exec_in_time_is_left_alone(bed: &Bed) {
    bed.podlet("create web").ok();
    let main = detached(bed, "a", "");
    bed.podlet("exec --timeout 600 web/a /probe exit 5").code(5);
    bed.podlet("exec --timeout 600 web/a /none").fails(127, &["/none"]);
    if bed.mode.has_cgroups() {
        assert_eq!(cgroups_of_execs(main), [""; 0]);
    }
    // A signal is passed on as ever, and what goes on in the background does.
    let exec = bed.spawn("exec --timeout 600 web/a /probe bg block , trap TERM 9 , echo up , block");
    exec.await_line(bed, "up");
    exec.signal(nix::sys::signal::Signal::SIGTERM);
    exec.wait().code(9);
    assert_eq!(of_container(main).len(), 2, "its main process, and what the exec left behind");
    bed.podlet("restart -t 0 web/a").ok();
    bed.podlet("exec --timeout 600 web/a /probe exit 6").code(6);
}

/// In a session of its own, on this terminal.
pub(super) fn on_terminal(bed: &Bed, theirs: &std::os::fd::OwnedFd, line: &str) -> Child {
    on_terminal_args(bed, theirs, &bed.expand(line))
}

/// As [`on_terminal`], of words that may have blanks.
pub(super) fn on_terminal_args(bed: &Bed, theirs: &std::os::fd::OwnedFd, args: &[String]) -> Child {
    let stream = || theirs.try_clone().expect("dup");
    let podlet = bed.command(args);
    let mut command = Command::new("setsid");
    command.arg("-c").arg(podlet.get_program()).args(podlet.get_args());
    command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("setsid of util-linux")
}

fn a_third_ctrl_c_ends_what_ignores_the_others(bed: &Bed) {
    bed.podlet("create web").ok();
    let main = detached(bed, "a", "");
    let script = "ignore INT , bg block , echo up , block";
    for line in [
        format!("run --rm --name fore --rootfs ROOT /probe {script}"),
        format!("run --rm --name fore --pod web --rootfs ROOT /probe {script}"),
        format!("exec web/a /probe {script}"),
    ] {
        let (mut ours, theirs) = terminal(24, 80);
        let mut child = on_terminal(bed, &theirs, &line);
        drop(theirs);
        // Said to a user that seems to be stuck.
        await_words(bed, &mut ours, "Ctrl-C three times kills it");
        let mut said = String::new();
        let mut ours_again = ours.try_clone().expect("dup");
        bed.until("an end by Ctrl-C", || {
            // A Ctrl-C that comes too soon after another is the same one.
            ours_again.write_all(b"\x03").ok();
            if sys::is_readable(&ours) {
                let mut bytes = [0; 4096];
                let count = std::io::Read::read(&mut ours, &mut bytes).unwrap_or(0);
                said.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            said.contains("times Ctrl-C")
        });
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(137), "{said}"));
        assert!(said.contains("once more Ctrl-C kills it") && said.contains("killing"), "{said}");
        assert_eq!(of_container(main).len(), 1, "all of it is gone");
    }
    // Not where signals come from another program: that knows what it does.
    let run = bed.spawn(&format!("run --rm --name fore --rootfs ROOT /probe {script}"));
    run.await_line(bed, "up");
    for _ in 0..4 {
        run.signal(nix::sys::signal::Signal::SIGINT);
        bed.podlet("exec fore /probe exit 0").ok();
    }
    bed.podlet("kill fore").ok();
    run.wait().code(137);
}
