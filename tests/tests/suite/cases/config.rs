//! What a config.json says of the process and its namespaces, seen from
//! inside; and configs that are wrong in two hundred ways.

use std::fs;
use std::path::Path;

use pod::{Io, Pod, PodOptions};
use serde_json::{Value, json};

use crate::bed::{Bed, Said};
use crate::modes::Mode;

crate::tests![
    two_hundred_mutations_of_a_config,
    scheduling_and_memory_of_the_process,
    what_only_the_process_itself_can_take_on,
    processors_of_an_exec,
    kernel_parameters_of_the_pods_namespaces,
    kernel_parameters_of_the_containers_own_namespaces,
    cve_2025_52881_kernel_parameters_do_not_follow_the_image,
    host_and_domain_names,
    time_offsets_of_a_config,
    user_namespace_of_a_config,
    network_devices_of_a_config,
    limits_and_scores_by_the_command,
    devices_by_the_command,
];

pub(super) fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }
        ],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]
        }
    })
}

pub(super) fn write(bed: &Bed, config: &Value) {
    fs::write(bed.dir.join("config.json"), config.to_string()).expect("config.json");
}

#[track_caller]
fn has(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|found| found == *line), "{line:?} is missing in {said}");
    }
}

fn scheduling_and_memory_of_the_process(bed: &Bed) {
    let mut config = config(&["/probe", "how"]);
    config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    config["process"]["oomScoreAdj"] = json!(345);
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    let wanted = [
        "policy 3 flags 0 nice 7 priority 0",
        "ioprio 2 6",
        "personality 8",
        "machine i686",
        "mempolicy 32770 nodes 1",
        "oom_score_adj 345",
        "Max open files 100 200 files",
    ];
    has(&said, &wanted);
    // So runs what is executed in it, and none of it unless asked for.
    config["process"]["args"] = json!(["/probe", "echo", "up", ",", "block"]);
    write(bed, &config);
    bed.podlet("run -d --name web --bundle DIR").ok();
    has(&bed.podlet("exec web /probe how").ok(), &wanted);
    let plain = bed.podlet("run --rm --rootfs ROOT /probe how").ok();
    let score = fs::read_to_string("/proc/self/oom_score_adj").expect("a score");
    let untouched = format!("oom_score_adj {}", score.trim());
    has(
        &plain,
        &["policy 0 flags 0 nice 0 priority 0", "personality 0", "machine x86_64", "mempolicy 0 nodes 0", &untouched],
    );
    // What this caller or machine cannot give is told with the reason.
    config["process"]["args"] = json!(["/probe", "how"]);
    config["linux"]["memoryPolicy"]["nodes"] = json!("1000");
    write(bed, &config);
    bed.podlet("run --rm --bundle DIR").fails(125, &["set_mempolicy", "memory nodes"]);
    config["linux"]["memoryPolicy"] = json!(null);
    config["process"]["scheduler"] = json!({ "policy": "SCHED_FIFO", "priority": 3 });
    write(bed, &config);
    let real_time = bed.podlet("run --rm --bundle DIR");
    match bed.mode {
        Mode::Root => has(&real_time.ok(), &["policy 1 flags 0 nice 0 priority 3"]),
        _ => drop(real_time.fails(125, &["sched_setattr", "CAP_SYS_NICE"])),
    }
    config["process"]["scheduler"] = json!(null);
    config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_RT", "priority": 1 });
    write(bed, &config);
    let first = bed.podlet("run --rm --bundle DIR");
    match bed.mode {
        Mode::Root => has(&first.ok(), &["ioprio 1 1"]),
        _ => drop(first.fails(125, &["ioprio_set", "CAP_SYS_NICE"])),
    }
    // Without CAP_SYS_RESOURCE it may not be lowered.
    config["process"]["ioPriority"] = json!(null);
    config["process"]["oomScoreAdj"] = json!(-999);
    write(bed, &config);
    let lowered = bed.podlet("run --rm --bundle DIR");
    match lowered.status.success() {
        true => has(&lowered.ok(), &["oom_score_adj -999"]),
        false => drop(lowered.fails(125, &["oom_score_adj", "CAP_SYS_RESOURCE"])),
    }
}

