//! Containers in a mount namespace with others: one that is there, or the
//! caller's. The processes in there live on, and the caller's mount table is in
//! the end as it was.
//!
//! The body of a test in the modes of root has mounts of its own: what goes
//! wrong here does so in there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::oci::{become_subreaper, config, list, pid, write};
use super::oci_crash::{kill_after, moments, remove};
use super::oci_hooks::{probe, sh};
use crate::bed::{Background, Bed};
use crate::leaks::Snapshot;
use crate::modes::Mode;
use crate::sys;

crate::tests![
    a_mount_namespace_by_path,
    the_callers_mount_namespace,
    hooks_and_executions_have_the_containers_root,
    a_failed_create_leaves_nothing_in_the_callers_mount_table,
    a_killed_create_leaves_nothing_in_the_callers_mount_table_that_delete_does_not_remove,
    what_is_attached_does_not_spread,
    what_is_not_the_containers_is_not_unmounted,
    what_cannot_be_in_a_mount_namespace_with_others,
];

/// The mount table, to the letter.
fn table() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("the mount table")
}

fn inode(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).expect("a namespace").ino()
}

/// A process in a mount namespace of its own, with all that we see; of an ordinary
/// user in a user namespace that it belongs to.
pub fn neighbour(bed: &Bed, propagation: &str) -> Background {
    let mut command = Command::new("unshare");
    if bed.mode.nests_users() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--propagation", propagation, "sleep", "1000"]);
    let sleep = bed.spawn_command(command);
    let name = || fs::read_to_string(format!("/proc/{}/comm", sleep.pid())).expect("a process");
    bed.until("its mount namespace", || name() == "sleep\n");
    sleep
}

pub fn end(neighbour: Background) {
    assert!(!sys::ends_within(neighbour.pid(), 100), "it was killed, too");
    neighbour.signal(Signal::SIGKILL);
    neighbour.wait();
}

/// A config of a container in this process's mount namespace, and in a user
/// namespace of it if there is one.
pub fn joining(bed: &Bed, script: &str, pid: u32) -> Value {
    let mut config = config(bed, script);
    for entry in list(&mut config["linux"]["namespaces"]) {
        match entry["type"].as_str() {
            Some("mount") => entry["path"] = json!(format!("/proc/{pid}/ns/mnt")),
            Some("user") => entry["path"] = json!(format!("/proc/{pid}/ns/user")),
            _ => {}
        }
    }
    if bed.mode.nests_users() {
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (json!(null), json!(null));
    }
    config
}

/// A config of a container in the caller's mount namespace.
pub fn inheriting(bed: &Bed, script: &str) -> Value {
    let mut config = config(bed, script);
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "mount");
    config
}

/// The probe in the root of the container that it looks at.
#[track_caller]
fn is_in_its_root(said: &str, namespace: u64) {
    assert!(said.contains(&format!("mnt {namespace}\n")), "{said}");
    let root = said.lines().find(|line| line.starts_with("ls /:")).unwrap_or_else(|| panic!("no root in {said}"));
    assert!(root.contains("probe") && !root.contains("usr"), "{root}");
}

fn a_mount_namespace_by_path(bed: &Bed) {
    let before = table();
    let neighbour = neighbour(bed, "private");
    let there = inode(neighbour.pid());
    // Every way to end it, which ends no other process.
    let no_pivot = if bed.mode.nests_users() { "" } else { "--no-pivot" };
    for (options, last) in [("", "delete --force c"), (no_pivot, "kill --all c KILL"), ("", "kill --all c TERM")] {
        // Once it was there, its root is that of every process in there: only there
        // the next one's could be.
        let other = self::neighbour(bed, "private");
        write(bed, &joining(bed, "echo up , block", other.pid()));
        bed.oci_detached(&format!("run -d {options} --bundle DIR --pid-file DIR/pid c")).ok();
        assert_eq!(inode(pid(bed)), inode(other.pid()));
        is_in_its_root(&bed.oci("exec c /probe ns , ls /").ok(), inode(other.pid()));
        if options.is_empty() {
            // The neighbour is in the container's root now.
            assert!(fs::metadata(format!("/proc/{}/root/probe", other.pid())).is_ok());
        }
        bed.oci(last).ok();
        if last.contains("TERM") {
            bed.oci("kill c KILL").ok();
        }
        bed.until("its deletion", || bed.oci("delete --force c").status.success());
        end(other);
    }
    write(bed, &joining(bed, "ns , ls /", neighbour.pid()));
    is_in_its_root(&bed.oci("run --bundle DIR c").ok(), there);
    // Its root does not have the path that the next one's would be at.
    bed.oci("run --bundle DIR c").fails(1, &["the mount namespace that is joined", "has to be a directory there"]);
    end(neighbour);
    assert_eq!(table(), before);
    bed.is_clean();
}

