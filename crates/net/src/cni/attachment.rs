//! What is asked for: a container, by its id and network namespace, on a network
//! by the name of an interface.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use pod::{Error, Result};
use serde::{Deserialize, Serialize};

use super::capability::Capabilities;

/// What is to be attached to a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The container's id, CNI_CONTAINERID: letters, digits, `_`, `.` and `-`,
    /// the first of them a letter or digit. The same for all its networks.
    pub container_id: String,
    /// Its network namespace, CNI_NETNS: a path that is there until DEL, because
    /// plugins keep it. ADD and CHECK need one.
    pub netns: Option<PathBuf>,
    /// The interface's name in it, CNI_IFNAME: at most 15 bytes.
    pub ifname: String,
    /// CNI_ARGS. Plugins refuse what they do not know unless `IgnoreUnknown` is
    /// set, so that is added (as `1`) where there are any and it is not said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// What plugins are told that declare they know of it.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// Names that the specification gives a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Of a network.
    Network,
    /// Of a container.
    Container,
}

impl Attachment {
    /// An attachment to which nothing but its namespace is special.
    pub fn new(container_id: impl Into<String>, netns: impl Into<PathBuf>, ifname: impl Into<String>) -> Attachment {
        Attachment {
            container_id: container_id.into(),
            netns: Some(netns.into()),
            ifname: ifname.into(),
            args: BTreeMap::new(),
            capabilities: Capabilities::default(),
        }
    }

    /// Whether plugins can take this; nothing is asked of the machine.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field, the value and what is wrong with it.
    pub fn validate(&self) -> Result<()> {
        check_name(Name::Container, &self.container_id)?;
        check_interface(&self.ifname)?;
        self.args.iter().try_for_each(|(key, value)| check_argument(key, value))?;
        if let Some(netns) = &self.netns {
            let text = netns.to_str().unwrap_or_default();
            if !netns.is_absolute() || text.is_empty() || text.contains('\0') {
                return Err(Error::invalid("netns", netns.display().to_string(), "must be an absolute path"));
            }
        }
        self.capabilities.validate()
    }

    /// CNI_ARGS, as `KEY=VALUE;KEY=VALUE`.
    pub(crate) fn joined_args(&self) -> String {
        let unsaid = !self.args.is_empty() && !self.args.contains_key("IgnoreUnknown");
        let ignore = unsaid.then(|| "IgnoreUnknown=1".to_owned());
        let given = self.args.iter().map(|(key, value)| format!("{key}={value}"));
        ignore.into_iter().chain(given).collect::<Vec<_>>().join(";")
    }

    /// The namespace, for commands that need one which lives.
    pub(crate) fn living_netns(&self) -> Result<&Path> {
        let Some(netns) = &self.netns else {
            return Err(Error::invalid("netns", "", "a network namespace is needed"));
        };
        if known_namespace(netns) != Some(true) {
            let reason = "is not a network namespace, or not any longer";
            return Err(Error::invalid("netns", netns.display().to_string(), reason));
        }
        Ok(netns)
    }

    /// CNI_NETNS of DEL: empty when the namespace is gone, which plugins take for
    /// "only what is outside". The file of a bind outlives the namespace (and the
    /// machine's restart); a plugin would refuse it.
    pub(crate) fn netns_for_del(&self) -> Option<&Path> {
        self.netns.as_deref().filter(|netns| known_namespace(netns) != Some(false))
    }
}

/// Whether there is a namespace at a path; `None` if that cannot be known.
fn known_namespace(path: &Path) -> Option<bool> {
    match statfs(path) {
        Ok(system) => Some(system.filesystem_type() == NSFS_MAGIC),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH) => Some(false),
        Err(_) => None,
    }
}

/// Section 2 of the specification: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`. A plugin would
/// answer with code 4 or 7.
pub(crate) fn check_name(kind: Name, name: &str) -> Result<()> {
    let field = match kind {
        Name::Network => "name of a CNI network",
        Name::Container => "container id",
    };
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 200 {
        return Ok(());
    }
    let reason =
        "must begin with a letter or digit, and have no others than letters, digits, '_', '.' and '-', at most 200";
    Err(Error::invalid(field, name, reason))
}

/// As the kernel's `dev_valid_name`.
fn check_interface(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        let reason = "an interface's name has 1 to 15 bytes, no '/', ':' and no space";
        return Err(Error::invalid("interface", name, reason));
    }
    Ok(())
}

fn check_argument(key: &str, value: &str) -> Result<()> {
    let odd = |c: char| c == ';' || c.is_control();
    if key.is_empty() || key.contains('=') || key.contains(odd) || value.contains(odd) {
        let reason = "CNI_ARGS are KEY=VALUE, without ';' and without control characters";
        return Err(Error::invalid("CNI argument", format!("{key}={value}"), reason));
    }
    Ok(())
}
