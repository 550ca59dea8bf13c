//! What a container cannot be, whatever pod it is to be in.

use std::path::Component;

use super::check::{check_apparmor, check_directory, check_hostname, check_interface, check_mount, rlimit_number};
use super::container::{ContainerSpec, NamespaceMode, Root};
use super::health::OnUnhealthy;
use super::pod::PodOptions;
use super::sysctl;
use super::text::{check_args, check_name, check_notes, check_path, check_variable};
use crate::error::{Error, Result};
use crate::kernel::signal::Signal;
use crate::seccomp::Seccomp;

impl ContainerSpec {
    /// Whether the container cannot be what it says. A seccomp profile is
    /// checked where it is compiled: [`filter`](ContainerSpec::filter).
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field, the value and the cure.
    pub fn check(&self) -> Result<()> {
        self.check_program()?;
        self.check_files()?;
        self.check_limits()?;
        self.check_parameters()?;
        self.check_scheduling()?;
        self.log.check()?;
        self.check_restart()?;
        self.check_order()?;
        self.check_health()?;
        check_notes(&self.labels, &self.annotations)?;
        if let Some(profile) = &self.process.apparmor_profile {
            check_apparmor(profile)?;
        }
        self.check_namespaces()
    }

    /// Whether something is wrong with the container in every pod, its seccomp
    /// profile included: for a caller that makes the pod only if the container
    /// can be started in it.
    ///
    /// # Errors
    /// As [`check`](ContainerSpec::check) and [`filter`](ContainerSpec::filter).
    pub fn check_before_pod(&self) -> Result<()> {
        self.check()?;
        match &self.seccomp {
            Seccomp::Profile(_) => self.filter(&PodOptions::new(&self.name)).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether it can be restarted.
    fn check_restart(&self) -> Result<()> {
        if self.restart.restarts() && self.remove_when_ended {
            let reason = "it is removed when it has ended (remove_when_ended, --rm): leave one of them away";
            return Err(Error::invalid("restart", self.restart.to_string(), reason));
        }
        self.restart_backoff.check()
    }

    /// How it is checked.
    fn check_health(&self) -> Result<()> {
        for (kind, check) in self.health.all() {
            check.check(kind)?;
            if check.on_unhealthy == OnUnhealthy::Restart && self.remove_when_ended {
                let reason = "it is removed when it has ended (remove_when_ended, --rm): leave one of them away";
                return Err(Error::invalid(format!("{kind}.on_unhealthy"), "restart", reason));
            }
        }
        if self.net == NamespaceMode::Own { self.check_unconnected() } else { Ok(()) }
    }

    /// Of one that is not in its pod's network: whether nothing is asked over that.
    pub(super) fn check_unconnected(&self) -> Result<()> {
        let asked = self.health.all().find_map(|(kind, check)| Some((kind, check.action.address()?)));
        asked.map_or(Ok(()), |(kind, address)| {
            let reason = "the container is not in the pod's network, from which it would be asked: give an exec check";
            Err(Error::invalid(kind.name(), address.to_string(), reason))
        })
    }

    /// What it is called, and what it executes.
    fn check_program(&self) -> Result<()> {
        check_name("container", &self.name)?;
        // Its cgroup has that name, among the files of the one above.
        let files = ["cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb.", "rdma.", "misc.", "irq."];
        if let Some(prefix) = files.iter().find(|prefix| self.name.starts_with(**prefix)) {
            return Err(Error::invalid("container name", &self.name, format!("{prefix}* are files of every cgroup")));
        }
        if let Some(hostname) = &self.hostname {
            check_hostname("hostname", hostname)?;
        }
        match &self.root {
            Root::Host => {}
            Root::Dir(dir) => check_directory("rootfs", dir).map(|_| ())?,
            Root::Layers(layers) => layers.check()?,
        }
        // A record may have any number.
        if Signal::new(self.stop_signal.number()).is_err() {
            return Err(Error::invalid("stop_signal", self.stop_signal.number().to_string(), "a signal, 1 to 64"));
        }
        check_args(&self.process.args)?;
        for variable in &self.process.env {
            check_variable(variable)?;
        }
        check_path("cwd", &self.process.cwd)
    }

    /// What it finds in its root.
    fn check_files(&self) -> Result<()> {
        for mount in &self.mounts {
            check_mount(mount)?;
        }
        for (i, device) in self.devices.iter().enumerate() {
            device.check()?;
            if self.devices[..i].iter().any(|other| other.path == device.path) {
                return Err(Error::invalid("device path", device.path.to_string_lossy(), "given twice"));
            }
        }
        let restricted = [("maskedPaths", &self.masked_paths), ("readonlyPaths", &self.readonly_paths)];
        for (field, path) in restricted.iter().flat_map(|(field, paths)| paths.iter().map(move |path| (field, path))) {
            check_path(field, path)?;
            if path.components().all(|part| part == Component::RootDir) {
                return Err(Error::invalid(*field, "/", "give a path below it; root.readonly is for all of it"));
            }
        }
        Ok(())
    }

    /// What it may use.
    fn check_limits(&self) -> Result<()> {
        for limit in &self.process.rlimits {
            if limit.soft > limit.hard {
                return Err(Error::invalid("rlimits", &limit.name, "the soft limit is above the hard one"));
            }
            rlimit_number(&limit.name)?;
        }
        for (i, limit) in self.process.rlimits.iter().enumerate() {
            if self.process.rlimits[..i].iter().any(|other| other.name == limit.name) {
                return Err(Error::invalid("rlimits", &limit.name, "given twice"));
            }
        }
        self.resources.check()?;
        if self.process.umask > 0o777 {
            return Err(Error::invalid("umask", format!("{:o}", self.process.umask), "at most 0777"));
        }
        Ok(())
    }

    /// Its domain name, and other kernel parameters.
    fn check_parameters(&self) -> Result<()> {
        if let Some(domainname) = &self.domainname {
            check_hostname("domainname", domainname)?;
        }
        sysctl::check_sysctls(&self.sysctl)
    }

    /// When it runs, and where.
    fn check_scheduling(&self) -> Result<()> {
        if let Some(score) = self.process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            return Err(Error::invalid("oom_score_adj", score.to_string(), "from -1000 to 1000"));
        }
        if let Some(scheduler) = &self.process.scheduler {
            scheduler.check()?;
        }
        if let Some(io) = self.process.io_priority.filter(|io| io.priority > 7) {
            return Err(Error::invalid("ioPriority.priority", io.priority.to_string(), "from 0, the first, to 7"));
        }
        self.process.exec_cpu_affinity.check()?;
        match &self.memory_policy {
            Some(policy) => policy.check(),
            None => Ok(()),
        }
    }

    /// What of the machine's comes into its namespaces.
    fn check_namespaces(&self) -> Result<()> {
        for (outside, inside) in &self.net_devices {
            check_interface(outside)?;
            check_interface(inside)?;
            if self.net_devices.values().filter(|other| *other == inside).count() > 1 {
                return Err(Error::invalid("netDevices", inside, "two interfaces cannot have the same name"));
            }
        }
        if self.pid == NamespaceMode::Host {
            let cure = "a pod's containers are children of its pause process, which the machine's pid namespace does \
                        not allow; share the pod's, or take one of its own";
            return Err(Error::invalid("pid", "host", cure));
        }
        Ok(())
    }
}
