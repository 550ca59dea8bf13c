//! Which devices may be used.
//!
//! Version 2 asks an eBPF program of type `CGROUP_DEVICE` each time a device
//! is opened or a node is made; `program` makes one of a list of rules.
//!
//! Of the rules the last one that is about a device and a kind of access
//! decides it: reading, writing and making nodes each for itself. So a rule
//! about all devices and all access makes those before it mean nothing, two
//! rules of one device add up, and an open for reading and writing is denied
//! if one of both is. What no rule is about is denied.
//!
//! Version 1, and runc's emulation of it, know a default and exceptions to it.
//! Lists such as engines write mean the same to both. Others mean here what
//! they say: a rule about all devices but not all access is about that access
//! alone, and not a new beginning; reading allowed by one rule and writing by
//! another allow both at once; single devices can be taken out of a rule with
//! wildcards, which is an error there.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::bpf::Instruction;

/// Block or character devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Both.
    Any,
    /// Disks.
    Block,
    /// Everything else.
    Char,
}

/// Allows or denies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Or denies.
    pub allow: bool,
    /// Of which kind.
    pub kind: DeviceKind,
    /// Major number; any if not given.
    pub major: Option<u32>,
    /// Minor number; any if not given.
    pub minor: Option<u32>,
    /// To read it.
    pub read: bool,
    /// To write it.
    pub write: bool,
    /// To make a node of it.
    pub mknod: bool,
}

/// The kernel's numbers of access and kinds (`linux/bpf.h`).
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const BLOCK: u32 = 1;
const CHAR: u32 = 2;

/// A program has at most 4096 instructions wherever it runs.
const MOST_RULES: usize = 256;

impl DeviceRule {
    /// `access` is any of `r`, `w` and `m`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other letters, and numbers no device has.
    pub fn new(
        allow: bool,
        kind: DeviceKind,
        major: Option<u32>,
        minor: Option<u32>,
        access: &str,
    ) -> Result<DeviceRule> {
        if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
            return Err(Error::invalid("devices.access", access, "give some of r, w and m"));
        }
        let [read, write, mknod] = ['r', 'w', 'm'].map(|letter| access.contains(letter));
        let rule = DeviceRule { allow, kind, major, minor, read, write, mknod };
        rule.check()?;
        Ok(rule)
    }

    pub(super) fn check(&self) -> Result<()> {
        // 12 and 20 bits (`linux/kdev_t.h`).
        for (field, number, most) in
            [("devices.major", self.major, (1 << 12) - 1), ("devices.minor", self.minor, (1 << 20) - 1)]
        {
            if let Some(number) = number.filter(|number| *number > most) {
                return Err(Error::invalid(field, number.to_string(), format!("at most {most}")));
            }
        }
        Ok(())
    }

    fn access(&self) -> u8 {
        let bits = [(self.read, READ), (self.write, WRITE), (self.mknod, MKNOD)];
        bits.into_iter().filter(|(on, _)| *on).fold(0, |access, (_, bit)| access | bit)
    }

    fn kind_number(&self) -> Option<u32> {
        match self.kind {
            DeviceKind::Any => None,
            DeviceKind::Block => Some(BLOCK),
            DeviceKind::Char => Some(CHAR),
        }
    }

    /// All devices, all access: nothing before it matters.
    fn is_total(&self) -> bool {
        self.kind == DeviceKind::Any
            && self.major.is_none()
            && self.minor.is_none()
            && self.access() == READ | WRITE | MKNOD
    }
}

/// What the specification promises every container, and what runc and crun
/// allow beside: any node may be made, and the default devices and
/// pseudo-terminals opened.
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, read_write| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        read: read_write,
        write: read_write,
        mknod: true,
    };
    let mut rules = vec![rule(DeviceKind::Char, None, None, false), rule(DeviceKind::Block, None, None, false)];
    // null, zero, full, random, urandom, tty, ptmx; then all of /dev/pts.
    let numbers = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    rules.extend(numbers.map(|(major, minor)| rule(DeviceKind::Char, Some(major), Some(minor), true)));
    rules.push(rule(DeviceKind::Char, Some(136), None, true));
    rules
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb4;
const COPY: u8 = 0xbc;
const IF_EQUAL: u8 = 0x15;
const IF_NOT_EQUAL: u8 = 0x55;
const GO: u8 = 0x05;
const EXIT: u8 = 0x95;