fn what_only_the_process_itself_can_take_on(bed: &Bed) {
    let mut config = config(&["/probe", "how"]);
    config["process"]["scheduler"] =
        json!({ "policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    write(bed, &config);
    // In the pod's pid namespace it is born without privileges.
    bed.podlet("run --rm --bundle DIR").fails(125, &["scheduler", "SCHED_BATCH", "pid namespace of its own"]);
    has(&bed.podlet("run --rm --share net,ipc,uts --bundle DIR").ok(), &["policy 3 flags 1 nice 5 priority 0"]);
    let times =
        json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 30_000_000 });
    config["process"]["scheduler"] = times;
    write(bed, &config);
    let deadline = bed.podlet("run --rm --share net,ipc,uts --bundle DIR");
    match bed.mode {
        Mode::Root => {
            has(&deadline.ok(), &["policy 6 flags 0 nice 0 priority 0", "times 1000000 20000000 30000000"]);
        }
        _ => drop(deadline.fails(125, &["sched_setattr", "CAP_SYS_NICE"])),
    }
}

fn processors_of_an_exec(bed: &Bed) {
    let all = bed.podlet("run --rm --rootfs ROOT /probe how").ok();
    let all = all.lines().find_map(|line| line.strip_prefix("cpus ")).expect("cpus").to_string();
    let mut config = config(&["/probe", "how", ",", "block"]);
    config["process"]["execCPUAffinity"] = json!({ "initial": "0-1", "final": "0" });
    write(bed, &config);
    bed.podlet("run -d --name web --bundle DIR").ok();
    bed.await_log("web", &format!("cpus {all}"));
    has(&bed.podlet("exec web /probe how").ok(), &["cpus 1"]);
    config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "8000" });
    write(bed, &config);
    bed.podlet("run -d --name odd --bundle DIR").ok();
    bed.podlet("exec odd /probe how").fails(125, &["sched_setaffinity", "8000", "processors"]);
}

fn kernel_parameters_of_the_pods_namespaces(bed: &Bed) {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a parameter");
    let read = "read /proc/sys/net/ipv4/ip_default_ttl , read /proc/sys/kernel/msgmax , how";
    bed.podlet(
        "create web --sysctl net.ipv4.ip_default_ttl=77 --sysctl kernel/msgmax=9001 --sysctl kernel.domainname=d.org",
    )
    .ok();
    let said = bed.podlet(&format!("run --rm --pod web --rootfs ROOT /probe {read}")).ok();
    assert!(said.contains("77") && said.contains("9001"), "{said}");
    has(&said, &["domainname d.org"]);
    // By a config, for a pod of its own.
    let mut config = config(&["/probe"]);
    config["process"]["args"] = read.split(' ').fold(json!(["/probe"]), |mut args, word| {
        args.as_array_mut().expect("an array").push(word.into());
        args
    });
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "78", "kernel.msgmax": "9002" });
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    assert!(said.contains("78") && said.contains("9002"), "{said}");
    // It belongs to the pod, which is there already.
    bed.podlet("run --rm --pod web --bundle DIR").fails(125, &["sysctl", "podlet create --sysctl"]);
    bed.podlet("run --rm --pod web --sysctl net.ipv4.ip_default_ttl=1 --rootfs ROOT /probe").fails(125, &["sysctl"]);
    for (line, words) in [
        ("create x --sysctl net.ipv4", &["NAME=VALUE"][..]),
        ("create x --sysctl vm.swappiness=1", &["vm.swappiness", "whole machine"]),
        ("create x --sysctl kernel.core_pattern=x", &["core_pattern", "whole machine"]),
        ("create x --sysctl net/../kernel/core_pattern=x", &["not the name"]),
        ("create x --sysctl kernel.hostname=x", &["host name"]),
        ("create x --share pid --sysctl net.ipv4.ip_forward=1", &["--share", "net"]),
        ("create x --sysctl net.no.such=1", &["sys/net/no/such", "no such parameter"]),
        ("create x --sysctl net.ipv4.ip_default_ttl=x", &["net.ipv4.ip_default_ttl", "does not take this value"]),
        ("create x --sysctl net.ipv4.ip_default_ttl=999", &["ip_default_ttl", "does not take this value"]),
    ] {
        bed.podlet(line).fails(125, words);
    }
    bed.podlet_args(&["create", "x", "--sysctl", "net.ipv4.ip_forward=1\n2"]).fails(125, &["one line"]);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a parameter"), before);
}

