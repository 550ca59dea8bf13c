//! Everything of a process that a runtime decides, a line each, without what
//! changes from start to start: for comparing runtimes line by line.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::{errno, say, syscall};

/// Of /proc/self/status.
const STATUS: [&str; 22] = [
    "Name",
    "Uid",
    "Gid",
    "Groups",
    "NSpid",
    "TracerPid",
    "Threads",
    "CoreDumping",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed_list",
];

/// Files that are the same text in two containers made alike.
const TEXTS: [&str; 26] = [
    "/proc/self/uid_map",
    "/proc/self/gid_map",
    "/proc/self/setgroups",
    "/proc/self/cgroup",
    "/proc/self/comm",
    "/proc/self/oom_score_adj",
    "/proc/self/coredump_filter",
    "/proc/self/timens_offsets",
    "/proc/self/loginuid",
    "/proc/self/attr/current",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shm_rmid_forced",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/fs/mqueue/queues_max",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/net/route",
    "/sys/class/net/lo/flags",
    "/sys/class/net/lo/operstate",
    "/etc/hostname",
];

/// What configs mask or make read-only, or what shows that they did not.
const PATHS: [&str; 20] = [
    "/",
    "/proc",
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sys/kernel/domainname",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/sys",
    "/sys/firmware",
    "/sys/fs/cgroup",
    "/tmp",
    "/bin",
];

/// All of it, and what `more` paths are like.
pub fn everything(args: &[String], more: &[&str]) {
    say(format!("args {args:?}"));
    std::env::vars_os().for_each(|(name, value)| say(format!("env {name:?} {value:?}")));
    say(format!("cwd {:?} {}", std::env::current_dir().map_err(|error| error.raw_os_error()), describe(".")));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| STATUS.iter().any(|name| line.split(':').next() == Some(name))) {
        let line = words(line);
        // On how many levels it has a pid: the machine's numbers say nothing.
        let pids = line.strip_prefix("NSpid:").map(|pids| format!("NSpid: {} levels", pids.split(' ').count() - 1));
        say(format!("status {}", pids.unwrap_or(line)));
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits.lines().skip(1).for_each(|line| say(format!("limit {}", words(line))));
    for (name, option) in
        [("pdeathsig", 2), ("dumpable", 3), ("keepcaps", 7), ("securebits", 27), ("timerslack", 30), ("subreaper", 37)]
    {
        let mut value = 0i32;
        // SAFETY: those of these options that write, write one number into `value`.
        let told = unsafe { syscall(157, option, &raw mut value, 0, 0, 0) };
        say(format!("prctl {name} {told} {value}"));
    }
    keyring();
    terminal();
    descriptors();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        say(format!("ns {name} {}", fs::metadata(format!("/proc/self/ns/{name}")).map_or(0, |meta| meta.ino())));
    }
    for path in TEXTS {
        let text = fs::read_to_string(path).map_err(|error| error.raw_os_error());
        match text {
            Ok(text) => text.lines().for_each(|line| say(format!("text {path}: {}", words(line)))),
            Err(errno) => say(format!("text {path}: errno {errno:?}")),
        }
    }
    mounts();
    PATHS.iter().chain(more).for_each(|path| say(format!("path {path}: {}", describe(path))));
    list("/", 0);
    list("/dev", 3);
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn keyring() {
    const GET_KEYRING_ID: i64 = 0;
    const DESCRIBE: i64 = 6;
    const SESSION: i64 = -3;
    // SAFETY: this command of keyctl has no memory arguments.
    let key = unsafe { syscall(250, GET_KEYRING_ID, SESSION, 0) };
    let mut text = [0u8; 200];
    // SAFETY: the array outlives the call and has that length.
    let size = unsafe { syscall(250, DESCRIBE, key, text.as_mut_ptr(), text.len()) };
    let text = &text[..(size.max(0) as usize).min(text.len())];
    say(format!("keyring {:?}", String::from_utf8_lossy(text).trim_end_matches('\0')));
}

