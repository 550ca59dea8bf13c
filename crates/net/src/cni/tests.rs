//! Tests by plugins that are shell scripts, and by the reference plugins where
//! they are installed. Each rule of `docs/cni.md` has one, named after what it
//! prevents.

mod executing;
mod fake;
mod network_rules;
mod pure;
mod real;
mod rules;
