//! The options that users of podman type every day do here what they do there, or
//! say why not (docs/options.md).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};
use pod::Pod;

use super::commands::detached;
use crate::bed::Bed;
use crate::modes::Mode;
use crate::sys;

crate::tests![
    a_privileged_container_may_what_its_caller_may,
    privileges_end_at_the_host_image_of_an_ordinary_user,
    mounts_are_said_by_keys,
    the_pods_shared_memory_has_its_size,
    files_tell_what_was_made,
    a_process_is_in_groups_and_has_a_mask,
    an_init_is_pause_or_there_is_none,
    a_container_says_how_it_is_stopped,
    removal_by_force_waits_where_that_was_said,
    a_run_ends_after_its_time,
    an_environment_is_podlets_own_or_bare,
    a_name_is_given_anew,
    namespaces_are_the_pods_or_private,
    a_zone_is_bound_where_it_is_looked_for,
    a_pod_is_named_or_gets_a_name,
    places_of_a_root_that_is_read_only_can_be_written,
];

/// The mount that is on `target` last, of a `/proc/self/mountinfo`: its options, and
/// those of its file system.
fn mounted(table: &str, target: &str) -> Option<(String, String)> {
    let fields = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    let line = table.lines().map(fields).rfind(|fields| fields.get(4).is_some_and(|at| at == target))?;
    Some((line[5].clone(), line.last()?.clone()))
}

fn has(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// What a line of `/proc/self/status` says.
fn status(said: &str, field: &str) -> String {
    let line = said.lines().find(|line| line.starts_with(&format!("{field}:")));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("{field}: {said}")).to_string()
}

fn a_privileged_container_may_what_its_caller_may(bed: &Bed) {
    bed.podlet("create web").ok();
    let run = |options: &str| {
        bed.podlet(&format!("run --rm --pod web {options} --rootfs ROOT /probe status , mounts , ls /dev")).ok()
    };
    let said = run("--privileged");
    let grantable = pod::facts::Facts::read().expect("facts").grantable();
    let all: pod::CapabilitySet = grantable.into_iter().collect();
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status(&said, set), format!("{:016x}", all.bits()), "{set}");
    }
    assert_eq!((status(&said, "Seccomp"), status(&said, "NoNewPrivs")), ("0".into(), "0".into()));
    for masked in ["/proc/kcore", "/proc/sys", "/proc/keys", "/sys/firmware"] {
        assert_eq!(mounted(&said, masked), None, "{masked}");
    }
    // In a user namespace the kernel keeps it as it is.
    let is_root = matches!(bed.mode, Mode::Root | Mode::Vm);
    let is_writable = |table: &str| {
        let (options, file_system) = mounted(table, "/sys").expect("a sysfs");
        has(&options, "rw") && has(&file_system, "rw")
    };
    assert_eq!(is_writable(&said), is_root, "{said}");
    assert!(mounted(&said, "/sys/fs/cgroup").is_none_or(|(options, _)| has(&options, "rw")), "{said}");
    // The machine's devices that the caller can open.
    let devices = fs::read_dir("/dev").expect("/dev").flatten().filter(|entry| {
        use std::os::unix::fs::FileTypeExt;
        let is_device = entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        is_device && access(&entry.path(), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    });
    let line = said.lines().find_map(|line| line.strip_prefix("ls /dev: ")).expect("a list");
    for name in devices.map(|entry| entry.file_name().into_string().expect("a name")) {
        assert!(name == "console" || line.split(' ').any(|other| other == name), "{name} of {line}");
    }
    // Others of the pod are as they were, and what is said besides counts.
    let other = run("");
    assert!(has(&mounted(&other, "/sys").expect("a sysfs").0, "ro"), "{other}");
    assert_ne!(status(&other, "Seccomp"), "0");
    let less = run("--privileged --cap-drop ALL --security-opt no-new-privileges");
    assert_eq!((status(&less, "CapEff"), status(&less, "NoNewPrivs")), ("0".repeat(16), "1".into()));
    // With a pid namespace of its own, and in a pod of its own.
    for options in ["--share net,ipc,uts", "--share none", ""] {
        let line = format!("run --rm --privileged {options} --rootfs ROOT /probe mounts");
        assert_eq!(is_writable(&bed.podlet(&line).ok()), is_root, "{line}");
    }
}

fn privileges_end_at_the_host_image_of_an_ordinary_user(bed: &Bed) {
    if matches!(bed.mode, Mode::Root | Mode::Vm) {
        return;
    }
    bed.podlet("run --rm --privileged host true").fails(125, &["CAP_SYS_ADMIN", "--rootfs"]);
    bed.is_clean();
}

