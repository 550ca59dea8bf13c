//! `podlet`: pods without a daemon.
//!
//! One file a subcommand, in `commands`; each is a thin layer over the library
//! `pod`. Exit codes are podman's: the program's own, 128 + signal, 125 for an
//! error of podlet's, 126 for a program that cannot be executed, 127 for one
//! that is not there.
//!
//! A library, so that man pages and completions are made from the same
//! definitions (`podlet-pages`) and not by the command, which has none of their
//! code. It is no interface for others: that is `pod`.
#![deny(missing_docs)]

mod advice;
mod commands;
mod examples;
mod foreground;
#[cfg(test)]
mod options;
mod output;
mod target;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use pod::{Pod, Store};

/// Pods without a daemon: a tiny pause process holds the namespaces,
/// containers join them.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// State directory [default: /run/podlet; $XDG_RUNTIME_DIR/podlet or /tmp/podlet-UID for others than root]
    #[arg(long, global = true, value_name = "DIR", overrides_with = "root")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
// Only the options of the subcommand that is called are built.
#[command(defer = true)]
enum Command {
    /// Run a program in a container
    #[command(disable_help_flag = true)]
    Run(commands::run::Run),
    /// Make an empty pod: pause and its namespaces
    #[command(disable_help_flag = true)]
    Create(commands::create::Create),
    /// Make a container without starting it, and start it later
    Container(commands::container::Container),
    /// List pods and their containers
    Ps(commands::ps::Ps),
    /// Show the processes in containers, zombies with the parent that does not wait
    Top(commands::top::Top),
    /// Show what pods and containers use: processors, memory, disks, network, pressure
    Stats(commands::stats::Stats),
    /// Print all there is to know of a pod or container, as JSON
    Inspect(commands::inspect::Inspect),
    /// Print what a detached container wrote
    Logs(commands::logs::Logs),
    /// Attach to a container's terminal, or see what it writes, from now on
    Attach(commands::attach::Attach),
    /// Wait for containers to end, and print their exit codes
    Wait(commands::wait::Wait),
    /// Print what happens to pods and containers, as it happens
    Events(commands::events::Events),
    /// Run another program in a container that runs
    Exec(commands::exec::Exec),
    /// Perform a container's health checks once, now
    Healthcheck(commands::healthcheck::Healthcheck),
    /// Copy files between containers and this machine
    Cp(commands::cp::Cp),
    /// Send a signal to containers' main processes
    Kill(commands::kill::Kill),
    /// Stop containers: their stop signal first, SIGKILL for all in them after a while
    Stop(commands::stop::Stop),
    /// Start containers that are created, or have ended, in the background
    Start(commands::start::Start),
    /// Stop containers and start them again; the pod and its network stay
    Restart(commands::restart::Restart),
    /// Stop the time of containers: they get no processor until `unpause`
    Pause(commands::pause::Pause),
    /// Let what is paused go on
    Unpause(commands::pause::Unpause),
    /// Change the limits of a pod or a container, also while it runs
    Update(commands::update::Update),
    /// Remove pods or containers and all that was made for them
    Rm(commands::rm::Rm),
    /// Remove containers that have ended, and pods that are dead
    Prune(commands::prune::Prune),
    /// Make, show and remove networks of pods
    Network(commands::network::Network),
    /// Change which of this machine's ports lead to a pod that runs
    Port(commands::port::Port),
    #[command(hide = true)]
    Supervise(commands::supervise::Supervise),
    /// Print the steps `run` would take, and take none
    #[command(disable_help_flag = true)]
    Plan(commands::plan::Plan),
}

/// What podlet says of its own failures.
const FAILED: u8 = 125;

pub use examples::EXAMPLES;

/// All commands and options.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let words = commands::kill::signals_by_themselves(std::env::args_os());
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) if is_help(&error) => return answer(&in_detail(error, &words)),
        Err(error) => return answer(&error),
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::note(pod::in_full(error.as_ref()));
            ExitCode::from(error.downcast_ref().map_or(FAILED, pod::Error::exit_code))
        }
    }
}

fn is_help(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Help with its examples, which nobody else pays for.
fn in_detail(help: clap::Error, words: &[OsString]) -> clap::Error {
    help::with_examples(command(), EXAMPLES).try_get_matches_from(words).err().unwrap_or(help)
}

/// What a command line comes to that asks for nothing to be done: a mistake, or
/// `--help` and `--version`.
fn answer(error: &clap::Error) -> ExitCode {
    if let Some(advice) = advice::explain(error) {
        output::note(advice);
        return ExitCode::from(FAILED);
    }
    match error.print() {
        // If this fails it has no reader.
        _ if error.use_stderr() => ExitCode::from(FAILED),
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            output::note(format_args!("writing to standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let root = match cli.root {
        Some(root) => std::path::absolute(root)?,
        None => Store::default_root(),
    };
    let store = Store::open(root)?;
    let networks = net::Networks::open(&store);
    let store = net::docked(store, networks, |left| output::note(format_args!("note: {left}")));
    // `wait` does so itself, once it has what it looks for.
    if !matches!(cli.command, Command::Wait(_)) {
        Pod::sweep(&store);
    }
    match cli.command {
        Command::Run(run) => run.run(&store),
        Command::Create(create) => create.run(&store),
        Command::Container(container) => container.run(&store),
        Command::Ps(ps) => ps.run(&store),
        Command::Top(top) => top.run(&store),
        Command::Stats(stats) => stats.run(&store),
        Command::Inspect(inspect) => inspect.run(&store),
        Command::Logs(logs) => logs.run(&store),
        Command::Attach(attach) => attach.run(&store),
        Command::Wait(wait) => wait.run(&store),
        Command::Events(events) => events.run(&store),
        Command::Exec(exec) => exec.run(&store),
        Command::Healthcheck(healthcheck) => healthcheck.run(&store),
        Command::Cp(cp) => cp.run(&store),
        Command::Kill(kill) => kill.run(&store),
        Command::Stop(stop) => stop.run(&store),
        Command::Start(start) => start.run(&store),
        Command::Restart(restart) => restart.run(&store),
        Command::Pause(pause) => pause.run(&store),
        Command::Unpause(unpause) => unpause.run(&store),
        Command::Update(update) => update.run(&store),
        Command::Rm(rm) => rm.run(&store),
        Command::Prune(prune) => prune.run(&store),
        Command::Network(network) => network.run(&store),
        Command::Port(port) => port.run(&store),
        Command::Supervise(supervise) => supervise.run(&store),
        Command::Plan(plan) => plan.run(&store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_that_is_a_command_line() {
        let mut cli = Cli::command();
        cli.build();
        let parse = |words: Vec<String>| {
            let words = commands::kill::signals_by_themselves(words.into_iter().map(OsString::from));
            Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(help::mistakes(&cli, EXAMPLES, parse), [""; 0]);
    }
}
