//! Terminals that are kept: left, come back to, by several at once, and whatever
//! happens to those who stand between.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Child;

use nix::sys::signal::Signal;
use pod::{ExecSpec, Io, LogStream, Pod, PodOptions, Told, WindowSize};

use super::commands::detached;
use super::logs::copier_of;
use super::oci_terminal::{await_words, terminal};
use super::streams::{await_end, on_terminal};
use super::terminal::settings;
use crate::bed::{Bed, logged};
use crate::sys;

crate::tests![
    a_shell_is_left_and_come_back_to,
    several_see_and_type_at_once,
    a_detached_terminal_is_attached_to_and_started_again,
    a_killed_podlet_leaves_the_terminal,
    a_killed_copier_of_a_terminal_is_replaced,
    keys_that_leave_are_the_users_choice,
    what_has_no_terminal_is_seen_and_signalled,
    a_terminal_without_a_log,
    a_program_has_all_that_a_terminal_shows,
    what_cannot_be_attached_to_is_said,
];

const SHELL: &str = "-e PS1=next: -e ENV= host sh -i";

fn typed(terminal: &mut File, keys: &str) {
    terminal.write_all(keys.as_bytes()).expect("keys");
}

/// A user with a terminal and podlet on it.
struct User<'a> {
    bed: &'a Bed,
    ours: File,
    before: String,
    podlet: Child,
    /// So that it can be looked at when podlet has ended.
    _theirs: std::os::fd::OwnedFd,
}

