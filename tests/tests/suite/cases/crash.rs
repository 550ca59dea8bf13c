//! Any command may be killed at any instruction.

use std::os::unix::process::parent_id;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bed::Bed;
use crate::harness::patience;
use crate::leaks;

crate::tests![
    a_killed_run_leaves_nothing_that_rm_does_not_remove,
    a_killed_create_leaves_nothing_that_rm_does_not_remove,
    a_killed_start_in_a_pod_leaves_the_pod_usable,
    a_killed_stop_restart_or_rm_can_be_done_again,
];

/// Moments at which a command is killed, from its first instructions to well
/// after its end.
fn moments() -> impl Iterator<Item = Duration> {
    (0..60).step_by(patience() as usize).map(|step| Duration::from_micros(step * step * 15) * patience())
}

fn kill_after(bed: &Bed, line: &str, delay: Duration) {
    println!("after {delay:?}:");
    let command = bed.spawn(line);
    // Not an event that is awaited, but the moment of a crash.
    std::thread::sleep(delay);
    command.signal(Signal::SIGKILL);
    command.wait();
}

/// What `ps` says is true: what runs, runs. A pod that ends at this moment is
/// either, so this may take a second look.
fn ps_tells_the_truth(bed: &Bed) {
    bed.until("a `ps` that tells the truth", || {
        let list = bed.list();
        let pods = list.as_array().expect("a list");
        let containers = pods.iter().flat_map(|pod| pod["containers"].as_array().expect("containers"));
        let mut running = containers.filter(|container| container["state"] == "running");
        running.all(|container| {
            let pid = container["pid"].as_u64();
            pid.is_some_and(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
        })
    });
}

/// Removes everything, and nothing is left.
fn remove_everything(bed: &Bed, names: &[&str]) {
    for name in names {
        bed.podlet(&format!("rm -f {name}")).ok();
    }
    assert_eq!(bed.list(), serde_json::json!([]));
    bed.is_clean();
    let body = std::process::id();
    bed.until("the end of every process", || leaks::descendants(parent_id()).iter().all(|seen| seen.pid == body));
}

fn a_killed_run_leaves_nothing_that_rm_does_not_remove(bed: &Bed) {
    for delay in moments() {
        kill_after(bed, "run -d --name web --rootfs ROOT /probe orphan block , block", delay);
        ps_tells_the_truth(bed);
        remove_everything(bed, &["web"]);
    }
}

fn a_killed_create_leaves_nothing_that_rm_does_not_remove(bed: &Bed) {
    for delay in moments() {
        kill_after(bed, "create web", delay);
        ps_tells_the_truth(bed);
        remove_everything(bed, &["web"]);
        bed.podlet("create web").ok();
        bed.podlet("rm web").ok();
    }
}

fn a_killed_start_in_a_pod_leaves_the_pod_usable(bed: &Bed) {
    bed.podlet("create web").ok();
    let pause = bed.pause_of("web");
    for delay in moments() {
        kill_after(bed, "run -d --pod web --name a --rootfs ROOT /probe orphan block , block", delay);
        ps_tells_the_truth(bed);
        bed.podlet("rm -f web/a").ok();
        assert_eq!(bed.inspect("web")["containers"], serde_json::json!([]));
        // What has left its namespaces is about to be gone.
        bed.until("the end of all in the pod", || leaks::descendants(pause).is_empty());
        bed.podlet("run --rm --pod web --name a --rootfs ROOT /probe exit 3").code(3);
    }
    assert_eq!(bed.pause_of("web"), pause);
    remove_everything(bed, &["web"]);
}

fn a_killed_stop_restart_or_rm_can_be_done_again(bed: &Bed) {
    for (number, delay) in moments().step_by(2).enumerate() {
        let line = ["stop -t 0 web", "restart -t 0 web", "rm -f web", "stop -t 0 web/a", "rm -f web/a"][number % 5];
        bed.podlet("create web").ok();
        bed.podlet("run -d --pod web --name a --rootfs ROOT /probe orphan block , ignore TERM , block").ok();
        kill_after(bed, line, delay);
        ps_tells_the_truth(bed);
        // Again, and this time it gets through.
        bed.podlet(line);
        if line.starts_with("stop") {
            assert_eq!(bed.inspect("web/a")["state"], "exited");
        }
        ps_tells_the_truth(bed);
        remove_everything(bed, &["web"]);
    }
}
