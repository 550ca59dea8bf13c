//! The exit table from the library's side: making, reserving, waiting.
//!
//! [`pause::table`] explains the page itself.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use pause::table::{
    CLD_DUMPED, CLD_EXITED, END_WITH_LAST, ENTRIES, EXEC_KIND, EXITED, Entry, FREE, Head, RESERVED, RUNNING,
    STATE_MASK, TABLE_SIZE, VERSION,
};
use serde::{Deserialize, Serialize};

use crate::cgroup::oom::{OomLevel, OomWatch};
use crate::error::{Context, Error, Result};
use crate::kernel::signal::Signal;
use crate::kernel::syscalls::{self, MappedTable};
use crate::kernel::{files, record_file};

/// In [`Entry::code`]: how it ended, and from [`LEVEL_SHIFT`] on 1 more than the
/// index in [`LEVELS`] of whose memory was used up, if podlet had to write that
/// down.
const CODE_MASK: u32 = 0xff;
/// See [`CODE_MASK`].
const LEVEL_SHIFT: u32 = 8;
/// See [`CODE_MASK`].
const LEVELS: [OomLevel; 3] = [OomLevel::Container, OomLevel::Pod, OomLevel::Machine];

/// After so many naps of a waiter pause must have been stopped.
const STOPPED: u32 = 20;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exit {
    /// What it said, or what ended it.
    pub status: ExitStatus,
    /// When. `None` if it was killed together with pause, which could not
    /// write it down any more.
    pub finished: Option<SystemTime>,
    /// Whose memory was used up, if that is why it was killed.
    #[serde(default)]
    pub out_of_memory: Option<OomLevel>,
}

/// Exit code or signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It called exit(2) with this code.
    Code(u8),
    /// This signal killed it.
    Signal {
        /// Its number.
        signal: u8,
        /// It dumped core.
        core_dumped: bool,
    },
}

impl Exit {
    /// Whether the program ended by itself and said 0, as
    /// [`std::process::ExitStatus::success`].
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// What the program said, 0 to 255; `None` if a signal killed it. As
    /// [`std::process::ExitStatus::code`].
    pub fn code(&self) -> Option<i32> {
        match self.status {
            ExitStatus::Code(code) => Some(code.into()),
            ExitStatus::Signal { .. } => None,
        }
    }

    /// The signal that killed it, if one did (signal(7)).
    pub fn signal(&self) -> Option<i32> {
        match self.status {
            ExitStatus::Code(_) => None,
            ExitStatus::Signal { signal, .. } => Some(signal.into()),
        }
    }

    /// Whether it dumped core (core(5)).
    pub fn core_dumped(&self) -> bool {
        matches!(self.status, ExitStatus::Signal { core_dumped: true, .. })
    }

    /// What a shell says of it: the program's own code, or 128 + signal.
    pub fn shell_code(&self) -> u8 {
        match self.status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal { signal, .. } => 128 + signal,
        }
    }

    /// `ended with 3`, or `was killed by SIGKILL`.
    pub(crate) fn told(&self) -> String {
        match (self.status, self.finished) {
            (_, None) => "ended with its pod".into(),
            (ExitStatus::Code(code), _) => format!("ended with {code}"),
            (ExitStatus::Signal { signal, .. }, _) => match Signal::new(signal.into()) {
                Ok(signal) => format!("was killed by {signal}"),
                Err(_) => format!("was killed by signal {signal}"),
            },
        }
    }

    /// With the reason, if that was lack of memory.
    pub(crate) fn explained(mut self, watch: Option<&OomWatch>) -> Exit {
        if self.signal() == Some(libc::SIGKILL) && self.out_of_memory.is_none() {
            self.out_of_memory = watch.and_then(OomWatch::level);
        }
        self
    }

    /// For what pause took with it.
    pub(crate) fn with_the_pod() -> Exit {
        let status = ExitStatus::Signal { signal: libc::SIGKILL as u8, core_dumped: false };
        Exit { status, finished: None, out_of_memory: None }
    }
}

/// One reservation of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub entry: usize,
    pub generation: u64,
}

