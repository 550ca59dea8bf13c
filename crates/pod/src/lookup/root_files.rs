//! The files of a container's root before there is any: those of a directory,
//! or of layers, one over another.
//!
//! An overlay that nothing sees could be asked instead, but only who may mount
//! can make one, and an ordinary user may not before the container's user
//! namespace is there. So its rules are followed here, for single paths:
//!
//! ```text
//!   place      of each layer, the directory that is there, the topmost first:
//!   one part     it has none of that name              the next one's counts
//!                a file or a link                      that, if none above has a directory
//!                a directory                           with those below, unless it is opaque
//!                a whiteout                            none from here on
//! ```
//!
//! A path is walked part by part, its links by what they say, so that a link of
//! one layer to a directory of another leads where it does in the container.
//! Only single names are opened, none through a link: nothing leads out.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstat};

use crate::error::{Context, Result};
use crate::kernel::{mount_api, probe};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// See the module.
#[derive(Debug)]
pub(crate) enum RootFiles {
    /// Of a directory, with what is mounted below it.
    Dir(OwnedFd),
    /// Of layers, the topmost first.
    Layers {
        /// Their directories.
        layers: Vec<OwnedFd>,
        /// The overlay is made in another user namespace than the initial one:
        /// overlayfs' extended attributes are `user.*`, else `trusted.*`.
        in_users: bool,
    },
}

/// What is found by a path.
#[derive(Debug)]
enum Found {
    /// A directory: those of the layers that come together in it.
    Dirs(Vec<OwnedFd>),
    /// Anything else.
    Other(OwnedFd),
}

impl RootFiles {
    /// Of the directory at `path`.
    pub(crate) fn of_dir(path: &Path) -> Result<RootFiles> {
        open_dir(path).map(RootFiles::Dir)
    }

    /// Of these layers, the topmost first.
    pub(crate) fn of_layers<'a>(paths: impl Iterator<Item = &'a Path>, in_users: bool) -> Result<RootFiles> {
        Ok(RootFiles::Layers { layers: paths.map(open_dir).collect::<Result<_>>()?, in_users })
    }

    /// A directory to walk through; of layers an overlay that nothing else sees,
    /// which takes Linux 6.5 and who may mount.
    pub(crate) fn into_tree(self) -> Result<OwnedFd> {
        match self {
            RootFiles::Dir(root) => Ok(root),
            RootFiles::Layers { layers, in_users } => {
                mount_api::overlay(&layers, in_users).doing(|| "making an overlay of the container's layers".into())
            }
        }
    }

    /// Opens what is at `path` as a mere path (`O_PATH`), never leaving the root.
    /// Where `openat2(2)` is denied symbolic links are refused in a directory.
    pub(crate) fn open(&self, path: &Path) -> nix::Result<OwnedFd> {
        match self {
            RootFiles::Dir(root) => probe::open_in_root(root.as_fd(), path, OFlag::O_PATH),
            RootFiles::Layers { .. } => match self.find(path, true)? {
                Found::Dirs(dirs) => dirs.into_iter().next().ok_or(Errno::ENOENT),
                Found::Other(file) => Ok(file),
            },
        }
    }

    /// What the link at `path` says; `None` if there is none, or something else.
    /// A path below other links is not found.
    pub(crate) fn read_link(&self, path: &Path) -> Option<PathBuf> {
        match self {
            RootFiles::Dir(root) => readlinkat(root, path).ok().map(PathBuf::from),
            RootFiles::Layers { .. } => match self.find(path, false).ok()? {
                Found::Other(file) => readlinkat(&file, "").ok().map(PathBuf::from),
                Found::Dirs(_) => None,
            },
        }
    }

    /// Whether there is anything at `path`, a link included.
    pub(crate) fn has(&self, path: &Path) -> bool {
        match self {
            _ if path == Path::new("") => true,
            RootFiles::Dir(root) => openat(root, path, NO_LINK, Mode::empty()).is_ok(),
            RootFiles::Layers { .. } => self.find(path, false).is_ok(),
        }
    }

    /// Walks `path` in the layers. Whether a link at its end is followed is up to
    /// `follow`; all others are.
    fn find(&self, path: &Path, follow: bool) -> nix::Result<Found> {
        let RootFiles::Layers { layers, .. } = self else { return Err(Errno::EINVAL) };
        // The directories from the root to where we are.
        let mut places: Vec<Vec<OwnedFd>> = Vec::new();
        let mut left: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                places.pop();
                continue;
            }
            match self.enter(places.last().unwrap_or(layers), &part)?.ok_or(Errno::ENOENT)? {
                Found::Dirs(dirs) => places.push(dirs),
                Found::Other(file) => {
                    let is_link = File::from(file.try_clone().map_err(errno)?).metadata().map_err(errno)?.is_symlink();
                    if !is_link || (left.is_empty() && !follow) {
                        return if left.is_empty() { Ok(Found::Other(file)) } else { Err(Errno::ENOTDIR) };
                    }
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    let link = PathBuf::from(readlinkat(&file, "")?);
                    if link.is_absolute() {
                        places.clear();
                    }
                    left.extend(parts(&link));
                }
            }
        }
        let dirs = places.last().unwrap_or(layers).iter().map(OwnedFd::try_clone);
        Ok(Found::Dirs(dirs.collect::<std::io::Result<_>>().map_err(errno)?))
    }

    /// What layers have under a name in directories that come together.
    fn enter(&self, dirs: &[OwnedFd], name: &OsStr) -> nix::Result<Option<Found>> {
        let mut found = Vec::new();
        for dir in dirs {
            let file = match below(dir, name) {
                Err(Errno::ENOENT) => continue,
                file => File::from(file?),
            };
            let meta = file.metadata().map_err(errno)?;
            let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0
                || meta.is_file() && meta.len() == 0 && self.mark(&file, "whiteout")?.is_some();
            if is_whiteout {
                break;
            }
            if !meta.is_dir() {
                if found.is_empty() {
                    return Ok(Some(Found::Other(file.into())));
                }
                break;
            }
            let is_opaque = self.mark(&file, "opaque")?.is_some_and(|value| value == b"y");
            found.push(OwnedFd::from(file));
            if is_opaque {
                break;
            }
        }
        Ok((!found.is_empty()).then_some(Found::Dirs(found)))
    }

    /// One of overlayfs' extended attributes.
    fn mark(&self, file: &File, name: &str) -> nix::Result<Option<Vec<u8>>> {
        let RootFiles::Layers { in_users, .. } = self else { return Ok(None) };
        let prefix = if *in_users { "user" } else { "trusted" };
        mount_api::attribute(file.as_fd(), &format!("{prefix}.overlay.{name}"))
    }
}

const NO_LINK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What a layer has in a directory, and not what is mounted there: the overlay
/// does not show that.
fn below(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(NO_LINK).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    match openat2(dir, name, how) {
        // What is beneath a mount cannot be reached: the image does not say it.
        Err(Errno::EXDEV) => Err(Errno::ENOENT),
        // For kernels and sandboxes without openat2(2).
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let file = openat(dir, name, NO_LINK, Mode::empty())?;
            let is_here = fstat(&file)?.st_dev == fstat(dir)?.st_dev;
            if is_here { Ok(file) } else { Err(Errno::ENOENT) }
        }
        opened => opened,
    }
}

/// The root of an image, to look things up in.
pub(crate) fn open_dir(root: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(root, flags, Mode::empty()).doing(|| format!("opening the root file system {}", root.display()))
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}
