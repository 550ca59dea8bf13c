//! Standard streams: who may open them anew.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::bed::{Bed, Said};
use crate::modes::Mode;
use crate::sys;

crate::tests![the_containers_user_can_open_dev_stdout, a_file_of_the_callers_stays_as_it_is];

/// Root, and somebody else where there is somebody else.
fn users(bed: &Bed) -> &'static [&'static str] {
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
        // One that may do nothing else, too.
        for options in ["", "--cap-drop ALL"] {
            both(bed.podlet(&format!("run --rm -u {user} {options} --rootfs ROOT {BOTH}")));
        }
        let mut command = bed.command(&bed.expand(&format!("run --rm -u {user} --rootfs ROOT /probe read /dev/stdin")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("podlet");
        child.stdin.take().expect("a pipe").write_all(b"given").expect("a reader");
        let output = child.wait_with_output().expect("an end");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "given\n");

        // In the log, which each of these begins anew.
        let name = format!("of-{user}");
        bed.podlet(&format!(
            "run -d --pod web --name {name} -u {user} --rootfs ROOT {BOTH} , echo , echo done , block"
        ))
        .ok();
        let opened = || {
            bed.await_log(&format!("web/{name}"), "done");
            let log = bed.podlet(&format!("logs web/{name}")).ok();
            assert!(log.contains("write /dev/stderr: ok") && !log.contains("errno"), "{log}");
        };
        opened();
        both(bed.podlet(&format!("exec web/{name} {BOTH}")));
        bed.podlet(&format!("exec -d web/{name} {BOTH} , echo , echo done")).ok();
        opened();
        // A log that is there already.
        bed.podlet(&format!("restart -t 0 web/{name}")).ok();
        opened();
        // The machine's other users cannot come by.
        let log = bed.state().join("web/containers").join(&name).join("log");
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
        // The same of a pipe with a name.
        fs::remove_file(&path).expect("a file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
        let pipe = File::options().read(true).write(true).open(&path).expect("a pipe");
        bed.command(&bed.expand(&line)).stdout(pipe).status().expect("podlet");
        assert_eq!(fs::metadata(&path).expect("a pipe").mode() & 0o777, 0o600);
        fs::remove_file(&path).expect("a pipe");
    }
}
