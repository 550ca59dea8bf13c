//! System calls: what the default container refuses, and profiles of one's own.

use std::fs;

use crate::bed::Bed;

crate::tests![
    cve_2026_31431_cve_2017_5226_and_the_rest_of_the_default_surface,
    unconfined_lifts_it,
    a_profile_decides_by_call_and_argument,
    calls_newer_than_a_profile_do_not_exist,
    an_exec_has_the_filter_too,
    a_filter_without_no_new_privileges_takes_no_capability_with_it,
    a_profile_that_forbids_all_but_the_program_starts_it,
    a_filter_that_forbids_the_start_says_so_by_exit_code,
    what_is_not_honoured_is_refused_before_anything_is_made,
];

const SYSRQ: &str = "/proc/sysrq-trigger";
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// What is tried, how the probe says it, and what must come of it. The table
/// of docs/security.md.
const REFUSED: [(&str, &str, i32); 27] = [
    ("socket(AF_ALG)", "call 41 38 5 0", EAFNOSUPPORT),
    ("socket(AF_ALG), high bits set", "call 41 0x100000026 5 0", EAFNOSUPPORT),
    ("socket(AF_ALG) of x32", "call 0x40000029 38 5 0", EAFNOSUPPORT),
    ("socket(AF_ALG) of i386", "call32 359 38 5 0", EAFNOSUPPORT),
    ("socketcall(SOCKET) of i386", "call32 102 1 buf", EPERM),
    ("ioctl(TIOCSTI)", "call 16 0 0x5412 buf", EPERM),
    ("ioctl(TIOCSTI), high bits set", "call 16 0 0x100005412 buf", EPERM),
    ("ioctl(TIOCSTI) of i386", "call32 54 0 0x5412 buf", EPERM),
    ("ioctl(TIOCLINUX)", "call 16 0 0x541c buf", EPERM),
    ("open_by_handle_at", "call 304 -1 buf 0", EPERM),
    ("bpf", "call 321 0 buf 64", EPERM),
    ("kexec_load", "call 246 0 0 buf 0", EPERM),
    ("kexec_file_load", "call 320 -1 -1 0 buf 0", EPERM),
    ("userfaultfd", "call 323 1", EPERM),
    ("perf_event_open", "call 298 buf 0 -1 -1 0", EPERM),
    ("init_module", "call 175 buf 0 buf", EPERM),
    ("vmsplice", "call 278 -1 buf 0 0", EPERM),
    ("io_uring_setup", "call 425 1 buf", ENOSYS),
    ("io_uring_enter", "call 426 -1 0 0 0", ENOSYS),
    ("keyctl", "call 250 9999", ENOSYS),
    ("add_key", "call 248 buf buf 0 0 0", ENOSYS),
    ("request_key", "call 249 buf buf 0 0", ENOSYS),
    ("a call of the future", "call 4000", ENOSYS),
    ("writing core_pattern", "write /proc/sys/kernel/core_pattern x", EROFS),
    ("writing sysrq-trigger", "write /proc/sysrq-trigger x", EROFS),
    ("writing uevent_helper", "write /sys/kernel/uevent_helper x", EROFS),
    ("writing below /sys", "write /sys/kernel/mm/ksm/run 0", EROFS),
];

fn errnos(said: &str) -> Vec<i32> {
    said.lines()
        .map(|line| line.rsplit_once("errno ").map_or(0, |(_, errno)| errno.parse().expect("a number")))
        .collect()
}

