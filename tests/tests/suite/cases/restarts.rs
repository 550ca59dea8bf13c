//! Restart policies: what ends is started again as it says, by one supervisor, which
//! may be killed at any moment.

use std::os::unix::process::parent_id;
use std::time::Duration;

use nix::sys::signal::Signal;
use pod::spec::Backoff;
use pod::{Container, ContainerState, ContainerStatus, Io, Pod, PodOptions, RestartPolicy, Tended};

use super::any_call::{Rounds, at_moments, told};
use crate::bed::{self, Bed};
use crate::leaks::{self, Snapshot};
use crate::tracer::{self, What};

crate::tests![
    a_failure_is_restarted_so_often,
    each_policy_restarts_what_it_says,
    what_a_person_stops_stays_down,
    what_is_killed_is_restarted,
    a_pods_own_container_is_restarted_in_it,
    a_supervisor_that_is_killed_is_replaced,
    two_commands_start_one_supervisor,
    a_supervisor_ends_with_its_pod_and_when_nobody_needs_it,
    a_person_restarts_what_has_a_policy,
    a_start_that_fails_is_told_and_tried_again,
    a_pod_that_is_paused_waits_with_restarts,
    a_policy_that_cannot_be_is_refused,
    without_a_policy_there_is_nothing_of_it,
];

/// In the long form, too.
pub const AT_ANY_CALL: &[crate::Case] =
    &[("a_supervisors_restart_killed_at_any_call", a_supervisors_restart_killed_at_any_call)];

/// The supervisors of a pod that live.
pub fn supervisors(pod: &str) -> Vec<u32> {
    let all = leaks::descendants(parent_id());
    let is_one = |title: &str| title.split_once(" supervise ").is_some_and(|(_, of)| of.trim() == pod);
    all.into_iter().filter(|seen| is_one(&seen.title)).map(|seen| seen.pid).collect()
}

pub fn supervisor(bed: &Bed, pod: &str) -> u32 {
    bed.until("a supervisor", || supervisors(pod).len() == 1);
    supervisors(pod)[0]
}

/// Kills it; it has lost its name before it is gone.
pub fn kill(bed: &Bed, supervisor: u32) {
    bed.kill(supervisor, Signal::SIGKILL);
    let path = format!("/proc/{supervisor}");
    bed.until("the end of the supervisor", || !std::path::Path::new(&path).exists());
}

pub fn has_none(bed: &Bed, pod: &str) {
    bed.until("the end of the supervisor", || supervisors(pod).is_empty());
}

/// The container as it is once it is so.
pub fn until(
    bed: &Bed,
    what: &str,
    container: &Container<'_>,
    is_so: impl Fn(&ContainerStatus) -> bool,
) -> ContainerStatus {
    let mut status = container.status().expect("its status");
    bed.until(&format!("{what} of {}", container.name()), || {
        status = container.status().expect("its status");
        is_so(&status)
    });
    status
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state == ContainerState::Running
}

/// For its second restart, ten seconds.
fn is_waiting(status: &ContainerStatus) -> bool {
    let wait = status.next_start.zip(status.finished).and_then(|(next, end)| next.duration_since(end).ok());
    wait == Some(Duration::from_secs(10))
}

fn has_ended(status: &ContainerStatus) -> bool {
    status.state == ContainerState::Exited
}

/// A pod whose container has this policy and waits no time worth mentioning; it is not
/// supervised yet.
fn unsupervised(bed: &Bed, policy: &str, script: &str) -> Pod {
    let mut pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut spec = bed.container("a", script);
    spec.restart = policy.parse().expect("a policy");
    spec.restart_backoff = quick();
    pod.run(&spec, Io::log()).expect("a start");
    pod.detach().expect("detached");
    pod
}

fn quick() -> Backoff {
    let mut backoff = Backoff::default();
    backoff.first = Duration::from_millis(1);
    backoff.most = Duration::from_millis(4);
    backoff
}

