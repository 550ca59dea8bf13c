//! Random profiles: what the documentation promises of them, and what
//! libseccomp makes of them.

use seccomp::{Argument, Profile, Syscall, compile, default_profile};

use crate::libseccomp::{Libseccomp, NATIVE, X32, X86, action, forgets_to_load};
use crate::machine::{self, AARCH64, Call, I386, X32_BIT, X86_64};
use crate::{ALLOW, CONTEXT, filter, on};

/// xorshift64*: the same profiles each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Numbers that meet each other, in either half.
    fn number(&mut self) -> u64 {
        let half = |random: &mut Random| random.one(&[0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]);
        half(self) | if self.below(2) == 0 { 0 } else { half(self) << 32 }
    }
}

const NAMES: [&str; 36] = [
    "read",
    "write",
    "openat",
    "ioctl",
    "socket",
    "bind",
    "connect",
    "accept",
    "accept4",
    "send",
    "sendmsg",
    "recvmmsg",
    "socketcall",
    "semop",
    "semtimedop",
    "shmget",
    "msgctl",
    "ipc",
    "waitpid",
    "stat64",
    "mmap",
    "mmap2",
    "execve",
    "execveat",
    "ptrace",
    "kexec_load",
    "uselib",
    "arch_prctl",
    "getuid32",
    "clone",
    "clone3",
    "personality",
    "rt_sigaction",
    "timer_create",
    "preadv2",
    "no_such_call",
];
const ACTIONS: [(&str, Option<u32>); 9] = [
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_THREAD", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_LOG", None),
];
const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn argument(random: &mut Random, index: u64, op: &str) -> Argument {
    let value = random.number();
    let value_two = (op == "MASKED_EQ").then(|| random.number() & value);
    Argument { index, value, value_two, op: format!("SCMP_CMP_{op}") }
}

fn rule(names: Vec<String>, (action, errno_ret): (&str, Option<u32>), args: Vec<Argument>) -> Syscall {
    Syscall { names, action: action.into(), errno_ret, args: Some(args), ..Default::default() }
}

/// With `overlaps`, several rules for one call that may match at once.
fn profile(random: &mut Random, overlaps: bool) -> Profile {
    // Without a number newer calls are an exception, which has its own test.
    let (default_action, default_errno_ret) = match random.one(&ACTIONS) {
        (action @ "SCMP_ACT_ERRNO", None) => (action, Some(1)),
        other => other,
    };
    let mut architectures = Vec::new();
    for (odds, arch) in [(2, "SCMP_ARCH_X86"), (3, "SCMP_ARCH_X32"), (4, "SCMP_ARCH_X86_64")] {
        if random.below(odds) == 0 {
            architectures.push(arch.to_string());
        }
    }
    let mut calls = Vec::new();
    let count = random.one(&[1, 3, 10, 34]);
    for name in NAMES {
        if random.below(NAMES.len()) >= count {
            continue;
        }
        // Rules for `socket` and the like are rules for these, too.
        let settled = !overlaps && ["socketcall", "ipc"].contains(&name);
        let name = || vec![name.to_string()];
        for _ in 0..if overlaps { random.below(4) } else { 1 } {
            let action = random.one(&ACTIONS);
            let args = match random.below(3) {
                _ if settled => Vec::new(),
                0 => Vec::new(),
                _ => {
                    let mut indexes: Vec<u64> = (0..6).filter(|_| random.below(3) == 0).collect();
                    if overlaps && random.below(4) == 0 {
                        indexes.extend(indexes.clone().first());
                    }
                    indexes
                        .into_iter()
                        .map(|index| {
                            let op = random.one(&OPS);
                            argument(random, index, op)
                        })
                        .collect()
                }
            };
            calls.push(rule(name(), action, args));
        }
        if !overlaps && !settled && random.below(4) == 0 {
            // What libseccomp gets right, too: equality on one argument, and
            // a rule without conditions that settles it.
            calls.pop();
            let (action, index) = (random.one(&ACTIONS), random.below(6) as u64);
            for _ in 0..random.below(5) {
                calls.push(rule(name(), action, vec![argument(random, index, "EQ")]));
            }
            if random.below(3) == 0 {
                calls.push(rule(name(), action, Vec::new()));
            }
        }
    }
    Profile {
        default_action: default_action.into(),
        default_errno_ret,
        architectures: Some(architectures),
        syscalls: Some(calls),
        ..Default::default()
    }
}

