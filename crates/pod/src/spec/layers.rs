//! A root file system of layers: overlayfs of the kernel
//! (Documentation/filesystems/overlayfs.rst).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::check_directory;
use super::text::check_string;
use crate::error::{Error, Result};

/// As many layers as overlayfs takes.
const MOST: usize = 500;

/// Directories, one over another, and one for what the container changes.
///
/// What a layer marks as deleted (a character device 0:0, or an empty file with
/// the extended attribute `overlay.whiteout`) is not seen of those below, nor
/// what they have in a directory that a layer marks as `overlay.opaque`. These
/// attributes are `trusted.*` where the machine's root starts the container,
/// else `user.*`. Nothing is hidden by such a mark on a layer's own root: leave
/// out the layers below it. Layers in which a directory was moved by reference
/// (`overlay.redirect`) or a file copied in part (`overlay.metacopy`) are not
/// followed: the kernel denies what is marked so.
///
/// Only the directories' own file systems are seen, not what is mounted below
/// them. While the container runs nobody should change them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// What is only read, the topmost first, as in overlayfs' `lowerdir`; the
    /// other way round than an OCI image lists its layers. Absolute paths, 1 to
    /// 500, none given twice or in another.
    pub lower: Vec<PathBuf>,
    /// Where the container's changes go. `None`: to a directory of its own, which
    /// a restart keeps and [`Container::remove`](crate::Container::remove)
    /// removes.
    pub upper: Option<UpperDir>,
}

/// A directory of the caller's for what a container changes. podlet makes nothing
/// in its place, and keeps it.
///
/// No other container of the same store may use it at the same time: that is
/// refused. The kernel itself only warns in its log, so of others (another state
/// directory, another engine) the caller has to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpperDir {
    /// The uppermost layer. Its mode and owner are those of the container's `/`.
    pub upper: PathBuf,
    /// overlayfs' own: an empty directory on the same mount, which belongs to
    /// this one upper directory.
    pub work: PathBuf,
}

impl Layers {
    /// Of these directories, the topmost first, with the changes in a directory
    /// of the container's own.
    pub fn new<P: Into<PathBuf>>(lower: impl IntoIterator<Item = P>) -> Layers {
        Layers { lower: lower.into_iter().map(Into::into).collect(), upper: None }
    }

    /// With the changes in a directory of the caller's.
    pub fn upper(self, upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Layers {
        Layers { upper: Some(UpperDir { upper: upper.into(), work: work.into() }), ..self }
    }

    /// What the kernel would refuse without saying which directory it is.
    pub(super) fn check(&self) -> Result<()> {
        if self.lower.is_empty() || self.lower.len() > MOST {
            let reason = format!("give 1 to {MOST} directories, the topmost first");
            return Err(Error::invalid("root.layers.lower", format!("{} directories", self.lower.len()), reason));
        }
        let mut lower = Vec::with_capacity(self.lower.len());
        for (i, dir) in self.lower.iter().enumerate() {
            lower.push(Place::of(format!("root.layers.lower[{i}]"), dir)?);
        }
        // So that what lies in another comes right behind it, or behind another
        // that does.
        lower.sort_by(|one, other| (one.device, &one.real).cmp(&(other.device, &other.real)));
        let mut pairs = lower.iter().zip(lower.iter().skip(1));
        if let Some((outer, inner)) = pairs.find(|(outer, inner)| inner.is_in(outer)) {
            return Err(inner.refuse(&match inner.real == outer.real {
                true => format!("{} is the same directory: give each once, where it is topmost", outer.field),
                false => format!("it lies in {}: a layer has a directory of its own", outer.field),
            }));
        }
        let Some(UpperDir { upper, work }) = &self.upper else { return Ok(()) };
        let upper = Place::of("root.layers.upper".into(), upper)?;
        let work = Place::of("root.layers.work".into(), work)?;
        if let Some(inner) = lower.iter().find(|inner| inner.is_in(&upper) || inner.is_in(&work)) {
            return Err(inner.refuse("it lies in the upper or the work directory, which are written"));
        }
        if work.is_in(&upper) || upper.is_in(&work) {
            return Err(work.refuse("neither it nor the upper directory may lie in the other: put them side by side"));
        }
        if work.device != upper.device {
            return Err(work.refuse("it has to be on the file system of the upper directory: put them side by side"));
        }
        Ok(())
    }
}

/// A directory that is there.
struct Place {
    field: String,
    given: PathBuf,
    /// Without links.
    real: PathBuf,
    device: u64,
}

impl Place {
    fn of(field: String, dir: &Path) -> Result<Place> {
        check_string(&field, &dir.to_string_lossy())?;
        let device = check_directory(&field, dir)?.dev();
        let real = dir.canonicalize().map_err(|error| {
            Error::invalid(&field, dir.to_string_lossy(), "cannot be resolved to a path without links").because(error)
        })?;
        Ok(Place { field, given: dir.into(), real, device })
    }

    /// Whether it is the other, or below it on the same file system.
    fn is_in(&self, other: &Place) -> bool {
        self.device == other.device && self.real.starts_with(&other.real)
    }

    fn refuse(&self, reason: &str) -> Error {
        Error::invalid(&self.field, self.given.to_string_lossy(), reason)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn layers_that_overlayfs_would_refuse_are_refused_by_name() {
        let temp = tempfile::tempdir().expect("a directory");
        let at = |name: &str| temp.path().join(name);
        for dir in ["a", "a/in", "b", "upper", "upper/in", "work"] {
            std::fs::create_dir(at(dir)).expect("a directory");
        }
        symlink("a", at("link")).expect("a link");
        std::fs::write(at("file"), "").expect("a file");
        let lower = |names: &[&str]| Layers::new(names.iter().map(|name| at(name)));
        let refused = |layers: Layers, word: &str| match layers.check() {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, word),
            other => panic!("{word}: {other:?}"),
        };
        lower(&["a", "b"]).upper(at("upper"), at("work")).check().expect("as it should be");
        // What is written may lie in a layer: what it hides is not reached.
        lower(&["a"]).upper(at("a/in"), at("work")).check().expect("the kernel takes it");
        refused(lower(&[]), "root.layers.lower");
        refused(Layers::new(vec![at("a"); MOST + 1]), "root.layers.lower");
        refused(Layers::new(["relative"]), "root.layers.lower[0]");
        refused(lower(&["a", "missing"]), "root.layers.lower[1]");
        refused(lower(&["a", "file"]), "root.layers.lower[1]");
        refused(lower(&["a", "b", "link"]), "root.layers.lower[2]");
        refused(lower(&["a/in", "b", "a"]), "root.layers.lower[0]");
        refused(lower(&["b", "a", "a/in"]), "root.layers.lower[2]");
        refused(lower(&["a"]).upper(at("missing"), at("work")), "root.layers.upper");
        refused(lower(&["a"]).upper(at("upper"), at("file")), "root.layers.work");
        refused(lower(&["a", "upper"]).upper(at("upper"), at("work")), "root.layers.lower[1]");
        refused(lower(&["upper/in"]).upper(at("upper"), at("work")), "root.layers.lower[0]");
        refused(lower(&["a"]).upper(at("upper"), at("upper")), "root.layers.work");
        refused(lower(&["a"]).upper(at("upper"), at("upper/in")), "root.layers.work");
        refused(lower(&["a"]).upper(at("upper"), "/proc"), "root.layers.work");
    }
}
