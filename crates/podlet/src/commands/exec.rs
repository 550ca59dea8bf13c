//! `podlet exec`: another program in a container that runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use foreground::Signals;
use pod::{ExecSpec, Io, Signal, Store};

use super::settings;
use crate::foreground::{Foreground, TerminalArgs};
use crate::output;
use crate::target::{self, Target};

/// As timeout(1) says it.
const TIMED_OUT: u8 = 124;

/// Run another program in a container that runs
#[derive(Args)]
pub struct Exec {
    /// Leave it running; its output goes to the container's log
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    terminal: TerminalArgs,
    /// Set an environment variable; K alone takes podlet's own
    #[arg(short, long = "env", value_name = "K=V")]
    env: Vec<String>,
    /// Set those of a file, a line each, before the others
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// UID, NAME, UID:GID or NAME:GROUP [default: the container's]
    #[arg(short, long)]
    user: Option<String>,
    /// Send SIGTERM after so long, later SIGKILL to everything it has started, and exit with 124
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(..=31_536_000), conflicts_with = "detach")]
    timeout: Option<u64>,
    /// Seconds between the two
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=31_536_000), requires = "timeout")]
    kill_after: u64,
    /// POD or POD/CONTAINER
    target: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    args: Vec<String>,
}

impl Exec {
    pub fn run(&self, store: &Store) -> Result<u8> {
        self.terminal.check_exec(self.detach)?;
        let target = Target::open(store, &self.target)?;
        let container = target.one()?;
        let mut spec = ExecSpec::new(&self.args);
        spec.env = settings::environment(&self.env_file, &self.env)?;
        self.terminal.name_in(&mut spec.env);
        spec.cwd = self.workdir.clone();
        spec.user = self.user.clone();
        spec.own_cgroup = self.timeout.is_some();
        let signals = Signals::hold()?;
        let io = if self.detach { Io::log().into() } else { self.terminal.io() };
        let mut process = container.exec(&spec, io)?;
        if self.detach {
            return Ok(0);
        }
        let name = target::show(target.pod.name(), container.name());
        let relay = self.terminal.show(&mut process)?;
        let end = || process.kill_all();
        let mut foreground = Foreground::new(signals, &process, relay, &name, &end);
        let Some(seconds) = self.timeout else {
            // Nobody leaves it.
            return Ok(foreground.wait()?.map_or(0, |exit| exit.shell_code()));
        };
        if foreground.has_ended_by(after(seconds))? {
            return Ok(process.wait()?.shell_code());
        }
        // It may have ended just now.
        process.signal(Signal::TERM).ok();
        foreground.has_ended_by(after(self.kill_after))?;
        process.kill_all()?;
        process.wait()?;
        output::note(format_args!("exec in {name}: ended after its time of {seconds} s"));
        Ok(TIMED_OUT)
    }
}

fn after(seconds: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds))
}
