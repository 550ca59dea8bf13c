//! Health checks: the supervisor asks, writes down what it finds, and does what was
//! asked for; and may be killed at any moment.

use std::fs;
use std::time::Duration;

use pod::{
    CheckAction, CheckKind, Container, ContainerState, ContainerStatus, Health, HealthCheck, Io, OnUnhealthy, Pod,
    PodOptions,
};

use super::restarts::{await_runs, has_none, kill, supervisor, until};
use crate::bed::Bed;
use crate::leaks;

crate::tests![
    a_command_says_how_a_container_does,
    what_is_asked_over_the_network_is_in_the_pod,
    what_is_not_alive_is_restarted_by_its_policy,
    what_follows_is_podmans_choice,
    a_startup_check_holds_back_the_others,
    a_check_that_takes_too_long_is_killed_with_all_that_it_started,
    no_check_waits_for_another_one,
    a_supervisor_killed_between_checks_goes_on,
    what_was_decided_before_the_supervisor_was_killed_is_done,
    what_a_killed_supervisor_has_left_running_is_ended,
    what_is_paused_is_not_checked,
    a_check_is_performed_once_by_a_command,
    a_thread_of_a_program_performs_them,
    checks_that_cannot_be_are_refused,
];

/// It does well if this is there.
const FLAG: &str = "/tmp/well";

fn is(health: Health) -> impl Fn(&ContainerStatus) -> bool {
    move |status| status.health == Some(health)
}

fn has_ended(status: &ContainerStatus) -> bool {
    status.state == ContainerState::Exited
}

fn exec(words: &str) -> CheckAction {
    CheckAction::Exec { args: words.split(' ').map(String::from).collect() }
}

/// A check that is performed all the time.
fn quick(action: CheckAction) -> HealthCheck {
    let mut check = HealthCheck::new(action);
    check.interval = Duration::from_millis(20);
    check.timeout = Duration::from_secs(50);
    check
}

fn open<'a>(pod: &'a Pod, name: &str) -> Container<'a> {
    pod.container(name).expect("it")
}

fn web(bed: &Bed) -> Pod {
    Pod::open(&bed.store(), "web").expect("the pod")
}

