//! Kernel parameters that belong to a namespace (sysctl(8)).

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;

/// Those of `kernel.` that belong to an ipc namespace.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// A parameter, as the kernel knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sysctl {
    /// Below `/proc/sys`.
    pub path: String,
    /// What it belongs to.
    pub namespace: Namespace,
}

/// As sysctl(8) reads a name: the separator that comes first separates, the
/// other one is part of a name.
///
/// # Errors
/// [`Error::Invalid`] for what is no name, and for what is the machine's.
pub(crate) fn parse(name: &str) -> Result<Sysctl> {
    let field = "sysctl";
    let swapped = || {
        name.chars().map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
    };
    let path: String = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => swapped().collect(),
        _ => name.into(),
    };
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == '\\');
    if !path.split('/').all(good) || path.len() > 255 {
        return Err(Error::invalid(field, name, "not the name of a kernel parameter such as net.ipv4.ip_forward"));
    }
    let namespace = match path.split_once('/') {
        Some(("net", _)) => Namespace::Net,
        Some(("kernel", rest)) if IPC.contains(&rest) => Namespace::Ipc,
        Some(("fs", rest)) if rest.starts_with("mqueue/") => Namespace::Ipc,
        Some(("kernel", "domainname")) => Namespace::Uts,
        Some(("kernel", "hostname")) => return Err(Error::invalid(field, name, "set the host name instead")),
        _ => {
            let reason = "belongs to the whole machine: set it there; net.*, fs.mqueue.*, kernel.msg*, kernel.sem, \
                          kernel.shm* and kernel.domainname belong to namespaces";
            return Err(Error::invalid(field, name, reason));
        }
    };
    Ok(Sysctl { path, namespace })
}

/// Where a kernel parameter is below `/proc/sys`, as sysctl(8) reads its name:
/// `net/ipv4/ip_forward` for `net.ipv4.ip_forward`.
///
/// # Errors
/// [`Error::Invalid`] for what is no name, and for what is the whole machine's.
pub fn sysctl_path(name: &str) -> Result<String> {
    Ok(parse(name)?.path)
}

/// Checks kernel parameters: names that mean something, no two the same, and values of one
/// line.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_sysctls(sysctl: &BTreeMap<String, String>) -> Result<()> {
    let mut paths = Vec::new();
    for (name, value) in sysctl {
        let path = parse(name)?.path;
        if paths.contains(&path) {
            return Err(Error::invalid("sysctl", name, "given twice, in two spellings"));
        }
        paths.push(path);
        // The kernel takes what is before it, and a line is all it wants.
        if value.contains(['\0', '\n']) || value.len() > 1000 {
            let reason = format!("the value of {name} must be one line of at most 1000 bytes");
            return Err(Error::invalid("sysctl", value.chars().take(100).collect::<String>(), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Namespace, parse};

    #[test]
    fn both_spellings_mean_the_same() {
        let path = |name: &str| parse(name).expect(name).path;
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.eth0/5.forwarding"), "net/ipv4/conf/eth0.5/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.5/forwarding"), "net/ipv4/conf/eth0.5/forwarding");
        assert_eq!(parse("kernel.sem").expect("sem").namespace, Namespace::Ipc);
        assert_eq!(parse("fs.mqueue.msg_max").expect("mqueue").namespace, Namespace::Ipc);
        assert_eq!(parse("kernel.domainname").expect("uts").namespace, Namespace::Uts);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = format!("net.{}", "x".repeat(300));
        for name in [
            "",
            ".",
            "/",
            "net",
            "net.",
            ".net.x",
            "/net/x",
            "net..ipv4",
            "net/../kernel/core_pattern",
            "net/./x",
            "net.ipv4.//",
            "net.a\nb",
            "net.a\0",
            "net.a\\b",
            "kernel.core_pattern",
            "kernel/shm_rmid_forced/../x",
            "vm.overcommit_memory",
            "kernel.hostname",
            "fs.mqueue",
            "fs.file-max",
            &long,
        ] {
            assert!(parse(name).is_err(), "{name:?}");
        }
    }
}
