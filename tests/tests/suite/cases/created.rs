//! Containers that are made apart from being started, and handled by their
//! handle; and what is paused.

use std::fs;
use std::time::Duration;

use pod::{ContainerState, Error, ExecSpec, Io, Pod, PodOptions, PodState, Resources};
use serde_json::json;

use crate::bed::{self, Bed};
use crate::leaks;

crate::tests![
    a_created_container_has_no_process_until_it_is_started,
    a_created_container_of_its_own_pod_is_started_with_it,
    what_cannot_be_run_cannot_be_created,
    a_start_that_fails_leaves_it_created,
    a_created_container_can_be_changed_and_removed,
    a_created_container_that_is_to_be_removed_waits_for_its_end,
    a_handle_does_all_there_is_to_do_with_a_container,
    a_handle_sees_what_others_do,
    a_handle_sees_that_its_pod_was_started_again,
    what_is_created_is_told_before_it_is_started,
    a_paused_container_stands_still_and_goes_on,
    a_pod_is_paused_as_one,
];

fn created(bed: &Bed, target: &str) {
    let container = bed.inspect(target);
    assert_eq!(
        (&container["state"], &container["pid"], &container["started"], &container["exit_code"]),
        (&json!("created"), &json!(null), &json!(null), &json!(null)),
        "{target}"
    );
}

fn a_created_container_has_no_process_until_it_is_started(bed: &Bed) {
    bed.podlet("create web").ok();
    let pause = bed.pause_of("web");
    let line = "container create --pod web --name a -e WORD=early --rootfs ROOT /probe env , exit 7";
    assert_eq!(bed.podlet(line).ok().trim(), "web/a");
    created(bed, "web/a");
    assert!(leaks::descendants(pause).is_empty());
    assert_eq!(bed.podlet("ps -aq --filter status=created").ok().trim(), "web/a");
    assert_eq!(bed.podlet("ps -q").ok().trim(), "web", "it does not run");
    // What needs a process says that there is none.
    for line in ["exec web/a /probe exit 0", "kill web/a", "wait web/a"] {
        bed.podlet(line).fails(125, &["web/a"]);
    }
    bed.podlet("stop web/a").ok();
    created(bed, "web/a");
    for code in [7, 7] {
        bed.podlet("container start web/a").ok();
        assert_eq!(bed.podlet("wait web/a").ok().trim(), code.to_string());
    }
    assert_eq!(bed.podlet("logs web/a").ok().matches("early").count(), 2);
    // Its name is taken, as that of one that was run.
    bed.podlet(line).fails(125, &["exists"]);
    bed.podlet("rm web/a").ok();
    assert_eq!(bed.inspect("web")["containers"], json!([]));
}

fn a_created_container_of_its_own_pod_is_started_with_it(bed: &Bed) {
    assert_eq!(bed.podlet("container create --name solo --rootfs ROOT /probe exit 3").ok().trim(), "solo");
    created(bed, "solo/solo");
    assert_eq!(bed.inspect("solo")["state"], "running", "its pause");
    bed.podlet("start solo").ok();
    assert_eq!(bed.podlet("wait solo").ok().trim(), "3");
    bed.podlet("container create --detach --name other --rootfs ROOT /probe exit 3").fails(125, &["--detach"]);
    bed.podlet("container create --pod web --hostname x --rootfs ROOT /probe").fails(125, &["--hostname"]);
    bed.podlet("container create").fails(125, &["say what to run"]);
}

