//! The process: how it is started, found and ended.
//!
//! pasta comes back from its start once the pod has its interface and the ports
//! are open, and leaves a process behind that nobody here is the parent of. That
//! has the path of the file with its number in its command line, which says whose
//! it is: by that it is found also where its starter was killed before there was a
//! number in the file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pod::{Error, Result};

use crate::exec::{Trouble, execute};
use crate::files;
use crate::process::Process;

const NAME: &str = "pasta";
const PID_FILE: &str = "pasta.pid";
/// Where it is looked for if nobody says so.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How long it may take to be ready: on a busy machine it takes 50 ms.
const START: Duration = Duration::from_secs(20);
/// How long it may take to go once it is killed.
const END: Duration = Duration::from_secs(5);

/// Where it is, by `PATH`.
///
/// # Errors
/// [`Error::Invalid`] with the package if it is not installed.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let found = std::env::split_paths(&path).map(|dir| dir.join(NAME)).find(is_program);
    let reason = "is not installed, or not in PATH: install the package passt";
    found.ok_or_else(|| Error::invalid("network", NAME, reason))
}

/// Where the pasta of a pod writes its number, in this crate's directory of the pod;
/// one spelling for all who know the directory by different ones.
pub(crate) fn pid_file(dir: &Path) -> Result<PathBuf> {
    let dir = fs::canonicalize(dir).map_err(|error| Error::failed(format!("looking at {}", dir.display()), error))?;
    Ok(dir.join(PID_FILE))
}

/// Starts it with these words, the last of which is the path of [`pid_file`], and
/// with the user namespace that it enters as its standard input; and waits until the
/// pod has its interface.
///
/// # Errors
/// [`Error::State`] with what it said; nothing is left of it then.
pub(crate) fn start(program: &Path, words: &[OsString], userns: Option<&File>, dir: &Path) -> Result<()> {
    files::remove_file(&pid_file(dir)?)?;
    let input = || userns.map_or_else(|| File::open("/dev/null"), File::try_clone);
    let error = match execute(program, words, &[], input, START) {
        Ok(output) if output.status.success() && running(dir)?.is_some() => return Ok(()),
        Ok(output) => format!("could not be started ({}): {}", output.status, said(&output.stderr)),
        Err(Trouble::Late(stderr)) => {
            format!("was not ready within {} s, and was killed: {}", START.as_secs(), said(&stderr))
        }
        Err(Trouble::TooMuch) => "printed without end, and was killed".into(),
        Err(Trouble::Start(error) | Trouble::Wait(error)) => format!("could not be started: {error}"),
    };
    end(dir)?;
    Err(Error::state(program.display().to_string(), error))
}

/// What it wrote, in one line, but for what it says where there is no syslog.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let is_of_syslog = |line: &&str| line.starts_with("Failed to send ") && line.ends_with(" syslog");
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_of_syslog(line)).collect();
    if lines.is_empty() { "it said nothing".into() } else { lines.join("; ") }
}

/// The number of the pod's, if it runs.
///
/// # Errors
/// [`Error::Os`].
pub(crate) fn running(dir: &Path) -> Result<Option<u32>> {
    let is_there = fs::exists(dir.join(PID_FILE)).unwrap_or(true);
    Ok(if is_there { noted(&pid_file(dir)?)?.map(|(pid, _)| pid) } else { None })
}

/// The process that is noted, if it is what it should be.
fn noted(pid_file: &Path) -> Result<Option<(u32, Process)>> {
    let Some(pid) = number_in(pid_file)? else { return Ok(None) };
    let found = of(pid, pid_file).map_err(|error| Error::failed(format!("looking at process {pid}"), error))?;
    Ok(found.map(|process| (pid, process)))
}

fn number_in(pid_file: &Path) -> Result<Option<u32>> {
    let text = files::read(pid_file)?.unwrap_or_default();
    Ok(std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()))
}

