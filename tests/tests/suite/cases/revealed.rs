//! SECURITY: no way into a container's root leaves a proc or sysfs of the
//! machine in the mount namespace that shows everything, with which the kernel
//! would let programs mount one of their own, without what is masked.

use serde_json::{Value, json};

use super::oci::{config, write};
use super::oci_mounts::{end, inheriting, joining, neighbour};
use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![
    without_pivot_root_nobody_mounts_a_proc_that_shows_everything,
    in_a_joined_mount_namespace_nobody_mounts_a_proc_that_shows_everything,
    in_the_callers_mount_namespace_nobody_makes_a_user_namespace,
    the_host_image_has_no_proc_and_sysfs_of_the_machine_below_its_own,
];

const ANEW: &str = "anew /sub , mounts";

/// With a proc and a sysfs of its own, of which something is masked.
fn masked(mut config: Value) -> Value {
    let sys = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] });
    config["mounts"].as_array_mut().expect("an array").push(sys);
    config["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/scsi", "/proc/keys", "/sys/firmware"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    config
}

/// The kernel found nothing that shows everything.
#[track_caller]
pub fn is_denied(said: &str) {
    for kind in ["namespaces: ok", "proc: errno 1", "sysfs: errno 1"] {
        assert!(said.contains(&format!("anew {kind}\n")), "{kind} is missing in {said}");
    }
    // And of the machine's nothing is left where a path leads.
    has_only_its_own(said);
}

/// Among these mounts one proc and one sysfs are whole.
#[track_caller]
fn has_only_its_own(said: &str) {
    let whole =
        said.lines().filter(|line| line.contains(" / /") && (line.contains("- proc ") || line.contains("- sysfs ")));
    let points: Vec<_> = whole.filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(points.iter().all(|point| ["/proc", "/sys"].contains(point)) && points.len() == 2, "{points:?} in {said}");
}

fn without_pivot_root_nobody_mounts_a_proc_that_shows_everything(bed: &Bed) {
    write(bed, &masked(config(bed, ANEW)));
    for options in ["", "--no-pivot"] {
        is_denied(&bed.oci(&format!("run {options} --bundle DIR c")).ok());
    }
    // The control: with a /proc that shows everything, its own, it may.
    let mut open = masked(config(bed, ANEW));
    (open["linux"]["maskedPaths"], open["linux"]["readonlyPaths"]) = (json!([]), json!([]));
    write(bed, &open);
    let said = bed.oci("run --no-pivot --bundle DIR c").ok();
    assert!(said.contains("anew proc: ok\n"), "{said}");
    bed.is_clean();
}

fn in_a_joined_mount_namespace_nobody_mounts_a_proc_that_shows_everything(bed: &Bed) {
    for options in ["", "--no-pivot"] {
        let other = neighbour(bed, "private");
        write(bed, &masked(joining(bed, ANEW, other.pid())));
        let said = bed.oci(&format!("run {options} --bundle DIR c"));
        match options.is_empty() || !bed.mode.nests_users() {
            true => is_denied(&said.ok()),
            // No command can look for them in there from outside.
            false => drop(said.fails(1, &["linux.namespaces", "--no-pivot"])),
        }
        end(other);
    }
    bed.is_clean();
}

/// The machine's mounts stay there, for they are every process's; the kernel keeps
/// user namespaces from a process with another root than the mount namespace's.
fn in_the_callers_mount_namespace_nobody_makes_a_user_namespace(bed: &Bed) {
    if bed.mode.nests_users() {
        return;
    }
    for options in ["", "--no-pivot"] {
        write(bed, &masked(inheriting(bed, ANEW)));
        let said = bed.oci(&format!("run {options} --bundle DIR c")).ok();
        assert!(said.contains("anew namespaces: errno 1\n"), "{said}");
    }
    bed.is_clean();
}

/// A container that may unmount its own would find the machine's there, with
/// all processes of the machine.
fn the_host_image_has_no_proc_and_sysfs_of_the_machine_below_its_own(bed: &Bed) {
    // What an ordinary user has of the machine's mounts cannot be taken apart.
    if bed.mode != Mode::Root {
        let said = bed.podlet("run --rm --cap-add SYS_ADMIN host true").fails(125, &["CAP_SYS_ADMIN", "--rootfs"]);
        assert!(said.err.contains("/proc"), "{}", said.err);
        return;
    }
    let users = "--share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";
    for options in ["", users] {
        has_only_its_own(&bed.podlet(&format!("run --rm {options} host cat /proc/self/mountinfo")).ok());
    }
    let script = "umount -l /proc; echo /proc/[1-9]*";
    std::fs::write(bed.dir.join("look"), script).expect("a script");
    let volume = "-v DIR/look:/etc/hostname:ro";
    let said = bed.podlet(&format!("run --rm {users} --cap-add SYS_ADMIN {volume} host sh /etc/hostname")).ok();
    assert_eq!(said, "/proc/[1-9]*\n");
}