/// Calls of all kinds, with arguments that meet the profile's.
fn some_calls(random: &mut Random, profile: &Profile, tables: &[(u32, Vec<u32>)]) -> Vec<Call> {
    let mut values: Vec<u64> = vec![0, 1, u64::MAX];
    for argument in profile.syscalls.iter().flatten().flat_map(|call| call.args.iter().flatten()) {
        let value = argument.value_two.unwrap_or(argument.value);
        values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, value & 0xffff_ffff]);
    }
    let mut calls = Vec::new();
    for (arch, numbers) in tables {
        for _ in 0..60 {
            let number = match random.below(8) {
                0 => random.below(600) as u32,
                1 => X32_BIT + random.below(600) as u32,
                2 => u32::MAX,
                _ => random.one(numbers),
            };
            let mut args = [0; 6];
            args.iter_mut().for_each(|arg| *arg = random.one(&values));
            // What multiplexed calls look at.
            if random.below(3) == 0 {
                args[0] = random.below(25) as u64;
            }
            calls.push(Call { arch: *arch, number, args });
        }
    }
    calls
}

/// What the documentation of the front end says, written down as it is read.
/// Only for architectures without multiplexed calls.
fn meaning(profile: &Profile, name: &str, args: &[u64; 6], wide: bool) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut rules: Vec<(u32, Vec<&Argument>)> = Vec::new();
    for call in profile.syscalls.iter().flatten().filter(|call| call.names.iter().any(|other| other == name)) {
        let action = action(&call.action, call.errno_ret);
        let args: Vec<_> = call.args.iter().flatten().collect();
        let mut indexes: Vec<_> = args.iter().map(|argument| argument.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        if action == default {
        } else if indexes.len() < args.len() {
            rules.extend(args.into_iter().map(|argument| (action, vec![argument])));
        } else {
            rules.push((action, args));
        }
    }
    if let Some((action, _)) = rules.iter().find(|(_, args)| args.is_empty()) {
        return *action;
    }
    let holds = |argument: &&Argument| {
        let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
        let (seen, value) = (cut(args[argument.index as usize]), cut(argument.value));
        match argument.op.as_str() {
            "SCMP_CMP_NE" => seen != value,
            "SCMP_CMP_LT" => seen < value,
            "SCMP_CMP_LE" => seen <= value,
            "SCMP_CMP_EQ" => seen == value,
            "SCMP_CMP_GE" => seen >= value,
            "SCMP_CMP_GT" => seen > value,
            _ => seen & value == cut(argument.value_two.unwrap_or(0)),
        }
    };
    rules.iter().find(|(_, args)| args.iter().all(holds)).map_or(default, |(action, _)| *action)
}

