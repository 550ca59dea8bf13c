//! How it is found out whether a container does well, how often, and what follows.
//!
//! The three kinds of checks and their defaults are Kubernetes' (Pod v1 `Probe`);
//! what follows from a failure can be podman's `--health-on-failure`, too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::check_args;
use crate::error::{Error, Result};

/// How a container does that runs and has [checks](HealthChecks).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// One of its checks has no result that counts yet, and none has failed.
    Starting,
    /// All of them succeed.
    Healthy,
    /// One of them fails.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        })
    }
}

/// What a check is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Whether it has started: until this has succeeded once in a run there is no other.
    Startup,
    /// Whether it still does its work.
    Liveness,
    /// Whether it can be asked to do some. What fails here is only shown.
    Readiness,
}

impl CheckKind {
    /// All of them.
    pub const ALL: [CheckKind; 3] = [CheckKind::Startup, CheckKind::Liveness, CheckKind::Readiness];

    /// Its name: `startup`, `liveness` or `readiness`.
    pub fn name(self) -> &'static str {
        match self {
            CheckKind::Startup => "startup",
            CheckKind::Liveness => "liveness",
            CheckKind::Readiness => "readiness",
        }
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is done to find out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CheckAction {
    /// A program is run in the container, as by [`Container::exec`](crate::Container::exec):
    /// 0 is a success.
    Exec {
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// A GET of HTTP/1.1, from inside the pod's network: 200 to 399 is a success, and no
    /// redirect is followed.
    Http {
        /// Whom; 127.0.0.1 if nobody is named.
        host: Option<IpAddr>,
        /// At which port.
        port: u16,
        /// Path and query, from `/` on.
        path: String,
    },
    /// A connection over TCP, from inside the pod's network.
    Tcp {
        /// To whom; 127.0.0.1 if nobody is named.
        host: Option<IpAddr>,
        /// At which port.
        port: u16,
    },
}

impl CheckAction {
    /// Whom it connects to, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            CheckAction::Exec { .. } => None,
            CheckAction::Http { host, port, .. } | CheckAction::Tcp { host, port } => {
                Some(SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), *port))
            }
        }
    }
}

/// What follows once a container is unhealthy by a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnUnhealthy {
    /// It is shown.
    #[default]
    Nothing,
    /// Its stop signal, after its [grace](crate::ContainerSpec::grace) SIGKILL to all of it; then
    /// its [restart policy](crate::ContainerSpec::restart), to which that is a failure whatever
    /// the container says at its end. Kubernetes' way.
    Terminate,
    /// SIGKILL to all of it at once, and its restart policy. podman's `kill`.
    Kill,
    /// As `Terminate`, and it stays down, whatever its policy is. podman's `stop`.
    Stop,
    /// As `Terminate`, and it is started again, whatever its policy is. podman's `restart`.
    Restart,
}

/// A check of a container: what, how often, and what its results mean.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What is done.
    pub action: CheckAction,
    /// From one check's beginning to the next one's, if it has ended by then.
    pub interval: Duration,
    /// What takes longer has failed; a program is killed then, with all that it has
    /// started.
    pub timeout: Duration,
    /// So many failures in a row make a container unhealthy.
    pub retries: u32,
    /// So many successes in a row make it healthy.
    pub successes: u32,
    /// The first check comes so long after the container's start.
    pub start_delay: Duration,
    /// A failure sooner than this after the container's start counts for nothing, unless
    /// there was a success.
    pub start_period: Duration,
    /// What follows once it is unhealthy.
    pub on_unhealthy: OnUnhealthy,
}

impl HealthCheck {
    /// A check with Kubernetes' defaults: every 10 seconds, for 1 second at most; 3
    /// failures or 1 success count. What follows is for the kind of check to say.
    pub fn new(action: CheckAction) -> HealthCheck {
        HealthCheck {
            action,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            retries: 3,
            successes: 1,
            start_delay: Duration::ZERO,
            start_period: Duration::ZERO,
            on_unhealthy: OnUnhealthy::Nothing,
        }
    }

    /// # Errors
    /// [`Error::Invalid`], naming the field behind the kind.
    pub(super) fn check(&self, kind: CheckKind) -> Result<()> {
        /// As long as a clock can be trusted to go.
        const MOST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        const LEAST: Duration = Duration::from_millis(1);
        let wrong = |field: &str, value: String, reason: &str| Error::invalid(format!("{kind}.{field}"), value, reason);
        for (field, time, least) in [
            ("interval", self.interval, LEAST),
            ("timeout", self.timeout, LEAST),
            ("start_delay", self.start_delay, Duration::ZERO),
            ("start_period", self.start_period, Duration::ZERO),
        ] {
            if time < least {
                return Err(wrong(field, format!("{time:?}"), "give at least a millisecond"));
            }
            if time > MOST {
                return Err(wrong(field, format!("{time:?}"), "give a year at most"));
            }
        }
        for (field, number) in [("retries", self.retries), ("successes", self.successes)] {
            if number == 0 {
                return Err(wrong(field, number.to_string(), "give a number from 1 on"));
            }
        }
        if kind == CheckKind::Liveness && self.successes != 1 {
            return Err(wrong("successes", self.successes.to_string(), "one success is enough to be alive: give 1"));
        }
        if kind == CheckKind::Readiness && self.on_unhealthy != OnUnhealthy::Nothing {
            let reason = "what is not ready is only shown: give a liveness check what ends it";
            return Err(wrong("on_unhealthy", format!("{:?}", self.on_unhealthy), reason));
        }
        self.check_action(kind)
    }

