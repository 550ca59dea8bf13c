//! `-it`: a shell on a real terminal, as a user has it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;

use super::config;
use super::oci_terminal::{await_words, terminal};
use super::streams::{await_end, on_terminal, on_terminal_args};
use crate::bed::Bed;
use crate::sys;

crate::tests![
    a_shell_has_job_control_and_the_size_of_the_window,
    keys_mean_nothing_to_a_terminal_in_raw_mode,
    the_callers_terminal_is_as_it_was_whatever_ends_podlet,
    stopped_and_continued_it_goes_on,
    a_terminal_without_input,
    an_input_that_is_no_terminal,
    more_than_a_terminal_holds_in_both_directions,
    a_terminal_that_is_closed_can_be_opened_again,
    what_a_terminal_can_do_is_said_once,
    a_bundles_terminal_is_asked_for_by_an_option,
    a_plan_shows_the_terminal,
];

/// `run` and `exec`, with the same options.
const WAYS: [&str; 2] = ["run --rm OPTIONS host CMD", "exec OPTIONS web/a CMD"];

fn ways(bed: &Bed, options: &str, command: &str) -> impl Iterator<Item = String> {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a host sleep 1000").ok();
    WAYS.map(|way| way.replace("OPTIONS", options).replace("CMD", command)).into_iter()
}

/// The settings of a terminal, in words.
pub(super) fn settings(terminal: &File) -> String {
    let Termios { input_flags, output_flags, control_flags, local_flags, control_chars, .. } =
        tcgetattr(terminal).expect("a terminal");
    // The kernel knows so many; musl has room for more, and leaves that as it was.
    let known = &control_chars[..19];
    format!("{input_flags:?} {output_flags:?} {control_flags:?} {local_flags:?} {known:?}")
}

fn typed(terminal: &mut File, keys: &str) {
    terminal.write_all(keys.as_bytes()).expect("keys");
}

fn a_shell_has_job_control_and_the_size_of_the_window(bed: &Bed) {
    for line in ways(bed, "-it -e PS1=next: -e ENV=", "sh -i") {
        let (mut ours, theirs) = terminal(33, 99);
        let before = settings(&ours);
        let mut child = on_terminal(bed, &theirs, &line);
        await_words(bed, &mut ours, "next:");
        typed(&mut ours, "tty; stty size; echo term $TERM\r");
        let seen = await_words(bed, &mut ours, "term xterm\r\n");
        assert!(seen.contains("/dev/pts/") && seen.contains("33 99"), "{seen}");
        // The kernel tells podlet, as it is in the foreground there.
        sys::resize(&ours, 44, 111);
        typed(&mut ours, "until stty size | grep 44.111; do :; done; echo re''sized\r");
        await_words(bed, &mut ours, "resized\r\n");
        // Job control.
        typed(&mut ours, "sh -c 'echo be''gun; exec sleep 1000'\r");
        await_words(bed, &mut ours, "begun\r\n");
        typed(&mut ours, "\x1a");
        await_words(bed, &mut ours, "next:");
        typed(&mut ours, "jobs; echo lis''ted\r");
        let seen = await_words(bed, &mut ours, "listed\r\n");
        assert!(seen.contains("Stopped"), "{seen}");
        typed(&mut ours, "fg && :\r");
        await_words(bed, &mut ours, "sleep 1000");
        typed(&mut ours, "\x03");
        await_words(bed, &mut ours, "next:");
        typed(&mut ours, "echo code $?\r");
        await_words(bed, &mut ours, "code 130\r\n");
        typed(&mut ours, "exit 7\r");
        await_end(bed, &mut child, "the shell's end", |code| assert_eq!(code, Some(7)));
        assert_eq!(settings(&ours), before);
        drop(theirs);
    }
    bed.podlet("rm -f web").ok();
}

/// As a full-screen editor has them.
fn keys_mean_nothing_to_a_terminal_in_raw_mode(bed: &Bed) {
    for line in ways(bed, "-it", "sh -c") {
        let (mut ours, theirs) = terminal(24, 80);
        let mut command = bed.expand(&line);
        command.push("stty raw -echo; echo ready; head -c 5 | od -An -tx1; stty sane; exit 3".into());
        let mut child = on_terminal_args(bed, &theirs, &command);
        await_words(bed, &mut ours, "ready");
        // Ctrl-C, Ctrl-Z, Ctrl-S, Ctrl-D and a return.
        typed(&mut ours, "\x03\x1a\x13\x04\r");
        await_words(bed, &mut ours, "03 1a 13 04 0d");
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(3)));
    }
    bed.podlet("rm -f web").ok();
}

