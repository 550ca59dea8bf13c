//! `podlet logs`: what a detached container wrote.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use anyhow::Result;
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pod::Store;

use crate::output::{self, Reader};
use crate::target::Target;

/// Print what a detached container wrote
#[derive(Args)]
pub struct Logs {
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last so many lines [default: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_tail, allow_negative_numbers = true)]
    tail: Option<Tail>,
    /// POD or POD/CONTAINER
    target: String,
}

/// How many lines of what is there already.
#[derive(Clone, Copy)]
enum Tail {
    All,
    Lines(u64),
}

fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" | "-1" => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "not a number of lines, or all".into()),
    }
}

impl Logs {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let target = Target::open(store, &self.target)?;
        let container = target.one()?;
        // Without one it ran in the foreground.
        let Some(mut log) = container.logs()? else { return Ok(0) };
        if let Some(Tail::Lines(lines)) = self.tail {
            seek_to_last(&mut log, lines)?;
        }
        if !self.follow {
            copy(&mut log)?;
            return Ok(0);
        }
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        changes.add_watch(&container.log_path(), AddWatchFlags::IN_MODIFY)?;
        let process = container.process().ok();
        loop {
            // Asked before the last look, so that nothing is missed.
            let ended = process.as_ref().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if copy(&mut log)? == Reader::Gone {
                return Ok(0);
            }
            let Some(process) = process.as_ref().filter(|_| !ended) else {
                return Ok(0);
            };
            let stdout = std::io::stdout();
            // Of the last only errors are told: that the pipe has no reader any
            // more, or the terminal has hung up.
            let mut fds = [
                PollFd::new(changes.as_fd(), PollFlags::POLLIN),
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdout.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                result => {
                    result?;
                }
            }
            if fds[2].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(0);
            }
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                // Its end is in the table in a moment.
                process.wait()?;
            }
            // Only the wake-up counts.
            changes.read_events().ok();
        }
    }
}

/// Goes to the beginning of the last lines; what is behind the last end of a
/// line is one, too.
fn seek_to_last(log: &mut File, lines: u64) -> Result<()> {
    const BLOCK: u64 = 64 * 1024;
    let mut begin = log.seek(SeekFrom::End(0))?;
    let end = begin;
    let mut left = lines;
    while begin > 0 && lines > 0 {
        let size = begin.min(BLOCK);
        begin -= size;
        let mut block = vec![0u8; size as usize];
        log.read_exact_at(&mut block, begin)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let next = begin + at as u64 + 1;
            // The end of the last line begins no other one.
            if next == end {
                continue;
            }
            left = left.saturating_sub(1);
            if left == 0 {
                log.seek(SeekFrom::Start(next))?;
                return Ok(());
            }
        }
    }
    log.seek(SeekFrom::Start(if lines == 0 { end } else { 0 }))?;
    Ok(())
}

/// Copies what is there from here on. A log that has been emptied since
/// (`> /dev/stdout` in the container does that) begins anew.
fn copy(log: &mut File) -> Result<Reader> {
    let mut buffer = [0u8; 64 * 1024];
    loop {
        match log.read(&mut buffer)? {
            0 if log.stream_position()? > log.metadata()?.len() => log.rewind()?,
            0 => return Ok(Reader::There),
            count => {
                if output::bytes(&buffer[..count])? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
            }
        }
    }
}
