//! The subcommands, one file each.

pub mod create;
pub mod events;
pub mod exec;
mod filter;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod plan;
pub mod ps;
pub mod restart;
pub mod rm;
pub mod run;
mod settings;
pub mod start;
pub mod stop;
mod template;
pub mod update;
pub mod wait;
