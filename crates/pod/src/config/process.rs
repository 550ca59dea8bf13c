//! `process`: its user, its rights, how it runs.

use oci_spec::runtime::{IOPriorityClass, Process};
use serde_json::Value;

use super::paths::without_parents;
use super::types::Ignored;
use crate::error::{Error, Result};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::terminal::WindowSize;
use crate::spec::{
    CapabilitySets, ContainerSpec, CpuAffinity, IoClass, IoPriority, Rlimit, Scheduler, User, check_string,
    parse_capability,
};

/// What oci-spec's types take for an error and the specification, or runc and
/// crun, do not: taken out of the file, or added to it.
pub(super) struct TakenOut {
    capabilities: Value,
    scheduler: Value,
    processors: Value,
}

impl TakenOut {
    /// Capabilities are names, of which the specification wants the unknown
    /// ones told apart; of the scheduler's flags oci-spec 0.10 misspells some.
    ///
    /// Without `user.gid` and `ioPriority.priority` both peers take 0.
    pub(super) fn of(file: &mut Value) -> TakenOut {
        for (object, name) in [("user", "gid"), ("ioPriority", "priority")] {
            let object = file.get_mut("process").and_then(|process| process.get_mut(object));
            if let Some(value) =
                object.and_then(Value::as_object_mut).map(|object| object.entry(name).or_insert(0.into()))
                && value.is_null()
            {
                *value = 0.into();
            }
        }
        let mut take = |name: &str| match file.get_mut("process").and_then(|process| process.get_mut(name)) {
            Some(value) => value.take(),
            None => Value::Null,
        };
        TakenOut {
            capabilities: take("capabilities"),
            scheduler: take("scheduler"),
            processors: take("execCPUAffinity"),
        }
    }
}

/// Fills in what belongs to the process.
pub(super) fn read(
    container: &mut ContainerSpec,
    process: &Process,
    taken: &TakenOut,
    left_out: &mut Vec<Ignored>,
) -> Result<()> {
    container.process.args = process.args().clone().unwrap_or_default();
    container.process.env = process.env().clone().unwrap_or_default();
    container.process.cwd = without_parents(process.cwd());
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    container.process.user = User::Ids { uid: user.uid(), gid: user.gid(), groups };
    container.process.umask = user.umask().unwrap_or(0o022);
    container.process.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    container.process.capabilities = capabilities(&taken.capabilities, left_out)?;
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        if container.process.rlimits.iter().any(|other| other.name == name) {
            return Err(Error::invalid("process.rlimits", name, "stands there twice"));
        }
        container.process.rlimits.push(Rlimit { name, soft: limit.soft(), hard: limit.hard() });
    }
    container.process.oom_score_adj = process.oom_score_adj();
    container.process.scheduler = scheduler(&taken.scheduler)?;
    container.process.io_priority = match process.io_priority() {
        None => None,
        Some(io) => {
            let class = match io.class() {
                IOPriorityClass::IoprioClassRt => IoClass::Rt,
                IOPriorityClass::IoprioClassBe => IoClass::Be,
                IOPriorityClass::IoprioClassIdle => IoClass::Idle,
            };
            let priority = u8::try_from(io.priority()).map_err(|_| {
                Error::invalid("process.ioPriority.priority", io.priority().to_string(), "from 0, the first, to 7")
            })?;
            Some(IoPriority { class, priority })
        }
    };
    container.process.exec_cpu_affinity = affinity(&taken.processors)?;
    container.process.apparmor_profile = process.apparmor_profile().clone().filter(|profile| !profile.is_empty());
    Ok(())
}

fn affinity(value: &Value) -> Result<CpuAffinity> {
    if !matches!(value, Value::Null | Value::Object(_)) {
        return Err(Error::invalid("process.execCPUAffinity", value.to_string(), "must be an object"));
    }
    let list = |name: &str| match &value[name] {
        Value::Null => Ok(None),
        Value::String(list) => Ok(processors(list)),
        other => {
            let field = format!("process.execCPUAffinity.{name}");
            Err(Error::invalid(field, other.to_string(), "must be a list such as 0-3,7"))
        }
    };
    Ok(CpuAffinity { initial: list("initial")?, last: list("final")? })
}

