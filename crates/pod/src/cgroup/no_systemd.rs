//! What stands for scopes of systemd's in a build that has none: see the feature
//! `systemd`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

pub(crate) use super::unit::{Scope, UnitName};
use crate::error::{Error, Result};
use crate::kernel::facts::Facts;
use crate::resources::Resources;

/// None can be.
#[derive(Debug)]
pub(crate) struct Planned {
    pub scope: Scope,
    pub dir: PathBuf,
    never: Infallible,
}

fn left_out() -> Error {
    let reason = "this build does not ask systemd (it lacks the feature `systemd`): choose the cgroupfs manager";
    Error::invalid("cgroup manager", "systemd", reason)
}

impl Planned {
    pub fn new<'a>(
        _: &Facts,
        _: UnitName,
        _: impl Iterator<Item = (&'a String, &'a String)>,
        _: &Resources,
    ) -> Result<Planned> {
        Err(left_out())
    }

    pub fn start(&mut self, _: u32, _: String, _: &Resources) -> Result<()> {
        match self.never {}
    }
}

impl Scope {
    pub fn attach(&self, _: &Path, _: u32) -> Result<()> {
        Err(left_out())
    }

    pub fn remove(&self, _: &Path) -> Result<()> {
        Err(left_out())
    }
}

pub(crate) fn check_annotations<'a>(_: impl Iterator<Item = (&'a String, &'a String)>, _: &Resources) -> Result<()> {
    Err(left_out())
}

pub(crate) fn uncount(scope: &Scope, resources: &Resources, dirs: &[PathBuf]) -> Result<()> {
    update_all(Some(scope), &resources.with_one_more(), &resources.of_pids(), dirs).map(drop)
}

/// Another build removes what it has made.
pub(crate) fn remove_lost(_: &Facts, _: &str) -> Result<()> {
    Ok(())
}

pub(crate) fn update_all(
    scope: Option<&Scope>,
    old: &Resources,
    change: &Resources,
    dirs: &[PathBuf],
) -> Result<Resources> {
    match scope {
        Some(_) => Err(left_out()),
        None => old.update_all(change, dirs, &crate::cgroup::hierarchy_root()),
    }
}
