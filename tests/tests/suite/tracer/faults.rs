//! What a system call can fail with, wherever it is made.
//!
//! One of each kind that the manual pages know: no descriptor (EMFILE), no
//! memory (ENOMEM), a disk that is full (ENOSPC) or broken (EIO), and a signal
//! (EINTR) where the call waits and may say so. What the kernel cannot fail in
//! is left alone, and stands in [`NEVER`] or in [`of`].

use std::fs;

use nix::errno::Errno;

use super::{Call, What};

/// Calls that are left alone, and why.
const NEVER: [(&str, &[&str]); 8] = [
    ("the kernel cannot fail in it", &["munmap", "exit", "exit_group", "gettid", "getpid", "getppid", "sched_yield"]),
    ("it tells a number that is there", &["getuid", "geteuid", "getgid", "getegid", "umask", "clock_gettime"]),
    ("it takes numbers of this process's own, which are right", &["rt_sigprocmask", "rt_sigaction", "sigaltstack"]),
    (
        "the C library begins with it, and goes by the manual page",
        &["set_tid_address", "set_robust_list", "rseq", "arch_prctl", "prlimit64", "getrandom"],
    ),
    ("whatever it says, Linux has closed it", &["close", "close_range"]),
    ("it gives or protects memory that is there", &["brk", "madvise", "mprotect"]),
    ("no call of the program's", &["rt_sigreturn", "restart_syscall"]),
    ("it looks, and allocates nothing", &["lseek", "getsockopt", "getsockname", "kill", "tgkill", "pidfd_send_signal"]),
];

/// A call that begins.
pub struct Site<'a> {
    pub name: &'a str,
    pub arguments: [u64; 4],
    /// The command itself makes it, not what it has started.
    pub is_command: bool,
    pub pid: i32,
}

impl Site<'_> {
    /// Whether the first argument is a descriptor of something with a path: not
    /// a socket, signalfd or the like, which read and write without a disk and,
    /// but for messages, without memory.
    fn is_file(&self) -> bool {
        let link = fs::read_link(format!("/proc/{}/fd/{}", self.pid, self.arguments[0]));
        link.is_ok_and(|path| path.is_absolute())
    }
}

/// What this call may fail with.
pub fn of(site: &Site<'_>) -> &'static [Errno] {
    use Errno::{EINTR, EIO, EMFILE, ENOMEM, ENOSPC};
    const DUPLICATES: [i32; 2] = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];
    let has = |number: usize, flag: i32| site.arguments[number] as i32 & flag != 0;
    // Whatever the sealed program does is begun anew after a signal: it has all
    // blocked, and no handlers. An embedder may have some.
    let interrupted: &[Errno] = if site.is_command { &[EINTR] } else { &[] };
    let no_memory: &[Errno] = if site.is_command { &[EINTR, ENOMEM] } else { &[ENOMEM] };
    match site.name {
        name if NEVER.iter().any(|(_, names)| names.contains(&name)) => &[],
        "open" | "openat" | "openat2" => &[EMFILE, ENOMEM, EIO],
        "socket" | "socketpair" | "memfd_create" | "pidfd_open" | "eventfd2" | "signalfd4" | "dup" | "dup3"
        | "epoll_create1" | "open_tree" | "fsopen" | "fsmount" | "pipe2" => &[EMFILE, ENOMEM],
        "fcntl" if DUPLICATES.contains(&(site.arguments[1] as i32)) => &[EMFILE, ENOMEM],
        "fcntl" => &[],
        "read" | "pread64" | "readv" | "write" | "writev" | "pwrite64" if !site.is_file() => &[],
        "read" | "pread64" | "readv" | "readlink" | "readlinkat" | "getdents64" | "stat" | "lstat" | "newfstatat"
        | "statx" | "fstat" | "fsync" => &[EIO, ENOMEM],
        "write" | "pwrite64" | "writev" | "ftruncate" | "fallocate" | "copy_file_range" | "sendfile" => &[ENOSPC, EIO],
        "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat"
        | "mknod" | "mknodat" => &[ENOSPC, EIO],
        "unlink" | "unlinkat" | "rmdir" | "chmod" | "fchmod" | "fchmodat" | "chown" | "fchown" | "fchownat" => &[EIO],
        // Only where it waits.
        "wait4" if has(2, libc::WNOHANG) => &[],
        "waitid" if has(3, libc::WNOHANG) => &[],
        "flock" if has(1, libc::LOCK_NB) => &[ENOMEM],
        "futex" if site.arguments[1] & 0x7f != 0 && site.arguments[1] & 0x7f != 9 => &[],
        "poll" | "ppoll" | "wait4" | "waitid" | "futex" | "flock" | "nanosleep" | "clock_nanosleep" | "epoll_wait"
        | "epoll_pwait" => interrupted,
        // What was told as created by then ends, and is told as stopped: so it is.
        "accept4" if !site.is_command => &[],
        "recvmsg" | "recvfrom" | "sendmsg" | "sendto" | "connect" | "accept4" => no_memory,
        "clone" | "clone3" | "fork" | "vfork" | "unshare" | "setns" => &[ENOMEM, ENOSPC],
        // A Rust program without memory of its own aborts, which is its word.
        "mmap" | "mremap" if site.is_command => &[],
        _ => &[ENOMEM],
    }
}

/// All faults of these calls, each by itself.
pub fn of_all(calls: &[Call]) -> Vec<What> {
    let of = |call: &Call| {
        let (process, call, errors) = (call.process.clone(), call.number, call.errors);
        (0..errors).map(move |error| What::Fail { process: process.clone(), call, error })
    };
    calls.iter().flat_map(of).collect()
}
