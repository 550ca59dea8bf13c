//! What is written down of a container's restarts, and what follows from it: a
//! pure function of its record, so that whoever supervises the pod next goes on
//! where the one before was killed.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::exits::Exit;
use crate::kernel::procfs::ProcessId;
use crate::spec::{Backoff, RestartPolicy};

/// How a container was restarted since a person started it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restarts {
    /// How often, failed starts included.
    pub count: u32,
    /// How often in a row, with no long run among them.
    pub in_a_row: u32,
    /// The end that the latest restart answers. It is written down together with the
    /// run that is to begin: after a launch that was killed it is the latest end still,
    /// and counted already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Exit>,
    /// The start after the latest end failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedStart>,
    /// A person has stopped it.
    #[serde(default)]
    pub stopped: bool,
    /// A check has ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Unhealthy>,
    /// This process has stopped it, and is about to start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<ProcessId>,
}

/// What the end of a container means that one of its checks has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unhealthy {
    /// It is a failure, whatever the container has said.
    Failed,
    /// It is started again, whatever its policy says.
    Restarts,
}

/// A start by the policy that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedStart {
    pub time: SystemTime,
    /// What was wrong.
    pub error: String,
}

/// What a container says of restarts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rule {
    pub policy: RestartPolicy,
    pub backoff: Backoff,
}

/// A run that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedRun {
    pub started: Option<SystemTime>,
    pub exit: Exit,
}

impl Restarts {
    /// Whether there is nothing to write down.
    pub(crate) fn is_default(&self) -> bool {
        *self == Restarts::default()
    }

    /// Whether a container that runs is to be looked after.
    pub(crate) fn is_wanted(&self, rule: Rule) -> bool {
        (rule.policy.restarts() || self.must_restart()) && !self.stopped
    }

    fn must_restart(&self) -> bool {
        self.unhealthy == Some(Unhealthy::Restarts)
    }

    /// When it is to be started again after this end; `None` if it is not.
    pub(crate) fn due(&self, rule: Rule, run: EndedRun) -> Option<SystemTime> {
        if !self.is_wanted(rule) {
            return None;
        }
        if self.answers(run.exit) {
            // Its time had come.
            return Some(run.exit.finished.unwrap_or(SystemTime::UNIX_EPOCH));
        }
        let is_wanted = match rule.policy {
            _ if self.must_restart() => true,
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { max } => {
                let has_failed = !run.exit.success() || self.unhealthy.is_some();
                let has_failed = has_failed && run.exit.finished.is_some();
                has_failed && max.is_none_or(|max| self.count < max)
            }
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        };
        // One that ended with its pod has waited for that.
        let since = self.failed.as_ref().map(|failed| failed.time).or(run.exit.finished);
        let wait = rule.backoff.wait(self.in_a_row_after(rule, run));
        is_wanted.then(|| since.map_or(SystemTime::UNIX_EPOCH, |since| since + wait))
    }

    /// As it is once it is started again after this end.
    pub(crate) fn after(&self, rule: Rule, run: EndedRun) -> Restarts {
        if self.answers(run.exit) {
            return Restarts { failed: None, ..self.clone() };
        }
        Restarts {
            count: self.count.saturating_add(1),
            in_a_row: self.in_a_row_after(rule, run).saturating_add(1),
            answered: Some(run.exit),
            ..Restarts::default()
        }
    }

    /// As it is once that has failed.
    pub(crate) fn after_failure(&self, rule: Rule, run: EndedRun, failed: FailedStart) -> Restarts {
        // It is tried again, which is counted, too.
        let unhealthy = self.unhealthy;
        Restarts { answered: None, failed: Some(failed), unhealthy, ..self.after(rule, run) }
    }

    /// As it is when its pod is started anew.
    pub(crate) fn in_new_pod(&self, policy: RestartPolicy) -> Restarts {
        Restarts { stopped: self.stopped && policy != RestartPolicy::Always, ..Restarts::default() }
    }

    fn answers(&self, exit: Exit) -> bool {
        // Whose memory was used up may be found out later.
        self.answered.is_some_and(|answered| answered.finished == exit.finished)
    }

