//! `prune`, and `wait` for more than the end.

use super::oci_terminal::{await_words, terminal};
use super::streams::{await_end, on_terminal};
use crate::bed::Bed;

crate::tests![
    prune_removes_what_has_ended_and_nothing_else,
    prune_asks_on_a_terminal,
    prune_takes_its_filters_at_their_word,
    a_wait_ends_when_its_condition_is_met,
    conditions_that_cannot_be_are_refused,
];

fn names(bed: &Bed) -> Vec<String> {
    bed.podlet("ps -aq").ok().lines().map(String::from).collect()
}

/// A pod with a container that runs, one that has ended and one that is only made; a
/// pod that is dead; an empty one.
fn several(bed: &Bed) {
    bed.podlet("create web --label app=shop").ok();
    bed.podlet("run -d --pod web --name runs --rootfs ROOT /probe block").ok();
    bed.podlet("run --pod web --name ended --label old --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("container create --pod web --name made --rootfs ROOT /probe block").ok();
    bed.podlet("create dead").ok();
    bed.podlet("run -d --pod dead --name a --rootfs ROOT /probe block").ok();
    bed.podlet("stop -t 0 dead").ok();
    bed.podlet("create empty").ok();
}

fn prune_removes_what_has_ended_and_nothing_else(bed: &Bed) {
    several(bed);
    // Nobody is there to be asked.
    bed.podlet("prune").fails(125, &["no terminal", "--force"]);
    assert_eq!(names(bed), ["dead/a", "empty", "web/ended", "web/made", "web/runs"]);
    let pid = bed.pid_of("web/runs");
    assert_eq!(bed.podlet("prune --force").ok(), "dead\nweb/ended\n");
    assert_eq!(names(bed), ["empty", "web/made", "web/runs"]);
    assert_eq!(bed.pid_of("web/runs"), pid);
    assert_eq!(bed.podlet("prune").ok(), "", "there is nothing to ask about");
    // A pod that is attached to a program that lives is that program's.
    let pod = pod::Pod::create(&bed.store(), pod::PodOptions::new("mine")).expect("a pod");
    pod.kill().expect("its end");
    assert_eq!(bed.podlet("prune -f").ok(), "");
    let other = pod::Pod::open(&bed.store(), "mine").expect("it is there");
    let error = other.remove_dead().expect_err("another's");
    assert!(matches!(error, pod::Error::State { .. }), "{error}");
    pod.remove().expect("its removal");
    let alive = pod::Pod::open(&bed.store(), "empty").expect("it is there");
    assert!(matches!(alive.remove_dead(), Err(pod::Error::State { .. })));
    assert_eq!(names(bed), ["empty", "web/made", "web/runs"]);
}

fn prune_asks_on_a_terminal(bed: &Bed) {
    several(bed);
    let (mut ours, theirs) = terminal(30, 120);
    for (answer, left) in [("n\r", 5), ("\r", 5), ("y\r", 3)] {
        let mut child = on_terminal(bed, &theirs, "prune");
        let seen = await_words(bed, &mut ours, "[y/N]");
        assert!(seen.contains("dead, web/ended"), "{seen}");
        std::io::Write::write_all(&mut ours, answer.as_bytes()).expect("keys");
        await_end(bed, &mut child, "the end of prune", |code| assert_eq!(code, Some(0)));
        assert_eq!(names(bed).len(), left, "{answer:?}");
    }
}

fn prune_takes_its_filters_at_their_word(bed: &Bed) {
    several(bed);
    for wrong in ["until=yesterday", "until=", "name=web", "old", "label="] {
        bed.podlet(&format!("prune -f --filter {wrong}")).fails(125, &["--filter", wrong]);
    }
    assert_eq!(bed.podlet("prune -f --filter until=1h").ok(), "", "all of it is younger");
    assert_eq!(bed.podlet("prune -f --filter label=app=store").ok(), "");
    // Its own label, and its pod's.
    assert_eq!(bed.podlet("prune -f --filter label=app=shop --filter label=old --filter until=0s").ok(), "web/ended\n");
    assert_eq!(bed.podlet("prune -f --filter until=2100-01-01T00:00:00Z").ok(), "dead\n");
}

fn a_wait_ends_when_its_condition_is_met(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("container create --pod web --name a --rootfs ROOT /probe trap TERM 7 , block").ok();
    assert_eq!(bed.podlet("wait --condition created web/a").ok(), "-1\n");
    let runs = bed.spawn("wait --condition running web/a");
    let removed = bed.spawn("wait --condition removed web/a");
    let either = bed.spawn("wait --condition paused --condition stopped web/a");
    // They have opened their watch once they have swept.
    for waiting in [&runs, &removed, &either] {
        await_poll(bed, waiting.pid());
    }
    bed.podlet("start web/a").ok();
    assert_eq!(runs.wait().code(0).out, "-1\n");
    assert_eq!(bed.podlet("wait --condition running web/a").ok(), "-1\n", "it runs already");
    // Until its handler is there, TERM would kill it.
    bed.until("its handler", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", bed.pid_of("web/a"))).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or_default().to_string();
        u64::from_str_radix(&caught, 16).unwrap_or(0) & 1 << 14 != 0
    });
    bed.podlet("kill -s TERM web/a").ok();
    assert_eq!(either.wait().code(0).out, "7\n");
    assert_eq!(bed.podlet("wait --condition exited web/a").ok(), "7\n");
    bed.podlet("rm web/a").ok();
    assert_eq!(removed.wait().code(0).out, "7\n");
    bed.podlet("wait --condition removed web/a").fails(125, &["no such", "web/a"]);
}

/// Waits until a process sleeps in poll(2) for what happens.
fn await_poll(bed: &Bed, pid: u32) {
    bed.until("a wait that has begun", || {
        std::fs::read_to_string(format!("/proc/{pid}/syscall"))
            .is_ok_and(|call| ["7 ", "271 "].iter().any(|poll| call.starts_with(poll)))
    });
}

fn conditions_that_cannot_be_are_refused(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    bed.podlet("wait --condition healthy web").fails(125, &["no health check", "running", "--health-cmd"]);
    bed.podlet("wait --condition done web").fails(125, &["done", "exited"]);
    bed.podlet("wait --condition stopping web").fails(125, &["stopping", "ever so"]);
    bed.podlet("wait --interval 1s web").fails(125, &["--interval", "no need"]);
    // What goes while it is waited for will never run.
    bed.podlet("stop -t 0 web/web").ok();
    let waiting = bed.spawn("wait --condition running web/web");
    await_poll(bed, waiting.pid());
    bed.podlet("rm -f web").ok();
    waiting.wait().fails(125, &["no such", "web/web"]);
}
