//! Every property of runtime-spec 1.3 for Linux, and what becomes of it.
//!
//! The file is walked for what is refused by name; and if it has something
//! that is not listed, what oci-spec's types kept of it, so that nothing which
//! those know can be missing here. What neither knows is not of the
//! specification, and is ignored, as it demands.

use std::cell::Cell;

use Answer::{Beyond, Honoured, Refused};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::resources::{ALWAYS_COUNTED, ALWAYS_KILLED, GONE, ONLY_V1, REALTIME};

/// What becomes of a property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done, or the config is refused with a reason of its own.
    Honoured,
    /// Nothing is started, for this reason.
    Refused(&'static str),
    /// Nothing is started, for this reason, unless its value asks for what is there
    /// anyway.
    Beyond(&'static str),
}

const OTHER_PLATFORM: Answer = Refused("this config is for another platform; podlet runs Linux containers");
const NO_SELINUX: Answer = Refused("SELinux labels are not honoured: remove it, or use a runtime with SELinux support");
const NO_RDT: Answer = Refused("resctrl groups are not honoured: remove it, and put the process into one yourself");

/// The properties. `[]` stands for the elements of an array, `*` for
/// everything below.
pub const PROPERTIES: &[(&str, Answer)] = &[
    ("ociVersion", Honoured),
    ("annotations.*", Honoured),
    ("hostname", Honoured),
    ("domainname", Honoured),
    ("root.path", Honoured),
    ("root.readonly", Honoured),
    ("mounts[].destination", Honoured),
    ("mounts[].type", Honoured),
    ("mounts[].source", Honoured),
    ("mounts[].options[]", Honoured),
    ("mounts[].uidMappings[].containerID", Honoured),
    ("mounts[].uidMappings[].hostID", Honoured),
    ("mounts[].uidMappings[].size", Honoured),
    ("mounts[].gidMappings[].containerID", Honoured),
    ("mounts[].gidMappings[].hostID", Honoured),
    ("mounts[].gidMappings[].size", Honoured),
    ("process.terminal", Honoured),
    ("process.consoleSize.height", Honoured),
    ("process.consoleSize.width", Honoured),
    ("process.user.uid", Honoured),
    ("process.user.gid", Honoured),
    ("process.user.umask", Honoured),
    ("process.user.additionalGids[]", Honoured),
    ("process.user.username", OTHER_PLATFORM),
    ("process.args[]", Honoured),
    ("process.commandLine", OTHER_PLATFORM),
    ("process.env[]", Honoured),
    ("process.cwd", Honoured),
    ("process.capabilities.bounding[]", Honoured),
    ("process.capabilities.effective[]", Honoured),
    ("process.capabilities.permitted[]", Honoured),
    ("process.capabilities.inheritable[]", Honoured),
    ("process.capabilities.ambient[]", Honoured),
    ("process.noNewPrivileges", Honoured),
    ("process.rlimits[].type", Honoured),
    ("process.rlimits[].hard", Honoured),
    ("process.rlimits[].soft", Honoured),
    ("process.oomScoreAdj", Honoured),
    ("process.scheduler.policy", Honoured),
    ("process.scheduler.nice", Honoured),
    ("process.scheduler.priority", Honoured),
    ("process.scheduler.flags[]", Honoured),
    ("process.scheduler.runtime", Honoured),
    ("process.scheduler.deadline", Honoured),
    ("process.scheduler.period", Honoured),
    ("process.ioPriority.class", Honoured),
    ("process.ioPriority.priority", Honoured),
    ("process.execCPUAffinity.initial", Honoured),
    ("process.execCPUAffinity.final", Honoured),
    ("process.apparmorProfile", Honoured),
    ("process.selinuxLabel", NO_SELINUX),
    ("hooks.prestart[].path", Honoured),
    ("hooks.prestart[].args[]", Honoured),
    ("hooks.prestart[].env[]", Honoured),
    ("hooks.prestart[].timeout", Honoured),
    ("hooks.createRuntime[].path", Honoured),
    ("hooks.createRuntime[].args[]", Honoured),
    ("hooks.createRuntime[].env[]", Honoured),
    ("hooks.createRuntime[].timeout", Honoured),
    ("hooks.createContainer[].path", Honoured),
    ("hooks.createContainer[].args[]", Honoured),
    ("hooks.createContainer[].env[]", Honoured),
    ("hooks.createContainer[].timeout", Honoured),
    ("hooks.startContainer[].path", Honoured),
    ("hooks.startContainer[].args[]", Honoured),
    ("hooks.startContainer[].env[]", Honoured),
    ("hooks.startContainer[].timeout", Honoured),
    ("hooks.poststart[].path", Honoured),
    ("hooks.poststart[].args[]", Honoured),
    ("hooks.poststart[].env[]", Honoured),
    ("hooks.poststart[].timeout", Honoured),
    ("hooks.poststop[].path", Honoured),
    ("hooks.poststop[].args[]", Honoured),
    ("hooks.poststop[].env[]", Honoured),
    ("hooks.poststop[].timeout", Honoured),
    ("linux.namespaces[].type", Honoured),
    ("linux.namespaces[].path", Honoured),
    ("linux.uidMappings[].containerID", Honoured),
    ("linux.uidMappings[].hostID", Honoured),
    ("linux.uidMappings[].size", Honoured),
    ("linux.gidMappings[].containerID", Honoured),
    ("linux.gidMappings[].hostID", Honoured),
    ("linux.gidMappings[].size", Honoured),
    ("linux.timeOffsets.*", Honoured),
    ("linux.devices[].path", Honoured),
    ("linux.devices[].type", Honoured),
    ("linux.devices[].major", Honoured),
    ("linux.devices[].minor", Honoured),
    ("linux.devices[].fileMode", Honoured),
    ("linux.devices[].uid", Honoured),
    ("linux.devices[].gid", Honoured),
    ("linux.netDevices.*", Honoured),
    ("linux.cgroupsPath", Honoured),
    ("linux.sysctl.*", Honoured),
    ("linux.rootfsPropagation", Honoured),
    ("linux.maskedPaths[]", Honoured),
    ("linux.readonlyPaths[]", Honoured),
    ("linux.mountLabel", NO_SELINUX),
    ("linux.personality.domain", Honoured),
    ("linux.personality.flags[]", Refused("the specification knows none: leave it empty")),
    ("linux.memoryPolicy.mode", Honoured),
    ("linux.memoryPolicy.nodes", Honoured),
    ("linux.memoryPolicy.flags[]", Honoured),
    ("linux.intelRdt.*", NO_RDT),
    ("linux.resources.devices[].allow", Honoured),
    ("linux.resources.devices[].type", Honoured),
    ("linux.resources.devices[].major", Honoured),
    ("linux.resources.devices[].minor", Honoured),
    ("linux.resources.devices[].access", Honoured),
    ("linux.resources.memory.limit", Honoured),
    ("linux.resources.memory.reservation", Honoured),
    ("linux.resources.memory.swap", Honoured),
    ("linux.resources.memory.kernel", Beyond(GONE)),
    ("linux.resources.memory.kernelTCP", Beyond(GONE)),
    ("linux.resources.memory.swappiness", Refused(ONLY_V1)),
    ("linux.resources.memory.disableOOMKiller", Beyond(ALWAYS_KILLED)),
    ("linux.resources.memory.useHierarchy", Beyond(ALWAYS_COUNTED)),
    ("linux.resources.memory.checkBeforeUpdate", Honoured),
    ("linux.resources.cpu.shares", Honoured),
    ("linux.resources.cpu.quota", Honoured),
    ("linux.resources.cpu.burst", Honoured),
    ("linux.resources.cpu.period", Honoured),
    ("linux.resources.cpu.realtimeRuntime", Beyond(REALTIME)),
    ("linux.resources.cpu.realtimePeriod", Beyond(REALTIME)),
    ("linux.resources.cpu.cpus", Honoured),
    ("linux.resources.cpu.mems", Honoured),
    ("linux.resources.cpu.idle", Honoured),
    ("linux.resources.pids.limit", Honoured),
    ("linux.resources.blockIO.weight", Honoured),
    ("linux.resources.blockIO.leafWeight", Beyond(ONLY_V1)),
    ("linux.resources.blockIO.weightDevice[].*", Honoured),
    ("linux.resources.blockIO.throttleReadBpsDevice[].*", Honoured),
    ("linux.resources.blockIO.throttleWriteBpsDevice[].*", Honoured),
    ("linux.resources.blockIO.throttleReadIOPSDevice[].*", Honoured),
    ("linux.resources.blockIO.throttleWriteIOPSDevice[].*", Honoured),
    ("linux.resources.hugepageLimits[].pageSize", Honoured),
    ("linux.resources.hugepageLimits[].limit", Honoured),
    ("linux.resources.network.classID", Beyond(ONLY_V1)),
    ("linux.resources.network.priorities[].*", Beyond(ONLY_V1)),
    ("linux.resources.rdma.*", Honoured),
    ("linux.resources.unified.*", Honoured),
    ("linux.seccomp.defaultAction", Honoured),
    ("linux.seccomp.defaultErrnoRet", Honoured),
    ("linux.seccomp.architectures[]", Honoured),
    ("linux.seccomp.flags[]", Honoured),
    ("linux.seccomp.listenerPath", Honoured),
    ("linux.seccomp.listenerMetadata", Honoured),
    ("linux.seccomp.syscalls[].names[]", Honoured),
    ("linux.seccomp.syscalls[].action", Honoured),
    ("linux.seccomp.syscalls[].errnoRet", Honoured),
    ("linux.seccomp.syscalls[].args[].index", Honoured),
    ("linux.seccomp.syscalls[].args[].value", Honoured),
    ("linux.seccomp.syscalls[].args[].valueTwo", Honoured),
    ("linux.seccomp.syscalls[].args[].op", Honoured),
    ("windows.*", OTHER_PLATFORM),
    ("solaris.*", OTHER_PLATFORM),
    ("freebsd.*", OTHER_PLATFORM),
    ("zos.*", OTHER_PLATFORM),
    ("vm.*", OTHER_PLATFORM),
];

/// What must stand there if the object before the last `.` does. What runc
/// and crun do without is not among them.
const REQUIRED: &[&str] = &[
    "ociVersion",
    "root",
    "root.path",
    "process.cwd",
    "process.args",
    "process.user",
    "process.user.uid",
    "process.consoleSize.height",
    "process.consoleSize.width",
    "process.rlimits[].type",
    "process.rlimits[].soft",
    "process.rlimits[].hard",
    "process.scheduler.policy",
    "process.ioPriority.class",
    "mounts[].destination",
    "hooks.prestart[].path",
    "hooks.createRuntime[].path",
    "hooks.createContainer[].path",
    "hooks.startContainer[].path",
    "hooks.poststart[].path",
    "hooks.poststop[].path",
    "linux.namespaces[].type",
    "linux.uidMappings[].containerID",
    "linux.uidMappings[].hostID",
    "linux.uidMappings[].size",
    "linux.gidMappings[].containerID",
    "linux.gidMappings[].hostID",
    "linux.gidMappings[].size",
    "linux.devices[].path",
    "linux.devices[].type",
    "linux.personality.domain",
    "linux.memoryPolicy.mode",
    "linux.resources.devices[].allow",
    "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls[].names",
    "linux.seccomp.syscalls[].action",
    "linux.seccomp.syscalls[].args[].index",
    "linux.seccomp.syscalls[].args[].value",
    "linux.seccomp.syscalls[].args[].op",
];

/// Refuses what the list refuses, and what the specification requires and is
/// not there. Whether all that is there is listed.
pub(super) fn check_file(file: &Value) -> Result<bool> {
    let all_listed = Cell::new(true);
    Walk::default().down(file, &|path, answer, value| match answer {
        // As good as none.
        Some(Refused(_)) if value == "" => Ok(()),
        Some(Refused(reason)) => Err(Error::invalid(path, show(value), reason)),
        Some(Honoured | Beyond(_)) => Ok(()),
        None => {
            all_listed.set(false);
            Ok(())
        }
    })?;
    REQUIRED.iter().try_for_each(|path| require(file, path, path))?;
    Ok(all_listed.get())
}

/// Refuses what oci-spec's types know and the list does not.
pub(super) fn check_known(known: &Value) -> Result<()> {
    Walk::default().down(known, &|path, answer, value| match answer {
        Some(_) => Ok(()),
        None if value.is_object() => Ok(()),
        None => Err(Error::invalid(path, show(value), "this property is not honoured: remove it")),
    })
}

/// What becomes of the property at `path`, if the specification knows it.
fn answer(path: &str) -> Option<Answer> {
    let fits = |known: &str| match known.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == known,
    };
    PROPERTIES.iter().find(|(known, _)| fits(known)).map(|(_, answer)| *answer)
}

