use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::*;

fn step(purpose: Option<&Purpose>, kind: StepKind, errno: Errno) -> Error {
    let (object, step) = ("container web/db".into(), format!("{kind}()"));
    Error::Step { object, purpose: purpose.cloned(), kind, step, errno: errno.into() }
}

/// The hint has the words, and stands behind the cause.
fn check(purpose: Option<&Purpose>, kind: StepKind, errno: Errno, words: &str) {
    let said = step(purpose, kind, errno).to_string();
    let (_, hint) = said.split_once(&format!("{}(): {} (", kind.name(), errno.desc())).unwrap_or_else(|| {
        panic!("{said}: no hint for {purpose:?} {kind:?} {errno:?}, which should be about {words:?}")
    });
    assert!(hint.contains(words) && hint.ends_with(')'), "{purpose:?} {kind:?} {errno:?}: {said}");
}

const SYSCTL: Purpose = Purpose::Sysctl { path: PathBuf::new() };
const FILE: StepKind = StepKind::Openat2 { directory: false };
const DIRECTORY: StepKind = StepKind::Openat2 { directory: true };

#[test]
fn what_a_step_is_for_has_hints() {
    use Errno::{EACCES, EINVAL, ENOENT, ENOSPC, ENOTDIR, ENOTTY, EPERM, ERANGE};
    use StepKind::{Ioctl, MountSetattr, Openat, Write};
    let id_map = Purpose::IdMap { root_to_root: true };
    let options = Purpose::MountOptions("/data".into());
    for (purpose, kind, errno, words) in [
        (&SYSCTL, FILE, ENOENT, "no such parameter"),
        (&SYSCTL, FILE, EACCES, "nobody but the machine's root"),
        (&SYSCTL, Openat, ENOENT, "no such parameter"),
        (&SYSCTL, Openat, EACCES, "no such parameter"),
        (&SYSCTL, Write, EINVAL, "does not take this value"),
        (&SYSCTL, Write, ERANGE, "does not take this value"),
        (&Purpose::JoinedRoot, Openat, ENOENT, "root.path has to be a directory"),
        (&Purpose::JoinedRoot, Openat, ENOTDIR, "root.path has to be a directory"),
        (&Purpose::OomScoreAdj, Write, EACCES, "lowering it below"),
        (&Purpose::OomScoreAdj, Write, EPERM, "lowering it below"),
        (&id_map, Write, EPERM, "CAP_SETFCAP"),
        (&Purpose::AppArmorProfile, Write, ENOENT, "no profile of that name"),
        (&options, MountSetattr { idmap: false }, EINVAL, "nothing is mounted there"),
        (&Purpose::Terminal, FILE, ENOENT, "a devpts of the container's own"),
        (&Purpose::Terminal, Openat, ENOTDIR, "a devpts of the container's own"),
        (&Purpose::Terminal, Ioctl, ENOTTY, "a devpts of the container's own"),
        (&Purpose::Terminal, FILE, ENOSPC, "kernel.pty.max"),
    ] {
        check(Some(purpose), kind, errno, words);
        // The purpose alone makes the difference.
        let other = step(Some(&Purpose::Dev), kind, errno).to_string();
        assert!(!other.contains(words), "{purpose:?} {kind:?} {errno:?}: {other}");
    }
    let plain = step(Some(&Purpose::IdMap { root_to_root: false }), StepKind::Write, Errno::EPERM).to_string();
    assert!(plain.ends_with("write(): Operation not permitted"), "{plain}");
}

