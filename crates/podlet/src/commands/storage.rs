//! What a container finds in its root: volumes, mounts, devices.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::ContainerSpec;
use pod::spec::{Mount, MountKind};

use super::run::absolute;
use super::{mount, settings};

/// A container's files.
#[derive(Args, Default)]
pub struct StorageArgs {
    /// Bind a directory or file of this machine; options are ro, nosuid, nodev,
    /// noexec, rprivate (default), rslave, rshared, rbind (default), bind
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount an empty file system in memory; options such as size=64m, ro
    #[arg(long, value_name = "DST[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount something, said by keys: type=bind,src=DIR,dst=DIR,ro or type=tmpfs,dst=DIR,tmpfs-size=64m
    #[arg(long, value_name = "KEY=VALUE,...")]
    mount: Vec<String>,
    /// The root file system cannot be written
    #[arg(long)]
    read_only: bool,
    /// With that, /run, /tmp and /var/tmp are empty and in memory
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only_tmpfs: Option<bool>,
    /// A device node of this machine, under the same name or another
    #[arg(long, value_name = "SRC[:DST[:rwm]]")]
    device: Vec<String>,
}

/// Files that a container keeps as its image has them.
#[derive(Args, Default)]
pub struct OwnFileArgs {
    /// It has the image's /etc/hosts, without the names of its networks
    #[arg(long, conflicts_with = "add_host")]
    no_hosts: bool,
    /// It has the image's /etc/hostname
    #[arg(long)]
    no_hostname: bool,
}

impl OwnFileArgs {
    /// Whether this file of its image's is not covered.
    pub fn keeps(&self, path: &str) -> bool {
        (self.no_hosts && path == "/etc/hosts") || (self.no_hostname && path == "/etc/hostname")
    }
}

impl StorageArgs {
    /// Changes `container`.
    pub fn adjust(&self, container: &mut ContainerSpec) -> Result<()> {
        // What is mounted below them comes later.
        self.add_places(container)?;
        for volume in &self.volume {
            container.mounts.push(parse_volume(volume)?);
        }
        for text in &self.mount {
            mount::add(container, text)?;
        }
        for tmpfs in &self.tmpfs {
            let (target, options) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
            let mut mount = mount::in_memory(target);
            for option in options.split(',').filter(|option| !option.is_empty()) {
                if !mount.option(option) {
                    // The file system's own; the last of a kind counts.
                    mount.data = format!("{},{option}", mount.data);
                }
            }
            container.mounts.push(mount);
        }
        container.read_only |= self.read_only;
        for device in &self.device {
            container.devices.push(settings::device(device)?);
        }
        Ok(())
    }

    /// Places that can be written in a root that cannot.
    fn add_places(&self, container: &mut ContainerSpec) -> Result<()> {
        if self.read_only_tmpfs != Some(true) {
            return Ok(());
        }
        if !self.read_only {
            bail!("--read-only-tmpfs: is for a root that cannot be written: add --read-only, or give --tmpfs DST");
        }
        for place in ["/run", "/tmp", "/var/tmp"] {
            if !container.mounts.iter().any(|mount| mount.target == Path::new(place)) {
                container.mounts.push(mount::in_memory(place));
            }
        }
        Ok(())
    }
}

/// Files get other SELinux labels where there are some; elsewhere there is nothing
/// to be done.
///
/// # Errors
/// Where there are some.
pub fn check_labels() -> Result<()> {
    match Path::new("/sys/fs/selinux/enforce").exists() {
        true => {
            bail!("podlet gives files no SELinux labels: `chcon -Rt container_file_t DIR` does, then leave it away")
        }
        false => Ok(()),
    }
}

/// `SRC:DST`, and options as podman has them.
fn parse_volume(volume: &str) -> Result<Mount> {
    let usage = || format!("--volume {volume:?}: give SRC:DST or SRC:DST:OPTIONS");
    let mut parts = volume.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { bail!(usage()) };
    if source.is_empty() || target.is_empty() {
        bail!(usage());
    }
    let options: Vec<_> = parts.next().map(|options| options.split(',').collect()).unwrap_or_default();
    let read_only = options.iter().rfind(|option| ["ro", "rw"].contains(option)) == Some(&"ro");
    let mut mount = Mount::new(target, MountKind::Bind { source: absolute(Path::new(source))?, recursive: true });
    if read_only {
        mount.option("rro");
    }
    for option in options.into_iter().filter(|option| !["ro", "rw"].contains(option)) {
        let name = match option {
            // As with ro, what is below must not be a way around it.
            "nosuid" | "nodev" | "noexec" => &format!("r{option}"),
            "rprivate" | "rslave" | "rshared" => option,
            "bind" | "rbind" => {
                if let MountKind::Bind { recursive, .. } = &mut mount.kind {
                    *recursive = option == "rbind";
                }
                continue;
            }
            "z" | "Z" => {
                check_labels().with_context(|| format!("--volume {volume:?}: {option}"))?;
                continue;
            }
            _ => bail!(
                "--volume {volume:?}: {option:?} is none of ro, rw, nosuid, nodev, noexec, rprivate, rslave, rshared, \
                 bind, rbind, z, Z"
            ),
        };
        mount.option(name);
    }
    Ok(mount)
}
