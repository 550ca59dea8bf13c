//! Trees that a container made, or an image has: deeper than a process has
//! descriptors or a stack, longer than any path.

use std::fs;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::oci::{self, config, ends, list, write};
use super::oci_cgroups::cgroup_of;
use crate::bed::Bed;
use crate::leaks;
use crate::modes::Mode;

crate::tests![
    a_deep_tree_that_a_container_made_does_not_keep_rm_from_removing_it,
    what_is_mounted_in_a_containers_directory_is_not_removed_with_it,
    cgroups_with_long_names_do_not_keep_a_pod_from_being_removed,
    cgroups_with_long_names_hide_no_process,
    a_deep_directory_of_an_image_does_not_keep_tmpcopyup_from_copying_it,
];

/// More levels than a process gets descriptors.
const LEVELS: u32 = 3000;

/// The command with 64 descriptors and 8 MB of stack.
fn limited(command: Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && ulimit -s 8192 && exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    limited
}

/// The probe, outside of any container.
fn probe(bed: &Bed, words: &[&str]) -> String {
    let mut command = Command::new(bed.inside("probe"));
    command.args(words);
    bed.finish(command).ok()
}

/// Moves a process into a cgroup far below its own.
fn hide(bed: &Bed, process: u32) {
    let (cgroup, name) = (cgroup_of(process).display().to_string(), "x".repeat(200));
    let said = probe(bed, &["deep", &cgroup, &name, "30", "write", "cgroup.procs", &process.to_string()]);
    assert!(said.contains("deep: ok") && said.contains("write cgroup.procs: ok"), "{said}");
}

fn a_deep_tree_that_a_container_made_does_not_keep_rm_from_removing_it(bed: &Bed) {
    // Others' changes of the machine's files are never on disk.
    if bed.mode != Mode::Root {
        return;
    }
    bed.podlet("create web").ok();
    let name = "x".repeat(100);
    for container in ["a", "b"] {
        let line = format!("run -d --pod web --name {container} host ROOT/probe deep /var {name} {LEVELS} , block");
        bed.podlet(&line).ok();
        bed.await_log(&format!("web/{container}"), "deep: ok");
    }
    bed.finish(limited(bed.command(&["rm", "-f", "web/a"]))).ok();
    assert_eq!(bed.inspect("web")["containers"].as_array().map(Vec::len), Some(1));
    bed.finish(limited(bed.command(&["rm", "-f", "web"]))).ok();
    bed.is_clean();
}

fn what_is_mounted_in_a_containers_directory_is_not_removed_with_it(bed: &Bed) {
    if !matches!(bed.mode, Mode::Root | Mode::Mapped) {
        return;
    }
    let others = bed.dir.join("others");
    fs::create_dir_all(others.join("dir")).expect("a directory");
    fs::write(others.join("dir/file"), "").expect("a file");
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    let point = bed.state().join("web/containers/a/point");
    fs::create_dir(&point).expect("a directory");
    // Of the same file system, so that nothing but the mount tells.
    let none: Option<&str> = None;
    mount(Some(&others), &point, none, MsFlags::MS_BIND, none).expect("a mount");
    bed.podlet("rm -f web/a").fails(125, &["containers/a", "link"]);
    bed.podlet("rm -f web").fails(125, &["containers", "link"]);
    umount2(&point, MntFlags::MNT_DETACH).expect("unmounting");
    assert!(others.join("dir/file").exists(), "it went with the container");
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn cgroups_with_long_names_do_not_keep_a_pod_from_being_removed(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    for command in [["rm", "-f", "web/a"], ["rm", "-f", "web"]] {
        bed.podlet("create web").ok();
        bed.podlet("run -d --pod web --name a --rootfs ROOT /probe orphan block , echo made , block").ok();
        bed.await_log("web/a", "made");
        let first = bed.pid_of("web/a");
        let all = leaks::descendants(bed.pause_of("web"));
        let other = all.iter().find(|seen| seen.pid != first).expect("an orphan").pid;
        hide(bed, other);
        bed.finish(limited(bed.command(&command))).ok();
        ends(other);
        bed.podlet("rm -f web").ok();
        bed.is_clean();
    }
}

fn cgroups_with_long_names_hide_no_process(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let first = oci::start(bed, "c", "orphan block , write /up x , block");
    bed.until("two processes", || bed.inside("up").exists());
    let other = leaks::descendants(first)[0].pid;
    hide(bed, other);
    let mut all: Vec<u32> = serde_json::from_str(&bed.oci("ps -f json c").ok()).expect("JSON");
    all.sort_unstable();
    assert_eq!(all, [first.min(other), first.max(other)]);
    // The first process of a pid namespace is not ended by that.
    bed.oci("kill --all c TERM").ok();
    ends(other);
    bed.finish(limited(bed.oci_command(&["delete", "--force", "c"]))).ok();
    bed.is_clean();
}

fn a_deep_directory_of_an_image_does_not_keep_tmpcopyup_from_copying_it(bed: &Bed) {
    let tree = bed.inside("etc/tree");
    fs::create_dir(&tree).expect("a directory");
    let said = probe(bed, &["deep", &tree.display().to_string(), "d", &LEVELS.to_string(), "write", "end", "x"]);
    assert!(said.contains("deep: ok") && said.contains("write end: ok"), "{said}");
    let mut config = config(bed, "levels /etc/tree d , read end");
    let copied = json!({ "destination": "/etc/tree", "type": "tmpfs", "options": ["tmpcopyup"] });
    list(&mut config["mounts"]).push(copied);
    write(bed, &config);
    let run = bed.finish(limited(bed.oci_command(&bed.expand("run --bundle DIR c"))));
    if bed.mode.nests_users() {
        run.fails(1, &["tmpcopyup"]);
        return;
    }
    assert_eq!(run.ok(), format!("cd /etc/tree: ok\nlevels: {LEVELS}\nx\n"));
}
