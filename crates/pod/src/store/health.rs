//! What is written down of a container's checks, and what follows from it: a pure
//! function of its results, so that whoever supervises the pod next goes on where the
//! one before was killed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize, Serializer};

use crate::kernel::procfs::ProcessId;
use crate::spec::{CheckKind, Health, HealthCheck, HealthChecks, OnUnhealthy};

/// What a check has found out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckResult {
    /// When it began.
    #[serde(serialize_with = "rfc3339", deserialize_with = "of_rfc3339")]
    pub started: SystemTime,
    /// Whether the container did well.
    pub success: bool,
    /// Of a program: what it said at its end, as a shell would say it; of HTTP: the
    /// status code (RFC 9110). `None` if it came to none.
    pub code: Option<u16>,
    /// The first 4 KiB of what was printed or answered, or why it has failed.
    pub output: String,
}

/// A check that has ended a container's run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedCheck {
    /// Which.
    pub check: CheckKind,
    /// When the run began that it has ended.
    #[serde(serialize_with = "rfc3339", deserialize_with = "of_rfc3339")]
    pub started: SystemTime,
    /// When it failed so often that it counted.
    #[serde(serialize_with = "rfc3339", deserialize_with = "of_rfc3339")]
    pub time: SystemTime,
    /// What it printed, was answered, or why it has failed.
    pub output: String,
}

/// `health.json`: the checks of a container's run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HealthRecord {
    /// When the run began that it is of.
    pub run: SystemTime,
    /// How it does by all of them.
    pub health: Health,
    pub checks: BTreeMap<CheckKind, CheckState>,
    /// What has ended this run or one before it.
    pub failed: Option<FailedCheck>,
}

/// What is known of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CheckState {
    /// What its results come to.
    pub verdict: Health,
    /// So many have failed in a row.
    pub failing: u32,
    /// So many have succeeded in a row.
    pub succeeding: u32,
    pub last: Option<CheckResult>,
    /// Why it could not be performed since, which counts for nothing.
    pub error: Option<String>,
    /// The program that is being run for it.
    pub begun: Option<Begun>,
}

/// The program that a check runs, as long as it is not known to have ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub process: ProcessId,
    /// The cgroup that is its own.
    pub cgroup: Option<PathBuf>,
}

impl Default for CheckState {
    fn default() -> CheckState {
        CheckState { verdict: Health::Starting, failing: 0, succeeding: 0, last: None, error: None, begun: None }
    }
}

impl CheckState {
    fn take(&mut self, check: &HealthCheck, result: CheckResult, run: SystemTime) {
        let age = result.started.duration_since(run).unwrap_or_default();
        match result.success {
            true => {
                self.succeeding = self.succeeding.saturating_add(1);
                self.failing = 0;
                if self.succeeding >= check.successes {
                    self.verdict = Health::Healthy;
                }
            }
            // It still has time.
            false if self.verdict == Health::Starting && age < check.start_period => self.succeeding = 0,
            false => {
                self.failing = self.failing.saturating_add(1);
                self.succeeding = 0;
                if self.failing >= check.retries {
                    self.verdict = Health::Unhealthy;
                }
            }
        }
        self.last = Some(result);
        self.error = None;
    }
}

impl HealthRecord {
    /// Of a run that has just begun; `before` is what was known of the one before.
    pub(crate) fn new(run: SystemTime, before: Option<HealthRecord>) -> HealthRecord {
        let failed = before.and_then(|before| before.failed);
        HealthRecord { run, health: Health::Starting, checks: BTreeMap::new(), failed }
    }

    /// The checks that are to be performed now. None once one of them ends the run.
    pub(crate) fn wanted(&self, checks: &HealthChecks) -> Vec<CheckKind> {
        let has_started = checks.startup.is_none() || self.verdict(CheckKind::Startup) == Health::Healthy;
        let is_wanted = |kind: &CheckKind| (*kind == CheckKind::Startup) != has_started;
        match self.ends_run() {
            true => Vec::new(),
            false => checks.all().map(|(kind, _)| kind).filter(is_wanted).collect(),
        }
    }

    /// Whether one of them has decided to end this run.
    pub(crate) fn ends_run(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.started == self.run)
    }

    /// Takes a result, and decides.
    pub(crate) fn take(&mut self, checks: &HealthChecks, kind: CheckKind, result: CheckResult, now: SystemTime) {
        let Some(check) = checks.get(kind) else { return };
        let output = result.output.clone();
        let state = self.checks.entry(kind).or_default();
        state.take(check, result, self.run);
        if state.verdict == Health::Unhealthy && check.on_unhealthy != OnUnhealthy::Nothing && !self.ends_run() {
            self.failed = Some(FailedCheck { check: kind, started: self.run, time: now, output });
        }
        self.health = self.by_all(checks);
    }

    /// How it does by all of them.
    fn by_all(&self, checks: &HealthChecks) -> Health {
        let verdicts: Vec<_> = checks.all().map(|(kind, _)| self.verdict(kind)).collect();
        match verdicts {
            verdicts if verdicts.contains(&Health::Unhealthy) => Health::Unhealthy,
            verdicts if verdicts.contains(&Health::Starting) => Health::Starting,
            _ => Health::Healthy,
        }
    }

    fn verdict(&self, kind: CheckKind) -> Health {
        self.checks.get(&kind).map_or(Health::Starting, |state| state.verdict)
    }

    /// How long after `now` a check is due for the first time, for whoever has not
    /// performed one of its kind yet.
    pub(crate) fn first_due(&self, kind: CheckKind, check: &HealthCheck, now: SystemTime) -> Duration {
        let last = self.checks.get(&kind).and_then(|state| state.last.as_ref());
        let (since, time) = match last {
            Some(last) => (last.started, check.interval),
            None => (self.run, check.start_delay),
        };
        // A clock that was set back is not waited for.
        (since + time).duration_since(now).unwrap_or_default().min(time)
    }
}

