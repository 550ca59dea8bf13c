//! The seccomp compiler: from a profile to a program for the kernel.
//!
//! ```text
//!   Profile ── check ─► Rules ── assemble ─► Vec<Instruction>
//!   profile.rs          rules.rs             bpf.rs
//!   (names, conditions) (numbers, by         (a tree of jumps)
//!                        architecture)
//! ```
//!
//! Nothing points back. All of it is pure, and compiled twice: into the
//! library, and into its build script, which makes the program of the default
//! profile, so that a start with it only loads it.

pub mod bpf;
mod calls;
mod check;
mod profile;
pub mod rules;

use std::path::PathBuf;

use crate::error::{Error, Result};

pub use calls::Arch;
pub use profile::{Argument, Machine, Profile, Syscall, When};

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of seccomp(2).
pub const NEW_LISTENER: u32 = 1 << 3;

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

/// Who decides calls whose action is `SCMP_ACT_NOTIFY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The socket to which the filter's descriptor goes (`listenerPath`).
    pub path: PathBuf,
    /// What goes with it, as it is (`listenerMetadata`).
    pub metadata: String,
}

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

/// Compiles a profile.
///
/// # Errors
/// [`Error::Invalid`], naming the property.
pub fn compile(profile: &Profile, context: &Context) -> Result<Filter> {
    let checked = check::check(profile, context)?;
    let program = bpf::assemble(&checked.rules);
    if program.len() > bpf::MOST {
        let reason = format!("the kernel takes at most {}: use fewer rules", bpf::MOST);
        return Err(Error::invalid("seccomp", format!("{} instructions", program.len()), reason));
    }
    Ok(Filter { program: bpf::encode(&program), flags: checked.flags, listener: checked.listener })
}
