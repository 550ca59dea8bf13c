//! Attaching to a container.

use super::attached::Attached;
use super::container::Container;
use super::copier::{PATIENCE, connect_to};
use crate::error::{Context, Error, Result};
use crate::kernel::syscalls::{has_ended, wait_readable};

/// So often a copier that is killed is followed by another.
const TRIES: u32 = 10;

impl Container<'_> {
    /// Attaches to it. If what copies its output was killed another one is started
    /// first, as [`tend_log`](Container::tend_log) does.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, or its output goes to whoever started it; as
    /// `tend_log`.
    pub fn attach(&self) -> Result<Attached> {
        self.now(|it| it.attach_now())
    }

    fn attach_now(&self) -> Result<Attached> {
        let context = || format!("attaching to {}", self.object());
        let process = self.its_process()?;
        let foreign = "has the streams of who started it, and nobody else can be attached: start it in the background, \
                       or with a terminal that is kept";
        // The next one may be killed as well, before we have come to it.
        for _ in 0..TRIES {
            if process.try_wait()?.is_some() || has_ended(&process.pidfd) {
                return Err(Error::state(self.object(), "is not running"));
            }
            self.tend_log_or_wait(true)?;
            let Some(copier) = self.copier()? else { return Err(Error::state(self.object(), foreign)) };
            if let Some(socket) = connect_to(&self.dir()).doing(context)? {
                return Ok(Attached::new(socket, copier.is_terminal));
            }
            // It is being killed: its socket is closed before it has ended.
            if let Some(process) = copier.process.open()? {
                wait_readable(&process, Some(PATIENCE)).doing(context)?;
            }
        }
        Err(Error::state(self.object(), "loses what copies its output again and again"))
    }
}
