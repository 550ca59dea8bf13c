//! A profile as it is written down: `linux.seccomp` of the OCI runtime
//! specification 1.3, or the file format of moby and podman, which adds
//! conditions on capabilities, architectures and the kernel. podlet's own adds
//! one on what the container is.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A seccomp profile. Names are checked when it is compiled.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// What happens to calls that no rule is about: `SCMP_ACT_ERRNO` and the
    /// like.
    pub default_action: String,
    /// The errno of the default action; EPERM if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Its name, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno: Option<String>,
    /// Architectures besides the machine's own: `SCMP_ARCH_X86` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<String>>,
    /// The same, by the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch_map: Option<Vec<Machine>>,
    /// `SECCOMP_FILTER_FLAG_LOG` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The socket of who decides on `SCMP_ACT_NOTIFY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What is sent there besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<Syscall>>,
}

/// A machine's architecture, and those it can run besides.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Its own.
    pub architecture: String,
    /// The others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_architectures: Option<Vec<String>>,
}

/// What happens to some calls.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Syscall {
    /// Their names; those that this machine does not have are no rule.
    pub names: Vec<String>,
    /// `SCMP_ACT_ALLOW` and the like.
    pub action: String,
    /// The errno of the action; EPERM if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Its name, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Conditions, all of which must hold; but several on one argument are
    /// rules of their own, as in runc and crun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Argument>>,
    /// Why, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The rule is one only where all of this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub includes: Option<When>,
    /// The rule is one only where nothing of this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<When>,
}

/// A condition on one argument of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Argument {
    /// Which: 0 to 5.
    pub index: u64,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// `SCMP_CMP_EQ` and the like.
    pub op: String,
}

/// Where a rule is one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// Capabilities of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// The machine's architecture, as Go calls it: `amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arches: Option<Vec<String>>,
    /// The lowest version of the kernel: `4.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_kernel: Option<String>,
    /// What the container is, which only podlet's profiles ask: `nesting`,
    /// `shared-pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Vec<String>>,
}

/// A profile from JSON: `linux.seccomp` of an OCI config, or a file as podman
/// and docker take it. It is checked when it is compiled.
///
/// # Errors
/// An [`Error`] if it is malformed or has properties that no profile has.
pub fn parse(json: &[u8]) -> Result<Profile> {
    serde_json::from_slice(json).map_err(|error| Error::new("seccomp profile", "", error.to_string()))
}