fn the_callers_mount_namespace(bed: &Bed) {
    if bed.mode.nests_users() {
        write(bed, &inheriting(bed, "ns"));
        return drop(bed.oci("run --bundle DIR c").fails(1, &["linux.namespaces", "mount", "an ordinary user"]));
    }
    let before = table();
    let (own, mates) = (
        inode(std::process::id()),
        bed.spawn_command({
            let mut command = Command::new("sleep");
            command.arg("1000");
            command
        }),
    );
    write(bed, &inheriting(bed, "ns , ls / , mounts"));
    let said = bed.oci("run --bundle DIR c").ok();
    is_in_its_root(&said, own);
    assert!(said.contains(" / /proc rw"), "{said}");
    assert_eq!(table(), before);
    for last in ["delete --force c", "kill --all c KILL", "kill --all c TERM"] {
        write(bed, &inheriting(bed, "block"));
        bed.oci_detached("run -d --no-pivot --bundle DIR --pid-file DIR/pid c").ok();
        assert_eq!(inode(pid(bed)), own);
        assert_ne!(table(), before, "it stands in the mount table until it is deleted");
        is_in_its_root(&bed.oci("exec c /probe ns , ls /").ok(), own);
        let listed: Vec<u32> = serde_json::from_str(&bed.oci("ps --format json c").ok()).expect("pids");
        assert_eq!(listed, [pid(bed)]);
        bed.oci(last).ok();
        if last.contains("TERM") {
            bed.oci("kill c KILL").ok();
        }
        bed.until("its deletion", || bed.oci("delete --force c").status.success());
        assert_eq!(table(), before, "after {last}");
    }
    end(mates);
    bed.is_clean();
}

fn hooks_and_executions_have_the_containers_root(bed: &Bed) {
    let before = table();
    let neighbour = neighbour(bed, "private");
    let mut configs = vec![(joining(bed, "wait-file /go", neighbour.pid()), inode(neighbour.pid()))];
    if !bed.mode.nests_users() {
        configs.push((inheriting(bed, "wait-file /go"), inode(std::process::id())));
    }
    for (mut config, namespace) in configs {
        let look = "readlink /proc/self/ns/mnt >DIR/seen; pwd >>DIR/seen; ls DIR/rootfs/dev >>DIR/seen";
        config["hooks"] = json!({
            "createContainer": [sh(bed, look)], "startContainer": [probe("hook write /started x")],
        });
        config["root"]["readonly"] = json!(false);
        write(bed, &config);
        bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
        // The machine's files, and the container's mounts where they are found.
        let seen = fs::read_to_string(bed.dir.join("seen")).expect("what the hook saw");
        let wanted = format!("mnt:[{namespace}]\n{}\n", bed.rootfs().display());
        assert!(seen.starts_with(&wanted) && seen.contains("\nnull\n"), "{seen}");
        is_in_its_root(&bed.oci("exec c /probe ns , ls /").ok(), namespace);
        bed.oci("start c").ok();
        assert!(bed.inside("started").exists(), "the hook was elsewhere");
        fs::remove_file(bed.inside("started")).expect("the mark");
        is_in_its_root(&bed.oci("exec --cwd /srv c /probe ns , ls /").ok(), namespace);
        bed.oci("delete --force c").ok();
        assert_eq!(table(), before);
    }
    end(neighbour);
    bed.is_clean();
}