#[test]
fn what_a_step_does_has_hints() {
    use Errno::{
        EACCES, EAGAIN, EBUSY, EDQUOT, EFAULT, EINVAL, ELOOP, ENODEV, ENOENT, ENOSPC, ENOTBLK, ENOTDIR, EPERM, EROFS,
    };
    use StepKind::*;
    let mount = Purpose::Mount("/data".into());
    for (kind, errno, words) in [
        (SchedSetattr, EPERM, "CAP_SYS_NICE"),
        (IoprioSet, EPERM, "CAP_SYS_NICE"),
        (SchedSetattr, EBUSY, "promised to others"),
        (SchedSetaffinity, EINVAL, "none of these processors"),
        (SetMempolicy, EINVAL, "none of these memory nodes"),
        (FILE, ELOOP, "a mount over it could leave the container"),
        (DIRECTORY, ENOTDIR, "it is not a directory in the container"),
        (FILE, ENOENT, "it does not exist in the container"),
        (Openat, ELOOP, "refused where openat2(2) is denied"),
        (Readlinkat, EFAULT, "refused where openat2(2) is denied"),
        (Openat, ENOTDIR, "it is not a directory, or a symbolic link"),
        (Mkdirat, EROFS, "the mount point is missing"),
        (Mkdirat, EACCES, "the mount point is missing"),
        (Mknodat, EPERM, "the mount point is missing"),
        (Unshare, EPERM, "creating namespaces is forbidden here"),
        (Clone3, EPERM, "creating namespaces is forbidden here"),
        (Unshare, ENOSPC, "too many namespaces"),
        (Clone3, ENOSPC, "too many namespaces"),
        (Clone3, EAGAIN, "too many processes"),
        (Keyctl, EDQUOT, "too many keyrings"),
        (MoveMount, EINVAL, "a directory can only be mounted on a directory"),
        (MoveMount, ENOTDIR, "a directory can only be mounted on a directory"),
        (Mount(MountCall::Rearrange), ENOTDIR, "a directory can only be mounted on a directory"),
        (Mount(MountCall::FileSystem), ENODEV, "does not have that file system"),
        (Fsconfig, ENODEV, "does not have that file system"),
        (Fsopen, ENODEV, "does not have that file system"),
        (Mount(MountCall::FileSystem), EINVAL, "an option that this file system does not know"),
        (Fsconfig, EINVAL, "an option that this file system does not know"),
        (Mount(MountCall::FileSystem), ENOTBLK, "not a block device"),
        (Mount(MountCall::Remount), EPERM, "cannot be loosened"),
        (Mount(MountCall::ProcOrSysfs), EPERM, "not covered in parts"),
        (MountSetattr { idmap: true }, EINVAL, "cannot map the ids of that file system"),
        (MountSetattr { idmap: true }, EPERM, "belongs to another user namespace"),
        (MountSetattr { idmap: false }, EPERM, "cannot be loosened"),
        (Setresuid, EINVAL, "no mapping in the pod's user namespace"),
        (Setresgid, EINVAL, "no mapping in the pod's user namespace"),
        (Setgroups, EINVAL, "no mapping in the pod's user namespace"),
        (Prlimit64, EPERM, "ask for less"),
        (Capset, EPERM, "podlet itself does not have that capability"),
        (Prctl, EPERM, "podlet itself does not have that capability"),
        (Seccomp, EINVAL, "one of the profile's actions or flags"),
    ] {
        check(None, kind, errno, words);
        check(Some(&mount), kind, errno, words);
    }
    for (kind, errno) in [
        (Mount(MountCall::FileSystem), EPERM),
        (Mount(MountCall::Rearrange), EPERM),
        (FILE, ENOTDIR),
        (MountSetattr { idmap: false }, EINVAL),
        (Other, EPERM),
    ] {
        let said = step(None, kind, errno).to_string();
        assert!(said.ends_with(errno.desc()), "{said}");
    }
}

/// Words that look like those of another step change nothing.
#[test]
fn no_hint_comes_of_what_a_step_shows() {
    let step = "write(sysctl, \"(oom_score_adj, (attr_exec, (file, \\\"0 0 1 O_DIRECTORY IDMAP\")".to_string();
    let error =
        Error::Step { object: "x".into(), purpose: None, kind: StepKind::Write, step, errno: Errno::EPERM.into() };
    assert!(error.to_string().ends_with(": Operation not permitted"), "{error}");
}

#[test]
fn a_program_that_cannot_be_executed_has_hints() {
    for (errno, words, code) in [
        (Errno::ENOENT, "not in the container's root file system", 127),
        (Errno::ELIBACC, "its interpreter is not: see its first line", 127),
        (Errno::EACCES, "lacks the execute permission", 126),
        (Errno::ENOEXEC, "built for another processor", 126),
    ] {
        let error = Error::Exec { program: "serve".into(), errno: errno.into() };
        let said = error.to_string();
        assert!(said.starts_with(&format!("cannot execute \"serve\": {} (", errno.desc())), "{said}");
        assert!(said.contains(words) && error.exit_code() == code, "{said}");
    }
}

#[test]
fn a_purpose_is_shown_before_the_step() {
    let path = || PathBuf::from("/proc/x");
    for (purpose, words) in [
        (Purpose::Mount("/data".into()), "the mount on /data: "),
        (Purpose::MountOptions("/data".into()), "the mount on /data: "),
        (Purpose::Mask(path()), "masking /proc/x: "),
        (Purpose::ReadOnly(path()), "making /proc/x read-only: "),
        (Purpose::Device("/dev/fuse".into()), "the device /dev/fuse: "),
        (Purpose::Dev, "/dev: "),
        (Purpose::MachinesOwn, "the machine's own /proc and /sys: "),
        (Purpose::MachineMount("/mnt".into()), "the machine's mount on /mnt: "),
        (Purpose::JoinedRoot, "the root in the mount namespace that is joined: "),
        (Purpose::WorkingDirectory, "the working directory: "),
        (Purpose::Sysctl { path: "sys/net/core/somaxconn".into() }, "sys/net/core/somaxconn: "),
        (SYSCTL, ""),
        (Purpose::OomScoreAdj, ""),
        (Purpose::AppArmorProfile, ""),
        (Purpose::IdMap { root_to_root: true }, ""),
    ] {
        let said = step(Some(&purpose), StepKind::Chdir, Errno::EIO).to_string();
        assert_eq!(said, format!("cannot start container web/db: {words}chdir(): I/O error"));
    }
}