/// It runs, or did, so often: what is being started is not said to be.
pub fn await_runs(bed: &Bed, container: &Container<'_>, count: usize) {
    bed.until(&format!("{count} runs"), || runs(container) >= count);
    assert_eq!(runs(container), count);
}

/// So often it ran: a line each.
fn runs(container: &Container<'_>) -> usize {
    bed::logged(container).matches("ran").count()
}

fn a_failure_is_restarted_so_often(bed: &Bed) {
    let pod = unsupervised(bed, "on-failure:5", "echo ran , exit 7");
    let container = pod.container("a").expect("it");
    until(bed, "the end", &container, has_ended);
    assert_eq!(supervisors("web"), [0; 0], "the library starts none by itself");
    bed.podlet("ps").ok();
    await_runs(bed, &container, 6);
    has_none(bed, "web");
    let status = container.status().expect("its status");
    assert_eq!((status.exit_code, status.next_start, status.restarts), (Some(7), None, 5));
    assert_eq!(runs(&container), 6);
    let shown = bed.podlet("ps -a").ok();
    assert!(shown.contains("exited (7), restarted 5 x"), "{shown}");
    // A person begins anew.
    bed.podlet("start web/a").ok();
    until(bed, "five more", &container, |_| runs(&container) == 12);
    assert_eq!(until(bed, "the end", &container, has_ended).restarts, 5);
    has_none(bed, "web");
    pod.remove().expect("removed");
}

fn each_policy_restarts_what_it_says(bed: &Bed) {
    bed.podlet("create web").ok();
    for (policy, code, is_restarted) in [
        ("on-failure:1", 0, false),
        ("on-failure:1", 7, true),
        ("always", 0, true),
        ("unless-stopped", 0, true),
        ("no", 7, false),
    ] {
        let script = format!("echo ran , exit {code}");
        bed.podlet(&format!("run -d --pod web --name a --restart {policy} --rootfs ROOT /probe {script}")).ok();
        let pod = Pod::open(&bed.store(), "web").expect("the pod");
        let container = pod.container("a").expect("it");
        let restarts = u32::from(is_restarted);
        await_runs(bed, &container, 1 + restarts as usize);
        let status = until(bed, policy, &container, |status| has_ended(status) && status.restarts == restarts);
        // The second time it waits for ten seconds.
        let waits = matches!(policy, "always" | "unless-stopped");
        assert_eq!(status.next_start.is_some(), waits, "{policy}: {status:?}");
        assert_eq!(status.restart_policy.to_string(), policy);
        if waits {
            let wait = status.next_start.and_then(|next| next.duration_since(status.finished?).ok());
            assert_eq!(wait, Some(Duration::from_secs(10)), "{policy}");
            let shown = bed.podlet("ps -a").ok();
            assert!(shown.contains("exited (0), starts in "), "{shown}");
        } else {
            has_none(bed, "web");
        }
        await_runs(bed, &container, 1 + restarts as usize);
        bed.podlet("rm web/a").ok();
        has_none(bed, "web");
    }
    bed.podlet("rm -f web").ok();
}

fn what_a_person_stops_stays_down(bed: &Bed) {
    bed.podlet("create web").ok();
    for policy in ["always", "unless-stopped", "on-failure"] {
        bed.podlet(&format!("run -d --pod web --name a --restart {policy} --rootfs ROOT /probe echo ran , block")).ok();
        supervisor(bed, "web");
        bed.await_log("web/a", "ran");
        bed.podlet("stop -t 0 web/a").ok();
        has_none(bed, "web");
        let pod = Pod::open(&bed.store(), "web").expect("the pod");
        let container = pod.container("a").expect("it");
        let status = container.status().expect("its status");
        assert!(has_ended(&status) && status.next_start.is_none(), "{policy}: {status:?}");
        // Started by a person it is restarted again.
        bed.podlet("start web/a").ok();
        await_runs(bed, &container, 2);
        container.kill(pod::Signal::KILL).expect("a signal");
        until(bed, "a restart", &container, |status| status.restarts == 1 && is_running(status));
        await_runs(bed, &container, 3);
        // What was stopped comes with its pod, if that is `always`.
        bed.podlet("stop -t 0 web/a").ok();
        has_none(bed, "web");
        bed.podlet("stop -t 0 web").ok();
        let mut pod = Pod::open(&bed.store(), "web").expect("the pod");
        pod.start().expect("a start");
        bed.podlet("ps").ok();
        let container = pod.container("a").expect("it");
        match policy {
            "always" => drop(until(bed, "its start", &container, is_running)),
            _ => {
                has_none(bed, "web");
                assert!(has_ended(&container.status().expect("its status")), "{policy}");
            }
        }
        bed.podlet("rm -f web/a").ok();
        has_none(bed, "web");
    }
    bed.podlet("rm -f web").ok();
}