fn mounts_are_said_by_keys(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a directory");
    fs::write(volume.join("file"), "inside").expect("a file");
    let run = "run --rm --mount type=bind,src=DIR/volume,dst=/data,ro \
               --mount type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=0711 --rootfs ROOT";
    let said =
        bed.podlet(&format!("{run} /probe read /data/file , write /data/new x , write /t/new x , stat /t , mounts"));
    let said = said.ok();
    assert!(said.starts_with("inside\n") && said.contains("write /data/new: errno 30"), "{said}");
    assert!(said.contains("write /t/new: ok") && said.contains("711"), "{said}");
    assert!(has(&mounted(&said, "/t").expect("a tmpfs").1, "size=1024k"), "{said}");
    bed.podlet("run --rm --mount type=bind,source=DIR/volume,target=/data --rootfs ROOT /probe write /data/new x").ok();
    assert_eq!(fs::read_to_string(volume.join("new")).expect("written"), "x");
    // There is nothing to label where there are no labels.
    let labelled = bed.podlet("run --rm -v DIR/volume:/data:ro,Z --rootfs ROOT /probe read /data/file");
    match Path::new("/sys/fs/selinux/enforce").exists() {
        true => drop(labelled.fails(125, &["--volume", "SELinux"])),
        false => assert_eq!(labelled.ok(), "inside\n"),
    }
    for (mount, words) in [
        ("type=bind,src=DIR/volume,dst=/data,idmap", &["idmap", "bind-propagation"][..]),
        ("type=bind,src=DIR/none,dst=/data", &["none"]),
        ("type=volume,src=data,dst=/data", &["--mount", "no volumes", "type=bind"]),
        ("type=tmpfs,dst=/t,tmpfs-size=much", &["tmpfs-size=much"]),
    ] {
        bed.podlet(&format!("run --name a --mount {mount} --rootfs ROOT /probe exit 0")).fails(125, words);
    }
    bed.is_clean();
}

fn the_pods_shared_memory_has_its_size(bed: &Bed) {
    let size = |line: &str| {
        let table = bed.podlet(&format!("run --rm {line} --rootfs ROOT /probe mounts")).ok();
        let (_, options) = mounted(&table, "/dev/shm").expect("shared memory");
        let size = options.split(',').find_map(|option| option.strip_prefix("size=")).map(String::from);
        // Older kernels show it where there is no limit, too.
        size.filter(|size| size != "0k")
    };
    let (small, usual) = (Some("1024k".to_string()), Some("65536k".to_string()));
    bed.podlet("create --shm-size 1m web").ok();
    assert_eq!(size("--pod web"), small);
    assert_eq!(size("--pod web --ipc private"), usual, "its own is another");
    // What it makes anew is as large.
    bed.podlet("stop -t 0 web").ok();
    bed.podlet("start web").ok();
    assert_eq!(size("--pod web"), small);
    assert_eq!((size("--shm-size 1m"), size(""), size("--shm-size 0")), (small.clone(), usual, None));
    assert_eq!(size("--shm-size 1m --ipc private"), small);
    assert_eq!(size("--shm-size 1m --share net,pid"), small);
    bed.podlet("run --pod web --shm-size 1m --rootfs ROOT /probe exit 0").fails(125, &["--shm-size", "podlet create"]);
    bed.podlet("create --share net --shm-size 1m other").fails(125, &["shm_size", "`ipc` to --share"]);
    bed.podlet("create --shm-size much other").fails(125, &["--shm-size", "much"]);
}

