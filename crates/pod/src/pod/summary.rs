//! What there is, at a glance: what `ps` shows of every pod.
//!
//! A machine may have a thousand pods, so this is one pass with a few small
//! reads for each: its records, one line of `/proc` that tells whether pause
//! lives, and the exit table as a page of bytes. Nothing is opened to be kept,
//! nothing is mapped, and a cgroup is only asked whether it is frozen.
//! [`Pod::status`] tells the rest.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::Builder;
use std::time::SystemTime;

use serde::Deserialize;

use super::Pod;
use super::find_pause::{Here, recorded_pause};
use super::status::{ContainerState, PodState, pod_state, state_of};
use crate::cgroup::oom::OomWatch;
use crate::cgroup::pod_tree::PodCgroup;
use crate::error::{Error, Result};
use crate::kernel::procfs::lives;
use crate::kernel::{files, record_file};
use crate::spec::{Backoff, CheckKind, Health, HealthChecks, RestartPolicy};
use crate::store::Store;
use crate::store::exits::{Exit, Reservation};
use crate::store::health::{HealthRecord, health};
use crate::store::records::{
    CONTAINER, CONTAINERS, COPIER, CopierRecord, HEALTH, OOM, POD, PROCESS, PreviousRun, ProcessRecord, SUPERVISED,
    SUPERVISOR, SupervisorRecord, TABLE, last_exit,
};
use crate::store::restarts::{EndedRun, Restarts, Rule};
use crate::store::snapshot::Snapshot;

/// A pod, in short.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PodSummary {
    /// Its name.
    pub name: String,
    /// Whether it lives.
    pub state: PodState,
    /// When it was made.
    pub created: SystemTime,
    /// pause's pid on this machine, while it lives.
    pub pause: Option<u32>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its network namespace is the machine's.
    pub host_network: bool,
    /// Its supervisor was killed, or was never started:
    /// [`Pod::tend_supervisor`] starts another.
    pub lacks_supervisor: bool,
    /// Its containers, by name.
    pub containers: Vec<ContainerSummary>,
}

/// A container, in short.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ContainerSummary {
    /// Its name.
    pub name: String,
    /// Its main process's pid on this machine, while it runs.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub state: ContainerState,
    /// How its latest run ended.
    pub exit: Option<Exit>,
    /// When it was made.
    pub created: SystemTime,
    /// When its latest run began.
    pub started: Option<SystemTime>,
    /// How it does by its checks; `None` if it does not run, or has none.
    pub health: Option<Health>,
    /// The check that has ended its latest run, if one has.
    pub failed_check: Option<CheckKind>,
    /// How often its restart policy has started it since a person did.
    pub restarts: u32,
    /// When that will be done next.
    pub next_start: Option<SystemTime>,
    /// What it runs.
    pub command: Vec<String>,
    /// The copier of its log was killed, so that it waits when it has written as much
    /// as a pipe holds: [`Container::tend_log`](crate::Container::tend_log) starts another.
    pub lacks_copier: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// So many pods are worth a thread.
const MANY: usize = 64;

/// What is wanted of `pod.json`.
#[derive(Deserialize)]
struct PodPart {
    created: SystemTime,
    cgroup: Option<PathBuf>,
    options: OptionsPart,
}

/// What is wanted of `container.json`.
#[derive(Deserialize)]
struct ContainerPart {
    container: SpecPart,
    created: SystemTime,
    started: Option<SystemTime>,
    reservation: Option<Reservation>,
    exit: Option<Exit>,
    #[serde(default)]
    pod_ooms: u64,
    #[serde(default)]
    previous: Option<PreviousRun>,
    #[serde(default)]
    restarts: Restarts,
}

