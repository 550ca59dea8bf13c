//! What a pod or container may use: memory, processor time, processes, disk
//! bandwidth, devices. On cgroup v2, as [cgroups(7)] and the kernel's
//! [cgroup-v2] have it.
//!
//! ```text
//!   linux.resources, flags ─► Resources ─► [Write] ─► files of one cgroup
//!                    oci        │  writes    apply
//!                               └─► [DeviceRule] ─► eBPF program, attached
//!                                       device_rules  kernel/bpf
//! ```
//!
//! [`Resources`] is plain data whose fields mean what the OCI runtime
//! specification 1.3 says, with the conversions of runc and crun for what
//! version 2 counts in other units. What version 2 cannot do is refused when a
//! config is read, by its name; what this machine cannot do, when a limit is
//! to be set, by field, value and cure. Nothing is left out in silence.
//!
//! A limit is written before the first process is born into the cgroup, and
//! controllers are enabled, from the root down, for what is asked only.
//!
//! [cgroups(7)]: https://man7.org/linux/man-pages/man7/cgroups.7.html
//! [cgroup-v2]: https://docs.kernel.org/admin-guide/cgroup-v2.html

pub mod device_rules;
mod oci;
mod writes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use device_rules::{DeviceKind, DeviceRule};
pub(crate) use oci::{ALWAYS_COUNTED, ALWAYS_KILLED, GONE, ONLY_V1, REALTIME};
pub use writes::{Present, Write, weight_of_blkio, weight_of_shares};

const PIDS_MAX: &str = "pids.max";

/// What is not said is not written down.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What may be used. The default sets nothing.
///
/// ```
/// use pod::resources::{Present, Resources};
/// let mut resources = Resources::default();
/// resources.memory.limit = Some(64 << 20);
/// resources.pids = Some(100);
/// let writes = resources.writes(&Present::default()).unwrap();
/// let lines: Vec<_> = writes.iter().map(|write| format!("{} {}", write.file, write.content)).collect();
/// assert_eq!(lines, ["pids.max 100", "memory.max 67108864"]);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory and swap.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: Memory,
    /// Processor time.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu: Cpu,
    /// The most processes and threads; 0 or less for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub pids: Option<i64>,
    /// Disks.
    #[serde(skip_serializing_if = "is_default")]
    pub block_io: BlockIo,
    /// Huge pages: `2MB` to bytes; -1 for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub hugepages: BTreeMap<String, i64>,
    /// RDMA devices, by name.
    #[serde(skip_serializing_if = "is_default")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of the cgroup and what is written there, line by line, last of
    /// all.
    #[serde(skip_serializing_if = "is_default")]
    pub unified: BTreeMap<String, String>,
    /// Which devices may be used; for none of these rules, all that can be
    /// opened at all. See [`device_rules`].
    #[serde(skip_serializing_if = "is_default")]
    pub devices: Vec<DeviceRule>,
}

/// Memory, in bytes; -1 for no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The most (`memory.max`). Above it something of the cgroup is killed.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: Option<i64>,
    /// What others' needs do not take away (`memory.low`).
    #[serde(skip_serializing_if = "is_default")]
    pub reservation: Option<i64>,
    /// The most of memory and swap together (`memory.swap.max` is the
    /// difference). The same as `limit`: no swap.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: Option<i64>,
    /// An [update](crate::Container::update) below what is used is refused; without
    /// it the kernel kills to get there.
    #[serde(skip_serializing_if = "is_default")]
    pub check_before_update: bool,
}

/// Processor time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Weight beside others as version 1 counted it, 2 to 262144, 1024 if not
    /// said; 0 is not said. Becomes `cpu.weight`.
    #[serde(skip_serializing_if = "is_default")]
    pub shares: Option<u64>,
    /// Weight beside others as version 2 counts it (`cpu.weight`), 1 to 10000, 100
    /// if not said. Counts before `shares`.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: Option<u64>,
    /// Microseconds a period (`cpu.max`); 0 or less for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub quota: Option<i64>,
    /// The period, in microseconds; 100000 if not said.
    #[serde(skip_serializing_if = "is_default")]
    pub period: Option<u64>,
    /// Microseconds saved up from idle periods (`cpu.max.burst`).
    #[serde(skip_serializing_if = "is_default")]
    pub burst: Option<u64>,
    /// 1: only what no other process wants (`cpu.idle`).
    #[serde(skip_serializing_if = "is_default")]
    pub idle: Option<i64>,
    /// Which processors: `0-2,7`.
    #[serde(skip_serializing_if = "is_default")]
    pub cpus: Option<String>,
    /// Which memory nodes.
    #[serde(skip_serializing_if = "is_default")]
    pub mems: Option<String>,
}

