//! From limits to what is written into which file. Pure: what a cgroup has is
//! an argument.

use super::{BlockIo, Cpu, Memory, OfDevice, Resources};
use crate::error::{Error, Result};

/// One line into one file of a cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Where it comes from: `memory.limit`.
    pub field: String,
    /// The file.
    pub file: String,
    /// What is written.
    pub content: String,
    /// The file may be missing: what is asked for is so anyway.
    pub may_be_missing: bool,
}

impl Write {
    /// The controller that the file belongs to; `None` for files that every
    /// cgroup has.
    pub fn controller(&self) -> Option<&str> {
        self.file.split('.').next().filter(|name| *name != "cgroup")
    }
}

/// What a cgroup has that decides what is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Present {
    /// `io.bfq.weight`: the BFQ scheduler.
    pub bfq: bool,
}

/// `cpu.weight` of version 1's shares, as runc and crun convert them since
/// 2025: the smallest, the largest and the default of one are those of the
/// other, on a curve between.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000) of version 1's block-io weight (10 to 1000).
pub fn weight_of_blkio(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// A number, or `max` for a negative one.
fn number_or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

/// What is written, in this order.
#[derive(Default)]
struct Writes(Vec<Write>);

impl Writes {
    /// One line. No limit is what there is anyway where nobody counts.
    fn push(&mut self, field: &str, file: &str, content: String) {
        let may_be_missing = content.split(' ').next() == Some("max");
        self.0.push(Write { field: field.into(), file: file.into(), content, may_be_missing });
    }

    /// One line for a file that may be missing whatever is written.
    fn push_if_there(&mut self, field: &str, file: &str, content: String) {
        self.0.push(Write { field: field.into(), file: file.into(), content, may_be_missing: true });
    }

    fn add_memory(&mut self, memory: &Memory) -> Result<()> {
        // A limit of 0 is one that is not said, as in runc.
        let said = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
        let swap = swap_alone(memory)?;
        if let Some(limit) = said(memory.limit) {
            self.push("memory.limit", "memory.max", number_or_max(limit));
        }
        match swap {
            // No swap to count is as good as a limit of none.
            Some(0) => self.push_if_there("memory.swap", "memory.swap.max", "0".into()),
            Some(swap) => self.push("memory.swap", "memory.swap.max", number_or_max(swap)),
            None => {}
        }
        if let Some(low) = said(memory.reservation) {
            self.push("memory.reservation", "memory.low", number_or_max(low));
        }
        Ok(())
    }

    fn add_block_io(&mut self, io: &BlockIo, present: &Present) {
        if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
            match present.bfq {
                true => self.push("blockIO.weight", "io.bfq.weight", weight.to_string()),
                false => {
                    let weight = weight_of_blkio(weight.into());
                    self.push("blockIO.weight", "io.weight", format!("default {weight}"));
                }
            }
        }
        for OfDevice { major, minor, value } in &io.weight_devices {
            let (file, value) = match present.bfq {
                true => ("io.bfq.weight", *value),
                false => ("io.weight", weight_of_blkio(*value)),
            };
            self.push("blockIO.weightDevice", file, format!("{major}:{minor} {value}"));
        }
        let throttles = [
            ("blockIO.throttleReadBpsDevice", "rbps", &io.read_bps),
            ("blockIO.throttleWriteBpsDevice", "wbps", &io.write_bps),
            ("blockIO.throttleReadIOPSDevice", "riops", &io.read_iops),
            ("blockIO.throttleWriteIOPSDevice", "wiops", &io.write_iops),
        ];
        for (field, key, devices) in throttles {
            for OfDevice { major, minor, value } in devices {
                // Version 1's 0 takes a limit away.
                let value = if *value == 0 { "max".into() } else { value.to_string() };
                self.push(field, "io.max", format!("{major}:{minor} {key}={value}"));
            }
        }
    }

    fn add_cpu(&mut self, cpu: &Cpu) {
        if let Some(idle) = cpu.idle {
            self.push("cpu.idle", "cpu.idle", idle.to_string());
        }
        match (cpu.weight, cpu.shares.filter(|shares| *shares != 0)) {
            (Some(weight), _) => self.push("cpu.weight", "cpu.weight", weight.to_string()),
            (None, Some(shares)) => self.push("cpu.shares", "cpu.weight", weight_of_shares(shares).to_string()),
            (None, None) => {}
        }
        let quota = cpu.quota.filter(|quota| *quota != 0);
        let period = cpu.period.filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
            let quota = number_or_max(quota.unwrap_or(-1));
            self.push(field, "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
        }
        if let Some(burst) = cpu.burst {
            self.push("cpu.burst", "cpu.max.burst", burst.to_string());
        }
        for (field, file, list) in [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)] {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                self.push(field, file, list.clone());
            }
        }
    }
}

