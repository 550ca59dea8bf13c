//! Containers that have cgroups of their own, as systemd in a container has.

use std::fs;
use std::path::{Path, PathBuf};

use super::oci::{ends, start};
use crate::bed::Bed;
use crate::leaks;
use crate::modes::hierarchy;

crate::tests![processes_below_its_cgroup];

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
