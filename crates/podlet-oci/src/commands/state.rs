//! `podlet-oci state`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pod::oci::{self, Instance, Runtime};
use serde::Serialize;

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
        output::line(format_args!("{}", serde_json::to_string_pretty(&Shown::of(&runtime.get(&self.id)?)?)?))?;
        Ok(0)
    }
}

/// The specification's state, and what runc tells besides.
#[derive(Serialize)]
pub struct Shown {
    #[serde(flatten)]
    state: oci::State,
    rootfs: PathBuf,
    created: String,
    owner: String,
}

impl Shown {
    pub fn of(instance: &Instance) -> Result<Shown> {
        Ok(Shown {
            state: instance.state()?,
            rootfs: instance.rootfs().into(),
            created: humantime::format_rfc3339_nanos(instance.created()).to_string(),
            owner: owner(instance),
        })
    }
}

/// The name of the user that created it, or the number.
pub fn owner(instance: &Instance) -> String {
    let user = nix::unistd::User::from_uid(instance.owner().into());
    user.ok().flatten().map_or_else(|| format!("#{}", instance.owner()), |user| user.name)
}
