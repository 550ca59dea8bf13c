//! The payload of the suite's containers: does what its arguments say, verb
//! after verb, `,` between them, and prints what it finds.
//!
//! ```text
//!   probe ns , orphans 100 , trap TERM 3 , block
//! ```
//!
//! Not started through Rust's runtime, which would ignore SIGPIPE, catch
//! SIGSEGV and open missing descriptors before a test could see them.
#![no_main]
// Calls the C library, and the kernel by numbers.
#![allow(unsafe_code)]

mod attack;
mod net;
mod scribble;
mod see;

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

// SAFETY: the types are the C library's. The safe ones take numbers, or references
// to as much memory as is written. A fork beside the one thread of `thread` can at
// worst hang, on a lock of that thread.
unsafe extern "C" {
    safe fn fork() -> c_int;
    safe fn _exit(code: c_int) -> !;
    safe fn waitpid(pid: c_int, status: Option<&mut c_int>, options: c_int) -> c_int;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
    safe fn getpid() -> c_int;
    safe fn getppid() -> c_int;
    safe fn getsid(pid: c_int) -> c_int;
    safe fn getpgid(pid: c_int) -> c_int;
    safe fn setsid() -> c_int;
    safe fn pause() -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    safe fn umask(mask: c_uint) -> c_uint;
    fn syscall(number: c_long, ...) -> c_long;
    fn ptrace(request: c_uint, ...) -> c_long;
    fn mount(s: *const c_char, t: *const c_char, k: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    safe fn setns(fd: c_int, kind: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn chroot(path: *const c_char) -> c_int;
    safe fn setuid(uid: c_uint) -> c_int;
    fn gethostname(name: *mut c_char, size: usize) -> c_int;
    safe fn clock_gettime(clock: c_int, time: &mut [i64; 2]) -> c_int;
}

/// Prints a line, or ends: it has no reader any more.
fn say(text: impl Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        _exit(99)
    }
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn told(what: impl Display, result: std::io::Result<()>) {
    match result {
        Ok(()) => say(format!("{what}: ok")),
        Err(error) => say(format!("{what}: errno {}", error.raw_os_error().unwrap_or(-1))),
    }
}

fn told_call(what: impl Display, result: impl Into<i64>) {
    told(what, if result.into() < 0 { Err(Error::last_os_error()) } else { Ok(()) });
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| fail(format!("not a number: {text}")))
}

fn fail(text: String) -> ! {
    say(format!("probe: {text}"));
    _exit(98)
}

const SIGNALS: [(&str, i32); 16] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("WINCH", 28),
];

fn signal_number(name: &str) -> i32 {
    match SIGNALS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => *number,
        None => number(name) as i32,
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

// SAFETY: the C library calls the one function of this name, with these arguments.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let args: Vec<String> = (0..argc as usize)
        // SAFETY: `argv` has `argc` strings, which the kernel ended in null.
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy().into_owned())
        .collect();
    run(&args);
    0
}

/// Runs the verbs behind `args[0]`.
fn run(args: &[String]) {
    for verb in args.get(1..).unwrap_or_default().split(|arg| arg == ",") {
        let words: Vec<&str> = verb.iter().map(String::as_str).collect();
        if !words.is_empty() {
            perform(&words, args);
        }
    }
}

