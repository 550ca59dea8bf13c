//! What happens in a store, told to a task.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod::{Event, Result};
use tokio::io::unix::AsyncFd;

use crate::descriptor::{failed, register};

const WATCHING: &str = "watching a store";

/// A [`pod::Watch`] for tasks.
#[derive(Debug)]
pub struct Watch {
    watch: pod::Watch,
    ready: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Registers a watch with the runtime of this task.
    ///
    /// # Errors
    /// [`Os`](pod::Error::Os) if it cannot be, such as EMFILE.
    pub fn new(watch: pod::Watch) -> Result<Watch> {
        let ready = register(&watch).map_err(|error: io::Error| failed(WATCHING, error))?;
        Ok(Watch { watch, ready })
    }

    /// Waits for what happens next: at least one event. A future that is dropped
    /// has lost none.
    ///
    /// # Errors
    /// As [`pod::Watch::next`]; the next call goes on.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let mut ready = self.ready.readable().await.map_err(|error| failed(WATCHING, error))?;
            let events = self.watch.next(Some(Duration::ZERO));
            // tokio is told of changes alone. What came after the look is one, and
            // then this clears nothing; what the look has left is none.
            if !is_readable(&self.watch)? {
                ready.clear_ready();
            }
            match events {
                Ok(events) if events.is_empty() => {}
                events => return events,
            }
        }
    }
}

fn is_readable(watch: &pod::Watch) -> Result<bool> {
    let mut wanted = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    match poll(&mut wanted, PollTimeout::ZERO) {
        Ok(count) => Ok(count > 0),
        // Perhaps: it costs one look.
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(failed(WATCHING, errno.into())),
    }
}
