//! Pods: groups of containers that share namespaces, held by a tiny process.
//!
//! A [`Pod`] is created with its own network, process ids, ipc and host name.
//! A sealed static program, *pause*, is its first process: it holds the
//! namespaces, is the parent of everything in the pod, reaps it, and writes
//! down how each container ended, so that this is known even after the program
//! that started it is gone. A [`Container`] joins a pod; it can end, crash and
//! be started again any number of times while the pod keeps its network.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use pod::{ContainerSpec, Io, Pod, PodOptions, Root, Store};
//!
//! # fn main() -> pod::Result<()> {
//! let store = Store::open_default()?;
//! let pod = Pod::create(&store, PodOptions::new("web"))?;
//! let server = pod.create_container(&ContainerSpec::new("server", Root::Host).args(["sleep", "60"]))?;
//! server.start(Io::log())?;
//! let hello = pod.run(&ContainerSpec::new("hello", Root::Host).args(["echo", "hello"]), Io::inherit())?;
//! println!("hello ended with {:?}", hello.wait()?.code());
//! server.stop(Duration::from_secs(10))?;
//! pod.remove()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! ```text
//!   config.json / methods ─► ContainerSpec ─► Plan ─► sealed program ─► execve
//!                             spec             plan     launch └─► exit table ─► wait
//! ```
//!
//! Nothing is decided after a process is born: [`Plan`] is a flat list of
//! system calls that prints itself, and the sealed program only does it.
//!
//! # What it does to your program
//!
//! Nothing. It never forks it, and never changes its directory, umask, signal
//! mask, environment, subreaper or dumpable flag; every descriptor is
//! close-on-exec. It may be called from any thread. While something is started
//! there is a short-lived child, so SIGCHLD arrives once a start; the library
//! copes with a program that ignores it or waits for all children.
//!
//! An attached pod ends with its [`Pod`] value, and with the program, however
//! that ends; [`Pod::detach`] lets it live on.
#![deny(missing_docs)]

// Layers, lowest first: a module imports from itself and from those above it
// in this list alone (tests/layers.rs). docs/design.md has the map.

mod error; // Errors with field, value and cure.

mod kernel; // What the kernel is asked; nothing is decided.

pub mod seccomp; // System calls that a container may make.

pub mod resources; // What may be used, as data.

pub mod spec; // What is asked for, as data, and checked as a whole.

pub mod config; // `config.json` to what is asked for.

mod plan; // Everything that a new process will do, from what is asked for; pure.

mod cgroup; // Limits, counts and ends by cgroup.

mod launch; // From a plan to a process.

mod lookup; // What a plan needs to know of this machine.

mod store; // What is kept on disk.

mod pod; // Pods.

pub mod oci; // Containers of OCI bundles, without a pod.

pub use caps::Capability;
pub use cgroup::oom::OomLevel;
pub use cgroup::stats;
pub use error::{Cause, Error, MountCall, Number, Purpose, Result, StepKind, in_full};
pub use kernel::capabilities::CapabilitySet;
pub use kernel::namespace::Namespace;
pub use kernel::net_dev::InterfaceStats;
pub use kernel::signal::Signal;
pub use kernel::terminal::WindowSize;
pub use kernel::{facts, idmap};
pub use launch::stdio::{Io, Stdio, Streams};
pub use launch::terminal::Terminal;
pub use plan::Plan;
pub use plan::input::TerminalOptions;
pub use pod::Pod;
pub use pod::attached::{Attached, Told};
pub use pod::container::Container;
pub use pod::copy::{Copied, CopyOptions};
pub use pod::events::{Event, EventKind};
pub use pod::exec::ExecSpec;
pub use pod::process::Process;
pub use pod::read_log::{LogLine, Logs, log_time};
pub use pod::start_options::{StartOptions, StartProgress};
pub use pod::status::{CheckStatus, ContainerState, ContainerStatus, FailedHook, PodState, PodStatus};
pub use pod::summary::{ContainerSummary, PodSummary};
pub use pod::supervise::Tended;
pub use pod::top::{ProcessCapabilities, ProcessInfo, ProcessOwner};
pub use pod::usage::{ContainerStats, PodStats, UsageStats};
pub use pod::watch::Watch;
pub use resources::Resources;
pub use spec::{After, Backoff, Condition, InitContainer, Lifecycle, LifecycleHook, RestartPolicy};
pub use spec::{
    CgroupManager, ContainerSpec, Layers, LogDriver, LogOptions, LogStream, PodOptions, ProcessSpec, Root, UpperDir,
};
pub use spec::{CheckAction, CheckKind, Health, HealthCheck, HealthChecks, OnUnhealthy};
pub use store::Store;
pub use store::exits::{Exit, ExitStatus};
pub use store::extension::{ExtendedPod, Extension};
pub use store::health::{CheckResult, FailedCheck};