fn the_callers_terminal_is_as_it_was_whatever_ends_podlet(bed: &Bed) {
    for line in ways(bed, "-it", "sh -c") {
        for (script, signal, code) in [
            ("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done", Some(Signal::SIGTERM), 5),
            ("trap 'exit 6' HUP; echo ready; while :; do sleep 0.01; done", Some(Signal::SIGHUP), 6),
            ("echo ready; kill -9 $$", None, 137),
        ] {
            let (mut ours, theirs) = terminal(24, 80);
            let before = settings(&ours);
            let mut command = bed.expand(&line);
            command.push(script.into());
            let mut child = on_terminal_args(bed, &theirs, &command);
            await_words(bed, &mut ours, "ready");
            if let Some(signal) = signal {
                assert_ne!(settings(&ours), before, "raw mode");
                kill(Pid::from_raw(child.id() as i32), signal).expect("kill");
            }
            await_end(bed, &mut child, "its end", |ended| assert_eq!(ended, Some(code)));
            assert_eq!(settings(&ours), before, "{script}");
            drop(theirs);
        }
        // What is not there cannot be started.
        let (ours, theirs) = terminal(24, 80);
        let before = settings(&ours);
        let mut child = on_terminal(bed, &theirs, &line.replace("sh -c", "/none"));
        await_end(bed, &mut child, "a refusal", |code| assert_eq!(code, Some(127)));
        assert_eq!(settings(&ours), before);
        drop(theirs);
    }
    bed.podlet("rm -f web").ok();
}

/// The shell has used the terminal in between.
fn stopped_and_continued_it_goes_on(bed: &Bed) {
    for line in ways(bed, "-it", "sh -c") {
        let (mut ours, theirs) = terminal(24, 80);
        let before = tcgetattr(&theirs).expect("a terminal");
        let mut command = bed.expand(&line);
        command.push("trap '' CONT; echo ready; read word; echo got $word".into());
        let mut child = on_terminal_args(bed, &theirs, &command);
        await_words(bed, &mut ours, "ready");
        let raw = settings(&ours);
        let podlet = Pid::from_raw(child.id() as i32);
        kill(podlet, Signal::SIGSTOP).expect("kill");
        nix::sys::termios::tcsetattr(&theirs, nix::sys::termios::SetArg::TCSANOW, &before).expect("a terminal");
        kill(podlet, Signal::SIGCONT).expect("kill");
        bed.until("raw mode", || settings(&ours) == raw);
        typed(&mut ours, "word\r");
        await_words(bed, &mut ours, "got word\r\n");
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(0)));
    }
    bed.podlet("rm -f web").ok();
}

fn a_terminal_without_input(bed: &Bed) {
    for line in ways(bed, "-t", "sh -c") {
        let (mut ours, theirs) = terminal(33, 99);
        let before = settings(&ours);
        let mut command = bed.expand(&line);
        command.push("trap 'echo interrupted; exit 4' INT; stty size; echo ready; while :; do sleep 0.01; done".into());
        let mut child = on_terminal_args(bed, &theirs, &command);
        let seen = await_words(bed, &mut ours, "ready");
        assert!(seen.contains("33 99") && !seen.contains("\r\r"), "{seen:?}");
        assert_eq!(settings(&ours), before, "no raw mode");
        typed(&mut ours, "\x03");
        await_words(bed, &mut ours, "interrupted");
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(4)));
        drop(theirs);
    }
    bed.podlet("rm -f web").ok();
}

fn an_input_that_is_no_terminal(bed: &Bed) {
    for line in ways(bed, "-it", "cat") {
        for (given, shown) in [("line\n", "line\r\nline\r\n"), ("half", "halfhalf"), ("", "")] {
            let mut command = bed.command(&bed.expand(&line));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("podlet");
            child.stdin.take().expect("a pipe").write_all(given.as_bytes()).expect("a reader");
            let output = child.wait_with_output().expect("an end");
            assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
            assert_eq!(output.status.code(), Some(0));
        }
    }
    bed.podlet("rm -f web").ok();
}