fn number(error: &Error) -> Option<i32> {
    error.source()?.downcast_ref::<Number>().map(|number| number.0)
}

#[test]
fn an_error_number_is_the_source() {
    let refused: Error = Err::<(), _>(Errno::EPERM).doing(|| "binding".into()).expect_err("EPERM");
    assert!(matches!(&refused, Error::Os { errno: Number(libc::EPERM), .. }), "{refused:?}");
    assert_eq!(refused.to_string(), "binding: Operation not permitted");
    assert_eq!(number(&refused), Some(libc::EPERM));
    assert_eq!(number(&step(None, StepKind::Setns, Errno::ESRCH)), Some(libc::ESRCH));
    assert_eq!(number(&Error::Exec { program: "x".into(), errno: Number(600) }), Some(600));

    let nameless = Error::failed("binding", Number(600));
    assert_eq!(nameless.to_string(), "binding: error number 600: Unknown errno");
    assert_eq!(number(&nameless), Some(600));
    Errno::set_raw(600);
    assert_eq!(io_error(Errno::UnknownErrno).raw_os_error(), Some(600));
    assert!(matches!(nameless, Error::Os { errno: Number(600), .. }));
    assert!(Error::NotFound("pod web".into()).source().is_none());
}

#[test]
fn an_io_error_is_the_source() {
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let refused: Error = Err::<(), _>(missing()).doing(|| "opening /x".into()).expect_err("ENOENT");
    assert!(matches!(&refused, Error::Os { errno: Number(libc::ENOENT), .. }), "{refused:?}");
    assert_eq!(refused.to_string(), "opening /x: No such file or directory");
    let source = refused.source().and_then(|source| source.downcast_ref::<io::Error>()).expect("an io error");
    assert_eq!(source.kind(), io::ErrorKind::NotFound);

    // One without a number keeps its own words.
    let mut buffer = [0; 8];
    let short = io::Read::read_exact(&mut &b"abc"[..], &mut buffer).doing(|| "reading /x".into()).expect_err("short");
    assert_eq!(short.to_string(), "reading /x: failed to fill whole buffer");
    assert!(matches!(short, Error::Failed { .. }), "{short:?}");
    assert!(short.source().is_some_and(|source| source.is::<io::Error>()));
    assert_eq!(short.clone(), short);
    assert_ne!(short, refused);

    let hook = Error::Hook {
        kind: "prestart".into(),
        path: "/h".into(),
        how: format!("cannot be executed: {}", missing()),
        said: String::new(),
        cause: None,
    };
    let hook = hook.because(missing());
    assert_eq!(hook.to_string(), "prestart hook \"/h\" cannot be executed: No such file or directory (os error 2)");
    assert!(hook.source().is_some_and(|source| source.is::<io::Error>()));
    assert_ne!(Error::failed("x", missing()), Error::failed("x", io::Error::other("full")));
}

#[test]
fn a_json_error_is_the_source() {
    let wrong = || serde_json::from_str::<u64>("\n\n   \"a\"").expect_err("no number");
    let words = "invalid type: string \"a\", expected u64 at line 3 column 6";
    let failed: Error = Err::<(), _>(wrong()).doing(|| "reading x".into()).expect_err("JSON");
    let malformed = Error::malformed("config.json", wrong());
    let corrupt = Error::corrupt(Path::new("/run/x.json"), wrong().to_string()).because(wrong());
    for (error, begin) in [(&failed, "reading x: "), (&malformed, "config.json: "), (&corrupt, "/run/x.json: ")] {
        assert!(error.to_string().starts_with(&format!("{begin}{words}")), "{error}");
        let source = error.source().and_then(|source| source.downcast_ref::<serde_json::Error>()).expect("JSON");
        assert_eq!((source.line(), source.to_string().as_str()), (3, words));
    }
    assert_eq!(malformed, Error::malformed("config.json", wrong()));
    assert_ne!(malformed, Error::invalid("config.json", "", words), "that has no cause");
}

/// An error of another library, with a cause.
#[derive(Debug)]
struct Outer<E>(E);

impl<E> Display for Outer<E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("--bundle DIR")
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Outer<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn each_cause_is_told_once() {
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let ours = || Error::failed("opening /x", missing());
    assert_eq!(in_full(&ours()), "opening /x: No such file or directory");
    assert_eq!(in_full(&Outer(ours())), "--bundle DIR: opening /x: No such file or directory");
    assert_eq!(in_full(&io::Error::other(ours())), "opening /x: No such file or directory");
    assert_eq!(in_full(&Outer(missing())), "--bundle DIR: No such file or directory (os error 2)");
    assert_eq!(in_full(&Outer(Outer(Errno::EPERM))), "--bundle DIR: --bundle DIR: EPERM: Operation not permitted");
}
