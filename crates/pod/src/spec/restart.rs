//! Whether a container is started again when it has ended, and how soon.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Whether a container is started again when it has ended, by whoever
/// [supervises](crate::Pod::supervise) its pod. The policies are podman's and
/// docker's.
///
/// What a person stops stays down until a person starts it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum RestartPolicy {
    /// It is not.
    #[default]
    No,
    /// Unless it said 0, or ended with its pod.
    OnFailure {
        /// At most so often; `None` for no limit.
        max: Option<u32>,
    },
    /// However it ended, also if a person had stopped it before its pod was started
    /// anew.
    Always,
    /// However it ended, unless a person stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether it can ever be started again.
    pub fn restarts(self) -> bool {
        self != RestartPolicy::No
    }
}

/// As [`FromStr`] takes it.
impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure { max: None } => f.write_str("on-failure"),
            RestartPolicy::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            RestartPolicy::Always => f.write_str("always"),
            RestartPolicy::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// `no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
impl FromStr for RestartPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<RestartPolicy> {
        let unknown = |reason: &str| Error::invalid("restart", text, reason);
        Ok(match text.split_once(':') {
            None if text == "no" => RestartPolicy::No,
            None if text == "on-failure" => RestartPolicy::OnFailure { max: None },
            None if text == "always" => RestartPolicy::Always,
            None if text == "unless-stopped" => RestartPolicy::UnlessStopped,
            Some(("on-failure", number)) => match number.parse() {
                Ok(max @ 1..) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    RestartPolicy::OnFailure { max: Some(max) }
                }
                _ => return Err(unknown("give a number of restarts from 1 on, such as on-failure:3")),
            },
            Some(("no" | "always" | "unless-stopped", _)) => return Err(unknown("only on-failure takes a number")),
            _ => return Err(unknown("there is no, on-failure, on-failure:N, always and unless-stopped")),
        })
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> String {
        policy.to_string()
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = Error;

    fn try_from(text: String) -> Result<RestartPolicy> {
        text.parse()
    }
}

/// How long a container that ends again and again waits before it is started:
/// Kubernetes' way, unless it is said otherwise. The first time it does not wait;
/// then [`first`](Backoff::first), twice that, and so on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backoff {
    /// The second time it waits for so long: 10 seconds.
    pub first: Duration,
    /// It never waits longer: 5 minutes.
    pub most: Duration,
    /// Once it has run for so long it begins anew: 10 minutes.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        let [first, most, reset_after] = [10, 300, 600].map(Duration::from_secs);
        Backoff { first, most, reset_after }
    }
}

impl Backoff {
    /// How long it waits that was started again so often in a row.
    pub fn wait(&self, in_a_row: u32) -> Duration {
        match in_a_row.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let times = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.first.checked_mul(times).unwrap_or(Duration::MAX).min(self.most)
            }
        }
    }

    /// Whether these are as they are without being said.
    pub(super) fn is_default(&self) -> bool {
        *self == Backoff::default()
    }

    /// # Errors
    /// [`Error::Invalid`] if it would be no pause at all.
    pub(super) fn check(&self) -> Result<()> {
        const LEAST: Duration = Duration::from_millis(1);
        for (field, value) in [("restart_backoff.first", self.first), ("restart_backoff.most", self.most)] {
            if value < LEAST {
                let reason = "the machine would do nothing else: give at least a millisecond";
                return Err(Error::invalid(field, format!("{value:?}"), reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            let policy: RestartPolicy = text.parse().expect(text);
            assert_eq!(policy.to_string(), text);
            let json = serde_json::to_string(&policy).expect("JSON");
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<RestartPolicy>(&json).expect("JSON"), policy);
        }
        for (text, cure) in [
            ("sometimes", "unless-stopped"),
            ("", "unless-stopped"),
            ("on-failure:", "on-failure:3"),
            ("on-failure:0", "from 1 on"),
            ("on-failure:+1", "from 1 on"),
            ("on-failure:99999999999", "from 1 on"),
            ("always:3", "only on-failure"),
        ] {
            let error = text.parse::<RestartPolicy>().expect_err(text).to_string();
            assert!(error.contains("restart") && error.contains(cure), "{error}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        let waits: Vec<_> = (0..8).map(|in_a_row| Backoff::default().wait(in_a_row).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        for in_a_row in [32, 33, 34, u32::MAX] {
            assert_eq!(Backoff::default().wait(in_a_row).as_secs(), 300);
        }
    }
}
