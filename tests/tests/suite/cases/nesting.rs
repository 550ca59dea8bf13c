//! Namespaces and mounts of a container's own: denied unless it has
//! CAP_SYS_ADMIN or is told to nest containers.

use std::fs;
use std::path::Path;

use crate::bed::Bed;
use crate::modes::{self, Mode};

crate::tests![
    a_container_makes_no_namespaces_and_no_mounts,
    cgroup_v1_and_own_limits_are_out_of_reach,
    threads_do_without_clone3,
    cap_sys_admin_gives_namespaces_back,
    a_nesting_container_mounts_a_fresh_proc,
    podlet_runs_in_a_container_that_nests,
    podlet_in_a_container_that_does_not_nest_says_what_it_takes,
    nesting_in_the_machines_user_namespace_is_refused,
];

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// A pod of root's with ids of its own.
const USERS: &str = "--share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";

/// What a container could make or enter namespaces with, or mount, and the
/// errno it gets; by 64-bit, x32 and 32-bit calls.
const REFUSED: [(&str, i32); 34] = [
    // unshare: CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWTIME, nothing.
    ("call 272 0x10000000", EPERM),
    ("call 272 0x20000", EPERM),
    ("call 272 0x80", EPERM),
    ("call 272 0", EPERM),
    ("call 0x40000110 0x10000000", EPERM),
    ("call32 310 0x10000000", EPERM),
    // clone: CLONE_NEWUSER, NEWCGROUP, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS.
    ("call 56 0x10000011 0 0 0 0", EPERM),
    ("call 56 0x12000011 0 0 0 0", EPERM),
    ("call 56 0x20011 0 0 0 0", EPERM),
    ("call 56 0x20000011 0 0 0 0", EPERM),
    ("call 56 0x40000011 0 0 0 0", EPERM),
    ("call 56 0x8000011 0 0 0 0", EPERM),
    ("call 56 0x4000011 0 0 0 0", EPERM),
    ("call 0x40000038 0x10000011 0 0 0 0", EPERM),
    ("call32 120 0x10000011 0 0 0 0", EPERM),
    // clone3.
    ("call 435 buf 88", ENOSYS),
    ("call 0x400001b3 buf 88", ENOSYS),
    ("call32 435 buf 88", ENOSYS),
    // setns.
    ("call 308 -1 0", EPERM),
    ("call32 346 -1 0", EPERM),
    // mount, umount2, pivot_root, and umount of i386.
    ("call 165 buf buf buf 0 0", EPERM),
    ("call32 21 0 0 0 0 0", EPERM),
    ("call 166 buf 0", EPERM),
    ("call32 22 0", EPERM),
    ("call 155 buf buf", EPERM),
    // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr,
    // open_tree_attr.
    ("call 428 -100 buf 0x1000", EPERM),
    ("call 429 -1 buf -1 buf 0", EPERM),
    ("call 430 buf 0", EPERM),
    ("call 431 -1 0 0 0 0", EPERM),
    ("call 432 -1 0 0", EPERM),
    ("call 433 -1 buf 0", EPERM),
    ("call 442 -1 buf 0 buf 32", EPERM),
    ("call 467 -1 buf 0 buf 32", EPERM),
    // A namespace's name is refused like the namespace.
    ("call 170 buf 0", EPERM),
];

fn errnos(said: &str) -> Vec<i32> {
    let errno = |line: &str| line.rsplit_once("errno ").map_or(0, |(_, errno)| errno.parse().expect("a number"));
    said.lines().map(errno).collect()
}

/// The options of a container, for every kind this mode can have.
fn kinds(bed: &Bed) -> Vec<&'static str> {
    match bed.mode {
        Mode::Root => vec!["", "--cap-drop ALL", "--share net,ipc,uts", USERS],
        _ => vec!["", "--cap-drop ALL", "--share net,ipc,uts"],
    }
}

/// The options of a container that may nest.
fn nesting(bed: &Bed) -> String {
    format!("{} --security-opt nesting", if bed.mode == Mode::Root { USERS } else { "" })
}

