//! The fence: what the harness needs of the kernel that has no safe wrapper.
#![allow(unsafe_code)]

use std::io::{Error, Result};

use nix::unistd::{ForkResult, fork};

use crate::harness::patience;

/// Forks a child that only waits to be killed: an embedder's own child, which
/// has a copy of everything the embedder had open.
pub fn fork_that_blocks() -> u32 {
    // SAFETY: the child calls nothing but pause(2).
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child.as_raw() as u32,
        ForkResult::Child => loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        },
    }
}

/// Gives a file an extended attribute.
pub fn set_attribute(path: &std::path::Path, name: &str, value: &str) {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let name = CString::new(name).expect("a name");
    // SAFETY: two C strings, and a buffer of the size that is said.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    nix::errno::Errno::result(result).expect("setxattr");
}

/// Forks a child that executes a command, once what comes with its pid is
/// dropped.
pub fn fork_that_executes(command: &[&str]) -> (nix::unistd::Pid, std::io::PipeWriter) {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    let (mut wait, release) = std::io::pipe().expect("a pipe");
    // SAFETY: there is no other thread: the child may do whatever it likes.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => (child, release),
        ForkResult::Child => {
            drop(release);
            wait.read_to_end(&mut Vec::new()).expect("the end of a pipe");
            let error = std::process::Command::new(command[0]).args(&command[1..]).exec();
            panic!("executing {}: {error}", command[0]);
        }
    }
}

/// A seccomp filter for this process and all that come of it: these calls
/// fail with ENOSYS.
pub fn deny(calls: &[libc::c_long]) {
    let instruction = |code: u32, if_true: u8, k: u32| libc::sock_filter { code: code as u16, jt: if_true, jf: 0, k };
    let mut code = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (i, call) in calls.iter().enumerate() {
        code.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (calls.len() - i) as u8, *call as u32));
    }
    code.push(instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    code.push(instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: the program outlives the calls, which read it.
    unsafe {
        // Root needs no promise, which would take newuidmap its privileges.
        if libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let result = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program);
            assert_eq!(result, 0, "a seccomp filter: {}", Error::last_os_error());
        }
    }
}

/// Takes a variable from this process and from all that come of it. Only before
/// it has any other thread.
pub fn forget_variable(name: &str) {
    // SAFETY: nobody reads the environment meanwhile: there is no other thread.
    unsafe { std::env::remove_var(name) };
}

/// Gives this process, and all that come of it, a variable. Only before it has any
/// other thread.
pub fn set_variable(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: nobody reads the environment meanwhile: there is no other thread.
    unsafe { std::env::set_var(name, value) };
}

/// Takes a capability from this process's bounding set, and with that from all
/// programs it executes.
pub fn give_up_capability(capability: u64) {
    // SAFETY: no memory arguments.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    assert_eq!(result, 0, "PR_CAPBSET_DROP: {}", Error::last_os_error());
}

/// `signal(2)` to SIG_IGN.
pub fn ignore_signal(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// `signal(2)` to SIG_DFL.
pub fn default_signal(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Blocks a signal, for programs executed later, too.
pub fn block_signal(signal: nix::sys::signal::Signal) {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(signal);
    set.thread_block().expect("a signal mask");
}

/// `open(2)` without O_CLOEXEC, as careless programs do it.
pub fn open_careless(path: &std::ffi::CStr) -> Result<i32> {
    // SAFETY: the path is null-ended.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    if fd < 0 { Err(Error::last_os_error()) } else { Ok(fd) }
}

/// `close(2)`.
pub fn close(fd: i32) {
    // SAFETY: only descriptors of open_careless come here, once each.
    unsafe { libc::close(fd) };
}

/// Makes all permitted capabilities inheritable, and joins some groups where
/// that is allowed: a caller that is careless about both.
pub fn inherit_everything() {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 has two blocks of three words; the kernel only reads
    // and writes those.
    unsafe {
        libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
        (data[2], data[5]) = (data[1], data[4]);
        libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr());
        let groups = [4, 6, 24];
        libc::setgroups(groups.len(), groups.as_ptr());
    }
}

/// `pidfd_open(2)` and then `poll(2)`: whether the process has ended within
/// `milliseconds`, times [`patience`]; zombies have.
pub fn ends_within(pid: u32, milliseconds: i32) -> bool {
    // SAFETY: a pidfd is opened, polled and closed.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        if pidfd < 0 {
            return true;
        }
        let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
        let ready = libc::poll(&raw mut poll, 1, milliseconds * patience() as i32);
        libc::close(pidfd);
        ready == 1
    }
}

