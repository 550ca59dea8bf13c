//! Names of units (systemd.unit(5)).

use std::path::PathBuf;

use crate::{Error, Result};

/// systemd's `UNIT_NAME_MAX`, with the null byte.
const MOST: usize = 255;

/// Where a slice's cgroup is, below that of the manager: `a-b.slice` is in
/// `a.slice/a-b.slice`, and `-.slice` is the manager's own (systemd.slice(5)).
///
/// # Errors
/// [`Error::Invalid`] for what is no name of a slice.
///
/// ```
/// assert_eq!(podlet_systemd::slice_path("a-b.slice").unwrap().to_str(), Some("a.slice/a-b.slice"));
/// ```
pub fn slice_path(slice: &str) -> Result<PathBuf> {
    check_unit(slice)?;
    let invalid = |reason: &str| Err(Error::Invalid { value: slice.into(), reason: reason.into() });
    let Some(name) = slice.strip_suffix(".slice") else {
        return invalid("a slice's name ends in .slice, such as machine.slice");
    };
    if name == "-" {
        return Ok(PathBuf::new());
    }
    if name.split('-').any(str::is_empty) {
        return invalid("each dash in a slice's name parts it from the slice above, so no part may be empty");
    }
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

/// Whether systemd would take it for the name of a unit.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_unit(name: &str) -> Result<()> {
    let invalid = |reason: String| Err(Error::Invalid { value: name.into(), reason });
    if name.len() > MOST {
        return invalid(format!("the name of a unit has at most {MOST} characters, and this has {}", name.len()));
    }
    match name.chars().find(|c| !is_good(*c)) {
        Some(bad) => invalid(format!("the name of a unit is of A-Z a-z 0-9 : _ . \\ - and has no {bad:?}")),
        None => Ok(()),
    }
}

fn is_good(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":_.\\-".contains(c)
}

/// A text as a part of a unit's name: `a+b` is `a\x2bb`, as systemd-escape(1) has
/// it, but for dashes, which mean nothing in the name of a scope.
pub fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        byte if byte != b'\\' && is_good(char::from(byte)) => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_in_those_that_its_name_begins_with() {
        let path = |slice: &str| slice_path(slice).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(path("machine.slice").expect("a path"), "machine.slice");
        assert_eq!(path("a-b-c.slice").expect("a path"), "a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(path("-.slice").expect("a path"), "");
        for bad in ["a", ".slice", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "a.scope", "ä.slice", "a b.slice"]
        {
            let error = path(bad).expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn names_of_units_have_an_end() {
        assert!(check_unit(&format!("{}.scope", "a".repeat(249))).is_ok());
        assert!(check_unit(&format!("{}.scope", "a".repeat(250))).is_err());
    }

    #[test]
    fn what_no_unit_may_have_in_its_name_is_escaped() {
        assert_eq!(escape("web-1_a.b"), "web-1_a.b");
        assert_eq!(escape("a+b\\c"), "a\\x2bb\\x5cc");
        assert!(check_unit(&escape("a+b ä")).is_ok());
    }
}
