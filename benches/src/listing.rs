//! What it takes to list many pods: `podlet ps` beside `podman ps`.
//!
//! podman's containers have only been created: starting a hundred of them would
//! measure podman's starts. What it reads of each, its database's entry, is
//! there as soon as that; a running one costs it more, not less.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use pod::{ContainerSpec, Pod, PodOptions, Root};

use crate::fixture::{Fixture, run};
use crate::measure::{Subject, interleaved, median, milliseconds};
use crate::report::{NONE, aim, line, ms, section, times};
use crate::starts::quiet;

/// How many both are asked to list.
const BESIDE: usize = 100;
/// How many podlet alone is asked to list.
const MOST: usize = 1000;

/// Lists many pods with a container each.
pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    section(&format!("{BESIDE} pods with a container each, listed"), ["median", "/ podman", ""]);
    let mut pods = Vec::with_capacity(MOST);
    hold(fixture, &mut pods, BESIDE)?;
    let podman = Podman::new(fixture);
    let mut subjects = vec![Subject::new("podlet ps", || run(&mut podlet_ps(fixture)))];
    match &podman {
        Ok(podman) => subjects.push(Subject::new("podman ps -a, as many that were only created", || {
            run(podman.command().args(["ps", "-a"]))
        })),
        Err(reason) => line(&format!("podman: {reason}"), NONE, ""),
    }
    let series = interleaved(rounds, subjects)?;
    for one in &series {
        let beside = series.get(1).map_or(String::new(), |podman| times(one.ratio(podman)));
        line(&one.name, [&ms(one.median()), &beside, ""], "");
    }
    drop(podman);

    hold(fixture, &mut pods, MOST)?;
    let taken = (0..rounds).map(|_| Ok(milliseconds(run(&mut podlet_ps(fixture))?))).collect::<Result<Vec<_>>>()?;
    let middle = median(&taken);
    line(&format!("podlet ps, {MOST} pods"), [&ms(middle), "", ""], &aim("at most 50 ms", middle <= 50.0));
    pods.into_iter().try_for_each(|pod| Ok(pod.remove()?))
}

/// Makes more pods until there are `count`.
fn hold(fixture: &Fixture, pods: &mut Vec<Pod>, count: usize) -> Result<()> {
    while pods.len() < count {
        let pod = Pod::create(&fixture.store, PodOptions::new(format!("listed-{}", pods.len())))?;
        let container = ContainerSpec::new("idle", Root::Dir(fixture.rootfs.clone())).args(["/bin/true", "sleep"]);
        pod.run(&container, quiet())?;
        pods.push(pod);
    }
    Ok(())
}

fn podlet_ps(fixture: &Fixture) -> Command {
    let mut command = Command::new(&fixture.podlet);
    command.arg("--root").arg(fixture.store.root()).arg("ps");
    command
}

/// A podman with a store of its own, in which as many containers wait. They go
/// with this value.
struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn new(fixture: &Fixture) -> std::result::Result<Podman, String> {
        let missing = |error: std::io::Error| format!("cannot be run: {error} (apt-get install podman)");
        Command::new("podman").arg("--version").output().map_err(missing)?;
        let podman = Podman { dir: fixture.dir.path().join("podman") };
        for number in 0..BESIDE {
            let mut command = podman.command();
            command.args(["create", "--name", &format!("listed-{number}"), "--network", "none", "--rootfs"]);
            run(command.arg(&fixture.rootfs).args(["/bin/true", "sleep"])).map_err(|error| format!("{error:#}"))?;
        }
        Ok(podman)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What is left goes with the fixture's directory.
        run(self.command().args(["rm", "-f", "-a"])).ok();
    }
}
