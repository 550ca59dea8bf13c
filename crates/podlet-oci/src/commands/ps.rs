//! `podlet-oci ps`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pod::oci::Runtime;

use crate::output;

/// Show the processes of a container
#[derive(Args)]
pub struct Ps {
    /// A table by ps(1), or JSON: the pids
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Options for ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// How lists are shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

impl Ps {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        let pids = runtime.get(&self.id)?.processes()?;
        if self.format == Format::Json {
            output::line(format_args!("{}", serde_json::to_string(&pids)?))?;
            return Ok(0);
        }
        let options = if self.options.is_empty() { vec!["-ef".to_string()] } else { self.options.clone() };
        let output = Command::new("ps").args(&options).output().context("running ps")?;
        if !output.status.success() {
            bail!("ps {}: {}", options.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let column = head.split_whitespace().position(|column| column == "PID");
        let Some(column) = column else { bail!("ps {}: shows no column PID", options.join(" ")) };
        output::line(format_args!("{head}"))?;
        for line in lines {
            let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
            if pid.is_some_and(|pid| pids.contains(&pid)) {
                output::line(format_args!("{line}"))?;
            }
        }
        Ok(0)
    }
}