/// r0 is the answer, r1 the context and then for use between.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// Bits of the access that no rule has decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn one(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, value }
}

/// The program of a list of rules.
///
/// ```text
///   kind, open, major, minor from the context
///   for each rule, the last one first:
///     another kind, major or minor?   next
///     allows:  open &= !access;  nothing open?       allow
///     denies:  anything of access open?              deny
///   nothing open? allow
///   deny:   answer 0
///   allow:  answer 1
/// ```
///
/// Rules in a row that name the same kind, or kind and major number, share
/// that test: the kernel follows every path through a program when it loads
/// it, at each start of a container.
///
/// # Errors
/// [`Error::Invalid`] for too many rules.
pub(crate) fn program(rules: &[DeviceRule]) -> Result<Vec<Instruction>> {
    let relevant = rules.iter().rposition(DeviceRule::is_total).unwrap_or(0);
    let mut rules = rules[relevant..].to_vec();
    if rules.len() > MOST_RULES {
        return Err(Error::invalid("devices", rules.len().to_string(), format!("at most {MOST_RULES} rules")));
    }
    rules.reverse();
    let mut assembler = Assembler::default();
    assembler.program.extend([
        one(LOAD_WORD, KIND, CONTEXT, 0, 0),
        one(COPY, OPEN, KIND, 0, 0),
        one(AND, KIND, 0, 0, 0xffff),
        one(SHIFT_RIGHT, OPEN, 0, 0, 16),
        one(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        one(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ]);
    let tests: [Test; 3] = [(KIND, DeviceRule::kind_number), (MAJOR, |rule| rule.major), (MINOR, |rule| rule.minor)];
    let undecided = assembler.rules(&rules, &tests);
    Ok(assembler.finish(undecided))
}

/// A register, and what a rule wants in it.
type Test = (u8, fn(&DeviceRule) -> Option<u32>);

/// How a program ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Allow,
    Deny,
}

/// A program, and the jumps in it to its ends, which come last.
#[derive(Default)]
struct Assembler {
    program: Vec<Instruction>,
    jumps: Vec<(usize, End)>,
}

impl Assembler {
    /// Rules, the one that decides first in front, for which these tests are
    /// still to be made. Whether anything comes out undecided: what follows
    /// would never be reached, and the kernel takes no program with such parts.
    fn rules(&mut self, rules: &[DeviceRule], tests: &[Test]) -> bool {
        let Some((&(register, wanted), tests)) = tests.split_first() else {
            return rules.iter().all(|rule| self.decide(rule));
        };
        rules.chunk_by(|a, b| wanted(a) == wanted(b)).all(|alike| {
            let Some(number) = wanted(&alike[0]) else { return self.rules(alike, tests) };
            let test = self.program.len();
            self.program.push(one(IF_NOT_EQUAL, register, 0, 0, number as i32));
            self.rules(alike, tests);
            self.lead(test, self.program.len());
            true
        })
    }

    /// What a rule does that is about the device; false if that is always the
    /// end.
    fn decide(&mut self, rule: &DeviceRule) -> bool {
        let access = rule.access();
        match rule.allow {
            true if access == READ | WRITE | MKNOD => {
                self.jump(GO, 0, End::Allow);
                return false;
            }
            true => {
                self.program.push(one(AND, OPEN, 0, 0, !i32::from(access)));
                self.jump(IF_EQUAL, OPEN, End::Allow);
            }
            false => {
                self.program.push(one(COPY, CONTEXT, OPEN, 0, 0));
                self.program.push(one(AND, CONTEXT, 0, 0, access.into()));
                self.jump(IF_NOT_EQUAL, CONTEXT, End::Deny);
            }
        }
        true
    }

    /// A jump that compares with 0, or does not.
    fn jump(&mut self, code: u8, register: u8, end: End) {
        self.jumps.push((self.program.len(), end));
        self.program.push(one(code, register, 0, 0, 0));
    }

    /// The answers, those that something leads to.
    fn finish(mut self, undecided: bool) -> Vec<Instruction> {
        if undecided {
            self.jump(IF_EQUAL, OPEN, End::Allow);
        }
        let jumps = std::mem::take(&mut self.jumps);
        for (end, answer) in [(End::Deny, 0), (End::Allow, 1)] {
            let to_it = jumps.iter().filter(|(_, wanted)| *wanted == end);
            if to_it.clone().next().is_none() && !(undecided && end == End::Deny) {
                continue;
            }
            to_it.for_each(|(at, _)| self.lead(*at, self.program.len()));
            self.program.extend([one(MOVE, ANSWER, 0, 0, answer), one(EXIT, 0, 0, 0, 0)]);
        }
        self.program
    }

    /// Has the jump at `at` go to `target`. A program is far shorter than a
    /// jump can be.
    fn lead(&mut self, at: usize, target: usize) {
        self.program[at].offset = (target - at - 1) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of an eBPF machine as these programs need.
    fn run(program: &[Instruction], access_type: u32, major: u32, minor: u32) -> u64 {
        let mut r = [0u64; 6];
        let mut at = 0;
        for _ in 0..10_000 {
            let Instruction { code, registers, offset, value } = program[at];
            let (to, from) = (usize::from(registers & 15), usize::from(registers >> 4));
            at += 1;
            match code {
                LOAD_WORD => r[to] = [access_type, major, minor][offset as usize / 4].into(),
                COPY => r[to] = u64::from(r[from] as u32),
                MOVE => r[to] = u64::from(value as u32),
                AND => r[to] = u64::from(r[to] as u32 & value as u32),
                SHIFT_RIGHT => r[to] = u64::from((r[to] as u32) >> value),
                IF_EQUAL if r[to] == value as i64 as u64 => at = (at as i64 + i64::from(offset)) as usize,
                IF_NOT_EQUAL if r[to] != value as i64 as u64 => at = (at as i64 + i64::from(offset)) as usize,
                IF_EQUAL | IF_NOT_EQUAL => {}
                GO => at = (at as i64 + i64::from(offset)) as usize,
                EXIT => return r[0],
                code => panic!("no instruction {code:#x}"),
            }
        }
        panic!("it does not end");
    }

    /// The kernel takes no program with instructions that nothing leads to.
    fn is_wholly_reachable(program: &[Instruction]) -> bool {
        let mut reached = vec![false; program.len()];
        reached[0] = true;
        for (at, instruction) in program.iter().enumerate() {
            if !reached[at] {
                return false;
            }
            let target = at + 1 + instruction.offset as usize;
            match instruction.code {
                EXIT => {}
                GO => reached[target] = true,
                IF_EQUAL | IF_NOT_EQUAL => (reached[at + 1], reached[target]) = (true, true),
                _ => reached[at + 1] = true,
            }
        }
        true
    }

    fn bits(access: &str) -> u32 {
        let bit = |(letter, bit)| if access.contains(letter) { u32::from(bit) } else { 0 };
        [('r', READ), ('w', WRITE), ('m', MKNOD)].into_iter().map(bit).sum()
    }

    fn allows(rules: &[DeviceRule], kind: char, major: u32, minor: u32, access: &str) -> bool {
        let kind = if kind == 'b' { BLOCK } else { CHAR };
        run(&program(rules).expect("a program"), bits(access) << 16 | kind, major, minor) == 1
    }

    /// `+c 1:3 rw`: as in version 1's devices.allow and devices.deny.
    fn rules(lines: &[&str]) -> Vec<DeviceRule> {
        let rule = |line: &&str| {
            let words: Vec<_> = line[1..].split(' ').collect();
            let kind = match words[0] {
                "a" => DeviceKind::Any,
                "b" => DeviceKind::Block,
                _ => DeviceKind::Char,
            };
            let (major, minor) = words[1].split_once(':').expect("numbers");
            let number = |text: &str| text.parse().ok();
            DeviceRule::new(line.starts_with('+'), kind, number(major), number(minor), words[2]).expect("a rule")
        };
        lines.iter().map(rule).collect()
    }

    #[test]
    fn no_rule_denies() {
        assert!(!allows(&[], 'c', 1, 3, "r"));
        // A look without access, as of access(F_OK), is none of its business.
        assert!(allows(&[], 'c', 1, 3, ""));
    }

    #[test]
    fn the_last_rule_about_a_device_counts() {
        let list = rules(&["-a *:* rwm", "+c 1:3 rw", "+c 5:* rwm", "-c 5:1 w", "+b 8:0 r"]);
        for (kind, major, minor, access, allowed) in [
            ('c', 1, 3, "r", true),
            ('c', 1, 3, "rw", true),
            ('c', 1, 3, "m", false),
            ('c', 1, 3, "rm", false),
            ('c', 1, 5, "r", false),
            ('b', 1, 3, "r", false),
            ('c', 5, 0, "rwm", true),
            ('c', 5, 1, "r", true),
            ('c', 5, 1, "w", false),
            ('c', 5, 1, "rw", false),
            ('b', 8, 0, "r", true),
            ('b', 8, 0, "rw", false),
            ('c', 8, 0, "r", false),
        ] {
            assert_eq!(allows(&list, kind, major, minor, access), allowed, "{kind} {major}:{minor} {access}");
        }
    }

    #[test]
    fn a_rule_about_everything_resets() {
        let denied_again = rules(&["+c 1:3 rwm", "-a *:* rwm"]);
        assert!(!allows(&denied_again, 'c', 1, 3, "r"));
        assert_eq!(
            program(&denied_again).expect("a program").len(),
            program(&rules(&["-a *:* rwm"])).expect("one").len()
        );
        let allowed_again = rules(&["-c 1:3 rwm", "+a *:* rwm", "-b *:* w"]);
        assert!(allows(&allowed_again, 'c', 1, 3, "rwm"));
        assert!(allows(&allowed_again, 'b', 8, 0, "r"));
        assert!(!allows(&allowed_again, 'b', 8, 0, "rw"));
    }

    #[test]
    fn rules_of_one_device_add_up() {
        let list = rules(&["+c 1:3 r", "+c 1:3 w", "+c *:* m"]);
        assert!(allows(&list, 'c', 1, 3, "rw"));
        assert!(allows(&list, 'c', 1, 3, "rwm"));
        assert!(allows(&list, 'c', 9, 9, "m"));
        assert!(!allows(&list, 'c', 9, 9, "rm"));
    }

    #[test]
    fn single_devices_are_taken_out_of_wildcards() {
        let list = rules(&["-a *:* rwm", "+c *:* rw", "-c 1:1 rw", "-c *:5 w"]);
        assert!(!allows(&list, 'c', 1, 1, "r"));
        assert!(allows(&list, 'c', 1, 2, "rw"));
        assert!(allows(&list, 'c', 1, 5, "r"));
        assert!(!allows(&list, 'c', 1, 5, "rw"));
    }

    #[test]
    fn every_list_decides_as_the_rules_say() {
        // Against the rule in words, for many lists.
        let decides = |list: &[DeviceRule], block: bool, major: u32, minor: u32, bit: u8| {
            let about = |rule: &&DeviceRule| {
                (rule.kind == DeviceKind::Any || (rule.kind == DeviceKind::Block) == block)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access() & bit != 0
            };
            list.iter().rev().find(about).is_some_and(|rule| rule.allow)
        };
        let mut seed = 1u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for _ in 0..500 {
            let list: Vec<_> = (0..random(6))
                .map(|_| DeviceRule {
                    allow: random(2) == 0,
                    kind: [DeviceKind::Any, DeviceKind::Block, DeviceKind::Char][random(3) as usize],
                    major: Some(random(3)).filter(|number| *number != 2),
                    minor: Some(random(3)).filter(|number| *number != 2),
                    read: random(2) == 0,
                    write: random(2) == 0,
                    mknod: random(2) == 0,
                })
                .collect();
            let program = program(&list).expect("a program");
            assert!(is_wholly_reachable(&program), "{list:?}: {program:?}");
            for (kind, major, minor, access) in (0..96).map(|n| (n % 2 + 1, n / 2 % 2, n / 4 % 3, n / 12)) {
                let wanted = [READ, WRITE, MKNOD].into_iter().filter(|bit| access & u32::from(*bit) != 0);
                let expected = wanted.clone().all(|bit| decides(&list, kind == 1, major, minor, bit));
                assert_eq!(run(&program, access << 16 | kind, major, minor) == 1, expected, "{list:?} {kind} {access}");
            }
        }
    }

    #[test]
    fn what_no_device_can_have_is_refused() {
        assert!(DeviceRule::new(true, DeviceKind::Char, Some(4096), None, "r").is_err());
        assert!(DeviceRule::new(true, DeviceKind::Char, None, Some(1 << 20), "r").is_err());
        assert!(DeviceRule::new(true, DeviceKind::Char, None, None, "").is_err());
        assert!(program(&vec![rules(&["+c 1:3 r"])[0]; 257]).is_err());
    }
}