fn perform(words: &[&str], args: &[String]) {
    match *words {
        // --- What it is ----------------------------------------------------
        ["ns"] => namespaces("self"),
        ["ns", pid] => namespaces(pid),
        ["status"] => print_file("/proc/self/status"),
        ["mounts"] => print_file("/proc/self/mountinfo"),
        ["fds"] => descriptors(),
        ["ids"] => ids(),
        ["env"] => std::env::vars_os().for_each(|(name, value)| {
            say(format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }),
        ["args"] => say(format!("{args:?}")),
        ["cwd"] => say(std::env::current_dir().unwrap_or_default().display()),
        ["how"] => how_it_runs(),
        ["see", ref paths @ ..] => {
            see::everything(args, paths);
            how_it_runs();
            say(format!("umask {:o}", umask(0o22)));
        }
        ["umask"] => say(format!("{:o}", umask(0o22))),
        ["session"] => {
            let tty = File::open("/dev/tty").is_ok();
            say(format!("pid {} ppid {} sid {} pgid {} tty {tty}", getpid(), getppid(), getsid(0), getpgid(0)));
        }
        ["hostname"] => {
            let mut name = [0u8; 100];
            // SAFETY: the array outlives the call and has that length.
            unsafe { gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
            say(String::from_utf8_lossy(&name[..end]));
        }
        ["monotonic"] => {
            let mut time = [0i64; 2];
            clock_gettime(1, &mut time);
            say(time[0]);
        }
        // --- Words and ends ------------------------------------------------
        ["echo", ref text @ ..] => say(text.join(" ")),
        ["err", ref text @ ..] => eprintln!("{}", text.join(" ")),
        ["scribble", seed] => {
            for (is_err, piece) in scribble::Scribble::new(number(seed) as u64).pieces() {
                let result = match is_err {
                    true => std::io::stderr().write_all(&piece),
                    false => std::io::stdout().write_all(&piece).and_then(|()| std::io::stdout().flush()),
                };
                result.expect("somebody who reads it");
            }
        }
        ["piece", text] => {
            // By one system call.
            let line = format!("{text}\n");
            // SAFETY: write(2) of readable memory.
            unsafe { syscall(1, 1, line.as_ptr(), line.len()) };
        }
        ["lines", count] => (0..number(count)).for_each(say),
        ["stdin"] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).ok();
            say(format!("stdin {text:?}"));
        }
        ["save-stdin", path] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).ok();
            fs::write(path, text).ok();
        }
        ["save-env", path] => {
            let all = std::env::vars_os();
            let lines = all.map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()));
            fs::write(path, lines.collect::<String>()).ok();
        }
        ["cat"] => {
            let mut output = std::io::stdout();
            let copied = std::io::copy(&mut std::io::stdin().lock(), &mut output);
            if let Err(error) = copied.and_then(|_| output.flush()) {
                fail(format!("cat: {error}"));
            }
        }
        ["line"] => {
            let mut text = String::new();
            std::io::stdin().read_line(&mut text).ok();
            say(format!("line {:?}", text.trim_end()));
        }
        ["tty"] => {
            let mut size = [0u16; 4];
            // SAFETY: TIOCGWINSZ writes four numbers of 16 bits, and the array has them.
            unsafe { ioctl(0, 0x5413, size.as_mut_ptr()) };
            let name = fs::read_link("/proc/self/fd/0").unwrap_or_default();
            say(format!("tty {} {}x{}", name.display(), size[0], size[1]));
        }
        ["isatty"] => {
            let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            say(format!("isatty {} {} {}", input.is_terminal(), output.is_terminal(), errors.is_terminal()));
        }
        ["exit", code] => _exit(number(code) as i32),
        ["kill-self", name] => {
            kill(getpid(), signal_number(name));
        }
        ["block"] => loop {
            pause();
        },
        ["sleep-ms", time] => std::thread::sleep(Duration::from_millis(number(time) as u64)),
        // --- Signals -------------------------------------------------------
        // SAFETY: 1 is SIG_IGN, so no function is called.
        ["ignore", name] => unsafe {
            signal(signal_number(name), 1);
        },
        ["trap", name, code] => {
            TRAP_CODE.store(number(code) as i32, std::sync::atomic::Ordering::SeqCst);
            // SAFETY: the handler reads an atomic and ends the process, no more.
            unsafe { signal(signal_number(name), trapped as *const () as usize) };
        }
        ["kill", pid, name] => {
            let result = kill(number(pid) as i32, signal_number(name));
            told_call(format!("kill {pid} {name}"), result);
        }
        ["sigqueue", pid, name, code, sender] => sigqueue(pid, name, code, sender),
        // --- Processes -----------------------------------------------------
        ["bg", ref rest @ ..] => {
            if fork() == 0 {
                perform(rest, args);
                _exit(0)
            }
        }
        ["child", ref rest @ ..] => {
            let child = fork();
            if child == 0 {
                perform(rest, args);
                _exit(0)
            }
            waitpid(child, None, 0);
        }
        ["thread", ref rest @ ..] => std::thread::scope(|scope| {
            scope.spawn(|| perform(rest, args));
        }),
        ["orphan", ref rest @ ..] => {
            let child = fork();
            if child == 0 {
                setsid();
                if fork() == 0 {
                    perform(rest, args);
                }
                _exit(0)
            }
            waitpid(child, None, 0);
        }
        // Forks, and all that come of it do, for as long as anything lives.
        ["bomb"] => loop {
            if fork() < 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        },
        // --- What is limited -----------------------------------------------
        ["eat", megabytes] => {
            let size = number(megabytes) as usize * (1 << 20);
            let mut memory = vec![0u8; size];
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            say(format!("ate {megabytes} {}", std::hint::black_box(&memory).len()));
        }
        // A word that comes as long as its time goes on.
        ["tick"] => loop {
            say("tick");
            std::thread::sleep(Duration::from_millis(5));
        },
        ["burn"] => loop {
            std::hint::spin_loop();
        },
        ["orphans", count] => orphans(number(count)),
        ["wait-orphans"] => wait_alone(),
        // Its first parent is a helper that is about to end.
        ["wait-adopted"] => {
            let end = Instant::now() + Duration::from_secs(30);
            while getppid() != 1 {
                if Instant::now() > end {
                    fail("nobody adopts".into());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        ["processes"] => processes(),
        // --- Files ---------------------------------------------------------
        ["read", path] => match fs::read_to_string(path) {
            Ok(text) => say(text.trim_end()),
            Err(error) => told(format!("read {path}"), Err(error)),
        },
        ["head", path] => {
            let mut byte = [0u8; 1];
            let result = File::open(path).and_then(|mut file| file.read(&mut byte));
            say(match result {
                Ok(count) => format!("head {path}: {count} bytes"),
                Err(error) => format!("head {path}: errno {}", error.raw_os_error().unwrap_or(-1)),
            });
        }
        ["write", path, text] => told(format!("write {path}"), fs::write(path, text)),
        ["touch-rw", path] => {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            told(format!("open-rw {path}"), opened.map(drop));
        }
        // Directories of this name in each other below `path`; the rest is done
        // in the last one.
        ["deep", path, name, count, ref rest @ ..] => {
            told(format!("cd {path}"), std::env::set_current_dir(path));
            let down = |_| fs::create_dir(name).and_then(|()| std::env::set_current_dir(name));
            told("deep", (0..number(count)).try_for_each(down));
            if !rest.is_empty() {
                perform(rest, args);
            }
        }
        ["levels", path, name] => {
            told(format!("cd {path}"), std::env::set_current_dir(path));
            let levels = std::iter::from_fn(|| std::env::set_current_dir(name).ok()).count();
            say(format!("levels: {levels}"));
        }
        ["mkdir", path] => told(format!("mkdir {path}"), fs::create_dir(path)),
        ["rm", path] => told(format!("rm {path}"), fs::remove_file(path).or_else(|_| fs::remove_dir_all(path))),
        // Exchanges two names again and again (renameat2 with RENAME_EXCHANGE).
        ["swap", one, other] => {
            let (one, other) = (c(one), c(other));
            loop {
                // SAFETY: the strings end in null and outlive the call.
                if unsafe { syscall(316, -100, one.as_ptr(), -100, other.as_ptr(), 2) } < 0 {
                    fail(format!("swap: errno {}", errno()));
                }
            }
        }
        ["link", target, path] => told(format!("link {path}"), std::os::unix::fs::symlink(target, path)),
        ["chmod", mode, path] => {
            let mode = u32::from_str_radix(mode, 8).unwrap_or_else(|_| fail(format!("no mode: {mode}")));
            told(format!("chmod {path}"), fs::set_permissions(path, fs::Permissions::from_mode(mode)));
        }
        ["ls", path] => match fs::read_dir(path) {
            Ok(entries) => {
                let mut names: Vec<_> =
                    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                say(format!("ls {path}: {}", names.join(" ")));
            }
            Err(error) => told(format!("ls {path}"), Err(error)),
        },
        ["stat", path] => stat(path),
        // Until nobody has it locked for itself alone: no look at it takes a processor.
        ["await-lock", path] => {
            let file = File::open(path).unwrap_or_else(|error| fail(format!("opening {path}: {error}")));
            // SAFETY: takes numbers only.
            told_call(format!("flock {path}"), unsafe { syscall(73, file.as_raw_fd(), 1) });
        }
        ["wait-file", path] => {
            let begin = Instant::now();
            while !fs::exists(path).unwrap_or(false) {
                let waited = begin.elapsed();
                if waited > Duration::from_secs(300) {
                    fail(format!("{path} did not appear"));
                }
                // Hundreds that wait for long must not keep a slow machine busy.
                std::thread::sleep(Duration::from_millis(if waited < Duration::from_secs(1) { 5 } else { 50 }));
            }
        }
        ["mknod", path, major, minor] => {
            let device = number(major) << 8 | number(minor);
            // SAFETY: the string ends in null and outlives the call.
            told_call(format!("mknod {path}"), unsafe { syscall(133, c(path).as_ptr(), 0o20666, device) });
        }
        ["mount", kind, target, ref options @ ..] => {
            let (kind, path, data) = (c(kind), c(target), c(&options.join(",")));
            // SAFETY: the strings end in null and outlive the call.
            let result = unsafe { mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, data.as_ptr().cast()) };
            told_call(format!("mount {target}"), result);
        }
        ["remount-rw", target] => {
            let path = c(target);
            let none = std::ptr::null();
            // SAFETY: a remount of a bind reads the target alone, which outlives the call.
            told_call(format!("remount {target}"), unsafe { mount(none, path.as_ptr(), none, 32 | 4096, none.cast()) });
        }
        ["setns", path] => {
            let result = File::open(path).and_then(|file| match setns(file.as_raw_fd(), 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            });
            told(format!("setns {path}"), result);
        }
        // SAFETY: the string ends in null and outlives the call.
        ["chroot", path] => told_call(format!("chroot {path}"), unsafe { chroot(c(path).as_ptr()) }),
        ["setuid", uid] => told_call(format!("setuid {uid}"), setuid(number(uid) as u32)),
        // SAFETY: clock_settime reads two numbers, which outlive the call.
        ["settime"] => told_call("settime", unsafe { syscall(227, 0, [0i64, 0].as_ptr()) }),
        // A call by its number, with up to six arguments, 0x... or decimal; `buf`
        // is the address of some zeroes. Through `int 0x80` those of i386.
        ["call", number, ref args @ ..] => attack::told_raw(number, attack::raw_call(false, number, args)),
        ["call32", number, ref args @ ..] => {
            attack::told_raw(&format!("i386 {number}"), attack::raw_call(true, number, args))
        }
        // --- Each other ----------------------------------------------------
        ["listen", port] => listen(port),
        ["connect", port] => connect(port),
        ["serve", name, port] => net::serve(name, port),
        ["http", port, path] => net::http(port, path),
        ["need", path] => {
            if fs::metadata(path).is_err() {
                say(format!("there is no {path}"));
                _exit(1)
            }
        }
        ["ask", server] => net::ask(server),
        ["reach", server] => net::reach(server),
        ["crash", server] => net::crash(server),
        ["silence", server] => net::silence(server),
        // --- What must not be had ------------------------------------------
        ["open-proc", pid] => attack::open_proc(pid),
        ["signal-by-fd", pid, name] => attack::signal_by_descriptor(pid, signal_number(name)),
        ["watch", stop, marker] => attack::watch(stop, marker),
        ["anew", target] => attack::mount_anew(target),
        _ => fail(format!("unknown verb {words:?}")),
    }
}

