//! `hooks`, in all six lists.

use std::time::Duration;

use oci_spec::runtime;

use super::types::{Hook, Hooks};
use crate::error::{Error, Result};
use crate::spec::{check_path, check_string};

/// 68 years; more does not fit all clocks.
const MOST_SECONDS: i64 = i32::MAX as i64;

pub(super) fn read(hooks: Option<&runtime::Hooks>) -> Result<Hooks> {
    let Some(hooks) = hooks else { return Ok(Hooks::default()) };
    #[allow(deprecated)] // The specification still wants it run.
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: list("prestart", prestart)?,
        create_runtime: list("createRuntime", hooks.create_runtime())?,
        create_container: list("createContainer", hooks.create_container())?,
        start_container: list("startContainer", hooks.start_container())?,
        poststart: list("poststart", hooks.poststart())?,
        poststop: list("poststop", hooks.poststop())?,
    })
}

fn list(name: &str, hooks: &Option<Vec<runtime::Hook>>) -> Result<Vec<Hook>> {
    hooks.iter().flatten().enumerate().map(|(i, hook)| one(&format!("hooks.{name}[{i}]"), hook)).collect()
}

fn one(field: &str, hook: &runtime::Hook) -> Result<Hook> {
    check_path(&format!("{field}.path"), hook.path())?;
    let strings = |part: &str, strings: &Option<Vec<String>>| {
        strings.iter().flatten().try_for_each(|string| check_string(&format!("{field}.{part}"), string))?;
        Ok::<_, Error>(strings.clone())
    };
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds @ 1..=MOST_SECONDS) => Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(other) => {
            let reason = "seconds, from 1 to 2147483647";
            return Err(Error::invalid(format!("{field}.timeout"), other.to_string(), reason));
        }
    };
    Ok(Hook {
        path: hook.path().clone(),
        args: strings("args", hook.args())?.unwrap_or_default(),
        env: strings("env", hook.env())?,
        timeout,
    })
}