fn kernel_parameters_of_the_containers_own_namespaces(bed: &Bed) {
    let set = "--sysctl net.ipv4.ip_default_ttl=79 --sysctl fs.mqueue.msg_max=21 --sysctl kernel.domainname=own.org";
    let read = "read /proc/sys/net/ipv4/ip_default_ttl , read /proc/sys/fs/mqueue/msg_max , how";
    for share in ["pid", "cgroup"] {
        let said = bed.podlet(&format!("run --rm --share {share} {set} --rootfs ROOT /probe {read}")).ok();
        assert!(said.contains("79") && said.contains("21"), "{share}: {said}");
        has(&said, &["domainname own.org"]);
    }
    // An empty value is one, too.
    let ports = "net.ipv4.ip_local_reserved_ports";
    let line = format!(
        "run --rm --share pid --sysctl {ports}= --rootfs ROOT /probe read /proc/sys/{}",
        ports.replace('.', "/")
    );
    assert_eq!(bed.podlet(&line).ok().trim(), "");
    // The machine's are not a container's to set.
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "exit 0");
    container.net = pod::spec::NamespaceMode::Host;
    container.sysctl.insert("net.ipv4.ip_default_ttl".into(), "1".into());
    let refused = pod.run(&container, Io::log()).map(drop).expect_err("the machine's").to_string();
    assert!(refused.contains("the machine's"), "{refused}");
    pod.remove().expect("removal");
}

/// SECURITY: an image, or a mount the config asks for, has files of its own
/// where the parameters are.
fn cve_2025_52881_kernel_parameters_do_not_follow_the_image(bed: &Bed) {
    let bait = bed.dir.join("bait");
    fs::write(&bait, "untouched").expect("a bait");
    fs::create_dir_all(bed.inside("proc/sys/net/ipv4")).expect("a directory");
    std::os::unix::fs::symlink(&bait, bed.inside("proc/sys/net/ipv4/ip_default_ttl")).expect("a link");
    fs::create_dir_all(bed.dir.join("sys/net/ipv4")).expect("a directory");
    std::os::unix::fs::symlink(&bait, bed.dir.join("sys/net/ipv4/ip_default_ttl")).expect("a link");
    let mut config = config(&["/probe", "read", "/real/sys/net/ipv4/ip_default_ttl"]);
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "81" });
    config["mounts"] = json!([
        { "destination": "/real", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/proc/sys", "type": "bind", "source": "sys", "options": ["bind"] },
    ]);
    write(bed, &config);
    for share in ["net,ipc,uts,pid", "pid"] {
        let said = bed.podlet(&format!("run --rm --share {share} --bundle DIR")).ok();
        assert!(said.contains("81"), "{said}");
    }
    assert_eq!(fs::read_to_string(&bait).expect("the bait"), "untouched");
}

fn host_and_domain_names(bed: &Bed) {
    let mut config = config(&["/probe", "hostname", ",", "how"]);
    config["hostname"] = json!("bundled");
    config["domainname"] = json!("example.org");
    write(bed, &config);
    for line in ["run --rm --bundle DIR", "run --rm --share net --bundle DIR"] {
        has(&bed.podlet(line).ok(), &["bundled", "domainname example.org"]);
    }
    has(&bed.podlet("run --rm --hostname other --bundle DIR").ok(), &["other", "domainname example.org"]);
    bed.podlet("create web").ok();
    bed.podlet("run --rm --pod web --bundle DIR").fails(125, &["hostname", "bundled", "belongs to the pod"]);
    config["hostname"] = json!("web");
    write(bed, &config);
    bed.podlet("run --rm --pod web --bundle DIR").fails(125, &["domainname", "example.org", "belongs to the pod"]);
    bed.podlet("create named --hostname web --sysctl kernel.domainname=example.org").ok();
    has(&bed.podlet("run --rm --pod named --bundle DIR").ok(), &["web", "domainname example.org"]);
    config["domainname"] = json!(null);
    write(bed, &config);
    has(&bed.podlet("run --rm --pod web --bundle DIR").ok(), &["web", "domainname (none)"]);
}

