//! What `inspect` and `ps` tell: the truth of this moment, asked of the
//! kernel. The names of the fields are part of the interface.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::Pod;
use super::container::Container;
use crate::cgroup;
use crate::cgroup::oom::OomLevel;
use crate::cgroup::pod_tree::PodCgroup;
use crate::cgroup::stats::{self, Stats};
use crate::error::Result;
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::namespace_inode;
use crate::resources::Resources;
use crate::spec::{CheckKind, Health, HealthChecks, LifecycleHook, RestartPolicy};
use crate::store::exits::{Exit, Phase};
use crate::store::health::{CheckResult, FailedCheck, HealthRecord, health};
use crate::store::records::HookFailure;

/// Whether a pod lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum PodState {
    /// Its pause lives.
    Running,
    /// Its pause lives, and its containers are [paused](Pod::pause) as one.
    Paused,
    /// pause is gone, and everything with it.
    Exited,
}

/// Where a container is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// It is checked, written down and its root prepared, and has no process.
    Created,
    /// Its main process lives.
    Running,
    /// Its main process lives, and all in it is frozen.
    Paused,
    /// Its main process has ended.
    Exited,
}

/// A pod, as it is now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Whether it lives.
    pub state: PodState,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub created: SystemTime,
    /// pause.
    pub pause: PauseStatus,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What its containers share.
    pub shared: Vec<Namespace>,
    /// Whether its network namespace is the machine's.
    pub host_network: bool,
    /// Inodes of pause's namespaces, by kind; empty if it is dead.
    pub namespaces: BTreeMap<&'static str, u64>,
    /// How many processes pause reaped that were not a container's or exec's
    /// main process.
    pub reaped_orphans: u64,
    /// Its containers, by name.
    pub containers: Vec<ContainerStatus>,
    /// What all of it together may use.
    pub resources: Resources,
    /// What it has used; null if it has no cgroup.
    pub usage: Option<Stats>,
}

/// The pause process.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PauseStatus {
    /// Its pid on this machine, while it lives.
    pub pid: Option<u32>,
}

/// A container, as it is now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its main process's pid on this machine, while it runs.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub state: ContainerState,
    /// As a shell would say: the program's own, or 128 + signal.
    pub exit_code: Option<u8>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub created: SystemTime,
    /// When its latest run began.
    #[serde(serialize_with = "rfc3339_option")]
    pub started: Option<SystemTime>,
    /// When that ended; null also if it was killed together with pause.
    #[serde(serialize_with = "rfc3339_option")]
    pub finished: Option<SystemTime>,
    /// Whether it is started again when it has ended.
    pub restart_policy: RestartPolicy,
    /// How often that has been done since a person started it, in vain or not.
    pub restarts: u32,
    /// When it will be done next; null also if its pod is dead.
    #[serde(serialize_with = "rfc3339_option")]
    pub next_start: Option<SystemTime>,
    /// Why it could not be done last; it is tried again.
    pub restart_error: Option<String>,
    /// The latest hook of its latest run that failed.
    pub failed_hook: Option<FailedHook>,
    /// How many seconds each run of it may take.
    pub time_limit: Option<u32>,
    /// How it does by its checks; null if it does not run, or has none.
    pub health: Option<Health>,
    /// What its checks have found out in its latest run.
    pub checks: Vec<CheckStatus>,
    /// The check that has ended this run, or the latest one that was ended so.
    pub failed_check: Option<FailedCheck>,
    /// What it runs.
    pub command: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whose memory was used up, if that is why it was killed.
    pub out_of_memory: Option<OomLevel>,
    /// What it may use.
    pub resources: Resources,
    /// What it has used; null if it has no cgroup.
    pub usage: Option<Stats>,
}

/// One of a container's [hooks](crate::Lifecycle) that failed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FailedHook {
    /// Which.
    pub hook: LifecycleHook,
    /// When that was noticed.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What was wrong, and the beginning of what it wrote.
    pub error: String,
}

/// What a check has found out.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckStatus {
    /// Which.
    pub kind: CheckKind,
    /// What its results come to.
    pub health: Health,
    /// How many have failed in a row.
    pub failing_streak: u32,
    /// What it found out last.
    pub last: Option<CheckResult>,
    /// Why it could not be performed since; it is tried again.
    pub error: Option<String>,
}

impl CheckStatus {
    /// Those of a run, as far as they are known.
    fn all(checks: &HealthChecks, known: Option<&HealthRecord>) -> Vec<CheckStatus> {
        let status = |kind| {
            let state = known.and_then(|known| known.checks.get(&kind)).cloned().unwrap_or_default();
            let (health, failing_streak) = (state.verdict, state.failing);
            CheckStatus { kind, health, failing_streak, last: state.last, error: state.error }
        };
        checks.all().map(|(kind, _)| status(kind)).collect()
    }
}

impl Pod {
    /// The pod as it is now.
    ///
    /// # Errors
    /// What cannot be read of its records.
    pub fn status(&self) -> Result<PodStatus> {
        match self.started_anew()? {
            Some(pod) => pod.its_status(),
            None => self.its_status(),
        }
    }