impl Resources {
    /// What is written, in this order, to set these limits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a swap limit that means nothing beside the
    /// memory limit.
    pub fn writes(&self, present: &Present) -> Result<Vec<Write>> {
        let mut list = Writes::default();
        if let Some(pids) = self.pids {
            list.push("pids.limit", "pids.max", if pids <= 0 { "max".into() } else { pids.to_string() });
        }
        list.add_memory(&self.memory)?;
        list.add_block_io(&self.block_io, present);
        list.add_cpu(&self.cpu);
        for (size, limit) in &self.hugepages {
            let limit = number_or_max(*limit);
            // Reserved huge pages count where the kernel can count them.
            list.push_if_there("hugepageLimits", &format!("hugetlb.{size}.rsvd.max"), limit.clone());
            list.push("hugepageLimits", &format!("hugetlb.{size}.max"), limit);
        }
        for (device, limits) in &self.rdma {
            let show = |limit: Option<u32>| limit.map_or("max".into(), |limit| limit.to_string());
            let (handles, objects) = (show(limits.hca_handles), show(limits.hca_objects));
            list.push("rdma", "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"));
        }
        let mut list = list.0;
        // Files are asked for here, be there a limit in them or not.
        for (file, lines) in &self.unified {
            list.extend(lines.lines().map(|line| Write {
                field: format!("unified.{file}"),
                file: file.clone(),
                content: line.into(),
                may_be_missing: false,
            }));
        }
        Ok(list)
    }
}

/// The swap that version 2 limits alone; the specification's is memory and
/// swap. -1 for no limit, `None` if nothing is said of it.
fn swap_alone(memory: &Memory) -> Result<Option<i64>> {
    let limit = memory.limit.unwrap_or(0);
    let Some(swap) = memory.swap.filter(|swap| *swap != 0) else {
        // To take the limit away means both, as with version 1.
        return Ok((limit < 0).then_some(-1));
    };
    let invalid = |reason: &str| Err(Error::invalid("memory.swap", swap.to_string(), reason));
    match () {
        _ if swap < 0 => Ok(Some(-1)),
        _ if limit < 0 => Ok(Some(swap)),
        _ if limit == 0 => invalid("counts memory and swap together, so give memory.limit, too"),
        _ if swap < limit => invalid("counts memory and swap together, so it is at least memory.limit"),
        _ => Ok(Some(swap - limit)),
    }
}

/// Ranges of single values.
pub(super) fn check(resources: &Resources) -> Result<()> {
    let range = |field: &str, value: Option<i128>, from: i128, to: i128| match value {
        Some(value) if value < from || value > to => {
            Err(Error::invalid(field, value.to_string(), format!("must be between {from} and {to}")))
        }
        _ => Ok(()),
    };
    let unlimited_or = |field: &str, value: Option<i64>| match value {
        Some(value) if value < -1 => {
            Err(Error::invalid(field, value.to_string(), "give a number of bytes, or -1 for no limit"))
        }
        _ => Ok(()),
    };
    let memory = &resources.memory;
    unlimited_or("memory.limit", memory.limit)?;
    unlimited_or("memory.reservation", memory.reservation)?;
    unlimited_or("memory.swap", memory.swap)?;
    let cpu = &resources.cpu;
    range("cpu.weight", cpu.weight.map(Into::into), 1, 10_000)?;
    range("cpu.idle", cpu.idle.map(Into::into), 0, 1)?;
    // kernel/sched/core.c: a period of 1 ms to 1 s, a quota of at least 1 ms.
    range("cpu.period", cpu.period.filter(|period| *period != 0).map(Into::into), 1000, 1_000_000)?;
    let quota = cpu.quota.filter(|quota| *quota > 0);
    range("cpu.quota", quota.map(Into::into), 1000, i64::MAX.into())?;
    if let (Some(burst), Some(quota)) = (cpu.burst, quota)
        && burst > quota as u64
    {
        return Err(Error::invalid("cpu.burst", burst.to_string(), "at most the quota"));
    }
    for (field, list) in [("cpu.cpus", &cpu.cpus), ("cpu.mems", &cpu.mems)] {
        let good = |list: &str| list.split(',').all(is_range);
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty() && !good(list)) {
            return Err(Error::invalid(field, list, "give numbers and ranges, such as 0-2,7"));
        }
    }
    let io = &resources.block_io;
    range("blockIO.weight", io.weight.filter(|weight| *weight != 0).map(Into::into), 10, 1000)?;
    for device in &io.weight_devices {
        range("blockIO.weightDevice", Some(device.value.into()), 10, 1000)?;
    }
    let devices = [&io.weight_devices, &io.read_bps, &io.write_bps, &io.read_iops, &io.write_iops];
    for device in devices.into_iter().flatten() {
        range("blockIO device, major", Some(device.major.into()), 0, 4095)?;
        range("blockIO device, minor", Some(device.minor.into()), 0, (1 << 20) - 1)?;
    }
    for (size, limit) in &resources.hugepages {
        let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if number.is_none_or(|number| number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(Error::invalid("hugepageLimits", size, "give a page size such as 64KB, 2MB or 1GB"));
        }
        unlimited_or("hugepageLimits", Some(*limit))?;
    }
    for device in resources.rdma.keys() {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(Error::invalid("rdma", device, "give a device's name, as in /sys/class/infiniband"));
        }
    }
    for (file, content) in &resources.unified {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let two_parts = file.split_once('.').is_some_and(|(before, after)| !before.is_empty() && !after.is_empty());
        if !file.chars().all(good) || !two_parts || file.contains("..") {
            return Err(Error::invalid("unified", file, "give the name of one file of a cgroup, such as memory.high"));
        }
        if file.starts_with("cgroup.") {
            let reason = "the files cgroup.* are podlet's own: it kills, freezes and delegates with them";
            return Err(Error::invalid("unified", file, reason));
        }
        if content.contains('\0') || content.trim().is_empty() {
            return Err(Error::invalid(format!("unified.{file}"), content, "say what to write"));
        }
    }
    Ok(())
}

