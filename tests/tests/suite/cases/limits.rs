//! Limits that are honoured, where root can set them all.

use std::fs;

use std::os::unix::fs::MetadataExt;

use pod::resources::{DeviceKind, DeviceRule, OfDevice, device_rules};
use pod::spec::Rlimit;
use pod::{Io, OomLevel, Pod, PodOptions, Resources};
use serde_json::Value;

use crate::bed::Bed;

crate::tests![
    a_resource_limit_can_be_above_the_callers,
    a_container_at_its_memory_limit_is_killed_and_the_level_told,
    a_pod_at_its_memory_limit_loses_one_container_and_the_level_is_told,
    a_container_short_of_memory_ends_as_a_whole,
    a_fork_bomb_stays_below_its_limit_and_can_be_stopped,
    a_fork_bomb_stays_below_the_pods_limit_and_can_be_removed,
    a_quota_of_processor_time_throttles,
    a_container_runs_on_its_processors_only,
    limits_change_while_it_runs,
    a_change_that_fails_changes_nothing,
    device_rules_deny_what_the_mount_allows,
    every_limit_arrives_in_its_file,
    a_pod_that_shares_its_cgroup_view_has_limits_too,
    a_frozen_container_stands_still_and_can_be_killed,
];

fn a_resource_limit_can_be_above_the_callers(bed: &Bed) {
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let hard: u64 = line.split_whitespace().nth(4).expect("a hard limit").parse().expect("a number");
    let (soft, above) = (hard + 1, hard + 2);
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "read /proc/self/limits");
    container.process.rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft, hard: above }];
    assert_eq!(pod.run(&container, Io::log()).expect("a container").wait().expect("its end").shell_code(), 0);
    let log = bed.podlet("logs web/a").ok();
    let line = log.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], [soft.to_string(), above.to_string()], "{line}");
    pod.remove().expect("removal");
}

fn a_container_at_its_memory_limit_is_killed_and_the_level_told(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name mate --rootfs ROOT /probe block").ok();
    let mate = bed.pid_of("web/mate");
    let told = "podlet: container web/db was killed: out of memory (container limit 32 MiB)";
    let limits = "--memory 32m --memory-swap 32m";
    bed.podlet(&format!("run --rm --pod web --name db {limits} --rootfs ROOT /probe eat 200")).fails(137, &[told]);
    // Known to others, and of the latest run only.
    let script = "wait-file /go , eat 200";
    bed.podlet(&format!("run -d --pod web --name db {limits} --rootfs ROOT /probe {script}")).ok();
    assert_eq!(bed.inspect("web/db")["out_of_memory"], Value::Null);
    assert_eq!(bed.inspect("web/db")["usage"]["memory"]["limit"], 32 << 20);
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(bed.podlet("wait web/db").ok().trim(), "137");
    assert_eq!(bed.inspect("web/db")["out_of_memory"], "container");
    assert!(bed.podlet("ps -a").ok().contains("exited (out of memory)"));
    fs::remove_file(bed.inside("go")).expect("the file");
    bed.podlet("start web/db").ok();
    bed.podlet("kill -s KILL web/db").ok();
    assert_eq!(bed.podlet("wait web/db").ok().trim(), "137");
    assert_eq!(bed.inspect("web/db")["out_of_memory"], Value::Null, "killed, but not for memory");
    assert_eq!(bed.pid_of("web/mate"), mate);
    // The cgroup goes with the pod, what is known stays; also in the next life.
    fs::write(bed.inside("go"), "").expect("a file");
    bed.podlet(&format!("run --name solo {limits} --rootfs ROOT /probe eat 200")).fails(137, &["container solo"]);
    assert_eq!(bed.inspect("solo/solo")["out_of_memory"], "container");
    bed.podlet(&format!("run -d --name two --pod web {limits} --rootfs ROOT /probe eat 200")).ok();
    bed.podlet("wait web/two").ok();
    bed.kill(bed.pause_of("web"), nix::sys::signal::Signal::SIGKILL);
    bed.until("the pod's end", || bed.inspect("web")["state"] == "exited");
    bed.podlet("start web/mate").ok();
    assert_eq!(bed.inspect("web/two")["out_of_memory"], "container");
    // Enough is enough.
    bed.podlet("run --rm --memory 64m --rootfs ROOT /probe eat 16").ok();
}

