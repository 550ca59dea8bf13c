//! `--pid`, `--ipc`, `--uts`, `--cgroupns`: which namespaces of its pod a container
//! is in.
//!
//! What its containers share is said once for a pod, by `--share`; a container
//! can leave that for a namespace of its own or the machine's. What a pod decides
//! alone is accepted where it says the pod's own, and refused elsewhere.

use anyhow::{Result, bail};
use clap::Args;
use pod::spec::NamespaceMode;
use pod::{ContainerSpec, Namespace, PodOptions};

/// A container's namespaces.
#[derive(Args, Default)]
pub struct NamespaceArgs {
    /// Its processes: pod (what the pod's containers share), or private
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Its message queues and shared memory: pod or shareable, private, or host
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Its host name: pod, or private
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Its view of the cgroups: pod, private, or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
}

impl NamespaceArgs {
    /// Changes `container`.
    pub fn adjust(&self, container: &mut ContainerSpec) -> Result<()> {
        let given = [
            ("--pid", &self.pid, &mut container.pid),
            ("--ipc", &self.ipc, &mut container.ipc),
            ("--cgroupns", &self.cgroupns, &mut container.cgroup),
        ];
        for (option, text, mode) in given {
            let Some(text) = text else { continue };
            *mode = match text.as_str() {
                "pod" => NamespaceMode::Pod,
                "shareable" if option == "--ipc" => NamespaceMode::Pod,
                "private" => NamespaceMode::Own,
                "host" if option == "--pid" => bail!(
                    "--pid host: pause is the parent of a pod's containers, which this machine's pid namespace does not \
                     allow: leave it away, or give private"
                ),
                "host" => NamespaceMode::Host,
                other => bail!(refused(option, other)),
            };
        }
        match self.uts.as_deref() {
            None | Some("pod" | "private") => Ok(()),
            Some("host") => bail!(
                "--uts host: a pod has a host name of its own: give it this machine's by --hostname \"$(hostname)\""
            ),
            Some(other) => bail!(refused("--uts", other)),
        }
    }

    /// Refuses what a container of this pod cannot be; `is_own` if it is made for it.
    pub fn check_in(&self, pod: &PodOptions, is_own: bool) -> Result<()> {
        let given = [
            ("--pid", &self.pid, Namespace::Pid),
            ("--ipc", &self.ipc, Namespace::Ipc),
            ("--uts", &self.uts, Namespace::Uts),
            ("--cgroupns", &self.cgroupns, Namespace::Cgroup),
        ];
        for (option, text, namespace) in given {
            let (Some(text), kind) = (text.as_deref(), namespace.name()) else { continue };
            match (text, pod.shares(namespace)) {
                ("pod" | "shareable", false) => {
                    bail!("{option} {text}: the pod's containers share no {kind} namespace: add `{kind}` to --share")
                }
                // Of a pod of its own it is the only one.
                ("private", true) if namespace == Namespace::Uts && !is_own => bail!(
                    "--uts private: the containers of pod {} share their host name: take `uts` out of its --share",
                    pod.name
                ),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A mode that there is not.
fn refused(option: &str, mode: &str) -> String {
    let cure = match mode.split_once(':').map_or(mode, |(kind, _)| kind) {
        "container" => "a container shares namespaces with those of its pod: give --pod POD",
        "ns" => "no namespace is taken by its path: give --pod POD to share a pod's",
        "none" => "there is always one: `private` is the container's own",
        _ if option == "--ipc" => "give pod, shareable, private or host",
        _ if option == "--cgroupns" => "give pod, private or host",
        _ => "give pod or private",
    };
    format!("{option} {mode}: {cure}")
}

/// `--userns`, which is the pod's.
pub fn check_userns(mode: Option<&str>, has_own: bool) -> Result<()> {
    let cure = match mode {
        None => return Ok(()),
        Some("host" | "") if !has_own => return Ok(()),
        Some("host" | "") => "the pod is to have one of its own: leave --uidmap, --gidmap and `user` in --share away",
        _ => {
            "say its ids: --share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536; an ordinary \
              user's pod has one without being told"
        }
    };
    bail!("--userns {:?}: {cure}", mode.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use pod::Root;

    use super::*;

    fn args(option: &str, mode: &str) -> NamespaceArgs {
        let mode = Some(mode.to_string());
        match option {
            "pid" => NamespaceArgs { pid: mode, ..NamespaceArgs::default() },
            "ipc" => NamespaceArgs { ipc: mode, ..NamespaceArgs::default() },
            "uts" => NamespaceArgs { uts: mode, ..NamespaceArgs::default() },
            _ => NamespaceArgs { cgroupns: mode, ..NamespaceArgs::default() },
        }
    }

    fn modes(option: &str, mode: &str) -> Result<[NamespaceMode; 3]> {
        let mut container = ContainerSpec::new("a", Root::Host);
        args(option, mode).adjust(&mut container)?;
        Ok([container.pid, container.ipc, container.cgroup])
    }

    #[test]
    fn a_container_has_its_own_the_pods_or_the_machines() {
        use NamespaceMode::{Host, Own, Pod};
        for (option, mode, expected) in [
            ("pid", "private", [Own, Pod, Pod]),
            ("ipc", "private", [Pod, Own, Pod]),
            ("ipc", "host", [Pod, Host, Pod]),
            ("ipc", "shareable", [Pod; 3]),
            ("cgroupns", "host", [Pod, Pod, Host]),
            ("cgroupns", "private", [Pod, Pod, Own]),
            ("uts", "private", [Pod; 3]),
        ] {
            assert_eq!(modes(option, mode).expect(mode), expected, "--{option} {mode}");
        }
        for (option, mode, cure) in [
            ("pid", "host", "pause is the parent"),
            ("pid", "container:x", "give --pod POD"),
            ("pid", "shareable", "give pod or private"),
            ("ipc", "none", "`private`"),
            ("ipc", "frob", "shareable"),
            ("uts", "host", "--hostname"),
            ("cgroupns", "ns:/x", "by its path"),
        ] {
            let error = modes(option, mode).expect_err(mode).to_string();
            assert!(error.starts_with(&format!("--{option} {mode}: ")) && error.contains(cure), "{error}");
        }
    }

    #[test]
    fn a_mode_agrees_with_what_the_pod_shares() {
        let (usual, bare) = (PodOptions::new("web"), PodOptions::new("web").share([Namespace::Net]));
        for option in ["pid", "ipc", "uts"] {
            args(option, "pod").check_in(&usual, false).expect(option);
            let error = args(option, "pod").check_in(&bare, true).expect_err(option).to_string();
            assert!(error.contains(&format!("add `{option}` to --share")), "{error}");
        }
        args("uts", "private").check_in(&usual, true).expect("nobody else is in it");
        args("uts", "private").check_in(&bare, false).expect("its own");
        let error = args("uts", "private").check_in(&usual, false).expect_err("shared").to_string();
        assert!(error.starts_with("--uts private: the containers of pod web share"), "{error}");
    }

    #[test]
    fn the_machines_user_namespace_is_had_by_saying_nothing() {
        for mode in [None, Some("host"), Some("")] {
            check_userns(mode, false).expect("the usual");
        }
        for mode in ["keep-id", "auto", "private", "nomap"] {
            let error = check_userns(Some(mode), false).expect_err(mode).to_string();
            assert!(error.contains(mode) && error.contains("--uidmap"), "{error}");
        }
        assert!(check_userns(Some("host"), true).is_err());
    }
}
