//! `podlet-oci state`.

use anyhow::Result;
use clap::Args;
use pod::bundle::{Instance, Runtime};
use serde_json::{Value, json};

use crate::output;

/// Print the state of a container as JSON
#[derive(Args)]
pub struct State {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl State {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        output::line(format_args!("{}", serde_json::to_string_pretty(&show(&runtime.get(&self.id)?)?)?))?;
        Ok(0)
    }
}

/// The specification's state, and what runc tells besides.
pub fn show(instance: &Instance) -> Result<Value> {
    let mut state = serde_json::to_value(instance.state())?;
    state["rootfs"] = json!(instance.rootfs());
    state["created"] = json!(humantime::format_rfc3339_nanos(instance.created()).to_string());
    state["owner"] = json!(owner(instance));
    Ok(state)
}

/// The name of the user who created it, or the number.
pub fn owner(instance: &Instance) -> String {
    let user = nix::unistd::User::from_uid(instance.owner().into());
    user.ok().flatten().map_or_else(|| format!("#{}", instance.owner()), |user| user.name)
}