    fn in_a_row_after(&self, rule: Rule, run: EndedRun) -> u32 {
        let ran = run.started.zip(run.exit.finished).and_then(|(from, to)| to.duration_since(from).ok());
        match ran {
            // What has failed since did not run at all.
            Some(ran) if ran >= rule.backoff.reset_after && self.failed.is_none() => 0,
            _ => self.in_a_row,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::exits::ExitStatus;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn run(started: u64, finished: u64, code: u8) -> EndedRun {
        let exit = Exit { status: ExitStatus::Code(code), finished: Some(at(finished)), out_of_memory: None };
        EndedRun { started: Some(at(started)), exit }
    }

    fn rule(policy: RestartPolicy) -> Rule {
        Rule { policy, backoff: Backoff::default() }
    }

    const ALWAYS: RestartPolicy = RestartPolicy::Always;

    #[test]
    fn one_that_ends_again_and_again_waits_longer_until_it_has_run_for_long() {
        let rule = rule(ALWAYS);
        let mut restarts = Restarts::default();
        let mut waits = Vec::new();
        let mut now = 1000;
        for ran in [1, 1, 1, 599, 600, 1, 1] {
            let run = run(now, now + ran, 0);
            let due = restarts.due(rule, run).expect("a restart");
            waits.push(due.duration_since(at(now + ran)).expect("later").as_secs());
            restarts = restarts.after(rule, run);
            now += 10_000;
        }
        assert_eq!(waits, [0, 10, 20, 40, 0, 10, 20]);
        assert_eq!(restarts.count, 7);
    }

    #[test]
    fn each_policy_says_what_it_restarts() {
        let none = Restarts::default();
        let failure = |max| rule(RestartPolicy::OnFailure { max });
        let with_the_pod = EndedRun { started: Some(at(1)), exit: Exit::with_the_pod() };
        let stopped = Restarts { stopped: true, ..none.clone() };
        let all = [failure(None), failure(Some(2)), rule(ALWAYS), rule(RestartPolicy::UnlessStopped)];
        let wanted = |restarts: &Restarts, run| all.map(|rule| restarts.due(rule, run).is_some());
        assert_eq!(wanted(&none, run(1, 2, 7)), [true; 4]);
        assert_eq!(wanted(&none, run(1, 2, 0)), [false, false, true, true]);
        assert_eq!(wanted(&none, with_the_pod), [false, false, true, true]);
        assert_eq!(wanted(&Restarts { count: 2, ..none.clone() }, run(1, 2, 7)), [true, false, true, true]);
        assert_eq!(wanted(&stopped, run(1, 2, 7)), [false; 4]);
        assert_eq!(none.due(rule(RestartPolicy::No), run(1, 2, 7)), None);
        // Started anew.
        let kept = all.map(|rule| stopped.in_new_pod(rule.policy).stopped);
        assert_eq!(kept, [true, true, false, true]);
    }

    #[test]
    fn what_a_check_has_ended_has_failed_whatever_it_said() {
        let failure = rule(RestartPolicy::OnFailure { max: Some(1) });
        let failed = Restarts { unhealthy: Some(Unhealthy::Failed), ..Restarts::default() };
        assert!(failed.due(failure, run(1, 2, 0)).is_some());
        assert_eq!(failed.due(rule(RestartPolicy::No), run(1, 2, 7)), None);
        let next = failed.after(failure, run(1, 2, 0));
        assert_eq!((next.count, next.unhealthy), (1, None), "that was the run before");
        // By podman's `restart`, which tries again, too, but not what a person has stopped.
        let again = Restarts { unhealthy: Some(Unhealthy::Restarts), ..Restarts::default() };
        let no = rule(RestartPolicy::No);
        assert!(again.due(no, run(1, 2, 0)).is_some());
        let in_vain = again.after_failure(no, run(1, 2, 0), FailedStart { time: at(3), error: "no".into() });
        assert!(in_vain.due(no, run(1, 2, 0)).is_some());
        assert_eq!(Restarts { stopped: true, ..again.clone() }.due(no, run(1, 2, 0)), None);
        assert_eq!(again.in_new_pod(RestartPolicy::No).unhealthy, None);
    }

    #[test]
    fn a_launch_that_was_killed_is_counted_once_and_not_waited_for_again() {
        let rule = rule(RestartPolicy::OnFailure { max: Some(1) });
        let ended = run(1, 2, 7);
        let begun = Restarts::default().after(rule, ended);
        assert_eq!(begun.count, 1);
        // As its record has it: the run that never began.
        let seen = EndedRun { started: Some(at(3)), ..ended };
        assert_eq!(begun.due(rule, seen), Some(at(2)));
        assert_eq!(begun.after(rule, seen), begun);
        // The next end is another one.
        assert_eq!(begun.due(rule, run(3, 4, 7)), None);
    }

    #[test]
    fn a_start_that_fails_is_tried_again_later() {
        let rule = rule(RestartPolicy::OnFailure { max: Some(3) });
        let ended = run(1, 1000, 7);
        let failed = |time| FailedStart { time: at(time), error: "no".into() };
        let first = Restarts::default().after_failure(rule, ended, failed(1000));
        assert_eq!((first.count, first.due(rule, ended)), (1, Some(at(1010))), "the long run counts once");
        let second = first.after_failure(rule, ended, failed(1010));
        assert_eq!((second.count, second.due(rule, ended)), (2, Some(at(1030))));
        let started = second.after(rule, ended);
        assert_eq!((started.count, started.failed, started.answered), (3, None, Some(ended.exit)));
        // A launch that was killed, and one that fails then.
        let killed = Restarts::default().after(rule, ended).after_failure(rule, ended, failed(1000));
        assert_eq!((killed.count, killed.due(rule, ended)), (1, Some(at(1010))));
    }
}
