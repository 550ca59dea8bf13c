//! `podlet-oci`: OCI bundles, with the command line of runc, for podman,
//! containerd, CRI-O and people that know it.
//!
//! One file a subcommand, in `commands`; each is a thin layer over
//! `pod::oci`. Exit codes are runc's: the program's own for `run` and
//! `exec` in the foreground, 255 for an `exec` that failed, 1 for everything
//! else that failed.
//!
//! A library, so that man pages and completions are made from the same
//! definitions (`podlet-pages`) and not by the command, which has none of their
//! code. It is no interface for others: that is `pod::oci`.
#![deny(missing_docs)]

mod commands;
mod console;
mod examples;
mod log;
mod output;
mod process;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand};
use pod::CgroupManager;
use pod::oci::{Runtime, SPECIFICATION};

use log::{Format, Log};

/// Runs OCI bundles
#[derive(Parser)]
#[command(name = "podlet-oci", disable_version_flag = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What stands before the subcommand.
#[derive(Args)]
pub struct Global {
    /// Directory for the state of containers [default: /run/podlet-oci; $XDG_RUNTIME_DIR/podlet-oci or /tmp/podlet-oci-UID for others than root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write errors to this file, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the lines in the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// Write down what is done, too
    #[arg(long)]
    debug: bool,
    /// Let systemd make the cgroup of a container, as a scope: linux.cgroupsPath is slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted: an ordinary user is known as such
    #[arg(long, value_name = "BOOL|auto")]
    rootless: Option<String>,
    /// Accepted, and of no use: see checkpoint
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short, long)]
    version: bool,
}

#[derive(Subcommand)]
// Only the options of the subcommand that is called are built.
#[command(defer = true)]
enum Command {
    /// Create a container, which waits for `start`
    Create(commands::create::Create),
    /// Start the program of a created container
    Start(commands::start::Start),
    /// Print the state of a container as JSON
    State(commands::state::State),
    /// Send a signal to a container's process
    Kill(commands::kill::Kill),
    /// Remove what was made for a container
    Delete(commands::delete::Delete),
    /// Create and start a container
    Run(commands::run::Run),
    /// Run another program in a container that runs
    Exec(Box<commands::exec::Exec>),
    /// Show the processes of a container
    Ps(commands::ps::Ps),
    /// Show all containers
    List(commands::list::List),
    /// Stop all processes of a container where they are
    Pause(commands::pause::Pause),
    /// Let the processes of a paused container go on
    Resume(commands::pause::Resume),
    /// Change the limits of a container
    Update(Box<commands::update::Update>),
    /// Print what a container uses, and when its memory ran out
    Events(commands::events::Events),
    /// Write a config.json to begin with
    Spec(commands::spec::Spec),
    /// Print what podlet-oci can do as JSON
    Features(commands::features::Features),
    /// Not here: needs CRIU, which podlet-oci does not drive
    Checkpoint(commands::checkpoint::Checkpoint),
    /// Not here: see checkpoint
    Restore(commands::checkpoint::Checkpoint),
}

/// What podlet-oci says of its own failures.
const FAILED: u8 = 1;

pub use examples::EXAMPLES;

/// All commands and options.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    process::remember_children();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // If this fails it has no reader.
            error.print().ok();
            return ExitCode::from(FAILED);
        }
        // What `--help` asks for, with examples, which nobody else pays for.
        Err(help) => match help::with_examples(command(), EXAMPLES).try_get_matches().err().unwrap_or(help).print() {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                writeln!(std::io::stderr(), "podlet-oci: writing to standard output: {error}").ok();
                return ExitCode::from(FAILED);
            }
            _ => return ExitCode::SUCCESS,
        },
    };
    let log = Log::new(cli.global.log.clone(), cli.global.log_format, cli.global.debug);
    let failed = if matches!(cli.command, Some(Command::Exec(_))) { 255 } else { FAILED };
    let is_kill = matches!(cli.command, Some(Command::Kill(_)));
    match run(cli, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // What containerd looks for in runc's words.
            let known = match error.downcast_ref() {
                Some(pod::Error::NotFound(_)) => "container does not exist: ",
                Some(pod::Error::State { .. }) if is_kill => "container not running: ",
                _ => "",
            };
            log.error(&format!("{known}{}", pod::in_full(error.as_ref())));
            ExitCode::from(failed)
        }
    }
}

fn run(cli: Cli, log: &Log) -> Result<u8> {
    let global = cli.global;
    if global.version {
        output::line(format_args!("podlet-oci version {}\nspec: {SPECIFICATION}", env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    let Some(command) = cli.command else { bail!("say what to do: see podlet-oci --help") };
    let manager = if global.systemd_cgroup { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
    match command {
        Command::Spec(spec) => return spec.run(),
        Command::Features(_) => return commands::features::run(),
        Command::Checkpoint(_) | Command::Restore(_) => return commands::checkpoint::run(),
        _ => {}
    }
    log.check()?;
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    log.debug(&format!("podlet-oci {}: {}", env!("CARGO_PKG_VERSION"), words.join(" ")));
    let root = match global.root {
        Some(root) => std::path::absolute(root)?,
        None => Runtime::default_root(),
    };
    let runtime = match command {
        Command::Create(_) | Command::Run(_) => Runtime::open(root)?,
        // Where there is no directory there is no container.
        _ => Runtime::look(root)?,
    };
    match command {
        Command::Create(create) => create.run(&runtime, manager, log),
        Command::Start(start) => start.run(&runtime),
        Command::State(state) => state.run(&runtime),
        Command::Kill(kill) => kill.run(&runtime),
        Command::Delete(delete) => delete.run(&runtime, log),
        Command::Run(run) => run.run(&runtime, manager, log),
        Command::Exec(exec) => exec.run(&runtime, log),
        Command::Ps(ps) => ps.run(&runtime),
        Command::List(list) => list.run(&runtime, log),
        Command::Pause(pause) => pause.run(&runtime),
        Command::Resume(resume) => resume.run(&runtime),
        Command::Update(update) => update.run(&runtime),
        Command::Events(events) => events.run(&runtime),
        Command::Spec(_) | Command::Features(_) | Command::Checkpoint(_) | Command::Restore(_) => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_that_is_a_command_line() {
        let mut cli = Cli::command();
        cli.build();
        let parse = |words: Vec<String>| Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string());
        assert_eq!(help::mistakes(&cli, EXAMPLES, parse), [""; 0]);
    }
}
