//! What pause keeps of the streams of its pod's containers: copies of the ends that
//! their copiers read from, so that a copier that was killed closes nothing.
//!
//! They wait, as messages that nobody has received yet, in a pair of sockets that
//! pause merely has open. Whoever may trace pause can reach that; nothing of it is
//! ever taken out that is still wanted, so at no moment are they in the hands of a
//! process that may be killed alone.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use super::Pod;
use crate::error::{Context, Result};
use crate::kernel::passing::{copy_from, peek_with, send_with, take_with};
use crate::kernel::syscalls;
use crate::plan::pod::KEEPER;
use crate::store::exits::Reservation;
use crate::store::records::CONTAINERS;

/// A message: whose streams these are.
const SIZE: usize = 16;

/// The pair of sockets that pause has open.
pub(super) struct Keeper {
    put: OwnedFd,
    out: OwnedFd,
}

impl Pod {
    /// The keeper of its streams. `None` where there is none: the pod is of a build
    /// that had none, has ended, or a sandbox does not let anybody at it.
    pub(super) fn keeper(&self) -> Option<Keeper> {
        let pause = self.pidfd().filter(|_| self.record.keeps_streams)?;
        let [put, out] = KEEPER.map(|number| copy_from(pause, number).ok());
        Some(Keeper { put: put?, out: out? })
    }

    /// While this is there no other command looks through what is kept.
    fn lock_streams(&self) -> Result<File> {
        // Where there are streams there are containers.
        let path = self.dir.join(CONTAINERS);
        let context = || format!("locking {}", path.display());
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY);
        let file = options.open(&path).doing(context)?;
        syscalls::lock(&file, true, true).doing(context)?;
        Ok(file)
    }

    /// What is kept of a process's streams.
    pub(super) fn kept_streams(&self, whose: Reservation) -> Result<Vec<OwnedFd>> {
        let Some(keeper) = self.keeper() else { return Ok(Vec::new()) };
        let _lock = self.lock_streams()?;
        keeper.find(whose).doing(|| format!("looking for the streams of {}", self.name()))
    }

    /// Lets go of what is kept for others than these.
    pub(super) fn keep_streams_of(&self, wanted: impl Fn(Reservation) -> bool) -> Result<()> {
        let Some(keeper) = self.keeper() else { return Ok(()) };
        let _lock = self.lock_streams()?;
        keeper.let_go(wanted).doing(|| format!("letting go of streams of {}", self.name()))
    }
}

impl Keeper {
    /// Keeps copies of these.
    ///
    /// # Errors
    /// EAGAIN if no more can be kept, ETOOMANYREFS.
    pub(super) fn keep(&self, whose: Reservation, streams: &[BorrowedFd<'_>]) -> nix::Result<()> {
        send_with(self.put.as_fd(), &text_of(whose), streams)
    }

    fn find(&self, whose: Reservation) -> nix::Result<Vec<OwnedFd>> {
        let mut found = Vec::new();
        self.each(|message, streams| {
            if *message == text_of(whose) {
                found = streams;
            }
        })?;
        Ok(found)
    }

    /// What is unwanted is only taken out from the front. So what stands before it
    /// and is wanted is first put to the end once more.
    fn let_go(&self, wanted: impl Fn(Reservation) -> bool) -> nix::Result<()> {
        let (mut all, mut last) = (Vec::new(), None);
        self.each(|message, streams| {
            let is_wanted = wanted(whose(message));
            if !is_wanted {
                last = Some(all.len());
            }
            all.push((*message, streams, is_wanted));
        })?;
        let Some(last) = last else { return Ok(()) };
        all.truncate(last + 1);
        for (message, streams, _) in all.iter().filter(|(.., is_wanted)| *is_wanted) {
            send_with(self.put.as_fd(), message, &streams.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        }
        for _ in &all {
            take_with(self.out.as_fd(), &mut [0; SIZE])?;
        }
        Ok(())
    }

    fn each(&self, mut see: impl FnMut(&[u8; SIZE], Vec<OwnedFd>)) -> nix::Result<()> {
        let mut message = [0; SIZE];
        let mut at = 0;
        loop {
            match peek_with(self.out.as_fd(), at, &mut message) {
                Ok(Some(streams)) => see(&message, streams),
                Ok(None) => return Ok(()),
                // Of a kernel that cannot look behind the first.
                Err(Errno::EOPNOTSUPP) => return Ok(()),
                Err(error) => return Err(error),
            }
            at += SIZE;
        }
    }
}

fn text_of(whose: Reservation) -> [u8; SIZE] {
    let mut text = [0; SIZE];
    text[..8].copy_from_slice(&(whose.entry as u64).to_le_bytes());
    text[8..].copy_from_slice(&whose.generation.to_le_bytes());
    text
}

fn whose(text: &[u8; SIZE]) -> Reservation {
    let number = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&text[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    Reservation { entry: number(0) as usize, generation: number(8) }
}
