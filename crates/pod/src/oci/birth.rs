//! The birth of a container's process: what the runtime makes for it before,
//! and does while the process waits for that.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::exec::Inside;
use super::id_maps::write_maps;
use super::namespaces::{Namespaces, OpenedMntns};
use super::record::{PROCESS, ProcessRecord, RECORD, Record, RecordedMntns, START_SOCKET, Status, UNFINISHED};
use super::{Instance, cgroup_path, hooks};
use crate::cgroup::systemd::{self, Planned};
use crate::cgroup::way::Way;
use crate::cgroup::{self, doubled};
use crate::error::{Context, Error, Result};
use crate::kernel::procfs::{MountNamespace, ProcessId, innermost_pid};
use crate::kernel::{idmap, netlink, probe, record_file, syscalls};
use crate::launch::placeholder::Placeholder;
use crate::launch::run_plan::{self, LaunchRequest, Launched, Note, Question, run_plan};
use crate::launch::stdio::{self, Io, LogEnd, PipeEnds, Reopening};
use crate::lookup::prepared::Prepared;
use crate::plan::{Given, Plan};
use crate::store::records::LOG;

impl Instance {
    /// A cgroup that nobody is in, to be the container's.
    pub(super) fn take_cgroup(&mut self, cgroup: Option<PathBuf>, scope: Option<&Planned>) -> Result<()> {
        let mut made = cgroup.as_deref().map(cgroup_path::missing).transpose()?.unwrap_or_default();
        if let Some(scope) = scope {
            made.clear();
            self.record.scope = Some(scope.scope.clone());
        } else if let Some(cgroup) = cgroup.as_deref().filter(|_| self.record.doubled && made.is_empty()) {
            // Of a cgroup that stays.
            made.push(doubled::birthplace(cgroup, true));
        }
        self.record.made_cgroups = made;
        self.record.doubled &= cgroup.is_some();
        self.record.cgroup = cgroup;
        Ok(())
    }

