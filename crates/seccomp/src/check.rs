//! The compiler's front: names become numbers, conditions are decided, and
//! what cannot be is refused by its name.
//!
//! What a profile means is what runc makes of it with libseccomp:
//! - A rule whose action is the default action is none.
//! - A call's name that no table has is none.
//! - Several conditions on the same argument are a rule each.
//! - A rule without conditions beats all others of its call, and the first
//!   such the later ones.
//! - On i386 a rule for `socket` is one for `socketcall(1, ...)`, too, and so
//!   on; the conditions on its other arguments stay.
//! - Where calls without a rule fail with an error whose number is not said,
//!   those that are newer than all that the profile names do not exist
//!   (ENOSYS): its writer did not know of them.
//!
//! Of several rules with conditions the first that holds counts. libseccomp
//! does the same where at most one of them can hold; where more can it sorts
//! them by argument and value, and may come to the default action although one
//! holds. The same conditions with different actions it refuses, and so is it
//! here.

use std::str::FromStr;

use crate::calls::{Arch, multiplexed, x32_number};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::filter::{Listener, NEW_LISTENER};
use crate::profile::{Argument, Profile, Syscall, When};
use crate::rules::{self, Action, Op, Rule, Rules, Table, Test};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The largest the kernel returns (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// A profile as the back of the compiler and the loader take it.
pub struct Checked {
    pub rules: Rules,
    pub flags: u32,
    pub listener: Option<Listener>,
}

/// Checks a whole profile.
pub fn check(profile: &Profile, context: &Context) -> Result<Checked> {
    named_only("defaultErrno", profile.default_errno.as_deref(), profile.default_errno_ret)?;
    let default = action("defaultAction", &profile.default_action, profile.default_errno_ret)?;
    if default == rules::NOTIFY {
        let reason = "not as the default: who listens could not even receive";
        return Err(invalid("defaultAction", &profile.default_action, reason));
    }
    let tables = architectures(profile)?.into_iter().map(|arch| (arch, Table::new(arch.first()))).collect();
    // A program that finds a call missing does without; one that is not
    // permitted it may give up.
    let newer = default == (rules::ERRNO | EPERM) && profile.default_errno_ret.is_none();
    let newer = newer.then_some(rules::ERRNO | ENOSYS);
    // libseccomp's action for architectures that were not added.
    let mut rules = Rules { default, newer, foreign: rules::KILL_THREAD, tables };
    let mut notifies = false;
    for (i, call) in profile.syscalls.iter().flatten().enumerate() {
        let field = |name: &str| format!("syscalls[{i}].{name}");
        named_only(&field("errno"), call.errno.as_deref(), call.errno_ret)?;
        let action = action(&field("action"), &call.action, call.errno_ret)?;
        let conditions = conditions(i, call)?;
        if let Some(empty) = call.names.iter().find(|name| name.is_empty()) {
            return Err(invalid(field("names"), empty, "an empty name"));
        }
        if !applies(i, call, context)? {
            continue;
        }
        if action == default {
            call.names.iter().for_each(|name| know(&mut rules, name));
            continue;
        }
        notifies |= action == rules::NOTIFY;
        for name in &call.names {
            for tests in &conditions {
                if !add(&mut rules, name, &Rule { tests: tests.clone(), action }) {
                    let reason = "an earlier rule has the same conditions and another action: remove one";
                    return Err(invalid(format!("syscalls[{i}]"), name, reason));
                }
            }
        }
    }
    let mut flags = flags(profile, notifies)?;
    let listener = profile
        .listener_path
        .as_ref()
        .filter(|_| notifies)
        .map(|path| Listener { path: path.into(), metadata: profile.listener_metadata.clone().unwrap_or_default() });
    if notifies {
        if listener.is_none() {
            return Err(invalid("listenerPath", "", "SCMP_ACT_NOTIFY needs it: the socket of who decides"));
        }
        flags |= NEW_LISTENER;
    }
    Ok(Checked { rules, flags, listener })
}

fn invalid(field: impl AsRef<str>, value: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::new(format!("seccomp.{}", field.as_ref()), value, reason)
}

/// A name beside the number says the same for readers; alone it says nothing.
fn named_only(field: &str, name: Option<&str>, number: Option<u32>) -> Result<()> {
    match (name, number) {
        (Some(name), None) if !name.is_empty() => Err(invalid(field, name, "give the number, as errnoRet")),
        _ => Ok(()),
    }
}

fn action(field: &str, name: &str, errno: Option<u32>) -> Result<Action> {
    let with_data = |action: Action, most: u32| match errno.unwrap_or(EPERM) {
        data if data <= most => Ok(action | data),
        data => Err(invalid(field, data.to_string(), format!("errnoRet is at most {most}"))),
    };
    let plain = match name {
        "SCMP_ACT_ERRNO" => return with_data(rules::ERRNO, MAX_ERRNO),
        "SCMP_ACT_TRACE" => return with_data(rules::TRACE, u16::MAX.into()),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => rules::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => rules::KILL_PROCESS,
        "SCMP_ACT_TRAP" => rules::TRAP,
        "SCMP_ACT_NOTIFY" => rules::NOTIFY,
        "SCMP_ACT_LOG" => rules::LOG,
        "SCMP_ACT_ALLOW" => rules::ALLOW,
        _ => {
            let reason = "not an action: SCMP_ACT_ followed by KILL, KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, \
                          ALLOW, LOG or NOTIFY";
            return Err(invalid(field, name, reason));
        }
    };
    match errno {
        None => Ok(plain),
        Some(errno) => Err(invalid(field, name, format!("has no errno, but errnoRet is {errno}: remove that"))),
    }
}

/// Those of the architectures that this machine's kernel has calls of; its own
/// is always one.
fn architectures(profile: &Profile) -> Result<Vec<Arch>> {
    let mut found = vec![Arch::X86_64];
    let mut add = |field: &str, name: &str| match name {
        "SCMP_ARCH_X86_64" | "SCMP_ARCH_NATIVE" => Ok(()),
        "SCMP_ARCH_X86" => {
            found.push(Arch::X86);
            Ok(())
        }
        "SCMP_ARCH_X32" => {
            found.push(Arch::X32);
            Ok(())
        }
        other if ELSEWHERE.iter().any(|known| other.strip_prefix("SCMP_ARCH_") == Some(known)) => Ok(()),
        other => Err(invalid(field, other, "not an architecture: SCMP_ARCH_X86_64, SCMP_ARCH_X86, ...")),
    };
    for name in profile.architectures.iter().flatten() {
        add("architectures", name)?;
    }
    if profile.architectures.is_some() && profile.arch_map.is_some() {
        return Err(invalid("archMap", "", "there is `architectures` already: give one of the two"));
    }
    for machine in profile.arch_map.iter().flatten().filter(|machine| machine.architecture == "SCMP_ARCH_X86_64") {
        for name in machine.sub_architectures.iter().flatten() {
            add("archMap", name)?;
        }
    }
    Ok(found)
}

/// Architectures that other machines have.
const ELSEWHERE: [&str; 21] = [
    "ARM",
    "AARCH64",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
    "SW_64",
];

fn flags(profile: &Profile, notifies: bool) -> Result<u32> {
    let (tsync, wait_killable, tsync_esrch) = (1 << 0, 1 << 5, 1 << 4);
    let mut flags = 0;
    for name in profile.flags.iter().flatten() {
        flags |= match name.as_str() {
            // With both the kernel must be told how to say that a thread
            // could not follow.
            "SECCOMP_FILTER_FLAG_TSYNC" => tsync | if notifies { tsync_esrch } else { 0 },
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
            // About listeners: without one the kernel does not take it.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                if notifies {
                    wait_killable
                } else {
                    0
                }
            }
            other => {
                let reason = "not a flag: SECCOMP_FILTER_FLAG_ followed by TSYNC, LOG, SPEC_ALLOW or \
                              WAIT_KILLABLE_RECV";
                return Err(invalid("flags", other, reason));
            }
        };
    }
    Ok(flags)
}

