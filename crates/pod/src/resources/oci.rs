//! From the `linux.resources` of an OCI config.
//!
//! Everything of it is honoured or refused by its name. What only version 1 of
//! cgroups could do is refused with that reason; kernel memory limits, which
//! Linux took away (5.4) and the specification deprecated, count as that.

use std::fmt::Display;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

use super::device_rules::{DeviceKind, DeviceRule, default_rules};
use super::{BlockIo, Cpu, Memory, OfDevice, Rdma, Resources};
use crate::error::{Error, Result};

const PREFIX: &str = "linux.resources";
pub(crate) const GONE: &str = "Linux has no such limit any more (kernel memory counts as memory): remove it";
pub(crate) const REALTIME: &str = "cgroup v2 does not control realtime scheduling: remove it";
pub(crate) const ALWAYS_KILLED: &str = "cgroup v2 cannot do without the OOM killer: remove it";
pub(crate) const ALWAYS_COUNTED: &str = "cgroup v2 always counts what is below, too: remove it or say true";
pub(crate) const ONLY_V1: &str = "cgroup v2 has nothing like it: remove it";

/// Refuses a property that is set to anything but what it is anyway.
fn refuse<T: Display>(field: &str, value: Option<T>, reason: &str) -> Result<()> {
    match value {
        Some(value) => Err(Error::invalid(field, value.to_string(), reason)),
        None => Ok(()),
    }
}

impl Resources {
    /// The limits of a config.
    ///
    /// A list of device rules is completed, as every runtime does, with the
    /// devices that the specification promises a container: see
    /// [`default_rules`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be, or not with cgroup v2, named as
    /// in the config: `linux.resources.memory.limit`.
    pub fn from_oci(config: &LinuxResources) -> Result<Resources> {
        read(config).map_err(|error| match error {
            Error::Invalid { field, value, reason, cause } => {
                Error::Invalid { field: format!("{PREFIX}.{field}"), value, reason, cause }
            }
            error => error,
        })
    }
}

impl Resources {
    /// The limits of a `linux.resources` in JSON, as `update` of an OCI runtime takes
    /// it.
    ///
    /// # Errors
    /// As [`from_oci`](Resources::from_oci).
    pub fn from_json(resources: &serde_json::Value) -> Result<Resources> {
        let config = serde_path_to_error::deserialize::<_, LinuxResources>(resources);
        let config =
            config.map_err(|error| Error::malformed(format!("{PREFIX}.{}", error.path()), error.into_inner()))?;
        Resources::from_oci(&config)
    }
}

fn read(config: &LinuxResources) -> Result<Resources> {
    let mut resources = Resources::default();
    if let Some(memory) = config.memory() {
        resources.memory = read_memory(memory)?;
    }
    if let Some(cpu) = config.cpu() {
        resources.cpu = read_cpu(cpu)?;
    }
    resources.pids = config.pids().as_ref().map(|pids| pids.limit());
    if let Some(io) = config.block_io() {
        resources.block_io = read_block_io(io)?;
    }
    for limit in config.hugepage_limits().iter().flatten() {
        resources.hugepages.insert(limit.page_size().clone(), limit.limit());
    }
    if let Some(network) = config.network() {
        refuse("network.classID", network.class_id().filter(|id| *id != 0), ONLY_V1)?;
        let first = network.priorities().iter().flatten().next();
        refuse("network.priorities", first.map(|priority| priority.name()), ONLY_V1)?;
    }
    for (device, limits) in config.rdma().iter().flatten() {
        let (hca_handles, hca_objects) = (limits.hca_handles(), limits.hca_objects());
        resources.rdma.insert(device.clone(), Rdma { hca_handles, hca_objects });
    }
    let unified = config.unified().iter().flatten();
    resources.unified = unified.map(|(file, content)| (file.clone(), content.clone())).collect();
    let rules = config.devices().iter().flatten();
    resources.devices = rules.map(read_rule).collect::<Result<_>>()?;
    if !resources.devices.is_empty() {
        resources.devices.extend(default_rules());
    }
    resources.check()?;
    Ok(resources)
}

#[allow(deprecated)] // Refused, which takes looking.
fn read_memory(memory: &LinuxMemory) -> Result<Memory> {
    let set = |limit: Option<i64>| limit.filter(|limit| *limit != 0 && *limit != -1);
    refuse("memory.kernel", set(memory.kernel()), GONE)?;
    refuse("memory.kernelTCP", set(memory.kernel_tcp()), GONE)?;
    refuse("memory.swappiness", memory.swappiness(), ONLY_V1)?;
    let disable = memory.disable_oom_killer().filter(|disable| *disable);
    refuse("memory.disableOOMKiller", disable, ALWAYS_KILLED)?;
    let flat = memory.use_hierarchy().filter(|hierarchy| !hierarchy);
    refuse("memory.useHierarchy", flat, ALWAYS_COUNTED)?;
    Ok(Memory {
        limit: memory.limit(),
        reservation: memory.reservation(),
        swap: memory.swap(),
        check_before_update: memory.check_before_update().unwrap_or(false),
    })
}

fn read_cpu(cpu: &LinuxCpu) -> Result<Cpu> {
    refuse("cpu.realtimeRuntime", cpu.realtime_runtime().filter(|time| *time != 0), REALTIME)?;
    refuse("cpu.realtimePeriod", cpu.realtime_period().filter(|time| *time != 0), REALTIME)?;
    Ok(Cpu {
        shares: cpu.shares(),
        weight: None,
        quota: cpu.quota(),
        period: cpu.period(),
        burst: cpu.burst(),
        idle: cpu.idle(),
        cpus: cpu.cpus().clone(),
        mems: cpu.mems().clone(),
    })
}

