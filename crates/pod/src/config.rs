//! From an OCI `config.json` to a [`Container`].
//!
//! The file is read as the runtime specification 1.3 has it, and every
//! property it sets is either on the list of those this library honours or
//! refused by its name: the list is walked, not the file. Properties that the
//! specification does not know are ignored, as it demands.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::resources::Resources;
use crate::spec::{
    CapabilitySets, Container, Mount, MountKind, Namespace, Place, Rlimit, Root, User, parse_capability,
};

/// The largest `config.json`, in bytes.
pub const MOST: u64 = 4 << 20;

/// What a config says of namespaces that belong to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHints {
    /// Namespaces it wants new ones of.
    pub share: BTreeSet<Namespace>,
    /// Host name.
    pub hostname: Option<String>,
}

/// Properties that are honoured. `[]` stands for the elements of an array,
/// `*` for everything below.
const HONOURED: [&str; 27] = [
    "ociVersion",
    "annotations.*",
    "hostname",
    "root.path",
    "root.readonly",
    "mounts[].destination",
    "mounts[].type",
    "mounts[].source",
    "mounts[].options[]",
    "process.terminal",
    "process.user.uid",
    "process.user.gid",
    "process.user.umask",
    "process.user.additionalGids[]",
    "process.args[]",
    "process.env[]",
    "process.cwd",
    "process.capabilities.*",
    "process.noNewPrivileges",
    "process.rlimits[].type",
    "process.rlimits[].hard",
    "process.rlimits[].soft",
    "linux.namespaces[].type",
    "linux.resources.*",
    "linux.maskedPaths[]",
    "linux.readonlyPaths[]",
    "linux.rootfsPropagation",
];

/// Reads `config.json` in the directory `bundle` as container `name`.
///
/// # Errors
/// [`Error::Invalid`] for what is malformed or not honoured, by its name.
pub fn read(name: &str, bundle: &Path) -> Result<(Container, PodHints)> {
    let path = bundle.join("config.json");
    let context = || format!("reading {}", path.display());
    let file = File::open(&path).doing(context)?;
    if !file.metadata().doing(context)?.is_file() {
        return Err(Error::invalid("bundle", path.display().to_string(), "not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).doing(context)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::invalid("bundle", path.display().to_string(), format!("larger than {MOST} bytes")));
    }
    parse(name, bundle, &bytes)
}

/// The same from bytes.
///
/// # Errors
/// As [`read`].
pub fn parse(name: &str, bundle: &Path, bytes: &[u8]) -> Result<(Container, PodHints)> {
    let malformed = |error: serde_json::Error| Error::invalid("config.json", "", error.to_string());
    let spec: Spec = serde_json::from_slice(bytes).map_err(malformed)?;
    // What the specification knows of it, and nothing else.
    let known = serde_json::to_value(&spec).map_err(malformed)?;
    refuse_unknown(&known, "")?;

    let version = spec.version();
    if !version.starts_with("1.") {
        return Err(Error::invalid("ociVersion", version, "this is runtime-spec 1.x"));
    }
    let missing = |field: &str| Error::invalid(field, "", "the specification requires it");
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    if root.path().as_os_str().is_empty() {
        return Err(missing("root.path"));
    }
    if process.terminal().unwrap_or(false) {
        return Err(Error::invalid("process.terminal", "true", "not honoured yet: set it to false"));
    }
    if let Some(propagation) = linux.rootfs_propagation()
        && !matches!(propagation.as_str(), "" | "private" | "rprivate")
    {
        let reason = "only private is honoured: nothing mounted inside comes out";
        return Err(Error::invalid("linux.rootfsPropagation", propagation, reason));
    }

    let mut container = Container::new(name, Root::Dir(normal(&bundle.join(root.path()))));
    container.read_only = root.readonly().unwrap_or(false);
    container.args = process.args().clone().unwrap_or_default();
    container.env = process.env().clone().unwrap_or_default();
    container.cwd = process.cwd().clone();
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    container.user = User::Ids { uid: user.uid(), gid: user.gid(), groups };
    container.umask = user.umask().unwrap_or(0o022);
    container.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    container.capabilities = capabilities(&known["process"]["capabilities"])?;
    container.rlimits = rlimits(&known["process"]["rlimits"]);
    if let Some(resources) = linux.resources() {
        container.resources = Resources::from_oci(resources)?;
    }
    let mounts = spec.mounts().iter().flatten().enumerate();
    container.mounts = mounts.map(|(i, mount)| read_mount(i, mount, bundle)).collect::<Result<_>>()?;
    let paths = |paths: &Option<Vec<String>>| paths.iter().flatten().map(PathBuf::from).collect();
    container.masked_paths = paths(linux.masked_paths());
    container.readonly_paths = paths(linux.readonly_paths());

    let listed: Vec<_> = linux.namespaces().iter().flatten().map(|namespace| namespace.typ()).collect();
    let share = place_namespaces(&mut container, &listed)?;
    container.hostname = spec.hostname().clone().filter(|name| !name.is_empty());
    let hints = PodHints { share, hostname: container.hostname.clone() };
    Ok((container, hints))
}

/// Refuses the first property that is set and not on the list.
fn refuse_unknown(value: &Value, path: &str) -> Result<()> {
    let below = |prefix: &str| HONOURED.iter().any(|known| known.strip_suffix('*') == Some(prefix));
    match value {
        Value::Null => Ok(()),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            if below(&prefix) { Ok(()) } else { refuse_unknown(value, &format!("{prefix}{name}")) }
        }),
        Value::Array(elements) => {
            let path = format!("{path}[]");
            elements.iter().try_for_each(|element| refuse_unknown(element, &path))
        }
        _ if HONOURED.contains(&path) => Ok(()),
        value => {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            Err(Error::invalid(path, shown, "this property is not honoured yet: remove it"))
        }
    }
}

