//! Which of the newer system calls work here, and what stands in for one.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Asks for each call with arguments that it refuses, if it is there.
/// Without privileges EPERM is what some of them answer anyway; only ENOSYS
/// tells then.
pub(crate) fn probe_calls(privileged: bool) -> Calls {
    let works = |number: libc::c_long, ambiguous: bool| {
        let empty = c"".as_ptr();
        // Flags of open_tree and mount_setattr that do not exist.
        const NONE: libc::c_ulong = 0x4000_0000;
        // SAFETY: the descriptors are none, the only pointers an empty string
        // and null, and the flags unknown: nothing is read or written.
        let result = unsafe { libc::syscall(number, -1, empty, NONE, 0, 0) };
        match Errno::result(result) {
            Err(Errno::ENOSYS) => false,
            Err(Errno::EPERM) => ambiguous && !privileged,
            _ => true,
        }
    };
    let mounts = [
        (libc::SYS_open_tree, false),
        (libc::SYS_move_mount, true),
        (libc::SYS_fsopen, true),
        (libc::SYS_fsconfig, true),
        (libc::SYS_fsmount, true),
        (libc::SYS_mount_setattr, false),
    ];
    Calls {
        openat2: works(libc::SYS_openat2, false),
        mounts: mounts.iter().all(|(number, ambiguous)| works(*number, *ambiguous)),
        layers: release() >= (6, 5),
    }
}

/// The kernel's version. Only who may make an overlay could see by trying whether
/// its layers can be given one by one.
pub(crate) fn release() -> (u32, u32) {
    let Ok(name) = nix::sys::utsname::uname() else { return (0, 0) };
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Opens a directory by a path in which nothing is a link.
pub(crate) fn open_without_links(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(nix::fcntl::AT_FDCWD, path, OpenHow::new().flags(flags).resolve(resolve))
}

/// Opens a path of an image as a mere path, never leaving it. Without
/// `openat2` symbolic links are refused.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let mut tries = 10_000;
    loop {
        match openat2(root, path, OpenHow::new().flags(flags).resolve(resolve)) {
            // Something was renamed or mounted while a link's `..` was followed.
            Err(Errno::EAGAIN) if tries > 0 => tries -= 1,
            Err(Errno::ENOSYS | Errno::EPERM) => return walk(root, path, flags),
            result => return result,
        }
    }
}

fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let Some((last, above)) = parts.split_last() else { return openat(root, ".", flags, Mode::empty()) };
    let mut dir: Option<OwnedFd> = None;
    let only = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for part in above {
        let from = dir.as_ref().map_or(root, AsFd::as_fd);
        dir = Some(openat(from, part.as_os_str(), only | OFlag::O_DIRECTORY, Mode::empty())?);
    }
    let from = dir.as_ref().map_or(root, AsFd::as_fd);
    let found = openat(from, last.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty())?;
    match SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFLNK => Err(Errno::ELOOP),
        _ => Ok(found),
    }
}

/// System calls that a sandbox may deny because it does not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// `openat2(2)`.
    pub openat2: bool,
    /// All of `open_tree(2)`, `move_mount(2)`, `fsopen(2)`, `fsconfig(2)`,
    /// `fsmount(2)` and `mount_setattr(2)`.
    pub mounts: bool,
    /// overlayfs takes its layers one by one (`lowerdir+`, Linux 6.5).
    pub layers: bool,
}

impl Calls {
    /// All of them, as on every kernel from 6.5 on outside of sandboxes.
    pub const ALL: Calls = Calls { openat2: true, mounts: true, layers: true };

    /// Whether the new mount calls work; else plans use the legacy mount API.
    pub fn new_mount_api(self) -> bool {
        self.openat2 && self.mounts
    }
}
