//! How a plugin is executed: what it sees, how long it may take, what stays.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fake::{Fake, GoOn, SHORT, assert_has, attachment, fifo, ignore, list};
use crate::cni::lock::Lock;
use crate::cni::{Record, Runtime};
use crate::exec::{Trouble, drain, start_when_written};

// Rule 24.
#[test]
fn a_program_that_is_being_written() {
    let fake = Fake::new(&["one"]);
    let mut writer = Some(fs::OpenOptions::new().append(true).open(fake.path("bin/one")).expect("opened"));
    let start = || std::process::Command::new(fake.path("bin/one")).env("CNI_COMMAND", "DEL").spawn();
    let until = Instant::now() + Duration::from_secs(60);
    // Written until it was tried once.
    let mut child = start_when_written(start, until, || drop(writer.take())).expect("started at last");
    assert!(writer.is_none());
    child.wait().expect("its end");
    let busy = || Err::<(), _>(io::Error::from(ErrorKind::ExecutableFileBusy));
    assert!(matches!(start_when_written(busy, Instant::now(), || {}), Err(Trouble::Start(_))));
}

// Rule 13.
#[test]
fn a_hanging_plugin_that_blocks_del() {
    let mut fake = Fake::new(&["one", "two"]);
    let record = fake.add(&list("1.0.0", &["one", "two"])).expect("added");
    fake.runtime.del_deadline = SHORT;
    let alive = fake.path("alive");
    fifo(&alive);
    let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&alive).expect("open");
    // It and its child have the fifo open until both are gone.
    let script = format!("exec 3>{}; echo stuck >&2; sleep 60; sleep 60", alive.display());
    fake.on("two", "DEL", &script);
    fake.called();
    let error = fake.runtime.del(&record, &mut ignore).expect_err("it hangs");
    assert_has(&error.to_string(), &["\"two\"", "DEL", "did not end within 0.3 s and was killed", "it wrote: stuck"]);
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut polled, PollTimeout::from(10_000_u16)), Ok(1), "nobody has it open any longer");
    assert_eq!(fake.called(), ["two DEL", "one DEL"]);
    assert!(no_children(), "it was not reaped");
}

/// Whether this thread has no children: other tests' are other threads'.
fn no_children() -> bool {
    fs::read_to_string("/proc/thread-self/children").is_ok_and(|children| children.is_empty())
}

#[test]
fn a_plugin_that_writes_without_end_is_killed() {
    let mut fake = Fake::new(&["one"]);
    fake.runtime.deadline = SHORT;
    // A line of 256 KiB, which keeps the pipe full.
    const LINE: &str =
        "x=12345678; for i in 1 2 3; do x=$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x; done\n";
    fake.on("one", "ADD", &format!("{LINE} echo noise >&2; while :; do echo $x >&2; done"));
    let error = fake.add(&list("1.0.0", &["one"])).expect_err("noise");
    assert_has(&error.to_string(), &["did not end within", "it wrote: ", "12345678"]);
    fake.runtime.deadline = Duration::from_secs(60);
    let spaces = "x=' '; for i in 1 2 3 4; do x=$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x$x; done";
    let print = |count: usize| format!("{spaces}; for i in {}; do printf %s \"$x\"; done", "1 ".repeat(count));
    fake.on("one", "ADD", &print(3));
    fake.add(&list("1.0.0", &["one"])).expect("3 MiB and a result");
    fake.on("one", "ADD", &print(4));
    assert_has(&fake.add(&list("1.0.0", &["one"])).expect_err("too much").to_string(), &["more than 4 MiB"]);
    assert!(no_children(), "they were not reaped");
}

#[test]
fn output_without_end_that_keeps_the_deadline_from_being_looked_at() {
    let mut endless = Some(fs::File::open("/dev/zero").expect("open"));
    let mut read = 0;
    let count = |bytes: &mut Vec<u8>| {
        read += std::mem::take(bytes).len();
        assert!(read <= 2 << 20, "it goes on and on");
        Ok(())
    };
    drain(&mut endless, &mut Vec::new(), count).expect("read");
    assert!(endless.is_some() && read >= 1 << 20);
}

#[test]
fn a_daemon_that_a_plugin_leaves_is_not_waited_for() {
    let mut fake = Fake::new(&["one"]);
    fake.runtime.deadline = Duration::from_secs(10);
    let (alive, go_on) = (fake.path("alive"), fake.path("go-on"));
    fifo(&alive);
    fifo(&go_on);
    // The shell would give it another input.
    let script = format!("exec 3<&0; ( exec 0<&3; echo x >{}; read x <{} ) &", alive.display(), go_on.display());
    fake.on("one", "ADD", &script);
    let alive = thread::spawn(move || fs::File::open(alive).expect("open").read_to_end(&mut Vec::new()));
    let go_on = GoOn(go_on);
    let record = fake.add(&list("1.0.0", &["one"])).expect("added, while the daemon has its output open");
    let impatient = Runtime { del_deadline: SHORT, ..fake.runtime.clone() };
    impatient.del(&record, &mut ignore).expect("deleted, while the daemon has the lock's file open");
    // It lives, and then ends.
    alive.join().expect("joined").expect("it said so");
    drop(go_on);
}

#[test]
fn a_plugin_sees_no_environment_of_the_program() {
    let fake = Fake::new(&["one"]);
    fake.on("one", "ADD", "env >$d/env");
    fake.add(&list("1.0.0", &["one"])).expect("added");
    let env = fs::read_to_string(fake.path("env")).expect("its environment");
    let mut names: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    // The shell adds PWD, and OLDPWD or _ where it is another one.
    names.retain(|name| !["PWD", "OLDPWD", "_", "SHLVL"].contains(name));
    let expected = ["CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "PATH"];
    assert_eq!(names, expected);
    assert_has(&env, &["CNI_IFNAME=eth0\n", "CNI_CONTAINERID=web\n", "/usr/sbin"]);
}

#[test]
fn what_plugins_were_told_does_not_stay_in_a_file() {
    let fake = Fake::new(&["one"]);
    fake.add(&list("1.0.0", &["one"])).expect("added");
    assert_eq!(fs::metadata(fake.path("locks/web.lock")).expect("the lock").len(), 0);
    use std::os::unix::fs::PermissionsExt;
    for path in ["locks", "locks/web.lock"] {
        assert_eq!(fs::metadata(fake.path(path)).expect("there").permissions().mode() & 0o077, 0, "{path}");
    }
}

/// A program that is killed while a plugin of its adds: DEL must not overtake it.
#[test]
fn a_del_that_overtakes_the_add_of_a_program_that_was_killed() {
    let fake = Fake::new(&["one"]);
    let go_on = fake.path("go-on");
    fifo(&go_on);
    let lock = Lock::of_container(&fake.path("locks"), "web", SHORT).expect("a lock");
    let input = lock.as_input(b"{}").expect("a file");
    let mut plugin = std::process::Command::new("/bin/sh")
        .args(["-c", "read x <\"$0\""])
        .arg(&go_on)
        .stdin(input)
        .process_group(0)
        .spawn()
        .expect("a plugin");
    lock.abandon();
    let go_on = GoOn(go_on);
    let impatient = Runtime { del_deadline: SHORT, ..fake.runtime.clone() };
    let record = Record::begun(&list("1.0.0", &["one"]), &attachment());
    let error = impatient.del(&record, &mut ignore).expect_err("it still adds");
    assert_has(&error.to_string(), &["the end of another CNI operation for web"]);
    drop(go_on);
    plugin.wait().expect("its end");
    impatient.del(&record, &mut ignore).expect("deleted");
}
