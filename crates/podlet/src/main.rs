//! `podlet`: pods without a daemon.
//!
//! One file a subcommand, in `commands`; each is a thin layer over the library
//! `pod`. Exit codes are podman's: the program's own, 128 + signal, 125 for an
//! error of podlet's, 126 for a program that cannot be executed, 127 for one
//! that is not there.

mod commands;
mod foreground;
mod output;
mod target;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pod::{Pod, Store};

/// Pods without a daemon: a tiny pause process holds the namespaces,
/// containers join them.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// State directory [default: /run/podlet, or $XDG_RUNTIME_DIR/podlet]
    #[arg(long, global = true, value_name = "DIR", overrides_with = "root")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
// Only the options of the one that is called are built.
#[command(defer = true)]
enum Command {
    Run(commands::run::Run),
    Create(commands::create::Create),
    Ps(commands::ps::Ps),
    Inspect(commands::inspect::Inspect),
    Logs(commands::logs::Logs),
    Wait(commands::wait::Wait),
    Exec(commands::exec::Exec),
    Kill(commands::kill::Kill),
    Stop(commands::stop::Stop),
    Start(commands::start::Start),
    Restart(commands::restart::Restart),
    Update(commands::update::Update),
    Rm(commands::rm::Rm),
    Plan(commands::plan::Plan),
}

/// What podlet says of its own failures.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads it if this fails.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody reads it if this fails.
            writeln!(std::io::stderr(), "podlet: {error:#}").ok();
            ExitCode::from(error.downcast_ref().map_or(FAILED, pod::Error::exit_code))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let root = match cli.root {
        Some(root) => std::path::absolute(root)?,
        None => Store::default_root(),
    };
    let store = Store::open(root)?;
    Pod::sweep(&store);
    match cli.command {
        Command::Run(run) => run.run(&store),
        Command::Create(create) => create.run(&store),
        Command::Ps(ps) => ps.run(&store),
        Command::Inspect(inspect) => inspect.run(&store),
        Command::Logs(logs) => logs.run(&store),
        Command::Wait(wait) => wait.run(&store),
        Command::Exec(exec) => exec.run(&store),
        Command::Kill(kill) => kill.run(&store),
        Command::Stop(stop) => stop.run(&store),
        Command::Start(start) => start.run(&store),
        Command::Restart(restart) => restart.run(&store),
        Command::Update(update) => update.run(&store),
        Command::Rm(rm) => rm.run(&store),
        Command::Plan(plan) => plan.run(&store),
    }
}
