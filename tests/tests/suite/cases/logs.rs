//! Logs: nothing of what a container writes is lost, whatever becomes of who copies
//! it; and how they are read.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use nix::sys::signal::Signal;
use pod::{Io, LogStream, Logs, Pod, PodOptions};

use super::commands::detached;
use super::soak::soak;
use crate::bed::{self, Bed};
use crate::leaks;
use crate::scribble::Scribble;

crate::tests![
    what_is_written_is_logged_byte_by_byte,
    full_files_are_rotated_and_nothing_is_lost,
    only_so_many_files_are_kept,
    a_line_is_whole_up_to_its_longest,
    a_killed_copier_is_replaced_and_the_container_waits,
    a_copier_gives_back_what_much_output_took,
    a_copier_that_is_stopped_keeps_nobody_from_removing,
    a_log_that_is_removed_or_replaced_is_written_again,
    a_full_disk_is_said_and_the_container_goes_on,
    logs_show_what_is_asked_for,
    a_pods_logs_stand_together,
    drivers_other_than_a_file,
    a_log_elsewhere_stays,
];

/// What a log has of each stream.
fn streams(log: &mut Logs) -> [Vec<u8>; 2] {
    log.catch_up().expect("a word of its copier");
    let mut streams = [Vec::new(), Vec::new()];
    while let Some(line) = log.read().expect("readable") {
        assert!(line.time.as_ref().is_some_and(|time| time.len() == 30 && time.ends_with('Z')), "{line:?}");
        streams[usize::from(line.stream == LogStream::Stderr)].extend(line.text);
    }
    streams
}

fn written(seed: u64) -> [Vec<u8>; 2] {
    let mut streams = [Vec::new(), Vec::new()];
    for (is_err, piece) in Scribble::new(seed).pieces() {
        streams[usize::from(is_err)].extend(piece);
    }
    streams
}

/// The copier of a container, whose title names both.
pub(super) fn copier_of(bed: &Bed, title: &str) -> u32 {
    let mut found = None;
    bed.until("its copier", || {
        // Which starts one in the place of one that was killed.
        bed.podlet("ps").ok();
        let all = leaks::descendants(std::os::unix::process::parent_id());
        found = all.iter().find(|seen| seen.title.starts_with(&format!("podlet:log {title} "))).map(|seen| seen.pid);
        found.is_some()
    });
    found.expect("its pid")
}

fn what_is_written_is_logged_byte_by_byte(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut seed = 0;
    soak(bed, 40, || {
        seed += 1;
        let name = format!("c{seed}");
        let process = pod.run(&bed.container(&name, &format!("scribble {seed}")), Io::log()).expect("a start");
        assert_eq!(process.wait().expect("its end").shell_code(), 0);
        let container = pod.container(&name).expect("the container");
        let logged = container.logs().expect("readable").map_or([Vec::new(), Vec::new()], |mut log| streams(&mut log));
        let same = logged == written(seed);
        container.remove().expect("removed");
        if same { Ok(()) } else { Err(format!("seed {seed}")) }
    });
}

fn full_files_are_rotated_and_nothing_is_lost(bed: &Bed) {
    bed.podlet("create web").ok();
    let options = "-d --log-opt max-size=20k --log-opt max-file=1000";
    bed.podlet(&format!("run --pod web --name a {options} --rootfs ROOT /probe lines 20000 , err end , block")).ok();
    let follower = bed.spawn("logs -f web/a");
    follower.await_line(bed, "end");
    bed.podlet("kill web/a").ok();
    let all: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    assert_eq!(follower.wait().ok().replace("end\n", ""), all);
    assert_eq!(bed.podlet("logs web/a").ok(), all);
    let files = files_of(bed, "a");
    assert!(files.len() > 10, "{files:?}");
    assert!(files.iter().all(|(_, size)| *size <= 20_480), "{files:?}");
    assert_eq!(bed.podlet("logs -n 3 web/a --stream stdout").ok(), "19997\n19998\n19999\n");
}

