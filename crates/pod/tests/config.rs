//! `config.json`, read: what is honoured arrives, everything else is refused
//! by its name.

use std::path::Path;

use pod::config::{Config, Hooks, NamespaceKind, PodHints, parse};
use pod::idmap::IdMap;
use pod::seccomp::Seccomp;
use pod::spec::{ContainerSpec, DeviceKind, IoClass, IoPriority, MountKind, NamespaceMode, Personality, User};
use pod::{Error, Namespace, PodOptions, Root, WindowSize};
use serde_json::{Value, json};

const PLAIN: &str = include_str!("../../../fixtures/bundles/plain/config.json");

fn read(config: &Value) -> Result<(ContainerSpec, PodHints), Error> {
    parse("c", Path::new("/bundle"), config.to_string().as_bytes())?.for_pod()
}

/// The plain config with `value` at `pointer` (RFC 6901); what leads there is
/// made.
fn with(pointer: &str, value: Value) -> Value {
    let mut config: Value = serde_json::from_str(PLAIN).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut config;
    for part in parent.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => {
                if at.get(part).is_none() {
                    at[part] = json!({});
                }
                &mut at[part]
            }
        };
    }
    match name.parse::<usize>() {
        Ok(index) if index == at.as_array().map_or(0, Vec::len) => at.as_array_mut().unwrap().push(value),
        Ok(index) => at[index] = value,
        Err(_) => at[name] = value,
    }
    config
}

/// Field and value of the refusal.
fn refusal(config: &Value) -> (String, String) {
    match read(config) {
        Err(Error::Invalid { field, value, reason, .. }) => {
            assert!(!reason.is_empty());
            (field, value)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_honoured_arrives() {
    let (container, hints) = parse("c", Path::new("/bundle"), PLAIN.as_bytes()).unwrap().for_pod().unwrap();
    assert_eq!(container.root, Root::Dir("/bundle/rootfs".into()));
    assert!(container.read_only && container.process.no_new_privileges);
    assert_eq!(container.process.args, ["sh", "-c", "true"]);
    assert_eq!(container.process.env, ["PATH=/usr/bin:/bin", "TERM=xterm"]);
    assert_eq!(container.process.user, User::Ids { uid: 1000, gid: 1001, groups: vec![5, 6] });
    assert_eq!(container.process.umask, 0o77);
    let sets = container.process.capabilities;
    let bits = [sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient].map(|set| set.bits());
    assert_eq!(bits, [1 << 5 | 1 << 10, 1 << 5, 1 << 5, 0, 0]);
    assert_eq!((container.process.rlimits[0].soft, container.process.rlimits[0].hard), (512, 1024));
    assert_eq!(container.mounts.len(), 8);
    let data = &container.mounts[7];
    assert_eq!(data.kind, MountKind::Bind { source: "/srv/data".into(), recursive: true });
    assert_eq!((data.flags.bits(), data.data.as_str()), (libc::MS_RDONLY, ""));
    assert_eq!(container.mounts[1].data, "mode=755,size=65536k");
    assert_eq!(container.masked_paths.len(), 2);
    assert_eq!(
        (container.net, container.pid, container.cgroup),
        (NamespaceMode::Pod, NamespaceMode::Pod, NamespaceMode::Pod)
    );
    assert_eq!(container.hostname.as_deref(), Some("plain"));
    let four = [Namespace::Net, Namespace::Pid, Namespace::Ipc, Namespace::Uts];
    assert_eq!(hints.share, four.into());
}

#[test]
fn the_filter_is_the_profiles_and_none_without() {
    let container = parse("c", Path::new("/bundle"), PLAIN.as_bytes()).unwrap().container;
    assert_eq!(container.seccomp, Seccomp::Unconfined);
    assert_eq!(container.filter(&PodOptions::new("p")).unwrap(), None);
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390X",
            "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_SHEB"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [
            { "names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                { "index": 1, "value": 7, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ" },
                { "index": 2, "value": 7, "op": "SCMP_CMP_NE" }] },
            { "names": ["kill"], "action": "SCMP_ACT_KILL_THREAD" },
            { "names": ["tkill"], "action": "SCMP_ACT_KILL_PROCESS" },
        ],
    });
    let (container, _) = read(&with("/linux/seccomp", seccomp)).unwrap();
    let Seccomp::Profile(profile) = &container.seccomp else { panic!("{:?}", container.seccomp) };
    assert_eq!((profile.default_errno_ret, profile.syscalls.as_ref().map(Vec::len)), (Some(38), Some(4)));
    assert_eq!(container.filter(&PodOptions::new("p")).unwrap().map(|filter| filter.flags), Some(0b111));
    let listens = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x" });
    let (container, _) = read(&with("/linux/seccomp", listens)).unwrap();
    assert!(
        matches!(container.filter(&PodOptions::new("p")), Err(Error::Invalid { field, .. }) if field == "seccomp.listenerPath")
    );
}