/// Neither a process that does not read, nor one that does nothing but write, keeps
/// the other direction waiting.
fn more_than_a_terminal_holds_in_both_directions(bed: &Bed) {
    for line in ways(bed, "-it", "sh -c") {
        let (mut ours, theirs) = terminal(24, 80);
        let mut command = bed.expand(&line);
        // It writes all before it reads anything.
        command.push(
            "stty raw -echo; echo ready; read word; head -c 300000 /dev/zero | tr '\\0' x; echo written; \
             head -c 300000 | wc -c; stty sane"
                .into(),
        );
        let mut child = on_terminal_args(bed, &theirs, &command);
        await_words(bed, &mut ours, "ready");
        let mut keys = ours.try_clone().expect("dup");
        let typist = std::thread::spawn(move || {
            keys.write_all(b"go\n").expect("keys");
            keys.write_all(&[b'y'; 300_000]).expect("keys");
        });
        let mut seen = 0;
        let mut bytes = [0; 65536];
        let mut last = String::new();
        bed.until("all that was written", || {
            if sys::is_readable(&ours)
                && let Ok(count) = ours.read(&mut bytes)
            {
                seen += bytes[..count].iter().filter(|byte| **byte == b'x').count();
                last.push_str(String::from_utf8_lossy(&bytes[..count]).trim_matches('x'));
            }
            last.contains("300000")
        });
        assert!(seen == 300_000 && last.contains("written"), "{seen}: {last:?}");
        typist.join().expect("a typist");
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(0)));
        drop(theirs);
    }
    bed.podlet("rm -f web").ok();
}

/// As the init of some images does with its console.
fn a_terminal_that_is_closed_can_be_opened_again(bed: &Bed) {
    for line in ways(bed, "-it", "sh -c") {
        let (mut ours, theirs) = terminal(24, 80);
        let mut command = bed.expand(&line);
        command.push(
            "t=$(tty); exec <&- >&- 2>&-; until test -e /tmp/go; do sleep 0.01; done; rm /tmp/go; exec <$t >$t 2>&1; \
             read word; echo again $word"
                .into(),
        );
        let mut child = on_terminal_args(bed, &theirs, &command);
        let target = if line.starts_with("run") { None } else { Some("web/a") };
        let name = || target.map(String::from).or_else(|| running_but(bed, "web"));
        let mut named = None;
        bed.until("the container", || {
            named = name();
            named.is_some()
        });
        bed.podlet(&format!("exec {} touch /tmp/go", named.expect("its name"))).ok();
        typed(&mut ours, "word\r");
        await_words(bed, &mut ours, "again word\r\n");
        await_end(bed, &mut child, "its end", |code| assert_eq!(code, Some(0)));
        drop(theirs);
    }
    bed.podlet("rm -f web").ok();
}

/// The name of the one pod beside `other`, once its container runs.
fn running_but(bed: &Bed, other: &str) -> Option<String> {
    let list = bed.list();
    let pod = list.as_array()?.iter().find(|pod| pod["name"] != other)?;
    (pod["containers"][0]["state"] == "running").then(|| pod["name"].as_str().map(String::from))?
}

fn what_a_terminal_can_do_is_said_once(bed: &Bed) {
    for line in ways(bed, "-t -e TERM=dumb", "env") {
        let out = bed.podlet(&line).ok();
        assert_eq!(out.lines().filter(|line| line.starts_with("TERM=")).collect::<Vec<_>>(), ["TERM=dumb"]);
    }
    bed.podlet("rm -f web").ok();
}

fn a_bundles_terminal_is_asked_for_by_an_option(bed: &Bed) {
    let mut config = config::config(&["/probe", "tty", ",", "exit", "2"]);
    config["process"]["terminal"] = json!(true);
    let devpts = json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"] });
    config["mounts"].as_array_mut().expect("mounts").push(devpts);
    config::write(bed, &config);
    bed.podlet("run --rm --bundle DIR").fails(125, &["process.terminal", "run -t"]);
    let said = bed.podlet("run --rm -t --bundle DIR").code(2);
    assert!(said.out.contains("tty /dev/pts/0"), "{}", said.out);
}

fn a_plan_shows_the_terminal(bed: &Bed) {
    bed.podlet("create web").ok();
    let with = bed.podlet("plan -t host true").ok();
    assert!(with.contains("TIOCGPTPEER") && with.contains("TIOCSCTTY"), "{with}");
    assert!(!bed.podlet("plan host true").ok().contains("TIOCGPTPEER"));
    assert!(bed.podlet("plan -t --pod web host true").ok().contains("TIOCGPTPEER"));
    bed.podlet("rm -f web").ok();
}
