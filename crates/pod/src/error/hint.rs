//! What helps with the failures of a plan, and of its program, that people
//! really meet.

use nix::errno::Errno;

use super::step::{MountCall, Purpose, StepKind};

/// What helps if a program cannot be executed.
pub(super) fn of_exec(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENOENT => {
            "not in the container's root file system, not along its PATH, or a script or program whose interpreter is \
             not there"
        }
        Errno::ELIBACC => "it was there when the container was created; its interpreter is not: see its first line",
        Errno::EACCES => "it is a directory, or lacks the execute permission for this user",
        Errno::ENOEXEC => "empty, a script without `#!`, or built for another processor",
        _ => return None,
    })
}

/// What helps if a step fails: what it is for says more than what it is, and
/// comes first.
pub(super) fn of_step(purpose: Option<&Purpose>, kind: StepKind, errno: Errno) -> Option<&'static str> {
    purpose.and_then(|purpose| of_purpose(purpose, kind, errno)).or_else(|| match kind {
        StepKind::Mount(call) => of_mount(call, errno),
        StepKind::MountSetattr { idmap } => of_mount_setattr(idmap, errno),
        kind => of_call(kind, errno),
    })
}

/// Where only the purpose tells.
fn of_purpose(purpose: &Purpose, kind: StepKind, errno: Errno) -> Option<&'static str> {
    use StepKind::{Fsconfig, Fsmount, Fsopen, Ioctl, Mount, MountSetattr, OpenTree, Openat, Openat2, Write};
    Some(match (purpose, kind, errno) {
        (Purpose::Sysctl { .. }, Openat2 { .. } | Openat, Errno::ENOENT | Errno::EACCES) => {
            "this kernel has no such parameter, or lets nobody but the machine's root set it"
        }
        (Purpose::Sysctl { .. }, Write, Errno::EINVAL | Errno::ERANGE) => "the kernel does not take this value",
        (Purpose::JoinedRoot, Openat, Errno::ENOENT | Errno::ENOTDIR) => "root.path has to be a directory there, too",
        (Purpose::OomScoreAdj, Write, Errno::EACCES | Errno::EPERM) => {
            "lowering it below podlet's own takes CAP_SYS_RESOURCE"
        }
        (Purpose::IdMap { root_to_root: true }, Write, Errno::EPERM) => {
            "root of a user namespace that makes itself root of another one needs CAP_SETFCAP"
        }
        (Purpose::AppArmorProfile, Write, Errno::ENOENT) => "no profile of that name is loaded",
        (Purpose::Terminal, Openat2 { .. } | Openat, Errno::ENOENT | Errno::ENOTDIR)
        | (Purpose::Terminal, Ioctl, Errno::ENOTTY) => "it takes a devpts of the container's own on /dev/pts",
        (Purpose::Terminal, Openat2 { .. } | Openat, Errno::ENOSPC) => {
            "no terminal is left: see the sysctls kernel.pty.max and kernel.pty.reserve"
        }
        (Purpose::MountOptions(_), MountSetattr { idmap: false }, Errno::EINVAL) => "nothing is mounted there",
        (Purpose::Overlay, OpenTree | Openat | Fsconfig | Mount(_), Errno::ENOENT | Errno::ENOTDIR) => {
            "one of its directories has gone, or is not to be seen by this user"
        }
        (Purpose::Overlay, Fsconfig | Mount(_), Errno::EINVAL | Errno::EOPNOTSUPP) => {
            "the kernel does not take one of its directories as a layer, and its log (dmesg) says which: where changes go \
             has to be on a local file system with extended attributes; none may be on an overlay of many layers, nor \
             lie on what another user namespace mounted; mapped ids take Linux 5.19"
        }
        (Purpose::Overlay, Fsconfig | Mount(_), Errno::ELOOP) => {
            "one of its directories is another one, or lies in one"
        }
        (Purpose::Overlay, Fsconfig | Mount(_), Errno::EBUSY) => {
            "another overlay writes to its upper or work directory"
        }
        (Purpose::Overlay, Fsconfig | Mount(_), Errno::ESTALE) => {
            "its upper directory was made for other layers: take an empty one"
        }
        (Purpose::Overlay, Fsopen | Fsconfig | Fsmount | Mount(_), Errno::EPERM | Errno::EACCES) => {
            "this kernel or sandbox does not let this user mount an overlay, or the user has no rights in one of its \
             directories"
        }
        _ => return None,
    })
}

