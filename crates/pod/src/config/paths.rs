//! Paths of a config, as text.

use std::path::{Component, Path, PathBuf};

/// An absolute path inside, without `..`: each takes away the name before it,
/// whatever that is in the image, as runc has it.
pub(super) fn without_parents(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// Without `.` and empty parts; symbolic links are left to the kernel.
pub(super) fn normal(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
