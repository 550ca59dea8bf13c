//! What a step of a plan is, and what it is for: that by which its failure is
//! explained.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a step of a plan serves. It is shown before the step, unless the step
/// says as much itself: then it shows as nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// A mount on this path of the container.
    Mount(PathBuf),
    /// The overlay that the root of the container is.
    Overlay,
    /// Other options for what is mounted on this path of the container.
    MountOptions(PathBuf),
    /// This path of the container is covered (`linux.maskedPaths` of the OCI
    /// runtime-spec).
    Mask(PathBuf),
    /// This path of the container cannot be written from there on
    /// (`linux.readonlyPaths` of the OCI runtime-spec).
    ReadOnly(PathBuf),
    /// The device node at this path of the container.
    Device(PathBuf),
    /// The usual devices and links in the image's own `/dev`.
    Dev,
    /// The machine's proc and sysfs are taken out of a copy of its mounts.
    MachinesOwn,
    /// What is mounted on this path of the machine is taken away from below the
    /// container's root.
    MachineMount(PathBuf),
    /// The root of the container among the mounts of a namespace that is joined.
    JoinedRoot,
    /// The working directory is made.
    WorkingDirectory,
    /// A kernel parameter.
    Sysctl {
        /// Where it is below `/proc`, for a step that shows but a part of that;
        /// otherwise empty.
        path: PathBuf,
    },
    /// How readily the container is killed when memory runs out.
    OomScoreAdj,
    /// The AppArmor profile.
    AppArmorProfile,
    /// The terminal that the process gets (pty(7)).
    Terminal,
    /// The id maps of a user namespace.
    IdMap {
        /// Root of the namespace is root of the one around it.
        root_to_root: bool,
    },
}

impl Display for Purpose {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Mount(path) | Purpose::MountOptions(path) => write!(f, "the mount on {}", path.display()),
            Purpose::Overlay => f.write_str("the overlay of the root"),
            Purpose::Mask(path) => write!(f, "masking {}", path.display()),
            Purpose::ReadOnly(path) => write!(f, "making {} read-only", path.display()),
            Purpose::Device(path) => write!(f, "the device {}", path.display()),
            Purpose::Dev => f.write_str("/dev"),
            Purpose::MachinesOwn => f.write_str("the machine's own /proc and /sys"),
            Purpose::MachineMount(path) => write!(f, "the machine's mount on {}", path.display()),
            Purpose::JoinedRoot => f.write_str("the root in the mount namespace that is joined"),
            Purpose::WorkingDirectory => f.write_str("the working directory"),
            Purpose::Terminal => f.write_str("the terminal"),
            Purpose::Sysctl { path } => path.display().fmt(f),
            Purpose::OomScoreAdj | Purpose::AppArmorProfile | Purpose::IdMap { .. } => Ok(()),
        }
    }
}

/// What a `mount(2)` is for: the call does several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MountCall {
    /// A new proc or sysfs.
    ProcOrSysfs,
    /// A new file system of another kind.
    FileSystem,
    /// Other options (`MS_REMOUNT`).
    Remount,
    /// A bind, a move, or who sees what is mounted later.
    Rearrange,
}

/// The kinds of which nothing but the name counts, each with its name.
macro_rules! step_kinds {
    ($($kind:ident = $name:literal,)*) => {
        /// What a step of a plan is: a system call, or one of the few things that
        /// the sealed program does besides.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum StepKind {
            $(#[doc = concat!("Shown as `", $name, "`.")] $kind,)*
            /// `mount(2)`.
            Mount(MountCall),
            /// `mount_setattr(2)`.
            MountSetattr {
                /// It gives a mount other ids (`MOUNT_ATTR_IDMAP`).
                idmap: bool,
            },
            /// `openat2(2)`.
            Openat2 {
                /// It opens nothing but a directory (`O_DIRECTORY`).
                directory: bool,
            },
            /// What this build does not know: another one wrote it down.
            Other,
        }

        impl StepKind {
            /// As strace shows it.
            pub fn name(self) -> &'static str {
                match self {
                    $(StepKind::$kind => $name,)*
                    StepKind::Mount(_) => "mount",
                    StepKind::MountSetattr { .. } => "mount_setattr",
                    StepKind::Openat2 { .. } => "openat2",
                    StepKind::Other => "-",
                }
            }
        }
    };
}

step_kinds! {
    Accept = "accept",
    Capset = "capset",
    Chdir = "chdir",
    Chroot = "chroot",
    Clone3 = "clone3",
    Close = "close",
    CloseRange = "close_range",
    Dup3 = "dup3",
    Execve = "execve",
    Execveat = "execveat",
    ExitGroup = "exit_group",
    Faccessat2 = "faccessat2",
    Fchdir = "fchdir",
    Fchown = "fchown",
    Fchownat = "fchownat",
    Fcntl = "fcntl",
    Fsconfig = "fsconfig",
    Fsmount = "fsmount",
    Fsopen = "fsopen",
    Hold = "hold",
    Ioctl = "ioctl",
    IoprioSet = "ioprio_set",
    Keyctl = "keyctl",
    Mkdirat = "mkdirat",
    Mknodat = "mknodat",
    Mmap = "mmap",
    MoveMount = "move_mount",
    Munmap = "munmap",
    OpenProc = "open_proc",
    Empty = "empty",
    OpenTree = "open_tree",
    Openat = "openat",
    Personality = "personality",
    PivotRoot = "pivot_root",
    Prctl = "prctl",
    Prlimit64 = "prlimit64",
    Readlinkat = "readlinkat",
    Recvfrom = "recvfrom",
    Report = "report",
    RtSigprocmask = "rt_sigprocmask",
    SchedSetaffinity = "sched_setaffinity",
    SchedSetattr = "sched_setattr",
    Seccomp = "seccomp",
    SetMempolicy = "set_mempolicy",
    Setdomainname = "setdomainname",
    Setfsgid = "setfsgid",
    Setfsuid = "setfsuid",
    Setgroups = "setgroups",
    Sethostname = "sethostname",
    Setns = "setns",
    Setregid = "setregid",
    Setresgid = "setresgid",
    Setresuid = "setresuid",
    Setreuid = "setreuid",
    Setsid = "setsid",
    Signalfd4 = "signalfd4",
    Socket = "socket",
    Store = "store",
    Symlinkat = "symlinkat",
    Umask = "umask",
    Umount2 = "umount2",
    Unshare = "unshare",
    Waitid = "waitid",
    Write = "write",
}

impl Display for StepKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
