//! The profile that containers have if nothing else is said, and for which
//! containers it can be compiled before there is one.

use caps::Capability;

use crate::error::Result;
use crate::profile::{self, Profile};

/// Data to be reviewed: it lies beside the sources, and its README says where
/// it is from.
static DEFAULT_PROFILE: &str = include_str!("../default.json");

/// The profile that containers have if nothing else is said: what programs in
/// containers need, as docker and Kubernetes have it.
///
/// # Errors
/// None that a build with passing tests has.
pub fn default_profile() -> Result<Profile> {
    profile::parse(DEFAULT_PROFILE.as_bytes())
}

/// What `podman` and `docker` leave a container: capabilities that root in it
/// needs for ordinary work, and none that reaches out of it.
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// [`DEFAULT_CAPABILITIES`], one bit each.
pub const fn default_capabilities() -> u64 {
    let (mut set, mut at) = (0, 0);
    // Iterators are none of a constant's.
    while at < DEFAULT_CAPABILITIES.len() {
        set |= 1 << DEFAULT_CAPABILITIES[at] as u8;
        at += 1;
    }
    set
}

/// The oldest kernel podlet runs on; the default profile asks for none newer.
pub const OLDEST_KERNEL: (u32, u32) = (5, 15);