/// Waits for any child, the library's too. False if there was none.
pub fn steal_a_child() -> bool {
    let mut status = 0;
    // SAFETY: status outlives the call.
    unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) > 0 }
}

/// Does something as another user, in a thread of its own: the others keep their
/// ids.
pub fn as_user<T: Send>(uid: u32, what: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        // SAFETY: no pointers; glibc would change all threads.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }, 0, "setresuid");
        what()
    };
    std::thread::scope(|scope| scope.spawn(inside).join().expect("no panic"))
}

/// Connects to a socket of records.
pub fn connect(path: &std::path::Path) -> Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path.as_os_str().as_bytes())?)?;
    Ok(socket)
}

/// Gives a command copies of our descriptors, under these numbers.
pub fn give(command: &mut std::process::Command, fds: &[(i32, i32)]) {
    use std::os::unix::process::CommandExt;
    let fds = fds.to_vec();
    let give = move || {
        for &(from, to) in &fds {
            // SAFETY: no pointers. Up first: the numbers may be each other's.
            let copied = unsafe { libc::dup2(libc::fcntl(from, libc::F_DUPFD_CLOEXEC, 100), to) };
            if copied < 0 {
                return Err(Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: only system calls after the fork.
    unsafe { command.pre_exec(give) };
}

/// Has a command started by a careless caller: see [`inherit_everything`].
pub fn be_careless(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: only system calls after the fork.
    unsafe {
        command.pre_exec(|| {
            inherit_everything();
            Ok(())
        })
    };
}

/// Has a command started by a caller that ignores how its children end.
pub fn ignore_children(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: only a system call after the fork.
    unsafe {
        command.pre_exec(|| {
            ignore_signal(libc::SIGCHLD);
            Ok(())
        })
    };
}

/// Has a command started in a cgroup namespace of its own.
pub fn in_cgroup_namespace(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: only a system call after the fork.
    unsafe { command.pre_exec(|| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?)) };
}

/// Whether something can be read, or will never be, within some milliseconds.
pub fn is_readable(file: impl std::os::fd::AsFd) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 10) == 1 }
}

/// Gives a terminal a size.
pub fn resize(terminal: &std::fs::File, rows: u16, columns: u16) {
    use std::os::fd::AsRawFd;
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads the structure, which outlives the call.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// A descriptor that came in a message.
pub fn own(fd: i32) -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: it was just received, and nothing else has the number.
    unsafe { std::fs::File::from_raw_fd(fd) }
}

/// Has the calling thread trace a process (ptrace(2)): once that has ended it
/// stays a zombie, and its pid namespace with it, until [`let_go`].
pub fn seize(pid: u32) {
    // SAFETY: no memory arguments.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid as libc::pid_t, 0, 0) };
    assert_eq!(result, 0, "PTRACE_SEIZE: {}", Error::last_os_error());
}

/// Waits for the end of a process that the calling thread traces.
pub fn let_go(pid: u32) {
    let mut status = 0;
    // SAFETY: status outlives the call.
    let seen = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, libc::__WALL) };
    assert_eq!(seen, pid as libc::pid_t, "waitpid: {}", Error::last_os_error());
    assert!(libc::WIFSIGNALED(status), "it has been killed");
}
