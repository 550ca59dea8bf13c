//! Bad input: a clear error that names what was given, an exit code from 125
//! to 127, nothing left behind, and never a panic.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use pod::spec::ProcessSpec;
use pod::{ContainerSpec, Error, Io, Pod, PodOptions, Root};

use crate::bed::{Bed, Said};
use crate::{leaks, modes};

crate::tests![
    unknown_words_and_flags,
    names_that_cannot_be,
    root_file_systems_and_programs,
    users_that_cannot_be,
    paths_volumes_and_environment,
    namespaces_maps_and_capabilities,
    signals_and_times,
    what_is_there_already_and_what_is_not,
    state_directories,
    damaged_state,
    what_only_the_library_can_be_given,
    limits_that_cannot_be,
    limits_are_honoured_or_refused_by_name,
    no_limit_needs_no_controller,
    each_cause_is_told_once,
];

/// Each is refused with this code and these words, and leaves nothing.
fn all_refused(bed: &Bed, code: i32, cases: &[(&str, &[&str])]) {
    for (line, words) in cases {
        let said = bed.podlet(line).fails(code, words);
        assert!(said.err.lines().count() < 15, "too much to read: {}", said.err);
    }
    bed.is_clean();
}

fn unknown_words_and_flags(bed: &Bed) {
    all_refused(
        bed,
        125,
        &[
            ("frobnicate", &["frobnicate"]),
            ("run --frob --rootfs ROOT /probe", &["--frob"]),
            ("ps --format yaml", &["yaml"]),
            ("run", &["say what to run"]),
            ("run alpine sh", &["alpine", "host", "--rootfs"]),
            ("run --rootfs", &["--rootfs"]),
            ("run --rootfs ROOT --bundle DIR /probe", &["--bundle"]),
            ("stop", &["TARGETS"]),
            ("exec web", &["CMD"]),
            ("wait", &["TARGETS"]),
            ("inspect a b", &["b"]),
        ],
    );
    bed.podlet("--help").ok();
    bed.podlet("--version").ok();
    bed.podlet("run --help").ok();
}