fn a_failed_create_leaves_nothing_in_the_callers_mount_table(bed: &Bed) {
    if bed.mode.nests_users() {
        return;
    }
    let (before, snapshot) = (table(), Snapshot::take());
    let good = inheriting(bed, "block");
    let with = |path: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        config
    };
    let mut mounts = good["mounts"].clone();
    list(&mut mounts).push(json!({ "destination": "/x", "type": "nosuchfs", "source": "none" }));
    let mut hooks = good.clone();
    hooks["hooks"] = json!({ "createContainer": [{ "path": "/bin/false" }] });
    let mut start = good.clone();
    start["hooks"] = json!({ "startContainer": [probe("exit 3")] });
    for (config, words) in [
        // Before the root is attached, and after.
        (with("/mounts", mounts), &["nosuchfs"][..]),
        (hooks, &["createContainer", "/bin/false"]),
        (with("/process/args/0", json!("/none")), &["/none"]),
        (with("/process/cwd", json!("/probe")), &["probe", "Not a directory"]),
        (start, &["startContainer"]),
    ] {
        write(bed, &config);
        bed.oci_detached("run -d --bundle DIR c").fails(1, words);
        assert_eq!(table(), before, "{words:?}");
        bed.is_clean();
        assert_eq!(snapshot.compare(), [""; 0]);
    }
}

fn a_killed_create_leaves_nothing_in_the_callers_mount_table_that_delete_does_not_remove(bed: &Bed) {
    if bed.mode.nests_users() {
        return;
    }
    let before = table();
    let mut config = inheriting(bed, "block");
    // While its root stands there, and it has not been told to go on.
    config["hooks"] = json!({ "createContainer": [sh(bed, "echo >DIR/here; sleep 1000")] });
    write(bed, &config);
    let create = bed.spawn_command(bed.oci_command(&bed.expand("create --bundle DIR c")));
    bed.until("the hook", || bed.dir.join("here").exists());
    create.signal(Signal::SIGKILL);
    create.wait();
    assert!(table().contains(" podlet-oci:c:"), "{}", table());
    bed.oci("delete --force c").ok();
    assert_eq!(table(), before);
    bed.is_clean();
    // At any moment.
    become_subreaper();
    let snapshot = Snapshot::take();
    write(bed, &inheriting(bed, "block"));
    for delay in moments().step_by(3) {
        kill_after(bed, "create --bundle DIR c", delay);
        remove(bed, &snapshot);
        assert_eq!(table(), before, "killed after {delay:?}");
    }
}

