//! seccomp: which system calls a container may make.
//!
//! A [`Profile`] is compiled to a program that the
//! plan's last steps load. The crate `podlet-seccomp` is the compiler and has
//! the default profile, which the build script compiles for the default
//! capabilities.

use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::probe::release;

use ::seccomp::OLDEST_KERNEL;
pub(crate) use ::seccomp::default_capabilities;
pub use ::seccomp::{Argument, Context, Filter, Listener, Machine, NEW_LISTENER, Profile, Situation, Syscall, When};

/// The default profile for the default capabilities, for a container that
/// shares its pod's processes, and for one that does not.
static SHARED_PID_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shared-pid.bpf"));
static OWN_PID_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/own-pid.bpf"));

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
    /// The filter for a container with these capabilities in its bounding set
    /// and in this situation; none if it may make all calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the profile is not one, naming the property.
    pub fn filter(&self, capabilities: CapabilitySet, situation: Situation) -> Result<Option<Filter>> {
        let capabilities = capabilities.bits();
        let compiled = |profile: &Profile, kernel| {
            let context = Context { capabilities, kernel, situation };
            compile(profile, &context).map(Some)
        };
        match self {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default if capabilities == default_capabilities() && !situation.nesting => {
                let program = if situation.shared_pid { SHARED_PID_PROGRAM } else { OWN_PID_PROGRAM };
                Ok(Some(Filter { program: program.to_vec(), flags: 0, listener: None }))
            }
            Seccomp::Default => compiled(&default_profile()?, OLDEST_KERNEL),
            Seccomp::Profile(profile) => compiled(profile, release()),
        }
    }
}

/// Compiles a profile.
///
/// # Errors
/// [`Error::Invalid`], naming the property.
pub fn compile(profile: &Profile, context: &Context) -> Result<Filter> {
    Ok(::seccomp::compile(profile, context)?)
}

/// The profile that containers have if nothing else is said.
///
/// # Errors
/// None that a build with passing tests has.
pub fn default_profile() -> Result<Profile> {
    Ok(::seccomp::default_profile()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The build script's programs are those that the library would make, and
    /// no container gets one that is made for others.
    #[test]
    fn the_default_filter_is_the_default_profile_compiled() {
        let usual = crate::ContainerSpec::new("c", crate::Root::Host).process.capabilities.bounding;
        let profile = default_profile().expect("a profile");
        for capabilities in [usual.bits(), 0, usual.bits() | 1 << 21, !0] {
            for (nesting, shared_pid) in [(false, false), (false, true), (true, false), (true, true)] {
                let situation = Situation { nesting, shared_pid };
                let context = Context { capabilities, kernel: OLDEST_KERNEL, situation };
                let given =
                    Seccomp::Default.filter(CapabilitySet::from_bits(capabilities), situation).expect("it compiles");
                let compiled = compile(&profile, &context).expect("it compiles");
                assert!(given == Some(compiled), "{capabilities:#x} {situation:?}");
            }
        }
    }

    #[test]
    fn an_error_of_the_compiler_names_field_value_and_reason() {
        let odd = parse(br#"{ "defaultAction": "SCMP_ACT_SING" }"#).expect("a profile");
        match Seccomp::Profile(odd).filter(CapabilitySet::EMPTY, Situation::default()) {
            Err(Error::Invalid { field, value, reason, .. }) => {
                assert_eq!((field.as_str(), value.as_str()), ("seccomp.defaultAction", "SCMP_ACT_SING"));
                assert!(reason.contains("not an action"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}
