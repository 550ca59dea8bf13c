//! Stopping several containers: what comes after others ends before them.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Pod;
use super::container::Container;
use super::start_options::StartOptions;
use crate::error::{Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::spec::ContainerSpec;
use crate::spec::check_order::sort;
use crate::store::exits::Exit;
use crate::store::restarts::Restarts;

/// How each container of several was stopped, by its name.
type Stopped = Vec<(String, Result<Option<Exit>>)>;

impl Pod {
    /// Stops its containers: those first that are [after](ContainerSpec::after) others,
    /// these when they have ended, and at the same time what has nothing to do with one
    /// another. Each has the time that is said here, or that
    /// [it says itself](ContainerSpec::grace), from when its turn has come. pause goes on.
    ///
    /// The result has the containers by name, each with what
    /// [`Container::stop`] came to: one that cannot be stopped does not keep the others.
    ///
    /// # Errors
    /// [`Error::Os`] if they cannot be listed.
    pub fn stop_all(&self, grace: Option<Duration>) -> Result<Stopped> {
        Ok(self.stop_each(&self.containers()?, grace))
    }

    /// [`stop_all`](Pod::stop_all) of some of its containers alone.
    pub fn stop_each(&self, containers: &[Container<'_>], grace: Option<Duration>) -> Stopped {
        end_in_order(containers, |one, spec| one.stop(grace.or(spec.map(ContainerSpec::grace)).unwrap_or_default()))
    }

    /// Stops its containers, as [`stop_all`](Pod::stop_all) does, and starts them again,
    /// as [`start_all`](Pod::start_all) does, but without the init containers that have
    /// done their work since the pod was started. The pod stays, even one that ends with
    /// its last container.
    ///
    /// # Errors
    /// As [`Container::stop`] and [`start_all`](Pod::start_all).
    pub fn restart_all(&self, grace: Option<Duration>, options: &StartOptions<'_>) -> Result<()> {
        if let Some(pod) = self.started_anew()? {
            return pod.restart_all(grace, options);
        }
        self.check_order()?;
        let held_by = ProcessId::of(std::process::id())?;
        let hold = |held_by| {
            let containers = self.containers()?;
            containers.iter().try_for_each(|one| match one.change_restarts(|now| Restarts { held_by, ..now }) {
                Err(Error::NotFound(_)) => Ok(()),
                changed => changed,
            })
        };
        hold(held_by)?;
        let restarted = self.without_end(|| {
            let stop = |one: &Container<'_>, spec: Option<&ContainerSpec>| {
                one.end_gently(grace.or(spec.map(ContainerSpec::grace)).unwrap_or_default())
            };
            end_in_order(&self.containers()?, stop).into_iter().try_for_each(|(_, stopped)| stopped.map(drop))?;
            self.start_all_again(options)
        });
        restarted.inspect_err(|_| {
            // Their policies say what becomes of them.
            hold(None).ok();
        })
    }
}

/// Ends each once those that are after it have ended.
fn end_in_order(
    containers: &[Container<'_>],
    end: impl Fn(&Container<'_>, Option<&ContainerSpec>) -> Result<Option<Exit>> + Sync,
) -> Stopped {
    // What cannot be read is ended like what is after nothing.
    let mut specs: Vec<_> = containers.iter().map(|one| one.spec().ok()).collect();
    for spec in specs.iter_mut().flatten() {
        spec.after.retain(|after| containers.iter().any(|one| one.name == after.container));
    }
    let known: Vec<_> = specs.iter().flatten().collect();
    let mut turns: Vec<usize> = (0..containers.len()).collect();
    // Where there is none they all end at once.
    let sorted = sort("", &known).ok();
    if let Some(sorted) = &sorted {
        let turn = |at: &usize| sorted.iter().position(|spec| spec.name == containers[*at].name);
        turns.sort_by_key(|at| std::cmp::Reverse(turn(at)));
    }
    let those_after = |name: &str| -> Vec<&str> {
        let is_after = |spec: &&&ContainerSpec| spec.after.iter().any(|after| after.container == name);
        known.iter().filter(|_| sorted.is_some()).filter(is_after).map(|spec| spec.name.as_str()).collect()
    };
    let (ended, one_more) = (Mutex::new(BTreeSet::new()), Condvar::new());
    let end_one = |at: usize| {
        let container = &containers[at];
        let first = those_after(&container.name);
        let lock = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |ended: &mut BTreeSet<&str>| first.iter().any(|name| !ended.contains(name));
        drop(one_more.wait_while(lock, is_early).unwrap_or_else(PoisonError::into_inner));
        let stopped = end(container, specs[at].as_ref());
        ended.lock().unwrap_or_else(PoisonError::into_inner).insert(container.name.as_str());
        one_more.notify_all();
        (container.name.clone(), stopped)
    };
    thread::scope(|scope| {
        // In this order: where no thread can be had, those it waits for are under way.
        let (mut threads, mut stopped) = (Vec::new(), Stopped::new());
        for at in turns {
            match thread::Builder::new().spawn_scoped(scope, move || end_one(at)) {
                Ok(thread) => threads.push(thread),
                Err(_) => stopped.push(end_one(at)),
            }
        }
        stopped.extend(threads.into_iter().filter_map(|thread| thread.join().ok()));
        stopped.sort_by(|one, other| one.0.cmp(&other.0));
        stopped
    })
}
