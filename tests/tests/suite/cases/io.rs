//! Pipes and terminals that the library gives to a process, of a pod's start or
//! exec.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use pod::{
    ContainerSpec, Error, ExecSpec, Io, Namespace, Pod, PodOptions, Process, Root, Stdio, TerminalOptions, WindowSize,
};

use super::oci_terminal::await_words;
use super::streams::users;
use crate::bed::Bed;
use crate::leaks;

crate::tests![
    a_task_talks_with_a_process,
    pipes_carry_more_than_they_hold,
    an_input_that_is_dropped_has_ended,
    a_pipe_can_be_opened_anew,
    a_terminal_is_the_processs_own,
    keys_sizes_and_the_end_reach_who_is_on_the_terminal,
    newlines_come_out_as_asked_for,
    a_container_started_again_has_another_terminal,
    a_terminal_with_the_machines_files,
    streams_that_cannot_be,
    a_start_that_fails_takes_its_streams_along,
];

pub(super) const SIZE: WindowSize = WindowSize { rows: 33, columns: 99 };

fn create(bed: &Bed, name: &str) -> Pod {
    Pod::create(&bed.store(), PodOptions::new(name)).expect("a pod")
}

/// Pods whose containers share the pid namespace, and each have their own.
fn pods(bed: &Bed) -> [Pod; 2] {
    let mut apart = PodOptions::new("apart");
    apart.share.remove(&Namespace::Pid);
    [create(bed, "web"), Pod::create(&bed.store(), apart).expect("a pod")]
}

fn command(script: &str, user: &str) -> ExecSpec {
    ExecSpec::new(std::iter::once("/probe").chain(script.split_whitespace())).user(user)
}

/// A start and an exec of each pod, by each user: with what the main process of
/// that exec has.
fn all_ways(bed: &Bed, script: &str, io: impl Fn() -> Io, check: impl Fn(&str, Process)) {
    for pod in pods(bed) {
        pod.run(&bed.container("main", "block"), Io::log()).expect("a container");
        for user in users(bed) {
            let container = bed.container("a", script).user(*user);
            let process = pod.run(&container, io()).expect("a start");
            check(user, process);
            pod.container("a").expect("the container").remove().expect("a removal");
            let process =
                pod.container("main").expect("the container").exec(&command(script, user), io()).expect("an exec");
            check(user, process);
        }
    }
}

#[track_caller]
fn ends_with(process: &Process, code: u8) {
    assert_eq!(process.wait().expect("an end").shell_code(), code);
}

pub(super) fn all_of(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end of file");
    println!("{text}");
    text
}

fn pipes_carry_more_than_they_hold(bed: &Bed) {
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let io = || Io::piped().into();
    all_ways(bed, "cat", io, |_, mut process| {
        let (mut stdin, mut stdout) = process.stdin.take().zip(process.stdout.take()).expect("pipes");
        let received = std::thread::scope(|scope| {
            let sent = &sent;
            scope.spawn(move || stdin.write_all(sent).expect("a reader"));
            let mut received = Vec::new();
            stdout.read_to_end(&mut received).expect("an end of file");
            received
        });
        assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
        assert_eq!(all_of(&mut process.stderr.take().expect("a pipe")), "");
        assert!(process.terminal.is_none());
        ends_with(&process, 0);
    });
}

fn an_input_that_is_dropped_has_ended(bed: &Bed) {
    let io = || Io::null().stdin(Stdio::Piped).stdout(Stdio::Piped).into();
    all_ways(bed, "line , stdin , fds , exit 3", io, |_, mut process| {
        let mut stdin = process.stdin.take().expect("a pipe");
        assert!(process.stderr.is_none());
        stdin.write_all(b"first\nsecond").expect("a reader");
        drop(stdin);
        let said = all_of(process.stdout.as_mut().expect("a pipe"));
        assert!(said.starts_with("line \"first\"\n"), "{said}");
        assert!(said.contains("fd 0 pipe:") && said.contains("fd 2 /dev/null") && !said.contains("fd 3"), "{said}");
        ends_with(&process, 3);
    });
    // It goes with the handle, too.
    let pod = create(bed, "more");
    drop(pod.run(&bed.container("a", "cat"), Io::null().stdin(Stdio::Piped)).expect("a start"));
    ends_with(&pod.container("a").expect("the container").process().expect("a handle"), 0);
}

