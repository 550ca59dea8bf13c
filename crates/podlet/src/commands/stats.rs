//! `podlet stats`: what pods and containers use, again and again on a terminal.
//!
//! ```text
//!   one look ─► rows, a pod's own before its containers' ─► a table, JSON, or Prometheus' text
//! ```
//!
//! What the kernel does not count is `-`, never 0, and that is said once.

mod prometheus;
mod show;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod::{Error, Pod, Store, UsageStats};

use crate::output::{self, Reader};
use crate::target::Target;

/// Show what pods and containers use: processors, memory, disks, network, pressure
#[derive(Args)]
pub struct Stats {
    /// Also pods and containers that do not run
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// How; the others than a table are printed once
    #[arg(long, default_value = "table")]
    format: Format,
    /// Print it once, also on a terminal
    #[arg(long)]
    no_stream: bool,
    /// Seconds between two looks on a terminal
    #[arg(short, long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86400))]
    interval: u64,
    /// POD (with all its containers) or POD/CONTAINER [default: all that run]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// `--format`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For scripts: a list of objects.
    Json,
    /// For Prometheus: its text exposition format, 0.0.4.
    Prometheus,
}

/// What a pod, or one of its containers, uses.
struct Row {
    pod: String,
    /// `None`: all of the pod together.
    container: Option<String>,
    /// `None` if it does not run.
    stats: Option<UsageStats>,
    /// Part of a processor that it had, 1.0 is all of one: since the look before, or
    /// else since it began.
    cpu: Option<f64>,
}

/// Which row it is.
type Name = (String, Option<String>);

/// Processor time in microseconds, and when it was that.
type Before = BTreeMap<Name, (u64, Instant)>;

impl Stats {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let mut before = Before::new();
        if self.format != Format::Table || self.no_stream || !std::io::stdout().is_terminal() {
            let rows = self.look(store, &mut before)?;
            if let Some(note) = show::uncounted(&rows) {
                output::note(note);
            }
            output::bytes(self.text(&rows)?.as_bytes())?;
            return Ok(0);
        }
        self.stream(store, &mut before)
    }

    fn text(&self, rows: &[Row]) -> Result<String> {
        Ok(match self.format {
            Format::Table => show::table(rows),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&show::json(rows))?),
            Format::Prometheus => prometheus::text(rows),
        })
    }

    /// Until it is interrupted, or the terminal goes.
    fn stream(&self, store: &Store, before: &mut Before) -> Result<u8> {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGINT);
        blocked.add(Signal::SIGTERM);
        blocked.thread_block()?;
        let ends = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC)?;
        let mut is_first = true;
        loop {
            let rows = self.look(store, before)?;
            let note = show::uncounted(&rows).map(|note| format!("{note}\n")).unwrap_or_default();
            if output::bytes(show::frame(&(self.text(&rows)? + &note), is_first).as_bytes())? == Reader::Gone {
                return Ok(0);
            }
            is_first = false;
            if !is_time_for_more(&ends, Duration::from_secs(self.interval))? {
                return Ok(0);
            }
        }
    }

    fn look(&self, store: &Store, before: &mut Before) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if self.targets.is_empty() {
            for pod in Pod::list(store)? {
                match pod {
                    Ok(pod) => rows.extend(self.of_pod(&pod)?),
                    Err(error) => output::note(error),
                }
            }
        }
        for text in &self.targets {
            let target = Target::open(store, text)?;
            match target.named() {
                None if !target.pod.is_alive() => bail!("pod {text} is not running"),
                None => rows.extend(self.of_pod(&target.pod)?),
                Some(name) => {
                    let stats = target.pod.container(name)?.stats()?;
                    rows.push(Row::new(target.pod.name(), Some(stats.name), Some(stats.all)));
                }
            }
        }
        let now = Instant::now();
        let mut seen = Before::new();
        for row in &mut rows {
            row.measure(before, &mut seen, now);
        }
        *before = seen;
        Ok(rows)
    }

    /// None if it is dead, and not asked for.
    fn of_pod(&self, pod: &Pod) -> Result<Vec<Row>> {
        let stats = match pod.stats() {
            // It ended just now, or long ago.
            Err(Error::State { .. } | Error::NotFound(_)) => None,
            stats => Some(stats?),
        };
        let mut rows = Vec::new();
        if let Some(stats) = stats {
            rows.push(Row::new(pod.name(), None, Some(stats.all)));
            let of = |one: pod::ContainerStats| Row::new(pod.name(), Some(one.name), Some(one.all));
            rows.extend(stats.containers.into_iter().map(of));
        } else if self.all {
            rows.push(Row::new(pod.name(), None, None));
        }
        if self.all {
            for container in pod.containers()? {
                let name = Some(container.name().to_string());
                if rows.iter().all(|row| row.container != name) {
                    rows.push(Row::new(pod.name(), name, None));
                }
            }
        }
        Ok(rows)
    }
}

impl Row {
    fn new(pod: &str, container: Option<String>, stats: Option<UsageStats>) -> Row {
        Row { pod: pod.into(), container, stats, cpu: None }
    }

    /// Finds out which part of a processor it had, and notes what the next look needs.
    fn measure(&mut self, before: &Before, seen: &mut Before, now: Instant) {
        let Some(stats) = &self.stats else { return };
        let Some(used) = stats.cgroup.as_ref().and_then(|cgroup| Some(cgroup.cpu.as_ref()?.usage_usec)) else { return };
        let name = (self.pod.clone(), self.container.clone());
        // One that was started again in between counts from 0.
        let known = before.get(&name).filter(|(then, when)| *then <= used && now - *when <= stats.age);
        let (used_since, time) = known.map_or((used, stats.age), |(then, when)| (used - then, now - *when));
        self.cpu = (!time.is_zero()).then(|| used_since as f64 / time.as_secs_f64() / 1e6);
        seen.insert(name, (used, now));
    }
}

/// Whether so much time has passed, and neither a signal has come nor the terminal gone.
fn is_time_for_more(ends: &SignalFd, time: Duration) -> Result<bool> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_millis() as i64 + 1).unwrap_or(PollTimeout::MAX);
        let stdout = std::io::stdout();
        let mut fds = [PollFd::new(ends.as_fd(), PollFlags::POLLIN), PollFd::new(stdout.as_fd(), PollFlags::empty())];
        match poll(&mut fds, left) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Ok(true),
            polled => {
                polled?;
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
