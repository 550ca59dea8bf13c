//! From rules to a program of classic BPF.
//!
//! ```text
//!   load the architecture ─┬─► x86_64, x32: load the number ─► tree ─┬─► return
//!                          ├─► i386: load the number ─► tree         └─► tests
//!                          └─► any other: return
//! ```
//!
//! The tree finds a call in as many steps as the number of ranges with equal
//! rules has binary digits. That counts already when the filter is loaded: the
//! kernel then runs it for each call number, to know those that are always
//! allowed.
//!
//! The program is put together from its end: a jump goes forward only, so what
//! it leads to is there already, and how far away it is is known.

use crate::calls::{Arch, X32_BIT};
use crate::rules::{Action, Op, Rule, Rules, Test, completed};

/// The kernel's limit (`BPF_MAXINSNS`).
pub const MOST: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if it holds.
    pub if_true: u8,
    /// How many if not.
    pub if_false: u8,
    /// The operand.
    pub k: u32,
}

/// As the kernel takes them.
pub fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * program.len());
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.if_true, instruction.if_false]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    bytes
}

/// The program for these rules, however long.
pub fn assemble(rules: &Rules) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let mut next = code.give(rules.foreign);
    if let Some(ranges) = i386(rules) {
        let tree = code.tree(&ranges);
        let begin = code.load(NUMBER, tree);
        next = code.branch(IF_EQUAL, AUDIT_ARCH_I386, begin, next);
    }
    let tree = code.tree(&x86_64(rules));
    let begin = code.load(NUMBER, tree);
    next = code.branch(IF_EQUAL, AUDIT_ARCH_X86_64, begin, next);
    code.load(ARCH, next);
    code.reversed.reverse();
    code.reversed
}

/// Calls from a number up to the next range's, all with the same rules.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Range {
    first: u32,
    wide: bool,
    rules: Vec<Rule>,
}

impl Range {
    /// Whether the same instructions decide for both.
    fn means(&self, other: &Range) -> bool {
        let tests = || self.rules.iter().flat_map(|rule| &rule.tests);
        self.rules == other.rules && (self.wide == other.wide || tests().all(Test::is_narrow))
    }
}

/// Appends to `ranges` the rules of one architecture.
fn extend(ranges: &mut Vec<Range>, rules: &Rules, arch: Arch) {
    let Some(table) = rules.tables.get(&arch) else { return };
    let wide = arch.is_wide();
    let default = &[Rule::always(rules.default)];
    let mut end = arch.first();
    for (number, own) in table.iter() {
        if end < number {
            push(ranges, end, wide, default);
        }
        match own {
            // Most are complete.
            [one] if one.tests.is_empty() => push(ranges, number, wide, own),
            _ => push(ranges, number, wide, &completed(own, rules.default)),
        }
        end = number + 1;
    }
    match rules.newer.filter(|_| table.end() > table.first()) {
        Some(newer) => {
            if end < table.end() {
                push(ranges, end, wide, default);
            }
            push(ranges, table.end(), wide, &[Rule::always(newer)]);
        }
        None => push(ranges, end, wide, default),
    }
}

/// A range from `first` on, unless the one before is the same and goes on.
fn push(ranges: &mut Vec<Range>, first: u32, wide: bool, rules: &[Rule]) {
    // Where no argument is looked at, its width means nothing.
    let goes_on = |range: &Range| range.rules == rules && (range.wide == wide || rules.len() == 1);
    if !ranges.last().is_some_and(goes_on) {
        ranges.push(Range { first, wide, rules: rules.to_vec() });
    }
}

fn i386(rules: &Rules) -> Option<Vec<Range>> {
    let mut ranges = Vec::new();
    extend(&mut ranges, rules, Arch::X86);
    (!ranges.is_empty()).then_some(ranges)
}

/// x86_64, and behind it x32: the kernel calls both the same architecture.
fn x86_64(rules: &Rules) -> Vec<Range> {
    let mut ranges = Vec::new();
    extend(&mut ranges, rules, Arch::X86_64);
    if rules.tables.contains_key(&Arch::X32) {
        extend(&mut ranges, rules, Arch::X32);
    } else {
        push(&mut ranges, X32_BIT, true, &[Rule::always(rules.foreign)]);
        // No call: a tracer's way to skip one.
        push(&mut ranges, u32::MAX, true, &[Rule::always(rules.default)]);
    }
    ranges
}

/// An instruction, by how many stand from it to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(usize);