/// How a container does; `None` if it does not run, or has no checks.
pub(crate) fn health(
    checks: &HealthChecks,
    record: Option<&HealthRecord>,
    run: Option<SystemTime>,
    runs: bool,
) -> Option<Health> {
    let known = record.filter(|record| Some(record.run) == run);
    (runs && !checks.is_empty()).then(|| known.map_or(Health::Starting, |record| record.health))
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
}

fn of_rfc3339<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CheckAction;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn result(time: u64, success: bool) -> CheckResult {
        CheckResult { started: at(time), success, code: None, output: format!("at {time}") }
    }

    fn tcp() -> HealthCheck {
        HealthCheck::new(CheckAction::Tcp { host: None, port: 80 })
    }

    fn all() -> HealthChecks {
        let ending = || Some(HealthCheck { on_unhealthy: OnUnhealthy::Terminate, ..tcp() });
        HealthChecks { startup: ending(), liveness: ending(), readiness: Some(tcp()) }
    }

    #[test]
    fn a_startup_check_holds_back_the_others_and_ends_once_it_has_succeeded() {
        let checks = all();
        let mut record = HealthRecord::new(at(100), None);
        assert_eq!(record.wanted(&checks), [CheckKind::Startup]);
        record.take(&checks, CheckKind::Startup, result(101, false), at(101));
        record.take(&checks, CheckKind::Startup, result(102, true), at(102));
        assert_eq!(record.wanted(&checks), [CheckKind::Liveness, CheckKind::Readiness]);
        assert_eq!(record.health, Health::Starting);
        record.take(&checks, CheckKind::Liveness, result(103, true), at(103));
        record.take(&checks, CheckKind::Readiness, result(103, true), at(103));
        assert_eq!(record.health, Health::Healthy);
        // The next run begins with it again.
        assert_eq!(HealthRecord::new(at(200), Some(record)).wanted(&checks), [CheckKind::Startup]);
    }

    #[test]
    fn so_many_failures_in_a_row_count() {
        let checks = all();
        let mut record = HealthRecord::new(at(100), None);
        record.take(&checks, CheckKind::Startup, result(100, true), at(100));
        for (time, success) in [(101, false), (102, false), (103, true), (104, false), (105, false)] {
            record.take(&checks, CheckKind::Liveness, result(time, success), at(time));
            assert_ne!(record.health, Health::Unhealthy, "{time}");
        }
        record.take(&checks, CheckKind::Readiness, result(105, false), at(105));
        assert!(!record.ends_run());
        record.take(&checks, CheckKind::Liveness, result(106, false), at(106));
        assert_eq!((record.health, record.ends_run()), (Health::Unhealthy, true));
        let failed = record.failed.clone().expect("the reason");
        assert_eq!((failed.check, failed.started, failed.output.as_str()), (CheckKind::Liveness, at(100), "at 106"));
        assert!(record.wanted(&checks).is_empty(), "it is ended");
        let next = HealthRecord::new(at(200), Some(record));
        assert_eq!((next.ends_run(), next.failed), (false, Some(failed)), "told of the run before");
    }

    #[test]
    fn readiness_comes_and_goes() {
        let readiness = Some(HealthCheck { retries: 2, successes: 2, ..tcp() });
        let checks = HealthChecks { readiness, ..HealthChecks::default() };
        let mut record = HealthRecord::new(at(0), None);
        let seen = [false, false, true, true, false, true, false, false].map(|success| {
            record.take(&checks, CheckKind::Readiness, result(1, success), at(1));
            record.health
        });
        let [bad, good, new] = [Health::Unhealthy, Health::Healthy, Health::Starting];
        assert_eq!(seen, [new, bad, bad, good, good, good, good, bad]);
        assert!(!record.ends_run());
    }

    #[test]
    fn failures_while_it_starts_count_for_nothing() {
        let liveness = Some(HealthCheck { retries: 1, start_period: Duration::from_secs(10), ..tcp() });
        let checks = HealthChecks { liveness, ..HealthChecks::default() };
        let mut record = HealthRecord::new(at(100), None);
        record.take(&checks, CheckKind::Liveness, result(109, false), at(109));
        assert_eq!((record.health, record.checks[&CheckKind::Liveness].failing), (Health::Starting, 0));
        let mut later = record.clone();
        later.take(&checks, CheckKind::Liveness, result(110, false), at(110));
        assert_eq!(later.health, Health::Unhealthy, "the time is over");
        record.take(&checks, CheckKind::Liveness, result(105, true), at(105));
        record.take(&checks, CheckKind::Liveness, result(106, false), at(106));
        assert_eq!(record.health, Health::Unhealthy, "it had started");
    }

    #[test]
    fn the_next_supervisor_waits_for_what_is_left() {
        let checks = all();
        let check = HealthCheck { start_delay: Duration::from_secs(4), ..tcp() };
        let mut record = HealthRecord::new(at(100), None);
        let due = |record: &HealthRecord, now| record.first_due(CheckKind::Startup, &check, at(now)).as_secs();
        assert_eq!((due(&record, 101), due(&record, 200), due(&record, 50)), (3, 0, 4));
        record.take(&checks, CheckKind::Startup, result(104, false), at(104));
        assert_eq!((due(&record, 105), due(&record, 200), due(&record, 50)), (9, 0, 10));
    }
}
