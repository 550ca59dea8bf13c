//! The order in which a pod's containers start and stop, and their hooks.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use pod::{Condition, Container, ContainerState, ContainerStatus, Error, InitContainer, Pod, PodOptions, StartOptions};

use crate::bed::Bed;

crate::tests![
    a_pod_starts_in_its_order,
    a_start_waits_until_another_one_is_healthy,
    init_containers_run_one_after_another_before_all_others,
    an_init_container_that_fails_stops_the_start,
    a_start_that_was_killed_is_gone_on_with,
    two_starts_at_once_start_each_once,
    a_pod_that_ends_with_its_last_container_outlives_its_init_containers,
    an_order_that_cannot_be_is_refused,
    one_container_starts_what_it_is_after,
    a_start_waits_no_longer_than_it_may,
    a_run_that_waits_can_be_interrupted,
    a_pod_restarts_in_its_order,
    a_pod_stops_the_other_way_round,
    hooks_run_after_the_start_and_before_the_stop,
    a_hook_that_fails_ends_the_start_and_not_the_stop,
    a_hook_runs_after_a_restart_by_a_policy,
    a_detached_container_has_its_time,
];

fn status(pod: &Pod, name: &str) -> ContainerStatus {
    pod.container(name).and_then(|container| container.status()).expect("its status")
}

fn started(pod: &Pod, name: &str) -> SystemTime {
    status(pod, name).started.expect("it has been started")
}

fn finished(pod: &Pod, name: &str) -> SystemTime {
    status(pod, name).finished.expect("it has ended")
}

fn is_running(pod: &Pod, name: &str) -> bool {
    status(pod, name).state == ContainerState::Running
}

fn open(bed: &Bed) -> Pod {
    Pod::open(&bed.store(), "web").expect("the pod")
}

/// Makes containers in pod web: a name and options, and what the probe does.
fn make(bed: &Bed, containers: &[(&str, &str)]) {
    for (options, script) in containers {
        bed.podlet(&format!("container create --pod web --name {options} --rootfs ROOT /probe {script}")).ok();
    }
}

/// Waits until a command waits, which nothing else tells: its system call is poll(2).
fn await_poll(bed: &Bed, pid: u32) {
    let call = || std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    bed.until("a poll", || ["7 ", "271 "].iter().any(|poll| call().starts_with(poll)));
}

fn a_pod_starts_in_its_order(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("z-cache", "block"),
            ("m-db --after z-cache", "wait-file /tmp/go"),
            ("a-app --after m-db:completed --requires z-cache", "block"),
            ("alone", "block"),
        ],
    );
    let start = bed.spawn("start web");
    let pod = open(bed);
    bed.until("what app waits for", || is_running(&pod, "m-db"));
    bed.until("what waits for nothing", || is_running(&pod, "alone"));
    assert_eq!(status(&pod, "a-app").state, ContainerState::Created);
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    start.wait().ok();
    assert!(is_running(&pod, "a-app"));
    assert!(started(&pod, "z-cache") <= started(&pod, "m-db"));
    assert!(finished(&pod, "m-db") <= started(&pod, "a-app"));
    // Nobody starts what runs once more; what has ended is started, as ever.
    let before = started(&pod, "a-app");
    bed.podlet("start web").ok();
    assert_eq!(started(&pod, "a-app"), before);
    bed.podlet("rm -f web").ok();
}

fn a_start_waits_until_another_one_is_healthy(bed: &Bed) {
    bed.podlet("create web").ok();
    let check = "--health-cmd [\"/probe\",\"need\",\"/tmp/well\"] --health-interval 50ms";
    let patient = format!("db {check} --health-start-period 100s");
    make(bed, &[(&patient, "block"), ("app --after db:healthy", "block")]);
    let start = bed.spawn("start web");
    let pod = open(bed);
    bed.until("a check", || status(&pod, "db").checks.iter().any(|check| check.last.is_some()));
    assert_eq!(status(&pod, "app").state, ContainerState::Created);
    std::fs::write(bed.inside("/tmp/well"), "").expect("a file");
    start.wait().ok();
    assert!(is_running(&pod, "app"));
    bed.podlet("rm -f web").ok();
    // One that is found to be unhealthy is not waited for.
    std::fs::remove_file(bed.inside("/tmp/well")).expect("the file");
    bed.podlet("create web").ok();
    make(bed, &[(&format!("db {check}"), "block"), ("app --after db:healthy", "block")]);
    bed.podlet("start web").fails(125, &["web/app", "db", "is unhealthy", "podlet inspect"]);
    bed.podlet("rm -f web").ok();
}

