//! `podlet logs`: what containers wrote to their logs.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod::{LogLine, LogStream, Logs as Log, Process, Store, log_time};

use crate::output::{self, Reader};
use crate::target::Target;

/// Print what a container wrote to its log, or all of a pod
#[derive(Args)]
pub struct Logs {
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last so many lines [default: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_tail, allow_negative_numbers = true)]
    tail: Option<Tail>,
    /// Begin lines with the time at which they were read from the container, in UTC
    #[arg(short, long)]
    timestamps: bool,
    /// Only what was written since: a time such as 2026-01-31T12:00:00Z, seconds since
    /// the epoch, or a duration before now such as 10m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<SystemTime>,
    /// Only what was written until then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<SystemTime>,
    /// Only what was written to this one
    #[arg(long, default_value = "all")]
    stream: Streams,
    /// Only this container of the pod
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// POD or POD/CONTAINER; of a pod with several containers each line begins with a name
    target: String,
}

/// How many lines of what is there already.
#[derive(Clone, Copy)]
enum Tail {
    All,
    Lines(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Streams {
    All,
    Stdout,
    Stderr,
}

fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" | "-1" => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "not a number of lines, or all".into()),
    }
}

fn parse_time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let wrong =
        "give a time such as 2026-01-31T12:00:00Z, seconds since the epoch, or a duration before now such as 10m";
    let wrong = || wrong.to_string();
    if let Ok(seconds) = text.parse::<f64>() {
        let since = std::time::Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        return SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(wrong);
    }
    let before = humantime::parse_duration(text).map_err(|_| wrong())?;
    SystemTime::now().checked_sub(before).ok_or_else(wrong)
}

/// The last lines of a log: a line's parts go together, and between those of one
/// stream there may be some of the other.
struct Last<P> {
    most: usize,
    /// With the number of the line that each is of.
    parts: VecDeque<(usize, P)>,
    /// How many lines there were in all.
    count: usize,
    /// The lines of stdout and stderr that have no end yet.
    begun: [Option<usize>; 2],
}

impl<P> Last<P> {
    fn new(most: usize) -> Self {
        Last { most, parts: VecDeque::new(), count: 0, begun: [None; 2] }
    }

    fn push(&mut self, stream: LogStream, ends_line: bool, part: P) {
        let begun = &mut self.begun[usize::from(stream == LogStream::Stderr)];
        let number = begun.unwrap_or(self.count);
        *begun = if ends_line { None } else { Some(number) };
        self.count = self.count.max(number + 1);
        self.parts.push_back((number, part));
        let first = self.first();
        while self.parts.front().is_some_and(|(number, _)| *number < first) {
            self.parts.pop_front();
        }
    }

    /// The number of the first that is asked for.
    fn first(&self) -> usize {
        self.count.saturating_sub(self.most)
    }

    fn into_parts(mut self) -> Vec<P> {
        let first = self.first();
        self.parts.drain(..).filter(|(number, _)| *number >= first).map(|(_, part)| part).collect()
    }
}

/// A container whose log is printed.
struct Source {
    /// What its lines begin with, if there are others.
    name: Option<String>,
    log: Log,
    /// While it runs.
    process: Option<Process>,
    /// What has been printed last ended no line.
    is_begun: bool,
}