#[test]
fn a_namespace_that_is_not_listed_is_the_machines() {
    let kinds = |kinds: &[&str]| {
        let list: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        with("/linux/namespaces", list.into())
    };
    let (container, hints) = read(&kinds(&["pid", "mount", "uts"])).unwrap();
    assert_eq!(
        (container.net, container.ipc, container.cgroup),
        (NamespaceMode::Host, NamespaceMode::Host, NamespaceMode::Host)
    );
    assert_eq!(hints.share, [Namespace::Pid, Namespace::Uts].into());
    for (list, named) in
        [(&["mount", "uts"][..], "pid"), (&["pid", "uts"], "mount"), (&["pid", "mount", "uts", "pid"], "pid")]
    {
        assert_eq!(refusal(&kinds(list)), ("linux.namespaces".into(), named.into()));
    }
    assert_eq!(refusal(&kinds(&["pid", "mount"])), ("hostname".into(), "plain".into()));
}

#[test]
fn namespaces_arrive_with_their_paths_maps_and_offsets() {
    let all = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user", "time"];
    let mut list: Vec<_> = all.iter().map(|kind| json!({ "type": kind })).collect();
    list[1] = json!({ "type": "network", "path": "/run/netns/a" });
    let mut config = with("/linux/namespaces", list.into());
    config["linux"]["uidMappings"] = json!([
        { "containerID": 0, "hostID": 1000, "size": 1 },
        { "containerID": 1, "hostID": 100000, "size": 65536 },
    ]);
    config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": -7 }, "boottime": { "secs": 8, "nanosecs": 999_999_999 } });
    let config = parse("c", Path::new("/bundle"), config.to_string().as_bytes()).unwrap();
    let kinds: Vec<_> = config.namespaces.iter().map(|entry| entry.kind.name()).collect();
    assert_eq!(kinds, all);
    assert_eq!(config.namespace(NamespaceKind::Network).unwrap().path.as_deref(), Some(Path::new("/run/netns/a")));
    assert_eq!(config.namespace(NamespaceKind::User).unwrap().path, None);
    assert_eq!(config.uid_maps[1], IdMap { inside: 1, outside: 100_000, count: 65536 });
    assert_eq!(config.gid_maps.len(), 1);
    assert_eq!(config.time_offsets.text(), "monotonic -7 0\nboottime 8 999999999\n");
    assert_eq!(config.bundle, Path::new("/bundle"));
    // A pod has no namespace by path.
    match config.clone().for_pod() {
        Err(Error::Invalid { field, value, reason, .. }) => {
            assert_eq!((field.as_str(), value.as_str()), ("linux.namespaces[].path", "/run/netns/a"));
            assert!(reason.contains("podlet-oci"));
        }
        other => panic!("{other:?}"),
    }
    let mut config = config;
    config.namespaces[1].path = None;
    let (_, hints) = config.for_pod().unwrap();
    assert!(hints.share.contains(&Namespace::User) && hints.share.contains(&Namespace::Time));
    assert_eq!((hints.uid_maps.len(), hints.time_offsets.boottime), (2, 8));
    assert_eq!(hints.beyond_a_pod(), Some("linux.namespaces user"));
}

