//! `linux`, but for namespaces and mounts.

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxPersonalityDomain};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::resources::Resources;
use crate::seccomp::{self, Seccomp};
use crate::spec::{ContainerSpec, Device, DeviceKind, MemoryPolicy, Personality};

/// `file` is the same as it stands in the file.
pub(super) fn read(container: &mut ContainerSpec, linux: &Linux, file: &Value) -> Result<()> {
    let paths = |paths: &Option<Vec<String>>| paths.iter().flatten().map(Into::into).collect();
    container.masked_paths = paths(linux.masked_paths());
    container.readonly_paths = paths(linux.readonly_paths());
    if let Some(resources) = linux.resources() {
        container.resources = Resources::from_oci(resources)?;
    }
    let profile = linux.seccomp().as_ref().map(seccomp::from_oci).transpose()?;
    container.seccomp = profile.map_or(Seccomp::Unconfined, Seccomp::Profile);
    container.sysctl = linux.sysctl().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    let devices = linux.devices().iter().flatten().enumerate();
    for (i, device) in devices {
        let device = read_device(i, device, &file["devices"][i])?;
        // Twice the same is once.
        if !container.devices.contains(&device) {
            container.devices.push(device);
        }
    }
    for (name, device) in linux.net_devices().iter().flatten() {
        let inside = device.name().clone().filter(|name| !name.is_empty());
        container.net_devices.insert(name.clone(), inside.unwrap_or_else(|| name.clone()));
    }
    container.personality = linux.personality().as_ref().map(|personality| match personality.domain() {
        LinuxPersonalityDomain::PerLinux => Personality::Linux,
        LinuxPersonalityDomain::PerLinux32 => Personality::Linux32,
    });
    container.memory_policy = linux.memory_policy().as_ref().map(|policy| MemoryPolicy {
        mode: policy.mode().to_string(),
        nodes: policy.nodes().clone().unwrap_or_default(),
        flags: policy.flags().iter().flatten().map(ToString::to_string).collect(),
    });
    Ok(())
}

fn read_device(index: usize, device: &LinuxDevice, file: &Value) -> Result<Device> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(Error::invalid(field("type"), "a", "a node is one of c, u, b, p")),
    };
    let number = |name: &str, value: i64| match (kind, u32::try_from(value)) {
        (DeviceKind::Fifo, _) => Ok(0),
        _ if file[name].is_null() => Err(Error::invalid(field(name), "", "the specification requires it")),
        (_, Ok(number)) => Ok(number),
        (..) => Err(Error::invalid(field(name), value.to_string(), "not a device number")),
    };
    Ok(Device {
        path: device.path().clone(),
        kind,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        // podman copies st_mode, with the file's type.
        mode: device.file_mode().map(|mode| mode & !libc::S_IFMT),
        uid: device.uid(),
        gid: device.gid(),
    })
}
