//! What the build script takes for granted when it compiles the default
//! profile, and the library compares a container with.

use caps::Capability;

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

/// The default capabilities, one bit each.
pub fn capabilities() -> u64 {
    DEFAULT_CAPABILITIES.iter().fold(0, |set, capability| set | capability.bitmask())
}

/// The oldest kernel podlet runs on; the default profile asks for none newer.
pub const KERNEL: (u32, u32) = (5, 15);