#[derive(Deserialize)]
struct SpecPart {
    #[serde(default)]
    restart: RestartPolicy,
    #[serde(default)]
    restart_backoff: Backoff,
    #[serde(default)]
    health: HealthChecks,
    args: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OptionsPart {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Pod {
    /// All pods of a store in short, by name. With `all` also those that are
    /// dead and containers that do not run. Ones that cannot be read come as the
    /// error that says why.
    ///
    /// # Errors
    /// [`Error::Os`] if the store cannot be read.
    pub fn summaries(store: &Store, all: bool) -> Result<Vec<Result<PodSummary>>> {
        let names = store.entries()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let here = Here::read()?;
        let look = |names: &[String]| -> Vec<Result<PodSummary>> {
            names.iter().filter_map(|name| summary(store, name.clone(), &here, all).transpose()).collect()
        };
        // Half of many on another processor: nearly all of it is the kernel's
        // work on files that no other process has open.
        let (first, second) = names.split_at(if names.len() < MANY { names.len() } else { names.len() / 2 });
        std::thread::scope(|scope| {
            let spawn = || Builder::new().spawn_scoped(scope, || look(second)).ok();
            let other = if second.is_empty() { None } else { spawn() };
            let mut found = look(first);
            found.extend(match other {
                Some(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // None are left, or no thread could be had.
                None => look(second),
            });
            Ok(found)
        })
    }
}

/// `None` if there is no such pod, or it is not asked for.
fn summary(store: &Store, name: String, here: &Here, all: bool) -> Result<Option<PodSummary>> {
    let dir = store.pod_dir(&name);
    let Some(pod) = record_file::read_record::<PodPart>(&dir.join(POD))? else { return Ok(None) };
    // In this order: what pause wrote before it ended is in the table.
    let pause = recorded_pause(&dir, pod.cgroup.as_deref(), here)?;
    let pause = match pause {
        Some(process) => lives(process)?.then_some(process.pid),
        None => None,
    };
    if pause.is_none() && !all {
        return Ok(None);
    }
    let mut containers = Vec::new();
    let mut table = None;
    let cgroup = pod.cgroup.map(PodCgroup::at);
    for container in files::names_in(&dir.join(CONTAINERS))? {
        let records = dir.join(CONTAINERS).join(&container);
        let Some(part) = record_file::read_record::<ContainerPart>(&records.join(CONTAINER))? else { continue };
        if table.is_none() {
            table = Snapshot::read(&dir.join(TABLE))?;
        }
        let phase = part.reservation.zip(table.as_ref()).map(|(reservation, table)| table.phase(reservation));
        let (state, exit) = state_of(phase, pause.is_some(), last_exit(part.exit, part.previous));
        let state = state.or_paused(cgroup.as_ref().map(|cgroup| cgroup.container(&container)).as_deref())?;
        if !state.is_alive() && !all {
            continue;
        }
        let rule = Rule { policy: part.container.restart, backoff: part.container.restart_backoff };
        let ended = exit.filter(|_| pause.is_some()).map(|exit| EndedRun { started: part.started, exit });
        let watch = cgroup.as_ref().zip(part.reservation).map(|(cgroup, reservation)| {
            OomWatch::new(cgroup, &container, part.pod_ooms, records.join(OOM), reservation.generation)
        });
        let checks = &part.container.health;
        let known = match checks.is_empty() {
            true => None,
            false => record_file::read_record::<HealthRecord>(&records.join(HEALTH))?,
        };
        let failed = known.as_ref().and_then(|known| known.failed.as_ref());
        containers.push(ContainerSummary {
            health: health(checks, known.as_ref(), part.started, state.is_alive()),
            failed_check: failed.filter(|failed| Some(failed.started) == part.started).map(|failed| failed.check),
            pid: if state.is_alive() { pid_of(store, &name, &container)? } else { None },
            name: container,
            state,
            exit: exit.map(|exit| exit.explained(watch.as_ref())),
            created: part.created,
            started: part.started,
            restarts: part.restarts.count,
            next_start: ended.and_then(|run| part.restarts.due(rule, run)),
            command: part.container.args,
            lacks_copier: state.is_alive() && lacks_copier(&records)?,
            labels: part.container.labels,
        });
    }
    let state = pod_state(pause.is_some(), cgroup.as_ref(), containers.iter().map(|one| one.state))?;
    let OptionsPart { host_network, labels } = pod.options;
    let lacks_supervisor = pause.is_some() && lacks_supervisor(&dir)?;
    Ok(Some(PodSummary {
        name,
        state,
        created: pod.created,
        pause,
        labels,
        host_network,
        lacks_supervisor,
        containers,
    }))
}

/// Whether the supervisor of a pod that lives does not live.
fn lacks_supervisor(dir: &Path) -> Result<bool> {
    if !files::is_there(&dir.join(SUPERVISED)) {
        return Ok(false);
    }
    let supervisor = record_file::read_record::<SupervisorRecord>(&dir.join(SUPERVISOR))?;
    supervisor.map_or(Ok(true), |supervisor| lives(supervisor.process).map(|lives| !lives))
}

/// Whether the copier of a container that runs was killed.
fn lacks_copier(records: &Path) -> Result<bool> {
    let copier = record_file::read_record::<CopierRecord>(&records.join(COPIER))?;
    copier.map_or(Ok(false), |copier| lives(copier.process).map(|lives| !lives))
}

/// The pid of a container that runs.
fn pid_of(store: &Store, pod: &str, container: &str) -> Result<Option<u32>> {
    let path = store.pod_dir(pod).join(CONTAINERS).join(container).join(PROCESS);
    match record_file::read_record::<ProcessRecord>(&path)? {
        Some(ProcessRecord { process, .. }) if process.pid != 0 => Ok(Some(process.pid)),
        // No command could write it down: looked for, then.
        _ => match Pod::open(store, pod).and_then(|pod| pod.named(container).status()) {
            Err(Error::NotFound(_)) => Ok(None),
            status => Ok(status?.pid),
        },
    }
}
