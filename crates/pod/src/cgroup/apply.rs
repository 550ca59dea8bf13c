//! Limits, written into a cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::controllers;
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::{bpf, cgroupfs};
use crate::resources::{Present, Resources, Write, device_rules};

impl Present {
    pub(super) fn of(dir: &Path) -> Present {
        Present { bfq: dir.join("io.bfq.weight").exists() }
    }
}

/// One of the writes for each controller: what has to be enabled.
fn by_controller(writes: &[Write]) -> Vec<&Write> {
    let mut seen = BTreeSet::new();
    writes.iter().filter(|write| !write.may_be_missing && seen.insert(write.controller())).collect()
}

/// Whether limits can be set in `dir` or, where that is still to be made, will
/// be. Changes nothing. `dir` is `None` where there can be no cgroup at all.
///
/// # Errors
/// [`Error::Invalid`], naming the limit and the cure.
pub(crate) fn check_reachable(resources: &Resources, facts: &Facts, dir: Option<&Path>) -> Result<()> {
    if !resources.devices.is_empty() && dir.is_none() && may_attach(facts) {
        return Err(Error::invalid("devices", "", "device rules need a cgroup (v2), and none can be made here"));
    }
    let writes = resources.writes(&Present::default())?;
    let Some(first) = writes.iter().find(|write| !write.may_be_missing) else { return Ok(()) };
    let (Some(root), Some(dir)) = (cgroupfs::hierarchy(), dir) else {
        let reason = "a limit needs a cgroup (v2), and none can be made here: as an ordinary user, start podlet in a \
                      delegated one, such as by `systemd-run --user --scope podlet ...`";
        return Err(Error::invalid(&first.field, &first.content, reason));
    };
    by_controller(&writes).into_iter().try_for_each(|write| controllers::check(&root, dir, write))
}

impl Resources {
    /// Sets these limits in the cgroup `dir`, before anything is born there.
    ///
    /// Controllers they need are enabled on the way from `hierarchy_root`, the
    /// mount point of cgroup v2 or of what is delegated of it, down to `dir`.
    /// Device rules need CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN) in the
    /// machine's user namespace; without it they are left to the kernel, which
    /// then lets no process open a node that was made inside: see
    /// docs/security.md.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the limit, its value and the cure.
    pub(crate) fn apply(&self, dir: &Path, hierarchy_root: &Path) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.check()?;
        let writes = self.writes(&Present::default())?;
        for write in by_controller(&writes) {
            controllers::enable(hierarchy_root, dir, write)?;
        }
        // Where no limit is asked for it is counted if that can be had.
        for write in writes.iter().filter(|write| write.may_be_missing) {
            controllers::enable(hierarchy_root, dir, write).ok();
        }
        put_all(dir, &self.writes(&Present::of(dir))?)?;
        attach(dir, &self.devices)
    }

    /// The new limits, and what is written for them, where they are now others.
    ///
    /// # Errors
    /// As [`update_all`](Resources::update_all), for what needs nothing written.
    pub(super) fn changes<'a>(&self, change: &Resources, dirs: &'a [PathBuf]) -> Result<(Resources, Changes<'a>)> {
        let new = self.changed_by(change)?;
        let mut changes = Vec::new();
        for dir in dirs {
            let present = Present::of(dir);
            let old = self.writes(&present)?;
            let writes: Vec<_> = new.writes(&present)?.into_iter().filter(|write| !old.contains(write)).collect();
            check_used(&new, dir, &writes)?;
            changes.push((dir, writes));
        }
        Ok((new, changes))
    }

    /// Sets what `change` sets in cgroups that all have these limits, each in the
    /// one before it, and leaves the rest; the new limits. If one cannot be set,
    /// none is.
    ///
    /// # Errors
    /// As [`apply`](Resources::apply); for device rules; and for a memory limit
    /// below what is used, if the limits say `check_before_update`.
    pub(crate) fn update_all(&self, change: &Resources, dirs: &[PathBuf], hierarchy_root: &Path) -> Result<Resources> {
        let (new, changes) = self.changes(change, dirs)?;
        for (dir, writes) in &changes {
            for write in by_controller(writes) {
                controllers::enable(hierarchy_root, dir, write)?;
            }
        }
        let mut before = Vec::new();
        for (dir, writes) in &changes {
            let read = |write: &Write| (dir.join(&write.file), fs::read_to_string(dir.join(&write.file)));
            before.extend(writes.iter().map(read));
            put_all(dir, writes).inspect_err(|_| {
                for (file, text) in before.iter().rev() {
                    for line in text.iter().flat_map(|text| text.lines()) {
                        // As it was, as far as the kernel lets us.
                        fs::write(file, line).ok();
                    }
                }
            })?;
        }
        Ok(new)
    }
}

