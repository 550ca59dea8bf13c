//! `config.json`, read: what is honoured arrives, everything else is refused
//! by its name.

use std::path::Path;

use pod::config::{PodHints, parse};
use pod::spec::{Container, MountKind, Place, User};
use pod::{Error, Namespace, Root};
use serde_json::{Value, json};

const PLAIN: &str = include_str!("../../../fixtures/bundles/plain/config.json");

fn read(config: &Value) -> Result<(Container, PodHints), Error> {
    parse("c", Path::new("/bundle"), config.to_string().as_bytes())
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
        Ok(index) => at[index] = value,
        Err(_) => at[name] = value,
    }
    config
}

/// Field and value of the refusal.
fn refusal(config: &Value) -> (String, String) {
    match read(config) {
        Err(Error::Invalid { field, value, reason }) => {
            assert!(!reason.is_empty());
            (field, value)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_honoured_arrives() {
    let (container, hints) = parse("c", Path::new("/bundle"), PLAIN.as_bytes()).unwrap();
    assert_eq!(container.root, Root::Dir("/bundle/rootfs".into()));
    assert!(container.read_only && container.no_new_privileges);
    assert_eq!(container.args, ["sh", "-c", "true"]);
    assert_eq!(container.env, ["PATH=/usr/bin:/bin", "TERM=xterm"]);
    assert_eq!(container.user, User::Ids { uid: 1000, gid: 1001, groups: vec![5, 6] });
    assert_eq!(container.umask, 0o77);
    let sets = container.capabilities;
    assert_eq!((sets.bounding, sets.effective, sets.permitted), (1 << 5 | 1 << 10, 1 << 5, 1 << 5));
    assert_eq!((sets.inheritable, sets.ambient), (0, 0));
    assert_eq!((container.rlimits[0].soft, container.rlimits[0].hard), (512, 1024));
    assert_eq!(container.mounts.len(), 8);
    let data = &container.mounts[7];
    assert_eq!(data.kind, MountKind::Bind { source: "/srv/data".into(), recursive: true });
    assert_eq!((data.flags, data.data.as_str()), (libc::MS_RDONLY, ""));
    assert_eq!(container.mounts[1].data, "mode=755,size=65536k");
    assert_eq!(container.masked_paths.len(), 2);
    assert_eq!((container.net, container.pid, container.cgroup), (Place::Pod, Place::Pod, Place::Pod));
    assert_eq!(hints.hostname.as_deref(), Some("plain"));
    let four = [Namespace::Net, Namespace::Pid, Namespace::Ipc, Namespace::Uts];
    assert_eq!(hints.share, four.into());
}

#[test]
fn a_namespace_that_is_not_listed_is_the_machines() {
    let kinds = |kinds: &[&str]| {
        let list: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        with("/linux/namespaces", list.into())
    };
    let (container, hints) = read(&kinds(&["pid", "mount", "uts"])).unwrap();
    assert_eq!((container.net, container.ipc, container.cgroup), (Place::Host, Place::Host, Place::Host));
    assert_eq!(hints.share, [Namespace::Pid, Namespace::Uts].into());
    for (list, named) in [
        (&["mount", "uts"][..], "pid"),
        (&["pid", "uts"], "mnt"),
        (&["pid", "mount"], "uts"),
        (&["pid", "mount", "uts", "user"], "user"),
        (&["pid", "mount", "uts", "pid"], "pid"),
    ] {
        assert_eq!(refusal(&kinds(list)), ("linux.namespaces".into(), named.into()));
    }
}

#[test]
fn what_is_not_honoured_is_refused_by_its_name() {
    let hook = json!([{ "path": "/bin/true" }]);
    for (pointer, value, field) in [
        ("/process/terminal", json!(true), "process.terminal"),
        ("/process/oomScoreAdj", json!(100), "process.oomScoreAdj"),
        ("/process/apparmorProfile", json!("p"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("l"), "process.selinuxLabel"),
        ("/process/scheduler", json!({ "policy": "SCHED_BATCH" }), "process.scheduler.policy"),
        ("/hooks/prestart", hook.clone(), "hooks.prestart[].path"),
        ("/hooks/poststop", hook, "hooks.poststop[].path"),
        ("/domainname", json!("d"), "domainname"),
        ("/linux/cgroupsPath", json!("/x"), "linux.cgroupsPath"),
        ("/linux/resources", json!({ "memory": { "swappiness": 5 } }), "linux.resources.memory.swappiness"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }), "linux.seccomp.defaultAction"),
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
        ("/linux/mountLabel", json!("l"), "linux.mountLabel"),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 5, "size": 1 }]),
            "linux.uidMappings[].containerID",
        ),
        ("/linux/namespaces/0/path", json!("/proc/1/ns/pid"), "linux.namespaces[].path"),
        ("/mounts/7/options", json!(["rbind", "rro"]), "mounts[7].options"),
        ("/mounts/7/options", json!(["bind", "shared"]), "mounts[7].options"),
        ("/mounts/0/type", json!("ext4"), "mounts[0].type"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/root", json!({}), "root.path"),
        ("/root", json!([]), "root.path"),
        ("/process/capabilities/bounding", json!(["CAP_NOPE"]), "config.json"),
    ] {
        assert_eq!(refusal(&with(pointer, value.clone())).0, field, "{pointer} = {value}");
    }
}

#[test]
fn what_the_specification_does_not_know_is_ignored() {
    let (container, _) = read(&with("/vendor/anything", json!({ "deep": [1, 2] }))).unwrap();
    assert_eq!(container.name, "c");
}

#[test]
fn what_is_malformed_is_refused() {
    for (pointer, value) in [
        ("/process/args", json!("sh")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4294967296u64)),
        ("/process/cwd", json!(7)),
        ("/linux/namespaces/0/type", json!("pidd")),
        ("/process/rlimits/0/type", json!("RLIMIT_NOPE")),
    ] {
        assert_eq!(refusal(&with(pointer, value.clone())).0, "config.json", "{pointer} = {value}");
    }
    for text in ["", "{", "[]", "null", "\"x\"", "{\"ociVersion\": \"1.0.2\"}"] {
        assert!(matches!(parse("c", Path::new("/"), text.as_bytes()), Err(Error::Invalid { .. })), "{text}");
    }
    // A file as deep as it is long must not overflow the stack.
    let deep = "[".repeat(100_000);
    assert!(parse("c", Path::new("/"), deep.as_bytes()).is_err());
}
