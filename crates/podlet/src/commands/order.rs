//! Which containers of a pod start before others, and what is executed in them then.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::{After, Condition, ContainerSpec, InitContainer, Pod, StartProgress, Store};

use super::supervise;
use crate::{output, target};

/// A container's place among others, and its hooks.
#[derive(Args, Default)]
pub struct OrderArgs {
    /// With --pod: start it only after this container of the pod, once that has been started, or has completed (ended
    /// with 0); `stop` ends it before that
    #[arg(long, value_name = "NAME[:started|healthy|completed]")]
    after: Vec<After>,
    /// The same as --after NAME
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    requires: Vec<String>,
    /// `container create --pod`: `podlet start POD` runs it before all others, to its end: always, or once, and then
    /// it is removed
    #[arg(long, value_name = "KIND")]
    init_ctr: Option<InitContainer>,
    /// Execute this in it right after each start; if it fails the container is killed. A JSON array of words, or a line
    /// for its /bin/sh
    #[arg(long, value_name = "CMD")]
    post_start: Option<String>,
    /// Execute this in it before its stop signal, in the time that it has to stop
    #[arg(long, value_name = "CMD")]
    pre_stop: Option<String>,
}

impl OrderArgs {
    /// Changes `container`, which is to be in this pod, or in one of its own.
    pub fn adjust(&self, container: &mut ContainerSpec, pod: Option<&str>, command: &str) -> Result<()> {
        container.after = self.after.clone();
        container.after.extend(self.requires.iter().map(|name| After::new(name, Condition::Started)));
        container.init = self.init_ctr;
        container.lifecycle.post_start = hook("--post-start", self.post_start.as_deref())?;
        container.lifecycle.pre_stop = hook("--pre-stop", self.pre_stop.as_deref())?;
        let given =
            [(self.after.first().map(ToString::to_string), "--after"), (self.requires.first().cloned(), "--requires")];
        if let (None, Some((Some(name), option))) = (pod, given.iter().find(|(name, _)| name.is_some())) {
            bail!("{option} {name}: a pod of its own has no other container: say which one it joins by --pod");
        }
        if self.init_ctr.is_some() && command == "run" {
            bail!("--init-ctr: `podlet start POD` runs it: make it by `podlet container create --pod POD`");
        }
        if self.init_ctr.is_some() && pod.is_none() {
            bail!(
                "--init-ctr: a pod of its own has no container that it could run before: say which one it joins by --pod"
            );
        }
        Ok(())
    }
}

/// A hook's program and its arguments.
fn hook(option: &str, text: Option<&str>) -> Result<Vec<String>> {
    Ok(match text {
        None => Vec::new(),
        Some("") => bail!("{option} \"\": say what to execute"),
        Some(text) if text.starts_with('[') => {
            let words: Vec<String> =
                serde_json::from_str(text).with_context(|| format!("{option} {text:?}: not a JSON array of words"))?;
            if words.is_empty() {
                bail!("{option} {text:?}: say what to execute");
            }
            words
        }
        Some(line) => ["/bin/sh", "-c", line].map(String::from).into(),
    })
}

/// What is done and said while containers are started in their order: a container that
/// may be restarted is looked after at once, and at a terminal each step is told.
pub fn progress(pod: &Pod, store: &Store, told: StartProgress<'_>) {
    if let StartProgress::Started(_) = told {
        // Once more at the end, which tells what is wrong.
        supervise::begin(pod, store).ok();
    }
    if !std::io::stderr().is_terminal() {
        return;
    }
    let show = |name: &str| target::show(pod.name(), name);
    match told {
        StartProgress::InitRuns(name) => output::note(format_args!("{}: runs before the others", show(name))),
        StartProgress::InitDone(name) => output::note(format_args!("{}: has completed", show(name))),
        StartProgress::Waits(name, after) => output::note(format_args!("{}: waits for {after}", show(name))),
        StartProgress::Started(name) => output::note(format_args!("{}: started", show(name))),
        _ => {}
    }
}
