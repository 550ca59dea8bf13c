//! What a pod's containers say of one another: a graph, which is checked here and
//! brought into an order, without a look at what runs.

use std::collections::BTreeMap;

use super::container::ContainerSpec;
use super::order::{After, Condition, InitContainer};
use super::text::check_name;
use crate::error::{Error, Result};

impl ContainerSpec {
    /// Starts it only after another container of its pod.
    #[must_use]
    pub fn after(mut self, container: impl Into<String>, condition: Condition) -> ContainerSpec {
        self.after.push(After::new(container, condition));
        self
    }

    /// What its place among others cannot be, whatever these are.
    pub(super) fn check_order(&self) -> Result<()> {
        for (i, after) in self.after.iter().enumerate() {
            let wrong = |reason: &str| Err(Error::invalid("after", after.to_string(), reason));
            check_name("container", &after.container)?;
            if after.container == self.name {
                return wrong("a container cannot come after itself");
            }
            if self.after[..i].iter().any(|other| other.container == after.container) {
                return wrong("given twice: one condition for each container");
            }
        }
        if let Some(kind) = self.init {
            let kind = match kind {
                InitContainer::Once => "once",
                InitContainer::Always => "always",
            };
            let wrong = |reason: &str| Err(Error::invalid("init container", kind, reason));
            if !self.after.is_empty() {
                return wrong("those run one after another, in the order in which they were made: leave `after` out");
            }
            if self.restart.restarts() {
                return wrong("it runs to its end before others: leave the restart policy out");
            }
            if self.remove_when_ended {
                return wrong("`once` removes it when it has ended with 0: leave remove_when_ended (--rm) out");
            }
        }
        if self.time_limit == Some(0) {
            return Err(Error::invalid("time_limit", "0", "give at least a second, or none"));
        }
        self.lifecycle.check()
    }
}

/// A pod's containers, in an order in which each comes after what it says; apart from
/// that they stay as they are given.
///
/// # Errors
/// [`Error::Invalid`] if one is after what is not there or is an init container, or
/// some wait for one another.
pub(crate) fn sort<'a>(pod: &str, specs: &[&'a ContainerSpec]) -> Result<Vec<&'a ContainerSpec>> {
    let mut walk = Walk::new(pod, specs);
    specs.iter().try_for_each(|spec| walk.visit(spec))?;
    Ok(walk.done)
}

/// What one container is after, and what these are after, in such an order, and it
/// itself last; `specs` are the others of its pod.
///
/// # Errors
/// As [`sort`], of these alone.
pub(crate) fn before<'a>(
    pod: &str,
    specs: &[&'a ContainerSpec],
    spec: &'a ContainerSpec,
) -> Result<Vec<&'a ContainerSpec>> {
    let mut walk = Walk::new(pod, specs);
    walk.all.insert(&spec.name, spec);
    walk.visit(spec)?;
    Ok(walk.done)
}

struct Walk<'a, 'p> {
    pod: &'p str,
    all: BTreeMap<&'a str, &'a ContainerSpec>,
    done: Vec<&'a ContainerSpec>,
    /// How we came here.
    path: Vec<&'a str>,
}

