//! Where everything of CNI is on a machine.

use std::env;
use std::path::PathBuf;

/// Where distributions and installers put plugins, in the order in which they are
/// looked for.
pub(crate) const PLUGINS: [&str; 5] =
    ["/opt/cni/bin", "/usr/local/lib/cni", "/usr/local/libexec/cni", "/usr/libexec/cni", "/usr/lib/cni"];

/// Where configurations, plugins and records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniDirs {
    /// Where networks are configured: of each name the first that is found counts.
    pub configs: Vec<PathBuf>,
    /// Where plugins are looked for, in this order.
    pub plugins: Vec<PathBuf>,
    /// Where it is noted what plugins were told, for all stores of the machine: on
    /// a disk, because what plugins note survives the machine's restart, too.
    pub records: PathBuf,
}

impl CniDirs {
    /// This machine's: `/etc/cni/net.d`, or what `NETCONFPATH` says; the usual
    /// directories of plugins, or what `CNI_PATH` says, both with colons between;
    /// and `/var/lib/podlet/cni`.
    pub fn of_machine() -> CniDirs {
        let said = |name| {
            let dirs: Vec<PathBuf> = env::split_paths(&env::var_os(name)?).filter(|dir| dir.is_absolute()).collect();
            Some(dirs).filter(|dirs| !dirs.is_empty())
        };
        CniDirs {
            configs: said("NETCONFPATH").unwrap_or_else(|| vec!["/etc/cni/net.d".into()]),
            plugins: said("CNI_PATH").unwrap_or_else(|| PLUGINS.map(PathBuf::from).to_vec()),
            records: "/var/lib/podlet/cni".into(),
        }
    }
}
