//! What a cgroup has used, read from its files. Files that are not there,
//! because a controller is not enabled, are `None`: nothing is enabled to
//! count.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// What a cgroup and those below have used.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Disks, by `MAJOR:MINOR`.
    pub io: BTreeMap<String, IoStats>,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// `cpu.stat`; times in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CpuStats {
    /// All time.
    pub usage_usec: u64,
    /// Of it in programs.
    pub user_usec: u64,
    /// Of it in the kernel.
    pub system_usec: u64,
    /// Periods of `cpu.max` that passed.
    pub nr_periods: u64,
    /// Periods in which the quota was used up.
    pub nr_throttled: u64,
    /// How long it had to wait then.
    pub throttled_usec: u64,
}

/// Memory, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use.
    pub current: u64,
    /// The most since the cgroup was made (Linux 5.19).
    pub peak: Option<u64>,
    /// The limit; none if absent.
    pub limit: Option<u64>,
    /// Swap in use.
    pub swap_current: Option<u64>,
    /// Its limit, of swap alone.
    pub swap_limit: Option<u64>,
    /// `memory.events`: `oom`, `oom_kill`, ...
    pub events: BTreeMap<String, u64>,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stat: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PidsStats {
    /// That are there.
    pub current: u64,
    /// The limit; none if absent.
    pub limit: Option<u64>,
}

/// `io.stat` of a disk.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct IoStats {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
    /// Bytes discarded.
    pub dbytes: u64,
    /// Discards.
    pub dios: u64,
}

/// Huge pages of a size, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// In use.
    pub current: u64,
    /// The limit; none if absent.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub max_events: u64,
}

/// What the cgroup `dir` has used.
pub fn stats(dir: &Path) -> Stats {
    let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let table = |file: &str| read(file).map(|text| table(&text)).unwrap_or_default();
    let cpu = read("cpu.stat").map(|text| {
        let table = self::table(&text);
        let of = |key: &str| table.get(key).copied().unwrap_or(0);
        CpuStats {
            usage_usec: of("usage_usec"),
            user_usec: of("user_usec"),
            system_usec: of("system_usec"),
            nr_periods: of("nr_periods"),
            nr_throttled: of("nr_throttled"),
            throttled_usec: of("throttled_usec"),
        }
    });
    let memory = number("memory.current").map(|current| MemoryStats {
        current,
        peak: number("memory.peak"),
        limit: number("memory.max"),
        swap_current: number("memory.swap.current"),
        swap_limit: number("memory.swap.max"),
        events: table("memory.events"),
        stat: table("memory.stat"),
    });
    let pids = number("pids.current").map(|current| PidsStats { current, limit: number("pids.max") });
    let io = read("io.stat").map(|text| disks(&text)).unwrap_or_default();
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        (!size.contains('.')).then(|| size.to_string())
    });
    let of_size = |size: String| {
        let stats = HugetlbStats {
            current: number(&format!("hugetlb.{size}.current")).unwrap_or(0),
            limit: number(&format!("hugetlb.{size}.max")),
            max_events: table(&format!("hugetlb.{size}.events")).get("max").copied().unwrap_or(0),
        };
        (size, stats)
    };
    Stats { cpu, memory, pids, io, hugetlb: sizes.map(of_size).collect() }
}

/// How much work waited for something: pressure stall information (the kernel's
/// `accounting/psi`). `None` where the kernel does not tell.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<Stalls>,
    /// For memory.
    pub memory: Option<Stalls>,
    /// For disks.
    pub io: Option<Stalls>,
}

/// What waited for one thing.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Stalls {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks waited at once; `None` for a processor before Linux 5.13.
    pub full: Option<Stall>,
}

/// How long.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// All of it, in microseconds.
    pub total_usec: u64,
}

/// How much work of the cgroup `dir` waited.
pub(crate) fn pressure(dir: &Path) -> Pressure {
    let read = |what: &str| stalls(&fs::read_to_string(dir.join(format!("{what}.pressure"))).ok()?);
    Pressure { cpu: read("cpu"), memory: read("memory"), io: read("io") }
}

/// Whether the disks' use by the cgroup `dir` is counted.
pub(crate) fn counts_io(dir: &Path) -> bool {
    dir.join("io.stat").exists()
}

fn stalls(text: &str) -> Option<Stalls> {
    let line = |name: &str| -> Option<Stall> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let value = |key: &str| rest.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let average = |key: &str| value(key)?.parse().ok();
        Some(Stall {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total_usec: value("total")?.parse().ok()?,
        })
    };
    Some(Stalls { some: line("some")?, full: line("full") })
}

/// Lines of a name and a number.
fn table(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| line.split_once(' ').and_then(|(key, value)| Some((key.to_string(), value.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// Lines of a disk and `key=number`.
fn disks(text: &str) -> BTreeMap<String, IoStats> {
    let line = |line: &str| {
        let (disk, rest) = line.split_once(' ')?;
        let pairs: BTreeMap<_, u64> = rest
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(k, v)| Some((k, v.parse().ok()?)))
            .collect();
        let of = |key: &str| pairs.get(key).copied().unwrap_or(0);
        let stats = IoStats {
            rbytes: of("rbytes"),
            wbytes: of("wbytes"),
            rios: of("rios"),
            wios: of("wios"),
            dbytes: of("dbytes"),
            dios: of("dios"),
        };
        Some((disk.to_string(), stats))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=28.55 avg60=17.30 avg300=7.02 total=29876638\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let read = stalls(text).expect("both lines");
        assert_eq!((read.some.avg10, read.some.avg300, read.some.total_usec), (28.55, 7.02, 29_876_638));
        assert_eq!(read.full.expect("a second line").total_usec, 3);
        let old = stalls("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(old, Some(Stalls { full: None, ..Stalls::default() }));
        assert_eq!(stalls(""), None);
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(pressure(dir.path()), Pressure::default());
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).expect("a file");
        assert_eq!(stats(dir.path()), Stats::default());
        write(
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
        );
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("memory.events", "low 0\noom 1\noom_kill 2\n");
        write("pids.current", "3\n");
        write("pids.max", "10\n");
        write("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n");
        write("hugetlb.2MB.current", "0\n");
        write("hugetlb.2MB.rsvd.current", "0\n");
        write("hugetlb.2MB.max", "4194304\n");
        write("hugetlb.2MB.events", "max 1\n");
        let stats = stats(dir.path());
        assert_eq!(stats.cpu.expect("cpu").nr_throttled, 2);
        let memory = stats.memory.expect("memory");
        assert_eq!((memory.current, memory.limit, memory.events["oom_kill"]), (4096, None, 2));
        assert_eq!(stats.pids, Some(PidsStats { current: 3, limit: Some(10) }));
        assert_eq!((stats.io["8:0"].wios, stats.io.len()), (4, 2));
        assert_eq!(stats.hugetlb["2MB"], HugetlbStats { current: 0, limit: Some(4_194_304), max_events: 1 });
        assert_eq!(stats.hugetlb.len(), 1);
    }
}