fn what_cannot_be_run_cannot_be_created(bed: &Bed) {
    bed.podlet("create web").ok();
    for (line, words) in [
        ("--rootfs /none /probe", &["/none"][..]),
        ("--user nobody-here --rootfs ROOT /probe", &["nobody-here"]),
        ("--cap-add FROB --rootfs ROOT /probe", &["FROB"]),
        ("-v /none:/x --rootfs ROOT /probe", &["/none"]),
        ("-w relative --rootfs ROOT /probe", &["relative"]),
    ] {
        bed.podlet(&format!("container create --pod web --name a {line}")).fails(125, words);
        assert_eq!(bed.inspect("web")["containers"], json!([]), "{line}");
    }
    // Nor in a pod that is not there.
    bed.podlet("container create --pod none --rootfs ROOT /probe").fails(125, &["none"]);
    // In a dead pod it waits for the pod's start.
    bed.podlet("stop web").ok();
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe exit 4").ok();
    created(bed, "web/a");
    bed.podlet("start web").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "4");
}

fn a_start_that_fails_leaves_it_created(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("container create --pod web --name a --rootfs ROOT /late exit 5").ok();
    for _ in 0..2 {
        bed.podlet("start web/a").fails(127, &["/late"]);
        created(bed, "web/a");
    }
    fs::copy(bed.inside("probe"), bed.inside("late")).expect("a program");
    bed.podlet("start web/a").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "5");
    fs::remove_file(bed.inside("late")).expect("the program");
    // A pod of its own ends with what could not become the program, and is started
    // again with it.
    bed.podlet("container create --name solo --rootfs ROOT /late exit 5").ok();
    bed.podlet("start solo").fails(127, &["/late"]);
    bed.until("its pod's end", || bed.inspect("solo")["state"] == "exited");
    created(bed, "solo/solo");
    fs::copy(bed.inside("probe"), bed.inside("late")).expect("a program");
    bed.podlet("start solo").ok();
    assert_eq!(bed.podlet("wait solo").ok().trim(), "5");
    fs::remove_file(bed.inside("late")).expect("the program");
}

fn a_created_container_can_be_changed_and_removed(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe exit 0").ok();
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let container = pod.container("a").expect("the container");
    let nothing = Resources::default();
    container.update(&nothing).expect("an update");
    created(bed, "web/a");
    bed.podlet("rm web/a").ok();
    assert!(matches!(container.status(), Err(Error::NotFound(_))));
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe exit 0").ok();
    bed.podlet("rm -f web/a").ok();
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe exit 0").ok();
    bed.podlet("rm web").ok();
    bed.is_clean();
}

fn a_created_container_that_is_to_be_removed_waits_for_its_end(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("container create --rm --pod web --name a --rootfs ROOT /probe exit 0").ok();
    // Every command sweeps.
    bed.podlet("ps").ok();
    created(bed, "web/a");
    let process = Pod::open(&bed.store(), "web").expect("the pod").container("a").expect("it").start(Io::log());
    process.expect("a start").wait().expect("its end");
    bed.podlet("ps").ok();
    assert_eq!(bed.inspect("web")["containers"], json!([]));
}

fn a_handle_does_all_there_is_to_do_with_a_container(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    assert!(matches!(pod.container("db"), Err(Error::NotFound(_))));
    assert!(matches!(pod.container("../web"), Err(Error::NotFound(_))));
    let spec = bed.container("db", "echo up , trap TERM 9 , block");
    let db = pod.create_container(&spec).expect("a container");
    assert_eq!((db.name(), db.pod().name()), ("db", "web"));
    assert_eq!(db.spec().expect("its spec"), spec);
    assert!(matches!(pod.create_container(&spec), Err(Error::Exists(_))));
    assert!(matches!(db.wait(), Err(Error::State { .. })), "it never ran");
    assert_eq!(db.exit().expect("known"), None);
    let main = db.start(Io::log()).expect("a start");
    assert!(matches!(db.start(Io::log()), Err(Error::State { .. })), "it runs");
    bed.until("its word", || bed::logged(&db).contains("up"));
    let status = db.status().expect("its status");
    assert_eq!((status.state, status.pid), (ContainerState::Running, main.pid()));
    let exec = ExecSpec::new(["/probe", "exit", "4"]);
    let said = db.exec(&exec, Io::log()).expect("an exec").wait().expect("its end");
    assert_eq!((said.code(), said.signal(), said.success(), said.shell_code()), (Some(4), None, false, 4));
    assert!(matches!(db.remove(), Err(Error::State { .. })), "it runs");
    let exit = db.stop(Duration::from_secs(60)).expect("a stop").expect("it ran");
    assert_eq!((exit.code(), db.exit().expect("known"), db.wait().expect("known")), (Some(9), Some(exit), exit));
    // Again, and by a signal.
    db.start(Io::log()).expect("a start");
    db.kill(pod::Signal::KILL).expect("a signal");
    let exit = db.wait().expect("its end");
    assert_eq!((exit.code(), exit.signal(), exit.success(), exit.shell_code()), (None, Some(9), false, 137));
    assert!(matches!(db.kill(pod::Signal::TERM), Err(Error::State { .. })), "it has ended");
    db.restart(Duration::ZERO, Io::log()).expect("a restart");
    let names: Vec<_> = pod.containers().expect("a list").iter().map(|one| one.name().to_string()).collect();
    assert_eq!(names, ["db"]);
    db.remove_by_force().expect("removal");
    for error in [db.status().err(), db.remove().err(), db.start(Io::log()).err(), db.wait().err()] {
        assert!(matches!(error, Some(Error::NotFound(_))), "{error:?}");
    }
    assert!(pod.containers().expect("a list").is_empty());
    pod.remove().expect("removal");
}

