//! Runs tests, each in processes of its own, and judges what they leave.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bed::Bed;
use crate::leaks::{self, Snapshot};
use crate::modes::{self, Mode};
use crate::{Case, NEEDS_NEW_CALLS, cases, cni, skips, sys};

/// No test takes longer; else it has hung. Times [`patience`].
const LIMIT: Duration = Duration::from_secs(150);
/// After a test's end, processes that are on their way out have this long.
/// Times [`patience`].
const AFTERMATH: Duration = Duration::from_secs(3);
/// No test in its long form takes longer. Times [`patience`].
const LONG_LIMIT: Duration = Duration::from_secs(3600);
/// The variable that says how many times slower than usual this machine is; 1
/// without it.
const PATIENCE: &str = "PODLET_TEST_PATIENCE";
/// Which network a pod is in for which none is named: none, or tests would change
/// the machine's.
pub const NETWORK: &str = "PODLET_NETWORK";
/// What [`every`] is.
const EVERY: &str = "PODLET_TEST_EVERY";
/// What [`turn`] is.
const TURN: &str = "PODLET_TEST_TURN";

/// What times are multiplied with, and the number of repetitions divided by.
pub fn patience() -> u32 {
    std::env::var(PATIENCE).map_or(1, |factor| factor.parse().expect("PODLET_TEST_PATIENCE is a number"))
}

/// Where the commands of the build before are, if the environment says.
pub fn former() -> Option<PathBuf> {
    std::env::var_os("PODLET_TEST_FORMER").map(PathBuf::from)
}

/// Of what a test in its long form does, every how manieth it does: 1 is the
/// long form, without a number it is the short one.
pub fn every() -> Option<usize> {
    std::env::var(EVERY).ok().map(|number| number.parse().expect("PODLET_TEST_EVERY is a number"))
}

/// A number that another run does not have: with which of many things to begin.
/// Given by `PODLET_TEST_TURN` a run does what an earlier one did.
pub fn turn() -> usize {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let given = std::env::var(TURN).map(|number| number.parse().expect("PODLET_TEST_TURN is a number"));
    given.unwrap_or_else(|_| now()) as usize
}

fn find(name: &str) -> Case {
    cases::all().into_iter().find(|case| case.0 == name).expect("a test of that name")
}