fn what_is_killed_is_restarted(bed: &Bed) {
    bed.podlet("run -d --name web --restart unless-stopped --rootfs ROOT /probe echo ran , block").ok();
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let container = pod.container("web").expect("it");
    let before = bed.pid_of("web/web");
    await_runs(bed, &container, 1);
    bed.podlet("kill -s KILL web").ok();
    until(bed, "a restart", &container, |status| status.pid.is_some_and(|pid| pid != before));
    assert_eq!(container.status().expect("its status").restarts, 1);
    await_runs(bed, &container, 2);
    bed.podlet("rm -f web").ok();
    assert_eq!(supervisors("web"), [0; 0], "it has ended with the pod");
}

fn a_pods_own_container_is_restarted_in_it(bed: &Bed) {
    // The pod would end with its last container, and does at last.
    bed.podlet("run -d --name web --restart on-failure:1 --rootfs ROOT /probe echo ran , exit 7").ok();
    bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
    let container = bed.inspect("web/web");
    assert_eq!((&container["restarts"], &container["exit_code"]), (&1.into(), &7.into()));
    assert_eq!(bed.podlet("logs web").ok(), "ran\nran\n");
    has_none(bed, "web");
    // One that is stopped takes it along at once.
    bed.podlet("rm web").ok();
    bed.podlet("run -d --name web --restart always --rootfs ROOT /probe echo ran , block").ok();
    bed.podlet("stop -t 0 web/web").ok();
    bed.until("the end of the pod", || bed.inspect("web")["state"] == "exited");
    has_none(bed, "web");
    bed.podlet("start web").ok();
    supervisor(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn a_supervisor_that_is_killed_is_replaced(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --restart on-failure:3 --rootfs ROOT /probe echo ran , block").ok();
    let first = supervisor(bed, "web");
    let pid = bed.pid_of("web/a");
    kill(bed, first);
    assert_eq!(bed.pid_of("web/a"), pid, "the container does not notice");
    // That was the next command.
    let second = supervisor(bed, "web");
    assert_ne!(first, second);
    kill(bed, second);
    // Killed between the end and the restart.
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let container = pod.container("a").expect("it");
    await_runs(bed, &container, 1);
    container.kill(pod::Signal::KILL).expect("a signal");
    until(bed, "the end", &container, has_ended);
    let said = bed.podlet("ps");
    assert!(said.err.contains("restarts the containers of pod web was killed; it goes on"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1);
    let status = until(bed, "a restart", &container, is_running);
    assert_eq!(status.restarts, 1);
    await_runs(bed, &container, 2);
    assert_eq!(bed.podlet("ps").err, "");
    // And while it waits for the time of the next start.
    container.kill(pod::Signal::KILL).expect("a signal");
    let waits = until(bed, "a wait", &container, is_waiting);
    kill(bed, supervisor(bed, "web"));
    bed.podlet("inspect web/a").ok();
    supervisor(bed, "web");
    let goes_on = container.status().expect("its status");
    assert_eq!((goes_on.next_start, goes_on.restarts), (waits.next_start, 1));
    bed.podlet("rm -f web").ok();
    has_none(bed, "web");
}

fn two_commands_start_one_supervisor(bed: &Bed) {
    let pod = unsupervised(bed, "always", "echo ran , block");
    for _ in 0..bed.rounds(10) {
        let commands: Vec<_> = (0..4).map(|_| bed.spawn("ps")).collect();
        let said: Vec<_> = commands.into_iter().map(|command| command.wait().code(0)).collect();
        let one = supervisor(bed, "web");
        let told = said.iter().filter(|said| said.out.contains("was killed; it goes on")).count();
        assert!(told <= 1, "{said:?}");
        // Whoever else wants to be one is told that there is one.
        bed.podlet("supervise web").ok();
        let thread = Pod::open(&bed.store(), "web").expect("the pod");
        thread.supervise().expect("nothing to be done");
        assert_eq!(supervisors("web"), [one]);
        kill(bed, one);
    }
    pod.remove().expect("removed");
}

fn a_supervisor_ends_with_its_pod_and_when_nobody_needs_it(bed: &Bed) {
    let there = |bed: &Bed| bed.state().join("web/supervisor.lock").exists();
    bed.podlet("create web").ok();
    let a = "run -d --pod web --name a --restart always --rootfs ROOT /probe echo ran , exit 7";
    // Removed while it waits.
    bed.podlet(a).ok();
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    until(bed, "a wait", &pod.container("a").expect("it"), is_waiting);
    supervisor(bed, "web");
    bed.podlet("rm web/a").ok();
    has_none(bed, "web");
    bed.until("the end of its files", || !there(bed));
    // Its pod killed while it waits, and removed.
    bed.podlet(a).ok();
    until(bed, "a wait", &pod.container("a").expect("it"), is_waiting);
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    has_none(bed, "web");
    assert_eq!(bed.inspect("web/a")["next_start"], serde_json::Value::Null);
    bed.podlet("start web").ok();
    supervisor(bed, "web");
    bed.podlet("rm -f web").ok();
    assert_eq!(supervisors("web"), [0; 0]);
}

fn a_person_restarts_what_has_a_policy(bed: &Bed) {
    // Its pod ends with the last container, and not in between.
    bed.podlet("run -d --name web --restart always --rootfs ROOT /probe echo ran , block").ok();
    let pause = bed.pause_of("web");
    for _ in 0..bed.rounds(10) {
        let before = bed.pid_of("web/web");
        bed.podlet("restart -t 0 web").ok();
        assert_ne!(bed.pid_of("web/web"), before);
        assert_eq!((bed.pause_of("web"), &bed.inspect("web/web")["restarts"]), (pause, &0.into()));
    }
    supervisor(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn a_start_that_fails_is_told_and_tried_again(bed: &Bed) {
    let gone = bed.inside("/tmp/there");
    std::fs::write(&gone, "").expect("a file");
    let mut pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut spec = bed.container("a", "echo ran , exit 7").bind(&gone, "/srv/there", false);
    spec.restart = RestartPolicy::Always;
    spec.restart_backoff = quick();
    std::fs::create_dir(bed.inside("/srv/there")).ok();
    std::fs::remove_dir(bed.inside("/srv/there")).expect("a directory");
    std::fs::write(bed.inside("/srv/there"), "").expect("a file");
    pod.run(&spec, Io::log()).expect("a start");
    pod.detach().expect("detached");
    let container = pod.container("a").expect("it");
    until(bed, "the end", &container, has_ended);
    std::fs::remove_file(&gone).expect("removed");
    bed.podlet("ps").ok();
    let status = until(bed, "some tries", &container, |status| status.restarts > 3);
    let error = status.restart_error.expect("an error");
    assert!(error.contains("/tmp/there"), "{error}");
    assert!(status.next_start.is_some() && runs(&container) == 1);
    std::fs::write(&gone, "").expect("a file");
    until(bed, "a start", &container, |status| status.restart_error.is_none());
    pod.remove().expect("removed");
}

fn a_pod_that_is_paused_waits_with_restarts(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let pod = unsupervised(bed, "on-failure:1", "echo ran , exit 7");
    let container = pod.container("a").expect("it");
    until(bed, "the end", &container, has_ended);
    pod.pause().expect("paused");
    bed.podlet("ps").ok();
    supervisor(bed, "web");
    assert_eq!(container.status().expect("its status").restarts, 0);
    pod.unpause().expect("it goes on");
    until(bed, "a restart", &container, |status| has_ended(status) && status.restarts == 1);
    pod.remove().expect("removed");
}

fn a_policy_that_cannot_be_is_refused(bed: &Bed) {
    for (options, words) in [
        ("-d --restart sometimes", &["--restart", "sometimes", "unless-stopped"][..]),
        ("-d --restart on-failure:0", &["--restart", "on-failure:0", "from 1 on"]),
        ("-d --restart always:3", &["--restart", "only on-failure"]),
        ("--restart always", &["--restart always", "--detach"]),
        ("-d --rm --restart always", &["--restart always", "--rm"]),
    ] {
        bed.podlet(&format!("run {options} --name web --rootfs ROOT /probe exit 0")).fails(125, words);
    }
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut spec = bed.container("a", "exit 0");
    spec.restart = RestartPolicy::Always;
    spec.remove_when_ended = true;
    let error = pod.run(&spec, Io::log()).expect_err("refused").to_string();
    assert!(error.contains("restart") && error.contains("remove_when_ended"), "{error}");
    assert!(pod.containers().expect("a list").is_empty());
    spec.remove_when_ended = false;
    spec.restart_backoff.first = Duration::ZERO;
    let error = pod.run(&spec, Io::log()).expect_err("refused").to_string();
    assert!(error.contains("restart_backoff.first"), "{error}");
    pod.remove().expect("removed");
}

fn without_a_policy_there_is_nothing_of_it(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    bed.podlet("ps").ok();
    assert_eq!(supervisors("web"), [0; 0]);
    let left = leaks::tree(&bed.state());
    assert!(!left.iter().any(|path| path.contains("supervisor")), "{left:?}");
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let program = std::fs::File::open("/proc/self/exe").expect("this program");
    assert_eq!(pod.start_supervisor(&program, &["suite".into()]).expect("nothing"), Tended::AsItWas);
    pod.supervise().expect("nothing to be done");
    drop(pod);
    bed.podlet("rm -f web").ok();
}

fn a_supervisors_restart_killed_at_any_call(bed: &Bed) {
    let command = || bed.command(&bed.expand("supervise web"));
    let mut rounds = Rounds::default();
    let kill = |moment| {
        let before = Snapshot::take();
        let pod = unsupervised(bed, "on-failure:1", "echo ran , exit 7");
        let container = pod.container("a").expect("it");
        until(bed, "the end", &container, has_ended);
        let traced = tracer::run(bed, &command(), &What::Kill(moment));
        let after = told(&traced);
        // What it had begun may go on for a moment, and then the next command.
        let has_restarted = |status: &ContainerStatus| {
            bed.podlet("ps").ok();
            has_ended(status) && status.restarts == 1
        };
        until(bed, &format!("a restart after {after}"), &container, has_restarted);
        bed.until(&format!("the end of the supervisor after {after}"), || {
            bed.podlet("ps").ok();
            supervisors("web").is_empty() && !bed.state().join("web/supervisor.lock").exists()
        });
        let status = container.status().expect("its status");
        assert_eq!((status.restarts, status.next_start), (1, None), "{after}");
        // One whose starter is killed while it is born may end of that: 125 is C, which
        // found nothing to report to, or it is killed with who made it.
        let has_run = !matches!(status.exit_code, Some(125 | 137));
        assert!(!has_run || status.exit_code == Some(7), "{status:?} after {after}");
        let runs = runs(&container);
        assert!(runs == 2 || runs == 1 && !has_run, "{runs} runs after {after}");
        drop(pod);
        bed.podlet("rm -f web").ok();
        let differences = before.compare();
        assert!(differences.is_empty(), "{differences:?} after {after}");
        traced.hit.is_some()
    };
    at_moments(&mut rounds, kill, || drop(bed.podlet("rm -f web")));
    rounds.judge("killed");
}
