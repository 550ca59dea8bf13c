//! What a user asks for: [`PodOptions`] and [`ContainerSpec`].
//!
//! Both are plain data, filled by methods or by [`config`](crate::config) from
//! an OCI `config.json`, kept in the state directory as JSON, and checked as a
//! whole before anything is made: see [`PodOptions::check`] and
//! [`ContainerSpec::check`]. What passed has only names, paths and strings in it that
//! a plan can take as they are.

mod agree;
mod cgroup_manager;
mod check;
mod check_container;
pub(crate) mod check_order;
mod container;
mod device;
mod flags;
mod health;
mod layers;
mod log;
mod mount;
mod options;
mod order;
mod pod;
mod process;
mod restart;
mod scheduling;
pub(crate) mod sysctl;
mod text;
pub(crate) mod users;

pub use cgroup_manager::CgroupManager;
pub use check::parse_capability;
pub(crate) use check::rlimit_number;
pub use container::{ContainerSpec, NamespaceMode, Root};
pub use device::{Device, DeviceKind};
pub use flags::{FILE_SYSTEM_FLAGS, MOUNT_FLAGS, MountFlags, Propagation, PropagationKind};
pub use health::{CheckAction, CheckKind, Health, HealthCheck, HealthChecks, OnUnhealthy};
pub use layers::{Layers, UpperDir};
pub use log::{LogDriver, LogOptions, LogStream};
pub use mount::{Mount, MountIds, MountKind};
pub use options::mount_options;
pub(crate) use options::propagation;
pub use order::{After, Condition, InitContainer, Lifecycle, LifecycleHook};
pub(crate) use pod::shm_options;
pub use pod::{PodOptions, TimeOffsets};
pub use process::{CapabilitySets, DEFAULT_CAPABILITIES, DEFAULT_PATH, ProcessSpec, Rlimit, User};
pub use restart::{Backoff, RestartPolicy};
pub use scheduling::{CpuAffinity, IoClass, IoPriority, MemoryPolicy, Personality, Scheduler};
pub use scheduling::{memory_policy_flags, memory_policy_modes};
pub use sysctl::{check_sysctls, sysctl_path};
pub use text::check_name;
pub(crate) use text::{check_args, check_path, check_string, check_variable};