fn time_offsets_of_a_config(bed: &Bed) {
    let mut config = config(&["/probe", "read", "/proc/self/timens_offsets"]);
    config["linux"]["namespaces"].as_array_mut().expect("an array").push(json!({ "type": "time" }));
    config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": 1000, "nanosecs": 500_000_000 }, "boottime": { "secs": 7 } });
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    let words: Vec<_> = said.split_whitespace().collect();
    let text = words.join(" ");
    assert!(text.contains("monotonic 1000 500000000") && text.contains("boottime 7 0"), "{said}");
    bed.podlet("create web").ok();
    bed.podlet("run --rm --pod web --bundle DIR").fails(125, &["linux.namespaces time", "podlet create"]);
}

fn user_namespace_of_a_config(bed: &Bed) {
    let mut config = config(&["/probe", "ids", ",", "read", "/proc/self/uid_map"]);
    config["linux"]["namespaces"].as_array_mut().expect("an array").push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR");
    match bed.mode {
        Mode::Root => {
            let said = said.ok();
            has(&said, &["Uid: 0 0 0 0"]);
            assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains("0 200000 1000"), "{said}");
        }
        // Ids of others are not theirs to map.
        _ => drop(said.fails(125, &[])),
    }
}

/// Where distributions have it.
pub fn ip() -> Option<&'static str> {
    ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].into_iter().find(|path| Path::new(path).exists())
}

/// In a network namespace of the test's own, so that the machine's stays as
/// it is.
fn network_devices_of_a_config(bed: &Bed) {
    let mut config = config(&["/probe", "read", "/proc/net/if_inet6", ",", "read", "/proc/net/fib_trie", ",", "block"]);
    config["linux"]["netDevices"] = json!({ "v0": { "name": "eth0" }, "v2": {} });
    write(bed, &config);
    if !matches!(bed.mode, Mode::Root | Mode::Mapped) {
        bed.podlet("run --rm --bundle DIR").fails(125, &["v0"]);
        return;
    }
    // Not busybox's own, which its sh takes for itself.
    let ip = &format!("{} ", ip().expect("ip(8), of iproute2"));
    let make = "IP link add v0 address 02:00:00:00:00:07 mtu 1400 type veth peer name v1 && IP link add v2 type veth \
                peer name v3 && IP addr add 192.0.2.7/24 dev v0 && IP addr add 2001:db8::7/64 dev v0 nodad && \
                IP link set v0 up && ";
    let within = |script: &str| {
        let podlet = bed.command(&[] as &[&str]);
        let words: Vec<_> = std::iter::once(podlet.get_program()).chain(podlet.get_args()).collect();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let script = script.replace("PODLET", &words.join(" ")).replace("DIR", &bed.dir.display().to_string());
        let mut command = std::process::Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", &format!("{make}{script}").replace("IP ", ip)]);
        bed.finish(command)
    };
    let said = within(
        "PODLET run -d --name web --bundle DIR && IP -o link && pid=$(PODLET inspect web | tr -d ' ,\"' | \
         sed -n 's/^pid://p' | tail -n1) && echo inside && nsenter -t $pid -n IP addr",
    );
    let said = said.ok();
    let (outside, inside) = said.split_once("inside\n").expect("both sides");
    assert!(!outside.contains("v0@") && !outside.contains("v2@") && outside.contains("v1@"), "{outside}");
    for word in ["eth0@", "mtu 1400", "02:00:00:00:00:07", "192.0.2.7/24", "2001:db8::7/64", "v2@"] {
        assert!(inside.contains(word), "{word}: {inside}");
    }
    assert_eq!(inside.matches(",UP").count(), 3, "loopback and both: {inside}");
    bed.podlet("rm -f web").ok();
    // A start that fails gives everything back.
    for (pointer, value, words) in [
        ("/process/args", json!(["/no/such"]), &["/no/such"][..]),
        ("/linux/netDevices", json!({ "v0": {}, "v9": {} }), &["v9", "no network interface"]),
        ("/linux/netDevices", json!({ "v0": { "name": "lo" } }), &["lo", "one of that name"]),
    ] {
        let mut wrong = config.clone();
        *wrong.pointer_mut(pointer).expect("a property") = value;
        write(bed, &wrong);
        let said = within("PODLET run --rm --bundle DIR; code=$?; IP addr; exit $code");
        assert!(matches!(said.status.code(), Some(125 | 127)), "{said:?}");
        for word in ["v0@", "v2@", "192.0.2.7/24", "2001:db8::7/64", "mtu 1400"] {
            assert!(said.out.contains(word), "{word}: {}", said.out);
        }
        words.iter().for_each(|word| assert!(said.err.contains(word), "{word}: {}", said.err));
    }
    // A container that is not in the pod's network cannot have them.
    write(bed, &config);
    bed.podlet("run --rm --share pid --bundle DIR").fails(125, &["v0", "--share"]);
}