fn init_containers_run_one_after_another_before_all_others(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("main", "block"),
            ("z --init-ctr once", "write /tmp/first 1"),
            ("a --init-ctr always", "wait-file /tmp/first"),
        ],
    );
    let said = bed.podlet("start web");
    assert_eq!(said.ok(), "");
    let pod = open(bed);
    assert!(finished(&pod, "a") <= started(&pod, "main"));
    assert!(pod.container("z").is_err(), "once is once");
    // Where all others run nobody waits for it.
    let first = started(&pod, "a");
    bed.podlet("start web").ok();
    assert_eq!(started(&pod, "a"), first);
    // With each start, also of the pod itself.
    bed.podlet("stop -t 0 web/main").ok();
    bed.podlet("start web").ok();
    let second = started(&pod, "a");
    assert!(first < second && finished(&pod, "a") <= started(&pod, "main"));
    bed.podlet("stop -t 0 web").ok();
    bed.podlet("start web").ok();
    let pod = open(bed);
    assert!(second < started(&pod, "a") && finished(&pod, "a") <= started(&pod, "main"));
    // One container is started without them.
    let third = started(&pod, "a");
    bed.podlet("stop -t 0 web/main").ok();
    bed.podlet("start web/main").ok();
    assert_eq!(started(&pod, "a"), third);
    bed.podlet("rm -f web").ok();
}

fn an_init_container_that_fails_stops_the_start(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("main", "block"),
            ("good --init-ctr always", "exit 0"),
            ("bad --init-ctr once", "echo why , exit 3"),
            ("last --init-ctr once", "exit 0"),
        ],
    );
    let words = ["pod web was not started", "init container web/bad ended with 3", "`podlet logs web/bad`"];
    bed.podlet("start web").fails(125, &words);
    let pod = open(bed);
    assert!(["main", "last"].iter().all(|name| status(&pod, name).state == ContainerState::Created));
    assert_eq!(bed.podlet("logs web/bad").ok(), "why\n");
    // What has been done is not done again.
    let good = started(&pod, "good");
    bed.podlet("start web").fails(125, &words);
    assert_eq!(started(&pod, "good"), good);
    bed.podlet("rm web/bad").ok();
    bed.podlet("start web").ok();
    assert_eq!((started(&pod, "good"), is_running(&pod, "main")), (good, true));
    assert!(pod.container("last").is_err());
    bed.podlet("rm -f web").ok();
}

fn a_start_that_was_killed_is_gone_on_with(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("main", "block"),
            ("i1 --init-ctr always", "exit 0"),
            ("i2 --init-ctr once", "wait-file /tmp/go"),
            ("i3 --init-ctr always", "exit 0"),
        ],
    );
    let start = bed.spawn("start web");
    let pod = open(bed);
    bed.until("the second one", || is_running(&pod, "i2"));
    start.signal(Signal::SIGKILL);
    assert_eq!(start.wait().status.code(), None);
    let (first, second) = (started(&pod, "i1"), bed.pid_of("web/i2"));
    let start = bed.spawn("start web");
    await_poll(bed, start.pid());
    assert_eq!(bed.pid_of("web/i2"), second);
    assert_eq!(status(&pod, "main").state, ContainerState::Created);
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    start.wait().ok();
    assert_eq!(started(&pod, "i1"), first, "it was done already");
    assert!(pod.container("i2").is_err());
    assert!(finished(&pod, "i3") <= started(&pod, "main") && is_running(&pod, "main"));
    bed.podlet("rm -f web").ok();
}

