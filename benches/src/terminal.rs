//! What a terminal of its own costs an `exec`.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::openpty;

use crate::fixture::{Fixture, run};
use crate::measure::{Subject, interleaved, timed};
use crate::report::{aim, line, ms, section, times};

/// `exec -it` beside `exec`.
const AIM: f64 = 1.2;

/// Both, in a container that sleeps.
pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    let podlet = |words: &[&str]| {
        let mut command = Command::new(&fixture.podlet);
        command.env("PODLET_NETWORK", "none").arg("--root").arg(fixture.store.root()).args(words);
        command
    };
    let mut start = podlet(&["run", "-d", "--name", "shown", "--rootfs"]);
    run(start.arg(&fixture.rootfs).args(["/bin/true", "sleep"]))?;
    let subjects = vec![
        Subject::new("podlet exec", || run(&mut podlet(&["exec", "shown", "/bin/true"]))),
        Subject::new("podlet exec -it, on a terminal", || {
            run_on_terminal(podlet(&["exec", "-it", "shown", "/bin/true"]))
        }),
    ];
    let series = interleaved(rounds, subjects)?;
    section("A command in a running container, to its end", ["median", "/ exec", ""]);
    for one in &series {
        let ratio = one.ratio(&series[0]);
        let limit = (one.name != series[0].name).then(|| aim("at most 1.2 x exec", ratio <= AIM));
        line(&one.name, [&ms(one.median()), &times(ratio), ""], &limit.unwrap_or_default());
    }
    run(&mut podlet(&["rm", "-f", "shown"])).map(drop)
}

/// Runs a command to its end with a terminal that is its own.
fn run_on_terminal(mut command: Command) -> Result<Duration> {
    let ends = openpty(None, None).context("a terminal")?;
    let stdio = || -> Result<Stdio> { Ok(ends.slave.try_clone()?.into()) };
    command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
    let (taken, (status, said)) = timed(|| {
        let mut child = command.spawn()?;
        // Its copies of the other end are the command's alone.
        drop(ends.slave);
        drop(command);
        let mut said = Vec::new();
        // EIO once the last process that has it open has ended.
        File::from(ends.master).read_to_end(&mut said).ok();
        Ok((child.wait()?, said))
    })?;
    ensure!(status.success(), "podlet ended with {status}: {}", String::from_utf8_lossy(&said).trim());
    Ok(taken)
}