impl Logs {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let target = Target::open(store, &self.target)?;
        let mut sources = self.sources(&target)?;
        for source in &sources {
            source.log.catch_up()?;
        }
        if self.tail.is_none() && sources.len() == 1 {
            // However much there is, it is in order, and need not be kept.
            return if self.follow { self.follow(&mut sources) } else { self.print_all(&mut sources) };
        }
        let mut lines = Vec::new();
        for (at, source) in sources.iter_mut().enumerate() {
            lines.extend(self.there(&mut source.log)?.into_iter().map(|line| (at, line)));
        }
        // Of one container they are in order already, and of none without times.
        lines.sort_by(|(_, one), (_, other)| one.time.cmp(&other.time));
        for (at, line) in &lines {
            if self.print(&mut sources, *at, line)? == Reader::Gone {
                return Ok(0);
            }
        }
        if self.follow { self.follow(&mut sources) } else { Ok(0) }
    }

    fn sources(&self, target: &Target) -> Result<Vec<Source>> {
        let containers = match (&self.container, target.named()) {
            (Some(name), Some(named)) if name != named => {
                bail!("--container {name}: {} is another one; leave one of them out", self.target)
            }
            (Some(name), _) => vec![target.pod.container(name)?],
            (None, _) => target.all()?,
        };
        if containers.is_empty() {
            bail!("pod {} has no containers", target.pod.name());
        }
        let several = containers.len() > 1;
        let width = containers.iter().map(|container| container.name().len()).max().unwrap_or(0);
        let mut sources = Vec::new();
        for (at, container) in containers.iter().enumerate() {
            // Without one it ran in the foreground.
            let Some(log) = container.logs()? else { continue };
            if !log.has_times() {
                let asked = [(self.timestamps, "--timestamps"), (self.since.is_some(), "--since")];
                let asked = asked.into_iter().chain([(self.until.is_some(), "--until")]);
                if let Some((_, option)) = asked.into_iter().find(|(is_asked, _)| *is_asked) {
                    bail!("{option}: the log of {} is of an older podlet's, which noted no times", container.name());
                }
            }
            let name = several.then(|| title(container.name(), width, at));
            sources.push(Source { name, log, process: container.process().ok(), is_begun: false });
        }
        Ok(sources)
    }

    /// What the only one has.
    fn print_all(&self, sources: &mut [Source]) -> Result<u8> {
        let now = log_time(SystemTime::now());
        while let Some(line) = sources[0].log.read()? {
            let is_later = line.time.as_ref().is_some_and(|time| *time > now);
            // What is written meanwhile by one that never stops is not waited for.
            if is_later || self.wants(&line) && self.print(sources, 0, &line)? == Reader::Gone {
                break;
            }
        }
        Ok(0)
    }

    /// What is there already, as far as it is asked for. Who follows gets the line
    /// after it too, if one is read.
    fn there(&self, log: &mut Log) -> Result<Vec<LogLine>> {
        let now = log_time(SystemTime::now());
        let most = match self.tail {
            Some(Tail::Lines(most)) => most,
            Some(Tail::All) | None => usize::MAX,
        };
        let mut last = Last::new(most);
        while let Some(line) = log.read()? {
            if line.time.as_ref().is_some_and(|time| *time > now) {
                let mut lines = last.into_parts();
                lines.extend(Some(line).filter(|line| self.follow && self.wants(line)));
                return Ok(lines);
            }
            if self.wants(&line) {
                last.push(line.stream, ends_a_line(&line), line);
            }
        }
        Ok(last.into_parts())
    }

    fn wants(&self, line: &LogLine) -> bool {
        let Some(time) = &line.time else { return true };
        let stream = match self.stream {
            Streams::All => line.stream,
            Streams::Stdout => LogStream::Stdout,
            Streams::Stderr => LogStream::Stderr,
        };
        stream == line.stream
            && self.since.is_none_or(|since| log_time(since) <= *time)
            && self.until.is_none_or(|until| *time <= log_time(until))
    }

    fn follow(&self, sources: &mut [Source]) -> Result<u8> {
        loop {
            let mut has_ended = true;
            for at in 0..sources.len() {
                let source = &mut sources[at];
                // Asked before the last look, so that nothing is missed.
                let runs = source.process.as_ref().is_some_and(|process| matches!(process.try_wait(), Ok(None)));
                has_ended &= !runs;
                if !runs && source.process.take().is_some() {
                    source.log.catch_up()?;
                }
                while let Some(line) = sources[at].log.read()? {
                    if self.wants(&line) && self.print(sources, at, &line)? == Reader::Gone {
                        return Ok(0);
                    }
                }
            }
            if has_ended || self.until.is_some_and(|until| until < SystemTime::now()) {
                return Ok(0);
            }
            let stdout = std::io::stdout();
            // Of the first only errors are told: that the pipe has no reader any more,
            // or the terminal has hung up.
            let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::empty())];
            for source in &*sources {
                fds.push(PollFd::new(source.log.as_fd(), PollFlags::POLLIN));
                fds.extend(source.process.iter().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
            }
            match poll(&mut fds, self.left()) {
                Err(nix::errno::Errno::EINTR) => {}
                result => {
                    result?;
                }
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(0);
            }
            for source in &*sources {
                source.log.seen();
                if let Some(process) = source.process.as_ref().filter(|process| is_readable(process)) {
                    // Its end is in the table in a moment.
                    process.wait()?;
                }
            }
        }
    }

    /// How long nothing need be looked for.
    fn left(&self) -> PollTimeout {
        let Some(until) = self.until else { return PollTimeout::NONE };
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
    }

    fn print(&self, sources: &mut [Source], at: usize, line: &LogLine) -> Result<Reader> {
        let source = &mut sources[at];
        let mut text = Vec::new();
        if !source.is_begun {
            text.extend(source.name.iter().flat_map(|name| name.bytes()));
            if let Some(time) = line.time.as_ref().filter(|_| self.timestamps) {
                text.extend_from_slice(time.as_bytes());
                text.push(b' ');
            }
        }
        text.extend_from_slice(&line.text);
        source.is_begun = !ends_a_line(line);
        if source.is_begun && source.name.is_some() {
            // Another one's may follow.
            text.push(b'\n');
            source.is_begun = false;
        }
        match line.stream {
            LogStream::Stdout => output::bytes(&text),
            LogStream::Stderr => output::error_bytes(&text),
        }
        .context("printing a log")
    }
}

