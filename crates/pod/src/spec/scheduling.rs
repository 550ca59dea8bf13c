//! How a container's process is scheduled, where its memory comes from, and what
//! the kernel makes of it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a process is scheduled (sched_setattr(2)).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`, `SCHED_FIFO`, `SCHED_RR` or
    /// `SCHED_DEADLINE`.
    pub policy: String,
    /// -20 to 19, for OTHER and BATCH.
    pub nice: i32,
    /// 1 to 99, for FIFO and RR; else 0.
    pub priority: i32,
    /// `SCHED_FLAG_*` by name.
    pub flags: Vec<String>,
    /// For DEADLINE: nanoseconds of work in each period.
    pub runtime: u64,
    /// For DEADLINE: nanoseconds after the period's begin.
    pub deadline: u64,
    /// For DEADLINE: nanoseconds.
    pub period: u64,
}

/// The order of its reads and writes (ioprio_set(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IoPriority {
    /// Which class.
    pub class: IoClass,
    /// 0, the first, to 7; means nothing for [`IoClass::Idle`].
    pub priority: u8,
}

/// A class of [`IoPriority`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoClass {
    /// Real time.
    Rt,
    /// Best effort.
    Be,
    /// When no other process wants the disk.
    Idle,
}

/// The execution domain (personality(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Personality {
    /// The kernel's own.
    Linux,
    /// uname(2) says it is a 32-bit machine.
    Linux32,
}

/// The processors of a program executed in a running container
/// (sched_setaffinity(2)), as lists such as `0-3,7`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Until it has entered the container's cgroup.
    pub initial: Option<String>,
    /// From then on.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// Which memory nodes its pages come from (set_mempolicy(2)).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` by name.
    pub mode: String,
    /// A list such as `0-3,7`; empty for none.
    pub nodes: String,
    /// `MPOL_F_*` by name.
    pub flags: Vec<String>,
}

impl Scheduler {
    /// What sched_setattr(2) takes: policy and flags.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what the kernel does not know, or not together.
    pub(crate) fn numbers(&self) -> Result<(u32, u64)> {
        let policy = by_name("scheduler.policy", &self.policy, &POLICIES)?;
        let flags = self.flags.iter().map(|flag| by_name("scheduler.flags", flag, &SCHED_FLAGS));
        Ok((policy, flags.collect::<Result<Vec<u64>>>()?.into_iter().fold(0, |flags, flag| flags | flag)))
    }

    /// Only the process itself can take it on, for it is not inherited: the
    /// kernel lets no child begin with it.
    pub(crate) fn is_not_inherited(&self) -> bool {
        self.policy == "SCHED_DEADLINE" || self.flags.iter().any(|flag| flag.ends_with("RESET_ON_FORK"))
    }

    pub(super) fn check(&self) -> Result<()> {
        let mut flags = self.flags.clone();
        flags.sort();
        if let Some(pair) = flags.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid("scheduler.flags", &pair[0], "stands there twice"));
        }
        self.numbers()?;
        let wrong =
            |name: &str, value: String, reason: &str| Err(Error::invalid(format!("scheduler.{name}"), value, reason));
        let real_time = matches!(self.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
        let deadline = self.policy == "SCHED_DEADLINE";
        if !(-20..=19).contains(&self.nice) {
            return wrong("nice", self.nice.to_string(), "from -20, the first, to 19");
        }
        match self.priority {
            1..=99 if real_time => {}
            0 if !real_time => {}
            other if real_time => {
                return wrong("priority", other.to_string(), "from 1 to 99 for SCHED_FIFO and SCHED_RR");
            }
            other => return wrong("priority", other.to_string(), "means something for SCHED_FIFO and SCHED_RR only"),
        }
        for (name, value) in [("runtime", self.runtime), ("deadline", self.deadline), ("period", self.period)] {
            if value != 0 && !deadline {
                return wrong(name, value.to_string(), "means something for SCHED_DEADLINE only");
            }
        }
        let period = if self.period == 0 { self.deadline } else { self.period };
        if deadline && !(1024 <= self.runtime && self.runtime <= self.deadline && self.deadline <= period) {
            let shown = format!("{} {} {}", self.runtime, self.deadline, self.period);
            return wrong("runtime", shown, "1024 ns <= runtime <= deadline <= period");
        }
        Ok(())
    }
}

const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Those that the other properties suffice for; the first has two spellings.
const SCHED_FLAGS: [(&str, u64); 6] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
];

