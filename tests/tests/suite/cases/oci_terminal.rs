//! Terminals of containers: on ours, handed to another program, and to one that
//! embeds the library, with pipes.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::cmsg_space;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use pod::oci::{CreateOptions, ExecOptions, Runtime};
use pod::{Io, Stdio};
use serde_json::json;

use super::io::{SIZE, all_of};
use super::oci::{config, pid, start, write};
use crate::bed::Bed;
use crate::sys;

crate::tests![
    a_terminal_in_the_foreground,
    a_terminal_for_somebody_else,
    a_process_for_somebody_else,
    terminals_where_there_can_be_none,
    a_bundle_has_pipes_and_a_terminal,
    cve_2025_52565_the_console_is_the_terminal_that_was_made,
];

/// What is on a terminal until these words come.
pub(super) fn await_words(bed: &Bed, terminal: &mut (impl Read + AsFd), words: &str) -> String {
    let mut seen = String::new();
    bed.until(&format!("{words:?} on the terminal"), || {
        let mut bytes = [0; 4096];
        if sys::is_readable(&*terminal)
            && let Ok(count) = terminal.read(&mut bytes)
        {
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        seen.contains(words)
    });
    seen
}

pub(super) fn terminal(rows: u16, columns: u16) -> (File, OwnedFd) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None).expect("a terminal");
    (File::from(pair.master), pair.slave)
}

fn a_terminal_in_the_foreground(bed: &Bed) {
    let mut config = config(bed, "tty , session , stat /dev/console , trap WINCH 9 , echo ready , block");
    config["process"]["terminal"] = json!(true);
    write(bed, &config);
    let (mut ours, theirs) = terminal(33, 99);
    let run = |line: &str| {
        let mut command = bed.oci_command(&bed.expand(line));
        let stream = || theirs.try_clone().expect("dup");
        command.stdin(stream()).stdout(stream()).stderr(stream());
        command.spawn().expect("podlet-oci")
    };
    let mut child = run("run --bundle DIR c");
    let seen = await_words(bed, &mut ours, "ready");
    for words in ["tty /dev/pts/0 33x99", "tty true", "stat /dev/console: char"] {
        assert!(seen.contains(words), "{words:?} is missing in {seen}");
    }
    sys::resize(&ours, 44, 111);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGWINCH).expect("kill");
    assert_eq!(child.wait().expect("an end").code(), Some(9));
    bed.is_clean();

    // A size of its own, and input.
    config["process"]["consoleSize"] = json!({ "height": 12, "width": 34 });
    config["process"]["args"] = json!(["/probe", "tty", ",", "line", ",", "exit", "4"]);
    write(bed, &config);
    let mut child = run("run --bundle DIR c");
    await_words(bed, &mut ours, "tty /dev/pts/0");
    ours.write_all(b"typed\r").expect("input");
    await_words(bed, &mut ours, "line \"typed\"");
    assert_eq!(child.wait().expect("an end").code(), Some(4));
    bed.is_clean();

    start(bed, "c", "block");
    let mut child = run("exec -t c /probe tty , session , echo ready , exit 5");
    let seen = await_words(bed, &mut ours, "ready");
    assert!(seen.contains("44x111") && seen.contains("tty true"), "{seen}");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    bed.oci("delete --force c").ok();
}

/// The descriptor that comes to a console socket.
fn receive(listener: &UnixListener) -> File {
    let (connection, _) = listener.accept().expect("a connection");
    let mut name = [0u8; 64];
    let mut space = cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = message.expect("a message");
    let fds: Vec<_> = message
        .cmsgs()
        .expect("control messages")
        .flat_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds,
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(fds.len(), 1, "descriptors");
    sys::own(fds[0])
}

fn a_terminal_for_somebody_else(bed: &Bed) {
    let listener = UnixListener::bind(bed.dir.join("socket")).expect("a socket");
    let mut config = config(bed, "tty , line , fds , echo ready , block");
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({ "height": 12, "width": 34 });
    write(bed, &config);
    for line in
        ["create --bundle DIR --console-socket DIR/socket c", "run -d --bundle DIR --console-socket DIR/socket c"]
    {
        bed.oci_detached(line).ok();
        let mut terminal = receive(&listener);
        if line.starts_with("create") {
            bed.oci("start c").ok();
        }
        await_words(bed, &mut terminal, "tty /dev/pts/0 12x34");
        terminal.write_all(b"typed\r").expect("input");
        let seen = await_words(bed, &mut terminal, "ready");
        assert!(
            seen.contains("line \"typed\"") && seen.contains("fd 2 /dev/pts/0") && !seen.contains("fd 3"),
            "{seen}"
        );
        bed.oci_detached("exec -d -t --console-socket DIR/socket --pid-file DIR/pid c /probe tty , block").ok();
        let mut second = receive(&listener);
        await_words(bed, &mut second, "tty /dev/pts/1");
        assert!(pid(bed) > 1);
        bed.oci("delete --force c").ok();
        bed.is_clean();
    }
}

/// A pidfd of its process.
fn a_process_for_somebody_else(bed: &Bed) {
    let listener = UnixListener::bind(bed.dir.join("socket")).expect("a socket");
    write(bed, &config(bed, "block"));
    let is = |process: File, pid: u32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).expect("a descriptor");
        assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{pid}: {info}");
    };
    bed.oci_detached("create --bundle DIR --pidfd-socket DIR/socket --pid-file DIR/pid c").ok();
    is(receive(&listener), pid(bed));
    bed.oci("start c").ok();
    bed.oci_detached("exec -d --pidfd-socket DIR/socket --pid-file DIR/pid c /probe block").ok();
    is(receive(&listener), pid(bed));
    bed.oci("delete --force c").ok();
    bed.oci_detached("run -d --bundle DIR --pidfd-socket DIR/none c").fails(1, &["none"]);
    bed.is_clean();
}

