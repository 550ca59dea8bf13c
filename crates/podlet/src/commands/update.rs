//! `podlet update`: other limits for what runs; and the limits that `run` and
//! `create` take.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::resources::{BlockIo, OfDevice};
use pod::{Error, Resources, Store};

use crate::target::Target;

/// Change the limits of a pod or a container, also while it runs
#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    limits: LimitArgs,
    /// POD (all of it together) or POD/CONTAINER
    target: String,
}

impl Update {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let change = self.limits.resources(false)?;
        if change.is_empty() {
            bail!("say what to change, such as --memory 512m: see `podlet update --help`");
        }
        let mut target = Target::open(store, &self.target)?;
        match target.named() {
            Some(_) => target.one()?.update(&change)?,
            None => target.pod.update(&change)?,
        }
        Ok(0)
    }
}

/// What may be used; names and units are podman's.
#[derive(Args, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// The most memory: bytes, or with k, m, g; 0 or -1 for no limit
    #[arg(short, long, value_name = "SIZE", allow_negative_numbers = true)]
    memory: Option<String>,
    /// The most memory and swap together; -1 for no limit [default: twice the memory]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Memory that the needs of others do not take away
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory_reservation: Option<String>,
    /// Processors' worth of time, such as 1.5; 0 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpus: Option<f64>,
    /// The same in microseconds of each period; 0 or -1 for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true, conflicts_with = "cpus")]
    cpu_quota: Option<i64>,
    /// That period, 1000 to 1000000 microseconds [default: 100000]
    #[arg(long, value_name = "US", conflicts_with = "cpus")]
    cpu_period: Option<u64>,
    /// Weight beside others, 1 to 10000, 100 if not said
    #[arg(long, value_name = "N", conflicts_with = "cpu_shares")]
    cpu_weight: Option<u64>,
    /// Weight as cgroup v1 counted it, 2 to 262144, 1024 if not said
    #[arg(short = 'c', long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Processors it may run on, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The most processes and threads; 0 or -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Weight of its reads and writes beside others, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// The same on one disk
    #[arg(long, value_name = "DISK:N")]
    blkio_weight_device: Vec<String>,
    /// The most bytes read from a disk in a second
    #[arg(long, value_name = "DISK:SIZE")]
    device_read_bps: Vec<String>,
    /// The most bytes written to a disk in a second
    #[arg(long, value_name = "DISK:SIZE")]
    device_write_bps: Vec<String>,
    /// The most reads from a disk in a second
    #[arg(long, value_name = "DISK:N")]
    device_read_iops: Vec<String>,
    /// The most writes to a disk in a second
    #[arg(long, value_name = "DISK:N")]
    device_write_iops: Vec<String>,
    /// What a file of its cgroup is to say, such as memory.high=1073741824 (cgroups(7))
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
}

/// Microseconds in which a quota counts.
const PERIOD: u64 = 100_000;

impl LimitArgs {
    /// What was said, and for something new (`fresh`) what follows from it.
    pub fn resources(&self, fresh: bool) -> Result<Resources> {
        let mut resources = Resources::default();
        let size = |name: &str, text: &Option<String>| text.as_ref().map(|text| parse_size(name, text)).transpose();
        let memory = &mut resources.memory;
        memory.limit = size("memory", &self.memory)?;
        memory.reservation = size("memory-reservation", &self.memory_reservation)?;
        // As podman and docker have it, 0 is as if nothing was said.
        memory.swap = size("memory-swap", &self.memory_swap)?.filter(|swap| *swap != 0);
        if let (Some(limit), None) = (memory.limit, memory.swap) {
            memory.swap = Some(if limit < 0 { -1 } else { limit.saturating_mul(2) });
        }
        if let Some(cpus) = self.cpus {
            // The least that the kernel takes is 1 ms a period.
            if !(cpus == 0.0 || (0.01..=1e6).contains(&cpus)) {
                bail!(invalid("cpus", &cpus.to_string(), "give 0.01 or more, or 0 for no limit"));
            }
            let quota = (cpus * PERIOD as f64) as i64;
            resources.cpu.quota = Some(if quota == 0 { -1 } else { quota });
            resources.cpu.period = Some(PERIOD);
        }
        resources.cpu.quota = self.cpu_quota.or(resources.cpu.quota);
        resources.cpu.period = self.cpu_period.or(resources.cpu.period);
        resources.cpu.weight = self.cpu_weight;
        resources.cpu.shares = self.cpu_shares;
        resources.cpu.cpus = self.cpuset_cpus.clone();
        resources.cpu.mems = self.cpuset_mems.clone();
        resources.pids = self.pids_limit;
        self.disks(&mut resources.block_io)?;
        for text in &self.cgroup_conf {
            let Some((file, value)) = text.split_once('=').filter(|(file, _)| !file.is_empty()) else {
                bail!(invalid("cgroup-conf", text, "give FILE=VALUE, such as memory.high=1073741824"));
            };
            resources.unified.insert(file.into(), value.into());
        }
        if fresh {
            resources.check()?;
        }
        Ok(resources)
    }
}

