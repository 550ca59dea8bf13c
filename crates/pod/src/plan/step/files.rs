//! Steps on files and descriptors.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{AT, Arg, CWD, NULL, OPEN, Slot, Step, StepKind, arg_text, empty, text};

/// How [`openat2`] opens.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u64,
    /// Of a file that is made, else 0.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// `openat2(2)` of an absolute path, or one from the current directory.
pub fn openat2_from_cwd(path: impl AsRef<Path>, flags: i32, resolve: u64) -> Step {
    let mut step = openat2(Slot(0), path, flags, 0, resolve);
    step.args[0] = CWD;
    step
}

/// `openat2(2)`.
pub fn openat2(dir: Slot, path: impl AsRef<Path>, flags: i32, mode: u32, resolve: u64) -> Step {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: mode.into(), resolve };
    let kind = StepKind::Openat2 { directory: flags & libc::O_DIRECTORY != 0 };
    Step::new(kind, libc::SYS_openat2, vec![Arg::Slot(dir), arg_text(path), Arg::OpenHow(how), Arg::Num(24)])
}

/// `openat(2)`; always with `O_CLOEXEC`.
pub fn openat(dir: Arg, path: impl AsRef<Path>, flags: i32) -> Step {
    let flags = Arg::Flags((flags | libc::O_CLOEXEC) as u64, OPEN);
    Step::new(StepKind::Openat, libc::SYS_openat, vec![dir, arg_text(path), flags])
}

/// `write(2)` of all of `content`.
pub fn write(file: Slot, content: &[u8]) -> Step {
    let shown = format!("{:?}", String::from_utf8_lossy(content));
    let args = vec![Arg::Slot(file), Arg::Blob(content.to_vec(), shown), Arg::Num(content.len() as u64)];
    Step { min: content.len() as u16, ..Step::new(StepKind::Write, libc::SYS_write, args) }
}

/// `mkdirat(2)`.
pub fn mkdirat(dir: Slot, path: impl AsRef<Path>, mode: u32) -> Step {
    Step::new(StepKind::Mkdirat, libc::SYS_mkdirat, vec![Arg::Slot(dir), arg_text(path), Arg::Mode(mode)])
}

/// `mknodat(2)`.
pub fn mknodat(dir: Slot, path: impl AsRef<Path>, mode: u32, device: u64) -> Step {
    let args = vec![Arg::Slot(dir), arg_text(path), Arg::Mode(mode), Arg::Device(device)];
    Step::new(StepKind::Mknodat, libc::SYS_mknodat, args)
}

/// `fchownat(2)`, of a link itself.
pub fn fchownat(dir: Slot, path: impl AsRef<Path>, uid: u32, gid: u32) -> Step {
    let flags = Arg::Flags(libc::AT_SYMLINK_NOFOLLOW as u64, AT);
    let args = vec![Arg::Slot(dir), arg_text(path), Arg::Num(uid.into()), Arg::Num(gid.into()), flags];
    Step::new(StepKind::Fchownat, libc::SYS_fchownat, args)
}

/// `symlinkat(2)`.
pub fn symlinkat(target: &str, dir: Slot, path: &str) -> Step {
    Step::new(StepKind::Symlinkat, libc::SYS_symlinkat, vec![arg_text(target), Arg::Slot(dir), arg_text(path)])
}

/// `fchdir(2)`.
pub fn fchdir(dir: Slot) -> Step {
    Step::new(StepKind::Fchdir, libc::SYS_fchdir, vec![Arg::Slot(dir)])
}

/// `chdir(2)`.
pub fn chdir(path: &str) -> Step {
    Step::new(StepKind::Chdir, libc::SYS_chdir, vec![arg_text(path)])
}

/// `dup3(2)` onto a descriptor the process was born with, whose slot is its
/// number.
pub fn dup3(file: Slot, onto: Slot) -> Step {
    let args = vec![Arg::Slot(file), Arg::Num(onto.0.into()), Arg::Num(0)];
    Step::new(StepKind::Dup3, libc::SYS_dup3, args)
}

/// `fcntl(F_GETFD)` of what an earlier step left in a slot: EBADF if that failed,
/// for then it is an error number. A 0 is open: standard input.
pub fn worked(earlier: Slot) -> Step {
    Step::new(StepKind::Fcntl, libc::SYS_fcntl, vec![Arg::Slot(earlier), Arg::Word(libc::F_GETFD.into(), "F_GETFD")])
}

