//! pause is the pod's pid 1, and where ids are few of the same user as the
//! containers: what one process may do to another of its user.

use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![nobody_in_a_pod_changes_how_pause_runs, a_container_with_processes_of_its_own_may_change_its_pid_1,];

const EPERM: i32 = 1;

/// What names pause: as pid 1, by its process group, by its user. By 64-bit,
/// x32 and 32-bit calls, and with bits set where the kernel does not look.
const PAUSE: [&str; 30] = [
    // prlimit64: RLIMIT_CPU, no limit; the machine's own, looked at.
    "call 302 1 0 buf 0",
    "call 302 1 0 0 0",
    "call 302 0x100000001 0 buf 0",
    "call 0x4000012e 1 0 buf 0",
    "call32 340 1 0 0 0",
    // sched_setaffinity, sched_setscheduler, sched_setparam, sched_setattr.
    "call 203 1 8 buf",
    "call 0x400000cb 1 8 buf",
    "call32 241 1 8 0",
    "call 144 1 3 buf",
    "call 144 0x7fffffff00000001 3 buf",
    "call32 156 1 3 0",
    "call 142 1 buf",
    "call32 154 1 0",
    "call 314 1 buf 0",
    "call32 351 1 0 0",
    // setpriority: PRIO_PROCESS, PRIO_PGRP, PRIO_USER.
    "call 141 0 1 5",
    "call 141 1 1 5",
    "call 141 2 0 5",
    "call 141 0x100000000 0x100000001 5",
    "call 0x4000008d 0 1 5",
    "call32 97 0 1 5",
    "call32 97 2 0 5",
    // ioprio_set: the same three.
    "call 251 1 1 0x4007",
    "call 251 2 1 0x4007",
    "call 251 3 0 0x4007",
    "call32 289 1 1 0x4007",
    "call32 289 3 0 0x4007",
    // migrate_pages, move_pages.
    "call 256 1 8 buf buf",
    "call 279 1 0 0 0 0 0",
    "call 0x40000215 1 0 0 0 0 0",
];

/// What takes a look into it, which the kernel denies: kcmp, process_madvise
/// (of no process), PTRACE_SEIZE, get_robust_list, PR_SCHED_CORE_CREATE.
const LOOKS: &str = "call 312 1 1 0 0 0 , call 440 -1 buf 1 0 0 , call 101 0x4206 1 0 0 , call 274 1 buf buf , \
                     call 157 62 1 1 0 0";

fn errnos(said: &str) -> Vec<i32> {
    let errno = |line: &str| line.rsplit_once("errno ").map_or(0, |(_, errno)| errno.parse().expect("a number"));
    said.lines().map(errno).collect()
}

fn nobody_in_a_pod_changes_how_pause_runs(bed: &Bed) {
    let users = "--share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";
    let pods = if bed.mode == Mode::Root { vec!["", users] } else { vec![""] };
    for (options, pod) in pods.iter().zip(["web", "mail"]) {
        let nests =
            if bed.mode == Mode::Root && pod == "web" { "--cap-add SYS_NICE" } else { "--security-opt nesting" };
        bed.podlet(&format!("create {options} {pod}")).ok();
        for more in ["", "--cap-drop ALL", "--cap-add SYS_ADMIN", "--cap-add ALL", nests] {
            let line = format!("run --pod {pod} --rm {more} --rootfs ROOT /probe {}", PAUSE.join(" , "));
            let said = bed.podlet(&line).ok();
            for (call, errno) in PAUSE.iter().zip(errnos(&said)) {
                assert_eq!(errno, EPERM, "{call} with {more:?} in {pod}");
            }
            if more == "--cap-add ALL" {
                // CAP_SYS_PTRACE is for looking.
                continue;
            }
            let said = bed.podlet(&format!("run --pod {pod} --rm {more} --rootfs ROOT /probe {LOOKS}")).ok();
            assert!(said.lines().count() == 5 && errnos(&said).iter().all(|&errno| errno > 0), "{said}");
        }
        for signal in ["KILL", "STOP", "TERM"] {
            let line = format!("run --pod {pod} --rm --rootfs ROOT /probe signal-by-fd 1 {signal}");
            assert_eq!(errnos(&bed.podlet(&line).ok()), [0; 4], "allowed, and nothing comes of it");
        }
        // Itself and others it may.
        let script = "call 302 0 7 0 0 , call 203 0 8 0xffffffffffffffff , call 141 0 0 5 , call 251 1 0 0x4007 , \
                      call 141 1 0 6 , call32 97 0 0 7";
        let said = bed.podlet(&format!("run --pod {pod} --rm --rootfs ROOT /probe {script}")).ok();
        // EFAULT is the kernel's.
        assert_eq!(errnos(&said), [0, 14, 0, 0, 0, 0], "{said}");
        bed.podlet(&format!("rm -f {pod}")).ok();
    }
    // The negative control: where pause is the same user, nothing but the
    // filter is in the way.
    if bed.mode != Mode::Delegated {
        let script = "call 141 0 1 5 , call 141 2 0 6 , call 251 1 1 0x4007 , call 302 1 4 0 0";
        let open = "run --rm --security-opt seccomp=unconfined --rootfs ROOT /probe";
        let said = bed.podlet(&format!("{open} {script}")).ok();
        assert_eq!(errnos(&said)[..3], [0, 0, 0], "{said}");
    }
}

/// What is pid 1 there is the container itself.
fn a_container_with_processes_of_its_own_may_change_its_pid_1(bed: &Bed) {
    let script = "call 302 1 7 0 0 , call 141 0 1 5 , call 141 1 1 6 , call 141 2 0 7 , call 251 1 1 0x4007 , \
                  call 251 3 0 0x4007 , call 142 1 buf , call 144 1 3 buf , call32 97 0 1 8";
    for more in ["", "--cap-drop ALL"] {
        let line = format!("run --rm --share net,ipc,uts {more} --rootfs ROOT /probe {script}");
        let said = bed.podlet(&line).ok();
        assert_eq!(errnos(&said), [0; 9], "{said}");
    }
}
