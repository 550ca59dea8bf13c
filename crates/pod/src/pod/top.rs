//! The processes of a container, as `top` and `ps` show them: found by its
//! cgroup, or by its mount namespace where there is none, and asked of `/proc`.
//! Nothing is executed inside.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Pod;
use super::container::Container;
use crate::error::{Error, Result};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::cgroupfs::all_processes;
use crate::kernel::idmap::{self, IdMap, OVERFLOW, parse_map};
use crate::kernel::process_facts::{ProcessFacts, age, ticks};
use crate::kernel::procfs::{self, ProcessId, all_pids, mount_namespace, processes_in};
use crate::lookup::passwd::Names;
use crate::lookup::root_files::RootFiles;
use crate::store::records::ProcessRecord;

/// A process of a container, as it was when it was looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// The name of its container.
    pub container: String,
    /// Its pid on this machine.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// What its parent is called; empty if that is gone.
    pub parent_name: String,
    /// Its pid inside: as the container's main process sees it.
    pub pid_inside: u32,
    /// That of its parent; 0 if that is not inside.
    pub parent_inside: u32,
    /// Its process group, as seen inside.
    pub group_inside: u32,
    /// Its pids from the container's pid namespace on: more than one if it is in one
    /// that the container has made.
    pub pids_inside: Vec<u32>,
    /// `R` running, `S` sleeping, `D` in the kernel, `T` stopped, `Z` a zombie (ps(1)).
    pub state: char,
    /// Its own name, at most 15 bytes.
    pub name: String,
    /// Its program and arguments; empty of a zombie.
    pub args: Vec<String>,
    /// Its effective and its real user.
    pub users: [ProcessOwner; 2],
    /// Its effective and its real group.
    pub groups: [ProcessOwner; 2],
    /// How long ago it began.
    pub elapsed: Duration,
    /// How long it had a processor.
    pub cpu_time: Duration,
    /// Its controlling terminal: major and minor number.
    pub terminal: Option<(u32, u32)>,
    /// -20 to 19 (nice(2)).
    pub nice: i64,
    /// Bytes of addresses.
    pub virtual_size: u64,
    /// Bytes in memory.
    pub resident: u64,
    /// 0: all system calls, 1: strict, 2: a filter (seccomp(2)).
    pub seccomp: u8,
    /// What it may do.
    pub capabilities: ProcessCapabilities,
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessOwner {
    /// Its name in the image's /etc/passwd or /etc/group; the id there if it has none.
    pub inside: String,
    /// Its id on this machine.
    pub outside: u32,
    /// Its name in this machine's own /etc/passwd or /etc/group; the id if it has none.
    pub outside_name: String,
}

/// The sets of capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessCapabilities {
    /// What a program of its may get.
    pub inheritable: CapabilitySet,
    /// What it can switch on.
    pub permitted: CapabilitySet,
    /// What is on.
    pub effective: CapabilitySet,
    /// What it can ever have.
    pub bounding: CapabilitySet,
    /// What a program without capabilities of its own keeps.
    pub ambient: CapabilitySet,
}

impl ProcessInfo {
    /// Whether it has ended, and its parent has not waited for it.
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    /// Which part of a processor it had since it began: 1.0 is all of one.
    pub fn cpu(&self) -> f64 {
        let elapsed = self.elapsed.as_secs_f64();
        if elapsed > 0.0 { self.cpu_time.as_secs_f64() / elapsed } else { 0.0 }
    }
}

/// Processes that have ended and are still there, by the parent that has not waited.
struct Zombies(BTreeMap<u32, Vec<u32>>);

impl Zombies {
    /// One pass over /proc: no cgroup lists them.
    fn find() -> Result<Zombies> {
        let mut found = BTreeMap::new();
        for pid in all_pids()? {
            if let Some(stat) = procfs::stat(pid)?.filter(|stat| stat.has_ended()) {
                found.entry(stat.parent).or_insert_with(Vec::new).push(pid);
            }
        }
        Ok(Zombies(found))
    }
}

impl Pod {
    /// The processes of all its containers, one container after the other. pause is not
    /// among them.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run; [`Error::Os`] if the kernel does not tell.
    pub fn top(&self) -> Result<Vec<ProcessInfo>> {
        match self.started_anew()? {
            Some(pod) => pod.its_top(),
            None => self.its_top(),
        }
    }

    fn its_top(&self) -> Result<Vec<ProcessInfo>> {
        if !self.is_alive() {
            return Err(self.dead());
        }
        let zombies = Zombies::find()?;
        let mut found = Vec::new();
        for container in self.containers()? {
            match container.its_top(&zombies) {
                // It does not run, or was removed just now.
                Err(Error::State { .. } | Error::NotFound(_)) => {}
                processes => found.extend(processes?),
            }
        }
        Ok(found)
    }
}