impl<'a> User<'a> {
    fn runs(bed: &'a Bed, line: &str) -> User<'a> {
        let (ours, theirs) = terminal(33, 99);
        let before = settings(&ours);
        let podlet = on_terminal(bed, &theirs, line);
        User { bed, ours, before, podlet, _theirs: theirs }
    }

    fn types(&mut self, keys: &str) {
        typed(&mut self.ours, keys);
    }

    #[track_caller]
    fn sees(&mut self, words: &str) -> String {
        await_words(self.bed, &mut self.ours, words)
    }

    /// Sees words that are said again and again: it may not have been attached at first.
    #[track_caller]
    fn is_told(&mut self, words: &str, mut say: impl FnMut()) {
        let mut seen = String::new();
        self.bed.until(&format!("{words:?} for somebody attached"), || {
            say();
            let mut bytes = [0; 4096];
            if sys::is_readable(&self.ours) {
                let count = self.ours.read(&mut bytes).expect("a terminal");
                seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            seen.contains(words)
        });
    }

    /// Podlet ends so, and the terminal is as it was.
    #[track_caller]
    fn ends_with(mut self, code: i32) {
        await_end(self.bed, &mut self.podlet, "the end of podlet", |ended| assert_eq!(ended, Some(code)));
        assert_eq!(settings(&self.ours), self.before);
    }
}

fn a_shell_is_left_and_come_back_to(bed: &Bed) {
    let mut first = User::runs(bed, &format!("run -it --name web {SHELL}"));
    first.sees("next:");
    first.types("echo fir''st; stty size\r");
    assert!(first.sees("33 99\r\n").contains("first\r\n"));
    first.types("\x10\x11");
    first.sees("web runs on: `podlet attach web` comes back to it");
    first.ends_with(0);
    let shell = bed.pid_of("web/web");
    let mut second = User::runs(bed, "attach web");
    // As a program that fills the screen has it: the shell itself is told, as long as
    // it does not read a line, for which some take the signal themselves, and what it
    // runs is in its own process group.
    second.types("set +m; trap 'echo chan''ged' WINCH; echo th''ere; until stty size | grep 44.111; do :; done\r");
    second.sees("there\r\n");
    sys::resize(&second.ours, 44, 111);
    second.sees("changed\r\n");
    second.types("set -m\r");
    assert_eq!(bed.pid_of("web/web"), shell);
    second.types("exit 7\r");
    second.ends_with(7);
    let log = bed.podlet("logs web").ok();
    assert!(["first\r\n", "there\r\n", "changed\r\n"].iter().all(|words| log.contains(words)), "{log:?}");
    bed.podlet("rm -f web").ok();
}

fn several_see_and_type_at_once(bed: &Bed) {
    let mut first = User::runs(bed, &format!("run -it --name web {SHELL}"));
    first.sees("next:");
    let (mut second, mut third) = (User::runs(bed, "attach web"), User::runs(bed, "attach --no-stdin web"));
    // Who is there sees what follows.
    for user in [&mut second, &mut third] {
        user.is_told("here\r", || typed(&mut first.ours, "echo he''re\r"));
    }
    second.types("echo sec''ond\r");
    for user in [&mut first, &mut second, &mut third] {
        user.sees("second\r");
    }
    second.types("\x10\x11");
    second.ends_with(0);
    first.types("echo al''one; exit 3\r");
    third.sees("alone\r");
    first.ends_with(3);
    third.ends_with(3);
    bed.podlet("rm -f web").ok();
}

fn a_detached_terminal_is_attached_to_and_started_again(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet(&format!("run -dit --pod web --name a {SHELL}")).ok();
    bed.podlet(&format!("container create -it --pod web --name b {SHELL}")).ok();
    bed.podlet("start web/b").ok();
    for name in ["a", "b"] {
        for _ in 0..2 {
            let mut user = User::runs(bed, &format!("attach web/{name}"));
            user.types("echo at''tached; tty; exit 4\r");
            assert!(user.sees("/dev/pts/").contains("attached\r\n"));
            user.ends_with(4);
            bed.podlet(&format!("start web/{name}")).ok();
        }
    }
    bed.podlet("restart -t 0 web/a").ok();
    // What else runs in it writes to its terminal.
    let mut user = User::runs(bed, "attach web/a");
    user.types("echo th''ere\r");
    user.sees("there\r\n");
    bed.podlet("exec -d web/a echo of_an_exec").ok();
    user.sees("of_an_exec\r\n");
    user.types("exit\r");
    user.ends_with(0);
    bed.podlet("rm -f web").ok();
}

fn a_killed_podlet_leaves_the_terminal(bed: &Bed) {
    let mut first = User::runs(bed, &format!("run -it --name web {SHELL}"));
    first.sees("next:");
    let shell = bed.pid_of("web/web");
    bed.kill(first.podlet.id(), Signal::SIGKILL);
    first.podlet.wait().expect("a child");
    let mut second = User::runs(bed, "attach web");
    second.types("echo st''ill $$\r");
    second.sees("still ");
    assert_eq!(bed.pid_of("web/web"), shell);
    second.types("exit 5\r");
    second.ends_with(5);
    bed.podlet("rm -f web").ok();
}

fn a_killed_copier_of_a_terminal_is_replaced(bed: &Bed) {
    let mut user = User::runs(bed, &format!("run -it --name web {SHELL}"));
    user.sees("next:");
    for round in 0..bed.rounds(10) {
        bed.kill(copier_of(bed, "web/web"), Signal::SIGKILL);
        // Who is attached finds the next one.
        bed.until("what is typed", || {
            user.types(&format!("echo rou''nd{round}.\r"));
            bed.podlet("logs web").ok().contains(&format!("\nround{round}.\r\n"))
        });
        user.sees(&format!("round{round}.\r\n"));
    }
    user.types("exit 6\r");
    user.ends_with(6);
    bed.podlet("rm -f web").ok();
}

fn keys_that_leave_are_the_users_choice(bed: &Bed) {
    let mut user = User::runs(bed, &format!("run -it --detach-keys ctrl-a,d --name web {SHELL}"));
    user.sees("next:");
    // Those of others are keys as any, also the first of ours.
    user.types("echo \x10\x11; echo pas''sed\r");
    user.sees("passed\r\n");
    user.types("\x01d");
    user.ends_with(0);
    let mut user = User::runs(bed, "attach --detach-keys= web");
    user.types("\x10\x11\x01d\recho no''body\r");
    user.sees("nobody\r\n");
    user.types("exit\r");
    user.ends_with(0);
    bed.podlet("rm -f web").ok();
    for (line, words) in [
        ("run -it --detach-keys ctrl-1 host sh", &["--detach-keys", "ctrl-1", "ctrl-p,ctrl-q"][..]),
        ("run -it --detach-keys ab host sh", &["ab", "one character"]),
        ("run --detach-keys ctrl-a host sh", &["--detach-keys", "-it"]),
        ("run -dit --detach-keys ctrl-a host sh", &["--detach-keys", "no -d"]),
        ("exec -it --detach-keys ctrl-a web sh", &["--detach-keys", "podlet attach"]),
    ] {
        bed.podlet(line).fails(125, words);
    }
}

fn what_has_no_terminal_is_seen_and_signalled(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "trap INT 9");
    let mut user = User::runs(bed, "attach web/a");
    user.is_told("more\r\n", || drop(bed.podlet("exec -d web/a /probe echo more").ok()));
    user.types("\x03");
    user.ends_with(9);
    bed.podlet("rm -f web").ok();
}

fn a_terminal_without_a_log(bed: &Bed) {
    bed.podlet(&format!("run -dit --log-driver none --name web {SHELL}")).ok();
    let mut user = User::runs(bed, "attach web");
    user.types("echo se''en\r");
    user.sees("seen\r\n");
    assert_eq!(bed.podlet("logs web").ok(), "");
    user.types("exit 2\r");
    user.ends_with(2);
    bed.podlet("rm -f web").ok();
}

fn a_program_has_all_that_a_terminal_shows(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let io = Io::kept_terminal(WindowSize { rows: 7, columns: 70 });
    let process = pod.run(&bed.container("a", "tty , lines 1000 , trap WINCH 9 , echo up , block"), io);
    let mut process = process.expect("a start");
    let mut attached = process.attached.take().expect("attached");
    let (mut seen, mut is_greeted, mut is_over) = (Vec::new(), false, false);
    bed.until("the end", || {
        nix::poll::poll(
            &mut [nix::poll::PollFd::new(attached.as_fd(), nix::poll::PollFlags::POLLIN)],
            nix::poll::PollTimeout::from(100u8),
        )
        .expect("poll");
        while let Some(told) = attached.read().expect("a socket") {
            match told {
                Told::Output(stream, text) => {
                    assert_eq!(stream, LogStream::Stdout);
                    seen.extend_from_slice(text);
                }
                Told::Greeting => is_greeted = true,
                Told::End => {
                    is_over = true;
                    break;
                }
                told => panic!("{told:?}"),
            }
        }
        if seen.ends_with(b"up\r\n") && !is_over {
            attached.resize(WindowSize { rows: 8, columns: 70 }).expect("another size");
        }
        is_over
    });
    assert!(is_greeted);
    let seen = String::from_utf8(seen).expect("text");
    assert!(seen.starts_with("tty /dev/pts/0 7x70"), "{seen}");
    assert!(seen.contains("\r\n999\r\n"), "{seen}");
    assert_eq!(process.wait().expect("its end").shell_code(), 9);
    let container = pod.container("a").expect("the container");
    assert_eq!(logged(&container), seen);
    assert!(container.attach().expect_err("it has ended").to_string().contains("is not running"));
    // Only a container's own is kept.
    container.start(Io::log()).expect("a start");
    let said = container.exec(&ExecSpec::new(["/probe"]), Io::kept_terminal(WindowSize::default()));
    assert!(said.expect_err("no exec's").to_string().contains("Io::terminal"));
    pod.remove().expect("its removal");
}

fn what_cannot_be_attached_to_is_said(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("attach web").fails(125, &["no containers"]);
    bed.podlet("attach web/none").fails(125, &["none"]);
    bed.podlet("container create --pod web --name made --rootfs ROOT /probe block").ok();
    bed.podlet("attach web/made").fails(125, &["has not been started"]);
    bed.podlet("run --pod web -d --log-driver none --name mute --rootfs ROOT /probe block").ok();
    bed.podlet("attach web/mute").fails(125, &["web/mute", "in the background"]);
    detached(bed, "ended", "");
    bed.podlet("kill web/ended").ok();
    bed.podlet("wait web/ended").ok();
    bed.podlet("attach web/ended").fails(125, &["is not running"]);
    detached(bed, "runs", "");
    for (line, words) in [
        ("attach --detach-keys ctrl-a web/runs", &["--detach-keys"][..]),
        ("run -di host sh", &["--interactive", "-dit", "podlet attach"]),
        ("run -dt --log-driver passthrough host sh", &["passthrough", "--tty"]),
        ("exec -dt web/runs sh", &["--tty", "--detach"]),
        ("exec -di web/runs sh", &["--interactive"]),
        ("container create -i host sh", &["--interactive", "-it"]),
        ("start -a web/runs", &["podlet attach"]),
    ] {
        bed.podlet(line).fails(125, words);
    }
    assert_eq!(bed.inspect("web/runs")["state"], "running");
    bed.podlet("rm -f web").ok();
}