/// Runs everything that is asked for, and counts.
pub fn all(args: &[&str]) -> ExitCode {
    let mut filters = Vec::new();
    let mut denied = false;
    let mut whole = true;
    let mut long = every();
    let mut modes = Mode::possible();
    let mut jobs = std::thread::available_parallelism().map_or(2, |count| count.get());
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        match arg {
            "--list" => {
                cases::all().iter().for_each(|(name, _)| println!("{name}: test"));
                return ExitCode::SUCCESS;
            }
            "--mode" => {
                let names = args.next().expect("--mode all|root|mapped|user|delegated|vm[,...]");
                modes = Mode::chosen(names, &modes);
            }
            // The suite and its programs, for a user that cannot build.
            "--bundle" => {
                let base = Base::at(PathBuf::from(args.next().expect("--bundle DIR")));
                fs::write(base.dir.join("probe"), podlet_tests::PROBE).expect("the probe");
                println!("PODLET_TEST_BIN={0} {0}/suite", base.dir.display());
                std::mem::forget(base);
                return ExitCode::SUCCESS;
            }
            "--every" => {
                let number = args.next().and_then(|number| number.parse::<usize>().ok());
                long = Some(number.filter(|number| *number > 0).expect("--every N"));
            }
            "--part" => {
                assert_eq!(args.next().copied(), Some("kernel"), "--part kernel");
                whole = false;
            }
            "--jobs" => jobs = args.next().and_then(|count| count.parse().ok()).expect("--jobs N"),
            "--deny" => {
                let what = args.next().copied();
                assert_eq!(what, Some("new-calls"), "--deny new-calls");
                denied = true;
            }
            // What cargo's own harness knows.
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter),
        }
    }
    let without_new_calls = NEEDS_NEW_CALLS.iter().filter(|_| denied);
    let without_new_calls =
        without_new_calls.flat_map(|(modes, name, reason)| modes.iter().map(|mode| (*mode, *name, *reason)));
    let oci = if denied { cases::of_podlet_oci() } else { Vec::new() };
    let oci =
        oci.into_iter().flat_map(|(name, _)| modes.iter().map(move |&mode| (mode, name, crate::OCI_NEEDS_NEW_CALLS)));
    let skips: Vec<_> = skips(&modes).into_iter().chain(without_new_calls).chain(oci).collect();
    for (_, name, reason) in &skips {
        assert!(cases::all().iter().any(|case| case.0 == *name), "the list of skips names no test: {name} ({reason})");
    }
    let base = Base::at(PathBuf::from(format!("/tmp/podlet-suite-{}", std::process::id())));
    let named = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let wanted = |name: &str| named(name) && (whole || cases::asks_the_kernel(name));
    let (mut queue, mut skipped) = (Vec::new(), Vec::new());
    let all = cases::all();
    let every: Vec<_> = all.iter().flat_map(|(name, _)| modes.iter().map(move |&mode| (*name, mode))).collect();
    let every: Vec<_> = every.into_iter().filter(|(name, mode)| cases::belongs(name, *mode)).collect();
    let filtered_out = every.iter().filter(|(name, _)| !wanted(name)).count();
    for (name, mode) in every.into_iter().filter(|(name, _)| wanted(name)) {
        match skips.iter().find(|(where_, test, _)| *where_ == mode && *test == name) {
            Some((_, _, reason)) => skipped.push(format!("{name} [{}]: {reason}", mode.name())),
            None => queue.push((name, mode)),
        }
    }
    if denied {
        // After everything is built.
        sys::deny(&NEW_CALLS);
    }
    println!("\nrunning {} tests", queue.len());
    let began = Instant::now();
    let count = queue.len();
    let (alone, queue): (Vec<_>, Vec<_>) = queue.into_iter().partition(|(name, mode)| cases::runs_alone(name, *mode));
    let mut failures = base.run_all(&queue, jobs, long);
    failures.extend(base.run_all(&alone, 1, long));
    for (title, told) in &failures {
        println!("\n{title}\n{told}");
    }
    if !failures.is_empty() {
        println!("\nfailures:");
        failures.iter().for_each(|(title, _)| println!("    {}", title.trim_matches(['-', ' '])));
    }
    if !skipped.is_empty() {
        println!("\nleft out, as the list of skips says:");
        skipped.iter().for_each(|skip| println!("    {skip}"));
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        count - failures.len(),
        failures.len(),
        skipped.len(),
        filtered_out,
        began.elapsed().as_secs_f32(),
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A directory that every user can read, with the programs.
struct Base {
    dir: PathBuf,
    count: AtomicUsize,
}

impl Base {
    fn at(dir: PathBuf) -> Base {
        fs::create_dir(&dir).expect("a directory of our own");
        let base = Base { dir, count: AtomicUsize::new(0) };
        fs::set_permissions(&base.dir, fs::Permissions::from_mode(0o755)).expect("mode");
        base.add("suite", Path::new("/proc/self/exe"));
        let given = std::env::var_os("PODLET_TEST_BIN").map(PathBuf::from);
        for (name, features, target) in [
            ("podlet", None, "target"),
            ("podlet-oci", None, "target"),
            ("podlet-old-order", OLD_ORDER, "target/old-order"),
        ] {
            let built = match &given {
                Some(dir) => dir.join(name),
                None => build(name.trim_end_matches("-old-order"), features, target),
            };
            base.add(name, &built);
        }
        for name in ["podlet", "podlet-oci"] {
            if let Some(dir) = former() {
                base.add(&format!("{name}-former"), &dir.join(name));
            }
        }
        base
    }

    fn add(&self, name: &str, from: &Path) {
        let to = self.dir.join(name);
        fs::copy(from, &to).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    /// Runs tests, so many at once. Which failed, and what they said.
    fn run_all(&self, queue: &[(&str, Mode)], jobs: usize, long: Option<usize>) -> Vec<(String, String)> {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while let Some((name, mode)) = queue.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let began = Instant::now();
                        let output = self.run(name, *mode, long);
                        let seconds = began.elapsed().as_secs_f32();
                        match output {
                            Ok(()) => println!("test {name} [{}] ... ok ({seconds:.1}s)", mode.name()),
                            Err(told) => {
                                println!("test {name} [{}] ... FAILED ({seconds:.1}s)", mode.name());
                                let title = format!("---- {name} [{}] ----", mode.name());
                                failures.lock().expect("no panics").push((title, told));
                            }
                        }
                    }
                });
            }
        });
        failures.into_inner().expect("no panics")
    }

    /// Runs one test. What it said, if it failed.
    fn run(&self, name: &str, mode: Mode, long: Option<usize>) -> Result<(), String> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let dir = self.dir.join(format!("t{number}"));
        fs::create_dir(&dir).expect("the test's directory");
        if let Some(owner) = mode.owner() {
            chown(&dir, Some(owner), Some(owner)).expect("chown");
        }
        let cgroup = format!("podlet-suite-{}-{number}", std::process::id());
        let said = dir.join("said");
        let out = File::create(&said).expect("the test's output");
        let mut command = Command::new(self.dir.join("suite"));
        command.args(["--supervise", mode.name(), name]).arg(&dir).arg(&cgroup);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("dup")).stderr(out);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PODLET_SUITE", &self.dir).env("RUST_BACKTRACE", "0").current_dir("/");
        command.env(PATIENCE, patience().to_string());
        command.env(TURN, turn().to_string());
        // A test of networks has a network namespace of its own, and takes this away.
        command.env(NETWORK, "none");
        command.envs(std::env::var_os(cni::PLUGINS).map(|dirs| (cni::PLUGINS, dirs)));
        command.envs(long.map(|every| (EVERY, every.to_string())));
        let ended = command.status().expect("the suite runs itself");
        modes::remove_cgroup(&cgroup);
        let told = fs::read(&said).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        remove_all(&dir);
        match ended.success() {
            true => Ok(()),
            false => Err(format!("{told}({ended})")),
        }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Removes a directory, even if a test made parts of it unreadable.
