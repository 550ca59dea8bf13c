//! What one plugin is told: JSON on its standard input, and `CNI_*` in its
//! environment. Nothing here asks the machine anything.

use std::env::{JoinPathsError, join_paths};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pod::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::Attachment;
use super::conflist::{Conflist, declares};
use super::failure::Command;

/// An attachment by its name among those of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttachmentName {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// What a command is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    /// One attachment, with the namespace that is told and the result before it.
    Attachment { attachment: &'a Attachment, netns: Option<&'a Path>, previous: Option<&'a Map<String, Value>> },
    /// The network, and the attachments that are still in use.
    Network { valid: &'a [AttachmentName] },
    /// The plugins.
    Plugins,
}

/// A plugin's configuration, as section 3 of the specification derives it from the
/// list. `capabilities` is between the list and the runtime, so it is taken out;
/// instead there is `runtimeConfig`, of what the plugin declares and is asked for.
pub(crate) fn config(list: &Conflist, plugin: &Map<String, Value>, about: About<'_>) -> Map<String, Value> {
    let mut config = plugin.clone();
    config.remove("capabilities");
    config.remove("cniVersions");
    config.insert("name".into(), list.name.as_str().into());
    config.insert("cniVersion".into(), list.version.as_str().into());
    match about {
        About::Attachment { attachment, previous, .. } => {
            let mut wanted = attachment.capabilities.wanted();
            wanted.retain(|capability, _| declares(plugin, capability));
            if !wanted.is_empty() {
                config.insert("runtimeConfig".into(), wanted.into());
            }
            if let Some(previous) = previous {
                config.insert("prevResult".into(), previous.clone().into());
            }
        }
        About::Network { valid } => {
            let names: Vec<Value> = valid
                .iter()
                .map(|name| serde_json::json!({"containerID": name.container_id, "ifname": name.ifname}))
                .collect();
            // The specification says the first, the reference library the second.
            config.insert("cni.dev/valid-attachments".into(), names.clone().into());
            config.insert("cni.dev/attachments".into(), names.into());
        }
        About::Plugins => {}
    }
    config
}

/// The whole environment of a plugin.
///
/// # Errors
/// [`Error::Invalid`]: a directory with a `:` in its name.
pub(crate) fn environment(
    command: Command,
    about: About<'_>,
    plugin_dirs: &[PathBuf],
    search_path: &OsString,
) -> Result<Vec<(&'static str, OsString)>> {
    let joined = join_paths(plugin_dirs).map_err(|error: JoinPathsError| {
        let dirs: Vec<_> = plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
        Error::invalid("directories of CNI plugins", dirs.join(", "), error.to_string())
    })?;
    let mut all: Vec<(&str, OsString)> =
        vec![("PATH", search_path.clone()), ("CNI_COMMAND", command.as_str().into()), ("CNI_PATH", joined)];
    if let About::Attachment { attachment, netns, .. } = about {
        all.push(("CNI_CONTAINERID", attachment.container_id.as_str().into()));
        all.push(("CNI_IFNAME", attachment.ifname.as_str().into()));
        all.push(("CNI_NETNS", netns.unwrap_or(Path::new("")).into()));
        all.push(("CNI_ARGS", attachment.joined_args().into()));
    }
    Ok(all)
}

/// Refuses what is asked for and no plugin of the list knows of.
///
/// # Errors
/// [`Error::Invalid`] with the capability, and what was asked for.
pub(crate) fn check_capabilities(list: &Conflist, attachment: &Attachment) -> Result<()> {
    for (capability, asked) in attachment.capabilities.wanted() {
        if !list.has_capability(&capability) {
            let reason = format!(
                "no plugin of CNI network {:?} declares the capability {capability}: {}",
                list.name,
                match capability.as_str() {
                    "portMappings" => {
                        r#"append {"type": "portmap", "capabilities": {"portMappings": true}} to its plugins"#
                    }
                    _ => "declare it in `capabilities` of the plugin that knows of it, or leave it out",
                }
            );
            return Err(Error::invalid(capability, asked.to_string(), reason));
        }
    }
    Ok(())
}
