//! Cgroups that systemd makes and removes: each is that of a transient *scope*
//! (systemd.scope(5)), delegated to us.
//!
//! ```text
//!   StartTransientUnit(PIDs = placeholder)     the scope's cgroup is there
//!     limits                                   in its files, and as properties
//!     a first process is born in it            which no longer needs the placeholder
//!   SetUnitProperties                          limits that change
//!   the last process ends                      systemd removes the cgroup
//! ```
//!
//! systemd makes a scope for processes that are there, and we want limits to be
//! there before a process is. So the scope is made for a *placeholder*, which does
//! nothing and ends with its creator: were that killed, the scope would be empty,
//! and an empty scope is removed by systemd. As long as it is there one process more
//! may be than was asked for.
//!
//! Devices are left to our own filter. What systemd would make of `DeviceAllow=` is
//! one more filter, beside ours, that knows no rule that denies; and it leaves alone
//! what it has not attached.

mod properties;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use super::unit::{Scope, UnitName};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::procfs::{innermost_pid, sees_all_pids};
use crate::kernel::{PATIENCE, cgroupfs};
use crate::resources::{Present, Resources};
use podlet_systemd::{Manager, Property, Value, Whose, check_unit, slice_path};

/// Annotations that begin so are properties of the unit, as with runc and crun.
const ANNOTATION: &str = "org.systemd.property.";

/// Properties that say what a scope is to us.
const OURS: [&str; 7] = ["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup", "Controller", "Scope"];

/// A scope that can be made.
#[derive(Debug)]
pub(crate) struct Planned {
    manager: Manager,
    /// As it is written down before it is made.
    pub scope: Scope,
    /// Where its cgroup will be.
    pub dir: PathBuf,
    slice: String,
    wished: Vec<Property>,
}

impl From<podlet_systemd::Error> for Error {
    fn from(error: podlet_systemd::Error) -> Error {
        use podlet_systemd::Error as Systemd;
        match error {
            Systemd::Missing(_) => {
                let cure = "choose the cgroupfs manager";
                Error::invalid("cgroup manager", "systemd", format!("{error}; or {cure}"))
            }
            Systemd::Deadline { what, after } => Error::Deadline { what: format!("systemd: {what}"), after },
            Systemd::Io { doing, error } => Error::failed(format!("asking systemd: {doing}"), error),
            Systemd::Invalid { value, reason } => Error::invalid("unit", value, reason),
            refused => Error::failed("asking systemd", std::io::Error::other(refused)),
        }
    }
}

impl Planned {
    /// Looks up where the scope would be, and checks what can be checked. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the cure, where there is no systemd, or for a name or
    /// a wish that it cannot take.
    pub fn new<'a>(
        facts: &Facts,
        name: UnitName,
        annotations: impl Iterator<Item = (&'a String, &'a String)>,
        resources: &Resources,
    ) -> Result<Planned> {
        let user = is_users(facts);
        let slice = name.slice.unwrap_or_else(|| usual_slice(user).into());
        let (field, value) = &name.said;
        let bad_name = |error: podlet_systemd::Error| Error::invalid(*field, value, error.to_string());
        let below = slice_path(&slice).map_err(bad_name)?;
        check_unit(&name.unit).map_err(bad_name)?;
        let wished = wished(annotations, resources)?;
        let no_hierarchy = || Error::invalid("cgroup manager", "systemd", "cgroup v2 is not mounted here");
        let hierarchy = cgroupfs::hierarchy().ok_or_else(no_hierarchy)?;
        let scope = Scope { unit: name.unit, user, number: None };
        let mut manager = scope.manager()?;
        check_pids(&manager)?;
        let dir = hierarchy.join(manager.control_group()?).join(below).join(&scope.unit);
        Ok(Planned { manager, scope, dir, slice, wished })
    }

    /// Makes it, for the process `pid`, which systemd moves there, and which does not
    /// count: see [`uncount`].
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a unit of that name; what systemd says.
    pub fn start(&mut self, pid: u32, description: String, resources: &Resources) -> Result<()> {
        let mut properties = vec![
            Property::new("Description", Value::Text(description)),
            Property::new("Slice", Value::Text(self.slice.clone())),
            Property::new("PIDs", Value::Pids(vec![pid])),
            Property::new("Delegate", Value::Bool(true)),
            // Neither is it stopped before others at the machine's end, nor do
            // others wait for it.
            Property::new("DefaultDependencies", Value::Bool(false)),
            Property::new("CollectMode", Value::Text("inactive-or-failed".into())).optional(),
        ];
        let accounts = ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"];
        properties.extend(accounts.map(|name| Property::new(name, Value::Bool(true)).optional()));
        let above = self.dir.parent().unwrap_or(&self.dir);
        properties.extend(properties::of(&resources.with_one_more(), &Present::of(above))?);
        for wished in &self.wished {
            properties.retain(|property| property.name != wished.name);
            properties.push(wished.clone());
        }
        self.manager.start_scope(&self.scope.unit, &properties).map_err(|error| match error.is_unit_exists() {
            true => Error::Exists(format!("systemd unit {}", self.scope.unit)),
            false => error.into(),
        })?;
        self.scope.number = cgroup::number(&self.dir);
        match cgroup::holds(&self.dir, pid)? {
            true => Ok(()),
            false => {
                let reason = format!("systemd made the unit somewhere else than in {}", self.dir.display());
                Err(Error::invalid("cgroup manager", "systemd", reason))
            }
        }
    }
}

