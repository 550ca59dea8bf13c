//! `podlet-oci list`.

use anyhow::Result;
use clap::Args;
use pod::oci::{Instance, Runtime};

use super::ps::Format;
use super::state;
use crate::log::Log;
use crate::output;

/// Show all containers
#[derive(Args)]
pub struct List {
    /// A table, or JSON
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub fn run(&self, runtime: &Runtime, log: &Log) -> Result<u8> {
        let mut found = Vec::new();
        for instance in runtime.list()? {
            match instance {
                Ok(instance) => found.push(instance),
                Err(error) => log.warning(&error.to_string()),
            }
        }
        if self.quiet {
            found.iter().try_for_each(|instance| output::line(format_args!("{}", instance.id())))?;
        } else if self.format == Format::Json {
            let states: Vec<_> = found.iter().map(state::Shown::of).collect::<Result<_>>()?;
            output::line(format_args!("{}", serde_json::to_string(&states)?))?;
        } else {
            table(&found)?;
        }
        Ok(0)
    }
}

fn table(instances: &[Instance]) -> Result<()> {
    let row = |instance: &Instance| -> Result<_> {
        let state = instance.state()?;
        let created = humantime::format_rfc3339_nanos(instance.created()).to_string();
        let (pid, bundle) = (state.pid.to_string(), state.bundle.display().to_string());
        Ok([state.id, pid, state.status.name().into(), bundle, created, state::owner(instance)])
    };
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows: Vec<_> = std::iter::once(Ok(head)).chain(instances.iter().map(row)).collect::<Result<_>>()?;
    for line in &rows {
        let cell = |(i, text): (usize, &String)| {
            let width = rows.iter().map(|row| row[i].len()).max().unwrap_or(0);
            format!("{text:width$}")
        };
        let cells: Vec<_> = line.iter().enumerate().map(cell).collect();
        output::line(format_args!("{}", cells.join("   ").trim_end()))?;
    }
    Ok(())
}
