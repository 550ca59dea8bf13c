//! Writes the man pages and shell completions of podlet and podlet-oci, for
//! `make install`: `podlet-pages DIR` leaves in DIR
//!
//! ```text
//! man/podlet.1  man/podlet-run.1  man/podlet-network-create.1  man/podlet-oci.8  …
//! completions/podlet.bash  completions/_podlet  completions/podlet.fish  …
//! ```
//!
//! It has their command lines from the commands' libraries, so that nothing is said
//! twice. It is a program of its own, and there is no `podlet completion bash`: that
//! would add 92 KB to podlet, for what is asked once a machine, and man pages need a
//! program of their own anyway.

mod completions;
mod man;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use help::Table;

/// A command as it is installed.
struct Installed {
    command: Command,
    examples: &'static Table,
    /// Of the manual: 1 for people, 8 for what an engine calls as root.
    section: &'static str,
}

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).context("usage: podlet-pages DIR")?;
    let dir = Path::new(&dir);
    let (pages, scripts) = (dir.join("man"), dir.join("completions"));
    for into in [&pages, &scripts] {
        // A page of a command that is gone would be installed.
        if into.exists() {
            fs::remove_dir_all(into).with_context(|| into.display().to_string())?;
        }
        fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    }
    for installed in commands() {
        man::write(&installed, &pages)?;
        for (name, text) in completions::of(&installed.command) {
            let file = scripts.join(name);
            fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

fn commands() -> [Installed; 2] {
    // `help` has all others once more; their pages and options are enough.
    let built = |command: Command| {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        command
    };
    [
        Installed { command: built(podlet::command()), examples: podlet::EXAMPLES, section: "1" },
        Installed { command: built(podlet_oci::command()), examples: podlet_oci::EXAMPLES, section: "8" },
    ]
}