fn a_command_says_how_a_container_does(bed: &Bed) {
    let events = bed.spawn("events --filter event=health");
    let check = format!("--health-cmd [\"/probe\",\"need\",\"{FLAG}\"] --health-interval 50ms --health-retries 2");
    bed.podlet(&format!("run -d --name web {check} --rootfs ROOT /probe block")).ok();
    supervisor(bed, "web");
    assert_eq!(bed.podlet("wait --condition unhealthy web").ok(), "-1\n");
    let status = bed.inspect("web/web");
    assert_eq!((&status["health"], &status["state"]), (&"unhealthy".into(), &"running".into()));
    let check = &status["checks"][0];
    assert_eq!((&check["kind"], &check["last"]["code"]), (&"liveness".into(), &1.into()));
    assert_eq!(check["last"]["output"], format!("there is no {FLAG}\n"));
    assert!(check["failing_streak"].as_u64() >= Some(2), "{check}");
    assert_eq!(status["failed_check"], serde_json::Value::Null, "nothing follows");
    let shown = bed.podlet("ps").ok();
    assert!(shown.contains("running (unhealthy)"), "{shown}");
    let waiting = bed.spawn("wait --condition healthy web");
    fs::write(bed.inside(FLAG), "").expect("a file");
    assert_eq!(waiting.wait().code(0).out, "-1\n");
    assert_eq!(bed.podlet("inspect -f {{.State.Health.Status}} web").ok(), "healthy\n");
    assert!(bed.podlet("ps").ok().contains("running (healthy)"));
    assert_eq!(bed.list()[0]["containers"][0]["health"], "healthy");
    bed.until("both events", || events.out().lines().count() >= 2);
    let out = events.out();
    let told: Vec<_> = out.lines().filter_map(|line| line.split_once(' ').map(|(_, what)| what)).collect();
    assert_eq!(told, ["health web/web (unhealthy)", "health web/web (healthy)"]);
    events.signal(nix::sys::signal::Signal::SIGTERM);
    events.wait().code(0);
    bed.podlet("stop -t 0 web/web").ok();
    assert_eq!(bed.inspect("web/web")["health"], serde_json::Value::Null);
    has_none(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn what_is_asked_over_the_network_is_in_the_pod(bed: &Bed) {
    let say = |answer: &str| {
        // Whole at any moment.
        let new = bed.inside("/tmp/new");
        fs::write(&new, answer).and_then(|()| fs::rename(&new, bed.inside("/tmp/code"))).expect("a file");
    };
    say("200");
    let probes = "--probe readiness=http://:8080/ready,period=30ms,timeout=200ms,failures=1 \
                  --probe liveness=tcp://:8080,period=30ms,timeout=10s,failures=1000";
    let run = |pod: &str, port: u32| {
        let script = format!("/probe http {port} /tmp/code");
        bed.podlet(&format!("run -d --network none --name {pod} {probes} --rootfs ROOT {script}")).ok();
    };
    run("web", 8080);
    // Only its own network is asked: there nobody listens.
    run("other", 8081);
    let (pod, other) = (web(bed), Pod::open(&bed.store(), "other").expect("the pod"));
    let (container, mute) = (open(&pod, "web"), open(&other, "other"));
    until(bed, "health", &container, is(Health::Healthy));
    let ready = |status: &ContainerStatus| status.checks[1].last.clone().expect("a result");
    let last = ready(&container.status().expect("its status"));
    assert_eq!(last.code, Some(200));
    assert!(last.output.ends_with("GET /ready HTTP/1.1"), "{}", last.output);
    let refused = until(bed, "no health", &mute, is(Health::Unhealthy));
    assert!(ready(&refused).output.contains("Connection refused"), "{refused:?}");
    until(bed, "a liveness check", &mute, |status| status.checks[0].failing_streak > 0);
    for (answer, health) in [("399", Health::Healthy), ("404", Health::Unhealthy), ("302", Health::Healthy)] {
        say(answer);
        let status =
            until(bed, answer, &container, |status| ready(status).code == answer.parse().ok() && is(health)(status));
        assert_eq!(status.checks[0].health, Health::Healthy, "it is alive");
    }
    say("silence");
    let silent = until(bed, "silence", &container, is(Health::Unhealthy));
    let last = ready(&silent);
    assert!(last.output.contains("no answer after 200ms") && last.code.is_none(), "{last:?}");
    assert_eq!((silent.restarts, silent.state), (0, ContainerState::Running), "what is not ready is shown");
    for pod in ["web", "other"] {
        bed.podlet(&format!("rm -f {pod}")).ok();
    }
}

fn what_is_not_alive_is_restarted_by_its_policy(bed: &Bed) {
    bed.podlet("create web").ok();
    let probe = format!("--probe liveness=exec:[\"/probe\",\"need\",\"{FLAG}\"],period=20ms,failures=2");
    for (policy, script, exit) in [
        // It says 0 at its end, which is a failure nevertheless.
        ("on-failure:1", "trap TERM 0 , echo ran , block", Some(0)),
        ("always", "ignore TERM , echo ran , block", Some(137)),
        ("no", "trap TERM 3 , echo ran , block", Some(3)),
    ] {
        fs::write(bed.inside(FLAG), "").expect("a file");
        let options = format!("--restart {policy} --stop-timeout {}", if policy == "always" { 0 } else { 50 });
        let name = format!("a-{}", policy.split(':').next().unwrap_or_default());
        bed.podlet(&format!("run -d --pod web --name {name} {probe} {options} --rootfs ROOT /probe {script}")).ok();
        let pod = web(bed);
        let container = open(&pod, &name);
        await_runs(bed, &container, 1);
        let first = until(bed, "health", &container, is(Health::Healthy)).started;
        fs::remove_file(bed.inside(FLAG)).expect("removed");
        let failed =
            |status: &ContainerStatus| status.failed_check.as_ref().is_some_and(|failed| Some(failed.started) == first);
        if policy == "no" {
            let status = until(bed, "its end", &container, has_ended);
            assert_eq!((status.restarts, status.next_start, status.exit_code), (0, None, Some(3)));
            assert!(failed(&status), "{status:?}");
            let shown = bed.podlet("ps -a").ok();
            assert!(shown.contains("exited (3), liveness failed"), "{shown}");
        } else {
            let status = until(bed, "a restart", &container, |status| status.restarts == 1 && status.started != first);
            // Or the run after that, which fails at once.
            let failed = status.failed_check.expect("the reason");
            assert_eq!((failed.check, failed.output), (CheckKind::Liveness, format!("there is no {FLAG}\n")));
            await_runs(bed, &container, 2);
            // The run before is what ended so.
            let ended = until(bed, "the next end", &container, has_ended);
            assert_eq!(ended.exit_code, exit, "{policy}");
        }
        bed.podlet(&format!("rm -f web/{name}")).ok();
    }
    has_none(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn what_follows_is_podmans_choice(bed: &Bed) {
    bed.podlet("create web").ok();
    for (action, policy) in [("none", "no"), ("kill", "no"), ("kill", "always"), ("stop", "always"), ("restart", "no")]
    {
        fs::write(bed.inside(FLAG), "").expect("a file");
        let check = format!("--health-cmd [\"/probe\",\"need\",\"{FLAG}\"] --health-interval 20ms --health-retries 1");
        let options = format!("{check} --health-on-failure {action} --restart {policy}");
        let script = "trap TERM 3 , echo ran , block";
        bed.podlet(&format!("run -d --pod web --name a {options} --rootfs ROOT /probe {script}")).ok();
        let pod = web(bed);
        let container = open(&pod, "a");
        await_runs(bed, &container, 1);
        until(bed, "health", &container, is(Health::Healthy));
        fs::remove_file(bed.inside(FLAG)).expect("removed");
        let what = format!("{action}, {policy}");
        match (action, policy) {
            ("none", _) => {
                let status = until(bed, &what, &container, is(Health::Unhealthy));
                assert!(status.failed_check.is_none() && status.state == ContainerState::Running);
            }
            ("kill", "no") | ("stop", _) => {
                let status = until(bed, &what, &container, has_ended);
                has_none(bed, "web");
                let code = if action == "kill" { 137 } else { 3 };
                assert_eq!((status.exit_code, status.next_start, status.restarts), (Some(code), None, 0), "{what}");
            }
            _ => drop(until(bed, &what, &container, |status| status.restarts == 1)),
        }
        bed.podlet("rm -f web/a").ok();
        has_none(bed, "web");
    }
    bed.podlet("rm -f web").ok();
}

fn a_startup_check_holds_back_the_others(bed: &Bed) {
    supervised_by_a_process(bed, |spec| {
        let mut startup = quick(exec(&format!("/probe need {FLAG}")));
        (startup.retries, startup.on_unhealthy) = (1000, OnUnhealthy::Terminate);
        let mut liveness = quick(exec("/probe exit 1"));
        (liveness.retries, liveness.on_unhealthy) = (1, OnUnhealthy::Terminate);
        spec.health.startup = Some(startup);
        spec.health.liveness = Some(liveness);
        spec.health.readiness = Some(quick(exec("/probe exit 0")));
    });
    let pod = web(bed);
    let container = open(&pod, "a");
    let waits = until(bed, "some checks", &container, |status| status.checks[0].failing_streak > 2);
    assert_eq!(waits.health, Some(Health::Starting));
    assert!(waits.checks[1..].iter().all(|check| check.last.is_none()), "{waits:?}");
    fs::write(bed.inside(FLAG), "").expect("a file");
    let status = until(bed, "its end", &container, has_ended);
    assert_eq!(status.failed_check.map(|failed| failed.check), Some(CheckKind::Liveness));
    assert_eq!(status.checks[0].health, Health::Healthy);
    bed.podlet("rm -f web").ok();
    fs::remove_file(bed.inside(FLAG)).expect("removed");
    // One that never starts is ended, too.
    supervised_by_a_process(bed, |spec| {
        let mut startup = quick(exec(&format!("/probe need {FLAG}")));
        (startup.retries, startup.on_unhealthy) = (2, OnUnhealthy::Terminate);
        spec.health.startup = Some(startup);
    });
    let pod = web(bed);
    let status = until(bed, "its end", &open(&pod, "a"), has_ended);
    assert_eq!(status.failed_check.map(|failed| failed.check), Some(CheckKind::Startup));
    bed.podlet("rm -f web").ok();
}

/// Pod `web` with a container `a`, which has a supervisor.
fn supervised_by_a_process(bed: &Bed, with: impl FnOnce(&mut pod::ContainerSpec)) {
    let mut pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut spec = bed.container("a", "trap TERM 3 , block");
    with(&mut spec);
    pod.run(&spec, Io::log()).expect("a start");
    pod.detach().expect("detached");
    bed.podlet("ps").ok();
}

fn a_check_that_takes_too_long_is_killed_with_all_that_it_started(bed: &Bed) {
    // Without a cgroup what has left its session and its parent is not found.
    let has_cgroups = bed.mode.has_cgroups();
    let more = if has_cgroups { " , orphan sleep-ms 98765" } else { "" };
    supervised_by_a_process(bed, |spec| {
        let words = format!("/probe echo begun , bg sleep-ms 98765{more} , sleep-ms 98765");
        let mut check = quick(exec(&words));
        (check.interval, check.timeout) = (Duration::from_secs(1000), Duration::from_millis(300));
        check.retries = 1;
        spec.health.readiness = Some(check);
        // What it leaves behind when it ends by itself goes, too.
        let leaves = if has_cgroups { "/probe bg sleep-ms 87654" } else { "/probe exit 0" };
        spec.health.liveness = Some(HealthCheck::new(exec(leaves)));
    });
    let pod = web(bed);
    let status = until(bed, "the end of its time", &open(&pod, "a"), is(Health::Unhealthy));
    let last = status.checks[1].last.clone().expect("a result");
    assert!(last.output.starts_with("it has not ended after 300ms\nbegun"), "{last:?}");
    let status = until(bed, "the other one", &open(&pod, "a"), |status| status.checks[0].last.is_some());
    assert_eq!(status.checks[0].health, Health::Healthy);
    let left = leaks::descendants(bed.pause_of("web"));
    let left: Vec<_> = left.into_iter().map(|seen| seen.title).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    bed.podlet("rm -f web").ok();
}

fn no_check_waits_for_another_one(bed: &Bed) {
    bed.podlet("create web").ok();
    let stuck = "--probe liveness=exec:[\"/probe\",\"block\"],period=10ms,timeout=1000s";
    let ready = "--probe readiness=exec:[\"/probe\",\"exit\",\"0\"],period=20ms";
    for name in ["a", "b"] {
        bed.podlet(&format!("run -d --pod web --name {name} {stuck} {ready} --rootfs ROOT /probe block")).ok();
    }
    let pod = web(bed);
    for name in ["a", "b"] {
        let container = open(&pod, name);
        let first = until(bed, "readiness", &container, |status| status.checks[1].health == Health::Healthy);
        let is_next = |status: &ContainerStatus| status.checks[1].last != first.checks[1].last;
        let status = until(bed, "the next check", &container, is_next);
        assert_eq!((status.checks[0].last.clone(), status.health), (None, Some(Health::Starting)));
    }
    bed.podlet("rm -f web").ok();
}

fn a_supervisor_killed_between_checks_goes_on(bed: &Bed) {
    supervised_by_a_process(bed, |spec| {
        let mut check = quick(exec("/probe exit 1"));
        check.retries = u32::MAX;
        spec.health.liveness = Some(check);
    });
    let pod = web(bed);
    let container = open(&pod, "a");
    let mut streak = 0;
    for _ in 0..3 {
        until(bed, "some checks", &container, |status| status.checks[0].failing_streak > streak + 2);
        kill(bed, supervisor(bed, "web"));
        let now = container.status().expect("its status").checks[0].failing_streak;
        assert!(now > streak, "{now} after {streak}");
        streak = now;
        // The launch of a check may still be in flight, for which no command waits.
        bed.until("another one", || bed.podlet("ps").err.contains("it goes on"));
    }
    bed.podlet("rm -f web").ok();
    has_none(bed, "web");
}

fn what_was_decided_before_the_supervisor_was_killed_is_done(bed: &Bed) {
    supervised_by_a_process(bed, |spec| {
        spec.stop_timeout = Some(1);
        spec.process.args = "/probe ignore TERM , block".split(' ').map(String::from).collect();
        let mut check = quick(exec("/probe exit 1"));
        (check.retries, check.on_unhealthy) = (1, OnUnhealthy::Terminate);
        spec.health.liveness = Some(check);
    });
    let pod = web(bed);
    let container = open(&pod, "a");
    // It is waited for: it does not end by its stop signal.
    until(bed, "the decision", &container, |status| status.failed_check.is_some());
    kill(bed, supervisor(bed, "web"));
    assert_eq!(container.status().expect("its status").state, ContainerState::Running);
    bed.podlet("ps").ok();
    let status = until(bed, "its end", &container, has_ended);
    assert_eq!(status.exit_code, Some(137));
    has_none(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn what_a_killed_supervisor_has_left_running_is_ended(bed: &Bed) {
    supervised_by_a_process(bed, |spec| {
        let mut check = quick(exec("/probe bg block , block"));
        check.timeout = Duration::from_secs(1000);
        spec.health.liveness = Some(check);
    });
    let pause = bed.pause_of("web");
    let all = || leaks::descendants(pause).iter().map(|seen| seen.pid).collect::<Vec<_>>();
    bed.until("a check", || all().len() == 3);
    let begun = |bed: &Bed| {
        let text = fs::read_to_string(bed.state().join("web/containers/a/health.json")).unwrap_or_default();
        text.contains("\"begun\":{")
    };
    bed.until("the note of it", || begun(bed));
    let before = all();
    kill(bed, supervisor(bed, "web"));
    bed.podlet("ps").ok();
    bed.until("another check alone", || {
        let now = all();
        now.len() == 3 && now.iter().filter(|pid| before.contains(pid)).count() == 1
    });
    bed.podlet("rm -f web").ok();
    has_none(bed, "web");
}

fn what_is_paused_is_not_checked(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    supervised_by_a_process(bed, |spec| {
        let mut check = quick(exec("/probe exit 0"));
        (check.retries, check.on_unhealthy) = (1, OnUnhealthy::Terminate);
        check.timeout = Duration::from_millis(500);
        spec.health.liveness = Some(check);
    });
    let pod = web(bed);
    let container = open(&pod, "a");
    until(bed, "health", &container, is(Health::Healthy));
    container.pause().expect("paused");
    let status = until(bed, "a check in vain", &container, |status| status.checks[0].error.is_some());
    assert!(
        status.checks[0].error.as_ref().is_some_and(|error| error.contains("paused") || error.contains("frozen")),
        "{status:?}"
    );
    assert_eq!((status.health, status.state), (Some(Health::Healthy), ContainerState::Paused));
    container.unpause().expect("it goes on");
    until(bed, "a check", &container, |status| status.checks[0].error.is_none());
    bed.podlet("rm -f web").ok();
}

fn a_check_is_performed_once_by_a_command(bed: &Bed) {
    let check = format!("--health-cmd [\"/probe\",\"need\",\"{FLAG}\"] --health-interval 1h");
    bed.podlet(&format!("run -d --name web {check} --rootfs ROOT /probe block")).ok();
    bed.podlet("healthcheck run web").fails(1, &["web is unhealthy", "liveness", FLAG]);
    fs::write(bed.inside(FLAG), "").expect("a file");
    assert_eq!(bed.podlet("healthcheck run web/web").code(0).err, "");
    bed.podlet("stop -t 0 web/web").ok();
    bed.podlet("healthcheck run web").fails(125, &["is not running"]);
    bed.podlet("rm -f web").ok();
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    bed.podlet("healthcheck run web").fails(125, &["has no health check"]);
    // The one of the pod before ends by itself when the container has.
    has_none(bed, "web");
    bed.podlet("rm -f web").ok();
}

fn a_thread_of_a_program_performs_them(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut spec = bed.container("a", "block");
    spec.health.liveness = Some(quick(exec("/probe exit 0")));
    spec.health.readiness = Some(quick(exec("/none")));
    pod.run(&spec, Io::log()).expect("a start");
    let container = open(&pod, "a");
    let found = container.check_health().expect("results");
    let shown: Vec<_> = found.iter().map(|(kind, result)| (*kind, result.success)).collect();
    assert_eq!(shown, [(CheckKind::Liveness, true), (CheckKind::Readiness, false)]);
    assert!(found[1].1.output.contains("/none"), "{found:?}");
    assert_eq!(container.health().expect("known"), Some(Health::Starting), "they are not counted");
    let other = web(bed);
    let thread = std::thread::spawn(move || other.supervise());
    until(bed, "no health", &container, is(Health::Unhealthy));
    assert_eq!(container.health().expect("known"), Some(Health::Unhealthy));
    pod.kill().expect("its end");
    thread.join().expect("no panic").expect("supervised");
    pod.remove().expect("removed");
}

fn checks_that_cannot_be_are_refused(bed: &Bed) {
    for (options, words) in [
        ("--health-cmd [\"x\",\"y\"] --health-interval 0", &["liveness.interval", "0ns", "a millisecond"][..]),
        ("--health-cmd [\"x\",\"y\"] --health-interval disable", &["--health-interval", "disable"]),
        ("--health-cmd [\"x\",\"y\"] --health-retries 0", &["liveness.retries", "0", "from 1 on"]),
        ("--health-cmd [\"x\",\"y\"] --health-on-failure reboot", &["--health-on-failure", "reboot", "restart"]),
        ("--health-cmd []", &["--health-cmd", "[]", "no command"]),
        ("--health-interval 10s", &["--health-interval", "--health-cmd"]),
        ("--health-startup-cmd [\"x\",\"y\"]", &["--health-startup-cmd", "--health-cmd"]),
        ("--no-healthcheck --health-cmd x", &["--no-healthcheck", "--health-cmd"]),
        ("--health-max-log-size 10", &["--health-max-log-size", "4 KiB"]),
        ("--probe liveness=tcp://:0", &["liveness.port", "0", "65535"]),
        ("--probe liveness=tcp://:1,successes=2", &["liveness.successes", "2", "give 1"]),
        ("--probe liveness=grpc://:1", &["--probe", "grpc", "exec:CMD"]),
        ("--probe liveness=tcp://:1 --probe liveness=tcp://:2", &["--probe", "already", "liveness"]),
        ("--probe liveness=tcp://:1 --share pid", &["liveness", "127.0.0.1:1", "not in the pod's network"]),
    ] {
        bed.podlet(&format!("run -d {options} --name web --rootfs ROOT /probe block")).fails(125, words);
        assert!(!bed.state().join("web").exists(), "{options}");
    }
    let restarts = "--health-cmd [\"x\",\"y\"] --health-on-failure restart";
    bed.podlet(&format!("run {restarts} --rootfs ROOT /probe block")).fails(125, &["--health-on-failure", "--detach"]);
    bed.podlet(&format!("run -d --rm {restarts} --rootfs ROOT /probe block")).fails(125, &["--rm"]);
}