fn ends_a_line(line: &LogLine) -> bool {
    line.text.last() == Some(&b'\n')
}

fn is_readable(process: &Process) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// A container's name before its lines; in colour for a terminal (no-color.org).
fn title(name: &str, width: usize, number: usize) -> String {
    const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
    let is_plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    match is_plain {
        true => format!("{name:width$} | "),
        false => format!("\x1b[{}m{name:width$} |\x1b[0m ", COLOURS[number % COLOURS.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts as `1:text` of stdout or `2:text` of stderr; a `/` ends a line.
    fn last(most: usize, parts: &str) -> String {
        let mut last = Last::new(most);
        for part in parts.split(' ') {
            let (stream, text) = part.split_once(':').expect("a stream");
            let stream = if stream == "1" { LogStream::Stdout } else { LogStream::Stderr };
            last.push(stream, text.ends_with('/'), text);
        }
        last.into_parts().join(" ")
    }

    #[test]
    fn the_last_lines_are_whole_and_no_more() {
        assert_eq!(last(0, "1:a/ 1:b/"), "");
        assert_eq!(last(1, "1:a/ 1:b/"), "b/");
        assert_eq!(last(9, "1:a/ 1:b/"), "a/ b/");
        // A line of two parts is one.
        assert_eq!(last(0, "1:a 1:b/ 1:c/"), "");
        assert_eq!(last(1, "1:a 1:b/ 1:c/"), "c/");
        assert_eq!(last(2, "1:a 1:b/ 1:c/"), "a b/ c/");
        assert_eq!(last(1, "1:a/ 1:b 1:c"), "b c");
        assert_eq!(last(0, "1:a/ 1:b"), "");
        // Of the other stream there may be some between.
        assert_eq!(last(1, "1:a 2:b/ 1:c/"), "b/");
        assert_eq!(last(2, "1:a 2:b/ 1:c/"), "a b/ c/");
        assert_eq!(last(2, "1:a 2:b/ 2:d/ 1:c/"), "b/ d/");
    }
}
