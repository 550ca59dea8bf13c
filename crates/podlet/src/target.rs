//! `POD` or `POD/CONTAINER`.

use anyhow::{Result, bail};
use pod::{Container, Error, Pod, Store};

use crate::commands::supervise;
use crate::{FAILED, output};

/// What a command is about.
pub struct Target {
    pub pod: Pod,
    /// `None` if only the pod was named.
    container: Option<String>,
}

impl Target {
    /// Opens the pod. Whether the container is there is found out by using it.
    pub fn open(store: &Store, text: &str) -> Result<Target> {
        let (pod, container) = match text.split_once('/') {
            Some((pod, container)) => (pod, Some(container.to_string())),
            None => (text, None),
        };
        let pod = Pod::open(store, pod)?;
        tend(&pod);
        supervise::tend(&pod, store);
        Ok(Target { pod, container })
    }

    /// The container that was named.
    pub fn named(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The container that was named, or the pod's only one.
    pub fn one(&self) -> Result<Container<'_>> {
        if let Some(name) = &self.container {
            return Ok(self.pod.container(name)?);
        }
        let mut containers = self.pod.containers()?;
        let pod = self.pod.name();
        match (containers.len(), containers.pop()) {
            (1, Some(only)) => Ok(only),
            (_, None) => bail!("pod {pod} has no containers"),
            (_, Some(last)) => bail!(
                "pod {pod} has several containers: name one, such as {pod}/{} (the others: {})",
                last.name(),
                containers.iter().map(Container::name).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// The container that was named, or all of the pod's.
    pub fn all(&self) -> Result<Vec<Container<'_>>> {
        match &self.container {
            Some(_) => Ok(vec![self.one()?]),
            None => Ok(self.pod.containers()?),
        }
    }
}

/// Starts copiers in the place of those that were killed. What cannot be done now
/// the next command does.
pub fn tend(pod: &Pod) {
    match pod.tend_logs() {
        Ok(tended) => {
            for container in tended {
                let name = show(pod.name(), &container);
                output::note(format_args!("note: what copies the log of {name} was killed; it goes on"));
            }
        }
        // Gone in the meantime.
        Err(Error::NotFound(_)) => {}
        Err(error) => output::note(format_args!("note: the log of pod {}: {}", pod.name(), pod::in_full(&error))),
    }
}

/// Does something to each target, or to all pods. What goes wrong with one of
/// several that were named ends it; with one of all it is said, and the others
/// follow.
pub fn each(store: &Store, all: bool, targets: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    if !all {
        targets.iter().try_for_each(|text| act(text))?;
        return Ok(0);
    }
    let mut code = 0;
    for pod in Pod::list(store)? {
        let done = match pod {
            Ok(pod) => act(pod.name()),
            Err(error) => Err(error.into()),
        };
        match done {
            // Gone in the meantime.
            Err(error) if matches!(error.downcast_ref(), Some(Error::NotFound(_))) => {}
            Err(error) => {
                output::note(pod::in_full(error.as_ref()));
                code = FAILED;
            }
            Ok(()) => {}
        }
    }
    Ok(code)
}

/// How a container is named to the user: by its pod alone where that is enough
/// for every command.
pub fn show(pod: &str, container: &str) -> String {
    if pod == container { pod.to_string() } else { format!("{pod}/{container}") }
}
