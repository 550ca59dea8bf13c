//! What a container may do to pause without tracing it: whatever one process
//! may do to another of the same user.
//!
//! Three walls stand there, and each is tried where the others do not: the
//! filter (`seccomp`), pause's ids, and its directory in `/proc`.

use std::fs;

use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![
    nothing_of_pause_can_be_written_in_proc,
    nothing_of_pause_can_be_written_in_the_proc_of_a_user_namespace,
    pause_is_of_a_user_that_no_container_can_become,
    a_pod_whose_ids_are_the_callers_has_another_user_for_pause,
];

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;

/// What there is in a process's directory.
const FILES: [&str; 14] = [
    "oom_score_adj",
    "oom_adj",
    "autogroup",
    "clear_refs",
    "coredump_filter",
    "timerslack_ns",
    "sched",
    "comm",
    "attr/current",
    "setgroups",
    "uid_map",
    "mem",
    "task/1/oom_score_adj",
    "task/1/comm",
];

/// The ways to it.
const WAYS: [&str; 4] = ["/proc/1", "/proc/self/../1", "/proc/thread-self/../../../1", "/proc/self/root/proc/1"];

/// The verbs that open each of them for writing. Nothing is written.
fn open_all() -> String {
    let paths = WAYS.iter().flat_map(|way| FILES.iter().map(move |file| format!("{way}/{file}")));
    // Not every kernel has each.
    let there = paths.filter(|path| fs::exists(path.replace("/proc/thread-self/../../..", "/proc")).unwrap_or(true));
    there.map(|path| format!("touch-rw {path}")).collect::<Vec<_>>().join(" , ")
}

fn errnos(said: &str) -> Vec<i32> {
    let errno = |line: &str| line.rsplit_once("errno ").map_or(0, |(_, errno)| errno.parse().expect("a number"));
    said.lines().map(errno).collect()
}

/// How to make a pod in which pause has ids that no other process can have, where
/// the caller can.
fn apart(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Root | Mode::Vm => Some(OWN_IDS),
        Mode::Delegated => Some(""),
        Mode::User | Mode::Mapped => None,
    }
}

const OWN_IDS: &str = "--share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";

fn nothing_of_pause_can_be_written_in_proc(bed: &Bed) {
    is_read_only(bed, "");
    if bed.mode.nests_users() {
        // Without this wall root of an ordinary user's pod may, for the kernel
        // shows the files of a process that cannot be traced as those of the user
        // that executed its program: a container that nests others has to see a
        // /proc that is whole.
        let option = "--security-opt nesting";
        let said = bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe touch-rw /proc/1/coredump_filter")).ok();
        assert_eq!(errnos(&said), [0], "{said}");
    }
}

fn nothing_of_pause_can_be_written_in_the_proc_of_a_user_namespace(bed: &Bed) {
    apart(bed.mode).into_iter().for_each(|options| is_read_only(bed, options));
}

fn is_read_only(bed: &Bed, pod: &str) {
    let open = open_all();
    // A file that no process may read, and all of them where pause has other ids,
    // are denied before it counts where they are.
    let is_denied = |line: &str| match errnos(line)[..] {
        [EACCES] => line.contains("clear_refs") || !pod.is_empty(),
        [errno] => errno == EROFS,
        _ => false,
    };
    bed.podlet(&format!("create web {pod}")).ok();
    let options = [
        "",
        "--cap-drop ALL",
        "--security-opt seccomp=unconfined",
        "--security-opt seccomp=unconfined --cap-add SYS_PTRACE --cap-add SYS_NICE",
    ];
    for option in options.iter().filter(|option| bed.mode != Mode::Mapped || !option.contains("SYS_NICE")) {
        let said = bed.podlet(&format!("run --pod web --rm {option} --rootfs ROOT /probe {open}")).ok();
        assert!(said.lines().count() >= FILES.len() && said.lines().all(is_denied), "{option}: {said}");
    }
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    let said = bed.podlet(&format!("exec web/a /probe {open} , touch-rw /proc/self/oom_score_adj")).ok();
    let (others, own) = said.trim().rsplit_once('\n').expect("lines");
    assert!(others.lines().all(is_denied), "{said}");
    // It is not all of /proc.
    assert!(own.ends_with(": ok"), "{own}");
    bed.podlet("rm -f web").ok();
}