fn a_container_makes_no_namespaces_and_no_mounts(bed: &Bed) {
    let script: Vec<_> = REFUSED.iter().map(|(verb, _)| *verb).collect();
    let script = script.join(" , ");
    let check = |said: &str, where_: &str| {
        let seen = errnos(said);
        assert_eq!(seen.len(), REFUSED.len(), "{said}");
        for ((verb, expected), seen) in REFUSED.iter().zip(seen) {
            assert_eq!(seen, *expected, "{verb} of {where_}");
        }
    };
    for options in kinds(bed) {
        check(&bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe {script}")).ok(), options);
    }
    bed.podlet("run -d --name a --rootfs ROOT /probe block").ok();
    check(&bed.podlet(&format!("exec a /probe {script}")).ok(), "an exec");
    bed.podlet("rm -f a").ok();
    // The negative control: the kernel would have done it.
    let open = "run --rm --security-opt seccomp=unconfined --rootfs ROOT /probe";
    assert_eq!(errnos(&bed.podlet(&format!("{open} call 272 0x10000000")).ok()), [0]);
}

fn cgroup_v1_and_own_limits_are_out_of_reach(bed: &Bed) {
    // A user, a mount and a cgroup namespace, and in these the freezer of v1
    // and the whole of v2.
    let script = "call 272 0x12020000 , mount cgroup /tmp freezer , mount cgroup2 /srv";
    for options in kinds(bed) {
        let said = bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe {script}")).ok();
        assert_eq!(errnos(&said), [EPERM; 3], "{options}: {said}");
    }
    // The negative control: without the filter it has them, where they are.
    let open = "run --rm --security-opt seccomp=unconfined --rootfs ROOT /probe";
    let seen = errnos(&bed.podlet(&format!("{open} {script}")).ok());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let has_freezer = mounts.lines().any(|line| line.contains(" - cgroup ") && line.contains("freezer"));
    assert_eq!(seen[0], 0);
    assert!(seen[1] == 0 || !has_freezer, "{seen:?}");
    assert!(seen[2] == 0 || modes::hierarchy().is_none(), "{seen:?}");
}

/// The C library asks for `clone3` first.
fn threads_do_without_clone3(bed: &Bed) {
    assert_eq!(bed.podlet("run --rm --rootfs ROOT /probe thread echo from a thread").ok(), "from a thread\n");
}

fn cap_sys_admin_gives_namespaces_back(bed: &Bed) {
    let script = "mount tmpfs /tmp , call 272 0x20000 , call 435 buf 0 , call 56 0x20011 0 0 0 0";
    for options in kinds(bed) {
        let line = format!("run --rm {options} --cap-add SYS_ADMIN --rootfs ROOT /probe {script}");
        // EINVAL: a clone3 without arguments.
        let said = bed.podlet(&line).ok();
        let seen = errnos(&said);
        assert_eq!(seen[..4], [0, 0, 22, 0], "{options}: {said}");
    }
}

fn a_nesting_container_mounts_a_fresh_proc(bed: &Bed) {
    // User, mount and pid namespaces, as `unshare -Urmpf` makes them.
    let script = "call 272 0x30020000 , child mount proc /proc";
    let options = nesting(bed);
    for more in ["", "--cap-drop ALL", "--cap-add SYS_ADMIN"] {
        let said = bed.podlet(&format!("run --rm {options} {more} --rootfs ROOT /probe {script}")).ok();
        assert_eq!(errnos(&said), [0, 0], "{more}: {said}");
    }
    // The negative control: what is masked otherwise makes it impossible.
    let users = options.replace("nesting", "seccomp=unconfined");
    let said = bed.podlet(&format!("run --rm {users} --rootfs ROOT /probe {script}")).ok();
    assert_eq!(errnos(&said), [0, EPERM], "{said}");
    // What belongs to the machine stays the machine's.
    let said = bed.podlet(&format!(
        "run --rm {options} --cap-add ALL --rootfs ROOT /probe head /proc/kcore , touch-rw /proc/sysrq-trigger , \
         touch-rw /proc/sys/kernel/core_pattern , touch-rw /sys/kernel/uevent_helper"
    ));
    assert!(errnos(&said.ok()).iter().all(|errno| [1, 2, 13, 30].contains(errno)));
    let script = "call 272 0x12020000 , mount cgroup /tmp freezer , touch-rw /tmp/cgroup.procs";
    let said = bed.podlet(&format!("run --rm {options} --cap-add ALL --rootfs ROOT /probe {script}")).ok();
    // Where there is no v1 hierarchy there is no such file.
    assert!([2, 13].contains(&errnos(&said)[2]), "{said}");
}

/// A command line in a container that runs podlet, and what that runs.
fn podlet_inside(bed: &Bed, options: &str, inner: &str) -> String {
    // podlet may be linked dynamically.
    let libraries = ["/usr", "/lib", "/lib64"].into_iter().filter(|dir| Path::new(dir).exists());
    let libraries: String = libraries.map(|dir| format!("-v {dir}:{dir}:ro ")).collect();
    let podlet = bed.program("podlet");
    let inside = "--rootfs ROOT /podlet --root /tmp/state run --rm";
    format!("run --rm {libraries} -v {}:/podlet:ro --tmpfs /tmp {options} {inside} {inner}", podlet.display())
}

fn podlet_runs_in_a_container_that_nests(bed: &Bed) {
    let inner = bed.make_rootfs("rootfs/inner");
    assert!(inner.join("probe").exists());
    let script = "--rootfs /inner /probe echo nested , ids , session";
    for more in ["", "--cap-add ALL"] {
        let said = bed.podlet(&podlet_inside(bed, &format!("{} {more}", nesting(bed)), script)).ok();
        // The first one of its pod after pause and its launcher.
        assert!(said.starts_with("nested\nUid: 0 0 0 0\n") && said.contains("\npid 3 "), "{said}");
    }
    // Its own processes, too, and what it runs is as confined as any.
    let own = nesting(bed).replace("net,pid,", "net,");
    let own = if bed.mode == Mode::Root { own } else { format!("--share net,ipc,uts {own}") };
    let script = "--rootfs /inner /probe call 272 0x10000000 , call 435 buf 88";
    assert_eq!(errnos(&bed.podlet(&podlet_inside(bed, &own, script)).ok()), [EPERM, ENOSYS]);
}

fn podlet_in_a_container_that_does_not_nest_says_what_it_takes(bed: &Bed) {
    bed.make_rootfs("rootfs/inner");
    for options in kinds(bed) {
        let line = podlet_inside(bed, options, "--rootfs /inner /probe echo nested");
        bed.podlet(&line).fails(125, &["starting pod", "--security-opt nesting"]);
    }
    // With everything but an id map that the kernel grants.
    let line = podlet_inside(bed, &format!("{} --cap-drop ALL", nesting(bed)), "--rootfs /inner /probe echo nested");
    bed.podlet(&line).fails(125, &["CAP_SETFCAP"]);
}

fn nesting_in_the_machines_user_namespace_is_refused(bed: &Bed) {
    let line = "--security-opt nesting --rootfs ROOT /probe echo here";
    if bed.mode == Mode::Root {
        for command in ["run --rm", "plan", "run --rm --share net,ipc,uts --cap-add SYS_ADMIN"] {
            bed.podlet(&format!("{command} {line}")).fails(125, &["nesting", "user namespace", "--uidmap"]);
            bed.is_clean();
        }
        bed.podlet("create web").ok();
        bed.podlet(&format!("run --pod web --name a {line}")).fails(125, &["nesting", "user namespace"]);
        bed.podlet("rm web").ok();
    } else {
        assert_eq!(bed.podlet(&format!("run --rm {line}")).ok(), "here\n");
    }
    bed.podlet("run --rm --security-opt nesting=yes --rootfs ROOT /probe echo here").fails(125, &["nesting=yes"]);
    bed.is_clean();
}
