//! What a container and its pod must agree on: everything that belongs to a
//! namespace both are in.

use std::borrow::Cow;

use caps::Capability;

use super::container::{ContainerSpec, NamespaceMode};
use super::flags::FILE_SYSTEM_FLAGS;
use super::mount::{Mount, MountKind};
use super::pod::{PodOptions, shm_options};
use super::sysctl;
use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;

impl PodOptions {
    /// Takes over from a container that is to run in this pod what belongs to
    /// namespaces they share: kernel parameters, host and domain name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a kernel parameter that is none.
    pub fn adopt(&mut self, container: &mut ContainerSpec) -> Result<()> {
        for (name, value) in std::mem::take(&mut container.sysctl) {
            let home = match sysctl::parse(&name)?.namespace {
                namespace if container.shares(namespace, self) => &mut self.sysctl,
                _ => &mut container.sysctl,
            };
            home.insert(name, value);
        }
        if self.shares(Namespace::Uts) {
            self.hostname = self.hostname.take().or(container.hostname.take());
            self.domainname = self.domainname.take().or(container.domainname.take());
            (container.hostname, container.domainname) = (None, None);
        }
        Ok(())
    }

    /// A container of this pod with what it takes over from that.
    pub(crate) fn place<'a>(&self, container: &'a ContainerSpec) -> Cow<'a, ContainerSpec> {
        let mut placed = Cow::Borrowed(container);
        if self.host_network && container.net == NamespaceMode::Pod {
            placed.to_mut().net = NamespaceMode::Host;
        }
        // The pod's own is bound there, or else (legacy mount API) one like it mounted.
        if self.shm_size.is_some() && container.shares(Namespace::Ipc, self) {
            let is_shm = |mount: &&mut Mount| mount.kind == MountKind::Shm;
            placed.to_mut().mounts.iter_mut().filter(is_shm).for_each(|mount| mount.data = shm_options(self.shm_size));
        }
        placed
    }
}

impl ContainerSpec {
    /// Which namespace of this kind it is in: of some it has no choice.
    pub(crate) fn mode_of(&self, namespace: Namespace) -> NamespaceMode {
        match namespace {
            Namespace::Net => self.net,
            Namespace::Ipc => self.ipc,
            Namespace::Pid => self.pid,
            Namespace::Cgroup => self.cgroup,
            Namespace::Uts | Namespace::User | Namespace::Time => NamespaceMode::Pod,
        }
    }

    /// Whether its namespace of this kind is the pod's.
    pub(crate) fn shares(&self, namespace: Namespace, pod: &PodOptions) -> bool {
        self.mode_of(namespace) == NamespaceMode::Pod && pod.shares(namespace)
    }

    /// Refuses what would have to be done to a namespace that is the pod's or
    /// the machine's.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the cure.
    pub(crate) fn check_in(&self, pod: &PodOptions) -> Result<()> {
        for name in self.sysctl.keys() {
            let namespace = sysctl::parse(name)?.namespace;
            let kind = namespace.name();
            if self.shares(namespace, pod) {
                let reason = format!("its {kind} namespace is the pod's: give it to the pod (podlet create --sysctl)");
                return Err(Error::invalid("sysctl", name, reason));
            }
            let machines = (namespace == Namespace::Net && self.net == NamespaceMode::Host)
                || (namespace == Namespace::Ipc && self.ipc == NamespaceMode::Host);
            if machines {
                let reason = format!("its {kind} namespace is the machine's: set it there");
                return Err(Error::invalid("sysctl", name, reason));
            }
        }
        if pod.shares(Namespace::Uts) {
            let names = [
                ("hostname", &self.hostname, Some(pod.effective_hostname()), "--hostname"),
                ("domainname", &self.domainname, pod.effective_domainname(), "--sysctl kernel.domainname=..."),
            ];
            for (field, own, pods, option) in names {
                if let Some(own) = own.as_deref().filter(|own| pods != Some(own)) {
                    let reason =
                        format!("belongs to the pod, which has another: remove it, or use podlet create {option}");
                    return Err(Error::invalid(field, own, reason));
                }
            }
        }
        if let Some(name) = self.net_devices.keys().next().filter(|_| !self.shares(Namespace::Net, pod)) {
            let reason = "goes into the pod's network namespace, and this container is not in it: add `net` to --share";
            return Err(Error::invalid("netDevices", name, reason));
        }
        if self.net == NamespaceMode::Pod && !pod.host_network && !pod.shares(Namespace::Net) {
            self.check_unconnected()?;
        }
        if !self.shares(Namespace::Pid, pod) {
            self.check_procfs()?;
        }
        match &self.process.scheduler {
            Some(scheduler) if scheduler.is_not_inherited() && self.shares(Namespace::Pid, pod) => {
                let reason = "no child inherits this policy or flag, and a container that shares the pod's processes \
                              has given up its privileges before it is born: give it a pid namespace of its own";
                Err(Error::invalid("scheduler", &scheduler.policy, reason))
            }
            _ => Ok(()),
        }
    }

