//! Making pods: their namespaces, and pause in them.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::Pod;
use crate::cgroup::pod_tree::{self, PodCgroup};
use crate::cgroup::systemd::{self, Planned, UnitName};
use crate::cgroup::{self, apply, doubled};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::{self, ProcessId};
use crate::kernel::{files, record_file, syscalls};
use crate::launch::placeholder::Placeholder;
use crate::launch::run_plan::{LaunchRequest, only_maps, run_plan, seal};
use crate::launch::stdio::Io;
use crate::lookup::prepared::Prepared;
use crate::lookup::subids::{decide_users, map_by_helper};
use crate::plan::pod::{self as plan_of_pod, PodShape};
use crate::plan::{Given, Plan};
use crate::spec::users::Users;
use crate::spec::{CgroupManager, ContainerSpec, PodOptions};
use crate::store::exits::{self, ExitTable};
use crate::store::lock::{Lock, LockMode};
use crate::store::records::{CONTAINERS, PAUSE, POD, PauseRecord, PodRecord, TABLE};
use crate::store::{self, Store};

impl Pod {
    /// Makes a pod: its namespaces, and pause in them. There are no containers
    /// in it yet.
    ///
    /// An ordinary user's pod always has a user namespace of its own, with as
    /// many ids as `/etc/subuid` and `newuidmap` give, or with the user's one.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], or why it cannot be done here.
    /// Nothing is left behind.
    pub fn create(store: &Store, options: PodOptions) -> Result<Pod> {
        options.check()?;
        let facts = Facts::read()?;
        let users = decide_users(&facts, &options)?;
        let id = store::new_id()?;
        let scope = match options.cgroup_manager {
            CgroupManager::Cgroupfs => None,
            CgroupManager::Systemd => Some(plan_scope(&facts, &options, &id)?),
        };
        if let Some(scope) = &scope {
            apply::check_reachable(&options.resources, &facts, Some(&scope.dir))?;
        } else if !options.resources.is_empty() {
            // What the controllers say needs nothing made to be found out.
            apply::check_reachable(&options.resources, &facts, pod_tree::parent(&facts).as_deref())?;
            apply::check_reachable(&options.resources, &facts, pod_tree::usable_parent(&facts).as_deref())?;
        }
        let dir = store.pod_dir(&options.name);
        if files::is_there(&dir) && !store::is_pod_dir(&dir)? {
            let reason = "the state directory has something of that name that is no pod";
            return Err(Error::invalid("pod name", &options.name, reason));
        }
        // Before anything is made: whatever becomes of us, it will be found.
        store.mark_for_sweep(&options.name, true)?;
        let _lock = loop {
            files::make_private(&dir)?;
            let Some(lock) = Lock::take(&dir, LockMode::Exclusive, true)? else { continue };
            store.keep_mark(&options.name)?;
            match record_file::read_record(&dir.join(POD))? {
                None => break lock,
                Some(record) => Pod::make_room(store, &dir, record, &facts)?,
            }
        };
        // What a remover left that was killed half-way.
        files::remove_all(&dir.join(CONTAINERS))?;
        let owner = ProcessId::of(std::process::id())?;
        let cgroup = match &scope {
            Some(scope) => Some(scope.dir.clone()),
            None => PodCgroup::plan(&facts, &options.name, &id).map(|cgroup| cgroup.path().to_path_buf()),
        };
        let mut options = options;
        if users != Users::Caller {
            options.share.insert(Namespace::User);
        }
        let recorded = scope.as_ref().map(|scope| scope.scope.clone());
        let created = SystemTime::now();
        let record = PodRecord {
            id,
            options,
            users,
            cgroup,
            scope: recorded,
            created,
            attached: true,
            owner,
            keeps_streams: true,
        };
        let mut pod = Pod::new(store, &dir, record, facts);
        let made = pod.write().and_then(|()| pod.start_pause(scope));
        match made {
            Ok(()) => Ok(pod),
            Err(error) => {
                // What went wrong first is what counts.
                pod.erase().ok();
                Err(error)
            }
        }
    }

    /// Removes a dead pod of which there is the record, if no command will ask for
    /// it any more; the caller has the lock.
    fn make_room(store: &Store, dir: &Path, record: PodRecord, facts: &Facts) -> Result<()> {
        let mut pod = Pod::new(store, dir, record, facts.clone());
        pod.look()?;
        if pod.lives_on() || !pod.is_unwanted()? {
            return Err(Error::Exists(format!("pod {}", pod.name())));
        }
        pod.erase()
    }