fn of_mount(call: MountCall, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        (_, Errno::ENOTDIR) => NOT_ALIKE,
        (_, Errno::ENODEV) => NO_FILE_SYSTEM,
        (_, Errno::EINVAL) => BAD_OPTION,
        (_, Errno::ENOTBLK) => "the source is not a block device",
        (MountCall::Remount, Errno::EPERM) => HELD_FAST,
        (MountCall::ProcOrSysfs, Errno::EPERM) => {
            "the kernel lets a user namespace mount this only where the caller's own is not covered in parts"
        }
        _ => return None,
    })
}

fn of_mount_setattr(idmap: bool, errno: Errno) -> Option<&'static str> {
    Some(match (idmap, errno) {
        (true, Errno::EINVAL) => {
            "this kernel cannot map the ids of that file system: chown the root file system to the pod's ids instead"
        }
        (true, Errno::EPERM) => "the file system belongs to another user namespace, or its ids are mapped already",
        (false, Errno::EPERM) => HELD_FAST,
        _ => return None,
    })
}

fn of_call(kind: StepKind, errno: Errno) -> Option<&'static str> {
    Some(match (kind, errno) {
        (StepKind::SchedSetattr | StepKind::IoprioSet, Errno::EPERM) => {
            "a place before others takes CAP_SYS_NICE on the machine, which podlet does not have here"
        }
        (StepKind::SchedSetattr, Errno::EBUSY) => "the processors are promised to others already",
        (StepKind::SchedSetaffinity, Errno::EINVAL) => {
            "none of these processors is there, or in the container's cpuset"
        }
        (StepKind::SetMempolicy, Errno::EINVAL) => {
            "none of these memory nodes is there, or the kernel is too old for the mode"
        }
        (StepKind::Openat2 { .. }, Errno::ELOOP) => {
            "the image has a symbolic link there: a mount over it could leave the container, so it is refused"
        }
        (StepKind::Openat2 { directory: true }, Errno::ENOTDIR) => "it is not a directory in the container",
        (StepKind::Openat2 { .. }, Errno::ENOENT) => "it does not exist in the container",
        (StepKind::Openat, Errno::ELOOP) | (StepKind::Readlinkat, Errno::EFAULT) => {
            "the image has a symbolic link there, which is refused where openat2(2) is denied"
        }
        (StepKind::Openat, Errno::ENOTDIR) => "it is not a directory, or a symbolic link where openat2(2) is denied",
        (StepKind::Mkdirat | StepKind::Mknodat, Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
            "the mount point is missing and the file system does not let podlet make it: make it yourself"
        }
        (StepKind::Unshare | StepKind::Clone3, Errno::EPERM) => {
            "creating namespaces is forbidden here: see the sysctls user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; in a container of \
             podlet's it takes `--security-opt nesting`"
        }
        (StepKind::Unshare | StepKind::Clone3, Errno::ENOSPC) => {
            "too many namespaces: see the sysctls user.max_*_namespaces"
        }
        (StepKind::Clone3, Errno::EAGAIN) => "too many processes: see pids.max of the cgroup and `ulimit -u`",
        (StepKind::Keyctl, Errno::EDQUOT) => "too many keyrings: see the sysctl kernel.keys.maxkeys",
        (StepKind::MoveMount, Errno::EINVAL | Errno::ENOTDIR) => NOT_ALIKE,
        (StepKind::Fsconfig | StepKind::Fsopen, Errno::ENODEV) => NO_FILE_SYSTEM,
        (StepKind::Fsconfig, Errno::EINVAL) => BAD_OPTION,
        (StepKind::Setresuid | StepKind::Setresgid | StepKind::Setgroups, Errno::EINVAL) => {
            "the id has no mapping in the pod's user namespace"
        }
        (StepKind::Prlimit64, Errno::EPERM) => {
            "raising a limit above podlet's own hard one takes CAP_SYS_RESOURCE: ask for less (`ulimit -H -a`)"
        }
        (StepKind::Capset | StepKind::Prctl, Errno::EPERM) => "podlet itself does not have that capability",
        (StepKind::Seccomp, Errno::EINVAL) => "this kernel does not know one of the profile's actions or flags",
        _ => return None,
    })
}

const NOT_ALIKE: &str = "a directory can only be mounted on a directory, and a file on a file";
const NO_FILE_SYSTEM: &str = "this kernel does not have that file system: see /proc/filesystems";
const BAD_OPTION: &str =
    "an option that this file system does not know, or a value it does not take; the kernel's log may say which";
const HELD_FAST: &str = "in a user namespace what a mount came with cannot be loosened, nor its time of access changed";
