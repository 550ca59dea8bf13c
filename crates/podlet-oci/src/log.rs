//! Errors, where runc's callers look for them: in the file of `--log`, one
//! line each, and on standard error.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

/// The form of a line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `time="..." level=error msg="..."`
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`
    Json,
}

/// Where messages go.
pub struct Log {
    file: Option<PathBuf>,
    format: Format,
    debug: bool,
}

impl Log {
    pub fn new(file: Option<PathBuf>, format: Format, debug: bool) -> Log {
        Log { file, format, debug }
    }

    /// Whether it can be written: its reader would wait in vain.
    pub fn check(&self) -> Result<()> {
        match &self.file {
            Some(path) => open(path).map(drop).with_context(|| format!("--log {}", path.display())),
            None => Ok(()),
        }
    }

    /// Something failed.
    pub fn error(&self, message: &str) {
        self.say("error", message);
        if self.file.is_some() {
            // If this fails it has no reader.
            writeln!(std::io::stderr(), "{message}").ok();
        }
    }

    /// Something is not as asked for, and it goes on.
    pub fn warning(&self, message: &str) {
        self.say("warning", message);
    }

    /// Something was done.
    pub fn debug(&self, message: &str) {
        if self.debug {
            self.say("debug", message);
        }
    }

    fn say(&self, level: &str, message: &str) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match self.format {
            Format::Json => json!({ "level": level, "msg": message, "time": time.to_string() }).to_string(),
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        // If one of these fails it has no reader.
        let file = self.file.as_ref().and_then(|path| open(path).ok());
        match file {
            Some(mut file) => writeln!(file, "{line}").ok(),
            None => writeln!(std::io::stderr(), "{line}").ok(),
        };
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}