/// A walk over every value that has nothing below it.
#[derive(Default)]
struct Walk {
    /// Where it is.
    path: String,
    /// Where it was, and what becomes of that: elements of an array stand at
    /// one path, and a profile names hundreds of system calls.
    latest: (String, Option<Answer>),
}

impl Walk {
    fn down(&mut self, value: &Value, at: &impl Fn(&str, Option<Answer>, &Value) -> Result<()>) -> Result<()> {
        let here = self.path.len();
        let mut below = |parts: [&str; 2], value| {
            self.path.extend(parts);
            let result = self.down(value, at);
            self.path.truncate(here);
            result
        };
        match value {
            Value::Null => Ok(()),
            Value::Object(fields) if !fields.is_empty() => {
                let dot = if here == 0 { "" } else { "." };
                fields.iter().try_for_each(|(name, value)| below([dot, name], value))
            }
            Value::Array(elements) => elements.iter().try_for_each(|element| below(["[]", ""], element)),
            // An empty object's name alone may say something: `"netDevices": {"eth0": {}}`.
            value => {
                if self.latest.0 != self.path {
                    self.latest = (self.path.clone(), answer(&self.path));
                }
                at(&self.path, self.latest.1, value)
            }
        }
    }
}

fn require(value: &Value, path: &str, whole: &str) -> Result<()> {
    let Some((first, rest)) = path.split_once('.') else {
        return match value {
            Value::Object(fields) if fields.get(path).is_none_or(Value::is_null) => {
                Err(Error::invalid(whole, "", "the specification requires it"))
            }
            _ => Ok(()),
        };
    };
    match first.strip_suffix("[]") {
        Some(array) => {
            value[array].as_array().into_iter().flatten().try_for_each(|element| require(element, rest, whole))
        }
        None => require(&value[first], rest, whole),
    }
}

fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
