//! Kernel parameters of a network namespace (`/proc/sys/net`), that of the calling
//! thread.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::PathBuf;

use pod::{Error, Result};

/// A parameter, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Below `/proc/sys/net`.
    path: String,
    value: String,
}

impl Setting {
    pub(crate) fn new(path: impl Into<String>, value: impl Into<String>) -> Setting {
        Setting { path: path.into(), value: value.into() }
    }

    /// One of a network namespace, as sysctl(8) names it: `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(crate) fn named(name: &str, value: &str) -> Result<Setting> {
        let path = pod::spec::sysctl_path(name)?;
        match path.strip_prefix("net/") {
            Some(path) => Ok(Setting::new(path, value)),
            None => Err(Error::invalid("sysctl", name, "none of a network namespace's")),
        }
    }

    /// One of an interface, for a family: `ipv4` or `ipv6`.
    pub(crate) fn of_link(family: &str, link: &str, name: &str, value: &'static str) -> Setting {
        Setting::new(format!("{family}/conf/{link}/{name}"), value)
    }

    fn file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/sys/net/{}", self.path))
    }

    /// Whether it is one of this interface.
    pub(crate) fn is_of_link(&self, link: &str) -> bool {
        self.path.split('/').nth(2) == Some(link)
    }

    /// Whether this kernel knows it.
    pub(crate) fn is_known(&self) -> bool {
        self.file().exists()
    }

    /// What it is now; `None` if the kernel does not know it.
    pub(crate) fn now(&self) -> Option<String> {
        Some(fs::read_to_string(self.file()).ok()?.trim().to_string())
    }

    pub(crate) fn is_so(&self) -> bool {
        self.now().as_deref() == Some(&self.value)
    }

    /// Sets it, if it is not so already.
    ///
    /// # Errors
    /// [`Error::Os`]: where `/proc/sys` cannot be written it has to be so already.
    pub(crate) fn set(&self) -> Result<()> {
        if self.is_so() {
            return Ok(());
        }
        fs::write(self.file(), &self.value).map_err(|error| Error::failed(format!("setting {self}"), error))
    }
}

/// As sysctl(8) writes it.
impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // An interface's name may have a dot; its slash is the parameter's.
        let path = self.path.replace('.', "\0").replace('/', ".").replace('\0', "/");
        write!(f, "net.{path}={}", self.value)
    }
}