fn two_starts_at_once_start_each_once(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("db", "echo ran , exit 0"),
            ("app --after db:completed", "echo ran , block"),
            ("i1 --init-ctr always", "echo ran"),
            ("i2 --init-ctr once", "wait-file /tmp/go"),
        ],
    );
    let starts: Vec<_> = (0..3).map(|_| bed.spawn("start web")).collect();
    let pod = open(bed);
    bed.until("the second one", || is_running(&pod, "i2"));
    starts.iter().for_each(|start| await_poll(bed, start.pid()));
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    for start in starts {
        start.wait().ok();
    }
    for name in ["i1", "db", "app"] {
        assert_eq!(crate::bed::logged(&pod.container(name).expect("it")), "ran\n", "{name}");
    }
    assert!(is_running(&pod, "app"));
    bed.podlet("rm -f web").ok();
}

fn a_pod_that_ends_with_its_last_container_outlives_its_init_containers(bed: &Bed) {
    bed.podlet("create --exit-policy stop web").ok();
    make(
        bed,
        &[
            ("i1 --init-ctr once", "exit 0"),
            ("i2 --init-ctr always", "exit 0"),
            ("db", "exit 0"),
            ("app --after db:completed", "wait-file /tmp/go"),
        ],
    );
    let pause = bed.pause_of("web");
    bed.podlet("start web").ok();
    assert!(bed.inspect("web/app")["pid"].is_u64());
    assert_eq!(bed.pause_of("web"), pause);
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    bed.until("its end", || bed.inspect("web")["state"] == "exited");
    // The same of one that starts what it is after.
    std::fs::remove_file(bed.inside("/tmp/go")).expect("removed");
    bed.podlet("start web/app").ok();
    let pause = bed.pause_of("web");
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    bed.until("its end", || bed.inspect("web")["state"] == "exited");
    assert!(!Path::new(&format!("/proc/{pause}")).exists() || bed.inspect("web")["pause"]["pid"].is_null());
    bed.podlet("rm -f web").ok();
}

fn an_order_that_cannot_be_is_refused(bed: &Bed) {
    bed.podlet("create web").ok();
    let create =
        |options: &str| bed.podlet(&format!("container create --pod web {options} --rootfs ROOT /probe block"));
    create("--name a --after a").fails(125, &["\"a:started\"", "after itself"]);
    create("--name a --after none").fails(125, &["\"none\"", "pod web has no container of that name", "make it first"]);
    create("--name a --requires none").fails(125, &["\"none\"", "make it first"]);
    create("--name a --after b:up").fails(125, &["\"b:up\"", "NAME:completed"]);
    create("--name b").ok();
    create("--name a --after b:healthy").fails(125, &["\"b\"", "no health checks", "--health-cmd"]);
    bed.podlet("rm web/b").ok();
    create("--name a --init-ctr once --restart always").fails(125, &["init container", "restart policy"]);
    create("--name a --init-ctr never").fails(125, &["\"never\"", "once or always"]);
    create("--name a --post-start []").fails(125, &["--post-start", "say what to execute"]);
    create("--name a --pre-stop [1]").fails(125, &["--pre-stop", "JSON array of words"]);
    bed.podlet("run --after b --rootfs ROOT /probe exit 0").fails(125, &["--after b:started", "--pod"]);
    bed.podlet("run --pod web --init-ctr once --rootfs ROOT /probe exit 0")
        .fails(125, &["--init-ctr", "container create"]);
    bed.podlet("container create --init-ctr once --rootfs ROOT /probe exit 0").fails(125, &["--init-ctr", "--pod"]);
    bed.podlet("run --pod web --name a --after none --rootfs ROOT /probe exit 0").fails(125, &["\"none\""]);
    assert_eq!(open(bed).containers().expect("a list").len(), 0);
    // What others are after was there when they were made.
    make(bed, &[("i --init-ctr always", "exit 0"), ("a", "block"), ("b --after a", "block"), ("c --after b", "block")]);
    create("--name x --after i").fails(125, &["\"i\"", "init container"]);
    bed.podlet("rm web/a").ok();
    for start in ["start web", "restart web", "start web/c"] {
        bed.podlet(start)
            .fails(125, &["\"a\"", "pod web has no container of that name", "b is to be started after it"]);
    }
    create("--name a --after c").fails(125, &["\"a after c after b after a\"", "for ever"]);
    let pod = open(bed);
    assert!(["i", "b", "c"].iter().all(|name| status(&pod, name).state == ContainerState::Created));
    make(bed, &[("a", "block")]);
    bed.podlet("start web").ok();
    bed.podlet("rm -f web").ok();
}

