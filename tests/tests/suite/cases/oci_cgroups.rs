//! Containers that have cgroups of their own, as systemd in a container has.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::oci::{config, ends, pid, start, write};
use crate::bed::Bed;
use crate::leaks;
use crate::modes::hierarchy;

crate::tests![processes_below_its_cgroup, a_cgroup_that_others_have_come_to];

/// The cgroup of a process.
pub fn cgroup_of(pid: u32) -> PathBuf {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).expect("one of version 2");
    hierarchy().expect("cgroup v2").join(path)
}

/// Moves a process into a new cgroup below its own.
pub fn move_below(pid: u32, name: &str) -> PathBuf {
    let below = cgroup_of(pid).join(name);
    fs::create_dir(&below).expect("a cgroup");
    enter(&below, pid);
    below
}

fn enter(cgroup: &Path, pid: u32) {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).expect("a process of that cgroup's parent");
}

fn processes_below_its_cgroup(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let pid = start(bed, "c", "orphan block , write /up x , block");
    bed.until("two processes", || bed.inside("up").exists());
    let other = leaks::descendants(pid)[0].pid;
    let below = move_below(other, "below");
    let mut all: Vec<u32> = serde_json::from_str(&bed.oci("ps -f json c").ok()).expect("JSON");
    all.sort_unstable();
    assert_eq!(all, [pid.min(other), pid.max(other)]);
    // The first process of a pid namespace is not ended by that.
    bed.oci("kill --all c TERM").ok();
    ends(other);
    assert!(below.exists());
    bed.oci("delete --force c").ok();
    assert!(!below.exists());
    bed.is_clean();
}

/// The cgroup of a container that has ended is given to another one.
fn a_cgroup_that_others_have_come_to(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let mut config = config(bed, "block");
    config["linux"]["cgroupsPath"] = json!(format!("podlet-test-{}", std::process::id()));
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid first").ok();
    bed.oci("kill first KILL").ok();
    ends(pid(bed));
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid second").ok();
    let pid = pid(bed);
    assert_eq!(bed.oci("ps -f json first").ok().trim(), "[]");
    bed.oci("kill --all first KILL").ok();
    bed.oci("delete first").ok();
    assert_eq!(bed.oci_state_of("second")["status"], "running");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let cgroup = cgroup_of(pid);
    bed.oci("delete --force second").ok();
    // The first container made it, and has left it to others.
    fs::remove_dir(cgroup).expect("an empty cgroup");
    bed.is_clean();
}
