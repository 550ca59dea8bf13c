//! Containers with a pid namespace of their own: each in a pod that does not
//! share one, or one in a pod whose other containers do.

use std::fs;
use std::os::unix::fs::symlink;

use pod::spec::{MountKind, NamespaceMode, User};
use pod::{Capability, ContainerSpec, ExecSpec, Io, Namespace, Pod, PodOptions};

use crate::bed::{self, Bed};
use crate::modes::Mode;

crate::tests![
    a_mate_with_ptrace_gets_nothing_of_who_makes_a_pid_namespace,
    a_container_that_may_trace_and_one_with_its_own_pids_are_refused_in_either_order,
    a_tracer_beside_own_pids_is_nothing_where_it_can_see_or_do_nothing,
    its_proc_shows_its_own_processes_and_is_masked,
    what_is_mounted_onto_its_proc_is_there,
    a_later_mount_over_its_proc_hides_it,
    a_volume_behind_a_link_of_the_image_to_its_proc_is_there,
    it_has_the_capabilities_and_descriptors_of_any_container,
    an_exec_in_it_has_no_more_than_the_container,
    it_is_stopped_killed_and_started_again,
    two_procs_of_it_with_other_options_are_refused,
];

/// As a container of a pod that does not share pid, and as the only one with
/// its own.
fn both(bed: &Bed, test: impl Fn(&Pod, &dyn Fn(&str) -> ContainerSpec)) {
    for shared in [false, true] {
        println!("in a pod that shares pid: {shared}");
        let pod = Pod::create(&bed.store(), options(shared)).expect("a pod");
        let container = |script: &str| own(bed, "a", script);
        test(&pod, &container);
        pod.remove().expect("removal");
    }
    bed.is_clean();
}

fn options(shared: bool) -> PodOptions {
    let mut options = PodOptions::new("web");
    if !shared {
        options.share.remove(&Namespace::Pid);
    }
    options
}

fn own(bed: &Bed, name: &str, script: &str) -> ContainerSpec {
    let mut container = bed.container(name, script);
    container.pid = NamespaceMode::Own;
    container
}

fn tracer(bed: &Bed, script: &str) -> ContainerSpec {
    bed.container("tracer", script).add_capability(Capability::CAP_SYS_PTRACE)
}

/// What it says until its end.
fn log(pod: &Pod, container: &ContainerSpec) -> String {
    let exit = pod.run(container, Io::log()).expect("a start").wait().expect("its end");
    let said = bed::logged(&pod.container(&container.name).expect("the container"));
    assert_eq!(exit.shell_code(), 0, "{said}");
    said
}

/// The mate watches for new processes; what it saw.
fn watched(bed: &Bed, pod: &Pod, marker: &std::path::Path, launches: impl FnOnce()) -> String {
    fs::remove_file(bed.inside("stop")).ok();
    let watcher = pod.run(&tracer(bed, &format!("watch /stop {}", marker.display())), Io::log()).expect("the watcher");
    bed.await_log("web/tracer", "watching");
    // The record by which one of the two would be refused.
    let record = bed.state().join("web/containers/tracer/container.json");
    let aside = bed.dir.join("aside");
    fs::rename(&record, &aside).expect("the record");
    launches();
    fs::rename(&aside, &record).expect("the record");
    fs::write(bed.inside("stop"), "").expect("a file");
    watcher.wait().expect("its end");
    bed::logged(&pod.container("tracer").expect("the container"))
}

fn a_mate_with_ptrace_gets_nothing_of_who_makes_a_pid_namespace(bed: &Bed) {
    let marker = bed.dir.join("marker");
    fs::write(&marker, "of the machine").expect("a marker");
    let host = bed.dir.display().to_string();
    for shared in [true, false] {
        let pod = Pod::create(&bed.store(), options(shared)).expect("a pod");
        let said = watched(bed, &pod, &marker, || {
            let script = own(bed, "a", "exit 0");
            pod.run(&script, Io::log()).expect("a start").wait().expect("its end");
            for _ in 0..bed.rounds(200) {
                pod.container("a").expect("the container").start(Io::log()).expect("a start").wait().expect("its end");
            }
        });
        assert!(said.contains(" read=0 ") && said.contains(" more=0"), "{said}");
        for line in said.lines().filter(|line| line.starts_with("descriptor ")) {
            assert!(!line.contains(&host) || line.ends_with("/state/web/lock"), "{line}");
            assert!(!["mnt:", "net:", "user:", "/dev/"].iter().any(|kind| line.contains(kind)), "{line}");
        }
        // It saw processes, but where each has its own it sees no other's.
        assert_eq!(said.contains("(any 0)"), !shared, "{said}");
        assert_eq!(said.contains("tries=0 "), !shared, "{said}");
        if bed.mode.nests_users() {
            // There nothing with rights can be seized either.
            assert!(said.contains(" seized=0 "), "{said}");
        }
        pod.remove().expect("removal");
    }
    if bed.mode == Mode::Root {
        // The negative control: in the old order what is seized has all rights.
        let pod = Pod::create(&bed.store(), options(true)).expect("a pod");
        let said = watched(bed, &pod, &marker, || {
            pod.run(&own(bed, "a", "exit 0"), Io::log()).expect("a start").wait().expect("its end");
            for _ in 0..bed.rounds(200) {
                bed.podlet_old_order("start web/a").ok();
                bed.podlet("wait web/a").ok();
            }
        });
        assert!(!said.contains(" more=0"), "the watcher would not have seen it: {said}");
        pod.remove().expect("removal");
    }
    bed.is_clean();
}

