//! A pod's life: pause, what it survives, what ends it, what it costs.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use pod::{Error, Io, Pod, PodOptions};

use crate::bed::Bed;
use crate::{leaks, sys};

crate::tests![
    a_thousand_restarts_leave_nothing,
    ten_thousand_orphans_are_reaped_and_counted,
    thirty_two_threads_start_a_hundred_containers_in_each_of_two_pods,
    a_crash_leaves_the_other_container_and_the_network_alone,
    sigkill_to_pause_ends_everything,
    an_attached_pod_ends_with_its_embedder,
    an_attached_pod_ends_with_its_embedder_though_a_child_of_it_lives_on,
    an_attached_pod_ends_with_its_value,
    signals_from_inside_mean_nothing_to_pause,
    sigterm_from_outside_ends_the_pod,
    twenty_pods_leave_the_machines_mount_table_alone,
    a_full_exit_table_is_an_error,
    an_embedder_that_ignores_sigchld,
    an_embedder_that_waits_for_all_children,
    the_embedder_is_not_changed,
    pause_keeps_nothing,
];

fn a_thousand_restarts_leave_nothing(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    pod.run(&bed.container("other", "block"), Io::log()).expect("a container");
    let other = bed.pid_of("web/other");
    let network = bed.inspect("web")["namespaces"].clone();
    // The main process leaves something behind each time.
    pod.run(&bed.container("a", "orphan block , exit 5"), Io::log()).expect("a container").wait().expect("its end");
    let count = || {
        let mine = leaks::descendants(std::process::id()).len();
        (mine, leaks::descriptors().len(), leaks::tree(&bed.state()).len())
    };
    let again = || {
        let process = pod.container("a").expect("a container").start(Io::log()).expect("a restart");
        assert_eq!(process.wait().expect("its end").shell_code(), 5);
    };
    again();
    pod.container("a").expect("a container").kill_all().expect("the end of what was left");
    let before = count();
    for _ in 0..bed.rounds(1000) {
        again();
    }
    pod.container("a").expect("a container").kill_all().expect("the end of what was left");
    assert_eq!(count(), before, "processes, descriptors, files of the state directory");
    assert_eq!(bed.inspect("web")["namespaces"], network);
    assert_eq!(bed.pid_of("web/other"), other);
    // And the command's restart, which also stops.
    for _ in 0..5 {
        bed.podlet("restart -t 5 web/other").ok();
        assert_eq!(bed.inspect("web")["namespaces"], network);
    }
    // The table has as much room as before: other and a take two entries.
    let entries = used_entries(&bed.state().join("web/table"));
    assert_eq!(entries, 2, "entries of the exit table in use");
    pod.remove().expect("removal");
}

/// How many entries are not free, by the bytes of the file.
fn used_entries(table: &std::path::Path) -> usize {
    let bytes = fs::read(table).expect("the table");
    bytes[32..].chunks(32).filter(|entry| entry[4] != 0).count()
}

fn ten_thousand_orphans_are_reaped_and_counted(bed: &Bed) {
    bed.podlet("create web").ok();
    let orphans = bed.rounds(10_000);
    let script = format!("orphans {orphans} , wait-orphans , processes");
    let run = bed.podlet(&format!("run --pod web --name a --rootfs ROOT /probe {script}"));
    let said = run.ok();
    assert!(said.contains("alone"), "{said}");
    assert!(!said.contains(" Z "), "a zombie: {said}");
    assert_eq!(bed.inspect("web")["reaped_orphans"], orphans);
    let zombies: Vec<_> = leaks::processes().into_iter().filter(|p| p.parent == bed.pause_of("web")).collect();
    assert!(zombies.is_empty(), "children of pause are left: {}", zombies.len());
}