fn read_block_io(io: &LinuxBlockIo) -> Result<BlockIo> {
    refuse("blockIO.leafWeight", io.leaf_weight().filter(|weight| *weight != 0), ONLY_V1)?;
    let mut weight_devices = Vec::new();
    for device in io.weight_device().iter().flatten() {
        refuse("blockIO.weightDevice.leafWeight", device.leaf_weight().filter(|weight| *weight != 0), ONLY_V1)?;
        if let Some(weight) = device.weight() {
            weight_devices.push(OfDevice { major: device.major(), minor: device.minor(), value: weight.into() });
        }
    }
    let throttles = |devices: &Option<Vec<LinuxThrottleDevice>>| {
        let devices = devices.iter().flatten();
        devices.map(|d| OfDevice { major: d.major(), minor: d.minor(), value: d.rate() }).collect()
    };
    Ok(BlockIo {
        weight: io.weight(),
        weight_devices,
        read_bps: throttles(io.throttle_read_bps_device()),
        write_bps: throttles(io.throttle_write_bps_device()),
        read_iops: throttles(io.throttle_read_iops_device()),
        write_iops: throttles(io.throttle_write_iops_device()),
    })
}

fn read_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceKind::Any,
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Char,
        Some(LinuxDeviceType::P) => return Err(Error::invalid("devices.type", "p", "a rule is about a, b or c")),
    };
    // -1 is how tools write that any number is meant.
    let number = |field: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| Error::invalid(field, number.to_string(), "give a device number, or -1 for any")),
    };
    let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    let (major, minor) = (number("devices.major", rule.major())?, number("devices.minor", rule.minor())?);
    DeviceRule::new(rule.allow(), kind, major, minor, access)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Resources> {
        Resources::from_oci(&serde_json::from_str(json).expect("the specification's JSON"))
    }

    #[test]
    fn a_full_config_is_read() {
        let resources = parse(
            r#"{
              "memory": {"limit": 536870912, "reservation": 1000, "swap": 536870912, "checkBeforeUpdate": true,
                         "useHierarchy": true, "disableOOMKiller": false, "kernel": -1, "kernelTCP": 0},
              "cpu": {"shares": 1024, "quota": 1000000, "period": 500000, "burst": 10, "idle": 0, "cpus": "0",
                      "mems": "0", "realtimeRuntime": 0},
              "pids": {"limit": 32771},
              "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                          "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                          "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}]},
              "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
              "network": {"classID": 0, "priorities": []},
              "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
              "unified": {"memory.high": "1"},
              "devices": [{"allow": false, "access": "rwm"}]
            }"#,
        )
        .expect("a good config");
        assert_eq!(resources.memory.limit, Some(536_870_912));
        assert_eq!(resources.cpu.cpus.as_deref(), Some("0"));
        assert_eq!(resources.block_io.weight_devices[0].value, 500);
        assert_eq!(resources.block_io.write_iops[0], OfDevice { major: 8, minor: 16, value: 300 });
        assert_eq!(resources.rdma["mlx5_1"].hca_handles, Some(3));
        assert_eq!(resources.devices.len(), 1 + default_rules().len());
        assert_eq!(parse("{}").expect("nothing"), Resources::default());
    }

    #[test]
    fn what_v2_cannot_do_is_refused_by_its_name() {
        let cases = [
            ("memory.swappiness", r#"{"memory":{"swappiness":60}}"#),
            ("memory.disableOOMKiller", r#"{"memory":{"disableOOMKiller":true}}"#),
            ("memory.kernel", r#"{"memory":{"kernel":1000}}"#),
            ("memory.kernelTCP", r#"{"memory":{"kernelTCP":1000}}"#),
            ("memory.useHierarchy", r#"{"memory":{"useHierarchy":false}}"#),
            ("memory.limit", r#"{"memory":{"limit":-5}}"#),
            ("memory.swap", r#"{"memory":{"swap":5,"limit":6}}"#),
            ("cpu.realtimeRuntime", r#"{"cpu":{"realtimeRuntime":1}}"#),
            ("cpu.realtimePeriod", r#"{"cpu":{"realtimePeriod":1}}"#),
            ("blockIO.leafWeight", r#"{"blockIO":{"leafWeight":10}}"#),
            (
                "blockIO.weightDevice.leafWeight",
                r#"{"blockIO":{"weightDevice":[{"major":1,"minor":1,"leafWeight":9}]}}"#,
            ),
            ("network.classID", r#"{"network":{"classID":1}}"#),
            ("network.priorities", r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#),
            ("unified", r#"{"unified":{"../x.y":"1"}}"#),
            ("devices.type", r#"{"devices":[{"allow":true,"type":"p"}]}"#),
            ("devices.major", r#"{"devices":[{"allow":true,"type":"c","major":-2}]}"#),
            ("devices.access", r#"{"devices":[{"allow":true,"type":"c","access":"x"}]}"#),
        ];
        for (field, json) in cases {
            let error = parse(json).expect_err(field).to_string();
            assert!(error.starts_with(&format!("linux.resources.{field}")), "{json}: {error}");
        }
    }
}