/// What is written, by cgroup.
type Changes<'a> = Vec<(&'a PathBuf, Vec<Write>)>;

/// A limit of memory must not be below what is used, if that is asked for.
fn check_used(new: &Resources, dir: &Path, writes: &[Write]) -> Result<()> {
    let limit = writes.iter().find(|write| write.file == "memory.max" && new.memory.check_before_update);
    let Some(write) = limit else { return Ok(()) };
    let used = fs::read_to_string(dir.join("memory.current")).ok();
    let used = used.and_then(|used| used.trim().parse::<u64>().ok()).unwrap_or(0);
    if write.content.parse().is_ok_and(|limit: u64| limit < used) {
        let reason = format!("{used} bytes are in use, and checkBeforeUpdate asks for this check");
        return Err(Error::invalid(&write.field, &write.content, reason));
    }
    Ok(())
}

fn put_all(dir: &Path, writes: &[Write]) -> Result<()> {
    // Some values are refused beside another one's old value, such as a quota
    // below the burst: these get a second chance.
    let again: Vec<_> = writes.iter().filter_map(|write| put(dir, write).err().map(|error| (write, error))).collect();
    for (write, error) in again {
        match error.raw_os_error() {
            Some(libc::EINVAL) => put(dir, write).map_err(|error| explain(write, error))?,
            _ => return Err(explain(write, error)),
        }
    }
    Ok(())
}

fn put(dir: &Path, write: &Write) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).open(dir.join(&write.file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && write.may_be_missing => Ok(()),
        file => file.and_then(|mut file| std::io::Write::write_all(&mut file, write.content.as_bytes())),
    }
}

fn explain(write: &Write, error: io::Error) -> Error {
    let file = &write.file;
    let Some(number) = error.raw_os_error() else {
        let reason = format!("writing {file}: {error}");
        return Error::invalid(&write.field, &write.content, reason).because(error);
    };
    let reason = match Errno::from_raw(number) {
        Errno::ENOENT if file == "memory.swap.max" => "swap is not counted here: boot with swapaccount=1".into(),
        Errno::ENOENT if file.starts_with("hugetlb.") => "this machine has no huge pages of that size".into(),
        Errno::ENOENT if file.starts_with("io.") => {
            format!("there is no {file} here: it needs the BFQ scheduler or blk-iocost")
        }
        Errno::ENOENT => format!("this kernel has no {file}"),
        Errno::EACCES | Errno::EPERM => format!("{file} may not be written: the cgroup is not delegated to you"),
        Errno::ENODEV => "there is no such device here".into(),
        Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => format!("the kernel does not take it for {file}"),
        errno => format!("writing {file}: {}", errno.desc()),
    };
    Error::invalid(&write.field, &write.content, reason).because(error)
}

/// Whether bpf(2) is for the caller. Without it all its containers are ones
/// that cannot open nodes they make.
fn may_attach(facts: &Facts) -> bool {
    facts.privileged && facts.initial_users
}

fn attach(dir: &Path, rules: &[device_rules::DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let program = device_rules::program(rules)?;
    let cgroup = fs::File::open(dir).doing(|| format!("opening the cgroup {}", dir.display()))?;
    match bpf::attach_device_program(cgroup.as_fd(), &program) {
        Err(Errno::EPERM) if !may_attach(&Facts::read()?) => Ok(()),
        Err(errno) => {
            let reason = format!("bpf(2): {}: the device rules cannot be set", errno.desc());
            Err(Error::invalid("devices", "", reason).because(errno))
        }
        Ok(()) => Ok(()),
    }
}
