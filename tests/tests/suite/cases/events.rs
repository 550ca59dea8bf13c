//! What happens is told: by the library's watch, and by `podlet events`.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use pod::{Event, EventKind, Io, Pod, PodOptions, Watch};
use serde_json::Value;

use crate::bed::{Background, Bed};
use crate::harness::patience;
use crate::leaks;
use crate::modes::Mode;

crate::tests![
    a_pods_life_is_told,
    a_pods_life_is_told_by_the_command,
    a_run_that_came_and_went_between_two_looks_is_told,
    how_a_container_ended_is_told_though_it_was_removed,
    each_run_is_told_once_however_often_one_looks,
    a_container_whose_starter_was_killed_is_told,
    who_only_looks_makes_no_events,
    a_watch_is_readable_once_something_has_happened,
    a_watch_takes_as_many_descriptors_as_is_said,
    a_task_hears_what_happens_and_waits_for_ends,
    three_hundred_pods_are_watched_by_one_program,
    more_changes_than_the_kernel_keeps_lose_nothing,
    a_frozen_container_is_told,
    a_watch_ends_with_its_store,
    events_are_chosen_and_end_when_asked,
    what_events_cannot_do_is_said,
];

/// What needs a memory controller.
pub const ON_A_WHOLE_MACHINE: &[crate::Case] = &[("a_lack_of_memory_is_told", a_lack_of_memory_is_told)];

/// Longer than anything takes.
fn long() -> Option<Duration> {
    Some(Duration::from_secs(60) * patience())
}

/// As one line of the command, without its time.
fn show(event: &Event) -> String {
    let name = event.container.as_ref().map_or(event.pod.clone(), |container| format!("{}/{container}", event.pod));
    match event.kind {
        EventKind::Died { exit } => {
            format!("died {name} {}", exit.map_or("?".into(), |exit| exit.shell_code().to_string()))
        }
        kind => format!("{} {name}", kind.name()),
    }
}

/// Awaits so many events, and not one more than these by then.
fn await_events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.len() < count {
        let more = watch.next(long()).expect("events");
        assert!(!more.is_empty(), "in vain after {:?}", events.iter().map(show).collect::<Vec<_>>());
        events.extend(more);
    }
    events
}

#[track_caller]
fn expect(watch: &mut Watch, expected: &[&str]) -> Vec<Event> {
    let events = await_events(watch, expected.len());
    assert_eq!(events.iter().map(show).collect::<Vec<_>>(), expected);
    events
}

fn a_pods_life_is_told(bed: &Bed) {
    let was = Pod::create(&bed.store(), PodOptions::new("was")).expect("a pod");
    was.run(&bed.container("a", "block"), Io::log()).expect("a container");
    let mut watch = bed.store().watch().expect("a watch");
    assert_eq!(watch.next(Some(Duration::ZERO)).expect("events"), [], "what was there before");

    bed.podlet("create web --label app=shop").ok();
    let first = expect(&mut watch, &["pod-created web", "pod-started web"]);
    assert_eq!(first[0].pod_labels["app"], "shop");
    bed.podlet("run -d --pod web --name db -l color=red --rootfs ROOT /probe wait-file /go , exit 7").ok();
    let started = expect(&mut watch, &["created web/db", "started web/db"]);
    assert_eq!(started[1].labels["color"], "red");
    fs::write(bed.inside("go"), "").expect("a file");
    let died = expect(&mut watch, &["died web/db 7"]);
    let web = Pod::open(&bed.store(), "web").expect("the pod");
    let status = web.container("db").expect("the container").status().expect("its status");
    assert_eq!((Some(started[1].time), Some(died[0].time)), (status.started, status.finished));
    fs::remove_file(bed.inside("go")).expect("the file");

    // Again, and killed.
    bed.podlet("start web/db").ok();
    expect(&mut watch, &["started web/db"]);
    bed.podlet("kill -s SEGV web/db").ok();
    expect(&mut watch, &["died web/db 139"]);
    bed.podlet("rm web/db").ok();
    expect(&mut watch, &["removed web/db"]);

    // The pod's end is that of its containers, and it can live again.
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    expect(&mut watch, &["created web/a", "started web/a"]);
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    expect(&mut watch, &["died web/a 137", "pod-ended web"]);
    bed.podlet("start web/a").ok();
    expect(&mut watch, &["pod-started web", "started web/a"]);
    bed.podlet("rm -f web").ok();
    expect(&mut watch, &["died web/a 137", "pod-ended web", "removed web/a", "pod-removed web"]);
    was.remove().expect("removal");
    expect(&mut watch, &["died was/a 137", "pod-ended was", "removed was/a", "pod-removed was"]);
    bed.is_clean();
}

