//! System calls that no dependency offers, each behind a safe function.

#![allow(unsafe_code)] // The fence: raw system calls, checked one by one below.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use nix::errno::Errno;
use pause::table::{TABLE_SIZE, Table};

use super::signal::Signal;
use crate::error::io_error;

pub(super) fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)? as RawFd;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One message, and the descriptor that came with it.
///
/// # Errors
/// EMFILE if there was one but this process has no room for it.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<(usize, Option<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [std::io::IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            // The second is said once, of a peer that ended without having
            // read everything; what it said itself comes after.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            result => break result?,
        }
    };
    let mut descriptor = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel just installed them for us.
            descriptor = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    if descriptor.is_none() && message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMFILE);
    }
    Ok((message.bytes, descriptor))
}

/// Entries of a directory, packed as getdents64(2) has them: how many bytes that
/// are, 0 at the end.
pub(crate) fn read_entries(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most so many bytes.
    let size = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(size).map(|size| size as usize)
}

/// Whether descriptor `number` is a standard stream: open, and meant to be
/// passed on, as no descriptor of this library ever is.
pub(crate) fn is_stdio(number: RawFd) -> bool {
    // SAFETY: no memory arguments.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Another descriptor for what `number` stands for; close-on-exec.
pub(crate) fn duplicate(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: no memory arguments.
    owned(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())
}

/// A descriptor that is readable, for ever: the pidfd of a process that is
/// gone and has no pidfd.
pub(crate) fn always_readable() -> nix::Result<OwnedFd> {
    // SAFETY: no memory arguments.
    owned(unsafe { libc::eventfd(1, libc::EFD_CLOEXEC) }.into())
}

/// `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: no memory arguments.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

/// `pidfd_send_signal(2)`; signal 0 asks whether the process is there.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: no memory arguments but a null siginfo.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    Errno::result(result).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed { signal: Signal, core_dumped: bool },
}

/// Waits for the end of a child, `waitid(2)`.
///
/// # Errors
/// ECHILD if it is no child of this program, or none any more.
pub(crate) fn wait_end(pidfd: BorrowedFd<'_>) -> nix::Result<End> {
    // SAFETY: zeroes are a siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // Not nix's: that takes a real-time signal for an error, after the
        // child is gone.
        // SAFETY: the kernel fills the structure, which outlives the call.
        let result =
            unsafe { libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &raw mut info, libc::WEXITED) };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            result => break result.map(drop)?,
        }
    }
    // SAFETY: for the end of a child the kernel fills this part in.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        libc::CLD_EXITED => End::Exited(status),
        code => End::Killed { signal: Signal::of_kernel(status), core_dumped: code == libc::CLD_DUMPED },
    })
}

/// Waits for the end of a child. If the embedder waits for all children (or
/// ignores SIGCHLD) it may have been faster, or it is no child of this program;
/// that is no failure.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) {
    wait_end(pidfd).ok();
}

/// Has a command begin with its standard streams and no other descriptor, also
/// none that this program was careless with or was given itself; and with no
/// signal blocked, though this program may have its own wait.
pub(crate) fn pass_on_nothing(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let begin = || {
        let none = 0u64;
        // SAFETY: numbers, and a mask of 8 bytes that outlives the call.
        let results = unsafe {
            [
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC),
                libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, size_of_val(&none)),
            ]
        };
        if results.iter().any(|&result| result < 0) { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: two system calls are all that happens after the fork.
    unsafe { command.pre_exec(begin) };
}

/// Whether this process can be traced and dumps core: 1 if so, 2 for root alone
/// (`PR_GET_DUMPABLE`, prctl(2)).
pub(crate) fn dumpable() -> i32 {
    // SAFETY: this prctl takes nothing and changes nothing.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

/// The calling thread's effective capabilities (capget(2)), one bit each.
pub(crate) fn effective_capabilities() -> nix::Result<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Twice effective, permitted and inheritable: low words, then high ones.
    let mut sets = [0u32; 6];
    // SAFETY: both have the layout of that version and outlive the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    Ok(u64::from(sets[0]) | u64::from(sets[3]) << 32)
}

