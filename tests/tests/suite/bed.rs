//! What a test lies in: a state directory, a root file system with the probe,
//! and the command; and words for what tests do with them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::patience;
use crate::leaks;
use crate::modes::Mode;

/// Nothing that is waited for takes longer, even on a slow, busy machine.
/// Times [`patience`].
const PATIENCE: Duration = Duration::from_secs(60);

const PASSWD: &str = "root:x:0:0:root:/root:/probe\nweb:x:33:34:web:/srv:/probe\nodd:x:4294967296:0::/:\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nadm:x:4:web,root\n";

/// See the module.
pub struct Bed {
    pub mode: Mode,
    pub dir: PathBuf,
    suite: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub command: String,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Said {
    /// It went well; what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).out
    }

    /// Its exit code is this.
    #[track_caller]
    pub fn code(self, code: i32) -> Said {
        assert_eq!(self.status.code(), Some(code), "exit code of {}", self.command);
        self
    }

    /// It failed, in words that have all of `words` in them.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Said {
        let said = self.code(code);
        for word in words {
            assert!(said.err.contains(word), "{:?} is missing in the error of {}: {}", word, said.command, said.err);
        }
        said
    }
}

impl Bed {
    pub fn make(mode: Mode, dir: &Path) -> Bed {
        let suite = std::env::var_os("PODLET_SUITE").expect("the suite says where it is").into();
        let bed = Bed { mode, dir: dir.to_path_buf(), suite };
        bed.make_rootfs("rootfs");
        fs::DirBuilder::new().mode(0o700).create(bed.state()).expect("the state directory");
        bed
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The root file system of most containers.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path of the root file system, as the machine sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// Makes one more root file system.
    pub fn make_rootfs(&self, name: &str) -> PathBuf {
        let root = self.dir.join(name);
        for dir in ["", "bin", "etc", "srv", "root", "sub", "tmp"] {
            fs::create_dir(root.join(dir)).expect("a directory of the rootfs");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("mode");
        let probe = root.join("probe");
        fs::write(&probe, podlet_tests::PROBE).expect("the probe");
        fs::set_permissions(&probe, fs::Permissions::from_mode(0o755)).expect("mode");
        fs::hard_link(&probe, root.join("bin/probe")).expect("a second name");
        fs::write(root.join("etc/passwd"), PASSWD).expect("passwd");
        fs::write(root.join("etc/group"), GROUP).expect("group");
        root
    }

    /// The library's view of the state directory.
    pub fn store(&self) -> pod::Store {
        pod::Store::open(self.state()).expect("a store")
    }

    /// A container that runs the probe.
    pub fn container(&self, name: &str, script: &str) -> pod::ContainerSpec {
        let args = std::iter::once("/probe").chain(script.split_whitespace());
        pod::ContainerSpec::new(name, pod::Root::Dir(self.rootfs())).args(args)
    }

    pub fn expand(&self, line: &str) -> Vec<String> {
        let expand = |word: &str| {
            let word = word.replace("ROOT", &self.rootfs().display().to_string());
            word.replace("DIR", &self.dir.display().to_string())
        };
        line.split_whitespace().map(expand).collect()
    }

    /// The command for another store than the test's own.
    pub fn in_store(&self, root: &Path, line: &str) -> Command {
        let mut command = Command::new(self.program("podlet"));
        command.arg("--root").arg(root).args(self.expand(line)).stdin(Stdio::null());
        command
    }

    /// The command, ready to be run. `ROOT` stands for `--rootfs` and its
    /// path where it is a word, `DIR` for the test's directory.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command_of("podlet", args)
    }

    /// A program of the suite's.
    pub fn program(&self, name: &str) -> PathBuf {
        self.suite.join(name)
    }

    /// The commands of the build before, for what both have to know.
    pub fn former(&self, line: &str) -> Background {
        let (program, state) = match line.strip_prefix("oci ") {
            Some(_) => ("podlet-oci-former", self.oci_state()),
            None => ("podlet-former", self.state()),
        };
        let mut command = Command::new(self.suite.join(program));
        command.arg("--root").arg(state).args(self.expand(line.trim_start_matches("oci ")));
        command.env("LANG", "C.UTF-8").stdin(Stdio::null());
        self.spawn_command(command)
    }

    fn command_of<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Command {
        let mut command = Command::new(self.suite.join(program));
        command.arg("--root").arg(self.state()).args(args);
        command.env("LANG", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs the command line, words separated by spaces.
    pub fn podlet(&self, line: &str) -> Said {
        self.podlet_args(&self.expand(line))
    }

    /// Runs `podlet` with the old order of a launch: a build for one test.
    pub fn podlet_old_order(&self, line: &str) -> Said {
        self.finish(self.command_of("podlet-old-order", &self.expand(line)))
    }

    /// Runs the command with these arguments.
    pub fn podlet_args<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        self.finish(self.command(args))
    }

    /// The runtime's state directory.
    pub fn oci_state(&self) -> PathBuf {
        self.dir.join("oci")
    }

    /// `podlet-oci`, ready to be run.
    pub fn oci_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(self.suite.join("podlet-oci"));
        command.arg("--root").arg(self.oci_state()).args(args).env("LANG", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs `podlet-oci` with these words.
    pub fn oci(&self, line: &str) -> Said {
        self.finish(self.oci_command(&self.expand(line)))
    }

    /// Runs a `podlet-oci` that leaves something running: what it prints goes
    /// where the container's output goes, so the test does not wait for its end.
    pub fn oci_detached(&self, line: &str) -> Said {
        self.spawn_command(self.oci_command(&self.expand(line))).wait()
    }

    /// `podlet-oci state`.
    pub fn oci_state_of(&self, id: &str) -> Value {
        serde_json::from_str(&self.oci(&format!("state {id}")).ok()).expect("JSON")
    }

    /// Runs any command to its end, and writes down what it said.
    pub fn finish(&self, mut command: Command) -> Said {
        let shown = show(&command);
        let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Said { command: shown, status: output.status, out: text(&output.stdout), err: text(&output.stderr) };
        println!("$ {}\n  {}", said.command, said.status);
        for (name, text) in [("out", &said.out), ("err", &said.err)] {
            text.lines().take(60).for_each(|line| println!("  {name}: {line}"));
        }
        assert!(!said.err.contains("panicked"), "a panic: {}", said.err);
        said
    }

    /// Starts the command line and comes back.
    pub fn spawn(&self, line: &str) -> Background {
        self.spawn_command(self.command(&self.expand(line)))
    }

    /// Starts any command and comes back.
    pub fn spawn_command(&self, mut command: Command) -> Background {
        let command_shown = show(&command);
        println!("$ {command_shown} &");
        let number = leaks::tree(&self.dir.join("spawned")).len();
        fs::create_dir_all(self.dir.join("spawned")).expect("a directory");
        let path = self.dir.join("spawned").join(number.to_string());
        let file = File::create(&path).expect("a file");
        command.stdout(file.try_clone().expect("dup")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command_shown}: {error}"));
        Background { child, path, command: command_shown }
    }

    /// Runs any command in a pid namespace that ends with it.
    pub fn in_pid_namespace(&self, options: &[&str], command: Command) -> Said {
        self.spawn_command(self.unshared(options, command)).wait()
    }

    /// A command to be run in a pid namespace that ends with it.
    pub fn unshared(&self, options: &[&str], command: Command) -> Command {
        let mut unshare = Command::new("unshare");
        if self.mode.nests_users() {
            unshare.args(["--user", "--map-current-user"]);
        }
        unshare.args(["--pid", "--fork"]).args(options).arg(command.get_program()).args(command.get_args());
        unshare
    }

    /// This binary as a program that embeds the library: see `embed`.
    pub fn embed(&self, line: &str) -> Command {
        let mut command = Command::new(self.suite.join("suite"));
        command.arg("--embed").arg(self.state()).arg(self.rootfs()).args(self.expand(line)).stdin(Stdio::null());
        command
    }

    /// `podlet inspect`.
    pub fn inspect(&self, target: &str) -> Value {
        serde_json::from_str(&self.podlet(&format!("inspect {target}")).ok()).expect("JSON")
    }

    /// `podlet ps -a --format json`.
    pub fn list(&self) -> Value {
        serde_json::from_str(&self.podlet("ps -a --format json").ok()).expect("JSON")
    }

    /// pause's pid.
    pub fn pause_of(&self, pod: &str) -> u32 {
        self.inspect(pod)["pause"]["pid"].as_u64().unwrap_or_else(|| panic!("pod {pod} is dead")) as u32
    }

    /// The pid of a container.
    pub fn pid_of(&self, target: &str) -> u32 {
        self.inspect(target)["pid"].as_u64().unwrap_or_else(|| panic!("{target} does not run")) as u32
    }

    /// Waits until a container's log has this line, of stdout or stderr.
    pub fn await_log(&self, target: &str, line: &str) {
        let mut log = String::new();
        self.until(&format!("{line:?} in the log of {target}"), || {
            let output = self.command(&["logs", target]).output().expect("podlet runs");
            log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            log.lines().any(|found| found == line)
        });
    }

    /// Waits until a pod has as many live processes, pause included.
    pub fn await_processes(&self, pod: &str, count: usize) {
        let pause = self.pause_of(pod);
        self.until("the pod's processes", || leaks::descendants(pause).len() + 1 >= count);
    }

    pub fn kill(&self, pid: u32, signal: nix::sys::signal::Signal) {
        println!("kill {signal} {pid}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).expect("kill");
    }

    /// How often to do again what usually is done so often: less on a machine
    /// that is so much slower.
    pub fn rounds(&self, usual: u32) -> u32 {
        usual / patience()
    }

    /// Waits for what no event tells.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE * patience();
        while !done() {
            assert!(Instant::now() < end, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes every pod by the command, as a user would.
    pub fn clean_up(&self) {
        let names = self.list();
        for pod in names.as_array().into_iter().flatten().filter_map(|pod| pod["name"].as_str()) {
            self.podlet(&format!("rm -f {pod}")).ok();
        }
        if self.oci_state().exists() {
            for id in self.oci("list -q").ok().lines() {
                self.oci(&format!("delete --force {id}")).ok();
            }
        }
    }

    /// Nothing of podlet's is left in the state directory.
    #[track_caller]
    pub fn is_clean(&self) {
        let left: Vec<_> = leaks::tree(&self.state()).into_iter().filter(|path| !path.ends_with("/.sweep")).collect();
        assert!(left.is_empty(), "left in the state directory: {left:?}");
        let left = leaks::tree(&self.oci_state());
        assert!(left.is_empty(), "left in the runtime's state directory: {left:?}");
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A command that has not ended.
pub struct Background {
    child: Child,
    path: PathBuf,
    command: String,
}

impl Background {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed, both streams.
    pub fn out(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Waits for a line of its output.
    pub fn await_line(&self, bed: &Bed, line: &str) {
        bed.until(&format!("{line:?} from {}: {}", self.command, self.out()), || {
            self.out().lines().any(|found| found == line)
        });
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        self.signal_number(signal as i32);
    }

    /// For what has no name: real-time signals.
    #[allow(unsafe_code)] // One call without memory arguments.
    pub fn signal_number(&self, number: i32) {
        // SAFETY: kill(2) takes two numbers.
        let result = unsafe { nix::libc::kill(self.child.id() as i32, number) };
        nix::errno::Errno::result(result).expect("kill");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Said {
        let status = self.child.wait().expect("wait");
        let out = self.out();
        println!("$ {} (ended)\n  {status}", self.command);
        out.lines().take(60).for_each(|line| println!("  {line}"));
        assert!(!out.contains("panicked"), "a panic: {out}");
        Said { command: self.command, status, err: out.clone(), out }
    }
}

/// All that a container has written to its log, in its order.
pub fn logged(container: &pod::Container<'_>) -> String {
    let Some(mut log) = container.logs().expect("readable") else { return String::new() };
    log.catch_up().expect("a word of its copier");
    let lines = std::iter::from_fn(|| log.read().expect("readable"));
    String::from_utf8_lossy(&lines.flat_map(|line| line.text).collect::<Vec<_>>()).into_owned()
}
