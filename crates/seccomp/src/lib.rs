//! The seccomp compiler: from a profile to a program for the kernel.
//!
//! A [`Profile`] says by name which system calls a container may make, as
//! podman, docker and the OCI runtime specification write it. [`compile`] makes
//! of it what seccomp(2) takes, for an x86_64 kernel and all three
//! architectures whose calls that takes. Nothing is asked of the machine and
//! nothing is loaded: the same input gives the same program everywhere, in a
//! build script, too.
//!
//! ```
//! use seccomp::{Context, Situation, compile, parse};
//!
//! # fn main() -> Result<(), seccomp::Error> {
//! let profile = parse(
//!     br#"{
//!         "defaultAction": "SCMP_ACT_ALLOW",
//!         "syscalls": [{ "names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
//!     }"#,
//! )?;
//! let context = Context { capabilities: 0, kernel: (6, 1), situation: Situation::default() };
//! let filter = compile(&profile, &context)?;
//! assert_eq!(filter.program.len() % 8, 0, "instructions of 8 bytes");
//!
//! let odd = parse(br#"{ "defaultAction": "SCMP_ACT_SING" }"#)?;
//! let error = compile(&odd, &context).expect_err("no such action");
//! assert_eq!((error.field.as_str(), error.value.as_str()), ("seccomp.defaultAction", "SCMP_ACT_SING"));
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! ```text
//!   Profile ── check ─► Rules ── assemble ─► Vec<Instruction>
//!   profile.rs          rules.rs             bpf.rs
//!   (names, conditions) (numbers, by         (a tree of jumps)
//!                        architecture)
//! ```
//!
//! Nothing points back, and all of it is pure.
#![deny(missing_docs)]

mod bpf;
mod calls;
mod check;
mod context;
mod default;
mod error;
mod filter;
mod profile;
mod rules;

pub use context::{Context, Situation};
pub use default::{DEFAULT_CAPABILITIES, OLDEST_KERNEL, default_capabilities, default_profile};
pub use error::{Error, Result};
pub use filter::{Filter, Listener, NEW_LISTENER};
pub use profile::{Argument, Machine, Profile, Syscall, When, parse};

/// Compiles a profile.
///
/// # Errors
/// An [`Error`] that names the property: one that means nothing, an action that
/// needs what is not there, two rules that contradict each other, or a program
/// longer than the kernel takes (`BPF_MAXINSNS`).
pub fn compile(profile: &Profile, context: &Context) -> Result<Filter> {
    let checked = check::check(profile, context)?;
    let program = bpf::assemble(&checked.rules);
    if program.len() > bpf::MOST {
        let reason = format!("the kernel takes at most {}: use fewer rules", bpf::MOST);
        return Err(Error::new("seccomp", format!("{} instructions", program.len()), reason));
    }
    Ok(Filter { program: bpf::encode(&program), flags: checked.flags, listener: checked.listener })
}

/// A filter for a program that is known whole: it allows these calls of
/// x86_64, by their numbers, and kills the process for any other, and for those
/// of other architectures.
///
/// ```
/// // read and exit_group.
/// let filter = seccomp::allow_only([0, 231]);
/// assert_eq!((filter.flags, filter.listener), (0, None));
/// ```
pub fn allow_only(calls: impl IntoIterator<Item = u16>) -> Filter {
    let rules = rules::Rules::allow_only(calls.into_iter().map(u32::from));
    Filter { program: bpf::encode(&bpf::assemble(&rules)), flags: 0, listener: None }
}
