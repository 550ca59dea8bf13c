//! What a container that may mount file systems can come to, and what not: its
//! own limits, where a mount of cgroup2 shows them, and cgroup version 1.

use std::fs;
use std::path::{Path, PathBuf};

use pod::{Io, Pod, PodOptions, Resources};
use serde_json::{Value, json};

use super::oci;
use super::oci_cgroups::cgroup_of;
use crate::bed::Bed;
use crate::modes::{Mode, hierarchy};

crate::tests![
    limits_that_a_container_lifts_still_hold,
    limits_that_a_bundle_lifts_still_hold,
    limits_that_a_pod_lifts_in_its_cgroup_namespace_still_hold,
    a_cgroup_that_was_there_keeps_nothing_of_doubled_limits,
    what_a_container_that_may_mount_reaches_is_told,
];

/// A limit that can be set here: the file and the value; `None` where version
/// 2 has no controllers for pods.
fn limit(bed: &Bed) -> Option<(&'static str, &'static str)> {
    let mount = hierarchy().filter(|_| bed.mode.has_cgroups())?;
    // What is passed on to where this test is.
    let own = fs::read_to_string("/proc/self/cgroup").expect("its cgroup");
    let own = mount.join(own.lines().find_map(|line| line.strip_prefix("0::/")).expect("one of version 2"));
    let has = |controller: &str| {
        let controllers = fs::read_to_string(own.join("cgroup.controllers")).expect("a cgroup");
        controllers.split_whitespace().any(|found| found == controller)
    };
    [("pids", ("pids.max", "20")), ("hugetlb", ("hugetlb.2MB.max", "4194304"))]
        .into_iter()
        .find_map(|(controller, limit)| has(controller).then_some(limit))
}

/// The kernel keeps containers from writing the limits that they see: EPERM.
fn is_delegated() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.lines().any(|line| line.contains(" - cgroup2 ") && line.contains("nsdelegate"))
}

/// Mounts what the container's cgroup namespace shows, and writes there.
fn lift(file: &str) -> String {
    format!("mkdir /m , mount cgroup2 /m , read /m/{file} , write /m/{file} max , read /m/{file} , echo lifted , block")
}

/// What it did: the limit is where programs look for it, and could be lifted.
fn was_lifted(log: &str, value: &str) {
    let lines: Vec<_> = log.lines().skip_while(|line| !line.starts_with("mount")).collect();
    let (write, after) = if is_delegated() { ("errno 1", value) } else { ("ok", "max") };
    assert!(lines[0].ends_with(": ok") && lines[1] == value, "{log}");
    assert!(lines[2].ends_with(write) && lines[3] == after, "{log}");
}

/// What limits a process: the files of this name from its cgroup upwards.
fn above(pid: u32, file: &str) -> Vec<(PathBuf, String)> {
    let cgroup = cgroup_of(pid);
    let files = cgroup.ancestors().map(|dir| dir.join(file)).filter(|path| path.exists());
    files.map(|path| (path.clone(), fs::read_to_string(&path).expect("a limit").trim().to_string())).collect()
}

/// What of it no container can have changed still limits the process.
fn holds(pid: u32, file: &str, value: &str) {
    let found = above(pid, file);
    println!("{found:?}");
    assert!(found.iter().any(|(_, found)| found == value), "{found:?}");
}

/// As a bundle's or a pod's config has it.
fn resources(file: &str, value: &str) -> Value {
    json!({ "unified": { file: value } })
}

fn unified(file: &str, value: &str) -> Resources {
    Resources { unified: [(file.to_string(), value.to_string())].into(), ..Resources::default() }
}

/// Another value than [`limit`] gives.
const CHANGED: &str = "2097152";

fn limits_that_a_container_lifts_still_hold(bed: &Bed) {
    let Some((file, value)) = limit(bed) else { return };
    let mut config = lifting_bundle(bed, file, value);
    // The pod has the user namespace.
    config["linux"]["namespaces"].as_array_mut().expect("an array").retain(|kind| kind["type"] != "user");
    for maps in ["uidMappings", "gidMappings"] {
        config["linux"].as_object_mut().expect("an object").remove(maps);
    }
    oci::write(bed, &config);
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --bundle DIR").ok();
    bed.await_log("web/a", "lifted");
    was_lifted(&bed.podlet("logs web/a").ok(), value);
    let pid = bed.pid_of("web/a");
    holds(pid, file, value);
    // Another process of it is where the first one is.
    let cgroup = bed.podlet("exec web/a /probe read /proc/self/cgroup").ok();
    assert!(cgroup.contains("0::/\n"), "{cgroup}");
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    pod.container("a").expect("a container").update(&unified(file, CHANGED)).expect("an update");
    let found = above(pid, file);
    assert_eq!(found[0].1, CHANGED, "where programs look for it: {found:?}");
    if !is_delegated() {
        assert_eq!(found[1].1, CHANGED, "and out of reach: {found:?}");
    }
    bed.podlet("stop -t 0 web/a").ok();
    bed.podlet("start web/a").ok();
    holds(bed.pid_of("web/a"), file, CHANGED);
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

/// The config of a bundle that lifts its limits.
fn lifting_bundle(bed: &Bed, file: &str, value: &str) -> Value {
    let mut config = oci::config(bed, &lift(file));
    config["linux"]["resources"] = resources(file, value);
    config["process"]["capabilities"] = json!({
        "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"],
    });
    config
}