/// What the table says of a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// A launch is under way, or died on the way.
    Reserved,
    /// It runs; its pid as pause sees it, 0 while it is being born.
    Running(u32),
    /// It ended.
    Exited(Exit),
    /// The entry has moved on to another process.
    Lost,
}

/// A pod's exit table and the pause that keeps it.
pub(crate) struct ExitTable {
    map: MappedTable,
    pub(crate) file: OwnedFd,
    /// pause; readable once it is gone, and then the table is final.
    pub(crate) pause: Option<OwnedFd>,
}

/// Makes the table's file, all zeroes written out but for what tells its
/// reservations from those of the table before it.
pub(crate) fn create(path: &Path, end_with_last: bool) -> Result<()> {
    // One that cannot be read is not looked at by any command either.
    let before = map_table(path).ok().flatten();
    let generation = before.map_or(0, |(map, _)| map.head.generation.load(Acquire));
    let mut page = vec![0u8; TABLE_SIZE];
    let at = std::mem::offset_of!(Head, generation);
    page[at..at + 8].copy_from_slice(&generation.to_ne_bytes());
    page[..4].copy_from_slice(&VERSION.to_ne_bytes());
    page[4..8].copy_from_slice(&(if end_with_last { END_WITH_LAST } else { 0 }).to_ne_bytes());
    // Renamed, never truncated: a waiter may still look at the old one.
    record_file::write_renamed(path, &page)
}

pub(crate) const NOT_ONE_PAGE: &str = "the exit table is not one page";

pub(crate) fn corrupt(path: &Path, reason: &str) -> Error {
    Error::corrupt(path, reason)
}

pub(crate) fn check_version(path: &Path, version: u32) -> Result<()> {
    match version {
        VERSION => Ok(()),
        // (Any other number is none that a build would have come to.)
        ..=0xffff if version > VERSION => {
            Err(Error::Newer { path: path.display().to_string(), version, known: VERSION })
        }
        _ => Err(corrupt(path, "no exit table")),
    }
}

/// Maps the table at `path`, if there is one.
pub(super) fn map_table(path: &Path) -> Result<Option<(MappedTable, File)>> {
    let Some((file, meta)) = files::open_own(path, OFlag::O_RDWR)? else {
        return Ok(None);
    };
    if meta.len() != TABLE_SIZE as u64 {
        return Err(corrupt(path, NOT_ONE_PAGE));
    }
    let map = MappedTable::map(file.as_fd()).doing(|| format!("mapping the exit table {}", path.display()))?;
    check_version(path, map.head.version.load(Acquire))?;
    Ok(Some((map, file)))
}

impl ExitTable {
    /// The table at `path`; `None` if there is none.
    pub(crate) fn open(path: &Path, pause: Option<OwnedFd>) -> Result<Option<ExitTable>> {
        Ok(map_table(path)?.map(|(map, file)| ExitTable { map, file: file.into(), pause }))
    }

    /// This table, kept by `pause`.
    pub(crate) fn kept_by(self, pause: OwnedFd) -> ExitTable {
        ExitTable { pause: Some(pause), ..self }
    }

    /// Whether pause lives: only then can anything still change.
    pub(crate) fn is_alive(&self) -> bool {
        match &self.pause {
            // Where the kernel does not tell, nothing says that it has ended.
            Some(pause) => !syscalls::wait_readable(pause, Some(Duration::ZERO)).unwrap_or(false),
            None => false,
        }
    }

    /// Whether the last container has ended, and pause is about to follow it.
    pub(crate) fn is_ending(&self) -> bool {
        let follows = self.map.head.flags.load(Acquire) & END_WITH_LAST != 0;
        // In this order: what has begun after the last end keeps pause alive.
        follows && self.map.entries.iter().any(|entry| entry.phase() == EXITED) && !self.has_containers()
    }

