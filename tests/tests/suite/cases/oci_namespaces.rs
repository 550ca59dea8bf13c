//! Namespaces of bundles: new ones, ones that are there, the machine's; and
//! containers that live in others than the caller's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid};
use serde_json::json;

use super::oci::{become_subreaper, config, list, pid, reap, start, write};
use crate::bed::Bed;
use crate::modes::{Mode, hierarchy};
use crate::sys;

crate::tests![
    namespaces_by_path,
    namespaces_of_the_machine,
    user_namespace_with_mappings,
    clocks_of_a_new_user_namespace,
    a_user_namespace_without_root,
    the_machines_cgroups_are_seen_without_a_namespace_of_them,
    all_of_it_ends_also_in_a_pid_namespace_with_others,
    pids_of_another_namespace_are_nobodys,
    what_ended_with_its_pid_namespace_can_be_deleted,
    the_proc_of_another_pid_namespace_is_refused,
];

fn namespaces_by_path(bed: &Bed) {
    let pid = start(bed, "a", "ns , block");
    let inode = |pid: u32, kind: &str| fs::metadata(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").ino();
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")];
    let mut joining = config(bed, "ns , hostname");
    let user = bed.mode.nests_users();
    for entry in list(&mut joining["linux"]["namespaces"]) {
        let file = kinds.iter().find(|(kind, _)| entry["type"] == *kind).map(|(_, file)| *file);
        let file = file.or((entry["type"] == "user").then_some("user"));
        if let Some(file) = file {
            entry["path"] = json!(format!("/proc/{pid}/ns/{file}"));
        }
    }
    if user {
        (joining["linux"]["uidMappings"], joining["linux"]["gidMappings"]) = (json!(null), json!(null));
    }
    write(bed, &joining);
    let said = bed.oci("run --bundle DIR b").ok();
    for (_, file) in kinds.into_iter().chain(user.then_some(("user", "user"))) {
        assert!(said.contains(&format!("{file} {}\n", inode(pid, file))), "{file}: {said}");
    }
    // Joined by what has the name of something else.
    for (kind, path) in [
        ("network", format!("/proc/{pid}/ns/ipc")),
        ("network", "/dev/null".into()),
        ("ipc", "/none".into()),
        ("mount", format!("/proc/{pid}/ns/net")),
    ] {
        let mut wrong = config(bed, "ns");
        let entries = list(&mut wrong["linux"]["namespaces"]);
        entries.iter_mut().find(|entry| entry["type"] == kind).expect("it is there")["path"] = json!(path);
        write(bed, &wrong);
        bed.oci("run --bundle DIR c").fails(1, &["linux.namespaces", &path]);
    }
    bed.oci("delete --force a").ok();
    bed.is_clean();
}

fn namespaces_of_the_machine(bed: &Bed) {
    if bed.mode.nests_users() {
        // Nothing of the machine's can be mounted by an ordinary user.
        let mut config = config(bed, "ns");
        list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "network");
        write(bed, &config);
        let ours = fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
        let said = bed.oci("run --bundle DIR c").ok();
        return assert!(said.contains(&format!("net {ours}\n")), "{said}");
    }
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")] {
        let mut config = config(bed, "ns");
        list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != kind);
        if kind == "pid" && bed.mode == Mode::Mapped {
            // A proc of the machine's processes is not ours to mount.
            config["mounts"][0] =
                json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] });
        }
        write(bed, &config);
        let ours = fs::metadata(format!("/proc/self/ns/{file}")).expect("a namespace").ino();
        let said = bed.oci("run --bundle DIR c").ok();
        assert!(said.contains(&format!("{file} {ours}\n")), "{kind}: {said}");
        let own = said.lines().filter(|line| {
            let (name, inode) = line.split_once(' ').expect("two words");
            fs::metadata(format!("/proc/self/ns/{name}")).expect("a namespace").ino().to_string() != inode
        });
        assert!(own.count() >= 5, "{said}");
    }
}

