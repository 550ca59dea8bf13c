//! What podman's options mean for a container.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::spec::{Device, DeviceKind, Rlimit};
use pod::{Io, LogDriver, LogOptions, Stdio};

use crate::foreground::TerminalArgs;

/// How a container's output is kept.
#[derive(Args, Default)]
pub struct LogArgs {
    /// Where its output goes with --detach: k8s-file, a log that `podlet logs` prints; none;
    /// or passthrough, podlet's own standard output and error [default: k8s-file]
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Of k8s-file: max-size=SIZE from which a file is full, such as 10m [default: 10m] or -1
    /// for never; max-file=N files at most [default: 5]; path=FILE
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

impl LogArgs {
    /// The streams of a detached container; `None` for others.
    pub fn io(&self, detach: bool) -> Option<Io> {
        detach.then(|| match self.log_driver.as_deref() {
            Some("passthrough") => Io::inherit().stdin(Stdio::Null).into(),
            _ => Io::log().into(),
        })
    }

    /// What goes to podlet's own streams is kept by nobody, and a terminal is no stream
    /// of podlet's.
    pub fn check(&self, detach: bool, terminal: TerminalArgs) -> Result<()> {
        if terminal.tty && self.log_driver.as_deref() == Some("passthrough") {
            bail!("--log-driver passthrough: --tty gives it a terminal of its own; leave one of them out");
        }
        let detach = detach || terminal.tty;
        let given = [(self.log_driver.is_some(), "--log-driver"), (!self.log_opt.is_empty(), "--log-opt")];
        match given.iter().find(|(is_given, _)| *is_given && !detach) {
            Some((_, option)) => bail!("{option}: belongs to --detach: in the foreground the output is podlet's own"),
            None => Ok(()),
        }
    }

    /// As the library has them.
    pub fn options(&self) -> Result<LogOptions> {
        let mut options = LogOptions::default();
        options.driver = match self.log_driver.as_deref() {
            None | Some("k8s-file") => LogDriver::K8sFile,
            Some("none" | "passthrough") => LogDriver::None,
            Some(driver) => bail!(
                "--log-driver {driver:?}: there is k8s-file (a log that `podlet logs` prints), none and passthrough"
            ),
        };
        for option in &self.log_opt {
            let Some((name, value)) = option.split_once('=') else { bail!("--log-opt {option:?}: give NAME=VALUE") };
            match name {
                _ if self.log_driver.as_deref().is_some_and(|driver| driver != "k8s-file") => {
                    bail!("--log-opt {option:?}: belongs to --log-driver k8s-file")
                }
                "max-size" if value == "-1" => options.max_size = None,
                "max-size" => {
                    options.max_size = match pod::resources::parse_size(value) {
                        Some(size @ 1..) => Some(size as u64),
                        _ => bail!("--log-opt {option:?}: give a size such as 10m, or -1 for no limit"),
                    }
                }
                "max-file" => {
                    let number = value.parse();
                    options.max_files = number.with_context(|| format!("--log-opt {option:?}: not a number"))?;
                }
                "path" => {
                    let path = Path::new(value);
                    options.path = Some(std::path::absolute(path).with_context(|| format!("--log-opt {option:?}"))?);
                }
                _ => bail!("--log-opt {option:?}: there is max-size, max-file and path"),
            }
        }
        Ok(options)
    }
}

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