fn names_that_cannot_be(bed: &Bed) {
    let long = "x".repeat(64);
    for name in ["", ".", "..", ".hidden", "-dash", "a/b", "../x", "a b", "ä", "a\nb", "a:b", &long] {
        let args = ["create".into(), "--".into(), name.to_string()];
        bed.podlet_args(&args).fails(125, &["pod name"]);
        let args = ["run", "--name", name, "--rootfs", "/", "/probe"].map(String::from);
        let said = bed.podlet_args(&args);
        assert_eq!(said.status.code(), Some(125), "{name:?}");
    }
    // Where they name something that is there, nothing but "no such" is said.
    for name in ["", ".", "..", "../x", "a/..", "a/../b", "/", "//", &long] {
        for command in ["inspect", "wait", "logs", "start", "stop", "restart", "rm", "kill"] {
            bed.podlet_args(&[command, "--", name]).fails(125, &["no such"]);
        }
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    for args in [vec!["create".as_ref(), odd], vec!["inspect".as_ref(), odd]] {
        let said = bed.podlet_args(&args);
        assert_eq!(said.status.code(), Some(125));
    }
    bed.is_clean();
}

fn root_file_systems_and_programs(bed: &Bed) {
    let program = |name: &str, content: &[u8], mode: u32| {
        fs::write(bed.inside(name), content).expect("a program");
        fs::set_permissions(bed.inside(name), fs::Permissions::from_mode(mode)).expect("mode");
    };
    let mut foreign = podlet_tests::PROBE.to_vec();
    foreign[18] = 183;
    program("foreign", &foreign, 0o755);
    program("empty", b"", 0o755);
    program("garbage", b"\x01\x02\x03\x04", 0o755);
    program("short", b"\x7fELF", 0o755);
    program("lost", b"#!/no/such/interpreter\n", 0o755);
    program("plain", podlet_tests::PROBE, 0o644);
    all_refused(
        bed,
        125,
        &[
            ("run --rootfs DIR/none /probe", &["rootfs", "/none"]),
            ("run --rootfs DIR/rootfs/probe /probe", &["rootfs", "not a directory"]),
            ("run --rootfs DIR/rootfs/etc/none/x /probe", &["rootfs", "none"]),
        ],
    );
    all_refused(
        bed,
        127,
        &[
            ("run --rm --rootfs ROOT /none", &["/none"]),
            ("run --rm --rootfs ROOT none", &["\"none\"", "PATH"]),
            ("run --rm --rootfs ROOT /etc/passwd/x", &["/etc/passwd/x"]),
            ("run --rm --rootfs ROOT /lost", &["/lost"]),
            ("run -d --rm --rootfs ROOT /none", &["/none"]),
        ],
    );
    all_refused(
        bed,
        126,
        &[
            ("run --rm --rootfs ROOT /plain", &["/plain", "execute permission"]),
            ("run --rm --rootfs ROOT /etc", &["/etc", "directory"]),
            ("run --rm --rootfs ROOT /foreign", &["/foreign", "another processor"]),
            ("run --rm --rootfs ROOT /empty", &["/empty", "empty"]),
            ("run --rm --rootfs ROOT /garbage", &["/garbage"]),
            ("run --rm --rootfs ROOT /short", &["/short"]),
            ("run -d --name x --rootfs ROOT /plain", &["/plain"]),
        ],
    );
    bed.podlet("create web").ok();
    bed.podlet("run --pod web --name a --rootfs ROOT /none").code(127);
    bed.podlet("run --pod web --name a -d --rootfs ROOT /plain").code(126);
    assert_eq!(bed.inspect("web")["containers"], serde_json::json!([]), "no trace of either");
    bed.podlet("run --pod web --name a --rootfs ROOT /probe exit 0").ok();
}

fn users_that_cannot_be(bed: &Bed) {
    for user in [
        "nobody",
        "",
        ":",
        "0x0",
        "1000x",
        "-1",
        "+1",
        " 1",
        "4294967295",
        "4294967296",
        "99999999999999999999",
        "1:",
        ":1",
        "web:none",
        "odd",
        "web:4294967296",
        "0:x",
    ] {
        bed.podlet_args(&[
            "run",
            "--rm",
            &format!("--user={user}"),
            "--rootfs",
            &bed.rootfs().display().to_string(),
            "/probe",
            "ids",
        ])
        .fails(125, &["user"]);
    }
    fs::remove_file(bed.inside("etc/passwd")).expect("removal");
    bed.podlet("run --rm -u web --rootfs ROOT /probe ids").fails(125, &["web", "no such user"]);
    fs::create_dir(bed.inside("etc/passwd")).expect("a directory");
    bed.podlet("run --rm -u web --rootfs ROOT /probe ids").fails(125, &["/etc/passwd", "not a plain file"]);
    bed.is_clean();
}

fn paths_volumes_and_environment(bed: &Bed) {
    all_refused(
        bed,
        125,
        &[
            ("run -w relative --rootfs ROOT /probe", &["cwd", "relative", "absolute"]),
            ("run -w /a/../b --rootfs ROOT /probe", &["cwd", "/a/../b", ".."]),
            ("run -v nocolon --rootfs ROOT /probe", &["nocolon", "SRC:DST"]),
            ("run -v a:b:c --rootfs ROOT /probe", &["a:b:c", "\"c\"", "rslave"]),
            ("run -v a:/b:ro:x --rootfs ROOT /probe", &["\"ro:x\""]),
            ("run -v :/b --rootfs ROOT /probe", &["SRC:DST"]),
            ("run -v DIR: --rootfs ROOT /probe", &["SRC:DST"]),
            ("run -v DIR/none:/b --rootfs ROOT /probe", &["mount source", "/none"]),
            ("run -v DIR:relative --rootfs ROOT /probe", &["mount destination", "relative"]),
            ("run -v DIR:/a/../b --rootfs ROOT /probe", &["mount destination", "/a/../b"]),
            ("run -v DIR:/ --rootfs ROOT /probe", &["mount destination", "/"]),
            ("run --tmpfs relative --rootfs ROOT /probe", &["mount destination", "relative"]),
            ("run --tmpfs / --rootfs ROOT /probe", &["mount destination"]),
            ("run -v DIR/rootfs/probe:/etc --rootfs ROOT /probe", &["a directory can only be mounted on a directory"]),
            ("run -v DIR:/probe --rootfs ROOT /probe", &["probe", "not a directory"]),
            ("run -e =x --rootfs ROOT /probe", &["=x", "NAME=value"]),
        ],
    );
    let rootfs = bed.rootfs().display().to_string();
    bed.podlet_args(&["run", "-e", "", "--rootfs", &rootfs, "/probe"]).fails(125, &["NAME=value"]);
    bed.podlet_args(&["run", "-w", "", "--rootfs", &rootfs, "/probe"]).fails(125, &["--workdir"]);
    bed.podlet_args(&["run", "--rootfs", &rootfs, ""]).fails(125, &["args"]);
    bed.podlet_args(&["run", "--rootfs", "", "/probe"]).code(125);
    bed.is_clean();
}

fn namespaces_maps_and_capabilities(bed: &Bed) {
    all_refused(
        bed,
        125,
        &[
            ("create web --share net,frob", &["share", "frob", "net, pid"]),
            ("create web --share mnt", &["mnt"]),
            ("create web --hostname bad_name!", &["hostname", "bad_name!"]),
            ("create web --uidmap 0:0", &["uidmap", "0:0", "INSIDE:OUTSIDE:COUNT"]),
            ("create web --share user --uidmap a:b:c --gidmap 0:0:1", &["uidmap", "a:b:c"]),
            ("create web --share user --uidmap 0:0:0 --gidmap 0:0:1", &["uidmap", "0:0:0"]),
            ("create web --share user --uidmap 0:4294967295:2 --gidmap 0:0:1", &["uidmap", "overflow"]),
            ("create web --share user --uidmap 1:1:1 --gidmap 0:0:1", &["uidmap"]),
            ("create web --share user --uidmap 0:0:1", &["gidmap"]),
            ("create web --uidmap 0:0:1 --gidmap 0:0:1", &["--share"]),
            ("create web --monotonic-offset 5", &["--share"]),
            ("create web --share time --monotonic-offset x", &["x"]),
            ("create web --share time --monotonic-offset -99999999999", &["monotonic -99999999999"]),
            ("create web --share time --boottime-offset 9223372036854775807", &["boottime 9223372036854775807"]),
            ("run --cap-add FROB --rootfs ROOT /probe", &["capability", "FROB"]),
            ("run --cap-drop NET_FROB --rootfs ROOT /probe", &["capability", "NET_FROB"]),
        ],
    );
    bed.podlet("create web").ok();
    bed.podlet("run --pod web --share net --rootfs ROOT /probe").fails(125, &["--share", "podlet create"]);
    bed.podlet("run --pod web --hostname x --rootfs ROOT /probe").fails(125, &["--hostname", "podlet create"]);
}

fn signals_and_times(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    for signal in ["FROB", "", "0", "65", "-1", "9x", "SIG", "KILLKILL"] {
        bed.podlet_args(&["kill", &format!("--signal={signal}"), "web/a"]).fails(125, &["not a signal"]);
    }
    for time in ["x", "-1", "1.5", "99999999999999999999"] {
        bed.podlet_args(&["stop", &format!("--time={time}"), "web/a"]).fails(125, &["--time"]);
    }
    assert_eq!(bed.inspect("web/a")["state"], "running");
}

fn what_is_there_already_and_what_is_not(bed: &Bed) {
    for command in ["inspect", "logs", "wait", "kill", "stop", "start", "restart", "rm"] {
        bed.podlet(&format!("{command} gone")).fails(125, &["no such", "gone"]);
        bed.podlet(&format!("{command} gone/a")).fails(125, &["no such", "gone"]);
    }
    bed.podlet("exec gone /probe").fails(125, &["no such", "gone"]);
    bed.podlet("run --pod gone --rootfs ROOT /probe").fails(125, &["no such", "gone"]);
    bed.is_clean();
    bed.podlet("create web").ok();
    bed.podlet("create web").fails(125, &["web", "exists already"]);
    bed.podlet("run --name web --rootfs ROOT /probe").fails(125, &["web", "exists already"]);
    let pause = bed.pause_of("web");
    for command in ["inspect", "logs", "wait", "kill", "stop", "start", "restart", "rm", "rm -f"] {
        let said = bed.podlet(&format!("{command} web/none"));
        match command {
            "rm -f" => drop(said.ok()),
            _ => drop(said.fails(125, &["no such", "web/none"])),
        }
    }
    for command in ["logs", "wait"] {
        bed.podlet(&format!("{command} web")).fails(125, &["web", "no containers"]);
    }
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    let a = bed.pid_of("web/a");
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").fails(125, &["web/a", "exists already"]);
    bed.podlet("start web/a").fails(125, &["web/a", "is running"]);
    bed.podlet("run --pod web -d --name b --rootfs ROOT /probe block").ok();
    bed.podlet("wait web").fails(125, &["web", "several containers", "web/b"]);
    bed.podlet("exec web /probe").fails(125, &["several containers"]);
    assert_eq!((bed.pause_of("web"), bed.pid_of("web/a")), (pause, a));
    assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(2));
}