fn remove_all(dir: &Path) {
    for path in leaks::tree(dir) {
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).ok();
        }
    }
    if fs::remove_dir_all(dir).is_err() {
        // Deeper than this program has descriptors.
        Command::new("rm").arg("-rf").arg(dir).status().ok();
    }
}

/// What a sandbox denies that does not know it.
const NEW_CALLS: [libc::c_long; 9] = [
    libc::SYS_openat2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_close_range,
];

const OLD_ORDER: Option<&str> = Some("pod/test-old-order");

/// Builds a command, in a target directory of its own for each feature.
fn build(package: &str, features: Option<&str>, target: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a workspace");
    let target = match (features, std::env::var_os("CARGO_TARGET_DIR")) {
        (None, Some(dir)) => dir.into(),
        (Some(_), Some(dir)) => PathBuf::from(dir).join("old-order"),
        _ => workspace.join(target),
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(workspace).args(["build", "--quiet", "-p", package, "--target-dir"]).arg(&target);
    if let Some(features) = features {
        command.args(["--features", features]);
    }
    // The commands have the suite's own C library.
    let musl = cfg!(target_env = "musl").then_some("x86_64-unknown-linux-musl");
    command.args(musl.iter().flat_map(|target| ["--target", target]));
    assert!(command.status().expect("cargo runs").success(), "{package} does not compile");
    target.join(musl.unwrap_or_default()).join("debug").join(package)
}

/// First process of a test: becomes the mode's user.
pub fn supervise(mode: &str, test: &str, dir: &str, cgroup: &str) -> ExitCode {
    let mode = Mode::parse(mode).expect("a mode");
    mode.enter(Path::new(dir), cgroup);
    let error = Command::new("/proc/self/exe").args(["--guard", mode.name(), test, dir]).exec();
    panic!("executing the guard: {error}");
}

/// Second: adopts and reaps, watches the clock, and looks for leaks.
pub fn guard(mode: &str, test: &str, dir: &str) -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().expect("a signal mask");
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let mut signals = Reaper(SignalFd::with_flags(&signals, flags).expect("a signalfd"), BTreeMap::new());

    let before = Snapshot::take();
    #[allow(clippy::zombie_processes)] // The reaper waits for all.
    let body = Command::new("/proc/self/exe").args(["--body", mode, test, dir]).spawn().expect("the body");
    let body = Pid::from_raw(body.id() as i32);
    let limit = if every().is_some() { LONG_LIMIT } else { LIMIT } * patience();
    let deadline = Instant::now() + limit;
    let ended = signals.wait_until(deadline, |reaped| reaped.contains_key(&body));
    let mut wrong = Vec::new();
    match signals.1.get(&body) {
        Some(WaitStatus::Exited(_, 0)) => {}
        Some(status) => wrong.push(format!("the test failed: {status:?}")),
        None => wrong.push(format!("the test hung for {} s", limit.as_secs())),
    }
    if !wrong.is_empty() {
        println!("processes:");
        leaks::descendants(std::process::id()).iter().for_each(|seen| println!("    {seen}"));
    }
    // Processes on the way out may finish.
    let me = std::process::id();
    let deadline = Instant::now() + if ended { AFTERMATH * patience() } else { Duration::ZERO };
    signals.wait_until(deadline, |_| leaks::descendants(me).is_empty());
    for left in leaks::descendants(me) {
        wrong.push(format!("process left behind: {left}"));
    }
    // A dead network namespace's devices go a moment later.
    let mut differences = before.compare();
    while !differences.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        differences = before.compare();
    }
    wrong.extend(differences);
    let root = Path::new(dir).join("state");
    let left = leaks::tree(&root).into_iter().filter(|path| !path.ends_with("/.sweep"));
    let left = left.chain(leaks::tree(&Path::new(dir).join("oci")));
    wrong.extend(left.map(|path| format!("file left behind: {path}")));
    end_everything(me, &mut signals);
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("state directory:");
    leaks::tree(&root).iter().for_each(|path| println!("    {path}"));
    println!("mounts:");
    leaks::mounts().iter().for_each(|line| println!("    {line}"));
    println!("what is wrong:");
    wrong.iter().for_each(|line| println!("    {line}"));
    ExitCode::FAILURE
}

