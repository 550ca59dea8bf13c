//! Making detached mounts, and extended attributes.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::syscalls::owned;

/// `fsopen(2)` of a tmpfs, configured and created: a detached mount with
/// `MOUNT_ATTR_*`.
pub(crate) fn tmpfs(options: &[(String, Option<String>)], attributes: u64) -> nix::Result<OwnedFd> {
    file_system(c"tmpfs", options, attributes)
}

/// Options of every overlay, whatever the machine's defaults are: directories moved
/// by reference and files copied in part are not followed. A layer says by
/// extended attributes where these are, and layers come from others.
pub(crate) const FOLLOWS_NOTHING: [(&str, &str); 2] = [("redirect_dir", "nofollow"), ("metacopy", "off")];

/// A detached overlay of these directories, the topmost first, which cannot be
/// written; with `user.*` attributes for one made in a user namespace. It takes
/// two of them, and Linux 6.5.
pub(crate) fn overlay(layers: &[OwnedFd], in_users: bool) -> nix::Result<OwnedFd> {
    // Their paths might be longer than what fsconfig(2) takes.
    let path = |layer: &OwnedFd| format!("/proc/self/fd/{}", layer.as_raw_fd());
    let mut options: Vec<_> = layers.iter().map(|layer| ("lowerdir+".into(), Some(path(layer)))).collect();
    options.extend(FOLLOWS_NOTHING.map(|(key, value)| (key.into(), Some(value.into()))));
    if in_users {
        options.push(("userxattr".into(), None));
    }
    file_system(c"overlay", &options, libc::MOUNT_ATTR_RDONLY)
}

fn file_system(kind: &CStr, options: &[(String, Option<String>)], attributes: u64) -> nix::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const SET_FLAG: libc::c_uint = 0;
    const SET_STRING: libc::c_uint = 1;
    const CREATE: libc::c_uint = 6;
    // SAFETY: the name is a C string.
    let fs = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    for (key, value) in options {
        let (key, value) = (text(key)?, value.as_deref().map(text).transpose()?);
        let (command, value) =
            value.as_ref().map_or((SET_FLAG, std::ptr::null()), |value| (SET_STRING, value.as_ptr()));
        configure(&fs, command, key.as_ptr(), value)?;
    }
    configure(&fs, CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: no memory arguments.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as libc::c_uint) })
}

fn configure(fs: &OwnedFd, command: libc::c_uint, key: *const i8, value: *const i8) -> nix::Result<()> {
    // SAFETY: the caller gives C strings that outlive the call, or null.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) }).map(drop)
}

/// A short extended attribute of what is open as a mere path; `None` where there
/// is none, or none that the caller may read. One that is too long comes out
/// empty.
pub(crate) fn attribute(file: BorrowedFd<'_>, name: &str) -> nix::Result<Option<Vec<u8>>> {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let mut value = vec![0u8; 256];
    // SAFETY: two C strings, and a buffer of the size that is said.
    let got = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(got) {
        // EACCES: `user.*` can be read by who can read the file.
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EACCES) => Ok(None),
        Err(Errno::ERANGE) => Ok(Some(Vec::new())),
        size => {
            value.truncate(size? as usize);
            Ok(Some(value))
        }
    }
}

/// A name in an open directory, as a path for calls that do not follow a final
/// symbolic link.
pub(crate) fn below(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

/// Copies the extended attributes of a file, not following links. What the
/// new file system does not take is left out.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> nix::Result<()> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let (from, to) = (path(from)?, path(to)?);
    let mut names = vec![0u8; 65536];
    // SAFETY: a C string, and a buffer of the size that is said.
    let size = unsafe { libc::llistxattr(from.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let size = match Errno::result(size) {
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        result => result? as usize,
    };
    let mut value = vec![0u8; 65536];
    for name in names[..size].split_inclusive(|&byte| byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    {
        // SAFETY: two C strings, and a buffer of the size that is said.
        let got = unsafe { libc::lgetxattr(from.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let size = Errno::result(got)? as usize;
        // SAFETY: two C strings, and a buffer that has been filled that far.
        match Errno::result(unsafe { libc::lsetxattr(to.as_ptr(), name.as_ptr(), value.as_ptr().cast(), size, 0) }) {
            Ok(_) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
