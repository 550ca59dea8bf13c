//! Prometheus' text exposition format, version 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats): base units, and what only
//! grows ends in `_total`.
//!
//! A pod has metrics of its own, `podlet_pod_...`, and each container
//! `podlet_container_...`: a sum over one of them counts nothing twice.

use std::fmt::Write;

use pod::UsageStats;
use pod::stats::Stalls;

use super::Row;

/// A value with the labels that it has besides the row's.
type Sample = (Vec<(&'static str, String)>, f64);

/// One metric of a row.
struct Metric {
    /// Behind `podlet_pod_` or `podlet_container_`.
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&UsageStats) -> Vec<Sample>,
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// What is not counted has no sample.
const METRICS: &[Metric] = &[
    metric("running_seconds", GAUGE, "Time since its first process began.", |it| one(Some(it.age.as_secs_f64()))),
    metric("cpu_seconds_total", COUNTER, "Processor time.", |it| one(cpu(it, |cpu| cpu.usage_usec))),
    metric("cpu_user_seconds_total", COUNTER, "Processor time in programs.", |it| one(cpu(it, |cpu| cpu.user_usec))),
    metric("cpu_system_seconds_total", COUNTER, "Processor time in the kernel.", |it| {
        one(cpu(it, |cpu| cpu.system_usec))
    }),
    metric("cpu_throttled_seconds_total", COUNTER, "Time it waited because its processor limit was used up.", |it| {
        one(cpu(it, |cpu| cpu.throttled_usec))
    }),
    metric("memory_bytes", GAUGE, "Memory in use.", |it| one(memory(it, |memory| Some(memory.current)))),
    metric("memory_limit_bytes", GAUGE, "Limit of its memory.", |it| one(memory(it, |memory| memory.limit))),
    metric("memory_swap_bytes", GAUGE, "Swap in use.", |it| one(memory(it, |memory| memory.swap_current))),
    metric("memory_oom_kills_total", COUNTER, "Processes that were killed because memory ran out.", |it| {
        one(memory(it, |memory| memory.events.get("oom_kill").copied()))
    }),
    metric("pids", GAUGE, "Processes and threads.", |it| one(pids(it, |pids| Some(pids.current)))),
    metric("pids_limit", GAUGE, "Limit of its processes and threads.", |it| one(pids(it, |pids| pids.limit))),
    metric("io_read_bytes_total", COUNTER, "Bytes read from a disk.", |it| disks(it, |disk| disk.rbytes)),
    metric("io_written_bytes_total", COUNTER, "Bytes written to a disk.", |it| disks(it, |disk| disk.wbytes)),
    metric("io_reads_total", COUNTER, "Reads from a disk.", |it| disks(it, |disk| disk.rios)),
    metric("io_writes_total", COUNTER, "Writes to a disk.", |it| disks(it, |disk| disk.wios)),
    metric("network_receive_bytes_total", COUNTER, "Bytes received.", |it| interfaces(it, |one| one.rx_bytes)),
    metric("network_receive_packets_total", COUNTER, "Packets received.", |it| interfaces(it, |one| one.rx_packets)),
    metric("network_receive_dropped_total", COUNTER, "Packets received and thrown away.", |it| {
        interfaces(it, |one| one.rx_dropped)
    }),
    metric("network_transmit_bytes_total", COUNTER, "Bytes sent.", |it| interfaces(it, |one| one.tx_bytes)),
    metric("network_transmit_packets_total", COUNTER, "Packets sent.", |it| interfaces(it, |one| one.tx_packets)),
    metric("network_transmit_dropped_total", COUNTER, "Packets thrown away instead of being sent.", |it| {
        interfaces(it, |one| one.tx_dropped)
    }),
    metric("pressure_waiting_seconds_total", COUNTER, "Time in which some of it waited for a resource.", |it| {
        pressure(it, |stalls| Some(stalls.some.total_usec))
    }),
    metric("pressure_stalled_seconds_total", COUNTER, "Time in which all of it waited for a resource.", |it| {
        pressure(it, |stalls| Some(stalls.full.as_ref()?.total_usec))
    }),
];

const fn metric(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&UsageStats) -> Vec<Sample>,
) -> Metric {
    Metric { name, kind, help, samples }
}

fn one(value: Option<f64>) -> Vec<Sample> {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn cpu(it: &UsageStats, pick: fn(&pod::stats::CpuStats) -> u64) -> Option<f64> {
    Some(seconds(pick(it.cgroup.as_ref()?.cpu.as_ref()?)))
}

fn memory(it: &UsageStats, pick: fn(&pod::stats::MemoryStats) -> Option<u64>) -> Option<f64> {
    Some(pick(it.cgroup.as_ref()?.memory.as_ref()?)? as f64)
}

fn pids(it: &UsageStats, pick: fn(&pod::stats::PidsStats) -> Option<u64>) -> Option<f64> {
    Some(pick(it.cgroup.as_ref()?.pids.as_ref()?)? as f64)
}

fn disks(it: &UsageStats, pick: fn(&pod::stats::IoStats) -> u64) -> Vec<Sample> {
    let all = it.cgroup.iter().flat_map(|cgroup| &cgroup.io);
    all.map(|(disk, stats)| (vec![("device", disk.clone())], pick(stats) as f64)).collect()
}

fn interfaces(it: &UsageStats, pick: fn(&pod::InterfaceStats) -> u64) -> Vec<Sample> {
    let all = it.network.iter().flatten();
    all.map(|(name, stats)| (vec![("interface", name.clone())], pick(stats) as f64)).collect()
}

fn pressure(it: &UsageStats, pick: fn(&Stalls) -> Option<u64>) -> Vec<Sample> {
    let kinds = [("cpu", &it.pressure.cpu), ("memory", &it.pressure.memory), ("io", &it.pressure.io)];
    let sample = |(name, stalls): (&str, &Option<Stalls>)| {
        Some((vec![("resource", name.to_string())], seconds(pick(stalls.as_ref()?)?)))
    };
    kinds.into_iter().filter_map(sample).collect()
}

/// All samples of a metric stand together, behind what it is.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for (of, is_container) in [("pod", false), ("container", true)] {
        for metric in METRICS {
            let mut lines = String::new();
            for row in rows.iter().filter(|row| row.container.is_some() == is_container) {
                for (labels, value) in row.stats.iter().flat_map(metric.samples) {
                    let own = [("pod", Some(&row.pod)), ("container", row.container.as_ref())];
                    let own = own.into_iter().filter_map(|(name, value)| Some((name, value?.clone())));
                    let labels: Vec<_> = own.chain(labels).map(|(name, value)| label(name, &value)).collect();
                    // Writing to a string does not fail.
                    writeln!(lines, "podlet_{of}_{}{{{}}} {value}", metric.name, labels.join(",")).ok();
                }
            }
            if !lines.is_empty() {
                let name = format!("podlet_{of}_{}", metric.name);
                text += &format!("# HELP {name} {}\n# TYPE {name} {}\n{lines}", metric.help, metric.kind);
            }
        }
    }
    text
}

/// Backslash, quotation mark and line feed are escaped.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{name}=\"{value}\"")
}
