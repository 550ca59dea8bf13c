//! `--filter` of `podlet ps`: which of the pods and containers are meant.

use anyhow::{Result, bail};
use pod::{ContainerState, ContainerStatus, PodStatus};

use crate::target;

/// What one `--filter KEY=VALUE` asks.
#[derive(Clone)]
enum Filter {
    /// Part of a name; with `^` or `$` its beginning or end.
    Name(String),
    Pod(String),
    Status(ContainerState),
    Exited(i32),
}

/// As podman has it: of one kind any, and of each kind one.
pub struct Filters(Vec<Filter>);

impl Filters {
    pub fn parse(texts: &[String]) -> Result<Filters> {
        texts.iter().map(|text| parse(text)).collect::<Result<_>>().map(Filters)
    }

    /// Whether only what has ended can be meant, or may be: then those are
    /// looked at, too.
    pub fn ask_for_ended(&self) -> bool {
        self.0.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)))
    }

    /// Keeps what is meant. A pod without containers only has a name.
    pub fn apply(&self, pods: &mut Vec<PodStatus>) {
        if self.0.is_empty() {
            return;
        }
        pods.retain_mut(|pod| {
            if pod.containers.is_empty() {
                return self.mean(&pod.name, None);
            }
            pod.containers.retain(|container| self.mean(&pod.name, Some(container)));
            !pod.containers.is_empty()
        });
    }

    fn mean(&self, pod: &str, container: Option<&ContainerStatus>) -> bool {
        let alike = |filter: &Filter| {
            let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
            self.0.iter().filter(same).any(|filter| meets(filter, pod, container))
        };
        self.0.iter().all(alike)
    }
}

fn parse(text: &str) -> Result<Filter> {
    let Some((key, value)) = text.split_once('=') else { bail!("--filter {text:?}: give KEY=VALUE") };
    Ok(match key {
        "name" => {
            let name = value.trim_start_matches('^').trim_end_matches('$');
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c)) {
                bail!("--filter {text:?}: give part of a name, with ^ in front or $ behind for its beginning or end");
            }
            Filter::Name(value.into())
        }
        "pod" => Filter::Pod(value.into()),
        "status" => Filter::Status(match value {
            "running" => ContainerState::Running,
            "exited" | "stopped" => ContainerState::Exited,
            "created" => ContainerState::Created,
            _ => bail!("--filter {text:?}: a container is created, running or exited"),
        }),
        "exited" => match value.parse() {
            Ok(code) => Filter::Exited(code),
            Err(_) => bail!("--filter {text:?}: give an exit code"),
        },
        _ => bail!("--filter {text:?}: there is name, pod, status and exited; use --format json and jq(1) for more"),
    })
}

fn meets(filter: &Filter, pod: &str, container: Option<&ContainerStatus>) -> bool {
    match filter {
        Filter::Name(wanted) => {
            let shown = container.map_or(pod.into(), |container| target::show(pod, &container.name));
            let names = [Some(shown.as_str()), container.map(|container| container.name.as_str())];
            names.into_iter().flatten().any(|name| is_like(name, wanted))
        }
        Filter::Pod(wanted) => pod == wanted,
        Filter::Status(wanted) => container.is_some_and(|container| container.state == *wanted),
        Filter::Exited(code) => container.is_some_and(|container| container.exit_code == Some(*code as _)),
    }
}

fn is_like(name: &str, wanted: &str) -> bool {
    let (begins, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let (ends, text) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    match (begins, ends) {
        (true, true) => name == text,
        (true, false) => name.starts_with(text),
        (false, true) => name.ends_with(text),
        (false, false) => name.contains(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_part() {
        for (name, wanted, is) in [
            ("web", "e", true),
            ("web", "^we", true),
            ("web", "^eb", false),
            ("web", "eb$", true),
            ("web", "^web$", true),
            ("web2", "^web$", false),
        ] {
            assert_eq!(is_like(name, wanted), is, "{name} {wanted}");
        }
        for wrong in ["name", "name=w*", "status=gone", "exited=x", "label=a"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
