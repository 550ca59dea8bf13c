//! What a watch sees of a pod at one look: enough to tell what has happened since
//! the look before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::find_pause::{Here, recorded_pause};
use super::status::{ContainerState, state_of};
use crate::cgroup;
use crate::cgroup::oom::{self, OomWatch};
use crate::cgroup::pod_tree::PodCgroup;
use crate::error::Result;
use crate::kernel::procfs::{ProcessId, lives};
use crate::kernel::{files, record_file};
use crate::spec::{Health, HealthChecks};
use crate::store::exits::{Exit, Reservation};
use crate::store::health::HealthRecord;
use crate::store::records::{CONTAINER, CONTAINERS, HEALTH, OOM, PAUSE, POD, PreviousRun};
use crate::store::snapshot::KeptTable;

/// Labels of a pod or container.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pod that has a record.
#[derive(Clone, Debug)]
pub(crate) struct SeenPod {
    pub id: String,
    pub created: SystemTime,
    pub labels: Labels,
    pub pause: Option<SeenPause>,
    pub containers: BTreeMap<String, SeenContainer>,
}

/// The pause that was written down last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenPause {
    pub process: ProcessId,
    /// When it was written down.
    pub started: SystemTime,
    pub lives: bool,
}

/// A container that has a record.
#[derive(Clone, Debug)]
pub(crate) struct SeenContainer {
    pub id: String,
    pub created: SystemTime,
    pub labels: Labels,
    /// Its entry in the exit table.
    pub reservation: Option<Reservation>,
    /// When the run was asked for whose process is not born yet, if there is one.
    pub begins: Option<SystemTime>,
    /// Its latest runs, the last one last; none before its process was born.
    pub runs: Vec<SeenRun>,
    /// Its cgroup, if it has one.
    pub cgroup: Option<PathBuf>,
}

/// A run of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenRun {
    /// No other run of this container began at that time.
    pub started: SystemTime,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// Its cgroup is frozen.
    pub frozen: bool,
    /// How many of its processes were killed for lack of memory.
    pub kills: u64,
    /// How it does, or did at its end, if that was found out.
    pub health: Option<Health>,
}

impl SeenPod {
    pub(crate) fn is_alive(&self) -> bool {
        self.pause.is_some_and(|pause| pause.lives)
    }

    /// A command takes a container's entry for its next run before it writes that
    /// down. In between the runs are those of the look before.
    pub(crate) fn keep_runs(&mut self, before: &SeenPod) {
        for (name, now) in &mut self.containers {
            let Some(was) = before.containers.get(name).filter(|was| was.id == now.id) else { continue };
            if now.begins.is_some() && was.runs.last().map(|run| run.started) == now.begins {
                now.runs.clone_from(&was.runs);
                now.begins = None;
            }
        }
    }

    /// What of it was there before this time.
    pub(crate) fn before(&self, time: SystemTime) -> SeenPod {
        let mut before = self.clone();
        before.containers.retain(|_, container| container.created < time);
        before.containers.values_mut().for_each(|container| container.runs.retain(|run| run.started < time));
        before
    }
}

impl SeenContainer {
    /// Its latest run, if that goes on.
    pub(crate) fn running(&self) -> Option<&SeenRun> {
        self.runs.last().filter(|run| run.exit.is_none())
    }
}

/// What is wanted of `pod.json`.
#[derive(Deserialize)]
struct PodPart {
    id: String,
    created: SystemTime,
    cgroup: Option<PathBuf>,
    options: Labelled,
}

/// What is wanted of `container.json`.
#[derive(Deserialize)]
struct ContainerPart {
    id: String,
    container: Checked,
    created: SystemTime,
    started: Option<SystemTime>,
    reservation: Option<Reservation>,
    exit: Option<Exit>,
    #[serde(default)]
    pod_ooms: u64,
    #[serde(default)]
    previous: Option<PreviousRun>,
}

#[derive(Deserialize)]
struct Checked {
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    health: HealthChecks,
}

#[derive(Deserialize)]
struct Labelled {
    #[serde(default)]
    labels: Labels,
}

