//! `podlet wait --condition`: until a container is in a state, or gone.

use anyhow::{Result, bail};
use pod::{ContainerState, ContainerStatus, Error, Event, EventKind, Health, Pod, Store, Watch};

use crate::target::Target;

/// What podman prints where a container has not ended.
const NO_CODE: i32 = -1;

/// `--condition`, by podman's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Created,
    Running,
    Paused,
    /// By its checks.
    Healthy,
    /// By its checks.
    Unhealthy,
    /// Also podman's `stopped`.
    Exited,
    /// Also podman's `removing`.
    Removed,
}

/// For clap.
pub fn parse(text: &str) -> Result<Condition> {
    Ok(match text {
        "created" => Condition::Created,
        "running" => Condition::Running,
        "paused" => Condition::Paused,
        "exited" | "stopped" => Condition::Exited,
        "removed" | "removing" => Condition::Removed,
        "healthy" => Condition::Healthy,
        "unhealthy" => Condition::Unhealthy,
        "configured" | "initialized" | "stopping" => {
            bail!("no container of podlet's is ever so: use created, running, paused, exited or removed")
        }
        _ => bail!("there is created, running, paused, healthy, unhealthy, exited (or stopped) and removed"),
    })
}

/// A container that is waited for.
struct Awaited {
    pod: String,
    name: String,
    id: String,
    /// How it ended last.
    code: i32,
}

/// Waits until each target has met one of the conditions, one after the other; gives
/// `tell` its exit code then.
pub fn wait(
    store: &Store,
    targets: &[String],
    conditions: &[Condition],
    mut tell: impl FnMut(i32) -> Result<()>,
) -> Result<()> {
    // First: from here on everything that happens is told.
    let mut watch = store.watch()?;
    let mut awaited = Vec::new();
    for text in targets {
        let target = Target::open(store, text)?;
        let status = target.one()?.status()?;
        check(conditions, &status)?;
        let (pod, met) = (target.pod.name().to_string(), meets(conditions, &status));
        let code = code_of(&status);
        awaited.push((Awaited { pod, name: status.name, id: status.id, code }, met));
    }
    // Only now: they may be what there is to sweep.
    Pod::sweep(store);
    // What is told while another one is waited for is not lost.
    let mut met: Vec<Option<i32>> = awaited.iter().map(|(one, met)| met.then_some(one.code)).collect();
    for at in 0..awaited.len() {
        while met[at].is_none() {
            let events = next(&mut watch)?;
            for (state, (one, _)) in met.iter_mut().zip(&mut awaited).filter(|(state, _)| state.is_none()) {
                *state = events.iter().find_map(|event| one.take(event, conditions));
                if state.is_none() {
                    *state = one.look(store, conditions)?;
                }
            }
        }
        tell(met[at].unwrap_or(NO_CODE))?;
    }
    Ok(())
}

fn next(watch: &mut Watch) -> Result<Vec<Event>> {
    Ok(watch.next(None)?)
}

fn code_of(status: &ContainerStatus) -> i32 {
    status.exit_code.map_or(NO_CODE, i32::from)
}

fn meets(conditions: &[Condition], status: &ContainerStatus) -> bool {
    let state = match status.state {
        ContainerState::Created => Condition::Created,
        ContainerState::Running => Condition::Running,
        ContainerState::Paused => Condition::Paused,
        _ => Condition::Exited,
    };
    let health = match status.health {
        Some(Health::Healthy) => Some(Condition::Healthy),
        Some(Health::Unhealthy) => Some(Condition::Unhealthy),
        _ => None,
    };
    conditions.contains(&state) || health.is_some_and(|health| conditions.contains(&health))
}

/// Refuses to wait for what will never be.
fn check(conditions: &[Condition], status: &ContainerStatus) -> Result<()> {
    let is_of_health = |condition: &Condition| matches!(condition, Condition::Healthy | Condition::Unhealthy);
    if status.checks.is_empty() && conditions.iter().all(is_of_health) {
        bail!("container {} has no health check: use running, or make it with --health-cmd or --probe", status.name);
    }
    Ok(())
}

impl Awaited {
    /// Its exit code, if what has happened is what is waited for, even if it has passed
    /// since.
    fn take(&mut self, event: &Event, conditions: &[Condition]) -> Option<i32> {
        let is_its = event.pod == self.pod && event.container.as_ref() == Some(&self.name);
        let condition = match event.kind {
            _ if !is_its => return None,
            EventKind::Started | EventKind::Unpaused => {
                self.code = NO_CODE;
                Condition::Running
            }
            EventKind::Paused => Condition::Paused,
            EventKind::Died { exit } => {
                self.code = exit.map_or(NO_CODE, |exit| exit.shell_code().into());
                Condition::Exited
            }
            EventKind::Removed => Condition::Removed,
            EventKind::Health { health: Health::Healthy } => Condition::Healthy,
            EventKind::Health { health: Health::Unhealthy } => Condition::Unhealthy,
            _ => return None,
        };
        conditions.contains(&condition).then_some(self.code)
    }

    /// The same of what it is now.
    fn look(&self, store: &Store, conditions: &[Condition]) -> Result<Option<i32>> {
        let status = Pod::open(store, &self.pod).and_then(|pod| pod.container(&self.name)?.status());
        let gone = || Error::NotFound(format!("container \"{}/{}\" any more", self.pod, self.name));
        match status {
            Ok(status) if status.id == self.id => Ok(meets(conditions, &status).then(|| code_of(&status))),
            // Another one of its name is not meant.
            Ok(_) | Err(Error::NotFound(_)) if conditions.contains(&Condition::Removed) => Ok(Some(self.code)),
            Ok(_) | Err(Error::NotFound(_)) => Err(gone().into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_podmans_names() {
        assert_eq!(parse("stopped").expect("one"), Condition::Exited);
        assert_eq!(parse("removing").expect("one"), Condition::Removed);
        for (text, word) in [("starting", "healthy"), ("stopping", "ever so"), ("", "there is"), ("done", "exited")] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
