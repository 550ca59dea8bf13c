//! What a user asks for: [`PodOptions`] and [`Container`].
//!
//! Both are plain data, filled by methods or by [`config`](crate::config) from
//! an OCI `config.json`, kept in the state directory as JSON, and checked as a
//! whole before anything is made: see [`PodOptions::check`] and
//! [`Container::check`]. What passed has only names, paths and strings in it that
//! a plan can take as they are.

mod agree;
mod check;
mod check_container;
mod container;
mod mount;
mod options;
mod pod;
mod process;
pub(crate) mod sysctl;
mod text;
pub mod users;

pub use crate::seccomp::DEFAULT_CAPABILITIES;
pub use check::parse_capability;
pub(crate) use check::rlimit_number;
pub use container::{CapabilitySets, Container, DEFAULT_PATH, NamespaceMode, Rlimit, Root, User};
pub use mount::{FILE_SYSTEM_FLAGS, MOUNT_FLAGS, Mount, MountIds, MountKind};
pub use options::mount_options;
pub(crate) use options::propagation;
pub use pod::{PodOptions, TimeOffsets};
pub use process::{CpuAffinity, Device, DeviceKind, IoClass, IoPriority, MemoryPolicy, Personality, Scheduler};
pub use process::{memory_policy_flags, memory_policy_modes};
pub use text::check_name;
pub(crate) use text::{check_args, check_path, check_string, check_variable};
