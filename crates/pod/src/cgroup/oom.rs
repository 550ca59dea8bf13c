//! Whether a process was killed for lack of memory, and whose limit it was.
//!
//! The kernel counts in `memory.events`: `oom` where a limit was hit,
//! `oom_kill` where a process died of it; in `.local` without what is below. A
//! container's cgroup is made anew for each run, so its counts are of that run;
//! of the pod's counts those before the run are taken off.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pod_tree::PodCgroup;
use crate::kernel::record_file;

/// Whose memory was used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OomLevel {
    /// The container was at its limit.
    Container,
    /// The pod was.
    Pod,
    /// The machine had none left, or a cgroup above the pod.
    Machine,
}

/// One count of an events file.
fn count(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// How often a pod's own limit was hit, which may stand above its containers
/// once more.
pub(crate) fn ooms(pod: &Path) -> u64 {
    let counted = [pod.to_path_buf(), pod.join("ctr")];
    counted.iter().filter_map(|dir| count(dir, "memory.events.local", "oom")).sum()
}

/// How many processes of a cgroup and below were killed for lack of memory; 0 if
/// the kernel does not count.
pub(crate) fn kills(dir: &Path) -> u64 {
    count(dir, "memory.events", "oom_kill").unwrap_or(0)
}

/// Where to look for what killed a container.
#[derive(Clone, Debug)]
pub(crate) struct OomWatch {
    /// Its cgroup.
    pub container: PathBuf,
    /// The pod's.
    pub pod: PathBuf,
    /// The pod's [`ooms`] when this run began.
    pub before: u64,
    /// What was found out, for when the cgroup is gone.
    pub kept: PathBuf,
    /// Which run that is about.
    pub generation: u64,
}

/// `oom.json`.
#[derive(Serialize, Deserialize)]
struct Kept {
    generation: u64,
    level: OomLevel,
}

impl OomWatch {
    /// That of the container `name` of a pod with this cgroup.
    pub(crate) fn new(cgroup: &PodCgroup, name: &str, before: u64, kept: PathBuf, generation: u64) -> OomWatch {
        OomWatch { container: cgroup.container(name), pod: cgroup.path().into(), before, kept, generation }
    }

    /// Whose lack of memory killed something of the container in this run.
    pub(crate) fn level(&self) -> Option<OomLevel> {
        let kept: Option<Kept> = record_file::read_record(&self.kept).ok().flatten();
        if let Some(kept) = kept.filter(|kept| kept.generation == self.generation) {
            return Some(kept.level);
        }
        self.look()
    }

    fn look(&self) -> Option<OomLevel> {
        count(&self.container, "memory.events", "oom_kill").filter(|kills| *kills > 0)?;
        let own = count(&self.container, "memory.events", "oom").is_some_and(|ooms| ooms > 0);
        Some(match () {
            _ if own => OomLevel::Container,
            _ if ooms(&self.pod) > self.before => OomLevel::Pod,
            _ => OomLevel::Machine,
        })
    }

    /// Writes it down, before the cgroup goes.
    pub(crate) fn keep(&self) -> crate::Result<Option<OomLevel>> {
        let level = self.look();
        if let Some(level) = level {
            record_file::write_record(&self.kept, &Kept { generation: self.generation, level })?;
        }
        Ok(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_where_the_limit_was_hit() {
        let dir = tempfile::tempdir().expect("a directory");
        let watch = OomWatch {
            container: dir.path().join("a"),
            pod: dir.path().into(),
            before: 2,
            kept: dir.path().join("oom.json"),
            generation: 7,
        };
        fs::create_dir(&watch.container).expect("a directory");
        let write = |container: &str, pod: &str| {
            fs::write(watch.container.join("memory.events"), container).expect("a file");
            fs::write(watch.pod.join("memory.events.local"), pod).expect("a file");
        };
        assert_eq!(watch.level(), None, "no memory controller");
        write("oom 1\noom_kill 0\noom_group_kill 0\n", "oom 9\n");
        assert_eq!(watch.level(), None);
        write("low 0\noom 1\noom_kill 1\n", "oom 2\n");
        assert_eq!(watch.level(), Some(OomLevel::Container));
        write("oom 0\noom_kill 2\n", "oom 3\n");
        assert_eq!(watch.level(), Some(OomLevel::Pod));
        write("oom 0\noom_kill 2\n", "oom 2\n");
        assert_eq!(watch.level(), Some(OomLevel::Machine));
        watch.keep().expect("kept");
        fs::remove_dir_all(&watch.container).expect("removed");
        assert_eq!(watch.level(), Some(OomLevel::Machine));
        assert_eq!(OomWatch { generation: 8, ..watch }.level(), None, "another run");
    }
}