fn a_pipe_can_be_opened_anew(bed: &Bed) {
    let io = || Io::null().stdout(Stdio::Piped).stderr(Stdio::Piped).into();
    all_ways(bed, "write /dev/stdout one , write /dev/stderr two", io, |user, mut process| {
        let said = all_of(process.stdout.as_mut().expect("a pipe"));
        assert!(said.contains("one") && said.contains("write /dev/stderr: ok"), "{user}: {said}");
        assert_eq!(all_of(process.stderr.as_mut().expect("a pipe")), "two", "{user}");
        ends_with(&process, 0);
    });
}

/// All that comes until the process has ended.
fn end_of(process: &mut Process, code: u8) -> String {
    let said = all_of(process.terminal.as_mut().expect("a terminal"));
    ends_with(process, code);
    said
}

fn a_terminal_is_the_processs_own(bed: &Bed) {
    const SCRIPT: &str = "tty , session , isatty , fds , write /dev/tty here , stat /dev/pts/0 , write /dev/stdout anew , \
                          stat /dev/console , ls /dev/pts , exit 4";
    all_ways(
        bed,
        SCRIPT,
        || Io::terminal(SIZE),
        |user, mut process| {
            assert!(process.stdin.is_none() && process.stdout.is_none() && process.stderr.is_none());
            let is_exec = process.name() == "main";
            let said = end_of(&mut process, 4);
            let owner = if user == "0" { "0" } else { "33" };
            let node = match bed.mode.has_ids() {
                true => format!("stat /dev/pts/0: char 620 {owner}:5 "),
                false => format!("stat /dev/pts/0: char 620 {owner}:0 "),
            };
            // Only a container's own is its console.
            let console = if is_exec { "stat /dev/console: errno 2" } else { "stat /dev/console: char" };
            for words in
                ["tty /dev/pts/0 33x99\r\n", "tty true", "isatty true true true", "here", "anew", &node, console]
            {
                assert!(said.contains(words), "{words:?} is missing for {user}: {said}");
            }
            assert!(said.contains("fd 2 /dev/pts/0") && !said.contains("fd 3"), "{said}");
            assert!(said.contains("ls /dev/pts: 0 ptmx"), "no other: {said}");
        },
    );
}

