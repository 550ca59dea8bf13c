//! `podlet events`: what happens to pods and containers, as it happens.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod::{Event, EventKind, Exit, ExitStatus, Store};
use serde_json::json;

use super::filter::{Label, meet};
use crate::output::{self, Format, Reader};

/// Print what happens to pods and containers, as it happens
#[derive(Args)]
pub struct Events {
    /// How: a line an event, or an object of JSON a line
    #[arg(long, default_value = "table")]
    format: Format,
    /// Only of what has pod=NAME, container=NAME or label=K[=V], and event=KIND
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only of these pods, also ones that are not there yet [default: all]
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

/// What one `--filter KEY=VALUE` asks.
#[derive(PartialEq)]
enum Filter {
    Pod(String),
    Container(String),
    Event(String),
    /// A label of the container or its pod, with this value or any.
    Label(Label),
}

impl Events {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let filters = self.filter.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
        if let Some(wrong) = self.pods.iter().find(|pod| pod.contains('/')) {
            bail!("{wrong:?}: give a pod, and --filter container=NAME for one of its containers");
        }
        let mut watch = store.watch()?;
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGINT);
        blocked.add(Signal::SIGTERM);
        blocked.thread_block()?;
        // From here on everything that happens is told.
        let ends = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC)?;
        loop {
            let events = watch.next(Some(Duration::ZERO))?;
            for event in events.iter().filter(|event| self.is_asked_for(event) && is_meant(&filters, event)) {
                let line = if self.format == Format::Json { as_json(event) } else { as_line(event) };
                // A reader that does not read must not keep this from being ended.
                blocked.thread_unblock()?;
                let reader = output::bytes(format!("{line}\n").as_bytes());
                blocked.thread_block()?;
                if reader? == Reader::Gone {
                    return Ok(0);
                }
            }
            let stdout = std::io::stdout();
            // Of the last only errors are told: that the pipe has no reader any
            // more, or the terminal has hung up.
            let mut fds = [
                PollFd::new(watch.as_fd(), PollFlags::POLLIN),
                PollFd::new(ends.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdout.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                result => {
                    result?;
                }
            }
            if fds[1..].iter().any(|fd| fd.any() == Some(true)) {
                return Ok(0);
            }
        }
    }

    fn is_asked_for(&self, event: &Event) -> bool {
        self.pods.is_empty() || self.pods.contains(&event.pod)
    }
}

fn parse(text: &str) -> Result<Filter> {
    let Some((key, value)) = text.split_once('=') else { bail!("--filter {text:?}: give KEY=VALUE") };
    Ok(match key {
        "pod" => Filter::Pod(value.into()),
        "container" => Filter::Container(value.into()),
        "event" if EventKind::NAMES.contains(&value) => Filter::Event(value.into()),
        "event" => bail!("--filter {text:?}: an event is one of {}", EventKind::NAMES.join(", ")),
        "label" => Filter::Label(Label::parse(value)),
        _ => bail!("--filter {text:?}: there is pod, container, label and event; use --format json and jq(1) for more"),
    })
}

fn is_meant(filters: &[Filter], event: &Event) -> bool {
    meet(filters, |filter| matches!(filter, Filter::Label(_)), |filter| meets(filter, event))
}

fn meets(filter: &Filter, event: &Event) -> bool {
    match filter {
        Filter::Pod(wanted) => event.pod == *wanted,
        Filter::Container(wanted) => {
            let is_it = |name: &String| name == wanted || format!("{}/{name}", event.pod) == *wanted;
            event.container.as_ref().is_some_and(is_it)
        }
        Filter::Event(wanted) => event.kind.name() == wanted,
        Filter::Label(label) => label.is_in(&event.labels) || label.is_in(&event.pod_labels),
    }
}

fn exit_of(event: &Event) -> Option<Exit> {
    match event.kind {
        EventKind::Died { exit } => exit,
        _ => None,
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

fn as_line(event: &Event) -> String {
    let target = match &event.container {
        Some(container) => format!("{}/{container}", event.pod),
        None => event.pod.clone(),
    };
    if let EventKind::Health { health } = event.kind {
        return format!("{} {} {target} ({health})", rfc3339(event.time), event.kind.name());
    }
    let how = match exit_of(event).map(|exit| (exit.status, exit.out_of_memory.is_some())) {
        Some((ExitStatus::Code(code), _)) => format!(" (exit code {code})"),
        Some((ExitStatus::Signal { signal, .. }, false)) => format!(" (signal {signal})"),
        Some((ExitStatus::Signal { signal, .. }, true)) => format!(" (signal {signal}, out of memory)"),
        None => String::new(),
    };
    format!("{} {} {target}{how}", rfc3339(event.time), event.kind.name())
}

fn as_json(event: &Event) -> String {
    let mut object = json!({
        "time": rfc3339(event.time),
        "event": event.kind.name(),
        "pod": event.pod,
        "container": event.container,
        "labels": event.labels,
        "pod_labels": event.pod_labels,
    });
    if let EventKind::Died { exit } = event.kind {
        object["exit_code"] = json!(exit.map(|exit| exit.shell_code()));
        object["signal"] = json!(exit.and_then(|exit| exit.signal()));
        object["out_of_memory"] = json!(exit.is_some_and(|exit| exit.out_of_memory.is_some()));
    }
    if let EventKind::Health { health } = event.kind {
        object["health"] = json!(health);
    }
    object.to_string()
}
