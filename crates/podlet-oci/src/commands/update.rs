//! `podlet-oci update`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::Resources;
use pod::config;
use pod::oci::Runtime;
use pod::resources::parse_size;
use serde_json::{Map, Value, json};

/// Change the limits of a container
#[derive(Args)]
pub struct Update {
    /// Take them from this file (`-`: standard input), as `linux.resources` of a config has them
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of its reads and writes, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u64>,
    /// Period of the processor quota, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "USEC", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Processor time that may be saved up, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// Weight of its processor time, 2 to 262144
    #[arg(long, value_name = "N", alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// Not with cgroup v2
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// Not with cgroup v2
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<i64>,
    /// 1: only when nobody else wants the processor
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Processors it may run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The most memory, in bytes or such as 512m; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory: Option<i64>,
    /// Memory that the needs of others do not take away
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory_reservation: Option<i64>,
    /// The most memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory_swap: Option<i64>,
    /// The most processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Not here: needs resctrl
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Not here: needs resctrl
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Update {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        for (option, given) in [("--l3-cache-schema", &self.l3_cache_schema), ("--mem-bw-schema", &self.mem_bw_schema)]
        {
            if given.is_some() {
                bail!("{option}: podlet-oci does not set up resctrl: leave it out");
            }
        }
        let resources = match &self.resources {
            Some(path) => read(path)?,
            None => self.resources(),
        };
        let change = Resources::from_json(&resources)?;
        // A file may have nothing for us: containerd's has all that there is of
        // the container.
        if change.is_empty() && self.resources.is_none() {
            bail!("say what to change, such as --memory 536870912");
        }
        runtime.get(&self.id)?.update(&change)?;
        Ok(0)
    }

    /// The options as the specification's object.
    fn resources(&self) -> Value {
        let set = |pairs: Vec<(&str, Option<Value>)>| -> Value {
            Value::Object(
                pairs.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect::<Map<_, _>>(),
            )
        };
        let all = vec![
            (
                "cpu",
                set(vec![
                    ("shares", self.cpu_share.map(Value::from)),
                    ("quota", self.cpu_quota.map(Value::from)),
                    ("period", self.cpu_period.map(Value::from)),
                    ("burst", self.cpu_burst.map(Value::from)),
                    ("idle", self.cpu_idle.map(Value::from)),
                    ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
                    ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
                    ("cpus", self.cpuset_cpus.clone().map(Value::from)),
                    ("mems", self.cpuset_mems.clone().map(Value::from)),
                ]),
            ),
            (
                "memory",
                set(vec![
                    ("limit", self.memory.map(Value::from)),
                    ("reservation", self.memory_reservation.map(Value::from)),
                    ("swap", self.memory_swap.map(Value::from)),
                ]),
            ),
            ("pids", set(vec![("limit", self.pids_limit.map(Value::from))])),
            ("blockIO", set(vec![("weight", self.blkio_weight.map(Value::from))])),
        ];
        let given = all.into_iter().filter(|(_, group)| *group != json!({}));
        Value::Object(given.map(|(name, group)| (name.to_string(), group)).collect())
    }
}

fn size(text: &str) -> Result<i64> {
    parse_size(text).context("give a size such as 512m or 2g, or -1 for no limit")
}

fn read(path: &Path) -> Result<Value> {
    let named = || format!("--resources {}", path.display());
    let mut json = Vec::new();
    match path == Path::new("-") {
        true => drop(std::io::stdin().take(config::MOST).read_to_end(&mut json).with_context(named)?),
        false => json = config::read_given("--resources", path)?,
    }
    serde_json::from_slice(&json).with_context(named)
}