    /// The plans by which a pod and its first container would be made here, with
    /// these standard streams. Makes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`create`](Pod::create) and
    /// [`run`](Pod::run).
    pub fn plan(store: &Store, options: &PodOptions, container: &ContainerSpec, io: &Io) -> Result<(Plan, Plan)> {
        options.check()?;
        let facts = Facts::read()?;
        let users = decide_users(&facts, options)?;
        let shape = PodShape { options, users: &users, cgroup: true };
        let dir = store.pod_dir(&options.name).join(CONTAINERS).join(&container.name);
        let prepared = Prepared::in_pod(container, &shape, &facts, &store.hidden(), &dir)?;
        let launch = prepared.plan(shape.isolation(), &facts, 0, io.terminal_of(container));
        Ok((plan_of_pod::plan(&shape, &facts), launch))
    }

    /// Starts it again if it is dead: makes its namespaces and pause anew. Its
    /// containers are as they ended. Nothing happens to a pod that is alive.
    ///
    /// # Errors
    /// As [`create`](Pod::create).
    pub fn start(&mut self) -> Result<()> {
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        let _lock = self.lock(LockMode::Exclusive, true)?.ok_or_else(gone)?;
        self.look()?;
        if self.lives_on() {
            return Ok(());
        }
        if self.is_alive() {
            // Its last container has ended, and no command can start another one
            // while we have the lock.
            self.kill()?;
        }
        // How everything ended is only known to the old table.
        self.keep_exits()?;
        self.remove_cgroup()?;
        let result = self.plan_again().and_then(|scope| self.start_pause(scope));
        let result = result
            .and_then(|()| self.tell_made_anew())
            .and_then(|()| if self.is_ours() { Ok(()) } else { self.let_go() });
        result.map_err(|error| {
            let error = self.explain_revival(error);
            self.kill().ok();
            // It is as dead as before, and its records are as much wanted.
            if !self.record.attached {
                self.lifeline = None;
            }
            error
        })
    }

    /// Whether it is attached to this program.
    fn is_ours(&self) -> bool {
        let own = ProcessId::of(std::process::id());
        self.record.attached && matches!(own, Ok(Some(own)) if self.record.owner == Some(own))
    }

    /// Writes it down as it is to be made anew. The number of a scope that was is
    /// none of one that is to be.
    fn plan_again(&mut self) -> Result<Option<Planned>> {
        let scope = self.record.scope.is_some();
        let scope = scope.then(|| plan_scope(&self.facts, self.options(), self.id())).transpose()?;
        // Whatever build made it first.
        self.record.keeps_streams = true;
        if let Some(Planned { scope, dir, .. }) = &scope {
            self.record.scope = Some(scope.clone());
            self.record.cgroup = Some(dir.clone());
        }
        self.write().map(|()| scope)
    }

    fn write(&self) -> Result<()> {
        record_file::write_record(&self.dir.join(POD), &self.record)
    }

    /// Makes the pod's cgroups. What comes back keeps them there until pause does.
    fn make_cgroup(&mut self, scope: Option<Planned>) -> Result<Option<Placeholder>> {
        let Some(cgroup) = self.cgroup() else { return Ok(None) };
        let resources = &self.record.options.resources;
        let Some(mut scope) = scope else {
            cgroup.make()?;
            return cgroup::limit(cgroup.path(), resources).map(|()| None);
        };
        let placeholder = Placeholder::new(&format!("podlet:scope {}", self.name()), self.store.program_dirs())?;
        scope.start(placeholder.pid(), format!("podlet pod {}", self.name()), resources)?;
        // A cgroup that has processes cannot pass on controllers.
        placeholder.move_to(&cgroup.pause())?;
        cgroup::make(&cgroup.containers())?;
        cgroup::limit(cgroup.path(), &resources.with_one_more())?;
        self.record.scope = Some(scope.scope);
        self.write()?;
        Ok(Some(placeholder))
    }

