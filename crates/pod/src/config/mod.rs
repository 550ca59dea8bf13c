//! From an OCI `config.json` to a [`Config`], and from that to a [`ContainerSpec`]
//! of a pod.
//!
//! The file is read as the runtime specification 1.3 has it. Every property it
//! sets is on the list of those that are honoured or refused by its name: see
//! [`PROPERTIES`] and `docs/oci.md`. Properties that the specification does
//! not know are ignored, as it demands. What is in a [`Config`] has passed the
//! specification's own rules; whether this machine and this caller can give it
//! is found out when it is planned.

mod hooks;
mod linux;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod properties;
mod strict;
mod types;

pub use properties::{Answer, PROPERTIES};
pub use types::{Hook, Hooks, Ignored, NamespaceEntry, NamespaceKind};

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};
use serde::de::Deserialize;
use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::kernel::files;
use crate::kernel::idmap::IdMap;
use crate::kernel::namespace::Namespace;
use crate::kernel::terminal::WindowSize;
use crate::spec::{ContainerSpec, Propagation, Root, TimeOffsets, check_path, check_string, propagation};
use paths::{normal, without_parents};
use strict::Strict;

/// The largest `config.json`, in bytes.
pub const MOST: u64 = 4 << 20;

/// A config.json, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// It says what to run. Without that it can be created and not be started.
    pub has_process: bool,
    /// Everything that is the container's own. Its namespaces are the pod's until
    /// [`Config::for_pod`].
    pub container: ContainerSpec,
    /// `ociVersion`: 1.x.
    pub version: String,
    /// As listed, each kind at most once.
    pub namespaces: Vec<NamespaceEntry>,
    /// User ids of a new or joined user namespace; not empty for a new one.
    pub uid_maps: Vec<IdMap>,
    /// Group ids, likewise.
    pub gid_maps: Vec<IdMap>,
    /// Of a new time namespace.
    pub time_offsets: TimeOffsets,
    /// All six lists.
    pub hooks: Hooks,
    /// `process.terminal`.
    pub terminal: bool,
    /// `process.consoleSize`; only with `terminal`.
    pub console_size: Option<WindowSize>,
    /// As given: absolute, or relative to a cgroup of the runtime's choice.
    pub cgroups_path: Option<PathBuf>,
    /// Only with a uts namespace.
    pub hostname: Option<String>,
    /// Only with a uts namespace.
    pub domainname: Option<String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
    /// The directory of the file.
    pub bundle: PathBuf,
    /// What the specification wants a container started without, and a warning
    /// of it: capabilities that do not exist, options that a bind cannot have.
    pub left_out: Vec<Ignored>,
}

/// What a config says of namespaces that belong to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodHints {
    /// Namespaces it wants new ones of.
    pub share: BTreeSet<Namespace>,
    /// User ids, with [`Namespace::User`].
    pub uid_maps: Vec<IdMap>,
    /// Group ids, with [`Namespace::User`].
    pub gid_maps: Vec<IdMap>,
    /// With [`Namespace::Time`].
    pub time_offsets: TimeOffsets,
}

impl PodHints {
    /// The first property that a pod must have been made with.
    pub fn beyond_a_pod(&self) -> Option<&'static str> {
        let wants = |namespace| self.share.contains(&namespace);
        (wants(Namespace::User).then_some("linux.namespaces user"))
            .or_else(|| wants(Namespace::Time).then_some("linux.namespaces time"))
    }
}

/// Reads `config.json` in the directory `bundle` as container `name`.
///
/// # Errors
/// [`Error::Invalid`] for what is malformed or not honoured, by its name.
pub fn read(name: &str, bundle: &Path) -> Result<Config> {
    let path = bundle.join("config.json");
    let context = || format!("reading {}", path.display());
    let found = files::look(&path).doing(context)?;
    let (file, meta) = files::open_found(found).map_err(|refused| refused.explain("bundle", &path, context))?;
    parse(name, bundle, &files::read_most(file, meta.len(), "bundle", &path, MOST)?)
}

/// Reads a file that the caller names by `option`: a plain file or a pipe, of at
/// most [`MOST`] bytes. Nothing else is opened.
///
/// # Errors
/// [`Error::Invalid`] for anything else.
pub fn read_given(option: &str, path: &Path) -> Result<Vec<u8>> {
    files::read_given(option, path, MOST)
}

