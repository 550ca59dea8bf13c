//! `podlet supervise`: the process that restarts and checks a pod's containers, and how it is
//! started.

use std::fs::File;

use anyhow::{Context, Result};
use clap::Args;
use pod::{Error, Pod, RestartPolicy, Store, Tended};

use crate::output;

/// Restart and check a pod's containers, until none needs it; other commands start it
#[derive(Args)]
pub struct Supervise {
    pod: String,
}

impl Supervise {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let pod = Pod::open(store, &self.pod)?;
        pod.supervise()?;
        Ok(0)
    }
}

/// Whether what has ended is started again.
#[derive(Args, Default)]
pub struct RestartArgs {
    /// With --detach: start it again when it has ended: no, on-failure[:N] (N times at most), always, or
    /// unless-stopped [default: no]
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
}

impl RestartArgs {
    /// What is asked for.
    pub fn policy(&self) -> RestartPolicy {
        self.restart.unwrap_or_default()
    }
}

/// Once a container of the pod has been started.
pub fn begin(pod: &Pod, store: &Store) -> Result<()> {
    if pod.lacks_supervisor()? {
        let (program, args) = program(pod, store)?;
        pod.start_supervisor(&program, &args).context("it runs; only nobody would restart or check it")?;
    }
    Ok(())
}

/// Starts a supervisor in the place of one that was killed. What cannot be done now the
/// next command does.
pub fn tend(pod: &Pod, store: &Store) {
    let tended = match pod.lacks_supervisor() {
        Ok(true) => program(pod, store).and_then(|(program, args)| Ok(pod.tend_supervisor(&program, &args)?)),
        lacks => lacks.map(|_| Tended::AsItWas).map_err(Into::into),
    };
    match tended {
        Ok(Tended::Replaced) => {
            let name = pod.name();
            output::note(format_args!("note: what restarts the containers of pod {name} was killed; it goes on"));
        }
        Ok(_) => {}
        Err(error) if matches!(error.downcast_ref(), Some(Error::NotFound(_))) => {}
        Err(error) => {
            output::note(format_args!("note: restarts in pod {}: {}", pod.name(), pod::in_full(error.as_ref())));
        }
    }
}

/// This program, as the supervisor of a pod.
fn program(pod: &Pod, store: &Store) -> Result<(File, Vec<String>)> {
    let program = File::open("/proc/self/exe").context("opening /proc/self/exe")?;
    let root = store.root().to_str().context("the state directory's path is no UTF-8: give --root another")?;
    let args = ["podlet", "--root", root, "supervise", pod.name()].map(String::from);
    Ok((program, args.into()))
}
