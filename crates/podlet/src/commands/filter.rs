//! `--filter` of `podlet ps`: which of the pods and containers are meant.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use pod::{ContainerState, ContainerStatus, ContainerSummary};

use crate::target;

/// What one `--filter KEY=VALUE` asks.
#[derive(Clone, PartialEq)]
enum Filter {
    /// Part of a name; with `^` or `$` its beginning or end.
    Name(String),
    Pod(String),
    Status(ContainerState),
    Exited(i32),
    /// A label of the container or its pod, with this value or any.
    Label(Label),
}

/// The labels of a pod or container.
pub type Labels = BTreeMap<String, String>;

/// `label=NAME[=VALUE]`: a label with this value or any.
#[derive(Clone, PartialEq)]
pub struct Label {
    name: String,
    value: Option<String>,
}

impl Label {
    pub fn parse(text: &str) -> Label {
        match text.split_once('=') {
            Some((name, value)) => Label { name: name.into(), value: Some(value.into()) },
            None => Label { name: text.into(), value: None },
        }
    }

    pub fn is_in(&self, labels: &Labels) -> bool {
        labels.get(&self.name).is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

/// As podman has it: of one kind any, and of each kind one; but all labels.
pub fn meet<F: PartialEq>(filters: &[F], is_label: impl Fn(&F) -> bool, meets: impl Fn(&F) -> bool) -> bool {
    let alike = |filter: &F| {
        let same = |other: &&F| match is_label(filter) {
            true => *other == filter,
            false => std::mem::discriminant(*other) == std::mem::discriminant(filter),
        };
        filters.iter().filter(same).any(&meets)
    };
    filters.iter().all(alike)
}

/// What is asked about a container.
pub struct Seen<'a> {
    name: &'a str,
    state: ContainerState,
    exit_code: Option<u8>,
    labels: &'a Labels,
}

impl<'a> From<&'a ContainerStatus> for Seen<'a> {
    fn from(status: &'a ContainerStatus) -> Seen<'a> {
        Seen { name: &status.name, state: status.state, exit_code: status.exit_code, labels: &status.labels }
    }
}

impl<'a> From<&'a ContainerSummary> for Seen<'a> {
    fn from(summary: &'a ContainerSummary) -> Seen<'a> {
        let exit_code = summary.exit.map(|exit| exit.shell_code());
        Seen { name: &summary.name, state: summary.state, exit_code, labels: &summary.labels }
    }
}

/// All that are given.
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

    /// Keeps what is meant of pods that have a name, labels and containers. One
    /// without containers has no more than that.
    pub fn apply<P, C>(&self, pods: &mut Vec<P>, parts: impl Fn(&mut P) -> (&str, &Labels, &mut Vec<C>))
    where
        for<'a> Seen<'a>: From<&'a C>,
    {
        if self.0.is_empty() {
            return;
        }
        pods.retain_mut(|pod| {
            let (name, labels, containers) = parts(pod);
            if containers.is_empty() {
                return self.mean(name, labels, None);
            }
            containers.retain(|container| self.mean(name, labels, Some(Seen::from(container))));
            !containers.is_empty()
        });
    }

    fn mean(&self, pod: &str, labels: &Labels, container: Option<Seen<'_>>) -> bool {
        let is_label = |filter: &Filter| matches!(filter, Filter::Label(_));
        meet(&self.0, is_label, |filter| meets(filter, pod, labels, container.as_ref()))
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
            "paused" => ContainerState::Paused,
            "exited" | "stopped" => ContainerState::Exited,
            "created" => ContainerState::Created,
            _ => bail!("--filter {text:?}: a container is created, running, paused or exited"),
        }),
        "exited" => match value.parse() {
            Ok(code) => Filter::Exited(code),
            Err(_) => bail!("--filter {text:?}: give an exit code"),
        },
        "label" => Filter::Label(Label::parse(value)),
        _ => bail!(
            "--filter {text:?}: there is name, pod, label, status and exited; use --format json and jq(1) for more"
        ),
    })
}

fn meets(filter: &Filter, pod: &str, labels: &Labels, container: Option<&Seen<'_>>) -> bool {
    match filter {
        Filter::Name(wanted) => {
            let shown = container.map_or(pod.into(), |container| target::show(pod, container.name));
            let names = [Some(shown.as_str()), container.map(|container| container.name)];
            names.into_iter().flatten().any(|name| is_like(name, wanted))
        }
        Filter::Pod(wanted) => pod == wanted,
        Filter::Label(label) => label.is_in(labels) || container.is_some_and(|container| label.is_in(container.labels)),
        Filter::Status(wanted) => container.is_some_and(|container| container.state == *wanted),
        Filter::Exited(code) => container.is_some_and(|container| container.exit_code.map(i32::from) == Some(*code)),
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
        for wrong in ["name", "name=w*", "status=gone", "exited=x", "colour=a"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