/// Checks annotations beside limits that are to be set.
///
/// # Errors
/// [`Error::Invalid`], naming the annotation and the cure.
pub(crate) fn check_annotations<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    resources: &Resources,
) -> Result<()> {
    wished(annotations, resources).map(drop)
}

/// What annotations ask for.
fn wished<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    resources: &Resources,
) -> Result<Vec<Property>> {
    let limits = properties::of(resources, &Present::default())?;
    let mut list = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let invalid = |reason: String| Error::invalid(format!("annotations.{key}"), value, reason);
        if OURS.contains(&name) {
            return Err(invalid("the runtime decides this: leave it out".into()));
        }
        let wish = Property::parse(name, value).map_err(|error| invalid(error.to_string()))?;
        if limits.iter().any(|limit| limit.name == wish.name) {
            return Err(invalid("a limit sets this property, too: leave out the annotation or the limit".into()));
        }
        list.push(wish);
    }
    Ok(list)
}

/// Refuses a manager to which a pid may be another process's number.
fn check_pids(manager: &Manager) -> Result<()> {
    let listener = manager.listener();
    let as_systemd_sees_it = listener.map(innermost_pid).transpose()?.flatten();
    if as_systemd_sees_it.is_some_and(|pid| Some(pid) == listener) || sees_all_pids() {
        return Ok(());
    }
    let reason = "systemd is in another pid namespace, where processes have other numbers: run this there, or choose \
                  the cgroupfs manager";
    Err(Error::invalid("cgroup manager", "systemd", reason))
}

impl Scope {
    fn manager(&self) -> Result<Manager> {
        Ok(Manager::connect(if self.user { Whose::User } else { Whose::System })?)
    }

    /// Sets what limits come to, of a unit that has those of `old`. Comes back with
    /// what the properties were, which need not be of limits: systemd has defaults.
    ///
    /// # Errors
    /// What systemd says; it is as it was then.
    fn set(&self, dir: &Path, old: &Resources, new: &Resources) -> Result<Vec<Property>> {
        let present = Present::of(dir);
        let [old, new] = [properties::of(old, &present)?, properties::of(new, &present)?];
        let mut change: Vec<_> = new.iter().filter(|property| !old.contains(property)).cloned().collect();
        change.extend(properties::lifted(&old, &new));
        if change.is_empty() {
            return Ok(Vec::new());
        }
        let mut manager = self.manager()?;
        let before = manager.values(&self.unit, &change)?;
        manager.set_properties(&self.unit, &change).inspect_err(|_| {
            // As it was, as far as systemd lets us.
            manager.set_properties(&self.unit, &before).ok();
        })?;
        Ok(before)
    }

    /// Moves a process of ours into a cgroup below the scope's: `/` is its own.
    ///
    /// # Errors
    /// What systemd says.
    pub fn attach(&self, below: &Path, pid: u32) -> Result<()> {
        let mut manager = self.manager()?;
        check_pids(&manager)?;
        Ok(manager.attach(&self.unit, &below.to_string_lossy(), pid)?)
    }

    /// Whether the cgroup at the scope's place is the scope's, as far as can be told.
    fn owns(&self, dir: &Path) -> bool {
        match (cgroup::number(dir), self.number) {
            (Some(there), Some(own)) => there == own,
            (there, _) => there.is_some(),
        }
    }

    /// Kills all that is in it, and waits until systemd has forgotten it.
    ///
    /// # Errors
    /// [`Error::Deadline`]; what systemd says.
    pub fn remove(&self, dir: &Path) -> Result<()> {
        if self.owns(dir) {
            match self.number {
                Some(_) => cgroup::kill(dir, PATIENCE)?,
                // Its creator was killed before it knew. What is in there is the
                // placeholder, which ends, or came after it and is another's.
                None if cgroup::wait_empty(dir, Duration::from_secs(1))? => {}
                None => return Ok(()),
            }
        }
        let mut manager = match self.manager() {
            // A user's cgroups go with the manager.
            Err(_) if cgroup::number(dir).is_none() => return Ok(()),
            manager => manager?,
        };
        match cgroup::number(dir) {
            // systemd keeps what failed.
            None => Ok(manager.reset_failed(&self.unit)?),
            Some(_) if !self.owns(dir) => Ok(()),
            Some(_) => {
                manager.stop(&self.unit)?;
                // Of that name there may be another's by now: no process in there is
                // ours any more.
                if self.owns(dir) { cgroup::remove_unless_taken(dir) } else { Ok(()) }
            }
        }
    }
}

/// Whether a caller's scopes are the user's own manager's.
fn is_users(facts: &Facts) -> bool {
    !(facts.privileged && facts.initial_users)
}

fn usual_slice(user: bool) -> &'static str {
    if user { "user.slice" } else { "system.slice" }
}

