//! `podlet-oci exec`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::config;
use pod::oci::{ExecOptions, Runtime};
use pod::spec::{ProcessSpec, User, parse_capability};

use super::create::{preserved, warn};
use crate::log::Log;
use crate::process::{Signals, Terminal, Told};

/// Run another program in a container that runs
#[derive(Args)]
pub struct Exec {
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory inside
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable: NAME=value
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Supplementary groups
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Take everything of the process from this file
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    told: Told,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Give it a capability
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Pass on this many descriptors after the first three
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// A cgroup below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Also in a paused container
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    args: Vec<String>,
}

impl Exec {
    pub fn run(&self, runtime: &Runtime, log: &Log) -> Result<u8> {
        for (option, given) in
            [("--process-label", self.process_label.is_some()), ("--cgroup", !self.cgroup.is_empty())]
        {
            if given {
                bail!("{option}: not honoured by podlet-oci: leave it out");
            }
        }
        let instance = runtime.get(&self.id)?;
        let (process, wanted, size) = match &self.process {
            Some(path) => {
                let bytes = config::read_given("--process", path)?;
                let read = config::read_process(instance.spec(), &bytes)?;
                warn(&read.left_out, log);
                (read.container.process, read.terminal, read.console_size)
            }
            None => (self.process(instance.spec().process.clone())?, self.tty, None),
        };
        let terminal =
            Terminal { wanted: wanted || self.tty, socket: self.console_socket.as_deref(), detach: self.detach };
        terminal.check()?;
        let mut signals = Signals::hold()?;
        let mut process = instance.exec(ExecOptions {
            process,
            io: terminal.io(size.or_else(foreground::own_size)),
            preserved: preserved(self.preserve_fds)?,
            even_paused: self.ignore_paused,
            cancel: Some(signals.ending()?),
        })?;
        let handed_over = terminal.hand_over(process.terminal.take()).and_then(|proxy| {
            self.told.tell(&process, "setns")?;
            Ok(proxy)
        });
        // The caller would not know of it. It may have ended already.
        let proxy = handed_over.inspect_err(|_| drop(process.signal(pod::Signal::KILL)))?;
        if self.detach {
            return Ok(0);
        }
        signals.wait_for(&process, proxy)
    }

    /// The container's process, with what the options change.
    fn process(&self, mut process: ProcessSpec) -> Result<ProcessSpec> {
        if self.args.is_empty() {
            bail!("say what to run, or give --process");
        }
        process.args = self.args.clone();
        if let Some(dir) = &self.cwd {
            process.cwd = dir.clone();
        }
        for variable in &self.env {
            process = match variable.split_once('=') {
                Some((name, value)) if !name.is_empty() => process.env(name, value),
                _ => bail!("--env {variable:?}: give NAME=value"),
            };
        }
        if let User::Ids { uid, gid, groups } = &mut process.user {
            if let Some(user) = &self.user {
                (*uid, *gid) = ids(user)?;
            }
            groups.extend(&self.additional_gids);
        }
        process.no_new_privileges |= self.no_new_privs;
        process.apparmor_profile = self.apparmor.clone().or(process.apparmor_profile);
        for name in &self.cap {
            let capability = parse_capability(name)?;
            process = process.add_capability(capability);
            // As runc has it: what is inherited stays as it is.
            if process.capabilities.inheritable.contains(capability) {
                process.capabilities.ambient.insert(capability);
            }
        }
        Ok(process)
    }
}

fn ids(text: &str) -> Result<(u32, u32)> {
    let number = |part: &str| part.parse().ok().filter(|id| *id != u32::MAX);
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid), number(gid)),
        None => (number(text), Some(0)),
    };
    uid.zip(gid).with_context(|| format!("--user {text:?}: give UID or UID:GID, from 0 to 4294967294"))
}
