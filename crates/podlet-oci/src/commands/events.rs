//! `podlet-oci events`: what a container uses, and that memory ran out.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use pod::Error;
use pod::oci::{Instance, Runtime};
use pod::stats::Stats;
use serde::Serialize;
use serde_json::{Value, json};

use crate::output;

/// Print what a container uses, and when its memory ran out
#[derive(Args)]
pub struct Events {
    /// How often, such as 5s
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// Once
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Events {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        let interval = humantime::parse_duration(&self.interval)
            .ok()
            .filter(|interval| !interval.is_zero())
            .with_context(|| format!("--interval {:?}: give a time such as 5s", self.interval))?;
        let instance = runtime.get(&self.id)?;
        print(&instance, &instance.stats()?)?;
        if !self.stats {
            self.follow(&instance, interval)?;
        }
        Ok(0)
    }

    /// Until the container ends, or what is printed has no reader any more.
    fn follow(&self, instance: &Instance, interval: Duration) -> Result<()> {
        let kills = |stats: &Stats| stats.memory.as_ref().and_then(|memory| memory.events.get("oom_kill").copied());
        let mut before = kills(&instance.stats()?);
        while let Some(process) = instance.open_process()? {
            if !output::is_read_until(&process, interval)? {
                return Ok(());
            }
            if instance.wait(Some(Duration::ZERO))? {
                break;
            }
            let stats = match instance.stats() {
                Err(Error::State { .. }) => break,
                stats => stats?,
            };
            let now = kills(&stats);
            if now > before {
                say(instance, "oom", None)?;
            }
            before = now;
            print(instance, &stats)?;
        }
        Ok(())
    }
}

/// In the form of runc's.
fn print(instance: &Instance, stats: &Stats) -> Result<()> {
    let cpu = stats.cpu.clone().unwrap_or_default();
    let nanoseconds = |microseconds: u64| microseconds.saturating_mul(1000);
    let memory = stats.memory.clone().unwrap_or_default();
    let pids = stats.pids.clone().unwrap_or_default();
    let hugetlb =
        stats.hugetlb.iter().map(|(size, of)| (size.clone(), json!({ "usage": of.current, "failcnt": of.max_events })));
    let blkio = |pick: fn(&pod::stats::IoStats) -> (u64, u64)| -> Vec<Value> {
        let entry = |device: &str, op: &str, value: u64| {
            let (major, minor) = device.split_once(':').unwrap_or((device, "0"));
            let number = |text: &str| text.parse::<u64>().unwrap_or(0);
            json!({ "major": number(major), "minor": number(minor), "op": op, "value": value })
        };
        let both = |(device, of): (&String, &pod::stats::IoStats)| {
            let (read, written) = pick(of);
            [entry(device, "Read", read), entry(device, "Write", written)]
        };
        stats.io.iter().flat_map(both).collect()
    };
    let data = json!({
        "cpu": {
            "usage": {
                "total": nanoseconds(cpu.usage_usec),
                "kernel": nanoseconds(cpu.system_usec),
                "user": nanoseconds(cpu.user_usec)
            },
            "throttling": {
                "periods": cpu.nr_periods,
                "throttledPeriods": cpu.nr_throttled,
                "throttledTime": nanoseconds(cpu.throttled_usec)
            }
        },
        "memory": {
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.current,
                "max": memory.peak.unwrap_or(0),
                "failcnt": memory.events.get("max").copied().unwrap_or(0)
            },
            "raw": memory.stat
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": blkio(|of| (of.rbytes, of.wbytes)),
            "ioServicedRecursive": blkio(|of| (of.rios, of.wios))
        },
        "hugetlb": hugetlb.collect::<serde_json::Map<_, _>>()
    });
    say(instance, "stats", Some(data))
}

/// A line, in the order that runc's readers know.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn say(instance: &Instance, kind: &str, data: Option<Value>) -> Result<()> {
    let event = Event { kind, id: instance.id(), data };
    output::line(format_args!("{}", serde_json::to_string(&event)?))
}