/// Calls that one process may make about another of the same user, as harmless
/// as they can be.
const CALLS: [(&str, &str); 7] = [
    ("prlimit64", "call 302 1 4 buf 0"),
    ("sched_setaffinity", "call 203 1 8 buf"),
    ("sched_setscheduler", "call 144 1 3 buf"),
    ("sched_setparam", "call 142 1 buf"),
    ("sched_setattr", "call 314 1 buf 0"),
    ("setpriority", "call 141 0 1 5"),
    ("ioprio_set", "call 251 1 1 0x4004"),
];

fn pause_is_of_a_user_that_no_container_can_become(bed: &Bed) {
    let calls: Vec<_> = CALLS.iter().map(|(_, call)| *call).collect();
    if let Some(options) = apart(bed.mode) {
        bed.podlet(&format!("create web {options}")).ok();
        // Without the filter's wall.
        for option in ["", "--cap-drop ALL", "--cap-add SYS_ADMIN --cap-add SYS_PTRACE"] {
            let run = format!("run --pod web --rm --security-opt seccomp=unconfined {option} --rootfs ROOT /probe");
            let said = bed.podlet(&format!("{run} {}", calls.join(" , "))).ok();
            assert_eq!(errnos(&said), [EPERM; CALLS.len()], "{option}: {said}");
        }
        // The negative control: the calls are about a process that is there, and
        // these capabilities are for others' processes.
        let options = "--security-opt seccomp=unconfined --cap-add SYS_NICE --cap-add SYS_RESOURCE";
        let said = bed
            .podlet(&format!("run --pod web --rm {options} --rootfs ROOT /probe call 302 1 4 buf 0 , call 141 0 1 5"))
            .ok();
        assert_eq!(errnos(&said), [0, 0], "{said}");
        is_apart(bed, "web");
        bed.podlet("rm -f web").ok();
    }
}

/// All of pause's ids are others than the pod has, and a process that may take any
/// id in there cannot take these.
fn is_apart(bed: &Bed, pod: &str) {
    let pause = bed.pause_of(pod);
    let read = |file: &str| fs::read_to_string(format!("/proc/{pause}/{file}")).expect("pause lives");
    let status = read("status");
    for (line, maps) in [("Uid:", "uid_map"), ("Gid:", "gid_map")] {
        let ids = status.lines().find_map(|found| found.strip_prefix(line)).expect("ids");
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        assert!(ids.len() == 4 && ids.iter().all(|id| *id == ids[0]), "{line} {ids:?}");
        for map in read(maps).lines() {
            let map: Vec<u32> = map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            assert!(!(map[1]..map[1] + map[2]).contains(&ids[0]), "{line} {ids:?} is in {map:?}");
        }
    }
    let run = format!("run --pod {pod} --rm --rootfs ROOT /probe");
    let said = bed.podlet(&format!("{run} setuid 65536 , setuid 65537 , setuid 4294967294")).ok();
    assert_eq!(errnos(&said), [EINVAL; 3], "{said}");
}

/// There the caller's own would be one of the container's.
fn a_pod_whose_ids_are_the_callers_has_another_user_for_pause(bed: &Bed) {
    if !matches!(bed.mode, Mode::Root | Mode::Vm) {
        return;
    }
    bed.podlet("create web --share net,pid,ipc,uts,user --uidmap 0:0:65536 --gidmap 0:0:65536").ok();
    is_apart(bed, "web");
    let calls: Vec<_> = CALLS.iter().map(|(_, call)| *call).collect();
    let run = "run --pod web --rm --security-opt seccomp=unconfined --rootfs ROOT /probe";
    let said = bed.podlet(&format!("{run} {}", calls.join(" , "))).ok();
    assert_eq!(errnos(&said), [EPERM; CALLS.len()], "{said}");
}