/// Reaps children, its own and adopted ones, and keeps how they ended.
struct Reaper(SignalFd, BTreeMap<Pid, WaitStatus>);

impl Reaper {
    fn wait_until(&mut self, deadline: Instant, mut done: impl FnMut(&BTreeMap<Pid, WaitStatus>) -> bool) -> bool {
        loop {
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                match status.pid() {
                    Some(pid) => self.1.insert(pid, status),
                    None => break,
                };
            }
            if done(&self.1) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            // Grandchildren that live on send no signal when they go.
            let left = left.min(Duration::from_millis(100)).as_millis() as u16;
            match poll(&mut fds, PollTimeout::from(left)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => panic!("poll: {errno}"),
            }
            while let Ok(Some(_)) = self.0.read_signal() {}
        }
    }
}

/// A failed test's processes: all are descendants of this one.
fn end_everything(me: u32, signals: &mut Reaper) {
    signals.wait_until(Instant::now() + Duration::from_secs(10), |_| {
        let left = leaks::descendants(me);
        for seen in &left {
            kill(Pid::from_raw(seen.pid as i32), Signal::SIGKILL).ok();
        }
        left.is_empty()
    });
}

/// Third: the test.
pub fn body(mode: &str, test: &str, dir: &str) -> ExitCode {
    let (name, run) = find(test);
    let bed = Bed::make(Mode::parse(mode).expect("a mode"), Path::new(dir));
    println!("test {name}, as {}", bed.mode.name());
    let before = leaks::descriptors();
    run(&bed);
    bed.clean_up();
    let now = leaks::descriptors();
    if let Some((fd, link)) = now.iter().find(|(fd, _)| !before.contains_key(*fd)) {
        panic!("descriptor left behind: {fd} {link}");
    }
    ExitCode::SUCCESS
}
