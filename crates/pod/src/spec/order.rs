//! Which of a pod's containers start before others, and what is executed in one
//! when it has started and before it is stopped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::{check_args, check_name};
use crate::error::{Error, Result};

/// What a container has to have come to before one that is [after](After) it is
/// started: the conditions of compose's `depends_on`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Condition {
    /// It has been started, its [postStart hook](Lifecycle::post_start) included.
    #[default]
    Started,
    /// Its health check says that it is healthy. Refused yet: there are no health
    /// checks.
    Healthy,
    /// It has ended by itself with 0, in this life of its pod.
    Completed,
}

impl Condition {
    /// As [`After`] has it behind the name.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Healthy => "healthy",
            Condition::Completed => "completed",
        }
    }
}

/// That a container is started only after another one of its pod.
///
/// ```
/// let after: pod::After = "db:completed".parse().unwrap();
/// assert_eq!((after.container.as_str(), after.condition), ("db", pod::Condition::Completed));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct After {
    /// The other one's name.
    pub container: String,
    /// What that has to have come to.
    pub condition: Condition,
}

impl After {
    /// After this container, once it has come to that.
    pub fn new(container: impl Into<String>, condition: Condition) -> After {
        After { container: container.into(), condition }
    }
}

/// As [`FromStr`] takes it.
impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.condition.name())
    }
}

/// `NAME`, `NAME:started`, `NAME:healthy` or `NAME:completed`.
impl FromStr for After {
    type Err = Error;

    fn from_str(text: &str) -> Result<After> {
        let (container, condition) = text.split_once(':').unwrap_or((text, Condition::default().name()));
        check_name("container", container)?;
        let known = [Condition::Started, Condition::Healthy, Condition::Completed];
        let condition = known.into_iter().find(|known| known.name() == condition);
        let reason = "give NAME:started, NAME:healthy or NAME:completed; NAME alone is NAME:started";
        Ok(After::new(container, condition.ok_or_else(|| Error::invalid("after", text, reason))?))
    }
}

/// That a container runs before all others of its pod, to its end: one of these
/// after another, in the order in which they were made. As Kubernetes' init
/// containers; the kinds are podman's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InitContainer {
    /// It is removed once it has ended with 0.
    Once,
    /// It runs each time that the pod's containers are started.
    Always,
}

/// `once` or `always`.
impl FromStr for InitContainer {
    type Err = Error;

    fn from_str(text: &str) -> Result<InitContainer> {
        match text {
            "once" => Ok(InitContainer::Once),
            "always" => Ok(InitContainer::Always),
            _ => Err(Error::invalid("init container", text, "give once or always")),
        }
    }
}

/// One of a container's [hooks](Lifecycle), by Kubernetes' name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LifecycleHook {
    /// [`Lifecycle::post_start`].
    PostStart,
    /// [`Lifecycle::pre_stop`].
    PreStop,
}

impl LifecycleHook {
    /// `postStart` or `preStop`.
    pub fn name(self) -> &'static str {
        match self {
            LifecycleHook::PostStart => "postStart",
            LifecycleHook::PreStop => "preStop",
        }
    }
}

/// What is executed in a container besides its main process, as that's user, in its
/// environment: the `exec` of Kubernetes' lifecycle hooks (core/v1, Lifecycle). Each
/// is a program and its arguments; none if it is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lifecycle {
    /// Right after each start, by whomever. What is started after the container waits
    /// for its end; one that fails ends the container (SIGKILL).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<String>,
    /// Before the stop signal, within the time that the container is given to stop,
    /// which it uses up: without such time it is not executed. One that fails is
    /// noted, and the container is stopped like any other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<String>,
}

impl Lifecycle {
    /// Whether there are no hooks.
    pub(super) fn is_empty(&self) -> bool {
        self.post_start.is_empty() && self.pre_stop.is_empty()
    }

    pub(super) fn check(&self) -> Result<()> {
        for (field, args) in [("post_start", &self.post_start), ("pre_stop", &self.pre_stop)] {
            if !args.is_empty() {
                check_args(args).map_err(|error| match error {
                    Error::Invalid { value, reason, .. } => Error::invalid(field, value, reason),
                    error => error,
                })?;
            }
        }
        Ok(())
    }
}