impl MemoryPolicy {
    /// What set_mempolicy(2) takes: mode with flags, and nodes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what the kernel does not know, or not together.
    pub(crate) fn numbers(&self) -> Result<(u32, Vec<u8>)> {
        let mode = by_name("memoryPolicy.mode", &self.mode, &MEMORY_MODES)?;
        let flags = self.flags.iter().map(|flag| by_name("memoryPolicy.flags", flag, &MEMORY_FLAGS));
        let flags = flags.collect::<Result<Vec<u32>>>()?.into_iter().fold(0, |flags, flag| flags | flag);
        let nodes = match self.nodes.is_empty() {
            true => Vec::new(),
            false => bits("memoryPolicy.nodes", &self.nodes, MOST_NODES)?,
        };
        Ok((mode | flags, nodes))
    }

    pub(super) fn check(&self) -> Result<()> {
        let (_, nodes) = self.numbers()?;
        let everywhere = matches!(self.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL");
        if everywhere != nodes.is_empty() && self.mode != "MPOL_PREFERRED" {
            let reason = if everywhere { "takes no nodes" } else { "needs nodes, such as 0-1" };
            return Err(Error::invalid("memoryPolicy.nodes", &self.nodes, format!("{} {reason}", self.mode)));
        }
        let has = |name: &str| self.flags.iter().any(|flag| flag == name);
        if has("MPOL_F_STATIC_NODES") && has("MPOL_F_RELATIVE_NODES") {
            let reason = "not together with MPOL_F_STATIC_NODES";
            return Err(Error::invalid("memoryPolicy.flags", "MPOL_F_RELATIVE_NODES", reason));
        }
        if has("MPOL_F_NUMA_BALANCING") && !matches!(self.mode.as_str(), "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
            let reason = "goes with MPOL_BIND and MPOL_PREFERRED_MANY only";
            return Err(Error::invalid("memoryPolicy.flags", "MPOL_F_NUMA_BALANCING", reason));
        }
        Ok(())
    }
}

/// The modes of `linux.memoryPolicy`.
pub fn memory_policy_modes() -> Vec<&'static str> {
    MEMORY_MODES.map(|(name, _)| name).to_vec()
}

/// The flags of `linux.memoryPolicy`.
pub fn memory_policy_flags() -> Vec<&'static str> {
    MEMORY_FLAGS.map(|(name, _)| name).to_vec()
}

const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_STATIC_NODES", 1 << 15), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_NUMA_BALANCING", 1 << 13)];

/// The kernel's limits, at their largest.
const MOST_NODES: u32 = 1024;
const MOST_CPUS: u32 = 8192;

impl CpuAffinity {
    /// The mask of one of the lists, for sched_setaffinity(2).
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no list.
    pub(crate) fn mask(list: &str) -> Result<Vec<u8>> {
        bits("execCPUAffinity", list, MOST_CPUS)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.initial.iter().chain(&self.last).try_for_each(|list| CpuAffinity::mask(list).map(drop))
    }
}

impl IoPriority {
    /// What ioprio_set(2) takes.
    pub(crate) fn number(self) -> u64 {
        let class = match self.class {
            IoClass::Rt => 1,
            IoClass::Be => 2,
            IoClass::Idle => 3,
        };
        class << 13 | u64::from(self.priority)
    }
}

fn by_name<T: Copy>(field: &str, name: &str, table: &[(&str, T)]) -> Result<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| *known).collect();
        Error::invalid(field, name, format!("choose from {}", known.join(", ")))
    })
}

/// The bits of a list such as `0-3,7`, in words of 64.
fn bits(field: &str, list: &str, most: u32) -> Result<Vec<u8>> {
    let wrong = || Error::invalid(field, list, format!("a list of numbers below {most}, such as 0-3,7"));
    let mut bytes = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().ok().filter(|number| *number < most),
            false => None,
        };
        let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
        if first > last {
            return Err(wrong());
        }
        bytes.resize(bytes.len().max((last as usize / 64 + 1) * 8), 0);
        for bit in first..=last {
            bytes[bit as usize / 8] |= 1 << (bit % 8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn lists_become_bits() {
        let of = |list: &str| bits("cpus", list, 128);
        assert_eq!(of("0").unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(of("0-3,7").unwrap()[0], 0b1000_1111);
        assert_eq!(of("64").unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        for wrong in ["", ",", "1-", "-1", "3-1", "x", "128", "99999999999", " 1", "+1", "1,,2"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
