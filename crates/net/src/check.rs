//! How a packet gets to a pod's ports and out of the pod, step by step, and where
//! it would stop: what `podlet network check` prints.
//!
//! ```text
//!   look      what there is on the machine, in its firewall, in the pod  → Seen
//!   judge     what there should be by the pod's record, beside it        → Finding (pure)
//! ```
//!
//! Nothing is changed. What a check cannot know, such as what the rules of a
//! foreign firewall come to, it calls [`Verdict::Unsure`] and says how to find out.

use std::fmt::{self, Display, Formatter};
use std::os::fd::OwnedFd;

use pod::{Namespace, Pod, Result};

use crate::cni::CheckReport;
use crate::networks::Networks;
use crate::record::{self, Attachment};

mod judge;
mod listen;
mod look;

use look::SeenRootless;

/// What a step comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A packet gets past it.
    Good,
    /// It may, or not: this cannot be said from here.
    Unsure,
    /// It does not.
    Stops,
}

/// One step, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, and how it is.
    pub what: String,
    /// What that means for a packet.
    pub verdict: Verdict,
    /// What helps, if it is not good.
    pub cure: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), verdict: Verdict::Good, cure: None }
    }

    fn unsure(what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { what: what.into(), verdict: Verdict::Unsure, cure: Some(cure.into()) }
    }

    fn stops(what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { what: what.into(), verdict: Verdict::Stops, cure: Some(cure.into()) }
    }
}

/// A line, and another one for the cure.
impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Unsure => "perhaps",
            Verdict::Stops => "STOPS",
        };
        write!(f, "{verdict:7}  {}", self.what)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "\n         cure: {cure}"))
    }
}

impl Networks {
    /// The steps of packets to and from a pod, in the order in which they come.
    ///
    /// # Errors
    /// [`Error::State`](pod::Error::State) if the pod is in no network; [`Error::Os`](pod::Error::Os) if the machine
    /// cannot be looked at: EPERM without CAP_NET_ADMIN.
    pub fn check(&self, pod: &Pod) -> Result<Vec<Finding>> {
        let none = || record::in_none(pod, "nothing leads to it");
        let attachment = self.attachment(pod.name())?.filter(|found| !found.networks.is_empty()).ok_or_else(none)?;
        if attachment.has_pasta() {
            let Some(pause) = pod.pause_pid() else {
                return Ok(vec![Finding::stops("pod: is not running", "podlet start it")]);
            };
            return Ok(judge::findings_of_pasta(&attachment, self.pasta_of(pod.name())?, &SeenRootless::of(pause)?));
        }
        let namespace = pod.is_alive().then(|| pod.namespace(Namespace::Net)).transpose()?;
        let own = attachment.clone().without_cni();
        let mut found = match own.networks.is_empty() {
            true => Vec::new(),
            false => self.check_attached(&own, namespace.as_ref())?,
        };
        // What their plugins made only they know.
        found.extend(self.check_cni(pod)?.into_iter().map(|(name, report)| of_plugins(&name, report)));
        Ok(found)
    }

    /// Firewalls of others that stop what is forwarded to and from a pod: of what
    /// [`check`](Networks::check) finds that which is not in podlet's hands, to be
    /// said where a pod is made.
    ///
    /// # Errors
    /// [`Error::NotFound`](pod::Error::NotFound) for its network; [`Error::Os`](pod::Error::Os) as for `check`.
    pub fn check_firewalls(&self, attachment: &Attachment) -> Result<Vec<Finding>> {
        let found = self.look_at_foreign(attachment)?;
        let found = found.iter().map(|(chain, unnamed)| judge::judge_foreign(chain, unnamed));
        Ok(found.filter(|finding| finding.verdict != Verdict::Good).collect())
    }

    /// [`check`](Networks::check) of a pod that is looked up already; without its
    /// namespace if it is not alive.
    pub(crate) fn check_attached(&self, attachment: &Attachment, namespace: Option<&OwnedFd>) -> Result<Vec<Finding>> {
        Ok(judge::findings(attachment, &self.look(attachment, namespace)?))
    }
}

/// What the plugins of a CNI network say.
fn of_plugins(name: &str, report: CheckReport) -> Finding {
    match report {
        CheckReport::AsMade => Finding::good(format!("network {name}: is as its plugins made it")),
        CheckReport::Failed(error) => {
            let cure = "the pod has to be made anew: podlet stop it, and podlet start it";
            Finding::stops(format!("network {name}: {error}"), cure)
        }
        CheckReport::NotAsked(why) => {
            let cure = "podlet inspect shows the addresses that it got";
            Finding::unsure(format!("network {name}: its plugins were not asked: {why}"), cure)
        }
    }
}