    fn its_status(&self) -> Result<PodStatus> {
        let pid = self.pause_pid();
        let mut namespaces = BTreeMap::new();
        if let Some(pid) = pid {
            let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
            for kind in kinds {
                namespaces.extend(namespace_inode(pid, kind)?.map(|inode| (kind, inode)));
            }
        }
        let mut containers = Vec::new();
        for container in self.containers()? {
            match container.its_status() {
                // Removed just now.
                Err(crate::Error::NotFound(_)) => {}
                status => containers.push(status?),
            }
        }
        Ok(PodStatus {
            name: self.name().into(),
            id: self.id().into(),
            state: pod_state(pid.is_some(), self.cgroup().as_ref(), containers.iter().map(|one| one.state))?,
            created: self.record.created,
            pause: PauseStatus { pid },
            labels: self.options().labels.clone(),
            annotations: self.options().annotations.clone(),
            shared: self.options().share.iter().copied().collect(),
            host_network: self.options().host_network,
            namespaces,
            reaped_orphans: self.table.as_ref().map_or(0, |table| table.orphans()),
            containers,
            resources: self.options().resources.clone(),
            usage: self.cgroup().and_then(|cgroup| usage(cgroup.path())),
        })
    }
}

impl Container<'_> {
    /// The container as it is now.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound), or what cannot be read.
    pub fn status(&self) -> Result<ContainerStatus> {
        self.now(|it| it.its_status())
    }

    fn its_status(&self) -> Result<ContainerStatus> {
        let record = self.record()?;
        // In this order: what pause wrote before it ended is in the table.
        let alive = self.pod.is_alive();
        let known = record.reservation.zip(self.pod.table.as_ref());
        let phase = known.map(|(reservation, table)| table.phase(reservation));
        let (state, exit) = state_of(phase, alive, record.last_exit());
        let ended = record.ended(phase).filter(|_| alive);
        let next_start = ended.and_then(|run| record.restarts.due(record.rule(), run));
        let cgroup = self.cgroup();
        let state = state.or_paused(cgroup.as_deref())?;
        let exit = exit.map(|exit| exit.explained(self.oom_watch(&record).as_ref()));
        let found = match known.filter(|_| state.is_alive()) {
            Some((reservation, table)) => self.find_process(reservation, table)?,
            None => None,
        };
        let pid = found.map(|record| record.process.pid).filter(|&pid| pid != 0);
        let checks = &record.container.health;
        let known = if checks.is_empty() { None } else { self.health_record()? };
        let of_run = known.as_ref().filter(|known| Some(known.run) == record.started);
        Ok(ContainerStatus {
            health: health(checks, of_run, record.started, state.is_alive()),
            checks: CheckStatus::all(checks, of_run),
            failed_check: known.and_then(|known| known.failed),
            name: self.name.clone(),
            id: record.id,
            pid,
            state,
            exit_code: exit.map(|exit| exit.shell_code()),
            signal: exit.and_then(|exit| exit.signal()),
            created: record.created,
            started: record.started,
            finished: exit.and_then(|exit| exit.finished),
            out_of_memory: exit.and_then(|exit| exit.out_of_memory),
            usage: cgroup.and_then(|dir| usage(&dir)),
            resources: record.container.resources,
            restart_policy: record.container.restart,
            restarts: record.restarts.count,
            next_start,
            restart_error: record.restarts.failed.map(|failed| failed.error),
            failed_hook: record.failed_hook.map(|HookFailure { hook, time, error }| FailedHook { hook, time, error }),
            time_limit: record.container.time_limit,
            command: record.container.process.args,
            labels: record.container.labels,
            annotations: record.container.annotations,
        })
    }
}

impl ContainerState {
    /// Whether its main process lives.
    pub fn is_alive(self) -> bool {
        matches!(self, ContainerState::Running | ContainerState::Paused)
    }

    /// Of one that runs: whether all in its cgroup is frozen.
    pub(crate) fn or_paused(self, cgroup: Option<&Path>) -> Result<ContainerState> {
        Ok(match (self, cgroup) {
            (ContainerState::Running, Some(cgroup)) if cgroup::says_frozen(cgroup)? => ContainerState::Paused,
            (state, _) => state,
        })
    }
}

/// Whether a pod lives, and goes on, whose containers are in these states.
pub(crate) fn pod_state(
    alive: bool,
    cgroup: Option<&PodCgroup>,
    mut containers: impl Iterator<Item = ContainerState>,
) -> Result<PodState> {
    Ok(match cgroup {
        _ if !alive => PodState::Exited,
        // Most pods: nothing needs to be read.
        _ if containers.any(|state| state == ContainerState::Running) => PodState::Running,
        Some(cgroup) if cgroup::is_frozen(&cgroup.containers())? => PodState::Paused,
        _ => PodState::Running,
    })
}

/// What a container's entry in the exit table says of it, if it has one, whether or
/// not pause is alive; `kept` is how it ended when another table knew that.
pub(crate) fn state_of(phase: Option<Phase>, alive: bool, kept: Option<Exit>) -> (ContainerState, Option<Exit>) {
    match phase {
        Some(Phase::Running(1..)) if alive => (ContainerState::Running, None),
        // Never born, in flight, or its launch died.
        Some(Phase::Reserved | Phase::Running(0)) if kept.is_none() => (ContainerState::Created, None),
        Some(Phase::Running(1..)) => (ContainerState::Exited, Some(Exit::with_the_pod())),
        Some(Phase::Exited(how)) => (ContainerState::Exited, Some(how)),
        Some(Phase::Reserved | Phase::Running(0) | Phase::Lost) | None => match kept {
            Some(exit) => (ContainerState::Exited, Some(exit)),
            None => (ContainerState::Created, None),
        },
    }
}

/// The short form: without the sixty numbers of `memory.stat`.
fn usage(cgroup: &Path) -> Option<Stats> {
    if !cgroup.exists() {
        return None;
    }
    let mut stats = stats::stats(cgroup);
    if let Some(memory) = &mut stats.memory {
        memory.stat.clear();
    }
    Some(stats)
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
}

fn rfc3339_option<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
