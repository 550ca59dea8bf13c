//! A process by a descriptor that is its own for good: of a number that is another
//! process's by now nothing is asked, and nobody is killed by it (pidfd_open(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Readable once the process has ended.
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Process {
    /// The one that has this number now.
    #[allow(unsafe_code)] // Neither nix nor the standard library has the call.
    pub(crate) fn open(pid: u32) -> io::Result<Process> {
        // SAFETY: the call takes two numbers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made it for us, and nobody else knows of it.
        Ok(Process(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// SIGKILL; one that has ended is as good.
    #[allow(unsafe_code)] // As above.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: by pidfd_send_signal(2) nothing is read where the pointer is null.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, no_info, 0) };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Waits for its end until then; whether it has ended.
    pub(crate) fn ends_by(&self, until: Instant) -> bool {
        loop {
            // Rounded up, or the last millisecond would be spent in circles.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            let mut polled = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).is_ok_and(|count| count > 0) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
        }
    }
}
