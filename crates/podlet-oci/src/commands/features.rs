//! `podlet-oci features`: what it can do, as JSON (runtime-spec, Features).

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::output;

/// Print what podlet-oci can do as JSON
#[derive(Args)]
pub struct Features {}

pub fn run() -> Result<u8> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": pod::spec::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": pod::facts::capability_names(),
            "cgroup": { "v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true }
        },
        "potentiallyUnsafeConfigAnnotations": []
    });
    output::line(format_args!("{}", serde_json::to_string_pretty(&features)?))?;
    Ok(0)
}
