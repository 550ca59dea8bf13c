//! `podlet-oci features`: what it can do, as JSON (runtime-spec, Features).

use anyhow::Result;
use clap::Args;
use pod::oci::SPECIFICATION;
use serde_json::json;

use crate::output;

/// Print what podlet-oci can do as JSON
#[derive(Args)]
pub struct Features {}

/// What a profile may say: the crate `podlet-seccomp`.
const ACTIONS: [&str; 9] = ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "NOTIFY", "LOG", "ALLOW"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const ARCHITECTURES: [&str; 3] = ["X86_64", "X86", "X32"];
const FLAGS: [&str; 4] = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];

pub fn run() -> Result<u8> {
    let names = |prefix: &str, names: &[&str]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
    let flags = names("SECCOMP_FILTER_FLAG_", &FLAGS);
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": pod::spec::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": pod::facts::capability_names(),
            "cgroup": { "v1": false, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": names("SCMP_ACT_", &ACTIONS),
                "operators": names("SCMP_CMP_", &OPERATORS),
                "archs": names("SCMP_ARCH_", &ARCHITECTURES),
                "knownFlags": flags,
                "supportedFlags": flags
            },
            "memoryPolicy": {
                "modes": pod::spec::memory_policy_modes(),
                "flags": pod::spec::memory_policy_flags()
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true }
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."]
    });
    output::line(format_args!("{}", serde_json::to_string_pretty(&features)?))?;
    Ok(0)
}
