//! `podlet-oci create`, and what `run` has in common with it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use pod::CgroupManager;
use pod::config::{self, Config, Ignored};
use pod::oci::{CreateOptions, Created, Runtime, inherited};

use crate::log::Log;
use crate::process::{Terminal, Told};

/// Create a container, which waits for `start`
#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    pub bundle: Bundle,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

/// How a bundle becomes a container.
#[derive(Args)]
pub struct Bundle {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    #[command(flatten)]
    pub told: Told,
    /// Do not use pivot_root: for a root on a ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Leave the process our session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass on this many descriptors after the first three and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
}

impl Create {
    pub fn run(&self, runtime: &Runtime, manager: CgroupManager, log: &Log) -> Result<u8> {
        let config = self.bundle.read(log)?;
        let terminal = self.bundle.terminal(&config, true);
        terminal.check()?;
        let created = runtime.create(&self.id, &config, self.bundle.setup(&terminal, manager)?)?;
        warn(&created.left_out, log);
        let id = self.id.clone();
        self.bundle.hand_out(&terminal, created, log)?;
        log.debug(&format!("created container {id:?}"));
        Ok(0)
    }
}

impl Bundle {
    /// The config, with a word on what is left out.
    pub fn read(&self, log: &Log) -> Result<Config> {
        let bundle = std::path::absolute(&self.bundle)?;
        let config = config::read("container", &bundle)?;
        warn(&config.left_out, log);
        Ok(config)
    }

    pub fn terminal(&self, config: &Config, detach: bool) -> Terminal<'_> {
        Terminal { wanted: config.terminal, socket: self.console_socket.as_deref(), detach }
    }

    pub fn setup(&self, terminal: &Terminal<'_>, cgroup_manager: CgroupManager) -> Result<CreateOptions> {
        let listening = listening();
        let preserved = preserved(listening.saturating_add(self.preserve_fds))?;
        let env = match listening {
            0 => Vec::new(),
            // As runc has it: its first process is to listen.
            count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".into()],
        };
        Ok(CreateOptions {
            // The program may look as soon as it runs.
            io: terminal.io(terminal.is_shown().then(foreground::own_size).flatten()),
            preserved,
            env,
            pivot: !self.no_pivot,
            keyring: !self.no_new_keyring,
            cgroup_manager,
            ..CreateOptions::default()
        })
    }

    /// The terminal and the pid, or else the container is deleted again.
    fn hand_out(&self, terminal: &Terminal<'_>, mut created: Created, log: &Log) -> Result<()> {
        let result = terminal
            .hand_over(created.process.terminal.take())
            .and_then(|_| self.told.tell(&created.process, "standard"));
        if result.is_err() {
            // What went wrong first is what counts.
            for warning in created.instance.delete(true).unwrap_or_else(|error| vec![error]) {
                log.warning(&warning.to_string());
            }
        }
        result
    }
}

/// What a container does without. Nothing of what it wanted fails for that.
pub fn warn(left_out: &[Ignored], log: &Log) {
    for Ignored { field, value, reason } in left_out {
        let value: String = value.chars().take(60).collect();
        log.warning(&format!("{field} {value:?}: left out: {reason}"));
    }
}

/// How many sockets a service manager gave us, from descriptor 3 on
/// (sd_listen_fds(3)).
fn listening() -> u16 {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    match std::env::var("LISTEN_FDS") {
        // What is no number counts for nothing, as in sd_listen_fds(3).
        Ok(text) if ours => text.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Descriptors from 3 on that a process is to get.
pub fn preserved(count: u16) -> Result<Vec<OwnedFd>> {
    let take = |number: u16| match inherited(i32::from(number) + 3) {
        Some(fd) => Ok(fd),
        None => bail!("--preserve-fds or $LISTEN_FDS: descriptor {} was not given to podlet-oci", number + 3),
    };
    (0..count).map(take).collect()
}
