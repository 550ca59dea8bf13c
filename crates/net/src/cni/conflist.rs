//! A network's configuration: its name and the plugins, in their order.
//!
//! What is here has been checked: a version that is spoken, names that plugins
//! take, a `type` in each plugin's configuration. Everything else in it is the
//! plugin's own affair and stays as it was written.

use pod::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::{Name, check_name};
use super::version::Version;

/// A list of plugins that make a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflist {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<Map<String, Value>>,
}

impl Conflist {
    /// A list, or the configuration of a single plugin, from its JSON text.
    ///
    /// A list which says no plugins of its own must get them from a folder beside
    /// it ([`Conflist::load`]), so there is none in a text alone.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no JSON, or what the specification (section 1) does not
    /// allow; it names the property.
    pub fn parse(json: &[u8]) -> Result<Conflist> {
        Conflist::parse_with(json, |_| Ok(Vec::new()))
    }

    /// The same, with the plugins that are found by the network's name, unless the
    /// list has `loadOnlyInlinedPlugins`.
    pub(crate) fn parse_with(
        json: &[u8],
        others: impl FnOnce(&str) -> Result<Vec<Map<String, Value>>>,
    ) -> Result<Conflist> {
        let value: Value = serde_json::from_slice(json).map_err(no_json)?;
        let Value::Object(mut list) = value else {
            return Err(Error::invalid("CNI configuration", "", "is no JSON object"));
        };
        let name = text(&list, "name")?.unwrap_or_default();
        check_name(Name::Network, &name)?;
        let version = version(&list)?;
        if list.contains_key("type") && !list.contains_key("plugins") {
            check_plugin(&list)?;
            return Ok(Conflist { name, version, disable_check: false, disable_gc: false, plugins: vec![list] });
        }
        let disable_check = flag(&list, "disableCheck")?;
        let disable_gc = flag(&list, "disableGC")?;
        let mut plugins = inlined(list.remove("plugins"))?;
        if !flag(&list, "loadOnlyInlinedPlugins")? {
            plugins.extend(others(&name)?);
        }
        if plugins.is_empty() {
            return Err(Error::invalid(
                "plugins",
                "",
                format!(
                    "network {name:?} has none: list them in `plugins`, or put one file NAME.conf each into a folder \
                     {name}/ beside the list"
                ),
            ));
        }
        Ok(Conflist { name, version, disable_check, disable_gc, plugins })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that is spoken with its plugins.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The plugins' types, which are the names of the programs, in the order of ADD.
    pub fn plugin_types(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(plugin_type)
    }

    /// The plugins' own configurations, in the order of ADD.
    pub(crate) fn plugins(&self) -> &[Map<String, Value>] {
        &self.plugins
    }

    /// Whether a plugin declares a capability, such as `portMappings`.
    pub fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| declares(plugin, capability))
    }
}

/// A plugin's type; a configuration without one was refused.
pub(crate) fn plugin_type(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Whether `capabilities` has it, and as true.
pub(crate) fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
}

/// A single plugin's configuration, as the folder beside a list has them.
pub(crate) fn plugin(json: &[u8]) -> Result<Map<String, Value>> {
    let plugin: Map<String, Value> = serde_json::from_slice(json).map_err(no_json)?;
    check_plugin(&plugin)?;
    Ok(plugin)
}

fn no_json(error: serde_json::Error) -> Error {
    Error::invalid("CNI configuration", "", error.to_string()).because(error)
}

fn inlined(plugins: Option<Value>) -> Result<Vec<Map<String, Value>>> {
    let list = match plugins {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(Error::invalid("plugins", other.to_string(), "is no list")),
    };
    let object = |value| match value {
        Value::Object(plugin) => check_plugin(&plugin).map(|()| plugin),
        other => Err(Error::invalid("plugins", other.to_string(), "is no JSON object")),
    };
    list.into_iter().map(object).collect()
}

/// A type is the name of a program that is looked for, so it must not be a path.
fn check_plugin(plugin: &Map<String, Value>) -> Result<()> {
    let kind = text(plugin, "type")?.unwrap_or_default();
    if kind.is_empty() {
        return Err(Error::invalid("type", "", "a plugin's configuration must name its program"));
    }
    if kind.contains('/') || kind.chars().any(char::is_control) || kind == "." || kind == ".." {
        return Err(Error::invalid("type", kind, "must be the name of a program, not a path"));
    }
    match plugin.get("capabilities") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(Error::invalid("capabilities", other.to_string(), "is no JSON object")),
    }
}

fn version(list: &Map<String, Value>) -> Result<Version> {
    let one = text(list, "cniVersion")?;
    let more = match list.get("cniVersions") {
        None => Vec::new(),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            names.iter().filter_map(Value::as_str).collect()
        }
        Some(other) => return Err(Error::invalid("cniVersions", other.to_string(), "is no list of versions")),
    };
    let offered: Vec<&str> = one.as_deref().into_iter().chain(more).collect();
    Version::choose(&offered)
}

fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Error::invalid(key, other.to_string(), "must be a string")),
    }
}

/// True, false, or one of them as a string, which tools that fill in templates
/// write.
fn flag(list: &Map<String, Value>, key: &str) -> Result<bool> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(Error::invalid(key, other.to_string(), "must be true or false")),
    }
}
