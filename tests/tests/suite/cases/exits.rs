//! How a container ended is told truly, to every waiter, at any time.

use nix::sys::signal::Signal;

use crate::bed::Bed;

crate::tests![
    every_exit_code_is_told_to_other_processes,
    signals_are_told_to_other_processes,
    an_exit_is_known_though_its_starter_was_killed,
    a_wait_that_began_before_sees_the_end,
    the_end_of_the_pod_is_the_end_of_its_containers,
];

fn every_exit_code_is_told_to_other_processes(bed: &Bed) {
    bed.podlet("create web").ok();
    let pod = pod::Pod::open(&bed.store(), "web").expect("the pod");
    let network = bed.inspect("web")["namespaces"]["net"].clone();
    bed.podlet("run --pod web -d --name other --rootfs ROOT /probe block").ok();
    let other = bed.pid_of("web/other");
    pod.run(&bed.container("a", "exit 0"), pod::Io::log()).expect("a container").wait().expect("its end");
    for code in (1..=255).step_by(256 / bed.rounds(256) as usize) {
        // One container with another end each time, by the library.
        let process =
            pod.run(&bed.container(&format!("c{code}"), &format!("exit {code}")), pod::Io::log()).expect("a container");
        assert_eq!(process.wait().expect("its end").shell_code(), code as u8);
        if code % 32 == 1 || code == 255 {
            assert_eq!(bed.podlet(&format!("wait web/c{code}")).ok().trim(), code.to_string());
        }
        let seen = pod::Pod::open(&bed.store(), "web").expect("the pod");
        let status = seen.container(&format!("c{code}")).expect("the container").status().expect("its status");
        assert_eq!((status.exit_code, status.signal), (Some(code as u8), None));
        pod.container(&format!("c{code}")).expect("the container").remove().expect("removal");
    }
    assert_eq!(bed.pid_of("web/other"), other);
    assert_eq!(bed.inspect("web")["namespaces"]["net"], network);
}

fn signals_are_told_to_other_processes(bed: &Bed) {
    bed.podlet("create web").ok();
    for (signal, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15), ("ABRT", 6), ("HUP", 1)] {
        let name = signal.to_lowercase();
        bed.podlet(&format!("run --pod web -d --name {name} --rootfs ROOT /probe block")).ok();
        bed.podlet(&format!("kill -s {signal} web/{name}")).ok();
        assert_eq!(bed.podlet(&format!("wait web/{name}")).ok().trim(), (128 + number).to_string());
        let status = bed.inspect(&format!("web/{name}"));
        assert_eq!(status["signal"], number);
        assert_eq!(status["exit_code"], 128 + number);
        assert_eq!(status["state"], "exited");
    }
    // In the foreground, too.
    let run = bed.spawn("run --pod web --name fore --rootfs ROOT /probe echo here , block");
    run.await_line(bed, "here");
    run.signal(Signal::SIGTERM);
    run.wait().code(143);
}

fn an_exit_is_known_though_its_starter_was_killed(bed: &Bed) {
    bed.podlet("create web").ok();
    // The command, in the foreground, killed while its container runs.
    let run = bed.spawn("run --pod web --name fore --rootfs ROOT /probe echo here , wait-file /go , exit 7");
    run.await_line(bed, "here");
    run.signal(Signal::SIGKILL);
    run.wait();
    // A program that embeds the library.
    let embedder = bed.spawn_command(bed.embed("leave web lib wait-file /go , kill-self SEGV"));
    embedder.await_line(bed, "started lib");
    embedder.signal(Signal::SIGKILL);
    embedder.wait();
    assert_eq!(bed.inspect("web/fore")["state"], "running");
    assert_eq!(bed.inspect("web/lib")["state"], "running");
    std::fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(bed.podlet("wait web/fore web/lib").ok(), "7\n139\n");
    assert_eq!(bed.inspect("web/fore")["exit_code"], 7);
    assert_eq!(bed.inspect("web/lib")["signal"], 11);
}

fn a_wait_that_began_before_sees_the_end(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe wait-file /go , exit 3").ok();
    let waits: Vec<_> = (0..4).map(|_| bed.spawn("wait web/a")).collect();
    std::fs::write(bed.inside("go"), "").expect("a file");
    for wait in waits {
        assert_eq!(wait.wait().ok().trim(), "3");
    }
}

fn the_end_of_the_pod_is_the_end_of_its_containers(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name done --rootfs ROOT /probe exit 4").ok();
    bed.podlet("wait web/done").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    let wait = bed.spawn("wait web/a");
    bed.kill(bed.pause_of("web"), Signal::SIGKILL);
    assert_eq!(wait.wait().ok().trim(), "137");
    assert_eq!(bed.inspect("web")["state"], "exited");
    assert_eq!(bed.inspect("web/a")["signal"], 9);
    assert_eq!(bed.inspect("web/done")["exit_code"], 4);
    // Known as well after the pod was made anew.
    bed.podlet("start web/a").ok();
    assert_eq!(bed.inspect("web/a")["state"], "running");
    assert_eq!(bed.podlet("wait web/done").ok().trim(), "4");
}
