//! Executing the plugins of a network: where they are, how long they may take, and
//! what is asked of the network as a whole.
//!
//! ADD, DEL and CHECK of one attachment are in `attachments`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use pod::{Error, Result};
use serde_json::{Map, Value};

use super::conflist::{Conflist, plugin_type};
use super::dirs::PLUGINS;
use super::failure::{Command, Failure};
use super::lock::{Lock, Share};
use super::record::Record;
use super::request::{About, AttachmentName, config, environment};
use crate::exec::{Output, Trouble, execute};

/// What executes plugins. It has no state but its locks below `cache_dir`, so any
/// number of programs and threads can have one on the same directory.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Where plugins are looked for, in this order, CNI_PATH.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where locks are: one directory for all who manage the same containers. It is
    /// made when it is needed, for its owner alone.
    pub cache_dir: PathBuf,
    /// How long one plugin may take for ADD, CHECK, GC or STATUS, and how long the
    /// end of another operation for the same container is waited for.
    pub deadline: Duration,
    /// The same for DEL, also the one that follows a failed ADD.
    pub del_deadline: Duration,
    /// The PATH of plugins, which execute programs such as iptables. They have
    /// nothing else of this program's environment.
    pub search_path: OsString,
}

/// What STATUS said.
#[derive(Debug)]
#[non_exhaustive]
pub enum StatusReport {
    /// All plugins are ready for ADD.
    Ready,
    /// One is not: [`Failure::of`] has its code.
    NotReady(Error),
    /// Plugins were not asked, because of this.
    NotAsked(&'static str),
}

/// What CHECK said.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckReport {
    /// The attachment is as ADD made it.
    AsMade,
    /// It is not, or a plugin could not be asked.
    Failed(Error),
    /// Plugins were not asked, because of this.
    NotAsked(&'static str),
}

/// What is known of a network's attachments at one time, for [`Runtime::gc`].
#[derive(Debug, Default)]
pub struct Survey {
    /// All records.
    pub records: Vec<Record>,
    /// The attachments that are in use.
    pub valid: Vec<AttachmentName>,
}

/// Where plugins get what they are told from.
pub(crate) enum Input<'a> {
    /// The file of the container's lock.
    Lock(&'a Lock),
    /// A file in memory.
    Memory,
}

impl Runtime {
    /// One that looks where distributions put plugins, with a minute for each.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Runtime {
        Runtime {
            plugin_dirs: PLUGINS.iter().map(PathBuf::from).collect(),
            cache_dir: cache_dir.into(),
            deadline: Duration::from_secs(60),
            del_deadline: Duration::from_secs(60),
            search_path: with_system_programs(env::var_os("PATH")),
        }
    }

