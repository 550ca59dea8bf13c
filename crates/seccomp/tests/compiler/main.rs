//! Seccomp profiles, compiled, and run by an interpreter: chosen cases, what
//! the documentation promises against random profiles, and the same beside
//! libseccomp.

mod libseccomp;
mod machine;
mod random;

use machine::{AARCH64, Call, I386, X32_BIT, X86_64};
use seccomp::{
    Context, Error, Filter, NEW_LISTENER, OLDEST_KERNEL, Situation, allow_only, compile, default_capabilities,
    default_profile, parse,
};

const ALONE: Situation = Situation { nesting: false, shared_pid: false };
const CONTEXT: Context = Context { capabilities: 0, kernel: (6, 1), situation: ALONE };
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

fn filter(json: &str) -> Filter {
    compile(&parse(json.as_bytes()).expect("JSON"), &CONTEXT).expect("a profile")
}

fn refused(json: &str) -> (String, String) {
    match parse(json.as_bytes()).and_then(|profile| compile(&profile, &CONTEXT)) {
        Err(Error { field, reason, .. }) => (field, reason),
        other => panic!("{other:?}"),
    }
}

fn on(arch: u32, number: u32, args: &[u64]) -> Call {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Call { arch, number, args: all }
}

#[test]
fn what_is_not_a_profile_is_refused_by_name() {
    let rule = |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    let with = |more: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {more}}}"#);
    for (json, field, word) in [
        (r#"{"defaultAction": "SCMP_ACT_PANIC"}"#.into(), "seccomp.defaultAction", "not an action"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.into(), "seccomp.defaultAction", "default"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.into(), "seccomp.defaultAction", "4095"),
        (with(r#""defaultErrnoRet": 1"#), "seccomp.defaultAction", "no errno"),
        (with(r#""defaultErrno": "EPERM""#), "seccomp.defaultErrno", "number"),
        (with(r#""architectures": ["SCMP_ARCH_VAX"]"#), "seccomp.architectures", "not an architecture"),
        (with(r#""flags": ["SECCOMP_FILTER_FLAG_X"]"#), "seccomp.flags", "not a flag"),
        (with(r#""colour": "blue""#), "seccomp profile", "colour"),
        (rule(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#), "seccomp.listenerPath", "needs it"),
        (rule(r#"{"names": [""], "action": "SCMP_ACT_LOG"}"#), "seccomp.syscalls[0].names", "empty"),
        (rule(r#"{"names": ["read"], "action": "ALLOW"}"#), "seccomp.syscalls[0].action", "not an action"),
        (
            rule(r#"{"names": ["read"], "action": "SCMP_ACT_TRAP", "errnoRet": 1}"#),
            "seccomp.syscalls[0].action",
            "errno",
        ),
        (
            rule(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "seccomp.syscalls[0].args[0].index",
            "0 to 5",
        ),
        (
            rule(r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 5, "value": 1, "op": "EQ"}]}"#),
            "seccomp.syscalls[0].args[0].op",
            "not a comparison",
        ),
        (
            rule(r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["SYS_FLY"]}}"#),
            "seccomp.syscalls[0].includes.caps",
            "capabilities(7)",
        ),
        (
            rule(r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "excludes": {"minKernel": "new"}}"#),
            "seccomp.syscalls[0].excludes.minKernel",
            "4.8",
        ),
        (
            rule(r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"container": ["small"]}}"#),
            "seccomp.syscalls[0].includes.container",
            "nesting",
        ),
        (
            rule(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                   {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "seccomp.syscalls[1]",
            "another action",
        ),
    ] {
        let (named, reason) = refused(&json);
        assert!(named == field && reason.contains(word), "{json}: {named}: {reason}");
    }
}

#[test]
fn too_long_a_program_is_refused() {
    let args = (0..6000).map(|i| {
        format!(r#"{{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{{"index": 0, "value": {i}, "op": "SCMP_CMP_EQ"}}]}}"#)
    });
    let json =
        format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, args.collect::<Vec<_>>().join(","));
    let (field, reason) = refused(&json);
    assert!(field == "seccomp" && reason.contains("4096"), "{field}: {reason}");
}

/// Jumps of more than 255 instructions, in both directions of a branch.
#[test]
fn far_jumps_arrive() {
    let rule = |i: u32| {
        let name = ["read", "mmap", "ioctl"][i as usize % 3];
        format!(
            r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {}, "args": [{{"index": 1, "value": {i}, "op": "SCMP_CMP_EQ"}}]}}"#,
            i + 1
        )
    };
    let rules: Vec<_> = (0..700).map(rule).collect();
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, rules.join(","));
    let program = filter(&json).program;
    for i in 0..700 {
        let number = [0, 9, 16][i as usize % 3];
        let seen = |number, value| machine::run(&program, &on(X86_64, number, &[0, value])).0;
        assert_eq!(seen(number, u64::from(i)), ERRNO | (i + 1));
        assert_eq!(seen(number, u64::from(i) | 1 << 32), ALLOW);
        assert_eq!(seen(number + 1, u64::from(i)), ALLOW);
    }
}

#[test]
fn flags_and_listeners_are_handed_on() {
    let notify = |flags: &str| {
        filter(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{flags}], "listenerPath": "/run/s", "listenerMetadata": "m",
                "syscalls": [{{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}}]}}"#
        ))
    };
    let plain = notify("");
    let listener = plain.listener.expect("a listener");
    assert_eq!((listener.path.to_str(), listener.metadata.as_str()), (Some("/run/s"), "m"));
    assert_eq!(plain.flags, NEW_LISTENER);
    assert_eq!(machine::run(&plain.program, &on(X86_64, 83, &[])).0, 0x7fc0_0000);
    // TSYNC with a listener needs TSYNC_ESRCH.
    let all = r#""SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                 "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV""#;
    assert_eq!(notify(all).flags, 0b11_1111);
    let silent = filter(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{all}]}}"#));
    assert_eq!((silent.flags, silent.listener), (0b111, None));
}

/// As runc: the profile's author did not know of them, and a program that finds a
/// call missing uses another.
#[test]
fn calls_newer_than_all_of_a_profile_do_not_exist() {
    let (eperm, enosys) = (ERRNO | 1, ERRNO | 38);
    let rules = r#"{"names": ["faccessat2"], "action": "SCMP_ACT_ALLOW"}, {"names": ["unheard_of"], "action": "SCMP_ACT_ALLOW"}"#;
    let on_all = r#""architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;
    let with = |default: &str, rules: &str| {
        filter(&format!(r#"{{"defaultAction": {default}, {on_all}, "syscalls": [{rules}]}}"#)).program
    };
    let seen = |program: &[u8], arch, number| machine::run(program, &on(arch, number, &[])).0;
    let program = with(r#""SCMP_ACT_ERRNO""#, rules);
    for (arch, base) in [(X86_64, 0), (X86_64, X32_BIT), (I386, 0)] {
        assert_eq!(seen(&program, arch, base + 439), ALLOW);
        for (older, newer) in [(0, 440), (438, 441), (1, 4000)] {
            assert_eq!((seen(&program, arch, base + older), seen(&program, arch, base + newer)), (eperm, enosys));
        }
    }
    assert_eq!(seen(&program, X86_64, X32_BIT - 1), enosys);
    assert_eq!(seen(&program, AARCH64, 4000), 0, "another architecture's");
    // What changes nothing names calls, too; what does not apply here does not.
    let named = format!(r#"{rules}, {{"names": ["mseal"], "action": "SCMP_ACT_ERRNO"}}"#);
    let program = with(r#""SCMP_ACT_ERRNO""#, &named);
    assert_eq!([462, 463].map(|number| seen(&program, X86_64, number)), [eperm, enosys]);
    let elsewhere =
        format!(r#"{rules}, {{"names": ["mseal"], "action": "SCMP_ACT_ALLOW", "includes": {{"arches": ["s390x"]}}}}"#);
    assert_eq!(seen(&with(r#""SCMP_ACT_ERRNO""#, &elsewhere), X86_64, 462), enosys);
    // A number that was given counts, and so does any other action.
    assert_eq!(seen(&with(r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 1"#, rules), X86_64, 440), eperm);
    assert_eq!(seen(&with(r#""SCMP_ACT_KILL_PROCESS""#, rules), X86_64, 440), 0x8000_0000);
    assert_eq!(seen(&with(r#""SCMP_ACT_ALLOW""#, rules), X86_64, 440), ALLOW);
    // A profile that names none knew all.
    assert_eq!(seen(&with(r#""SCMP_ACT_ERRNO""#, ""), X86_64, 440), eperm);
}

/// include/uapi/asm-generic/unistd.h of Linux 7.2.
#[test]
fn a_profile_may_name_the_calls_up_to_linux_7_2() {
    for (name, number) in [("file_setattr", 469), ("listns", 470), ("rseq_slice_yield", 471)] {
        let program = filter(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        ));
        for (arch, number) in [(X86_64, number), (X86_64, X32_BIT + number), (I386, number)] {
            assert_eq!(machine::run(&program.program, &on(arch, number, &[])).0, ALLOW, "{name}");
        }
    }
}

const SHARED: Situation = Situation { nesting: false, shared_pid: true };
const NESTING: Situation = Situation { nesting: true, shared_pid: true };
const ADMIN: u64 = 1 << 21;

fn default_program(capabilities: u64, situation: Situation) -> Vec<u8> {
    let context = Context { capabilities, kernel: OLDEST_KERNEL, situation };
    compile(&default_profile().expect("a profile"), &context).expect("it compiles").program
}

/// The three variants a container's capabilities can lead to, with what
/// SECURITY asks of each.
#[test]
fn the_default_profile() {
    let default = default_capabilities();
    let program = |capabilities| default_program(capabilities, SHARED);
    let usual = program(default);
    let (eperm, enosys, no_family) = (ERRNO | 1, ERRNO | 38, ERRNO | 97);
    let high = 0xdead_0000_0000_0000;
    let x32 = |number: u32| X32_BIT + number;
    for (arch, number, args, expected) in [
        // AF_ALG is 38, AF_INET 2; AF_NETLINK 16 with NETLINK_AUDIT 9.
        (X86_64, 41, [38, 5, 0], no_family),
        (X86_64, 41, [high | 38, 5, 0], no_family),
        (X86_64, x32(41), [38, 5, 0], no_family),
        (I386, 359, [38, 5, 0], no_family),
        (X86_64, 41, [2, 1, 0], ALLOW),
        (I386, 359, [2, 1, 0], ALLOW),
        (X86_64, 41, [16, 3, 9], ALLOW),
        // socketcall: SOCKET is 1, CONNECT 3.
        (I386, 102, [1, 0, 0], eperm),
        (I386, 102, [high | 1, 0, 0], eperm),
        (I386, 102, [3, 0, 0], ALLOW),
        // ioctl: TIOCSTI, TIOCLINUX, TIOCGWINSZ.
        (X86_64, 16, [0, 0x5412, 0], eperm),
        (X86_64, 16, [0, high | 0x5412, 0], eperm),
        (X86_64, x32(514), [0, 0x5412, 0], eperm),
        (I386, 54, [0, 0x5412, 0], eperm),
        (X86_64, 16, [0, 0x541c, 0], eperm),
        (X86_64, 16, [0, 0x5413, 0], ALLOW),
        // bpf, open_by_handle_at, kexec_load, userfaultfd, perf_event_open.
        (X86_64, 321, [0; 3], eperm),
        (X86_64, 304, [0; 3], eperm),
        (X86_64, 246, [0; 3], eperm),
        (X86_64, 323, [0; 3], eperm),
        (X86_64, 298, [0; 3], eperm),
        // io_uring_setup, keyctl, add_key.
        (X86_64, 425, [0; 3], enosys),
        (X86_64, 250, [0; 3], enosys),
        (X86_64, 248, [0; 3], enosys),
        // write, execve, and a call of the future.
        (X86_64, 1, [0; 3], ALLOW),
        (X86_64, 59, [0; 3], ALLOW),
        (X86_64, 1000, [0; 3], enosys),
        (X86_64, u32::MAX, [0; 3], enosys),
        // personality: PER_LINUX and 0x20008, not ADDR_NO_RANDOMIZE.
        (X86_64, 135, [0, 0, 0], ALLOW),
        (X86_64, 135, [0x20008, 0, 0], ALLOW),
        (X86_64, 135, [0x40000, 0, 0], enosys),
        (AARCH64, 64, [0; 3], 0),
    ] {
        let call = on(arch, number, &args);
        assert_eq!(machine::run(&usual, &call).0, expected, "{call:x?}");
    }
    // Capabilities open calls, and their lack closes some.
    let admin = program(default | ADMIN);
    assert_eq!(machine::run(&admin, &on(X86_64, 321, &[])).0, ALLOW);
    assert_eq!(machine::run(&admin, &on(X86_64, 41, &[38])).0, no_family);
    let none = program(0);
    assert_eq!(machine::run(&none, &on(X86_64, 161, &[])).0, eperm, "chroot");
    assert_eq!(machine::run(&none, &on(X86_64, 41, &[16, 3, 9])).0, ERRNO | 22);
    assert_eq!(machine::run(&none, &on(X86_64, 41, &[16, 3, 0])).0, ALLOW);
    // The kernel runs it for each number when it is loaded.
    let longest = (0..500).map(|number| machine::run(&usual, &on(X86_64, number, &[])).1).max();
    assert!(usual.len() / 8 <= 420 && longest <= Some(20), "{} instructions, {longest:?}", usual.len() / 8);
}

/// What would make or enter namespaces, or change mounts, by number: of x86_64
/// and x32, of i386.
const NAMESPACES: [(&str, u32, u32); 17] = [
    ("mount", 165, 21),
    ("umount2", 166, 52),
    ("pivot_root", 155, 217),
    ("sethostname", 170, 74),
    ("setdomainname", 171, 121),
    ("unshare", 272, 310),
    ("setns", 308, 346),
    ("open_tree", 428, 428),
    ("move_mount", 429, 429),
    ("fsopen", 430, 430),
    ("fsconfig", 431, 431),
    ("fsmount", 432, 432),
    ("fspick", 433, 433),
    ("mount_setattr", 442, 442),
    ("open_tree_attr", 467, 467),
    ("umount", u32::MAX, 22),
    ("clone3", 435, 435),
];

/// docker's and Kubernetes' rule, on all three architectures.
#[test]
fn the_default_profile_makes_no_namespaces_without_cap_sys_admin() {
    let (eperm, enosys) = (ERRNO | 1, ERRNO | 38);
    let new = [0x80_0000_0000u64, 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for (capabilities, situation, is_allowed) in [
        (default_capabilities(), ALONE, false),
        (default_capabilities(), SHARED, false),
        (0, SHARED, false),
        (ADMIN, SHARED, true),
        (!0, ALONE, true),
        (default_capabilities(), NESTING, true),
        (0, NESTING, true),
        (!0, NESTING, true),
    ] {
        let program = default_program(capabilities, situation);
        for (name, native, old) in NAMESPACES {
            let refused = if name == "clone3" { enosys } else { eperm };
            for (arch, number) in [(X86_64, native), (X86_64, X32_BIT + native % X32_BIT), (I386, old)] {
                if native == u32::MAX && arch == X86_64 {
                    continue;
                }
                let seen = machine::run(&program, &on(arch, number, &[0x1234; 6])).0;
                assert_eq!(seen, if is_allowed { ALLOW } else { refused }, "{name} {arch:x} {situation:?}");
            }
        }
        for (arch, number) in [(X86_64, 56), (X86_64, X32_BIT + 56), (I386, 120)] {
            // A thread's flags, fork's, and vfork's.
            for flags in [0x3d_0f00, 0x120_0011, 0x4111, 0xffff_ffff_0000_0011] {
                assert_eq!(machine::run(&program, &on(arch, number, &[flags])).0, ALLOW, "{flags:x}");
            }
            for flag in &new[1..] {
                let seen = machine::run(&program, &on(arch, number, &[flag | 17])).0;
                assert_eq!(seen, if is_allowed { ALLOW } else { eperm }, "{flag:x} {situation:?}");
            }
        }
    }
}

/// By the lower half of the arguments, on all three architectures; whatever
/// the capabilities, because none of these is what they are given for.
#[test]
fn the_default_profile_lets_nobody_touch_pause() {
    const HIGH: u64 = 0xdead_0000_0000;
    // Of x86_64, of i386, and what names pause.
    let calls: [(&str, u32, u32, &[[u64; 2]]); 7] = [
        ("prlimit64", 302, 340, &[[1, 0]]),
        ("sched_setaffinity", 203, 241, &[[1, 8]]),
        ("sched_setattr", 314, 351, &[[1, 0]]),
        ("sched_setparam", 142, 154, &[[1, 0]]),
        ("sched_setscheduler", 144, 156, &[[1, 0]]),
        ("setpriority", 141, 97, &[[0, 1], [1, 1], [2, 0]]),
        ("ioprio_set", 251, 289, &[[1, 1], [2, 1], [3, 0]]),
    ];
    for capabilities in [0, default_capabilities(), !0] {
        for (situation, is_pause) in [(ALONE, false), (SHARED, true), (NESTING, true)] {
            let program = default_program(capabilities, situation);
            for (name, native, old, named) in calls {
                for (arch, number) in [(X86_64, native), (X86_64, X32_BIT + native), (I386, old)] {
                    let seen = |args: &[u64]| machine::run(&program, &on(arch, number, args)).0;
                    for &[a, b] in named {
                        for args in [[a, b], [HIGH | a, b], [a, HIGH | b], [1 << 32 | a, 1 << 63 | b]] {
                            let expected = if is_pause { ERRNO | 1 } else { ALLOW };
                            assert_eq!(seen(&args), expected, "{name} {args:x?} {situation:?}");
                        }
                    }
                    // Itself, itself by number, and every other process.
                    for [a, b] in [[0, 0], [0, 7], [2, 7], [2, 2], [0xffff_ffff, 3]] {
                        if !named.contains(&[a, b]) {
                            assert_eq!(seen(&[a, b]), ALLOW, "{name} {a} {b}");
                        }
                    }
                }
            }
        }
    }
    // These are for no process.
    for number in [256, 279] {
        assert_eq!(machine::run(&default_program(!0, ALONE), &on(X86_64, number, &[])).0, ERRNO | 1);
    }
}

#[test]
fn a_filter_of_a_few_calls_kills_for_all_others() {
    const KILL_PROCESS: u32 = 0x8000_0000;
    let filter = allow_only([0, 1, 231, 449]);
    assert_eq!((filter.flags, filter.listener), (0, None));
    for number in 0..600 {
        let expected = if [0, 1, 231, 449].contains(&number) { ALLOW } else { KILL_PROCESS };
        assert_eq!(machine::run(&filter.program, &on(X86_64, number, &[])).0, expected, "{number}");
        for (arch, number) in [(I386, number), (AARCH64, number), (X86_64, X32_BIT + number)] {
            assert_eq!(machine::run(&filter.program, &on(arch, number, &[])).0, KILL_PROCESS, "{arch:x} {number}");
        }
    }
    assert_eq!(machine::run(&allow_only([]).program, &on(X86_64, 0, &[])).0, KILL_PROCESS);
}
