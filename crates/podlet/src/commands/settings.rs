//! What podman's options mean for a container.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use pod::spec::{Device, DeviceKind, Rlimit};

/// `SRC[:DST[:rwm]]`: a device node of this machine.
pub fn device(text: &str) -> Result<Device> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] if target.starts_with('/') => (source, target, "rwm"),
        [source, access] => (source, source, access),
        [source, target, access] => (source, target, access),
        _ => bail!("--device {text:?}: give SRC, SRC:DST or SRC:DST:rwm"),
    };
    if access != "rwm" {
        bail!("--device {text:?}: only rwm is honoured; use --volume with :ro for what shall not be written");
    }
    let node = fs::metadata(source).with_context(|| format!("--device {text:?}"))?;
    let kind = match node.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => bail!("--device {text:?}: not a device; use --volume for files and directories"),
    };
    let number = node.rdev();
    Ok(Device {
        path: Path::new(target).into(),
        kind,
        major: nix::sys::stat::major(number) as u32,
        minor: nix::sys::stat::minor(number) as u32,
        mode: Some(node.mode() & 0o7777),
        uid: None,
        gid: None,
    })
}

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(text: &str) -> Result<Rlimit> {
    let wrong = || format!("--ulimit {text:?}: give NAME=SOFT or NAME=SOFT:HARD, such as nofile=1024:2048");
    let number = |number: &str| match number {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse().with_context(wrong),
    };
    let (name, values) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let name = name.to_ascii_uppercase();
    let name = if name.starts_with("RLIMIT_") { name } else { format!("RLIMIT_{name}") };
    Ok(Rlimit { name, soft: number(soft)?, hard: number(hard)? })
}
