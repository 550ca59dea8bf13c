//! Who copies what a container writes: see [`pause::log`].

use std::ffi::CString;
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use pause::log::packet;

use super::Pod;
use super::container::Container;
use super::copier::{PATIENCE, ask_copier, connect_to};
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::ProcessId;
use crate::kernel::terminal::open_peer;
use crate::kernel::{files, record_file, syscalls};
use crate::launch::copier::{self, CopierRequest, CopierTerminal};
use crate::launch::run_plan::Launched;
use crate::launch::stdio::{self, LogEnd, LogPipes};
use crate::spec::{LogDriver, LogOptions};
use crate::store::exits::Reservation;
use crate::store::lock::LockMode;
use crate::store::records::{ATTACH, COPIER, CopierRecord, K8S_LOG};

/// So many clients may come at the same moment.
const CLIENTS: i32 = 16;

/// Where the log of a new process comes from.
pub(super) struct LogSource {
    pipes: LogPipes,
    /// Whose streams these are.
    streams: Reservation,
    /// Somebody copies them already.
    is_copied: bool,
    is_kept: bool,
}

impl LogSource {
    /// As its streams are opened.
    pub(super) fn end(&mut self) -> LogEnd<'_> {
        match self.is_kept {
            true => LogEnd::Pipes(&mut self.pipes),
            false => LogEnd::Nowhere,
        }
    }
}

/// What a copier is to read, and for whom.
struct Copied<'a> {
    /// Two pipes, or a terminal.
    streams: [Option<BorrowedFd<'a>>; 2],
    /// The process whose terminal it is: a pidfd.
    terminal: Option<BorrowedFd<'a>>,
    whose: Reservation,
}

