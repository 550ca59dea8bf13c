//! What the records say, and what they are called.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::exits::{Exit, Phase, Reservation};
use super::restarts::{EndedRun, Restarts, Rule};
use crate::cgroup::systemd::Scope;
use crate::kernel::procfs::{MountNamespace, ProcessId};
use crate::spec::users::Users;
use crate::spec::{ContainerSpec, LifecycleHook, PodOptions};

pub(crate) const POD: &str = "pod.json";

pub(crate) const PAUSE: &str = "pause.json";

pub(crate) const TABLE: &str = "table";

pub(crate) const CONTAINERS: &str = "containers";

pub(crate) const CONTAINER: &str = "container.json";

pub(crate) const PROCESS: &str = "process.json";

/// What a bundle's container wrote, as it is; and one of a pod, of builds before
/// there were copiers.
pub(crate) const LOG: &str = "log";

/// What a pod's container wrote, as its copier keeps it.
pub(crate) const K8S_LOG: &str = "k8s.log";

/// Where the clients of a copier come.
pub(crate) const ATTACH: &str = "attach";

pub(crate) const COPIER: &str = "copier.json";

/// There if a container of the pod has a restart policy or checks, so that it has a
/// supervisor, which keeps it locked.
pub(crate) const SUPERVISED: &str = "supervisor.lock";

pub(crate) const SUPERVISOR: &str = "supervisor.json";

/// What the checks of a pod's container have found out.
pub(crate) const HEALTH: &str = "health.json";

pub(crate) const OOM: &str = "oom.json";

/// What others keep for the pod.
pub(crate) const EXTENSIONS: &str = "ext";
pub(crate) const LOCK: &str = "lock";

/// `pod.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub id: String,
    pub options: PodOptions,
    pub users: Users,
    pub cgroup: Option<PathBuf>,
    /// Whose the cgroup is, if systemd makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    pub created: SystemTime,
    /// Ends with the program that made it, and then no command wants its records.
    pub attached: bool,
    /// That program: as long as it lives it may ask for them, also once the pod
    /// has ended.
    #[serde(default)]
    pub owner: Option<ProcessId>,
    /// Its pause has a [keeper of streams](crate::plan::pod::KEEPER).
    #[serde(default)]
    pub keeps_streams: bool,
}

/// `pause.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PauseRecord {
    pub process: ProcessId,
    /// `/proc/sys/kernel/random/boot_id`: pids of another boot mean nothing.
    pub boot: String,
    /// The pid namespace in which that is its pid, by inode.
    pub pids: u64,
    /// The pod's cgroup, by its number.
    pub cgroup: Option<u64>,
    /// Its limits stand twice.
    #[serde(default)]
    pub doubled: bool,
}

/// `container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub container: ContainerSpec,
    pub created: SystemTime,
    /// The latest run.
    pub started: Option<SystemTime>,
    /// Its entry, as long as the exit table is the one it was reserved in.
    pub reservation: Option<Reservation>,
    /// No command wants its records once it has ended.
    #[serde(default)]
    pub remove_when_ended: bool,
    /// How the latest run ended, once the table that knew it is gone.
    pub exit: Option<Exit>,
    /// How often the pod's memory limit had been hit when the latest run began.
    #[serde(default)]
    pub pod_ooms: u64,
    /// The run before the latest one: for a watcher that saw neither its end nor, in
    /// the exit table's entry, what the latest run has put there.
    #[serde(default)]
    pub previous: Option<PreviousRun>,
    /// In the latest run its limits stand twice.
    #[serde(default)]
    pub doubled: bool,
    /// How it was restarted by its policy.
    #[serde(default, skip_serializing_if = "Restarts::is_default")]
    pub restarts: Restarts,
    /// The latest hook of the latest run that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_hook: Option<HookFailure>,
}

/// A hook that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookFailure {
    pub hook: LifecycleHook,
    pub time: SystemTime,
    /// What was wrong.
    pub error: String,
}

impl ContainerRecord {
    /// Its restart policy, and how long it waits.
    pub(crate) fn rule(&self) -> Rule {
        Rule { policy: self.container.restart, backoff: self.container.restart_backoff }
    }

    /// Whether it is to be looked after while it runs.
    pub(crate) fn needs_supervisor(&self) -> bool {
        self.restarts.is_wanted(self.rule()) || !self.container.health.is_empty()
    }

    /// Its latest run that was one, if that has ended. `phase` is what the exit table
    /// says of it.
    pub(crate) fn ended(&self, phase: Option<Phase>) -> Option<EndedRun> {
        let exit = match phase {
            Some(Phase::Running(1..)) => None,
            Some(Phase::Exited(exit)) => Some(exit),
            _ => self.last_exit(),
        };
        exit.map(|exit| EndedRun { started: self.started, exit })
    }

    /// How it ended last, as far as the record tells.
    pub(crate) fn last_exit(&self) -> Option<Exit> {
        last_exit(self.exit, self.previous)
    }
}

/// How a container ended last, of what its record says: a launch that was killed
/// leaves only the run before it.
pub(crate) fn last_exit(exit: Option<Exit>, previous: Option<PreviousRun>) -> Option<Exit> {
    exit.or(previous.map(|run| run.exit))
}

/// A run of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreviousRun {
    pub started: SystemTime,
    pub exit: Exit,
}

/// `copier.json`: who copies what the container writes.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct CopierRecord {
    pub process: ProcessId,
    /// Whose streams it copies; kept under this by pause.
    pub streams: Reservation,
    /// They are one, a terminal.
    #[serde(default)]
    pub is_terminal: bool,
}

/// `supervisor.json`: who restarts the pod's containers.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct SupervisorRecord {
    pub process: ProcessId,
}

/// `process.json`: the container's main process.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessRecord {
    pub process: ProcessId,
    /// Its mount namespace, by which its children are found where there is no
    /// cgroup.
    pub mounts: Option<MountNamespace>,
}