fn one_container_starts_what_it_is_after(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("base", "block"),
            ("once", "echo ran"),
            ("db --after base --after once:completed", "block"),
            ("app --after db", "block"),
            ("bad", "exit 4"),
            ("other", "block"),
        ],
    );
    bed.podlet("start web/app").ok();
    let pod = open(bed);
    assert!(["base", "db", "app"].iter().all(|name| is_running(&pod, name)));
    assert!(started(&pod, "base") <= started(&pod, "db") && started(&pod, "db") <= started(&pod, "app"));
    assert!(finished(&pod, "once") <= started(&pod, "db"));
    assert_eq!(status(&pod, "other").state, ContainerState::Created);
    // What has completed is not run again for it; what has ended otherwise is started.
    bed.podlet("stop -t 0 web/app web/db").ok();
    let base = started(&pod, "base");
    bed.podlet("restart -t 0 web/app").ok();
    assert!(is_running(&pod, "db") && is_running(&pod, "app"));
    assert_eq!(crate::bed::logged(&pod.container("once").expect("it")), "ran\n");
    assert_eq!(started(&pod, "base"), base);
    // A run, too; nothing of it is made where that fails.
    bed.podlet("stop -t 0 web/db").ok();
    bed.podlet("run --pod web --name client --after db --rootfs ROOT /probe exit 5").code(5);
    assert!(is_running(&pod, "db"));
    let words = ["container web/late was not started", "container web/bad ended with 4", "`podlet logs web/bad`"];
    bed.podlet("run -d --pod web --name late --after bad:completed --rootfs ROOT /probe block").fails(125, &words);
    assert!(pod.container("late").is_err());
    bed.podlet("run -d --pod web --name app --after bad --rootfs ROOT /probe block").fails(125, &["exists already"]);
    bed.podlet("rm -f web").ok();
}

fn a_start_waits_no_longer_than_it_may(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut options = StartOptions::default();
    options.timeout = Some(Duration::from_millis(1));
    let spec = bed.container("app", "block").after("db", Condition::Completed);
    pod.create_container(&bed.container("db", "block")).expect("made");
    pod.create_container(&spec).expect("made");
    let error = pod.start_all(&options).expect_err("it never ends");
    let what = "db:completed, for which container web/app waits,";
    assert!(matches!(&error, Error::Deadline { what: told, .. } if told == what), "{error:?}");
    assert!(is_running(&pod, "db") && status(&pod, "app").state == ContainerState::Created);
    pod.container("db").expect("it").kill(pod::Signal::KILL).expect("killed");
    let mut init = bed.container("init", "block");
    init.init = Some(InitContainer::Always);
    pod.create_container(&init).expect("made");
    let error = pod.start_all(&options).expect_err("it never ends");
    assert!(
        matches!(&error, Error::Deadline { what, .. } if what == "the end of init container web/init"),
        "{error:?}"
    );
    // A pod that ends is not waited for.
    std::thread::scope(|scope| {
        let start = scope.spawn(|| pod.start_all(&StartOptions::default()));
        bed.podlet("stop -t 0 web/init").ok();
        let error = start.join().expect("no panic").expect_err("its init container was killed");
        assert!(
            matches!(&error, Error::NotReached { reason, .. } if reason.contains("was killed by SIG")),
            "{error:?}"
        );
    });
    drop(pod);
    bed.podlet("create web").ok();
    make(bed, &[("i --init-ctr once", "block"), ("main", "block")]);
    bed.podlet("start --timeout 1 web").fails(125, &["init container web/i", "within 1 s"]);
    let start = bed.spawn("start web");
    bed.podlet("stop -t 0 web").ok();
    start.wait().fails(125, &["web"]);
    bed.podlet("rm -f web").ok();
}