fn state_directories(bed: &Bed) {
    fs::write(bed.dir.join("file"), "").expect("a file");
    let open = bed.dir.join("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("mode");
    for (root, word) in [("file", "file"), ("open", "nobody else"), ("file/below", "below")] {
        bed.podlet(&format!("--root DIR/{root} ps")).fails(125, &[word]);
    }
    assert_eq!(leaks::tree(&open), Vec::<String>::new());
}

fn damaged_state(bed: &Bed) {
    let damage: [(&str, &[u8]); 7] = [
        ("pod.json", b""),
        ("pod.json", b"{"),
        ("pod.json", b"[1,2]"),
        ("pause.json", b"not json"),
        ("table", b"short"),
        ("table", &[0xff; 4096]),
        ("containers/a/container.json", b"{}"),
    ];
    for (file, content) in damage {
        bed.podlet("create other").ok();
        bed.podlet("create web").ok();
        bed.podlet("run --pod web -d --name a --rootfs ROOT /probe orphan block , block").ok();
        // Replaced, not written into: pause has the table mapped.
        let path = bed.state().join("web").join(file);
        fs::remove_file(&path).expect("removal");
        fs::write(&path, content).expect("damage");
        for command in ["inspect web", "stop -t 0 web", "exec web /probe", "start web/a"] {
            bed.podlet(command).fails(125, &["rm -f"]);
        }
        let said = bed.podlet("ps --format json").ok();
        assert!(said.contains("\"other\""), "one bad pod hides the others: {said}");
        bed.podlet("rm -f web").ok();
        bed.podlet("rm -f other").ok();
        bed.is_clean();
        let left = leaks::descendants(std::os::unix::process::parent_id());
        let left: Vec<_> =
            left.iter().filter(|seen| seen.title.contains("block") || seen.title.contains("pause")).collect();
        assert!(left.is_empty(), "{file} {content:?}: {}", left[0]);
    }
    // No pod at all.
    fs::write(bed.state().join("stray"), "").expect("a file");
    bed.podlet("ps").ok();
    bed.podlet("inspect stray").fails(125, &["stray"]);
    fs::remove_file(bed.state().join("stray")).expect("removal");
}

fn what_only_the_library_can_be_given(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let good = || bed.container("a", "exit 0");
    let refused = |container: ContainerSpec, word: &str| {
        let error = pod.run(&container, Io::log()).expect_err(word);
        assert!(error.to_string().contains(word), "{word}: {error}");
    };
    refused(good().args(["/probe", "a\0b"]), "null byte");
    refused(good().args(Vec::<String>::new()), "empty");
    refused(good().env("A", "b\0c"), "null byte");
    refused(good().cwd("/a\0b"), "null byte");
    refused(good().bind("/tmp\0", "/x", true), "null byte");
    refused(good().bind("relative", "/x", true), "absolute");
    refused(ContainerSpec::new("a", Root::Dir("relative".into())), "absolute");
    let process = |change: &dyn Fn(&mut ProcessSpec)| {
        let mut container = good();
        change(&mut container.process);
        container
    };
    refused(process(&|process| process.umask = 0o7777), "umask");
    let mut with_machine = good();
    with_machine.pid = pod::spec::NamespaceMode::Host;
    refused(with_machine, "pid");
    let limit = |name: &str, soft, hard| pod::spec::Rlimit { name: name.into(), soft, hard };
    refused(process(&|process| process.rlimits = vec![limit("RLIMIT_FROB", 1, 1)]), "RLIMIT_FROB");
    refused(process(&|process| process.rlimits = vec![limit("RLIMIT_NOFILE", 2, 1)]), "RLIMIT_NOFILE");
    // More than the kernel takes, than a plan can have.
    let long = "x".repeat(200_000);
    let error = pod.run(&good().args(["/probe", "echo", &long]), Io::log()).expect_err("too long");
    assert!(matches!(error, Error::Exec { .. }), "{error}");
    let many = (0..100).map(|_| "y".repeat(100_000));
    pod.run(&good().args(["/probe".to_string()].into_iter().chain(many)), Io::log()).expect_err("too much");
    let binds = (0..5000).fold(good(), |container, i| container.bind("/etc/passwd", format!("/many/{i}"), true));
    let error = pod.run(&binds, Io::log()).expect_err("too many");
    assert!(error.to_string().contains("use fewer mounts"), "{error}");
    assert!(pod.containers().expect("a list").is_empty());
    assert_eq!(pod.run(&good(), Io::log()).expect("a start").wait().expect("its end").shell_code(), 0);
    pod.remove().expect("removal");
}

fn limits_that_cannot_be(bed: &Bed) {
    let run = |options: &str| format!("run {options} --rootfs ROOT /probe");
    let cases = [
        ("--memory lots", vec!["--memory", "lots", "512m"]),
        ("--memory 9999999999t", vec!["--memory", "9999999999t"]),
        ("--memory 2m --memory-swap 1m", vec!["memory.swap", "1048576", "at least memory.limit"]),
        ("--memory-swap 1m", vec!["memory.swap", "give memory.limit, too"]),
        ("--cpus 0.001", vec!["--cpus", "0.001"]),
        ("--cpus -1", vec!["--cpus"]),
        ("--cpus nan", vec!["--cpus", "NaN"]),
        ("--cpu-weight 0", vec!["cpu.weight", "between 1 and 10000"]),
        ("--cpu-weight 5 --cpu-shares 5", vec!["--cpu-shares"]),
        ("--cpuset-cpus 3-1", vec!["cpu.cpus", "3-1"]),
        ("--cpuset-mems a", vec!["cpu.mems", "a"]),
        ("--pids-limit many", vec!["--pids-limit", "many"]),
    ];
    for (options, words) in &cases {
        bed.podlet(&run(options)).fails(125, words);
        bed.podlet(&format!("create {options} web")).fails(125, words);
    }
    bed.is_clean();
    bed.podlet("create web").ok();
    bed.podlet("update web").fails(125, &["--memory"]);
    bed.podlet("update web/none --memory 1g").fails(125, &["web/none"]);
    bed.podlet("update none --memory 1g").fails(125, &["none"]);
}

/// Whether a pod made here can have a controller, as far as can be read.
fn can_have(bed: &Bed, controller: &str) -> bool {
    let Some(root) = modes::hierarchy().filter(|_| bed.mode.has_cgroups()) else { return false };
    let own = fs::read_to_string("/proc/self/cgroup").expect("cgroups");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("the v2 hierarchy").to_string();
    let own = root.join(own);
    // The parent of this cgroup has no processes; this one has.
    let parent = own.parent().filter(|parent| parent.starts_with(&root)).unwrap_or(&root);
    let listed = fs::read_to_string(parent.join("cgroup.controllers")).expect("controllers");
    listed.split_whitespace().any(|listed| listed == controller)
}

fn no_limit_needs_no_controller(bed: &Bed) {
    for options in ["--pids-limit -1", "--pids-limit 0", "--memory -1", "--memory-swap -1", "--cpus 0"] {
        bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe")).ok();
        bed.podlet(&format!("create {options} web")).ok();
        bed.podlet("rm -f web").ok();
    }
    bed.is_clean();
}

fn limits_are_honoured_or_refused_by_name(bed: &Bed) {
    let cases = [
        ("--memory 64m", "memory", "memory.limit", "memory.max", "67108864"),
        ("--pids-limit 50", "pids", "pids.limit", "pids.max", "50"),
        ("--cpus 0.5", "cpu", "cpu.quota", "cpu.max", "50000 100000"),
        ("--cpuset-cpus 0", "cpuset", "cpu.cpus", "cpuset.cpus", "0"),
    ];
    for (options, controller, field, file, content) in cases {
        let run = format!("run --rm {options} --rootfs ROOT /probe read /sys/fs/cgroup/{file}");
        let create = format!("create {options} web");
        if can_have(bed, controller) {
            assert_eq!(bed.podlet(&run).ok().trim(), content);
            bed.podlet(&create).ok();
            bed.podlet("rm -f web").ok();
        } else {
            let why = if bed.mode.has_cgroups() { format!("the {controller} controller") } else { "cgroup".into() };
            bed.podlet(&run).fails(125, &[field, &why]);
            bed.podlet(&create).fails(125, &[field, &why]);
        }
        bed.is_clean();
    }
    if !can_have(bed, "memory") {
        // In a pod that is there; the library's update, too.
        bed.podlet("create web").ok();
        bed.podlet("run --pod web --memory 64m --rootfs ROOT /probe").fails(125, &["memory.limit"]);
        bed.podlet("update web --memory 64m").fails(125, &["memory.limit"]);
        assert!(bed.inspect("web")["resources"]["memory"]["limit"].is_null());
        assert!(bed.inspect("web")["containers"].as_array().is_some_and(Vec::is_empty));
    }
}

/// Where the commands print an error with all its causes, none comes twice.
fn each_cause_is_told_once(bed: &Bed) {
    let (malformed, short) = (bed.dir.join("malformed"), bed.dir.join("short.json"));
    fs::create_dir(&malformed).expect("a bundle");
    fs::write(malformed.join("config.json"), "{ \"ociVersion\": 1.0.0 }").expect("a config");
    fs::write(&short, "{").expect("a profile");
    let once = |said: Said, words: &str| {
        assert_eq!(said.err.matches(words).count(), 1, "{words:?} in what {} says: {}", said.command, said.err);
    };
    let missing = "No such file or directory";
    for (line, code, words) in [
        ("run --bundle DIR/none", 125, missing),
        ("run --bundle DIR/malformed", 125, " at line 1 column "),
        ("run --rootfs DIR/none /probe", 125, missing),
        ("run -v DIR/none:/x --rootfs ROOT /probe", 125, missing),
        ("run --env-file DIR/none --rootfs ROOT /probe", 125, missing),
        ("run --security-opt seccomp=DIR/short.json --rootfs ROOT /probe", 125, "EOF while parsing"),
        ("run -w /none --rootfs ROOT /probe", 125, missing),
        ("run --rootfs ROOT /none", 127, missing),
    ] {
        once(bed.podlet(line).code(code), words);
    }
    for (line, words) in [
        ("create --bundle DIR/none c", missing),
        ("create --bundle DIR/malformed c", " at line 1 column "),
        ("run --bundle DIR/none c", missing),
    ] {
        once(bed.oci(line).code(1), words);
    }
    bed.is_clean();
}