fn refused(error: pod::Error, words: &[&str]) {
    let text = error.to_string();
    assert!(matches!(error, pod::Error::Invalid { .. }), "{error:?}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word} is missing: {text}"));
}

fn a_container_that_may_trace_and_one_with_its_own_pids_are_refused_in_either_order(bed: &Bed) {
    if bed.mode.nests_users() {
        return;
    }
    let (own, tracer) = (own(bed, "a", "exit 0"), tracer(bed, "exit 0"));
    let pod = Pod::create(&bed.store(), options(true)).expect("a pod");
    // Also of one that has ended there may be processes left.
    pod.run(&tracer, Io::log()).expect("a start").wait().expect("its end");
    let words = ["pid", "own", "container tracer", "CAP_SYS_PTRACE", "user namespace", "leave", "remove"];
    refused(pod.run(&own, Io::log()).expect_err("beside a tracer"), &words);
    assert_eq!(
        pod.containers().expect("containers").iter().map(|one| one.name()).collect::<Vec<_>>(),
        ["tracer"],
        "nothing is left of it"
    );
    pod.container("tracer").expect("the container").remove().expect("removal");
    pod.run(&own, Io::log()).expect("alone").wait().expect("its end");
    let words = ["capability", "CAP_SYS_PTRACE", "container a", "its own", "user namespace", "leave", "remove"];
    refused(pod.run(&tracer, Io::log()).expect_err("beside own pids"), &words);
    assert_eq!(
        pod.containers().expect("containers").iter().map(|one| one.name()).collect::<Vec<_>>(),
        ["a"],
        "nothing is left of it"
    );
    // Neither is it started again: as it may be with records of before.
    let aside = bed.dir.join("aside");
    fs::rename(bed.state().join("web/containers/a"), &aside).expect("the record");
    pod.run(&tracer, Io::log()).expect("a start").wait().expect("its end");
    fs::rename(&aside, bed.state().join("web/containers/a")).expect("the record");
    refused(
        pod.container("a").expect("the container").start(Io::log()).expect_err("beside a tracer"),
        &["container tracer"],
    );
    refused(
        pod.container("tracer").expect("the container").start(Io::log()).expect_err("beside own pids"),
        &["container a"],
    );
    bed.podlet("start web/a").fails(125, &["container tracer", "CAP_SYS_PTRACE"]);
    assert_eq!(
        pod.container("a").expect("the container").exit().expect("a look").map(|exit| exit.shell_code()),
        Some(0),
        "its end is still known"
    );
    pod.remove().expect("removal");
    bed.is_clean();
}

fn a_tracer_beside_own_pids_is_nothing_where_it_can_see_or_do_nothing(bed: &Bed) {
    let beside = |options: PodOptions| {
        let pod = Pod::create(&bed.store(), options).expect("a pod");
        let tracer = pod.run(&tracer(bed, "echo up , block"), Io::log()).expect("the tracer");
        assert_eq!(
            pod.run(&own(bed, "a", "exit 7"), Io::log()).expect("a start").wait().expect("its end").shell_code(),
            7
        );
        drop(tracer);
        pod.remove().expect("removal");
    };
    // Each is in one of its own.
    beside(options(false));
    // With a user namespace, which the old order has for ordinary users alone.
    if bed.mode.nests_users() {
        beside(options(true));
    }
    // And two that both have their own are no mates of anybody.
    let pod = Pod::create(&bed.store(), options(true)).expect("a pod");
    let tracer = own(bed, "b", "echo up , block").add_capability(Capability::CAP_SYS_PTRACE);
    pod.run(&tracer, Io::log()).expect("a tracer of its own");
    pod.run(&own(bed, "a", "exit 0"), Io::log()).expect("a start").wait().expect("its end");
    pod.remove().expect("removal");
    bed.is_clean();
}

