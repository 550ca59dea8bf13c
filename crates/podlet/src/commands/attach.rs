//! `podlet attach`: to a container's terminal, or to what it writes.

use ::foreground::{Input, Relay, Screen, Signals};
use anyhow::Result;
use clap::Args;
use pod::Store;

use crate::foreground::{DetachArgs, Foreground, attach_again, note_left};
use crate::target::{self, Target};

/// Attach to a container's terminal, or see what it writes, from now on
#[derive(Args)]
pub struct Attach {
    #[command(flatten)]
    keys: DetachArgs,
    /// Type nothing: Ctrl-C is a signal for it
    #[arg(long)]
    no_stdin: bool,
    /// POD or POD/CONTAINER
    target: String,
}

impl Attach {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let signals = Signals::hold()?;
        let target = Target::open(store, &self.target)?;
        let container = target.one()?;
        let process = container.process()?;
        let attached = container.attach()?;
        let has_keys = attached.is_terminal() && !self.no_stdin;
        self.keys.check(has_keys)?;
        let input = if has_keys { Input::Ours } else { Input::None };
        let mut relay = Relay::new(Screen::Attached(attached), input, false);
        if has_keys {
            relay = self.keys.give(relay);
            relay.redraw();
        }
        let name = target::show(target.pod.name(), container.name());
        let end = || container.kill_all();
        let again = || attach_again(&container);
        let mut foreground = Foreground::new(signals, &process, Some(relay), &name, &end).kept(&again);
        let Some(exit) = foreground.wait()? else {
            note_left(&name);
            return Ok(0);
        };
        Ok(exit.shell_code())
    }
}
