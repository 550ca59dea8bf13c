//! A machine where nothing is missing: pure cgroup v2, as systemd mounts it,
//! every controller, every capability.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use super::oci;
use super::oci_cgroups::{cgroup_of, move_below};
use crate::bed::Bed;
use crate::modes::hierarchy;

crate::tests![
    nothing_is_missing_on_this_machine,
    a_pod_shares_a_cgroup_namespace_below_nsdelegate,
    ids_of_a_tmpfs_are_mapped_since_6_3,
    podman_limits_memory,
    others_go_where_the_first_process_has_gone,
];

/// Where Debian has it.
pub fn podman() -> Option<&'static str> {
    Some("/usr/bin/podman").filter(|path| Path::new(path).exists())
}

/// podman's limits arrive, and its containers end for lack of memory.
fn podman_limits_memory(bed: &Bed) {
    let at = |name: &str| bed.dir.join(name);
    let image = at("image.tar");
    bed.finish({
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(bed.rootfs()).arg("-cf").arg(&image).arg(".");
        tar
    })
    .ok();
    let podman = |words: &str| {
        let mut command = Command::new(podman().expect("podman"));
        for (option, name) in [("--root", "storage"), ("--runroot", "runroot"), ("--tmpdir", "engine")] {
            command.arg(option).arg(at(name));
        }
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime"]);
        command.arg(bed.program("podlet-oci")).args(bed.expand(words)).env("HOME", &bed.dir).stdin(Stdio::null());
        bed.finish(command)
    };
    podman("import DIR/image.tar image").ok();
    let run = "run --rm --network none --memory 32m --memory-swap 32m --pids-limit 50 --cpus 0.5 image /probe";
    let limit = |file: &str| podman(&format!("{run} read /sys/fs/cgroup/{file}")).ok();
    assert_eq!(limit("memory.max").trim(), (32 << 20).to_string());
    assert_eq!(limit("memory.swap.max").trim(), "0");
    assert_eq!(limit("pids.max").trim(), "50");
    assert_eq!(limit("cpu.max").trim(), "50000 100000");
    podman(&format!("{run} eat 20")).ok();
    podman(&format!("{run} eat 200")).code(137);
    // podman may have mounted its storage onto itself, and leaves its cgroup.
    umount(&at("storage/overlay")).ok();
    for cgroup in ["libpod_parent/conmon", "libpod_parent"] {
        let cgroup = Path::new("/sys/fs/cgroup").join(cgroup);
        bed.until("the end of conmon", || fs::remove_dir(&cgroup).is_ok());
    }
}

/// A container that gives its controllers on to cgroups of its own, as systemd
/// does, can have no process beside those.
fn others_go_where_the_first_process_has_gone(bed: &Bed) {
    let give_on = |pid: u32| {
        let own = cgroup_of(pid);
        let below = move_below(pid, "init");
        fs::write(own.join("cgroup.subtree_control"), "+pids").expect("a controller that it has");
        below
    };
    let mut config = oci::config(bed, "block");
    config["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
    oci::write(bed, &config);
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid c").ok();
    let below = give_on(oci::pid(bed));
    assert!(bed.oci("exec c /probe read /proc/self/cgroup").ok().contains("0::/init"));
    // A process that is born there now does not begin.
    fs::write(below.join("cgroup.freeze"), "1").expect("frozen");
    let is_frozen = || fs::read_to_string(below.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1"));
    bed.until("that it is frozen", is_frozen);
    bed.oci("exec c /probe ids").fails(255, &["init", "is frozen"]);
    bed.oci("delete --force c").ok();

    bed.podlet("create web").ok();
    bed.podlet("run --pod web --name c --detach --pids-limit 50 --rootfs DIR/rootfs /probe block").ok();
    give_on(bed.pid_of("web/c"));
    assert!(bed.podlet("exec web/c /probe read /proc/self/cgroup").ok().contains("/init"));
    bed.podlet("rm --force web").ok();
    bed.is_clean();
}

/// What the tests of this mode rely on.
fn nothing_is_missing_on_this_machine(_: &Bed) {
    let mount_point = hierarchy().expect("cgroup v2");
    assert_eq!(mount_point.to_str(), Some("/sys/fs/cgroup"), "and no other");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let cgroups: Vec<_> = mounts.lines().filter(|line| line.contains(" - cgroup")).collect();
    assert_eq!(cgroups.len(), 1, "{cgroups:?}");
    assert!(cgroups[0].contains("nsdelegate"), "{cgroups:?}");
    let own = fs::read_to_string("/proc/self/cgroup").expect("own cgroup");
    assert_eq!(own, "0::/harness\n");
    let controllers = fs::read_to_string(mount_point.join("cgroup.controllers")).expect("controllers");
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(controllers.split_whitespace().any(|found| found == controller), "{controller}: {controllers}");
    }
    let last: u32 =
        fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("a file").trim().parse().expect("a number");
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let all = format!("CapEff:\t{:016x}\n", (1u64 << (last + 1)) - 1);
    assert!(status.contains(&all), "{all}: {status}");
}

fn a_pod_shares_a_cgroup_namespace_below_nsdelegate(bed: &Bed) {
    bed.podlet("create web --share net,pid,ipc,uts,cgroup").ok();
    for name in ["a", "b"] {
        bed.podlet(&format!("run --pod web -d --name {name} --rootfs ROOT /probe block")).ok();
    }
    let inside = |name: &str, pid: u32| {
        let outside = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
        assert!(outside.ends_with(&format!("/ctr/{name}\n")), "{outside}");
        bed.podlet(&format!("exec web/{name} /probe read /proc/self/cgroup")).ok()
    };
    for name in ["a", "b"] {
        let said = inside(name, bed.pid_of(&format!("web/{name}")));
        assert!(said.trim().starts_with("0::/"), "{said}");
        assert!(said.trim().ends_with(&format!("/ctr/{name}")), "{said}");
        assert!(!said.contains("web"), "its root is the pod: {said}");
    }
    bed.podlet("kill web/a").ok();
    assert_eq!(bed.podlet("wait web/a").ok().trim(), "137");
    assert_eq!(bed.podlet("exec web/b /probe echo up").ok().trim(), "up");
}

/// Since then tmpfs can be idmapped; before, podlet says what to do.
fn ids_of_a_tmpfs_are_mapped_since_6_3(bed: &Bed) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let memory = bed.dir.join("memory");
    fs::create_dir(&memory).expect("a directory");
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
    let rootfs = bed.make_rootfs("memory/rootfs");
    bed.podlet("create web --share net,pid,ipc,uts,user --uidmap 0:200000:65536 --gidmap 0:200000:65536").ok();
    let said = bed.podlet("run --pod web --rm --rootfs DIR/memory/rootfs /probe stat /etc/passwd , write /etc/new x");
    if version >= (6, 3) {
        said.ok();
        let owner = fs::metadata(rootfs.join("etc/new")).expect("what it wrote");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    } else {
        said.fails(125, &["mount_setattr", "cannot map the ids", "chown"]);
    }
    bed.podlet("rm -f web").ok();
    umount(&memory).expect("unmounting");
}
