//! What a container and its pod must agree on: everything that belongs to a
//! namespace both are in.

use super::container::{Container, NamespaceMode};
use super::pod::PodOptions;
use super::sysctl;
use crate::error::{Error, Result};
use crate::kernel::namespace::Namespace;

impl PodOptions {
    /// Takes over from a container that is to run in this pod what belongs to
    /// namespaces they share: kernel parameters, host and domain name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a kernel parameter that is none.
    pub fn adopt(&mut self, container: &mut Container) -> Result<()> {
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
}

impl Container {
    /// Whether its namespace of this kind is the pod's.
    pub(crate) fn shares(&self, namespace: Namespace, pod: &PodOptions) -> bool {
        let mode = match namespace {
            Namespace::Net => self.net,
            Namespace::Ipc => self.ipc,
            Namespace::Pid => self.pid,
            Namespace::Cgroup => self.cgroup,
            Namespace::Uts | Namespace::User | Namespace::Time => NamespaceMode::Pod,
        };
        mode == NamespaceMode::Pod && pod.shares(namespace)
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
        match &self.scheduler {
            Some(scheduler) if scheduler.is_not_inherited() && self.shares(Namespace::Pid, pod) => {
                let reason = "no child inherits this policy or flag, and a container that shares the pod's processes \
                              has given up its privileges before it is born: give it a pid namespace of its own";
                Err(Error::invalid("scheduler", &scheduler.policy, reason))
            }
            _ => Ok(()),
        }
    }
}