    /// Has the leftovers of a network taken away: first DEL of each record that is
    /// not of a valid attachment, because plugins may accept GC and do nothing; then
    /// GC, if the version has it (1.1.0) and the network does not disable it.
    ///
    /// No ADD or DEL goes on meanwhile in any program on this `cache_dir`. So
    /// `survey` is called only then, and must not call this runtime. Whatever the
    /// plugins keep for attachments that are not valid is lost: a network that is
    /// shared with another runtime needs `disableGC`.
    ///
    /// # Errors
    /// `survey`'s and `store`'s; [`Error::Deadline`] if others do not come to their
    /// end; [`Error::Failed`] of the plugins that failed, after all were asked.
    pub fn gc(
        &self,
        network: &Conflist,
        survey: &mut dyn FnMut() -> Result<Survey>,
        store: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<()> {
        let _lock = Lock::of_all(&self.cache_dir, Share::Alone, self.deadline)?;
        let Survey { records, valid } = survey()?;
        let mut failures = Vec::new();
        let stale = |record: &&Record| record.network().name == network.name && !valid.contains(&record.name());
        let mut stuck = None;
        for record in records.iter().filter(stale) {
            match self.del_in_turn(record, store) {
                Ok(more) => failures.extend(more),
                // One that is stuck does not keep the others.
                Err(error) => stuck = stuck.or(Some(error)),
            }
        }
        if network.version.has_gc_and_status() && !network.disable_gc {
            for plugin in &network.plugins {
                let about = About::Network { valid: &valid };
                failures.extend(
                    self.run(Command::Gc, network, plugin, about, &Input::Memory).err().map(|failure| *failure),
                );
            }
        }
        let doing = || format!("collecting what is left over in CNI network {:?}", network.name);
        match Failure::joined(failures) {
            Some(failure) => Err(failure.while_doing(doing())),
            None => stuck.map_or(Ok(()), Err),
        }
    }

    /// Does something while nobody attaches, detaches or collects; where somebody does,
    /// it is left to the next.
    pub(crate) fn undisturbed(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        match Lock::of_all(&self.cache_dir, Share::Alone, Duration::ZERO) {
            Err(Error::Deadline { .. }) => Ok(()),
            lock => lock.and_then(|_lock| work()),
        }
    }

    /// Removes the directory of locks, for who knows that there are no attachments any
    /// more; one that others use stays.
    pub(crate) fn remove_locks(&self) {
        // What stays is a few empty files.
        Lock::remove_all(&self.cache_dir).ok();
    }

    /// Whether the network's plugins are ready for ADD.
    ///
    /// # Errors
    /// The list cannot be executed at all: a directory of plugins with a `:`.
    pub fn status(&self, network: &Conflist) -> Result<StatusReport> {
        environment(Command::Status, About::Plugins, &self.plugin_dirs, &self.search_path)?;
        if !network.version.has_gc_and_status() {
            return Ok(StatusReport::NotAsked("STATUS is in cniVersion 1.1.0 and later"));
        }
        for plugin in &network.plugins {
            if let Err(failure) = self.run(Command::Status, network, plugin, About::Plugins, &Input::Memory) {
                let doing = format!("asking for the status of CNI network {:?}", network.name);
                return Ok(StatusReport::NotReady(failure.while_doing(doing)));
            }
        }
        Ok(StatusReport::Ready)
    }

    /// Executes one plugin; what it printed, if it ended with 0.
    pub(crate) fn run(
        &self,
        command: Command,
        network: &Conflist,
        plugin: &Map<String, Value>,
        about: About<'_>,
        input: &Input<'_>,
    ) -> std::result::Result<Vec<u8>, Box<Failure>> {
        let kind = plugin_type(plugin);
        let failure = |msg: String| Failure::new(&network.name, kind, command, msg);
        let program = self.find(kind).ok_or_else(|| self.missing(failure(String::new())))?;
        let told = Value::Object(config(network, plugin, about)).to_string();
        let environment = environment(command, about, &self.plugin_dirs, &self.search_path)
            .map_err(|error| failure(error.to_string()))?;
        let deadline = if command == Command::Del { self.del_deadline } else { self.deadline };
        let ended = execute(&program, &[], &environment, || input.file(told.as_bytes()), deadline);
        if let Input::Lock(lock) = input {
            lock.empty();
        }
        match ended {
            Ok(Output { status, stdout, .. }) if status.success() => Ok(stdout),
            Ok(Output { status, stdout, stderr }) => Err(failure(String::new()).said(&how(status), &stdout, &stderr)),
            Err(Trouble::Late(stderr)) => {
                let how = format!("did not end within {} s and was killed", deadline.as_secs_f32());
                Err(failure(how).having_written(&stderr))
            }
            Err(Trouble::TooMuch) => Err(failure("printed more than 4 MiB and was killed".to_owned())),
            Err(Trouble::Start(error)) => Err(failure(format!("cannot execute {}: {error}", program.display()))),
            Err(Trouble::Wait(error)) => Err(failure(format!("could not be waited for: {error}"))),
        }
    }

    /// Refuses a list of which a program is missing.
    pub(crate) fn check_programs(&self, network: &Conflist, command: Command) -> std::result::Result<(), Box<Failure>> {
        match network.plugin_types().find(|kind| self.find(kind).is_none()) {
            Some(kind) => Err(self.missing(Failure::new(&network.name, kind, command, ""))),
            None => Ok(()),
        }
    }

    /// The program of a plugin: the first that can be executed.
    fn find(&self, kind: &str) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        self.plugin_dirs.iter().map(|dir| dir.join(kind)).find(is_program)
    }

    fn missing(&self, failure: Box<Failure>) -> Box<Failure> {
        let files = self.plugin_dirs.iter().map(|dir| dir.join(&failure.plugin));
        match files.into_iter().find(|path| path.is_file()) {
            Some(path) => failure.not_executable(&path),
            None => {
                let dirs: Vec<_> = self.plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
                failure.missing(&dirs)
            }
        }
    }
}

impl Input<'_> {
    fn file(&self, contents: &[u8]) -> io::Result<File> {
        let Input::Lock(lock) = self else {
            let mut file = File::from(memfd_create(c"cni", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(contents)?;
            file.rewind()?;
            return Ok(file);
        };
        lock.as_input(contents)
    }
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("ended with {}", status.code().unwrap_or_default()),
    }
}

/// Plugins need iptables and sysctl, which are where an ordinary user's PATH does
/// not lead.
fn with_system_programs(path: Option<OsString>) -> OsString {
    let given = path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/bin:/bin".into());
    let mut dirs: Vec<PathBuf> = env::split_paths(&given).collect();
    for dir in ["/usr/sbin", "/sbin"].map(Path::new) {
        if !dirs.iter().any(|given| given == dir) {
            dirs.push(dir.into());
        }
    }
    // What came apart at ':' goes together again.
    env::join_paths(dirs).unwrap_or_else(|_| OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin").into())
}
