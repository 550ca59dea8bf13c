//! All that `/proc` tells of one process to people who look at it: what `ps`
//! shows, as numbers of the kernel's.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::capabilities::CapabilitySet;
use super::procfs::{self, ProcessId};
use crate::error::{Context, Result};

/// Of `/proc/<pid>/stat`, `status` and `cmdline` (proc_pid_stat(5),
/// proc_pid_status(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessFacts {
    pub process: ProcessId,
    /// At most 15 bytes, as the process chose them.
    pub name: String,
    /// Empty of a zombie, and of the kernel's own.
    pub args: Vec<String>,
    /// `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: char,
    pub parent: u32,
    /// Of its controlling terminal, in the kernel's old encoding; 0 if it has none.
    pub terminal: u32,
    /// Clock ticks on a processor.
    pub ticks: u64,
    pub nice: i64,
    /// Bytes of addresses.
    pub virtual_size: u64,
    /// Pages in memory.
    pub resident_pages: u64,
    /// Its pids, one for each pid namespace from this program's to its own.
    pub pids: Vec<u32>,
    /// Its process groups, in the same way.
    pub groups: Vec<u32>,
    /// Real and effective.
    pub uids: [u32; 2],
    /// Real and effective.
    pub gids: [u32; 2],
    /// Inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [CapabilitySet; 5],
    /// 0: none, 1: strict, 2: a filter (seccomp(2)).
    pub seccomp: u8,
}

impl ProcessFacts {
    /// `None` of a process that is gone.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if the kernel does not tell.
    pub(crate) fn read(pid: u32) -> Result<Option<ProcessFacts>> {
        let [stat, status, cmdline] = ["stat", "status", "cmdline"].map(|file| procfs::text_of(pid, file));
        let args = cmdline?.split_terminator('\0').map(String::from).collect();
        Ok(parse(pid, &stat?, &status?, args))
    }

    /// Its pid in the pid namespace that is `level` below this program's; `None` if it is
    /// in none so deep.
    pub(crate) fn pid_at(&self, level: usize) -> Option<u32> {
        self.pids.get(level).copied()
    }
}

/// `None` if there is not all of it: the process has gone meanwhile.
fn parse(pid: u32, stat: &str, status: &str, args: Vec<String>) -> Option<ProcessFacts> {
    // The name may be anything; it ends at the last ")".
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_string();
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // The first one here is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let numbers = |key: &str| -> Vec<u32> {
        line(key).unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let ids = |key: &str| Some([*numbers(key).first()?, *numbers(key).get(1)?]);
    let set = |key: &str| {
        let bits = line(key).and_then(|bits| u64::from_str_radix(bits, 16).ok());
        CapabilitySet::from_bits(bits.unwrap_or(0))
    };
    Some(ProcessFacts {
        process: ProcessId { pid, start: number(22)? },
        name,
        args,
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        terminal: field(7)?.parse::<i32>().ok()? as u32,
        ticks: number(14)? + number(15)?,
        nice: field(19)?.parse().ok()?,
        virtual_size: number(23)?,
        resident_pages: number(24)?,
        pids: numbers("NSpid:"),
        groups: numbers("NSpgid:"),
        uids: ids("Uid:")?,
        gids: ids("Gid:")?,
        capabilities: ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(set),
        seccomp: line("Seccomp:").and_then(|mode| mode.parse().ok()).unwrap_or(0),
    })
}

/// So many of the kernel's ticks, which are what `/proc` counts times in.
pub(crate) fn ticks(ticks: u64) -> Duration {
    let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|hertz| u64::try_from(hertz).ok());
    let hertz = hertz.filter(|&hertz| hertz > 0).unwrap_or(100);
    Duration::from_secs(ticks / hertz) + Duration::from_secs(1) * (ticks % hertz) as u32 / hertz as u32
}

/// How long ago a process began that says it began at `start` (its field 22).
pub(crate) fn age(start: u64) -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).doing(|| "reading the clock".into())?;
    Ok(Duration::from(now).saturating_sub(ticks(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "7 (a) b (c) S 1 7 7 34817 7 0 0 0 0 0 150 50 0 0 20 -5 1 0 4321 8192 3 0 0\n";
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t7\t3\t1\nNSpgid:\t7\t3\t1\nCapEff:\t0000000000000001\nSeccomp:\t2\n";
        let facts = parse(7, stat, status, vec!["a".into()]).expect("a process");
        assert_eq!((facts.name.as_str(), facts.state, facts.parent, facts.terminal), ("a) b (c", 'S', 1, 34817));
        assert_eq!((facts.ticks, facts.nice, facts.process.start), (200, -5, 4321));
        assert_eq!((facts.virtual_size, facts.resident_pages, facts.seccomp), (8192, 3, 2));
        assert_eq!((facts.uids, facts.gids), ([1, 2], [5, 6]));
        assert_eq!((facts.pid_at(1), facts.pid_at(2), facts.pid_at(3)), (Some(3), Some(1), None));
        assert_eq!(facts.capabilities.map(CapabilitySet::bits), [0, 0, 1, 0, 0]);
        // Gone between two of the files.
        assert_eq!(parse(7, stat, "", Vec::new()), None);
        assert_eq!(parse(7, "", status, Vec::new()), None);
    }

    #[test]
    fn this_process_is_what_it_is() {
        let own = ProcessFacts::read(std::process::id()).expect("a look").expect("this process");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert_eq!(own.uids[1], nix::unistd::geteuid().as_raw());
        assert_eq!(own.args, std::env::args().collect::<Vec<_>>());
        assert!(age(own.process.start).expect("its age") < Duration::from_secs(3600));
    }
}
