//! One descriptor that tells of changes: of directories and files (inotify(7)),
//! of the ends of processes (pidfds), and that a time is over.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{Context, Error, Result};

/// What an inotify watch tells of.
pub(crate) type Mask = AddWatchFlags;
/// An inotify watch.
pub(crate) type WatchId = WatchDescriptor;

/// What has changed.
pub(crate) enum Change {
    /// Of what a watch is on; in a directory the name that it happened to.
    At(WatchId, Mask, Option<OsString>),
    /// More than the kernel keeps: anything may have changed.
    Overflow,
    /// A descriptor that was added became readable.
    Readable(u64),
    /// The time of [`Changes::wake_after`] is over.
    Tick,
}

/// The descriptor, and what it tells of.
pub(crate) struct Changes {
    epoll: Epoll,
    inotify: Inotify,
    timer: TimerFd,
    last: u64,
}

const INOTIFY: u64 = 0;
const TIMER: u64 = 1;

impl Changes {
    /// Three descriptors.
    ///
    /// # Errors
    /// [`Error::Os`], naming the limit that is reached.
    pub(crate) fn new() -> Result<Changes> {
        let failed = |what: &str, errno| refused(format!("making {what}"), errno, "fs.inotify.max_user_instances");
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.map_err(|errno| failed("an inotify instance", errno))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK);
        let timer = timer.map_err(|errno| failed("a timer", errno))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| failed("an epoll instance", errno))?;
        let add = |fd: BorrowedFd<'_>, number| epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number));
        add(inotify.as_fd(), INOTIFY).and_then(|()| add(timer.as_fd(), TIMER)).doing(|| "filling an epoll".into())?;
        Ok(Changes { epoll, inotify, timer, last: TIMER })
    }

    /// Tells of changes of a file or directory from now on. The watch that is on it
    /// already is the same one. `None` if nothing is there.
    ///
    /// # Errors
    /// [`Error::Os`], naming the limit that is reached.
    pub(crate) fn watch(&self, path: &Path, mask: Mask) -> Result<Option<WatchId>> {
        match self.inotify.add_watch(path, mask | Mask::IN_DONT_FOLLOW) {
            Ok(watch) => Ok(Some(watch)),
            // The last is a cgroup's file, of a cgroup that is being removed.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(refused(format!("watching {}", path.display()), errno, "fs.inotify.max_user_watches")),
        }
    }

    /// Ends a watch; one whose file is gone has ended by itself.
    pub(crate) fn unwatch(&self, watch: WatchId) {
        self.inotify.rm_watch(watch).ok();
    }

    /// Tells once that a descriptor is readable, by the number that this gives.
    ///
    /// # Errors
    /// [`Error::Os`], naming the limit that is reached.
    pub(crate) fn add(&mut self, fd: &OwnedFd) -> Result<u64> {
        self.last += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, self.last);
        let added = self.epoll.add(fd, event);
        added.map_err(|errno| refused("watching a process".into(), errno, "fs.epoll.max_user_watches"))?;
        Ok(self.last)
    }

    /// Of a descriptor that was added: tells no more of it.
    pub(crate) fn remove(&self, fd: &OwnedFd) {
        self.epoll.delete(fd).ok();
    }

    /// Wakes once, after this time.
    pub(crate) fn wake_after(&self, time: Duration) -> Result<()> {
        let once = Expiration::OneShot(TimeSpec::from(time.max(Duration::from_nanos(1))));
        self.timer.set(once, TimerSetTimeFlags::empty()).doing(|| "setting a timer".into())
    }

    /// What has changed since the last call; never waits. Afterwards the descriptor
    /// is not readable until something else changes.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub(crate) fn take(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut ready, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => continue,
                count => count.doing(|| "asking an epoll".into())?,
            };
            if count == 0 {
                return Ok(changes);
            }
            for event in &ready[..count] {
                match event.data() {
                    INOTIFY => self.take_watches(&mut changes)?,
                    // EAGAIN: it was set anew since.
                    TIMER => changes.extend(self.timer.wait().ok().map(|()| Change::Tick)),
                    number => changes.push(Change::Readable(number)),
                }
            }
        }
    }

    fn take_watches(&self, changes: &mut Vec<Change>) -> Result<()> {
        loop {
            let events = match self.inotify.read_events() {
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                events => events.doing(|| "reading an inotify instance".into())?,
            };
            changes.extend(events.into_iter().map(|event| match event.mask.contains(Mask::IN_Q_OVERFLOW) {
                true => Change::Overflow,
                false => Change::At(event.wd, event.mask, event.name),
            }));
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// A descriptor or watch that could not be had: which limit it is that says so, and
/// what helps. `sysctl` is the one of what was asked for.
pub(crate) fn refused(doing: String, errno: Errno, sysctl: &str) -> Error {
    let limit = match errno {
        // Said of descriptors, and by inotify_init1(2) of instances.
        Errno::EMFILE if sysctl.ends_with("instances") => {
            format!(" (RLIMIT_NOFILE, raised by `ulimit -n`, or the sysctl {sysctl} is reached: raise it)")
        }
        Errno::EMFILE => " (RLIMIT_NOFILE is reached: raise it, as `ulimit -n` does)".to_string(),
        Errno::ENFILE => " (the sysctl fs.file-max is reached: raise it)".to_string(),
        Errno::ENOSPC => format!(" (the sysctl {sysctl} is reached: raise it, or watch fewer pods)"),
        _ => String::new(),
    };
    Error::failed(doing + &limit, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_reached_is_named() {
        for (errno, words) in [
            (Errno::ENOSPC, &["watching x", "fs.inotify.max_user_watches", "raise it"][..]),
            (Errno::EMFILE, &["RLIMIT_NOFILE", "ulimit -n"]),
            (Errno::ENFILE, &["fs.file-max"]),
        ] {
            let error = refused("watching x".into(), errno, "fs.inotify.max_user_watches").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let error = refused("making".into(), Errno::EMFILE, "fs.inotify.max_user_instances").to_string();
        assert!(error.contains("max_user_instances") && error.contains("RLIMIT_NOFILE"), "{error}");
    }

    #[test]
    fn what_was_taken_is_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let changes = Changes::new().expect("descriptors");
        let watch = changes.watch(dir.path(), Mask::IN_CREATE).expect("a watch").expect("a directory");
        assert!(changes.watch(&dir.path().join("none"), Mask::IN_CREATE).expect("no error").is_none());
        assert!(changes.take().expect("none").is_empty());
        std::fs::write(dir.path().join("a"), "").expect("a file");
        assert!(crate::kernel::syscalls::wait_readable(&changes, Some(Duration::ZERO)).expect("a poll"));
        let taken = changes.take().expect("one");
        assert!(matches!(&taken[..], [Change::At(at, _, Some(name))] if *at == watch && name == "a"));
        assert!(!crate::kernel::syscalls::wait_readable(&changes, Some(Duration::ZERO)).expect("a poll"));
        changes.wake_after(Duration::from_millis(1)).expect("a timer");
        assert!(crate::kernel::syscalls::wait_readable(&changes, Some(Duration::from_secs(10))).expect("a poll"));
        assert!(matches!(changes.take().expect("one")[..], [Change::Tick]));
    }
}
