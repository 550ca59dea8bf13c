//! That a run of a container takes no longer than
//! [its limit](crate::ContainerSpec::time_limit): who supervises the pod ends it.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use super::container::Container;
use crate::error::{Error, Result};
use crate::store::exits::Phase;
use crate::store::lock::LockMode;

impl Container<'_> {
    /// Ends it if its time is over. Else its main process, and when that is so; `None` if
    /// it has no limit, or does not run.
    pub(super) fn keep_time(&self) -> Result<Option<(OwnedFd, SystemTime)>> {
        match self.time_left() {
            // Removed just now; or damaged, and then there is no limit to be read.
            Err(Error::NotFound(_) | Error::Corrupt { .. } | Error::Newer { .. }) => Ok(None),
            Ok(Some((_, left))) if left.is_zero() => self.kill_all().map(|()| None),
            Ok(Some((process, left))) => Ok(Some((process, SystemTime::now() + left))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn time_left(&self) -> Result<Option<(OwnedFd, Duration)>> {
        let mut record = self.record()?;
        let Some(seconds) = record.container.time_limit else { return Ok(None) };
        if matches!(self.phase(&record), Some(Phase::Reserved | Phase::Running(0))) {
            // It is being started, or who did was killed: the lock is free then.
            drop(self.pod.lock(LockMode::Exclusive, true)?);
            record = self.record()?;
        }
        let Some((reservation, table)) = record.reservation.zip(self.pod.table.as_ref()) else { return Ok(None) };
        let found = self.find_process(reservation, table)?.filter(|found| found.process.pid != 0);
        let Some(process) = found.map(|found| found.process) else { return Ok(None) };
        let Some(pidfd) = process.open()? else { return Ok(None) };
        let limit = Duration::from_secs(seconds.into());
        Ok(Some((pidfd, limit.saturating_sub(process.age()?))))
    }
}