fn user_namespace_with_mappings(bed: &Bed) {
    let mut config = config(bed, "ids , read /proc/self/uid_map , status");
    let (first, size) = match bed.mode {
        Mode::Root => (200_000, 1000),
        Mode::Delegated => (3_000_000, 1000),
        _ => return,
    };
    if bed.mode == Mode::Root {
        list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
    }
    let map = json!([{ "containerID": 0, "hostID": first, "size": size }]);
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    config["process"]["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [5, 6] });
    open_to_all(bed);
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert!(said.contains("Uid: 33 33 33 33\nGid: 34 34 34 34\nGroups: 5 6"), "{said}");
    assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(&format!("0 {first} {size}")), "{said}");
    // From outside it is the mapped one; it can be started and entered.
    config["process"]["args"] = json!(["/probe", "block"]);
    write(bed, &config);
    bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
    bed.oci("start c").ok();
    assert_eq!(fs::metadata(format!("/proc/{}", pid(bed))).expect("a process").uid(), first + 33);
    let said = bed.oci("exec --user 7:8 c /probe ids").ok();
    assert!(said.contains("Uid: 7 7 7 7\nGid: 8 8 8 8"), "{said}");
    bed.oci("exec --user 5000 c /probe ids").fails(255, &["5000"]);
    bed.oci("delete --force c").ok();
}

fn clocks_of_a_new_user_namespace(bed: &Bed) {
    let mut config = config(bed, "read /proc/self/timens_offsets , ids");
    list(&mut config["linux"]["namespaces"]).push(json!({ "type": "time" }));
    if bed.mode == Mode::Root {
        let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
        list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        open_to_all(bed);
    }
    for seconds in [0, 77] {
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": seconds } });
        write(bed, &config);
        let said = bed.oci("run --bundle DIR c").ok();
        let line = said.lines().find(|line| line.starts_with("monotonic")).expect("an offset");
        assert_eq!(line.split_whitespace().nth(1), Some(seconds.to_string().as_str()), "{said}");
    }
    bed.is_clean();
}

/// The image is not the mapped root's to change.
pub fn open_to_all(bed: &Bed) {
    fs::set_permissions(bed.dir.as_path(), fs::Permissions::from_mode(0o755)).expect("mode");
    for dir in ["proc", "dev"] {
        fs::create_dir_all(bed.inside(dir)).expect("a directory");
    }
}

fn a_user_namespace_without_root(bed: &Bed) {
    let mut config = config(bed, "ids , status , block");
    let (uid, gid) = match bed.mode {
        Mode::Root => (201_000, 202_000),
        _ if bed.mode.nests_users() => (Uid::effective().as_raw(), Gid::effective().as_raw()),
        // Only one id can be mapped, and it is root's.
        _ => return,
    };
    if bed.mode == Mode::Root {
        list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
        open_to_all(bed);
    }
    config["linux"]["uidMappings"] = json!([{ "containerID": 1000, "hostID": uid, "size": 1 }]);
    config["linux"]["gidMappings"] = json!([{ "containerID": 2000, "hostID": gid, "size": 1 }]);
    config["process"]["user"] = json!({ "uid": 1000, "gid": 2000 });
    write(bed, &config);
    bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
    bed.oci("start c").ok();
    assert_eq!(fs::metadata(format!("/proc/{}", pid(bed))).expect("a process").uid(), uid);
    let said = bed.oci("exec --user 1000:2000 c /probe ids").ok();
    assert!(said.contains("Uid: 1000 1000 1000 1000\nGid: 2000 2000 2000 2000"), "{said}");
    bed.oci("delete --force c").ok();
    config["process"]["user"] = json!({ "uid": 0, "gid": 2000 });
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["this uid has no mapping"]);
    bed.is_clean();
}