fn its_proc_shows_its_own_processes_and_is_masked(bed: &Bed) {
    both(bed, |pod, container| {
        let mate = pod.run(&bed.container("mate", "block"), Io::log()).expect("a mate");
        let script = "processes , mounts , head /proc/kcore , head /proc/keys , ls /proc/scsi , \
                      write /proc/sys/kernel/hostname x , write /proc/sysrq-trigger h , ls /sys/firmware , cwd";
        let said = log(pod, &container(script).cwd("/proc/1/task"));
        let processes: Vec<_> = said.lines().filter(|line| line.starts_with("process ")).collect();
        assert!(processes.len() == 1 && processes[0].starts_with("process 1 R /probe"), "{said}");
        let mounts: Vec<_> = said.lines().filter(|line| line.contains(" - ")).collect();
        let procs: Vec<_> = mounts.iter().filter(|line| line.split(' ').nth(4) == Some("/proc")).collect();
        assert_eq!(procs.len(), 1, "{said}");
        assert!(procs[0].ends_with(" - proc proc rw") || procs[0].contains(" - proc proc rw"), "{}", procs[0]);
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(procs[0].contains(option), "{option}: {}", procs[0]);
        }
        for line in said.lines() {
            let good = match line {
                _ if line.starts_with("head ") => line.ends_with(": 0 bytes") || line.ends_with("errno 2"),
                _ if line.starts_with("ls ") => {
                    line.ends_with(':') || line.ends_with(": ") || line.ends_with("errno 2")
                }
                _ if line.starts_with("write ") => line.ends_with("errno 30") || line.ends_with("errno 2"),
                _ => true,
            };
            assert!(good, "{line}");
        }
        assert!(said.contains("/proc/1/task"), "the working directory: {said}");
        drop(mate);
    });
}

fn bind(bed: &Bed, container: ContainerSpec, target: &str) -> ContainerSpec {
    container.bind(bed.dir.join("file"), target, true)
}

fn what_is_mounted_onto_its_proc_is_there(bed: &Bed) {
    fs::write(bed.dir.join("file"), "of a volume").expect("a file");
    both(bed, |pod, container| {
        // Before it and after it, one is hidden by the container's own procfs.
        let script = "read /proc/meminfo , read /etc/one , read /again/meminfo , ls /again/1/task";
        let mut container = bind(bed, bind(bed, container(script), "/proc/meminfo"), "/etc/one");
        let proc = container.mounts.iter().find(|mount| mount.kind == MountKind::Proc).expect("a procfs").clone();
        let mut again = proc;
        again.target = "/again".into();
        container.mounts.push(again);
        let said = log(pod, &container);
        assert_eq!(said.matches("of a volume").count(), 2, "{said}");
        assert!(said.contains("MemTotal"), "another mount of it has what the kernel shows: {said}");
        assert!(said.contains("ls /again/1/task: 1"), "{said}");
    });
}

fn a_later_mount_over_its_proc_hides_it(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    fs::write(bed.dir.join("volume/inner"), "of a volume").expect("a file");
    both(bed, |pod, container| {
        // On it, and on a directory that it is in.
        for (place, target) in [("/proc", "/proc"), ("/sub/proc", "/sub")] {
            let script = format!("read {target}/inner , ls {target}");
            let mut container = container(&script).bind(bed.dir.join("volume"), target, true);
            let procfs = container.mounts.iter_mut().find(|mount| mount.kind == MountKind::Proc);
            procfs.expect("a procfs").target = place.into();
            container.masked_paths.clear();
            container.readonly_paths.clear();
            let said = log(pod, &container);
            assert!(said.contains("of a volume") && said.contains(&format!("ls {target}: inner")), "{said}");
            pod.container("a").expect("the container").remove().expect("removal");
        }
    });
}

fn a_volume_behind_a_link_of_the_image_to_its_proc_is_there(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    fs::write(bed.dir.join("volume/inner"), "of a volume").expect("a file");
    fs::write(bed.dir.join("file"), "of a volume").expect("a file");
    fs::create_dir_all(bed.inside("proc")).expect("a directory");
    symlink("proc", bed.inside("p")).expect("a link");
    both(bed, |pod, container| {
        let said = log(pod, &bind(bed, container("read /proc/meminfo , ls /proc/1/task"), "/p/meminfo"));
        assert!(said.contains("of a volume") && said.contains("ls /proc/1/task: 1"), "onto a file of it: {said}");
        pod.container("a").expect("the container").remove().expect("removal");
        let mut container = container("read /proc/inner").bind(bed.dir.join("volume"), "/p", true);
        container.masked_paths.clear();
        container.readonly_paths.clear();
        assert!(log(pod, &container).contains("of a volume"), "over all of it");
        // What comes later hides it, although that follows no links.
        let mut container = container.args(["/probe", "ls", "/proc/1/task"]);
        let procfs = container.mounts.iter().find(|mount| mount.kind == MountKind::Proc).expect("a procfs").clone();
        container.mounts.push(procfs);
        pod.container("a").expect("the container").remove().expect("removal");
        let said = log(pod, &container);
        assert!(said.contains("ls /proc/1/task: 1"), "under another procfs: {said}");
    });
}