    /// Waits until pause has followed the last container, if it is about to:
    /// what comes next may begin the pod anew, and would find it half alive.
    fn see_it_end(&self, timeout: Option<Duration>) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let end = Instant::now() + timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
        while let Some(pause) = self.pause.as_ref().filter(|_| self.is_ending()) {
            let left = end.saturating_duration_since(Instant::now());
            // Bounded, because another container may begin in this moment.
            let ended = syscalls::wait_readable(pause, Some(left.min(Duration::from_millis(50))));
            if ended.doing(|| "waiting for pause".into())? || left.is_zero() {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn orphans(&self) -> u64 {
        self.map.head.orphans.load(Relaxed)
    }

    /// Whether pause ends with the last container.
    pub(crate) fn set_end_with_last(&self, on: bool) {
        if on {
            self.map.head.flags.fetch_or(END_WITH_LAST, AcqRel);
        } else {
            self.map.head.flags.fetch_and(!END_WITH_LAST, AcqRel);
        }
    }

    /// Whether a container runs or is about to.
    pub(crate) fn has_containers(&self) -> bool {
        self.map.has_containers()
    }

    /// Reserves an entry: a free one, else that of the exec which ended longest
    /// ago and whose exit no caller has read.
    pub(crate) fn reserve(&self, exec: bool) -> Option<Reservation> {
        let kind = if exec { EXEC_KIND } else { 0 };
        loop {
            if let Some(reservation) = (0..ENTRIES).find_map(|index| self.take(index, FREE, kind)) {
                return Some(reservation);
            }
            let ended = |index: &usize| self.map.entries[*index].state.load(Acquire) == EXEC_KIND | EXITED;
            let oldest = (0..ENTRIES).filter(ended).min_by_key(|&index| self.map.entries[index].time.load(Relaxed))?;
            if let Some(reservation) = self.take(oldest, EXEC_KIND | EXITED, kind) {
                return Some(reservation);
            }
        }
    }

    /// Reserves the entry of a container that ended for its next run. `None` if
    /// another command did.
    pub(crate) fn reserve_again(&self, old: Reservation) -> Option<Reservation> {
        (self.entry(old)?.generation.load(Acquire) == old.generation).then(|| self.take(old.entry, EXITED, 0))?
    }

    fn take(&self, index: usize, from: u32, kind: u32) -> Option<Reservation> {
        let entry = &self.map.entries[index];
        entry.state.compare_exchange(from, RESERVED | kind, AcqRel, Relaxed).ok()?;
        let generation = self.map.head.generation.fetch_add(1, AcqRel) + 1;
        entry.pid.store(0, Relaxed);
        entry.code.store(0, Relaxed);
        entry.status.store(0, Relaxed);
        entry.time.store(0, Relaxed);
        entry.generation.store(generation, Release);
        Some(Reservation { entry: index, generation })
    }

    /// Gives back the entry of a container that is removed. What it says of the
    /// container's end stays until no other entry is free: a waiter may have this
    /// table mapped. `level` is what cannot be found out once the container is
    /// gone.
    pub(crate) fn retire(&self, reservation: Reservation, level: Option<OomLevel>) {
        let Phase::Exited(_) = self.phase(reservation) else { return self.release(reservation) };
        self.keep_level(reservation, level);
        if let Some(entry) = self.entry(reservation) {
            // As that of an exec whose exit no caller has read.
            entry.state.compare_exchange(EXITED, EXEC_KIND | EXITED, AcqRel, Relaxed).ok();
        }
    }

    /// Writes beside an exit whose memory was used up.
    pub(crate) fn keep_level(&self, reservation: Reservation, level: Option<OomLevel>) {
        if let (Some(entry), Some(level), Phase::Exited(_)) = (self.entry(reservation), level, self.phase(reservation))
        {
            let number = LEVELS.iter().position(|known| *known == level).map_or(0, |index| index as u32 + 1);
            entry.code.fetch_or(number << LEVEL_SHIFT, AcqRel);
        }
    }

    /// Frees an entry.
    pub(crate) fn release(&self, reservation: Reservation) {
        let Some(entry) = self.entry(reservation) else { return };
        if entry.generation.load(Acquire) == reservation.generation {
            entry.generation.store(0, Relaxed);
            entry.state.store(FREE, Release);
        }
    }

    /// Containers' entries that are in none of these reservations: no record says
    /// any more whose they are.
    pub(crate) fn unclaimed(&self, claimed: &[Reservation]) -> Vec<Reservation> {
        let entries = self.map.entries.iter().enumerate();
        let used = entries.filter(|(_, entry)| {
            let state = entry.state.load(Acquire);
            state & STATE_MASK != FREE && state & EXEC_KIND == 0
        });
        let used = used.map(|(index, entry)| Reservation { entry: index, generation: entry.generation.load(Acquire) });
        used.filter(|used| !claimed.contains(used)).collect()
    }

    /// Frees every entry whose launch was killed before its process was born.
    /// The caller has the pod to itself, so no launch is in flight.
    pub(crate) fn release_unborn(&self) {
        for entry in &self.map.entries {
            let unborn = match entry.state.load(Acquire) & STATE_MASK {
                RESERVED => true,
                RUNNING => entry.pid.load(Acquire) == 0,
                _ => false,
            };
            if unborn {
                entry.generation.store(0, Relaxed);
                entry.state.store(FREE, Release);
            }
        }
    }

    /// After a launch that failed: pause may still have to write how the
    /// process ended that was to become the container.
    pub(crate) fn release_failed(&self, reservation: Reservation) {
        for _ in 0..100 {
            match self.phase(reservation) {
                Phase::Running(pid) if pid != 0 && self.is_alive() => {
                    self.sleep(reservation, Duration::from_millis(20))
                }
                _ => break,
            }
        }
        self.release(reservation);
    }

    fn entry(&self, reservation: Reservation) -> Option<&Entry> {
        self.map.entries.get(reservation.entry)
    }

    pub(crate) fn phase(&self, reservation: Reservation) -> Phase {
        self.entry(reservation).map_or(Phase::Lost, |entry| phase_of(entry, reservation))
    }

    /// pause writes an exit down at once, unless it was stopped: a tracer can do
    /// that, and then go away.
    fn wake_pause(&self) {
        if let Some(pause) = &self.pause {
            // If it is gone there is nothing to wake.
            syscalls::pidfd_signal(pause.as_fd(), libc::SIGCONT).ok();
        }
    }

    fn sleep(&self, reservation: Reservation, at_most: Duration) {
        let Some(entry) = self.entry(reservation) else { return };
        let state = entry.state.load(Acquire);
        if matches!(state & STATE_MASK, RESERVED | RUNNING) {
            syscalls::futex_wait(&entry.state, state, at_most);
        }
    }

    /// How the process of this reservation ended, if it has; `None` while it
    /// has not.
    ///
    /// # Errors
    /// [`Error::State`] if the entry serves another process since.
    pub(crate) fn try_wait(&self, reservation: Reservation) -> Result<Option<Exit>> {
        let alive = self.is_alive();
        // In this order: what pause wrote before it ended is there.
        match self.phase(reservation) {
            Phase::Exited(exit) => Ok(Some(exit)),
            Phase::Lost => Err(self.lost(reservation)),
            Phase::Running(_) | Phase::Reserved if alive => Ok(None),
            Phase::Running(1..) => Ok(Some(Exit::with_the_pod())),
            Phase::Running(0) | Phase::Reserved => {
                Err(Error::state("the container", "was not born before its pod ended"))
            }
        }
    }

    fn lost(&self, reservation: Reservation) -> Error {
        let is_free = self.entry(reservation).is_none_or(|entry| entry.generation.load(Acquire) == 0);
        let state = match is_free {
            true => "was removed before its exit was read",
            false => "was removed or started anew before its exit was read",
        };
        Error::state("the container", state)
    }

    /// Waits for the end of the process of this reservation: on its pidfd,
    /// and then for pause to write it down, which can be a moment later. If
    /// that was the end of the pod, it waits for this, too.
    pub(crate) fn wait(
        &self,
        reservation: Reservation,
        pidfd: &OwnedFd,
        timeout: Option<Duration>,
    ) -> Result<Option<Exit>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || end.map(|end| end.saturating_duration_since(Instant::now()));
        let mut gone = false;
        let mut naps = 0;
        loop {
            if let Some(exit) = self.try_wait(reservation)? {
                self.see_it_end(left())?;
                return Ok(Some(exit));
            }
            let left = left();
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            match &self.pause {
                Some(pause) if !gone => {
                    let mut fds = [pause, pidfd].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
                    let milliseconds = left.map(|left| left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32);
                    let timeout =
                        milliseconds.and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::NONE);
                    match poll(&mut fds, timeout) {
                        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                        Err(errno) => return Err(errno).doing(|| "waiting for a container".into()),
                    }
                    gone = fds[1].revents().is_some_and(|events| !events.is_empty());
                }
                // Bounded, because pause may die without a wake.
                _ => {
                    naps += 1;
                    if naps == STOPPED {
                        self.wake_pause();
                    }
                    let bound = Duration::from_millis(50);
                    self.sleep(reservation, left.map_or(bound, |left| left.min(bound)));
                }
            }
        }
    }
}