fn thirty_two_threads_start_a_hundred_containers_in_each_of_two_pods(bed: &Bed) {
    let store = bed.store();
    let pods = ["one", "two"].map(|name| Pod::create(&store, PodOptions::new(name)).expect("a pod"));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                // Memory is allocated all the while.
                let mut waste = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= 200 {
                        break;
                    }
                    waste.push(vec![number as u8; 4096]);
                    let code = number % 100;
                    let container = bed.container(&format!("c{number}"), &format!("echo {number} , exit {code}"));
                    let process = pods[number % 2].run(&container, Io::log()).expect("a start");
                    assert_eq!(usize::from(process.wait().expect("its end").shell_code()), code);
                }
            });
        }
    });
    for pod in pods {
        assert_eq!(pod.status().expect("its status").containers.len(), 100);
        assert!(pod.status().expect("its status").containers.iter().all(|container| container.exit_code.is_some()));
        pod.remove().expect("removal");
    }
}

fn a_crash_leaves_the_other_container_and_the_network_alone(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name stays --rootfs ROOT /probe block").ok();
    let (stays, before) = (bed.pid_of("web/stays"), bed.inspect("web")["namespaces"].clone());
    for end in ["kill-self SEGV", "kill-self KILL", "exit 1", "orphan block , kill-self ABRT"] {
        let said = bed.podlet(&format!("run --pod web --rm --name crash --rootfs ROOT /probe {end}"));
        assert!(!said.status.success());
        assert_eq!(bed.pid_of("web/stays"), stays);
        assert_eq!(bed.inspect("web")["namespaces"], before);
    }
    assert_eq!(bed.inspect("web/stays")["state"], "running");
}

/// Everything of a pod that lives, pause included.
fn members(bed: &Bed, pod: &str) -> Vec<u32> {
    let pause = bed.pause_of(pod);
    let mut pids: Vec<_> = leaks::descendants(pause).into_iter().map(|seen| seen.pid).collect();
    assert!(!pids.is_empty(), "nothing runs in {pod}");
    pids.push(pause);
    pids
}

fn all_end(pids: &[u32]) {
    for &pid in pids {
        assert!(sys::ends_within(pid, 10_000), "process {pid} lives on");
    }
}

fn sigkill_to_pause_ends_everything(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe orphan block , ignore TERM , echo up , block").ok();
    bed.podlet("run --pod web -d --name b --rootfs ROOT /probe echo up , block").ok();
    bed.await_log("web/a", "up");
    let pids = members(bed, "web");
    assert!(pids.len() >= 4, "{pids:?}");
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    all_end(&pids);
    let list = bed.list();
    assert_eq!((&list[0]["name"], &list[0]["state"]), (&"web".into(), &"exited".into()));
    assert_eq!(list[0]["containers"][0]["state"], "exited");
    bed.podlet("rm web").ok();
    bed.is_clean();
}

fn an_attached_pod_ends_with_its_embedder(bed: &Bed) {
    attached(bed, "alone");
}

fn an_attached_pod_ends_with_its_embedder_though_a_child_of_it_lives_on(bed: &Bed) {
    attached(bed, "fork");
}

fn attached(bed: &Bed, fork: &str) {
    let embedder = bed.spawn_command(bed.embed(&format!("attached web {fork}")));
    embedder.await_line(bed, "ready");
    bed.await_processes("web", 3);
    let pids = members(bed, "web");
    embedder.signal(Signal::SIGKILL);
    let out = embedder.wait().out;
    all_end(&pids);
    if let Some(child) = out.lines().find_map(|line| line.strip_prefix("child ")) {
        let child = child.parse().expect("a pid");
        assert!(!sys::ends_within(child, 0), "the embedder's child lives on");
        bed.kill(child, Signal::SIGKILL);
    }
    // It was not asked to stay: the next command sweeps it.
    assert_eq!(bed.list(), serde_json::json!([]));
    bed.is_clean();
}

fn an_attached_pod_ends_with_its_value(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    pod.run(&bed.container("a", "orphan block , block"), Io::log()).expect("a container");
    let pids = members(bed, "web");
    drop(pod);
    all_end(&pids);
    bed.is_clean();
}

