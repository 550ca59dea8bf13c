//! Bundles with a config.json, and the machine's own files as an image.

use std::fs;

use serde_json::{Value, json};

use crate::bed::Bed;
use crate::leaks;
use crate::modes::Mode;

crate::tests![
    a_bundle_runs_as_its_config_says,
    a_bundle_without_defaults_gets_none,
    what_a_config_asks_for_in_vain_is_refused_by_name,
    configs_that_are_none,
    the_machines_own_files_copy_on_write,
];

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "hostname": "bundled",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/probe", "status", ",", "env", ",", "cwd", ",", "hostname", ",", "umask", ",", "mounts", ",", "exit", "12"],
            "env": ["A=b"],
            "cwd": "/srv",
            "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] }
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/volume", "type": "bind", "source": "volume", "options": ["rbind", "ro"] }
        ],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        },
        "annotations": { "org.example": "x" }
    })
}

fn write(bed: &Bed, config: &Value) {
    fs::write(bed.dir.join("config.json"), config.to_string()).expect("config.json");
}

fn a_bundle_runs_as_its_config_says(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    write(bed, &config());
    let said = bed.podlet("run --rm --name web --bundle DIR").code(12).out;
    assert!(said.contains("CapEff:\t0000000000000020"), "{said}");
    assert!(said.contains("CapBnd:\t0000000000000020"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    for line in ["A=b", "/srv", "bundled", "22"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(said.lines().any(|line| line.contains(" /volume ro,")), "{said}");
    // What the command adds, and another program.
    let said = bed.podlet("run --rm -e C=d --bundle DIR /probe env").ok();
    assert!(said.contains("A=b\n") && said.contains("C=d\n"), "{said}");
    bed.podlet("create web --hostname bundled").ok();
    bed.podlet("run --rm --pod web --bundle DIR").code(12);
}

fn a_bundle_without_defaults_gets_none(bed: &Bed) {
    let mut config = config();
    config["mounts"] = json!([{ "destination": "/proc", "type": "proc" }]);
    config["process"]["args"] = json!(["/probe", "mounts", ",", "status"]);
    config["process"].as_object_mut().expect("an object").remove("capabilities");
    config["process"].as_object_mut().expect("an object").remove("noNewPrivileges");
    for list in ["maskedPaths", "readonlyPaths"] {
        config["linux"].as_object_mut().expect("an object").remove(list);
    }
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    let mounts = said.lines().filter(|line| line.contains(" - "));
    let targets: Vec<_> = mounts.filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(targets, ["/", "/proc", "/proc/1"], "and pause's own directory there: {said}");
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    assert!(said.contains("NoNewPrivs:\t0") && said.contains("Seccomp:\t0"), "{said}");
    // With a filter it still has no capability.
    config["process"]["args"] = json!(["/probe", "status", ",", "call", "135", "0xffffffff"]);
    let rule = json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 });
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t0", "Seccomp:\t2", "call 135: errno 99"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

fn what_a_config_asks_for_in_vain_is_refused_by_name(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    let cases = [
        ("/process/terminal", json!(true), "process.terminal"),
        ("/process/apparmorProfile", json!("x"), "apparmorProfile"),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel"),
        ("/hooks", json!({"prestart": [{"path": "/bin/true"}]}), "hooks.prestart"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}), "seccomp.listenerPath"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "seccomp.defaultAction"),
        ("/linux/resources", json!({"memory": {"swappiness": 5}}), "linux.resources.memory.swappiness"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "x"}), "kernel.core_pattern"),
        ("/linux/netDevices", json!({"eth9": {}}), "eth9"),
        ("/linux/cgroupsPath", json!("/x"), "linux.cgroupsPath"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings"),
        ("/linux/rootfsPropagation", json!("frob"), "linux.rootfsPropagation"),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/domainname", json!("x y"), "domainname"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/mounts/0/type", json!("none"), "mounts[0].type"),
        ("/mounts/1/options", json!(["frob"]), "the mount on /dev"),
        ("/mounts/2/options", json!(["rbind", "mand"]), "mounts[2].options"),
        ("/mounts/2/options", json!(["rbind", "frob"]), "mounts[2].options"),
        ("/mounts/2/options", json!(["rbind", "sync"]), "mounts[2].options"),
        ("/mounts/2/source", json!("gone"), "gone"),
        ("/mounts/0/options", json!(["hidepid=2"]), "pid namespace"),
        ("/linux/readonlyPaths", json!(["/a/../b"]), "readonlyPaths"),
        ("/process/args", json!([]), "args"),
        ("/process/cwd", json!("relative"), "cwd"),
        ("/process/env", json!(["noequals"]), "env"),
        ("/process/user/uid", json!(4294967296u64), "process.user.uid"),
        ("/process/user/uid", json!(-1), "process.user.uid"),
        ("/process/capabilities/bounding", json!(["CAP_FROB"]), "CAP_FROB"),
        ("/process/rlimits", json!([{"type": "RLIMIT_FROB", "soft": 1, "hard": 1}]), "RLIMIT_FROB"),
        ("/linux/namespaces", json!([{"type": "mount"}]), "linux.namespaces"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/proc/1/ns/pid"}), "linux.namespaces[].path"),
        ("/root/path", json!("none"), "rootfs"),
        ("/hostname", json!("bad name"), "hostname"),
    ];
    for (pointer, value, word) in cases {
        let mut config = config();
        let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
        match config.pointer_mut(parent).expect("its parent") {
            Value::Array(list) => list[last.parse::<usize>().expect("an index")] = value,
            parent => parent[last] = value,
        }
        write(bed, &config);
        println!("{pointer}:");
        bed.podlet("run --rm --bundle DIR").fails(125, &[word]);
    }
    bed.is_clean();
}

