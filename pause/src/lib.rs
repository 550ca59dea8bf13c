//! The sealed program, and what the library shares with it.
//!
//! Every process that podlet puts between the caller and a container runs one
//! tiny static program, embedded here as [`PROGRAM`]. It has no libc, no
//! allocator and no variables: it maps a *plan* (see [`wire`]) and does what
//! stands there, one system call after the other. A process of it ends with
//! `execve`, and then it is a container's, with [`wire::Op::Hold`], and then it is
//! pause, the first process of a pod (see `hold`), or by itself, when it was only
//! to make these.
//!
//! The modules below are compiled twice: by `build.rs` into the program, and
//! by cargo into this library, so that clippy and tests reach them.
//!
//! ```text
//!   library                         sealed program
//!   ───────                         ──────────────
//!   Plan ── encode ─► memfd ──────► run()  ──► system calls ──► execve | hold
//!                                     │
//!   run_plan ◄──── Record ◄── report socket (SOCK_SEQPACKET)
//!   Table      ◄──────────── exit table (a shared page)
//! ```
#![no_std]

// The fence: these talk to the kernel or follow addresses of the plan.
#[allow(unsafe_code)]
pub mod arch;
#[allow(unsafe_code)]
mod empty;
#[allow(unsafe_code)]
mod hold;
#[allow(unsafe_code)]
pub mod log;
#[allow(unsafe_code)]
mod run;
pub mod table;
pub mod wire;

pub use hold::DETACH;
pub use run::run;

/// The sealed program: a static x86_64 ELF file, ready for a memfd.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program"));

/// The copier: another static x86_64 ELF file, see [`log`].
pub static COPIER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/copier"));

#[cfg(test)]
mod tests;