fn signals_from_inside_mean_nothing_to_pause(bed: &Bed) {
    bed.podlet("create web").ok();
    // SI_USER is 0, SI_QUEUE -1, SI_TKILL -6.
    let script = "kill 1 TERM , kill 1 KILL , kill 1 STOP , kill 1 HUP , kill 1 SEGV , kill 1 CHLD , \
                  sigqueue 1 TERM -1 0 , sigqueue 1 TERM 0 0 , sigqueue 1 TERM -6 0 , sigqueue 1 KILL -1 0 , exit 0";
    let said = bed.podlet(&format!("run --pod web --rm --name a --rootfs ROOT /probe {script}")).ok();
    assert!(said.contains("kill 1 TERM: ok"), "the signal was sent: {said}");
    assert!(said.contains("sigqueue 1 TERM -1: ok"), "the forgery was sent: {said}");
    assert!(said.contains("sigqueue 1 TERM 0: errno 1"), "SI_USER cannot be forged: {said}");
    // It lives, and does its work.
    let stat = fs::read_to_string(format!("/proc/{}/stat", bed.pause_of("web"))).expect("stat");
    assert!(stat.contains(") S "), "{stat}");
    bed.podlet("run --pod web --rm --name b --rootfs ROOT /probe exit 6").code(6);
    // Forgeries do not hide a true order.
    let script = "sigqueue 1 TERM -1 0 , kill 1 TERM , echo sent , block";
    bed.podlet(&format!("run --pod web -d --name c --rootfs ROOT /probe {script}")).ok();
    bed.await_log("web/c", "sent");
    let pids = members(bed, "web");
    bed.kill(bed.pause_of("web"), Signal::SIGTERM);
    all_end(&pids);
}

fn sigterm_from_outside_ends_the_pod(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe ignore TERM , orphan block , echo up , block").ok();
    bed.await_log("web/a", "up");
    let pids = members(bed, "web");
    bed.kill(bed.pause_of("web"), Signal::SIGTERM);
    all_end(&pids);
    assert_eq!(bed.inspect("web")["state"], "exited");
}

fn twenty_pods_leave_the_machines_mount_table_alone(bed: &Bed) {
    let before = leaks::mounts();
    let networks = fs::read_dir("/run/netns").map(|dir| dir.count()).unwrap_or(0);
    for number in 0..20 {
        bed.podlet(&format!("create p{number}")).ok();
        bed.podlet(&format!("run --pod p{number} -d --name a --rootfs ROOT /probe block")).ok();
    }
    assert_eq!(bed.list().as_array().map(Vec::len), Some(20));
    assert_eq!(leaks::mounts(), before);
    assert_eq!(fs::read_dir("/run/netns").map(|dir| dir.count()).unwrap_or(0), networks);
}

fn a_full_exit_table_is_an_error(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let entries = 127;
    for number in 0..entries {
        pod.run(&bed.container(&format!("c{number}"), "exit 0"), Io::log()).expect("a start").wait().expect("its end");
    }
    let full = pod.run(&bed.container("more", "exit 0"), Io::log());
    assert!(matches!(full, Err(Error::TableFull(_))), "{full:?}");
    bed.podlet("run --pod web --name more --rootfs ROOT /probe exit 0").fails(125, &["web", "full", "127"]);
    assert!(pod.container("more").is_err(), "nothing of it is left");
    pod.container("c5").expect("a container").remove().expect("removal");
    assert_eq!(bed.podlet("run --pod web --name more --rootfs ROOT /probe exit 8").code(8).out, "");
    // Execs give their entries back; those of execs not waited for are taken.
    pod.container("c6").expect("a container").remove().expect("removal");
    pod.container("c7").expect("a container").remove().expect("removal");
    let main = pod.run(&bed.container("main", "block"), Io::log()).expect("a start");
    for code in 0..20 {
        let command = pod::ExecSpec::new(["/probe", "exit", &code.to_string()]);
        let exec = pod.container("main").expect("a container").exec(&command, Io::log()).expect("an exec");
        assert_eq!(exec.wait().expect("its end").shell_code(), code);
    }
    drop(main);
    pod.remove().expect("removal");
}

