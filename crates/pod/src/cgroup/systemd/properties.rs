//! Limits as properties of a unit (systemd.resource-control(5)).
//!
//! systemd writes some files of a unit's cgroup itself, whenever it looks at the
//! unit anew, such as at `systemctl daemon-reload`. For these files, and no others,
//! there are properties: what they would be set to is what [`Resources::writes`]
//! has, so a property and its file never say different things.

use podlet_systemd::{Property, Value};

use crate::error::Result;
use crate::resources::{Present, Resources, Write};

const NO_LIMIT: u64 = u64::MAX;

/// systemd keeps a quota in whole percents of a processor: it is rounded up to one
/// of these, in microseconds a second, as runc and crun do.
const PERCENT: u64 = 10_000;

/// The properties that limits are, each at most once.
///
/// # Errors
/// As [`Resources::writes`].
pub(super) fn of(resources: &Resources, present: &Present) -> Result<Vec<Property>> {
    let mut list: Vec<Property> = Vec::new();
    for write in resources.writes(present)? {
        for property in of_file(&write) {
            // What is written last is what counts.
            list.retain(|earlier| earlier.name != property.name);
            list.push(property.optional());
        }
    }
    // Idle is a weight to systemd, and no other one counts beside it.
    if resources.writes(present)?.iter().rfind(|write| write.file == "cpu.idle").is_some_and(|idle| idle.content == "1")
    {
        list.retain(|property| property.name != "CPUWeight");
        list.push(Property::new("CPUWeight", Value::U64(0)).optional());
    }
    Ok(list)
}

/// What takes back properties that are not among the `wanted`.
pub(super) fn lifted(set: &[Property], wanted: &[Property]) -> Vec<Property> {
    let is_wanted = |property: &&Property| wanted.iter().any(|other| other.name == property.name);
    let lift = |property: &Property| {
        let value = match property.name.as_str() {
            // CGROUP_WEIGHT_INVALID.
            "CPUWeight" | "IOWeight" => Value::U64(u64::MAX),
            "MemoryLow" | "MemoryMin" => Value::U64(0),
            "AllowedCPUs" | "AllowedMemoryNodes" => Value::Bytes(Vec::new()),
            "OOMPolicy" => Value::Text("continue".into()),
            _ => Value::U64(NO_LIMIT),
        };
        Property::new(&property.name, value).optional()
    };
    set.iter().filter(|property| !is_wanted(property)).map(lift).collect()
}

/// The properties of a file that systemd writes, too.
fn of_file(write: &Write) -> Vec<Property> {
    let limit = |name: &str| match write.content.trim() {
        "max" => vec![Property::new(name, Value::U64(NO_LIMIT))],
        // What is no number the kernel refuses, by its file.
        number => number.parse().map(|number| vec![Property::new(name, Value::U64(number))]).unwrap_or_default(),
    };
    let set = |name: &str| mask(&write.content).map(|mask| Property::new(name, Value::Bytes(mask)));
    match write.file.as_str() {
        "memory.max" => limit("MemoryMax"),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.min" => limit("MemoryMin"),
        "memory.swap.max" => limit("MemorySwapMax"),
        "memory.zswap.max" => limit("MemoryZSwapMax"),
        "memory.oom.group" => {
            let policy = if write.content.trim() == "1" { "kill" } else { "continue" };
            vec![Property::new("OOMPolicy", Value::Text(policy.into()))]
        }
        "pids.max" => limit("TasksMax"),
        "cpu.weight" => limit("CPUWeight"),
        "cpu.max" => quota(&write.content),
        "cpuset.cpus" => set("AllowedCPUs").into_iter().collect(),
        "cpuset.mems" => set("AllowedMemoryNodes").into_iter().collect(),
        // Weights of single disks systemd leaves alone.
        "io.weight" => default_weight(&write.content).map(io_weight).into_iter().collect(),
        "io.bfq.weight" => default_weight(&write.content).map(weight_of_bfq).map(io_weight).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn io_weight(weight: u64) -> Property {
    Property::new("IOWeight", Value::U64(weight))
}

/// Of `N` or `default N`.
fn default_weight(content: &str) -> Option<u64> {
    let content = content.trim();
    content.strip_prefix("default").unwrap_or(content).trim().parse().ok()
}

/// What systemd makes that weight of BFQ's of (src/basic/cgroup-util.h,
/// `BFQ_WEIGHT`), the other way round.
fn weight_of_bfq(weight: u64) -> u64 {
    match weight.clamp(1, 1000) {
        weight @ ..=100 => 100 - (100 - weight),
        weight => 100 + (weight - 100) * 9900 / 900,
    }
}

/// `cpu.max`: a quota and a period, in microseconds.
fn quota(content: &str) -> Vec<Property> {
    let mut words = content.split_whitespace();
    let quota = words.next().unwrap_or("max");
    let Ok(period) = words.next().unwrap_or("100000").parse::<u64>() else { return Vec::new() };
    let a_second = match quota.parse::<u64>() {
        Ok(quota) if period > 0 => {
            u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period)).unwrap_or(NO_LIMIT)
        }
        _ => NO_LIMIT,
    };
    let rounded = a_second.checked_next_multiple_of(PERCENT).unwrap_or(NO_LIMIT);
    vec![
        Property::new("CPUQuotaPerSecUSec", Value::U64(rounded)),
        Property::new("CPUQuotaPeriodUSec", Value::U64(period)),
    ]
}