/// What an entry says of a reservation.
pub(crate) fn phase_of(entry: &Entry, reservation: Reservation) -> Phase {
    let phase = match entry.state.load(Acquire) & STATE_MASK {
        RESERVED => Phase::Reserved,
        RUNNING => Phase::Running(entry.pid.load(Acquire)),
        EXITED => Phase::Exited(exit_of(entry)),
        _ => Phase::Lost,
    };
    // Read last: it was this reservation's all the while.
    if entry.generation.load(Acquire) != reservation.generation { Phase::Lost } else { phase }
}

fn exit_of(entry: &Entry) -> Exit {
    let status = entry.status.load(Relaxed) as u8;
    let word = entry.code.load(Relaxed);
    let status = match word & CODE_MASK {
        CLD_EXITED => ExitStatus::Code(status),
        code => ExitStatus::Signal { signal: status, core_dumped: code == CLD_DUMPED },
    };
    let finished = Some(UNIX_EPOCH + Duration::from_nanos(entry.time.load(Relaxed)));
    let out_of_memory = LEVELS.get(((word >> LEVEL_SHIFT) as usize).wrapping_sub(1)).copied();
    Exit { status, finished, out_of_memory }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::snapshot::Snapshot;

    /// A table with one container in it that was killed.
    fn with_exit(dir: &Path) -> (ExitTable, Reservation) {
        let path = dir.join("table");
        create(&path, true).expect("a table");
        let table = ExitTable::open(&path, None).expect("a table").expect("the table");
        let reservation = table.reserve(false).expect("an entry");
        let entry = table.entry(reservation).expect("its entry");
        entry.pid.store(7, Relaxed);
        entry.state.store(RUNNING, Release);
        assert!(!table.is_ending());
        assert!(entry.record(7, libc::SIGKILL as u32, 1));
        (table, reservation)
    }

    #[test]
    fn an_exit_outlives_its_container_for_those_who_have_the_table() {
        let dir = tempfile::tempdir().expect("a directory");
        let (table, reservation) = with_exit(dir.path());
        assert!(table.is_ending());
        table.retire(reservation, Some(OomLevel::Pod));
        let exit = table.try_wait(reservation).expect("known").expect("an end");
        assert_eq!((exit.shell_code(), exit.out_of_memory), (137, Some(OomLevel::Pod)));
        let snapshot = Snapshot::read(&dir.path().join("table")).expect("readable").expect("a table");
        assert_eq!(snapshot.phase(reservation), Phase::Exited(exit));
        assert!(table.is_ending(), "a removed container does not keep pause alive");

        // Its entry is given to others last, and then it says so.
        for _ in 1..ENTRIES {
            assert!(table.reserve(false).is_some());
            assert_eq!(table.try_wait(reservation), Ok(Some(exit)));
        }
        assert!(!table.is_ending());
        assert!(table.reserve(false).is_some());
        assert!(table.try_wait(reservation).expect_err("lost").to_string().contains("removed or started anew"));
        assert!(table.reserve(false).is_none(), "full");
    }

    #[test]
    fn a_container_that_was_removed_was_not_started_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (table, reservation) = with_exit(dir.path());
        // As a build before left it.
        table.release(reservation);
        let error = table.try_wait(reservation).expect_err("lost").to_string();
        assert!(error.contains("was removed before") && !error.contains("anew"), "{error}");
    }
}