/// The machine's mounts are shared, as systemd has them, and others have copies
/// of them: what they get is a single empty mount, which goes with ours.
fn what_is_attached_does_not_spread(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    let none: Option<&str> = None;
    mount(Some(&bed.dir), &bed.dir, none, MsFlags::MS_BIND, none).expect("a bind");
    mount(none, &bed.dir, none, MsFlags::MS_SHARED, none).expect("shared");
    let (source, sub) = (bed.dir.join("source"), bed.inside("sub"));
    fs::create_dir_all(source.join("x")).expect("a directory");
    for target in [&source.join("x"), &sub] {
        mount(Some("machines"), target, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    }
    let copies = [neighbour(bed, "slave"), neighbour(bed, "shared")];
    let tables = || {
        let read = |pid: u32| fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("a mount table");
        [read(std::process::id()), read(copies[0].pid()), read(copies[1].pid())]
    };
    let before = tables();
    let mut config = inheriting(bed, "block");
    list(&mut config["mounts"]).extend([
        json!({ "destination": "/data", "type": "none", "source": source, "options": ["rbind", "rshared"] }),
        json!({ "destination": "/all", "type": "none", "source": bed.dir, "options": ["rbind", "rslave"] }),
    ]);
    for propagation in ["", "rprivate", "rslave", "shared"] {
        println!("rootfsPropagation {propagation:?}");
        // Which counts for the volume, too.
        let all_slaves = propagation == "rslave";
        config["linux"]["rootfsPropagation"] = json!(propagation);
        if propagation.is_empty() {
            config["linux"].as_object_mut().expect("an object").remove("rootfsPropagation");
        }
        write(bed, &config);
        bed.oci_detached("run -d --bundle DIR c").ok();
        // In the container's root, and in what it shares with the machine.
        let script = "mount tmpfs /tmp , mount tmpfs /data";
        let said = bed.oci(&format!("exec --cap CAP_SYS_ADMIN c /probe {script}")).ok();
        assert_eq!(said, "mount /tmp: ok\nmount /data: ok\n");
        for (before, now) in before.iter().zip(tables()).skip(1) {
            let new: Vec<_> = now.lines().filter(|line| !before.contains(line)).collect();
            let is = |line: &&str| line.contains(" podlet-oci:c:") || line.contains("/source ");
            assert!(new.len() == 2 - usize::from(all_slaves) && new.iter().all(is), "{new:#?}");
        }
        if !all_slaves {
            umount2(&source, MntFlags::empty()).expect("what the container has mounted out here");
        }
        bed.oci("delete --force c").ok();
        assert_eq!(tables(), before, "rootfsPropagation {propagation:?}");
    }
    copies.into_iter().for_each(end);
    for target in [source.join("x"), sub, bed.dir.clone()] {
        umount2(&target, MntFlags::empty()).expect("umount");
    }
}

/// What is over the root, and what is called as it is; and a command that looks
/// from another mount namespace.
fn what_is_not_the_containers_is_not_unmounted(bed: &Bed) {
    if bed.mode.nests_users() {
        return;
    }
    let before = table();
    write(bed, &inheriting(bed, "block"));
    bed.oci_detached("run -d --bundle DIR c").ok();
    let none: Option<&str> = None;
    mount(Some("ours"), &bed.rootfs(), Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    let covered = table();
    bed.oci("delete --force c").fails(1, &["covered", "rootfs"]);
    assert_eq!(table(), covered);
    umount2(&bed.rootfs(), MntFlags::empty()).expect("umount");
    bed.oci("delete c").ok();
    assert_eq!(table(), before);
    // It ends there and stays there.
    bed.oci_detached("run -d --bundle DIR c").ok();
    let there = table();
    let mut unshare = Command::new("unshare");
    let delete = bed.oci_command(&bed.expand("delete --force c"));
    unshare.args(["--mount", "--propagation", "private"]).arg(delete.get_program()).args(delete.get_args());
    bed.finish(unshare).fails(1, &["another mount namespace", "nsenter --mount"]);
    assert_eq!(table(), there);
    bed.oci("delete c").ok();
    assert_eq!(table(), before);
    // Where it was it is no more.
    let (sub, moved) = (bed.dir.join("sub"), bed.dir.join("moved"));
    fs::create_dir(&sub).expect("a directory");
    fs::rename(bed.rootfs(), sub.join("rootfs")).expect("another path");
    let mut config = inheriting(bed, "block");
    config["root"]["path"] = json!("sub/rootfs");
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR c").ok();
    let there = table();
    fs::rename(&sub, &moved).expect("another name");
    bed.oci("delete --force c").fails(1, &["moved", "/moved/rootfs"]);
    fs::rename(&moved, &sub).expect("its name");
    assert_eq!(table(), there);
    bed.oci("delete --force c").ok();
    assert_eq!(table(), before);
    fs::rename(sub.join("rootfs"), bed.rootfs()).expect("its path");
    write(bed, &inheriting(bed, "block"));
    // Of a container whose mount namespace is gone nothing is left to unmount.
    let mut unshare = Command::new("unshare");
    let run = bed.oci_command(&bed.expand("run -d --bundle DIR c"));
    unshare.args(["--mount", "--propagation", "private"]).arg(run.get_program()).args(run.get_args());
    bed.spawn_command(unshare).wait().ok();
    bed.oci("kill c KILL").ok();
    bed.until("its deletion", || bed.oci("delete c").status.success());
    assert_eq!(table(), before);
    bed.is_clean();
}

fn what_cannot_be_in_a_mount_namespace_with_others(bed: &Bed) {
    let before = table();
    let neighbour = neighbour(bed, "private");
    let refused = |config: &Value, words: &[&str]| {
        write(bed, config);
        bed.oci("run --bundle DIR c").fails(1, words);
        assert_eq!(table(), before);
        bed.is_clean();
    };
    let of_path = "linux.namespaces[].path";
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    // A user namespace that is new, or does not own the mounts.
    let mut config = joining(bed, "ns", neighbour.pid());
    list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "user");
    list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map.clone());
    refused(&config, &[of_path, "from a new user namespace", "`user`"]);
    if !bed.mode.nests_users() {
        let mut other = Command::new("unshare");
        other.args(["--user", "--map-root-user", "sleep", "1000"]);
        let other = bed.spawn_command(other);
        let own = fs::metadata("/proc/self/ns/user").expect("a namespace").ino();
        let users = format!("/proc/{}/ns/user", other.pid());
        bed.until("a user namespace", || fs::metadata(&users).is_ok_and(|meta| meta.ino() != own));
        let entry = list(&mut config["linux"]["namespaces"]).last_mut().expect("the entry");
        entry["path"] = json!(users);
        refused(&config, &[of_path, "belongs to another user namespace", "`user`"]);
        end(other);
    }
    if !bed.mode.nests_users() {
        // A mount namespace whose owner has less rights.
        let mut other = Command::new("unshare");
        other.args(["--user", "--map-root-user", "--mount", "sleep", "1000"]);
        let other = bed.spawn_command(other);
        let (own, path) = (inode(std::process::id()), format!("/proc/{}/ns/mnt", other.pid()));
        bed.until("a mount namespace", || fs::metadata(&path).is_ok_and(|meta| meta.ino() != own));
        let config = joining(bed, "ns", other.pid());
        refused(&config, &[of_path, "belongs to another user namespace", "`user`, too"]);
        end(other);
    }
    // The caller's own, whose processes would all get the new root.
    let mut config = joining(bed, "ns", std::process::id());
    refused(&config, &[of_path, "own mount namespace", "leave out the entry"]);
    // What cannot be copied there.
    config = joining(bed, "ns", neighbour.pid());
    let volume = json!({ "destination": "/srv", "type": "none", "source": "/", "options": ["bind", "unbindable"] });
    list(&mut config["mounts"]).push(volume);
    refused(&config, &["the mount on /srv", "unbindable"]);
    // Without a cgroup its processes could not be told from the others'.
    if !bed.mode.has_cgroups() {
        config = joining(bed, "ns", neighbour.pid());
        list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "pid");
        refused(&config, &["linux.namespaces", "pid", "without a cgroup"]);
    }
    end(neighbour);
    if bed.mode.nests_users() {
        return;
    }
    let mut config = inheriting(bed, "ns");
    list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    refused(&config, &["linux.namespaces", "mount", "another user namespace"]);
    config = inheriting(bed, "ns");
    config["root"]["path"] = json!("/");
    refused(&config, &["root.path", "cover"]);
    if !bed.mode.has_cgroups() {
        config = inheriting(bed, "ns");
        list(&mut config["linux"]["namespaces"]).retain(|entry| entry["type"] != "pid");
        refused(&config, &["linux.namespaces", "pid", "without a cgroup"]);
    }
    // A second root would go with the first, or with one above.
    write(bed, &inheriting(bed, "block"));
    bed.oci_detached("run -d --bundle DIR c").ok();
    let one = table();
    for root in ["rootfs", "rootfs/etc", "."] {
        let mut config = inheriting(bed, "ns");
        config["root"]["path"] = json!(root);
        write(bed, &config);
        bed.oci("run --bundle DIR d").fails(1, &["root.path", "podlet-oci:c:", "a directory of its own"]);
        assert_eq!(table(), one);
    }
    bed.oci("delete --force c").ok();
    assert_eq!(table(), before);
}