fn it_has_the_capabilities_and_descriptors_of_any_container(bed: &Bed) {
    both(bed, |pod, container| {
        let script = "status , fds , session , umask , mount tmpfs /tmp";
        let usual = log(pod, &bed.container("usual", script));
        let said = log(pod, &container(script));
        let kept = ["Cap", "NoNew", "SigBlk", "SigIgn", "SigCgt"];
        let of = |said: &str| -> Vec<String> {
            let lines = said.lines().filter(|line| kept.iter().any(|start| line.starts_with(start)));
            let fds = said.lines().filter(|line| line.starts_with("fd "));
            lines.chain(fds.map(|line| line.rsplit_once(' ').expect("a path").0)).map(String::from).collect()
        };
        assert_eq!(of(&usual), of(&said));
        assert_eq!(said.lines().filter(|line| line.starts_with("fd ")).count(), 3, "{said}");
        assert!(said.contains("pid 1 ppid 0 sid 1"), "{said}");
        assert!(said.contains("mount") && said.contains("errno 1"), "{said}");
        if bed.mode.has_ids() {
            let mut other = container("status , cwd");
            other.name = "other".into();
            other.process.user = User::Lookup("web".into());
            let said = log(pod, &other);
            assert!(said.contains("CapEff:\t0000000000000000") && said.contains("CapPrm:\t0000000000000000"), "{said}");
        }
    });
}

fn an_exec_in_it_has_no_more_than_the_container(bed: &Bed) {
    both(bed, |pod, container| {
        let main = pod.run(&container("echo up , block"), Io::log()).expect("a start");
        bed.await_log("web/a", "up");
        let users: &[&str] = if bed.mode.has_ids() { &["", "web"] } else { &[""] };
        for user in users {
            let args = ["/probe", "status", ",", "processes", ",", "fds", ",", "exit", "31"].map(String::from).to_vec();
            let user = (!user.is_empty()).then(|| user.to_string());
            let mut command = ExecSpec::new(args);
            command.user = user.clone();
            let exit = pod
                .container("a")
                .expect("the container")
                .exec(&command, Io::log())
                .expect("an exec")
                .wait()
                .expect("its end");
            assert_eq!(exit.shell_code(), 31);
            let said = bed::logged(&pod.container("a").expect("the container"));
            let said = said.rsplit("Name:").next().expect("a status");
            let caps = if user.is_some() { "0000000000000000" } else { "00000000a80425fb" };
            assert!(said.contains(&format!("CapEff:\t{caps}")) && said.contains(&format!("CapPrm:\t{caps}")), "{said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("process ")).count(), 2, "{said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("fd ")).count(), 3, "{said}");
        }
        drop(main);
    });
}

fn it_is_stopped_killed_and_started_again(bed: &Bed) {
    both(bed, |pod, container| {
        let process = pod.run(&container("echo up , orphan block , block"), Io::log()).expect("a start");
        bed.await_log("web/a", "up");
        process.signal(pod::Signal::KILL).expect("a signal");
        assert_eq!(process.wait().expect("its end").shell_code(), 137);
        for _ in 0..3 {
            let process = pod.container("a").expect("the container").start(Io::log()).expect("a start");
            assert_eq!(
                pod.container("a")
                    .expect("the container")
                    .stop(std::time::Duration::ZERO)
                    .expect("a stop")
                    .expect("its end")
                    .shell_code(),
                137
            );
            assert_eq!(process.wait().expect("its end").shell_code(), 137);
        }
        let restarted = pod
            .container("a")
            .expect("the container")
            .restart(std::time::Duration::ZERO, Io::log())
            .expect("a restart");
        pod.container("a").expect("the container").kill_all().expect("the end of all");
        assert_eq!(restarted.wait().expect("its end").shell_code(), 137);
        pod.container("a").expect("the container").remove().expect("removal");
    });
}

fn two_procs_of_it_with_other_options_are_refused(bed: &Bed) {
    both(bed, |pod, container| {
        let mut container = container("exit 0");
        let proc = container.mounts.iter().find(|mount| mount.kind == MountKind::Proc).expect("a procfs").clone();
        let mut again = proc;
        (again.target, again.data) = ("/again".into(), "hidepid=2".into());
        container.mounts.push(again);
        refused(pod.run(&container, Io::log()).expect_err("two"), &["mounts", "/again", "hidepid=2", "same options"]);
    });
}