fn configs_that_are_none(bed: &Bed) {
    let path = bed.dir.join("config.json");
    bed.podlet("run --bundle DIR/none").fails(125, &["config.json", "none"]);
    bed.podlet("run --bundle DIR").fails(125, &["config.json"]);
    let large = vec![b' '; 5 << 20];
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let texts: [&[u8]; 12] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b"\"x\"",
        b"\xff\xfe{}",
        b"{}",
        b"{\"ociVersion\":1}",
        b"{\"ociVersion\":\"1.0.2\",\"process\":[]}",
        &large,
        &deep,
    ];
    for text in texts {
        fs::write(&path, text).expect("config.json");
        bed.podlet("run --bundle DIR").fails(125, &[]);
    }
    let mut wrong = config();
    wrong["process"]["args"] = json!("a string");
    write(bed, &wrong);
    bed.podlet("run --bundle DIR").fails(125, &["process.args"]);
    let mut wrong = config();
    wrong["mounts"] = json!({});
    write(bed, &wrong);
    bed.podlet("run --bundle DIR").fails(125, &["mounts"]);
    for missing in ["root", "process", "linux", "ociVersion"] {
        let mut config = config();
        config.as_object_mut().expect("an object").remove(missing);
        write(bed, &config);
        bed.podlet("run --bundle DIR").fails(125, &[missing]);
    }
    fs::remove_file(&path).expect("removal");
    fs::create_dir(&path).expect("a directory");
    bed.podlet("run --bundle DIR").fails(125, &["config.json"]);
    bed.is_clean();
}

fn the_machines_own_files_copy_on_write(bed: &Bed) {
    let before = fs::metadata("/etc/hostname").ok().map(|meta| meta.len());
    bed.podlet("create web").ok();
    let script = format!(
        "echo changed > /etc/podlet-test-$$ && echo root writable; echo x > /tmp/podlet-test-$$ && echo tmp writable; \
         cat /etc/os-release > /dev/null && echo readable; ls -A {0} 2>/dev/null | wc -l; echo $HOME",
        bed.state().display()
    );
    let args = ["run", "--pod", "web", "--name", "a", "host", "sh", "-c", &script];
    let said = bed.podlet_args(&args).ok();
    assert!(said.contains("readable\n"), "{said}");
    assert!(said.contains("tmp writable\n"), "{said}");
    assert_eq!(said.contains("root writable\n"), bed.mode == Mode::Root, "{said}");
    assert!(said.contains("\n0\n"), "podlet's own state is hidden: {said}");
    assert!(said.contains("/root\n"), "{said}");
    let touched: Vec<_> = fs::read_dir("/etc").expect("/etc").flatten().map(|entry| entry.file_name()).collect();
    assert!(!touched.iter().any(|name| name.to_string_lossy().starts_with("podlet-test-")));
    assert_eq!(fs::metadata("/etc/hostname").ok().map(|meta| meta.len()), before);
    if bed.mode == Mode::Root {
        // Its changes are its own and stay until it is removed.
        let upper = bed.state().join("web/containers/a/upper/etc");
        assert!(leaks::tree(&upper).iter().any(|path| path.contains("podlet-test-")));
        let said = bed.podlet("run --pod web --rm host ls /etc").ok();
        assert!(!said.contains("podlet-test-"), "another container's: {said}");
    }
    // The descriptor of the machine's root does not leak.
    let said = bed.podlet("run --pod web --rm host sh -c exit").ok();
    assert_eq!(said, "");
    assert_eq!(bed.podlet_args(&["run", "--pod", "web", "--rm", "host", "sh", "-c", "exit 44"]).code(44).err, "");
    bed.podlet("run --pod web --rm host no-such-program").fails(127, &["no-such-program"]);
}