fn files_tell_what_was_made(bed: &Bed) {
    let read = |name: &str| fs::read_to_string(bed.dir.join(name)).expect("a file");
    let is_there = |name: &str| bed.dir.join(name).exists();
    bed.podlet("create --pod-id-file DIR/pod web").ok();
    assert_eq!(read("pod"), "web\n");
    bed.podlet("create --pod-id-file DIR/pod other").fails(125, &["--pod-id-file", "remove it"]);
    let run = "run -d --pod-id-file DIR/pod --name a --cidfile DIR/cid --pidfile DIR/pid --rootfs ROOT /probe block";
    assert_eq!(bed.podlet(run).ok(), "web/a\n");
    assert_eq!((read("cid"), read("pid")), ("web/a\n".into(), format!("{}\n", bed.pid_of("web/a"))));
    // What commands take is in there.
    assert_eq!(bed.inspect(read("cid").trim())["state"], "running");
    let again = "run -d --pod web --name b --cidfile DIR/cid --rootfs ROOT /probe block";
    bed.podlet(again).fails(125, &["--cidfile", "is there already", "remove it"]);
    // Of what does not come to be there is no file, and in the end none of what is removed.
    let fails = "run --pod web --name b --cidfile DIR/none --pidfile DIR/pid --rootfs ROOT /nothing";
    bed.podlet(fails).fails(127, &["/nothing"]);
    bed.podlet("run --rm --pod web --name b --cidfile DIR/none --rootfs ROOT /probe exit 0").ok();
    assert!(!is_there("none") && !is_there("pid"));
    bed.podlet("run --pod web --name b --cidfile DIR/gone/cid --rootfs ROOT /probe exit 0").fails(125, &["--cidfile"]);
    let made = "container create --pod web --name b --cidfile DIR/made --rootfs ROOT /probe exit 3";
    assert_eq!(bed.podlet(made).ok(), "web/b\n");
    assert_eq!(read("made"), "web/b\n");
    let refused = "container create --pod web --name c --pidfile DIR/pid --rootfs ROOT /probe exit 0";
    bed.podlet(refused).fails(125, &["--pidfile", "nothing is started yet"]);
    bed.podlet("run --pod-id-file DIR/cid --rootfs ROOT /probe exit 0").fails(125, &["web/a"]);
    assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(2));
}

fn a_process_is_in_groups_and_has_a_mask(bed: &Bed) {
    bed.podlet("create web").ok();
    let run = "run -d --pod web --name a --umask 0077 --group-add www --group-add 7 --rootfs ROOT /probe umask , block";
    if bed.mode.has_ids() {
        bed.podlet(run).ok();
        bed.await_log("web/a", "77");
        // root is in adm.
        assert!(bed.podlet("exec web/a /probe ids").ok().contains("Groups: 4 7 34\n"));
        assert_eq!(bed.podlet("exec web/a /probe umask").ok(), "77\n");
        // They are not another user's.
        assert!(bed.podlet("exec -u web web/a /probe ids").ok().contains("Groups: 4\n"));
        bed.podlet("restart -t 0 web/a").ok();
        assert!(bed.podlet("exec web/a /probe ids").ok().contains("Groups: 4 7 34\n"));
        let unknown = "run --pod web --name b --group-add frob --rootfs ROOT /probe exit 0";
        bed.podlet(unknown).fails(125, &["groups \"frob\"", "/etc/group"]);
    } else {
        bed.podlet(run).fails(125, &["supplementary groups", "subuid(5)"]);
        bed.podlet("run --rm --pod web --umask 0077 --rootfs ROOT /probe umask").ok();
    }
    for (option, words) in [
        ("--group-add keep-groups", &["--group-add keep-groups"][..]),
        ("--umask 9", &["--umask \"9\"", "octal"]),
        ("--umask 01777", &["--umask", "0777"]),
    ] {
        bed.podlet(&format!("run --pod web --name b {option} --rootfs ROOT /probe exit 0")).fails(125, words);
    }
}

fn an_init_is_pause_or_there_is_none(bed: &Bed) {
    let said = bed.podlet("run --rm --init --rootfs ROOT /probe session").ok();
    assert!(!said.starts_with("pid 1 "), "{said}");
    let refused = &["--init", "pid 1 of a pid namespace of its own", "--share"];
    bed.podlet("run --init --share net,ipc,uts --rootfs ROOT /probe exit 0").fails(125, refused);
    bed.podlet("run --init --pid private --rootfs ROOT /probe exit 0").fails(125, refused);
    bed.is_clean();
    bed.podlet("create --share net,ipc,uts web").ok();
    bed.podlet("run --pod web --name a --init --rootfs ROOT /probe exit 0").fails(125, refused);
    assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(0));
}

fn a_container_says_how_it_is_stopped(bed: &Bed) {
    bed.podlet("create web").ok();
    let run = |name: &str, options: &str, script: &str| {
        let line = format!("run -d --pod web --name {name} {options} --rootfs ROOT /probe {script} , echo up , block");
        bed.podlet(&line).ok();
        bed.await_log(&format!("web/{name}"), "up");
    };
    run("a", "--stop-signal USR1", "ignore TERM , trap USR1 51");
    run("b", "--stop-timeout 0", "ignore TERM");
    run("c", "--stop-timeout 600", "trap TERM 42");
    bed.podlet("stop web/a").ok();
    assert_eq!(bed.inspect("web/a")["exit_code"], 51);
    // Sooner than the usual 10 s.
    let begin = Instant::now();
    bed.podlet("restart web/b").ok();
    bed.await_log("web/b", "up");
    bed.podlet("stop web").ok();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let status = bed.inspect("web");
    assert_eq!((&status["containers"][1]["signal"], &status["containers"][2]["exit_code"]), (&9.into(), &42.into()));
    // What the command says counts.
    bed.podlet("start web/c").ok();
    bed.podlet("stop -t 0 web/c").ok();
    let refused = "run --pod web --name d --stop-signal FROB --rootfs ROOT /probe exit 0";
    bed.podlet(refused).fails(125, &["--stop-signal", "FROB"]);
}