/// Starts `podlet events`, and awaits that it watches.
fn follow(bed: &Bed, options: &str) -> Background {
    let events = bed.spawn(&format!("events {options}"));
    bed.until("a command that watches", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", events.pid())).into_iter().flatten().flatten();
        let mut links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.display().to_string().contains("signalfd"))
    });
    events
}

fn a_pods_life_is_told_by_the_command(bed: &Bed) {
    let lines = follow(bed, "");
    let objects = follow(bed, "--format json");
    bed.podlet("run --name once -l color=red --rootfs ROOT /probe exit 7").code(7);
    let both = |event: &str| {
        bed.until(event, || [&lines, &objects].iter().all(|events| events.out().contains(event)));
    };
    both("pod-ended");
    bed.podlet("rm once").ok();
    both("pod-removed");
    lines.signal(Signal::SIGINT);
    objects.signal(Signal::SIGTERM);
    let lines = lines.wait().ok();
    let lines: Vec<_> = lines.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(lines.iter().all(|(time, _)| time.len() == 30 && time.ends_with('Z')), "{lines:?}");
    let said: Vec<_> = lines.iter().map(|(_, said)| *said).collect();
    assert_eq!(
        said[..5],
        [
            "pod-created once",
            "pod-started once",
            "created once/once",
            "started once/once",
            "died once/once (exit code 7)"
        ]
    );
    assert!(said[5..].contains(&"pod-ended once") && said[5..].contains(&"removed once/once"), "{said:?}");
    assert_eq!(said.last(), Some(&"pod-removed once"));
    assert_eq!(said.len(), 8, "{said:?}");
    let objects = objects.wait().ok();
    let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let died = objects.iter().find(|event| event["event"] == "died").expect("its end");
    assert_eq!((&died["pod"], &died["container"], &died["exit_code"]), (&"once".into(), &"once".into(), &7.into()));
    assert_eq!((&died["signal"], &died["labels"]["color"]), (&Value::Null, &"red".into()));
    assert_eq!(objects.len(), 8);
}