fn show(profile: &Profile) -> String {
    serde_json::to_string(profile).expect("JSON")
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn random_profiles_mean_what_the_documentation_says() {
    let mut random = Random(SEED);
    let numbers = [("read", 0), ("write", 1), ("openat", 257), ("mmap", 9), ("clone", 56), ("personality", 135)];
    let mut refused = 0;
    for round in 0..3000 {
        let profile = profile(&mut random, true);
        let Ok(filter) = compile(&profile, &CONTEXT) else {
            refused += 1;
            continue;
        };
        let x32 = profile.architectures.iter().flatten().any(|arch| arch == "SCMP_ARCH_X32");
        let all: Vec<u32> = numbers.iter().map(|(_, number)| *number).collect();
        for call in some_calls(&mut random, &profile, &[(X86_64, all)]) {
            let Some((name, number)) = numbers.iter().find(|(_, number)| *number == call.number) else { continue };
            let context = || format!("seed {SEED:#x}, round {round}: {name} {call:x?} of {}", show(&profile));
            assert_eq!(
                machine::run(&filter.program, &call).0,
                meaning(&profile, name, &call.args, true),
                "{}",
                context()
            );
            let narrow = Call { number: X32_BIT + number, ..call };
            let expected = if x32 { meaning(&profile, name, &call.args, false) } else { 0 };
            assert_eq!(machine::run(&filter.program, &narrow).0, expected, "x32: {}", context());
        }
    }
    assert!(refused < 300, "{refused} of 3000");
}

#[test]
#[ignore = "needs libseccomp.so.2, which the build does not: .ci/run runs it"]
fn random_profiles_do_what_libseccomp_makes_of_them() {
    let library = Libseccomp::load();
    let mut random = Random(SEED);
    let (mut calls, mut left_out) = (0, 0);
    let table =
        |token: u32| NAMES.iter().filter_map(|name| library.number(token, name).try_into().ok()).collect::<Vec<u32>>();
    let tables = [(X86_64, [table(NATIVE), table(X32)].concat()), (I386, table(X86)), (AARCH64, vec![63, 64])];
    for round in 0..5000 {
        let profile = profile(&mut random, false);
        let context = || format!("seed {SEED:#x}, round {round}: {}", show(&profile));
        let theirs =
            |token| library.compile(&profile, token).unwrap_or_else(|errno| panic!("errno {errno}, {}", context()));
        let lists = |name: &str| profile.architectures.iter().flatten().any(|arch| arch == name);
        let native = theirs(NATIVE);
        let x86 = if lists("SCMP_ARCH_X86") { theirs(X86) } else { native.clone() };
        let x32 = if lists("SCMP_ARCH_X32") { theirs(X32) } else { native.clone() };
        let ours = compile(&profile, &CONTEXT).unwrap_or_else(|error| panic!("{error}, {}", context())).program;
        for call in some_calls(&mut random, &profile, &tables) {
            let theirs = match call {
                Call { arch: I386, .. } => &x86,
                Call { arch: X86_64, number: X32_BIT.., .. } => &x32,
                _ => &native,
            };
            if forgets_to_load(theirs) {
                left_out += 1;
                continue;
            }
            let (ours, theirs) = (machine::run(&ours, &call).0, machine::run(theirs, &call).0);
            assert_eq!(ours, theirs, "ours {ours:#x}, theirs {theirs:#x}: {call:x?}, {}", context());
            calls += 1;
        }
    }
    println!("{calls} calls, {left_out} left out, seed {SEED:#x}");
    assert!(left_out < calls / 10);
}

/// The same names have the same numbers, on all three architectures.
#[test]
#[ignore = "needs libseccomp.so.2, which the build does not: .ci/run runs it"]
fn call_numbers_are_libseccomps() {
    let library = Libseccomp::load();
    let names = default_profile().expect("a profile").syscalls.into_iter().flatten();
    let names: Vec<String> = names.flat_map(|call| call.names).chain(NAMES.map(String::from)).collect();
    for name in names {
        let allowed = format!(
            r#"{{"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        );
        let program = filter(&allowed).program;
        for (token, arch) in [(NATIVE, X86_64), (X86, I386), (X32, X86_64)] {
            let first = if token == X32 { X32_BIT } else { 0 };
            let found = (first..first + 600).find(|&number| machine::run(&program, &on(arch, number, &[])).0 == ALLOW);
            // Unknown to a libseccomp of Debian's age, or, as a negative
            // number, reached through another call, too.
            let theirs = library.number(token, &name);
            if library.resolve(&name).is_some() && !(-224..=-101).contains(&theirs) {
                assert_eq!(found, u32::try_from(theirs).ok(), "{name} of {token:#x}");
            }
        }
    }
}
