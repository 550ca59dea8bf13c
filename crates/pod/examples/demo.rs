//! A pod of two containers, shown from all sides: `make run`.
//!
//! The containers run this same program, bound into this machine's own root
//! file system (the `host` image). They find each other on localhost and in
//! shared memory, and one of them leaves an orphan. This program, outside,
//! prints what they say, their namespaces, the process tree under pause, and
//! what pause reaped. It works as root and as an ordinary user, in a state
//! directory of its own, and leaves nothing behind.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio as Inner};
use std::time::{Duration, Instant};

use pod::{ContainerSpec, Io, Pod, PodOptions, Process, Root, Stdio, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where the containers find this program.
const PROGRAM: &str = "/tmp/demo";
/// POSIX shared memory is a file here, and the pod's containers share it.
const BOARD: &str = "/dev/shm/board";
const ADDRESS: &str = "127.0.0.1:8080";

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("server") => server(),
        Some("client") => client(),
        Some("middle") => middle(),
        Some("orphan") => until_told(),
        _ => show(),
    }
}

// ---------------------------------------------------------------- outside --

fn show() -> Result<()> {
    let state = tempfile::tempdir()?;
    let store = Store::open(state.path())?;

    let own = fs::metadata("/proc/self")?.uid();
    let how = if own == 0 { "by root".to_string() } else { format!("by uid {own}, without privileges") };
    heading(&format!("A pod is made {how}; two containers join it"));
    let begin = Instant::now();
    let pod = Pod::create(&store, PodOptions::new("demo"))?;
    let pause = pod.pause_pid().ok_or("pause is gone")?;
    said("pause", &format!("pid {pause} holds the pod's namespaces ({})", since(begin)));
    let mut server = Member::start(&pod, "server")?;
    server.print(2)?;
    let mut client = Member::start(&pod, "client")?;
    client.print(4)?;
    server.print(2)?;

    heading("Their namespaces, by inode");
    let members = [("this machine", std::process::id()), ("pause", pause), server.member()?, client.member()?];
    namespaces(&members)?;

    heading("The processes, as this machine and as the pod number them");
    println!("  {:>9}  {:>7}", "here", "in pod");
    tree(pause, "", "")?;

    heading("The orphan and the containers end");
    let (server, client) = (server.dismiss()?, client.dismiss()?);
    let deadline = Instant::now() + Duration::from_secs(5);
    while pod.status()?.reaped_orphans == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let orphans = pod.status()?.reaped_orphans;
    said("pause", &format!("server ended with {server}, client with {client}"));
    let left = children(pause)?.len();
    said("pause", &format!("reaped {orphans} orphan; it has {left} children left, zombies included"));
    let begin = Instant::now();
    pod.remove()?;
    let files = fs::read_dir(state.path())?.filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name() != ".sweep"));
    let files = files.count();
    said("pause", &format!("is ended ({}); the state directory holds {files} files", since(begin)));
    match (orphans, left, files) {
        (1, 0, 0) => Ok(()),
        _ => Err("pause should have reaped 1 orphan, and nothing should be left".into()),
    }
}

/// A container that talks to us through pipes.
struct Member {
    name: &'static str,
    process: Process,
    /// Closing it tells the container to end.
    order: PipeWriter,
    output: io::Lines<BufReader<PipeReader>>,
}

impl Member {
    fn start(pod: &Pod, name: &'static str) -> Result<Member> {
        let container = ContainerSpec::new(name, Root::Host).bind(std::env::current_exe()?, PROGRAM, true);
        let begin = Instant::now();
        let streams = Io::piped().stderr(Stdio::Inherit);
        let mut process = pod.run(&container.args([PROGRAM, name]), streams)?;
        let (order, output) = process.stdin.take().zip(process.stdout.take()).ok_or("it has pipes")?;
        let pid = process.pid().ok_or("it ended at once")?;
        said(name, &format!("pid {pid} has joined ({})", since(begin)));
        Ok(Member { name, process, order, output: BufReader::new(output).lines() })
    }

    /// Prints its next `count` lines.
    fn print(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let line = self.output.next().ok_or_else(|| format!("{} ended early", self.name))?;
            said(self.name, &line?);
        }
        Ok(())
    }

    fn member(&self) -> Result<(&'static str, u32)> {
        Ok((self.name, self.process.pid().ok_or("it ended early")?))
    }

    /// Ends it. The exit code.
    fn dismiss(self) -> Result<u8> {
        drop(self.order);
        Ok(self.process.wait()?.shell_code())
    }
}