fn a_run_that_came_and_went_between_two_looks_is_told(bed: &Bed) {
    bed.podlet("create web").ok();
    let mut watch = bed.store().watch().expect("a watch");
    // Other processes do it all, before the next look.
    bed.podlet("run --pod web --name a --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("run --pod web --name b --rootfs ROOT /probe exit 4").code(4);
    expect(
        &mut watch,
        &["created web/a", "started web/a", "died web/a 3", "created web/b", "started web/b", "died web/b 4"],
    );
    // A run that another one has followed, in the same entry of the table.
    bed.podlet("run -d --pod web --name c --rootfs ROOT /probe wait-file /go , exit 5").ok();
    expect(&mut watch, &["created web/c", "started web/c"]);
    fs::write(bed.inside("go"), "").expect("a file");
    bed.podlet("wait web/c").ok();
    bed.podlet("start web/c").ok();
    bed.podlet("wait web/c").ok();
    expect(&mut watch, &["died web/c 5", "started web/c", "died web/c 5"]);
    // Of a pod that was dead in between.
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    bed.until("its end", || bed.inspect("web")["state"] == "exited");
    bed.podlet("start web/c").ok();
    bed.podlet("wait web/c").ok();
    expect(&mut watch, &["pod-ended web", "pod-started web", "started web/c", "died web/c 5"]);
}

fn how_a_container_ended_is_told_though_it_was_removed(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe wait-file /go , exit 7").ok();
    let mut watch = bed.store().watch().expect("a watch");
    fs::write(bed.inside("go"), "").expect("a file");
    bed.podlet("wait web/a").ok();
    bed.podlet("rm web/a").ok();
    expect(&mut watch, &["died web/a 7", "removed web/a"]);
    // With its pod, in which another one still ran.
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe wait-file /go2 , exit 8").ok();
    bed.podlet("run -d --pod web --name c --rootfs ROOT /probe block").ok();
    await_events(&mut watch, 4);
    fs::write(bed.inside("go2"), "").expect("a file");
    bed.podlet("wait web/b").ok();
    bed.podlet("rm -f web").ok();
    let told: Vec<_> = await_events(&mut watch, 6).iter().map(show).collect();
    assert_eq!(told[..2], ["died web/b 8", "died web/c 137"]);
    assert_eq!(told.last().map(String::as_str), Some("pod-removed web"), "{told:?}");
    // Another one of its name is another one.
    bed.podlet("create web").ok();
    expect(&mut watch, &["pod-created web", "pod-started web"]);
    bed.podlet("rm -f web").ok();
    bed.podlet("create web").ok();
    expect(&mut watch, &["pod-ended web", "pod-removed web", "pod-created web", "pod-started web"]);
}

fn each_run_is_told_once_however_often_one_looks(bed: &Bed) {
    // A file among the pods is none.
    let notes = bed.state().join("notes");
    fs::write(&notes, "x").expect("a file");
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let mut told = Vec::new();
    std::thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            for _ in 0..bed.rounds(8) {
                bed.podlet("restart -t 0 web/a").ok();
                bed.podlet("stop -t 0 web/a").ok();
                bed.podlet("start web/a").ok();
            }
        });
        while !restarts.is_finished() {
            told.extend(watch.next(Some(Duration::from_micros(500))).expect("events"));
        }
        restarts.join().expect("restarts");
    });
    told.extend(watch.next(Some(Duration::ZERO)).expect("events"));
    let runs: Vec<_> = told.iter().filter(|event| event.kind == EventKind::Started).map(|event| event.time).collect();
    let shown: Vec<_> = told.iter().map(show).collect();
    assert!(runs.len() > 1 && runs.is_sorted_by(|one, next| one < next), "{shown:#?}");
    // Each ends once before the next one begins; the first began before.
    let is_end = |event: &Event| matches!(event.kind, EventKind::Died { exit: Some(_) });
    let in_turn = told.iter().enumerate().all(|(at, event)| is_end(event) == (at % 2 == 0));
    assert!(in_turn && told.len() == 2 * runs.len(), "{shown:#?}");
    fs::remove_file(notes).expect("the file");
}

fn a_container_whose_starter_was_killed_is_told(bed: &Bed) {
    bed.podlet("create web").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let starter = bed.spawn_command(bed.embed("leave web lib wait-file /go , exit 7"));
    starter.await_line(bed, "started lib");
    starter.signal(Signal::SIGKILL);
    starter.wait();
    // As if that had been a moment sooner.
    fs::remove_file(bed.state().join("web/containers/lib/process.json")).expect("a record");
    expect(&mut watch, &["created web/lib", "started web/lib"]);
    fs::write(bed.inside("go"), "").expect("a file");
    expect(&mut watch, &["died web/lib 7"]);
}