fn an_embedder_that_ignores_sigchld(bed: &Bed) {
    sys::ignore_signal(libc::SIGCHLD);
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    for code in 0..20 {
        let process = pod
            .run(&bed.container(&format!("c{code}"), &format!("orphans 3 , exit {code}")), Io::log())
            .expect("a start");
        assert_eq!(process.wait().expect("its end").shell_code(), code);
    }
    assert!(matches!(pod.run(&bed.container("x", "").args(["/none"]), Io::log()), Err(Error::Exec { .. })));
    assert_eq!(pod.status().expect("its status").reaped_orphans, 60);
    pod.remove().expect("removal");
    // For the commands that clean up.
    sys::default_signal(libc::SIGCHLD);
}

fn an_embedder_that_waits_for_all_children(bed: &Bed) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                sys::steal_a_child();
            }
        });
        let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
        for code in 0..50 {
            let process =
                pod.run(&bed.container(&format!("c{code}"), &format!("exit {code}")), Io::log()).expect("a start");
            assert_eq!(process.wait().expect("its end").shell_code(), code);
        }
        assert!(matches!(pod.run(&bed.container("x", "").args(["/none"]), Io::log()), Err(Error::Exec { .. })));
        pod.remove().expect("removal");
        done.store(true, Ordering::SeqCst);
    });
}

fn the_embedder_is_not_changed(bed: &Bed) {
    let facts = || {
        let status = fs::read_to_string("/proc/self/status").expect("status");
        let fields = ["Umask", "SigBlk", "SigIgn", "SigCgt", "Threads", "CapEff", "NoNewPrivs", "Uid", "Gid"];
        let lines = status.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
        let mut facts: Vec<String> = lines.map(String::from).collect();
        facts.push(format!("{:?}", std::env::current_dir()));
        facts.push(format!("{:?}", std::env::vars().collect::<Vec<_>>()));
        facts.push(format!("{:?}", nix::sys::prctl::get_child_subreaper()));
        facts.push(format!("{:?}", nix::sys::prctl::get_dumpable()));
        facts.push(fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default());
        facts.push(format!("{:?}", leaks::descriptors()));
        facts
    };
    let before = facts();
    let mut pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    pod.run(&bed.container("a", "exit 1"), Io::log()).expect("a start").wait().expect("its end");
    assert!(pod.run(&bed.container("b", "").args(["/none"]), Io::log()).is_err());
    pod.detach().expect("detaching");
    drop(pod);
    assert_eq!(facts(), before);
}

fn pause_keeps_nothing(bed: &Bed) {
    bed.podlet("create web").ok();
    let pause = bed.pause_of("web");
    let status = fs::read_to_string(format!("/proc/{pause}/status")).expect("status");
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line:?}: {status}");
    }
    let title = fs::read_to_string(format!("/proc/{pause}/cmdline")).expect("its title");
    assert!(title.contains("web"), "{title:?}");
    // What a container with every capability gets of it.
    // What containers get of it: with a user namespace of its own nothing,
    // whatever capability they have.
    let options = if bed.mode.nests_users() { ["", "--cap-add ALL"].as_slice() } else { &[""] };
    for option in options {
        let said = bed.podlet(&format!("run --pod web --rm {option} --rootfs ROOT /probe open-proc 1")).ok();
        let tries = ["open ", "getfd", "seize"];
        for line in said.lines().filter(|line| tries.iter().any(|attempt| line.starts_with(attempt))) {
            let denied = ["errno 1", "errno 13"].iter().any(|errno| line.ends_with(errno));
            // pause has no descriptor 3, and that is no secret.
            assert!(denied || line == "open fd/3: errno 2", "with {option:?}: {line}");
        }
    }
}
