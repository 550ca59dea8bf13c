//! The subcommands, one file each.

pub mod container;
pub mod cp;
pub mod create;
pub mod events;
pub mod exec;
mod filter;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod net;
pub mod network;
pub mod pause;
pub mod plan;
pub mod port;
pub mod prune;
pub mod ps;
pub mod restart;
pub mod rm;
pub mod run;
mod settings;
pub mod start;
pub mod stats;
pub mod stop;
mod template;
pub mod top;
pub mod update;
pub mod wait;
