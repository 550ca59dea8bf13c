//! The state directory: what was asked for, and who was born for it.
//!
//! ```text
//!   <root>/<pod>/
//!     pod.json                what was asked for, written before anything is made
//!     pause.json              pause's pid and start time
//!     table                   the exit table
//!     lock                    shared: a launch is in flight; exclusive: the pod changes
//!     containers/<name>/
//!       container.json        what was asked for, and its slot in the table
//!       process.json          its pid and start time
//!       oom.json              whose memory it used up, for when its cgroup is gone
//!       log                   what a detached container wrote
//!       upper/ work/          what it changed of the machine's root
//!   <root>/.sweep/<pod>       an empty file: nobody will ask for this pod once it is dead
//!   <root>/.sweep/<pod>:<container>   the same of a container that has ended
//!   <root>/.sweep/<pod>~<number>      a pod's directory that is being removed
//! ```
//!
//! Every record is written beside its place and renamed into it; what was asked
//! for before anything of it is made, pids as soon as there are any. What runs
//! is never read from here but asked of the kernel: a pid counts only together
//! with its start time. Each record says its version, and what is no plain file
//! is not opened.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::plan::hold::Users;
use crate::spec::{Container, PodOptions};
use crate::table::{Exit, Reservation};
use crate::{plain, procfs, root, sys, tree};

/// A directory that holds the state of pods.
///
/// Two stores know nothing of each other; their pods may have the same names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    places: Vec<PathBuf>,
}

impl Store {
    /// The store at `root`, an absolute path, made if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it belongs to somebody else or others can write
    /// there, or change a link on the way: they could make podlet believe
    /// anything.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store> {
        // Resolved once: mounts and masks need the real path.
        let root = root::open(&root.into())?;
        let places = vec![root.clone(), PathBuf::from("/dev/shm"), PathBuf::from("/var/tmp")];
        Ok(Store { root, places })
    }

    /// Where the store is if nobody says otherwise: `/run/podlet` for root,
    /// `$XDG_RUNTIME_DIR/podlet` for others, and without that
    /// `/tmp/podlet-<uid>`.
    pub fn default_root() -> PathBuf {
        default_root("podlet")
    }

    /// The store at [`default_root`](Store::default_root).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_default() -> Result<Store> {
        Store::open(Store::default_root())
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directories that may hold programs, should memfds be forbidden.
    pub(crate) fn places(&self) -> &[PathBuf] {
        &self.places
    }

    pub(crate) fn pod_dir(&self, pod: &str) -> PathBuf {
        self.root.join(pod)
    }

    /// Names of all pods that have a record, sorted.
    ///
    /// # Errors
    /// [`Error::Os`] if the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = self.entries()?;
        names.retain(|name| is_there(&self.pod_dir(name).join(POD)));
        Ok(names)
    }

    /// Names of all that may be a pod, sorted.
    pub(crate) fn entries(&self) -> Result<Vec<String>> {
        names_in(&self.root)
    }

    /// The marks of what asks to be swept.
    pub(crate) fn to_sweep(&self) -> Vec<String> {
        names_in(&self.root.join(SWEEP)).unwrap_or_default()
    }

    /// Makes sure that a mark is there which a sweep may have taken, because it
    /// did not see yet what the mark is for.
    pub(crate) fn keep_mark(&self, mark: &str) -> Result<()> {
        if self.root.join(SWEEP).join(mark).exists() { Ok(()) } else { self.mark_for_sweep(mark, true) }
    }

    /// Removes the mark of something that is gone. Whoever makes it anew makes
    /// its directory first and looks for the mark then; we do it the other way
    /// round, so that one of us sees the other.
    pub(crate) fn unmark_gone(&self, mark: &str) -> Result<()> {
        self.mark_for_sweep(mark, false)?;
        let dir = match mark.split_once(':') {
            Some((pod, container)) => self.pod_dir(pod).join(CONTAINERS).join(container),
            None => self.pod_dir(mark),
        };
        if is_there(&dir) { self.mark_for_sweep(mark, true) } else { Ok(()) }
    }

    /// Removes a pod's directory, whose lock the caller has. It goes as a whole,
    /// by its name: nobody can take the lock of one that is half removed.
    pub(crate) fn remove_pod_dir(&self, pod: &str) -> Result<()> {
        let dir = self.pod_dir(pod);
        let sweep = self.root.join(SWEEP);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let removed = sweep.join(format!("{pod}{REMOVED}{}.{}", std::process::id(), now.as_nanos()));
        let renamed = match fs::rename(&dir, &removed) {
            // Perhaps there was no place for it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_private(&sweep)?;
                ignore_missing(fs::rename(&dir, &removed))
            }
            renamed => renamed,
        };
        renamed.doing(|| format!("removing {}", dir.display()))?;
        remove_all(&removed)
    }

    /// Whether a mark is no mark but what a killed remover left.
    pub(crate) fn is_removed(mark: &str) -> bool {
        mark.contains(REMOVED)
    }

    /// Removes that.
    pub(crate) fn remove_rest(&self, mark: &str) -> Result<()> {
        remove_all(&self.root.join(SWEEP).join(mark))
    }

    /// Makes or removes the mark of a pod, or of a container: `pod:container`.
    pub(crate) fn mark_for_sweep(&self, mark: &str, on: bool) -> Result<()> {
        let dir = self.root.join(SWEEP);
        let mark = dir.join(mark);
        if on {
            make_private(&dir)?;
            match File::create_new(&mark) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                made => made.map(drop).doing(|| format!("writing {}", mark.display())),
            }
        } else {
            remove_file(&mark)
        }
    }
}