fn who_only_looks_makes_no_events(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    bed.podlet("run -d --pod web --rm --name b --rootfs ROOT /probe block").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..bed.rounds(30) {
                Pod::sweep(&bed.store());
                Pod::summaries(&bed.store(), true).expect("a list");
                bed.list();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            assert_eq!(watch.next(Some(Duration::from_millis(20))).expect("events"), []);
        }
    });
    bed.podlet("rm -f web/b").ok();
    expect(&mut watch, &["died web/b 137", "removed web/b"]);
}

fn is_readable(watch: &Watch, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout).expect("a poll") == 1
}

fn a_watch_is_readable_once_something_has_happened(bed: &Bed) {
    let mut watch = bed.store().watch().expect("a watch");
    assert!(!is_readable(&watch, PollTimeout::ZERO));
    bed.podlet("create web").ok();
    assert!(is_readable(&watch, PollTimeout::ZERO));
    expect(&mut watch, &["pod-created web", "pod-started web"]);
    assert!(!is_readable(&watch, PollTimeout::ZERO));
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe wait-file /go , exit 7").ok();
    expect(&mut watch, &["created web/a", "started web/a"]);
    // Its end, which stands in a mapped page alone, wakes an event loop, which does
    // not spin if pause is about to write it there.
    fs::write(bed.inside("go"), "").expect("a file");
    let mut events = Vec::new();
    let mut turns = 0;
    while events.is_empty() {
        assert!(is_readable(&watch, PollTimeout::from(60_000u16)), "in vain");
        events = watch.next(Some(Duration::ZERO)).expect("events");
        turns += 1;
    }
    assert_eq!(events.iter().map(show).collect::<Vec<_>>(), ["died web/a 7"]);
    assert!(turns < 100, "{turns} turns");
    assert!(!is_readable(&watch, PollTimeout::ZERO));
}

/// What docs/embedding.md says that a watch takes: its descriptors, and inotify
/// watches without those of cgroups.
fn cost(pods: usize, alive: usize, containers: usize, running: usize) -> (usize, usize) {
    (3 + alive + running, 1 + 3 * pods + containers)
}

/// The inotify watches of this process; those of cgroups left out.
fn inotify_watches() -> usize {
    let fds = leaks::descriptors().into_iter().filter(|(_, link)| link.contains("inotify"));
    let infos = fds.filter_map(|(fd, _)| fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok());
    // The mask of those is IN_MODIFY.
    infos.map(|info| info.lines().filter(|line| line.contains("wd:") && !line.contains("mask:2 ")).count()).sum()
}

fn a_watch_takes_as_many_descriptors_as_is_said(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web --name a --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("stop web").ok();
    // Many that have ended as that one has.
    let (web, count) = (bed.state().join("web"), 297);
    let record = |path: &str| fs::read_to_string(web.join(path)).expect("a record");
    let (pod, pause, container) = (record("pod.json"), record("pause.json"), record("containers/a/container.json"));
    for number in 0..count {
        let dir = bed.state().join(format!("dead{number}"));
        fs::create_dir_all(dir.join("containers/a")).expect("a directory");
        fs::write(dir.join("pod.json"), pod.replace("\"web\"", &format!("\"dead{number}\""))).expect("a record");
        fs::write(dir.join("lock"), "").expect("a lock");
        fs::write(dir.join("pause.json"), &pause).expect("a record");
        fs::copy(web.join("table"), dir.join("table")).expect("a table");
        fs::write(dir.join("containers/a/container.json"), &container).expect("a record");
    }
    for name in ["one", "two"] {
        bed.podlet(&format!("create {name}")).ok();
        bed.podlet(&format!("run -d --pod {name} --name a --rootfs ROOT /probe block")).ok();
    }
    bed.podlet("run -d --pod two --name b --rootfs ROOT /probe block").ok();
    let before = leaks::descriptors().len();
    let mut watch = bed.store().watch().expect("a watch");
    let now = || (leaks::descriptors().len() - before, inotify_watches());
    assert_eq!(now(), cost(300, 2, 301, 3));
    fs::remove_dir_all(bed.state().join("dead7")).expect("removal");
    expect(&mut watch, &["removed dead7/a", "pod-removed dead7"]);
    assert_eq!(now(), cost(299, 2, 300, 3));
    bed.podlet("rm -f two/b").ok();
    expect(&mut watch, &["died two/b 137", "removed two/b"]);
    bed.podlet("rm -f one").ok();
    await_events(&mut watch, 4);
    assert_eq!(now(), cost(298, 1, 298, 1));
    // All at once, while it is watched.
    for number in (0..count).filter(|number| *number != 7) {
        fs::remove_dir_all(bed.state().join(format!("dead{number}"))).expect("removal");
    }
    let told = await_events(&mut watch, 2 * (count - 1));
    assert_eq!(told.iter().filter(|event| event.kind == EventKind::PodRemoved).count(), count - 1);
    assert_eq!(now(), cost(2, 1, 2, 1));
    drop(watch);
    assert_eq!(now(), (0, 0));
}