impl Container<'_> {
    /// For its main process.
    pub(super) fn new_log(&self, options: &LogOptions, streams: Reservation) -> LogSource {
        let is_kept = options.driver != LogDriver::None;
        LogSource { pipes: LogPipes::default(), streams, is_copied: false, is_kept }
    }

    /// For an exec: what the main process writes to, if that is copied.
    pub(super) fn shared_log(&self, options: &LogOptions, exec: Reservation) -> Result<LogSource> {
        let new = self.new_log(options, exec);
        let Some(copier) = self.copier()? else { return Ok(new) };
        if copier.is_terminal {
            return self.shared_terminal(new, copier.streams);
        }
        let mut kept = self.pod.kept_streams(copier.streams)?.into_iter();
        let mut pipe = || -> Result<Option<(PipeReader, PipeWriter)>> {
            let Some(reader) = kept.next() else { return Ok(None) };
            // Through this a pipe's other end can be opened, too.
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let writer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
            let writer = writer.doing(|| format!("opening the log of {}", self.object()))?;
            stdio::make_wait(&writer).doing(|| format!("opening the log of {}", self.object()))?;
            Ok(Some((reader.into(), OwnedFd::from(writer).into())))
        };
        let pipes = [pipe()?, pipe()?];
        if pipes.iter().any(Option::is_none) {
            return Ok(new);
        }
        // While we may write, it does not come to an end: one that answers goes on.
        let is_copied = ask_copier(&self.dir(), None)?;
        Ok(LogSource { pipes: LogPipes::of(pipes), streams: copier.streams, is_copied, ..new })
    }

    /// For an exec where the main process has a terminal: it writes to that.
    fn shared_terminal(&self, new: LogSource, streams: Reservation) -> Result<LogSource> {
        let context = || format!("opening the terminal of {}", self.object());
        let kept = self.pod.kept_streams(streams)?;
        let Some(controlling) = kept.first() else { return Ok(new) };
        let end = || -> Result<(PipeReader, PipeWriter)> {
            let copy = controlling.try_clone().doing(context)?;
            Ok((copy.into(), open_peer(controlling.as_fd()).doing(context)?.into()))
        };
        let ends = [Some(end()?), Some(end()?)];
        Ok(LogSource { pipes: LogPipes::of(ends), streams, is_copied: true, is_kept: true })
    }

    /// Gives the terminal of its main process, which has just been born, to a copier;
    /// who is attached before that runs gets everything. Without one nobody could come
    /// to it: then the process is ended. The result leads to the copier.
    pub(super) fn keep_terminal(
        &self,
        born: &mut Launched,
        whose: Reservation,
        options: &LogOptions,
    ) -> Result<OwnedFd> {
        let mut kept = || -> Result<OwnedFd> {
            let terminal = born.terminal.take();
            let terminal =
                terminal.ok_or_else(|| Error::Died { object: format!("the terminal of {}", self.object()) })?;
            let controlling = OwnedFd::from(terminal);
            // The copier looks whether there is something.
            let context = || format!("keeping the terminal of {}", self.object());
            fcntl(&controlling, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).doing(context)?;
            self.end_copier(PATIENCE)?;
            if let Some(keeper) = self.pod.keeper() {
                keeper.keep(whose, &[controlling.as_fd()]).doing(context)?;
            }
            let (streams, terminal) = ([Some(controlling.as_fd()), None], Some(born.pidfd.as_fd()));
            self.start_copier(&Copied { streams, terminal, whose }, options)
        };
        kept().inspect_err(|_| {
            // It may have ended by itself.
            syscalls::pidfd_signal(born.pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::wait_readable(&born.pidfd, Some(PATIENCE)).ok();
        })
    }

    /// Sees to it that what is written will be copied, if anything can be.
    pub(super) fn begin_log(&self, source: &LogSource, options: &LogOptions) -> Result<()> {
        let readers = source.pipes.readers();
        if source.is_copied || readers.iter().all(Option::is_none) {
            return Ok(());
        }
        // The one of the run before has little left to do.
        self.end_copier(PATIENCE)?;
        if let Some(keeper) = self.pod.keeper() {
            let streams: Vec<_> = readers.into_iter().flatten().collect();
            keeper.keep(source.streams, &streams).doing(|| format!("keeping the streams of {}", self.object()))?;
        }
        self.start_copier(&Copied { streams: readers, terminal: None, whose: source.streams }, options).map(drop)
    }

    /// Starts one; the result leads to it and was there before it.
    fn start_copier(&self, copied: &Copied<'_>, options: &LogOptions) -> Result<OwnedFd> {
        let object = self.object();
        let (dir, name) = self.log_place(options);
        let keeps_log = options.driver != LogDriver::None;
        let dir = match keeps_log {
            true => open_log(&dir, &name, options.path.is_some())?,
            false => File::open(self.dir()).doing(|| format!("opening the directory of {object}"))?,
        };
        let listener = self.listen()?;
        let context = || format!("attaching to {object}");
        let first = connect_to(&self.dir()).doing(context)?.ok_or(Errno::ECONNREFUSED).doing(context)?;
        let controlling = copied.streams[0].filter(|_| copied.terminal.is_some());
        // Another user's may not be opened.
        let peer = controlling.and_then(|terminal| open_peer(terminal).ok());
        let peer = peer.as_ref().map(AsFd::as_fd);
        let (streams, is_terminal) = (copied.whose, copied.terminal.is_some());
        let cgroup = self.pod.cgroup().map(|cgroup| cgroup.pause());
        let cgroup = cgroup.map(|dir| self.pod.way_to(cgroup::open_birthplace(&dir), &dir)).transpose()?;
        let request = CopierRequest {
            object: &object,
            title: stdio::title("log", self.pod.name(), &self.name),
            streams: copied.streams,
            terminal: copied.terminal.map(|process| CopierTerminal { process, peer }),
            keeps_log,
            dir: dir.as_fd(),
            name,
            elsewhere: options.path.is_some(),
            max_size: options.max_size.unwrap_or(0),
            max_files: options.max_files,
            listener: listener.as_fd(),
            cgroup: cgroup.as_ref(),
            note: &|pid| {
                let process =
                    ProcessId::of(pid)?.ok_or_else(|| Error::Died { object: format!("the copier of {object}") })?;
                record_file::write_record(&self.dir().join(COPIER), &CopierRecord { process, streams, is_terminal })
            },
            program_dirs: self.pod.store.program_dirs(),
        };
        copier::start(&request, &self.pod.facts)?;
        Ok(first)
    }

    /// The directory of its log, and the name in it.
    fn log_place(&self, options: &LogOptions) -> (PathBuf, CString) {
        let path = options.path.clone().unwrap_or_else(|| self.dir().join(K8S_LOG));
        let name = path.file_name().map(|name| CString::new(name.as_bytes()).unwrap_or_default());
        (path.parent().unwrap_or(Path::new("/")).into(), name.unwrap_or_default())
    }

    /// The socket at which clients come, for this user alone.
    fn listen(&self) -> Result<OwnedFd> {
        let context = || format!("making the socket of the copier of {}", self.object());
        let place = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(self.dir()).doing(context)?;
        files::remove_file(&self.dir().join(ATTACH))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).doing(context)?;
        // Before it has a name nobody can come.
        fchmod(&listener, Mode::from_bits_truncate(0o600)).doing(context)?;
        // However long the path of the state directory is.
        let address = format!("/proc/self/fd/{}/{ATTACH}", place.as_raw_fd());
        bind(listener.as_raw_fd(), &UnixAddr::new(address.as_str()).doing(context)?).doing(context)?;
        listen(&listener, Backlog::new(CLIENTS).doing(context)?).doing(context)?;
        Ok(listener)
    }

    pub(super) fn copier(&self) -> Result<Option<CopierRecord>> {
        record_file::read_record(&self.dir().join(COPIER))
    }

    /// Starts another copier in the place of one that was killed. What it had read
    /// and not yet written is lost, nothing else; a container that has something to
    /// write has waited.
    ///
    /// # Errors
    /// [`Error::Os`] and what a start may fail with.
    pub fn tend_log(&self) -> Result<bool> {
        self.tend_log_or_wait(false)
    }

    /// As [`tend_log`](Container::tend_log); may wait for another command that is at it.
    pub(super) fn tend_log_or_wait(&self, waits: bool) -> Result<bool> {
        if self.gone_copier()?.is_none() {
            return Ok(false);
        }
        // A command that starts it has the lock.
        let Some(_lock) = self.pod.lock(LockMode::Exclusive, waits)? else { return Ok(false) };
        // Another one may have been faster.
        let Some(copier) = self.gone_copier()? else { return Ok(false) };
        let kept = self.pod.kept_streams(copier.streams)?;
        let process = copier.is_terminal.then(|| self.its_process()).transpose()?;
        // A terminal that nobody has open may be opened again.
        let goes_on = process.as_ref().is_some_and(|process| !syscalls::has_ended(&process.pidfd)) && !kept.is_empty();
        if !goes_on && kept.iter().all(is_at_its_end) {
            // Either it was done, or nobody can go on.
            files::remove_file(&self.dir().join(COPIER))?;
            return Ok(false);
        }
        let mut streams = kept.iter().map(AsFd::as_fd);
        let streams = [streams.next(), streams.next()];
        let terminal = process.as_ref().map(|process| process.pidfd.as_fd());
        let options = self.record()?.container.log;
        self.start_copier(&Copied { streams, terminal, whose: copier.streams }, &options)?;
        Ok(true)
    }

    /// Its copier, if that has ended.
    fn gone_copier(&self) -> Result<Option<CopierRecord>> {
        let Some(copier) = self.copier()? else { return Ok(None) };
        let lives = copier.process.open()?.is_some_and(|process| !syscalls::has_ended(&process));
        Ok((!lives).then_some(copier))
    }

    /// Has the log opened anew by its name, as after logrotate(8) has renamed it. CRI's
    /// ReopenContainerLog.
    ///
    /// # Errors
    /// [`Error::State`] if nobody writes to it just now, [`Error::Invalid`] and
    /// [`Error::Os`] if it cannot be opened; nothing has changed then.
    pub fn reopen_log(&self) -> Result<()> {
        let options = self.record()?.container.log;
        let (dir, name) = self.log_place(&options);
        open_log(&dir, &name, options.path.is_some())?;
        match ask_copier(&self.dir(), Some(packet::REOPEN))? {
            true => Ok(()),
            false => Err(Error::state(self.object(), "has nobody who writes its log")),
        }
    }

    /// Lets go of what pause keeps of runs that nobody will ask for any more: this
    /// container's, which is being removed, and those before the latest of others.
    pub(super) fn let_go_of_streams(&self) -> Result<()> {
        if !self.pod.is_alive() {
            return Ok(());
        }
        let others = self.pod.containers()?;
        let others = others.iter().filter(|other| other.name != self.name);
        let wanted: Vec<_> = others.filter_map(|other| Some(other.copier().ok()??.streams)).collect();
        self.pod.keep_streams_of(|streams| wanted.contains(&streams))
    }

    /// Waits until its copier is done; ends it if it is not by then.
    pub(super) fn end_copier(&self, patience: Duration) -> Result<()> {
        let path = self.dir().join(COPIER);
        let copier = match record_file::read_record::<CopierRecord>(&path) {
            // What cannot be read leads to nobody.
            Err(Error::Corrupt { .. }) => None,
            copier => copier?,
        };
        let Some(copier) = copier else { return Ok(()) };
        if let Some(process) = copier.process.open()? {
            let context = || format!("waiting for the copier of {}", self.object());
            if !syscalls::wait_readable(&process, Some(patience)).doing(context)? {
                // Gone already is as good.
                syscalls::pidfd_signal(process.as_fd(), libc::SIGKILL).ok();
                syscalls::wait_readable(&process, Some(PATIENCE)).doing(context)?;
            }
        }
        files::remove_file(&path)
    }
}