fn a_pod_at_its_memory_limit_loses_one_container_and_the_level_is_told(bed: &Bed) {
    bed.podlet("create web --memory 48m --memory-swap 48m").ok();
    bed.podlet("run -d --pod web --name mate --rootfs ROOT /probe block").ok();
    let (pause, mate) = (bed.pause_of("web"), bed.pid_of("web/mate"));
    let told = "podlet: container web/db was killed: out of memory (pod limit 48 MiB)";
    bed.podlet("run --pod web --name db --rootfs ROOT /probe eat 200").fails(137, &[told]);
    // A limit of its own above the pod's is not what it came up against.
    bed.podlet("run --pod web --name big --memory 1g --rootfs ROOT /probe eat 200").fails(137, &["(pod limit 48 MiB)"]);
    assert_eq!(bed.inspect("web/db")["out_of_memory"], "pod");
    // And the other way round.
    let own = "--memory 16m --memory-swap 16m";
    bed.podlet(&format!("run --pod web --name small {own} --rootfs ROOT /probe eat 200"))
        .fails(137, &["(container limit 16 MiB)"]);
    assert_eq!((bed.pause_of("web"), bed.pid_of("web/mate")), (pause, mate));
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let exit = pod.run(&bed.container("lib", "eat 200"), Io::log()).expect("a container").wait().expect("its end");
    assert_eq!((exit.shell_code(), exit.out_of_memory), (137, Some(OomLevel::Pod)));
}

fn a_container_short_of_memory_ends_as_a_whole(bed: &Bed) {
    let script = "bg eat 200 , block";
    bed.podlet(&format!("run --memory 32m --memory-swap 32m --name a --rootfs ROOT /probe {script}"))
        .fails(137, &["container limit 32 MiB"]);
}

/// Waits until a container's processes have reached their limit.
fn await_full(bed: &Bed, target: &str, limit: u64) {
    bed.until("as many processes as there may be", || bed.inspect(target)["usage"]["pids"]["current"] == limit);
}

fn a_fork_bomb_stays_below_its_limit_and_can_be_stopped(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name bomb --pids-limit 30 --rootfs ROOT /probe bomb").ok();
    await_full(bed, "web/bomb", 30);
    bed.podlet("run -d --pod web --name mate --rootfs ROOT /probe block").ok();
    bed.podlet("exec web/mate /probe echo hello").ok();
    // It needs room for a process, and says which limit left none.
    bed.podlet("exec web/bomb /probe echo hello").fails(125, &["pids.max"]);
    assert_eq!(bed.inspect("web/bomb")["usage"]["pids"]["current"], 30);
    bed.podlet("stop -t 0 web/bomb").ok();
    assert_eq!(bed.inspect("web/bomb")["state"], "exited");
    bed.podlet("start web/bomb").ok();
    await_full(bed, "web/bomb", 30);
    bed.podlet("rm -f web/bomb").ok();
    bed.podlet("exec web/mate /probe echo hello").ok();
}