/// The highest capability the kernel knows. It knows all below that.
pub(crate) fn last_capability() -> u64 {
    // SAFETY: no memory arguments.
    let is_known = |capability: u64| unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) } >= 0;
    // A known capability, and a number that a set of 64 bits cannot have.
    let (mut known, mut unknown) = (0, 64);
    while known + 1 < unknown {
        let middle = (known + unknown) / 2;
        match is_known(middle) {
            true => known = middle,
            false => unknown = middle,
        }
    }
    known
}

/// The pid behind a pidfd, as this process sees it; `None` once it is reaped.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> std::io::Result<Option<u32>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    Ok(line.and_then(|pid| pid.trim().parse().ok()).filter(|&pid| pid > 0))
}

/// A file of the given bytes that can be executed but never changed.
///
/// A memfd where that is allowed (`vm.memfd_noexec` below 2), else an unnamed
/// file in the first of `dirs` from which programs may be executed.
pub(crate) fn program_file(name: &std::ffi::CStr, bytes: &[u8], dirs: &[PathBuf]) -> std::io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let sealing = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know MFD_EXEC, and need no asking.
    let memfd = memfd(name, sealing | MFD_EXEC).or_else(|errno| match errno {
        Errno::EINVAL => memfd(name, sealing),
        errno => Err(errno),
    });
    match memfd {
        Ok(memfd) => fill_and_seal(memfd, bytes),
        Err(Errno::EACCES) => dirs.iter().find_map(|dir| unnamed_program(dir, bytes).ok()).ok_or(Errno::EACCES.into()),
        Err(errno) => Err(io_error(errno)),
    }
}

/// A sealed, read-only memfd of the given bytes.
pub(crate) fn sealed_file(name: &std::ffi::CStr, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: libc::c_uint = 0x8;
    let sealing = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let memfd = memfd(name, sealing | MFD_NOEXEC_SEAL).or_else(|_| memfd(name, sealing)).map_err(io_error)?;
    fill_and_seal(memfd, bytes)
}

/// A memfd to write to.
pub(crate) fn memory_file(name: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    memfd(name, libc::MFD_CLOEXEC)
}

fn memfd(name: &std::ffi::CStr, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    owned(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into())
}

fn fill_and_seal(memfd: OwnedFd, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory arguments.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map_err(io_error)?;
    Ok(file.into())
}

/// An `O_TMPFILE` file of `dir`, reopened so that it can be executed.
fn unnamed_program(dir: &Path, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let stat = nix::sys::statvfs::statvfs(dir)?;
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) {
        return Err(Errno::EACCES.into());
    }
    let mut options = File::options();
    options.read(true).write(true).mode(0o500).custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC);
    let mut file = options.open(dir)?;
    file.write_all(bytes)?;
    // A file that is open for writing cannot be executed.
    Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
}

/// The exit table, mapped.
pub(crate) struct MappedTable(std::ptr::NonNull<Table>);

// SAFETY: the table has only atomic fields, and the mapping lives as long as
// the value.
unsafe impl Send for MappedTable {}
// SAFETY: the table has only atomic fields, which threads may share.
unsafe impl Sync for MappedTable {}

impl MappedTable {
    /// Maps the first page of `file`, which must have one: a hole or an end
    /// there would be a SIGBUS for each process that looks.
    pub(crate) fn map(file: BorrowedFd<'_>) -> nix::Result<MappedTable> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), TABLE_SIZE, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::NonNull::new(at.cast()).map(MappedTable).ok_or(Errno::ENOMEM)
    }
}

impl std::ops::Deref for MappedTable {
    type Target = Table;

    fn deref(&self) -> &Table {
        // SAFETY: mapped in `map`, unmapped in `drop`; any bytes are a Table.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for MappedTable {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, with this size.
        unsafe { libc::munmap(self.0.as_ptr().cast(), TABLE_SIZE) };
    }
}

/// Sleeps until `word` is woken, or is not `value`, or for a time.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32, at_most: Duration) {
    let time = libc::timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
    // Not FUTEX_PRIVATE: pause is another process. Why it returned does not
    // matter: the caller looks again.
    // SAFETY: the word and the time outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time, 0, 0) };
}