/// The directory of that name for this user's state.
pub(crate) fn default_root(name: &str) -> PathBuf {
    let uid = nix::unistd::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    match runtime {
        _ if uid == 0 => Path::new("/run").join(name),
        Some(dir) if dir.is_dir() => dir.join(name),
        _ => format!("/tmp/{name}-{uid}").into(),
    }
}

pub(crate) const POD: &str = "pod.json";
pub(crate) const PAUSE: &str = "pause.json";
pub(crate) const TABLE: &str = "table";
pub(crate) const CONTAINERS: &str = "containers";
pub(crate) const CONTAINER: &str = "container.json";
pub(crate) const PROCESS: &str = "process.json";
pub(crate) const LOG: &str = "log";
pub(crate) const OOM: &str = "oom.json";
pub(crate) const LOCK: &str = "lock";
const SWEEP: &str = ".sweep";
/// No pod's name has it.
const REMOVED: char = '~';

/// What this build writes into every record as its version. It goes up when a
/// build before would misunderstand a record; what is older is read as it was
/// meant then. Records of version 0 have none.
pub(crate) const VERSION: u32 = 1;
/// How a record of that version begins.
const OURS: &str = "{\"version\":1,";
/// The most bytes a record can have: far above what any config comes to.
const MOST: usize = 64 << 20;

/// `pod.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub id: String,
    pub options: PodOptions,
    pub users: Users,
    pub cgroup: Option<PathBuf>,
    pub created: SystemTime,
    /// Ends with the program that made it, and then nobody wants its records.
    pub attached: bool,
    /// That program: as long as it lives it may ask for them, also once the pod
    /// has ended.
    #[serde(default)]
    pub owner: Option<ProcessId>,
}

/// `pause.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PauseRecord {
    pub process: ProcessId,
    /// `/proc/sys/kernel/random/boot_id`: pids of another boot mean nothing.
    pub boot: String,
    /// The pid namespace in which that is its pid, by inode.
    pub pids: u64,
    /// The pod's cgroup, by its number.
    pub cgroup: Option<u64>,
    /// Its limits stand twice.
    #[serde(default)]
    pub doubled: bool,
}

/// `container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub container: Container,
    pub created: SystemTime,
    /// The latest run.
    pub started: Option<SystemTime>,
    /// Its slot, as long as the exit table is the one it was reserved in.
    pub reservation: Option<Reservation>,
    /// Nobody wants its records once it has ended.
    #[serde(default)]
    pub remove_when_ended: bool,
    /// How the latest run ended, once the table that knew it is gone.
    pub exit: Option<Exit>,
    /// How often the pod's memory limit had been hit when the latest run began.
    #[serde(default)]
    pub pod_ooms: u64,
    /// In the latest run its limits stand twice.
    #[serde(default)]
    pub doubled: bool,
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
}

impl ProcessId {
    /// Of a process that lives or is a zombie; `None` if there is none of that
    /// pid.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not tell, which is not "none".
    pub(crate) fn of(pid: u32) -> Result<Option<ProcessId>> {
        Ok(procfs::stat(pid)?.map(|stat| ProcessId { pid, start: stat.start }))
    }

    /// A pidfd, if the process is still this one.
    ///
    /// Opened first and compared then: were it another one's, the start time
    /// would be a later one.
    ///
    /// # Errors
    /// As [`of`](ProcessId::of).
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pidfd) = procfs::open_process(self.pid)? else { return Ok(None) };
        Ok((ProcessId::of(self.pid)? == Some(*self)).then_some(pidfd))
    }
}

/// The number of this boot (random(4)).
pub(crate) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let id = procfs::read(PATH).doing(|| format!("reading {PATH}"))?;
    Ok(id.trim().to_string())
}

/// 64 random hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.doing(|| "reading /dev/urandom".into())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a directory nobody else can look into, with its parents.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.doing(|| format!("making the directory {}", dir.display()))
}

/// A record as it is written.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

