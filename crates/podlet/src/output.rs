//! What is printed.

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;

/// `--format`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Prints a line. A reader that has gone away (`| head`) is no failure.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    ignore_closed(writeln!(std::io::stdout().lock(), "{text}"))
}

/// Copies bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    ignore_closed(out.write_all(bytes).and_then(|()| out.flush()))
}

fn ignore_closed(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Prints rows with aligned columns.
pub fn table(rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    // At once: a line at a time would be a system call each.
    bytes(text.as_bytes())
}