#[test]
fn the_process_arrives() {
    let mut config = with("/process/oomScoreAdj", json!(-17));
    config["process"]["scheduler"] = json!({
        "policy": "SCHED_DEADLINE", "runtime": 10_000, "deadline": 20_000, "period": 30_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
    });
    config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 3 });
    config["process"]["execCPUAffinity"] = json!({ "initial": "0-1", "final": "1" });
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({ "height": 24, "width": 80 });
    config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel/sem": "1 2 3 4" });
    config["linux"]["cgroupsPath"] = json!("user.slice:podman:c1");
    config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 5, "gid": 6 },
        { "path": "/pipe", "type": "p" },
    ]);
    config["domainname"] = json!("example.org");
    config["linux"]["netDevices"] = json!({ "eth1": { "name": "inside" }, "eth2": {} });
    config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/a", "args": ["a", "b"], "env": ["C=d"], "timeout": 5 }],
        "poststop": [{ "path": "/bin/z" }],
    });
    let config = parse("c", Path::new("/bundle"), config.to_string().as_bytes()).unwrap();
    let container = &config.container;
    assert_eq!(container.process.oom_score_adj, Some(-17));
    let scheduler = container.process.scheduler.as_ref().unwrap();
    assert_eq!((scheduler.policy.as_str(), scheduler.runtime, scheduler.period), ("SCHED_DEADLINE", 10_000, 30_000));
    assert_eq!(scheduler.flags.len(), 2);
    assert_eq!(container.process.io_priority.unwrap(), IoPriority { class: IoClass::Idle, priority: 3 });
    assert_eq!(container.process.exec_cpu_affinity.initial.as_deref(), Some("0-1"));
    assert_eq!(container.process.exec_cpu_affinity.last.as_deref(), Some("1"));
    assert_eq!(container.personality, Some(Personality::Linux32));
    assert_eq!(container.memory_policy.as_ref().unwrap().mode, "MPOL_BIND");
    assert_eq!(container.sysctl["kernel/sem"], "1 2 3 4");
    assert_eq!(container.domainname.as_deref(), Some("example.org"));
    assert_eq!((container.net_devices["eth1"].as_str(), container.net_devices["eth2"].as_str()), ("inside", "eth2"));
    let fuse = &container.devices[0];
    assert_eq!((fuse.kind, fuse.major, fuse.minor, fuse.mode), (DeviceKind::Char, 10, 229, Some(0o666)));
    assert_eq!((fuse.uid, fuse.gid, container.devices[1].kind), (Some(5), Some(6), DeviceKind::Fifo));
    assert_eq!((config.terminal, config.console_size), (true, Some(WindowSize { rows: 24, columns: 80 })));
    assert_eq!(config.cgroups_path.as_deref(), Some(Path::new("user.slice:podman:c1")));
    assert_eq!(config.annotations["org.example"], "kept");
    let hook = &config.hooks.create_runtime[0];
    assert_eq!(
        (hook.args.len(), hook.env.as_ref().unwrap()[0].as_str(), hook.timeout.unwrap().as_secs()),
        (2, "C=d", 5)
    );
    assert_eq!(config.hooks.poststop[0].timeout, None);
    let kept: Hooks = serde_json::from_value(serde_json::to_value(&config.hooks).unwrap()).unwrap();
    assert_eq!(kept, config.hooks);
    let kept: ContainerSpec = serde_json::from_value(serde_json::to_value(container).unwrap()).unwrap();
    assert_eq!(kept, *container);
    assert_eq!(config.version, "1.3.0");
}

/// As the specification has it, for files that are shorter.
#[test]
fn what_may_be_left_out_may_be_left_out() {
    let config = json!({
        "ociVersion": "1.0.2-dev+x",
        "root": { "path": "/abs" },
        "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["x"],
                     "consoleSize": { "height": 99999, "width": 1 } },
    });
    let config = parse("c", Path::new("/bundle"), config.to_string().as_bytes()).unwrap();
    assert!(config.namespaces.is_empty() && config.hooks.is_empty() && config.container.mounts.is_empty());
    assert_eq!(config.container.root, Root::Dir("/abs".into()));
    assert_eq!((config.terminal, config.console_size), (false, None));
    assert_eq!(config.container.process.umask, 0o022);
}

/// The specification wants a warning and no failure; a pod's container is
/// refused.
#[test]
fn a_capability_that_does_not_exist_is_told() {
    let config = with("/process/capabilities/bounding", json!(["CAP_KILL", "CAP_NOPE", "kill"]));
    assert_eq!(refusal(&config), ("process.capabilities".into(), "CAP_NOPE".into()));
    let config = parse("c", Path::new("/bundle"), config.to_string().as_bytes()).unwrap();
    assert_eq!(left_out(&config), [("process.capabilities", "CAP_NOPE"), ("process.capabilities", "kill")]);
    assert_eq!(config.container.process.capabilities.bounding.bits(), 1 << 5);
}

