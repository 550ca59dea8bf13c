//! From a plan to a process.

pub(crate) mod run_plan;
pub mod stdio;