fn a_fork_bomb_stays_below_the_pods_limit_and_can_be_removed(bed: &Bed) {
    bed.podlet("create web --pids-limit 40").ok();
    bed.podlet("run -d --pod web --name bomb --rootfs ROOT /probe bomb").ok();
    bed.until("a full pod", || bed.inspect("web")["usage"]["pids"]["current"] == 40);
    bed.podlet("run --pod web --rootfs ROOT /probe echo hello").fails(125, &["pids.max"]);
    bed.podlet("stop -t 0 web/bomb").ok();
    bed.podlet("run --rm --pod web --rootfs ROOT /probe echo hello").ok();
    bed.podlet("start web/bomb").ok();
    bed.until("a full pod", || bed.inspect("web")["usage"]["pids"]["current"] == 40);
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn a_quota_of_processor_time_throttles(bed: &Bed) {
    bed.podlet("run -d --name a --cpus 0.1 --rootfs ROOT /probe read /sys/fs/cgroup/cpu.max , burn").ok();
    bed.await_log("a", "10000 100000");
    let throttled = || bed.inspect("a/a")["usage"]["cpu"]["nr_throttled"].as_u64().expect("a count");
    bed.until("a throttled period", || throttled() > 0);
    let run = "run --rm --cpu-quota 5000 --cpu-period 20000 --cgroup-conf pids.max=77 --rootfs ROOT";
    let said = bed.podlet(&format!("{run} /probe read /sys/fs/cgroup/cpu.max , read /sys/fs/cgroup/pids.max")).ok();
    assert_eq!(said, "5000 20000\n77\n");
    // Of a pod, all of it together.
    bed.podlet("create web --cpus 0.1").ok();
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe burn").ok();
    bed.until("a throttled period", || {
        bed.inspect("web")["usage"]["cpu"]["nr_throttled"].as_u64().expect("a count") > 0
    });
}

fn a_container_runs_on_its_processors_only(bed: &Bed) {
    let said = bed.podlet("run --rm --cpuset-cpus 1 --cpuset-mems 0 --rootfs ROOT /probe status").ok();
    let line = said.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("the processors");
    assert_eq!(line.split_whitespace().nth(1), Some("1"), "{line}");
    bed.podlet("run --rm --cpuset-cpus 0-5000 --rootfs ROOT /probe status").fails(125, &["cpu.cpus \"0-5000\""]);
    bed.podlet("run --rm --cpuset-cpus x --rootfs ROOT /probe status").fails(125, &["cpu.cpus \"x\""]);
    bed.is_clean();
}

fn limits_change_while_it_runs(bed: &Bed) {
    bed.podlet("create web --pids-limit 100").ok();
    bed.podlet("run -d --pod web --name a --memory 64m --rootfs ROOT /probe block").ok();
    let inside =
        |file: &str| bed.podlet(&format!("exec web/a /probe read /sys/fs/cgroup/{file}")).ok().trim().to_string();
    assert_eq!(inside("memory.max"), (64 << 20).to_string());
    bed.podlet("update web/a --memory 128m --pids-limit 50 --cpu-weight 300").ok();
    assert_eq!(inside("memory.max"), (128 << 20).to_string());
    assert_eq!(inside("memory.oom.group"), "1");
    assert_eq!(inside("pids.max"), "50");
    assert_eq!(inside("cpu.weight"), "300");
    bed.podlet("update web/a --memory -1").ok();
    assert_eq!(inside("memory.max"), "max");
    assert_eq!(inside("pids.max"), "50");
    bed.podlet("update web --pids-limit 60").ok();
    assert_eq!(bed.inspect("web")["usage"]["pids"]["limit"], 60);
    assert_eq!(bed.inspect("web")["resources"]["pids"], 60);
    // A container that had no memory limit yet, of its own or of the pod's.
    bed.podlet("run -d --pod web --name b --rootfs ROOT /probe wait-file /go , eat 200").ok();
    bed.podlet("update web --memory 64m --memory-swap 64m").ok();
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(bed.podlet("wait web/b").ok().trim(), "137");
    assert_eq!(bed.inspect("web/b")["out_of_memory"], "pod");
    fs::remove_file(bed.inside("go")).expect("the file");
    bed.podlet("start web/b").ok();
    bed.podlet("update web/b --memory 32m --memory-swap 32m").ok();
    fs::write(bed.inside("go"), "").expect("a file");
    assert_eq!(bed.podlet("wait web/b").ok().trim(), "137");
    assert_eq!(bed.inspect("web/b")["out_of_memory"], "container");
    // Also in the next run, and in the pod's next life.
    bed.podlet("restart -t 0 web/a").ok();
    assert_eq!(inside("pids.max"), "50");
    bed.podlet("stop -t 0 web").ok();
    bed.podlet("update web --pids-limit 70").ok();
    bed.podlet("start web/a").ok();
    assert_eq!(bed.inspect("web")["usage"]["pids"]["limit"], 70);
    assert_eq!(inside("cpu.weight"), "300");
}

fn a_change_that_fails_changes_nothing(bed: &Bed) {
    bed.podlet("run -d --name a --memory 64m --memory-swap 64m --rootfs ROOT /probe block").ok();
    let before = bed.inspect("a/a")["resources"].clone();
    // The memory limit would be fine.
    bed.podlet("update a/a --memory 128m --cpuset-cpus 0-5000").fails(125, &["cpu.cpus", "5000"]);
    bed.podlet("update a/a --memory 128m --memory-swap 1m").fails(125, &["memory.swap", "at least memory.limit"]);
    let after = bed.inspect("a/a");
    assert_eq!(after["resources"], before);
    assert_eq!(after["usage"]["memory"]["limit"], 64 << 20);
    // Below what is used, for an embedder that asked to have that checked.
    let pod = Pod::open(&bed.store(), "a").expect("the pod");
    let mut change = Resources::default();
    (change.memory.limit, change.memory.swap) = (Some(4096), Some(4096));
    change.memory.check_before_update = true;
    let error = pod.container("a").expect("a container").update(&change).expect_err("far too little").to_string();
    assert!(error.contains("memory.limit") && error.contains("in use"), "{error}");
    assert_eq!(bed.inspect("a/a")["usage"]["memory"]["limit"], 64 << 20);
    assert_eq!(bed.inspect("a/a")["state"], "running");
}

fn device_rules_deny_what_the_mount_allows(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let rule = |allow, kind, numbers: Option<(u32, u32)>, access| {
        DeviceRule::new(allow, kind, numbers.map(|n| n.0), numbers.map(|n| n.1), access).expect("a rule")
    };
    let deny_all = rule(false, DeviceKind::Any, None, "rwm");
    let with_defaults = [vec![deny_all], device_rules::default_rules()].concat();
    // The machine's log is 1:11, its source of zeroes 1:5.
    let script = "touch-rw /log , head /zero , touch-rw /zero , mknod /tmp/x 4 4";
    let (no, one) = ("errno 1", "1 bytes");
    let cases = [
        // None: a program that may read the log of the machine, may.
        (vec![], ["ok", one, "ok", "ok"]),
        (with_defaults, [no, one, "ok", "ok"]),
        (vec![deny_all], [no, no, no, no]),
        (vec![deny_all, rule(true, DeviceKind::Char, Some((1, 5)), "r")], [no, one, no, no]),
        (
            vec![rule(true, DeviceKind::Any, None, "rwm"), rule(false, DeviceKind::Char, Some((1, 5)), "w")],
            ["ok", one, no, "ok"],
        ),
    ];
    for (i, (rules, expected)) in cases.into_iter().enumerate() {
        let name = format!("c{i}");
        let mut container = bed.container(&name, script).bind("/dev/kmsg", "/log", false);
        container = container.bind("/dev/zero", "/zero", false).add_capability(pod::Capability::CAP_SYSLOG);
        container = container.tmpfs("/tmp");
        container.resources.devices = rules;
        pod.run(&container, Io::log()).expect("a container").wait().expect("its end");
        let said = bed.podlet(&format!("logs web/{name}")).ok();
        let lines: Vec<_> = said.lines().collect();
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.ends_with(expected), "{name}: {line}, not {expected}");
        }
        assert_eq!(lines.len(), 4, "{said}");
    }
    pod.remove().expect("removal");
}

