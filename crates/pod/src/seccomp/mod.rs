//! seccomp: which system calls a container may make.
//!
//! A [`Profile`] is compiled to a program that the plan's last steps load; see
//! [`compile`](mod@compile) for how. The default profile lies beside this file, as data
//! to be reviewed, and was compiled when the library was.

pub mod compile;
mod usual;

use std::fs;

use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};

pub use compile::{
    Argument, Context, Filter, Listener, Machine, NEW_LISTENER, Profile, Situation, Syscall, When, compile,
};
pub use usual::DEFAULT_CAPABILITIES;

/// The default profile for the default capabilities, for a container that
/// shares its pod's processes, and for one that does not.
static SHARED_PID_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shared-pid.bpf"));
static OWN_PID_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/own-pid.bpf"));
/// The same, for any others.
static DEFAULT_PROFILE: &str = include_str!("default.json");

/// Which system calls a container may make.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// What programs in containers need, as docker and Kubernetes have it.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// As the profile says.
    Profile(Profile),
}

impl Seccomp {
    /// The filter for a container with these capabilities in its bounding set,
    /// one bit each, and in this situation; none if it may make all calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the profile is not one, naming the property.
    pub fn filter(&self, capabilities: u64, situation: Situation) -> Result<Option<Filter>> {
        let compiled = |profile: &Profile, kernel| {
            let context = Context { capabilities, kernel, situation };
            compile(profile, &context).map(Some)
        };
        match self {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default if capabilities == usual::capabilities() && !situation.nesting => {
                let program = if situation.shared_pid { SHARED_PID_PROGRAM } else { OWN_PID_PROGRAM };
                Ok(Some(Filter { program: program.to_vec(), flags: 0, listener: None }))
            }
            Seccomp::Default => compiled(&default_profile()?, usual::KERNEL),
            Seccomp::Profile(profile) => compiled(profile, kernel()?),
        }
    }
}

/// The profile that containers have if nothing else is said.
///
/// # Errors
/// None that a build with passing tests has.
pub fn default_profile() -> Result<Profile> {
    parse(DEFAULT_PROFILE.as_bytes())
}

/// A profile from JSON: `linux.seccomp` of an OCI config, or a file as podman
/// and docker take it. It is checked when it is compiled.
///
/// # Errors
/// [`Error::Invalid`] if it is malformed or has properties that no profile has.
pub fn parse(json: &[u8]) -> Result<Profile> {
    serde_json::from_slice(json).map_err(|error| Error::malformed("seccomp profile", error))
}

/// The profile of an OCI config.
///
/// # Errors
/// As [`parse`].
pub fn from_oci(config: &LinuxSeccomp) -> Result<Profile> {
    let json = serde_json::to_vec(config).map_err(|error| Error::malformed("linux.seccomp", error))?;
    parse(&json)
}

/// The kernel's version.
fn kernel() -> Result<(u32, u32)> {
    let path = "/proc/sys/kernel/osrelease";
    let release = fs::read_to_string(path).doing(|| format!("reading {path}"))?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}
