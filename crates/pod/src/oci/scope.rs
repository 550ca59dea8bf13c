//! The scope of a container without a pod: what `linux.cgroupsPath` says where
//! systemd makes cgroups.

use std::path::Path;

use crate::cgroup::systemd::{Planned, UnitName};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernel::facts::Facts;
use crate::resources::Resources;

/// The scope that a container of this id gets.
///
/// # Errors
/// As [`Planned::new`]; [`Error::Invalid`] for a path of another form.
pub(super) fn find(facts: &Facts, config: &Config, resources: &Resources, id: &str) -> Result<Planned> {
    Planned::new(facts, name(config.cgroups_path.as_deref(), id)?, config.annotations.iter(), resources)
}

/// `slice:prefix:name`, as runc and crun have it.
fn name(path: Option<&Path>, id: &str) -> Result<UnitName> {
    let Some(path) = path else {
        let said = ("container id", id.to_string());
        return Ok(UnitName { unit: format!("podlet-oci-{}.scope", escape(id)), slice: None, said });
    };
    let path = path.to_string_lossy();
    let invalid = |reason: &str| Err(Error::invalid("linux.cgroupsPath", path.as_ref(), reason));
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..] else {
        return invalid("where systemd makes cgroups it is slice:prefix:name, such as system.slice:app:web");
    };
    if name.is_empty() {
        return invalid("the name behind the second colon is missing");
    }
    if name.ends_with(".slice") {
        // systemd refuses `PIDs=` of a slice, so with runc, too, this comes to nothing.
        return invalid("a container is in a scope, and a slice has no processes: give a name without .slice");
    }
    let slice = Some(slice.to_string()).filter(|slice| !slice.is_empty());
    let said = ("linux.cgroupsPath", path.to_string());
    Ok(UnitName { unit: format!("{prefix}-{name}.scope"), slice, said })
}

/// Of an id's characters a unit's name may have all but this.
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_slice_prefix_and_name() {
        let named = |path: Option<&str>| {
            let name = name(path.map(Path::new), "a+b").expect("a name");
            (name.slice.unwrap_or_default(), name.unit)
        };
        let both = |slice: &str, unit: &str| (slice.to_string(), unit.to_string());
        assert_eq!(named(None), both("", "podlet-oci-a\\x2bb.scope"));
        assert_eq!(named(Some("machine.slice:libpod:1a2b")), both("machine.slice", "libpod-1a2b.scope"));
        assert_eq!(named(Some(":docker:x")), both("", "docker-x.scope"));
        assert_eq!(named(Some("a-b.slice::x")), both("a-b.slice", "-x.scope"));
        for bad in ["/a/b", "a", "a:b", "a:b:c:d", "a.slice:b:", "a.slice:b:c.slice"] {
            let error = name(Some(Path::new(bad)), "x").expect_err(bad).to_string();
            assert!(error.contains("linux.cgroupsPath") && error.contains(bad), "{error}");
        }
    }
}