    /// Starts pause.
    fn start_pause(&mut self, scope: Option<Planned>) -> Result<()> {
        let placeholder = self.make_cgroup(scope)?;
        let options = &self.record.options;
        let object = format!("pod {}", options.name);
        let path = self.dir.join(TABLE);
        exits::create(&path, options.end_with_last)?;
        let cgroup = self.cgroup();
        // A container in the cgroup namespace could lift the limits at its root.
        let doubled = cgroup.is_some() && options.shares(Namespace::Cgroup) && !doubled::is_delegated();
        if let Some(cgroup) = cgroup.as_ref().filter(|_| doubled) {
            cgroup::limit(&cgroup.containers(), &options.resources)?;
        }
        let shape = PodShape { options, users: &self.record.users, cgroup: cgroup.is_some() };
        let plan = plan_of_pod::plan(&shape, &self.facts);

        let context = || format!("preparing {object}");
        let null = File::options().read(true).write(true).open("/dev/null").doing(context)?;
        let gone = || Error::NotFound(format!("exit table {}", path.display()));
        let table = ExitTable::open(&path, None)?.ok_or_else(gone)?;
        let owner = syscalls::pidfd_open(std::process::id()).doing(context)?;
        // pause must never hang on it.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (lifeline_end, lifeline) = pair.doing(context)?;
        let keeper = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
        let (keep_in, keep_out) = keeper.doing(context)?;
        let birthplace = cgroup.as_ref().map(|cgroup| birthplace(cgroup, doubled, &plan));
        let birthplace = birthplace.map(|dir| self.way_to(cgroup::open_birthplace(&dir), &dir)).transpose()?;
        let leaf = match &cgroup {
            Some(cgroup) if plan.wants(Given::Leaf) => {
                let procs = cgroup.pause().join("cgroup.procs");
                Some(File::options().write(true).open(procs).doing(context)?)
            }
            _ => None,
        };
        let mut fds = vec![
            (Given::Stdin, null.as_fd()),
            (Given::Stdout, null.as_fd()),
            (Given::Stderr, null.as_fd()),
            (Given::Table, table.file.as_fd()),
            (Given::Owner, owner.as_fd()),
        ];
        if let Some(leaf) = &leaf {
            fds.push((Given::Leaf, leaf.as_fd()));
        }
        let title = CString::new(plan_of_pod::title(&options.name)).unwrap_or_default();
        let request = LaunchRequest {
            object: &object,
            title: &title,
            sealed: seal(&plan)?,
            fds: &fds,
            // What tells that the other side is gone.
            handed_over: vec![(Given::Lifeline, lifeline_end), (Given::KeepIn, keep_in), (Given::KeepOut, keep_out)],
            cgroup: birthplace.as_ref(),
            note: None,
            answer: &only_maps(|pid| map_by_helper(pid, &self.record.users)),
            program_dirs: self.store.program_dirs(),
            cancel: None,
        };
        let pause = run_plan(&plan, request)?.pidfd;
        drop((fds, placeholder));
        let lost = || Error::Died { object: object.clone() };
        let pid = syscalls::pid_of(pause.as_fd()).doing(context);
        // From here on giving up, which drops `self`, ends it.
        self.table = Some(Arc::new(table.kept_by(pause)));
        self.lifeline = Some(lifeline);
        let process = ProcessId::of(pid?.ok_or_else(lost)?)?.ok_or_else(lost)?;
        self.pause = Some(process);
        if let Some((scope, dir)) = self.record.scope.as_ref().zip(self.record.cgroup.clone()) {
            systemd::uncount(scope, &self.record.options.resources, &[dir])?;
        }
        let cgroup = self.record.cgroup.as_deref().and_then(cgroup::number);
        let record = PauseRecord { process, boot: procfs::boot_id()?, pids: self.facts.pids, cgroup, doubled };
        record_file::write_record(&self.dir.join(PAUSE), &record)
    }
}

/// The scope of a pod, where systemd makes its cgroup.
fn plan_scope(facts: &Facts, options: &PodOptions, id: &str) -> Result<Planned> {
    let unit = format!("podlet-{}-{}.scope", options.name, &id[..8]);
    let name = UnitName { unit, slice: None, said: ("pod name", options.name.clone()) };
    Planned::new(facts, name, options.annotations.iter(), &options.resources)
}

/// Where pause is born: the root of a shared cgroup namespace is where its maker
/// was, and pause moves to its leaf afterwards.
fn birthplace(cgroup: &PodCgroup, doubled: bool, plan: &Plan) -> PathBuf {
    match plan.wants(Given::Leaf) {
        _ if doubled => cgroup.containers(),
        true => cgroup.path().into(),
        false => cgroup.pause(),
    }
}
