//! How a plugin failed, in its own words, and what helps.
//!
//! It is the cause of a [`pod::Error::Failed`], from which [`Failure::of`] gets it
//! back: so a caller can tell "try again later" (code 11) from the rest.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::Path;

use pod::{Cause, Error};
use serde::Deserialize;

/// What a plugin was told to do, CNI_COMMAND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Attach a container.
    Add,
    /// Take an attachment away.
    Del,
    /// Is an attachment as it was?
    Check,
    /// Take away what belongs to no valid attachment.
    Gc,
    /// Could ADD be done?
    Status,
}

impl Command {
    /// As plugins know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
        }
    }
}

/// How a plugin failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The plugin's type.
    pub plugin: String,
    /// The network.
    pub network: String,
    /// What it was told to do.
    pub command: Command,
    /// The error code it gave: section 5 of the specification has those below 100.
    pub code: Option<u64>,
    /// What happened: the plugin's `msg`, or our words where it has none.
    pub msg: String,
    /// The plugin's `details`; may be empty.
    pub details: String,
    /// What it wrote to its standard error, of much the beginning and the end; may be empty.
    pub stderr: String,
    /// What helps, if that is known.
    pub cure: Option<String>,
    /// Other plugins that failed in the same call, or in taking back what it did.
    pub more: Vec<Failure>,
}

/// An error, as plugins print it.
#[derive(Deserialize)]
struct Printed {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// `container unknown`: there is nothing to be taken away.
pub(crate) const UNKNOWN_CONTAINER: u64 = 3;

impl Failure {
    /// One without a word of the plugin's.
    pub(crate) fn new(network: &str, plugin: &str, command: Command, msg: impl Into<String>) -> Box<Failure> {
        Box::new(Failure {
            plugin: plugin.to_owned(),
            network: network.to_owned(),
            command,
            code: None,
            msg: msg.into(),
            details: String::new(),
            stderr: String::new(),
            cure: None,
            more: Vec::new(),
        })
    }

    /// What a plugin said that did not end with 0. It should be JSON, on standard
    /// output; some print text, or write it to standard error, or say nothing.
    pub(crate) fn said(mut self: Box<Self>, how: &str, stdout: &[u8], stderr: &[u8]) -> Box<Failure> {
        let text = String::from_utf8_lossy(stdout).trim().to_owned();
        self = self.having_written(stderr);
        match serde_json::from_slice::<Printed>(stdout) {
            Ok(printed) => {
                self.code = Some(printed.code);
                self.msg = if printed.msg.is_empty() { how.to_owned() } else { printed.msg };
                self.details = printed.details;
            }
            Err(_) if text.is_empty() && self.stderr.is_empty() => self.msg = format!("{how} and said nothing"),
            Err(_) => {
                self.msg = how.to_owned();
                self.details = ends(&text);
            }
        }
        self.cure = self.known_cure();
        self
    }

    /// The same with what it wrote to its standard error.
    pub(crate) fn having_written(mut self: Box<Self>, stderr: &[u8]) -> Box<Failure> {
        self.stderr = ends(&String::from_utf8_lossy(stderr));
        self
    }

    fn known_cure(&self) -> Option<String> {
        let said = format!("{} {}", self.msg, self.details);
        let about_version = self.code == Some(1) || said.contains("incompatible CNI version");
        let cure = match self.code {
            _ if about_version => "set cniVersion to 1.0.0 in the network's configuration",
            Some(2) => "a field of the configuration is not supported by this plugin",
            Some(11) => "try again later",
            Some(50 | 51) => "the plugin is not ready: is its daemon running?",
            _ if said.contains("failed to find plugin") => DEBIAN,
            _ if said.contains("iptables") && said.contains("executable file not found") => "install iptables",
            _ => return None,
        };
        Some(cure.to_owned())
    }

    /// A plugin whose program is in none of the directories.
    pub(crate) fn missing(mut self: Box<Self>, dirs: &[String]) -> Box<Failure> {
        self.msg = format!("there is no such program in {}", dirs.join(", "));
        self.cure = Some(DEBIAN.to_owned());
        self
    }

    /// A plugin whose program is a file that nobody may execute.
    pub(crate) fn not_executable(mut self: Box<Self>, path: &Path) -> Box<Failure> {
        self.msg = format!("{} may not be executed", path.display());
        self.cure = Some("chmod +x".to_owned());
        self
    }

    /// The failure that caused an error, if a plugin did.
    pub fn of(error: &Error) -> Option<&Failure> {
        match error {
            Error::Failed { cause: Cause::Io(error), .. } => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// All of one call as one, the first of them first.
    pub(crate) fn joined(failures: Vec<Failure>) -> Option<Box<Failure>> {
        let mut all = failures.into_iter();
        let mut first = all.next()?;
        first.more.extend(all);
        Some(Box::new(first))
    }

    /// The error of it.
    pub(crate) fn while_doing(self, doing: impl Into<String>) -> Error {
        Error::failed(doing, io::Error::other(self))
    }
}

const DEBIAN: &str = "Debian has the reference plugins in the package containernetworking-plugins, in /usr/lib/cni";

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {:?} of network {:?}, {}: ", self.plugin, self.network, self.command.as_str())?;
        if let Some(code) = self.code {
            write!(f, "code {code}: ")?;
        }
        f.write_str(&head(&self.msg))?;
        if !self.details.is_empty() {
            write!(f, ": {}", head(&self.details))?;
        }
        if let Some(cure) = &self.cure {
            write!(f, " ({cure})")?;
        }
        if !self.stderr.is_empty() {
            write!(f, "; it wrote: {}", head(&self.stderr))?;
        }
        self.more.iter().try_for_each(|other| write!(f, "; {other}"))
    }
}

impl std::error::Error for Failure {}

/// So much that an error with all of its parts can still be read.
fn head(text: &str) -> String {
    text.trim().chars().take(240).collect()
}

/// Of long text the beginning, where a panic says why, and the end, where a script
/// does.
fn ends(text: &str) -> String {
    let text = text.trim();
    let length = text.chars().count();
    if length <= 1000 {
        return text.to_owned();
    }
    let (first, last): (String, String) = (text.chars().take(500).collect(), text.chars().skip(length - 500).collect());
    format!("{first} ... {last}")
}
