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
//! use pod::{Container, Pod, PodOptions, Root, Store};
//!
//! # fn main() -> pod::Result<()> {
//! let store = Store::open_default()?;
//! let pod = Pod::create(&store, PodOptions::new("web"))?;
//! let server = pod.start(&Container::new("server", Root::Host).args(["sleep", "60"]))?;
//! let hello = pod.start(&Container::new("hello", Root::Host).args(["echo", "hello"]))?;
//! println!("hello ended with {}", hello.wait()?.code());
//! server.signal(15)?;
//! pod.remove()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! ```text
//!   config.json / methods ─► Container ─► Plan ─► sealed program ─► execve
//!                             spec         plan     launch └─► exit table ─► wait
//! ```
//!
//! Nothing is decided after a process is born: [`plan::Plan`] is a flat list of
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

pub mod bundle;
mod cgroup;
mod cgroup_tree;
pub mod config;
mod containers;
mod doubled;
mod end;
mod error;
mod exec;
pub mod facts;
mod here;
mod idmaps;
mod launch;
mod limits;
mod netdev;
mod old_order;
mod outside;
mod plain;
pub mod plan;
mod pod;
mod prepare;
mod process;
mod procfs;
mod races;
pub mod resources;
mod root;
pub mod seccomp;
mod snapshot;
pub mod spec;
mod start;
mod state;
mod status;
mod summary;
mod sweep;
mod sys;
mod table;
mod tree;
mod users;
mod whole;

pub use caps::Capability;
pub use error::{Error, Number, Result};
pub use exec::Command;
pub use pod::Pod;
pub use process::{Io, Process, Stdio};
pub use resources::{OomLevel, Resources};
pub use spec::{Container, Namespace, PodOptions, Root};
pub use state::Store;
pub use status::{ContainerState, ContainerStatus, PodState, PodStatus};
pub use summary::{ContainerSummary, PodSummary};
pub use table::{Exit, ExitStatus};