/// `N` or `N-M`.
fn is_range(text: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    match text.split_once('-') {
        None => number(text).is_some(),
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rdma;
    use super::*;

    fn lines(resources: &Resources, present: Present) -> Vec<String> {
        resources.check().expect("checked");
        let writes = resources.writes(&present).expect("writes");
        writes.iter().map(|write| format!("{} {}", write.file, write.content)).collect()
    }

    fn of(change: impl FnOnce(&mut Resources)) -> Resources {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    }

    #[test]
    fn shares_become_weights_as_in_runc() {
        let known = [(1, 1), (2, 1), (3, 2), (1024, 100), (262_144, 10_000), (262_145, 10_000)];
        for (shares, weight) in known {
            assert_eq!(weight_of_shares(shares), weight, "{shares} shares");
        }
        assert!((3..262_144).step_by(97).all(|shares| weight_of_shares(shares) <= weight_of_shares(shares + 97)));
    }

    #[test]
    fn block_io_weights_become_io_weights_as_in_runc() {
        for (weight, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(weight_of_blkio(weight), io, "weight {weight}");
        }
    }

    #[test]
    fn swap_is_what_the_specification_counts_without_memory() {
        let case = |limit, swap| {
            let memory = Memory { limit, swap, ..Memory::default() };
            swap_alone(&memory).map_err(|error| error.to_string())
        };
        assert_eq!(case(None, None), Ok(None));
        assert_eq!(case(Some(100), None), Ok(None));
        assert_eq!(case(Some(100), Some(0)), Ok(None));
        assert_eq!(case(Some(100), Some(100)), Ok(Some(0)));
        assert_eq!(case(Some(100), Some(300)), Ok(Some(200)));
        assert_eq!(case(Some(100), Some(-1)), Ok(Some(-1)));
        assert_eq!(case(None, Some(-1)), Ok(Some(-1)));
        assert_eq!(case(Some(-1), None), Ok(Some(-1)));
        assert_eq!(case(Some(-1), Some(300)), Ok(Some(300)));
        assert!(case(None, Some(300)).is_err());
        assert!(case(Some(100), Some(99)).is_err());
    }

    #[test]
    fn memory_is_written_with_swap_apart() {
        let resources = of(|r| {
            r.memory = Memory { limit: Some(100), swap: Some(150), reservation: Some(50), check_before_update: true };
        });
        assert_eq!(lines(&resources, Present::default()), ["memory.max 100", "memory.swap.max 50", "memory.low 50"]);
        let unlimited = of(|r| r.memory.limit = Some(-1));
        assert_eq!(lines(&unlimited, Present::default()), ["memory.max max", "memory.swap.max max"]);
        let writes = unlimited.writes(&Present::default()).expect("writes");
        assert!(writes[1].may_be_missing, "no swap is no limit of it");
        assert!(lines(&of(|r| r.memory.limit = Some(0)), Present::default()).is_empty());
    }

    #[test]
    fn processor_time_is_written_as_in_runc() {
        let one = |change: fn(&mut super::super::Cpu)| lines(&of(|r| change(&mut r.cpu)), Present::default());
        assert_eq!(one(|cpu| cpu.quota = Some(50_000)), ["cpu.max 50000 100000"]);
        assert_eq!(one(|cpu| (cpu.quota, cpu.period) = (Some(5000), Some(10_000))), ["cpu.max 5000 10000"]);
        assert_eq!(one(|cpu| cpu.quota = Some(-1)), ["cpu.max max 100000"]);
        assert_eq!(one(|cpu| cpu.period = Some(20_000)), ["cpu.max max 20000"]);
        assert_eq!(one(|cpu| cpu.shares = Some(1024)), ["cpu.weight 100"]);
        assert_eq!(one(|cpu| cpu.shares = Some(0)), Vec::<String>::new());
        assert_eq!(one(|cpu| (cpu.shares, cpu.weight) = (Some(2), Some(7))), ["cpu.weight 7"]);
        let burst = one(|cpu| (cpu.quota, cpu.burst) = (Some(5000), Some(4000)));
        assert_eq!(burst, ["cpu.max 5000 100000", "cpu.max.burst 4000"]);
        assert_eq!(one(|cpu| cpu.idle = Some(1)), ["cpu.idle 1"]);
        let sets = one(|cpu| (cpu.cpus, cpu.mems) = (Some("0-1,3".into()), Some("0".into())));
        assert_eq!(sets, ["cpuset.cpus 0-1,3", "cpuset.mems 0"]);
    }

    #[test]
    fn disks_are_written_for_the_scheduler_there_is() {
        let device = |value| OfDevice { major: 8, minor: 16, value };
        let resources = of(|r| {
            r.block_io.weight = Some(500);
            r.block_io.weight_devices = vec![device(100)];
            r.block_io.read_bps = vec![device(1 << 20)];
            r.block_io.write_iops = vec![device(0)];
        });
        let throttles = ["io.max 8:16 rbps=1048576", "io.max 8:16 wiops=max"];
        let plain = lines(&resources, Present { bfq: false });
        assert_eq!(plain, [["io.weight default 4950", "io.weight 8:16 910"], throttles].concat());
        let bfq = lines(&resources, Present { bfq: true });
        assert_eq!(bfq, [["io.bfq.weight 500", "io.bfq.weight 8:16 100"], throttles].concat());
    }

    #[test]
    fn the_rest_is_written_too() {
        let resources = of(|r| {
            r.pids = Some(0);
            r.hugepages.insert("2MB".into(), 4 << 20);
            r.rdma.insert("mlx5_0".into(), Rdma { hca_handles: Some(2), hca_objects: None });
            r.unified.insert("memory.high".into(), "1000".into());
            r.unified.insert("io.max".into(), "8:0 rbps=1\n8:16 rbps=2\n".into());
        });
        let expected = [
            "pids.max max",
            "hugetlb.2MB.rsvd.max 4194304",
            "hugetlb.2MB.max 4194304",
            "rdma.max mlx5_0 hca_handle=2 hca_object=max",
            "io.max 8:0 rbps=1",
            "io.max 8:16 rbps=2",
            "memory.high 1000",
        ];
        assert_eq!(lines(&resources, Present::default()), expected);
        for (pids, content) in [(-1, "max"), (1, "1"), (100, "100")] {
            assert_eq!(lines(&of(|r| r.pids = Some(pids)), Present::default()), [format!("pids.max {content}")]);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_field_and_value() {
        let refused = |field: &str, value: &str, change: &dyn Fn(&mut Resources)| {
            let error = of(|r| change(r)).check().expect_err(field).to_string();
            assert!(error.contains(field) && error.contains(value), "{field} {value}: {error}");
        };
        refused("memory.limit", "-2", &|r| r.memory.limit = Some(-2));
        refused("memory.swap", "5", &|r| r.memory.swap = Some(5));
        refused("cpu.weight", "0", &|r| r.cpu.weight = Some(0));
        refused("cpu.weight", "10001", &|r| r.cpu.weight = Some(10_001));
        refused("cpu.period", "999", &|r| r.cpu.period = Some(999));
        refused("cpu.quota", "999", &|r| r.cpu.quota = Some(999));
        refused("cpu.idle", "2", &|r| r.cpu.idle = Some(2));
        refused("cpu.burst", "2000", &|r| (r.cpu.quota, r.cpu.burst) = (Some(1000), Some(2000)));
        refused("cpu.cpus", "0-", &|r| r.cpu.cpus = Some("0-".into()));
        refused("cpu.mems", "1-0", &|r| r.cpu.mems = Some("1-0".into()));
        refused("cpu.cpus", "a", &|r| r.cpu.cpus = Some("a".into()));
        refused("blockIO.weight", "9", &|r| r.block_io.weight = Some(9));
        refused("hugepageLimits", "../2MB", &|r| {
            r.hugepages.insert("../2MB".into(), 1);
        });
        for file in ["../memory.max", "memory/max", "memory", "cgroup.procs", ".max", "memory.", "a..b"] {
            refused("unified", file, &|r| {
                r.unified.insert(file.into(), "1".into());
            });
        }
        refused("unified.memory.high", "", &|r| {
            r.unified.insert("memory.high".into(), String::new());
        });
        refused("rdma", "", &|r| {
            r.rdma.insert("a b".into(), Rdma::default());
        });
    }
}