/// `readlinkat(2)` into nowhere: ENOENT of what is no symbolic link, EFAULT of
/// one, which is a failure.
pub fn refuse_link(file: Slot) -> Step {
    let args = vec![Arg::Slot(file), empty(), NULL, Arg::Num(1)];
    Step::new(StepKind::Readlinkat, libc::SYS_readlinkat, args).tolerate(&[libc::ENOENT, libc::EINVAL])
}

/// `umask(2)`.
pub fn umask(mask: u32) -> Step {
    Step::new(StepKind::Umask, libc::SYS_umask, vec![Arg::Mode(mask)])
}

/// `close_range(2)` from `first` on.
pub fn close_from(first: Slot) -> Step {
    let last = Arg::Word(i64::from(u32::MAX), "~0");
    Step::new(StepKind::CloseRange, libc::SYS_close_range, vec![Arg::Num(first.0.into()), last, Arg::Num(0)])
}

/// `close_range(2)` from `first` on, at the next `execve`.
pub fn close_from_at_exec(first: Slot) -> Step {
    let last = Arg::Word(i64::from(u32::MAX), "~0");
    let flag = Arg::Word(libc::CLOSE_RANGE_CLOEXEC.into(), "CLOSE_RANGE_CLOEXEC");
    Step::new(StepKind::CloseRange, libc::SYS_close_range, vec![Arg::Num(first.0.into()), last, flag])
}

/// `close_range(2)` of descriptors the process was born with, whose slots are
/// their numbers.
pub fn close_range(first: Slot, last: Slot) -> Step {
    let args = vec![Arg::Num(first.0.into()), Arg::Num(last.0.into()), Arg::Num(0)];
    Step::new(StepKind::CloseRange, libc::SYS_close_range, args)
}

/// `faccessat2(2)`: whether this process may execute a file, with the
/// capabilities it has until then.
pub fn may_execute(path: CString) -> Step {
    let (mode, flags) = (Arg::Word(libc::X_OK.into(), "X_OK"), Arg::Word(libc::AT_EACCESS.into(), "AT_EACCESS"));
    Step::new(StepKind::Faccessat2, libc::SYS_faccessat2, vec![CWD, Arg::Text(path), mode, flags])
}

/// `faccessat2(2)`, which finds something only in a directory: otherwise
/// ENOTDIR.
pub fn is_directory(path: &CStr) -> Step {
    let inside = text(Path::new(OsStr::from_bytes(path.to_bytes())).join("."));
    let (mode, flags) = (Arg::Word(libc::F_OK.into(), "F_OK"), Arg::Num(0));
    Step::new(StepKind::Faccessat2, libc::SYS_faccessat2, vec![CWD, Arg::Text(inside), mode, flags])
}

/// `faccessat2(2)` with a mode that there is not: always EINVAL, for what
/// cannot be executed although the permissions say so.
pub fn refuse_program(path: CString) -> Step {
    let (mode, flags) = (Arg::Word(8, "not a mode: it is a directory"), Arg::Num(0));
    Step::new(StepKind::Faccessat2, libc::SYS_faccessat2, vec![CWD, Arg::Text(path), mode, flags])
}

/// `close(2)`.
pub fn close(file: Slot) -> Step {
    Step::new(StepKind::Close, libc::SYS_close, vec![Arg::Slot(file)])
}

/// `dup3(2)` onto descriptor `number`, kept at `execve`.
pub fn dup_to(file: Slot, number: u64) -> Step {
    Step::new(StepKind::Dup3, libc::SYS_dup3, vec![Arg::Slot(file), Arg::Num(number), Arg::Num(0)])
}

/// `fcntl(F_DUPFD_CLOEXEC)`: the same at descriptor `least` or above.
pub fn dup_above(file: Slot, least: u64) -> Step {
    let command = Arg::Word(libc::F_DUPFD_CLOEXEC.into(), "F_DUPFD_CLOEXEC");
    Step::new(StepKind::Fcntl, libc::SYS_fcntl, vec![Arg::Slot(file), command, Arg::Num(least)])
}

/// `fchown(2)` to a user; the group stays.
pub fn fchown(file: Slot, uid: u32) -> Step {
    Step::new(StepKind::Fchown, libc::SYS_fchown, vec![Arg::Slot(file), Arg::Num(uid.into()), Arg::Word(-1, "-1")])
}
