//! What a profile's conditions are about.

/// What a profile's conditions are about.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The container's bounding set, one bit a capability.
    pub capabilities: u64,
    /// The kernel's version: major, minor.
    pub kernel: (u32, u32),
    /// What else the container is.
    pub situation: Situation,
}

/// What a container is, for rules that are about it: `container` in
/// `includes` and `excludes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// It may make containers of its own: `nesting`.
    pub nesting: bool,
    /// Its pid 1 is its pod's pause: `shared-pid`.
    pub shared_pid: bool,
}