fn terminal() {
    const TCGETS: i64 = 0x5401;
    const TIOCGWINSZ: i64 = 0x5413;
    const TIOCGPGRP: i64 = 0x540f;
    for fd in 0..3 {
        let (mut termios, mut size, mut group) = ([0u32; 16], [0u16; 4], 0i32);
        // SAFETY: TCGETS writes 36 bytes, of the 64 that there are.
        let told = unsafe { syscall(16, fd, TCGETS, termios.as_mut_ptr()) };
        // SAFETY: four numbers of 16 bits are written, and the array has them.
        unsafe { syscall(16, fd, TIOCGWINSZ, size.as_mut_ptr()) };
        // SAFETY: one number of 32 bits is written.
        unsafe { syscall(16, fd, TIOCGPGRP, &raw mut group) };
        say(format!("terminal {fd} {told} {:?} size {size:?} group {group}", &termios[..4]));
    }
    let tty = OpenOptions::new().read(true).write(true).custom_flags(0o400).open("/dev/tty");
    say(format!("controlling terminal {:?}", tty.map(drop).map_err(|error| error.raw_os_error())));
}

fn descriptors() {
    const F_GETFD: i64 = 1;
    const F_GETFL: i64 = 3;
    // Not through readdir, which would show its own.
    for fd in 0..1024 {
        let Ok(link) = fs::read_link(format!("/proc/self/fd/{fd}")) else { continue };
        let link = link.display().to_string();
        let link = link.split_once(":[").map_or(&*link, |(kind, _)| kind);
        // SAFETY: these commands of fcntl have no memory arguments.
        let (flags, own) = unsafe { (syscall(72, fd, F_GETFL, 0), syscall(72, fd, F_GETFD, 0)) };
        say(format!("fd {fd} {link} flags {flags:o} own {own}"));
        let owner = fs::metadata(format!("/proc/self/fd/{fd}"));
        say(format!("fd {fd} {:?}", owner.map(|meta| (meta.uid(), meta.gid(), format!("{:o}", meta.mode()))).ok()));
    }
}

fn mounts() {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(' ').collect()).collect();
    for row in &rows {
        let parent = rows.iter().find(|other| other[0] == row[1]).map_or("none", |parent| parent[4]);
        let device = if row[2].starts_with("0:") { "" } else { row[2] };
        // `shared:7`: the number is the kernel's.
        let rest: Vec<&str> =
            row[6..].iter().map(|word| word.split_once(':').map_or(*word, |(kind, _)| kind)).collect();
        say(format!("mount {} on {parent} {device} root {} {} {}", row[4], row[3], row[5], rest.join(" ")));
    }
}

/// What it is, and what reading and writing it comes to.
fn describe(path: &str) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else { return format!("errno {}", errno()) };
    let mut told = show(&meta);
    if let Ok(target) = fs::read_link(path) {
        return format!("{told} to {}", target.display());
    }
    let kind = meta.file_type();
    if kind.is_dir() {
        told += &match fs::read_dir(path) {
            // How much is in there is not the runtime's.
            Ok(mut entries) => format!(" entries {}", entries.next().is_some()),
            Err(error) => format!(" list errno {:?}", error.raw_os_error()),
        };
    } else if kind.is_file() || kind.is_char_device() {
        let mut byte = [0u8; 1];
        let opened = OpenOptions::new().read(true).custom_flags(0o4000).open(path);
        told += &match opened.and_then(|mut file: File| file.read(&mut byte)) {
            Ok(count) => format!(" read {count}"),
            Err(error) => format!(" read errno {:?}", error.raw_os_error()),
        };
    }
    let path = CString::new(path.as_bytes()).unwrap_or_default();
    const WRITE: i64 = 2;
    const EXECUTE: i64 = 1;
    for (name, mode) in [("write", WRITE), ("execute", EXECUTE)] {
        // faccessat2 with the effective ids.
        // SAFETY: the string ends in null and outlives the call.
        let result = unsafe { syscall(439, -100i64, path.as_ptr(), mode, 0x200) };
        told += &format!(" {name} {}", if result < 0 { errno() } else { 0 });
    }
    told
}

fn show(meta: &fs::Metadata) -> String {
    let (major, minor) = (meta.rdev() >> 8, meta.rdev() & 0xff);
    let size = if meta.is_file() { meta.len() } else { 0 };
    format!("{:o} {}:{} {major}:{minor} {size}", meta.mode(), meta.uid(), meta.gid())
}

fn list(dir: &str, depth: u32) {
    let mut names: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let path = format!("{}/{}", dir.trim_end_matches('/'), String::from_utf8_lossy(name.as_bytes()));
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let target = fs::read_link(&path).map(|target| format!(" to {}", target.display())).unwrap_or_default();
        say(format!("entry {path}: {}{target}", show(&meta)));
        if meta.is_dir() && depth > 0 {
            list(&path, depth - 1);
        }
    }
}
