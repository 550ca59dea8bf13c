//! What an error of the library was caused by.

use std::error::Error as _;
use std::path::Path;

use pod::config::parse;
use pod::{Error, Resources, seccomp};

/// Malformed input is told in the words of what reads it, which is the source.
#[test]
fn what_reads_json_gives_its_error() {
    let is_json = |error: &Error| error.source().is_some_and(|source| source.is::<serde_json::Error>());
    let config = parse("c", Path::new("/"), b"{").expect_err("no JSON");
    let typed =
        br#"{"ociVersion":"1.0.0","root":{"path":"r"},"process":{"args":["x"],"user":{"uid":0,"gid":0},"cwd":7}}"#;
    let typed = parse("c", Path::new("/"), typed).expect_err("a number");
    assert!(matches!(&typed, Error::Invalid { field, .. } if field == "process.cwd"), "{typed:?}");
    let profile = seccomp::parse(b"[").expect_err("no profile");
    let limits = serde_json::json!({ "memory": { "limit": "much" } });
    let limits = Resources::from_json(&limits).expect_err("no number");
    assert!(matches!(&limits, Error::Invalid { field, .. } if field == "linux.resources.memory.limit"), "{limits:?}");
    for error in [config, typed, profile, limits] {
        assert!(is_json(&error), "{error:?}");
    }
}
