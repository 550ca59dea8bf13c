//! How a start of several containers waits, and what it tells.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::spec::After;

/// How a start waits for what comes before it.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct StartOptions<'a> {
    /// For so long at most, all in all; `None` for no limit. What has been started by
    /// then goes on, but for a container whose postStart hook has not ended.
    pub timeout: Option<Duration>,
    /// No longer than this cannot be read: a signalfd, or an end of a pipe.
    pub cancel: Option<BorrowedFd<'a>>,
    /// Is told what happens.
    pub progress: Option<&'a dyn Fn(StartProgress<'_>)>,
}

impl<'a> StartOptions<'a> {
    /// Waits no longer than this cannot be read.
    #[must_use]
    pub fn cancel(self, cancel: BorrowedFd<'a>) -> StartOptions<'a> {
        StartOptions { cancel: Some(cancel), ..self }
    }

    pub(super) fn until(&self) -> Until<'a> {
        // Longer than the clock goes is for ever.
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Until { end, cancel: self.cancel }
    }

    /// Tells what happens to this.
    #[must_use]
    pub fn progress(self, tell: &'a dyn Fn(StartProgress<'_>)) -> StartOptions<'a> {
        StartOptions { progress: Some(tell), ..self }
    }
}

impl std::fmt::Debug for StartOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartOptions").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What happens while containers are started in their order. Each has a container's
/// name.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StartProgress<'a> {
    /// This init container runs, and all others wait for its end.
    InitRuns(&'a str),
    /// It has ended with 0, now or before.
    InitDone(&'a str),
    /// This container waits for that one.
    Waits(&'a str, &'a After),
    /// This one has been started.
    Started(&'a str),
}

/// How long is waited.
#[derive(Clone, Copy, Default)]
pub(super) struct Until<'a> {
    /// No longer than this; `None` for no limit.
    pub end: Option<Instant>,
    /// And no longer than this cannot be read.
    pub cancel: Option<BorrowedFd<'a>>,
}

impl Until<'_> {
    /// What is left of the time.
    pub(super) fn left(&self) -> Option<Duration> {
        self.end.map(|end| end.saturating_duration_since(Instant::now()))
    }
}