fn a_task_hears_what_happens_and_waits_for_ends(bed: &Bed) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    bed.podlet("create web").ok();
    let pod = std::sync::Arc::new(Pod::open(&bed.store(), "web").expect("the pod"));
    runtime.block_on(async {
        let mut watch = pod_tokio::Watch::new(bed.store().watch().expect("a watch")).expect("registered");
        let mut told = Vec::new();
        let mut await_told = async |expected: &[&str]| {
            while told.len() < expected.len() {
                told.extend(watch.next().await.expect("events").iter().map(show));
            }
            assert_eq!(std::mem::take(&mut told), expected);
        };
        let run = |name: &str, script: &str| {
            let process = pod.run(&bed.container(name, script), Io::log()).expect("a container");
            pod_tokio::Process::new(process).expect("registered")
        };
        let process = run("a", "wait-file /go , exit 7");
        await_told(&["created web/a", "started web/a"]).await;
        // A wait that is given up has changed nothing.
        assert!(tokio::time::timeout(Duration::from_millis(1), process.wait()).await.is_err());
        fs::write(bed.inside("go"), "").expect("a file");
        await_told(&["died web/a 7"]).await;
        // As often, and by as many, as one likes.
        let (one, other) = tokio::join!(process.wait(), process.wait());
        let (one, other) = (one.expect("its end"), other.expect("its end"));
        assert_eq!((one.code(), other), (Some(7), one));
        // One that listens to its stop signal, and one that does not.
        run("gentle", "trap TERM 3 , echo up , block");
        run("deaf", "ignore TERM , echo up , block");
        await_told(&["created web/gentle", "started web/gentle", "created web/deaf", "started web/deaf"]).await;
        ["web/gentle", "web/deaf"].iter().for_each(|target| bed.await_log(target, "up"));
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(10));
        let exit = pod_tokio::stop(&pod, "gentle", long).await.expect("a stop").expect("an end");
        assert_eq!(exit.code(), Some(3));
        let exit = pod_tokio::stop(&pod, "deaf", short).await.expect("a stop").expect("an end");
        assert_eq!(exit.signal(), Some(9));
        assert_eq!(
            pod_tokio::stop(&pod, "deaf", short).await.expect("it has ended").map(|again| again.signal()),
            Some(Some(9))
        );
        assert!(matches!(pod_tokio::stop(&pod, "none", short).await, Err(pod::Error::NotFound(_))));
        await_told(&["died web/gentle 3", "died web/deaf 137"]).await;
        bed.podlet("stop web").ok();
        pod_tokio::ended(&pod).await.expect("its end");
    });
    fs::remove_file(bed.inside("go")).expect("the file");
}

