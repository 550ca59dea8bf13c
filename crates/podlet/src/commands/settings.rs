//! What podman's options mean for a container.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::spec::{Device, DeviceKind, Rlimit};

/// What is noted on a pod or a container.
#[derive(Args, Default)]
pub struct NoteArgs {
    /// Add a label, by which `ps --filter` finds it; K alone has no value
    #[arg(short, long, value_name = "K=V")]
    label: Vec<String>,
    /// Add those of a file, a line each, before the others
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation
    #[arg(long, value_name = "K=V")]
    annotation: Vec<String>,
}

impl NoteArgs {
    /// Adds the labels and annotations to what there is; the last of a name
    /// counts.
    pub fn add(&self, labels: &mut BTreeMap<String, String>, annotations: &mut BTreeMap<String, String>) -> Result<()> {
        for file in &self.label_file {
            let text = read_text(file).with_context(|| format!("--label-file {}", file.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(lines.map(note));
        }
        labels.extend(self.label.iter().map(|text| note(text)));
        for text in &self.annotation {
            let Some((name, value)) = text.split_once('=') else { bail!("--annotation {text:?}: give NAME=VALUE") };
            annotations.insert(name.into(), value.into());
        }
        Ok(())
    }
}

/// `NAME=VALUE`, or a name alone.
fn note(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.into(), value.into())
}

/// Variables of files, a line each, and then those of the command line, as
/// `NAME=value`. A name alone stands for podlet's own variable, and for nothing
/// if there is none.
pub fn environment(files: &[PathBuf], variables: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = read_text(file).with_context(|| format!("--env-file {}", file.display()))?;
        for (line, number) in text.lines().zip(1..) {
            // As podman and docker have it: no quotes, no escapes, no expansion.
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let what = || format!("--env-file {}, line {number}", file.display());
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) {
                bail!("{}: {name:?} is no name: give NAME=value", what());
            }
            all.extend(variable(line).with_context(what)?);
        }
    }
    for text in variables {
        match text.strip_suffix('*').filter(|begin| !begin.contains('=')) {
            Some(begin) => all.extend(beginning(begin)),
            None => all.extend(variable(text).context("--env")?),
        }
    }
    Ok(all)
}

/// podlet's own variables whose names begin so.
fn beginning(begin: &str) -> Vec<String> {
    let ours =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut found: Vec<_> =
        ours.filter(|(name, _)| name.starts_with(begin)).map(|(name, value)| format!("{name}={value}")).collect();
    found.sort();
    found
}

fn variable(text: &str) -> Result<Option<String>> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(Some(text.into())),
        None if !text.is_empty() => Ok(std::env::var(text).ok().map(|value| format!("{text}={value}"))),
        _ => bail!("{text:?}: give NAME=value"),
    }
}

/// A file or pipe that the user named, and no more of it than a user writes.
pub(super) fn read_text(path: &Path) -> Result<String> {
    const MOST: u64 = 1 << 20;
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        bail!("neither a file nor a pipe");
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        bail!("more than {MOST} bytes");
    }
    Ok(text)
}

/// A word, or a JSON array of words; nothing, to have none.
pub fn entrypoint(text: &str) -> Result<Vec<String>> {
    match text {
        "" => Ok(Vec::new()),
        text if text.starts_with('[') => {
            serde_json::from_str(text).with_context(|| format!("--entrypoint {text:?}: not a JSON array of words"))
        }
        text => Ok(vec![text.into()]),
    }
}

/// A name for what the user gave none.
pub fn make_up(prefix: &str) -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("making up a name")?;
    Ok(format!("{prefix}-{}", &id[..8]))
}

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