/// A disk (block device) by its numbers, and a value of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OfDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Weight, bytes a second, or operations a second.
    pub value: u64,
}

/// Disks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Weight beside others, 10 to 1000; 0 is not said. Becomes
    /// `io.bfq.weight` where that scheduler is there, else `io.weight`.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: Option<u16>,
    /// Weight beside others on single disks, 10 to 1000.
    #[serde(skip_serializing_if = "is_default")]
    pub weight_devices: Vec<OfDevice>,
    /// The most bytes read a second (`io.max`).
    #[serde(skip_serializing_if = "is_default")]
    pub read_bps: Vec<OfDevice>,
    /// The most bytes written a second.
    #[serde(skip_serializing_if = "is_default")]
    pub write_bps: Vec<OfDevice>,
    /// The most reads a second.
    #[serde(skip_serializing_if = "is_default")]
    pub read_iops: Vec<OfDevice>,
    /// The most writes a second.
    #[serde(skip_serializing_if = "is_default")]
    pub write_iops: Vec<OfDevice>,
}

/// Limits of an RDMA device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdma {
    /// The most handles; no limit if not said.
    #[serde(skip_serializing_if = "is_default")]
    pub hca_handles: Option<u32>,
    /// The most objects; no limit if not said.
    #[serde(skip_serializing_if = "is_default")]
    pub hca_objects: Option<u32>,
}

impl Resources {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }

    /// What is limited, without which devices may be used.
    pub(crate) fn without_devices(&self) -> Resources {
        Resources { devices: Vec::new(), ..self.clone() }
    }

    /// The same with one process more, for one that is there for a while and is not to
    /// count.
    pub(crate) fn with_one_more(&self) -> Resources {
        // linux/threads.h: PID_MAX_LIMIT, more than which the kernel does not take.
        const MOST: i64 = 1 << 22;
        let raised = |most: i64| if (1..MOST).contains(&most) { most + 1 } else { most };
        let mut more = self.clone();
        more.pids = self.pids.map(raised);
        if let Some(most) = more.unified.get_mut(PIDS_MAX)
            && let Ok(number) = most.trim().parse::<i64>()
        {
            // Of a cgroup's file 0 is a limit.
            *most = (if number == 0 { 1 } else { raised(number) }).to_string();
        }
        more
    }

    /// What is limited of processes alone.
    pub(crate) fn of_pids(&self) -> Resources {
        let unified = self.unified.iter().filter(|(file, _)| *file == PIDS_MAX);
        let unified = unified.map(|(file, most)| (file.clone(), most.clone())).collect();
        Resources { pids: self.pids, unified, ..Resources::default() }
    }

    /// Whether there is any limit of memory: then what is killed for lack of it
    /// can be told.
    pub(crate) fn limits_memory(&self) -> bool {
        let Memory { limit, swap, reservation, .. } = self.memory;
        [limit, swap, reservation].into_iter().flatten().any(|limit| limit > 0)
            || self.unified.keys().any(|file| file.starts_with("memory."))
    }

    /// These limits, and lack of memory ends all of the cgroup, unless they say
    /// otherwise.
    pub(crate) fn ending_as_a_whole(mut self) -> Resources {
        self.unified.entry("memory.oom.group".into()).or_insert_with(|| "1".into());
        self
    }

    /// Whether it cannot be what it says, anywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field (`memory.limit`), the value and the
    /// cure.
    pub fn check(&self) -> Result<()> {
        writes::check(self)?;
        self.devices.iter().try_for_each(DeviceRule::check)?;
        self.writes(&Present::default()).map(drop)
    }

    /// These limits, but for those that `change` sets.
    ///
    /// # Errors
    /// [`Error::Invalid`] for device rules, which are for a cgroup's whole
    /// life, and for what [`check`](Resources::check) refuses.
    pub fn changed_by(&self, change: &Resources) -> Result<Resources> {
        // containerd tells them with every update.
        if !change.devices.is_empty() && change.devices != self.devices {
            let reason = "device rules cannot be changed while something runs: give them where it is made";
            return Err(Error::invalid("devices", "", reason));
        }
        let mut new = self.clone();
        fn set<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        fn set_each(old: &mut Vec<OfDevice>, new: &[OfDevice]) {
            for device in new {
                old.retain(|old| (old.major, old.minor) != (device.major, device.minor));
                old.push(*device);
            }
        }
        let (old, memory) = (&mut new.memory, &change.memory);
        set(&mut old.limit, &memory.limit);
        set(&mut old.reservation, &memory.reservation);
        set(&mut old.swap, &memory.swap);
        old.check_before_update |= memory.check_before_update;
        let (old, cpu) = (&mut new.cpu, &change.cpu);
        if cpu.shares.is_some() || cpu.weight.is_some() {
            // Two names of one thing.
            (old.shares, old.weight) = (cpu.shares, cpu.weight);
        }
        set(&mut old.quota, &cpu.quota);
        set(&mut old.period, &cpu.period);
        set(&mut old.burst, &cpu.burst);
        set(&mut old.idle, &cpu.idle);
        set(&mut old.cpus, &cpu.cpus);
        set(&mut old.mems, &cpu.mems);
        set(&mut new.pids, &change.pids);
        let (old, io) = (&mut new.block_io, &change.block_io);
        set(&mut old.weight, &io.weight);
        set_each(&mut old.weight_devices, &io.weight_devices);
        set_each(&mut old.read_bps, &io.read_bps);
        set_each(&mut old.write_bps, &io.write_bps);
        set_each(&mut old.read_iops, &io.read_iops);
        set_each(&mut old.write_iops, &io.write_iops);
        new.hugepages.extend(change.hugepages.clone());
        new.rdma.extend(change.rdma.clone());
        new.unified.extend(change.unified.clone());
        new.check()?;
        Ok(new)
    }
}

