//! What pods cost that have nothing to do: memory, room on disk, a machine
//! full of them; and how fast they end.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod::{ContainerSpec, Pod, PodOptions, Root};

use crate::fixture::{FLOOR, Fixture, mount_lines};
use crate::measure::{median, milliseconds, timed};
use crate::report::{NONE, aim, kib, line, ms, section, times};
use crate::starts::quiet;

/// How many pods the kernel's memory is divided by.
const SAMPLE: usize = 50;

/// Memory of an idle pod.
pub fn memory(fixture: &Fixture) -> Result<()> {
    section("An idle pod", ["", "", ""]);
    settle();
    let before = kernel_memory()?;
    let pods = (0..SAMPLE).map(|number| create(fixture, number)).collect::<Result<Vec<_>>>()?;
    let after = kernel_memory()?;
    let shares = pods.iter().map(|pod| Ok(memory_of(pod.pause_pid().context("pause has ended")?)?.share));
    let share = median(&shares.collect::<Result<Vec<_>>>()?);
    let pss = aim("at most 24 KiB, better 16", share <= 24.0);
    line("user-space memory (pause's proportional share)", [&kib(share), "", ""], &pss);
    let kernel = (after - before) / SAMPLE as f64;
    line("kernel memory (slab, stacks, page tables, per-cpu)", [&kib(kernel), "", ""], "said, not aimed at");
    let size = pause::PROGRAM.len() as f64;
    let fits = aim("at most 16 KiB", size <= 16.0 * 1024.0);
    line("sealed program on disk", [&format!("{size} bytes"), "", ""], &fits);
    remove(pods)
}

/// Many idle pods: is the last one as cheap as the first?
pub fn many(fixture: &Fixture, count: usize) -> Result<()> {
    section(&format!("{count} idle pods on one machine"), ["first", "last", "growth"]);
    settle();
    let mut taken = Vec::with_capacity(count);
    let mut floors = Vec::with_capacity(count);
    for _ in 0..count {
        let (time, floor) = timed(hold_floor)?;
        taken.push(milliseconds(time));
        floors.push(floor);
    }
    let floors_growth = growth("floor: namespaces and an empty root", &taken, "");
    drop(floors);
    settle();

    let lines = mount_lines()?;
    taken.clear();
    let mut pods = Vec::with_capacity(count);
    for number in 0..count {
        let (time, pod) = timed(|| create(fixture, number))?;
        taken.push(milliseconds(time));
        pods.push(pod);
    }
    let (first, last) = ends(&taken);
    let relative = last / first / floors_growth;
    let text = aim("growth at most 1.2 x the floor's own", relative <= 1.2);
    growth("podlet: Pod::create", &taken, &format!("{text} ({relative:.2})"));
    let more = mount_lines()? as i64 - lines as i64;
    line("lines more in the machine's mount table", [&more.to_string(), "", ""], &aim("0", more == 0));
    let (time, ()) = timed(|| remove(pods))?;
    line("their removal, each", [&ms(milliseconds(time) / count as f64), "", ""], "");
    Ok(())
}

/// The end of a pod.
pub fn teardown(fixture: &Fixture, rounds: usize) -> Result<()> {
    section("The end of a pod with a sleeping container", ["median", "", ""]);
    let (mut killed, mut gone, mut removed, mut stopped) = (vec![], vec![], vec![], vec![]);
    for number in 0..rounds {
        let pod = create(fixture, number)?;
        let container = ContainerSpec::new("sleeper", Root::Dir(fixture.rootfs.clone())).args(["/bin/true", "sleep"]);
        let sleeper = pod.run(&container, quiet())?;
        let (time, _) = timed(|| Ok(pod.container("sleeper").expect("a container").stop(Duration::from_secs(10))?))?;
        stopped.push(milliseconds(time));
        ensure!(sleeper.try_wait()?.is_some(), "the container runs after its stop");
        let sleeper = pod.container("sleeper").expect("a container").start(quiet())?;
        let pause = pod.pause_pid().context("pause has ended")?;
        let pidfd = pod.pidfd().context("pause has ended")?;
        let begin = Instant::now();
        kill(pause)?;
        poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::from(10_000u16))?;
        killed.push(milliseconds(begin.elapsed()));
        let end = sleeper.as_fd();
        poll(&mut [PollFd::new(end, PollFlags::POLLIN)], PollTimeout::from(10_000u16))?;
        gone.push(milliseconds(begin.elapsed()));
        let (time, ()) = timed(|| Ok(pod.remove()?))?;
        removed.push(milliseconds(time));
    }
    let all = median(&gone);
    line("stop a container (SIGTERM, which it obeys)", [&ms(median(&stopped)), "", ""], "");
    line("SIGKILL to pause, until its pidfd is readable", [&ms(median(&killed)), "", ""], "");
    line("the same, until the container has ended", [&ms(all), "", ""], &aim("within a second", all < 1e3));
    line("Pod::remove: cgroups and records", [&ms(median(&removed)), "", ""], "");
    Ok(())
}

/// Note what the numbers stand for, where that is not in the table.
pub fn notes() {
    line("(a growth is the median of the last tenth", NONE, "");
    line(" over the median of the first tenth)", NONE, "");
}

fn create(fixture: &Fixture, number: usize) -> Result<Pod> {
    Ok(Pod::create(&fixture.store, PodOptions::new(format!("idle-{number}")))?)
}

fn remove(pods: Vec<Pod>) -> Result<()> {
    pods.into_iter().try_for_each(|pod| Ok(pod.remove()?))
}

/// The kernel takes namespaces apart in the background.
fn settle() {
    std::thread::sleep(Duration::from_millis(1500));
}

fn growth(name: &str, taken: &[f64], aim: &str) -> f64 {
    let (first, last) = ends(taken);
    line(name, [&ms(first), &ms(last), &times(last / first)], aim);
    last / first
}

/// Medians of the first and of the last tenth.
fn ends(taken: &[f64]) -> (f64, f64) {
    let tenth = (taken.len() / 10).max(1);
    (median(&taken[..tenth]), median(&taken[taken.len() - tenth..]))
}

/// An empty pod of the floor's; ends with this value.
struct Floor(Child);

impl Drop for Floor {
    fn drop(&mut self) {
        // End of its input is the word.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

fn hold_floor() -> Result<Floor> {
    let child = Command::new(FLOOR).arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut floor = Floor(child);
    let mut ready = [0u8; 1];
    let output = floor.0.stdout.as_mut().context("the floor has no output")?;
    output.read_exact(&mut ready).context("the floor does not hold")?;
    Ok(floor)
}

/// A process's memory (proc_pid_smaps(5)), in KiB.
pub struct Memory {
    /// Its proportional share of what it has mapped.
    pub share: f64,
    /// What no other process has, and is in no file that could be read again.
    pub dirty: f64,
}

/// A process's memory.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name| field(&text, name).with_context(|| format!("smaps_rollup without {name}"));
    Ok(Memory { share: field("Pss:")?, dirty: field("Private_Dirty:")? })
}

/// What the kernel uses for itself and gives account of, in KiB.
fn kernel_memory() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(["Slab:", "KernelStack:", "PageTables:", "Percpu:"].iter().filter_map(|name| field(&text, name)).sum())
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[allow(unsafe_code)] // One call without memory arguments.
fn kill(pid: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    ensure!(result == 0, "killing pause: {}", std::io::Error::last_os_error());
    Ok(())
}
