//! What is printed.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// `--format`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Whether standard output has a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Perhaps one.
    There,
    /// None any more, as after `| head`.
    Gone,
}

/// Prints a line. A reader that has gone away is no failure.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    bytes(format!("{text}\n").as_bytes()).map(drop)
}

/// Copies bytes as they are. A command that does nothing else ends when the reader
/// has gone.
pub fn bytes(bytes: &[u8]) -> Result<Reader> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        result => result.map(|()| Reader::There).context("writing to standard output"),
    }
}

/// The same on standard error.
pub fn error_bytes(bytes: &[u8]) -> Result<Reader> {
    match std::io::stderr().write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        result => result.map(|()| Reader::There).context("writing to standard error"),
    }
}

/// A word for people, beside what is printed. It must not end anything if it
/// cannot be said.
pub fn note(text: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "podlet: {text}").ok();
}

/// What a container chose, as text that does nothing to a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Prints rows with aligned columns.
pub fn table(rows: &[Vec<String>]) -> Result<()> {
    // At once: a line at a time would be a system call each.
    bytes(aligned(rows).as_bytes()).map(drop)
}

/// Rows with aligned columns.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