impl Pod {
    /// Starts another copier in the place of each that was killed; the names of
    /// their containers.
    ///
    /// # Errors
    /// As [`Container::tend_log`].
    pub fn tend_logs(&self) -> Result<Vec<String>> {
        let mut tended = Vec::new();
        if self.is_alive() {
            for container in self.containers()? {
                if container.tend_log()? {
                    tended.push(container.name);
                }
            }
        }
        Ok(tended)
    }

    /// Of a pod that has ended: nothing more will be written.
    pub(super) fn end_copiers(&self) -> Result<()> {
        self.containers()?.iter().try_for_each(|container| container.end_copier(PATIENCE))
    }
}

/// Opens the directory of a log, if that can be written.
fn open_log(dir: &Path, name: &CString, is_given: bool) -> Result<File> {
    let path = dir.join(name.to_string_lossy().as_ref());
    let opened = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(dir);
    let directory = opened.doing(|| format!("opening the directory of the log {}", path.display()))?;
    if !is_given {
        files::check_place(&path)?;
    }
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let context = || format!("opening the log {}", path.display());
    if !options.open(&path).doing(context)?.metadata().doing(context)?.is_file() {
        let reason = "is no plain file: give another path, or remove it";
        return Err(Error::invalid("log.path", path.to_string_lossy(), reason));
    }
    Ok(directory)
}

/// Whether everything that was written to a pipe has been read, and nobody will
/// write any more.
fn is_at_its_end(stream: &OwnedFd) -> bool {
    let mut look = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut look, PollTimeout::ZERO).is_ok_and(|_| look[0].revents() == Some(PollFlags::POLLHUP))
}