/// A list of processors, in which runc takes blanks and empty elements; one of
/// nothing else is none.
fn processors(list: &str) -> Option<String> {
    let parts: Vec<_> = list.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

fn capabilities(value: &Value, left_out: &mut Vec<Ignored>) -> Result<CapabilitySets> {
    let mut set = |name: &str| -> Result<CapabilitySet> {
        let field = format!("process.capabilities.{name}");
        let mut set = CapabilitySet::EMPTY;
        for name in strings(&field, &value[name])? {
            match parse_capability(&name) {
                Ok(capability) if name.starts_with("CAP_") => set.insert(capability),
                _ if left_out.iter().any(|other| other.value == name) => {}
                _ => left_out.push(Ignored {
                    field: "process.capabilities".into(),
                    value: name,
                    reason: "not a capability of capabilities(7)",
                }),
            }
        }
        Ok(set)
    };
    if !matches!(value, Value::Null | Value::Object(_)) {
        return Err(Error::invalid("process.capabilities", value.to_string(), "must be an object"));
    }
    let mut sets = CapabilitySets {
        bounding: set("bounding")?,
        effective: set("effective")?,
        permitted: set("permitted")?,
        inheritable: set("inheritable")?,
        ambient: set("ambient")?,
    };
    let beyond = sets.ambient.difference(sets.inheritable.intersection(sets.permitted));
    sets.ambient = sets.ambient.difference(beyond);
    left_out.extend(beyond.iter().map(|capability| Ignored {
        field: "process.capabilities.ambient".into(),
        value: capability.to_string(),
        reason: "the kernel has it ambient only where it is inheritable and permitted, too",
    }));
    Ok(sets)
}

fn scheduler(value: &Value) -> Result<Option<Scheduler>> {
    let field = |name: &str| format!("process.scheduler.{name}");
    if value.is_null() {
        return Ok(None);
    }
    if !value.is_object() {
        return Err(Error::invalid("process.scheduler", value.to_string(), "must be an object"));
    }
    let signed = |name: &str| match &value[name] {
        Value::Null => Ok(0),
        number => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .ok_or_else(|| Error::invalid(field(name), number.to_string(), "must be a number of 32 bits")),
    };
    let unsigned = |name: &str| match &value[name] {
        Value::Null => Ok(0),
        number => number
            .as_u64()
            .ok_or_else(|| Error::invalid(field(name), number.to_string(), "nanoseconds, not below zero")),
    };
    let policy = value["policy"].as_str();
    let policy =
        policy.ok_or_else(|| Error::invalid(field("policy"), value["policy"].to_string(), "must be a string"))?;
    Ok(Some(Scheduler {
        policy: policy.into(),
        nice: signed("nice")?,
        priority: signed("priority")?,
        flags: strings(&field("flags"), &value["flags"])?,
        runtime: unsigned("runtime")?,
        deadline: unsigned("deadline")?,
        period: unsigned("period")?,
    }))
}

fn strings(field: &str, value: &Value) -> Result<Vec<String>> {
    let wrong = |value: &Value| Error::invalid(field, value.to_string(), "must be an array of strings");
    let string = |value: &Value| match value {
        Value::String(string) => check_string(field, string).map(|()| string.clone()),
        other => Err(wrong(other)),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(elements) => elements.iter().map(string).collect(),
        other => Err(wrong(other)),
    }
}

/// The size of the terminal. Without one the specification has it ignored.
pub(super) fn console_size(process: &Process) -> Result<Option<WindowSize>> {
    let terminal = process.terminal().unwrap_or(false);
    let Some(size) = process.console_size().filter(|_| terminal) else { return Ok(None) };
    let cells = |field: &str, cells: u64| {
        u16::try_from(cells).map_err(|_| Error::invalid(field, cells.to_string(), "at most 65535"))
    };
    let rows = cells("process.consoleSize.height", size.height())?;
    Ok(Some(WindowSize { rows, columns: cells("process.consoleSize.width", size.width())? }))
}