fn removal_by_force_waits_where_that_was_said(bed: &Bed) {
    bed.podlet("create web").ok();
    for (name, option) in [("patient", "--stop-timeout 600"), ("usual", "")] {
        let line =
            format!("run -d --pod web --name {name} {option} --rootfs ROOT /probe trap TERM 42 , echo up , block");
        bed.podlet(&line).ok();
        bed.await_log(&format!("web/{name}"), "up");
    }
    let pod = Pod::open(&bed.store(), "web").expect("a pod");
    let processes = ["patient", "usual"].map(|name| pod.container(name).and_then(|it| it.process()).expect("it runs"));
    bed.podlet("rm -f web/patient").ok();
    bed.podlet("rm -f web").ok();
    let ends = processes.map(|process| process.wait().expect("an end").shell_code());
    assert_eq!(ends, [42, 137]);
    bed.is_clean();
}

fn a_run_ends_after_its_time(bed: &Bed) {
    let said = bed.podlet("run --rm --name a --timeout 1 --rootfs ROOT /probe ignore TERM , orphan block , block");
    let said = said.code(137);
    assert!(said.err.contains("container a: killed after its time of 1 s"), "{}", said.err);
    bed.podlet("run --rm --timeout 600 --rootfs ROOT /probe exit 5").code(5);
    bed.podlet("run --rm --timeout 0 --rootfs ROOT /probe exit 6").code(6);
    bed.is_clean();
}

fn an_environment_is_podlets_own_or_bare(bed: &Bed) {
    let env = |options: &str| {
        let mut command = bed.command(&bed.expand(&format!("run --rm {options} --rootfs ROOT /probe env")));
        command.env_clear().env("PATH", "/ours").env("OUR_A", "1").env("OUR_B", "2").env("PODLET_NETWORK", "none");
        let mut lines: Vec<_> = bed.finish(command).ok().lines().map(String::from).collect();
        lines.retain(|line| !line.starts_with("PODLET_"));
        lines.sort();
        lines.join(" ")
    };
    let path = format!("PATH={}", pod::spec::DEFAULT_PATH);
    assert_eq!(env(""), format!("HOME=/root {path} container=podlet"));
    assert_eq!(env("--env-host"), format!("HOME=/root OUR_A=1 OUR_B=2 {path} container=podlet"));
    assert_eq!(env("--env-host --unsetenv OUR_A -e OUR_B=3"), format!("HOME=/root OUR_B=3 {path} container=podlet"));
    assert_eq!(env("-e OUR*"), format!("HOME=/root OUR_A=1 OUR_B=2 {path} container=podlet"));
    assert_eq!(env("--unsetenv-all -e OUR_A"), "HOME=/root OUR_A=1");
    bed.podlet("run --unsetenv HOME --rootfs ROOT /probe env").fails(125, &["--unsetenv HOME", "-e HOME="]);
}

fn a_name_is_given_anew(bed: &Bed) {
    let run = |options: &str| bed.podlet(&format!("run -d --replace {options} --rootfs ROOT /probe block"));
    run("--name own").ok();
    let first = bed.pid_of("own/own");
    run("--name own").ok();
    assert!(sys::ends_within(first, 0) && bed.pid_of("own/own") != first);
    // What cannot be changes nothing.
    let second = bed.pid_of("own/own");
    run("--name own --umask 9").fails(125, &["--umask"]);
    run("--name own --init --pid private").fails(125, &["--init"]);
    run("").fails(125, &["--name"]);
    assert_eq!(bed.pid_of("own/own"), second);
    // A pod of others is not one container's.
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    run("--name web").fails(125, &["--replace", "podlet rm -f web"]);
    let (a, pause) = (bed.pid_of("web/a"), bed.pause_of("web"));
    run("--name a --pod web --init").ok();
    assert!(sys::ends_within(a, 0) && bed.pause_of("web") == pause, "the pod stays");
    bed.podlet("create web").fails(125, &["web"]);
    bed.podlet("create --replace --share none web --shm-size 1m").fails(125, &["shm_size"]);
    assert_eq!(bed.pause_of("web"), pause);
    bed.podlet("create --replace web").ok();
    assert!(sys::ends_within(pause, 0));
    assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(0));
    bed.podlet("create --replace new").ok();
}