fn a_run_that_waits_can_be_interrupted(bed: &Bed) {
    bed.podlet("create web").ok();
    make(bed, &[("db", "block")]);
    let run = bed.spawn("run --pod web --name app --after db:completed --rootfs ROOT /probe exit 0");
    let pod = open(bed);
    bed.until("what it waits for", || is_running(&pod, "db"));
    run.signal(Signal::SIGTERM);
    run.wait().fails(125, &["db:completed, for which container web/app waits,", "was given up"]);
    assert!(pod.container("app").is_err() && is_running(&pod, "db"));
    bed.podlet("rm -f web").ok();
}

fn a_pod_restarts_in_its_order(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("z-db", "trap TERM 7 , echo up , block"),
            ("a-app --after z-db", "trap TERM 8 , echo up , block"),
            ("i --init-ctr always", "exit 0"),
        ],
    );
    bed.podlet("start web").ok();
    let pod = open(bed);
    let (init, pause) = (started(&pod, "i"), bed.pause_of("web"));
    for name in ["z-db", "a-app"] {
        bed.await_log(&format!("web/{name}"), "up");
    }
    let before = SystemTime::now();
    bed.podlet("restart web").ok();
    assert!(is_running(&pod, "z-db") && is_running(&pod, "a-app"));
    assert!(before < started(&pod, "z-db") && started(&pod, "z-db") <= started(&pod, "a-app"));
    assert_eq!((started(&pod, "i"), bed.pause_of("web")), (init, pause), "the pod stays");
    bed.podlet("rm -f web").ok();
}

fn a_pod_stops_the_other_way_round(bed: &Bed) {
    bed.podlet("create web").ok();
    make(
        bed,
        &[
            ("sidecar", "trap TERM 7 , echo up , block"),
            ("alone", "trap TERM 9 , echo up , block"),
            (
                "app --after sidecar --pre-stop [\"/probe\",\"write\",\"/tmp/stops\",\"x\"]",
                "ignore TERM , echo up , wait-file /tmp/go",
            ),
        ],
    );
    bed.podlet("start web").ok();
    for name in ["sidecar", "alone", "app"] {
        bed.await_log(&format!("web/{name}"), "up");
    }
    let pod = open(bed);
    let processes =
        ["sidecar", "alone", "app"].map(|name| pod.container(name).and_then(|it| it.process()).expect("it"));
    let stop = bed.spawn("stop -t 600 web");
    bed.until("its turn", || bed.inside("/tmp/stops").exists());
    assert_eq!(processes[1].wait().expect("an end").shell_code(), 9, "it waits for nobody");
    assert!(is_running(&pod, "sidecar"));
    std::fs::write(bed.inside("/tmp/go"), "").expect("a file");
    stop.wait().ok();
    let ends = processes.map(|process| process.wait().expect("an end"));
    assert_eq!(ends.map(|exit| exit.shell_code()), [7, 9, 0]);
    let ends = ends.map(|exit| exit.finished.expect("it ended by itself"));
    assert!(ends[1] <= ends[2] && ends[2] <= ends[0]);
    bed.podlet("rm -f web").ok();
}

