//! `podlet prune`: removes what has ended.

use std::io::{BufRead, IsTerminal};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::{ContainerState, Error, Pod, PodState, PodSummary, Store};

use super::filter::{Label, Labels};
use crate::{FAILED, output, target};

/// Remove containers that have ended, and pods that are dead
#[derive(Args)]
pub struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what has label=K[=V], or was made before until=TIME or until=DURATION ago
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// All that is asked for.
#[derive(Default)]
struct Filters {
    labels: Vec<Label>,
    before: Option<SystemTime>,
}

/// What is to go: a container, or a dead pod with all that is in it.
struct Ended {
    pod: String,
    container: Option<String>,
}

impl Prune {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let filters = parse(&self.filter, SystemTime::now())?;
        let mut code = 0;
        let mut ended = Vec::new();
        for pod in Pod::summaries(store, true)? {
            match pod {
                Ok(pod) => ended.extend(find(&pod, &filters)),
                Err(error) => {
                    output::note(format_args!("{error}; `podlet rm -f POD` removes what is damaged"));
                    code = FAILED;
                }
            }
        }
        if ended.is_empty() || !self.force && !agrees(&ended)? {
            return Ok(code);
        }
        for one in &ended {
            match one.remove(store) {
                Ok(true) => output::line(one)?,
                // It runs again, or is gone.
                Ok(false) => {}
                Err(error) => {
                    output::note(pod::in_full(error.as_ref()));
                    code = FAILED;
                }
            }
        }
        Ok(code)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.container {
            Some(container) => f.write_str(&target::show(&self.pod, container)),
            None => f.write_str(&self.pod),
        }
    }
}

impl Ended {
    /// False if it has changed since it was looked at.
    fn remove(&self, store: &Store) -> Result<bool> {
        let pod = Pod::open(store, &self.pod);
        let removed = match &self.container {
            Some(container) => pod.and_then(|pod| pod.container(container)?.remove()),
            None => pod.and_then(Pod::remove_dead),
        };
        match removed {
            Err(Error::State { .. } | Error::NotFound(_)) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        }
    }
}

/// A dead pod as a whole; of one that lives the containers that have ended.
fn find(pod: &PodSummary, filters: &Filters) -> Vec<Ended> {
    if pod.state == PodState::Exited {
        let is_asked_for = filters.allow(pod.created, &[&pod.labels]);
        return is_asked_for.then(|| Ended { pod: pod.name.clone(), container: None }).into_iter().collect();
    }
    let ended = pod.containers.iter().filter(|container| container.state == ContainerState::Exited);
    let asked_for = ended.filter(|container| filters.allow(container.created, &[&container.labels, &pod.labels]));
    asked_for.map(|container| Ended { pod: pod.name.clone(), container: Some(container.name.clone()) }).collect()
}

impl Filters {
    fn allow(&self, created: SystemTime, labels: &[&Labels]) -> bool {
        self.before.is_none_or(|before| created < before)
            && self.labels.iter().all(|label| labels.iter().any(|labels| label.is_in(labels)))
    }
}

fn parse(texts: &[String], now: SystemTime) -> Result<Filters> {
    let mut filters = Filters::default();
    for text in texts {
        match text.split_once('=') {
            Some(("label", label)) if !label.is_empty() => filters.labels.push(Label::parse(label)),
            Some(("until", _)) if filters.before.is_some() => bail!("--filter {text:?}: give until= once"),
            Some(("until", time)) => {
                filters.before = Some(until(time, now).with_context(|| format!("--filter {text:?}"))?)
            }
            Some(_) => bail!(
                "--filter {text:?}: there is label=NAME[=VALUE] and until=TIME; `podlet ps -q --filter ...` finds by more"
            ),
            None => bail!("--filter {text:?}: give KEY=VALUE"),
        }
    }
    Ok(filters)
}

/// A time as RFC 3339 has it, seconds since 1970, or so long ago.
fn until(text: &str, now: SystemTime) -> Result<SystemTime> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let wrong = "give a time such as 2026-01-31T12:00:00Z, seconds since 1970, or how long ago, such as 24h";
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().context(wrong)?;
        return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).context(wrong);
    }
    now.checked_sub(humantime::parse_duration(text).context(wrong)?).context(wrong)
}

/// Asks on the terminal.
fn agrees(ended: &[Ended]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask on whether to remove {} of what has ended: use --force", ended.len());
    }
    let names: Vec<_> = ended.iter().map(Ended::to_string).collect();
    output::note(format_args!("this removes for good: {}", names.join(", ")));
    output::note("go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_labels_are_filters_and_nothing_else() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000);
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let before = |text: &str| parse(&texts(&[text]), now).expect(text).before.expect(text);
        assert_eq!(before("until=1h"), now - Duration::from_secs(3600));
        assert_eq!(before("until=500"), SystemTime::UNIX_EPOCH + Duration::from_secs(500));
        assert_eq!(before("until=1970-01-01T00:10:00Z"), SystemTime::UNIX_EPOCH + Duration::from_secs(600));
        for wrong in ["until=", "until=yesterday", "until=99999999999999999999", "label=", "name=x", "until"] {
            let error = parse(&texts(&[wrong]), now).err().expect(wrong);
            assert!(format!("{error:#}").contains(&format!("{wrong:?}")), "{error:#}");
        }
        assert!(parse(&texts(&["until=1h", "until=2h"]), now).is_err());
        let filters = parse(&texts(&["label=a", "label=b=1", "until=1h"]), now).expect("filters");
        let labels =
            |pairs: &[(&str, &str)]| -> Labels { pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect() };
        let (own, pods) = (labels(&[("a", "x")]), labels(&[("b", "1")]));
        let old = now - Duration::from_secs(7200);
        assert!(filters.allow(old, &[&own, &pods]), "its own, and its pod's");
        assert!(!filters.allow(old, &[&own]) && !filters.allow(now, &[&own, &pods]));
    }
}