fn limits_that_a_bundle_lifts_still_hold(bed: &Bed) {
    if bed.mode == Mode::Delegated {
        // There podlet-oci is itself in the cgroup that would pass on the controller.
        return;
    }
    let Some((file, value)) = limit(bed) else { return };
    oci::become_subreaper();
    oci::write(bed, &lifting_bundle(bed, file, value));
    let output = bed.dir.join("output");
    let mut command = bed.oci_command(&bed.expand("run -d --bundle DIR --pid-file DIR/pid c"));
    command.stdout(fs::File::create(&output).expect("a file")).stderr(std::process::Stdio::inherit());
    assert!(command.status().expect("podlet-oci runs").success());
    let said = || fs::read_to_string(&output).expect("what it says");
    bed.until("that it is lifted", || said().contains("lifted\n"));
    was_lifted(&said(), value);
    let pid = oci::pid(bed);
    holds(pid, file, value);
    let cgroup = bed.oci("exec c /probe read /proc/self/cgroup").ok();
    assert!(cgroup.contains("0::/\n"), "{cgroup}");
    fs::write(bed.dir.join("change.json"), resources(file, CHANGED).to_string()).expect("a file");
    bed.oci("update -r DIR/change.json c").ok();
    let found = above(pid, file);
    assert_eq!(found[0].1, CHANGED, "where programs look for it: {found:?}");
    if !is_delegated() {
        assert_eq!(found[1].1, CHANGED, "and out of reach: {found:?}");
    }
    bed.oci("delete --force c").ok();
    assert!(!cgroup_exists(&found[0].0), "{found:?}");
    bed.is_clean();
}

fn cgroup_exists(file: &Path) -> bool {
    file.parent().is_some_and(Path::exists)
}

fn limits_that_a_pod_lifts_in_its_cgroup_namespace_still_hold(bed: &Bed) {
    let Some((file, value)) = limit(bed) else { return };
    let mut options = PodOptions::new("web");
    options.share.insert(pod::Namespace::Cgroup);
    options.resources = unified(file, value);
    let mut pod = Pod::create(&bed.store(), options).expect("a pod");
    let container = bed.container("a", &lift(file)).add_capability(pod::Capability::CAP_SYS_ADMIN);
    let running = pod.run(&container, Io::log()).expect("a container");
    bed.await_log("web/a", "lifted");
    was_lifted(&bed.podlet("logs web/a").ok(), value);
    let pid = bed.pid_of("web/a");
    holds(pid, file, value);
    let own = above(pid, file).len();
    // pause is where it always is.
    assert!(cgroup_of(bed.pause_of("web")).ends_with("pause"));
    pod.update(&unified(file, CHANGED)).expect("an update");
    let changed = above(pid, file).iter().filter(|(_, found)| found == CHANGED).count();
    assert_eq!(changed, if is_delegated() { 1 } else { 2 }, "of {own}");
    drop(running);
    pod.remove().expect("removal");
}

/// An engine's, which the container is not to take along.
fn a_cgroup_that_was_there_keeps_nothing_of_doubled_limits(bed: &Bed) {
    if bed.mode == Mode::Delegated {
        // There podlet-oci is itself in the cgroup that would pass on the controller.
        return;
    }
    let Some((file, value)) = limit(bed) else { return };
    let mut config = lifting_bundle(bed, file, value);
    let name = format!("podlet-test-{}", std::process::id());
    config["linux"]["cgroupsPath"] = json!(name);
    oci::write(bed, &config);
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid first").ok();
    let cgroup = cgroup_of(oci::pid(bed));
    let cgroup = cgroup.ancestors().find(|dir| dir.ends_with(&name)).expect("the one of the config").to_path_buf();
    bed.oci("delete --force first").ok();
    assert!(!cgroup.exists());
    fs::create_dir(&cgroup).expect("a cgroup");
    bed.oci_detached("run -d --bundle DIR --pid-file DIR/pid second").ok();
    bed.oci("delete --force second").ok();
    fs::remove_dir(&cgroup).expect("a cgroup with nothing below");
    bed.is_clean();
}

fn what_a_container_that_may_mount_reaches_is_told(bed: &Bed) {
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("own cgroups");
    let version_1 = cgroups.lines().find(|line| !line.starts_with("0::"));
    let hierarchy = version_1.map(|line| line.split(':').nth(1).expect("its name"));
    let does = if bed.mode == Mode::Root { "root in it can change" } else { "it can read" };
    for (option, why) in [
        ("--security-opt seccomp=unconfined", Some("has no seccomp filter")),
        ("--cap-add SYS_ADMIN", Some("has CAP_SYS_ADMIN")),
        ("", None),
        ("--cap-drop ALL", None),
    ] {
        let line = format!("--name a {option} --rootfs ROOT /probe echo up");
        let plan = bed.podlet(&format!("plan {line}")).ok();
        let run = bed.podlet(&format!("run --rm {line}"));
        assert_eq!(run.out, "up\n");
        for told in [plan.lines().filter(|line| line.starts_with('#')).collect(), run.err] {
            match (why, hierarchy) {
                // The negative control: no user is told of what is not so.
                (None, _) | (_, None) => assert!(!told.contains("version 1"), "{told}"),
                (Some(why), Some(hierarchy)) => {
                    for word in ["container a", why, hierarchy, does, "docs/security.md"] {
                        assert!(told.contains(word), "{word} is missing: {told}");
                    }
                }
            }
        }
    }
}