fn hooks_run_after_the_start_and_before_the_stop(bed: &Bed) {
    bed.podlet("create web").ok();
    // Each waits for the other one: the hook runs while the main process does.
    let post = r#"["/probe","write","/tmp/post","x",",","wait-file","/tmp/main",",","env"]"#;
    let pre = r#"["/probe","write","/tmp/pre","x",",","wait-file","/tmp/seen"]"#;
    let script =
        "wait-file /tmp/post , write /tmp/main x , wait-file /tmp/pre , write /tmp/seen x , trap TERM 5 , block";
    bed.podlet(&format!(
        "run -d --pod web --name a --post-start {post} --pre-stop {pre} --rootfs ROOT /probe {script}"
    ))
    .ok();
    assert!(bed.inside("/tmp/main").exists(), "the start waits for the hook");
    assert!(!bed.inside("/tmp/pre").exists());
    bed.podlet("stop -t 600 web/a").ok();
    let a = bed.inspect("web/a");
    assert!(bed.inside("/tmp/seen").exists() && a["failed_hook"].is_null(), "{a}");
    assert!(a["exit_code"] == 5 || a["exit_code"] == 143, "{a}");
    assert!(!bed.podlet("logs web/a").ok().contains("HOME"), "what a hook writes is not in the log");
    // Without time it is not run, and where nothing runs neither.
    std::fs::remove_file(bed.inside("/tmp/pre")).expect("it was written");
    bed.podlet("start web/a").ok();
    bed.podlet("stop -t 0 web/a").ok();
    bed.podlet("stop -t 5 web/a").ok();
    assert!(!bed.inside("/tmp/pre").exists());
    // A paused one goes on for it.
    bed.podlet("rm web/a").ok();
    std::fs::remove_file(bed.inside("/tmp/seen")).expect("it was written");
    bed.podlet(&format!(
        "run -d --pod web --name a --pre-stop {pre} --rootfs ROOT /probe wait-file /tmp/pre , write /tmp/seen x"
    ))
    .ok();
    if bed.podlet("pause web/a").status.success() {
        bed.podlet("stop -t 600 web/a").ok();
        assert!(bed.inside("/tmp/seen").exists());
    }
    bed.podlet("rm -f web").ok();
}