/// mount(2) takes what it does not apply to a bind, and the specification
/// wants it passed on.
#[test]
fn options_that_a_bind_cannot_have_are_told() {
    let bind = json!({
        "destination": "/b", "type": "bind", "source": "/",
        "options": ["rbind", "mode=755", "sync", "ro", "lazytime", "nosuch"],
    });
    let config = with("/mounts", json!([bind]));
    let options = "mode=755,sync,lazytime,nosuch";
    assert_eq!(refusal(&config), ("mounts[0].options".into(), options.into()));
    let config = parse("c", Path::new("/bundle"), config.to_string().as_bytes()).unwrap();
    assert_eq!(left_out(&config), [("mounts[0].options", options)]);
    let mount = &config.container.mounts[0];
    assert_eq!((mount.flags.bits(), mount.data.as_str()), (libc::MS_RDONLY, ""));
}

#[test]
fn one_domain_name() {
    let mut config = with("/domainname", json!("a.org"));
    for (name, is_one) in [("a.org", true), ("b.org", false)] {
        config["linux"]["sysctl"] = json!({ "kernel.domainname": name });
        let read = parse("c", Path::new("/bundle"), config.to_string().as_bytes());
        match is_one {
            true => drop(read.unwrap()),
            false => assert_eq!(refusal(&config), ("linux.sysctl.kernel.domainname".into(), "b.org".into())),
        }
    }
}

fn left_out(config: &Config) -> Vec<(&str, &str)> {
    config.left_out.iter().map(|left_out| (left_out.field.as_str(), left_out.value.as_str())).collect()
}