fn print_file(path: &str) {
    match fs::read_to_string(path) {
        Ok(text) => say(text.trim_end()),
        Err(error) => told(path, Err(error)),
    }
}

fn namespaces(pid: &str) {
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        match fs::metadata(format!("/proc/{pid}/ns/{kind}")) {
            Ok(meta) => say(format!("{kind} {}", meta.ino())),
            Err(error) => told(format!("ns {kind}"), Err(error)),
        }
    }
}

/// What the kernel has it run as, but for ids and limits.
fn how_it_runs() {
    let mut attr = [0u32; 14];
    // SAFETY: the array outlives the call and has the 56 bytes that it is said to have.
    told_call("sched_getattr", unsafe { syscall(315, 0, attr.as_mut_ptr(), 56, 0) });
    let flags = u64::from(attr[2]) | u64::from(attr[3]) << 32;
    let time = |at: usize| u64::from(attr[at]) | u64::from(attr[at + 1]) << 32;
    say(format!("policy {} flags {flags} nice {} priority {}", attr[1], attr[4] as i32, attr[5]));
    say(format!("times {} {} {}", time(6), time(8), time(10)));
    // SAFETY: ioprio_get has no memory arguments.
    let io = unsafe { syscall(252, 1, 0) };
    say(format!("ioprio {} {}", io >> 13, io & 0x1fff));
    // SAFETY: personality has no memory arguments, and this one changes nothing.
    say(format!("personality {}", unsafe { syscall(135, 0xffff_ffffu64) }));
    let mut name = [0u8; 65 * 6];
    // SAFETY: uname writes six names of 65 bytes, which the array has.
    unsafe { syscall(63, name.as_mut_ptr()) };
    let part = |i: usize| String::from_utf8_lossy(&name[i * 65..i * 65 + 65]).trim_end_matches('\0').to_string();
    say(format!("machine {}", part(4)));
    say(format!("domainname {}", part(5)));
    let (mut mode, mut nodes) = (0i32, [0u64; 16]);
    // SAFETY: get_mempolicy writes a number and 1024 bits, which the two have.
    unsafe { syscall(239, &raw mut mode, nodes.as_mut_ptr(), 1024, 0usize, 0) };
    say(format!("mempolicy {mode} nodes {}", nodes[0]));
    let mut mask = [0u64; 16];
    // SAFETY: the array outlives the call and has that length.
    unsafe { syscall(204, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    say(format!("cpus {}", mask[0]));
    say(format!("oom_score_adj {}", fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim()));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limits = limits.lines().filter(|line| line.starts_with("Max open files") || line.starts_with("Max core"));
    limits.for_each(|line| say(line.split_whitespace().collect::<Vec<_>>().join(" ")));
}

fn descriptors() {
    let mut found = Vec::new();
    // Not through readdir, which would show its own.
    for fd in 0..4096 {
        if let Ok(link) = fs::read_link(format!("/proc/self/fd/{fd}")) {
            found.push(format!("fd {fd} {}", link.display()));
        }
    }
    found.into_iter().for_each(say);
}

fn ids() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| ["Uid:", "Gid:", "Groups:"].iter().any(|field| line.starts_with(field))) {
        say(line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

static TRAP_CODE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn trapped(_: c_int) {
    _exit(TRAP_CODE.load(std::sync::atomic::Ordering::SeqCst))
}

/// `rt_sigqueueinfo` with a forged sender.
fn sigqueue(pid: &str, name: &str, code: &str, sender: &str) {
    let mut info = [0i32; 32];
    info[0] = signal_number(name);
    info[2] = number(code) as i32;
    info[4] = number(sender) as i32;
    // SAFETY: rt_sigqueueinfo reads a siginfo of 128 bytes, which the array has.
    let result = unsafe { syscall(129, number(pid), signal_number(name), info.as_ptr()) };
    told_call(format!("sigqueue {pid} {name} {code}"), result);
}

/// Leaves `count` orphans that have ended, never more than a hundred at once.
fn orphans(count: i64) {
    let mut left = count;
    while left > 0 {
        let batch = left.min(100);
        left -= batch;
        let child = fork();
        if child < 0 {
            fail(format!("fork: errno {}", errno()));
        }
        if child == 0 {
            for _ in 0..batch {
                match fork() {
                    0 => _exit(0),
                    -1 => _exit(1),
                    _ => {}
                }
            }
            _exit(0)
        }
        let mut status = 0;
        waitpid(child, Some(&mut status), 0);
        if status != 0 {
            fail("could not fork".into());
        }
    }
    say(format!("orphans {count}"));
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits until pause and this process are all there is, zombies included.
fn wait_alone() {
    let end = Instant::now() + Duration::from_secs(30);
    while pids().len() > 2 {
        if Instant::now() > end {
            processes();
            fail("not alone".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    say("alone");
}

fn processes() {
    for pid in pids() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        say(format!("process {pid} {state} {title}"));
    }
}

fn stat(path: &str) {
    match fs::symlink_metadata(path) {
        Err(error) => told(format!("stat {path}"), Err(error)),
        Ok(meta) => {
            let kind = meta.file_type();
            let kind = match () {
                _ if kind.is_dir() => "dir",
                _ if kind.is_symlink() => "link",
                _ if kind.is_char_device() => "char",
                _ if kind.is_file() => "file",
                _ => "other",
            };
            let (major, minor) = (meta.rdev() >> 8, meta.rdev() & 0xff);
            let mode = meta.mode() & 0o7777;
            say(format!("stat {path}: {kind} {mode:o} {}:{} {major}:{minor} {}", meta.uid(), meta.gid(), meta.len()));
        }
    }
}

fn listen(port: &str) {
    let listener = match TcpListener::bind(format!("127.0.0.1:{port}")) {
        Ok(listener) => listener,
        Err(error) => return told(format!("listen {port}"), Err(error)),
    };
    say("listening");
    if let Ok((mut stream, _)) = listener.accept() {
        stream.write_all(b"hello from the other side").ok();
    }
}

fn connect(port: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(format!("127.0.0.1:{port}")) {
            Ok(mut stream) => {
                let mut text = String::new();
                stream.read_to_string(&mut text).ok();
                return say(format!("heard {text:?}"));
            }
            Err(error) if Instant::now() > end => return told(format!("connect {port}"), Err(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
