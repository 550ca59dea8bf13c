//! What containers share, and what they have of their own.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use pod::spec::NamespaceMode;
use pod::{Io, Namespace, Pod, PodOptions};

use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![
    containers_share_the_default_namespaces,
    only_what_is_listed_is_shared,
    a_pid_namespace_of_its_own_is_nested_under_pause,
    a_container_can_have_the_machines_network_and_ipc,
    a_pod_can_have_the_machines_network,
    two_containers_find_each_other_on_localhost_and_in_shared_memory,
    own_ipc_has_its_own_shared_memory,
    a_pods_clocks_have_its_offsets,
    a_pods_user_namespace_has_its_maps,
    the_pods_hostname,
    a_pods_network_has_only_its_loopback,
    a_pods_namespaces_can_be_had_as_descriptors,
    a_pod_that_ended_with_the_pid_namespace_around_it_is_dead,
];

fn inode(pid: u32, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap_or_else(|error| panic!("{pid} {kind}: {error}")).ino()
}

fn a_pods_namespaces_can_be_had_as_descriptors(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web").share([Namespace::Net, Namespace::Uts])).expect("a pod");
    let pause = pod.pause_pid().expect("pause");
    let ino = |namespace: &std::os::fd::OwnedFd| {
        fs::metadata(format!("/proc/self/fd/{}", namespace.as_raw_fd())).expect("a namespace").ino()
    };
    let net = pod.namespace(Namespace::Net).expect("a namespace");
    assert_eq!(ino(&net), inode(pause, "net"));
    assert_eq!(ino(&pod.namespace(Namespace::Uts).expect("a namespace")), inode(pause, "uts"));
    let error = pod.namespace(Namespace::Ipc).expect_err("not shared").to_string();
    assert!(error.contains("ipc") && error.contains("do not share"), "{error}");
    let before = ino(&net);
    pod.kill().expect("its end");
    let error = pod.namespace(Namespace::Net).expect_err("no pause").to_string();
    assert!(error.contains("web") && error.contains("not running"), "{error}");
    // It lives as long as the descriptor.
    assert_eq!(ino(&net), before);
}

fn two(bed: &Bed, create: &str) -> [u32; 3] {
    bed.podlet(create).ok();
    for name in ["a", "b"] {
        bed.podlet(&format!("run --pod web -d --name {name} --rootfs ROOT /probe block")).ok();
    }
    [bed.pause_of("web"), bed.pid_of("web/a"), bed.pid_of("web/b")]
}

fn containers_share_the_default_namespaces(bed: &Bed) {
    let [pause, a, b] = two(bed, "create web");
    for kind in ["net", "pid", "ipc", "uts", "user"] {
        assert_eq!(inode(pause, kind), inode(a, kind), "{kind} of a");
        assert_eq!(inode(pause, kind), inode(b, kind), "{kind} of b");
        let ours = inode(std::process::id(), kind);
        let new = kind != "user" || bed.mode.nests_users();
        assert_eq!(inode(pause, kind) != ours, new, "{kind} of the machine");
        assert_eq!(bed.inspect("web")["namespaces"][kind], inode(pause, kind));
    }
    for kind in ["mnt", "cgroup"] {
        assert_ne!(inode(a, kind), inode(b, kind), "{kind}");
        assert_ne!(inode(a, kind), inode(pause, kind), "{kind}");
    }
    let status = fs::read_to_string(format!("/proc/{a}/status")).expect("status");
    assert!(status.contains(&format!("PPid:\t{pause}\n")), "a is a child of pause: {status}");
    let mut shared: Vec<_> = bed.inspect("web")["shared"].as_array().expect("a list").clone();
    shared.retain(|kind| kind != "user");
    assert_eq!(serde_json::json!(shared), serde_json::json!(["net", "pid", "ipc", "uts"]));
}

