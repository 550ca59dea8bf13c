//! A pod of two containers to its end: with one PID namespace for both, and
//! with one for each, which is Kubernetes' default.

use std::time::Duration;

use anyhow::{Result, ensure};
use pod::{ContainerSpec, Namespace, Pod, PodOptions, Root};

use crate::fixture::Fixture;
use crate::measure::{Subject, interleaved, timed};
use crate::report::{aim, line, ms, section, times};
use crate::starts::quiet;

const SHARED: &str = "pod of two, pid shared";
const NOT_SHARED: &str = "pod of two, pid not shared";

/// Both kinds of pod, in turns.
pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    let subjects = vec![
        Subject::new(SHARED, || one(fixture, PodOptions::new("two"))),
        Subject::new(NOT_SHARED, || {
            let mut options = PodOptions::new("two");
            options.share.remove(&Namespace::Pid);
            one(fixture, options)
        }),
    ];
    let series = interleaved(rounds, subjects)?;
    section("A pod of two containers: made, started, ended, removed", ["median", "/ shared", ""]);
    for one in &series {
        let ratio = one.ratio(&series[0]);
        let limit = (one.name == NOT_SHARED).then(|| aim("at most 1.15 x shared", ratio <= 1.15));
        line(&one.name, [&ms(one.median()), &times(ratio), ""], &limit.unwrap_or_default());
    }
    Ok(())
}

/// One pod from its making to its removal.
fn one(fixture: &Fixture, options: PodOptions) -> Result<Duration> {
    let (taken, ()) = timed(|| {
        let pod = Pod::create(&fixture.store, options)?;
        let start = |name: &str| {
            let container = ContainerSpec::new(name, Root::Dir(fixture.rootfs.clone())).args(["/bin/true"]);
            pod.run(&container, quiet())
        };
        for process in [start("first")?, start("second")?] {
            let code = process.wait()?.shell_code();
            ensure!(code == 0, "the container ended with {code}");
        }
        Ok(pod.remove()?)
    })?;
    Ok(taken)
}