fn a_handle_sees_what_others_do(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe wait-file /go , exit 3").ok();
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let handle = pod.container("a").expect("the container");
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(handle.wait().expect("its end").code(), Some(3));
    bed.podlet("start web/a").ok();
    assert_eq!(handle.wait().expect("its end").code(), Some(3));
    bed.podlet("rm web/a").ok();
    assert!(matches!(handle.exit(), Err(Error::NotFound(_))));
    // Another one of its name.
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe exit 5").ok();
    assert_eq!(handle.wait().expect("its end").code(), Some(5));
    fs::remove_file(bed.inside("go")).expect("the file");
}

fn a_handle_sees_that_its_pod_was_started_again(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web --name a --rootfs ROOT /probe exit 4").code(4);
    bed.podlet("stop web").ok();
    let (dead, store) = (Pod::open(&bed.store(), "web").expect("the pod"), bed.store());
    let handle = dead.container("a").expect("the container");
    assert_eq!(handle.wait().expect("its end").code(), Some(4));
    bed.podlet("start web").ok();
    handle.wait().expect("its end of now");
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe trap TERM 6 , echo up , block").ok();
    bed.await_log("web/b", "up");
    let b = dead.container("b").expect("the container");
    assert_eq!((b.exit().expect("known"), b.status().expect("its status").state), (None, ContainerState::Running));
    assert!(matches!(b.remove(), Err(Error::State { .. })), "it runs");
    assert!(matches!(b.start(Io::log()), Err(Error::State { .. })), "it runs");
    let exec = ExecSpec::new(["/probe", "exit", "4"]);
    assert_eq!(b.exec(&exec, Io::log()).expect("an exec").wait().expect("its end").code(), Some(4));
    assert_eq!(b.stop(Duration::from_secs(60)).expect("a stop").map(|exit| exit.code()), Some(Some(6)));
    // The table of before had an entry of that number, too.
    let mut again = Pod::open(&store, "web").expect("the pod");
    again.kill().expect("its end");
    again.start().expect("a start");
    b.start(Io::log()).expect("a start");
    assert_eq!(bed.inspect("web/b")["state"], "running");
    b.remove_by_force().expect("removal");
}

fn what_is_created_is_told_before_it_is_started(bed: &Bed) {
    bed.podlet("create web").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let mut told = |expected: &[&str]| {
        let mut events = Vec::new();
        bed.until("events", || {
            events.extend(watch.next(Some(Duration::from_millis(100))).expect("events"));
            events.len() >= expected.len()
        });
        assert_eq!(events.iter().map(|event| event.kind.name()).collect::<Vec<_>>(), expected);
    };
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe exit 0").ok();
    told(&["created"]);
    bed.podlet("start web/a").ok();
    told(&["started", "died"]);
    bed.podlet("rm web/a").ok();
    told(&["removed"]);
}