fn only_what_is_listed_is_shared(bed: &Bed) {
    for list in ["net", "ipc,uts", "pid", "net,pid,ipc,uts,cgroup", "net,pid,ipc,uts,time", ""] {
        if list.contains("cgroup") && bed.mode == Mode::Mapped {
            // Covered by the other modes: here is no cgroup to be the root.
            continue;
        }
        bed.podlet_args(&["create", "web", "--share", list]).ok();
        let kinds = ["net", "pid", "ipc", "uts", "cgroup"];
        for name in ["a", "b"] {
            bed.podlet(&format!("run --pod web -d --name {name} --rootfs ROOT /probe block")).ok();
        }
        let [pause, a, b] = [bed.pause_of("web"), bed.pid_of("web/a"), bed.pid_of("web/b")];
        for kind in kinds {
            let shared = list.split(',').any(|listed| listed == kind);
            assert_eq!(inode(a, kind) == inode(b, kind), shared, "{kind} of a and b with --share {list:?}");
            assert_eq!(inode(a, kind) == inode(pause, kind), shared, "{kind} of a and pause with --share {list:?}");
        }
        bed.podlet("rm -f web").ok();
    }
}

fn a_pid_namespace_of_its_own_is_nested_under_pause(bed: &Bed) {
    bed.podlet("create web --share net,ipc,uts").ok();
    let script = "session , processes , ns , orphans 50 , wait-file /go , exit 9";
    bed.podlet(&format!("run --pod web -d --name a --rootfs ROOT /probe {script}")).ok();
    bed.await_log("web/a", "orphans 50");
    let log = bed.podlet("logs web/a").ok();
    assert!(log.contains("pid 1 ppid 0 sid 1"), "{log}");
    assert!(!log.contains("podlet:pause"), "pause cannot be seen: {log}");
    let (pause, a) = (bed.pause_of("web"), bed.pid_of("web/a"));
    let status = fs::read_to_string(format!("/proc/{a}/status")).expect("status");
    assert!(status.contains(&format!("PPid:\t{pause}\n")), "{status}");
    // An exec is beside it, in its namespace.
    let said = bed.podlet("exec web/a /probe ns , processes , exit 31").code(31).out;
    assert!(said.contains(&format!("pid {}", inode(a, "pid"))), "{said}");
    assert!(said.contains(&format!("mnt {}", inode(a, "mnt"))), "{said}");
    assert!(said.contains("process 1 "), "{said}");
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "9");
    // Its end takes everything in it along.
    bed.podlet("run --pod web -d --name b --rootfs ROOT /probe orphan block , echo up , block").ok();
    bed.await_log("web/b", "up");
    let exec = bed.spawn("exec web/b /probe echo in , block");
    exec.await_line(bed, "in");
    bed.podlet("kill web/b").ok();
    exec.wait().code(137);
    assert_eq!(bed.podlet("wait web/b").ok().trim(), "137");
    bed.podlet("run --pod web --rm --name c --rootfs ROOT /probe exit 0").ok();
}

fn a_container_can_have_the_machines_network_and_ipc(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "echo up , block");
    (container.net, container.ipc) = (NamespaceMode::Host, NamespaceMode::Host);
    let process = pod.run(&container, Io::log()).expect("a container");
    let (me, pid) = (std::process::id(), process.pid().expect("it runs"));
    for kind in ["net", "ipc"] {
        assert_eq!(inode(me, kind), inode(pid, kind), "{kind}");
    }
    for kind in ["uts", "pid"] {
        assert_ne!(inode(me, kind), inode(pid, kind), "{kind}");
    }
    // What is made inside is seen outside.
    let name = format!("podlet-test-{me}");
    let mut writer = bed.container("b", &format!("write /dev/shm/{name} x"));
    writer.ipc = NamespaceMode::Host;
    let wrote = pod.run(&writer, Io::log()).expect("a container").wait().expect("its end");
    assert_eq!(wrote.shell_code(), 0);
    let seen = fs::remove_file(format!("/dev/shm/{name}"));
    seen.unwrap_or_else(|error| panic!("/dev/shm is not the machine's: {error}"));
    let mut own = bed.container("c", "block");
    (own.net, own.ipc) = (NamespaceMode::Own, NamespaceMode::Own);
    let pid_of_own = pod.run(&own, Io::log()).expect("a container").pid().expect("it runs");
    for kind in ["net", "ipc"] {
        assert_ne!(inode(me, kind), inode(pid_of_own, kind), "{kind}");
        assert_ne!(inode(pod.pause_pid().expect("alive"), kind), inode(pid_of_own, kind), "{kind}");
    }
    pod.remove().expect("removal");
}

