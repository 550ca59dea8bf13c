//! Names, strings and paths that a system call can take.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crate::error::{Error, Result};

/// Names become file names, cgroup names and part of process titles.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty()
        || name.len() > 63
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(good)
    {
        let reason = "1 to 63 of A-Z a-z 0-9 _ . -, the first a letter or digit";
        return Err(Error::invalid(format!("{what} name"), name, reason));
    }
    Ok(())
}

pub(crate) fn check_string(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::invalid(field, value, "contains a null byte, which no system call can take"));
    }
    Ok(())
}

/// A program and its arguments.
pub(crate) fn check_args(args: &[String]) -> Result<()> {
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("args", "", "the command is empty: say what to run"));
    }
    args.iter().try_for_each(|arg| check_string("args", arg))
}

/// An environment variable: its name and its value.
pub(crate) fn check_variable(variable: &str) -> Result<(&str, &str)> {
    check_string("env", variable)?;
    let parts = variable.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.ok_or_else(|| Error::invalid("env", variable, "give NAME=value"))
}

/// An absolute path without `..`: what it means must not depend on the image.
pub(crate) fn check_path(field: &str, path: &Path) -> Result<()> {
    let shown = path.to_string_lossy();
    check_string(field, &shown)?;
    if path.to_str().is_none() {
        return Err(Error::invalid(field, shown, "not UTF-8"));
    }
    if !path.is_absolute() {
        return Err(Error::invalid(field, shown, "give an absolute path, as the container sees it"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid(field, shown, "give the path without `..`"));
    }
    Ok(())
}

/// The most bytes that annotations, and labels, can have together: as many as
/// Kubernetes allows (`TotalAnnotationSizeLimitB`).
const MOST_NOTES: usize = 256 << 10;

/// Labels and annotations: any text, in a name without what tells it from its
/// value.
pub(super) fn check_notes(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Result<()> {
    for (field, notes) in [("label", labels), ("annotation", annotations)] {
        for (name, value) in notes {
            let is_odd = |c: char| c == '=' || c.is_whitespace() || c.is_control();
            // A config.json's annotations may have any name but an empty one
            // (config.md, Annotations).
            if name.is_empty() || field == "label" && name.contains(is_odd) {
                return Err(Error::invalid(field, name, "give NAME=VALUE, the name without spaces and `=`"));
            }
            check_string(field, value)?;
        }
        let size: usize = notes.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > MOST_NOTES {
            return Err(Error::invalid(field, format!("{size} bytes"), format!("at most {MOST_NOTES} bytes together")));
        }
    }
    Ok(())
}
