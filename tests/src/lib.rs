//! The payload of the integration suite, which is `tests/suite`.

/// `probe/main.rs`, compiled: a static program with a verb for each thing that
/// a test wants to see or do in a container.
pub static PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

/// `fixtures/bundles/NAME.json`: names and texts.
pub const BUNDLES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/bundles.rs"));
