//! What is measured with: a root file system, the floor, the peers' bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pod::Store;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::timed;

/// The kernel's floor, compiled by build.rs.
pub const FLOOR: &str = concat!(env!("OUT_DIR"), "/floor");
const PAYLOAD: &str = concat!(env!("OUT_DIR"), "/payload");

/// A container runtime to compare with.
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    bundle: PathBuf,
    state: PathBuf,
    runs: u32,
}

/// A temporary directory with everything in it, in memory; it goes with this
/// value.
pub struct Fixture {
    pub dir: TempDir,
    pub rootfs: PathBuf,
    pub store: Store,
    /// The command; `podlet-oci` is beside it.
    pub podlet: PathBuf,
    /// Where the floor may make cgroups.
    pub cgroups: Option<PathBuf>,
}

impl Fixture {
    /// With the commands of that directory, or with those built beside this
    /// program.
    pub fn new(programs: Option<&Path>) -> Result<Fixture> {
        let dir = tempfile::Builder::new().prefix("podlet-bench-").tempdir_in("/tmp")?;
        // As /run is: what a disk takes to make directories is not measured.
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).context("mounting a tmpfs")?;
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "proc", "dev", "sys", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::copy(PAYLOAD, rootfs.join("bin/true"))?;
        let store = Store::open(dir.path().join("state"))?;
        let podlet = match programs {
            Some(dir) => dir.canonicalize().with_context(|| dir.display().to_string())?.join("podlet"),
            None => std::env::current_exe()?.with_file_name("podlet"),
        };
        ensure!(podlet.exists(), "{} is missing: cargo build --release -p podlet", podlet.display());
        let cgroups = Some(PathBuf::from("/sys/fs/cgroup")).filter(|dir| dir.join("cgroup.procs").exists());
        Ok(Fixture { dir, rootfs, store, podlet, cgroups })
    }

    /// The floor, making a cgroup as podlet does, where there are cgroups.
    pub fn floor(&self, mode: &str, pid: Option<u32>, with_cgroup: bool) -> Command {
        let mut command = Command::new(FLOOR);
        if let Some(cgroups) = self.cgroups.as_ref().filter(|_| with_cgroup) {
            command.arg("--cgroup").arg(cgroups.join(format!("podlet-bench-{}", std::process::id())));
        }
        command.arg(mode).arg(&self.rootfs);
        command.args(pid.map(|pid| pid.to_string()));
        command.arg("/bin/true");
        command
    }

    /// `podlet run`, with the container's own options, and without a network: what a
    /// network takes is measured by itself.
    pub fn podlet_run(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.podlet);
        command.arg("--root").arg(self.store.root()).args(["run", "--rm"]).args(options);
        command.env("PODLET_NETWORK", "none");
        command.arg("--rootfs").arg(&self.rootfs).arg("/bin/true");
        command
    }

    /// A peer, or why it cannot be measured.
    pub fn peer(&self, name: &'static str) -> std::result::Result<Peer, String> {
        let version = Command::new(name).arg("--version").output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{name} is not installed (apt-get install {name})"),
            _ => format!("{name}: {error}"),
        })?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_string();
        let bundle = self.dir.path().join(name);
        let mut peer = Peer { name, version, state: bundle.join("state"), bundle, runs: 0 };
        let attempt = |peer: &Peer, devices: bool| {
            self.write_bundle(peer, devices)?;
            run(&mut { peer.command("podlet-bench-try") })
        };
        if attempt(&peer, true).is_err() {
            // crun wants more locked memory for these, which takes
            // CAP_SYS_RESOURCE.
            attempt(&peer, false).map_err(|error| format!("{error:#}"))?;
            peer.version += ", without rules for devices, which it cannot load here";
        }
        Ok(peer)
    }

    /// What `spec` writes, without a terminal, with this root and program.
    fn write_bundle(&self, peer: &Peer, devices: bool) -> Result<()> {
        fs::create_dir_all(&peer.bundle)?;
        let path = peer.bundle.join("config.json");
        fs::remove_file(&path).ok();
        run(Command::new(peer.name).arg("spec").current_dir(&peer.bundle))?;
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/true"]);
        config["root"] = json!({ "path": self.rootfs, "readonly": false });
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("seccomp");
            if !devices {
                linux.remove("resources");
            }
        }
        fs::write(&path, serde_json::to_vec(&config)?).with_context(|| path.display().to_string())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // So that the directory below can be removed.
        umount2(self.dir.path(), MntFlags::MNT_DETACH).ok();
    }
}

impl Peer {
    fn command(&self, id: &str) -> Command {
        let mut command = Command::new(self.name);
        command.arg("--root").arg(&self.state).args(["run", "--bundle"]).arg(&self.bundle).arg(id);
        command
    }

    pub fn run(&mut self) -> Result<Duration> {
        self.runs += 1;
        run(&mut self.command(&format!("podlet-bench-{}-{}", std::process::id(), self.runs)))
    }
}

/// Whether version 2 of cgroups covers version 1.
static IS_COVERED: AtomicBool = AtomicBool::new(false);

/// On a machine with both versions of cgroups, shows this program's own mount
/// namespace version 2 alone: crun and runc would use version 1, and all are to
/// do the same. The machine stays as it is.
pub fn show_version_2_alone() -> Result<()> {
    let (top, unified) = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified");
    if Path::new(unified).join("cgroup.procs").exists() {
        mount(Some(unified), top, None::<&str>, MsFlags::MS_BIND, None::<&str>).context(unified)?;
        IS_COVERED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes that back, for podman: it makes its cgroups in whichever versions there are.
pub fn show_all_versions() {
    if IS_COVERED.swap(false, Ordering::Relaxed) {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).ok();
    }
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (taken, output) = timed(|| Ok(command.spawn()?.wait_with_output()?))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(taken)
}

/// Lines of the mount table as podlet sees it.
pub fn mount_lines() -> Result<usize> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().count())
}

/// Open descriptors of this program.
pub fn descriptors() -> Result<usize> {
    Ok(fs::read_dir(Path::new("/proc/self/fd"))?.count())
}
