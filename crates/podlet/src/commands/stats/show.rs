//! Rows as people and scripts read them.

use pod::UsageStats;
use pod::stats::{Pressure, Stalls};
use serde_json::{Value, json};

use super::Row;
use crate::output;

/// What is not counted.
const NONE: &str = "-";

/// A screen from its first line on, over the one before.
pub fn frame(text: &str, is_first: bool) -> String {
    // ECMA-48: to the first line; the rest of a line, of the screen, is erased.
    let clear = if is_first { "\x1b[2J" } else { "" };
    format!("{clear}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

pub fn table(rows: &[Row]) -> String {
    let header = ["POD", "CONTAINER", "CPU %", "MEMORY / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "PRESSURE"];
    let mut cells = vec![header.map(String::from).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let counts = row.stats.as_ref().map(Counts::of).unwrap_or_default();
        let pair = |pair: Option<(u64, u64)>| pair.map_or(NONE.into(), |(a, b)| format!("{} / {}", size(a), size(b)));
        let memory = counts.memory.map(|used| {
            let limit = counts.memory_limit.map_or(NONE.into(), size);
            format!("{} / {limit}", size(used))
        });
        vec![
            row.pod.clone(),
            row.container.clone().unwrap_or(NONE.into()),
            row.cpu.map_or(NONE.into(), |cpu| format!("{:.2}", cpu * 100.0)),
            memory.unwrap_or(NONE.into()),
            counts.memory_part().map_or(NONE.into(), |part| format!("{:.2}", part * 100.0)),
            pair(counts.network),
            pair(counts.io),
            counts.pids.map_or(NONE.into(), |pids| pids.to_string()),
            row.stats.as_ref().map_or(NONE.into(), |stats| pressure(&stats.pressure)),
        ]
    }));
    output::aligned(&cells)
}

/// The sums that both forms show.
#[derive(Default)]
struct Counts {
    memory: Option<u64>,
    memory_limit: Option<u64>,
    /// Received and sent.
    network: Option<(u64, u64)>,
    /// Read and written.
    io: Option<(u64, u64)>,
    pids: Option<u64>,
}

impl Counts {
    fn of(stats: &UsageStats) -> Counts {
        let cgroup = stats.cgroup.as_ref();
        let memory = cgroup.and_then(|cgroup| cgroup.memory.as_ref());
        let sum =
            |all: &mut dyn Iterator<Item = (u64, u64)>| all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Counts {
            memory: memory.map(|memory| memory.current),
            memory_limit: memory.and_then(|memory| memory.limit),
            network: stats.network.as_ref().map(|all| sum(&mut all.values().map(|one| (one.rx_bytes, one.tx_bytes)))),
            io: cgroup
                .filter(|_| stats.counts_io)
                .map(|cgroup| sum(&mut cgroup.io.values().map(|one| (one.rbytes, one.wbytes)))),
            pids: cgroup.and_then(|cgroup| Some(cgroup.pids.as_ref()?.current)),
        }
    }

    fn memory_part(&self) -> Option<f64> {
        let (used, limit) = self.memory.zip(self.memory_limit.filter(|&limit| limit > 0))?;
        Some(used as f64 / limit as f64)
    }
}

/// Percent of the last ten seconds in which some of it waited for a processor, for
/// memory, and for disks.
fn pressure(pressure: &Pressure) -> String {
    let kinds = [("cpu", &pressure.cpu), ("mem", &pressure.memory), ("io", &pressure.io)];
    let shown: Vec<_> = kinds
        .into_iter()
        .filter_map(|(name, stalls)| Some(format!("{name} {:.1}", stalls.as_ref()?.some.avg10)))
        .collect();
    if shown.is_empty() { NONE.into() } else { shown.join(" ") }
}

pub fn json(rows: &[Row]) -> Value {
    rows.iter().map(object).collect()
}

fn object(row: &Row) -> Value {
    let counts = row.stats.as_ref().map(Counts::of).unwrap_or_default();
    let cgroup = row.stats.as_ref().and_then(|stats| stats.cgroup.as_ref());
    json!({
        "pod": row.pod,
        "container": row.container,
        "age_seconds": row.stats.as_ref().map(|stats| stats.age.as_secs_f64()),
        "cpu_percent": row.cpu.map(|cpu| cpu * 100.0),
        "cpu_usec": cgroup.and_then(|cgroup| Some(cgroup.cpu.as_ref()?.usage_usec)),
        "memory_bytes": counts.memory,
        "memory_limit_bytes": counts.memory_limit,
        "pids": counts.pids,
        "pids_limit": cgroup.and_then(|cgroup| cgroup.pids.as_ref()?.limit),
        "io_read_bytes": counts.io.map(|(read, _)| read),
        "io_written_bytes": counts.io.map(|(_, written)| written),
        "network": row.stats.as_ref().and_then(|stats| stats.network.as_ref()),
        "pressure": row.stats.as_ref().map(|stats| &stats.pressure),
    })
}

/// What to say once of what no row has.
pub fn uncounted(rows: &[Row]) -> Option<String> {
    let running: Vec<_> = rows.iter().filter_map(|row| row.stats.as_ref()).collect();
    if running.is_empty() {
        return None;
    }
    if running.iter().all(|stats| stats.cgroup.is_none()) {
        return Some("note: there are no cgroups here, so only the network is counted (docs/limits.md)".into());
    }
    let has = |is: &dyn Fn(&UsageStats) -> bool| running.iter().any(|stats| is(stats));
    let counted =
        |pick: fn(&pod::stats::Stats) -> bool| has(&move |stats: &UsageStats| stats.cgroup.as_ref().is_some_and(pick));
    let missing = [
        ("processors", !counted(|cgroup| cgroup.cpu.is_some())),
        ("memory", !counted(|cgroup| cgroup.memory.is_some())),
        ("disks", !has(&|stats| stats.counts_io)),
        ("processes", !counted(|cgroup| cgroup.pids.is_some())),
        ("pressure", !has(&|stats| is_told(&stats.pressure.cpu))),
    ];
    let missing: Vec<_> = missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| name).collect();
    let list = missing.join(", ");
    (!missing.is_empty()).then(|| {
        format!("note: not counted here: {list}; a limit has its controller count, unless that is bound to cgroup v1 (docs/limits.md)")
    })
}

fn is_told(stalls: &Option<Stalls>) -> bool {
    stalls.is_some()
}

/// Bytes, in units of 1000 as podman has them.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" {
        return format!("{bytes}B");
    }
    let (digits, scale) = [(3, 1e3), (2, 1e2), (1, 1e1)][[10.0, 100.0].iter().filter(|&&most| value >= most).count()];
    format!("{:.digits$}{unit}", (value * scale).floor() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        let shown = [0, 999, 1000, 1536, 12_345_678, 999_999_999].map(size);
        assert_eq!(shown, ["0B", "999B", "1.000kB", "1.536kB", "12.34MB", "999.9MB"]);
    }

    #[test]
    fn a_frame_leaves_nothing_of_the_one_before() {
        assert_eq!(frame("a\n", false), "\x1b[Ha\x1b[K\n\x1b[J");
    }
}