impl LimitArgs {
    /// What is said of disks.
    fn disks(&self, io: &mut BlockIo) -> Result<()> {
        io.weight = self.blkio_weight;
        let count = |text: &str| text.parse().ok();
        let bytes = |text: &str| pod::resources::parse_size(text).and_then(|bytes| u64::try_from(bytes).ok());
        let each = |name: &str, texts: &[String], value: &dyn Fn(&str) -> Option<u64>| {
            texts.iter().map(|text| of_disk(name, text, value)).collect::<Result<Vec<_>>>()
        };
        io.weight_devices = each("blkio-weight-device", &self.blkio_weight_device, &count)?;
        io.read_bps = each("device-read-bps", &self.device_read_bps, &bytes)?;
        io.write_bps = each("device-write-bps", &self.device_write_bps, &bytes)?;
        io.read_iops = each("device-read-iops", &self.device_read_iops, &count)?;
        io.write_iops = each("device-write-iops", &self.device_write_iops, &count)?;
        Ok(())
    }
}

/// `DISK:VALUE`, a disk by its node.
fn of_disk(name: &str, text: &str, value: &dyn Fn(&str) -> Option<u64>) -> Result<OfDevice> {
    let said = text.rsplit_once(':').and_then(|(path, number)| Some((path, value(number)?)));
    let Some((path, value)) = said else {
        bail!(invalid(name, text, "give the node of a disk and a number, such as /dev/sda:1m"));
    };
    let meta = std::fs::metadata(path).with_context(|| format!("--{name} {text:?}"))?;
    if !meta.file_type().is_block_device() {
        bail!(invalid(name, text, "no disk (block device): `lsblk` lists them"));
    }
    let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    Ok(OfDevice { major: major as i64, minor: minor as i64, value })
}

fn invalid(field: &str, value: &str, reason: &str) -> Error {
    Error::invalid(format!("--{field}"), value, reason)
}

/// Bytes, or with a unit; -1 for 0 and -1.
pub fn parse_size(name: &str, text: &str) -> Result<i64, Error> {
    match pod::resources::parse_size(text) {
        Some(-1 | 0) => Ok(-1),
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err(invalid(name, text, "give a size such as 512m or 2g, or -1 for no limit")),
    }
}

/// A size as people say it.
pub fn show_size(bytes: i64) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_podman_reads_them() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1G", 1 << 30),
            ("64k", 65536),
            ("64KiB", 65536),
            ("10b", 10),
            ("10", 10),
            ("0", -1),
            ("-1", -1),
        ] {
            assert_eq!(parse_size("memory", text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-2", "1.5g", "5x", "99999999999t", "-1m"] {
            let error = parse_size("memory", text).expect_err(text).to_string();
            assert!(error.starts_with("--memory"), "{error}");
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
    }

    #[test]
    fn quotas_and_files_are_as_they_are_said() {
        let args = LimitArgs {
            cpu_quota: Some(50_000),
            cpu_period: Some(20_000),
            blkio_weight: Some(500),
            cgroup_conf: vec!["memory.high=1048576".into()],
            ..LimitArgs::default()
        };
        let resources = args.resources(true).expect("resources");
        assert_eq!((resources.cpu.quota, resources.cpu.period), (Some(50_000), Some(20_000)));
        assert_eq!(resources.block_io.weight, Some(500));
        assert_eq!(resources.unified.get("memory.high").map(String::as_str), Some("1048576"));
        let refused = |args: LimitArgs| format!("{:#}", args.resources(true).expect_err("nothing of the kind"));
        for odd in ["/dev/null:1m", "/dev/null", "/nowhere:1m", ":", "/dev/null:x"] {
            let error = refused(LimitArgs { device_read_bps: vec![odd.into()], ..LimitArgs::default() });
            assert!(error.starts_with(&format!("--device-read-bps {odd:?}")), "{error}");
        }
        let error = refused(LimitArgs { cgroup_conf: vec!["memory.high".into()], ..LimitArgs::default() });
        assert!(error.starts_with("--cgroup-conf"), "{error}");
    }

    #[test]
    fn swap_is_as_much_as_memory_unless_said() {
        let of = |memory: &str, swap: Option<&str>| {
            let args =
                LimitArgs { memory: Some(memory.into()), memory_swap: swap.map(String::from), ..LimitArgs::default() };
            args.resources(true).expect("resources").memory.swap
        };
        assert_eq!(of("1m", None), Some(2 << 20));
        assert_eq!(of("1m", Some("1m")), Some(1 << 20));
        assert_eq!(of("1m", Some("-1")), Some(-1));
        assert_eq!(of("-1", None), Some(-1));
    }
}