fn three_hundred_pods_are_watched_by_one_program(bed: &Bed) {
    let count = if bed.mode == Mode::Root { bed.rounds(300) as usize } else { 30 };
    let store = bed.store();
    let go = fs::File::create(bed.inside("go")).expect("a file");
    go.lock().expect("a lock");
    for number in 0..count {
        let mut pod = Pod::create(&store, PodOptions::new(format!("p{number}"))).expect("a pod");
        pod.run(&bed.container("a", "await-lock /go , exit 7"), Io::log()).expect("a container");
        pod.detach().expect("detached");
    }
    let before = leaks::descriptors().len();
    let mut watch = store.watch().expect("a watch");
    assert_eq!((leaks::descriptors().len() - before, inotify_watches()), cost(count, count, count, count));
    // All at once: each is told, and once.
    go.unlock().expect("unlocking");
    let told = |mut events: Vec<String>, expected: &dyn Fn(usize) -> Vec<String>| {
        let mut expected: Vec<_> = (0..count).flat_map(expected).collect();
        events.sort();
        expected.sort();
        assert_eq!(events, expected);
    };
    let events = await_events(&mut watch, count).iter().map(show).collect();
    told(events, &|number| vec![format!("died p{number}/a 7")]);
    assert_eq!(leaks::descriptors().len() - before, cost(count, count, count, 0).0);
    bed.podlet("rm -af").ok();
    let events = await_events(&mut watch, 3 * count).iter().map(show).collect();
    told(events, &|number| {
        ["pod-ended", "removed", "pod-removed"]
            .iter()
            .map(|kind| match *kind {
                "removed" => format!("removed p{number}/a"),
                kind => format!("{kind} p{number}"),
            })
            .collect()
    });
    assert_eq!((leaks::descriptors().len() - before, inotify_watches()), cost(0, 0, 0, 0));
    fs::remove_file(bed.inside("go")).expect("the file");
}

fn more_changes_than_the_kernel_keeps_lose_nothing(bed: &Bed) {
    bed.podlet("create web").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
    let most: usize = most.trim().parse().expect("a number");
    for number in 0..=most / 2 {
        let path = bed.state().join(["odd", "even"][number % 2]);
        fs::create_dir(&path).expect("a directory");
        fs::remove_dir(&path).expect("removal");
    }
    bed.podlet("run --pod web --name a --rootfs ROOT /probe exit 7").code(7);
    bed.podlet("create new").ok();
    let events = await_events(&mut watch, 5);
    let told: Vec<_> = events.iter().map(show).collect();
    assert_eq!(told, ["created web/a", "started web/a", "died web/a 7", "pod-created new", "pod-started new"]);
    // And goes on.
    bed.podlet("rm -f new").ok();
    expect(&mut watch, &["pod-ended new", "pod-removed new"]);
}

fn a_frozen_container_is_told(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    for _ in 0..3 {
        pod.container("a").expect("a container").pause().expect("frozen");
        expect(&mut watch, &["paused web/a"]);
        pod.container("a").expect("a container").unpause().expect("thawed");
        expect(&mut watch, &["unpaused web/a"]);
    }
    // A run later, in another cgroup of that name, which ends frozen.
    bed.podlet("restart -t 0 web/a").ok();
    expect(&mut watch, &["died web/a 143", "started web/a"]);
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    pod.container("a").expect("a container").pause().expect("frozen");
    expect(&mut watch, &["paused web/a"]);
    pod.container("a").expect("a container").kill_all().expect("killed");
    expect(&mut watch, &["died web/a 137"]);
}

fn a_watch_ends_with_its_store(bed: &Bed) {
    let dir = bed.dir.join("other");
    let store = pod::Store::open(&dir).expect("a store");
    let mut watch = store.watch().expect("a watch");
    fs::remove_dir_all(&dir).expect("removal");
    let error = watch.next(long()).expect_err("nothing to watch").to_string();
    assert!(error.contains("other") && error.contains("removed"), "{error}");
}

