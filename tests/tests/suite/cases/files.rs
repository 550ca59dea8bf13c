//! What is no plain file where one should be: in the state directory, in a
//! bundle, on the command line. No command waits for it, and none opens it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode as Bits, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::json;

use super::oci::{self, config, ends, list, write};
use crate::bed::Bed;
use crate::leaks;
use crate::modes::Mode;

crate::tests![
    a_state_directory_behind_another_users_link_is_refused,
    records_of_a_pod_that_are_no_plain_files_keep_nobody_waiting,
    records_of_a_bundle_that_are_no_plain_files_keep_nobody_waiting,
    a_container_without_a_record_is_removed_and_its_mates_stay,
    marks_that_are_no_plain_files_keep_nobody_waiting,
    what_stands_where_a_record_is_written_keeps_nobody_waiting,
    what_a_bundle_names_is_known_before_it_is_opened,
    what_a_command_names_may_be_a_pipe_and_no_device,
];

/// What may be found instead of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pipe,
    Directory,
    /// To what was there before.
    Link,
    /// Only root can make one.
    Device,
}

impl Kind {
    fn all(bed: &Bed) -> Vec<Kind> {
        let devices = matches!(bed.mode, Mode::Root | Mode::Vm).then_some(Kind::Device);
        [Kind::Pipe, Kind::Directory, Kind::Link].into_iter().chain(devices).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Pipe => "a pipe",
            Kind::Directory => "a directory",
            Kind::Link => "a symbolic link",
            Kind::Device => "a device",
        }
    }

    /// Puts it where a file was, which is kept at `aside`.
    fn replace(self, path: &Path, aside: &Path) {
        fs::rename(path, aside).expect("the file is there");
        match self {
            Kind::Pipe => mkfifo(path, Bits::S_IRWXU).expect("a pipe"),
            Kind::Directory => fs::create_dir_all(path.join("full")).expect("a directory"),
            Kind::Link => symlink(aside, path).expect("a link"),
            // /dev/null.
            Kind::Device => mknod(path, SFlag::S_IFCHR, Bits::S_IRWXU, makedev(1, 3)).expect("a device"),
        }
    }
}

/// Whether a file is opened: to look at it is no opening.
struct Watch(Inotify);

impl Watch {
    fn on(path: &Path) -> Watch {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("inotify");
        watch.add_watch(path, AddWatchFlags::IN_OPEN).expect("a watch");
        Watch(watch)
    }

    #[track_caller]
    fn saw_nothing(&self, what: &str) {
        // (That it was removed is told, too.)
        let events = self.0.read_events().unwrap_or_default();
        assert!(!events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_OPEN)), "{what} was opened");
    }
}

fn a_state_directory_behind_another_users_link_is_refused(bed: &Bed) {
    let real = bed.dir.join("real");
    fs::create_dir_all(real.join("below")).expect("a directory");
    for dir in [&real, &real.join("below")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("mode");
    }
    // Each: a directory with a link in it, and whether it may be followed.
    let dir_with_link = |name: &str, mode: u32| {
        let dir = bed.dir.join(name);
        fs::create_dir(&dir).expect("a directory");
        symlink(&real, dir.join("link")).expect("a link");
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("mode");
        dir
    };
    let mut dirs = vec![
        (dir_with_link("own", 0o755), true),
        (dir_with_link("sticky", 0o1777), true),
        (dir_with_link("open", 0o777), false),
    ];
    if bed.mode == Mode::Root {
        let foreign = dir_with_link("foreign", 0o755);
        lchown(foreign.join("link"), Some(1000), None).expect("chown");
        dirs.push((foreign, false));
        let sticky = dir_with_link("foreign-sticky", 0o1777);
        lchown(sticky.join("link"), Some(1000), None).expect("chown");
        dirs.push((sticky, false));
    }
    for (dir, may) in dirs {
        for below in ["link", "link/below", "link/../real/below", "link/new"] {
            let root = dir.join(below).display().to_string();
            for (program, words) in [("podlet", vec!["ps"]), ("podlet-oci", vec!["list"])] {
                let mut command = std::process::Command::new(bed.program(program));
                command.args(["--root", &root]).args(words);
                let said = bed.finish(command);
                match may {
                    true => drop(said.ok()),
                    false => assert!(!said.status.success() && said.err.contains("link"), "{program} --root {root}"),
                }
            }
            assert_eq!(real.join("new").exists(), may && below == "link/new", "{root}");
        }
        fs::remove_dir(real.join("new")).ok();
    }
}

