//! What a program does that wants to get out: any call, and a look at every process
//! that appears.

use std::ffi::{c_int, c_uint};
use std::fs::{self, File};
use std::io::{Error, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crate::{_exit, c, errno, fail, fork, getpid, mount, number, pids, ptrace, say, syscall, told, told_call, waitpid};

static ZEROES: [u64; 64] = [0; 64];

pub fn raw_call(old: bool, number: &str, args: &[&str]) -> i64 {
    let value = |text: &str| match text.strip_prefix("0x") {
        _ if text == "buf" => ZEROES.as_ptr() as u64,
        Some(digits) => u64::from_str_radix(digits, 16).unwrap_or_else(|_| fail(format!("not a number: {text}"))),
        None => crate::number(text) as u64,
    };
    let mut all = [0u64; 6];
    for (given, arg) in all.iter_mut().zip(args) {
        *given = value(arg);
    }
    let number = value(number);
    let result: i64;
    // SAFETY: every register that the kernel changes is declared. What the call does
    // to this process is what the test asked for; `buf` is only for calls that read.
    unsafe {
        if old {
            // rbx and rbp belong to the compiler.
            std::arch::asm!(
                "push rbx", "mov rbx, {first}", "int 0x80", "pop rbx",
                first = in(reg) all[0], inlateout("rax") number => result,
                in("rcx") all[1], in("rdx") all[2], in("rsi") all[3], in("rdi") all[4],
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
            return i64::from(result as i32);
        }
        std::arch::asm!(
            "syscall", inlateout("rax") number => result,
            in("rdi") all[0], in("rsi") all[1], in("rdx") all[2], in("r10") all[3], in("r8") all[4], in("r9") all[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

pub fn told_raw(what: &str, result: i64) {
    match result {
        0.. => say(format!("call {what}: ok")),
        _ => say(format!("call {what}: errno {}", -result)),
    }
}

const PTRACE_SEIZE: c_uint = 0x4206;
const PTRACE_INTERRUPT: c_uint = 0x4207;
const PTRACE_DETACH: c_uint = 17;
const WALL: c_int = 0x4000_0000;

/// Seizes, looks with `look`, and lets go.
fn seize(pid: i32, look: impl FnOnce()) -> bool {
    // SAFETY: seizing has no memory arguments; the process is another one.
    if unsafe { ptrace(PTRACE_SEIZE, pid, 0usize, 0usize) } < 0 {
        return false;
    }
    look();
    // SAFETY: neither request has memory arguments.
    unsafe {
        let mut status = 0;
        ptrace(PTRACE_INTERRUPT, pid, 0usize, 0usize);
        waitpid(pid, Some(&mut status), WALL);
        ptrace(PTRACE_DETACH, pid, 0usize, 0usize);
    }
    true
}

/// Everything of a process that leads out of the container.
pub fn open_proc(pid: &str) {
    for name in ["root", "cwd", "exe", "fd/0", "fd/3", "ns/net", "ns/mnt", "mem", "environ", "maps"] {
        let path = format!("/proc/{pid}/{name}");
        told(format!("open {name}"), File::open(&path).map(drop));
    }
    // SAFETY: pidfd_open has no memory arguments.
    let fd = unsafe { syscall(434, number(pid), 0) };
    told_call("pidfd", fd);
    // SAFETY: pidfd_getfd has no memory arguments.
    told_call("getfd", unsafe { syscall(438, fd, 0, 0) });
    let process = number(pid) as i32;
    let seized = seize(process, || ());
    told("seize", if seized { Ok(()) } else { Err(Error::from_raw_os_error(errno())) });
}

/// Has the kernel send a signal because something can be read.
pub fn signal_by_descriptor(pid: &str, signal: i32) {
    const F_SETFL: i64 = 4;
    const F_SETOWN: i64 = 8;
    const F_SETSIG: i64 = 10;
    const O_ASYNC: i64 = 0o20000;
    let Ok((ours, mut theirs)) = UnixStream::pair() else { fail("no sockets".into()) };
    for (command, value) in [(F_SETOWN, number(pid)), (F_SETSIG, signal.into()), (F_SETFL, O_ASYNC)] {
        // SAFETY: these commands of fcntl take numbers.
        let result = unsafe { syscall(72, ours.as_raw_fd(), command, value) };
        told_call(format!("fcntl {command} {value}"), result);
    }
    told(format!("signal {pid} by descriptor"), theirs.write_all(b"x"));
}

/// Until the file `stop` is there: tries to read the host's file `marker`
/// through every new process and to seize it. What is seized counts if it has
/// CAP_SYS_ADMIN, which no container of the test has; and by itself if it has
/// more than that and what this process has.
pub fn watch(stop: &str, marker: &str) {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let me = getpid();
    let old = pids();
    let own = capabilities("/proc/self/status", "CapPrm:");
    let (mut tries, mut read, mut seized, mut seized_any, mut more) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut descriptors = std::collections::BTreeSet::new();
    say("watching");
    // SIGKILL to the container ends it in the worst case.
    while !fs::exists(stop).unwrap_or(false) {
        for pid in pids() {
            if pid == me || old.contains(&pid) {
                continue;
            }
            tries += 1;
            for link in ["root", "cwd"] {
                if fs::exists(format!("/proc/{pid}/{link}{marker}")).unwrap_or(false) {
                    read += 1;
                }
            }
            for fd in 3..16 {
                if let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{fd}"))
                    && descriptors.len() < 100
                {
                    // Numbers of sockets say nothing.
                    let link = link.display().to_string();
                    descriptors.insert(link.split_once(":[").map_or(link.clone(), |(kind, _)| kind.to_string()));
                }
            }
            let (mut effective, mut permitted) = (0, 0);
            let any = seize(pid, || {
                let status = format!("/proc/{pid}/status");
                (effective, permitted) = (capabilities(&status, "CapEff:"), capabilities(&status, "CapPrm:"));
            });
            seized += u64::from(effective & CAP_SYS_ADMIN != 0);
            more += u64::from(permitted & !(own | CAP_SYS_ADMIN) != 0);
            seized_any += u64::from(any);
        }
    }
    descriptors.iter().for_each(|link| say(format!("descriptor {link}")));
    say(format!("watched tries={tries} read={read} seized={seized} (any {seized_any}) more={more}"));
}

/// One set of a process.
fn capabilities(status: &str, set: &str) -> u64 {
    let status = fs::read_to_string(status).unwrap_or_default();
    let caps = status.lines().find_map(|line| line.strip_prefix(set));
    caps.and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok()).unwrap_or(0)
}

/// As root of a new user namespace, with namespaces of its own: mounts a proc
/// and a sysfs, which show everything if the kernel lets them be mounted.
pub fn mount_anew(target: &str) {
    // CLONE_NEWUSER, NEWNS, NEWPID and NEWNET.
    // SAFETY: unshare has no memory arguments, and nothing else runs here.
    let made = unsafe { syscall(272, 0x7002_0000) };
    told_call("anew namespaces", made);
    // The pid namespace is the children's.
    let child = if made < 0 { -1 } else { fork() };
    if child != 0 {
        waitpid(child, None, 0);
        return;
    }
    for kind in ["proc", "sysfs"] {
        let (name, path) = (c(kind), c(target));
        // SAFETY: the strings end in null and outlive the call; no data is no pointer.
        let result = unsafe { mount(name.as_ptr(), path.as_ptr(), name.as_ptr(), 0, std::ptr::null()) };
        told_call(format!("anew {kind}"), result);
    }
    _exit(0)
}