fn a_pod_can_have_the_machines_network(bed: &Bed) {
    let machines = inode(std::process::id(), "net");
    bed.podlet("create web --network host").ok();
    for name in ["a", "b"] {
        bed.podlet(&format!("run -d --pod web --name {name} --rootfs ROOT /probe block")).ok();
    }
    let is_so = |containers: &[&str]| {
        for container in containers {
            assert_eq!(inode(bed.pid_of(container), "net"), machines, "{container}");
        }
        let inside = bed.podlet(&format!("exec {} /probe ns", containers[0])).ok();
        assert!(inside.contains(&format!("net {machines}\n")), "{inside}");
    };
    is_so(&["web/a", "web/b"]);
    assert_ne!(inode(bed.pid_of("web/a"), "uts"), inode(std::process::id(), "uts"));
    let status = bed.inspect("web");
    assert_eq!(status["host_network"], true);
    assert!(!status["shared"].as_array().expect("kinds").contains(&"net".into()), "{status}");
    let table = bed.podlet("ps").ok();
    let of_a = table.lines().find(|line| line.starts_with("web") && line.contains(" a ")).expect("a line");
    assert!(of_a.split_whitespace().any(|word| word == "host"), "{table}");

    bed.podlet("restart -t 0 web/a").ok();
    is_so(&["web/a", "web/b"]);
    bed.podlet("stop -t 0 web").ok();
    bed.podlet("start web").ok();
    is_so(&["web/a", "web/b"]);
    // A pod that `run` made is the same.
    bed.podlet("run -d --name one --network host --rootfs ROOT /probe block").ok();
    bed.podlet("run -d --network pod:one --name two --rootfs ROOT /probe block").ok();
    is_so(&["one/two", "one/one"]);
    let enters_one = |options: &str| {
        let plan = bed.podlet(&format!("plan {options} --rootfs ROOT /probe ids")).ok();
        plan.split_once("# container").expect("the container's plan").1.contains("CLONE_NEWNET")
    };
    assert_eq!([enters_one("--network none"), enters_one("--network host")], [true, false]);
    for (options, words) in [
        ("-p 8080:80", &["--publish", "--network host"]),
        ("--ip 10.89.0.7", &["--ip", "--network host"]),
        ("--add-host a:192.0.2.7", &["--add-host", "--network host"]),
        ("--sysctl net.ipv4.ip_forward=1", &["net.ipv4.ip_forward", "is the machine's"]),
    ] {
        bed.podlet(&format!("create bad --network host {options}")).fails(125, words);
        bed.podlet(&format!("run -d --name bad --network host {options} --rootfs ROOT /probe block")).fails(125, words);
    }
    bed.podlet("rm -fa").ok();
    bed.is_clean();
}

fn two_containers_find_each_other_on_localhost_and_in_shared_memory(bed: &Bed) {
    bed.podlet("create web").ok();
    let server = "write /dev/shm/greeting good_day , listen 8080 , exit 0";
    bed.podlet(&format!("run --pod web -d --name server --rootfs ROOT /probe {server}")).ok();
    let client = bed.podlet(
        "run --pod web --rm --name client --rootfs ROOT /probe \
         connect 8080 , wait-file /dev/shm/greeting , read /dev/shm/greeting",
    );
    let said = client.ok();
    assert!(said.contains("heard \"hello from the other side\""), "{said}");
    assert!(said.contains("good_day"), "{said}");
    assert_eq!(bed.podlet("wait web/server").ok().trim(), "0");
    // Not with another pod.
    bed.podlet("create other").ok();
    let said = bed.podlet("run --pod other --rm --rootfs ROOT /probe ls /dev/shm").ok();
    assert!(said.contains("ls /dev/shm:"), "{said}");
    assert!(!said.contains("greeting"), "{said}");
}

fn own_ipc_has_its_own_shared_memory(bed: &Bed) {
    bed.podlet("create web --share net,pid,uts").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe write /dev/shm/x 1 , echo up , block").ok();
    bed.await_log("web/a", "up");
    assert_eq!(bed.podlet("run --pod web --rm --rootfs ROOT /probe ls /dev/shm").ok().trim(), "ls /dev/shm:");
}