fn records_of_a_pod_that_are_no_plain_files_keep_nobody_waiting(bed: &Bed) {
    // And what names it, when it is needed.
    let records = [
        ("pod.json", "inspect web"),
        ("pause.json", "inspect web"),
        ("table", "inspect web"),
        ("lock", "exec web /probe"),
        ("containers/a/container.json", "inspect web"),
        ("containers/a/process.json", ""),
        ("containers/a/k8s.log", "logs web"),
    ];
    for kind in Kind::all(bed) {
        for (record, needs) in records {
            println!("{record} is {}:", kind.name());
            bed.podlet("create web").ok();
            bed.podlet("run -d --pod web --name a --rootfs ROOT /probe echo up , block").ok();
            bed.await_log("web/a", "up");
            let path = bed.state().join("web").join(record);
            kind.replace(&path, &bed.dir.join("aside"));
            let watch = Watch::on(&path);
            if !needs.is_empty() {
                bed.podlet(needs).fails(125, &[record, kind.name(), "rm -f"]);
            }
            for line in ["ps", "logs web", "exec web /probe", "stop -t 0 web", "start web/a"] {
                bed.podlet(line);
            }
            bed.podlet("run --rm --pod web --name b --rootfs ROOT /probe");
            // A link's watch is on what it leads to, and a directory is looked
            // into to remove it.
            if !matches!(kind, Kind::Link | Kind::Directory) {
                watch.saw_nothing(record);
            }
            bed.podlet("rm -f web").ok();
            bed.is_clean();
            assert_eq!(leaks::tree(&bed.dir.join("aside")), Vec::<String>::new());
            fs::remove_file(bed.dir.join("aside")).expect("what it led to is there");
        }
    }
    let left = leaks::descendants(std::os::unix::process::parent_id());
    let left: Vec<_> =
        left.iter().filter(|seen| seen.title.contains("pause") || seen.title.contains("block")).collect();
    assert!(left.is_empty(), "{} lives on", left[0]);
}

fn records_of_a_bundle_that_are_no_plain_files_keep_nobody_waiting(bed: &Bed) {
    for kind in Kind::all(bed) {
        for (record, starts) in [("record.json", true), ("process.json", true), ("record.json", false), ("gate", false)]
        {
            println!("{record} is {}:", kind.name());
            let make = if starts { oci::start } else { oci::create };
            let pid = make(bed, "c", "block");
            let path = bed.oci_state().join("c").join(record);
            kind.replace(&path, &bed.dir.join("aside"));
            let watch = Watch::on(&path);
            if record != "gate" {
                bed.oci("state c").fails(1, &[record, kind.name(), "delete -f"]);
                bed.oci("exec c /probe").fails(255, &[record]);
                assert_ne!(bed.oci("list").err, "", "nobody is warned");
            }
            for line in ["list", "kill c 0", "pause c", "resume c", "ps c", "start c", "delete c"] {
                bed.oci(line);
            }
            if !matches!(kind, Kind::Link | Kind::Directory) {
                watch.saw_nothing(record);
            }
            let said = bed.oci("delete --force c").code(0);
            if record == "process.json" && !bed.mode.has_cgroups() {
                // Then nothing tells which one it is.
                assert!(said.err.contains("goes on"), "{}", said.err);
                bed.kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            ends(pid);
            bed.is_clean();
            fs::remove_file(bed.dir.join("aside")).ok();
        }
    }
}

fn a_container_without_a_record_is_removed_and_its_mates_stay(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe block").ok();
    let mate = bed.pid_of("web/b");
    for damaged in [vec!["container.json"], vec!["container.json", "process.json"]] {
        bed.podlet("run -d --pod web --name a --rootfs ROOT /probe orphan block , echo up , block").ok();
        bed.await_log("web/a", "up");
        let a = bed.pid_of("web/a");
        for record in damaged {
            let path = bed.state().join("web/containers/a").join(record);
            Kind::Pipe.replace(&path, &bed.dir.join("aside"));
        }
        bed.podlet("rm web/a").fails(125, &["container.json"]);
        bed.podlet("rm -f web/a").ok();
        ends(a);
        assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(1));
        assert_eq!(bed.pid_of("web/b"), mate);
        assert_eq!(leaks::descendants(bed.pause_of("web")).len(), 1, "what it left lives on");
    }
    // Their entries in the exit table are free again.
    let table = fs::read(bed.state().join("web/table")).expect("the exit table");
    let used = table[32..].chunks(32).filter(|entry| entry[4..8] != [0; 4]).count();
    assert_eq!(used, 1, "entries of the exit table");
}

fn marks_that_are_no_plain_files_keep_nobody_waiting(bed: &Bed) {
    bed.podlet("ps").ok();
    for kind in Kind::all(bed) {
        let marks = bed.state().join(".sweep");
        fs::create_dir_all(&marks).expect("a directory");
        fs::set_permissions(&marks, fs::Permissions::from_mode(0o700)).expect("mode");
        for mark in ["web", "gone"] {
            fs::write(marks.join(mark), "").expect("a mark");
            kind.replace(&marks.join(mark), &bed.dir.join("aside"));
        }
        let watches = ["web", "gone"].map(|mark| Watch::on(&marks.join(mark)));
        bed.podlet("create web").ok();
        if !matches!(kind, Kind::Link | Kind::Directory) {
            watches.iter().for_each(|watch| watch.saw_nothing("a mark"));
        }
        bed.podlet("rm -f web").ok();
        bed.podlet("ps").ok();
        assert_eq!(leaks::tree(&marks), Vec::<String>::new());
        fs::remove_file(bed.dir.join("aside")).expect("what a link led to is there");
    }
}

