//! The compiler's middle: rules by call number, for each architecture, in
//! which nothing is left to look up or to refuse.

use std::collections::BTreeMap;

use crate::calls::Arch;

/// `SECCOMP_RET_KILL_PROCESS` and its like, with data in the lower half.
pub type Action = u32;

/// `SECCOMP_RET_*`.
pub const KILL_PROCESS: Action = 0x8000_0000;
/// `SECCOMP_RET_*`.
pub const KILL_THREAD: Action = 0;
/// `SECCOMP_RET_*`.
pub const TRAP: Action = 0x0003_0000;
/// `SECCOMP_RET_*`; the data is the errno.
pub const ERRNO: Action = 0x0005_0000;
/// `SECCOMP_RET_*`.
pub const NOTIFY: Action = 0x7fc0_0000;
/// `SECCOMP_RET_*`; the data is for the tracer.
pub const TRACE: Action = 0x7ff0_0000;
/// `SECCOMP_RET_*`.
pub const LOG: Action = 0x7ffc_0000;
/// `SECCOMP_RET_*`.
pub const ALLOW: Action = 0x7fff_0000;

/// How an argument is compared, as an unsigned number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// A condition: `argument & mask op value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Test {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How.
    pub op: Op,
    /// Which of its bits.
    pub mask: u64,
    /// With what.
    pub value: u64,
}

impl Test {
    fn always_holds(&self) -> bool {
        match self.op {
            Op::GreaterOrEqual => self.value == 0,
            Op::Equal => self.mask == 0 && self.value == 0,
            _ => false,
        }
    }

    /// Whether it does not look at the upper half of the argument.
    pub fn is_narrow(&self) -> bool {
        (self.mask | self.value) >> 32 == 0
    }
}

/// An action, where all tests hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The conditions.
    pub tests: Vec<Test>,
    /// The action.
    pub action: Action,
}

impl Rule {
    /// Without conditions.
    pub fn always(action: Action) -> Rule {
        Rule { tests: Vec::new(), action }
    }
}

/// The rules of one architecture, by call number. The first that holds counts.
///
/// Its numbers are few, and close together behind the first.
#[derive(Clone, Debug)]
pub struct Table {
    first: u32,
    calls: Vec<Vec<Rule>>,
}

impl Table {
    /// Without rules, for numbers from `first` on.
    pub fn new(first: u32) -> Table {
        Table { first, calls: Vec::new() }
    }

    /// The rules of a call.
    pub fn rules_of(&mut self, number: u32) -> &mut Vec<Rule> {
        self.know(number);
        &mut self.calls[(number - self.first) as usize]
    }

    /// Counts a call among those that whoever wrote the rules knew.
    pub fn know(&mut self, number: u32) {
        let count = (number - self.first) as usize + 1;
        if count > self.calls.len() {
            self.calls.resize_with(count, Vec::new);
        }
    }

    /// The lowest number a call has.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The one behind the newest call that is known.
    pub fn end(&self) -> u32 {
        self.first + self.calls.len() as u32
    }

    /// Calls that have rules, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Rule])> {
        let calls = (self.first..).zip(&self.calls).filter(|(_, rules)| !rules.is_empty());
        calls.map(|(number, rules)| (number, &rules[..]))
    }
}

/// A filter.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For calls without a rule that holds.
    pub default: Action,
    /// For calls that are newer than all that are known, if that is something
    /// else.
    pub newer: Option<Action>,
    /// For calls of other architectures.
    pub foreign: Action,
    /// The architectures.
    pub tables: BTreeMap<Arch, Table>,
}

impl Rules {
    /// Allows some calls of this machine's own architecture, and kills the
    /// process for any other.
    pub fn allow_only(calls: impl IntoIterator<Item = u32>) -> Rules {
        let mut table = Table::new(Arch::X86_64.first());
        for call in calls {
            *table.rules_of(call) = vec![Rule::always(ALLOW)];
        }
        Rules {
            default: KILL_PROCESS,
            newer: None,
            foreign: KILL_PROCESS,
            tables: BTreeMap::from([(Arch::X86_64, table)]),
        }
    }
}

/// The same rules, ending with one that always holds, without those that
/// change nothing.
pub fn completed(rules: &[Rule], default: Action) -> Vec<Rule> {
    let mut complete: Vec<Rule> = Vec::new();
    for rule in rules {
        let tests: Vec<_> = rule.tests.iter().copied().filter(|test| !test.always_holds()).collect();
        let last = tests.is_empty();
        complete.push(Rule { tests, action: rule.action });
        if last {
            break;
        }
    }
    if complete.last().is_none_or(|rule| !rule.tests.is_empty()) {
        complete.push(Rule::always(default));
    }
    while let [.., before, last] = &complete[..]
        && before.action == last.action
    {
        complete.remove(complete.len() - 2);
    }
    complete
}