fn every_limit_arrives_in_its_file(bed: &Bed) {
    let disk = fs::metadata("/").expect("the root").dev();
    let (major, minor) = (libc::major(disk) as i64, libc::minor(disk) as i64);
    let of = |value| vec![OfDevice { major, minor, value }];
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "");
    let r = &mut container.resources;
    (r.memory.limit, r.memory.swap, r.memory.reservation) = (Some(64 << 20), Some(-1), Some(8 << 20));
    (r.cpu.shares, r.cpu.quota, r.cpu.period, r.cpu.burst) = (Some(2048), Some(20_000), Some(50_000), Some(10_000));
    r.pids = Some(-1);
    (r.block_io.read_bps, r.block_io.write_iops) = (of(1 << 20), of(1000));
    r.hugepages.insert("2MB".into(), 4 << 20);
    r.unified.insert("memory.high".into(), "50331648".into());
    let weight = pod::resources::weight_of_shares(2048);
    let io = format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=1000");
    let files = [
        ("memory.max", "67108864".to_string()),
        ("memory.low", "8388608".into()),
        ("memory.high", "50331648".into()),
        ("memory.oom.group", "1".into()),
        ("cpu.weight", weight.to_string()),
        ("cpu.max", "20000 50000".into()),
        ("cpu.max.burst", "10000".into()),
        ("pids.max", "max".into()),
        ("io.max", io),
        ("hugetlb.2MB.max", "4194304".into()),
    ];
    let verbs: Vec<_> = files.iter().map(|(file, _)| format!("read /sys/fs/cgroup/{file}")).collect();
    container = container.args(format!("/probe {}", verbs.join(" , ")).split_whitespace());
    assert_eq!(pod.run(&container, Io::log()).expect("a container").wait().expect("its end").shell_code(), 0);
    let said = bed.podlet("logs web/a").ok();
    let expected: Vec<_> = files.iter().map(|(_, content)| content.as_str()).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    pod.remove().expect("removal");
}