/// One line a kind, one column a process.
fn namespaces(members: &[(&str, u32)]) -> Result<()> {
    let names: Vec<_> = members.iter().map(|(name, _)| format!("{name:>12}")).collect();
    println!("  {:8}{}", "", names.join("  "));
    for kind in ["net", "pid", "ipc", "uts", "user", "mnt", "cgroup"] {
        let inode = |pid: u32| -> Result<String> {
            // The link reads `net:[4026531840]`.
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.to_string_lossy().into_owned();
            Ok(link.trim_matches(|c: char| !c.is_ascii_digit()).to_string())
        };
        let inodes = members.iter().map(|(_, pid)| inode(*pid)).collect::<Result<Vec<_>>>()?;
        let note = match &inodes[..] {
            [machine, pause, server, client] if pause == server && server == client => match machine == pause {
                true => "the machine's",
                false => "shared by the pod",
            },
            _ => "each container its own",
        };
        let cells: Vec<_> = inodes.iter().map(|inode| format!("{inode:>12}")).collect();
        println!("  {kind:8}{}   {note}", cells.join("  "));
    }
    Ok(())
}

/// A process and its children.
fn tree(pid: u32, branch: &str, below: &str) -> Result<()> {
    let command = fs::read(format!("/proc/{pid}/cmdline"))?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let inner = field(pid, "NSpid:").unwrap_or_default();
    let inner = inner.split_whitespace().last().unwrap_or("?").to_string();
    let note = if command.contains("orphan") { "  its parent has ended: pause adopted it" } else { "" };
    println!("  {pid:>9}  {inner:>7}  {branch}{}{note}", command.trim_end());
    let children = children(pid)?;
    for (i, &child) in children.iter().enumerate() {
        let last = i + 1 == children.len();
        let (here, further) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        tree(child, &format!("{below}{here}"), &format!("{below}{further}"))?;
    }
    Ok(())
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.retain(|&child| field(child, "PPid:").is_some_and(|parent| parent.trim() == pid.to_string()));
    pids.sort();
    Ok(pids)
}

/// A line of `/proc/<pid>/status`.
fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string)
}

fn heading(text: &str) {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}{text}{plain}\n");
}

fn said(who: &str, what: &str) {
    println!("  {who:8}{what}");
}

fn since(begin: Instant) -> String {
    format!("{:.1} ms", begin.elapsed().as_secs_f64() * 1000.0)
}

// ----------------------------------------------------------------- inside --

/// Writes on the board, answers one caller.
fn server() -> Result<()> {
    let listener = TcpListener::bind(ADDRESS)?;
    fs::write(BOARD, format!("written by process {}", std::process::id()))?;
    tell(&format!("listens on {ADDRESS}, process {} of the pod", std::process::id()))?;
    tell(&format!("writes {:?} on {BOARD}", fs::read_to_string(BOARD)?))?;
    let (mut caller, _) = listener.accept()?;
    let mut question = String::new();
    BufReader::new(&caller).read_line(&mut question)?;
    writeln!(caller, "hello, I am process {}", std::process::id())?;
    tell(&format!("was asked {:?}", question.trim()))?;
    tell(&format!("reads {:?} on {BOARD}", fs::read_to_string(BOARD)?))?;
    until_told()
}

/// Reads the board, writes on it, calls the server, leaves an orphan.
fn client() -> Result<()> {
    tell(&format!("reads {:?} on {BOARD}", fs::read_to_string(BOARD)?))?;
    let mut board = File::options().append(true).open(BOARD)?;
    write!(board, ", then by process {}", std::process::id())?;
    let mut server = TcpStream::connect(ADDRESS)?;
    writeln!(server, "who is there?")?;
    let mut answer = String::new();
    BufReader::new(server).read_line(&mut answer)?;
    tell(&format!("asks on {ADDRESS}: \"who is there?\""))?;
    tell(&format!("is answered {:?}", answer.trim()))?;
    Command::new(PROGRAM).arg("middle").stdout(Inner::null()).status()?;
    tell("leaves an orphan")?;
    until_told()
}

/// Has a child, and ends before it.
fn middle() -> Result<()> {
    #[allow(clippy::zombie_processes)] // That it is left to pause is the point.
    Command::new(PROGRAM).arg("orphan").spawn()?;
    Ok(())
}

/// Waits for the end of standard input.
fn until_told() -> Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn tell(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