fn what_stands_where_a_record_is_written_keeps_nobody_waiting(bed: &Bed) {
    fs::write(bed.dir.join("kept"), "kept").expect("a file");
    for kind in Kind::all(bed) {
        let stand = |path: std::path::PathBuf| {
            fs::write(&path, "").expect("a file");
            kind.replace(&path, &bed.dir.join("aside"));
            if kind == Kind::Link {
                fs::remove_file(&path).expect("removal");
                symlink(bed.dir.join("kept"), &path).expect("a link");
            }
        };
        bed.podlet("create web").ok();
        bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
        for record in ["pod.new", "pause.new", "table.new", "containers/a/container.new", "containers/a/process.new"] {
            stand(bed.state().join("web").join(record));
        }
        // In the same life of the pod, and in the next one.
        bed.podlet("restart -t 0 web/a").ok();
        bed.podlet("stop -t 0 web").ok();
        bed.podlet("start web/a").ok();
        assert_eq!(bed.podlet("exec web/a /probe echo inside").ok(), "inside\n");
        bed.podlet("rm -f web").ok();
        bed.is_clean();
        assert_eq!(fs::read_to_string(bed.dir.join("kept")).expect("a file"), "kept");
    }
}

fn what_a_bundle_names_is_known_before_it_is_opened(bed: &Bed) {
    let (pipe, file) = (bed.dir.join("pipe"), bed.dir.join("config.json"));
    mkfifo(&pipe, Bits::S_IRWXU).expect("a pipe");
    for (named, word) in [(pipe.as_path(), "a pipe"), (Path::new("/dev/null"), "a device"), (&bed.dir, "a directory")] {
        symlink(named, &file).expect("a link");
        let watch = Watch::on(&pipe);
        let said = [bed.oci("create --bundle DIR c"), bed.podlet("run --rm --bundle DIR")];
        watch.saw_nothing("config.json");
        for (said, code) in said.into_iter().zip([1, 125]) {
            said.fails(code, &["config.json", word, "not a plain file"]);
        }
        fs::remove_file(&file).expect("removal");
    }
    // A file of the kernel's is a plain one only by its looks.
    symlink("/proc/self/status", &file).expect("a link");
    bed.oci("create --bundle DIR c").fails(1, &["config.json", "kernel"]);
    fs::remove_file(&file).expect("removal");

    let mut config = config(bed, "ids");
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "network");
    list(&mut config["linux"]["namespaces"]).push(json!({ "type": "network", "path": &pipe }));
    write(bed, &config);
    let watch = Watch::on(&pipe);
    bed.oci("create --bundle DIR c").fails(1, &["linux.namespaces", "not a net namespace"]);
    watch.saw_nothing("what should be a namespace");

    let passwd = bed.inside("etc/passwd");
    fs::remove_file(&passwd).expect("removal");
    mkfifo(&passwd, Bits::S_IRWXU).expect("a pipe");
    let watch = Watch::on(&passwd);
    bed.podlet("run --rm --rootfs ROOT /probe").fails(125, &["/etc/passwd", "a pipe"]);
    watch.saw_nothing("the image's passwd");
    bed.is_clean();
}

/// A pipe, and a thread that writes to it.
fn pipe_of(bed: &Bed, name: &str, text: &str) {
    let (path, text) = (bed.dir.join(name), text.to_string());
    mkfifo(&path, Bits::S_IRWXU).expect("a pipe");
    std::thread::spawn(move || fs::write(path, text));
}

fn what_a_command_names_may_be_a_pipe_and_no_device(bed: &Bed) {
    oci::start(bed, "c", "block");
    let refused = |said: crate::bed::Said, word: &str| {
        assert!(!said.status.success() && said.err.contains(word), "{}: {}", said.command, said.err);
    };
    for (named, word) in [("/dev/null", "a device"), ("DIR", "a directory")] {
        refused(bed.oci(&format!("exec --process {named} c")), word);
        refused(bed.oci(&format!("update -r {named} c")), word);
        refused(bed.podlet(&format!("run --rm --security-opt seccomp={named} --rootfs ROOT /probe")), word);
    }
    let process = json!({ "args": ["/probe", "echo", "by", "pipe"], "cwd": "/", "env": ["PATH=/bin"] });
    pipe_of(bed, "process", &process.to_string());
    assert_eq!(bed.oci("exec --process DIR/process c").ok(), "by pipe\n");
    pipe_of(bed, "profile", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
    bed.podlet("run --rm --security-opt seccomp=DIR/profile --rootfs ROOT /probe").ok();
}