/// Reads a config from the bytes of its file, for the container `name` of the
/// bundle at `bundle`.
///
/// # Errors
/// As [`read`].
pub fn parse(name: &str, bundle: &Path, bytes: &[u8]) -> Result<Config> {
    let Strict(mut file) = serde_json::from_slice(bytes).map_err(malformed)?;
    if !file.is_object() {
        return Err(Error::invalid("config.json", "", "not a JSON object"));
    }
    let all_listed = properties::check_file(&file)?;
    let taken = process::TakenOut::of(&mut file);
    let spec = Spec::deserialize(&file).map_err(|error| wrong_type(&file, error))?;
    if !all_listed {
        properties::check_known(&serde_json::to_value(&spec).map_err(malformed)?)?;
    }
    check_version(spec.version())?;
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    // What the reading crate has for these two if they are missing is an
    // example with everything in it.
    let nobody = || serde_json::json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/"] });
    let process = or_else(spec.process(), nobody)?;
    let linux = or_else(spec.linux(), || serde_json::json!({}))?;

    let mut left_out = Vec::new();
    let mut container = read_root(name, bundle, root, &process, &linux)?;
    process::read(&mut container, &process, &taken, &mut left_out)?;
    let mounts = spec.mounts().iter().flatten().enumerate();
    container.mounts = mounts.map(|(i, mount)| mounts::read(i, mount, bundle, &mut left_out)).collect::<Result<_>>()?;
    linux::read(&mut container, &linux, &file["linux"])?;
    let namespaces = namespaces::entries(&linux)?;
    namespaces::check_own(&container, &namespaces)?;
    let (hostname, domainname) = namespaces::names(&spec, &container, &namespaces)?;
    (container.hostname, container.domainname) = (hostname.clone(), domainname.clone());
    let uid_maps = namespaces::id_maps("linux.uidMappings", linux.uid_mappings(), &namespaces)?;
    let gid_maps = namespaces::id_maps("linux.gidMappings", linux.gid_mappings(), &namespaces)?;
    let console_size = process::console_size(&process)?;
    let cgroups_path = linux.cgroups_path().clone().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &cgroups_path {
        check_string("linux.cgroupsPath", &path.to_string_lossy())?;
    }
    Ok(Config {
        time_offsets: namespaces::time_offsets(&linux, &namespaces)?,
        has_process: spec.process().is_some(),
        container,
        version: spec.version().clone(),
        namespaces,
        uid_maps,
        gid_maps,
        hooks: hooks::read(spec.hooks().as_ref())?,
        terminal: process.terminal().unwrap_or(false),
        console_size,
        cgroups_path,
        hostname,
        domainname,
        annotations: spec.annotations().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect(),
        bundle: normal(bundle),
        left_out,
    })
}

fn malformed(error: serde_json::Error) -> Error {
    Error::malformed("config.json", error)
}

fn missing(field: &str) -> Error {
    Error::invalid(field, "", "the specification requires it")
}

/// A part of the file, or what stands for it if it is missing.
fn or_else<T: Clone + for<'de> Deserialize<'de>>(part: &Option<T>, other: impl Fn() -> Value) -> Result<Cow<'_, T>> {
    match part {
        Some(part) => Ok(Cow::Borrowed(part)),
        None => T::deserialize(other()).map(Cow::Owned).map_err(malformed),
    }
}

/// A container in the root that the file says.
fn read_root(
    name: &str,
    bundle: &Path,
    root: &oci_spec::runtime::Root,
    process: &Process,
    linux: &Linux,
) -> Result<ContainerSpec> {
    if root.path().as_os_str().is_empty() {
        return Err(missing("root.path"));
    }
    check_string("root.path", &root.path().to_string_lossy())?;
    check_path("process.cwd", &without_parents(process.cwd()))?;
    let mut container = ContainerSpec::new(name, Root::Dir(normal(&bundle.join(root.path()))));
    container.read_only = root.readonly().unwrap_or(false);
    container.root_propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => Propagation::UNSET,
        Some(name) => propagation(name).ok_or_else(|| {
            let reason = "one of private, slave, shared, unbindable, or these with an r in front";
            Error::invalid("linux.rootfsPropagation", name, reason)
        })?,
    };
    Ok(container)
}