/// Whether it moves: its word comes again and again.
fn moves(bed: &Bed, target: &str) {
    let said = || bed.podlet(&format!("logs {target}")).ok().len();
    let before = said();
    bed.until("a word of it", || said() > before);
}

fn a_paused_container_stands_still_and_goes_on(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe ignore TERM , tick").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe tick").ok();
    if !bed.mode.has_cgroups() {
        bed.podlet("pause web/a").fails(125, &["web/a", "no cgroup"]);
        bed.podlet("unpause web").fails(125, &["web", "no cgroup"]);
        return;
    }
    moves(bed, "web/a");
    bed.podlet("pause web/a").ok();
    bed.podlet("pause web/a").ok();
    // It is all in the log that it wrote before.
    let said = bed.podlet("logs web/a").ok();
    moves(bed, "web/b");
    moves(bed, "web/b");
    assert_eq!(bed.podlet("logs web/a").ok(), said);
    assert_eq!((&bed.inspect("web/a")["state"], &bed.inspect("web/b")["state"]), (&json!("paused"), &json!("running")));
    assert_eq!(bed.inspect("web")["state"], "running", "one of two");
    assert_eq!(bed.podlet("ps -q --filter status=paused").ok().trim(), "web/a");
    assert!(bed.podlet("ps").ok().lines().any(|line| line.contains(" a ") && line.contains("paused")));
    bed.podlet("exec web/a /probe exit 0").fails(125, &["frozen"]);
    bed.podlet("unpause web/a").ok();
    moves(bed, "web/a");
    bed.podlet("pause web/a").ok();
    bed.podlet("stop -t 0 web/a").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "137");
    bed.podlet("pause web/a").fails(125, &["is not running"]);
    // A run later it is not.
    bed.podlet("start web/a").ok();
    moves(bed, "web/a");
}

fn a_pod_is_paused_as_one(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe tick").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe tick").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    if !bed.mode.has_cgroups() {
        let error = pod.pause().expect_err("no cgroup").to_string();
        assert!(error.contains("pod web has no cgroup"), "{error}");
        return;
    }
    pod.pause().expect("a pause");
    assert_eq!(pod.status().expect("its status").state, PodState::Paused);
    let states: Vec<_> = pod.status().expect("its status").containers.iter().map(|container| container.state).collect();
    assert_eq!(states, [ContainerState::Paused; 2]);
    assert_eq!(bed.podlet("ps -q --filter status=paused").ok(), "web/a\nweb/b\n");
    bed.podlet("run --pod web --name c --rootfs ROOT /probe exit 0").fails(125, &["frozen"]);
    bed.podlet("container create --pod web --name c --rootfs ROOT /probe exit 3").ok();
    bed.podlet("start web/c").fails(125, &["frozen"]);
    let mut told = Vec::new();
    bed.until("both pauses", || {
        told.extend(watch.next(Some(Duration::from_millis(100))).expect("events"));
        told.iter().filter(|event| event.kind.name() == "paused").count() == 2
    });
    pod.unpause().expect("an end of that");
    moves(bed, "web/a");
    moves(bed, "web/b");
    bed.podlet("start web/c").ok();
    assert_eq!(bed.podlet("wait web/c").ok().trim(), "3");
    // One that is paused by itself stays so.
    bed.podlet("pause web/a").ok();
    bed.podlet("pause web").ok();
    bed.podlet("pause web/b").ok();
    bed.podlet("unpause web/b").ok();
    assert_eq!(bed.inspect("web/b")["state"], "paused", "with its pod");
    bed.podlet("unpause -a").ok();
    moves(bed, "web/b");
    assert_eq!(bed.inspect("web/a")["state"], "paused");
    // And a paused pod ends as any other.
    bed.podlet("pause web").ok();
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}
