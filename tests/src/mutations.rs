//! A good config.json, and more than two hundred that are not quite: the same
//! ones every time.
//!
//! Used by the library's tests, which only parse and plan, and by the suite,
//! which runs them. No string of theirs names anything of this machine: one
//! that is taken for a path leads nowhere.

use serde_json::{Value, json};

/// Uses every property that a config of any user can have, in the directory of the
/// bundle.
pub fn good(program: &str) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "good",
        "domainname": "example.org",
        "process": {
            "terminal": false,
            "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 0, "gid": 0, "umask": 63 },
            "args": [program, "exit", "0"],
            "env": ["PATH=/bin", "A=b"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                "inheritable": [], "ambient": []
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }],
            "noNewPrivileges": true,
            "oomScoreAdj": 500,
            "scheduler": { "policy": "SCHED_BATCH", "nice": 5, "priority": 0, "flags": [] },
            "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 5 },
            "execCPUAffinity": { "initial": "0", "final": "0-1" }
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            { "destination": "/tmp", "type": "bind", "source": "rootfs/srv", "options": ["rbind", "ro"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }
            ],
            "sysctl": { "net.ipv4.ip_default_ttl": "70" },
            "personality": { "domain": "LINUX" },
            "memoryPolicy": { "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] },
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "rootfsPropagation": "private"
        },
        "annotations": { "org.example": "kept" }
    })
}

/// What is wrong, and the file.
pub fn of(good: &Value) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: String, config: &Value| all.push((what, config.to_string().into_bytes()));
    let mut pointers = Vec::new();
    find(good, String::new(), &mut pointers);
    for (i, pointer) in pointers.iter().enumerate() {
        add(format!("{pointer} missing"), &without(good, pointer));
        let value = good.pointer(pointer).expect("a pointer");
        add(format!("{pointer} of another type"), &with(good, pointer, other_type(value)));
        match value {
            Value::Number(_) => {
                let number = out_of_range(i);
                add(format!("{pointer} is {number}"), &with(good, pointer, number));
            }
            Value::String(_) => {
                let text = hostile(i);
                add(
                    format!("{pointer} is {:?}", text.chars().take(20).collect::<String>()),
                    &with(good, pointer, text.into()),
                );
            }
            _ => {}
        }
    }
    for (pointer, value) in particular() {
        let shown = value.to_string().chars().take(60).collect::<String>();
        add(format!("{pointer} is {shown}"), &with(good, pointer, value));
    }
    all.extend(no_json(good));
    all
}

/// JSON pointers (RFC 6901) of everything below.
fn find(value: &Value, at: String, pointers: &mut Vec<String>) {
    let mut below = |name: String, value: &Value| {
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        pointers.push(at.clone());
        find(value, at, pointers);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name.clone(), value)),
        Value::Array(elements) => elements.iter().enumerate().for_each(|(i, value)| below(i.to_string(), value)),
        _ => {}
    }
}

fn parent_of<'a, 'b>(config: &'a mut Value, pointer: &'b str) -> (&'a mut Value, &'b str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let mut at = config;
    for part in parent.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part],
        };
    }
    (at, name)
}

fn without(good: &Value, pointer: &str) -> Value {
    let mut config = good.clone();
    match parent_of(&mut config, pointer) {
        (Value::Object(fields), name) => drop(fields.remove(name)),
        (Value::Array(elements), index) => drop(elements.remove(index.parse().expect("an index"))),
        _ => {}
    }
    config
}

fn with(good: &Value, pointer: &str, value: Value) -> Value {
    let mut config = good.clone();
    match parent_of(&mut config, pointer) {
        (Value::Array(elements), index) => elements[index.parse::<usize>().expect("an index")] = value,
        (parent, name) => parent[name] = value,
    }
    config
}

fn other_type(value: &Value) -> Value {
    match value {
        Value::Null => json!(0),
        Value::Bool(_) => json!("true"),
        Value::Number(number) => json!(number.to_string()),
        Value::String(_) => json!(7),
        Value::Array(_) => json!({ "0": "x" }),
        Value::Object(_) => json!(["x"]),
    }
}

fn out_of_range(i: usize) -> Value {
    let numbers = [json!(-1), json!(4_294_967_296u64), json!(u64::MAX), json!(i64::MIN), json!(0.5), json!(1e300)];
    numbers[i % numbers.len()].clone()
}

fn hostile(i: usize) -> String {
    match i % 12 {
        0 => String::new(),
        1 => "nul\0nul".into(),
        2 => "two\nlines".into(),
        3 => "../../../../no/such".into(),
        4 => "/proc/self/fd/99".into(),
        5 => "%s%n%x".into(),
        6 => "x".repeat(70_000),
        7 => "\u{202e}\u{0}\u{feff}ä".into(),
        8 => "-1".into(),
        9 => "/no/../../such".into(),
        10 => "\x1b[2J\x07".into(),
        _ => "/".repeat(5000) + "no-such",
    }
}