/// The process of that number, if it is the one of that file.
fn of(pid: u32, pid_file: &Path) -> io::Result<Option<Process>> {
    if !is_told(pid, pid_file)? {
        return Ok(None);
    }
    match Process::open(pid) {
        // Looked at again: the number may be another's now.
        Ok(process) => Ok(is_told(pid, pid_file)?.then_some(process)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the last word of its command line is that path. What has ended has none.
fn is_told(pid: u32, pid_file: &Path) -> io::Result<bool> {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => {
            let last = line.strip_suffix(&[0]).and_then(|line| line.rsplit(|byte| *byte == 0).next());
            Ok(last.is_some_and(|last| OsStr::from_bytes(last) == pid_file.as_os_str()))
        }
        // Gone, or hidden, and so another user's (proc(5), `hidepid`).
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::EPERM | libc::EACCES) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Ends the pod's, wherever its start was: it is gone when this returns.
///
/// # Errors
/// [`Error::Os`]; [`Error::State`] if it does not go.
pub(crate) fn end(dir: &Path) -> Result<()> {
    let pid_file = pid_file(dir)?;
    let until = Instant::now() + END;
    // One that was just forking leaves another one behind.
    loop {
        let found = match noted(&pid_file)? {
            Some((_, process)) => vec![process],
            None => all(&pid_file).map_err(|error| Error::failed("reading /proc", error))?,
        };
        if found.is_empty() {
            wait_for_the_dying(&pid_file, until)?;
            return files::remove_file(&pid_file);
        }
        for process in found {
            process.kill().map_err(|error| Error::failed("ending pasta", error))?;
            if !process.ends_by(until) {
                return Err(Error::state("pasta", format!("does not end ({})", pid_file.display())));
            }
        }
    }
}

/// One that others have killed has no command line any more, and its ports for a moment
/// yet.
fn wait_for_the_dying(pid_file: &Path, until: Instant) -> Result<()> {
    let Some(pid) = number_in(pid_file)? else { return Ok(()) };
    let is_dying = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty());
    // Somebody else's by now is waited for in vain, and left alone.
    if let Some(process) = is_dying.then(|| Process::open(pid).ok()).flatten() {
        process.ends_by(until);
    }
    Ok(())
}

fn all(pid_file: &Path) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        found.extend(of(pid, pid_file)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_where_there_is_no_syslog_is_left_out() {
        let stderr = b"Failed to send 45 bytes to syslog\nFailed to open tun socket in namespace\n\nand more\n";
        assert_eq!(said(stderr), "Failed to open tun socket in namespace; and more");
        assert_eq!(said(b""), "it said nothing");
    }

    /// A program of that text, which is told the pid file as pasta is.
    fn stands_in(dir: &Path, script: &str) -> Result<()> {
        let program = dir.join("stand-in");
        fs::write(&program, format!("#!/bin/sh\n{script}")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("mode");
        start(&program, &["--pid".into(), pid_file(dir).expect("a path").into()], None, dir)
    }

    #[test]
    fn only_the_process_of_the_pod_is_found_and_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(running(dir).expect("looked"), None);
        // Some other process has the number.
        fs::write(dir.join(PID_FILE), std::process::id().to_string()).expect("written");
        assert_eq!(running(dir).expect("looked"), None);
        end(dir).expect("nothing to end");
        assert!(!dir.join(PID_FILE).exists());
        // It is found by its number, and by its command line where nobody noted that.
        // A process that is just being executed has no command line; pasta is, once it
        // notes its number.
        let daemon = ": > \"$2\"\ntail -f \"$2\" > /dev/null 2>&1 &\n\
                      until grep -aq ^tail /proc/$!/cmdline; do :; done\necho $! > \"$2\"\n";
        for is_noted in [true, false] {
            stands_in(dir, daemon).expect("started");
            let pid = running(dir).expect("looked").expect("it runs");
            if !is_noted {
                fs::remove_file(dir.join(PID_FILE)).expect("removed");
            }
            end(dir).expect("ended");
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(PID_FILE), "noted: {is_noted}");
        }
    }

    #[test]
    fn a_start_that_fails_tells_what_was_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = stands_in(dir.path(), "echo no interface >&2; exit 3").expect_err("it failed").to_string();
        assert!(error.contains("could not be started (exit status: 3): no interface"), "{error}");
        let error = stands_in(dir.path(), "exit 0").expect_err("nothing runs").to_string();
        assert!(error.contains("it said nothing"), "{error}");
    }
}