    fn check_action(&self, kind: CheckKind) -> Result<()> {
        let wrong = |field: &str, value: &str, reason: &str| Error::invalid(format!("{kind}.{field}"), value, reason);
        match &self.action {
            CheckAction::Exec { args } if args.first().is_none_or(String::is_empty) => {
                Err(wrong("exec", "", "no program: give the one to run in the container"))
            }
            CheckAction::Exec { args } => check_args(args),
            CheckAction::Http { port: 0, .. } | CheckAction::Tcp { port: 0, .. } => {
                Err(wrong("port", "0", "give a port from 1 to 65535"))
            }
            CheckAction::Http { path, .. } if !path.starts_with('/') => {
                Err(wrong("path", path, "give a path that begins with /"))
            }
            CheckAction::Http { path, .. } if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(wrong("path", path, "give what is not visible ASCII as %XX (RFC 3986)"))
            }
            CheckAction::Http { .. } | CheckAction::Tcp { .. } => Ok(()),
        }
    }
}

/// The checks of a container. Whoever [supervises](crate::Pod::supervise) its pod
/// performs them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthChecks {
    /// Whether it has started; there is no other check before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<HealthCheck>,
    /// Whether it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<HealthCheck>,
    /// Whether it can be given work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<HealthCheck>,
}

impl HealthChecks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = (CheckKind, &HealthCheck)> {
        CheckKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// The one of this kind.
    pub fn get(&self, kind: CheckKind) -> Option<&HealthCheck> {
        match kind {
            CheckKind::Startup => self.startup.as_ref(),
            CheckKind::Liveness => self.liveness.as_ref(),
            CheckKind::Readiness => self.readiness.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::namespace::Namespace;
    use crate::spec::{ContainerSpec, NamespaceMode, PodOptions, Root};

    fn tcp(port: u16) -> HealthCheck {
        HealthCheck::new(CheckAction::Tcp { host: None, port })
    }

    #[test]
    fn a_check_that_cannot_be_is_refused_by_its_name() {
        type Change = fn(&mut HealthCheck);
        let changes: [(Change, &str); 10] = [
            (|check| check.interval = Duration::ZERO, "liveness.interval \"0ns\""),
            (|check| check.timeout = Duration::from_micros(1), "liveness.timeout"),
            (|check| check.start_delay = Duration::MAX, "liveness.start_delay"),
            (|check| check.retries = 0, "liveness.retries \"0\""),
            (|check| check.successes = 2, "liveness.successes \"2\""),
            (|check| check.action = CheckAction::Tcp { host: None, port: 0 }, "liveness.port \"0\""),
            (|check| check.action = CheckAction::Exec { args: Vec::new() }, "liveness.exec"),
            (|check| check.action = CheckAction::Exec { args: vec![String::new()] }, "liveness.exec"),
            (|check| check.action = CheckAction::Http { host: None, port: 1, path: "x".into() }, "liveness.path \"x\""),
            (|check| check.action = CheckAction::Http { host: None, port: 1, path: "/ä".into() }, "liveness.path"),
        ];
        for (change, words) in changes {
            let mut container = ContainerSpec::new("a", Root::Host);
            container.health.liveness = Some(tcp(80));
            container.check().expect("a check");
            container.health.liveness.iter_mut().for_each(change);
            let error = container.check().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut container = ContainerSpec::new("a", Root::Host);
        let mut ready = tcp(80);
        ready.on_unhealthy = OnUnhealthy::Kill;
        container.health.readiness = Some(ready);
        let error = container.check().expect_err("an end").to_string();
        assert!(error.contains("readiness.on_unhealthy") && error.contains("only shown"), "{error}");
    }

    #[test]
    fn what_is_not_in_the_pods_network_is_not_asked_from_there() {
        let mut container = ContainerSpec::new("a", Root::Host);
        container.health.startup = Some(tcp(80));
        let pod = PodOptions::new("web");
        container.check_in(&pod).expect("it is");
        let error = container.check_in(&pod.share([Namespace::Pid])).expect_err("it is not").to_string();
        assert!(error.contains("startup \"127.0.0.1:80\"") && error.contains("exec"), "{error}");
        container.net = NamespaceMode::Own;
        container.check().expect_err("it is not");
        container.health.startup = Some(HealthCheck::new(CheckAction::Exec { args: vec!["true".into()] }));
        container.check().expect("by exec it is");
    }
}