fn a_pod_that_shares_its_cgroup_view_has_limits_too(bed: &Bed) {
    bed.podlet("create web --share net,pid,ipc,uts,cgroup --memory 64m --pids-limit 50").ok();
    bed.podlet("run --rm --pod web --pids-limit 10 --rootfs ROOT /probe read /sys/fs/cgroup/memory.max").ok();
    let said = bed
        .podlet("run --rm --pod web --name a --pids-limit 10 --rootfs ROOT /probe read /sys/fs/cgroup/ctr/a/pids.max");
    assert_eq!(said.ok().trim(), "10");
    bed.podlet("run --rm --pod web --rootfs ROOT /probe eat 200").fails(137, &["pod limit 64 MiB"]);
}

fn a_frozen_container_stands_still_and_can_be_killed(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe trap TERM 3 , echo up , burn").ok();
    // Frozen sooner, it would have no trap yet, and the signal its last word.
    let trapped = |starts| bed.until("its trap", || bed.podlet("logs web/a").ok().matches("up").count() == starts);
    trapped(1);
    bed.podlet("pause web/a").ok();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", bed.pid_of("web/a"))).expect("its cgroup");
    let events = format!("/sys/fs/cgroup{}/cgroup.events", cgroup.trim().trim_start_matches("0::"));
    assert!(fs::read_to_string(&events).expect("events").contains("frozen 1"));
    bed.podlet("kill -s TERM web/a").ok();
    assert_eq!(bed.inspect("web/a")["state"], "paused");
    bed.podlet("unpause web/a").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "3", "the signal had waited");
    bed.podlet("pause web/a").fails(125, &["is not running"]);
    bed.podlet("start web/a").ok();
    trapped(2);
    bed.podlet("pause web/a").ok();
    bed.podlet("stop -t 0 web/a").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "137");
}
