//! The subcommands, one file each.

pub mod create;
pub mod exec;
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
pub mod update;
pub mod wait;
