//! What is written down of a container, and what is told of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};

use crate::cgroup::systemd::Scope;
use crate::config::Hooks;
use crate::error::StepKind;
use crate::kernel::procfs::{MountNamespace, ProcessId};
use crate::spec::ContainerSpec;
use crate::spec::users::Users;

pub(super) const RECORD: &str = "record.json";
pub(super) const PROCESS: &str = "process.json";
/// What becomes [`PROCESS`] once the container is made.
pub(super) const UNFINISHED: &str = "unfinished.json";
pub(super) const START_SOCKET: &str = "gate";

/// `record.json`. Later changes of config.json have no effect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub bundle: PathBuf,
    pub annotations: BTreeMap<String, String>,
    pub created: SystemTime,
    pub owner: u32,
    /// The pid namespace in which its pids are numbers, by inode.
    pub pids: u64,
    /// It has a pid namespace of its own: all of it ends with its first
    /// process.
    pub ends_as_one: bool,
    /// Its config says what to run.
    #[serde(default = "yes")]
    pub has_process: bool,
    pub container: ContainerSpec,
    pub users: Users,
    pub hooks: Hooks,
    pub cgroup: Option<PathBuf>,
    /// The cgroups that were made for it, outermost first.
    pub made_cgroups: Vec<PathBuf>,
    /// Whose the cgroup is, if systemd makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Its limits stand twice.
    #[serde(default)]
    pub doubled: bool,
    /// Whose mount namespace it is in.
    #[serde(default)]
    pub mounts: RecordedMntns,
    /// Of the steps behind the gate: number and how the plan shows them.
    pub late_steps: Vec<(u32, String)>,
    /// What they are, in the same order. Builds before did not write it down; a
    /// later one may have kinds that this one does not know.
    #[serde(default, deserialize_with = "those_known")]
    pub late_kinds: Vec<StepKind>,
}

fn those_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StepKind>, D::Error> {
    let kinds = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(kinds.into_iter().map(|kind| serde_json::from_value(kind).unwrap_or(StepKind::Other)).collect())
}

fn yes() -> bool {
    true
}

/// Whose mount namespace a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RecordedMntns {
    /// Its own.
    #[default]
    Own,
    /// A mount namespace that was there before it.
    Joined,
    /// Its creator's, in whose mount table its root stands.
    Callers(Attached),
}

/// By what a container's root is found among the mounts of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attached {
    /// The mount namespace.
    pub namespace: MountNamespace,
    /// The source of the file system below the root, made for this container.
    pub mark: String,
}

/// `process.json`, and before that `unfinished.json`: the container's first
/// process, which was born into its cgroup.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ProcessRecord {
    pub process: ProcessId,
    /// Its mount namespace, where there is no cgroup and only the container is in
    /// it.
    pub mounts: Option<MountNamespace>,
    /// Its cgroup, by its number.
    pub cgroup: Option<u64>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It is being made, or its creator was killed.
    Creating,
    /// It waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process is gone.
    Stopped,
}

impl Status {
    /// As in the state.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// The state of a container (runtime-spec, State).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct State {
    /// The specification that it follows.
    #[serde(rename = "ociVersion")]
    pub version: &'static str,
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its process on this machine; 0 once that is gone.
    pub pid: u32,
    /// Its bundle's directory.
    pub bundle: PathBuf,
    /// As its config has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a record that is about late steps.
    #[derive(Deserialize)]
    struct Late {
        #[serde(default, deserialize_with = "those_known")]
        late_kinds: Vec<StepKind>,
    }

    #[test]
    fn kinds_of_steps_are_read_from_every_build() {
        let read = |json: &str| serde_json::from_str::<Late>(json).expect("a record").late_kinds;
        assert_eq!(read("{}"), [], "a build before wrote none");
        let mixed = r#"{ "late_kinds": ["seccomp", "of_tomorrow", { "openat2": { "directory": true } }, 7] }"#;
        let kinds = [StepKind::Seccomp, StepKind::Other, StepKind::Openat2 { directory: true }, StepKind::Other];
        assert_eq!(read(mixed), kinds);
        let written = serde_json::json!({ "late_kinds": kinds }).to_string();
        assert_eq!(read(&written), kinds);
    }
}
