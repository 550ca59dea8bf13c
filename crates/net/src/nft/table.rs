//! A table as data: to be written to the kernel in one transaction, and to be
//! read, as `nft list table` shows it.

use std::fmt::{self, Display, Formatter};

use netlink::{Batch, Message};

use super::expression::{Expression, encode};
use super::message::{Request, nest, request, transaction};
use super::set::Set;

/// Where in a packet's way a chain is asked (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Filter,
    Nat,
}

/// Where a chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub kind: Kind,
    pub hook: Hook,
    /// The lowest is asked first.
    pub priority: i32,
}

/// Rules, asked in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub name: &'static str,
    /// `None`: it is called from others. What gets to the end of one that begins
    /// somewhere is accepted.
    pub base: Option<Base>,
    pub rules: Vec<Vec<Expression>>,
}

/// A table of the family `inet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub name: String,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

impl Table {
    /// One transaction after which the table is exactly this, whatever there was
    /// of that name.
    pub(crate) fn replace(&self) -> Batch {
        let name = &self.name;
        let mut messages = Vec::from(no_table(name));
        messages.push(about_table("adding", Request::NewTable, name));
        messages.extend(self.sets.iter().zip(1..).map(|(set, id)| set.create(name, id)));
        // Chains before rules, which may jump to any.
        messages.extend(self.chains.iter().map(|chain| chain.create(name)));
        messages.extend(self.sets.iter().flat_map(|set| set.fill(name)));
        messages.extend(self.chains.iter().flat_map(|chain| chain.fill(name)));
        transaction(messages)
    }
}

/// One transaction after which there is no table of this name.
pub(crate) fn remove(table: &str) -> Batch {
    transaction(no_table(table).into())
}

/// Adding it first: deleting one that is not there is an error.
fn no_table(table: &str) -> [Message; 2] {
    [about_table("looking for", Request::NewTable, table), about_table("deleting", Request::DeleteTable, table)]
}

fn about_table(doing: &str, kind: Request, table: &str) -> Message {
    const NAME: u16 = 1;
    request(format!("{doing} the table {table}"), kind).with(|attributes| {
        attributes.str(NAME, table);
    })
}

impl Chain {
    /// The request that makes it, empty.
    fn create(&self, table: &str) -> Message {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const KIND: u16 = 7;
        request(format!("adding the chain {} of the table {table}", self.name), Request::NewChain).with(|chain| {
            chain.str(TABLE, table).str(NAME, self.name);
            let Some(base) = self.base else { return };
            nest(chain, HOOK, |hook| {
                hook.be32(1, base.hook as u32).be32(2, base.priority as u32);
            });
            chain.be32(POLICY, libc::NF_ACCEPT as u32).str(KIND, base.kind.name());
        })
    }

    /// The requests that fill it.
    fn fill(&self, table: &str) -> impl Iterator<Item = Message> {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        self.rules.iter().map(move |rule| {
            let doing = format!("adding to the chain {} of the table {table}: {}", self.name, line(rule));
            request(doing, Request::NewRule).with(|attributes| {
                attributes.str(TABLE, table).str(CHAIN, self.name);
                nest(attributes, EXPRESSIONS, |list| encode(rule, list));
            })
        })
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
        }
    }
}

fn line(rule: &[Expression]) -> String {
    rule.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        write!(f, "type {} hook {hook} priority ", self.kind.name())?;
        // Some have names, where they are usual.
        match (self.hook, self.priority) {
            (_, libc::NF_IP_PRI_RAW) => f.write_str("raw")?,
            (_, libc::NF_IP_PRI_FILTER) => f.write_str("filter")?,
            (Hook::Prerouting, libc::NF_IP_PRI_NAT_DST) => f.write_str("dstnat")?,
            (Hook::Postrouting, libc::NF_IP_PRI_NAT_SRC) => f.write_str("srcnat")?,
            (_, number) => write!(f, "{number}")?,
        }
        f.write_str("; policy accept;")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.name)?;
        for set in &self.sets {
            writeln!(f, "{set}")?;
        }
        for (at, chain) in self.chains.iter().enumerate() {
            writeln!(f, "{}\tchain {} {{", if at == 0 { "" } else { "\n" }, chain.name)?;
            if let Some(base) = chain.base {
                writeln!(f, "\t\t{base}")?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{}", line(rule))?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}
