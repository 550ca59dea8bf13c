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
        ("/linux/resources", json!({ "pids": { "limit": 5 } }), "linux.resources.pids.limit"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }), "linux.seccomp.defaultAction"),
        ("/linux/rootfsPropagation", json!("sharedd"), "linux.rootfsPropagation"),
        ("/linux/mountLabel", json!("l"), "linux.mountLabel"),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 5, "size": 1 }]),
            "linux.uidMappings[].containerID",
        ),
        ("/linux/namespaces/0/path", json!("/proc/1/ns/pid"), "linux.namespaces[].path"),
        ("/mounts/7/options", json!(["bind", "mand"]), "mounts[7].options"),
        ("/mounts/0/type", json!("none"), "mounts[0].type"),
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
            let found = [mount.flags, mount.clear, mount.recursive_flags, mount.recursive_clear];
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
        assert_eq!(mount("tmpfs", &[set]).flags, flag, "{set}");
        assert_eq!(mount("tmpfs", &[clear, "nomand"]).flags, 0, "{clear}");
        assert_eq!(mount("tmpfs", &[set, clear]).flags, if clear == "defaults" { flag } else { 0 }, "{set} {clear}");
        assert_eq!(mount("tmpfs", &[&format!("r{set}")]).data, format!("r{set}"), "has no recursive sister");
    }
    // Of the times of access the last one counts.
    assert_eq!(mount("bind", &["noatime", "strictatime"]).flags, MS_STRICTATIME);
    for (name, kind) in [
        ("private", libc::MS_PRIVATE),
        ("slave", libc::MS_SLAVE),
        ("shared", libc::MS_SHARED),
        ("unbindable", libc::MS_UNBINDABLE),
    ] {
        let recursive = format!("r{name}");
        assert_eq!(mount("bind", &[name]).propagation, kind);
        assert_eq!(mount("bind", &["slave", &recursive]).propagation, kind | libc::MS_REC);
        assert_eq!(read(&with("/linux/rootfsPropagation", json!(name))).unwrap().0.root_propagation, kind);
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
    assert_eq!(ids.uids, [pod::facts::IdMap { inside: 1, outside: 100_000, count: 7 }]);
    assert_eq!((&ids.gids, ids.recursive), (&ids.uids, false));
}