fn cve_2026_31431_cve_2017_5226_and_the_rest_of_the_default_surface(bed: &Bed) {
    let script: Vec<_> = REFUSED.iter().map(|(_, verb, _)| *verb).collect();
    let seen = errnos(&bed.podlet(&format!("run --rm --rootfs ROOT /probe {}", script.join(" , "))).ok());
    assert_eq!(seen.len(), REFUSED.len());
    let mut wrong = Vec::new();
    for ((what, verb, expected), seen) in REFUSED.iter().zip(seen) {
        println!("{what:32} errno {seen}");
        // Not every kernel has this one.
        let missing = verb.contains(SYSRQ) && !fs::exists(SYSRQ).expect("a path");
        let expected = if missing { ENOENT } else { *expected };
        if seen != expected {
            wrong.push(format!("{what} ({verb}): errno {seen}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Other sockets and terminals' calls work, with 32 bits, too.
    let allowed = "call 41 1 1 0 , call32 359 1 1 0 , call 16 0 0x5401 buf , call32 102 4 buf";
    let seen = errnos(&bed.podlet(&format!("run --rm --rootfs ROOT /probe {allowed}")).ok());
    assert_eq!(seen, [0, 0, 25, 88], "ENOTTY and ENOTSOCK are the kernel's");
    // A capability opens what it is for, and only that.
    if bed.mode.has_ids() {
        let script = "call 321 9999 buf 64 , call 41 38 5 0 , call 246 0 0 buf 0";
        let said = bed.podlet(&format!("run --rm --cap-add SYS_ADMIN --rootfs ROOT /probe {script}")).ok();
        assert_eq!(errnos(&said)[1..], [EAFNOSUPPORT, EPERM], "{said}");
    }
}

/// The negative control: these errors are the filter's, not the kernel's.
fn unconfined_lifts_it(bed: &Bed) {
    let script = "call 16 0 0x5412 buf , call 250 9999 , call 278 -1 buf 0 0 , call32 102 1 buf , status";
    let said = bed.podlet(&format!("run --rm --security-opt seccomp=unconfined --rootfs ROOT /probe {script}")).ok();
    let calls: Vec<_> = said.lines().filter(|line| line.starts_with("call ")).collect();
    // ENOTTY, EOPNOTSUPP, EBADF, EAFNOSUPPORT (of family 0).
    assert_eq!(errnos(&calls.join("\n")), [25, 95, 9, 97]);
    assert!(said.contains("Seccomp:\t0"), "{said}");
    assert!(bed.podlet("run --rm --rootfs ROOT /probe status").ok().contains("Seccomp:\t2"));
}

/// A profile, by its rules.
fn profile(bed: &Bed, name: &str, default: &str, rules: &str) -> String {
    let json = format!(r#"{{"defaultAction": "{default}", "syscalls": [{rules}]}}"#);
    fs::write(bed.dir.join(name), json).expect("a profile");
    format!("--security-opt seccomp=DIR/{name}")
}

/// 135 is personality, 24 sched_yield, 28 madvise.
const SOME: &str = r#"
    {"names": ["personality", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
     "args": [{"index": 0, "value": 4294967295, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_GT"}]},
    {"names": ["sched_yield"], "action": "SCMP_ACT_KILL_PROCESS"},
    {"names": ["madvise"], "action": "SCMP_ACT_TRAP"}"#;

fn a_profile_decides_by_call_and_argument(bed: &Bed) {
    let option = profile(bed, "some.json", "SCMP_ACT_ALLOW", SOME);
    let run = |script: &str| bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe {script}"));
    let said = run("call 135 0xffffffff 5 , call 135 0xffffffff 6 , call 135 0xffffffff 0x100000000").ok();
    assert_eq!(errnos(&said), [0, 99, 99]);
    // SIGSYS, 31.
    run("call 24 , echo not reached").code(128 + 31);
    run("call 28 buf 0 0 , echo not reached").code(128 + 31);
    let plan = bed.podlet(&format!("plan {option} --rootfs ROOT /probe")).ok();
    let steps: Vec<_> = plan.lines().filter(|line| line.contains("seccomp(")).collect();
    assert!(steps.len() == 2 && steps.iter().all(|step| step.contains(" instructions}")), "{steps:?}");
}

fn calls_newer_than_a_profile_do_not_exist(bed: &Bed) {
    let script = "call 39 , call 334 buf 0 0 0 , call 447 0 , call 4000";
    let run = |option: &str| errnos(&bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe {script}")).ok());
    // 447 is memfd_secret, the newest that it names.
    let rules = BARE.replace("\"brk\"", "\"brk\", \"memfd_secret\", \"rseq\"");
    let option = profile(bed, "old.json", "SCMP_ACT_ERRNO", &rules);
    let seen = run(&option);
    assert_eq!((seen[0], seen[3]), (EPERM, ENOSYS), "{seen:?}");
    assert!(seen[1] != EPERM && seen[2] != EPERM, "{seen:?}");
    // A number that is given counts for all.
    let json = fs::read_to_string(bed.dir.join("old.json")).expect("the profile");
    let json = json.replace("\"SCMP_ACT_ERRNO\",", "\"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 99,");
    fs::write(bed.dir.join("old.json"), json).expect("a profile");
    let seen = run(&option);
    assert_eq!((seen[0], seen[3]), (99, 99), "{seen:?}");
}

fn an_exec_has_the_filter_too(bed: &Bed) {
    let option = profile(bed, "some.json", "SCMP_ACT_ALLOW", SOME);
    bed.podlet("create web").ok();
    bed.podlet(&format!("run --pod web -d --name a {option} --rootfs ROOT /probe block")).ok();
    bed.podlet("run --pod web -d --name b --rootfs ROOT /probe block").ok();
    bed.podlet("run --pod web -d --name c --security-opt seccomp=unconfined --rootfs ROOT /probe block").ok();
    let errno = |name: &str, call: &str| errnos(&bed.podlet(&format!("exec web/{name} /probe {call}")).ok());
    assert_eq!(errno("a", "call 135 0xffffffff 6"), [99]);
    assert_eq!(errno("b", "call 250 9999"), [ENOSYS]);
    assert_eq!(errno("c", "call 250 9999"), [95]);
    bed.podlet("exec web/a /probe call 24").code(128 + 31);
    // Also after another start, by the record.
    bed.podlet("stop -t 0 web/a").ok();
    bed.podlet("start web/a").ok();
    assert_eq!(errno("a", "call 135 0xffffffff 6"), [99]);
}

fn a_filter_without_no_new_privileges_takes_no_capability_with_it(bed: &Bed) {
    let option = "--security-opt no-new-privileges=false";
    let check = |said: &str, capabilities: &str| {
        for line in
            ["NoNewPrivs:\t0", "Seccomp:\t2", &format!("CapEff:\t{capabilities}"), &format!("CapPrm:\t{capabilities}")]
        {
            assert!(said.contains(line), "{line}: {said}");
        }
    };
    bed.podlet("create web").ok();
    for (name, more, capabilities) in [
        ("a", "", "00000000a80425fb"),
        ("b", "--cap-drop ALL", "0000000000000000"),
        ("c", "-u 1000", "0000000000000000"),
    ] {
        if name == "c" && !bed.mode.has_ids() {
            continue;
        }
        bed.podlet(&format!("run --pod web -d --name {name} {option} {more} --rootfs ROOT /probe status , block")).ok();
        bed.await_log(&format!("web/{name}"), "Seccomp:\t2");
        check(&bed.podlet(&format!("logs web/{name}")).ok(), capabilities);
        check(&bed.podlet(&format!("exec web/{name} /probe status")).ok(), capabilities);
    }
    let more = "--security-opt no-new-privileges --rootfs ROOT";
    assert!(bed.podlet(&format!("run --rm {option} {more} /probe status")).ok().contains("NoNewPrivs:\t1"), "the last");
}

/// What a static program needs to say a word; nothing that podlet needs.
const BARE: &str = r#"{"names": ["execve", "arch_prctl", "brk", "mmap", "mprotect", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"}"#;

fn a_profile_that_forbids_all_but_the_program_starts_it(bed: &Bed) {
    let option = profile(bed, "bare.json", "SCMP_ACT_ERRNO", BARE);
    let said = bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe echo hello , call 39")).ok();
    assert_eq!(said, "hello\ncall 39: errno 1\n");
    // Without no_new_privs it needs one more.
    let rules = BARE.replace("\"brk\"", "\"brk\", \"capset\"");
    let option = profile(bed, "bare2.json", "SCMP_ACT_ERRNO", &rules);
    let line = format!("run --rm {option} --security-opt no-new-privileges=false --rootfs ROOT /probe echo hello");
    assert_eq!(bed.podlet(&line).ok(), "hello\n");
}

fn a_filter_that_forbids_the_start_says_so_by_exit_code(bed: &Bed) {
    let rule = |names: &str| format!(r#"{{"names": [{names}], "action": "SCMP_ACT_ALLOW"}}"#);
    for (default, rules, code) in [
        // execve fails: reported, or told by the exit code alone.
        ("SCMP_ACT_ERRNO", rule(r#""sendmsg", "exit_group""#), 126),
        ("SCMP_ACT_ERRNO", rule(r#""exit_group""#), 126),
        // Not even to exit is allowed: SIGILL.
        ("SCMP_ACT_ERRNO", rule(r#""read""#), 128 + 4),
        ("SCMP_ACT_KILL_PROCESS", rule(r#""read""#), 128 + 31),
    ] {
        let option = profile(bed, "none.json", default, &rules);
        bed.podlet(&format!("run --rm {option} --rootfs ROOT /probe echo hello")).code(code);
    }
    let option = profile(bed, "bare.json", "SCMP_ACT_ERRNO", BARE);
    bed.podlet(&format!("run --rm {option} --rootfs ROOT /missing")).code(127);
    bed.is_clean();
}

fn what_is_not_honoured_is_refused_before_anything_is_made(bed: &Bed) {
    let notify = r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#;
    fs::write(
        bed.dir.join("listener.json"),
        format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x", "syscalls": [{notify}]}}"#),
    )
    .expect("a profile");
    profile(bed, "notify.json", "SCMP_ACT_ALLOW", notify);
    profile(bed, "odd.json", "SCMP_ACT_SING", "");
    fs::write(bed.dir.join("broken.json"), "{").expect("a file");
    for (option, words) in [
        ("seccomp=DIR/listener.json", ["listenerPath", "podlet-oci"]),
        ("seccomp=DIR/notify.json", ["listenerPath", "needs it"]),
        ("seccomp=DIR/odd.json", ["defaultAction", "SCMP_ACT_SING"]),
        ("seccomp=DIR/broken.json", ["broken.json", "seccomp"]),
        ("seccomp=DIR/missing.json", ["missing.json", "No such file"]),
        ("seccomp=", ["seccomp=", "seccomp=FILE"]),
        ("seccomp", ["seccomp", "seccomp=FILE"]),
        ("no-new-privileges=perhaps", ["perhaps", "true|false"]),
        ("label=type:x", ["label=type:x", "not an option"]),
    ] {
        bed.podlet(&format!("run --rm --security-opt {option} --rootfs ROOT /probe echo hello")).fails(125, &words);
        bed.is_clean();
    }
}