    /// Has the container's process born, and everything made that it needs.
    /// Comes back with it, and with our ends of its streams.
    pub(super) fn make(
        &mut self,
        (plan, sealed): (&Plan, OwnedFd),
        namespaces: &Namespaces,
        prepared: &Prepared,
        (io, preserved): (Io, Vec<OwnedFd>),
        scope: Option<Planned>,
        waits: bool,
    ) -> Result<(Launched, PipeEnds)> {
        let program_dirs = run_plan::program_dirs(self.dir.path());
        let outside = prepared.make_outside(&self.record.users, &program_dirs)?;
        record_file::write_record(&self.dir.join(RECORD), &self.record)?;
        let placeholder = self.make_cgroup(scope, &program_dirs)?;
        let start_socket = waits.then(|| self.make_start_socket()).transpose()?;
        let owner = idmap::on_machine(prepared.ids().uid, self.record.users.uids());
        let (streams, pipes) = stdio::open(io, &mut LogEnd::File(&self.dir.join(LOG)), Reopening::ByOwner(owner))?;
        let birthplace = self.birthplace().map(|dir| self.way_to(cgroup::open_dir(&dir), &dir)).transpose()?;
        let place = self.open_place(namespaces)?;
        let mut fds: Vec<(Given, BorrowedFd<'_>)> =
            [Given::Stdin, Given::Stdout, Given::Stderr].into_iter().zip(streams.iter().map(AsFd::as_fd)).collect();
        fds.extend(start_socket.iter().map(|socket| (Given::StartSocket, socket.as_fd())));
        fds.extend((0..).zip(&preserved).map(|(i, fd)| (Given::Preserved(i), fd.as_fd())));
        fds.extend(namespaces.joined.iter().map(|(namespace, file)| (Given::Namespace(*namespace), file.as_fd())));
        fds.extend(namespaces.mounts.file().map(|file| (Given::Mounts, file.as_fd())));
        fds.extend(place.iter().map(|place| (Given::Place, place.as_fd())));
        fds.extend(outside.iter().map(|(given, fd)| (*given, fd.as_fd())));
        let (born, process) = self.launch(plan, sealed, &fds, birthplace.as_ref(), &program_dirs)?;
        drop(placeholder);
        let made = process.ok_or_else(|| Error::Died { object: self.object() });
        let made = made.and_then(|process| {
            self.uncount_placeholder()?;
            self.note_made().map(|()| process)
        });
        self.process = Some(made.inspect_err(|_| {
            syscalls::pidfd_signal(born.pidfd.as_fd(), libc::SIGKILL).ok();
            syscalls::reap(born.pidfd.as_fd());
        })?);
        Ok((born, pipes))
    }

    /// Makes its cgroup, with its limits. What comes back keeps it there until its
    /// process is.
    fn make_cgroup(&mut self, scope: Option<Planned>, program_dirs: &[PathBuf]) -> Result<Option<Placeholder>> {
        let Some(cgroup) = self.record.cgroup.clone() else { return Ok(None) };
        let Record { doubled, container, .. } = &self.record;
        let Some(mut scope) = scope else {
            cgroup_path::make(&cgroup)?;
            return doubled::limit(&cgroup, *doubled, &container.resources).map(|()| None);
        };
        let placeholder = Placeholder::new(&format!("podlet-oci:scope {}", self.record.id), program_dirs)?;
        scope.start(placeholder.pid(), format!("podlet-oci container {}", self.record.id), &container.resources)?;
        if *doubled {
            // A cgroup that has processes cannot pass on controllers.
            placeholder.move_to(&doubled::birthplace(&cgroup, true))?;
        }
        doubled::limit(&cgroup, *doubled, &container.resources.with_one_more())?;
        self.record.scope = Some(scope.scope);
        record_file::write_record(&self.dir.join(RECORD), &self.record)?;
        Ok(Some(placeholder))
    }

    fn uncount_placeholder(&self) -> Result<()> {
        let Some((scope, cgroup)) = self.record.scope.as_ref().zip(self.cgroup()) else { return Ok(()) };
        systemd::uncount(scope, &self.record.container.resources, &doubled::both(cgroup, self.record.doubled))
    }

    /// Executes the plan, and does meanwhile what its process asks for. Comes
    /// back with what was written down of the process.
    fn launch(
        &self,
        plan: &Plan,
        sealed: OwnedFd,
        fds: &[(Given, BorrowedFd<'_>)],
        birthplace: Option<&Way>,
        program_dirs: &[PathBuf],
    ) -> Result<(Launched, Option<ProcessRecord>)> {
        let object = self.object();
        let title = CString::new(format!("podlet-oci:create {}", self.record.id)).unwrap_or_default();
        let moved = RefCell::default();
        let noted = Cell::new(None);
        let note = |pid, mounts| self.note_process(pid, mounts).map(|process| noted.set(Some(process)));
        // A process that waits for its hooks is told then, unless it waits
        // before.
        let is_among_callers = matches!(self.record.mounts, RecordedMntns::Callers(_));
        let waits_once = is_among_callers || !hooks::stops_before_root(&self.record.hooks, &self.record.container);
        let with_mounts = self.cgroup().is_none() && self.has_own_mounts();
        let request = LaunchRequest {
            object: &object,
            title: &title,
            sealed,
            fds,
            handed_over: Vec::new(),
            cgroup: birthplace,
            note: waits_once.then_some(Note { with_mounts, write: &note }),
            answer: &|question| match question {
                Question::Maps(pid) => write_maps(pid, &self.record.users),
                Question::Runtime(pidfd, mounts) => {
                    let pid = syscalls::pid_of(pidfd.as_fd()).doing(|| self.object())?;
                    let pid = pid.ok_or_else(|| Error::Died { object: self.object() })?;
                    // Before the hooks: one may hang.
                    if noted.get().is_none() {
                        note(pid, mounts)?;
                    }
                    self.move_devices(pid, &moved)?;
                    self.run_create_hooks(pid, pidfd)
                }
                Question::Listener { filter, process } => self.pass_on_listener(&filter, process),
            },
            program_dirs,
            cancel: self.cancel.as_ref(),
        };
        let born = run_plan(plan, request).inspect_err(|_| {
            if let Some(Moved { devices, here, there }) = moved.borrow().as_ref() {
                netlink::give_back(devices, here.as_fd(), there.as_fd());
            }
        })?;
        Ok((born, noted.get()))
    }

    /// Where its root is to be in the caller's mount namespace, if it is there.
    fn open_place(&self, namespaces: &Namespaces) -> Result<Option<OwnedFd>> {
        if !matches!(namespaces.mounts, OpenedMntns::Callers(..)) {
            return Ok(None);
        }
        // Resolved already: were there a link by now, it would be mounted
        // wherever that leads.
        let place = probe::open_without_links(self.rootfs());
        place.map(Some).doing(|| format!("opening {}", self.rootfs().display()))
    }

    /// Writes down who has to be ended if we are killed before it is made.
    fn note_process(&self, pid: u32, mounts: Option<MountNamespace>) -> Result<ProcessRecord> {
        let process = ProcessId::of(pid)?.ok_or_else(|| Error::Died { object: self.object() })?;
        let process = ProcessRecord { process, mounts, cgroup: self.cgroup().and_then(cgroup::number) };
        let path = self.dir.join(UNFINISHED);
        record_file::write_new(&path, &record_file::record_bytes(&path, &process)?)?;
        Ok(process)
    }

    /// It is in its root now, and others may know of it.
    fn note_made(&self) -> Result<()> {
        let path = self.dir.join(PROCESS);
        fs::rename(self.dir.join(UNFINISHED), &path).doing(|| format!("making {}", path.display()))
    }

    /// The socket at which the container will wait, for this user alone.
    fn make_start_socket(&self) -> Result<OwnedFd> {
        let context = || format!("making the start socket of {}", self.object());
        let gate = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).doing(context)?;
        let path = self.dir.short(START_SOCKET);
        bind(gate.as_raw_fd(), &UnixAddr::new(path.as_str()).doing(context)?).doing(context)?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.dir.join(START_SOCKET), private).doing(context)?;
        listen(&gate, Backlog::new(1).doing(context)?).doing(context)?;
        Ok(gate)
    }

    /// Network interfaces of this machine that the container is to have.
    fn move_devices(&self, pid: u32, moved: &RefCell<Option<Moved>>) -> Result<()> {
        let devices = &self.record.container.net_devices;
        if devices.is_empty() {
            return Ok(());
        }
        let open = |path: String| File::open(&path).doing(|| format!("opening {path}"));
        let (here, there) = (open("/proc/thread-self/ns/net".into())?, open(format!("/proc/{pid}/ns/net"))?);
        let devices = netlink::transfer(devices, here.as_fd(), there.as_fd())?;
        *moved.borrow_mut() = Some(Moved { devices, here, there });
        Ok(())
    }

    /// Hooks that run while the container's root is not yet changed.
    fn run_create_hooks(&self, pid: u32, pidfd: &OwnedFd) -> Result<()> {
        let gone = || Error::Died { object: self.object() };
        let mut state = self.state_as(Status::Creating);
        state.pid = pid;
        let hooks = &self.record.hooks;
        for (kind, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            hooks::run_all(kind, list, &state, &self.record.bundle, self.until(Some(pidfd)))?;
        }
        hooks.create_container.iter().try_for_each(|hook| {
            let state = super::State { pid: innermost_pid(pid)?.ok_or_else(gone)?, ..state.clone() };
            let inside = Inside { cwd: self.rootfs(), env: self.record.container.process.env.clone(), ids: None };
            self.run_inside("createContainer", hook, &state, pidfd, inside)
        })
    }
}

/// Interfaces on their way, and the two network namespaces.
struct Moved {
    devices: BTreeMap<String, String>,
    here: File,
    there: File,
}