/// Of the namespaces a config lists it wants new ones; of the others the
/// machine's, where a container of a pod may have those.
fn place_namespaces(container: &mut Container, listed: &[LinuxNamespaceType]) -> Result<BTreeSet<Namespace>> {
    let field = "linux.namespaces";
    for (i, kind) in listed.iter().enumerate() {
        if listed[..i].contains(kind) {
            return Err(Error::invalid(field, kind.to_string(), "listed twice"));
        }
    }
    for kind in [LinuxNamespaceType::User, LinuxNamespaceType::Time] {
        if listed.contains(&kind) {
            let reason = "belongs to the pod: take it off the list and use --share";
            return Err(Error::invalid(field, kind.to_string(), reason));
        }
    }
    for kind in [LinuxNamespaceType::Mount, LinuxNamespaceType::Pid, LinuxNamespaceType::Uts] {
        if !listed.contains(&kind) {
            let reason = "missing, which asks for the machine's own; a container of a pod cannot have that: add it";
            return Err(Error::invalid(field, kind.to_string(), reason));
        }
    }
    let place = |kind| if listed.contains(&kind) { Place::Pod } else { Place::Host };
    container.net = place(LinuxNamespaceType::Network);
    container.ipc = place(LinuxNamespaceType::Ipc);
    container.cgroup = place(LinuxNamespaceType::Cgroup);
    let shared = [
        (LinuxNamespaceType::Network, Namespace::Net),
        (LinuxNamespaceType::Ipc, Namespace::Ipc),
        (LinuxNamespaceType::Pid, Namespace::Pid),
        (LinuxNamespaceType::Uts, Namespace::Uts),
    ];
    Ok(shared.into_iter().filter(|(kind, _)| listed.contains(kind)).map(|(_, namespace)| namespace).collect())
}

fn capabilities(value: &Value) -> Result<CapabilitySets> {
    let set = |name: &str| -> Result<u64> {
        let names = value[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| Ok(parse_capability(name)?.bitmask())).try_fold(0, |set, bit: Result<u64>| Ok(set | bit?))
    };
    Ok(CapabilitySets {
        bounding: set("bounding")?,
        effective: set("effective")?,
        permitted: set("permitted")?,
        inheritable: set("inheritable")?,
        ambient: set("ambient")?,
    })
}

fn rlimits(value: &Value) -> Vec<Rlimit> {
    let limit = |value: &Value| {
        let number = |field: &str| value[field].as_u64();
        Some(Rlimit { name: value["type"].as_str()?.into(), soft: number("soft")?, hard: number("hard")? })
    };
    value.as_array().into_iter().flatten().filter_map(limit).collect()
}

fn read_mount(index: usize, mount: &oci_spec::runtime::Mount, bundle: &Path) -> Result<Mount> {
    let field = format!("mounts[{index}].options");
    let no_options = Vec::new();
    let options = mount.options().as_ref().unwrap_or(&no_options);
    let has = |name: &str| options.iter().any(|option| option == name);
    let (mut flags, mut data) = (0, Vec::new());
    for option in options {
        match option.as_str() {
            "bind" | "rbind" | "private" | "rprivate" | "defaults" => {}
            "rw" => flags &= !libc::MS_RDONLY,
            "suid" => flags &= !libc::MS_NOSUID,
            "dev" => flags &= !libc::MS_NODEV,
            "exec" => flags &= !libc::MS_NOEXEC,
            "ro" => flags |= libc::MS_RDONLY,
            "nosuid" => flags |= libc::MS_NOSUID,
            "nodev" => flags |= libc::MS_NODEV,
            "noexec" => flags |= libc::MS_NOEXEC,
            "noatime" => flags |= libc::MS_NOATIME,
            "nodiratime" => flags |= libc::MS_NODIRATIME,
            "relatime" => flags |= libc::MS_RELATIME,
            "strictatime" => flags |= libc::MS_STRICTATIME,
            other => data.push(other),
        }
    }
    let bind = has("bind") || has("rbind") || mount.typ().as_deref() == Some("bind");
    let kind = match mount.typ().as_deref() {
        _ if bind => {
            let source = mount.source().as_ref();
            let source =
                source.ok_or_else(|| Error::invalid(format!("mounts[{index}].source"), "", "a bind needs it"))?;
            MountKind::Bind { source: normal(&bundle.join(source)), recursive: has("rbind") }
        }
        Some("proc") => MountKind::Proc,
        Some("sysfs") => MountKind::Sysfs,
        Some("mqueue") => MountKind::Mqueue,
        Some("tmpfs") => MountKind::Tmpfs,
        Some("devpts") => MountKind::Devpts,
        Some("cgroup" | "cgroup2") => MountKind::Cgroup,
        other => {
            let reason = "not honoured: bind, proc, sysfs, mqueue, tmpfs, devpts and cgroup are";
            return Err(Error::invalid(format!("mounts[{index}].type"), other.unwrap_or_default(), reason));
        }
    };
    let takes_data = matches!(kind, MountKind::Tmpfs | MountKind::Devpts);
    let known = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        takes_data
            && ["mode", "size", "uid", "gid", "nr_inodes", "nr_blocks", "newinstance", "ptmxmode"].contains(&name)
    };
    if let Some(other) = data.iter().find(|option| !known(option)) {
        return Err(Error::invalid(field, *other, "this option is not honoured for this kind of mount"));
    }
    Ok(Mount { target: mount.destination().clone(), kind, flags, recursive_flags: 0, data: data.join(",") })
}

/// Without `.` and empty parts; symbolic links are left to the kernel.
fn normal(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