    /// A pid namespace of its own has one procfs, wherever that is mounted.
    fn check_procfs(&self) -> Result<()> {
        let of_file_system = |mount: &Mount| (mount.data.clone(), mount.flags & FILE_SYSTEM_FLAGS);
        let mut procs = self.mounts.iter().filter(|mount| mount.kind == MountKind::Proc);
        let first = procs.next();
        let other = procs.find(|mount| first.map(of_file_system) != Some(of_file_system(mount)));
        other.map_or(Ok(()), |other| {
            let place = first.map_or("", |first| first.target.to_str().unwrap_or_default());
            let reason = format!(
                "is the procfs of the container's pid namespace again ({:?}): give it the same options as that on {place}",
                other.data
            );
            Err(Error::invalid("mounts", other.target.to_string_lossy(), reason))
        })
    }

    /// Whether it can trace what it sees of a pod without a user namespace,
    /// where that takes nothing but this capability.
    pub(crate) fn may_trace(&self, pod: &PodOptions) -> bool {
        self.shares(Namespace::Pid, pod) && self.process.capabilities.union().contains(Capability::CAP_SYS_PTRACE)
    }

    /// Whether its pid namespace is made inside one that its mates share.
    pub(crate) fn nests_pids(&self, pod: &PodOptions) -> bool {
        pod.shares(Namespace::Pid) && !self.shares(Namespace::Pid, pod)
    }

    /// In a pod without a user namespace, refuses a container with a pid
    /// namespace of its own beside one that may trace it: who makes that
    /// namespace is seen in the pod's, and has CAP_SYS_ADMIN for it.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the cure.
    pub(crate) fn check_beside(&self, mate: &ContainerSpec, pod: &PodOptions) -> Result<()> {
        let cure = "give the pod a user namespace (--share net,pid,ipc,uts,user with --uidmap and --gidmap), leave \
                    CAP_SYS_PTRACE out, or remove that container first";
        if self.nests_pids(pod) && mate.may_trace(pod) {
            let reason = format!(
                "container {} of this pod has CAP_SYS_PTRACE, and could trace the process that makes the pid namespace, \
                 which has CAP_SYS_ADMIN: {cure}",
                mate.name
            );
            return Err(Error::invalid("pid", "own", reason));
        }
        if self.may_trace(pod) && mate.nests_pids(pod) {
            let reason = format!(
                "container {} of this pod has a pid namespace of its own: when it is started again, or something is \
                 executed in it, this one could trace a process that has CAP_SYS_ADMIN: {cure}",
                mate.name
            );
            return Err(Error::invalid("capability", Capability::CAP_SYS_PTRACE.to_string(), reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Root;

    #[test]
    fn the_size_of_the_pods_shared_memory_is_its_containers() {
        let data = |container: &ContainerSpec, pod: &PodOptions| {
            let placed = pod.place(container);
            let shm = placed.mounts.iter().find(|mount| mount.kind == MountKind::Shm);
            shm.map(|mount| mount.data.clone()).expect("a /dev/shm")
        };
        let (usual, large) = (PodOptions::new("web"), PodOptions::new("web").shm_size(1 << 30));
        let mut container = ContainerSpec::new("a", Root::Host);
        assert_eq!(data(&container, &usual), "mode=1777,size=65536k");
        assert_eq!(data(&container, &large), "mode=1777,size=1073741824");
        assert!(matches!(usual.place(&container), Cow::Borrowed(_)), "nothing is copied for nothing");
        container.ipc = NamespaceMode::Own;
        assert_eq!(data(&container, &large), "mode=1777,size=65536k", "its own");
        let error = large.share([Namespace::Pid]).check().expect_err("no ipc").to_string();
        assert!(error.starts_with("shm_size \"1073741824\": ") && error.contains("add `ipc` to --share"), "{error}");
    }
}
