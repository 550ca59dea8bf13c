//! Steps for what a process is besides its ids: how it is scheduled, where its
//! memory comes from, which kernel parameters its namespaces have.
//!
//! All of it but [`own_scheduler`] is inherited, so the launcher takes it on
//! while it still has its caller's privileges. What was checked when the
//! container was has numbers; nothing here can fail.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pause::wire::Slot;

use super::{Arg, Plan, step};
use crate::error::Purpose;
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::spec::{ContainerSpec, CpuAffinity, Personality, ProcessSpec, Scheduler, rlimit_number, sysctl};

/// As many descriptors as making a container may take.
const ENOUGH: u64 = 1024;

/// As [`rlimit_number`] gives it; its type is the C library's choice.
#[allow(clippy::unnecessary_cast)] // Not with every C library.
const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// What goes through files of `/proc/self`, which an undumpable process of an
/// ordinary user cannot open. `/proc` must be one that no container can touch:
/// the machine's.
pub(super) fn while_dumpable(p: &mut Plan, process: &ProcessSpec) {
    if let Some(score) = process.oom_score_adj {
        p.begin_part(Purpose::OomScoreAdj);
        let file = p.keep("oom_score_adj", step::openat(step::CWD, "/proc/self/oom_score_adj", libc::O_WRONLY));
        p.push(step::write(file, score.to_string().as_bytes()));
        p.end_part();
    }
    if let Some(profile) = &process.apparmor_profile {
        p.begin_part(Purpose::AppArmorProfile);
        // The first is AppArmor's own; kernels before 5.8 have only the other.
        let file = p.slot("attr_exec");
        let open = |path: &str| step::openat(step::CWD, path, libc::O_WRONLY).into_slot(file);
        let own = open("/proc/self/attr/apparmor/exec").tolerate(&[libc::ENOENT]);
        p.if_not(own, |p| p.push(open("/proc/self/attr/exec")));
        p.push(step::write_to("apparmorProfile", file, format!("exec {profile}").as_bytes()));
        p.end_part();
    }
}

/// What every child has from its parent.
pub(super) fn inherited(p: &mut Plan, container: &ContainerSpec) {
    if let Some(scheduler) = container.process.scheduler.as_ref().filter(|scheduler| !scheduler.is_not_inherited()) {
        schedule(p, scheduler);
    }
    if let Some(io) = container.process.io_priority {
        p.push(step::ioprio_set(io.number()));
    }
    match container.personality {
        None => {}
        Some(Personality::Linux) => p.push(step::personality(0, "PER_LINUX")),
        Some(Personality::Linux32) => p.push(step::personality(8, "PER_LINUX32")),
    }
    if let Some(policy) = &container.memory_policy
        && let Ok((mode, nodes)) = policy.numbers()
    {
        p.push(step::set_mempolicy(mode, nodes, &policy.nodes));
    }
}

/// What the container's process must do itself, while it is privileged.
pub(super) fn own_scheduler(p: &mut Plan, process: &ProcessSpec) {
    if let Some(scheduler) = process.scheduler.as_ref().filter(|scheduler| scheduler.is_not_inherited()) {
        schedule(p, scheduler);
    }
}

fn schedule(p: &mut Plan, scheduler: &Scheduler) {
    if let Ok((policy, flags)) = scheduler.numbers() {
        p.push(step::sched_setattr(&step::SchedAttr {
            policy: (policy, &scheduler.policy),
            flags,
            nice: scheduler.nice,
            priority: scheduler.priority.unsigned_abs(),
            times: [scheduler.runtime, scheduler.deadline, scheduler.period],
        }));
    }
}

/// The processors of an exec, on its way in or from there on.
pub(super) fn affinity(p: &mut Plan, list: Option<&String>) {
    if let Some(list) = list
        && let Ok(mask) = CpuAffinity::mask(list)
    {
        p.push(step::sched_setaffinity(mask, list));
    }
}

/// Kernel parameters of the namespaces this process is in. `/proc` must be one
/// that nobody but us could mount over, pause's or the machine's: never the
/// container's.
pub(super) fn set_sysctls(p: &mut Plan, facts: &Facts, parameters: &BTreeMap<String, String>) {
    if parameters.is_empty() {
        return;
    }
    let proc = p.keep("proc", step::openat(step::CWD, "/proc", libc::O_PATH | libc::O_DIRECTORY));
    for (name, value) in parameters {
        let Ok(parameter) = sysctl::parse(name) else { continue };
        if parameter.namespace == Namespace::Uts {
            // The file belongs to the machine's root, the call to that of the
            // namespace.
            p.push(step::setdomainname(value));
            continue;
        }
        let path = format!("sys/{}", parameter.path);
        p.begin_part(Purpose::Sysctl { path: PathBuf::new() });
        let file = if facts.calls.openat2 {
            p.keep("sysctl", step::open_beneath(proc, &path, libc::O_WRONLY))
        } else {
            open_by_parts(p, proc, &path)
        };
        // A line, as sysctl(8) writes it: without its end nothing at all would
        // be written of an empty value.
        p.push(step::write_to(name, file, format!("{value}\n").as_bytes()));
        p.end_part();
    }
}

/// Without `openat2`: part by part, without any links.
fn open_by_parts(p: &mut Plan, proc: Slot, path: &str) -> Slot {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let mut dir = proc;
    p.begin_part(Purpose::Sysctl { path: path.into() });
    for part in above.split('/') {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        dir = p.keep("sysctl", step::openat(Arg::Slot(dir), part, flags));
    }
    let file = p.keep("sysctl", step::openat(Arg::Slot(dir), name, libc::O_WRONLY | libc::O_NOFOLLOW));
    p.begin_part(Purpose::Sysctl { path: PathBuf::new() });
    file
}

/// Resource limits, while they can still be raised.
pub(super) fn set_limits(p: &mut Plan, process: &ProcessSpec) {
    for limit in &process.rlimits {
        match rlimit_number(&limit.name) {
            Ok((RLIMIT_NOFILE, _)) if limit.hard < ENOUGH => {}
            Ok((RLIMIT_NOFILE, name)) => {
                p.push(step::setrlimit(RLIMIT_NOFILE, name, limit.soft.max(ENOUGH), limit.hard));
            }
            Ok((number, name)) => p.push(step::setrlimit(number, name, limit.soft, limit.hard)),
            Err(_) => {}
        }
    }
}

/// Those that would be too few while the container is made.
pub(super) fn set_last_limits(p: &mut Plan, process: &ProcessSpec) {
    for limit in &process.rlimits {
        if let Ok((RLIMIT_NOFILE, name)) = rlimit_number(&limit.name)
            && limit.soft < ENOUGH
        {
            p.push(step::setrlimit(RLIMIT_NOFILE, name, limit.soft, limit.hard));
        }
    }
}