fn a_copier_gives_back_what_much_output_took(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe lines 20000 , echo end , block").ok();
    bed.await_log("web", "end");
    let copier = copier_of(bed, "web/web");
    bed.until("at most 24 KB of memory", || {
        let smaps = fs::read_to_string(format!("/proc/{copier}/smaps_rollup")).expect("its memory");
        let private = smaps.lines().filter(|line| line.starts_with("Private_"));
        let sizes =
            private.map(|line| line.split_whitespace().nth(1).expect("a size").parse::<u32>().expect("a number"));
        sizes.sum::<u32>() <= 24
    });
    bed.podlet("rm -f web").ok();
}

/// The files of a log, with their sizes.
fn files_of(bed: &Bed, name: &str) -> Vec<(String, u64)> {
    let dir = bed.state().join("web/containers").join(name);
    let files = fs::read_dir(dir).expect("its directory").flatten();
    let named = files.map(|file| (file.file_name().to_string_lossy().into_owned(), file));
    let logs = named.filter(|(name, _)| name.starts_with("k8s.log"));
    logs.map(|(name, file)| (name, file.metadata().expect("a file").len())).collect()
}

fn only_so_many_files_are_kept(bed: &Bed) {
    bed.podlet("create web").ok();
    for (name, most) in [("a", 3), ("b", 1)] {
        let options = format!("-d --log-opt max-size=16k --log-opt max-file={most}");
        bed.podlet(&format!("run --pod web --name {name} {options} --rootfs ROOT /probe lines 5000")).ok();
        bed.podlet(&format!("wait web/{name}")).ok();
        let said = bed.podlet(&format!("logs web/{name}")).ok();
        let files = files_of(bed, name);
        assert_eq!(files.len(), most, "{files:?}");
        // What is kept is the end, without a gap.
        let lines: Vec<u32> = said.lines().map(|line| line.parse().expect("a number")).collect();
        let first = lines[0];
        assert!(first > 0 && lines.iter().copied().eq(first..5000), "{first}: {files:?} {lines:?}");
    }
}

fn a_line_is_whole_up_to_its_longest(bed: &Bed) {
    const LONGEST: usize = 8191;
    bed.podlet("create web").ok();
    let (fits, longer) = ("x".repeat(LONGEST), "y".repeat(LONGEST + 1));
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe piece {fits} , piece {longer} , echo end"))
        .ok();
    bed.podlet("wait web/a").ok();
    assert_eq!(bed.podlet("logs web/a").ok(), format!("{fits}\n{longer}\nend\n"));
    // Two parts of a line are one line.
    let last = [String::new(), "end\n".into(), format!("{longer}\nend\n")];
    for (count, last) in last.iter().enumerate() {
        assert_eq!(bed.podlet(&format!("logs --tail {count} web/a")).ok(), *last, "{count}");
    }
    let file = fs::read_to_string(bed.state().join("web/containers/a/k8s.log")).expect("its log");
    let parts: Vec<_> = file.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>()).collect();
    let parts: Vec<_> = parts.iter().map(|words| (words[1], words[2], words[3].len())).collect();
    let wanted = [("F", LONGEST), ("P", LONGEST), ("F", 1), ("F", 3)].map(|(tag, length)| ("stdout", tag, length));
    assert_eq!(parts, wanted);
}