/// Bytes, or a number with a unit, powers of 1024: `512m`, `2GiB`; -1 for no
/// limit. `None` for anything else.
pub fn parse_size(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes >= -1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_what_it_sets_and_nothing_else() {
        let mut old = Resources { pids: Some(5), ..Resources::default() };
        old.memory.limit = Some(100);
        old.cpu.shares = Some(1024);
        old.block_io.read_bps =
            vec![OfDevice { major: 8, minor: 0, value: 1 }, OfDevice { major: 8, minor: 1, value: 2 }];
        let mut change = Resources::default();
        change.memory.limit = Some(200);
        change.cpu.weight = Some(300);
        change.block_io.read_bps = vec![OfDevice { major: 8, minor: 0, value: 9 }];
        let new = old.changed_by(&change).expect("a change");
        assert_eq!((new.memory.limit, new.pids), (Some(200), Some(5)));
        assert_eq!((new.cpu.shares, new.cpu.weight), (None, Some(300)));
        let devices: Vec<_> = new.block_io.read_bps.iter().map(|device| (device.minor, device.value)).collect();
        assert_eq!(devices, [(1, 2), (0, 9)]);
    }

    #[test]
    fn one_process_more_is_taken_back_by_the_limits_of_processes() {
        let raised = |pids, file: &str| {
            let mut asked = Resources { pids, ..Resources::default() };
            asked.memory.limit = Some(5);
            asked.unified.insert(PIDS_MAX.into(), file.into());
            let more = asked.with_one_more();
            assert_eq!(more.changed_by(&asked.of_pids()).expect("a change"), asked);
            (more.pids, more.unified[PIDS_MAX].clone())
        };
        assert_eq!(raised(Some(1), "7"), (Some(2), "8".into()));
        assert_eq!(raised(None, "0"), (None, "1".into()));
        assert_eq!(raised(Some(0), "max"), (Some(0), "max".into()), "no limit");
        assert_eq!(raised(Some(1 << 22), "4194304"), (Some(1 << 22), "4194304".into()), "the kernel's most");
    }

    #[test]
    fn device_rules_are_not_changed() {
        let change = Resources { devices: device_rules::default_rules(), ..Resources::default() };
        assert!(Resources::default().changed_by(&change).is_err());
    }

    #[test]
    fn an_old_record_without_limits_is_one_that_sets_nothing() {
        let read: Resources = serde_json::from_str("{}").expect("JSON");
        assert!(read.is_empty());
        let read: Resources = serde_json::from_str(r#"{"memory":{"limit":1}}"#).expect("JSON");
        assert_eq!(read.memory.limit, Some(1));
    }
}