/// Looks at the pod in `dir`, and at the table that `table` opens; `None` if there
/// is no pod.
///
/// # Errors
/// What cannot be read, as [`Pod::open`](super::Pod::open).
pub(crate) fn look(
    dir: &Path,
    here: &Here,
    table: impl Fn() -> Result<Option<KeptTable>>,
) -> Result<(Option<SeenPod>, Option<KeptTable>)> {
    let Some(pod) = record_file::read_record::<PodPart>(&dir.join(POD))? else { return Ok((None, None)) };
    // In this order: what pause wrote before it ended is in the table.
    let pause = see_pause(dir, pod.cgroup.as_deref(), here)?;
    let alive = pause.is_some_and(|pause| pause.lives);
    let kept = table()?;
    let cgroup = pod.cgroup.clone().map(PodCgroup::at);
    let mut containers = BTreeMap::new();
    for name in files::names_in(&dir.join(CONTAINERS))? {
        let records = dir.join(CONTAINERS).join(&name);
        let Some(part) = record_file::read_record::<ContainerPart>(&records.join(CONTAINER))? else { continue };
        let generation = part.reservation.map_or(0, |reservation| reservation.generation);
        let watch = |cgroup| OomWatch::new(cgroup, &name, part.pod_ooms, records.join(OOM), generation);
        let oom = cgroup.as_ref().map(watch);
        let health = match part.container.health.is_empty() {
            true => None,
            // What cannot be read says nothing.
            false => record_file::read_record::<HealthRecord>(&records.join(HEALTH)).ok().flatten(),
        };
        containers.insert(name, see_container(part, oom, health, alive, kept.as_ref())?);
    }
    if recorded_pause(dir, pod.cgroup.as_deref(), here)? != pause.map(|pause| pause.process) {
        // Made anew meanwhile: what was read is of two lives of it.
        return look(dir, here, table);
    }
    let seen = SeenPod { id: pod.id, created: pod.created, labels: pod.options.labels, pause, containers };
    Ok((Some(seen), kept))
}

fn see_pause(dir: &Path, cgroup: Option<&Path>, here: &Here) -> Result<Option<SeenPause>> {
    let Some(process) = recorded_pause(dir, cgroup, here)? else { return Ok(None) };
    let written = fs::metadata(dir.join(PAUSE)).and_then(|meta| meta.modified());
    Ok(Some(SeenPause { process, started: written.unwrap_or_else(|_| SystemTime::now()), lives: lives(process)? }))
}

fn see_container(
    part: ContainerPart,
    oom: Option<OomWatch>,
    health: Option<HealthRecord>,
    alive: bool,
    table: Option<&KeptTable>,
) -> Result<SeenContainer> {
    let phase = part.reservation.zip(table).map(|(reservation, table)| table.phase(reservation));
    let (state, exit) = state_of(phase, alive, part.exit);
    let previous = part.previous.filter(|run| part.started != Some(run.started));
    let previous = previous.map(|run| SeenRun {
        started: run.started,
        exit: Some(run.exit),
        frozen: false,
        kills: 0,
        health: None,
    });
    let mut runs: Vec<_> = previous.into_iter().collect();
    if let Some(started) = part.started.filter(|_| state != ContainerState::Created) {
        let exit = exit.map(|exit| exit.explained(oom.as_ref()));
        let (mut frozen, mut kills) = (false, 0);
        if let Some(oom) = &oom {
            kills = oom::kills(&oom.container).max(u64::from(exit.is_some_and(|exit| exit.out_of_memory.is_some())));
            frozen = exit.is_none() && cgroup::says_frozen(&oom.container)?;
        }
        let health = health.filter(|health| health.run == started).map(|health| health.health);
        runs.push(SeenRun { started, exit, frozen, kills, health });
    }
    Ok(SeenContainer {
        id: part.id,
        created: part.created,
        labels: part.container.labels,
        reservation: part.reservation,
        begins: part.started.filter(|_| state == ContainerState::Created),
        runs,
        cgroup: oom.map(|oom| oom.container),
    })
}