/// `flock(2)` that lives as long as the longest-lived duplicate of the file.
pub(crate) fn lock(file: &File, exclusive: bool, wait: bool) -> nix::Result<()> {
    let mut operation = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    if !wait {
        operation |= libc::LOCK_NB;
    }
    loop {
        // SAFETY: no memory arguments.
        match Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) }) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Gives up what [`lock`] took, also where duplicates of the file are left.
pub(crate) fn unlock(file: &File) {
    // SAFETY: no memory arguments. It cannot fail: the file is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// The number of the mount namespace behind a `/proc/<pid>/ns/mnt`, which no
/// other one ever has (ioctl_nsfs(2)); Linux 6.11 and newer.
pub(crate) fn mount_namespace_id(namespace: &File) -> nix::Result<u64> {
    // _IOR(0xb7, 5, u64)
    const NS_GET_MNTNS_ID: libc::Ioctl = 0x8008_b705_u32 as libc::Ioctl;
    let mut id = 0u64;
    // SAFETY: the kernel writes 8 bytes, or nothing.
    Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_MNTNS_ID, &raw mut id) })?;
    Ok(id)
}

/// Whether there is a mount namespace of this number, or the kernel cannot tell
/// (listmount(2), Linux 6.11 and newer).
pub(crate) fn is_mount_namespace(id: u64) -> bool {
    const SYS_LISTMOUNT: libc::c_long = 458;
    const LSMT_ROOT: u64 = u64::MAX;
    // struct mnt_id_req: its size, the mount, after which one, the namespace.
    let request = [32, LSMT_ROOT, 0, id];
    let mut found = [0u64; 1];
    // SAFETY: the request has the size that it says, and what is found has
    // room for one.
    let result = unsafe { libc::syscall(SYS_LISTMOUNT, request.as_ptr(), found.as_mut_ptr(), 1, 0) };
    Errno::result(result) != Err(Errno::ENOENT)
}

/// `CLONE_NEW*` of the namespace behind an open `/proc/<pid>/ns/...`
/// (ioctl_nsfs(2)).
pub(crate) fn namespace_kind(namespace: &File) -> nix::Result<u64> {
    // _IO(0xb7, 3)
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: no memory arguments.
    Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) }).map(|kind| kind as u32 as u64)
}

/// The user namespace that owns a namespace.
pub(crate) fn namespace_owner(namespace: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // _IO(0xb7, 1)
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: no memory arguments.
    owned(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) }.into())
}

/// What a wait comes to that was cancelled. Takes one message from `cancel`, a
/// signalfd(2) or the like, so that the next one counts again.
pub(crate) fn given_up(cancel: Option<&OwnedFd>, what: impl FnOnce() -> String) -> crate::Error {
    // Whatever kind of descriptor it is: no other kind's message is longer.
    let mut message = [0; size_of::<libc::signalfd_siginfo>()];
    if let Some(cancel) = cancel {
        nix::unistd::read(cancel, &mut message).ok();
    }
    crate::Error::GivenUp { what: what() }
}

/// A poll on one descriptor.
pub(crate) fn wait_readable(fd: &impl AsFd, timeout: Option<Duration>) -> nix::Result<bool> {
    wait_any(&[fd.as_fd()], timeout).map(|ready| ready.is_some())
}

/// Whether the process of a pidfd has ended, as far as can be told.
pub(crate) fn has_ended(process: &OwnedFd) -> bool {
    wait_readable(process, Some(Duration::ZERO)).unwrap_or(true)
}

/// A poll on some: the first that can be read.
pub(crate) fn wait_any(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> nix::Result<Option<usize>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    // Longer than the clock goes is for ever.
    let end = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    loop {
        let left = match end {
            None => PollTimeout::NONE,
            // Rounded up: a poll that ends a fraction too early would spin.
            Some(end) => {
                let left = end.saturating_duration_since(std::time::Instant::now());
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, left) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) if end.is_some_and(|end| std::time::Instant::now() < end) => {}
            Ok(_) => return Ok(fds.iter().position(|fd| fd.any().unwrap_or(true))),
        }
    }
}