fn terminals_where_there_can_be_none(bed: &Bed) {
    let mut config = config(bed, "exit 0");
    write(bed, &config);
    bed.oci("create --bundle DIR --console-socket DIR/socket c").fails(1, &["--console-socket", "process.terminal"]);
    config["process"]["terminal"] = json!(true);
    write(bed, &config);
    bed.oci("create --bundle DIR c").fails(1, &["process.terminal", "--console-socket"]);
    bed.oci("run -d --bundle DIR c").fails(1, &["process.terminal", "--console-socket"]);
    bed.oci("run --bundle DIR --console-socket DIR/socket c").fails(1, &["--console-socket"]);
    config["mounts"].as_array_mut().expect("an array").retain(|mount| mount["destination"] != "/dev/pts");
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["pts/ptmx"]);
    bed.is_clean();
}

/// SECURITY: an image that has files of its own where the terminal goes.
fn cve_2025_52565_the_console_is_the_terminal_that_was_made(bed: &Bed) {
    let bait = bed.dir.join("bait");
    std::fs::write(&bait, "untouched").expect("a bait");
    let mut config = config(bed, "stat /dev/console , exit 0");
    config["process"]["terminal"] = json!(true);
    // The image's own /dev, and its links.
    config["mounts"].as_array_mut().expect("an array").retain(|mount| mount["destination"] != "/dev");
    std::fs::create_dir_all(bed.inside("dev/pts")).expect("a directory");
    for link in [bait.display().to_string(), "/etc/passwd".into(), "pts/0".into()] {
        std::fs::remove_file(bed.inside("dev/console")).ok();
        std::os::unix::fs::symlink(&link, bed.inside("dev/console")).expect("a link");
        write(bed, &config);
        let (mut ours, theirs) = terminal(24, 80);
        let mut command = bed.oci_command(&bed.expand("run --bundle DIR c"));
        let stream = || theirs.try_clone().expect("dup");
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let mut child = command.spawn().expect("podlet-oci");
        let code = child.wait().expect("an end").code();
        assert_eq!(code, Some(1), "{link}");
        let seen = await_words(bed, &mut ours, "console");
        assert!(seen.contains("console"), "{seen}");
        assert_eq!(std::fs::read_to_string(&bait).expect("the bait"), "untouched");
        bed.is_clean();
    }
}

fn a_bundle_has_pipes_and_a_terminal(bed: &Bed) {
    let runtime = Runtime::open(bed.oci_state()).expect("a runtime");
    let read = || pod::config::read("container", &bed.dir).expect("a config");
    let options = |io: Io| CreateOptions { io, ..CreateOptions::default() };
    write(bed, &config(bed, "line , exit 3"));
    let mut created = runtime.run("c", &read(), options(Io::piped().into())).expect("a container");
    let (mut stdin, mut stdout) = created.process.stdin.take().zip(created.process.stdout.take()).expect("pipes");
    let exec = |io: Io| {
        let args = ["/probe", "tty", ",", "exit", "4"].map(String::from).to_vec();
        let mut process = created.instance.spec().process.clone();
        process.args = args;
        let (preserved, cancel) = (Vec::new(), None);
        let options = ExecOptions { process, io, preserved, even_paused: false, cancel };
        created.instance.exec(options).expect("an exec")
    };
    let mut piped = exec(Io::null().stdout(Stdio::Piped).into());
    assert!(all_of(piped.stdout.as_mut().expect("a pipe")).contains("tty /dev/null"));
    let mut shown = exec(Io::terminal(SIZE));
    assert!(all_of(shown.terminal.as_mut().expect("a terminal")).contains("tty /dev/pts/0 33x99"));
    for exec in [piped, shown] {
        assert_eq!(exec.wait().expect("its end").shell_code(), 4);
    }
    stdin.write_all(b"typed\n").expect("a reader");
    assert_eq!(all_of(&mut stdout), "line \"typed\"\n");
    assert_eq!(created.process.wait().expect("its end").shell_code(), 3);
    created.instance.delete(false).expect("a removal");

    // What the config says and what the caller expects have to agree.
    let disagree = |io: Io| {
        let said = runtime.create("c", &read(), options(io)).map(drop).expect_err("neither").to_string();
        assert!(said.contains("process.terminal") && said.contains("CreateOptions::io"), "{said}");
        assert!(runtime.get("c").is_err(), "nothing of it is left");
    };
    disagree(Io::terminal(SIZE));
    let mut config = config(bed, "tty , exit 5");
    config["process"]["terminal"] = json!(true);
    write(bed, &config);
    disagree(Io::piped().into());
    let run = |expected: &str| {
        let mut created = runtime.run("c", &read(), options(Io::terminal(SIZE))).expect("a container");
        let mut terminal = created.process.terminal.take().expect("a terminal");
        assert!(all_of(&mut terminal).contains(expected));
        assert_eq!(created.process.wait().expect("its end").shell_code(), 5);
        created.instance.delete(false).expect("a removal");
    };
    run("tty /dev/pts/0 33x99");
    config["process"]["consoleSize"] = json!({ "height": 12, "width": 34 });
    write(bed, &config);
    run("tty /dev/pts/0 12x34");
}