impl Container<'_> {
    /// Its processes, zombies included, the oldest first.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run; [`Error::NotFound`]; [`Error::Os`] if the
    /// kernel does not tell.
    pub fn top(&self) -> Result<Vec<ProcessInfo>> {
        let zombies = Zombies::find()?;
        self.now(|it| it.its_top(&zombies))
    }

    fn its_top(&self, zombies: &Zombies) -> Result<Vec<ProcessInfo>> {
        let main = self.main_of(&self.record()?)?;
        let mut pids = self.live_pids(&main)?;
        let ended: Vec<_> = pids.iter().filter_map(|pid| zombies.0.get(pid)).flatten().copied().collect();
        pids.extend(ended);
        let mut facts = Vec::new();
        for pid in pids {
            facts.extend(ProcessFacts::read(pid)?);
        }
        facts.sort_by_key(|facts| (facts.process.start, facts.process.pid));
        facts.dedup_by_key(|facts| facts.process);
        let view = View::of(main.process)?.ok_or_else(|| Error::state(self.object(), "is not running"))?;
        let mut parents: BTreeMap<u32, Option<ProcessFacts>> = BTreeMap::new();
        let mut found = Vec::new();
        for one in &facts {
            let parent = match parents.get(&one.parent) {
                Some(known) => known,
                None => parents.entry(one.parent).or_insert(ProcessFacts::read(one.parent)?),
            };
            // What has none is podlet's own, on its way out of the launch of an exec.
            if let Some(pid_inside) = one.pid_at(view.level) {
                found.push(view.show(&self.name, one, pid_inside, parent.as_ref())?);
            }
        }
        Ok(found)
    }

    /// Those that have not ended.
    fn live_pids(&self, main: &ProcessRecord) -> Result<Vec<u32>> {
        if let Some(cgroup) = self.cgroup() {
            return all_processes(&cgroup);
        }
        // What has made a mount namespace of its own is not found.
        match main.mounts.map_or_else(|| mount_namespace(main.process.pid), |mounts| Ok(Some(mounts)))? {
            Some(mounts) => processes_in(mounts),
            None => Ok(vec![main.process.pid]),
        }
    }
}

/// How a container sees pids and ids.
struct View {
    /// How many pid namespaces its own is below this program's.
    level: usize,
    /// Without a user namespace of its own: ids are what they are.
    maps: Option<[Vec<IdMap>; 2]>,
    names: Names,
    names_outside: Names,
}

impl View {
    /// That of a container's main process; `None` if it is gone.
    fn of(main: ProcessId) -> Result<Option<View>> {
        let Some(facts) = ProcessFacts::read(main.pid)? else { return Ok(None) };
        let users = |pid| procfs::namespace_inode(pid, "user");
        let maps = match users(main.pid)? == users(std::process::id())? {
            true => None,
            false => Some([procfs::text_of(main.pid, "uid_map")?, procfs::text_of(main.pid, "gid_map")?]),
        };
        // Names are a convenience: ids tell the same where the image cannot be read.
        let root = procfs::root_of(main).ok().flatten().map(RootFiles::Dir);
        let names = root.and_then(|root| Names::read(&root).ok()).unwrap_or_default();
        // All of this was its own, unless the pid is another process's now.
        let view = View {
            level: facts.pids.len().saturating_sub(1),
            maps: maps.map(|maps| maps.map(|map| parse_map(&map))),
            names,
            names_outside: RootFiles::of_dir(Path::new("/")).and_then(|root| Names::read(&root)).unwrap_or_default(),
        };
        Ok((ProcessId::of(main.pid)? == Some(main)).then_some(view))
    }

    fn owner(&self, id: u32, kind: usize) -> ProcessOwner {
        let inside = match &self.maps {
            Some(maps) => idmap::inside(id, &maps[kind]).unwrap_or(OVERFLOW),
            None => id,
        };
        let name = |names: &Names, id| if kind == 0 { names.user(id) } else { names.group(id) };
        ProcessOwner { inside: name(&self.names, inside), outside: id, outside_name: name(&self.names_outside, id) }
    }

    fn show(
        &self,
        container: &str,
        one: &ProcessFacts,
        pid_inside: u32,
        parent: Option<&ProcessFacts>,
    ) -> Result<ProcessInfo> {
        let [inheritable, permitted, effective, bounding, ambient] = one.capabilities;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        Ok(ProcessInfo {
            container: container.into(),
            pid: one.process.pid,
            parent: one.parent,
            parent_name: parent.map(|parent| parent.name.clone()).unwrap_or_default(),
            pid_inside,
            parent_inside: parent.and_then(|parent| parent.pid_at(self.level)).unwrap_or(0),
            group_inside: one.groups.get(self.level).copied().unwrap_or(0),
            pids_inside: one.pids.get(self.level..).unwrap_or_default().to_vec(),
            state: one.state,
            name: one.name.clone(),
            args: one.args.clone(),
            users: [one.uids[1], one.uids[0]].map(|id| self.owner(id, 0)),
            groups: [one.gids[1], one.gids[0]].map(|id| self.owner(id, 1)),
            elapsed: age(one.process.start)?,
            cpu_time: ticks(one.ticks),
            terminal: (one.terminal != 0).then(|| device(one.terminal)),
            nice: one.nice,
            virtual_size: one.virtual_size,
            resident: one.resident_pages.saturating_mul(page as u64),
            seccomp: one.seccomp,
            capabilities: ProcessCapabilities { inheritable, permitted, effective, bounding, ambient },
        })
    }
}

/// Major and minor number of field 7 of proc_pid_stat(5).
fn device(number: u32) -> (u32, u32) {
    ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminals_numbers_are_apart() {
        // new_encode_dev of linux/kdev_t.h.
        let encode = |major: u32, minor: u32| (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        for pair in [(136, 0), (136, 255), (136, 300), (4, 64)] {
            assert_eq!(device(encode(pair.0, pair.1)), pair);
        }
    }
}