fn the_machines_cgroups_are_seen_without_a_namespace_of_them(bed: &Bed) {
    let mut config = config(bed, "mounts , mkdir /sys/fs/cgroup/x");
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "cgroup");
    let entry = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] });
    list(&mut config["mounts"]).push(entry);
    for own_users in [false, true] {
        if own_users && bed.mode == Mode::Root {
            let map = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
            list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
            (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        }
        write(bed, &config);
        let said = bed.oci("run --bundle DIR c").ok();
        let mount = said.lines().find(|line| line.contains(" /sys/fs/cgroup ")).expect("a mount");
        assert!(mount.contains(" - cgroup2 "), "{mount}");
        assert!(said.contains("mkdir /sys/fs/cgroup/x: errno 30"), "{said}");
    }
}

fn all_of_it_ends_also_in_a_pid_namespace_with_others(bed: &Bed) {
    become_subreaper();
    let mut config = config(bed, "orphan block , bg block , write /up x , block");
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "pid");
    list(&mut config["mounts"]).retain(|entry| entry["type"] != "proc");
    write(bed, &config);
    for lines in [&["kill c KILL", "delete c"][..], &["delete --force c"], &["kill --all c KILL", "delete c"]] {
        bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid c").ok();
        bed.until("its program", || bed.inside("up").exists());
        fs::remove_file(bed.inside("up")).expect("what it wrote");
        let table = bed.oci("ps --format json c").ok();
        let all: Vec<u32> = serde_json::from_str(&table).expect("pids");
        assert_eq!(all.len(), 3, "{table}");
        assert!(all.contains(&pid(bed)), "{table}");
        for line in lines {
            bed.until(line, || bed.oci(line).status.success());
        }
        for pid in all {
            reap(pid);
        }
        bed.is_clean();
    }
}

fn pids_of_another_namespace_are_nobodys(bed: &Bed) {
    let pid = start(bed, "c", "block");
    let lives = || assert!(Path::new(&format!("/proc/{pid}/exe")).exists(), "{pid} was killed");
    for line in ["state c", "delete c", "delete --force c", "kill c KILL"] {
        let said = bed.in_pid_namespace(&["--mount-proc"], bed.oci_command(&bed.expand(line)));
        said.fails(1, &["another pid namespace"]);
        lives();
    }
    if bed.mode == Mode::Root && bed.mode.has_cgroups() {
        // Where it had its cgroup there is another one, which is empty.
        let hierarchy = hierarchy().expect("a hierarchy");
        let script = format!(
            "umount -l {0} && mount -t cgroup2 cgroup2 {0} && mkdir {0}/podlet-oci-c && \"$@\"; code=$?; \
             rmdir {0}/podlet-oci-c; exit $code",
            hierarchy.display()
        );
        let oci = bed.oci_command(&bed.expand("delete --force c"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(oci.get_program()).args(oci.get_args());
        let mut command = bed.unshared(&["--mount-proc"], shell);
        sys::in_cgroup_namespace(&mut command);
        bed.spawn_command(command).wait().fails(1, &["another pid namespace"]);
        lives();
    }
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

/// No process is left in its cgroup. Without one it may live where its pids are not
/// seen.
fn what_ended_with_its_pid_namespace_can_be_deleted(bed: &Bed) {
    write(bed, &config(bed, "block"));
    let run = bed.oci_command(&bed.expand("run -d --bundle DIR c"));
    bed.in_pid_namespace(&["--mount-proc"], run).ok();
    if bed.mode.has_cgroups() {
        bed.until("its end", || bed.oci("state c").status.success());
        let state = bed.oci_state_of("c");
        assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
        bed.oci("delete c").ok();
    } else {
        bed.oci("delete --force c").fails(1, &["another pid namespace"]);
        fs::remove_dir_all(bed.oci_state().join("c")).expect("its directory");
    }
    bed.is_clean();
}

/// What it says of a pid it says of another process.
fn the_proc_of_another_pid_namespace_is_refused(bed: &Bed) {
    write(bed, &config(bed, "true"));
    let run = bed.oci_command(&bed.expand("run --bundle DIR c"));
    bed.in_pid_namespace(&[], run).fails(1, &["/proc", "--mount-proc"]);
    let run = bed.command(&bed.expand("run --rm --rootfs ROOT /probe true"));
    bed.in_pid_namespace(&[], run).fails(125, &["/proc", "--mount-proc"]);
    bed.is_clean();
}
