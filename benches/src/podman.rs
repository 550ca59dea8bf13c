//! podman with a store of its own, as a peer: pods and containers on its bridge.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fixture::{Fixture, run, show_all_versions};
use crate::measure::timed;

/// What it leaves in this machine goes with the value.
pub struct Podman {
    dir: PathBuf,
    rootfs: PathBuf,
    /// Another one than its own.
    runtime: Option<PathBuf>,
    /// What is in the machine that it did not make.
    before: Vec<PathBuf>,
}

impl Podman {
    /// With its own runtime, or with ours, which is the faster one: where root may not
    /// raise limits its own starts nothing.
    pub fn new(fixture: &Fixture) -> Result<Podman> {
        show_all_versions();
        let (dir, rootfs) = (fixture.dir.path().join("podman"), fixture.rootfs.clone());
        let mut podman = Podman { dir, rootfs, runtime: None, before: parents() };
        podman.prepare()?;
        if podman.life().is_err() {
            podman.runtime = Some(fixture.podlet.with_file_name("podlet-oci"));
            podman.life()?;
        }
        Ok(podman)
    }

    /// For a line of the table.
    pub fn name(&self) -> &'static str {
        match self.runtime {
            None => "podman",
            Some(_) => "podman, with podlet-oci as its runtime",
        }
    }

    /// Root without CAP_SYS_RESOURCE cannot raise the limits that podman wants.
    fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\npids_limit = 0\n";
        Ok(std::fs::write(self.dir.join("containers.conf"), limits)?)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        if let Some(runtime) = &self.runtime {
            command.arg("--runtime").arg(runtime);
        }
        command.args(words);
        command
    }

    /// A pod of two containers with a port: made, run, removed. Where a container ends
    /// just as podman kills it, podman fails, now and then: such a life does not count.
    pub fn life(&self) -> Result<Duration> {
        self.try_life().or_else(|_| self.try_life())
    }

    fn try_life(&self) -> Result<Duration> {
        // What an attempt that failed has left.
        run(&mut self.command(&["pod", "rm", "-f", "-i", "-t", "0", "two"]))?;
        let (taken, ()) = timed(|| {
            run(&mut self.command(&["pod", "create", "-p", "18081:80", "--name", "two"]))?;
            for name in ["first", "second"] {
                let mut start = self.command(&["run", "-d", "--pod", "two", "--name", name, "--rootfs"]);
                run(start.arg(&self.rootfs).arg("/bin/true"))?;
            }
            run(&mut self.command(&["pod", "rm", "-f", "-t", "0", "two"])).map(drop)
        })?;
        Ok(taken)
    }

    /// A container on its bridge that stays: the process in it, and its address.
    pub fn hold(&self, name: &str) -> Result<(u32, String)> {
        let mut start = self.command(&["run", "-d", "--name", name, "--rootfs"]);
        run(start.arg(&self.rootfs).args(["/bin/true", "sleep"]))?;
        let asked = "{{.State.Pid}} {{.NetworkSettings.IPAddress}}";
        let output = self.command(&["inspect", "--format", asked, name]).output()?;
        ensure!(output.status.success(), "podman inspect: {}", String::from_utf8_lossy(&output.stderr).trim());
        let said = String::from_utf8(output.stdout)?;
        let (pid, address) = said.trim().split_once(' ').with_context(|| format!("podman inspect says {said:?}"))?;
        Ok((pid.parse()?, address.into()))
    }

    /// Looks at the conmon of a detached container that sleeps, which is there meanwhile.
    pub fn with_conmon<T>(&self, look: impl FnOnce(u32) -> Result<T>) -> Result<T> {
        run(&mut self.logging("kept", &["sleep"]))?;
        let output = self.command(&["inspect", "--format", "{{.State.ConmonPid}}", "kept"]).output()?;
        let said = String::from_utf8(output.stdout)?;
        let seen = look(said.trim().parse().with_context(|| format!("podman inspect says {said:?}"))?);
        run(&mut self.command(&["rm", "-f", "-t", "0", "kept"]))?;
        seen
    }

    /// The measured program with these words, to its end, its output in a log.
    pub fn write(&self, words: &[&str]) -> Result<()> {
        run(&mut self.logging("writer", words))?;
        run(&mut self.command(&["wait", "writer"]))?;
        run(&mut self.command(&["rm", "writer"])).map(drop)
    }

    fn logging(&self, name: &str, words: &[&str]) -> Command {
        let mut start = self.command(&["run", "-d", "--log-driver", "k8s-file", "--network", "none"]);
        start.args(["--name", name, "--rootfs"]).arg(&self.rootfs).arg("/bin/true").args(words);
        start
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        run(&mut self.command(&["rm", "-f", "-a", "-t", "0"])).ok();
        run(&mut self.command(&["system", "reset", "-f"])).ok();
        parents().iter().filter(|dir| !self.before.contains(dir)).for_each(|dir| remove_cgroups(dir));
    }
}

/// What podman leaves besides its directory.
fn parents() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([top.to_path_buf()]).map(|dir| dir.join("libpod_parent"));
    all.filter(|dir| dir.exists()).collect()
}

fn remove_cgroups(dir: &Path) {
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).for_each(|path| remove_cgroups(&path));
    std::fs::remove_dir(dir).ok();
}
