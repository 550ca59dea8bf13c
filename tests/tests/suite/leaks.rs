//! What a test may not leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::modes::hierarchy;

/// Everything that is compared before and after.
#[derive(PartialEq, Eq, Debug)]
pub struct Snapshot {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    named_networks: BTreeSet<String>,
}

impl Snapshot {
    pub fn take() -> Snapshot {
        Snapshot {
            mounts: mounts(),
            interfaces: names("/sys/class/net"),
            cgroups: own_cgroups(),
            named_networks: names("/run/netns"),
        }
    }

    /// What `self`, the state before, and the state now differ in.
    pub fn compare(&self) -> Vec<String> {
        let now = Snapshot::take();
        let mut leaks = differences("mount", &self.mounts, &now.mounts);
        leaks.extend(differences("interface", &self.interfaces, &now.interfaces));
        let shown = |paths: &BTreeSet<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect();
        leaks.extend(differences("cgroup", &shown(&self.cgroups), &shown(&now.cgroups)));
        leaks.extend(differences("named network", &self.named_networks, &now.named_networks));
        leaks
    }
}

fn differences(what: &str, before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let new = now.difference(before).map(|thing| format!("{what} left behind: {thing}"));
    let gone = before.difference(now).map(|thing| format!("{what} gone: {thing}"));
    new.chain(gone).collect()
}

/// The mount table, but for fields that change by themselves.
pub fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(String::from).collect()
}

fn names(dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// All cgroups below the one this process is in, or beside it where that is
/// the harness's own.
fn own_cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    if let (Some(mount_point), Some(own)) = (hierarchy(), own.filter(|own| own.ends_with("harness"))) {
        let top = mount_point.join(own);
        collect(top.parent().unwrap_or(&mount_point), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path());
            collect(&entry.path(), found);
        }
    }
}

/// A process, as /proc tells.
#[derive(Clone)]
pub struct Seen {
    pub pid: u32,
    pub parent: u32,
    pub state: char,
    pub title: String,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (child of {}) {} {}", self.pid, self.parent, self.state, self.title)
    }
}

/// All processes of this machine.
pub fn processes() -> Vec<Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let seen = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        let title = if title.is_empty() { before.to_string() } else { title };
        Some(Seen { pid, parent, state, title })
    };
    pids.filter_map(seen).collect()
}

/// The descendants of `root` that live.
pub fn descendants(root: u32) -> Vec<Seen> {
    let all: BTreeMap<u32, Seen> = processes().into_iter().map(|seen| (seen.pid, seen)).collect();
    let below = |seen: &Seen| {
        let mut at = seen.parent;
        for _ in 0..64 {
            if at == root {
                return true;
            }
            match all.get(&at) {
                Some(parent) => at = parent.parent,
                None => return false,
            }
        }
        false
    };
    all.values().filter(|seen| !matches!(seen.state, 'Z' | 'X') && below(seen)).cloned().collect()
}

/// This process's descriptors and what they are.
pub fn descriptors() -> BTreeMap<i32, String> {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().collect();
    let entries = entries.into_iter().filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        // Without the descriptor that the directory itself was read by.
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.display().to_string();
        (!link.ends_with("/fd")).then_some((fd, link))
    });
    entries.collect()
}

/// Every path below `dir`.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    found
}