fn namespaces_are_the_pods_or_private(bed: &Bed) {
    bed.podlet("create web").ok();
    let of = |options: &str| bed.podlet(&format!("run --rm --pod web {options} --rootfs ROOT /probe ns")).ok();
    let line = |said: &str, kind: &str| said.lines().find(|line| line.starts_with(kind)).map(String::from);
    let usual = of("--pid pod --ipc shareable --uts pod");
    assert_eq!(line(&of(""), "ipc"), line(&usual, "ipc"));
    for kind in ["pid", "ipc"] {
        let private = of(&format!("--{kind} private"));
        assert!(line(&private, kind).is_some() && line(&private, kind) != line(&usual, kind), "{kind}: {private}");
    }
    assert!(bed.podlet("run --rm --pid private --rootfs ROOT /probe session").ok().starts_with("pid 1 "));
    assert_ne!(bed.podlet("run --rm --uts private --name own --rootfs ROOT /probe hostname").ok(), "web\n");
    for (options, words) in [
        ("--pod web --uts private", &["--uts private", "pod web"][..]),
        ("--pod new:other", &["--pod new:other", "podlet create other"]),
        ("--pid host", &["--pid host", "pause"]),
        ("--uts host", &["--uts host", "--hostname"]),
        ("--ipc container:x", &["--ipc container:x", "--pod POD"]),
        ("--userns keep-id", &["--userns \"keep-id\"", "--uidmap"]),
        ("--share net --ipc pod", &["--ipc pod", "--share"]),
        ("--share +frob", &["frob"]),
    ] {
        bed.podlet(&format!("run --name a {options} --rootfs ROOT /probe exit 0")).fails(125, words);
    }
    bed.podlet("run --rm --userns host --share +cgroup --rootfs ROOT /probe exit 0").ok();
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn a_zone_is_bound_where_it_is_looked_for(bed: &Bed) {
    const ZONE: &str = "Etc/UTC";
    let run = |zone: &str| bed.podlet(&format!("run --rm --tz {zone} --rootfs ROOT /probe mounts"));
    if Path::new("/usr/share/zoneinfo").join(ZONE).exists() {
        let table = run(ZONE).ok();
        assert!(has(&mounted(&table, "/etc/localtime").expect("a file").0, "ro"), "{table}");
    } else {
        run(ZONE).fails(125, &["--tz", ZONE]);
    }
    run("No/Where").fails(125, &["--tz", "No/Where"]);
    run("../../../etc").fails(125, &["--tz", "such as Europe/Berlin"]);
}

fn a_pod_is_named_or_gets_a_name(bed: &Bed) {
    assert_eq!(bed.podlet("create --name web").ok(), "web\n");
    assert_eq!(bed.podlet("create -n other").ok(), "other\n");
    bed.podlet("create --name a b").fails(125, &["--name"]);
    let made_up = bed.podlet("create").ok();
    assert_eq!(bed.inspect(made_up.trim())["state"], "running");
    // Its last container takes it with it.
    bed.podlet("create --exit-policy stop ends").ok();
    bed.podlet("run --pod ends --name a --rootfs ROOT /probe exit 3").code(3);
    bed.until("the pod's end", || bed.inspect("ends")["state"] == "exited");
    bed.podlet("create --exit-policy frob x").fails(125, &["--exit-policy", "continue or stop"]);
    bed.podlet("create --volume /a:/b x").fails(125, &["`podlet create` has no option --volume", "podlet run --pod"]);
}

fn places_of_a_root_that_is_read_only_can_be_written(bed: &Bed) {
    let script = "write /tmp/x y , write /x y";
    let run = |options: &str| bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe {script}"));
    assert_eq!(run("--read-only").ok(), "write /tmp/x: errno 30\nwrite /x: errno 30\n");
    for option in ["--read-only-tmpfs", "--read-only-tmpfs=true"] {
        assert_eq!(run(&format!("--read-only {option}")).ok(), "write /tmp/x: ok\nwrite /x: errno 30\n", "{option}");
    }
    assert_eq!(run("--read-only --read-only-tmpfs=false").ok(), "write /tmp/x: errno 30\nwrite /x: errno 30\n");
    run("--read-only-tmpfs").fails(125, &["--read-only-tmpfs", "--read-only"]);
}
