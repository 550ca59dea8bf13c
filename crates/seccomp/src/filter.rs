//! What the compiler makes.

use std::path::PathBuf;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of seccomp(2).
pub const NEW_LISTENER: u32 = 1 << 3;

/// A filter as seccomp(2) takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Instructions of 8 bytes each: `struct sock_filter`.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`; with a listener, [`NEW_LISTENER`] is among
    /// them, and the call returns its descriptor.
    pub flags: u32,
    /// Whom to tell of calls with the action `SCMP_ACT_NOTIFY`.
    pub listener: Option<Listener>,
}

/// Who decides calls whose action is `SCMP_ACT_NOTIFY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The socket to which the filter's descriptor goes (`listenerPath`).
    pub path: PathBuf,
    /// What goes with it, as it is (`listenerMetadata`).
    pub metadata: String,
}