impl<'a, 'p> Walk<'a, 'p> {
    fn new(pod: &'p str, specs: &[&'a ContainerSpec]) -> Walk<'a, 'p> {
        let all = specs.iter().map(|spec| (spec.name.as_str(), *spec)).collect();
        Walk { pod, all, done: Vec::new(), path: Vec::new() }
    }

    fn visit(&mut self, spec: &'a ContainerSpec) -> Result<()> {
        if self.done.iter().any(|done| done.name == spec.name) {
            return Ok(());
        }
        let begin = self.path.iter().position(|name| *name == spec.name);
        self.path.push(&spec.name);
        if let Some(begin) = begin {
            let circle = self.path[begin..].join(" after ");
            return Err(Error::invalid(
                "after",
                circle,
                "each would wait for the next for ever: leave one of them out",
            ));
        }
        for after in &spec.after {
            let wrong = |reason: String| Err(Error::invalid("after", &after.container, reason));
            match self.all.get(after.container.as_str()) {
                None => {
                    let (pod, name) = (self.pod, &spec.name);
                    return wrong(format!(
                        "pod {pod} has no container of that name, and {name} is to be started after it: make it first, \
                         or make {name} anew without that"
                    ));
                }
                Some(other) if other.init.is_some() => {
                    return wrong("it is an init container, which all others are after anyway: leave it out".into());
                }
                Some(other) if after.condition == Condition::Healthy && other.health.is_empty() => {
                    return wrong(format!(
                        "{} is to be started when that is healthy, and it has no health checks: give it some \
                         (--health-cmd, --probe), or say started or completed",
                        spec.name
                    ));
                }
                Some(other) => self.visit(other)?,
            }
        }
        self.path.pop();
        self.done.push(spec);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Root;

    fn specs(all: &[(&str, &[&str])]) -> Vec<ContainerSpec> {
        let spec = |(name, after): &(&str, &[&str])| {
            let spec = ContainerSpec::new(*name, Root::Host);
            after.iter().fold(spec, |spec, after| spec.after(*after, Condition::Started))
        };
        all.iter().map(spec).collect()
    }

    fn sorted(all: &[(&str, &[&str])]) -> std::result::Result<String, String> {
        let specs = specs(all);
        let sorted = sort("web", &specs.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        Ok(sorted.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_comes_after_what_it_says_and_else_as_it_was_made() {
        assert_eq!(sorted(&[("c", &[]), ("a", &[]), ("b", &[])]), Ok("c a b".into()));
        assert_eq!(sorted(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("d", &["a"])]), Ok("c b a d".into()));
    }

    #[test]
    fn what_waits_for_ever_is_shown_whole() {
        let error = sorted(&[("x", &[]), ("a", &["b"]), ("b", &["x", "c"]), ("c", &["b"])]).expect_err("a circle");
        assert!(error.contains("\"b after c after b\"") && error.contains("for ever"), "{error}");
        let error = sorted(&[("a", &["none"])]).expect_err("nothing");
        assert!(error.contains("\"none\"") && error.contains("pod web") && error.contains("make it first"), "{error}");
        let mut unchecked = specs(&[("b", &[])]);
        unchecked.push(ContainerSpec::new("a", Root::Host).after("b", Condition::Healthy));
        let error = sort("web", &unchecked.iter().collect::<Vec<_>>()).expect_err("no checks").to_string();
        assert!(error.contains("no health checks"), "{error}");
        let mut init = specs(&[("i", &[]), ("a", &["i"])]);
        init[0].init = Some(InitContainer::Always);
        let error = sort("web", &init.iter().collect::<Vec<_>>()).expect_err("init").to_string();
        assert!(error.contains("init container"), "{error}");
        let others = specs(&[("a", &["b"]), ("b", &["new"])]);
        let new = &specs(&[("new", &["a"])])[0];
        let error = before("web", &others.iter().collect::<Vec<_>>(), new).expect_err("a circle").to_string();
        assert!(error.contains("\"new after a after b after new\""), "{error}");
    }

    #[test]
    fn a_place_among_others_is_read_and_checked() {
        for (text, condition) in [("db", "started"), ("db:started", "started"), ("db:completed", "completed")] {
            let after: After = text.parse().expect(text);
            assert_eq!((after.container.as_str(), after.condition.name()), ("db", condition));
            assert_eq!(after.to_string().parse::<After>().expect("as it is written"), after);
        }
        for (text, word) in [("db:up", "NAME:completed"), ("", "1 to 63"), ("a/b", "1 to 63"), ("db:", "NAME:started")]
        {
            let error = text.parse::<After>().expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
        let check = |change: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = ContainerSpec::new("a", Root::Host);
            change(&mut spec);
            spec.check().expect_err("refused").to_string()
        };
        let after = |text: &str| text.parse::<After>().expect(text);
        for (error, word) in [
            (check(&|spec| spec.after = vec![after("a")]), "after itself"),
            (check(&|spec| spec.after = vec![after("b"), after("b:completed")]), "given twice"),
            (check(&|spec| (spec.init, spec.after) = (Some(InitContainer::Once), vec![after("b")])), "leave `after`"),
            (check(&|spec| (spec.init, spec.remove_when_ended) = (Some(InitContainer::Once), true)), "--rm"),
            (check(&|spec| spec.time_limit = Some(0)), "at least a second"),
            (check(&|spec| spec.lifecycle.post_start = vec![String::new()]), "post_start"),
            (check(&|spec| spec.lifecycle.pre_stop = vec!["a\0".into()]), "pre_stop"),
        ] {
            assert!(error.contains(word), "{error}");
        }
    }
}