/// `0-2,7` as bits, the first of them the lowest of the first byte.
fn mask(list: &str) -> Option<Vec<u8>> {
    // More than any kernel has of processors.
    const MOST: u32 = 1 << 16;
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?);
        for bit in from..=to.min(MOST) {
            let byte = (bit / 8) as usize;
            mask.resize(mask.len().max(byte + 1), 0);
            mask[byte] |= 1 << (bit % 8);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Cpu, Memory};

    fn shown(change: impl FnOnce(&mut Resources)) -> Vec<String> {
        let mut resources = Resources::default();
        change(&mut resources);
        let list = of(&resources, &Present::default()).expect("properties");
        list.iter().map(|property| format!("{} {:?}", property.name, property.value)).collect()
    }

    #[test]
    fn what_systemd_writes_has_properties() {
        let memory = Memory { limit: Some(100), swap: Some(150), reservation: Some(50), ..Memory::default() };
        let limits = shown(|r| (r.memory, r.pids) = (memory, Some(7)));
        assert_eq!(limits, ["TasksMax U64(7)", "MemoryMax U64(100)", "MemorySwapMax U64(50)", "MemoryLow U64(50)"]);
        let none = shown(|r| (r.memory.limit, r.pids) = (Some(-1), Some(-1)));
        assert_eq!(none, ["TasksMax", "MemoryMax", "MemorySwapMax"].map(|name| format!("{name} U64({})", u64::MAX)));
        let cpu = Cpu { shares: Some(1024), cpus: Some("0-2,9".into()), mems: Some("0".into()), ..Cpu::default() };
        let expected = ["CPUWeight U64(100)", "AllowedCPUs Bytes([7, 2])", "AllowedMemoryNodes Bytes([1])"];
        assert_eq!(shown(|r| r.cpu = cpu), expected);
        assert_eq!(shown(|r| r.block_io.weight = Some(500)), ["IOWeight U64(4950)"]);
        assert!(shown(|r| r.hugepages.extend([("2MB".to_string(), 1)])).is_empty(), "systemd does not know them");
    }

    #[test]
    fn a_quota_is_in_whole_percents_of_a_processor() {
        let of = |quota, period| shown(|r| (r.cpu.quota, r.cpu.period) = (quota, period));
        let expected = |a_second: u64, period: u64| {
            [format!("CPUQuotaPerSecUSec U64({a_second})"), format!("CPUQuotaPeriodUSec U64({period})")]
        };
        assert_eq!(of(Some(50_000), None), expected(500_000, 100_000));
        assert_eq!(of(Some(12_345), None), expected(130_000, 100_000));
        assert_eq!(of(Some(1000), Some(1_000_000)), expected(10_000, 1_000_000));
        assert_eq!(of(Some(-1), None), expected(u64::MAX, 100_000));
        let property = &super::quota("18446744073709552 1000")[0];
        assert_eq!(property.value, Value::U64(NO_LIMIT), "more than fits");
        assert_eq!(of(None, Some(20_000)), expected(u64::MAX, 20_000));
        assert_eq!(of(Some(i64::MAX), Some(1000)), expected(u64::MAX, 1000), "more than there is");
    }

    #[test]
    fn files_come_after_what_has_a_name_and_idle_before_weights() {
        let both = shown(|r| {
            r.pids = Some(7);
            r.unified.insert("pids.max".into(), "9".into());
            r.unified.insert("memory.high".into(), "max".into());
            r.unified.insert("io.weight".into(), "default 7\n8:0 9".into());
        });
        assert_eq!(
            both,
            ["IOWeight U64(7)".to_string(), format!("MemoryHigh U64({})", u64::MAX), "TasksMax U64(9)".into()]
        );
        assert_eq!(shown(|r| (r.cpu.idle, r.cpu.shares) = (Some(1), Some(1024))), ["CPUWeight U64(0)"]);
        assert_eq!(shown(|r| (r.cpu.idle, r.cpu.shares) = (Some(0), Some(1024))), ["CPUWeight U64(100)"]);
    }

    #[test]
    fn weights_of_bfq_come_back_as_they_were() {
        // systemd's BFQ_WEIGHT.
        let bfq = |io: u64| if io <= 100 { 100 - (100 - io) * 99 / 99 } else { 100 + (io - 100) * 900 / 9900 };
        for weight in [1, 10, 99, 100, 101, 500, 999, 1000] {
            assert_eq!(bfq(weight_of_bfq(weight)), weight);
        }
    }

    #[test]
    fn what_was_set_can_be_taken_back() {
        let (old, mut new) = (Resources::default(), Resources { pids: Some(5), ..Resources::default() });
        new.memory.reservation = Some(5);
        new.cpu.cpus = Some("0".into());
        let [old, new] = [old, new].map(|limits| of(&limits, &Present::default()).expect("properties"));
        let lifted = lifted(&new, &old);
        let value = |name: &str| lifted.iter().find(|property| property.name == name).map(|found| found.value.clone());
        assert_eq!(value("TasksMax"), Some(Value::U64(u64::MAX)));
        assert_eq!(value("MemoryLow"), Some(Value::U64(0)));
        assert_eq!(value("AllowedCPUs"), Some(Value::Bytes(vec![])));
        assert!(super::lifted(&new, &new).is_empty());
    }
}
