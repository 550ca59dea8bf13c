//! A plan as text: one strace-like line a step.
//!
//! ```text
//!   12  openat2(rootfs, "proc", {O_PATH|O_CLOEXEC, RESOLVE_NO_SYMLINKS}) = target
//!   13  mkdirat(dev, "pts", 0755)                    EEXIST: go on
//! ```
//!
//! The number in front is the one that errors name.

use std::fmt::{self, Display, Formatter};

use nix::errno::Errno;
use pause::wire::Op;

use super::step::{self, Arg, MountAttr, OpenHow};
use super::{Given, Plan};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let born_with: Vec<_> =
            self.given.iter().enumerate().map(|(number, given)| format!("{number}={}", given.name())).collect();
        writeln!(f, "# born with {}", born_with.join(" "))?;
        if self.born_in != 0 {
            writeln!(f, "# born by clone3({})", show_flags(self.born_in, step::CLONE))?;
        }
        for number in 0..self.steps.len() {
            writeln!(f, "{number:4}  {}", self.line(number))?;
        }
        Ok(())
    }
}

impl Plan {
    /// Step `number` as it stands in the printed plan.
    pub fn line(&self, number: usize) -> String {
        let mut line = self.call(number);
        let Some(step) = self.steps.get(number) else { return line };
        let goes_to = |skip: u16| match skip {
            0 => "go on".to_string(),
            n => format!("go to {}", number + 1 + usize::from(n)),
        };
        if step.skip_ok > 0 {
            let who = if step.call.op == Op::Clone { "parent" } else { "ok" };
            line += &format!("  [{who}: {}]", goes_to(step.skip_ok));
        }
        if !step.tolerate.is_empty() {
            let names: Vec<_> = step.tolerate.iter().map(|&e| format!("{:?}", Errno::from_raw(e))).collect();
            line += &format!("  [{}: {}]", names.join("|"), goes_to(step.skip_err));
        }
        line
    }

    /// The system call of step `number`, as strace would show it.
    pub fn call(&self, number: usize) -> String {
        let Some(step) = self.steps.get(number) else { return format!("step {number}") };
        let mut args: Vec<_> = step.args.iter().map(|arg| self.arg(arg)).collect();
        if let (1.., Some(Arg::Num(first))) = (step.repeat, step.args.get(1)) {
            args[1] = format!("{first}..={}", first + u64::from(step.repeat));
        }
        let mut line = format!("{}({})", step.call.kind, args.join(", "));
        if let Some(slot) = step.into {
            line += &format!(" = {}", self.name(slot.0));
        }
        line
    }

    fn name(&self, slot: u16) -> &str {
        self.names.get(usize::from(slot)).copied().unwrap_or("-")
    }

    fn arg(&self, arg: &Arg) -> String {
        match arg {
            Arg::Slot(slot) | Arg::SlotNumber(slot) => self.name(slot.0).to_string(),
            Arg::Label(number) => format!("child: step {number}"),
            Arg::Num(number) => number.to_string(),
            Arg::Address(address) => format!("{address:#x}"),
            Arg::Flags(value, table) => show_flags(*value, table),
            Arg::Mode(mode) => format!("{mode:#05o}").replacen("0o", "0", 1),
            Arg::Word(_, shown) => shown.to_string(),
            Arg::Text(text) => format!("{text:?}"),
            Arg::Blob(_, shown) => shown.clone(),
            Arg::Device(device) => format!("{}:{}", libc::major(*device), libc::minor(*device)),
            Arg::OpenHow(how) => show_how(how),
            Arg::MountAttr(attr) => show_attr(attr),
            Arg::Strings(strings) => format!("{strings:?}"),
            Arg::Filter(filter) => format!("{{{} instructions}}", filter.len() / 8),
        }
    }
}

fn show_how(how: &OpenHow) -> String {
    let (flags, resolve) = (show_flags(how.flags, step::OPEN), show_flags(how.resolve, step::RESOLVE));
    let mode = if how.mode == 0 { String::new() } else { format!("{:#o}, ", how.mode) };
    format!("{{{flags}, {mode}{resolve}}}")
}

fn show_attr(attr: &MountAttr) -> String {
    let mut parts = Vec::new();
    if attr.set != 0 {
        parts.push(format!("set={}", show_flags(attr.set, step::ATTRS)));
    }
    if attr.clear != 0 {
        parts.push(format!("clear={}", show_flags(attr.clear, step::ATTRS)));
    }
    if attr.propagation != 0 {
        parts.push(show_flags(attr.propagation, step::MOUNT));
    }
    format!("{{{}}}", parts.join(" "))
}

/// `A|B|0x40`: the names in `table`, and what has none.
pub fn show_flags(value: u64, table: &[(u64, &str)]) -> String {
    let mut left = value;
    let mut names = Vec::new();
    for &(bits, name) in table {
        if bits != 0 && left & bits == bits {
            names.push(name.to_string());
            left &= !bits;
        }
    }
    if left != 0 || names.is_empty() {
        names.push(if left < 10 { left.to_string() } else { format!("{left:#x}") });
    }
    names.join("|")
}

impl Display for Given {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
