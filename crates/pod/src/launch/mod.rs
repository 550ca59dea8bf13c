//! From a plan to a process.

mod aside;
pub(crate) mod copier;
pub(crate) mod placeholder;
pub(crate) mod run_plan;
pub mod stdio;
pub(crate) mod supervisor;
pub mod terminal;