fn events_are_chosen_and_end_when_asked(bed: &Bed) {
    let all = [
        ("web", "9 web"),
        ("--filter event=died", "3"),
        ("--filter event=died --filter event=started --filter container=web/a", "2 a"),
        ("--filter label=color=red", "3 a"),
        ("--filter label=app", "9 web"),
        ("--filter label=app --filter label=color=red", "3 a"),
        ("--filter pod=other --filter event=pod-created", "1 other"),
    ];
    let followers = all.map(|(options, _)| follow(bed, &format!("--format json {options}")));
    let watcher = follow(bed, "");
    bed.podlet("create web -l app=shop").ok();
    bed.podlet("run --pod web --name a -l color=red --rootfs ROOT /probe exit 7").code(7);
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe block").ok();
    bed.podlet("kill -s TERM web/b").ok();
    bed.podlet("wait web/b").ok();
    bed.podlet("stop web").ok();
    bed.podlet("create other").ok();
    bed.podlet("run --pod other --name c --rootfs ROOT /probe exit 1").code(1);
    bed.until("the last event", || watcher.out().contains("died other/c (exit code 1)"));
    assert!(watcher.out().contains("died web/b (signal 15)"), "{}", watcher.out());
    for ((options, expected), follower) in all.into_iter().zip(followers) {
        let (count, name) = expected.split_once(' ').unwrap_or((expected, ""));
        let count: usize = count.parse().expect("a number");
        bed.until(options, || follower.out().lines().count() >= count);
        follower.signal(Signal::SIGTERM);
        let said = follower.wait().ok();
        assert!(said.lines().count() == count, "{options}: {said}");
        assert!(said.lines().all(|line| line.contains(&format!("\"{name}"))), "{options}: {said}");
    }
    watcher.signal(Signal::SIGINT);
    watcher.wait().ok();
    // Without a reader it ends, too.
    let mut child = bed.command(&["events"]).stdout(std::process::Stdio::piped()).spawn().expect("a command");
    drop(child.stdout.take());
    bed.until("the end of who has no reader", || child.try_wait().expect("a child").is_some());
}

fn what_events_cannot_do_is_said(bed: &Bed) {
    for (line, words) in [
        ("events --since 1h", &["no option --since", "as it happens"][..]),
        ("events --filter event=birth", &["event=birth", "pod-created", "died"]),
        ("events --filter colour=red", &["pod, container, label and event"]),
        ("events --filter died", &["KEY=VALUE"]),
        ("events web/a", &["web/a", "--filter container="]),
        ("evnets", &["do you mean `podlet events`?"]),
    ] {
        bed.podlet(line).fails(125, words);
    }
    // A limit is named, and what helps.
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    let events = bed.command(&["events"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 7; exec \"$0\" \"$@\""]).arg(events.get_program()).args(events.get_args());
    bed.finish(limited).fails(125, &["RLIMIT_NOFILE", "ulimit -n"]);
}

fn a_lack_of_memory_is_told(bed: &Bed) {
    bed.podlet("create web").ok();
    let mut watch = bed.store().watch().expect("a watch");
    let limits = "--memory 32m --memory-swap 32m";
    bed.podlet(&format!("run -d --pod web --name a {limits} --rootfs ROOT /probe wait-file /go , eat 200")).ok();
    expect(&mut watch, &["created web/a", "started web/a"]);
    fs::write(bed.inside("go"), "").expect("a file");
    // Told each time that the kernel's count has grown, which on a slow machine is more
    // than once until the process is gone.
    let mut events = await_events(&mut watch, 2);
    while events.last().is_some_and(|last| show(last) == "out-of-memory web/a") {
        events.extend(await_events(&mut watch, 1));
    }
    let (last, before) = events.split_last().expect("events");
    assert!(before.iter().all(|event| show(event) == "out-of-memory web/a"), "{events:?}");
    let EventKind::Died { exit: Some(exit) } = last.kind else { panic!("{events:?}") };
    assert_eq!(exit.out_of_memory, Some(pod::OomLevel::Container));
}
