//! What ends, and what waits: processes that cannot run, signals to the
//! commands themselves, and ends by signals that have no name.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;

use super::oci::{config, start, write};
use super::oci_cgroups::cgroup_of;
use super::oci_hooks::{probe, sh};
use crate::bed::{Background, Bed, Said};
use crate::sys;

crate::tests![
    nobody_is_born_in_a_frozen_cgroup,
    exec_waits_for_a_paused_container_until_it_is_told_to_end,
    a_run_whose_hook_hangs_ends_by_what_ends_a_program,
    an_end_by_a_real_time_signal_is_told,
    a_hook_that_ends_by_a_real_time_signal_is_told,
];

/// Frozen until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(cgroup: &Path) -> Frozen {
        fs::write(cgroup.join("cgroup.freeze"), "1").expect("a cgroup that can be frozen");
        Frozen(cgroup.into())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.freeze"), "0").ok();
    }
}

/// Its end, which must come by itself.
#[track_caller]
fn ended(command: Background) -> Said {
    assert!(sys::ends_within(command.pid(), 20_000), "it hangs: {}", command.out());
    command.wait()
}

fn nobody_is_born_in_a_frozen_cgroup(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    let oci = |line: &str| ended(bed.spawn_command(bed.oci_command(&bed.expand(line))));
    // A container's own cgroup, its parent, and a parent that is not there yet.
    let first = start(bed, "a", "block");
    let above = cgroup_of(first).parent().expect("one above").join(format!("podlet-test-{}", std::process::id()));
    bed.oci("delete --force a").ok();
    fs::create_dir(&above).expect("a cgroup");
    let name = above.file_name().expect("a name").to_string_lossy().into_owned();
    let mut config = config(bed, "block");
    for path in [name.clone(), format!("{name}/c"), format!("{name}/b/c")] {
        let _frozen = Frozen::new(&above);
        config["linux"]["cgroupsPath"] = json!(path);
        write(bed, &config);
        for command in ["run", "create"] {
            oci(&format!("{command} --bundle DIR c")).fails(1, &["linux.cgroupsPath", "is frozen"]);
            oci("delete --force c").ok();
            bed.is_clean();
        }
    }
    // Frozen when the container runs: it is not paused itself.
    config["linux"]["cgroupsPath"] = json!(format!("{name}/c"));
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR c").ok();
    {
        let _frozen = Frozen::new(&above);
        oci("exec c /probe exit 0").fails(255, &["is frozen"]);
    }
    bed.oci("exec c /probe echo on").ok();
    bed.oci("delete --force c").ok();
    fs::remove_dir(&above).expect("an empty cgroup");
    // A pod's.
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    let containers = cgroup_of(bed.pid_of("web/a")).parent().expect("one above").to_path_buf();
    {
        let _frozen = Frozen::new(&containers);
        ended(bed.spawn("exec web/a /probe exit 0")).fails(125, &["is frozen"]);
        ended(bed.spawn("run --pod web --rm --rootfs ROOT /probe exit 0")).fails(125, &["is frozen"]);
    }
    bed.podlet("exec web/a /probe exit 0").ok();
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn exec_waits_for_a_paused_container_until_it_is_told_to_end(bed: &Bed) {
    if !bed.mode.has_cgroups() {
        return;
    }
    start(bed, "c", "block");
    bed.oci("pause c").ok();
    let exec =
        |words: &str| bed.spawn_command(bed.oci_command(&bed.expand(&format!("exec --ignore-paused c {words}"))));
    let waiting = exec("/probe write /done x");
    bed.until("it to hold its signals", || holds_sigterm(waiting.pid()));
    waiting.signal(Signal::SIGTERM);
    ended(waiting).fails(255, &["given up"]);
    let waiting = exec("/probe exit 7");
    assert!(!sys::ends_within(waiting.pid(), 100), "it does not wait");
    bed.oci("resume c").ok();
    ended(waiting).code(7);
    assert!(!bed.inside("done").exists(), "who was told to end has run all the same");
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn holds_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or_default();
    u64::from_str_radix(blocked.trim(), 16).is_ok_and(|blocked| blocked & 1 << (Signal::SIGTERM as u64 - 1) != 0)
}

fn a_run_whose_hook_hangs_ends_by_what_ends_a_program(bed: &Bed) {
    let hangs = sh(bed, "touch DIR/hangs; exec sleep 1000");
    let inside = probe("hook write /hangs x , block");
    for (kind, hook) in [
        ("prestart", &hangs),
        ("createRuntime", &hangs),
        ("createContainer", &hangs),
        ("startContainer", &inside),
        ("poststart", &hangs),
        ("poststop", &hangs),
    ] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut config = config(bed, if kind == "poststop" { "exit 0" } else { "block" });
            config["hooks"] = json!({ kind: [hook] });
            write(bed, &config);
            let run = bed.spawn_command(bed.oci_command(&bed.expand("run --bundle DIR c")));
            let marks = [bed.dir.join("hangs"), bed.inside("hangs")];
            bed.until(kind, || marks.iter().any(|mark| mark.exists()));
            marks.iter().for_each(|mark| drop(fs::remove_file(mark)));
            run.signal(signal);
            let said = ended(run);
            // After its end it is no more than a warning.
            said.fails(if kind == "poststop" { 0 } else { 1 }, &[kind, "given up"]);
            bed.is_clean();
        }
    }
}

fn an_end_by_a_real_time_signal_is_told(bed: &Bed) {
    start(bed, "c", "block");
    for number in [34, 40, 64] {
        bed.oci(&format!("exec c /probe kill-self {number}")).code(128 + number);
    }
    bed.oci("delete --force c").ok();
    bed.is_clean();
}

fn a_hook_that_ends_by_a_real_time_signal_is_told(bed: &Bed) {
    for (kind, hook) in
        [("createRuntime", sh(bed, "kill -40 $$")), ("startContainer", probe("hook kill-self 40 , exit 0"))]
    {
        let mut config = config(bed, "exit 0");
        config["hooks"] = json!({ kind: [hook] });
        write(bed, &config);
        bed.oci("run --bundle DIR c").fails(1, &[kind, "was killed by SIGRTMIN+6"]);
        bed.is_clean();
    }
}