/// What is read of a record first. Those of version 0 do not say so.
#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: u32,
}

/// Writes a record beside its place and renames it there.
pub(crate) fn write_record(path: &Path, record: &impl Serialize) -> Result<()> {
    write_renamed(path, &record_bytes(path, record)?)
}

/// A record as it stands in its file.
pub(crate) fn record_bytes(path: &Path, record: &impl Serialize) -> Result<Vec<u8>> {
    let bytes = serde_json::to_vec(&Versioned { version: VERSION, record });
    bytes.map_err(std::io::Error::other).doing(|| format!("writing {}", path.display()))
}

/// Writes a file beside its place and renames it there.
pub(crate) fn write_renamed(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    write_new(&new, bytes)?;
    fs::rename(&new, path).doing(|| format!("writing {}", path.display()))
}

/// Writes a file that is made for it: what is there already, whatever that is,
/// was left by somebody who was killed.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove_all(path)?;
            File::create_new(path)
        }
        file => file,
    }
    .doing(context)?;
    file.write_all(bytes).doing(context)
}

/// Reads a record; `None` if there is none.
///
/// # Errors
/// [`Error::Newer`]; [`Error::Corrupt`], also for what is no plain file.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some((mut file, meta)) = plain::open_own(path, File::options().read(true))? else { return Ok(None) };
    let corrupt =
        |reason: &dyn Display| Error::Corrupt { path: path.display().to_string(), reason: reason.to_string() };
    let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    if size > MOST {
        return Err(corrupt(&format!("larger than {MOST} bytes")));
    }
    // It was renamed to its place and does not change any more.
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).doing(|| format!("reading {}", path.display()))?;
    let corrupt = |error: serde_json::Error| corrupt(&error);
    // This build's own say it first, and are read once.
    if !bytes.starts_with(OURS.as_bytes()) {
        let Version { version } = serde_json::from_slice(&bytes).map_err(corrupt)?;
        if version > VERSION {
            return Err(Error::Newer { path: path.display().to_string(), version, known: VERSION });
        }
    }
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

/// Whether there is anything, be it a link that leads nowhere, as far as can be
/// seen: where the kernel does not tell, whoever goes on as if there were is
/// told why.
pub(crate) fn is_there(path: &Path) -> bool {
    let absent = |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    !fs::symlink_metadata(path).is_err_and(absent)
}

/// Names of directory entries that are not hidden, sorted.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(|| format!("reading {}", dir.display()))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let names = names.doing(|| format!("reading {}", dir.display()))?;
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

pub(crate) fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether a directory holds nothing but what podlet puts into a pod's.
pub(crate) fn is_pod_dir(dir: &Path) -> Result<bool> {
    let known = [POD, PAUSE, TABLE, CONTAINERS, LOCK, "pod.new", "pause.new", "table.new"];
    let context = || format!("reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        // Removed just now.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(false),
        entries => entries.doing(context)?,
    };
    for entry in entries {
        let name = entry.doing(context)?.file_name();
        if !known.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a file, or whatever is in its place; missing is as good.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match ignore_missing(fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => remove_all(path),
        removed => removed.doing(|| format!("removing {}", path.display())),
    }
}

/// Removes a directory and all in it, missing or not.
pub(crate) fn remove_all(dir: &Path) -> Result<()> {
    tree::remove(dir).doing(|| format!("removing {}", dir.display()))
}

/// The pod's lock, held as long as the longest-lived duplicate of `file`:
/// launchers inherit it.
#[derive(Debug)]
pub(crate) struct Lock {
    pub file: File,
}

/// How to take a [`Lock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Others may launch, too.
    Shared,
    /// Nobody launches, nobody else changes the pod.
    Exclusive,
}

impl Lock {
    /// Takes the lock of the pod at `dir`, which must be there. `None` if
    /// `wait` is false and somebody else has it, or if the directory is not
    /// (or no longer) there.
    pub(crate) fn take(dir: &Path, hold: Hold, wait: bool) -> Result<Option<Lock>> {
        let path = dir.join(LOCK);
        let context = || format!("locking {}", path.display());
        loop {
            plain::check_place(&path)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let file = match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file.doing(context)?,
            };
            match sys::lock(&file, hold == Hold::Exclusive, wait) {
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                result => result.doing(context)?,
            }
            // The pod may have been removed, and made anew, while we waited.
            let ours = file.metadata().doing(context)?;
            match fs::symlink_metadata(&path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => return Ok(Some(Lock { file })),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_version_comes_first() {
        let record = ProcessId { pid: 1, start: 2 };
        let bytes = record_bytes(Path::new("process.json"), &record).expect("a record");
        assert!(bytes.starts_with(OURS.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(OURS, format!("{{\"version\":{VERSION},"));
    }
}