fn a_pods_clocks_have_its_offsets(bed: &Bed) {
    bed.podlet("create web --share net,pid,ipc,uts,time --monotonic-offset 5000000 --boottime-offset 7").ok();
    let inside: u64 =
        bed.podlet("run --pod web --rm --rootfs ROOT /probe monotonic").ok().trim().parse().expect("a number");
    let uptime = fs::read_to_string("/proc/uptime").expect("uptime");
    let uptime: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    let difference = inside as f64 - uptime;
    assert!((4_900_000.0..5_100_000.0).contains(&difference), "{inside} inside, {uptime} outside");
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    let in_exec: u64 = bed.podlet("exec web/a /probe monotonic").ok().trim().parse().expect("a number");
    assert!(in_exec >= inside, "{in_exec} in an exec");
}

fn a_pods_user_namespace_has_its_maps(bed: &Bed) {
    let maps = match bed.mode {
        Mode::Root | Mode::Vm => "--share net,pid,ipc,uts,user --uidmap 0:200000:65536 --gidmap 0:300000:65536",
        Mode::Mapped => "--share net,pid,ipc,uts,user --uidmap 0:0:1 --gidmap 0:0:1",
        // Always has one.
        Mode::User | Mode::Delegated => "",
    };
    bed.podlet(&format!("create web {maps}")).ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe echo up , block").ok();
    let pid = bed.pid_of("web/a");
    let map = |pid: u32, kind: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{kind}_map")).expect("a map");
        text.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ")
    };
    assert_ne!(inode(pid, "user"), inode(std::process::id(), "user"));
    if bed.mode == Mode::Root {
        assert_eq!((map(pid, "uid"), map(pid, "gid")), ("0 200000 65536".into(), "0 300000 65536".into()));
        let owner = fs::metadata(format!("/proc/{pid}")).expect("its directory").uid();
        assert_eq!(owner, 200_000, "its user on this machine");
    }
    let said = bed.podlet("exec web/a /probe ids").ok();
    assert!(said.contains("Uid: 0 0 0 0"), "{said}");
    assert!(bed.inspect("web")["shared"].as_array().expect("a list").iter().any(|kind| kind == "user"));
}

fn the_pods_hostname(bed: &Bed) {
    bed.podlet("create web --hostname inside.example").ok();
    assert_eq!(bed.podlet("run --pod web --rm --rootfs ROOT /probe hostname").ok().trim(), "inside.example");
    bed.podlet("create plain").ok();
    assert_eq!(bed.podlet("run --pod plain --rm --rootfs ROOT /probe hostname").ok().trim(), "plain");
    let out = bed.podlet("run --hostname short --rm --rootfs ROOT /probe hostname").ok();
    assert_eq!(out.trim(), "short");
}

fn a_pods_network_has_only_its_loopback(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web").share([Namespace::Net, Namespace::Pid])).expect("a pod");
    let process =
        pod.run(&bed.container("a", "ls /sys/class/net , read /proc/net/dev , listen 80"), Io::log()).expect("a start");
    bed.await_log("web/a", "listening");
    process.signal(pod::Signal::KILL).expect("a signal");
    let log = bed.podlet("logs web/a").ok();
    assert!(log.contains("ls /sys/class/net: lo\n"), "{log}");
    pod.remove().expect("removal");
}

/// No process is left in its cgroup. Without one it may live where its pids are not
/// seen.
fn a_pod_that_ended_with_the_pid_namespace_around_it_is_dead(bed: &Bed) {
    let run = bed.command(&bed.expand("run -d --name web --rootfs ROOT /probe block"));
    // An ordinary user's has none of the ids that /etc/subuid promises.
    bed.in_pid_namespace(&["--mount-proc"], run).ok();
    if bed.mode.has_cgroups() {
        bed.until("its end", || bed.podlet("inspect web").status.success());
        assert!(bed.inspect("web")["pause"]["pid"].is_null());
        bed.podlet("rm web").ok();
    } else {
        bed.podlet("rm -f web").fails(125, &["another pid namespace"]);
        fs::remove_dir_all(bed.state().join("web")).expect("its directory");
    }
    bed.is_clean();
}