fn keys_sizes_and_the_end_reach_who_is_on_the_terminal(bed: &Bed) {
    let reach = |script: &str, code: u8, act: &dyn Fn(&mut Process)| {
        all_ways(
            bed,
            &format!("{script} , echo ready , block"),
            || Io::terminal(SIZE),
            |_, mut process| {
                await_words(bed, process.terminal.as_mut().expect("a terminal"), "ready");
                act(&mut process);
                ends_with(&process, code);
            },
        );
    };
    let write = |process: &mut Process, bytes: &[u8]| {
        process.terminal.as_mut().expect("a terminal").write_all(bytes).expect("a reader");
    };
    let resize = |process: &Process, rows, columns| {
        process.terminal.as_ref().expect("a terminal").resize(WindowSize { rows, columns }).expect("a size");
    };
    reach("trap INT 3", 3, &|process| write(process, b"\x03"));
    reach("trap WINCH 5", 5, &|process| resize(process, 44, 111));
    reach("trap HUP 6", 6, &|process| drop(process.terminal.take()));
    // What is typed, an end of input, and the size as it is then.
    let talk = |_: &str, mut process: Process| {
        await_words(bed, process.terminal.as_mut().expect("a terminal"), "ready");
        resize(&process, 12, 34);
        write(&mut process, b"typed\r");
        let terminal = process.terminal.as_mut().expect("a terminal");
        await_words(bed, terminal, "12x34");
        assert_eq!(WindowSize::of(&*terminal), Some(WindowSize { rows: 12, columns: 34 }));
        write(&mut process, b"more\r\x04");
        let said = end_of(&mut process, 7);
        assert!(said.contains(r#"stdin "more\n""#), "{said}");
    };
    all_ways(bed, "echo ready , line , tty , stdin , exit 7", || Io::terminal(SIZE), talk);
    // Who does nothing about the end of a terminal ends, too, but for the first
    // process of a pid namespace.
    let pod = create(bed, "more");
    let mut process = pod.run(&bed.container("a", "echo ready , block"), Io::terminal(SIZE)).expect("a start");
    await_words(bed, process.terminal.as_mut().expect("a terminal"), "ready");
    drop(process.terminal.take());
    ends_with(&process, 128 + Signal::SIGHUP as u8);
}

fn newlines_come_out_as_asked_for(bed: &Bed) {
    let pod = create(bed, "web");
    for (keeps_newlines, expected) in [(false, "one\r\ntwo\r\n"), (true, "one\ntwo\n")] {
        let io = Io::Terminal(TerminalOptions { size: SIZE, keeps_newlines });
        let mut process = pod.run(&bed.container("a", "echo one , echo two"), io).expect("a start");
        assert_eq!(end_of(&mut process, 0), expected);
        pod.container("a").expect("the container").remove().expect("a removal");
    }
}

fn a_container_started_again_has_another_terminal(bed: &Bed) {
    let pod = create(bed, "web");
    pod.run(&bed.container("a", "tty , line , exit 2"), Io::log()).expect("a start").wait().expect("its end");
    for _ in 0..2 {
        let mut process = pod.container("a").expect("the container").start(Io::terminal(SIZE)).expect("a restart");
        await_words(bed, process.terminal.as_mut().expect("a terminal"), "tty /dev/pts/0 33x99");
        // An exec has one of its own beside it.
        let mut exec = pod
            .container("a")
            .expect("the container")
            .exec(&command("tty , exit 3", "0"), Io::terminal(SIZE))
            .expect("an exec");
        assert!(end_of(&mut exec, 3).contains("tty /dev/pts/1 33x99"));
        let mut process = pod
            .container("a")
            .expect("the container")
            .restart(std::time::Duration::ZERO, Io::terminal(SIZE))
            .expect("a restart");
        process.terminal.as_mut().expect("a terminal").write_all(b"typed\r").expect("a reader");
        end_of(&mut process, 2);
        // A handle that has started nothing has none of its streams.
        assert!(pod.container("a").expect("the container").process().expect("a handle").terminal.is_none());
    }
}

fn a_terminal_with_the_machines_files(bed: &Bed) {
    let container = ContainerSpec::new("a", Root::Host).args(["sh", "-c", "test -t 1 && test -c /dev/console && tty"]);
    let pod = create(bed, "web");
    let mut process = pod.run(&container, Io::terminal(SIZE)).expect("a start");
    assert_eq!(end_of(&mut process, 0), "/dev/pts/0\r\n");
}

fn streams_that_cannot_be(bed: &Bed) {
    let pod = create(bed, "web");
    let names = |result: Result<Process, Error>, words: &[&str]| {
        let said = result.map(drop).expect_err("none can be").to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    };
    let mut none = bed.container("a", "block");
    none.mounts.retain(|mount| mount.target != std::path::Path::new("/dev/pts"));
    let without = ["terminal", "devpts", "/dev/pts"];
    names(pod.run(&none, Io::terminal(SIZE)), &without);
    names(pod.run(&none, Io::log().stdin(Stdio::Log)), &["stdin", "log"]);
    assert!(pod.container("a").is_err(), "nothing of it is left");
    let main = pod.run(&none, Io::log()).expect("a start");
    names(pod.container("a").expect("the container").exec(&command("exit 0", "0"), Io::terminal(SIZE)), &without);
    main.kill().expect("a signal");
    main.wait().expect("its end");
    names(pod.container("a").expect("the container").start(Io::terminal(SIZE)), &without);
    // Covered, so that it is found out only when it is made.
    std::fs::create_dir(bed.dir.join("none")).expect("a directory");
    let covered = bed.container("b", "block").bind(bed.dir.join("none"), "/dev/pts", false);
    names(pod.run(&covered, Io::terminal(SIZE)), &["terminal", "ptmx", "devpts"]);
    assert!(pod.container("b").is_err(), "nothing of it is left");
}

fn a_start_that_fails_takes_its_streams_along(bed: &Bed) {
    let pod = create(bed, "web");
    pod.run(&bed.container("main", "block"), Io::log()).expect("a container");
    let before = leaks::descriptors();
    for io in [|| Io::terminal(SIZE), || Io::piped().into()] {
        let failed = pod.run(&bed.container("a", "").args(["/none"]), io());
        assert!(matches!(failed, Err(Error::Exec { .. })), "{failed:?}");
        let failed = pod.container("main").expect("the container").exec(&ExecSpec::new(["/none"]), io());
        assert!(matches!(failed, Err(Error::Exec { .. })), "{failed:?}");
        // Nor does a process that goes with its handle leave any.
        pod.run(&bed.container("a", "exit 0"), io()).expect("a start").wait().expect("its end");
        pod.container("a").expect("the container").remove().expect("a removal");
        assert_eq!(leaks::descriptors(), before);
    }
}

fn a_task_talks_with_a_process(bed: &Bed) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let pod = create(bed, "web");
    let run = |name: &str, script: &str, io: Io| {
        let process = pod.run(&bed.container(name, script), io).expect("a start");
        pod_tokio::Process::new(process).expect("registered")
    };
    runtime.block_on(async {
        // More than a pipe holds, both ways in one thread.
        let mut process = run("pipes", "cat", Io::piped().into());
        let (mut stdin, mut stdout) = process.stdin.take().zip(process.stdout.take()).expect("pipes");
        let sent = vec![7; 1_000_000];
        let mut received = Vec::new();
        let write = async {
            stdin.write_all(&sent).await.expect("a reader");
            drop(stdin);
        };
        let (read, ()) = tokio::join!(stdout.read_to_end(&mut received), write);
        read.expect("an end of file");
        assert!(received == sent, "{} bytes", received.len());
        assert_eq!(process.wait().await.expect("its end").code(), Some(0));

        let mut process = run("terminal", "tty , line , tty , exit 5", Io::terminal(SIZE));
        let mut terminal = process.terminal.take().expect("a terminal");
        terminal.resize(WindowSize { rows: 11, columns: 22 }).expect("another size");
        terminal.write_all(b"typed\r").await.expect("a reader");
        let mut said = String::new();
        terminal.read_to_string(&mut said).await.expect("an end");
        assert!(said.contains("line \"typed\"") && said.contains("22x11") | said.contains("11x22"), "{said}");
        assert_eq!(process.wait().await.expect("its end").code(), Some(5));
        // One that waits for its terminal is not waited for by others.
        let mut process = run("silent", "block", Io::terminal(SIZE));
        let mut byte = [0; 1];
        let mut terminal = process.terminal.take().expect("a terminal");
        let silent = tokio::time::timeout(std::time::Duration::from_millis(1), terminal.read(&mut byte));
        assert!(silent.await.is_err());
        process.kill().expect("a signal");
        assert_eq!(terminal.read(&mut byte).await.expect("an end"), 0);
        assert_eq!(process.wait().await.expect("its end").signal(), Some(9));
    });
}
