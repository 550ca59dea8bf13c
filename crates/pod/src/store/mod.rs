//! The state directory: what was asked for, and which processes were born for it.
//!
//! ```text
//!   <root>/<pod>/
//!     pod.json                what was asked for, written before anything is made
//!     pause.json              pause's pid and start time
//!     table                   the exit table
//!     ext/<owner>/            what another program keeps for the pod, until its clean-up has succeeded
//!     supervisor.lock         a container has a restart policy or checks; locked by the pod's supervisor
//!     supervisor.json         that one's pid and start time
//!     lock                    shared: a launch is in flight; exclusive: the pod changes
//!     containers/<name>/
//!       container.json        what was asked for, and its entry in the table
//!       process.json          its pid and start time
//!       health.json           what its checks have found out
//!       oom.json              whose memory it used up, for when its cgroup is gone
//!       log                   what a detached container wrote
//!       upper/ work/          what it changed of the machine's root
//!   <root>/.sweep/<pod>       an empty file: no command will ask for this pod once it is dead
//!   <root>/.sweep/<pod>:<container>   the same of a container that has ended
//!   <root>/.sweep/<pod>~<number>      a pod's directory that is being removed
//! ```
//!
//! Every record is written under another name and renamed; what was asked
//! for before anything of it is made, pids as soon as there are any. What runs
//! is never read from here but asked of the kernel: a pid counts only together
//! with its start time. Each record says its version, and what is no plain file
//! is not opened.

pub(crate) mod exits;
pub mod extension;
pub(crate) mod health;
pub(crate) mod lock;
pub(crate) mod records;
pub(crate) mod restarts;
pub(crate) mod root;
pub(crate) mod snapshot;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::unistd::{AccessFlags, access};

use crate::error::{Context, Result};
use crate::kernel::files::{ignore_missing, is_there, make_private, names_in, remove_all, remove_file};
use crate::launch::run_plan;
use extension::Extension;
use records::{CONTAINERS, EXTENSIONS, LOCK, PAUSE, POD, SUPERVISED, SUPERVISOR, TABLE};

/// A directory with the state of pods.
///
/// Two stores know nothing of each other; their pods may have the same names.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    extensions: Vec<Arc<dyn Extension>>,
    program_dirs: Vec<PathBuf>,
}

/// The same directory is the same store.
impl PartialEq for Store {
    fn eq(&self, other: &Store) -> bool {
        self.root == other.root
    }
}

impl Eq for Store {}

impl Store {
    /// The store at `root`, an absolute path, made if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if it belongs to another user or
    /// others can write there, or change a link on the way: they could make podlet
    /// believe anything.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store> {
        // Resolved once: mounts and masks need the real path.
        let root = root::open(&root.into())?;
        let program_dirs = run_plan::program_dirs(&root);
        Ok(Store { root, extensions: Vec::new(), program_dirs })
    }

    /// Where the store is if the caller names no other: `/run/podlet` for root
    /// that may write to `/run`, `$XDG_RUNTIME_DIR/podlet` for others, and without that
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

    /// What no container is to see: this store, and the one this user has by
    /// default.
    pub(crate) fn hidden(&self) -> [PathBuf; 2] {
        [self.root.clone(), Store::default_root()]
    }

    /// Directories for the sealed program, should memfds be forbidden.
    pub(crate) fn program_dirs(&self) -> &[PathBuf] {
        &self.program_dirs
    }

    pub(crate) fn pod_dir(&self, pod: &str) -> PathBuf {
        self.root.join(pod)
    }

    /// Names of all pods that have a record, sorted.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if the directory cannot be read.
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

    /// Removes the mark of something that is gone. A command that makes it anew
    /// makes its directory first and looks for the mark then; this is the other way
    /// round, so that one of the two sees the other.
    pub(crate) fn unmark_gone(&self, mark: &str) -> Result<()> {
        self.mark_for_sweep(mark, false)?;
        let dir = match mark.split_once(':') {
            Some((pod, container)) => self.pod_dir(pod).join(CONTAINERS).join(container),
            None => self.pod_dir(mark),
        };
        if is_there(&dir) { self.mark_for_sweep(mark, true) } else { Ok(()) }
    }

    /// Removes a pod's directory, whose lock the caller has. It goes as a whole,
    /// by its name: no command can take the lock of one that is half removed.
    pub(crate) fn remove_pod_dir(&self, pod: &str) -> Result<()> {
        let dir = self.pod_dir(pod);
        let sweep = self.root.join(SWEEP);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let removed = sweep.join(format!("{pod}{REMOVED}{}.{}", std::process::id(), now.as_nanos()));
        let renamed = match fs::rename(&dir, &removed) {
            // Perhaps the directory for it was missing.
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
    // Root of a user namespace may be an ordinary user, such as one who runs podman.
    let is_ours = || access("/run", AccessFlags::W_OK).is_ok();
    match runtime {
        _ if uid == 0 && is_ours() => Path::new("/run").join(name),
        Some(dir) if dir.is_dir() => dir.join(name),
        _ => format!("/tmp/{name}-{uid}").into(),
    }
}

const SWEEP: &str = ".sweep";
/// No pod's name has it.
const REMOVED: char = '~';

/// 64 random hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.doing(|| "reading /dev/urandom".into())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a directory has nothing in it but what podlet puts into a pod's.
pub(crate) fn is_pod_dir(dir: &Path) -> Result<bool> {
    let ours = [POD, PAUSE, TABLE, CONTAINERS, EXTENSIONS, LOCK, SUPERVISED, SUPERVISOR];
    let drafts = ["pod.new", "pause.new", "table.new", "supervisor.new"];
    let context = || format!("reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        // Removed just now.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(false),
        entries => entries.doing(context)?,
    };
    for entry in entries {
        let name = entry.doing(context)?.file_name();
        if !ours.iter().chain(&drafts).any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}