#[test]
fn what_is_not_honoured_is_refused_by_its_name() {
    let hook = json!([{ "path": "/bin/true" }]);
    let map = |inside: u32, outside: u32, size: u64| json!({ "containerID": inside, "hostID": outside, "size": size });
    for (pointer, value, field) in [
        ("/process/terminal", json!(true), "process.terminal"),
        ("/process/selinuxLabel", json!("l"), "process.selinuxLabel"),
        ("/process/commandLine", json!("x"), "process.commandLine"),
        ("/process/user/username", json!("x"), "process.user.username"),
        ("/hooks/prestart", hook.clone(), "hooks.prestart"),
        ("/hooks/poststop", hook, "hooks.poststop"),
        ("/hooks/poststart", json!([{ "path": "bin/true" }]), "hooks.poststart[0].path"),
        ("/hooks/poststart", json!([{ "args": ["a"] }]), "hooks.poststart[].path"),
        ("/hooks/poststart", json!([{ "path": "/x", "timeout": 0 }]), "hooks.poststart[0].timeout"),
        ("/hooks/poststart", json!([{ "path": "/x", "timeout": 9e17 as u64 }]), "hooks.poststart[0].timeout"),
        ("/linux/cgroupsPath", json!("/x"), "linux.cgroupsPath"),
        ("/linux/resources", json!({ "memory": { "swappiness": 5 } }), "linux.resources.memory.swappiness"),
        ("/linux/sysctl", json!({ "vm.swappiness": "1" }), "sysctl"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/mountLabel", json!("l"), "linux.mountLabel"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "linux.intelRdt.closID"),
        ("/linux/personality", json!({ "domain": "LINUX", "flags": ["X"] }), "linux.personality.flags[]"),
        ("/linux/personality", json!({}), "linux.personality.domain"),
        ("/linux/uidMappings", json!([map(0, 5, 1)]), "linux.uidMappings"),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 1 } }), "linux.timeOffsets.monotonic"),
        ("/linux/timeOffsets", json!({ "realtime": { "secs": 1 } }), "linux.timeOffsets.realtime"),
        ("/linux/namespaces/0/path", json!("/proc/1/ns/pid"), "linux.namespaces[].path"),
        ("/linux/namespaces/0/path", json!("ns/pid"), "linux.namespaces[].path"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "a", "major": 1, "minor": 1 }]), "linux.devices[0].type"),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "c", "major": -1, "minor": 1 }]),
            "linux.devices[0].major",
        ),
        ("/linux/devices", json!([{ "type": "c" }]), "linux.devices[].path"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "b", "minor": 1 }]), "linux.devices[0].major"),
        ("/mounts/0/destination", json!(null), "mounts[].destination"),
        ("/mounts/7/options", json!(["bind", "mand"]), "mounts[7].options"),
        ("/mounts/0/type", json!("none"), "mounts[0].type"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.3"), "ociVersion"),
        ("/ociVersion", json!("1.03.0"), "ociVersion"),
        ("/ociVersion", json!("1.3.0 "), "ociVersion"),
        ("/ociVersion", json!(null), "ociVersion"),
        ("/root", json!({}), "root.path"),
        ("/root", json!(null), "root"),
        ("/root", json!([]), "root.path"),
        ("/process/cwd", json!("srv"), "process.cwd"),
        ("/process/cwd", json!(null), "process.cwd"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 256 }), "process.ioPriority.priority"),
        ("/process/scheduler", json!({ "nice": 1 }), "process.scheduler.policy"),
        ("/process/scheduler", json!([]), "process.scheduler"),
        ("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 1e10 as u64 }), "process.scheduler.nice"),
        ("/process/rlimits/1", json!(null), "process.rlimits[1]"),
        ("/process/capabilities", json!(["CAP_KILL"]), "process.capabilities"),
        ("/windows", json!({ "layerFolders": ["x"] }), "windows.layerFolders[]"),
        ("/freebsd", json!({ "jail": { "vnet": "new" } }), "freebsd.jail.vnet"),
        ("/vm", json!({ "kernel": { "path": "/k" } }), "vm.kernel.path"),
    ] {
        assert_eq!(refusal(&with(pointer, value.clone())).0, field, "{pointer} = {value}");
    }
    // As good as none.
    for pointer in ["/process/selinuxLabel", "/process/commandLine", "/process/user/username", "/linux/mountLabel"] {
        read(&with(pointer, json!(""))).unwrap();
    }
    let node = json!({ "path": "/dev/null2", "type": "c", "major": 1, "minor": 3 });
    assert_eq!(read(&with("/linux/devices", json!([node, node]))).unwrap().0.devices.len(), 1);
    for (name, root) in [("maskedPaths", "//"), ("readonlyPaths", "/.")] {
        let (mut container, _) = read(&with(&format!("/linux/{name}/0"), json!(root))).unwrap();
        (container.root, container.mounts) = (Root::Host, Vec::new());
        let checked = container.check();
        assert!(matches!(&checked, Err(Error::Invalid { field, .. }) if field == name), "{name}: {checked:?}");
    }
    let twice = json!({ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 });
    assert_eq!(refusal(&with("/process/rlimits", json!([twice, twice]))).0, "process.rlimits");
    // Host and domain name, kernel parameters: never the machine's.
    for (pointer, value, field) in [
        ("/domainname", json!("d"), "domainname"),
        ("/linux/netDevices", json!({ "eth9": {} }), "linux.netDevices"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "linux.sysctl"),
        ("/linux/sysctl", json!({ "kernel.sem": "1" }), "linux.sysctl"),
    ] {
        let mut config = with(pointer, value);
        config["hostname"] = json!(null);
        config["linux"]["namespaces"] = json!([{ "type": "pid" }, { "type": "mount" }]);
        assert_eq!(refusal(&config).0, field, "{pointer}");
    }
    // Maps that cannot be.
    for maps in [
        json!([]),
        json!([map(0, 0, 0)]),
        json!([map(0, 0, 4294967295), map(4294967294, 9, 1)]),
        json!([map(0, 10, 5), map(5, 14, 1)]),
        json!([map(4294967295, 0, 1)]),
    ] {
        let mut config = with("/linux/namespaces/6", json!(null));
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list[6] = json!({ "type": "user" });
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = json!([map(0, 0, 1)]);
        assert_eq!(refusal(&config).0, "linux.uidMappings", "{maps}");
    }
}