fn limits_and_scores_by_the_command(bed: &Bed) {
    let said =
        bed.podlet("run --rm --ulimit nofile=64:128 --ulimit core=0 --oom-score-adj 222 --rootfs ROOT /probe how");
    has(&said.ok(), &["Max open files 64 128 files", "Max core file size 0 0 bytes", "oom_score_adj 222"]);
    for (option, words) in [
        ("--ulimit nofile", &["NAME=SOFT"][..]),
        ("--ulimit nofile=x", &["NAME=SOFT"]),
        ("--ulimit nofile=2:1", &["RLIMIT_NOFILE", "above"]),
        ("--ulimit nope=1", &["RLIMIT_NOPE"]),
        ("--oom-score-adj 1001", &["oom_score_adj", "1000"]),
        ("--oom-score-adj x", &["--oom-score-adj"]),
    ] {
        bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe")).fails(125, words);
    }
    bed.is_clean();
}

fn devices_by_the_command(bed: &Bed) {
    for (option, words) in [
        ("--device /dev/none", &["/dev/none"][..]),
        ("--device DIR", &["not a device", "--volume"]),
        ("--device /dev/null:dev/x", &["rwm"]),
        ("--device /dev/null:/x:r", &["rwm"]),
        ("--device /dev/null:/x:rwm:z", &["SRC:DST"]),
        ("--device /dev/null:/../x", &["device path"]),
    ] {
        bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe")).fails(125, words);
    }
    bed.is_clean();
}

/// Every mutation of a good config is refused with a field and a reason, or
/// runs; nothing panics and nothing is left behind.
fn two_hundred_mutations_of_a_config(bed: &Bed) {
    mutations_of(bed, |_| (), |bed| bed.podlet("run --rm --bundle DIR"));
}

/// Every mutation of a good config is refused with a field and a reason, or runs,
/// by `run`, which runs the bundle in the test's directory.
pub fn mutations_of(bed: &Bed, adapt: impl Fn(&mut Value), run: impl Fn(&Bed) -> Said) {
    let mut good = mutations::good("/probe");
    adapt(&mut good);
    write(bed, &good);
    run(bed).code(0);
    let (mut ran, mut refused) = (0, 0);
    for (what, bytes) in mutations::of(&good) {
        fs::write(bed.dir.join("config.json"), bytes).expect("config.json");
        println!("-- {what}");
        let said = run(bed);
        match said.status.code() {
            Some(0) => ran += 1,
            // The probe's own, which got odd words.
            Some(98 | 255) if what.starts_with("/process/args") => ran += 1,
            // Of podlet, and of podlet-oci.
            Some(125..=127 | 1) => {
                refused += 1;
                let first = said.err.lines().next().unwrap_or_default();
                assert!(first.contains(": ") && first.len() < 2000, "{what}: no field and reason in {first:?}");
            }
            code => panic!("{what}: ended with {code:?}: {}", said.err),
        }
        bed.is_clean();
    }
    println!("{ran} ran, {refused} were refused");
    assert!(ran + refused >= 200 && refused >= 150 && ran >= 10, "{ran} ran, {refused} were refused");
}

#[path = "../../../src/mutations.rs"]
mod mutations;