/// Removes scopes of pods of this name that no record names any more. One with
/// processes in it is another store's.
///
/// # Errors
/// As [`Scope::remove`].
pub(crate) fn remove_lost(facts: &Facts, pod: &str) -> Result<()> {
    let user = is_users(facts);
    let of = |unit: &str, number| Scope { unit: unit.into(), user, number };
    // Where there is no systemd there are none.
    let Ok(mut manager) = of("", None).manager() else { return Ok(()) };
    let Some((hierarchy, below)) = cgroupfs::hierarchy().zip(slice_path(usual_slice(user)).ok()) else {
        return Ok(());
    };
    let Ok(top) = manager.control_group() else { return Ok(()) };
    let slice = hierarchy.join(top).join(below);
    for entry in std::fs::read_dir(&slice).into_iter().flatten().flatten() {
        let (dir, unit) = (entry.path(), entry.file_name());
        let Some(unit) = unit.to_str().filter(|unit| is_of_pod(unit, pod)) else { continue };
        let scope = of(unit, cgroup::number(&dir));
        if scope.is_made() && cgroup::wait_empty(&dir, Duration::from_secs(1))? {
            scope.remove(&dir)?;
        }
    }
    Ok(())
}

/// Whether a unit's name is one that a pod of this name has.
fn is_of_pod(unit: &str, pod: &str) -> bool {
    let leaf = unit.strip_prefix("podlet-").and_then(|rest| rest.strip_suffix(".scope"));
    leaf.and_then(|leaf| leaf.rsplit_once('-')).is_some_and(|(name, id)| name == pod && id.len() == 8)
}

/// [`Resources::update_all`], of a scope's cgroups if there is one.
///
/// # Errors
/// As that; what systemd says. Nothing is changed then.
pub(crate) fn update_all(
    scope: Option<&Scope>,
    old: &Resources,
    change: &Resources,
    dirs: &[PathBuf],
) -> Result<Resources> {
    let root = cgroup::hierarchy_root();
    let Some((scope, dir)) = scope.zip(dirs.first()) else { return old.update_all(change, dirs, &root) };
    // What is refused without asking the kernel is refused before systemd acts.
    let (new, _) = old.changes(change, dirs)?;
    let before = scope.set(dir, old, &new)?;
    old.update_all(change, dirs, &root).inspect_err(|_| {
        // What went wrong first is what counts.
        scope.manager().and_then(|mut manager| Ok(manager.set_properties(&scope.unit, &before)?)).ok();
    })
}

/// Lowers limits of processes to what was asked for: a placeholder, for which there
/// was one more, is gone from these cgroups of the scope.
///
/// # Errors
/// As [`update_all`].
pub(crate) fn uncount(scope: &Scope, resources: &Resources, dirs: &[PathBuf]) -> Result<()> {
    let raised = resources.with_one_more();
    if raised == *resources {
        return Ok(());
    }
    update_all(Some(scope), &raised, &resources.of_pids(), dirs)?;
    // systemd has written all files of the scope's own cgroup anew, in its own units.
    dirs.first().map_or(Ok(()), |dir| cgroup::limit(dir, &resources.without_devices()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_where_its_number_is() {
        let (ours, others) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let of = |number| Scope { unit: "a.scope".into(), user: false, number };
        let made = of(cgroup::number(ours.path()));
        assert!(made.is_at(ours.path()) && !made.is_at(others.path()) && !made.is_at(&ours.path().join("gone")));
        assert!(!of(None).is_at(ours.path()), "who made what is there nobody has said");
        assert!(!of(None).is_at(&ours.path().join("gone")));
    }

    #[test]
    fn a_scope_is_of_the_pod_that_its_name_says() {
        assert!(is_of_pod("podlet-a-b-0123abcd.scope", "a-b"));
        for other in
            ["podlet-a-b-0123abcd.scope", "podlet-a-0123.scope", "podlet-a-0123abcd.slice", "podlet-oci-a.scope"]
        {
            assert!(!is_of_pod(other, "a"), "{other}");
        }
    }

    #[test]
    fn annotations_are_wishes_of_the_unit() {
        let wishes = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let limits = Resources { pids: Some(5), ..Resources::default() };
            wished(pairs.iter().map(|(key, value)| (key, value)), &limits)
        };
        let found = wishes(&[("org.systemd.property.TimeoutStopSec", "uint64 3"), ("other", "x")]).expect("read");
        assert_eq!(found, [Property::new("TimeoutStopUSec", Value::U64(3_000_000))]);
        let found = wishes(&[("org.systemd.property.MemoryHigh", "uint64 7")]).expect("no limit sets it");
        assert_eq!(found, [Property::new("MemoryHigh", Value::U64(7))]);
        for (key, value) in [
            ("org.systemd.property.PIDs", "[1]"),
            ("org.systemd.property.Slice", "'x.slice'"),
            ("org.systemd.property.CollectMode", "inactive"),
            ("org.systemd.property.", "true"),
            ("org.systemd.property.TasksMax", "uint64 7"),
        ] {
            let error = wishes(&[(key, value)]).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }
}
