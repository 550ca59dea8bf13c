//! `podlet-oci ps`.

use std::io::Read;
use std::process::{Command, Stdio};

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
        // Not by `Command::output`, which panics where a pipe cannot be read.
        let mut ps = Command::new("ps").args(&options).stdout(Stdio::piped()).spawn().context("running ps")?;
        let mut said = Vec::new();
        let read = ps.stdout.take().map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut said));
        if !ps.wait().context("waiting for ps")?.success() {
            bail!("ps {} failed", options.join(" "));
        }
        read.context("reading what ps says")?;
        let text = String::from_utf8_lossy(&said);
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