/// What is wrong in its own way: unknown words, things that stand there
/// twice, numbers that fit the type only, far too much of something.
fn particular() -> Vec<(&'static str, Value)> {
    let namespace = |kind: &str| json!([{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": kind }]);
    let limit = |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc" });
    vec![
        ("/ociVersion", json!("0.5.0")),
        ("/ociVersion", json!("2.0.0")),
        ("/ociVersion", json!("1.x.0")),
        ("/ociVersion", json!("1.99999999999999999999.0")),
        ("/root/path", json!("no/such")),
        ("/root/path", json!("rootfs/probe")),
        ("/hostname", json!("a".repeat(65))),
        ("/hostname", json!("a b")),
        ("/domainname", json!("a/b")),
        ("/process/terminal", json!(true)),
        ("/process/cwd", json!("relative")),
        ("/process/cwd", json!("/no/such/directory")),
        ("/process/cwd", json!("/../..")),
        ("/process/args", json!([])),
        ("/process/args", json!([""])),
        ("/process/args", json!(["/no/such/program"])),
        ("/process/args", json!(["/etc/passwd"])),
        ("/process/args/2", json!("0".repeat(3 << 20))),
        ("/process/env", json!(["NOVALUE"])),
        ("/process/env", json!(["=x"])),
        ("/process/env", json!(vec!["A=b"; 50_000])),
        ("/process/user/uid", json!(4_294_967_295u32)),
        ("/process/user/uid", json!(2_000_000_000u32)),
        ("/process/user/gid", json!(4_294_967_295u32)),
        ("/process/user/umask", json!(0o1000)),
        ("/process/user/additionalGids", json!([4_294_967_295u32])),
        ("/process/user/additionalGids", json!(vec![0; 70_000])),
        ("/process/user/username", json!("root")),
        ("/process/commandLine", json!("x")),
        ("/process/capabilities/bounding", json!(["CAP_NOPE"])),
        ("/process/capabilities/bounding", json!(["kill"])),
        ("/process/capabilities/effective", json!(["CAP_SYS_ADMIN"])),
        ("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_KILL"])),
        ("/process/rlimits", json!([limit("RLIMIT_NOPE", 1, 1)])),
        ("/process/rlimits", json!([limit("RLIMIT_NOFILE", 2, 1)])),
        ("/process/rlimits", json!([limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 2, 2)])),
        ("/process/rlimits", json!([limit("RLIMIT_NOFILE", u64::MAX, u64::MAX)])),
        ("/process/oomScoreAdj", json!(1001)),
        ("/process/oomScoreAdj", json!(-1001)),
        ("/process/scheduler/policy", json!("SCHED_NOPE")),
        ("/process/scheduler/policy", json!("SCHED_ISO")),
        ("/process/scheduler/nice", json!(20)),
        ("/process/scheduler/priority", json!(1)),
        ("/process/scheduler/flags", json!(["SCHED_FLAG_NOPE"])),
        ("/process/scheduler/flags", json!(["SCHED_FLAG_UTIL_CLAMP_MAX"])),
        ("/process/scheduler/runtime", json!(1)),
        ("/process/scheduler", json!({ "policy": "SCHED_DEADLINE", "runtime": u64::MAX, "deadline": u64::MAX })),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 100 })),
        ("/process/ioPriority/class", json!("IOPRIO_CLASS_NONE")),
        ("/process/ioPriority/priority", json!(8)),
        ("/process/execCPUAffinity/initial", json!("1-0")),
        ("/process/execCPUAffinity/final", json!("0,")),
        ("/process/execCPUAffinity/final", json!("0-99999999")),
        ("/process/apparmorProfile", json!("no-such-profile\n")),
        ("/process/selinuxLabel", json!("system_u:system_r:x:s0")),
        ("/mounts", json!([proc, proc])),
        ("/mounts", json!(vec![proc.clone(); 1000])),
        ("/mounts/0/type", json!("no-such-fs")),
        ("/mounts/0/options", json!(["no-such-option"])),
        ("/mounts/0/destination", json!("proc")),
        ("/mounts/0/destination", json!("/")),
        ("/mounts/1/options", json!(["size=many"])),
        ("/mounts/2/source", json!("no/such")),
        ("/mounts/2/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 0 }])),
        ("/linux/namespaces", json!([])),
        ("/linux/namespaces", namespace("pid")),
        ("/linux/namespaces", namespace("nope")),
        ("/linux/namespaces", namespace("user")),
        ("/linux/namespaces/0/path", json!("/no/such/namespace")),
        ("/linux/namespaces/0/path", json!("relative")),
        ("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }])),
        ("/linux/gidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 0 }])),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 1 } })),
        ("/linux/timeOffsets", json!({ "realtime": { "secs": 1 } })),
        ("/linux/timeOffsets", json!({ "monotonic": { "nanosecs": 1_000_000_000 } })),
        ("/linux/sysctl", json!({ "kernel.core_pattern": "|/x" })),
        ("/linux/sysctl", json!({ "net/../kernel/core_pattern": "|/x" })),
        ("/linux/sysctl", json!({ "kernel.hostname": "x" })),
        ("/linux/sysctl", json!({ "vm.overcommit_memory": "1" })),
        ("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "x" })),
        ("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "1\n2" })),
        ("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "1", "net/ipv4/ip_default_ttl": "2" })),
        ("/linux/sysctl", json!({ "": "" })),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }])),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "c" }])),
        ("/linux/devices", json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }])),
        ("/linux/devices", json!([{ "path": "/../x", "type": "c", "major": 1, "minor": 3 }])),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "c", "major": 1_000_000, "minor": 3 }])),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": -3 }])),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 65535 }])),
        ("/linux/personality/domain", json!("SOLARIS")),
        ("/linux/personality/flags", json!(["ADDR_NO_RANDOMIZE"])),
        ("/linux/memoryPolicy/mode", json!("MPOL_NOPE")),
        ("/linux/memoryPolicy/mode", json!("MPOL_LOCAL")),
        ("/linux/memoryPolicy/nodes", json!("1023")),
        ("/linux/memoryPolicy/nodes", json!("0-")),
        ("/linux/memoryPolicy/flags", json!(["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"])),
        ("/linux/rootfsPropagation", json!("sideways")),
        ("/linux/maskedPaths", json!(["relative"])),
        ("/linux/maskedPaths", json!(["/proc/../x"])),
        ("/linux/mountLabel", json!("x")),
        ("/linux/intelRdt", json!({ "closID": "../x" })),
        ("/linux/netDevices", json!({ "no-such-device": {} })),
        ("/linux/netDevices", json!({ "../x": { "name": "a/b" } })),
        ("/linux/cgroupsPath", json!("../../..")),
        ("/linux/resources", json!({ "pids": { "limit": "many" } })),
        ("/linux/resources", json!({ "memory": { "swappiness": -1 } })),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOPE" })),
        ("/linux/seccomp", json!({})),
        ("/hooks", json!({ "prestart": [{ "path": "relative" }] })),
        ("/hooks", json!({ "poststop": [{ "path": "/no/such", "timeout": -1 }] })),
        ("/hooks", json!({ "createRuntime": [{ "args": ["x"] }] })),
        ("/annotations", json!({ "a": 7 })),
        ("/windows", json!({ "layerFolders": [] , "x": 1 })),
        ("/vm", json!({ "hypervisor": { "path": "/x" } })),
        ("/unknown", json!({ "deep": { "er": [1, 2, { "x": null }] } })),
    ]
}