fn a_killed_copier_is_replaced_and_the_container_waits(bed: &Bed) {
    let script = "lines 10 , echo up , wait-file /go , lines 60000 , echo end , block";
    bed.podlet("create web").ok();
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe {script}")).ok();
    bed.await_log("web/a", "up");
    let (copier, container) = (copier_of(bed, "web/a"), bed.pid_of("web/a"));
    bed.kill(copier, Signal::SIGKILL);
    assert!(crate::sys::ends_within(copier, 10_000));
    fs::write(bed.inside("go"), "").expect("a file");
    // It waits as on a full pipe: nobody reads.
    bed.until("a writer that waits", || {
        fs::read_to_string(format!("/proc/{container}/wchan")).is_ok_and(|place| place.contains("pipe"))
    });
    let said = bed.podlet("ps");
    assert!(said.err.contains("log of web/a was killed"), "{}", said.err);
    assert!(said.ok().contains("running"));
    bed.await_log("web/a", "end");
    let all: String = (0..10).map(|line| format!("{line}\n")).collect::<String>() + "up\n";
    let all = all + &(0..60_000).map(|line| format!("{line}\n")).collect::<String>() + "end\n";
    assert_eq!(bed.podlet("logs web/a").ok(), all, "it had nothing in its hands");
    // Again and again, whatever it is at.
    for _ in 0..bed.rounds(20) {
        bed.kill(copier_of(bed, "web/a"), Signal::SIGKILL);
        bed.podlet("exec -d web/a /probe lines 300 , echo again").ok();
        bed.podlet("logs -n 1 web/a").ok();
    }
    bed.until("the last", || {
        let said = bed.podlet("logs web/a").ok();
        said.lines().filter(|line| *line == "again").count() as u64 >= u64::from(bed.rounds(20)) / 2
    });
    assert_eq!(bed.inspect("web/a")["state"], "running");
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn a_copier_that_is_stopped_keeps_nobody_from_removing(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    detached(bed, "b", "");
    for name in ["a", "b"] {
        bed.kill(copier_of(bed, &format!("web/{name}")), Signal::SIGSTOP);
    }
    bed.podlet("logs web/a").ok();
    bed.podlet("rm -f web/a").ok();
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn a_log_that_is_removed_or_replaced_is_written_again(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    let path = bed.state().join("web/containers/a/k8s.log");
    let says = |word: &str| {
        bed.podlet(&format!("exec -d web/a /probe echo {word}")).ok();
        bed.await_log("web/a", word);
    };
    fs::remove_file(&path).expect("its log");
    says("anew");
    // Of the one that was renamed it has the descriptor, until it is asked for.
    fs::rename(&path, bed.dir.join("aside")).expect("its log");
    bed.podlet("exec web/a /probe exit 0").ok();
    let other = bed.dir.join("other");
    fs::write(&other, "").expect("a file");
    symlink(&other, &path).expect("a link");
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let container = pod.container("a").expect("the container");
    container.reopen_log().expect_err("a link");
    fs::remove_file(&path).expect("the link");
    container.reopen_log().expect("opened");
    says("there");
    assert_eq!(fs::read_to_string(other).expect("a file"), "", "nothing was written through the link");
    assert!(bed::logged(&container).contains("there\n"));
}

fn a_full_disk_is_said_and_the_container_goes_on(bed: &Bed) {
    let full = bed.dir.join("full");
    fs::create_dir(&full).expect("a directory");
    nix::mount::mount(Some("t"), &full, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=64k")).expect("a disk");
    bed.podlet("create web").ok();
    let script = "lines 20000 , echo full , wait-file /go , echo more , block";
    let options = format!("-d --log-opt path={}", full.join("log").display());
    bed.podlet(&format!("run --pod web --name a {options} --rootfs ROOT /probe {script}")).ok();
    bed.until("a full disk", || fs::metadata(full.join("log")).is_ok_and(|meta| meta.size() == 65536));
    // It goes on to the end, and waits there.
    let container = bed.pid_of("web/a");
    bed.until("its wait", || {
        fs::read_to_string(format!("/proc/{container}/syscall"))
            .is_ok_and(|call| call.starts_with("230 ") || call.starts_with("35 "))
    });
    let before = bed.podlet("logs web/a").ok();
    assert!(!before.contains("full\n"));
    fs::OpenOptions::new().write(true).open(full.join("log")).expect("its log").set_len(4096).expect("room");
    fs::write(bed.inside("go"), "").expect("a file");
    bed.await_log("web/a", "more");
    let said = bed.podlet("logs web/a");
    assert!(said.err.contains("bytes of output are not in this log, errno 28"), "{}", said.err);
    let lost: usize = said.err.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    let all: usize = (0..20_000).map(|line| format!("{line}\n").len()).sum::<usize>() + "full\n".len();
    assert!(lost > all / 2 && lost < all, "{lost} of {all}");
    bed.podlet("rm -f web").ok();
    nix::mount::umount(&full).expect("unmounted");
}

fn logs_show_what_is_asked_for(bed: &Bed) {
    bed.podlet("create web").ok();
    let script = "echo one , err two , wait-file /go , echo three , block";
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe {script}")).ok();
    bed.await_log("web/a", "one");
    bed.await_log("web/a", "two");
    let times = bed.podlet("logs -t web/a").ok();
    let (time, text) = times.trim().split_once(' ').expect("a time");
    assert_eq!(text, "one");
    fs::write(bed.inside("go"), "").expect("a file");
    bed.await_log("web/a", "three");
    let out = |line: &str| bed.podlet(line).ok();
    assert_eq!(out(&format!("logs --since {time} web/a")), "one\nthree\n");
    assert_eq!(out(&format!("logs --until {time} web/a")), "one\n");
    assert_eq!(out("logs --since 1h web/a"), "one\nthree\n");
    assert_eq!(out("logs --until 1h web/a"), "");
    assert_eq!(out("logs --since 0 --stream stdout web/a"), "one\nthree\n");
    assert_eq!(bed.podlet("logs --stream stderr web/a").err, "two\n");
    assert_eq!(out("logs -n 1 --stream stdout web/a"), "three\n");
    // It ends by itself, though the container does not.
    let later = humantime_in(Duration::from_millis(500));
    assert_eq!(out(&format!("logs -f --until {later} --stream stdout web/a")), "one\nthree\n");
    for wrong in ["--since never", "--until 1x", "--stream both", "-c b"] {
        let word = wrong.split(' ').next_back().expect("a word");
        bed.podlet(&format!("logs {wrong} web")).fails(125, &[word]);
    }
}

/// Seconds since the epoch.
fn humantime_in(later: Duration) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    (now + later).as_secs_f64().to_string()
}

fn a_pods_logs_stand_together(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "echo first");
    bed.await_log("web/a", "first");
    detached(bed, "long", "echo second");
    bed.await_log("web/long", "second");
    let said = bed.podlet("logs web").ok();
    let places = ["a    | first\n", "long | second\n"].map(|line| said.find(line).unwrap_or_else(|| panic!("{said}")));
    assert!(places[0] < places[1], "in the order of their times: {said}");
    assert_eq!(bed.podlet("logs -c a web").ok().lines().next(), Some("first"));
    let follower = bed.spawn("logs -f -n 1 web");
    bed.podlet("exec -d web/long /probe echo third").ok();
    follower.await_line(bed, "long | third");
    bed.podlet("kill web/a").ok();
    bed.podlet("kill web/long").ok();
    follower.wait().ok();
}

fn drivers_other_than_a_file(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --log-driver none --rootfs ROOT /probe echo lost , exit 4").ok();
    assert_eq!(bed.podlet("wait web/a").ok(), "4\n");
    assert_eq!(bed.podlet("logs web/a").ok(), "");
    let run = bed.spawn("run --pod web -d --name b --log-driver passthrough --rootfs ROOT /probe echo here , exit 5");
    run.await_line(bed, "web/b");
    run.await_line(bed, "here");
    run.wait().ok();
    assert_eq!(bed.podlet("wait web/b").ok(), "5\n");
    for (option, words) in [
        ("--log-driver none --log-opt max-size=1m", &["max-size", "k8s-file"][..]),
        ("--log-opt max-size=big", &["max-size=big", "10m"]),
        ("--log-opt max-file=0", &["max_files", "1 to 1000"]),
        ("--log-opt compress=true", &["compress", "max-size"]),
        ("--log-opt path", &["NAME=VALUE"]),
        ("--log-opt path=/proc/none/log", &["/proc/none/log", "No such file"]),
    ] {
        bed.podlet(&format!("run --pod web -d --name c {option} --rootfs ROOT /probe")).fails(125, words);
    }
    assert!(!bed.state().join("web/containers/c").exists());
}

fn a_log_elsewhere_stays(bed: &Bed) {
    let path = bed.dir.join("own.log");
    bed.podlet("create web").ok();
    let options = format!("-d --log-opt path={}", path.display());
    for round in 1..=2 {
        bed.podlet(&format!("run --pod web --name a {options} --rootfs ROOT /probe echo hello , exit 0")).ok();
        bed.podlet("wait web/a").ok();
        assert_eq!(bed.podlet("logs web/a").ok().lines().count(), round, "it goes on");
        bed.podlet("rm web/a").ok();
    }
    assert_eq!(fs::read_to_string(&path).expect("its log").matches(" stdout F hello\n").count(), 2);
    assert_eq!(fs::metadata(&path).expect("its log").mode() & 0o777, 0o600);
}
