//! A config.json that is not quite good is refused with a field and a reason,
//! or becomes a plan. It never panics.

#[path = "../../../tests/src/mutations.rs"]
mod mutations;

use std::path::Path;

use pod::config::{MOST, parse};
use pod::{Error, Io, Pod, PodOptions, Store};

/// Parses, takes in, plans: everything that happens before something is made.
fn plan(store: &Store, bundle: &Path, bytes: &[u8]) -> Result<(), Error> {
    let (mut container, hints) = parse("c", bundle, bytes)?.for_pod()?;
    let mut options = PodOptions::new("p").share(hints.share);
    (options.uid_maps, options.gid_maps, options.time_offsets) = (hints.uid_maps, hints.gid_maps, hints.time_offsets);
    options.adopt(&mut container)?;
    options.check()?;
    let (hold, launch) = Pod::plan(store, &options, &container, &Io::null().into())?;
    hold.encode()?;
    launch.encode()?;
    Ok(())
}

#[test]
fn two_hundred_mutations_are_refused_or_planned() {
    let bundle = tempfile::tempdir().expect("a directory");
    for dir in ["state", "rootfs", "rootfs/srv", "rootfs/etc"] {
        std::fs::create_dir(bundle.path().join(dir)).expect("a directory");
    }
    std::fs::write(bundle.path().join("rootfs/probe"), "").expect("a file");
    let store = Store::open(bundle.path().join("state")).expect("a store");
    let good = mutations::good("/probe");
    plan(&store, bundle.path(), good.to_string().as_bytes()).expect("the good one");
    let (mut planned, mut refused) = (0, 0);
    for (what, bytes) in mutations::of(&good) {
        // The limit is read's, which sees the file.
        if bytes.len() as u64 > MOST {
            continue;
        }
        match plan(&store, bundle.path(), &bytes) {
            Ok(()) => planned += 1,
            Err(Error::Invalid { field, reason, .. }) => {
                assert!(!field.is_empty() && !reason.is_empty(), "{what}: {field:?} {reason:?}");
                refused += 1;
            }
            Err(other) => panic!("{what}: not said by field: {other}"),
        }
    }
    assert!(planned + refused >= 200 && refused >= 150 && planned >= 10, "{planned} planned, {refused} refused");
    let left = std::fs::read_dir(bundle.path().join("state")).expect("the store").count();
    assert_eq!(left, 0, "parsing and planning make nothing");
}