#[derive(Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    /// Rules with conditions that stand there already, and where.
    known: Vec<(Range, Place)>,
}

impl Assembler {
    fn push(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> Place {
        self.reversed.push(Instruction { code, if_true, if_false, k });
        Place(self.reversed.len())
    }

    /// How many instructions are between the next one pushed and `to`.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - to.0
    }

    /// Returns `action`: the nearest instruction that does, or a new one.
    fn give(&mut self, action: Action) -> Place {
        let is_it = |instruction: &Instruction| instruction.code == RETURN && instruction.k == action;
        match self.reversed.iter().rposition(is_it) {
            Some(place) => Place(place + 1),
            None => self.push(RETURN, 0, 0, action),
        }
    }

    /// The same place, or one nearby that leads there: a branch reaches 255
    /// instructions far. One is left for the branch's other side.
    fn near(&mut self, to: Place) -> Place {
        if self.distance(to) < 255 {
            return to;
        }
        match self.reversed[to.0 - 1] {
            Instruction { code: RETURN, k, .. } => self.push(RETURN, 0, 0, k),
            _ => self.push(JUMP, 0, 0, self.distance(to) as u32),
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        let (yes, no) = (self.near(yes), self.near(no));
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, yes, no, k)
    }

    /// `code`, and after it `next`.
    fn then(&mut self, code: u16, k: u32, next: Place) -> Place {
        if self.distance(next) > 0 {
            self.push(JUMP, 0, 0, self.distance(next) as u32);
        }
        self.push(code, 0, 0, k)
    }

    fn load(&mut self, offset: u32, next: Place) -> Place {
        self.then(LOAD, offset, next)
    }

    /// Finds the range of the loaded number.
    fn tree(&mut self, ranges: &[Range]) -> Place {
        match ranges {
            [one] => self.rules(one),
            [before, one, after] if before.rules == after.rules && one.first + 1 == after.first => {
                let (yes, no) = (self.rules(one), self.rules(after));
                self.branch(IF_EQUAL, one.first, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let first = high[0].first;
                let (high, low) = (self.tree(high), self.tree(low));
                self.branch(IF_GREATER_OR_EQUAL, first, high, low)
            }
        }
    }

    /// The first rule whose tests hold; the last one's always do. Where other
    /// calls have the same rules, theirs.
    fn rules(&mut self, range: &Range) -> Place {
        if let Some((_, place)) = self.known.iter().find(|(known, _)| known.means(range)) {
            return *place;
        }
        let mut rules = range.rules.iter().rev();
        let mut next = match rules.next() {
            Some(last) => self.give(last.action),
            None => unreachable!("completed rules end with one"),
        };
        for rule in rules {
            let mut yes = self.give(rule.action);
            for test in rule.tests.iter().rev() {
                yes = self.test(test, range.wide, yes, next);
            }
            next = yes;
        }
        if range.rules.len() > 1 {
            self.known.push((range.clone(), next));
        }
        next
    }

    /// Goes to `yes` if the test holds, else to `no`.
    fn test(&mut self, test: &Test, wide: bool, yes: Place, no: Place) -> Place {
        let (code, yes, no) = match test.op {
            Op::Equal => (IF_EQUAL, yes, no),
            Op::NotEqual => (IF_EQUAL, no, yes),
            Op::Greater => (IF_GREATER, yes, no),
            Op::LessOrEqual => (IF_GREATER, no, yes),
            Op::GreaterOrEqual => (IF_GREATER_OR_EQUAL, yes, no),
            Op::Less => (IF_GREATER_OR_EQUAL, no, yes),
        };
        let offset = ARGS + 8 * u32::from(test.index);
        let (mask, value) = (test.mask as u32, test.value as u32);
        let (high_mask, high) = ((test.mask >> 32) as u32, (test.value >> 32) as u32);
        let low = self.branch(code, value, yes, no);
        let low = self.word(offset, mask, low);
        if !wide || test.is_narrow() {
            return low;
        }
        // The lower half decides where the upper ones are equal.
        let equal = self.branch(IF_EQUAL, high, low, no);
        let decided = if code == IF_EQUAL { equal } else { self.branch(IF_GREATER, high, yes, equal) };
        self.word(offset + 4, high_mask, decided)
    }

    /// Loads a word of the arguments, less some of its bits.
    fn word(&mut self, offset: u32, mask: u32, next: Place) -> Place {
        let next = if mask == u32::MAX { next } else { self.then(AND, mask, next) };
        self.load(offset, next)
    }
}
