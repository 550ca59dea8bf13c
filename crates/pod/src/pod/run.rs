//! Making containers.

use std::fs;
use std::io::ErrorKind;
use std::time::SystemTime;

use super::Pod;
use super::container::Container;
use super::process::Process;
use crate::error::{Context, Error, Result};
use crate::kernel::files;
use crate::launch::stdio::Io;
use crate::spec::ContainerSpec;
use crate::store;
use crate::store::exits::Reservation;
use crate::store::lock::LockMode;
use crate::store::records::{CONTAINER, CONTAINERS, ContainerRecord};
use crate::store::restarts::Restarts;

impl Pod {
    /// Makes a container: checked, written down, its root prepared, and no
    /// process in it yet. [`Container::start`] starts it. As CRI's
    /// CreateContainer.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Exists`], or why it cannot be done here.
    /// Nothing of the container is left behind then.
    pub fn create_container(&self, spec: &ContainerSpec) -> Result<Container<'_>> {
        let container = self.named(&spec.name);
        let prepared = self.prepare(spec)?;
        self.check_limits(spec)?;
        container.clear_stray()?;
        let _lock = self.lock_for_launch()?;
        container.make_dir()?;
        let make = || {
            container.write(&container.first_record(spec, None)?)?;
            // Of two that are made at once one at least sees the other.
            self.check_mates(spec)?;
            prepared.make_dirs()
        };
        make().or_else(|error| container.give_up(spec, error))?;
        Ok(container)
    }

    /// Makes a container and starts it. The records of one that is to be
    /// [removed when it has ended](ContainerSpec::remove_when_ended) go with the
    /// next [sweep](Pod::sweep).
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Exists`], [`Error::Exec`], or why it cannot
    /// be done here. Nothing of the container is left behind then.
    pub fn run(&self, spec: &ContainerSpec, io: impl Into<Io>) -> Result<Process> {
        let io = io.into().of(spec);
        let container = self.named(&spec.name);
        let prepared = self.prepare(spec)?;
        self.check_limits(spec)?;
        io.check_for(spec)?;
        container.clear_stray()?;
        let lock = self.lock_for_launch()?;
        let table = self.live_table()?;
        container.make_dir()?;
        let start = || {
            if spec.needs_supervisor() {
                self.expect_supervisor()?;
            }
            let reservation = self.reserve(table, false)?;
            let record = container.first_record(spec, Some(reservation))?;
            container.start_prepared(&prepared, record, reservation, io, &lock)
        };
        start().or_else(|error| container.give_up(spec, self.explain(&container.object(), error)))
    }
}

impl Container<'_> {
    fn make_dir(&self) -> Result<()> {
        files::make_private(&self.pod.dir.join(CONTAINERS))?;
        let dir = self.dir();
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::Exists(self.object())),
            made => made.doing(|| format!("making the directory {}", dir.display())),
        }
    }

    /// The record to begin with; the mark for the sweep comes before it.
    fn first_record(&self, spec: &ContainerSpec, reservation: Option<Reservation>) -> Result<ContainerRecord> {
        if spec.remove_when_ended {
            self.pod.store.mark_for_sweep(&self.mark(), true)?;
        }
        Ok(ContainerRecord {
            id: store::new_id()?,
            container: self.pod.options().place(spec).into_owned(),
            created: SystemTime::now(),
            started: None,
            reservation,
            remove_when_ended: spec.remove_when_ended,
            exit: None,
            pod_ooms: 0,
            previous: None,
            doubled: false,
            restarts: Restarts::default(),
        })
    }

    /// Removes what has been made of a container that could not be.
    fn give_up<T>(&self, spec: &ContainerSpec, error: Error) -> Result<T> {
        // What went wrong first is what counts.
        self.remove_dir().ok();
        if spec.remove_when_ended {
            self.pod.store.mark_for_sweep(&self.mark(), false).ok();
        }
        self.pod.end_if_it_is_ending();
        Err(error)
    }

    /// Clears away what is in a new container's way and wanted no more: a container
    /// that has ended and was to be removed then, and what a podlet left that was
    /// killed before it had written the record. While we have the pod to ourselves
    /// no other command is at it.
    pub(crate) fn clear_stray(&self) -> Result<()> {
        let dir = self.dir();
        let is_stray = || files::is_there(&dir) && !files::is_there(&dir.join(CONTAINER));
        if !files::is_there(&dir) {
            return Ok(());
        }
        if !is_stray() {
            return match self.record() {
                Ok(record) if record.remove_when_ended && self.exit()?.is_some() => unless_not_found(self.remove()),
                record => unless_not_found(record.map(drop)),
            };
        }
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, true)? else { return Ok(()) };
        self.pod.release_unborn();
        if is_stray() { self.remove_dir() } else { Ok(()) }
    }
}

/// Not to find what is to be removed is as good: another command was faster.
fn unless_not_found(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        result => result,
    }
}