fn a_hook_that_fails_ends_the_start_and_not_the_stop(bed: &Bed) {
    bed.podlet("create web").ok();
    let bad = r#"["/probe","echo","why",",","exit","3"]"#;
    let words = ["postStart hook \"/probe\" of container web/a ended with 3", "why"];
    // A run leaves nothing.
    let run =
        |hook: &str| bed.podlet(&format!("run -d --pod web --name a --post-start {hook} --rootfs ROOT /probe block"));
    run(bad).fails(125, &words);
    run(r#"["/none"]"#).fails(125, &["postStart hook \"/none\"", "cannot be executed"]);
    run("exit").fails(125, &["postStart hook \"/bin/sh\"", "cannot be executed"]);
    bed.podlet(&format!("run --name own --post-start {bad} --rootfs ROOT /probe block")).fails(125, &["ended with 3"]);
    assert_eq!(open(bed).containers().expect("a list").len(), 0);
    // A start leaves it ended, and inspect says why.
    let options = format!("a --post-start {bad}");
    make(bed, &[(&options, "block"), ("b --after a", "block")]);
    bed.podlet("start web").fails(125, &words);
    let a = bed.inspect("web/a");
    assert_eq!((&a["state"], &a["exit_code"]), (&"exited".into(), &137.into()));
    assert_eq!(a["failed_hook"]["hook"], "postStart");
    assert!(
        a["failed_hook"]["error"].as_str().is_some_and(|error| words.iter().all(|word| error.contains(word))),
        "{a}"
    );
    assert_eq!(bed.inspect("web/b")["state"], "created");
    // It is said once.
    assert_eq!(bed.podlet("stop web/a").code(0).err, "");
    // At the stop it is said, and goes on; what hangs has the time of the stop.
    let script = "trap TERM 6 , echo up , block";
    for (hook, grace, code, how) in [
        (bad, 600, 6, "ended with 3: why"),
        (r#"["/none"]"#, 600, 6, "cannot be executed"),
        (r#"["/probe","block"]"#, 1, 137, "did not end in its time"),
    ] {
        bed.podlet(&format!("run -d --pod web --name c --pre-stop {hook} --rootfs ROOT /probe {script}")).ok();
        bed.await_log("web/c", "up");
        let said = bed.podlet(&format!("stop -t {grace} web/c"));
        assert!(said.err.contains("preStop hook") && said.err.contains(how), "{}", said.err);
        said.ok();
        let c = bed.inspect("web/c");
        // The signal comes, and SIGKILL at once, where nothing of the time is left.
        assert!(c["exit_code"] == code || grace == 1 && c["exit_code"] == 6, "{c}");
        assert_eq!(c["failed_hook"]["hook"], "preStop");
        bed.podlet("rm web/c").ok();
    }
    bed.podlet("rm -f web").ok();
}

fn a_hook_runs_after_a_restart_by_a_policy(bed: &Bed) {
    bed.podlet("create web").ok();
    let hook = r#"["/probe","rm","/tmp/there"]"#;
    let line = format!("run -d --pod web --name a --restart always --post-start {hook} --rootfs ROOT /probe block");
    std::fs::write(bed.inside("/tmp/there"), "").expect("a file");
    bed.podlet(&line).ok();
    assert!(!bed.inside("/tmp/there").exists());
    std::fs::write(bed.inside("/tmp/there"), "").expect("a file");
    bed.podlet("kill web/a").ok();
    bed.until("the hook of its restart", || !bed.inside("/tmp/there").exists());
    bed.podlet("rm -f web/a").ok();
    // One that fails ends it, and is told.
    let hook = r#"["/probe","wait-file","/tmp/first",",","rm","/tmp/first",",","exit","2"]"#;
    std::fs::write(bed.inside("/tmp/first"), "").expect("a file");
    let line = format!(
        "container create --pod web --name b --restart on-failure:1 --post-start {hook} --rootfs ROOT /probe block"
    );
    bed.podlet(&line).ok();
    bed.podlet("start web/b").fails(125, &["postStart hook", "ended with 2"]);
    // The policy restarts what was killed; the hook waits for its file, and fails again.
    let pod = open(bed);
    let container: Container<'_> = pod.container("b").expect("it");
    bed.until("its restart", || container.status().is_ok_and(|now| now.restarts == 1));
    std::fs::write(bed.inside("/tmp/first"), "").expect("a file");
    bed.until("the failure of its hook", || {
        let now = container.status().expect("its status");
        now.state == ContainerState::Exited
            && now.failed_hook.is_some_and(|failed| failed.error.contains("ended with 2"))
    });
    bed.podlet("rm -f web").ok();
}

fn a_detached_container_has_its_time(bed: &Bed) {
    bed.podlet("create web").ok();
    let script = "ignore TERM , orphan block , block";
    bed.podlet(&format!("run -d --pod web --name a --timeout 1 --rootfs ROOT /probe {script}")).ok();
    bed.podlet(&format!("container create --pod web --name b --timeout 1 --rootfs ROOT /probe {script}")).ok();
    bed.podlet("run -d --pod web --name c --timeout 600 --rootfs ROOT /probe block").ok();
    bed.podlet("start web/b").ok();
    // In a pod of its own: it ends with it.
    bed.podlet("run -d --name own --timeout 1 --rootfs ROOT /probe block").ok();
    let pod = open(bed);
    for name in ["a", "b"] {
        let container = pod.container(name).expect("it");
        let exit = container.wait().expect("an end");
        assert_eq!(exit.shell_code(), 137);
        let ran = exit.finished.expect("an end").duration_since(started(&pod, name)).expect("later");
        assert!(ran > Duration::from_millis(900), "{ran:?}");
        assert_eq!(bed.inspect(&format!("web/{name}"))["time_limit"], 1);
    }
    assert!(is_running(&pod, "c"));
    bed.until("the end of the pod", || bed.inspect("own")["state"] == "exited");
    assert_eq!(bed.inspect("own/own")["exit_code"], 137);
    bed.podlet("rm own").ok();
    bed.podlet("rm -f web").ok();
}