/// Not JSON, not all of it, or too much of it.
fn no_json(good: &Value) -> Vec<(String, Vec<u8>)> {
    let text = good.to_string();
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for part in 1..=9 {
        let end = text.len() * part / 10;
        all.push((format!("the first {part} tenths"), text.as_bytes()[..end].to_vec()));
    }
    let twice = text.replacen('{', "{\"ociVersion\":\"1.0.0\",", 1);
    let mut add = |what: &str, bytes: &[u8]| all.push((what.into(), bytes.to_vec()));
    add("nothing", b"");
    add("spaces", b"   \n");
    add("null", b"null");
    add("an array", b"[]");
    add("a string", b"\"config\"");
    add("a comment", format!("// config\n{text}").as_bytes());
    add("a byte order mark", format!("\u{feff}{text}").as_bytes());
    add("something behind it", format!("{text} x").as_bytes());
    add("a null byte behind it", format!("{text}\0").as_bytes());
    add("a property twice", twice.as_bytes());
    add("no UTF-8", &[&text.as_bytes()[..text.len() - 1], b",\"x\":\"\xff\xfe\"}"].concat());
    add("NaN", text.replace("500", "NaN").as_bytes());
    add("a number beyond all", text.replace("500", "1e999").as_bytes());
    add("half a surrogate", text.replace("kept", "\\ud800").as_bytes());
    add("deep", "[".repeat(100_000).as_bytes());
    add("deep below a property", format!("{{\"x\":{}1", "{\"a\":".repeat(100_000)).as_bytes());
    add("5 MiB of spaces", &[b" ".repeat(5 << 20), text.clone().into_bytes()].concat());
    all
}