/// What is wrong with a file, with the name of the property: it is read once
/// more for that.
fn wrong_type(file: &Value, error: serde_json::Error) -> Error {
    let mut track = serde_path_to_error::Track::new();
    let again = Spec::deserialize(serde_path_to_error::Deserializer::new(file, &mut track));
    let error = again.err().unwrap_or(error);
    match track.path().to_string() {
        path if path == "." => Error::malformed("config.json", error),
        path => Error::malformed(path, error),
    }
}

/// A `process.json`: what a config has under `process`, for another process in
/// `container`, from which everything else is taken.
///
/// # Errors
/// As [`parse`].
pub fn read_process(container: &ContainerSpec, bytes: &[u8]) -> Result<Config> {
    let malformed = |error: serde_json::Error| Error::malformed("process.json", error);
    // Looked at alone, so that it cannot say more than a process.
    let Strict(mut process) = serde_json::from_slice(bytes).map_err(malformed)?;
    // As runc has it: the specification says nothing of such a file.
    if let Some(process) = process.as_object_mut() {
        process.entry("user").or_insert_with(|| serde_json::json!({ "uid": 0, "gid": 0 }));
    }
    let whole = serde_json::json!({ "ociVersion": "1.0.0", "root": { "path": "rootfs" }, "process": process });
    let bytes = serde_json::to_vec(&whole).map_err(malformed)?;
    let mut config = parse(&container.name, Path::new("/"), &bytes)?;
    config.container = ContainerSpec { process: config.container.process, ..container.clone() };
    Ok(config)
}

impl Config {
    /// Refuses a config without `process`, which cannot be started.
    pub(crate) fn needs_process(&self) -> Result<()> {
        match self.has_process {
            true => Ok(()),
            false => Err(Error::invalid("process", "", "needed: it says what to run")),
        }
    }

    /// For a container of a pod: what belongs to the pod becomes hints. Host
    /// name and kernel parameters stay with the container until
    /// [`PodOptions::adopt`](crate::PodOptions::adopt).
    ///
    /// # Errors
    /// [`Error::Invalid`] for what a container of a pod cannot have.
    pub fn for_pod(mut self) -> Result<(ContainerSpec, PodHints)> {
        self.needs_process()?;
        if let Some(Ignored { field, value, reason }) = self.left_out.first() {
            return Err(Error::invalid(field, value, *reason));
        }
        if self.terminal {
            let reason = "in a pod who starts a container gives it a terminal (`podlet run -t`), not its config: say so, set it to false, or use podlet-oci";
            return Err(Error::invalid("process.terminal", "true", reason));
        }
        if let Some((list, _)) = self.hooks.lists().into_iter().find(|(_, hooks)| !hooks.is_empty()) {
            let reason = "hooks are for podlet-oci: remove it, or use that";
            return Err(Error::invalid(format!("hooks.{list}"), "", reason));
        }
        if let Some(path) = &self.cgroups_path {
            let reason = "a container's cgroup is in its pod's: remove it, or use podlet-oci";
            return Err(Error::invalid("linux.cgroupsPath", path.to_string_lossy(), reason));
        }
        let share = self.place_namespaces()?;
        let Config { mut container, annotations, uid_maps, gid_maps, time_offsets, .. } = self;
        container.annotations = annotations;
        Ok((container, PodHints { share, uid_maps, gid_maps, time_offsets }))
    }
}

/// SemVer 2.0.0, major version 1.
fn check_version(version: &str) -> Result<()> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').collect();
    let number = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (*part == "0" || !part.starts_with('0'))
    };
    let rest = &version[core.len()..];
    let good_rest = rest.len() != 1 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b));
    if numbers.len() != 3 || !numbers.iter().all(number) || !good_rest {
        return Err(Error::invalid("ociVersion", version, "a semantic version such as 1.3.0"));
    }
    if numbers[0] != "1" {
        return Err(Error::invalid("ociVersion", version, "this is runtime-spec 1.x"));
    }
    Ok(())
}