/// The tests of a rule: one list, or one for each condition.
fn conditions(i: usize, call: &Syscall) -> Result<Vec<Vec<Test>>> {
    let args = call.args.as_deref().unwrap_or_default();
    let tests = args.iter().enumerate().map(|(j, argument)| test(&format!("syscalls[{i}].args[{j}]"), argument));
    let tests: Vec<_> = tests.collect::<Result<_>>()?;
    let twice = |i: usize| tests[..i].iter().any(|test| test.index == tests[i].index);
    if (0..tests.len()).any(twice) {
        return Ok(tests.into_iter().map(|test| vec![test]).collect());
    }
    Ok(vec![tests])
}

fn test(field: &str, argument: &Argument) -> Result<Test> {
    if argument.index > 5 {
        return Err(invalid(format!("{field}.index"), argument.index.to_string(), "a call has arguments 0 to 5"));
    }
    let op = match argument.op.as_str() {
        "SCMP_CMP_NE" => Op::NotEqual,
        "SCMP_CMP_LT" => Op::Less,
        "SCMP_CMP_LE" => Op::LessOrEqual,
        "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ" => Op::Equal,
        "SCMP_CMP_GE" => Op::GreaterOrEqual,
        "SCMP_CMP_GT" => Op::Greater,
        other => {
            let reason = "not a comparison: SCMP_CMP_ followed by NE, LT, LE, EQ, GE, GT or MASKED_EQ";
            return Err(invalid(format!("{field}.op"), other, reason));
        }
    };
    let index = argument.index as u8;
    Ok(if argument.op == "SCMP_CMP_MASKED_EQ" {
        let (mask, value) = (argument.value, argument.value_two.unwrap_or(0));
        Test { index, op, mask, value: value & mask }
    } else {
        Test { index, op, mask: u64::MAX, value: argument.value }
    })
}