#[test]
fn what_a_container_cannot_have_is_refused() {
    let good = ContainerSpec::new("c", Root::Host);
    good.check().unwrap();
    let change = |change: Value| {
        let mut json = serde_json::to_value(&good).unwrap();
        for (name, value) in change.as_object().unwrap() {
            json[name] = value.clone();
        }
        let container: ContainerSpec = serde_json::from_value(json).unwrap();
        container.check()
    };
    let scheduler = |policy: &str, nice: i32, priority: i32, flags: &[&str], times: [u64; 3]| {
        json!({ "scheduler": { "policy": policy, "nice": nice, "priority": priority, "flags": flags,
            "runtime": times[0], "deadline": times[1], "period": times[2] } })
    };
    let policy = |mode: &str, nodes: &str, flags: &[&str]| json!({ "memory_policy": { "mode": mode, "nodes": nodes, "flags": flags } });
    let device = |path: &str, major: u32, minor: u32, mode: u32| json!({ "path": path, "kind": "char", "major": major, "minor": minor, "mode": mode, "uid": null, "gid": null });
    for bad in [
        scheduler("SCHED_ISO", 0, 0, &[], [0; 3]),
        scheduler("SCHED_OTHER", 20, 0, &[], [0; 3]),
        scheduler("SCHED_OTHER", 0, 1, &[], [0; 3]),
        scheduler("SCHED_FIFO", 0, 0, &[], [0; 3]),
        scheduler("SCHED_FIFO", 0, 100, &[], [0; 3]),
        scheduler("SCHED_FIFO", 0, -1, &[], [0; 3]),
        scheduler("SCHED_FIFO", 0, 1, &[], [1, 0, 0]),
        scheduler("SCHED_DEADLINE", 0, 0, &[], [0; 3]),
        scheduler("SCHED_DEADLINE", 0, 0, &[], [20_000, 10_000, 30_000]),
        scheduler("SCHED_OTHER", 0, 0, &["SCHED_FLAG_UTIL_CLAMP_MIN"], [0; 3]),
        scheduler("SCHED_OTHER", 0, 0, &["SCHED_FLAG_RECLAIM", "SCHED_FLAG_RECLAIM"], [0; 3]),
        policy("MPOL_NOPE", "", &[]),
        policy("MPOL_BIND", "", &[]),
        policy("MPOL_DEFAULT", "0", &[]),
        policy("MPOL_BIND", "0-", &[]),
        policy("MPOL_BIND", "1024", &[]),
        policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
        policy("MPOL_PREFERRED", "0", &["MPOL_F_NUMA_BALANCING"]),
        json!({ "io_priority": { "class": "be", "priority": 8 } }),
        json!({ "oom_score_adj": 1001 }),
        json!({ "oom_score_adj": -1001 }),
        json!({ "exec_cpu_affinity": { "initial": "x", "final": null } }),
        json!({ "exec_cpu_affinity": { "initial": null, "final": "9-2" } }),
        json!({ "sysctl": { "net.a": "1\n2" } }),
        json!({ "sysctl": { "net.a.b": "1", "net/a/b": "1" } }),
        json!({ "domainname": "a b" }),
        json!({ "devices": [device("dev/x", 1, 1, 0)] }),
        json!({ "devices": [device("/dev/../x", 1, 1, 0)] }),
        json!({ "devices": [device("/dev/x", 4096, 1, 0)] }),
        json!({ "devices": [device("/dev/x", 1, 1 << 20, 0)] }),
        json!({ "devices": [device("/dev/x", 1, 1, 0o10000)] }),
        json!({ "devices": [device("/dev/x", 1, 1, 0), device("/dev/x", 1, 3, 0)] }),
        json!({ "rlimits": [{ "name": "RLIMIT_CPU", "soft": 2, "hard": 1 }] }),
        json!({ "net_devices": { "a/b": "x" } }),
        json!({ "net_devices": { "a": "x", "b": "x" } }),
        json!({ "apparmor_profile": "a\nb" }),
    ] {
        match change(bad.clone()) {
            Err(Error::Invalid { field, reason, .. }) => assert!(!field.is_empty() && !reason.is_empty(), "{bad}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
    for fine in [
        scheduler("SCHED_RR", 0, 99, &["SCHED_RESET_ON_FORK"], [0; 3]),
        scheduler("SCHED_BATCH", -20, 0, &[], [0; 3]),
        scheduler("SCHED_DEADLINE", 0, 0, &["SCHED_FLAG_DL_OVERRUN"], [1024, 2048, 0]),
        policy("MPOL_LOCAL", "", &[]),
        policy("MPOL_PREFERRED", "", &[]),
        policy("MPOL_BIND", "0-1,5", &["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"]),
        json!({ "oom_score_adj": -1000, "domainname": "example.org", "sysctl": { "net.a": "" } }),
        json!({ "devices": [device("/dev/x", 4095, 1048575, 0o7777)] }),
    ] {
        change(fine.clone()).unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
}

/// What an older podlet wrote down is still read.
#[test]
fn records_without_the_newer_fields_are_read() {
    let mut container = serde_json::to_value(ContainerSpec::new("c", Root::Host)).unwrap();
    let newer = [
        "domainname",
        "sysctl",
        "devices",
        "oom_score_adj",
        "scheduler",
        "io_priority",
        "personality",
        "exec_cpu_affinity",
        "memory_policy",
        "apparmor_profile",
        "net_devices",
    ];
    newer.iter().for_each(|name| assert!(container.as_object_mut().unwrap().remove(*name).is_some(), "{name}"));
    let container: ContainerSpec = serde_json::from_value(container).unwrap();
    assert_eq!(container, ContainerSpec::new("c", Root::Host));
    let mut options = serde_json::to_value(PodOptions::new("p")).unwrap();
    for name in ["domainname", "sysctl"] {
        assert!(options.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    for name in ["monotonic_nanos", "boottime_nanos"] {
        assert!(options["time_offsets"].as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    assert_eq!(serde_json::from_value::<PodOptions>(options).unwrap(), PodOptions::new("p"));
}

/// What is honoured only where the kernel can.
#[test]
fn an_apparmor_profile_needs_a_kernel_with_apparmor() {
    let mut container = ContainerSpec::new("c", Root::Host);
    container.process.apparmor_profile = Some("crun-default".into());
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|said| said.starts_with(b"Y"));
    match container.check() {
        Ok(()) => assert!(enabled),
        Err(error) => assert!(!enabled && error.to_string().contains("without AppArmor"), "{error}"),
    }
}

#[test]
fn a_property_that_stands_there_twice_is_refused() {
    for text in [r#"{"ociVersion":"1.3.0","ociVersion":"1.3.0"}"#, r#"{"x":{"a":[{"b":1,"b":2}]}}"#] {
        let refused = parse("c", Path::new("/"), text.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("twice"), "{refused}");
    }
}

#[test]
fn what_the_specification_does_not_know_is_ignored() {
    let (container, _) = read(&with("/vendor/anything", json!({ "deep": [1, 2] }))).unwrap();
    assert_eq!(container.name, "c");
}

#[test]
fn what_is_malformed_is_refused() {
    for (pointer, value, field) in [
        ("/process/args", json!("sh"), "process.args"),
        ("/process/user/uid", json!(-1), "process.user.uid"),
        ("/process/user/uid", json!(4294967296u64), "process.user.uid"),
        ("/process/cwd", json!(7), "process.cwd"),
        ("/linux/namespaces/0/type", json!("pidd"), "linux.namespaces[0].type"),
        ("/process/rlimits/0/type", json!("RLIMIT_NOPE"), "process.rlimits[0].type"),
    ] {
        assert_eq!(refusal(&with(pointer, value.clone())).0, field, "{pointer} = {value}");
    }
    for text in ["", "{", "[]", "null", "\"x\"", "{\"ociVersion\": \"1.0.2\"}"] {
        assert!(matches!(parse("c", Path::new("/"), text.as_bytes()), Err(Error::Invalid { .. })), "{text}");
    }
    // A file as deep as it is long must not overflow the stack.
    let deep = "[".repeat(100_000);
    assert!(parse("c", Path::new("/"), deep.as_bytes()).is_err());
}

/// The mount that these options make of a bind, or of a tmpfs.
fn mount(kind: &str, options: &[&str]) -> pod::spec::Mount {
    let source = if kind == "bind" { "/srv" } else { "tmpfs" };
    let mount = json!({ "destination": "/m", "type": kind, "source": source, "options": options });
    read(&with("/mounts", json!([mount]))).unwrap().0.mounts.remove(0)
}

#[test]
fn every_option_of_the_specification_is_known() {
    use libc::{
        MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID,
        MS_NOSYMFOLLOW, MS_RDONLY, MS_RELATIME, MS_SILENT, MS_STRICTATIME, MS_SYNCHRONOUS,
    };
    for (set, clear, flag) in [
        ("ro", "rw", MS_RDONLY),
        ("nosuid", "suid", MS_NOSUID),
        ("nodev", "dev", MS_NODEV),
        ("noexec", "exec", MS_NOEXEC),
        ("nosymfollow", "symfollow", MS_NOSYMFOLLOW),
        ("noatime", "atime", MS_NOATIME),
        ("nodiratime", "diratime", MS_NODIRATIME),
        ("relatime", "norelatime", MS_RELATIME),
        ("strictatime", "nostrictatime", MS_STRICTATIME),
    ] {
        let (rset, rclear) = (format!("r{set}"), format!("r{clear}"));
        // Options, then flags, clear, recursive_flags, recursive_clear.
        for (options, expected) in [
            (vec![set], [flag, 0, 0, 0]),
            (vec![clear], [0, flag, 0, 0]),
            (vec![set, clear], [0, flag, 0, 0]),
            (vec![clear, set], [flag, 0, 0, 0]),
            (vec![&rset], [0, 0, flag, 0]),
            (vec![&rclear], [0, 0, 0, flag]),
            (vec![&rset, &rclear], [0, 0, 0, flag]),
            // The recursive one is for the top, too; the plain one for it alone.
            (vec![set, &rclear], [0, 0, 0, flag]),
            (vec![&rclear, set], [flag, 0, 0, flag]),
        ] {
            let mount = mount("bind", &options);
            let found =
                [mount.flags, mount.clear, mount.recursive_flags, mount.recursive_clear].map(|flags| flags.bits());
            assert_eq!(found, expected, "{options:?}");
        }
    }
    for (set, clear, flag) in [
        ("sync", "async", MS_SYNCHRONOUS),
        ("dirsync", "defaults", MS_DIRSYNC),
        ("iversion", "noiversion", MS_I_VERSION),
        ("lazytime", "nolazytime", MS_LAZYTIME),
        ("silent", "loud", MS_SILENT),
    ] {
        assert_eq!(mount("tmpfs", &[set]).flags.bits(), flag, "{set}");
        assert_eq!(mount("tmpfs", &[clear, "nomand"]).flags.bits(), 0, "{clear}");
        assert_eq!(
            mount("tmpfs", &[set, clear]).flags.bits(),
            if clear == "defaults" { flag } else { 0 },
            "{set} {clear}"
        );
        assert_eq!(mount("tmpfs", &[&format!("r{set}")]).data, format!("r{set}"), "has no recursive sister");
    }
    // Of the times of access the last one counts.
    assert_eq!(mount("bind", &["noatime", "strictatime"]).flags.bits(), MS_STRICTATIME);
    for (name, kind) in [
        ("private", libc::MS_PRIVATE),
        ("slave", libc::MS_SLAVE),
        ("shared", libc::MS_SHARED),
        ("unbindable", libc::MS_UNBINDABLE),
    ] {
        let recursive = format!("r{name}");
        assert_eq!(mount("bind", &[name]).propagation.bits(), kind);
        assert_eq!(mount("bind", &["slave", &recursive]).propagation.bits(), kind | libc::MS_REC);
        assert_eq!(read(&with("/linux/rootfsPropagation", json!(name))).unwrap().0.root_propagation.bits(), kind);
    }
}

#[test]
fn kinds_of_mounts() {
    let bind = |recursive| MountKind::Bind { source: "/srv".into(), recursive };
    for (kind, options, expected) in [
        ("bind", &[][..], bind(false)),
        ("none", &["rbind"], bind(true)),
        ("none", &["bind"], bind(false)),
        ("ext4", &["bind"], bind(false)),
        ("bind", &["remount", "ro"], MountKind::Remount { bind: true }),
        ("tmpfs", &["remount", "ro"], MountKind::Remount { bind: false }),
        ("cgroup", &["ro"], MountKind::Cgroup),
        ("ext4", &[], MountKind::Other { fstype: "ext4".into(), source: "/srv".into() }),
    ] {
        let source = json!({ "destination": "/m", "type": kind, "source": "/srv", "options": options });
        let (container, _) = read(&with("/mounts", json!([source]))).unwrap();
        assert_eq!(container.mounts[0].kind, expected, "{kind} {options:?}");
    }
    // What is no option of mounts is the file system's, in order.
    assert_eq!(mount("tmpfs", &["size=1m", "ro", "huge=never", "frob"]).data, "size=1m,huge=never,frob");
    assert!(mount("tmpfs", &["tmpcopyup"]).copy_up);
    // Relative to the root, as old tools mean it.
    let (container, _) = read(&with("/mounts/0/destination", json!("proc"))).unwrap();
    assert_eq!(container.mounts[0].target, Path::new("/proc"));
}

#[test]
fn ids_of_mounts() {
    assert_eq!(mount("bind", &["idmap"]).ids, Some(pod::spec::MountIds::default()));
    assert!(mount("bind", &["idmap", "ridmap"]).ids.unwrap().recursive);
    let maps = json!([{ "containerID": 1, "hostID": 100_000, "size": 7 }]);
    let bind =
        json!({ "destination": "/m", "type": "bind", "source": "/srv", "uidMappings": maps, "gidMappings": maps });
    let (container, _) = read(&with("/mounts", json!([bind]))).unwrap();
    let ids = container.mounts[0].ids.clone().unwrap();
    assert_eq!(ids.uids, [pod::idmap::IdMap { inside: 1, outside: 100_000, count: 7 }]);
    assert_eq!((&ids.gids, ids.recursive), (&ids.uids, false));
}