/// Whether a rule is one for this container on this machine.
fn applies(i: usize, call: &Syscall, context: &Context) -> Result<bool> {
    let none = When::default();
    let includes = holds(&format!("syscalls[{i}].includes"), call.includes.as_ref().unwrap_or(&none), context)?;
    let excludes = holds(&format!("syscalls[{i}].excludes"), call.excludes.as_ref().unwrap_or(&none), context)?;
    Ok(includes.iter().all(|holds| *holds) && !excludes.iter().any(|holds| *holds))
}

/// Each condition of `when`, whether it holds.
fn holds(field: &str, when: &When, context: &Context) -> Result<Vec<bool>> {
    let mut found = Vec::new();
    for name in when.caps.iter().flatten() {
        let capability = caps::Capability::from_str(name)
            .map_err(|_| invalid(format!("{field}.caps"), name, "not a capability of capabilities(7)"))?;
        found.push(context.capabilities & capability.bitmask() != 0);
    }
    if let Some(arches) = when.arches.as_ref().filter(|arches| !arches.is_empty()) {
        found.push(arches.iter().any(|arch| arch == "amd64"));
    }
    if let Some(version) = &when.min_kernel {
        let mut numbers = version.splitn(2, '.').map(|number| number.parse::<u32>().ok());
        let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
        let least = major.zip(minor);
        let least =
            least.ok_or_else(|| invalid(format!("{field}.minKernel"), version, "give two numbers, such as 4.8"))?;
        found.push(context.kernel >= least);
    }
    for name in when.container.iter().flatten() {
        found.push(match name.as_str() {
            "nesting" => context.situation.nesting,
            "shared-pid" => context.situation.shared_pid,
            _ => {
                return Err(invalid(
                    format!("{field}.container"),
                    name,
                    "not known of a container: nesting, shared-pid",
                ));
            }
        });
    }
    Ok(found)
}

/// A rule that changes nothing still tells which calls its writer knew.
fn know(rules: &mut Rules, name: &str) {
    for (arch, table) in &mut rules.tables {
        if let Some(number) = arch.number(name) {
            table.know(number);
        }
    }
}

/// Adds a rule wherever there is a call of that name. False if it contradicts
/// another.
fn add(rules: &mut Rules, name: &str, rule: &Rule) -> bool {
    let mut fits = true;
    let native = Arch::X86_64.number(name);
    for (&arch, table) in &mut rules.tables {
        if let Some((call, number)) = multiplexed(name).filter(|_| arch == Arch::X86) {
            let which = Test { index: 0, op: Op::Equal, mask: u64::MAX, value: number };
            let others = rule.tests.iter().copied().filter(|test| test.index != 0);
            let tests = std::iter::once(which).chain(others).collect();
            if let Some(number) = arch.number(call) {
                insert(table, number, Rule { tests, action: rule.action });
            }
        }
        let number = match arch {
            Arch::X86_64 => native,
            Arch::X32 => x32_number(name, native),
            Arch::X86 => arch.number(name),
        };
        if let Some(number) = number {
            fits &= insert(table, number, rule.clone());
        }
    }
    fits
}

/// Behind the others, unless one without conditions settles it. False if one
/// has the same conditions and another action.
fn insert(table: &mut Table, number: u32, rule: Rule) -> bool {
    let rules = table.rules_of(number);
    if rules.first().is_some_and(|rule| rule.tests.is_empty()) {
        return true;
    }
    if rule.tests.is_empty() {
        rules.clear();
    }
    let fits = !rules.iter().any(|other| other.tests == rule.tests && other.action != rule.action);
    // Seldom more than one.
    rules.reserve_exact(1);
    rules.push(rule);
    fits
}
